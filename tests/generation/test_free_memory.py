"""What may still be taken is the least of what the machine and each group of the process have left."""

from pathlib import Path

from bokehsynth.generation.free_memory import free_memory


def group(folder: Path, limit: str, used: int, cached: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "memory.max").write_text(f"{limit}\n")
    (folder / "memory.current").write_text(f"{used}\n")
    (folder / "memory.stat").write_text(f"anon 5\ninactive_file {cached}\nfile 7\n")


def test_the_least_of_machine_and_groups_counts(tmp_path: Path) -> None:
    proc, groups = tmp_path / "proc", tmp_path / "groups"
    assert free_memory(proc, groups) is None
    (proc / "self").mkdir(parents=True)
    (proc / "meminfo").write_text("MemTotal: 9000 kB\nMemAvailable:   4000 kB\n")
    assert free_memory(proc, groups) == 4000 << 10
    (proc / "self/cgroup").write_text("1:name=systemd:/x\n0::/box/inner\n")
    group(groups / "box/inner", "max", 10, 0)
    assert free_memory(proc, groups) == 4000 << 10
    group(groups / "box", "100000", 90000, 2000)
    assert free_memory(proc, groups) == 12000
    group(groups / "box/inner", "9000", 9500, 0)
    assert free_memory(proc, groups) == 0


def test_this_machine_says() -> None:
    left = free_memory()
    assert left is None or left > 0
