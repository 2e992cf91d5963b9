"""One night through real lenses and built-in openings: the picture in docs/lenses.md.

python -m benchmarks.lens_gallery docs/real-lenses.png [--cells FOLDER --seed N]

Every lens has two pictures of the same lamps, far behind what is in focus and as far before it. With `--cells` a pair
is written without its name, `a.png`, `b.png`, ... in an order drawn from the seed, and the names into `key.json`: for
naming lenses by their pictures alone.
"""

import argparse
import json
import math
import string
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

import bokehsynth as bs

SIZE = HEIGHT, WIDTH = 220, 330
RADIUS = 13.0
"""Of a light, px."""

FOCUS = 0.5
"""Disparity in focus; lamps stand at 0 and at 1."""

REAL = {
    "biotar-1927-f1.4": None, "petzval-f1.4": None, "cooke-triplet-f5": None, "double-gauss-1950-f2": None,
    "portrait-85-f1.4": None, "mirror-500-f8": None,
}  # fmt: skip
"""Packaged lenses and their f-numbers, None: wide open."""

OPENINGS = {
    "Anamorphic(2, corner=1.5)": bs.Anamorphic(2, corner=1.5),
    "OnionRings(6, contrast=0.35)": bs.OnionRings(6, contrast=0.35),
    "Polygon(6, rotation=0.3)": bs.Polygon(6, rotation=0.3),
}


def real_lens(name: str, f_number: float | None) -> bs.Lens:
    """A packaged lens, focused so close that lamps at infinity have the wanted radius."""
    prescription = bs.load_prescription(name)
    number, near = f_number or prescription.f_number, prescription.focal_length_mm / 100
    for _ in range(8):  # K depends on the distance in focus
        near *= prescription.state(number, near / FOCUS).blur(WIDTH / 36, near) * FOCUS / RADIUS
    lens = prescription.at(f_number=number, focus_m=near / FOCUS, near_m=near, size=SIZE)
    return bs.Lens(lens.blur, lens.focus, lens.aperture, falloff=True)


def night(margin: int) -> np.ndarray:
    """Lamps on a canvas, linear light [H, W, 3]: one in the middle, the others spread evenly up to the corners."""
    rng = np.random.default_rng(11)
    shape = (HEIGHT + 2 * margin, WIDTH + 2 * margin)
    canvas = np.zeros((*shape, 3), np.float32) + np.float32([0.004, 0.005, 0.011])
    hues = np.array([(1, 0.9, 0.75), (1, 0.6, 0.3), (0.75, 0.85, 1), (1, 0.35, 0.3), (0.5, 1, 0.7)])
    for i, x in enumerate(np.linspace(-0.9, 0.9, 7)):
        for j, y in enumerate(np.linspace(-0.84, 0.84, 5)):
            at = np.array([x, y]) + (rng.uniform(-0.04, 0.04, 2) if (i, j) != (3, 2) else 0)
            column, row = np.rint((at + 1) / 2 * [WIDTH - 1, HEIGHT - 1]).astype(int) + margin
            canvas[row, column] += np.float32(260 * hues[(2 * i + 3 * j) % 5])
    return canvas


def pictures(lens: bs.Lens) -> list[Image.Image]:
    """Lamps behind the focus, and before it."""
    made = []
    for disparity in (0.0, 1.0):
        margin = lens.margin([bs.Plane(disparity)], WIDTH, HEIGHT)
        canvas = night(margin)
        layer = bs.Layer(canvas, np.ones(canvas.shape[:2], np.float32), bs.Plane(disparity))
        light = bs.render([layer], lens, margin, "cpu").bokeh
        made.append(Image.fromarray(np.rint(255 * bs.linear_to_srgb(np.clip(light, 0, 1))).astype(np.uint8)))
    return made


def main() -> None:
    """Draw the sheet, or nameless cells."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--cells", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    cells = {name: pictures(real_lens(name, f_number)) for name, f_number in REAL.items()}
    for name, aperture in OPENINGS.items():
        cells[name] = pictures(bs.Lens(RADIUS / FOCUS, FOCUS, aperture))
    if options.cells:
        options.cells.mkdir(parents=True, exist_ok=True)
        order = np.random.default_rng(options.seed).permutation(list(cells))
        for letter, name in zip(string.ascii_lowercase, order, strict=False):
            _sheet({"": cells[name]}, 1).save(options.cells / f"{letter}.png")
        key = dict(zip(string.ascii_lowercase, order.tolist(), strict=False))
        (options.cells / "key.json").write_text(json.dumps(key))
    _sheet(cells, 3).quantize(256, dither=Image.Dither.NONE).save(options.out, optimize=True)


def _sheet(cells: dict[str, list[Image.Image]], across: int) -> Image.Image:
    """Pairs of pictures, the one behind the focus above the one before it, with their names."""
    foot, gap = (22, 8) if any(cells) else (0, 4)
    rows = math.ceil(len(cells) / across)
    sheet = Image.new("RGB", (across * (WIDTH + gap) - gap, rows * (2 * HEIGHT + 4 + foot)), "white")
    caption = ImageDraw.Draw(sheet)
    for i, (name, pair) in enumerate(cells.items()):
        left, top = i % across * (WIDTH + gap), i // across * (2 * HEIGHT + 4 + foot)
        for k, picture in enumerate(pair):
            sheet.paste(picture, (left, top + k * (HEIGHT + 4)))
        caption.text((left + 4, top + 2 * HEIGHT + 8), name, fill=(40, 40, 40))
    return sheet


if __name__ == "__main__":
    main()
