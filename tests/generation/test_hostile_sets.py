"""Data sets of strangers, markers and hashes fitting: every reader ends with one line, in bounds, touching nothing.

A sample of them runs here, all of them behind `long`; `support.hostile_sets` has what is wrong with each.
"""

from pathlib import Path

import pytest
from support.hostile_sets import DRAWS, FILES, JSON_FILES, OTHER_FILES, SETS, TEXTS, all_names, hostile_sets
from support.small_set import make_small_set
from support.watched_commands import Watched, watch_commands

MOST_MEMORY, MOST_SECONDS = 2 << 30, 10
ARGUMENTS = {"replay": ["train-000000000"], "extend": ["--samples", "4", "--workers", "1"], "finalize": []}
READ_ONLY = ["open", "verify", "replay"]
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
            lines.append([command, out, *ARGUMENTS.get(command, [])])
            keys.append((name, command))
    done = watch_commands(lines, [folder], timeout=3600)
    return dict(zip(keys, done, strict=True))


def check(name: str, done: Watched) -> None:
    """A documented exit code, one line of error, nothing touched, within the bounds of memory and time."""
    assert done.code in {0, 1, 2, 4}, (name, done)
    assert done.touched == [], (name, done.touched)
    assert not any(word in done.err for word in ("Traceback", "unexpected")), (name, done.err)
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
    assert [quick["as it is", command].code for command in READ_ONLY] == [0, 0, 0]


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
