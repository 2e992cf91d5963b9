"""Ten thousand tiny samples: does memory or do file handles grow? Writes soak.md and soak.png.

    python -m benchmarks.soak --samples 10000 --workers 2

The installed command runs; this script only looks at it from outside, in /proc, twice a second. A worker's memory is
fitted by a line over its second half of life, since its cache of pictures still fills in the first.
"""

import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
from PIL import Image, ImageDraw

from benchmarks.machine import machine_lines

RECIPE = """\
name: soak
seed: 1
samples: {train: 10000}
size: 64
scene: {foregrounds: 1}
shards: {samples: 50}
"""


@dataclass
class Life:
    """What was seen of one process: seconds since the start, megabytes resident, open file handles."""

    seconds: list[float]
    rss: list[float]
    handles: list[int]


def watch(command: list[str]) -> tuple[int, dict[int, Life]]:
    """Run a command; its exit code and the lives of itself and its workers."""
    lives: dict[int, Life] = defaultdict(lambda: Life([], [], []))
    start = time.monotonic()
    process = subprocess.Popen(command)
    while process.poll() is None:
        for pid in [process.pid, *children(process.pid)]:
            try:
                pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
                handles = len(list(Path(f"/proc/{pid}/fd").iterdir()))
            except (OSError, IndexError):
                continue
            lives[pid].seconds.append(time.monotonic() - start)
            lives[pid].rss.append(pages * 4096 / 1e6)
            lives[pid].handles.append(handles)
        time.sleep(0.5)
    return process.returncode, lives


def children(pid: int) -> list[int]:
    """Worker processes, without multiprocessing's own helper."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
            if parent == pid and b"spawn_main" in (stat.parent / "cmdline").read_bytes():
                found.append(int(stat.parent.name))
        except (OSError, IndexError):
            continue
    return found


def slope(life: Life) -> float:
    """Megabytes per minute over the second half of a life."""
    half = len(life.seconds) // 2
    if len(life.seconds) - half < 4:
        return 0.0
    return float(np.polyfit(np.array(life.seconds[half:]) / 60, life.rss[half:], 1)[0])


def plot(lives: dict[int, Life], parent: int, path: Path) -> None:
    """Memory over time, one line per process."""
    width, height, left, bottom = 960, 420, 70, 50
    picture = Image.new("RGB", (width, height), "white")
    pen = ImageDraw.Draw(picture)
    end = max(life.seconds[-1] for life in lives.values())
    top = 100 * np.ceil(max(max(life.rss) for life in lives.values()) / 100)
    for step in range(6):
        value = top * step / 5
        y = height - bottom - (height - bottom - 30) * step / 5
        pen.line([(left, y), (width - 20, y)], fill=(225, 225, 225))
        pen.text((12, y - 6), f"{value:.0f} MB", fill="black")
        x = left + (width - left - 20) * step / 5
        pen.text((x - 10, height - bottom + 8), f"{end * step / 5:.0f} s", fill="black")
    colors = [(31, 119, 180), (214, 39, 40), (44, 160, 44), (148, 103, 189), (255, 127, 14)]
    for number, (pid, life) in enumerate(lives.items()):
        points = [
            (left + (width - left - 20) * second / end, height - bottom - (height - bottom - 30) * rss / top)
            for second, rss in zip(life.seconds, life.rss, strict=True)
        ]
        color = colors[number % len(colors)]
        pen.line(points, fill=color, width=2)
        name = "run" if pid == parent else f"worker {number}"
        pen.text((left + 110 * number, height - 22), name, fill=color)
    pen.text((left, 8), "Resident memory of every process of a run", fill="black")
    picture.save(path)


@click.command()
@click.option("--samples", default=10000)
@click.option("--workers", default=2)
@click.option("--out", default=Path(__file__).parent, type=click.Path(path_type=Path), help="Folder of the results.")
def main(samples: int, workers: int, out: Path) -> None:
    """Run, watch, and write what was seen."""
    with tempfile.TemporaryDirectory() as folder:
        recipe = Path(folder, "soak.yaml")
        recipe.write_text(RECIPE)
        command = str(Path(sys.executable).with_name("bokehsynth"))
        line = [command, "generate", str(recipe), "--out", f"{folder}/set", "--samples", str(samples)]
        begin = time.monotonic()
        code, lives = watch([*line, "--workers", str(workers), "--quiet"])
        seconds = time.monotonic() - begin
        if code != 0:
            raise click.ClickException(f"the run ended with {code}")
        subprocess.run([command, "verify", f"{folder}/set", "--decode", "0.1"], check=True)
    lives = {pid: life for pid, life in lives.items() if len(life.seconds) >= 4}
    parent = next(iter(lives))
    rows = ["| process | seconds | MB at one quarter | at one half | at the end | MB/min, second half | handles |"]
    rows.append("|---|---|---|---|---|---|---|")
    for number, (pid, life) in enumerate(lives.items()):
        at = [life.rss[int((len(life.rss) - 1) * share)] for share in (0.25, 0.5, 1)]
        handles = life.handles[len(life.handles) // 4 :]
        rows.append(
            f"| {'run' if pid == parent else f'worker {number}'} | {life.seconds[-1] - life.seconds[0]:.0f} | "
            + " | ".join(f"{value:.0f}" for value in at)
            + f" | {slope(life):+.2f} | {min(handles)} to {max(handles)} |"
        )
    plot(lives, parent, out / "soak.png")
    text = [
        "# Soak",
        "",
        f"{samples} samples of 64 px in shards of 50, made by {workers} workers in {seconds:.0f} s, all committed.",
        "Memory and handles as seen from outside, twice a second.",
        "",
        *rows,
        "",
        "![Resident memory of every process](soak.png)",
        "",
        *machine_lines("python -m benchmarks.soak"),
        "",
    ]
    (out / "soak.md").write_text("\n".join(text))
    click.echo("\n".join(text))


if __name__ == "__main__":
    main()
