"""The light of a part of an opening, as a share of that of the whole."""

import numpy as np

from bokehsynth.errors import UsageError
from bokehsynth.optics import Aperture
from bokehsynth.optics.pupil_parts import PupilPart, all_parts
from bokehsynth.rendering.aperture import footprint_kernel
from bokehsynth.rendering.aperture.field_light import light_integral, light_on_lattice
from bokehsynth.rendering.aperture.footprint_kernel import UNVIGNETTED
from bokehsynth.rendering.aperture.pupil import has_pupil, lattice_step, pupils_at
from bokehsynth.rendering.aperture.tables import FieldLensTables, tables_of
from bokehsynth.rendering.types import Float64Array, FloatArray, RenderInput


def part_light(scene: RenderInput) -> FloatArray:
    """Light through the part of an opening that is the scene's lens, over that through the whole, for R, G and B.

    float32 [H, W, 3], or [1, 1, 3] where it is the same all over the picture. The shares of all parts add up to 1;
    where no light passes they are 0. Raises UsageError for a lens whose opening is no part of another.
    """
    part = scene.lens.aperture
    if not isinstance(part, PupilPart):
        raise UsageError(f"{type(part).__name__} is no part of an opening: make one by part_of or halves_of")
    return lights_of(scene, part)[part.number]


def lights_of(scene: RenderInput, part: PupilPart) -> list[FloatArray]:
    """`part_light` of a part and of all the others, row by row."""
    lights = [_light(each, scene) for each in all_parts(part)]
    total = sum(lights)  # not the whole's own integral, so that what each is off by cancels
    shares = [np.divide(light, total, out=np.zeros_like(light), where=total > 0) for light in lights]
    return [np.broadcast_to(share, (*share.shape[:2], 3)).astype(np.float32) for share in shares]


def _light(aperture: Aperture, scene: RenderInput) -> Float64Array:
    """Integral of what passes at each pixel: [H, W, C] or [1, 1, C]; its scale is that of `Aperture.weight`."""
    tables = tables_of(aperture)
    if isinstance(tables, FieldLensTables):
        table = tables.field_table(scene.width, scene.height)
        x, y = (np.arange(side, dtype=np.float64) for side in (scene.width, scene.height))
        return light_on_lattice(table, light_integral(table), x, y)
    brightness = 1.0 if not tables.uniform else float(np.asarray(aperture.weight(tables.grid(2).points[:1])).flat[0])
    if not has_pupil(aperture):
        return brightness * footprint_kernel.passed_light(tables.opening, UNVIGNETTED)[:, None]
    step = lattice_step(scene)
    x, y = (np.arange(-(-side // step) + 1, dtype=np.float64) * step for side in (scene.width, scene.height))
    pupils = pupils_at(scene, *(a.ravel() for a in np.meshgrid(x, y)))
    lattice = footprint_kernel.passed_light(tables.opening, pupils).reshape(len(y), len(x), -1)
    i, u = np.divmod(np.arange(scene.width), step)
    j, v = np.divmod(np.arange(scene.height), step)
    u, v = u[None, :, None] / step, v[:, None, None] / step
    upper = lattice[j][:, i] * (1 - u) + lattice[j][:, i + 1] * u
    lower = lattice[j + 1][:, i] * (1 - u) + lattice[j + 1][:, i + 1] * u
    return brightness * np.asarray(upper * (1 - v) + lower * v, np.float64)
