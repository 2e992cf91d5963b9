"""How much memory this process may still take: of the machine, and of the container (cgroup) it runs in."""

from contextlib import suppress
from pathlib import Path

_PROC, _CGROUPS = Path("/proc"), Path("/sys/fs/cgroup")


def free_memory(proc: Path = _PROC, cgroups: Path = _CGROUPS) -> int | None:
    """Bytes that can be taken before anything is ended for want of memory; None where the system does not say."""
    found = []
    with suppress(OSError, ValueError, StopIteration):
        line = next(line for line in _lines(proc / "meminfo") if line.startswith("MemAvailable:"))
        found.append(int(line.split()[1]) << 10)
    with suppress(OSError, ValueError, StopIteration):
        group = next(line for line in _lines(proc / "self/cgroup") if line.startswith("0::")).partition("::")[2]
        place = cgroups / group.strip("/")
        for folder in [place, *place.parents]:  # a limit of any of them counts
            with suppress(OSError, ValueError):  # "max"
                found.append(_left(folder))
            if folder == cgroups:
                break
    return min(found) if found else None


def _left(group: Path) -> int:
    """What a group may still take: files that it has cached give way."""
    cached = [line.split()[1] for line in _lines(group / "memory.stat") if line.startswith("inactive_file ")]
    limit, used = (int((group / name).read_text()) for name in ("memory.max", "memory.current"))
    return max(0, limit - used + int(cached[0]))


def _lines(path: Path) -> list[str]:
    return path.read_text("ascii", "replace").splitlines()
