"""A canvas for painting cut-outs: antialiased outlines, strands of hair, soft shadows, in linear light.

A family paints in its own units (x right, y down). `draw` lets it paint twice with the same random numbers: once on a
probe, which only records how far the subject reaches, and once on a canvas that this subject fills.
"""

from collections.abc import Callable, Sequence

import cv2
import numpy as np
import numpy.typing as npt

from bokehsynth.imaging.pictures import Cutout
from bokehsynth.procedural.foregrounds.curves import ribbons
from bokehsynth.procedural.foregrounds.patch import Box, Patch
from bokehsynth.procedural.toolkit import FloatArray, Points, rgb
from bokehsynth.rng import draw_seed, from_seed

BORDER = 3
"""Empty pixels on every side at which the subject is not cut off."""

_SUBPIXEL_BITS = 4


class Canvas:
    """Premultiplied linear colour and alpha, painted back to front."""

    def __init__(self, box: Box, scale: float, border: tuple[int, int, int, int]) -> None:
        """`box` is the subject, `scale` in pixels per unit, `border` in pixels left, top, right, bottom."""
        self.scale = scale
        self.origin = np.array([box.left - border[0] / scale, box.top - border[1] / scale])
        width = round((box.right - box.left) * scale) + border[0] + border[2]
        height = round((box.bottom - box.top) * scale) + border[1] + border[3]
        self.rgb: FloatArray = np.zeros((height, width, 3), np.float32)
        self.alpha: FloatArray = np.zeros((height, width), np.float32)

    def fill(self, *outlines: Points) -> Patch:
        """The antialiased inside (even-odd) of closed outlines [N, 2]."""
        points = np.concatenate(outlines)
        rows, cols = self._window(points.min(0), points.max(0), 1.0)
        area = (rows.stop - rows.start) * (cols.stop - cols.start)
        k = 8 if area < 40_000 else 4 if area < 300_000 else 3
        mask = np.zeros(((rows.stop - rows.start) * k, (cols.stop - cols.start) * k), np.uint8)
        cv2.fillPoly(mask, [self._fixed(o, rows, cols, k) for o in outlines], 255, shift=_SUBPIXEL_BITS)
        small = cv2.resize(mask, (cols.stop - cols.start, rows.stop - rows.start), interpolation=cv2.INTER_AREA)
        return self._patch(rows, cols, small.astype(np.float32) * np.float32(1 / 255))

    def soft(self, outline: Points, radius: float) -> Patch:
        """The inside of an outline [N, 2] blurred by `radius` units (about two standard deviations)."""
        sigma = radius / 2
        low, high = outline.min(0) - 1.3 * radius, outline.max(0) + 1.3 * radius
        rows, cols = self._window(low, high, 0.0)
        shrink = min(1.0, 4.0 / max(sigma * self.scale, 1e-6))
        grid = np.maximum(np.ceil((high - low) * self.scale * shrink), 2).astype(int)
        mask = np.zeros((grid[1], grid[0]), np.uint8)
        corners = np.rint(((outline - low) * self.scale * shrink - 0.5) * 16).astype(np.int32)
        cv2.fillPoly(mask, [corners], 255, cv2.LINE_AA, _SUBPIXEL_BITS)
        spread = max(sigma * self.scale * shrink, 0.3)
        blurred = cv2.GaussianBlur(mask.astype(np.float32) / np.float32(255), (0, 0), spread)
        first = (
            self.origin + (np.array([cols.start, rows.start]) + 0.5) / self.scale - low
        ) * self.scale * shrink - 0.5
        place = np.array([[shrink, 0, first[0]], [0, shrink, first[1]]])
        size = (cols.stop - cols.start, rows.stop - rows.start)
        coverage = cv2.warpAffine(blurred, place, size, flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
        return self._patch(rows, cols, np.asarray(coverage, np.float32))

    def whole(self, box: Box) -> Patch:
        """Full coverage over a finite box."""
        rows, cols = self._window(np.array([box.left, box.top]), np.array([box.right, box.bottom]), 0.0)
        return self._patch(rows, cols, np.ones((rows.stop - rows.start, cols.stop - cols.start), np.float32))

    def over(self, patch: Patch, color: npt.ArrayLike, opacity: npt.ArrayLike = 1.0) -> None:
        """Paint `color` ([3] or [h, w, 3], linear) over what is there; `opacity` is a number or [h, w]."""
        cover = patch.coverage * np.asarray(opacity, np.float32)
        self._blend(patch, np.asarray(color, np.float32), cover, cover)
        alpha = self.alpha[patch.rows, patch.cols]
        alpha += cover * (1 - alpha)

    def atop(self, patch: Patch, color: npt.ArrayLike, opacity: npt.ArrayLike = 1.0) -> None:
        """Paint `color` only onto what is already there; alpha stays."""
        cover = patch.coverage * np.asarray(opacity, np.float32)
        self._blend(patch, np.asarray(color, np.float32), cover, cover * self.alpha[patch.rows, patch.cols])

    def darken(self, patch: Patch, strength: float, tint: npt.ArrayLike = (0.0, 0.0, 0.0)) -> None:
        """Shadow on what is already there: light is multiplied by 1 - strength * (1 - tint) under the patch."""
        loss = strength * (1 - np.asarray(tint, np.float32))
        self.rgb[patch.rows, patch.cols] *= 1 - patch.coverage[..., None] * loss

    def add(self, patch: Patch, light: npt.ArrayLike, strength: npt.ArrayLike = 1.0) -> None:
        """Shine light on what is already there (highlights)."""
        cover = patch.coverage * np.asarray(strength, np.float32) * self.alpha[patch.rows, patch.cols]
        self.rgb[patch.rows, patch.cols] += cover[..., None] * np.asarray(light, np.float32)

    def strands(self, spines: Points, width: npt.ArrayLike, colors: Points, opacity: float = 1.0) -> None:
        """Paint tapering strands, first to last.

        `spines` [N, P, 2] units; full `width` in units, number, [N] or [N, P]; `colors` [N, 3] or, changing along
        the strand, [N, P-1, 3], linear, at most 2.
        """
        widths = np.asarray(width, np.float64)
        if widths.ndim < 2:
            taper = 1.0 - np.linspace(0, 1, spines.shape[1]) ** 2 * 0.9
            widths = np.broadcast_to(widths.reshape(-1, 1), spines.shape[:1] + (1,)) * taper
        low, high = spines.min((0, 1)), spines.max((0, 1))
        rows, cols = self._window(low, high, 1.0 + float(widths.max()) * self.scale / 2)
        k = 4 if self.scale < 300 else 3 if self.scale < 600 else 2
        layer = np.zeros(((rows.stop - rows.start) * k, (cols.stop - cols.start) * k, 4), np.uint16)
        # The scan conversion adds half a fine pixel on either side.
        half = np.maximum(widths / 2 - 0.5 / (k * self.scale), 0.0)
        self._scribble(layer, ribbons(spines, half), colors, rows, cols, k)
        small = cv2.resize(layer, (cols.stop - cols.start, rows.stop - rows.start), interpolation=cv2.INTER_AREA)
        paint = small.astype(np.float32) * np.float32(1 / 65535)
        cover = paint[..., 3] * np.float32(opacity)
        keep = (1 - cover)[..., None]
        target = self.rgb[rows, cols]
        target *= keep
        target += paint[..., :3] * np.float32(2 * opacity)
        alpha = self.alpha[rows, cols]
        alpha += cover * (1 - alpha)

    def cutout(self) -> Cutout:
        """What was painted, as straight colour that goes on under and beyond the soft alpha."""
        alpha = np.where(self.alpha < 1 / 500, np.float32(0), np.where(self.alpha > 0.997, np.float32(1), self.alpha))
        color = np.maximum(_unpremultiply(self.rgb, self.alpha), np.float32(0))
        return Cutout(np.ascontiguousarray(color), np.ascontiguousarray(alpha, dtype=np.float32))

    def _blend(self, patch: Patch, color: FloatArray, cover: FloatArray, light: FloatArray) -> None:
        target = self.rgb[patch.rows, patch.cols]
        target *= (1 - cover)[..., None]
        target += color * light[..., None]

    def _scribble(
        self, layer: npt.NDArray[np.uint16], outlines: Points, colors: Points, rows: slice, cols: slice, k: int
    ) -> None:
        fixed = self._fixed(outlines, rows, cols, k)
        ink = np.concatenate([np.clip(colors, 0, 2) * 32767.5, np.full(colors.shape[:-1] + (1,), 65535.0)], -1).tolist()
        if colors.ndim == 2:
            for outline, rgba in zip(fixed, ink, strict=True):
                cv2.fillPoly(layer, [outline], rgba, 8, _SUBPIXEL_BITS)
            return
        count = fixed.shape[1] // 2
        i = np.arange(count - 1)
        quads = fixed[:, np.stack([i, i + 1, 2 * count - 2 - i, 2 * count - 1 - i], -1)].reshape(-1, 4, 2)
        for quad, rgba in zip(quads, [rgba for inks in ink for rgba in inks], strict=True):
            cv2.fillConvexPoly(layer, quad, rgba, 8, _SUBPIXEL_BITS)

    def _fixed(self, points: Points, rows: slice, cols: slice, k: int) -> npt.NDArray[np.int32]:
        shift = np.array([cols.start, rows.start])
        pixels = ((points - self.origin) * self.scale - shift) * k - 0.5
        return np.rint(pixels * (1 << _SUBPIXEL_BITS)).astype(np.int32)

    def _window(self, low: Points, high: Points, margin: float) -> tuple[slice, slice]:
        height, width = self.alpha.shape
        first = np.floor((low - self.origin) * self.scale - margin).astype(int)
        last = np.ceil((high - self.origin) * self.scale + margin).astype(int)
        left, top = np.clip(first, 0, (width - 1, height - 1))
        right, bottom = np.clip(last, (left + 1, top + 1), (width, height))
        return slice(int(top), int(bottom)), slice(int(left), int(right))

    def _patch(self, rows: slice, cols: slice, coverage: FloatArray) -> Patch:
        x = (np.arange(cols.start, cols.stop) + 0.5) / self.scale + self.origin[0]
        y = (np.arange(rows.start, rows.stop) + 0.5) / self.scale + self.origin[1]
        return Patch(rows, cols, coverage, x.astype(np.float32)[None, :], y.astype(np.float32)[:, None])


class Probe(Canvas):
    """A canvas of four pixels that paints nothing and records how far the outlines reach."""

    def __init__(self) -> None:
        super().__init__(Box(0, 0, 2, 2), 1.0, (0, 0, 0, 0))
        self.extent = Box(np.inf, np.inf, -np.inf, -np.inf)

    def fill(self, *outlines: Points) -> Patch:
        """Record the outlines; the patch is empty, its coordinates are the corners."""
        points = np.concatenate(outlines)
        self._record(points)
        return self._corners(points)

    def soft(self, outline: Points, radius: float) -> Patch:
        """Shadows lie on the subject, so they do not count."""
        return self._corners(outline)

    def whole(self, box: Box) -> Patch:
        """Record the box."""
        return self.fill(np.array([[box.left, box.top], [box.right, box.bottom]]))

    def strands(self, spines: Points, width: npt.ArrayLike, colors: Points, opacity: float = 1.0) -> None:
        """Record the spines."""
        self._record(spines.reshape(-1, 2))

    def _record(self, points: Points) -> None:
        (left, top), (right, bottom) = points.min(0), points.max(0)
        box = self.extent
        self.extent = Box(min(box.left, left), min(box.top, top), max(box.right, right), max(box.bottom, bottom))

    def _corners(self, points: Points) -> Patch:
        low, high = points.min(0).astype(np.float32), points.max(0).astype(np.float32)
        x = np.array([[low[0], high[0]]], np.float32)
        y = np.array([[low[1]], [high[1]]], np.float32)
        return Patch(slice(0, 2), slice(0, 2), np.zeros((2, 2), np.float32), x, y)


def draw(
    paint: Callable[[Canvas, np.random.Generator], None], rng: np.random.Generator, size: int, limits: Box | None = None
) -> Cutout:
    """Let a family paint its subject so that its longer side is `size` pixels; beyond `limits` it is cut off."""
    seed = draw_seed(rng)
    probe = Probe()
    paint(probe, from_seed(seed))
    limits = limits or Box()
    box = limits.clip(probe.extent)
    border = (
        0 if box.left == limits.left else BORDER,
        0 if box.top == limits.top else BORDER,
        0 if box.right == limits.right else BORDER,
        0 if box.bottom == limits.bottom else BORDER,
    )
    scale = min(
        (size - border[0] - border[2]) / (box.right - box.left),
        (size - border[1] - border[3]) / (box.bottom - box.top),
    )
    canvas = Canvas(box, scale, border)
    paint(canvas, from_seed(seed))
    return canvas.cutout()


def linear(code: str) -> Points:
    """Linear light [3] of an sRGB hex code such as "e8b796"."""
    return rgb(code).astype(np.float64)


def palette(*codes: str) -> list[Points]:
    """Linear light of several hex codes."""
    return [linear(code) for code in codes]


def blend(colors: Sequence[Points] | Points, weight: npt.ArrayLike) -> Points:
    """Between two colours [3] or [..., 3], by weight [...] in 0..1."""
    share = np.asarray(weight, np.float64)[..., None]
    mixed: Points = np.asarray(colors[0]) * (1 - share) + np.asarray(colors[1]) * share
    return mixed


def _unpremultiply(rgb: FloatArray, alpha: FloatArray) -> FloatArray:
    """Straight colour, carried outward from coarse to fine where there is no alpha."""
    levels = [(rgb, alpha)]
    while max(levels[-1][1].shape) > 1:
        height, width = levels[-1][1].shape
        levels.append(
            (_resize(levels[-1][0], height // 2, width // 2), _resize(levels[-1][1], height // 2, width // 2))
        )
    color = np.asarray(levels[-1][0] / np.maximum(levels[-1][1], np.float32(1e-6))[..., None], np.float32)
    for premultiplied, cover in reversed(levels[:-1]):
        color = _resize(color, *cover.shape)
        known = cover > np.float32(1 / 1000)
        color[known] = premultiplied[known] / cover[known][:, None]
    return color


def _resize(field: FloatArray, height: int, width: int) -> FloatArray:
    """A field [h, w, ...] shrunk by averaging or stretched smoothly to (at least one pixel) height x width."""
    size = (max(width, 1), max(height, 1))
    smooth = cv2.INTER_AREA if size[1] <= field.shape[0] else cv2.INTER_LINEAR
    resized = cv2.resize(field, size, interpolation=smooth)
    return np.asarray(resized, np.float32).reshape(size[1], size[0], *field.shape[2:])
