"""A face as a height field under a soft light, with eyes, brows, a mouth and now and then a beard or glasses."""

import numpy as np

from bokehsynth.procedural.foregrounds.brush import Canvas, blend
from bokehsynth.procedural.foregrounds.curves import ellipse, lattice_noise, opened, ribbon
from bokehsynth.procedural.foregrounds.eyes import paint_brow, paint_eye, paint_glasses
from bokehsynth.procedural.foregrounds.light import gloss, lit, normals, relief, rim, upsample
from bokehsynth.procedural.foregrounds.patch import Patch
from bokehsynth.procedural.foregrounds.person import EYE_X, MOUTH_Y, NOSE_Y, Face
from bokehsynth.procedural.toolkit import FloatArray, Points, smoothstep


def paint_face(canvas: Canvas, face: Face, cells: FloatArray, rng: np.random.Generator) -> None:
    """Ears, skin, eyes, brows, nose, mouth; then beard and glasses."""
    _ears(canvas, face)
    patch = canvas.fill(face.outline())
    form = _sculpt(patch, face)
    canvas.over(patch, _skin(patch, form, face, cells))
    _nose(canvas, face)
    if face.beard:
        _beard(canvas, face, patch, rng)
    _mouth(canvas, face)
    for side in (-1.0, 1.0):
        paint_eye(canvas, face, side)
        paint_brow(canvas, face, side, rng)
    if face.glasses:
        paint_glasses(canvas, face)


def _bump(x: FloatArray, y: FloatArray, center: Points, radii: tuple[float, float]) -> FloatArray:
    field = np.exp(-(((x - center[0]) / radii[0]) ** 2) - ((y - center[1]) / radii[1]) ** 2)
    return np.asarray(field, np.float32)


def _sculpt(patch: Patch, face: Face) -> FloatArray:
    """Unit normals [h, w, 3] of the head: an egg with a nose, sockets, cheeks, lips and a chin."""
    grid = 200
    x = np.linspace(float(patch.x[0, 0]), float(patch.x[0, -1]), grid, dtype=np.float32)[None, :]
    y = np.linspace(float(patch.y[0, 0]), float(patch.y[-1, 0]), grid, dtype=np.float32)[:, None]
    egg = 1 - (x / (face.width * 1.05)) ** 2 - np.where(y < 0, (y / 1.12) ** 2, (y / 1.22) ** 2)
    z = 0.62 * np.sqrt(np.maximum(egg, 0.02))
    for cx, cy, rx, ry, high in (
        (0.0, 0.18, 0.085, 0.26, 0.07), (0.0, NOSE_Y - 0.04, 0.105, 0.095, 0.13), (0.10, NOSE_Y, 0.06, 0.06, 0.035),
        (-0.10, NOSE_Y, 0.06, 0.06, 0.035), (EYE_X, 0.05, 0.22, 0.13, -0.055), (-EYE_X, 0.05, 0.22, 0.13, -0.055),
        (0.40, 0.36, 0.20, 0.17, 0.055), (-0.40, 0.36, 0.20, 0.17, 0.055), (0.0, MOUTH_Y - 0.045, 0.17, 0.045, 0.030),
        (0.0, MOUTH_Y + 0.055, 0.14, 0.05, 0.038), (0.0, MOUTH_Y + 0.14, 0.14, 0.045, -0.022),
        (0.0, 0.92, 0.18, 0.12, 0.045), (0.24, -0.18, 0.26, 0.07, 0.018), (-0.24, -0.18, 0.26, 0.07, 0.018),
    ):  # fmt: skip
        z += np.float32(high) * _bump(x, y, face.at(cx, cy), (rx, ry))
    step_x, step_y = float(x[0, 1] - x[0, 0]) or 1.0, float(y[1, 0] - y[0, 0]) or 1.0
    down, across = np.gradient(z, step_y, step_x)
    return upsample(normals(across, down), patch)


def _skin(patch: Patch, form: FloatArray, face: Face, cells: FloatArray) -> FloatArray:
    """Skin under the light: light bleeds red across the terminator, cheeks and nose are warmer, pores are fine."""
    albedo = np.broadcast_to(face.skin.astype(np.float32), form.shape)
    warm = np.zeros(form.shape[:2], np.float32)
    for cx, cy, rx, ry, share in (
        (0.42, 0.40, 0.22, 0.17, 0.55),
        (-0.42, 0.40, 0.22, 0.17, 0.55),
        (0.0, NOSE_Y - 0.02, 0.12, 0.12, 0.40),
        (0.0, 0.95, 0.2, 0.1, 0.15),
    ):
        warm += np.float32(share * (0.6 if face.masculine else 0.9)) * _bump(
            patch.x, patch.y, face.at(cx, cy), (rx, ry)
        )
    mottle = 1 + 0.012 * lattice_noise(cells, patch.x, patch.y, (22.0, 22.0), 2)
    albedo = albedo + (face.blush - face.skin).astype(np.float32) * np.clip(warm, 0, 1)[..., None]
    if face.masculine:
        stubble = smoothstep(0.45, 0.75, patch.y + 0.25 * np.abs(patch.x)) * np.ones_like(patch.x)
        albedo = albedo * (1 - np.float32(0.13) * stubble[..., None])
    paint = lit(form, albedo * mottle[..., None], face.light, 0.38)
    terminator = _bump(
        form @ face.light.key.astype(np.float32), np.zeros((), np.float32), np.array([0.05, 0.0]), (0.30, 1.0)
    )
    paint += (0.10 * terminator)[..., None] * face.blush.astype(np.float32)
    paint += 0.07 * gloss(form, face.light, 14)[..., None] + 0.9 * rim(form, face.light, 2.6) * face.skin.astype(
        np.float32
    )
    return np.asarray(paint, np.float32)


def _ears(canvas: Canvas, face: Face) -> None:
    for side in (-1.0, 1.0):
        center = np.array([side * (face.width + 0.015) - 0.25 * face.turn, 0.16])
        ear = canvas.fill(ellipse(center, (0.115, 0.225), side * 0.16))
        canvas.over(ear, lit(relief(ear, 0.09), blend((face.skin, face.blush), 0.30), face.light, 0.35) * 0.9)
        inner = canvas.soft(ellipse(center, (0.05, 0.12), side * 0.16), 0.07)
        canvas.darken(inner.within(ear), 0.5, face.blush)


def _nose(canvas: Canvas, face: Face) -> None:
    """The shadow under the tip and the nostrils, kept soft."""
    tip = face.at(0.0, NOSE_Y)
    shade = ellipse(tip + (-face.light.key[0] * 0.07, 0.075), (0.13, 0.035))
    canvas.darken(canvas.soft(shade, 0.09), 0.32, face.blush * 0.6)
    for side in (-1.0, 1.0):
        hole = ellipse(tip + (side * 0.058, 0.048), (0.030, 0.014), side * 0.35)
        canvas.darken(canvas.soft(hole, 0.028), 0.72, face.blush * 0.4)
    glint = canvas.soft(ellipse(tip + (face.light.key[0] * 0.035, -0.075), (0.028, 0.036)), 0.045)
    canvas.add(glint, face.light.key_color, 0.13)


def _mouth(canvas: Canvas, face: Face) -> None:
    """Closed lips with a hint of a smile."""
    lips = blend((face.skin, face.blush), 1.0) * (0.85 if face.masculine else 0.72) * (1, 0.72, 0.75)
    half, up = 0.195 + 0.035 * face.smile, 0.068 * face.smile
    full = 0.8 if face.masculine else 1.1
    seam = opened([(-half, -up), (-half * 0.5, 0.012), (0, 0.002), (half * 0.5, 0.012), (half, -up)], 8)
    bow = [(half * 0.45, -0.050), (0.05, -0.068), (0, -0.055), (-0.05, -0.068), (-half * 0.45, -0.050)]
    belly = [(half * 0.5, 0.070), (0, 0.092), (-half * 0.5, 0.070)]
    top, low = (opened([(half, -up), *((x, y * full) for x, y in lip), (-half, -up)], 8) for lip in (bow, belly))
    middle = face.at(0.0, MOUTH_Y)
    canvas.darken(canvas.soft(ellipse(middle + (0, 0.135), (0.13, 0.018)), 0.07), 0.25, face.blush)
    for edge, tilt, tone in ((top, 0.35, 0.82), (low, -0.30, 1.05)):
        patch = canvas.fill(np.concatenate([seam, edge]) + middle)
        form = relief(patch, 0.05)
        form[..., 1] += np.float32(tilt)
        form /= np.linalg.norm(form, axis=-1, keepdims=True)
        canvas.over(
            patch, lit(form, lips * tone, face.light, 0.4) + 0.10 * gloss(form, face.light, 20)[..., None], 0.88
        )
    line = ribbon(seam + middle, 0.009 * np.sin(np.linspace(0.5, np.pi - 0.5, len(seam))) + 0.003)
    canvas.over(canvas.fill(line), lips * 0.16, 0.9)
    for side in (-1.0, 1.0):
        corner = canvas.soft(ellipse(middle + (side * (half + 0.012), -up), (0.022, 0.018)), 0.04)
        canvas.darken(corner, 0.4, face.blush)


def _beard(canvas: Canvas, face: Face, skin: Patch, rng: np.random.Generator) -> None:
    """Short hair on jaw, chin and upper lip, growing downward."""
    count = 900
    x = rng.uniform(-0.68, 0.68, count)
    jaw_line = 0.30 + 0.42 * np.clip(1 - (np.abs(x) / 0.62) ** 2.5, 0, 1)
    y = jaw_line + rng.random(count) * np.maximum(1.08 - 0.42 * np.abs(x) ** 1.5 - jaw_line, 0.02)
    lip = rng.random(count) < 0.22
    x = np.where(lip, rng.uniform(-0.25, 0.25, count), x)
    y = np.where(lip, rng.uniform(0.545, 0.60, count) + 0.45 * x**2, y)
    inside = np.abs(x) < np.interp(y, [0.2, 0.55, 0.88, 1.05], [face.width * 0.97, face.width * 0.86, 0.50, 0.25])
    mouth = (np.abs(x) < 0.25) & (np.abs(y - MOUTH_Y - 0.01) < 0.085) & ~lip
    order = np.argsort(-y)
    order = order[(inside & ~mouth)[order]]
    roots = np.stack([x + face.turn * (1 - np.abs(x)), y], -1)[order]
    out = np.stack([0.35 * x, np.full(count, 1.0)], -1)[order] + rng.normal(0, 0.18, (count, 2))[order]
    t = np.linspace(0, 1, 4)[None, :, None]
    across = roots[:, 0]
    normal = np.stack([across, np.full(len(roots), 0.3), np.sqrt(np.clip(0.9 - across**2, 0.1, 1))], -1)
    tone = np.clip(normal @ face.light.key * 0.9 + 0.35, 0.15, 2) * np.exp(rng.normal(0, 0.2, count))[order]
    soft = np.concatenate(
        [
            [(-0.70, 0.32), (-0.42, 0.60), (-0.2, 0.80), (0.2, 0.80), (0.42, 0.60), (0.70, 0.32)],
            [(0.58, 0.80), (0.2, 1.08), (-0.2, 1.08), (-0.58, 0.80)],
        ]
    )
    canvas.over(canvas.soft(soft + (face.turn * 0.6, 0), 0.10).within(skin), face.hair * 0.45, 0.72)
    canvas.strands(roots[:, None] + out[:, None] * t * 0.10, 0.015, face.hair * tone[:, None])
