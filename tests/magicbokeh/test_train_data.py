"""Batches: the same from shards and from the recipe, for any number of workers and processes, from any step on."""

import dataclasses
import itertools
import json
import os
import signal
import sys
import threading

import numpy as np
import pytest
import torch
from support.photo_folders import photo, save
from support.train_toys import DATA, mini

import bokehsynth as bs
from bokehsynth import DataError, RecipeError, UsageError
from bokehsynth.rendering.cuda import renderer as cuda
from magicbokeh.data import loader, sources
from magicbokeh.data.augment import (
    Corruption,
    apply_augmentation,
    classical_bokeh,
    corrupt_disparity,
    draw_augmentation,
    no_augmentation,
)
from magicbokeh.data.loader import (
    BatchSchedule,
    SampleRef,
    TrainingSet,
    check_source,
    make_loader,
    rendered_ahead,
    to_batch,
)
from magicbokeh.data.sources import OnTheFlySource, fetch_dataset, open_source
from magicbokeh.recipe import DataSpec, SourceSpec, load_train_recipe
from magicbokeh.training.run import train


@pytest.fixture(scope="module")
def shards(mini_shards):
    return mini_shards


def schedule(**changes):
    settings = {
        "seed": 3, "stage": 1, "batch": 2, "accumulation": 2, "rank": 0, "world": 1, "counts": {"main": 8, "sr": 5},
        "source_cycle": ["main", "sr", "sr"],
    }  # fmt: skip
    return BatchSchedule(**settings | changes)


def test_every_epoch_holds_every_sample_once_and_sources_alternate():
    one = schedule()
    seen = [ref for number in range(6 * 2 * 4) for ref in one.micro_batch(number)]
    main = [ref for ref in seen if ref.source == "main"]
    assert {ref.source for ref in one.micro_batch(0)} == {"main"}
    assert {ref.source for ref in one.micro_batch(2)} == {"sr"}
    epochs = [main[first : first + 8] for first in range(0, len(main), 8)]
    assert len(epochs) == 4
    orders = [[ref.index for ref in epoch] for epoch in epochs]
    assert all(sorted(order) == list(range(8)) for order in orders)
    assert len({tuple(order) for order in orders}) == 4
    assert schedule(stage=2).micro_batch(0) != one.micro_batch(0)


def test_processes_share_the_samples_of_a_step():
    """Two processes with batch 2 see, step by step, what one with batch 4 sees."""
    one = schedule(batch=4)
    two = [schedule(rank=rank, world=2) for rank in range(2)]
    for number in range(30):
        together = [ref for part in two for ref in part.micro_batch(number)]
        assert together == one.micro_batch(number)


def test_endless_sources_never_repeat():
    endless = schedule(counts={"main": 0}, source_cycle=["main"])
    indices = [ref.index for number in range(100) for ref in endless.micro_batch(number)]
    assert len(set(indices)) == 200
    later = schedule(counts={"main": 0}, source_cycle=["main"], stage=2)
    assert not set(indices) & {ref.index for number in range(100) for ref in later.micro_batch(number)}


def batches(recipe, folder, start=0, end=4, workers=0):
    opened = open_source(recipe.data.source, folder, 1)
    data = TrainingSet({"main": opened}, recipe.data, recipe.seed, 4.0)
    loader = make_loader(data, schedule(source_cycle=["main"], counts={"main": 8}), start, end, workers, pin=False)
    return [data.render_batch(batch) for batch in loader]


def same(one, other):
    assert one.keys == other.keys
    for name in ("lq", "hq", "aif", "defocus", "disparity"):
        assert torch.equal(getattr(one, name), getattr(other, name)), name


def test_shards_and_recipe_give_identical_batches(tmp_path, shards):
    stored = batches(mini(tmp_path / "a.yaml", shards), tmp_path)
    rendered = batches(mini(tmp_path / "b.yaml", None), tmp_path)
    assert len(stored) == 4
    for one, other in zip(stored, rendered, strict=True):
        same(one, other)
        assert one.lq.shape == (2, 3, 64, 64)
        assert -1 <= float(one.lq.min()) < float(one.lq.max()) <= 1
        assert 0 <= float(one.defocus.min()) < float(one.defocus.max()) <= 1


def test_workers_change_nothing_and_a_run_continues_with_the_next_sample(tmp_path, shards):
    recipe = mini(tmp_path / "a.yaml", shards)
    whole = batches(recipe, tmp_path)
    for one, other in zip(whole[1:], batches(recipe, tmp_path, start=1, workers=2), strict=True):
        same(one, other)


def test_windows_of_a_sample_stand_together_and_are_cut_from_one_degradation(tmp_path, shards):
    """A batch of two samples holds four windows; the first of each is what a single window would have been."""
    one = [ref for number in range(16) for ref in schedule(source_cycle=["main"]).micro_batch(number)]
    two = [ref for number in range(32) for ref in schedule(source_cycle=["main"], windows=2).micro_batch(number)]
    assert [ref for ref in two if ref.window == 0] == one
    assert two[1::2] == [dataclasses.replace(ref, window=1) for ref in one]

    changes = ["data.crop=32", "data.fresh_lq=real-esrgan", "data.flip=0.0", "model.preset=small"]
    recipe = mini(tmp_path / "a.yaml", shards, *changes, "data.windows=2")
    data = TrainingSet({"main": open_source(recipe.data.source, tmp_path, 1)}, recipe.data, recipe.seed, 4.0)
    whole = TrainingSet(data.sources, recipe.data.model_copy(update={"crop": None}), recipe.seed, 4.0)
    positions = set()
    for window in range(4):
        ref = SampleRef("main", 3, 0, window)
        key, arrays = data[ref]
        assert key == "train-000000003"
        around = whole[ref][1]
        places = [
            (top, left)
            for top in range(33)
            for left in range(33)
            if np.array_equal(around.lq[top : top + 32, left : left + 32], arrays.lq)
        ]
        ((top, left),) = places
        positions.add((top, left))
        for name in ("hq", "aif", "defocus", "disparity"):
            assert np.array_equal(getattr(around, name)[top : top + 32, left : left + 32], getattr(arrays, name))
    assert len(positions) > 2
    alone = mini(tmp_path / "b.yaml", shards, *changes)
    single = TrainingSet(data.sources, alone.data, alone.seed, 4.0)
    assert np.array_equal(single[SampleRef("main", 3, 0)][1].lq, data[SampleRef("main", 3, 0)][1].lq)


@pytest.mark.skipif(sys.version_info < (3, 11), reason="PYTHONSAFEPATH came with Python 3.11")
def test_workers_import_nothing_from_the_working_directory(tmp_path, shards, monkeypatch):
    recipe = mini(tmp_path / "a.yaml", shards)
    for name in ("socket", "selectors", "random", "tempfile", "torch", "numpy", "magicbokeh"):
        (tmp_path / f"{name}.py").write_text(f"open({str(tmp_path / 'RAN')!r}, 'a').write({name!r})\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PYTHONSAFEPATH", raising=False)
    assert len(batches(recipe, tmp_path, end=1, workers=1)) == 1
    assert not (tmp_path / "RAN").exists()
    assert "PYTHONSAFEPATH" not in os.environ


def test_signals_to_the_whole_group_are_for_the_main_process(monkeypatch):
    """A worker that SIGTERM ended made torch raise in the main process before it could wind down."""
    ignored = []
    monkeypatch.setattr(signal, "signal", lambda number, action: ignored.append((number, action)))
    loader._init_worker(0)
    assert ignored == [(signal.SIGINT, signal.SIG_IGN), (signal.SIGTERM, signal.SIG_IGN)]


@pytest.mark.parametrize("workers", [0, 1])
def test_rendering_in_the_main_process_gives_the_same(tmp_path, workers):
    """What CUDA does: workers read and compose, the main process renders."""
    recipe = mini(tmp_path / "a.yaml", None)
    opened = dataclasses.replace(open_source(recipe.data.source, tmp_path, 1), render_in_main=True)
    data = TrainingSet({"main": opened}, recipe.data, recipe.seed, 4.0)
    loader = make_loader(data, schedule(source_cycle=["main"], counts={"main": 8}), 0, 1, workers, pin=False)
    (composed,) = list(loader)
    assert not hasattr(composed, "lq")
    same(data.render_batch(composed), batches(recipe, tmp_path, end=1)[0])


@pytest.mark.kernels
def test_a_recipe_on_cuda_is_rendered_in_the_main_process_in_batches(tmp_path, monkeypatch):
    recipe = mini(tmp_path / "a.yaml", None, "data.source.backend=cuda")
    opened = open_source(recipe.data.source, tmp_path, 1)
    assert opened.render_in_main
    data = TrainingSet({"main": opened}, recipe.data, recipe.seed, 4.0)
    first, second = (data[SampleRef("main", index, 0)] for index in (0, 1))
    monkeypatch.setattr(sources, "usable_cpus", lambda: 1)
    sizes, unpatched = [], cuda.render_encoded  # what is stored in 8 bits is encoded there
    monkeypatch.setattr(
        cuda, "render_encoded", lambda inputs, *more: sizes.append(len(inputs)) or unpatched(inputs, *more)
    )
    together = data.render_batch(data.collate([first, second]))
    assert sizes == [2, 2]  # through the lens, and through a pinhole
    apart = [data.render_batch(data.collate([each])) for each in (first, second)]
    for k, alone in enumerate(apart):
        assert torch.equal(together.hq[k : k + 1], alone.hq)
        assert torch.equal(together.aif[k : k + 1], alone.aif)


@pytest.fixture
def rendered_here(tmp_path):
    """Samples that the main process renders, and the loader of four batches of them."""
    recipe = mini(tmp_path / "a.yaml", None)
    opened = dataclasses.replace(open_source(recipe.data.source, tmp_path, 1), render_in_main=True)
    data = TrainingSet({"main": opened}, recipe.data, recipe.seed, 4.0)
    return data, make_loader(data, schedule(source_cycle=["main"], counts={"main": 8}), 0, 4, 0, pin=False)


def test_a_thread_renders_one_batch_ahead_of_the_step(rendered_here, monkeypatch):
    """Before, each step waited for its batch, and the rendering for the step."""
    data, loader = rendered_here
    expected = [data.render_batch(each) for each in loader]
    begun, render = [threading.Event() for _ in range(4)], data.render_batch
    numbers = itertools.count()

    def noted(collated):
        begun[next(numbers)].set()
        return render(collated)

    monkeypatch.setattr(data, "render_batch", noted)
    with rendered_ahead(data, loader, pin=False) as batches:
        for number, theirs in enumerate(expected):
            same(next(batches), theirs)
            assert number == 3 or begun[number + 1].wait(60), "while the step is at work"
        assert next(batches, None) is None


def test_what_goes_wrong_ahead_is_told_in_its_turn(rendered_here, monkeypatch):
    data, loader = rendered_here
    render, numbers = data.render_batch, itertools.count()

    def fail_second(collated):
        if next(numbers) == 1:
            raise bs.DataError("torn")
        return render(collated)

    monkeypatch.setattr(data, "render_batch", fail_second)
    with rendered_ahead(data, loader, pin=False) as batches:
        assert len(next(batches)) == 2
        with pytest.raises(bs.DataError, match="torn"):
            next(batches)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("batches")]


def test_cpus_that_share_a_batch_change_nothing(monkeypatch):
    source = OnTheFlySource(
        bs.load_recipe("quickstart", ["size=64", "samples.train=5", "samples.val=2"]), "train", "cpu"
    )
    composed = [source.compose(index) for index in range(5)]
    made = []
    for cpus in (1, 3, 16):
        monkeypatch.setattr(sources, "usable_cpus", lambda cpus=cpus: cpus)
        made.append(source.render(composed))
    for alone, *others in zip(*made, strict=True):
        for other in others:
            assert alone.meta == other.meta
            assert all(np.array_equal(alone[name], other[name]) for name in alone.arrays)


def test_shards_behind_a_url(tmp_path, shards):
    fetch_dataset(f"file:{shards}", tmp_path / "here")
    mine, theirs = bs.open_dataset(tmp_path / "here"), bs.open_dataset(shards)
    assert np.array_equal(mine[3].hq, theirs[3].hq)
    before = (tmp_path / "here" / "dataset.json").stat().st_mtime_ns
    fetch_dataset("file:/nowhere", tmp_path / "here")  # complete already: nothing is fetched
    assert (tmp_path / "here" / "dataset.json").stat().st_mtime_ns == before
    with pytest.raises(bs.DataError, match=r"nowhere/dataset.json: cannot be fetched"):
        fetch_dataset("file:/nowhere", tmp_path / "other")


# --- augmentation


@pytest.fixture(scope="module")
def sample(mini_shards):
    return bs.open_dataset(mini_shards)[1]


NO_OPTIONS = DataSpec(source=SourceSpec(shards="x"))


def augmented(sample, spec=NO_OPTIONS, **choices):
    """The sample with only these choices made."""
    augmentation = dataclasses.replace(no_augmentation(), degrade_seed=1, **choices)
    return apply_augmentation(sample, augmentation, spec)


def test_a_flip_mirrors_all_fields(sample):
    flipped = augmented(sample, flip=True)
    for name in ("lq", "hq", "aif", "defocus", "disparity"):
        assert np.array_equal(getattr(flipped, name), getattr(sample, name)[:, ::-1]), name


def test_faults_of_the_disparity_reach_the_defocus_map_and_nothing_else(sample):
    faulty = augmented(sample, corruption=Corruption(blur=20.0, morph=16.0, scale=1.0, shift=0.05))
    assert np.array_equal(faulty.hq, sample.hq)
    assert np.array_equal(faulty.disparity, sample.disparity)
    difference = np.abs(faulty.defocus - sample.defocus).max()
    assert 0.05 * sample.meta["blur"] * 0.9 < difference
    none = corrupt_disparity(sample.disparity, Corruption(blur=0, morph=0, scale=1.0, shift=0.0))
    assert np.allclose(none, sample.disparity, atol=1e-6)


def test_each_epoch_degrades_afresh(sample):
    spec = DataSpec(source=SourceSpec(shards="x"), fresh_lq="real-esrgan")
    first, second = (draw_augmentation(spec, 0, "train", 1, epoch) for epoch in (0, 1))
    assert first == draw_augmentation(spec, 0, "train", 1, 0)
    pictures = [apply_augmentation(sample, change, spec).lq for change in (first, second)]
    assert not np.array_equal(*pictures)
    assert not np.array_equal(pictures[0], sample.lq)


def test_refocusing_degrades_another_focus_of_the_scene(sample):
    spec = DataSpec(source=SourceSpec(shards="x"), refocus=1.0, fresh_lq="none")
    seen = augmented(sample, spec, refocus=0.99).lq
    lens = bs.Lens(blur=sample.meta["blur"], focus=0.99)
    assert np.array_equal(seen, classical_bokeh(sample.aif, sample.disparity, lens))
    sharp = classical_bokeh(sample.aif, sample.disparity, bs.Lens(blur=0.0, focus=0.3))
    assert np.abs(sharp.astype(int) - sample.aif).max() <= 1


def test_refocusing_takes_the_source_of_a_set_that_has_one(sample):
    source = 255 - sample.aif
    with_source = dataclasses.replace(
        sample, arrays={**sample.arrays, "source": source},
        meta={**sample.meta, "source_blur": 3.0, "source_focus": 0.9, "source_aperture": "disc"},
    )  # fmt: skip
    always = DataSpec(source=SourceSpec(shards="x"), refocus=1.0, fresh_lq="none")
    assert np.array_equal(augmented(with_source, always, refocus=0.5).lq, source)
    sometimes = DataSpec(source=SourceSpec(shards="x"), refocus=0.5, fresh_lq="none")
    assert np.array_equal(augmented(with_source, sometimes).lq, sample.aif)
    afresh = DataSpec(source=SourceSpec(shards="x"), fresh_lq="none")
    assert np.array_equal(augmented(with_source, afresh).lq, source)
    assert np.array_equal(augmented(with_source, DataSpec(source=SourceSpec(shards="x"))).lq, sample.lq)
    with pytest.raises(UsageError, match="name `source` in its shards"):
        augmented(dataclasses.replace(with_source, arrays=sample.arrays), always, refocus=0.5)


def test_the_flips_of_a_run_come_at_the_asked_rate():
    spec = DataSpec(source=SourceSpec(shards="x"), flip=0.25)
    share = np.mean([draw_augmentation(spec, 0, "train", index, 0).flip for index in range(2000)])
    assert abs(share - 0.25) < 4 * (0.25 * 0.75 / 2000) ** 0.5


def test_crops(sample):
    spec = DataSpec(source=SourceSpec(shards="x"), crop=64)
    assert np.array_equal(augmented(sample, spec).hq, sample.hq)
    with pytest.raises(UsageError, match=r"data.crop: 128 px do not fit"):
        augmented(sample, DataSpec(source=SourceSpec(shards="x"), crop=128))
    arrays = augmented(sample)
    assert to_batch([("train-000000001", arrays)], 4.0).keys == ["train-000000001"]


# --- recipes


@pytest.mark.parametrize("name", ["tiny", "small", "sr", "alternate", "depth"])
def test_packaged_recipes_load(name):
    assert load_train_recipe(name).stages


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("data.wokers=3", r"did you mean 'workers'"),
        ("stages.1.lernrate=3", r"unknown key"),
        ("model.presett=toy", r"did you mean 'preset'"),
        ("stages.0.steps=0", r"greater than or equal to 1"),
        ("data.windows=2", r"windows: several of a sample need crop"),
        ("stages.0.stage=autoencoder", r"from_scratch"),
        ("seed=no", r"seed"),
        ("stages.0.decay=1", r"decay: is of schedule: cosine"),
        ("stages.1={stage: sr, steps: 3, schedule: cosine, decay: 4}", r"decay: 4 steps of 3; give at most"),
        ("stages.0.sharp=0.25", r"a batch of 1 is no whole sample.*batch of 4"),
        ("stages.1={stage: alternate, steps: 3, sharp: 0.5}", r"sharp: is of joint: true"),
        ("stages.1={stage: alternate, steps: 3, joint: true, batch: 2, sharp: 0.25}", r"0\.25 of a batch of 2 is no"),
    ],
)
def test_faults_of_a_recipe_are_named(tmp_path, change, told):
    with pytest.raises(RecipeError, match=told):
        mini(tmp_path / "a.yaml", None, change)


def test_training_without_photographs_has_its_own_line_to_type(tmp_path):
    recipe = load_train_recipe("small")
    line = r"magicbokeh train RECIPE --out RUN --set 'data\.source\.set=\[assets\.root=FOLDER\]'"
    for _ in range(2):  # what the first left behind is no run
        with pytest.raises(RecipeError, match=line):
            train(recipe, tmp_path / "run")
    (tmp_path / "run" / "sheets" / "mine.png").write_bytes(b"x")
    with pytest.raises(UsageError, match="is there already and is no run"):
        train(recipe, tmp_path / "run")


def test_unknown_recipes_are_named():
    with pytest.raises(RecipeError, match=r"did you mean 'tiny'"):
        load_train_recipe("tinny")


def test_paths_are_relative_to_the_file(tmp_path, monkeypatch, mini_shards):
    (tmp_path / "set").symlink_to(mini_shards)
    text = {"name": "a", "data": {"source": {"shards": "set"}}, "stages": [{"stage": "sr", "steps": 1}]}
    (tmp_path / "a.yaml").write_text(json.dumps(text))
    monkeypatch.chdir("/")
    assert load_train_recipe(tmp_path / "a.yaml").data.source.shards == str(tmp_path / "set")
    assert DATA


# --- photographs without a lens


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """A data recipe as those of LSDIR and SA-1B: no disparity, or nothing but the pair."""
    folder = tmp_path_factory.mktemp("photographs")
    for seed in range(6):
        save(folder / f"{seed}.png", photo(seed, 96, 120))
    return [f"assets={{photos: [{{path: {folder}}}], val_fraction: 0.3}}", "samples={train: 3, val: 2}", "size=64"]


@pytest.mark.parametrize("fields", ["[lq, hq]", "[lq, hq, aif, defocus]"])
def test_photographs_are_pictures_in_focus(tmp_path, photographs, fields):
    changes = [*photographs, f"shards.fields={fields}"]
    assert bs.generate(bs.load_recipe("isr", changes), tmp_path / "set", workers=1).complete
    shards = open_source(SourceSpec(shards=str(tmp_path / "set")), tmp_path, 1)
    rendered = open_source(SourceSpec(recipe="isr", set=changes), tmp_path, 1)
    for index in range(3):
        one, other = (
            apply_augmentation(source.train[index], no_augmentation(), NO_OPTIONS) for source in (shards, rendered)
        )
        assert np.array_equal(one.aif, one.hq)
        assert np.array_equal(one.lq, other.lq)
        assert np.array_equal(one.hq, other.hq)
        assert not one.defocus.any()
        assert not one.disparity.any()
    check_source(shards, mini(tmp_path / "m.yaml", tmp_path / "set", "stages=[{stage: sr, steps: 1}]"), "main")
    with pytest.raises(UsageError, match=r"data.source: stage from_scratch learns from .*disparity, which it does not"):
        check_source(shards, mini(tmp_path / "m.yaml", tmp_path / "set"), "main")
    with pytest.raises(UsageError, match=r"stage depth learns from disparity"):
        check_source(shards, mini(tmp_path / "m.yaml", None, "stages=[{stage: depth, steps: 1}]"), "main")


def test_a_set_with_a_lens_must_store_what_the_lens_did(tmp_path):
    source = SourceSpec(recipe="quickstart", set=[*DATA, "shards.fields=[lq, hq]"])
    with pytest.raises(DataError, match=r"is blurred by a lens; its data set must store aif, defocus, disparity too"):
        open_source(source, tmp_path, 1).train[0]
