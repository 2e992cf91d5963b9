"""The stages of `benchmarks.gpu_session`, each a process: `python -m benchmarks.gpu_stages NAME`.

A stage writes what it found to the file $RESULT after each row. With GPU_SESSION_DRY in the environment it takes the
kernels compiled for the host, and toy networks on the CPU: that shows that it runs, and no number of it means anything.
"""

import argparse
import importlib
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

DRY = bool(os.environ.get("GPU_SESSION_DRY"))
MODULES = (
    "numpy", "numba", "cv2", "PIL", "pydantic", "webdataset", "pymatting", "OpenEXR", "click", "cupy", "torch",
    "diffusers", "transformers", "accelerate", "peft", "safetensors", "pytest", "xdist",
)  # fmt: skip

Result = dict[str, Any]


def keep(result: Result) -> None:
    """Write what was found so far; the last one counts."""
    path = Path(os.environ.get("RESULT", os.devnull))
    path.write_text(json.dumps(result, indent=1) + "\n", "utf-8")


def seconds(work: Callable[[], Any]) -> float:
    """Of one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def the_device() -> Any:
    """The GPU; dry, the kernels compiled for the host in its place, for all of the process."""
    from bokehsynth.rendering.cuda import device as cuda_device

    if DRY:
        from support.kernels_on_cpu import HostDevice, library

        made = HostDevice(library())
        cuda_device.the_device = lambda: made  # type: ignore[assignment]
    return cuda_device.the_device()


# ------------------------------------------------------------------ what is there


def version_of(name: str, module: Any) -> str:
    """Of an imported module: what its distribution says, or the module itself."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return str(getattr(module, "__version__", "there"))


def imports(_: argparse.Namespace) -> None:
    """Versions of all modules, one by one, and what the driver says."""
    result: Result = {"python": platform.python_version(), "modules": {}}
    for name in MODULES:
        try:
            module = importlib.import_module(name)
            result["modules"][name] = version_of(name, module)
        except Exception as error:  # whatever a broken installation raises
            result["modules"][name] = f"{type(error).__name__}: {error}"
        keep(result)
    for tool in ("nvidia-smi", "nvcc", "ncu", "compute-sanitizer"):
        try:
            line = [tool] if tool == "nvidia-smi" else [tool, "--version"]
            done = subprocess.run(line, capture_output=True, text=True, check=False, timeout=20)
            result[tool] = (done.stdout or done.stderr)[-1500:].splitlines()
        except OSError as error:
            result[tool] = str(error)
    keep(result)


def probe(arguments: argparse.Namespace) -> None:
    """`imports`, then the device: its name, seconds to compile, microseconds of small calls, GB/s of copies."""
    import numpy as np

    imports(arguments)
    result: Result = json.loads(Path(os.environ["RESULT"]).read_text("utf-8")) if "RESULT" in os.environ else {}
    os.environ["CUPY_CACHE_DIR"] = tempfile.mkdtemp()
    start = time.perf_counter()
    device = the_device()
    result["seconds to compile the kernels"] = round(time.perf_counter() - start, 2)
    result["device"] = device.description()
    small, large = np.zeros(1024, np.float32), np.zeros((4 if DRY else 256) << 18, np.float32)
    there = device.put(large)
    for name, work in {
        "put 4 kB": lambda: device.put(small), "allocate 4 kB": lambda: device.empty((1024,), np.float32),
    }.items():  # fmt: skip
        result[f"microseconds to {name}"] = round(
            1e6 * seconds(lambda work=work: [work() for _ in range(200)]) / 200, 2
        )
    for name, work in {"to the device": lambda: device.put(large), "back": lambda: device.get(there)}.items():
        result[f"GB/s {name}, pageable"] = round(large.nbytes / 1e9 / max(1e-9, seconds(work)), 2)
    keep(result)
    if not DRY:
        result |= pinned_rates(there)
        keep(result)


def pinned_rates(there: Any) -> Result:
    """GB/s of copies between the device and memory that is pinned: what one buffer for all pictures would give."""
    import cupy
    import numpy as np

    memory = cupy.cuda.alloc_pinned_memory(there.nbytes)
    host = np.frombuffer(memory, np.float32, there.size)
    found: Result = {}
    for name, work in {"to the device": lambda: there.set(host), "back": lambda: there.get(out=host)}.items():
        work()
        cupy.cuda.Device().synchronize()
        took = seconds(lambda work=work: (work(), cupy.cuda.Device().synchronize()))
        found[f"GB/s {name}, pinned"] = round(there.nbytes / 1e9 / took, 2)
    return found


# ------------------------------------------------------------------ times of the renderer


Measure = Callable[[Callable[[], Any]], float]
"""Milliseconds of one call."""


def clock() -> Measure:
    """Milliseconds of a call, by events on a GPU."""
    if DRY:
        return lambda work: 1e3 * seconds(work)
    from benchmarks.render_cuda import Clock

    return Clock()


@contextmanager
def timed_launches(
    device: Any, measure: Callable[[Callable[[], Any]], float], times: dict[str, float]
) -> Iterator[None]:
    """Add the milliseconds of each kernel to `times`, launched one by one."""
    launch = device.launch

    def timed(kernel: str, *more: Any) -> None:
        times[kernel] = times.get(kernel, 0.0) + measure(lambda: launch(kernel, *more))

    device.launch = timed
    try:
        yield
    finally:
        device.launch = launch


def clocks(arguments: argparse.Namespace) -> None:
    """Milliseconds a frame: brute force, everything, launches alone, the host's share, and each kernel, worst first."""
    import statistics

    import bokehsynth as bs
    from benchmarks import scenes
    from benchmarks.render_cuda import grid_table, host_milliseconds, inputs_of, pipelined_milliseconds
    from bokehsynth.rendering.cuda import renderer as cuda
    from bokehsynth.rendering.cuda.batch import Batch

    device, measure = the_device(), clock()
    size, batch, repeats = (64, 2, 1) if DRY else (512, 16, 5)
    order = [(32, 0), (32, 2), (8, 0), (2, 0), (16, 0), (8, 2), (32, 1), (16, 2), (2, 2), (16, 1), (8, 1), (2, 1)]
    result: Result = {"size": size, "batch": batch, "rows": []}
    for blur, focus in order[: arguments.rows or (1 if DRY else len(order))]:
        planes = scenes.planes(9201)
        lens = bs.Lens(blur / (8 if DRY else 1), planes[focus].d)
        margin = lens.margin(planes, size, size)
        scene = (tuple(scenes.build(9201, size, margin)), lens, margin)
        table, times = grid_table(), {}
        cuda.render_scenes_on_device(inputs_of(scene, 0, 1))
        for turn in range(1, repeats + 1):
            one, many = inputs_of(scene, 2 * turn, 1), inputs_of(scene, 2 * turn + 1, batch)
            found = {
                "brute": measure(Batch(cuda.cache_of(device), one, [table]).trace_all),
                "ours 1": measure(lambda one=one: cuda.render_scenes_on_device(one)),
                f"ours {batch}": measure(lambda many=many: cuda.render_scenes_on_device(many)) / batch,
                "kernels 1": measure(cuda.prepare(one).render),
                f"kernels {batch}": measure(cuda.prepare(many).render) / batch,
                f"host {batch}": host_milliseconds(many) / batch,
                f"in a row {batch}": pipelined_milliseconds(scene, turn, batch, measure),
            }
            for name, value in found.items():
                times.setdefault(name, []).append(value)
        row: Result = {"scene": f"{blur} {scenes.FOCUS[focus]}"}
        row |= {name: round(statistics.median(values), 4) for name, values in times.items()}
        apart: dict[str, float] = {}
        with timed_launches(device, measure, apart):
            cuda.render_scenes_on_device(many)
        row |= {name: round(value / batch, 4) for name, value in apart.items()}
        result["rows"].append(row)
        keep(result)


def frame(_: argparse.Namespace) -> None:
    """Two frames for a profiler, K = 32 in focus near and far."""
    import bokehsynth as bs
    from benchmarks import scenes
    from benchmarks.render_cuda import inputs_of
    from bokehsynth.rendering.cuda import renderer as cuda

    the_device()
    size = 64 if DRY else 512
    for focus in (0, 2):
        planes = scenes.planes(9201)
        lens = bs.Lens(4 if DRY else 32, planes[focus].d)
        margin = lens.margin(planes, size, size)
        made = cuda.render_scenes(inputs_of((tuple(scenes.build(9201, size, margin)), lens, margin), 0, 1))
        keep({"scene": focus, "mean": float(made[0].color.mean())})


# ------------------------------------------------------------------ networks


LARGEST_ERROR = {"torch.float32": 1e-5, "torch.float16": 4e-3, "torch.bfloat16": 3e-2}
"""Of attention, of values about 1; on a CPU 6e-7, 3.2e-4 and 6.1e-3."""


def attention(_: argparse.Namespace) -> None:
    """The largest error of segmented attention against a dense mask in float64, and its milliseconds."""
    import torch
    from torch.nn.functional import scaled_dot_product_attention

    from magicbokeh.model.attention import Regions, segmented_attention, varlen_kernel

    device = "cpu" if DRY else "cuda"
    tokens, result = (256 if DRY else 4096), {}
    noise = torch.Generator().manual_seed(0)
    for kind in (torch.float32, torch.float16, torch.bfloat16):
        query, key, value = (torch.randn((2, 5, tokens, 64), generator=noise).to(device, kind) for _ in range(3))
        for share in (0.0, 1.0, 1 / tokens, 0.3):
            labels = torch.rand((2, tokens), generator=noise) < share
            labels[0] = labels[0] & (share != 1 / tokens)
            labels = labels.to(device)
            regions, mask = Regions.from_labels(labels), labels[:, None, :, None] == labels[:, None, None, :]
            expected = scaled_dot_product_attention(query.double(), key.double(), value.double(), attn_mask=mask)
            found = segmented_attention(query, key, value, regions)
            if not DRY:
                torch.cuda.synchronize()

            def again(query=query, key=key, value=value, regions=regions) -> None:
                segmented_attention(query, key, value, regions)
                if not DRY:
                    torch.cuda.synchronize()

            result[f"{kind} {share:.4f}"] = {
                "error": float((found.double() - expected).abs().max()), "ms": round(1e3 * seconds(again), 3),
                "flash": varlen_kernel(query) is not None,
            }  # fmt: skip
            keep({"attention": result})
    for name, row in result.items():
        assert row["error"] < LARGEST_ERROR[name.split()[0]], f"{name}: {row['error']}"


def networks(arguments: argparse.Namespace) -> None:
    """`attention`; a tile and a training step at full size; a toy run in fp16 that is killed between its stages."""
    from magicbokeh import ModelConfig

    attention(arguments)
    result: Result = json.loads(Path(os.environ["RESULT"]).read_text("utf-8")) if "RESULT" in os.environ else {}
    device, side = ("cpu", 64) if DRY else ("cuda", 512)
    config = ModelConfig.toy() if DRY else ModelConfig.sd21(sr_rank=16, vae_rank=16, bokeh_rank=32)
    time_tiles(config, device, side, result)
    for precision in ("fp16", "bf16"):
        result[f"training step, batch 4, {precision}"] = training_step(config, device, side, precision)
        keep(result)
    result["toy run, fp16, killed between its stages"] = killed_run("cpu" if DRY else "cuda")
    keep(result)


def time_tiles(config: Any, device: str, side: int, result: Result) -> None:
    """Milliseconds of a tile, by batch and memory format."""
    import torch

    from magicbokeh import build_networks

    built = build_networks(config, 0)
    half = torch.float32 if DRY else torch.float16
    for form in (torch.contiguous_format, torch.channels_last):
        for part in (built.unet, built.controlnet, built.vae):
            part.to(device, half, memory_format=form).eval()
        for batch in (1, 2) if DRY else (1, 4, 8):
            lq = torch.zeros((batch, 3, side, side), device=device, dtype=half)
            defocus = torch.linspace(0, 1, side, device=device, dtype=half).expand(batch, 1, side, side)

            def tile(lq=lq, defocus=defocus) -> None:
                with torch.no_grad():
                    built.decode(built.restore(lq, defocus).x0)
                if not DRY:
                    torch.cuda.synchronize()

            tile()
            result[f"tile ms, batch {batch}, {form}"] = round(1e3 * seconds(tile) / batch, 2)
            keep(result)


def training_step(config: Any, device: str, side: int, precision: str) -> Result:
    """Seconds and gigabytes of a step of the joint phase."""
    import torch

    from magicbokeh import build_networks
    from magicbokeh.data.loader import Batch
    from magicbokeh.recipe import AlternateStage, LossSpec
    from magicbokeh.training.losses import PictureLoss
    from magicbokeh.training.optimizers import PhaseOptimizer
    from magicbokeh.training.phases import Models, activate, phases_of, total

    loss = LossSpec(perceptual="edges")
    spec = AlternateStage(stage="alternate", steps=1, loss=loss, joint=True)
    models = Models(build_networks(config, 0))
    for module in models.parts().values():
        module.to(device).train()
    (phase,) = phases_of(spec, PictureLoss(loss).to(device))
    optimizer = PhaseOptimizer(phase, activate(phase, models), spec)
    pictures = [torch.rand((1 if DRY else 4, 3, side, side)) * 2 - 1 for _ in range(3)]
    maps = [torch.linspace(0, 1, side).expand(len(pictures[0]), 1, side, side) for _ in range(2)]
    batch = Batch(*pictures, *maps, keys=[]).to(torch.device(device))
    scaler = torch.amp.GradScaler(device) if precision == "fp16" and not DRY else None
    kind = {"fp16": torch.float16, "bf16": torch.bfloat16}[precision]

    def step() -> None:
        with torch.autocast(device, kind, enabled=not DRY):
            value = total(phase.losses(models, batch))
        (value if scaler is None else scaler.scale(value)).backward()
        optimizer.clip(1.0, scaler)
        optimizer.step(scaler)
        if not DRY:
            torch.cuda.synchronize()

    if not DRY:
        torch.cuda.reset_peak_memory_stats()
    step()
    found: Result = {"seconds": round(seconds(step), 4)}
    if not DRY:
        found["GB"] = round(torch.cuda.max_memory_allocated() / 1e9, 2)
    return found


def killed_run(device: str) -> Result:
    """Whether a run that died between two stages and went on ends in an uninterrupted one's weights, to the bit."""
    from support.train_toys import mini, weights

    from magicbokeh.training import run as training
    from magicbokeh.training.trainer import StageTrainer

    stages = (
        "stages=[{stage: sr, steps: 2, batch: 1, lr: 1e-3, loss: {perceptual: edges}},"
        " {stage: alternate, steps: 2, batch: 1, lr: 1e-3, sr_lr: 1e-3, loss: {perceptual: edges}}]"
    )
    more = ["validation.samples=1", "compute.deterministic=true", f"compute.device={device}"]
    more += [] if device == "cpu" else ["compute.precision=fp16"]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        recipe = mini(folder / "mini.yaml", None, stages, "data.source.backend=cpu", *more)
        training.train(recipe, folder / "whole")
        step = StageTrainer.step

        def mortal(trainer: Any, *given: Any) -> Any:
            if trainer.state.global_step == 3:
                raise KeyboardInterrupt
            return step(trainer, *given)

        StageTrainer.step = mortal  # type: ignore[method-assign]
        try:
            training.train(recipe, folder / "killed")
        except KeyboardInterrupt:
            pass
        finally:
            StageTrainer.step = step  # type: ignore[method-assign]
        training.train(recipe, folder / "killed", resume=True)
        one, other = weights(folder / "whole"), weights(folder / "killed")
        worst = max(float((one[tensor] - other[tensor]).abs().max()) for tensor in one)
    assert one.keys() == other.keys()
    assert worst == 0, f"weights differ by up to {worst}"
    return {"tensors": len(one), "largest difference": worst}


# ------------------------------------------------------------------ the generator, and memory


BOKEHSYNTH = (sys.executable, "-c", "from bokehsynth.cli import main; main()")
"""The command, also where nothing was installed."""


def generator(arguments: argparse.Namespace) -> None:
    """Samples a second of a set that is made twice, whether both have the same bytes, and what `verify` says."""
    count = arguments.rows or (2 if DRY else 64)
    options = ["--device", "cpu" if DRY else "cuda", *(["--workers", "1", "--set", "size=64"] if DRY else [])]
    result: Result = {}
    with tempfile.TemporaryDirectory() as name:
        for run in ("one", "two"):
            line = [*BOKEHSYNTH, "generate", "quickstart", "--out", f"{name}/{run}", "--samples", str(count), *options]
            result[f"seconds {run}"] = round(seconds(lambda line=line: subprocess.run(line, check=True)), 2)
            keep(result)
        sets = [{p.name: p.read_bytes() for p in sorted(Path(name, run).rglob("*.tar"))} for run in ("one", "two")]
        result["same bytes"] = sets[0] == sets[1] and bool(sets[0])
        line = [*BOKEHSYNTH, "verify", f"{name}/one"]
        result["verify"] = subprocess.run(line, check=False).returncode
        result["samples/s of the second"] = round(count / result["seconds two"], 2)
        keep(result)
    assert result["same bytes"], "two runs gave other bytes"
    assert result["verify"] == 0, "verify found something"


def memory(_: argparse.Namespace) -> None:
    """A batch that is too large for the memory allowed gives the same pictures; a frame that is, an error."""
    import numpy as np

    import bokehsynth as bs
    from benchmarks import scenes
    from bokehsynth.errors import DeviceError
    from bokehsynth.rendering.cuda import renderer as cuda
    from bokehsynth.rendering.types import RenderInput

    device, size = the_device(), 64 if DRY else 512
    planes = scenes.planes(9201)
    lens = bs.Lens(4.0, planes[0].d)
    margin = lens.margin(planes, size, size)
    layers = tuple(scenes.build(9201, size, margin))
    inputs = [RenderInput(layers, bs.Lens(4.0 - 0.1 * k, lens.focus), margin) for k in range(12 if DRY else 16)]
    expected = cuda.render_pictures(inputs)
    result: Result = {}

    def limit(share: float) -> None:
        """Allow so much of what the batch took."""
        cuda.cache_of(device).clear()
        if DRY:
            device.largest = int(share * largest)
        else:
            import cupy

            cupy.get_default_memory_pool().set_limit(size=int(share * largest))

    if DRY:
        largest = 24 * len(inputs) * size * size
    else:
        import cupy

        largest = cupy.get_default_memory_pool().total_bytes()
    limit(0.6)
    again = cuda.render_pictures(inputs)
    result["same pictures in less memory"] = all(np.array_equal(*pair) for pair in zip(expected, again, strict=True))
    keep(result)
    limit(0.02)
    try:
        cuda.render_pictures(inputs[:1])
    except DeviceError as error:
        result["no memory at all"] = str(error)
    keep(result)
    assert result["same pictures in less memory"]
    assert "no memory at all" in result


# ------------------------------------------------------------------ broken on purpose, to rehearse


def broken_exit(_: argparse.Namespace) -> None:
    """Fail."""
    sys.exit(7)


def broken_hang(_: argparse.Namespace) -> None:
    """Neither end nor listen to SIGTERM."""
    import signal

    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(3600)


def broken_garbage(_: argparse.Namespace) -> None:
    """Write half a result."""
    Path(os.environ["RESULT"]).write_text('{"rows": [', "utf-8")


STAGES: dict[str, Callable[[argparse.Namespace], None]] = {
    "imports": imports, "probe": probe, "clocks": clocks, "frame": frame, "attention": attention, "networks": networks,
    "generator": generator, "memory": memory, "exit": broken_exit, "hang": broken_hang, "garbage": broken_garbage,
}  # fmt: skip


def main() -> None:
    """Run one stage."""
    parser = argparse.ArgumentParser()
    parser.add_argument("stage", choices=list(STAGES))
    parser.add_argument("--rows", type=int, help="fewer of what the stage goes through")
    arguments = parser.parse_args()
    STAGES[arguments.stage](arguments)


if __name__ == "__main__":
    main()
