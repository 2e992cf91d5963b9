"""One definition of the picture, several backends: `reference` (float64, obviously right), `cpu` (Numba), `cuda`.

This package knows layers and lenses, and no files, recipes or random numbers.
"""

import logging
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from bokehsynth.errors import DeviceError, UsageError
from bokehsynth.numba_cache import is_kept
from bokehsynth.optics import Lens
from bokehsynth.optics.layer import Layer
from bokehsynth.rendering.aperture.lens_points import unbaked_part
from bokehsynth.rendering.frames import Frames
from bokehsynth.rendering.half_pictures import is_half
from bokehsynth.rendering.types import Backend, CodeTable, Encode, RenderInput, RenderOutput

BACKENDS = ("auto", "cpu", "cuda", "reference")

PATHS = ("copy", "taps", "runs", "together", "rays")
"""How a tile was made (`Frames.paths` holds the index): nothing is blurred, the all-in-focus pixels; blurred by kernels
tap by tap; by kernels with prefix sums; either, plus rays for layers that vary together; rays alone, where layers
change order."""


def render(
    layers: Sequence[Layer], lens: Lens, margin: int, backend: str = "auto", samples: int | None = None
) -> Frames:
    """Render layers seen through a lens.

    `layers` near to far (the order decides ties), all on one canvas [H + 2*margin, W + 2*margin]; the picture is its
    centre. `auto` is cuda where it works and knows the lens, else cpu. `samples` is the number of rays per pixel; None
    means training quality, no larger RMSE than 51 x 51 rays.
    Returns Frames: float32 NumPy pictures [H, W, 3] in linear light and maps [H, W], computed when first read.

    Raises UsageError where the input cannot be rendered (shapes, a margin the rays would leave, a plane too steep for
    the lens) and DeviceError for a backend that is not there.
    """
    scene = _checked(layers, lens, margin)
    _check_samples(samples)
    if backend == "auto" and unbaked_part(lens.aperture):
        backend = "cpu"
    return Frames(scene, _backend(backend), samples)


def render_views(
    layers: Sequence[Layer], lenses: Sequence[Lens], margin: int, backend: str = "auto", samples: int | None = None
) -> list[Frames]:
    """Render one scene through several lenses: what `render` gives for each, to the bit.

    What does not depend on the lens is made once: the packed layers and their bounds, and on cuda the copy on the
    device. Raises what `render` raises.
    """
    return render_batch([_View(layers, lens, margin) for lens in lenses], backend, samples)


class _View(NamedTuple):
    layers: Sequence[Layer]
    lens: Lens
    margin: int


class Scene(Protocol):
    """What is rendered; the arguments of `render` in one piece."""

    @property
    def layers(self) -> Sequence[Layer]:
        """Near to far."""

    @property
    def lens(self) -> Lens:
        """The lens they are seen through."""

    @property
    def margin(self) -> int:
        """Overscan of the canvas in pixels."""


def render_batch(
    scenes: Sequence[Scene], backend: str = "auto", samples: int | None = None, codes: CodeTable | None = None
) -> list[Frames]:
    """Render several scenes of any sizes: what `render` gives for each.

    On cuda their `bokeh` and `all_in_focus` are made at once, by shared launches, the latter once for all scenes of the
    same layers, which share its array, read-only; nothing else comes back from the device, and `coverage` or `paths`
    render the scene again when first read; halves of an opening are rendered when first read. With `codes` pictures
    come back encoded by that table, a quarter of the bytes, for `bokeh_by(codes.encode)` and its like, and it is the
    linear ones that render the scene again. Raises what `render` raises.
    """
    unknown = backend == "auto" and any(unbaked_part(scene.lens.aperture) for scene in scenes)
    if backend not in BACKENDS or backend == "reference" or unknown or resolve_device(backend) == "cpu":
        return [render(scene.layers, scene.lens, scene.margin, backend, samples) for scene in scenes]
    from bokehsynth.rendering.cuda import renderer as cuda

    _check_samples(samples)
    inputs = [_checked(scene.layers, scene.lens, scene.margin) for scene in scenes]
    lazy = [is_lazy(scene) for scene in inputs]
    through_lens = [scene for scene, later in zip(inputs, lazy, strict=True) if scene.lens.blur > 0 and not later]
    made: list[Any]
    if codes is None:
        made = cuda.render_pictures(through_lens, samples)
    else:
        made = cuda.render_encoded(through_lens, samples, codes)
    return _frames_of(inputs, lazy, made, cuda.render_sharp(inputs, codes), (samples, codes))


def begin_batch(scenes: Sequence[Scene], backend: str, codes: CodeTable | None) -> Callable[[], list[Frames]]:
    """Begin what `render_batch` does on `cpu` or `cuda`; the result, called once, gives it.

    On cuda another batch can be begun before that: its layers go up, and these pictures come down, while kernels run.
    Elsewhere nothing is done before the call. Raises what `render_batch` raises, now or then.
    """
    if resolve_device(backend) != "cuda":
        return lambda: render_batch(scenes, backend, codes=codes)
    from bokehsynth.rendering.cuda import renderer as cuda

    inputs = [_checked(scene.layers, scene.lens, scene.margin) for scene in scenes]
    lazy = [is_lazy(scene) for scene in inputs]
    through_lens = [scene for scene, later in zip(inputs, lazy, strict=True) if scene.lens.blur > 0 and not later]
    fetch = cuda.start_pictures(through_lens, inputs, codes)
    return lambda: _frames_of(inputs, lazy, *fetch(), (None, codes))


def _frames_of(
    inputs: Sequence[RenderInput], lazy: Sequence[bool], made: Sequence[Any], sharp: Sequence[Any],
    how: tuple[int | None, CodeTable | None],
) -> list[Frames]:  # fmt: skip
    """The frames of scenes whose pictures a device has made, those through a lens without the lazy ones."""
    samples, codes = how
    blurred, chosen, encode = iter(made), _backend("cuda"), None if codes is None else codes.encode
    frames = []
    for scene, later, pinhole in zip(inputs, lazy, sharp, strict=True):
        picture = pinhole if scene.lens.blur == 0 else None if later else next(blurred)
        frames.append(Frames(scene, chosen, samples, (picture, pinhole), encode))
    return frames


def render_output(scene: RenderInput, backend: str, samples: int | None) -> RenderOutput:
    """What a backend gives of one scene; a half of an opening is rendered by itself, not as a share of the whole."""
    return _backend(backend).render_scene(scene, samples)


def frames_made_elsewhere(
    scene: RenderInput,
    pictures: Sequence[Any],
    encode: Encode | None,
    render_scene: Callable[[RenderInput, int | None], RenderOutput],
) -> Frames:
    """What `render_batch` gives for a scene whose `pictures` another process has made: `bokeh` and `all_in_focus`.

    With `encode` they are codes as it makes them. `render_scene` is `render_output` there: what else is read of them is
    rendered by it, `bokeh` of a half of an opening, too (`is_lazy`).
    """
    from bokehsynth.rendering.aperture.pupil import transmission

    if is_lazy(scene):
        pictures = (None, *pictures[1:])
    return Frames(scene, Backend(render_scene, transmission), None, pictures, encode)


def is_lazy(scene: RenderInput) -> bool:
    """Whether a picture is made only when it is read: it is shared out of that through another lens."""
    return scene.lens.blur > 0 and is_half(scene.lens.aperture)


def resolve_device(name: str) -> str:
    """The device that `auto` stands for here, or `name` itself; a DeviceError if it is not there."""
    if name not in {"auto", "cpu", "cuda"}:
        raise DeviceError(f"unknown device {name!r}; choose auto, cpu or cuda")
    if name == "cuda":
        from bokehsynth.rendering.cuda import device as cuda_device

        cuda_device.the_device()
    return _best_device() if name == "auto" else name


def describe_device(name: str) -> dict[str, str]:
    """What pixels depend on besides versions and the CPU: of cuda the GPU and its compiler, of cpu nothing."""
    from bokehsynth.rendering.cuda import device as cuda_device

    return cuda_device.the_device().description() if name == "cuda" else {}


def keeps_kernels() -> bool:
    """Whether the kernels of cpu, once compiled, can be kept for other processes."""
    return is_kept(Path(__file__).parent)


@lru_cache(maxsize=1)
def _best_device() -> str:
    """cuda where it works. Where there is a GPU that does not, the log says why it is left alone."""
    from bokehsynth.rendering.cuda import device as cuda_device

    try:
        cuda_device.the_device()
    except DeviceError as error:
        if cuda_device.has_gpu():
            logging.getLogger(__name__).warning("a GPU is there and the CPU is used: %s", error)
        return "cpu"
    return "cuda"


def _backend(name: str) -> Backend:
    if name not in BACKENDS:
        raise UsageError(f"unknown backend {name!r}; choose one of {', '.join(BACKENDS)}")
    if name == "reference":
        from bokehsynth.rendering import reference
        from bokehsynth.rendering.aperture.lens_points import transmission_map

        return Backend(reference.render_scene, transmission_map, partitions=True)
    device = resolve_device(name)
    from bokehsynth.rendering.aperture.pupil import transmission

    if device == "cuda":
        from bokehsynth.rendering.cuda import renderer as cuda

        return Backend(cuda.render_scene, transmission)
    from bokehsynth.rendering.cpu import renderer as cpu

    return Backend(cpu.render_scene, transmission)


def _check_samples(samples: int | None) -> None:
    if samples is not None and samples < 1:
        raise UsageError(f"samples must be at least 1, or None for training quality; got {samples}")


def _checked(layers: Sequence[Layer], lens: Lens, margin: int) -> RenderInput:
    if not layers:
        raise UsageError("render needs at least one layer")
    shapes = {layer.shape for layer in layers}
    if len(shapes) > 1:
        raise UsageError(f"all layers must share one canvas size, got {sorted(shapes)}")
    if margin < 0 or int(margin) != margin:
        raise UsageError(f"margin must be a whole number of pixels >= 0, got {margin}")
    scene = RenderInput(tuple(layers), lens, int(margin))
    if min(scene.height, scene.width) < 1:
        raise UsageError(f"a margin of {margin} px leaves no picture of a {layers[0].shape} canvas")
    needed = lens.margin([layer.disparity for layer in layers], scene.width, scene.height)
    if lens.blur > 0 and margin < needed:
        raise UsageError(
            f"margin {margin} px is too small: rays of this lens reach {needed} px beyond the picture; "
            f"compose the layers on a canvas with margin >= {needed}, or lower the blur"
        )
    return scene
