"""A picture to judge a calibration by: each lamp as photographed, as fitted, and what is left; the lens by itself."""

import math

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from bokehsynth.calibration.joint_fit import CLIPPED, Lamp
from bokehsynth.calibration.lens_calibration import Calibration
from bokehsynth.calibration.spot_model import Grid, spot
from bokehsynth.color import encode_8bit

ByteArray = npt.NDArray[np.uint8]

CELL = 128
"""Pixels of one picture of a lamp."""
COLUMNS = 3
"""Lamps in a row, three pictures each."""
GAIN = 4.0
"""How much what is left is raised, around mid-grey."""
PLACES = ((0.0, 0.0), (0.6, 0.0), (0.6, 0.6))
"""Field positions at which the lens is shown by itself."""
_INK, _PAPER = (30, 30, 30), (255, 255, 255)


def sheet(found: Calibration, title: str) -> ByteArray:
    """The sheet [H, W, 3] uint8: photographed | fitted | left of every lamp used, below the lens in words and alone."""
    rows = -(-len(found.fitted) // COLUMNS)
    width, head = COLUMNS * (3 * CELL + 16) + 8, CELL + 28
    page = Image.new("RGB", (width, head + rows * (CELL + 22) + 8), _PAPER)
    draw = ImageDraw.Draw(page)
    for line, text in enumerate([title, *in_words(found), "each lamp: photographed | fitted | 4 x what is left"]):
        draw.text((8, 6 + 20 * line), text, fill=_INK)
    for i, place in enumerate(PLACES):
        at = (width - (len(PLACES) - i) * (CELL + 8), 4)
        page.paste(Image.fromarray(_alone(found, place)), at)
        draw.text((at[0] + 4, CELL + 6), f"h = ({place[0]:g}, {place[1]:g})", fill=_INK)
    for i, (lamp, used) in enumerate(zip(found.fitted, found.lamps, strict=True)):
        left, top = 8 + (i % COLUMNS) * (3 * CELL + 16), head + (i // COLUMNS) * (CELL + 22)
        for k, picture in enumerate(_pictures(found, lamp)):
            page.paste(Image.fromarray(picture), (left + k * CELL, top))
        words = f"x {used.x:.0f}, y {used.y:.0f}: radius {used.radius:.2f} +- {used.radius_error:.2f} px"
        words += f", misfit {used.misfit:.1%}"
        draw.text((left, top + CELL + 3), words + (", clipped" if used.clipped else ""), fill=_INK)
    return np.asarray(page)


def in_words(found: Calibration) -> list[str]:
    """The lens in lines of text, with error bars."""
    aperture, errors = found.aperture, found.errors

    def number(name: str, value: float, digits: int = 3) -> str:
        return (
            f"{name} {value:.{digits}f} +- {errors[name]:.{digits}f}"
            if name in errors
            else f"{name} {value:.{digits}f}"
        )

    blades = "round"
    if aperture.blades:
        blades = f"{aperture.blades} blades, {number('rotation', aperture.rotation)}, "
        blades += number("curvature", aperture.curvature)
    rims = [f"rim: {number('strength', move)}, {number('radius', size)}" for move, size in aperture.rims]
    red, green, blue = aperture.colors
    low, middle, high = found.radii
    lateral = f"{aperture.lateral[0]:+.5f} {aperture.lateral[1]:+.5f}"
    return [
        f"{blades}; {rims[0] if rims else 'no rim seen'}",
        f"light: {number('edge', aperture.edge)} of the middle's, {number('glow', aperture.glow)}",
        f"colours: radii {red:.4f} {green:.4f} {blue:.4f}, lateral {lateral}",
        f"{len(found.lamps)} of {found.found} lamps used, radius {low:.1f} .. {middle:.1f} .. {high:.1f} px",
    ]


def _alone(found: Calibration, place: tuple[float, float]) -> ByteArray:
    """The spot that the lens draws of a white lamp at a field position, in a square of CELL pixels."""
    radius = 0.42 * CELL
    rows, columns = np.mgrid[:CELL, :CELL].astype(np.float64)
    half, scale = (CELL - 1) / 2, 40 * radius  # a spot small against the picture
    centre = (half - place[0] * scale, half - place[1] * scale)
    grid = Grid(columns.ravel(), rows.ravel(), centre, scale)
    light = spot(found.fit.shape, (half, half, math.log(radius), 0.0), grid).reshape(CELL, CELL)
    return encode_8bit(np.repeat(np.asarray(0.8 * light / light.max(), np.float32)[..., None], 3, axis=2))


def _pictures(found: Calibration, lamp: Lamp) -> list[ByteArray]:
    """Photographed, fitted and left, each [CELL, CELL, 3]."""
    light, size = found.picture.light, lamp.radius * 1.35 + 2
    height, width = light.shape[:2]
    x, y = (round(float(value)) for value in lamp.state[:2])
    reach = min(math.ceil(size), x, y, width - 1 - x, height - 1 - y)
    rows, columns = np.mgrid[y - reach : y + reach + 1, x - reach : x + reach + 1]
    crop = light[rows, columns].astype(np.float64)
    shape = spot(found.fit.shape, lamp.state, found.picture.grid(rows.ravel(), columns.ravel()))
    fitted = np.stack([_in_light(shape, crop[..., c].ravel()) for c in range(3)], axis=-1).reshape(crop.shape)
    white = max(1e-3, float(np.quantile(crop, 0.99)))
    left = np.clip(0.5 + GAIN * (crop - fitted) / white * 0.5, 0, 1)
    shown = [encode_8bit(np.asarray(np.clip(each / white, 0, 1), np.float32)) for each in (crop, fitted)]
    shown.append(np.rint(255 * left).astype(np.uint8))
    return [np.asarray(Image.fromarray(each).resize((CELL, CELL), Image.Resampling.NEAREST)) for each in shown]


def _in_light(shape: npt.NDArray[np.float64], values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The spot with the light of lamp and background that fit one channel best, clipped as the photograph."""
    weight = open_pixels = (values < CLIPPED).astype(np.float64)
    if open_pixels.sum() < 9:
        return values
    columns = np.stack([shape, np.ones_like(shape)], axis=-1)
    for _ in range(4):
        solved = np.linalg.lstsq(columns * weight[:, None], values * weight, rcond=None)[0]
        left = np.abs(values - columns @ solved)
        weight = open_pixels / (1 + (left / max(1e-3, 3 * float(np.median(left[open_pixels > 0])))) ** 2)
    return np.minimum(columns @ solved, max(1.0, float(values.max())))
