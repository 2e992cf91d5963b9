"""The verbs of a bucket through faults of the network and of the server."""

import multiprocessing
import random
import threading
import traceback

import pytest
from support.s3_server import KEY_ID, SECRET, Fault

from bokehsynth.errors import ChangedError, DataError, StorageError, UsageError
from bokehsynth.files import commit_file, data_path
from bokehsynth.stores import ObjectPath, TakenError

BUSY = ["500", "503", "429", "409", "refuse", "drop"]


@pytest.mark.parametrize("kind", BUSY)
def test_a_put_arrives_once_through_busy_answers_and_lost_ones(place, proxy, kind):
    proxy.faults = [Fault("PUT", "/set/x", kind, times=3), Fault("HEAD", "/set/x", "503", times=2, skip=1)]
    commit_file(place / "x", b"content")
    assert (place / "x").read_bytes(100) == b"content"
    assert proxy.faults[0].struck == (1 if kind == "drop" else 3)  # what was dropped had arrived: it is not put again
    with pytest.raises(TakenError):
        place.bucket.create("set/x", b"another")
    assert (place / "x").read_bytes(100) == b"content"


@pytest.mark.parametrize("kind", [*BUSY, "slow"])
def test_reads_lists_and_deletes_go_on(place, proxy, kind):
    for name in ("a", "b"):
        commit_file(place / name, name.encode() * 10)
    proxy.faults = [Fault("GET", "", kind, times=3), Fault("DELETE", "", kind, times=2)]
    assert place.bucket.read_range("set/a", 2, 5)[0] == b"aaa"
    assert [path.name for path in place.iterdir()] == ["a", "b"]
    (place / "a").unlink()
    assert not (place / "a").is_file()
    (place / "a").unlink()


def test_of_many_writers_one_wins_and_the_others_see_it(place):
    results = []

    def put(number):
        try:
            results.append(place.bucket.create("set/x", f"writer {number % 2}".encode()))
        except TakenError:
            results.append("other")

    threads = [threading.Thread(target=put, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(map(str, results)) == ["False"] * 3 + ["True"] + ["other"] * 4


def test_no_change_of_concurrent_writers_is_lost(place, proxy):
    proxy.faults = [Fault("PUT", "/set/list", "drop", times=2, skip=3), Fault("PUT", "/set/list", "409", times=3)]

    def add(word):
        (place / "list").change(lambda old: (old or b"") if word in (old or b"") else (old or b"") + word + b"\n")

    threads = [threading.Thread(target=add, args=(f"{number:02d}".encode(),)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted((place / "list").read_bytes(1000).split()) == [f"{number:02d}".encode() for number in range(6)]


def test_a_store_that_stays_busy_is_an_error_with_a_way_out(place, proxy, monkeypatch):
    monkeypatch.setenv("BOKEHSYNTH_STORE_SECONDS", "0.2")
    proxy.faults = [Fault("*", "", "503", times=10**6)]
    with pytest.raises(StorageError, match=r"busy or unreachable for 0\.2 s, .*answered 503.*same line again"):
        commit_file(place / "x", b"content")
    monkeypatch.setenv("BOKEHSYNTH_STORE_SECONDS", "soon")
    with pytest.raises(UsageError, match="BOKEHSYNTH_STORE_SECONDS must be a number"):
        (place / "x").is_file()


@pytest.mark.parametrize(
    ("kind", "message"), [("expired", "credentials of the environment have expired"), ("403", "refuses these credent")]
)
def test_refused_credentials_are_said_at_once_and_never_quoted(place, proxy, kind, message):
    proxy.faults = [Fault("*", "", kind, times=10**6)]
    with pytest.raises(StorageError, match=message) as caught:
        (place / "x").read_bytes(100)
    told = "".join(traceback.format_exception(caught.value))
    assert len(proxy.seen) == 1
    assert KEY_ID not in told
    assert SECRET not in told
    assert "Signature" not in told


def test_a_bucket_that_is_not_there_is_named(proxy):
    with pytest.raises(UsageError, match="s3://no-such-bucket/set/x: there is no such bucket"):
        commit_file(data_path("s3://no-such-bucket/set/x"), b"content")


def test_a_store_without_conditions_is_found_out_and_compared_instead(place, proxy):
    commit_file(place / "x", b"content")
    assert place.bucket.has_conditions("set/x", b"content")
    proxy.faults = [Fault("PUT", "", "unconditional", times=10**6)]
    assert not place.bucket.has_conditions("set/x", b"content")
    place.bucket.conditional = False
    assert place.bucket.create("set/y", b"mine")
    assert not place.bucket.create("set/y", b"mine")
    with pytest.raises(TakenError):
        place.bucket.create("set/y", b"others")
    assert (place / "y").read_bytes(100) == b"mine"
    proxy.faults = [Fault("PUT", "/set/z", "501", times=10**6)]
    assert not place.bucket.has_conditions("set/z", b"content")


@pytest.mark.timeout(60)
def test_a_store_that_takes_no_puts_at_all_is_said_after_the_second(place, proxy):
    proxy.faults = [Fault("PUT", "/set/x", "501", times=10**6)]
    with pytest.raises(StorageError, match=r"does not take puts \(501\): check the endpoint"):
        commit_file(place / "x", b"content")
    with pytest.raises(StorageError, match="does not take puts"):
        (place / "x").change(lambda old: b"content")
    assert proxy.faults[0].struck == 3


def test_a_put_that_is_taken_and_not_kept_is_asked_for_with_pauses(place, proxy, monkeypatch):
    monkeypatch.setenv("BOKEHSYNTH_STORE_SECONDS", "0.2")
    place.bucket.conditional = False
    proxy.faults = [Fault("PUT", "/set/x", "swallow", times=10**6)]
    with pytest.raises(StorageError, match="the last time because what was put is not there"):
        commit_file(place / "x", b"content")


def test_an_empty_object_has_no_maker_and_is_other_bytes(place):
    (place / "x").create(b"", "alpha")
    with pytest.raises(ChangedError, match="another machine put other bytes there"):
        commit_file(place / "x", b"content")


def test_an_object_is_read_as_a_file_whatever_the_order(place):
    content = random.Random(3).randbytes(5_300_000)
    commit_file(place / "x", content)
    with (place / "x").open_read() as file:
        chance, at = random.Random(5), 0
        for _ in range(40):
            size = chance.choice([0, 1, 512, 70_000, 1_500_000])
            at = chance.choice([at, chance.randrange(len(content) + 10)])
            assert file.read_at(size, at) == content[at : at + size]
            at += size
        file.seek(-3, 2)
        assert (file.read(), file.tell(), file.size) == (content[-3:], len(content), len(content))
        file.seek(10)
        assert file.read() == content[10:]


def test_an_object_that_changes_while_it_is_read_is_an_error(place):
    (place / "x").change(lambda old: b"first" * 1000)
    with (place / "x").open_read() as file:
        assert file.read_at(5, 100) == b"first"
        (place / "x").change(lambda old: b"other" * 1000)
        with pytest.raises(DataError, match="changed while it was read"):
            file.read_at(5, 200)
    with pytest.raises(FileNotFoundError), (place / "none").open_read() as file:
        file.read_at(10, 0)


@pytest.mark.parametrize(
    "url",
    ["s3://", "s3://bucket", "s3://bucket/", "s3://bucket/../x", "s3://bucket/a//b", "gs://bucket/%2e", "az:///x"],
)
def test_other_forms_of_urls_are_refused(url):
    with pytest.raises(UsageError, match="must be s3://bucket/folder"):
        ObjectPath.from_url(url)


@pytest.mark.parametrize("url", [f"s3://{KEY_ID}:{SECRET}@bucket/set", f"s3://bucket/set?X-Amz-Signature={SECRET}"])
def test_a_url_with_credentials_is_refused_without_a_word_of_it(url):
    with pytest.raises(UsageError, match="holds no credentials") as caught:
        data_path(url)
    assert SECRET not in str(caught.value)


def _read_in_a_fork(place, pipe):
    try:
        pipe.send(place.read_bytes(100))
    except UsageError as error:
        pipe.send(str(error))


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_process_is_told_so_and_does_not_hang(place):
    commit_file(place / "x", b"content")
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("fork").Process(target=_read_in_a_fork, args=(place / "x", theirs))
    process.start()
    assert ours.poll(30)
    assert "start such processes with spawn" in ours.recv()
    process.join()
