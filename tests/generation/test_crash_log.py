"""From deaths on disk to a verdict: three over one sample make a suspect, three alone convict it."""

from pathlib import Path

import pytest

from bokehsynth.generation.crash_log import Case, Trail
from bokehsynth.generation.quarantine import GivenUp, first_attempt, plain_words, read_list


def dies_at(trail: Trail, index: int, hung: bool = False) -> None:
    trail.begin()
    for i in range(index + 1):
        trail.making(range(i, i + 1))
    if hung:
        trail.hung()


def dies_alone(trail: Trail, index: int, hung: bool = False) -> None:
    trail.alone(index)
    if hung:
        trail.hung()


@pytest.fixture
def trail(tmp_path: Path) -> Trail:
    return Trail(tmp_path / "x.trail")


def test_nothing_happened(trail: Trail) -> None:
    assert trail.case() is None
    trail.forget()
    trail.pardoned()
    assert not trail.path.exists()


def test_three_deaths_over_one_sample_make_a_suspect_and_three_alone_convict_it(trail: Trail) -> None:
    for _ in range(2):
        dies_at(trail, 4)
        assert trail.case() is None
    dies_at(trail, 4)
    for _ in range(3):
        assert trail.case() == Case(4, proven=False, hung=False)
        dies_alone(trail, 4)
    assert trail.case() == Case(4, proven=True, hung=False)
    trail.convicted(4)
    assert trail.case() is None
    dies_at(trail, 7)
    assert trail.case() == Case(7, proven=False, hung=False), "where one was found, the next is suspected at once"


def test_deaths_here_and_there_make_no_suspect(trail: Trail) -> None:
    for index in (0, 5, 3, 5, 0, 3):
        dies_at(trail, index)
        assert trail.case() is None


def test_what_came_out_alone_is_innocent(trail: Trail) -> None:
    for _ in range(3):
        dies_at(trail, 2)
    dies_alone(trail, 2)
    dies_alone(trail, 2)
    trail.alone(2)
    trail.passed()
    assert trail.case() is None
    dies_at(trail, 2)
    assert trail.case() is None, "it starts from nothing again"


def test_a_hang_suspects_at_once_and_two_alone_convict(trail: Trail) -> None:
    dies_at(trail, 1, hung=True)
    assert trail.case() == Case(1, proven=False, hung=True)
    dies_alone(trail, 1, hung=True)
    assert trail.case() == Case(1, proven=False, hung=True)
    dies_alone(trail, 1, hung=True)
    assert trail.case() == Case(1, proven=True, hung=True)


def test_ends_that_are_nobodys_fault_do_not_count(trail: Trail) -> None:
    for _ in range(9):
        dies_at(trail, 3)
        trail.pardoned()
        dies_at(trail, 3)
        trail.committing()
        trail.begin()  # dead before any sample
    assert trail.case() is None


def dies_in_company(trail: Trail, *windows: range) -> None:
    trail.begin()
    for window in windows:
        trail.making(window)


def test_all_that_were_in_the_making_are_suspects_until_one_dies_alone(trail: Trail) -> None:
    for _ in range(2):
        dies_in_company(trail, range(3), range(1, 4))
        assert trail.case() is None
    dies_in_company(trail, range(3), range(1, 4))
    assert trail.case() == Case(1, proven=False, hung=False)
    assert not trail.examined()
    trail.alone(1)
    trail.passed()
    assert trail.examined()
    for _ in range(3):
        assert trail.case() == Case(2, proven=False, hung=False)
        dies_alone(trail, 2)
    assert trail.case() == Case(2, proven=True, hung=False)
    trail.convicted(2)
    assert trail.case() is None, "nothing is held against the third any more"


def test_the_innocent_of_a_company_are_cleared_one_by_one(trail: Trail) -> None:
    dies_in_company(trail, range(5, 9))
    trail.hung()
    for index in range(5, 9):
        assert trail.case() == Case(index, proven=False, hung=True)
        trail.alone(index)
        trail.passed()
    assert trail.case() is None


def test_a_damaged_trail_is_read_as_far_as_it_goes(trail: Trail) -> None:
    trail.path.write_bytes(b"begin\n4\n\xff\xfe junk\nalone x\nconvicted\n\n4-\n-4\n7-3\n0-99999999999999\n4")
    assert trail.case() is None


def test_the_first_attempt_that_is_not_on_the_list() -> None:
    entries = [GivenUp("train", 3, attempt, "killed", "") for attempt in (0, 1)] + [GivenUp("train", 4, 1, "black", "")]
    assert [first_attempt(entries, index) for index in (2, 3, 4)] == [0, 2, 0]


def test_a_list_survives_the_file_and_other_lines_are_passed_over(tmp_path: Path) -> None:
    import bokehsynth as bs

    entries = [GivenUp("train", 3, 0, "raised", 'quotes " and \u00e9'), GivenUp("val", 1, 2, "black", "x")]
    path = tmp_path / "quarantine.jsonl"
    path.write_text(
        '{"kind":"background","name":"a.png","reason":"corrupt","message":""}\n' + "".join(e.line() for e in entries)
    )
    assert read_list(path) == entries
    for text in ("{", "[]\n", '{"kind": "sample"}\n', '{"kind": "sample", "index": "3"}\n'):
        path.write_text(text)
        with pytest.raises(bs.UsageError, match="not a quarantine list"):
            read_list(path)


def test_words_are_the_same_on_every_run() -> None:
    assert plain_words(ValueError(f"bad {object()}\nmore")) == "ValueError: bad <object object at 0x...>"
