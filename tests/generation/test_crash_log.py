"""Crash counts: three over one sample make it a suspect, three in isolation quarantine it."""

from pathlib import Path

import pytest

from bokehsynth.generation.crash_log import CrashLog, Suspect
from bokehsynth.generation.quarantine import QuarantinedDraw, first_attempt, read_list, stable_message


def crashes_at(crash_log: CrashLog, index: int, timed_out: bool = False) -> None:
    crash_log.begin()
    for i in range(index + 1):
        crash_log.in_flight(range(i, i + 1))
    if timed_out:
        crash_log.timed_out()


def crashes_isolated(crash_log: CrashLog, index: int, timed_out: bool = False) -> None:
    crash_log.isolated_start(index)
    if timed_out:
        crash_log.timed_out()


@pytest.fixture
def crash_log(tmp_path: Path) -> CrashLog:
    return CrashLog(tmp_path / "x.crashes")


def test_nothing_happened(crash_log: CrashLog) -> None:
    assert crash_log.suspect() is None
    crash_log.delete()
    crash_log.not_at_fault()
    assert not crash_log.path.exists()


def test_three_crashes_over_one_sample_make_a_suspect_and_three_in_isolation_quarantine_it(crash_log: CrashLog) -> None:
    for _ in range(2):
        crashes_at(crash_log, 4)
        assert crash_log.suspect() is None
    crashes_at(crash_log, 4)
    for _ in range(3):
        assert crash_log.suspect() == Suspect(4, confirmed=False, timed_out=False)
        crashes_isolated(crash_log, 4)
    assert crash_log.suspect() == Suspect(4, confirmed=True, timed_out=False)
    crash_log.quarantined(4)
    assert crash_log.suspect() is None
    crashes_at(crash_log, 7)
    assert crash_log.suspect() == Suspect(7, confirmed=False, timed_out=False), (
        "after one quarantined, one crash is enough"
    )


def test_crashes_at_different_samples_make_no_suspect(crash_log: CrashLog) -> None:
    for index in (0, 5, 3, 5, 0, 3):
        crashes_at(crash_log, index)
        assert crash_log.suspect() is None


def test_success_in_isolation_resets_the_counters(crash_log: CrashLog) -> None:
    for _ in range(3):
        crashes_at(crash_log, 2)
    crashes_isolated(crash_log, 2)
    crashes_isolated(crash_log, 2)
    crash_log.isolated_start(2)
    crash_log.isolated_ok()
    assert crash_log.suspect() is None
    crashes_at(crash_log, 2)
    assert crash_log.suspect() is None, "its count starts at zero again"


def test_one_timeout_makes_a_suspect_and_two_in_isolation_quarantine_it(crash_log: CrashLog) -> None:
    crashes_at(crash_log, 1, timed_out=True)
    assert crash_log.suspect() == Suspect(1, confirmed=False, timed_out=True)
    crashes_isolated(crash_log, 1, timed_out=True)
    assert crash_log.suspect() == Suspect(1, confirmed=False, timed_out=True)
    crashes_isolated(crash_log, 1, timed_out=True)
    assert crash_log.suspect() == Suspect(1, confirmed=True, timed_out=True)


def test_ends_that_are_no_samples_fault_do_not_count(crash_log: CrashLog) -> None:
    for _ in range(9):
        crashes_at(crash_log, 3)
        crash_log.not_at_fault()
        crashes_at(crash_log, 3)
        crash_log.committing()
        crash_log.begin()  # dead before any sample
    assert crash_log.suspect() is None


def crashes_in_window(crash_log: CrashLog, *windows: range) -> None:
    crash_log.begin()
    for window in windows:
        crash_log.in_flight(window)


def test_all_that_were_in_the_making_are_suspects_until_one_crashes_isolated(crash_log: CrashLog) -> None:
    for _ in range(2):
        crashes_in_window(crash_log, range(3), range(1, 4))
        assert crash_log.suspect() is None
    crashes_in_window(crash_log, range(3), range(1, 4))
    assert crash_log.suspect() == Suspect(1, confirmed=False, timed_out=False)
    assert not crash_log.has_isolated_ok()
    crash_log.isolated_start(1)
    crash_log.isolated_ok()
    assert crash_log.has_isolated_ok()
    for _ in range(3):
        assert crash_log.suspect() == Suspect(2, confirmed=False, timed_out=False)
        crashes_isolated(crash_log, 2)
    assert crash_log.suspect() == Suspect(2, confirmed=True, timed_out=False)
    crash_log.quarantined(2)
    assert crash_log.suspect() is None, "the third is no suspect any more"


def test_suspects_of_a_window_are_cleared_one_by_one(crash_log: CrashLog) -> None:
    crashes_in_window(crash_log, range(5, 9))
    crash_log.timed_out()
    for index in range(5, 9):
        assert crash_log.suspect() == Suspect(index, confirmed=False, timed_out=True)
        crash_log.isolated_start(index)
        crash_log.isolated_ok()
    assert crash_log.suspect() is None


def test_a_damaged_log_is_read_as_far_as_it_goes(crash_log: CrashLog) -> None:
    crash_log.path.write_bytes(b"begin\n4\n\xff\xfe junk\nisolated x\nquarantined\n\n4-\n-4\n7-3\n0-99999999999999\n4")
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


def test_messages_are_the_same_on_every_run() -> None:
    assert stable_message(ValueError(f"bad {object()}\nmore")) == "ValueError: bad <object object at 0x...>"
