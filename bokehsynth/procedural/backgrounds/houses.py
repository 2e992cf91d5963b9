"""House fronts along a street: plaster or brick, rows of windows, shops with awnings, cornices and roofs."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bokehsynth.procedural.backgrounds.painting import mix, palette
from bokehsynth.procedural.backgrounds.perspective import NEAREST, Camera
from bokehsynth.procedural.backgrounds.strokes import Strokes, boxes
from bokehsynth.procedural.toolkit import FloatArray, Points, rgb
from bokehsynth.rng import chance, pick, uniform

GROUND_FLOOR = 4.0
STOREY = 3.3
FINE = 42.0
"""Metres beyond which bars and letters are left out: foreshortened, they are under a pixel even at 1024 rows."""

PLASTER = palette("e8d8b0 d8b078 c88a5a e0c8a8 b8503c d8d4c8 a8b8b0 e4b890 c8a0a0 f0e6d2 9cb0c4 d09048")
BRICK = palette("8a4a38 9a5a40 7a4438 a8785a b08a68")
TRIMS = palette("f0ece0 e8e4dc d8ccb0 f4f4f0")
SHUTTERS = palette("2c5a48 3c5a78 7a8a6a 5a3420")
WOOD = palette("3a2a20 20342c 242c40 5a2420 6a5a48 2c2c2e")
GOODS = palette("b04030 d8b060 e8e0d0 406a48 4a6088 30282c")
AWNINGS = palette("a82020 1c5a3a 20407a c86a1c 6a2040 d8b020 3a3a44")


@dataclass(frozen=True)
class House:
    """One front between `near` and `far` metres down the street."""

    side: float
    near: float
    far: float
    floors: int
    brick: bool
    wall: FloatArray
    trim: FloatArray
    roof: str
    bays: int
    shutters: FloatArray | None
    balconies: bool
    awning: FloatArray | None
    seed: int

    @property
    def height(self) -> float:
        """Metres from the ground to the cornice."""
        return GROUND_FLOOR + self.floors * STOREY + 0.7


@dataclass(frozen=True)
class Daylight:
    """Light that reaches the street."""

    camera: Camera
    left: FloatArray
    right: FloatArray
    """Light on the fronts of each side, as a factor of their colour."""
    sky: FloatArray
    """What panes reflect."""
    haze: FloatArray
    reach: float = 160.0
    """Metres over which two thirds of the contrast are lost."""
    night: bool = False

    def on(self, side: float) -> FloatArray:
        """Light on the fronts of one side."""
        return self.left if side < 0 else self.right

    def seen(self, color: FloatArray, z: npt.ArrayLike) -> FloatArray:
        """A colour [..., 3] as it looks from `z` metres away."""
        clear = np.exp(np.asarray(z, np.float64) * (-1 / self.reach))[..., None]
        return np.asarray(color * clear + self.haze * (1 - clear), np.float32)


def draw_row(rng: np.random.Generator, side: float, first: float, last: float) -> list[House]:
    """A row of different houses, near to far."""
    houses: list[House] = []
    near = first
    while near < last:
        bays = int(rng.integers(2, 6))
        brick = chance(rng, 0.3)
        shutters = chance(rng, 0.35)
        awning = chance(rng, 0.65)
        house = House(
            side=side,
            near=near,
            far=near + bays * uniform(rng, 2.5, 3.2),
            floors=int(rng.integers(2, 5)),
            brick=brick,
            wall=pick(rng, list(BRICK if brick else PLASTER)) * np.float32(uniform(rng, 0.75, 1.0)),
            trim=pick(rng, list(TRIMS)),
            roof=pick(rng, ("mansard", "tiles", "flat"), (3, 3, 2)),
            bays=bays,
            shutters=pick(rng, list(SHUTTERS)) if shutters else None,
            balconies=chance(rng, 0.35),
            awning=pick(rng, list(AWNINGS)) if awning else None,
            seed=int(rng.integers(1 << 62)),
        )
        houses.append(house)
        near = house.far
    return houses


def paint_body(sheet: Strokes, house: House, light: Daylight) -> None:
    """Front, gable end and roof, without openings."""
    camera, side, h = light.camera, house.side, house.height
    middle = (max(house.near, 6.0) + house.far) / 2
    end_x = side * np.array([camera.half, camera.half + 11, camera.half + 11, camera.half])
    gable = camera.project(end_x, np.array([h, h, 0, 0]), np.full(4, house.near))
    roof = {"mansard": "4a5058", "tiles": "9a5038", "flat": "8a8480"}[house.roof]
    pitch, rise = {"mansard": (1.2, 2.8), "tiles": (4.5, 2.6), "flat": (0.0, 0.0)}[house.roof]
    if rise:
        x = side * (camera.half + np.array([-0.35, -0.35, pitch, pitch]))
        y, z = np.array([h, h, h + rise, h + rise]), np.array([house.near, house.far, house.far, house.near])
        side_x = side * (camera.half + np.array([0, pitch, 11 - pitch, 11]))
        gable_top = camera.project(side_x, np.array([h, h + rise, h + rise, h]), np.full(4, house.near))
        sheet.fill(gable_top, light.seen(house.wall * light.haze * np.float32(0.45), house.near))
        sheet.fill(camera.project(x, y, z), light.seen(rgb(roof) * light.on(side), middle))
    sheet.fill(gable, light.seen(house.wall * light.haze * np.float32(0.5), house.near))
    front = camera.wall(side, boxes(house.near, 0, house.far, h)[0])
    sheet.fill(front, light.seen(house.wall * light.on(side), middle))


def paint_front(sheet: Strokes, house: House, light: Daylight, rng: np.random.Generator) -> None:
    """Windows, cornice, ground floor."""
    columns, rows = np.meshgrid(np.arange(house.bays), np.arange(house.floors))
    bay = (house.far - house.near) / house.bays
    z = house.near + (columns.ravel() + 0.5) * bay
    y = GROUND_FLOOR + rows.ravel() * STOREY + 0.95
    tone = rng.random(len(z))
    visible = z > NEAREST + 1.5
    order = np.flatnonzero(visible)[np.argsort(-z[visible])]
    _windows(sheet, house, light, np.stack([z, y], -1)[order], tone[order])
    _bands(sheet, house, light)
    _shop(sheet, house, light, rng)


def _quads(
    sheet: Strokes, house: House, light: Daylight, outlines: Points, color: npt.ArrayLike, out: float = 0.0
) -> None:
    """Rectangles [N, 4, 2] that do not overlap, on the front in one colour (or [N, 3]), hazed by their distance."""
    together = 4 if np.ndim(color) == 1 else 1
    tones = light.seen(np.asarray(color, np.float32), outlines[:, 0, 0])
    sheet.shapes(light.camera.wall(house.side, outlines, out), tones, together)


def _windows(sheet: Strokes, house: House, light: Daylight, foot: Points, tone: npt.NDArray[np.float64]) -> None:
    """Openings standing on `foot` [N, 2] = (z, y): reveal, panes, bars, sill, shutters."""
    lit = light.on(house.side)
    z, y, w, h = foot[:, 0], foot[:, 1], 0.55, 1.85
    trim = house.trim * lit
    _quads(sheet, house, light, boxes(z - w - 0.16, y - 0.1, z + w + 0.16, y + h + 0.2), trim * np.float32(0.92))
    _quads(sheet, house, light, boxes(z - w, y, z + w, y + h), house.wall * lit * np.float32(0.16))
    dark, bright = rgb("161c24"), light.sky * np.float32(0.55)
    pane = mix(dark, bright, 0.08 + 0.75 * tone**1.6)
    if light.night:
        pane = mix(dark * np.float32(0.3), rgb("ffc070") * np.float32(0.9), np.clip(tone - 0.5, 0, 1) * 2)
    _quads(sheet, house, light, boxes(z - w + 0.07, y + 0.05, z + w, y + h - 0.14), pane)
    upper = mix(pane, light.sky, 0.30)
    _quads(sheet, house, light, boxes(z - w + 0.07, y + h * 0.5, z + w * 0.5, y + h - 0.14), upper)
    shadow = house.wall * lit * np.float32(0.45)
    _quads(sheet, house, light, boxes(z - w - 0.2, y - 0.34, z + w + 0.2, y - 0.1), shadow)
    _quads(sheet, house, light, boxes(z - w - 0.22, y - 0.12, z + w + 0.22, y + 0.02), trim * np.float32(1.08), 0.12)
    if house.near < FINE:
        _bars(sheet, house, light, foot, foot[tone > 0.72])
    if house.shutters is not None:
        _shutters(sheet, house, light, foot, house.shutters * lit)
    if house.balconies:
        _balconies(sheet, house, light, foot[y < GROUND_FLOOR + STOREY + 1])


def _bars(sheet: Strokes, house: House, light: Daylight, foot: Points, curtained: Points) -> None:
    """Bars of the windows at `foot`, curtains in some."""
    lit = light.on(house.side)
    z, y, w, h = foot[:, 0], foot[:, 1], 0.55, 1.85
    left, low = curtained[:, 0] - w, curtained[:, 1]
    cloth = boxes(left + 0.1, low + 0.1, left + 0.7 * w, low + h - 0.2)
    _quads(sheet, house, light, cloth, rgb("d8d0c0") * lit * np.float32(0.55))
    _quads(sheet, house, light, boxes(z - 0.045, y, z + 0.045, y + h - 0.1), house.trim * lit)
    _quads(sheet, house, light, boxes(z - w, y + h * 0.64, z + w, y + h * 0.64 + 0.07), house.trim * lit)


def _shutters(sheet: Strokes, house: House, light: Daylight, foot: Points, tone: FloatArray) -> None:
    """Open shutters on both sides of the windows at `foot`, with slats."""
    z, y, w, h = foot[:, 0], np.tile(foot[:, 1], 2), 0.55, 1.85
    edge = np.array([[-1.0], [1.0]])
    inner, outer = (z + edge * (w + 0.08)).ravel(), (z + edge * (w + 0.62)).ravel()
    _quads(sheet, house, light, boxes(inner, y, outer, y + h), tone)
    if house.near < FINE:
        slat = (y + h * np.linspace(0.15, 0.9, 6)[:, None]).ravel()
        lines = boxes(np.tile(inner, 6), slat, np.tile(outer, 6), slat + 0.05)
        _quads(sheet, house, light, lines, tone * np.float32(0.5))


def _balconies(sheet: Strokes, house: House, light: Daylight, foot: Points) -> None:
    """Slabs with iron railings and their shadow."""
    lit = light.on(house.side)
    z, y = foot[:, 0], foot[:, 1]
    _quads(sheet, house, light, boxes(z - 0.9, y - 1.1, z + 0.9, y - 0.35), house.wall * lit * np.float32(0.4))
    _quads(sheet, house, light, boxes(z - 1.0, y - 0.35, z + 1.0, y - 0.15), house.trim * lit * np.float32(0.8), 0.7)
    iron = rgb("20242a")
    _quads(sheet, house, light, boxes(z - 1.0, y + 0.75, z + 1.0, y + 0.83), iron, 0.7)
    if house.near > FINE:
        return
    bar, low = (z + np.linspace(-0.98, 0.98, 11)[:, None]).ravel(), np.tile(y, 11)
    _quads(sheet, house, light, boxes(bar - 0.02, low - 0.15, bar + 0.02, low + 0.8), iron, 0.7)


def _bands(sheet: Strokes, house: House, light: Daylight) -> None:
    """Cornice with its shadow, and a string course above the ground floor."""
    lit, h = light.on(house.side), house.height
    cuts = np.linspace(max(house.near, NEAREST), house.far, 5)
    a, b = cuts[:-1], cuts[1:]
    for bottom, top, shade in ((h - 0.45, h + 0.05, 1.05), (GROUND_FLOOR, GROUND_FLOOR + 0.25, 0.95)):
        _quads(sheet, house, light, boxes(a, bottom - 0.4, b, bottom), house.wall * lit * np.float32(0.5))
        _quads(sheet, house, light, boxes(a, bottom, b, top), house.trim * lit * np.float32(shade), 0.3)
    _quads(sheet, house, light, boxes(house.near, 0, house.near + 0.14, h), house.wall * lit * np.float32(0.45))


def _shop(sheet: Strokes, house: House, light: Daylight, rng: np.random.Generator) -> None:
    """The ground floor: shop windows and a door, a sign board, an awning."""
    lit = light.on(house.side)
    bay = (house.far - house.near) / house.bays
    z = house.near + (np.arange(house.bays)[::-1] + 0.5) * bay
    kind, warmth = rng.random(house.bays), rng.random(house.bays)
    wood = pick(rng, list(WOOD))
    sign = pick(rng, list(AWNINGS))
    show = z > NEAREST + 1.5
    z, kind, warmth = z[show], kind[show], warmth[show]
    _quads(sheet, house, light, boxes(z - bay * 0.47, 0.1, z + bay * 0.47, 3.75), wood * lit)
    warm = mix(rgb("181a1e"), rgb("c89850"), 0.1 + 0.45 * warmth**2)
    door = kind < 0.3
    left, right = np.where(door, z - 0.55, z - bay * 0.4), np.where(door, z + 0.55, z + bay * 0.4)
    foot = np.where(door, 0.15, 0.75)
    _quads(sheet, house, light, boxes(left, foot, right, 2.75), mix(warm, light.sky * 0.5, 0.18))
    if light.night:
        warm = mix(rgb("f0a850"), rgb("fff0d0"), warmth) * (0.35 + 0.55 * kind[:, None]).astype(np.float32)
        _quads(sheet, house, light, boxes(left, foot, right, 2.75), warm)
    span = [max(float(house.near) + 0.3, NEAREST), float(house.far) - 0.3]
    cuts = np.linspace(span[0], span[1], 9)
    _quads(sheet, house, light, boxes(cuts[:-1], 3.1, cuts[1:], 3.7), sign * lit, 0.12)
    if house.near < FINE:
        _quads(sheet, house, light, boxes(z - 0.03, foot, z + 0.03, 2.75), wood * lit * np.float32(1.5))
        _goods(sheet, house, light, np.stack([left, right, foot], -1), rng)
        letters = np.arange(span[0] + 0.5, span[1] - 0.5, 0.42)[::-1]
        letters = letters[rng.random(len(letters)) > 0.2]
        _quads(sheet, house, light, boxes(letters, 3.25, letters + 0.24, 3.55), house.trim * lit, 0.13)
    if house.awning is not None:
        _awning(sheet, house, light, span, house.awning)


def _goods(sheet: Strokes, house: House, light: Daylight, panes: Points, rng: np.random.Generator) -> None:
    """What stands in the shop windows `panes` [N, 3] = (left, right, bottom)."""
    count = 7
    left, right, foot = (column[:, None] for column in panes.T)
    at = left + (right - left) * np.linspace(0.06, 0.86, count)
    tall = foot + rng.uniform(0.25, 0.9, at.shape)
    tones = GOODS[rng.integers(0, len(GOODS), at.size)] * np.float32(0.4)
    low = np.broadcast_to(foot, at.shape).ravel()
    wide = np.broadcast_to((right - left) * 0.08, at.shape).ravel()
    _quads(sheet, house, light, boxes(at.ravel(), low, at.ravel() + wide, tall.ravel()), tones)


def _awning(sheet: Strokes, house: House, light: Daylight, span: list[float], dye: FloatArray) -> None:
    """A striped cloth over the pavement, with a hem that hangs down."""
    camera, lit = light.camera, light.on(house.side)
    _quads(sheet, house, light, boxes(span[0], 2.2, span[1], 2.9), rgb("101012"))
    cuts = np.linspace(span[0], span[1], 6 * house.bays + 1)[::-1]
    a, b = cuts[:-1], cuts[1:]
    tones = np.where(np.arange(len(a))[:, None] % 2, dye, house.trim) * lit
    x = house.side * (camera.half - np.array([0.1, 0.1, 1.5, 1.5]))
    cloth = camera.project(x, np.array([3.15, 3.15, 2.45, 2.45]), np.stack([a, b, b, a], -1))
    sheet.shapes(cloth, light.seen(tones, a))
    _quads(sheet, house, light, boxes(a, 2.2, b, 2.46), tones * np.float32(0.75), 1.5)
