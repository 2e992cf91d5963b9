"""Crash counts: recorded deaths over one sample make it a suspect, and so many of a kind in isolation quarantine it."""

import json
from pathlib import Path

import pytest

from bokehsynth.errors import UsageError
from bokehsynth.generation.crash_log import CrashLog, Suspect
from bokehsynth.generation.quarantine import QuarantinedDraw, first_attempt, read_list, stable_message
from bokehsynth.workers.events import DeathKind


def dies_at(crash_log: CrashLog, index: int, kind: DeathKind | None = "crashed", seconds: float = 0.5) -> None:
    """A worker dies over a sample of the shard; without a kind, no supervisor records it."""
    crash_log.begin()
    for i in range(index + 1):
        crash_log.in_flight(range(i, i + 1))
    if kind is not None:
        crash_log.died(kind, seconds)


def dies_isolated(crash_log: CrashLog, index: int, kind: DeathKind | None = "crashed", seconds: float = 0.5) -> None:
    crash_log.isolated_start(index)
    if kind is not None:
        crash_log.died(kind, seconds)


def waits(crash_log: CrashLog, kind: DeathKind | None = None) -> None:
    """A control: the worker lives, or dies of `kind`."""
    crash_log.control_start()
    if kind is None:
        crash_log.control_ok()
    else:
        crash_log.died(kind, 0.2)


@pytest.fixture
def crash_log(tmp_path: Path) -> CrashLog:
    return CrashLog(tmp_path / "x.crashes")


def test_nothing_happened(crash_log: CrashLog) -> None:
    assert crash_log.suspect() is None
    crash_log.delete()
    crash_log.not_at_fault()
    crash_log.died("killed", 1.0)
    assert not crash_log.path.exists()


def test_three_crashes_over_one_sample_make_a_suspect_and_three_in_isolation_quarantine_it(crash_log: CrashLog) -> None:
    for _ in range(2):
        dies_at(crash_log, 4)
        assert crash_log.suspect() is None
    dies_at(crash_log, 4)
    for _ in range(3):
        assert crash_log.suspect() == Suspect(4)
        dies_isolated(crash_log, 4)
    assert crash_log.suspect() == Suspect(4, "killed")
    crash_log.quarantined(4)
    assert crash_log.suspect() is None
    dies_at(crash_log, 7)
    assert crash_log.suspect() == Suspect(7), "after one quarantined, one crash is enough"


def test_ends_that_no_supervisor_recorded_are_no_evidence(crash_log: CrashLog) -> None:
    """A node that is taken away ends the whole run, again and again over the same slow sample."""
    for _ in range(50):
        dies_at(crash_log, 0, None)
        dies_isolated(crash_log, 0, None)
        assert crash_log.suspect() is None
    for _ in range(3):
        dies_at(crash_log, 0, "killed")
    for _ in range(50):
        assert crash_log.suspect() == Suspect(0)
        dies_isolated(crash_log, 0, None)


def test_kills_are_counted_by_themselves_each_followed_by_a_control(crash_log: CrashLog) -> None:
    for _ in range(3):
        dies_at(crash_log, 4, "killed")
    for n in range(5):
        assert crash_log.suspect() == Suspect(4), n
        dies_isolated(crash_log, 4, "killed", 20.0)
        assert crash_log.suspect() == Suspect(4, control_s=60.0), "also after the last one"
        waits(crash_log)
    assert crash_log.suspect() == Suspect(4, "killed")


@pytest.mark.parametrize(("lived", "control"), [(0.0, 1.0), (3.5, 10.5), (5000.0, 600.0)])
def test_a_control_lasts_longer_than_the_trial_within_bounds(lived: float, control: float, crash_log: CrashLog) -> None:
    for _ in range(3):
        dies_at(crash_log, 4, "killed")
    dies_isolated(crash_log, 4, "killed", lived)
    assert crash_log.suspect() == Suspect(4, control_s=control)


def test_a_control_that_is_killed_voids_all_kills(crash_log: CrashLog) -> None:
    for _ in range(20):
        for _ in range(3):
            dies_at(crash_log, 4, "killed")
        for _ in range(4):
            dies_isolated(crash_log, 4, "killed")
            waits(crash_log)
        dies_isolated(crash_log, 4, "killed")
        waits(crash_log, "killed")
        assert crash_log.suspect() is None


def test_a_control_whose_run_ends_is_due_again(crash_log: CrashLog) -> None:
    for _ in range(3):
        dies_at(crash_log, 4, "killed")
    dies_isolated(crash_log, 4, "killed")
    for end in (lambda: None, crash_log.not_at_fault, lambda: None):
        crash_log.control_start()
        end()
        assert crash_log.suspect() == Suspect(4, control_s=1.5)


def test_each_kind_has_a_counter_of_its_own(crash_log: CrashLog) -> None:
    """Of mixed deaths in isolation, one fewer of each than its limit is not enough, and the next one is."""
    dies_at(crash_log, 1, "timed_out")
    for _ in range(2):
        dies_isolated(crash_log, 1, "crashed")
    for _ in range(4):
        dies_isolated(crash_log, 1, "killed")
        waits(crash_log)
    dies_isolated(crash_log, 1, "timed_out")
    assert crash_log.suspect() == Suspect(1)
    dies_isolated(crash_log, 1, "crashed")
    assert crash_log.suspect() == Suspect(1, "killed")


def test_crashes_at_different_samples_make_no_suspect(crash_log: CrashLog) -> None:
    for index in (0, 5, 3, 5, 0, 3):
        dies_at(crash_log, index)
        assert crash_log.suspect() is None


def test_success_in_isolation_resets_the_counters(crash_log: CrashLog) -> None:
    for _ in range(3):
        dies_at(crash_log, 2)
    dies_isolated(crash_log, 2)
    dies_isolated(crash_log, 2, "killed")
    waits(crash_log)
    crash_log.isolated_start(2)
    crash_log.isolated_ok()
    assert crash_log.suspect() is None
    dies_at(crash_log, 2)
    assert crash_log.suspect() is None, "its count starts at zero again"


def test_one_timeout_makes_a_suspect_and_two_in_isolation_quarantine_it(crash_log: CrashLog) -> None:
    dies_at(crash_log, 1, "timed_out")
    assert crash_log.suspect() == Suspect(1)
    dies_isolated(crash_log, 1, "timed_out")
    assert crash_log.suspect() == Suspect(1)
    dies_isolated(crash_log, 1, "timed_out")
    assert crash_log.suspect() == Suspect(1, "hung")


def test_ends_that_are_no_samples_fault_do_not_count(crash_log: CrashLog) -> None:
    for _ in range(9):
        dies_at(crash_log, 3, None)
        crash_log.not_at_fault()
        dies_at(crash_log, 3, None)
        crash_log.committing()
        crash_log.died("crashed", 0.1)
        crash_log.begin()
        crash_log.died("crashed", 0.1)  # dead before any sample
    assert crash_log.suspect() is None


def dies_in_window(crash_log: CrashLog, *windows: range, kind: DeathKind = "crashed") -> None:
    crash_log.begin()
    for window in windows:
        crash_log.in_flight(window)
    crash_log.died(kind, 0.5)


def test_all_that_were_in_the_making_are_suspects_until_one_crashes_isolated(crash_log: CrashLog) -> None:
    for _ in range(2):
        dies_in_window(crash_log, range(3), range(1, 4))
        assert crash_log.suspect() is None
    dies_in_window(crash_log, range(3), range(1, 4))
    assert crash_log.suspect() == Suspect(1)
    assert not crash_log.has_isolated_ok()
    crash_log.isolated_start(1)
    crash_log.isolated_ok()
    assert crash_log.has_isolated_ok()
    for _ in range(3):
        assert crash_log.suspect() == Suspect(2)
        dies_isolated(crash_log, 2)
    assert crash_log.suspect() == Suspect(2, "killed")
    crash_log.quarantined(2)
    assert crash_log.suspect() is None, "the third is no suspect any more"


def test_suspects_of_a_window_are_cleared_one_by_one(crash_log: CrashLog) -> None:
    dies_in_window(crash_log, range(5, 9), kind="timed_out")
    for index in range(5, 9):
        assert crash_log.suspect() == Suspect(index)
        crash_log.isolated_start(index)
        crash_log.isolated_ok()
    assert crash_log.suspect() is None


def test_a_damaged_log_is_read_as_far_as_it_goes(crash_log: CrashLog) -> None:
    crash_log.path.write_bytes(
        b"begin\n4\n\xff\xfe junk\nisolated x\nquarantined\n\n4-\n-4\n7-3\n0-99999999999999\nkilled\n4\nkilled 1e9\n"
        b"4\nkilled -1.5\n4kille\ncrashed 1.0\ncontrol 3\ncrashed nan\n4"
    )
    assert crash_log.suspect() is None


@pytest.mark.parametrize("word", ["0-" + "9" * 39, "9" * 5000, "0-1" + "0" * 5000, "7-3"])
def test_numbers_without_end_are_no_samples(word: str, crash_log: CrashLog) -> None:
    crash_log.path.write_text(f"begin {word}\nquarantined {word}\n")
    assert crash_log.suspect() is None


def test_a_log_of_an_earlier_version_convicts_nothing(crash_log: CrashLog) -> None:
    """0.4.0 took beginnings for deaths; its own file has another name and is swept."""
    crash_log.path.write_text("begin\n0\n" * 3 + "isolated 0\n" * 9)
    assert crash_log.suspect() is None


def test_the_first_attempt_that_is_not_on_the_list() -> None:
    entries = [QuarantinedDraw("train", 3, attempt, "killed", "") for attempt in (0, 1)] + [
        QuarantinedDraw("train", 4, 1, "black", "")
    ]
    assert [first_attempt(entries, index) for index in (2, 3, 4)] == [0, 2, 0]


def test_a_list_survives_the_file_and_other_lines_are_passed_over(tmp_path: Path) -> None:
    import bokehsynth as bs

    entries = [
        QuarantinedDraw("train", 3, 0, "raised", 'quotes " and \u00e9'),
        QuarantinedDraw("val", 1, 2, "black", "x"),
    ]
    path = tmp_path / "quarantine.jsonl"
    path.write_text(
        '{"kind":"background","name":"a.png","reason":"corrupt","message":""}\n' + "".join(e.line() for e in entries)
    )
    assert read_list(path) == entries
    for text in ("{", "[]\n", '{"kind": "sample"}\n', '{"kind": "sample", "index": "3"}\n'):
        path.write_text(text)
        with pytest.raises(bs.UsageError, match="not a quarantine list"):
            read_list(path)


def test_a_list_with_numbers_without_end_is_none(tmp_path: Path) -> None:
    path = tmp_path / "list.jsonl"
    record = {"kind": "sample", "split": "train", "index": 10**400, "attempt": 0, "reason": "x", "message": ""}
    path.write_text(json.dumps(record) + "\n")
    with pytest.raises(UsageError, match="is not a quarantine list"):
        read_list(path)


def test_a_draw_of_a_list_is_of_train_or_val(tmp_path: Path) -> None:
    path = tmp_path / "list.jsonl"
    path.write_text(QuarantinedDraw("../x", 0, 0, "raised", "").line())
    with pytest.raises(UsageError, match="its split must be train or val"):
        read_list(path)


def test_messages_are_the_same_on_every_run() -> None:
    assert stable_message(ValueError(f"bad {object()}\nmore")) == "ValueError: bad <object object at 0x...>"
