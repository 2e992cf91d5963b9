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


def test_what_files_keep_gives_way_and_a_missing_line_is_no_error(tmp_path: Path) -> None:
    """Files that were read twice, and the kernel's own records of files, are given back, too."""
    proc, groups = tmp_path / "proc", tmp_path / "groups"
    (proc / "self").mkdir(parents=True)
    (proc / "self/cgroup").write_text("0::/\n")
    group(groups, "16000", 15990, 100)
    with (groups / "memory.stat").open("a") as stat:
        stat.write("active_file 12000\nslab_reclaimable 900\nslab_unreclaimable 800\n")
    assert free_memory(proc, groups) == 10 + 100 + 12000 + 900
    (groups / "memory.stat").write_text("anon 5\n")
    assert free_memory(proc, groups) == 10
    (groups / "memory.stat").write_text("anon\n")
    assert free_memory(proc, groups) is None


def test_limits_of_version_1_count(tmp_path: Path) -> None:
    """The path is the host's: in a container only the root of the controller is there."""
    proc, groups = tmp_path / "proc", tmp_path / "groups"
    (proc / "self").mkdir(parents=True)
    (proc / "self/cgroup").write_text("5:cpu,memory:/docker/a:b\n2:cpu:/x\n0::/\n")
    root = groups / "memory"
    root.mkdir(parents=True)
    (root / "memory.limit_in_bytes").write_text("9000\n")
    (root / "memory.usage_in_bytes").write_text("8000\n")
    (root / "memory.stat").write_text("inactive_file 1\ntotal_inactive_file 200\ntotal_active_file 30\n")
    assert free_memory(proc, groups) == 1230
    (root / "memory.limit_in_bytes").write_text("9223372036854771712\n")  # none
    (proc / "meminfo").write_text("MemAvailable:   4 kB\n")
    assert free_memory(proc, groups) == 4096


def test_this_machine_says() -> None:
    left = free_memory()
    assert left is None or left > 0
