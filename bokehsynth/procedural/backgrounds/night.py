"""A city at night: an avenue in the rain, or a skyline across a river with lamps, a bridge and their streaks in it."""

from dataclasses import dataclass

import cv2
import numpy as np

from bokehsynth.imaging.pictures import Landscape
from bokehsynth.procedural.backgrounds.avenue import paint_avenue
from bokehsynth.procedural.backgrounds.lights import COOL, NEON, WARM, Lamps, add_glow, lamp_tones
from bokehsynth.procedural.backgrounds.noise import rough_tile
from bokehsynth.procedural.backgrounds.painting import ASPECT, Frame, finish, gray_to_rgb, paint_over, palette, tint
from bokehsynth.procedural.backgrounds.sky import paint_night_sky
from bokehsynth.procedural.backgrounds.strokes import Strokes, boxes
from bokehsynth.procedural.toolkit import FloatArray, rgb
from bokehsynth.rng import chance, draw_seed, from_seed, uniform


@dataclass(frozen=True)
class Bank:
    """One row of houses on the far bank."""

    foot: float
    """Where the houses stand, in unit coordinates."""
    low: float
    high: float
    window: float
    """Distance between windows, in unit coordinates."""
    wall: FloatArray
    bright: float


def draw_night(rng: np.random.Generator, size: int) -> Landscape:
    """A city at night with at least forty points of light, the brightest 10 to 20 times white; `size` rows."""
    paint = _paint_riverside if chance(rng, 0.6) else paint_avenue
    light = paint(rng, Frame(size))
    return Landscape(finish(add_glow(light, 0.012, 0.10), 20.0))


def _paint_riverside(rng: np.random.Generator, frame: Frame) -> FloatArray:
    """The picture [H, W, 3], linear light."""
    water = uniform(rng, 0.56, 0.64)
    picture = paint_night_sky(rng, frame, water)
    bulk = from_seed(draw_seed(rng))
    lights = Lamps()
    sheet = Strokes(frame)
    _row(sheet, bulk, Bank(water - 0.02, 0.12, 0.40, 0.0065, rgb("1a2038"), 0.35), lights, 26)
    _row(sheet, bulk, Bank(water - 0.012, 0.07, 0.22, 0.0095, rgb("241e22"), 0.75), lights, 17)
    if chance(rng, 0.7):
        _spire(sheet, bulk, water, lights)
    _embankment(sheet, bulk, water, lights)
    if chance(rng, 0.5):
        _bridge(sheet, bulk, water, lights)
    _floodlight(picture, sheet.over(picture), uniform(rng, 0, 1), water)
    lights.shine(picture)
    _paint_river(picture, uniform(rng, 0, 1), water)
    _paint_promenade(rng, picture)
    return picture


def _row(sheet: Strokes, rng: np.random.Generator, bank: Bank, lights: Lamps, count: int) -> None:
    """Blocks side by side, some with pitched roofs, with a grid of windows of which some are lit."""
    edges = np.sort(np.concatenate([rng.uniform(0, ASPECT, count - 1), [-0.05, ASPECT + 0.05]]))
    tall = bank.low + (bank.high - bank.low) * rng.random(count) ** 2.2
    for left, right, height in zip(edges[:-1], edges[1:], tall, strict=True):
        top = bank.foot - height
        wall = bank.wall * np.float32(rng.uniform(0.6, 1.4)) * rng.uniform(0.85, 1.15, 3).astype(np.float32)
        sheet.shapes(boxes(left, top, right, bank.foot + 0.05), wall)
        sheet.shapes(boxes(left, top, left + 0.12 * (right - left), bank.foot + 0.05), wall * np.float32(0.55))
        roof, crest = rng.random(), uniform(rng, 0.010, 0.03)
        middle = (left + right) / 2
        if roof < 0.4 and right - left < 0.12:
            sheet.fill([(left, top), (middle, top - crest), (right, top)], wall * np.float32(0.6))
        elif roof < 0.7:
            inset = 0.3 * (right - left)
            sheet.shapes(boxes(left + inset, top - crest, right - inset, top), wall * np.float32(0.8))
        _lit_windows(sheet, rng, bank, (left, top, right))
        if height > 0.6 * bank.high and rng.random() < 0.8:
            sheet.shapes(boxes(middle - 0.001, top - 0.05, middle + 0.001, top), rgb("14141c"))
            lights.add((middle, top - 0.052), 0.0012, (9, 0.9, 0.4))
        if rng.random() < 0.3 and right - left > 0.04:
            sign = lamp_tones(rng, 6, 4.5, 9, NEON)[[0] * 6]
            at = np.linspace(middle - 0.012, middle + 0.012, 6)
            lights.add(np.stack([at, np.full(6, top + 0.012)], -1), 0.0014, sign)


def _lit_windows(sheet: Strokes, rng: np.random.Generator, bank: Bank, block: tuple[float, float, float]) -> None:
    left, top, right = block
    pitch = bank.window * rng.uniform(0.85, 1.3)
    columns = np.arange(left + pitch * 0.8, right - pitch * 0.6, pitch)
    rows = np.arange(top + pitch * 1.2, bank.foot - pitch * 0.4, pitch * 1.25)
    if not len(columns) or not len(rows):
        return
    x, y = (v.ravel() for v in np.meshgrid(columns, rows))
    share = rng.uniform(0.2, 0.65)
    # A floor or a stair is lit as a whole more often than by chance.
    habit = 0.5 * rng.random(len(rows))[:, None] + 0.2 * rng.random(len(columns))
    habit = habit + 0.3 * rng.random((len(rows), len(columns)))
    lit = habit.ravel() < 0.25 + 0.5 * share
    tone = palette("ffc070 ffd898 ffe8c8 ffb058 d8e8ff")[rng.choice(5, len(x), p=(0.35, 0.25, 0.2, 0.12, 0.08))]
    power = (bank.bright * rng.lognormal(-0.3, 0.6, (len(x), 1))).astype(np.float32)
    color = np.minimum(tone * power, 1.0)[lit]
    panes = boxes(x - pitch * 0.24, y - pitch * 0.36, x + pitch * 0.24, y + pitch * 0.30)
    bars = boxes(x - pitch * 0.03, y - pitch * 0.36, x + pitch * 0.03, y + pitch * 0.30)
    for outlines, share in ((panes, 1.0), (bars, 0.45)):
        sheet.shapes(outlines[~lit], bank.wall * np.float32(0.35 * share), together=max(len(x), 1))
        sheet.shapes(outlines[lit], color * np.float32(share))


def _spire(sheet: Strokes, rng: np.random.Generator, water: float, lights: Lamps) -> None:
    """A floodlit church tower or dome."""
    x, tall, wide = rng.uniform(0.2, 1.1), rng.uniform(0.22, 0.30), rng.uniform(0.02, 0.028)
    foot, top = water - 0.01, water - tall
    stone = rgb("c89858") * np.float32(0.6)
    sheet.shapes(boxes(x - wide, top, x + wide, foot), stone)
    sheet.shapes(boxes(x + wide * 0.4, top, x + wide, foot), stone * np.float32(0.6))
    for level in np.linspace(top + 0.02, foot - 0.05, 4):
        left, right = x + wide * np.array([-0.6, 0.1]), x + wide * np.array([-0.15, 0.5])
        sheet.shapes(boxes(left, level, right, level + 0.022), rgb("2a1c10"))
        sheet.shapes(boxes(x - 1.1 * wide, level + 0.03, x + 1.1 * wide, level + 0.034), stone * np.float32(1.3))
    peak = 0.11 if rng.random() < 0.6 else 0.05
    t = np.linspace(0, np.pi, 13)
    dome = np.stack([x - 1.2 * wide * np.cos(t), top - (0.035 * np.sin(t))], -1)
    sheet.fill(dome, rgb("3c6a60") * np.float32(0.6))
    spire = [(x - 0.5 * wide, top - 0.03), (x, top - 0.03 - peak), (x + 0.5 * wide, top - 0.03)]
    sheet.fill(spire, rgb("4a7a6c") * np.float32(0.5))
    lights.add((x, top - 0.032 - peak), 0.0016, (8, 5, 2.5))


def _embankment(sheet: Strokes, rng: np.random.Generator, water: float, lights: Lamps) -> None:
    """The quay wall with its row of lamps, kiosks and the lights of cars."""
    sheet.shapes(boxes(-0.1, water - 0.014, ASPECT + 0.1, water + 0.004), rgb("4a3826"))
    seams = np.arange(0, ASPECT, 0.012)
    sheet.shapes(boxes(seams, water - 0.012, seams + 0.001, water + 0.004), rgb("2a2018"))
    posts = np.arange(rng.uniform(0, 0.03), ASPECT, rng.uniform(0.032, 0.045))
    sheet.shapes(boxes(posts - 0.0008, water - 0.034, posts + 0.0008, water - 0.012), rgb("100c0a"))
    lamp = np.stack([posts, np.full(len(posts), water - 0.036)], -1)
    lights.add(lamp, rng.uniform(0.0018, 0.0030, len(posts)), lamp_tones(rng, len(posts), 9, 17))
    x = rng.uniform(0, ASPECT, 22)
    kind = np.concatenate([lamp_tones(rng, 8, 5, 9, COOL), lamp_tones(rng, 14, 4.5, 8, NEON)])
    lights.add(np.stack([x, water - rng.uniform(0.014, 0.05, 22)], -1), rng.uniform(0.001, 0.0024, 22), kind)


def _bridge(sheet: Strokes, rng: np.random.Generator, water: float, lights: Lamps) -> None:
    """A stone bridge with arches that comes towards the viewer from the far bank."""
    side = -1.0 if rng.random() < 0.5 else 1.0
    x = np.linspace(-0.05, ASPECT + 0.05, 120)
    along = np.clip(x / ASPECT if side > 0 else 1 - x / ASPECT, 0, 1)
    deck = water - 0.02 - 0.065 * along**1.5
    thick = 0.012 + 0.02 * along**1.5
    under = deck + thick
    outline = np.concatenate([np.stack([x, deck], -1), np.stack([x, under], -1)[::-1]])
    stone = rgb("6a4a2c") * np.float32(0.7)
    foot = water + 0.002 + 0.075 * along**1.5
    for centre in np.linspace(0.08, 1.0, 7) ** 0.8:
        at = centre * ASPECT if side > 0 else (1 - centre) * ASPECT
        wide = 0.006 + 0.02 * centre
        y0 = np.interp(centre, np.sort(along), np.sort(deck)[::-1])
        y1 = np.interp(centre, np.sort(along), np.sort(foot))
        sheet.shapes(boxes(at - wide, y0, at + wide, y1), stone * np.float32(0.7))
        arch = np.array([(-4.2, 0.0), (4.2, 0.0), (2.4, 0.25), (1.0, 0.7), (-1.0, 0.7), (-2.4, 0.25)])
        sheet.fill(np.array([at, y0]) + arch * np.array([wide, y1 - y0]), stone * np.float32(0.8))
    sheet.fill(outline, stone)
    rail = np.concatenate([np.stack([x, deck], -1), np.stack([x, deck + 0.003], -1)[::-1]])
    sheet.fill(rail, stone * np.float32(1.6))
    posts = np.linspace(0.03, 0.97, 15) ** 0.85
    px = posts * ASPECT if side > 0 else (1 - posts) * ASPECT
    tall = 0.02 + 0.045 * posts**1.5
    py = np.interp(px, x, deck)
    sheet.shapes(boxes(px - 0.001, py - tall, px + 0.001, py), rgb("120e0c"))
    lights.add(np.stack([px, py - tall], -1), 0.002 + 0.0035 * posts**1.5, lamp_tones(rng, 15, 11, 18))
    cars = rng.uniform(0.02, ASPECT - 0.02, 12)
    tone = np.concatenate([lamp_tones(rng, 6, 6, 12, COOL), np.tile(np.array([[7, 0.5, 0.25]], np.float32), (6, 1))])
    lights.add(np.stack([cars, np.interp(cars, x, deck) - 0.007], -1), 0.0016, tone)


def _floodlight(picture: FloatArray, walls: FloatArray, place: float, water: float) -> None:
    """Street light creeping up the walls, and the grain of masonry, where `walls` [H, W] are."""
    frame = Frame(len(picture))
    rise = np.exp(-np.abs(frame.y - np.float32(water)) / np.float32(0.045)) * walls
    rough = rough_tile().sample(frame.x * np.float32(2.5) + np.float32(place), frame.y * np.float32(2.5))
    picture *= gray_to_rgb(np.maximum(1 + np.float32(0.2) * walls * rough, np.float32(0.3)))
    picture *= tint(rise, np.array([2.2, 1.35, 0.6], np.float32), 1.0)
    picture += tint(rise, np.array([0.030, 0.017, 0.006], np.float32))


def _paint_river(picture: FloatArray, place: float, water: float) -> None:
    """The far bank mirrored: drawn out into streaks and broken by waves that grow towards the viewer."""
    frame, tile = Frame(len(picture)), rough_tile()
    x, start = frame.x, int(water * frame.size)
    y = frame.y[start:]
    edge = y - np.float32(water + 0.003)
    below = np.maximum(edge, 0)
    depth = 1 / (below + np.float32(0.022))
    u = (x - np.float32(ASPECT / 2)) * depth * np.float32(0.0275) + np.float32(place)
    chop = np.float32(0.6) * tile.sample(u, depth * np.float32(0.1625))
    chop += np.float32(0.55) * tile.sample(x * np.float32(0.47) + np.float32(place), y * np.float32(9.4))
    smear = cv2.blur(picture, (1, max(3, round(0.05 * frame.size))), borderType=cv2.BORDER_REFLECT_101)
    source_y = np.float32(water) - below * np.float32(1.1) + chop * np.float32(0.16) * below
    source_x = x + chop * (np.float32(0.010) * below + np.float32(0.0012))
    river = frame.resampled(np.asarray(smear, np.float32), source_x, source_y)
    river *= gray_to_rgb(np.clip(np.float32(0.85) + np.float32(0.5) * chop, 0.15, 2.0) * np.float32(0.95))
    river += rgb("060a12")
    paint_over(picture[start:], river, frame.wide(frame.cover(edge)))


def _paint_promenade(rng: np.random.Generator, picture: FloatArray) -> None:
    """The near quay: paving, a railing against the water, one to three lamps close by."""
    near, place, bulk = chance(rng, 0.7), uniform(rng, 0, 1), from_seed(draw_seed(rng))
    if not near:
        return
    frame = Frame(len(picture))
    edge = bulk.uniform(0.86, 0.91)
    posts = np.array([bulk.uniform(0.08, 0.5), bulk.uniform(0.8, ASPECT - 0.08)])
    start = int(edge * frame.size) - 1
    x, y = frame.x, frame.y[start:]
    pool = sum(np.exp(-(((x - p) / 0.22) ** 2) - ((y - edge - 0.05) / 0.10) ** 2) for p in posts)
    depth = 1 / (y - np.float32(edge - 0.08))
    joint = np.minimum(np.abs(np.mod((x - 0.67) * depth * 0.9, 1) - 0.5), np.abs(np.mod(depth * 1.7, 1) - 0.5))
    rough = rough_tile().sample(x * np.float32(2.4) + np.float32(place), y * np.float32(3.7))
    stone = (0.03 + 0.20 * pool) * (1 + 0.3 * rough) * np.clip(0.35 + joint * 12, 0.35, 1)
    floor = tint(np.asarray(stone, np.float32), np.array([1.0, 0.72, 0.42], np.float32))
    paint_over(picture[start:], floor, frame.wide(frame.cover(y - np.float32(edge))))
    sheet = Strokes(frame)
    iron = rgb("0c0c10")
    bars = np.arange(0.005, ASPECT, 0.021)
    sheet.shapes(boxes(bars - 0.0016, edge - 0.085, bars + 0.0016, edge + 0.004), iron)
    rails = edge - np.array([0.092, 0.05, 0.012])
    sheet.shapes(boxes(-0.1, rails, ASPECT + 0.1, rails + np.array([0.009, 0.004, 0.005])), iron)
    top = np.full(2, 0.36)
    sheet.shapes(boxes(posts - 0.006, top, posts + 0.006, edge + 0.03), iron)
    sheet.shapes(boxes(posts - 0.0015, top, posts - 0.0005, edge + 0.03), rgb("806040"))
    sheet.shapes(boxes(posts - 0.05, top + 0.012, posts + 0.05, top + 0.018), iron)
    sheet.over(picture)
    lights = Lamps()
    for shift in (-0.05, 0.0, 0.05):
        at = np.stack([posts + shift, top - (0.012 if shift == 0 else -0.002)], -1)
        lights.add(at, 0.0085, lamp_tones(bulk, 2, 13, 18, WARM[[0, 1, 3]]))
    lights.shine(picture)
