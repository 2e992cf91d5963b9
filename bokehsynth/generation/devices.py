"""Which device a run renders on, and how its workers are allocated to the devices there are."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bokehsynth.errors import DeviceError, UsageError
from bokehsynth.generation.shared_scene import why_not_shared
from bokehsynth.rendering import resolve_device
from bokehsynth.rendering.cuda.device import VisibleGpu, visible_gpus
from bokehsynth.workers.pool import usable_cpus


def resolve_dataset_device(asked: str, begun: Sequence[str], where: object, allow_mixed: bool) -> str:
    """Resolve the device of a run over the data set at `where`; `auto` is resolved once per data set.

    `begun`: the devices that have worked on it, the first one first. Raises DeviceError for a device that is not
    there, be it asked for or the one that the set keeps to.
    """
    if asked != "auto" or not begun:
        return resolve_device(asked)
    try:
        return resolve_device(begun[0])
    except DeviceError as error:
        if allow_mixed:
            return resolve_device("auto")
        cause = str(error).split("; ")[0]  # without its advice, which is for another command
        raise DeviceError(
            f"{where}: was begun on another kind of machine (there -> here):\n"
            f'  device: "{begun[0]}" -> "{resolve_device("auto")}"\n'
            f"`auto` keeps to the device that a set was begun on, and here it cannot: {cause}. Go on where it can, or "
            "choose another --out; --allow-mixed goes on here all the same, with pixels that differ by rounding."
        ) from None


def check_same_gpus(machine: Mapping[str, Any], allow_mixed: bool) -> None:
    """Raise DeviceError if this machine's visible GPUs differ in what makes pixels: which makes a sample is chance."""
    found = machine.get("compute_capability")
    if found and "," in found and not allow_mixed:
        raise DeviceError(
            f"the visible GPUs differ in compute capability ({found}), so pixels would depend on which one made them; "
            "show only those of one in CUDA_VISIBLE_DEVICES, or use --allow-mixed"
        )


@dataclass(frozen=True)
class WorkerAllocation:
    """The processes of a run, and what each gets."""

    workers: int
    """Processes of the run."""
    threads: int
    """CPUs of each process."""
    environments: tuple[dict[str, str], ...] = ()
    """Variables with each of which a process sees one device: of the workers, in turn, or of those that render."""
    served: bool = False
    """Whether there is a process for each device that renders for the workers, which have none."""
    note: str = ""
    """Why no process renders for all workers, where that is not as it should be."""


CPUS_PER_WORKER = 2
"""CPUs for each worker that renders on a GPU by itself. Reading and painting pictures holds the GIL for most of the
time: where two threads made 1.2 times what one does, two processes made 1.6 times (benchmarks/generator.md)."""


CONTEXT = 800 << 20
"""Bytes of a GPU's memory that each process takes besides its arrays, the one that started the workers too: the
context, 0.3 to 0.5 GB, and local memory for the kernel with the deepest stack, 0.3 GB on the largest GPUs (computed:
132 multiprocessors of 2,048 threads, 1,176 bytes each)."""


def allocate_workers(device: str, workers: int | None, gpus: int | None, shared: bool = False) -> WorkerAllocation:
    """Allocate one worker per CPU; on `cuda` in a group for each visible GPU (the first `gpus`).

    There, one process for each GPU renders for its group if they are `shared` and there are CPUs for both, and workers
    are as many as the CPUs that are left; else they render by themselves, one per two CPUs. `workers` replaces their
    number in all. Raises UsageError where the numbers do not fit each other, DeviceError for more GPUs than are
    visible.
    """
    if workers is not None and workers < 1:
        raise UsageError(f"workers must be at least 1, got {workers}")
    if device != "cuda":
        if gpus is not None:
            raise UsageError(
                f"--gpus {gpus}: this run renders on {device}, which takes no GPU; leave --gpus out, or ask for "
                "--device cuda"
            )
        return WorkerAllocation(workers or usable_cpus(), 1)
    visible = visible_gpus()
    if gpus is not None:
        _check_gpus(gpus, [gpu.name for gpu in visible], workers)
    used = visible[:gpus]
    groups, cpus = max(1, len(used)), usable_cpus()
    refused = why_not_shared() if shared and cpus > groups else None
    if shared and cpus > groups and refused is None:
        total = workers or max(groups, cpus - groups)
        return WorkerAllocation(total, 1, _environments(used[:total], 1), served=True)
    total = workers or groups * max(1, cpus // groups // CPUS_PER_WORKER)
    # Freed memory stays with the worker that had it, so that none may take what the others of its group need.
    environments = _environments(used, -(-total // groups))
    note = f"each worker renders on a GPU by itself, with less memory each: {refused}" if refused else ""
    return WorkerAllocation(total, max(1, cpus // total), environments, note=note)


def _environments(gpus: Sequence[VisibleGpu], sharing: int) -> tuple[dict[str, str], ...]:
    """For each GPU, the variables of the processes that share it."""
    return tuple(
        {"CUDA_VISIBLE_DEVICES": gpu.name, "CUPY_GPU_MEMORY_LIMIT": str(_memory_share(gpu.memory, sharing))}
        for gpu in gpus
    )


def _memory_share(memory: int, sharing: int) -> int:
    """Bytes of a GPU's memory that each of the workers that share it may fill with arrays."""
    return max((memory - CONTEXT * (sharing + 1)) // sharing, memory // (4 * sharing))


def _check_gpus(gpus: int, names: Sequence[str], workers: int | None) -> None:
    if gpus < 1:
        raise UsageError(f"gpus must be at least 1, got {gpus}")
    if gpus > len(names):
        raise DeviceError(
            f"--gpus {gpus}: {len(names)} visible ({', '.join(names) or 'none'}); ask for no more than that, or show "
            "more of them in CUDA_VISIBLE_DEVICES"
        )
    if workers is not None and workers < gpus:
        raise UsageError(
            f"--gpus {gpus} with --workers {workers}: each GPU takes at least one worker; ask for more of them, or "
            "leave --workers out"
        )
