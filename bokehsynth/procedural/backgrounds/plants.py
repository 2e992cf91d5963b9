"""Conifers, leafy crowns, grass and flowers as brush strokes, back to front."""

from dataclasses import dataclass

import numpy as np

from bokehsynth.procedural.backgrounds.painting import ASPECT, mix
from bokehsynth.procedural.backgrounds.strokes import Strokes, discs, leaves
from bokehsynth.procedural.toolkit import FloatArray


@dataclass(frozen=True, kw_only=True)
class Foliage:
    """Colors of leaves, linear [3], and where the light comes from."""

    dark: FloatArray
    light: FloatArray
    sun: tuple[float, float]
    """Direction towards the sun in the picture plane (x right, y down), about unit length."""


def paint_conifers(
    sheet: Strokes, rng: np.random.Generator, feet: FloatArray, heights: FloatArray, look: Foliage
) -> None:
    """Conifers with feet [N, 2] and heights [N] (unit lengths), drawn from the smallest y to the largest.

    Each is a stack of ragged tiers: a dark triangle and a lit one on the sun's side.
    """
    order = np.argsort(feet[:, 1], kind="stable")
    tone = rng.random(len(feet)).astype(np.float32)[order]
    half = (rng.uniform(0.14, 0.24, len(feet)) * heights)[order]
    side = np.sign(look.sun[0]) or 1.0
    outline = _conifer_outline(4)[None] * np.stack([half, heights[order]], 1)[:, None]
    lit = outline.copy()
    lit[..., 0] = np.maximum(lit[..., 0] * side, -0.12 * half[:, None]) * side
    pairs = np.stack([outline, lit], 1) + feet[order][:, None, None]
    dark = look.dark * (np.float32(0.75) + np.float32(0.4) * tone)[:, None]
    colors = np.stack([dark, mix(look.dark, look.light, np.float32(0.3) + np.float32(0.6) * tone)], 1)
    sheet.shapes(pairs.reshape(-1, *outline.shape[1:]).astype(np.float32), colors.reshape(-1, 3))


def _conifer_outline(tiers: int) -> FloatArray:
    """A tree of height 1 and half width 1 with its foot at the origin, [K, 2]."""
    right = [(0.0, -1.0)]
    for k in range(tiers):
        low = (k + 1) / tiers
        right.append((0.25 + 0.75 * low, -(1 - low) * 0.97 - 0.02))
        right.append(((0.25 + 0.75 * low) * 0.55, -(1 - low) - 0.02))
    left = [(-px, py) for px, py in reversed(right[1:])]
    return np.array(right + left, np.float32)


def paint_crown(
    sheet: Strokes, rng: np.random.Generator, blobs: FloatArray, count: int, leaf: float, look: Foliage
) -> None:
    """A crown of `count` short strokes of length `leaf` in round blobs [N, 3] (x, y, radius), dark ones first.

    A leaf is bright where its blob faces the sun, with a spread that reads as single leaves.
    """
    area = blobs[:, 2] ** 2
    owner = np.searchsorted(np.cumsum(area), rng.random(count) * area.sum()).clip(0, len(blobs) - 1)
    radius = np.sqrt(rng.random(count)) * (1 + 0.12 * rng.standard_normal(count))
    angle = rng.uniform(0, 2 * np.pi, count)
    offset = np.stack([radius * np.cos(angle), radius * np.sin(angle)], 1)
    centre = blobs[owner, :2] + offset * blobs[owner, 2:]
    facing = offset @ np.array(look.sun) * 0.55 - 0.25 * radius
    height = (blobs[:, 1].mean() - blobs[owner, 1]) / max(float(np.ptp(blobs[:, 1])), 1e-6)
    tone = np.clip(0.42 + facing + 0.25 * height + 0.16 * rng.standard_normal(count), 0, 0.999)
    turn = rng.uniform(0, np.pi, count)
    half = np.stack([np.cos(turn), np.sin(turn)], 1) * leaf / 2
    strokes = np.stack([centre - half, centre + half], 1).astype(np.float32)
    bands = 7
    band = (tone * bands).astype(int)
    for k in range(bands):
        sheet.lines(strokes[band == k], leaf * 0.55, mix(look.dark, look.light, (k / (bands - 1)) ** 1.6))


def paint_treetop(
    sheet: Strokes, rng: np.random.Generator, middle: tuple[float, float], radius: float, tones: FloatArray, side: float
) -> None:
    """A leafy crown: clumps of leaves, dark below and inside; `tones` [2, 3] are the shaded and the lit colour."""
    # A far tree has fewer and larger leaves: they are not told apart.
    count, per_clump = 16, int(np.clip(700 * radius, 16, 56))
    clumps = rng.normal(0, 0.42, (count, 2)) * (1.1, 0.9)
    clumps = clumps[np.argsort(-clumps[:, 1])]
    size = rng.uniform(0.25, 0.45, count)
    sheet.shapes(discs(np.array(middle) + clumps * radius, size * radius * 0.75, 9), tones[0] * np.float32(0.6))
    local = rng.normal(0, 0.5, (count, per_clump, 2)) * size[:, None, None]
    slope = (0.5 * side * local[..., 0] - local[..., 1]) / size[:, None]
    lit = np.clip(0.42 + 0.5 * slope + rng.normal(0, 0.2, slope.shape), 0, 1)
    lit *= np.clip(0.8 - 0.35 * clumps[:, 1:], 0.3, 1)
    # Clump by clump, in each the shaded leaves first.
    order = np.argsort(lit + 2.0 * np.arange(count)[:, None], axis=None)
    at = (np.array(middle) + (clumps[:, None] + local) * radius).reshape(-1, 2)[order]
    length = np.maximum(radius * rng.uniform(0.08, 0.15, len(at)) * (56 / per_clump) ** 0.5, 0.003)
    outline = leaves(at, length, rng.uniform(0, np.pi, len(at)), 0.55)
    sheet.shapes(outline, mix(tones[0], tones[1], lit.ravel()[order]), together=4)


@dataclass(frozen=True, kw_only=True)
class Meadow:
    """Where grass grows and how it looks."""

    top: float
    """y of the far edge."""
    horizon: float
    """y at which grass would shrink to nothing."""
    tall: float
    """Height of a blade at the lower edge of the picture."""
    blades: int
    dark: FloatArray
    light: FloatArray
    straw: FloatArray
    wind: float
    """Lean of the tips as a share of the height."""


def paint_grass(sheet: Strokes, rng: np.random.Generator, meadow: Meadow) -> None:
    """Blades in rows from far to near, in tufts, some of them dry."""
    n = meadow.blades
    tufts = np.convolve(rng.standard_normal(64), [0.25, 0.5, 0.25], mode="same") * 1.6
    depth = rng.random(n) ** 1.3
    y = meadow.top + (1.06 - meadow.top) * depth
    x = rng.uniform(-0.03, ASPECT + 0.03, n)
    tall = meadow.tall * (y - meadow.horizon) / (1 - meadow.horizon) * rng.uniform(0.45, 1.15, n)
    lean = (meadow.wind + rng.normal(0, 0.28, n)) * tall
    place = ((x * 47 + y * 23) % 64).astype(int)
    tone = np.clip(0.45 + 0.16 * tufts[place] + 0.25 * rng.standard_normal(n), 0, 0.999)
    dry = rng.random(n) < 0.10
    root = np.stack([x, y], 1)
    middle = root + np.stack([lean * 0.35, -tall * 0.6], 1)
    tip = root + np.stack([lean, -tall], 1)
    rows, tones = 12, 4
    row, band = (depth * rows).astype(int), (tone * tones).astype(int)
    band[dry] = tones
    for r in range(rows):
        width = meadow.tall * 0.045 * (0.25 + r / rows)
        for k in range(tones + 1):
            chosen = (row == r) & (band == k)
            color = mix(meadow.dark, meadow.light, (k + 0.5) / tones) if k < tones else meadow.straw
            low = np.stack([root[chosen], middle[chosen]], 1).astype(np.float32)
            high = np.stack([middle[chosen], tip[chosen]], 1).astype(np.float32)
            sheet.lines(low, width, color * np.float32(0.62))
            sheet.lines(high, width * 0.6, color)


def paint_flowers(sheet: Strokes, rng: np.random.Generator, meadow: Meadow, count: int, petals: FloatArray) -> None:
    """Flowers of linear colors `petals` [K, 3], in drifts, larger towards the viewer."""
    drifts = rng.uniform(0, ASPECT, 7)
    kind = rng.integers(0, len(petals), count)
    depth = np.sort(rng.random(count) ** 1.2)
    y = meadow.top + (1.0 - meadow.top) * depth
    x = drifts[rng.integers(0, 7, count)] + rng.normal(0, 0.16, count)
    scale = (y - meadow.horizon) / (1 - meadow.horizon) * rng.uniform(0.7, 1.2, count)
    y = y - meadow.tall * scale * rng.uniform(0.55, 1.0, count)
    shade = rng.uniform(0.7, 1.1, count).astype(np.float32)
    petal_light = rng.uniform(0.65, 1.1, (count, 6)).astype(np.float32)
    radius = 0.0085 * scale
    color = petals[kind] * shade[:, None]
    centre = np.stack([x, y], 1)
    far = scale <= 0.45
    sheet.shapes(discs(centre[far], radius[far], 8), color[far])
    near = ~far
    ring = np.array([[-0.9, 0.1], [0.9, 0.0], [0.1, -0.75], [-0.4, 0.7], [0.5, 0.6], [0.0, 0.0]])
    places = centre[near][:, None] + ring * radius[near][:, None, None]
    sizes = radius[near][:, None] * np.array([0.66] * 5 + [0.4])
    tones = np.repeat(color[near][:, None], 6, axis=1)
    tones *= petal_light[near][..., None]
    tones[:, 5] = tones[:, 5] * np.float32(0.35) + np.array([0.25, 0.16, 0.0], np.float32)
    sheet.shapes(discs(places.reshape(-1, 2), sizes.ravel(), 10), tones.reshape(-1, 3))


def paint_ferns(sheet: Strokes, rng: np.random.Generator, feet: FloatArray, span: float, look: Foliage) -> None:
    """Ferns at feet [N, 2] (unit coordinates): arching fronds with leaflets of total height about `span`."""
    fronds, leaflets = (7, 13) if span > 0.06 else (5, 8)
    n = len(feet) * fronds
    root = np.repeat(feet[np.argsort(feet[:, 1], kind="stable")], fronds, axis=0)
    swing = np.tile(np.linspace(-1.25, 1.25, fronds), len(feet)) + rng.normal(0, 0.15, n)
    length = span * rng.uniform(0.55, 1.15, n)
    t = np.linspace(0.10, 1, leaflets)
    # A frond rises and bows over: straight up at the root, sideways at the tip.
    x = root[:, :1] + (np.sin(swing) * length)[:, None] * t**1.3
    y = root[:, 1:] - (np.cos(swing * 0.8) * length)[:, None] * (t - 0.55 * t**2.6 * np.abs(np.sin(swing))[:, None])
    spine = np.stack([x, y], 2).astype(np.float32)
    along = np.gradient(spine, axis=1)
    along /= np.maximum(np.hypot(along[..., 0], along[..., 1]), 1e-6)[..., None]
    normal = np.stack([-along[..., 1], along[..., 0]], 2)
    reach = (length[:, None] * 0.20 * np.sin(np.pi * (0.12 + 0.88 * t)) ** 0.7)[..., None].astype(np.float32)
    tone = np.clip(0.50 + 0.25 * np.cos(swing) + 0.20 * rng.standard_normal(n), 0, 0.999)
    band = (tone * 4).astype(int)
    third = leaflets // 3
    dark_to_tip = [slice(0, third + 1), slice(third, 2 * third + 1), slice(2 * third, leaflets)]
    for k in range(4):
        chosen = band == k
        for part, piece in enumerate(dark_to_tip):
            color = mix(look.dark * np.float32(0.55), look.light, ((k + 0.4) / 4) * (0.45 + 0.3 * part))
            foot = spine[chosen][:, piece]
            sheet.lines(foot, span * 0.014, color * np.float32(0.7))
            for side in (-1.0, 1.0):
                tips = (
                    foot
                    + (normal * np.float32(side) + along * np.float32(0.45))[chosen][:, piece] * reach[chosen][:, piece]
                )
                pairs = np.stack([foot, tips], 2).reshape(-1, 2, 2)
                sheet.lines(pairs, span * 0.022, color * np.float32(1.1 if side > 0 else 0.7))


def paint_litter(
    sheet: Strokes, rng: np.random.Generator, ground: tuple[float, float], count: int, tones: FloatArray
) -> None:
    """Fallen leaves and twigs on a plane from y = ground[0] (its horizon) to 1, `tones` [K, 3], larger when near."""
    top, horizon = ground
    depth = np.sqrt(rng.random(count)) * 0.98 + 0.02
    y = top + (1.02 - top) * depth
    x = rng.uniform(-0.02, ASPECT + 0.02, count)
    scale = (y - horizon) / (1 - horizon)
    turn = rng.uniform(0, np.pi, count)
    along = np.stack([np.cos(turn), 0.4 * np.sin(turn)], 1) * (0.009 * scale * rng.uniform(0.5, 1.3, count))[:, None]
    across = np.stack([-np.sin(turn), 0.4 * np.cos(turn)], 1) * (0.0035 * scale * rng.uniform(0.5, 1.3, count))[:, None]
    centre = np.stack([x, y], 1)
    leaf = np.stack([centre - along, centre + across, centre + along, centre - across], 1).astype(np.float32)
    kind = rng.integers(0, len(tones), count)
    # From far to near in sixty steps, in each the leaves of one color together.
    step = (depth * 60).astype(int) * len(tones) + kind
    order = np.argsort(step, kind="stable")
    edges = np.flatnonzero(np.diff(step[order])) + 1
    for group in np.split(order, edges):
        sheet.shapes(leaf[group], tones[kind[group[0]]], together=len(group))


def paint_sprays(sheet: Strokes, rng: np.random.Generator, tips: FloatArray, leaf: float, look: Foliage) -> None:
    """Hanging boughs: each of tips [N, 4] is a twig from (x0, y0) to (x1, y1) with leaves along it.

    A `leaf` (length, unit) under 0.02 is a needle: slimmer, and more of them.
    """
    n, per, slim = len(tips), (60 if leaf < 0.02 else 26), (0.09 if leaf < 0.02 else 0.27)
    t = np.sort(rng.random((n, per)), axis=1)
    sag = 0.25 * np.hypot(tips[:, 2] - tips[:, 0], tips[:, 3] - tips[:, 1])
    x = tips[:, :1] + (tips[:, 2:3] - tips[:, :1]) * t
    y = tips[:, 1:2] + (tips[:, 3:] - tips[:, 1:2]) * t + sag[:, None] * t * t
    sheet.lines(np.stack([x, y], 2).astype(np.float32), leaf * 0.16, look.dark * np.float32(0.5))
    turn = rng.normal(0.5 * np.pi, 0.9, (n, per))
    reach = leaf * rng.uniform(0.6, 1.2, (n, per))
    base = np.stack([x, y], 2)
    way = np.stack([np.cos(turn), np.sin(turn)], 2)
    side = np.stack([-way[..., 1], way[..., 0]], 2) * (reach * slim)[..., None]
    tip = base + way * reach[..., None]
    belly = base + way * (reach * 0.45)[..., None]
    outline = np.stack([base, belly + side, tip, belly - side], 2).reshape(-1, 4, 2).astype(np.float32)
    tone = np.clip(rng.beta(1.6, 1.8, n * per), 0, 0.999)
    for k in range(6):
        sheet.shapes(outline[(tone * 6).astype(int) == k], mix(look.dark, look.light, (k / 5) ** 1.5))
