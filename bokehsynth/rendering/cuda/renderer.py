"""The CUDA renderer: the definition of the picture on a GPU, a batch of scenes at a time.

Per tile, as on the CPU: a layer in focus is copied; a blurred one is filtered by the table of weights that all rays of
a pixel collapse to; the means are composited; where layers vary together a small set of rays adds what means miss;
tiles in which layers change order, height fields, and openings that change over the field are traced ray by ray. The
kernels are in `kernels/`; nothing comes back to the host between them. Sums are never reordered: the same bytes for
the same device and versions, whatever shares the batch.
"""

import logging
import threading
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np

from bokehsynth.errors import DeviceError
from bokehsynth.rendering.aperture.tables import RaySet, tables_of
from bokehsynth.rendering.cuda import device as cuda_device
from bokehsynth.rendering.cuda.batch import Batch, DeviceOutput, ray_set
from bokehsynth.rendering.cuda.device import Device
from bokehsynth.rendering.cuda.encoding import encode_on_device
from bokehsynth.rendering.cuda.lanes import Lanes, Part
from bokehsynth.rendering.cuda.layer_cache import LayerCache
from bokehsynth.rendering.cuda.structs import TILE, TILE_W
from bokehsynth.rendering.types import ByteArray, CodeTable, FloatArray, RenderInput, RenderOutput, small_scene

LOG = logging.getLogger(__name__)

T = TypeVar("T")

Take = Callable[[Device, Sequence[RenderInput], "list[DeviceOutput]"], "list[T]"]
"""Makes of a batch's outputs on the device what is wanted of them."""

CUDA_ERROR_OUT_OF_MEMORY = 2
"""Status of a CUDA error, of driver and runtime alike, where there is no memory for what is no array: a context, a
kernel's stack. Nothing is broken then."""

LASTING_CUDA_ERRORS = frozenset({46, 100, 101, 201, 214, 219, 220, 226, 304, 999}) | frozenset(range(700, 721)) - {701}
"""Status of errors after which every later call of the process fails: the device is gone, or its context broken.
Others, as 9 (invalid configuration) and 701 (too many resources for a launch), are the fault of one call."""

_TURN = threading.Lock()
"""One batch at a time."""


def render_scene(scene: RenderInput, samples: int | None) -> RenderOutput:
    """Render one scene as `render_scenes` does."""
    return render_scenes([scene], samples)[0]


def render_scenes(scenes: Sequence[RenderInput], samples: int | None = None) -> list[RenderOutput]:
    """Render scenes of any sizes; rays, where they are needed, number at least `samples`, None chooses by the radii.

    Where the device's memory does not hold the batch, layers kept from earlier ones are let go; then it is halved as
    often as needed; both with a warning in the log. Raises UsageError for an aperture with `aberration`, and
    DeviceError if one scene alone is too large, or, with `lost` set, if the device fails.
    """
    return _retry_out_of_memory(scenes, samples, _each(_fetch))


def render_pictures(scenes: Sequence[RenderInput], samples: int | None = None) -> list[FloatArray]:
    """The colour of `render_scenes` alone, float32 [H, W, 3]: a fifth less comes back from the device."""
    return _retry_out_of_memory(scenes, samples, _each(lambda device, scene, made: device.get(made.color)))


def render_encoded(scenes: Sequence[RenderInput], samples: int | None, table: CodeTable) -> list[ByteArray | None]:
    """The pictures of `render_scenes` as codes, uint8 [H, W, 3], encoded on the device: a quarter of the bytes.

    None for a picture with values that are not finite.
    """
    return _retry_out_of_memory(
        scenes,
        samples,
        lambda device, scenes, made: encode_on_device(cache_of(device), [each.color for each in made], table),
    )


def render_sharp(scenes: Sequence[RenderInput], table: CodeTable | None) -> list[Any]:
    """The all-in-focus pictures as `render_pictures` or `render_encoded` make them, once for all views of a scene.

    Scenes with the same layers and margin share one read-only array, also those of later calls while the layers live.
    """
    shared, new = _sharp_known(scenes, table)
    pinholes = [scene.all_in_focus() for scene in new]
    made: list[Any] = render_pictures(pinholes, 1) if table is None else render_encoded(pinholes, 1, table)
    return _sharp_of(scenes, shared, new, made, table)


def start_pictures(
    through_lens: Sequence[RenderInput], scenes: Sequence[RenderInput], table: CodeTable | None
) -> "Callable[[], tuple[list[Any], list[Any]]]":
    """Start pictures through the lens of some scenes, and the sharp ones of all; the result, called once, fetches them.

    They are what `render_pictures` or `render_encoded`, and `render_sharp`, give. Others can be started before: two
    of them overlap. Raises what those raise, now or then; what does not fit into memory is made by them.
    """
    device = cuda_device.the_device()
    shared, new = _sharp_known(scenes, table)

    def one_by_one() -> tuple[list[Any], list[Any]]:
        one: list[Any] = render_pictures(through_lens) if table is None else render_encoded(through_lens, None, table)
        return one, render_sharp(scenes, table)

    try:
        with _TURN:
            parts = [Part(through_lens, None), Part([scene.all_in_focus() for scene in new], 1)]
            flight = _lanes_of(device).start([part for part in parts if part.scenes], table)
    except device.out_of_memory:
        return one_by_one
    except device.broken as error:
        if getattr(error, "status", None) != CUDA_ERROR_OUT_OF_MEMORY:
            raise _failed(error) from error
        return one_by_one

    def land() -> tuple[list[Any], list[Any]]:
        try:
            made = iter(flight.land())
        except device.broken as error:
            raise _failed(error) from error
        blurred = next(made) if through_lens else []
        return blurred, _sharp_of(scenes, shared, new, next(made) if new else [], table)

    return land


def _sharp_known(scenes: Sequence[RenderInput], table: CodeTable | None) -> tuple[dict[Any, Any], list[RenderInput]]:
    """Sharp pictures that are kept, by layers and margin, and one scene for each of the others."""
    kept, encode = cache_of(cuda_device.the_device()).sharp, None if table is None else table.encode
    shared: dict[Any, Any] = {}
    for scene in scenes:
        if (found := kept.find(scene, encode)) is not None:
            shared[scene.layers, scene.margin] = found
    new = {(scene.layers, scene.margin): scene for scene in scenes if (scene.layers, scene.margin) not in shared}
    return shared, list(new.values())


def _sharp_of(
    scenes: Sequence[RenderInput], shared: dict[Any, Any], new: Sequence[RenderInput], made: Sequence[Any],
    table: CodeTable | None,
) -> list[Any]:  # fmt: skip
    """The sharp picture of each scene; those that are `made` of the `new` ones are kept."""
    kept, encode = cache_of(cuda_device.the_device()).sharp, None if table is None else table.encode
    for scene, picture in zip(new, made, strict=True):
        kept.keep(scene, encode, picture)
        shared[scene.layers, scene.margin] = picture
    return [shared[scene.layers, scene.margin] for scene in scenes]


def render_scenes_on_device(scenes: Sequence[RenderInput], samples: int | None = None) -> list[DeviceOutput]:
    """`render_scenes` whose pictures stay on the device, for a consumer that lives there."""
    return _retry_out_of_memory(scenes, samples, lambda device, scenes, made: made)


def brute_force(scene: RenderInput, rays: int | RaySet) -> RenderOutput:
    """Render by plain rays alone: every ray meets every layer. The oracle of the other kernels.

    `rays`: the side of a grid, or a table.
    """
    device = cuda_device.the_device()
    table = tables_of(scene.lens.aperture).rays(rays) if isinstance(rays, int) else rays
    with _TURN:
        batch = Batch(cache_of(device), [scene], [table])
        batch.trace_all()
        made = batch.outputs[0]
        return RenderOutput(device.get(made.color), device.get(made.coverage))


def prepare(scenes: Sequence[RenderInput], samples: int | None = None) -> Batch:
    """Upload a batch that is still to be rendered."""
    return Batch(cache_of(cuda_device.the_device()), scenes, [ray_set(scene, samples) for scene in scenes])


_CACHES: dict[Any, LayerCache] = {}
_LANES: dict[Any, Lanes] = {}


def cache_of(device: Device) -> LayerCache:
    """Return the layer cache of a device."""
    if device not in _CACHES:
        _CACHES[device] = LayerCache(device)
    return _CACHES[device]


def _lanes_of(device: Device) -> Lanes:
    if device not in _LANES:
        _LANES[device] = Lanes(cache_of(device))
    return _LANES[device]


def _failed(error: Exception) -> DeviceError:
    """What a CUDA error means: with `lost` set, that every later call of this process fails too."""
    if getattr(error, "status", 999) not in LASTING_CUDA_ERRORS:
        return DeviceError(
            f"the GPU refused a call ({type(error).__name__}: {error}) that these kernels should never make; use "
            "--device cpu, and report this line with the recipe or scene"
        )
    found = DeviceError(
        f"the GPU failed ({type(error).__name__}: {error}); this process cannot use it any more. Look at `nvidia-smi` "
        "and the kernel's log, then run the same line again"
    )
    found.lost = True
    return found


def _retry_out_of_memory(scenes: Sequence[RenderInput], samples: int | None, take: "Take[T]") -> list[T]:
    """What `take` makes of the outputs, rendering as many scenes at a time as the memory holds."""
    device = cuda_device.the_device()
    for _ in range(2):
        with _TURN:
            try:
                return take(device, scenes, _render_batch(scenes, samples))
            except device.out_of_memory as error:
                problem = str(error)
            except device.broken as error:
                if getattr(error, "status", None) != CUDA_ERROR_OUT_OF_MEMORY:
                    raise _failed(error) from error
                problem = str(error)
            kept = cache_of(device).evictable_besides(layer for scene in scenes for layer in scene.layers)
            cache_of(device).clear()
        if kept:
            LOG.warning("out of GPU memory: %d layers kept from earlier batches are let go", kept)
        elif len(scenes) > 1:
            break
    if len(scenes) == 1:
        raise DeviceError(
            f"one frame of {scenes[0].height} x {scenes[0].width} px with {len(scenes[0].layers)} layers does not fit "
            f"into the GPU's memory ({problem}); make it smaller, let fewer processes share the GPU, or use --device "
            "cpu"
        )
    half = len(scenes) // 2
    LOG.warning("out of GPU memory: a batch of %d is halved to %d", len(scenes), len(scenes) - half)
    return _retry_out_of_memory(scenes[:-half], samples, take) + _retry_out_of_memory(scenes[-half:], samples, take)


def _render_batch(scenes: Sequence[RenderInput], samples: int | None) -> list[DeviceOutput]:
    if not scenes:
        return []
    batch = prepare(scenes, samples)
    batch.render()
    return batch.outputs


def _each(take: Callable[[Device, RenderInput, DeviceOutput], T]) -> "Take[T]":
    """The same of each output by itself."""
    return lambda device, scenes, made: [take(device, *each) for each in zip(scenes, made, strict=True)]


def _fetch(device: Device, scene: RenderInput, made: DeviceOutput) -> RenderOutput:
    color, coverage = device.get(made.color), device.get(made.coverage)
    columns = -(-scene.width // TILE_W)
    paths = device.get(made.tiles).view(TILE)["path"].reshape(-1, columns).astype(np.uint8)
    return RenderOutput(color, coverage, np.repeat(paths, 2, axis=1)[:, : -(-scene.width // 16)])


def warm_up() -> None:
    """Compile every kernel, so that spawned workers only load them."""
    render_scene(small_scene(), None)
