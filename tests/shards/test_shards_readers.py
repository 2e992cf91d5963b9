"""Reading shards: our own reader, webdataset and Hugging Face datasets must all see the samples that were written."""

import io
import itertools
import json
import multiprocessing
import os
import pickle
import shutil
import socket
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import pytest
from PIL import Image
from support.shard_samples import IDENTITY, make_dataset, make_sample, same, samples_of, write_dataset_files

from bokehsynth.errors import DataError, UsageError
from bokehsynth.schema import DEFAULT_FIELDS, FIELDS, ShardSpec
from bokehsynth.shards.dataset import read_dataset, stored_plans
from bokehsynth.shards.layout import Layout
from bokehsynth.shards.plan import ShardPlan, plan_shards
from bokehsynth.shards.reader import open_dataset
from bokehsynth.shards.verify import verify_dataset
from bokehsynth.shards.writer import write_shard

SIZES = {"train": 10, "val": 3}
SECOND = ShardPlan("train", 1, 4, 4)


@pytest.fixture(scope="module")
def layout(tmp_path_factory):
    return make_dataset(tmp_path_factory.mktemp("read") / "set", SIZES)


@pytest.fixture
def copy(layout, tmp_path):
    shutil.copytree(layout.root, tmp_path / "copy")
    return type(layout)(tmp_path / "copy")


@pytest.fixture(params=["made up", "generated"])
def either(request, tmp_path):
    """A copy of the synthetic data set, or of one that the generator made (scenes and degradations vary)."""
    root = (
        request.getfixturevalue("layout").root
        if request.param == "made up"
        else request.getfixturevalue("tiny_dataset")
    )
    shutil.copytree(root, tmp_path / "copy")
    return Layout(tmp_path / "copy")


# ---- our own reader


@pytest.mark.parametrize("split", SIZES)
def test_samples_come_back_in_order_and_by_number(layout, split):
    data = open_dataset(str(layout.root), split)
    assert len(data) == SIZES[split]
    for index, sample in enumerate(data):
        original = make_sample(split, index)
        assert same(sample, original)
        assert same(data[index], original)
        assert same(data[index - len(data)], original)
    for index in (len(data), -len(data) - 1):
        with pytest.raises(IndexError):
            data[index]
    for index in (-1, len(data)):
        for read in (data.meta, data.members, lambda index: list(data.records([index]))):
            with pytest.raises(IndexError, match=f"sample {index} of {len(data)} in split {split}"):
                read(index)


def test_an_extended_data_set_with_a_short_shard_in_the_middle(tmp_path):
    layout, spec = make_dataset(tmp_path, {"train": 6}), ShardSpec(samples=4)
    plans = plan_shards("train", 11, 4, before=stored_plans(read_dataset(layout), "train"))
    assert [plan.count for plan in plans] == [4, 2, 4, 1]
    for plan in plans[2:]:
        write_shard(layout, plan, samples_of(plan), spec, IDENTITY)
    write_dataset_files(layout, {"train": plans})
    data = open_dataset(tmp_path)
    assert [same(data[n], make_sample("train", n)) for n in range(11)] == [True] * 11
    assert verify_dataset(tmp_path).ok


def test_defocus_is_signed_on_request_only(layout):
    sample = open_dataset(layout.root)[2]
    assert sample.defocus.min() >= 0
    near = sample.disparity > sample.meta["focus"]
    assert np.array_equal(sample.signed_defocus > 0, near & (sample.defocus > 0))


def test_only_the_asked_fields_are_decoded(layout):
    sample = open_dataset(layout.root, fields=["lq", "defocus"])[4]
    assert set(sample.arrays) == {"lq", "defocus"}
    with pytest.raises(DataError, match="no field 'hq'"):
        _ = sample.hq
    with pytest.raises(DataError, match="does not store depth"):
        open_dataset(layout.root, fields=["depth"])


def test_a_data_set_of_few_fields_in_webp(tmp_path):
    spec = ShardSpec(samples=2, codec="webp", fields=["hq", "defocus"])
    make_dataset(tmp_path, {"train": 3}, spec)
    assert all(same(s, make_sample("train", n, fields=spec.fields)) for n, s in enumerate(open_dataset(tmp_path)))


@pytest.mark.parametrize("position", range(11))
def test_resuming_is_exact_at_every_position(layout, position):
    whole = [sample.key for sample in open_dataset(layout.root)]
    first = open_dataset(layout.root)
    head = [sample.key for sample in itertools.islice(first, position)]
    state = json.loads(json.dumps(first.state_dict()))
    second = open_dataset(layout.root)
    second.load_state_dict(state)
    assert second.state_dict() == state
    assert head + [sample.key for sample in second] == whole
    assert [sample.key for sample in second] == whole, "the epoch after the resumed one is a whole one"
    assert second.state_dict()["position"] == 10


def test_a_position_of_another_data_set_is_refused(layout):
    train, val = open_dataset(layout.root), open_dataset(layout.root, "val")
    with pytest.raises(UsageError, match="another data set"):
        val.load_state_dict(train.state_dict())
    for wrong in ({"position": 11}, {"position": -1}, {"position": 1.0}, {"position": None}, {"format": 2}):
        with pytest.raises(UsageError, match="position"):
            train.load_state_dict({**train.state_dict(), **wrong})


def test_a_restarted_loop_starts_at_the_first_sample(layout):
    data = open_dataset(layout.root)
    next(iter(data))
    assert next(iter(data)).key == "train-000000000"


def test_other_processes_can_read_a_pickled_reader(layout):
    data = open_dataset(layout.root)
    assert data[0].key  # warm: nothing that was cached may hurt
    assert [s.key for s in pickle.loads(pickle.dumps(data))] == [s.key for s in data]
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        assert all(same(s, make_sample("train", n)) for n, s in enumerate(pool.map(data.__getitem__, range(10))))


def test_no_file_stays_open(layout):
    data = open_dataset(layout.root)
    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    loop = iter(data)
    for _ in range(6):
        next(loop)
    after = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    assert after == before


def test_torch_data_loader_takes_it_as_a_map(layout):
    data = pytest.importorskip("torch.utils.data", reason="torch is not installed")
    loader = data.DataLoader(open_dataset(layout.root), batch_size=None, num_workers=2, collate_fn=lambda s: s)
    assert [sample.key for sample in loader] == [f"train-{n:09d}" for n in range(10)]


def test_reading_imports_nothing_heavy(layout):
    script = (
        "import sys; from bokehsynth.shards.reader import open_dataset; "
        f"print(len(list(open_dataset({str(layout.root)!r})))); "
        "heavy = ('torch', 'numba', 'cupy', 'isal', 'pydantic', 'PIL', 'ruamel', 'click'); "
        "print([m for m in heavy if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:2] == ["10", "[]"]


# ---- what is wrong is said


def test_what_is_not_a_finished_data_set_is_named(copy, tmp_path):
    with pytest.raises(DataError, match="no such data set directory"):
        open_dataset(tmp_path / "nowhere")
    with pytest.raises(DataError, match="not a bokehsynth data set"):
        open_dataset(tmp_path)
    with pytest.raises(DataError, match=r"no split 'test'.*train, val"):
        open_dataset(copy.root, "test")
    copy.dataset.unlink()
    with pytest.raises(DataError, match=r"unfinished, 4 shards.*generate.*finalize"):
        open_dataset(copy.root)
    copy.dataset.write_text("{}")
    with pytest.raises(DataError, match=r"dataset.json.*finalize"):
        open_dataset(copy.root)
    copy.dataset.write_text('{"format": 2, "identity": {}, "fields": {}, "splits": {}}')
    with pytest.raises(DataError, match="format 2"):
        open_dataset(copy.root)


@pytest.mark.parametrize("size", [0, 512, 2048, -512])
def test_a_truncated_shard_is_refused_at_opening(copy, size):
    tar = copy.tar(SECOND)
    tar.write_bytes(tar.read_bytes()[:size])
    with pytest.raises(DataError, match=r"train-000001.tar.*truncated"):
        open_dataset(copy.root)


def test_a_shard_without_marker_is_refused_at_opening(copy):
    copy.marker(SECOND).unlink()
    with pytest.raises(DataError, match=r"train-000001.done.json.*no marker"):
        open_dataset(copy.root)


def test_damage_after_opening_is_noticed_and_named(copy):
    data = open_dataset(copy.root)
    tar = copy.tar(SECOND)
    whole = tar.read_bytes()
    data[5]
    for damaged, words in [
        (whole[: len(whole) // 2], "truncated"),
        (whole.replace(b"train-000000007.lq.png", b"train-000000007.lr.png"), "damaged"),
        (whole.replace(b"train-000000007", b"train-000000006"), "damaged"),
        (whole.replace(b'"index":7', b'"index":8'), "key"),
    ]:
        tar.write_bytes(damaged)
        with pytest.raises(DataError, match=rf"train-000001.tar.*{words}.*bokehsynth verify"):
            data[7]
    tar.unlink()
    with pytest.raises(DataError, match=r"train-000001.tar.*cannot be read"):
        data[7]


def test_an_index_of_another_shard_is_noticed(copy):
    shutil.copy(copy.index(ShardPlan("train", 0, 0, 4)), copy.index(SECOND))
    data = open_dataset(copy.root)
    with pytest.raises(DataError, match="train-000001"):
        data[7]
    copy.index(SECOND).write_text("nothing")
    with pytest.raises(DataError, match=r"train-000001.idx"):
        open_dataset(copy.root)[7]


# ---- other people's readers


def from_pictures(record, extension="png"):
    """The arrays behind PIL pictures or bytes, as docs/dataset-format.md says to decode them."""
    arrays = {}
    for name in DEFAULT_FIELDS:
        field = FIELDS[name]
        member = f"{name}.{extension if field.kind == 'color' else 'png'}"
        picture = record[member]
        picture = Image.open(io.BytesIO(picture)) if isinstance(picture, bytes) else picture
        arrays[name] = np.asarray(picture)
        if field.kind == "map":
            assert picture.mode == "I;16"
            arrays[name] = arrays[name].astype(np.float32) * np.float32(record["json"][field.scale_key])
    return arrays


def assert_equals_ours(records, layout, split, extension="png"):
    ours = open_dataset(layout.root, split)
    records = list(records)
    assert [record["__key__"] for record in records] == [sample.key for sample in ours]
    for sample, record in zip(ours, records, strict=True):
        assert record["json"] == sample.meta
        json.loads(record["json"]["draw"])
        arrays = from_pictures(record, extension)
        assert all(np.array_equal(arrays[name], sample.arrays[name]) for name in DEFAULT_FIELDS)
        assert all(arrays[name].dtype == sample.arrays[name].dtype for name in DEFAULT_FIELDS)


@pytest.mark.parametrize("split", SIZES)
def test_webdataset_reads_the_same(either, split):
    wds = pytest.importorskip("webdataset", reason="webdataset is not installed")
    urls = str(either.root / json.loads(either.dataset.read_text())["splits"][split]["urls"])
    # decode() without an image handler parses the JSON and leaves pictures as bytes.
    assert_equals_ours(wds.WebDataset(urls, shardshuffle=False).decode(), either, split)


@pytest.mark.skipif(shutil.which("tar") is None, reason="no tar program")
def test_the_tar_program_lists_it(layout):
    done = subprocess.run(["tar", "-tvf", layout.tar(SECOND)], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert done.stdout.count("-r--r--r-- 0/0") == 4 * 6


@pytest.fixture(scope="module")
def load_dataset(tmp_path_factory):
    """`datasets.load_dataset` with its caches in a temporary folder and no way to the network."""
    home = str(tmp_path_factory.mktemp("hugging"))
    switches = {
        "HF_HOME": home,
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_OFFLINE": "1",
        "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in switches.items():
            patch.setenv(name, value)
        datasets = pytest.importorskip("datasets", reason="datasets is not installed")

        def no_network(*args):
            raise AssertionError("a test asked for the network")

        patch.setattr(socket.socket, "connect", no_network)
        calls = itertools.count()
        yield lambda *args, **options: datasets.load_dataset(*args, cache_dir=f"{home}/{next(calls)}", **options)


def add_what_generate_adds(layout):
    """The other files of a finished run must not disturb readers that guess what the data is."""
    for name in (
        "recipe.yaml",
        "schema.json",
        "assets.jsonl",
        "quarantine.jsonl",
        "logs/run.jsonl",
        "report/index.html",
    ):
        (layout.root / name).parent.mkdir(exist_ok=True)
        (layout.root / name).write_text('{"a": 1}\n')
    Image.new("RGB", (4, 4)).save(layout.preview)


@pytest.mark.parametrize("way", ["card", "no card", "webdataset"])
def test_hugging_face_reads_the_same(either, load_dataset, way):
    add_what_generate_adds(either)
    if way == "no card":
        either.card.unlink()
    asked = {"path": "webdataset", "data_dir": str(either.root)} if way == "webdataset" else {"path": str(either.root)}
    data = load_dataset(**asked)
    assert set(data) == {"train", "validation"}
    assert_equals_ours(data["train"], either, "train")
    assert_equals_ours(data["validation"], either, "val")


def test_hugging_face_reads_webp_and_a_single_split(tmp_path, load_dataset):
    layout = make_dataset(tmp_path / "set", {"train": 6}, ShardSpec(samples=4, codec="webp"))
    add_what_generate_adds(layout)
    data = load_dataset(str(layout.root))
    assert set(data) == {"train"}
    assert_equals_ours(data["train"], layout, "train", "webp")


def test_the_card_snippet_runs_as_it_stands(copy, load_dataset):
    card = copy.card.read_text()
    snippet = card.split("```python\n")[1].split("```")[0].replace("path/to/this/directory", str(copy.root))
    snippet = snippet.replace("from datasets import load_dataset\n", "")
    names = {"load_dataset": load_dataset}
    exec(snippet, names)
    sample = open_dataset(copy.root)[0]
    assert all(np.array_equal(names[name], sample.arrays[name]) for name in DEFAULT_FIELDS)
