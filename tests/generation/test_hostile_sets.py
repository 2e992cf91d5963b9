"""Data sets of strangers, markers and hashes fitting: every reader ends with one line, in bounds, touching nothing.

A sample of them runs here, all of them behind `long`; `support.hostile_sets` has what is wrong with each.
"""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from support.hostile_sets import (
    DRAWS,
    FILES,
    IN_PLACE,
    JSON_FILES,
    OTHER_FILES,
    SETS,
    TEXTS,
    all_names,
    first_plan,
    hostile_sets,
)
from support.small_set import make_small_set
from support.watched_commands import Watched, watch_commands

import bokehsynth as bs
from bokehsynth.files import append_line
from bokehsynth.generation.crash_log import CrashLog
from bokehsynth.generation.event_log import EventLog
from bokehsynth.generation.generate import finalize
from bokehsynth.generation.verify import verify
from bokehsynth.shards import Layout

MOST_MEMORY = 600_000_000
ARGUMENTS = {"replay": ["train-000000000"], "extend": ["--samples", "4", "--workers", "1", "--quiet"], "finalize": [],
             "export": ["--to", "folder"]}  # fmt: skip
READ_ONLY = ["open", "verify", "replay", "report", "export", "audit"]
WORDS = {
    "picture: bomb": "got uint8 [30000, 30000]",
    "picture: TIFF": "is no PNG",
    "picture: zTXt": "something else than IDAT",
    "record: pixels": "pixels at most 89,478,485",
    "record: deep": "nested more than 64 levels",
    "record: index": "does not fit 64 bits",
    "marker: 300 million samples": "train-000000",
    "tar: member of 6 GB": "train-000000",
    "index: 10^15 bytes": "1e+15 bytes",
    "dataset.json: split /etc": "splits must be out of train and val, got '/etc'",
    "FIFO as train/train-000000.tar": "is a FIFO, not a file",
    "endless as dataset.json": "is a device, not a file",
    "1 TB as dataset.json": "such a file has at most 67,108,864",
    "twice in dataset.json": "one key twice",
    "NaN in .bokehsynth/train/train-000000.done.json": "NaN is no number of JSON",
    "digits in dataset.json": "an integer of 900,000 digits",
}
"""What `open_dataset` says of some of them."""
QUICK = [*WORDS, "FIFO as recipe.yaml", "endless as .bokehsynth/machine.json", "deep in assets.jsonl"]


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_small_set(tmp_path_factory.mktemp("good") / "set").root


def run_all(good: Path, folder: Path, names: list[str], commands: list[str]) -> dict[tuple[str, str], Watched]:
    """Every command on every hostile set, each on a copy that the commands before it only read."""
    lines, keys = [], []
    for name, out in hostile_sets(good, folder, names):
        for command in commands:
            places = {"report": ["--out", folder / "page.html"], "export": ["--out", folder / f"export-{out.name}"]}
            place = places.get(command, [])
            lines.append([command, out, *ARGUMENTS.get(command, []), *place])
            keys.append((name, command))
    done = watch_commands(lines, [folder], timeout=3600)
    return dict(zip(keys, done, strict=True))


def check(name: str, done: Watched) -> None:
    """A documented exit code, one line of error, nothing touched, within the bounds of memory and time."""
    assert done.code in {0, 1, 2, 4}, (name, done)
    assert done.touched == [], (name, done.touched)
    assert not any(word in done.err for word in ("Traceback", "error: unexpected")), (name, done.err)
    errors = [line for line in done.err.splitlines() if line]
    assert len(errors) == (0 if done.code == 0 else 1), (name, done.err)
    assert done.memory < MOST_MEMORY, (name, done.memory)


@pytest.fixture(scope="module")
def quick(good: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], Watched]:
    return run_all(good, tmp_path_factory.mktemp("quick"), ["as it is", *QUICK], READ_ONLY)


@pytest.mark.parametrize("command", READ_ONLY)
@pytest.mark.parametrize("name", QUICK)
def test_a_hostile_set_costs_a_line(name: str, command: str, quick: dict[tuple[str, str], Watched]) -> None:
    done = quick[name, command]
    check(name, done)
    if command == "verify":
        assert done.code == 1
    if command == "open" and name in WORDS:
        assert done.code == 1
        assert WORDS[name] in done.err, done.err


def test_the_good_set_is_whole(quick: dict[tuple[str, str], Watched]) -> None:
    assert [quick["as it is", command].code for command in READ_ONLY] == [0] * len(READ_ONLY)


@pytest.fixture(scope="module")
def draws(good: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], Watched]:
    return run_all(good, tmp_path_factory.mktemp("draws"), [f"draw: {name}" for name in DRAWS], ["replay"])


@pytest.mark.parametrize("name", DRAWS)
def test_a_draw_that_the_recipe_cannot_make_is_not_made_again(
    name: str, draws: dict[tuple[str, str], Watched]
) -> None:  # fmt: skip
    done = draws[f"draw: {name}", "replay"]
    check(name, done)
    assert done.code == 1
    assert "the sample's `draw` record" in done.err


def test_every_kind_of_file_has_its_cases() -> None:
    names = all_names()
    assert len(names) == len(set(names)) == len(SETS) + len(FILES) * 14 + len(TEXTS) * len(JSON_FILES)
    assert len({*JSON_FILES, *OTHER_FILES}) == 14
    assert set(QUICK) <= set(names)


@pytest.mark.long
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("commands", [READ_ONLY, ["finalize"], ["extend"]], ids=lambda commands: commands[0])
def test_every_hostile_set_costs_a_line(commands: list[str], good: Path, tmp_path: Path) -> None:
    done = run_all(good, tmp_path, all_names(), commands)
    for (name, command), watched in done.items():
        check(f"{command} of {name}", watched)
    slowest = max(done, key=lambda key: done[key].seconds)
    largest = max(watched.memory for watched in done.values())
    print(f"{len(done)} runs; slowest {done[slowest].seconds:.1f} s, {slowest}; peak {largest >> 20} MiB")


@pytest.mark.parametrize("kind", ["link", "FIFO", "deep"])
def test_files_that_runs_write_in_place_lead_nowhere_else(kind: str, good: Path, tmp_path: Path) -> None:
    """A lock or log of a stranger's set that is a link would have some file of the user's emptied or written to."""
    mine = tmp_path / "mine.txt"
    mine.write_text("mine")
    for number, name in enumerate(IN_PLACE):
        out = tmp_path / str(number)
        shutil.copytree(good, out)
        path = out / name
        path.parent.mkdir(exist_ok=True)
        path.unlink(missing_ok=True)
        if kind == "link":
            path.symlink_to(mine)
        elif kind == "FIFO":
            os.mkfifo(path)
        else:
            path.write_text(TEXTS["deep"] + "\n" + '{"host": 1, "pid": -1, "ranges": 3}\n')
        (out / "README.md").unlink()  # so that there is something to do
        codes = [end_of(lambda out=out: verify(out, fix=True)), end_of(lambda out=out: finalize(out))]
        if kind == "deep" or "run.lock" not in name:
            assert codes == [0, 0], name
        else:
            assert codes == [4, 4]
        layout, said = Layout(out), []
        EventLog(layout, said.append).write("started")
        begun = end_of(CrashLog(layout.crash_log(first_plan(layout))).begin)
        if kind != "deep":
            assert len(said) == ("events" in name), name
            assert begun == (4 if "crashes" in name else 0), name
        assert mine.read_text() == "mine"


def end_of(call: Callable[[], object]) -> int:
    try:
        call()
    except bs.BokehsynthError as error:
        return error.exit_code
    return 0


def test_lines_are_not_appended_through_links(tmp_path: Path) -> None:
    mine = tmp_path / "mine.txt"
    mine.write_text("mine")
    (tmp_path / "log").symlink_to(mine)
    os.mkfifo(tmp_path / "pipe")
    for name in ("log", "pipe"):
        with pytest.raises(OSError, match=name):
            append_line(tmp_path / name, "theirs")
    assert mine.read_text() == "mine"
    append_line(tmp_path / "new", "ours")
    assert (tmp_path / "new").read_text() == "ours\n"
