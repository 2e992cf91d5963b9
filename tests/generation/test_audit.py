"""Audits: random samples are made again; what differs is found with the probability that is stated."""

import hashlib
import json
import random
import shutil

import numpy as np
import pytest
from click.testing import CliRunner
from support.small_set import make_small_set

import bokehsynth as bs
from bokehsynth.cli import cli
from bokehsynth.errors import DataError
from bokehsynth.files import pretty_json
from bokehsynth.generation import audit as audits
from bokehsynth.generation.audit import AuditReport, audit, rounded_up, upper_bound
from bokehsynth.generation.generate import finalize
from bokehsynth.generation.verify import verify
from bokehsynth.schema import Sample
from bokehsynth.shards import Layout, ShardDataset, ShardPlan, read_marker, stored_plans, write_shard
from bokehsynth.shards.pixels_root import merkle_root, pixels_root


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return make_small_set(tmp_path_factory.mktemp("audit") / "set").root


@pytest.fixture
def small(whole, tmp_path):
    """A copy that may be altered."""
    return shutil.copytree(whole, tmp_path / "set")


def forge(root, index, change):
    """Alter a sample and make everything that hashes it fit again: tar, index, marker, totals, root."""
    layout = Layout(root)
    record = json.loads(layout.dataset.read_text())
    data = ShardDataset(layout, "train")
    plan = data.plan_of(index)
    samples = [change(data[i]) if i == index else data[i] for i in range(plan.first, plan.first + plan.count)]
    write_shard(layout, plan, samples, bs.load_recipe(layout.recipe).shards, record["identity"])
    layout.dataset.unlink()
    finalize(root)


def one_pixel(sample):
    arrays = {name: np.array(array) for name, array in sample.arrays.items()}
    arrays["hq"][3, 5, 1] ^= 1
    return Sample(sample.key, sample.meta, arrays)


def other_record(sample):
    return Sample(sample.key, {**sample.meta, "radius_max": sample.meta["radius_max"] + 1.0}, sample.arrays)


def test_a_whole_set_gets_its_bound(whole):
    report = audit(whole, 3, "cpu", seed=1)
    assert (report.total, report.audited, report.differing, report.has_root) == (4, 3, {}, True)
    assert report.sentence == "3 of 3 samples are what the recipe makes: fewer than 64 % of all 4 differ, at 95%"
    done = CliRunner().invoke(cli, ["audit", str(whole), "--samples", "9", "--device", "cpu"])
    assert done.exit_code == 0, done.output
    assert "4 of all 4 samples are what the recipe makes" in done.output


@pytest.mark.parametrize(
    ("change", "found"), [(one_pixel, {"hq": 1}), (other_record, {audits.RECORD: 1})], ids=["pixel", "record"]
)
def test_a_forgery_whose_hashes_all_fit_is_found(small, change, found):
    forge(small, 2, change)
    assert verify(small).ok  # every hash fits
    assert audit(small, 4, "cpu").differing == {"train-000000002": found}
    done = CliRunner().invoke(cli, ["audit", str(small), "--device", "cpu"])
    assert isinstance(done.exception, DataError)
    assert "3 of all 4 samples are what the recipe makes. Others: train-000000002" in str(done.exception)


@pytest.mark.parametrize("key", ["pixels_root", "markers_sha256", "bytes"])
def test_a_forged_dataset_json_fails(small, key):
    record = json.loads((small / "dataset.json").read_text())
    table = record if key == "pixels_root" else record["splits"]["val"]
    table[key] = 7 if key == "bytes" else hashlib.sha256(b"forged").hexdigest()
    (small / "dataset.json").write_text(pretty_json(record))
    with pytest.raises(DataError, match=r"dataset\.json: .*not th(at|ose) of the markers"):
        audit(small, 1, "cpu")
    assert not verify(small).ok


def test_a_dataset_json_that_leaves_shards_out_fails(small):
    layout = Layout(small)
    record = json.loads(layout.dataset.read_text())
    del record["splits"]["val"]
    markers = [read_marker(layout, plan) for plan in stored_plans(record, "train")]
    layout.dataset.write_text(pretty_json({**record, "pixels_root": pixels_root(markers)}))  # all that is left fits
    with pytest.raises(DataError, match=r"1 shards are not those of recipe\.yaml, val-000000: one of them was altered"):
        audit(small, 1, "cpu")
    layout.dataset.write_text(
        pretty_json({name: v for name, v in record.items() if name != "pixels_root"} | {"splits": {}})
    )
    with pytest.raises(DataError, match=r"3 shards are not those of recipe\.yaml"):
        audit(small, 1, "cpu")


def test_a_set_that_is_being_extended_is_not_audited(small):
    layout = Layout(small)
    layout.extensions.write_text(pretty_json([{"train": 3, "val": 1}]))
    layout.recipe.write_text(layout.recipe.read_text().replace("train: 3", "train: 6"))
    with pytest.raises(DataError, match=r"is being extended from 4 samples to 7: run the extend line again"):
        audit(small, 1, "cpu")


def test_a_sample_whose_draw_raises_differs(whole, monkeypatch):
    def raises(*args):
        raise RuntimeError("as it did when the set was made")

    monkeypatch.setattr(audits, "sample_from_draw", raises)
    assert audit(whole, 1, "cpu", seed=1).differing == {"train-000000001": {audits.NOT_MADE: 1}}
    with pytest.raises(DataError, match=r"train-000000001 \(the recipe makes no such sample\)"):
        audits.refuse_differences(whole, audit(whole, 1, "cpu", seed=1))


def test_a_marker_with_a_digest_that_is_none_is_named(small):
    layout, plan = Layout(small), ShardPlan("train", 0, 0, 2)
    text = read_marker(layout, plan).text()
    for name in ("sha256", "pixels_sha256"):
        digest = json.loads(text)[name]
        layout.marker(plan).write_text(text.replace(digest, "no hexadecimal digits"))
        with pytest.raises(DataError, match="the marker was altered"):
            audit(small, 1, "cpu")


def test_a_set_without_a_root_stays_valid(small):
    record = json.loads((small / "dataset.json").read_text())
    root = record.pop("pixels_root")
    (small / "dataset.json").write_text(pretty_json(record))
    assert verify(small).ok
    assert not audit(small, 1, "cpu").has_root
    finalize(small)
    assert json.loads((small / "dataset.json").read_text())["pixels_root"] == root
    assert verify(small).ok


def test_the_root_is_that_of_rfc_6962():
    # The roots of the first leaves of the test tree of Certificate Transparency (RFC 9162's reference implementations).
    leaves = [bytes.fromhex(text) for text in ("", "00", "10", "2021", "3031", "40414243", "5051525354555657")]
    assert merkle_root(leaves[:1]) == "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"
    assert merkle_root(leaves[:2]) == "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"
    assert merkle_root(leaves[:3]) == "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77"
    assert merkle_root(leaves) == "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c"


def test_bounds_are_those_of_clopper_and_pearson():
    stats = pytest.importorskip("scipy.stats")
    for found, looked_at in [(0, 1), (0, 300), (1, 300), (7, 50), (49, 50), (3, 100_000)]:
        expected = stats.beta.ppf(0.95, found + 1, looked_at - found)
        assert upper_bound(found, looked_at) == pytest.approx(expected, rel=1e-9)
    assert upper_bound(5, 5) == 1.0
    assert AuditReport(10_000, 300).sentence.endswith("fewer than 1 % of all 10,000 differ, at 95%")
    assert AuditReport(10_000, 300, {"a": {"hq": 1}}).sentence.startswith("299 of 300")
    assert [rounded_up(x) for x in (0.0, 0.99359, 0.123, 12.0)] == pytest.approx([0.0, 1.0, 0.13, 12.0])


@pytest.mark.long
def test_one_altered_pixel_is_found_with_the_stated_probability(whole, monkeypatch):
    """200 audits of 10,000 samples of which 100 have one altered pixel: the bound says that 299 miss all of them in at
    most 5 % (1 - 0.01)^299; the set is one whose samples are made when they are read, and rendering is replaced."""
    layout, total, planted = Layout(whole), 10_000, 100
    record = json.loads(layout.dataset.read_text())
    sample = ShardDataset(layout, "train")[0]

    class Planted(ShardDataset):
        altered = frozenset()

        def __len__(self):
            return total

        def __getitem__(self, index):
            return one_pixel(sample) if index in self.altered else sample

        def plan_of(self, index):
            return stored_plans(record, "train")[0]

    monkeypatch.setattr(audits, "ShardDataset", Planted)
    monkeypatch.setattr(
        audits, "read_dataset", lambda layout: {**record, "splits": {"train": record["splits"]["train"]}}
    )
    monkeypatch.setattr(audits, "check_totals", lambda layout, record: True)
    monkeypatch.setattr(audits, "refuse_missing", lambda *args: None)
    monkeypatch.setattr(audits, "_make", lambda *args: sample)
    recipe = audits.stored_recipe(layout)
    monkeypatch.setattr(audits, "stored_recipe", lambda *args: recipe)
    chance, missed = random.Random(11), 0
    for _ in range(200):
        Planted.altered = frozenset(chance.sample(range(total), planted))
        missed += not audit(whole, 299, "cpu", seed=chance.randrange(1 << 60)).differing
    # missed is binomial with n = 200 and p = C(9900, 299) / C(10000, 299) = 0.0484: mean 9.7, standard deviation 3.0
    assert 1 <= missed <= 22
