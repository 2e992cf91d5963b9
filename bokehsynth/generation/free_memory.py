"""How much memory this process may still take: of the machine, and of the container (cgroup) it runs in."""

from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

_PROC, _CGROUPS = Path("/proc"), Path("/sys/fs/cgroup")


class _Names(NamedTuple):
    """Files of a group, and lines of its `memory.stat`."""

    limit: str
    used: str
    reclaimable: tuple[str, ...]
    """What is given back before anything is ended; shared memory is none of it."""


_VERSION_2 = _Names("memory.max", "memory.current", ("inactive_file", "active_file", "slab_reclaimable"))
_VERSION_1 = _Names("memory.limit_in_bytes", "memory.usage_in_bytes", ("total_inactive_file", "total_active_file"))


def free_memory(proc: Path = _PROC, cgroups: Path = _CGROUPS) -> int | None:
    """Bytes that can be taken before anything is ended for want of memory; None where the system does not say."""
    found = []
    with suppress(OSError, ValueError, StopIteration):
        line = next(line for line in _lines(proc / "meminfo") if line.startswith("MemAvailable:"))
        found.append(int(line.split()[1]) << 10)
    with suppress(OSError, ValueError):
        for line in _lines(proc / "self/cgroup"):
            _, controllers, group = line.split(":", 2)
            if not controllers:
                found += _left_of(group, cgroups, _VERSION_2)
            elif "memory" in controllers.split(","):
                found += _left_of(group, cgroups / "memory", _VERSION_1)
    return min(found) if found else None


def _left_of(group: str, root: Path, names: _Names) -> list[int]:
    """What a group and each of those above it may still take; of those that have no limit, nothing."""
    found = []
    place = root / group.strip("/")
    for folder in [place, *place.parents]:  # in a container, those of the host's path are not there, and the root is
        with suppress(OSError, ValueError, LookupError):  # "max"
            found.append(_left(folder, names))
        if folder == root:
            break
    return found


def _left(group: Path, names: _Names) -> int:
    """What a group may still take: what the kernel keeps of files, and can build anew, gives way."""
    stat = dict(line.split(maxsplit=1) for line in _lines(group / "memory.stat"))
    limit, used = (int((group / name).read_text()) for name in (names.limit, names.used))
    return max(0, limit - used + sum(int(stat.get(name, 0)) for name in names.reclaimable))


def _lines(path: Path) -> list[str]:
    return path.read_text("ascii", "replace").splitlines()
