"""Blind preferences without a browser: methods, votes in a file, shares with intervals; the demo's command line."""

import errno
import os
import signal
import socket
import warnings
from pathlib import Path

import pytest
from click.testing import CliRunner
from support.demo_pages import two_halves

from bokehsynth import AssetError, StorageError, UsageError
from magicbokeh.cli import cli
from magicbokeh.demo import server
from magicbokeh.demo.server import DemoOptions, listening, run_demo
from magicbokeh.demo.votes import Vote, VoteFile, check_pictures, common_photos, read_methods, shares, wilson


def vote(chosen: str, shown: str = "a|b") -> Vote:
    return Vote("2026-01-01T00:00:00+00:00", "0f", "one", shown, chosen)


def test_shares_of_what_was_voted_between_the_same_methods(tmp_path):
    file = VoteFile(tmp_path / "votes.csv")
    for one in (vote("a"), vote("a", "b|a"), vote("b"), vote("c", "a|c")):
        file.add(one)
    found = shares(VoteFile(tmp_path / "votes.csv").read(), ["b", "a"])
    assert [(one.method, one.votes, round(one.share, 3)) for one in found] == [("a", 2, 0.667), ("b", 1, 0.333)]
    assert (tmp_path / "votes.csv").read_text().splitlines()[0] == "time,voter,photo,shown,chosen"


@pytest.mark.parametrize(
    ("chosen", "count", "low", "high"),
    # Newcombe (1998), Statistics in Medicine 17, table I, method 3: the score interval
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilsons_interval_as_published(chosen, count, low, high):
    assert wilson(chosen, count) == pytest.approx((low, high), abs=5e-5)


def test_the_pictures_that_all_methods_have(tmp_path):
    for name, photos in (("a", ("one", "two")), ("b", ("two", "three"))):
        (tmp_path / name).mkdir()
        for photo in photos:
            two_halves(tmp_path / name / f"{photo}.png")
    methods = read_methods([f"a={tmp_path / 'a'}", f"b={tmp_path / 'b'}"])
    assert common_photos(methods) == {"two": {name: tmp_path / name / "two.png" for name in "ab"}}
    (tmp_path / "b" / "two.png").unlink()
    with pytest.raises(UsageError, match="a has 2, b has 1"):
        common_photos(methods)


@pytest.mark.parametrize(
    ("words", "says"),
    [(["a"], "NAME=FOLDER"), (["a=."], "at least two"), (["a=.", "a=."], "twice"), (["a=nowhere", "b=."], "no such")],
)
def test_methods_that_are_none(words, says):
    with pytest.raises(UsageError, match=says):
        read_methods(words)


def test_another_file_is_never_taken_for_votes(tmp_path):
    (tmp_path / "votes.csv").write_text("name,salary\nx,1\n")
    with pytest.raises(UsageError, match="no file of votes"):
        VoteFile(tmp_path / "votes.csv")


def test_a_torn_line_is_named_and_none_is_torn_by_a_full_disk(tmp_path, monkeypatch):
    file = VoteFile(tmp_path / "votes.csv")
    file.add(vote("a"))
    whole = file.path.read_bytes()

    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(StorageError, match=r"No space left on device \(the vote was not kept\)"):
            file.add(vote("b"))
    assert file.path.read_bytes() == whole
    file.path.write_bytes(whole.rstrip())  # the end of the line alone is missing
    file.add(vote("b"))
    assert [one.chosen for one in file.read()] == ["a", "b"]
    file.path.write_bytes(file.path.read_bytes() + b"2026-01-01T00:0")
    with pytest.raises(UsageError, match=r"line 4 has 1 values, a vote has 5"):
        VoteFile(file.path)


def test_a_folder_that_takes_no_votes_is_found_at_start(tmp_path):
    with pytest.raises(StorageError, match=r"No such file or directory \(choose another --votes\)"):
        VoteFile(tmp_path / "nowhere" / "votes.csv")


def test_a_picture_that_is_none_is_found_at_start(tmp_path):
    good = two_halves(tmp_path / "good.png")
    small = two_halves(tmp_path / "small.png", size=(15, 40))
    (tmp_path / "none.png").write_bytes(b"no picture")
    check_pictures({"one": {"a": good}})
    with pytest.raises(AssetError, match=r"none.png: is not a picture that can be read"):
        check_pictures({"one": {"a": good, "b": tmp_path / "none.png"}})
    with pytest.raises(UsageError, match="at least 16 px on each side, it is 40 x 15"):
        check_pictures({"one": {"a": small}})


@pytest.mark.parametrize("while_serving", [True, False], ids=["serving", "starting"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_signals_end_it_without_a_folder_left(monkeypatch, number, while_serving):
    folders: list[Path] = []
    after: list[tuple[int, bool]] = []

    class Server:
        should_exit = False

        def run(self, sockets):
            os.kill(os.getpid(), number)
            assert self.should_exit

    def made(_, folder):
        folders.append(folder)
        if not while_serving:
            os.kill(os.getpid(), number)
            raise AssertionError("went on")
        return Server()

    monkeypatch.setattr(server, "make_server", made)
    before = signal.signal(number, lambda came, _: after.append((came, folders[0].exists())))
    try:
        run_demo(DemoOptions(port=0, report=lambda _: None))
    finally:
        signal.signal(number, before)
    assert after == [(number, False)], "the signal has its usual effect, when the folder is gone"


def test_what_gradio_leaves_behind_is_not_told_to_users(tmp_path, monkeypatch):
    for name in ("GRADIO_ANALYTICS_ENABLED", "GRADIO_TEMP_DIR", "HF_HUB_DISABLE_TELEMETRY"):
        monkeypatch.setenv(name, "")
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("default")  # as the command line sets it
        server.quiet_gradio(tmp_path)
        warnings.warn("unclosed event loop <_UnixSelectorEventLoop>", ResourceWarning, stacklevel=1)
        warnings.warn("unclosed file", ResourceWarning, stacklevel=1)
    assert [str(one.message) for one in told] == ["unclosed file"]


def test_a_port_that_is_taken_is_said():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UsageError, match=f"--port {port}.*choose another"), listening("127.0.0.1", port):
            raise AssertionError("listened")


def test_the_command_says_what_it_does():
    shown = CliRunner().invoke(cli, ["demo", "--help"])
    assert shown.exit_code == 0
    assert "Photographs are sent nowhere" in shown.output
