"""Data sets in a bucket: the bytes of a folder, whatever dies, races or answers wrongly on the way."""

import importlib
import json
import sys
import traceback
from functools import cache
from threading import Barrier, Event, Thread

import numpy as np
import pytest
from click.testing import CliRunner
from support.bucket_trees import tree
from support.s3_server import KEY_ID, SECRET, Fault

import bokehsynth as bs
from bokehsynth.cli import cli
from bokehsynth.errors import ChangedError, DataError, LockedError, StorageError
from bokehsynth.files import atomic_write, commit_file, pretty_json
from bokehsynth.generation.crash_log import CrashLog
from bokehsynth.generation.dataset_files import missing_conditions, unchanged, write_root_files
from bokehsynth.generation.engines import NodeCheck
from bokehsynth.generation.export.run import export_dataset
from bokehsynth.generation.extend import extend
from bokehsynth.generation.generate import GenerateOptions, finalize, generate
from bokehsynth.generation.plan import all_plans
from bokehsynth.generation.provenance import describe_machine
from bokehsynth.generation.quarantine import QuarantinedDraw, read_shard_list, write_shard_list
from bokehsynth.generation.replay import replay_sample
from bokehsynth.generation.report.write import write_report
from bokehsynth.generation.shard_lock import shard_lock
from bokehsynth.generation.shard_task import ShardTask
from bokehsynth.generation.verify import verify
from bokehsynth.pipeline import sample_from_draw
from bokehsynth.shards import Layout, ShardPlan, find_shard, write_dataset_json
from bokehsynth.workers.events import Done, Failed

runs = importlib.import_module("bokehsynth.generation.generate")
FIRST = ShardPlan("train", 0, 0, 2)


class EngineHere:
    """Runs the tasks of a run in this process."""

    workers = 1

    def run(self, task, specs):
        for spec in specs:
            try:
                result = task(spec, lambda units: None)
            except Exception as error:
                yield Failed(spec, error, traceback.format_exc(), 1)
            else:
                yield Done(spec, result, 1, 0.1)


@pytest.fixture(autouse=True)
def tasks_run_here(monkeypatch, tmp_path):
    monkeypatch.setattr(GenerateOptions, "make_engine", lambda self, allocation: EngineHere())
    monkeypatch.setattr("bokehsynth.generation.generate.compile_kernels", lambda recipe, device: None)
    monkeypatch.setattr("bokehsynth.shards.layout.user_cache", lambda *parts: tmp_path.joinpath("machine", *parts))


@pytest.fixture
def bucket_set(local_set, place):
    """A copy of `local_set` in a bucket."""
    for name, data in tree(local_set).items():
        commit_file(place / name, data)
    return place


def test_a_set_in_a_bucket_is_that_of_a_folder_byte_for_byte(place, local_set, proxy, tmp_path, monkeypatch):
    """Whatever the server does meanwhile."""
    monkeypatch.chdir(tmp_path)
    Layout(place).staging.mkdir(parents=True)
    log = CrashLog(Layout(place).crash_log(FIRST))  # of another set that was there: three deaths over its sample 1
    for _ in range(3):
        log.isolated_start(1)
        log.died("crashed", 1.0)
    proxy.faults = [Fault("PUT", "", kind, times=2, skip=3 * i) for i, kind in enumerate(("drop", "500", "409"))]
    proxy.faults += [Fault("GET", "", "refuse", times=3, skip=5), Fault("HEAD", "", "503", times=3, skip=7)]
    assert generate(local_set.with_suffix(".yaml"), str(place), device="cpu").complete
    assert all(fault.struck == fault.times for fault in proxy.faults)
    assert tree(place) == tree(local_set)
    assert not (tmp_path / "s3:").exists()
    (log,) = (place / "logs").iterdir()
    events = [json.loads(line)["event"] for line in log.read_bytes(1 << 20).decode().splitlines()]
    assert events == ["started", "committed", "committed", "finished"]
    proxy.seen.clear()
    again = generate(local_set.with_suffix(".yaml"), str(place), device="cpu")
    assert (again.made, again.complete) == (0, True)
    assert "PUT" not in {method for method, _ in proxy.seen}


def test_a_set_in_a_bucket_is_read_as_one_in_a_folder(bucket_set, local_set):
    there, here = bs.open_dataset(str(bucket_set)), bs.open_dataset(local_set)
    assert len(there) == len(here) == 3
    for a, b in zip(there, here, strict=True):
        assert a.meta == b.meta
        assert all(np.array_equal(a[name], b[name]) for name in b.arrays)
    assert there.state_dict() == here.state_dict()
    assert list(there.records([0, 2])) == list(here.records([0, 2]))
    assert there.members(1) == here.members(1)


def test_a_sample_is_read_by_one_request(bucket_set, proxy):
    data = bs.open_dataset(str(bucket_set), fields=["hq", "lq"])
    _ = data[0]
    proxy.seen.clear()
    assert data[1].hq.shape == (32, 32, 3)
    assert len([path for _, path in proxy.seen if path.endswith(".tar")]) <= 2  # two runs of members side by side
    assert {method for method, _ in proxy.seen} == {"GET"}


@pytest.mark.long
@pytest.mark.parametrize("kind", ["500", "409", "drop", "refuse", "slow", "unconditional"])
def test_faults_of_a_server_change_no_byte(place, local_set, proxy, kind):
    proxy.faults = [Fault("PUT", "", kind, times=9), Fault("GET", "", kind, times=5, skip=3), Fault("HEAD", "", kind)]
    assert generate(local_set.with_suffix(".yaml"), str(place), device="cpu").complete
    assert tree(place) == tree(local_set)
    assert proxy.faults[0].struck == 9


def test_a_run_that_ends_between_index_and_marker_leaves_no_shard_and_is_gone_on_with(
    place, local_set, proxy, monkeypatch
):
    monkeypatch.setenv("BOKEHSYNTH_STORE_SECONDS", "0.1")
    proxy.faults = [Fault("PUT", "train-000000.done.json", "503", times=10**6)]
    with pytest.raises(StorageError, match=r"train-000000\.done\.json: the store was busy"):
        generate(local_set.with_suffix(".yaml"), str(place), device="cpu")
    layout = Layout(place)
    assert layout.tar(FIRST).is_file()
    assert layout.index(FIRST).is_file()
    assert find_shard(layout, FIRST) is None
    with pytest.raises(DataError, match="the run is unfinished"):
        bs.open_dataset(str(place))
    proxy.faults = []
    assert generate(local_set.with_suffix(".yaml"), str(place), device="cpu").complete
    assert tree(place) == tree(local_set)


def test_two_machines_that_make_other_bytes_are_both_named(bucket_set, local_set):
    layout = Layout(bucket_set)
    for path in (layout.dataset, layout.marker(FIRST), layout.tar(FIRST)):
        path.unlink()
    layout.tar(FIRST).create(b"what another machine made", "alpha-7")
    with pytest.raises(ChangedError, match=r"train-000000\.tar: machine alpha-7 put other bytes there than this"):
        generate(local_set.with_suffix(".yaml"), str(bucket_set), device="cpu")
    assert layout.tar(FIRST).read_bytes(100) == b"what another machine made"
    verify(str(bucket_set), fix=True)
    assert generate(local_set.with_suffix(".yaml"), str(bucket_set), device="cpu").made == 2
    assert tree(bucket_set) == tree(local_set)


def test_a_damaged_marker_of_an_unfinished_set_does_not_block_it(bucket_set, local_set):
    whole, layout, second = tree(bucket_set), Layout(bucket_set), ShardPlan("train", 1, 2, 1)
    layout.dataset.unlink()
    layout.marker(FIRST).change(lambda old: b"damaged")
    layout.tar(second).unlink()
    layout.marker(second).unlink()
    layout.index(second).change(lambda old: b"damaged")
    (layout.split("train") / "train-notes.tar").create(b"mine", "alpha")
    verify(str(bucket_set), fix=True)
    assert not {name for name in tree(bucket_set) if "train-0" in name}
    assert generate(local_set.with_suffix(".yaml"), str(bucket_set), device="cpu").made == 3
    assert tree(bucket_set) == whole | {"train/train-notes.tar": b"mine"}


def test_verify_fix_deletes_no_whole_tar_whose_marker_is_damaged(bucket_set, local_set):
    whole, layout = tree(bucket_set), Layout(bucket_set)
    layout.marker(FIRST).change(lambda old: b"damaged")
    assert not verify(str(bucket_set), decode=0, fix=True).mended  # the tar was not decoded, so no marker follows
    left = tree(bucket_set)
    assert left["train/train-000000.tar"] == whole["train/train-000000.tar"]
    assert not {name for name in left if name.startswith(".bokehsynth/train/train-000000.")}


@cache
def this_machine():
    return describe_machine("cpu")


def begin(place, path, *overrides):
    """Write the files of a set that is begun, as if the place had just been found empty."""
    recipe = bs.load_recipe(path, overrides)
    write_root_files(Layout(place), recipe, all_plans(recipe), this_machine())


def test_a_recipe_that_is_begun_where_another_has_just_been_is_refused(place, local_set):
    """Also where the other has put no more than its identity yet."""
    path = local_set.with_suffix(".yaml")
    begin(place, path)
    begin(place, path)
    others = {
        "samples.train=5": "samples.train: 3 -> 5",
        "seed=9": "seed: 0 -> 9",
        "scene.foregrounds=2": "foregrounds",
    }
    for step in ("whole", "identity alone"):
        there = tree(place)
        for other, words in others.items():
            with pytest.raises(ChangedError, match=f"was begun with another recipe.*\n.*{words}") as error:
                begin(place, path, other)
            assert error.value.exit_code == 2
        assert tree(place) == there
        if step == "whole":
            (place / "recipe.yaml").unlink()
            others = {"seed=9": "recipe_digest: "}


@pytest.mark.parametrize("key", ["samples.train", pytest.param("seed", marks=pytest.mark.long)])
def test_of_two_recipes_begun_at_once_one_has_the_place(place, local_set, key):
    """Both machines look at an empty place before either of them writes."""
    path, both, refused = local_set.with_suffix(".yaml"), Barrier(2), []

    def start(number):
        both.wait()
        try:
            begin(place, path, f"{key}={number}")
        except ChangedError as error:
            refused.append((number, str(error)))

    threads = [Thread(target=start, args=(number,)) for number in (4, 6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    ((loser, words),) = refused
    assert "was begun with another recipe" in words
    winner = bs.load_recipe(path, [f"{key}={10 - loser}"])
    assert (place / "recipe.yaml").read_bytes(1 << 20).decode() == winner.text()
    assert json.loads((place / ".bokehsynth" / "identity.json").read_bytes(1 << 20)) == winner.identity


def test_a_node_that_may_not_read_the_bucket_is_named(bucket_set, local_set, proxy):
    recipe = bs.load_recipe(local_set.with_suffix(".yaml"))
    check = NodeCheck(describe_machine("cpu", recipe), recipe.identity, allow_mixed=False, lock=True)
    proxy.faults = [Fault("GET", "", "expired", times=10**6)]
    with pytest.raises(StorageError, match=r"node \S+: .*have expired.*every node"):
        check(Layout(bucket_set), recipe, "cpu")


def test_a_node_that_reads_another_store_or_lacks_obstore_gets_advice_for_just_that(place, local_set, monkeypatch):
    recipe = bs.load_recipe(local_set.with_suffix(".yaml"))
    check = NodeCheck({}, recipe.identity, allow_mixed=False, lock=True)
    with pytest.raises(ChangedError, match=r"does not see the data set there; .* the same store: .*ENDPOINT") as error:
        check(Layout(place), recipe, "cpu")
    assert "--out" not in str(error.value)
    monkeypatch.setitem(sys.modules, "obstore", None)
    with pytest.raises(ChangedError, match=r"node \S+: .*pip install 'bokehsynth\[cloud\]'; .*same packages") as error:
        check(Layout(place), recipe, "cpu")
    assert "credentials" not in str(error.value)


def test_another_recipe_is_refused(bucket_set, local_set):
    with pytest.raises(ChangedError, match="another recipe"):
        generate(bs.load_recipe(local_set.with_suffix(".yaml"), ["seed=9"]), str(bucket_set), device="cpu")


@pytest.mark.long
def test_verify_finds_damage_and_the_next_run_mends_it(bucket_set, local_set):
    whole, layout = tree(bucket_set), Layout(bucket_set)
    assert verify(str(bucket_set)).ok
    damaged = bytearray(whole["train/train-000000.tar"])
    damaged[700] ^= 1
    layout.tar(FIRST).change(lambda old: bytes(damaged))
    report = verify(str(bucket_set), fix=True)
    assert {fault.kind for fault in report.faults} >= {"sha256"}
    assert not report.mended
    assert not {"train/train-000000.tar", "dataset.json"} & tree(bucket_set).keys()
    assert generate(local_set.with_suffix(".yaml"), str(bucket_set), device="cpu").made == 2
    assert tree(bucket_set) == whole
    layout.index(FIRST).unlink()
    layout.marker(FIRST).unlink()
    assert verify(str(bucket_set), fix=True).mended
    assert tree(bucket_set) == whole


@pytest.mark.long
def test_extend_finalize_replay_report_and_export_take_urls(bucket_set, local_set, tmp_path):
    for out in (local_set, str(bucket_set)):
        assert extend(out, 7, GenerateOptions(device="cpu")).complete
    assert tree(bucket_set) == tree(local_set)
    (bucket_set / "dataset.json").unlink()
    assert finalize(str(bucket_set)).complete
    assert tree(bucket_set) == tree(local_set)
    assert replay_sample(str(bucket_set), "train-000000001", "cpu")[2] == {}
    write_report(str(bucket_set), tmp_path / "there.html", samples=2)
    write_report(local_set, tmp_path / "here.html", samples=2)
    assert len((tmp_path / "there.html").read_bytes()) > 10_000
    for source, name in ((str(bucket_set), "there"), (local_set, "here")):
        assert export_dataset(source, tmp_path / name, "folder") == 7
    assert tree(tmp_path / "there") == tree(tmp_path / "here")


def test_dataset_json_never_comes_to_describe_fewer_samples(bucket_set, local_set):
    smaller = json.loads((local_set / "dataset.json").read_text())
    smaller["splits"]["train"]["counts"] = [2]
    with pytest.raises(ChangedError, match="describes 3 samples, more than the 2 of this run"):
        write_dataset_json(Layout(bucket_set), smaller)
    assert (bucket_set / "dataset.json").read_bytes(1 << 20) == (local_set / "dataset.json").read_bytes()
    with pytest.raises(ChangedError, match="another run is changing this set"):
        (bucket_set / "recipe.yaml").change(unchanged(Layout(bucket_set), b"before", "after"))


def test_draws_that_another_machine_quarantines_meanwhile_are_made_anew(place, local_set, monkeypatch):
    layout = Layout(place)
    draw = QuarantinedDraw("train", 1, 0, "killed", "its worker was killed by it again and again")
    path = "bokehsynth.generation.shard_task.write_shard_list"
    put = []

    def other_machine_first(layout, plan, entries):
        if plan == FIRST and not put:
            put.append(plan)
            write_shard_list(layout, plan, [draw])
        write_shard_list(layout, plan, entries)

    monkeypatch.setattr(path, other_machine_first)
    result = generate(local_set.with_suffix(".yaml"), str(place), device="cpu")
    assert result.complete
    assert result.quarantined == (draw,)
    assert read_shard_list(layout, FIRST) == [draw]
    assert [meta["attempt"] for meta in bs.open_dataset(str(place)).records(range(3))] == [0, 1, 0]
    assert verify(str(place)).ok


@pytest.mark.parametrize("found", ["fatal", "raises"])
def test_no_draw_is_quarantined_of_a_shard_that_another_machine_has_committed(
    bucket_set, local_set, monkeypatch, found
):
    layout, asked = Layout(bucket_set), []
    layout.staging.mkdir(parents=True)
    log = CrashLog(layout.crash_log(FIRST))
    for _ in range(3 if found == "fatal" else 0):
        log.isolated_start(1)
        log.died("crashed", 1.0)

    def not_yet(*args):
        asked.append(args)
        return find_shard(*args) if len(asked) > 1 else None

    def fails_first(recipe, draw, render):
        if not raised:
            raised.append(draw)
            raise RuntimeError("its draw")
        return sample_from_draw(recipe, draw, render)

    raised = []
    monkeypatch.setattr("bokehsynth.generation.shard_task.find_shard", not_yet)
    monkeypatch.setattr("bokehsynth.generation.shard_task.sample_from_draw", fails_first)
    task = ShardTask(bs.load_recipe(local_set.with_suffix(".yaml")), layout, "cpu")
    assert task(FIRST, lambda units: None).quarantined == ()
    assert len(asked) == 3
    assert tree(bucket_set) == tree(local_set)


def test_a_worker_lives_while_a_busy_store_is_asked_for_its_shard(bucket_set, local_set, monkeypatch):
    sign, signs = Event(), []

    def busy(*args):
        signs.append(sign.wait(10))
        return find_shard(*args)

    monkeypatch.setattr("bokehsynth.generation.shard_task.SIGN_SECONDS", 0.01)
    monkeypatch.setattr("bokehsynth.generation.shard_task.find_shard", busy)
    task = ShardTask(bs.load_recipe(local_set.with_suffix(".yaml")), Layout(bucket_set), "cpu")
    task(FIRST, lambda units: sign.set())
    assert signs == [True]


def test_a_bucket_without_conditions_is_told_of(bucket_set, local_set, proxy):
    layout = Layout(bucket_set)
    assert missing_conditions(layout) == ""
    proxy.faults = [Fault("PUT", "", "unconditional", times=10**6)]
    assert "does not keep the conditions of puts" in missing_conditions(layout)
    assert not layout.tar(FIRST).bucket.conditional


@pytest.mark.parametrize(
    ("after", "other", "words"),
    [("write_root_files", "samples.train=5", "samples.train: 5 -> 1"), ("_make_shards", "seed=9", "seed: 9 -> 0")],
)
def test_without_conditions_a_recipe_that_was_put_over_this_one_is_told(
    place, local_set, proxy, monkeypatch, after, other, words
):
    """By a machine that found the place empty when this one did, and wrote after this one's start or during its run."""
    proxy.faults = [Fault("PUT", "", "unconditional", times=10**6)]
    path, layout, step = local_set.with_suffix(".yaml"), Layout(place), getattr(runs, after)
    mine, recipe = (bs.load_recipe(path, ["samples.train=1", *more]) for more in ([], [other]))

    def then_the_other(*args):
        step(*args)
        atomic_write(layout.identity, pretty_json(recipe.identity))
        atomic_write(layout.recipe, recipe.text())

    monkeypatch.setattr(runs, after, then_the_other)
    with pytest.raises(ChangedError, match=f"was begun with another recipe.*\n.*{words}") as error:
        generate(mine, str(place), device="cpu")
    assert error.value.exit_code == 2
    assert layout.tar(FIRST).is_file() == (after == "_make_shards")
    assert not layout.dataset.is_file()


def test_the_command_line_says_what_is_wrong_and_no_secret(bucket_set, local_set, proxy, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    recipe = str(local_set.with_suffix(".yaml"))
    done = CliRunner().invoke(cli, ["generate", recipe, "--out", str(bucket_set), "--device", "cpu"])
    assert done.exit_code == 0, done.output
    assert f"{bucket_set}: already complete, 3 samples" in done.output
    proxy.faults = [Fault("PUT", "", "expired", times=10**6)]
    other = str(bucket_set).replace("/set", "/other")
    done = CliRunner().invoke(cli, ["generate", recipe, "--out", other, "--device", "cpu"])
    assert isinstance(done.exception, StorageError)
    assert "have expired" in str(done.exception)
    for data in [done.output.encode(), *(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())]:
        assert SECRET.encode() not in data
        assert KEY_ID.encode() not in data
    assert not (tmp_path / "s3:").exists()


def test_two_runs_of_one_machine_on_one_range_exclude_each_other(bucket_set, local_set, tmp_path):
    layout = Layout(bucket_set)
    assert layout.lock.is_relative_to(tmp_path / "machine")
    layout.dataset.unlink()
    with shard_lock(layout.lock, {"train": (0, 0)}), pytest.raises(LockedError, match="train shards 0 to 1"):
        generate(local_set.with_suffix(".yaml"), str(bucket_set), device="cpu")
