"""Model folders of strangers: none runs code, leads elsewhere, takes memory it has no weights for, or fails unnamed."""

import json
import os
import shutil

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import load_file, save_file
from support.hostile import change_json, deep_json, sparse, watched_commands
from support.magic_toys import TOY, toy_networks, write_base, write_official

from bokehsynth import BokehsynthError, DataError, UsageError
from magicbokeh import MagicBokehPipeline, convert_official
from magicbokeh.inference.depth import load_depth_model
from magicbokeh.inference.infer import export_model
from magicbokeh.model.folders import check_pipeline_folder
from magicbokeh.training.depth_distillation import small_depth_network

WEIGHTS = "diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "toy"
    torch.manual_seed(0)
    MagicBokehPipeline.from_networks(toy_networks(), TOY, small_depth_network(48, 64)).save_pretrained(path)
    return path


@pytest.fixture
def folder(good, tmp_path):
    return shutil.copytree(good, tmp_path / "model")


def test_what_is_saved_passes(good):
    check_pipeline_folder(good)
    assert MagicBokehPipeline.from_pretrained(good).depth_estimator is not None


def test_what_0_4_0_saved_passes(folder):
    """Notes of diffusers, files of a repository, and a depth model that is not there."""
    change_json(folder / "model_index.json", _diffusers_version="0.35.2", depth_estimator=[None, None])
    shutil.rmtree(folder / "depth_estimator")
    change_json(folder / "unet" / "config.json", _name_or_path="/somewhere", _diffusers_version="0.35.2")
    for part in ("unet", "controlnet"):  # a field that 0.4.0 did not have
        path = folder / part / "config.json"
        content = json.loads(path.read_text())
        assert content.pop("attention_in_last") is False
        path.write_text(json.dumps(content))
    for name in ("README.md", "LICENSE", "conversion.json", ".gitattributes"):
        (folder / name).write_text("{}")
    (folder / ".git" / "hooks").mkdir(parents=True)
    (folder / ".git" / "hooks" / "update.py").write_text("raise SystemExit")
    assert MagicBokehPipeline.from_pretrained(folder).depth_estimator is None


# --- code and strange files

EVIL = "open('RAN', 'w').write('x')\nclass BokehUNet: pass\n"


def put(name, text=EVIL):
    def change(folder):
        (folder / name).write_text(text)

    return change


def index(**changes):
    return lambda folder: change_json(folder / "model_index.json", **changes)


def config(part, **changes):
    return lambda folder: change_json(folder / part / "config.json", **changes)


def backbone(**changes):
    def change(folder):
        path = folder / "depth_estimator" / "config.json"
        inner = json.loads(path.read_text())["backbone_config"]
        change_json(path, backbone_config=inner | changes)

    return change


def text(name, content):
    return lambda folder: (folder / name).write_text(content)


def evil_component(folder):
    put("unet/evil.py")(folder)
    index(unet=["evil", "BokehUNet"])(folder)


def link(folder):
    (folder / "unet" / "notes").symlink_to("/etc/passwd")


def linked_weights(folder):
    path = folder / "vae" / WEIGHTS
    path.rename(folder.parent / "elsewhere.safetensors")
    path.symlink_to(folder.parent / "elsewhere.safetensors")


def fifo(folder):
    (folder / "vae" / WEIGHTS).unlink()
    os.mkfifo(folder / "vae" / WEIGHTS)


def index_fifo(folder):
    (folder / "unet" / "config.json").unlink()
    os.mkfifo(folder / "unet" / "config.json")


def pickle_weights(folder):
    path = folder / "vae" / WEIGHTS
    path.unlink()
    torch.save({"a": torch.ones(1)}, path.with_suffix(".bin"))
    save_file({}, folder / "vae" / "extra.safetensors")


def elsewhere(folder):
    content = {"metadata": {}, "weight_map": {"conv_in.weight": "../../elsewhere.safetensors"}}
    (folder / "vae" / f"{WEIGHTS}.index.json").write_text(json.dumps(content))


def cut(folder):
    path = folder / "vae" / WEIGHTS
    path.write_bytes(path.read_bytes()[:-1000])


def long_header(folder):
    path = folder / "vae" / WEIGHTS
    path.write_bytes((2**62).to_bytes(8, "little") + path.read_bytes()[8:])


def holes(folder):
    path = folder / "vae" / WEIGHTS
    size = 200 << 30
    header = json.dumps({"x": {"dtype": "F32", "shape": [size // 4], "data_offsets": [0, size]}}).encode()
    sparse(path, size + 8 + len(header), len(header).to_bytes(8, "little") + header)


def many_files(folder):
    for number in range(1001):
        (folder / "unet" / f"{number}.txt").touch()


def other_weights(folder):
    path = folder / "depth_estimator" / "model.safetensors"
    tensors = load_file(path)
    tensors.pop("head.conv3.bias")
    save_file(tensors, path, metadata={"format": "pt"})


HUGE = {"hidden_size": 4096, "num_hidden_layers": 64, "num_attention_heads": 64}
MUTATIONS = {
    "code": (put("evil.py"), DataError, "is code"),
    "code in a component": (put("unet/evil.py"), DataError, "is code"),
    "code deep inside": (lambda f: ((f / "unet/a").mkdir(), put("unet/a/e.pyc")(f)), DataError, "is code"),
    "library": (put("unet/evil.so"), DataError, "is code"),
    "component of the folder": (evil_component, DataError, "is code"),
    "class of a package": (index(unet=["os", "system"]), DataError, "classes of others are not loaded"),
    "class of ours elsewhere": (index(vae=["magicbokeh.model", "BokehUNet"]), DataError, "vae must be"),
    "class of diffusers": (index(unet=["diffusers", "UNet2DConditionModel"]), DataError, "unet must be"),
    "another depth class": (index(depth_estimator=["transformers", "AutoModel"]), DataError, "depth_estimator must be"),
    "no vae": (index(vae=...), DataError, "vae must be"),
    "a pair that is none": (index(unet={"a": 1}), DataError, "unet must be"),
    "one more component": (index(scheduler=["diffusers", "DDPMScheduler"]), DataError, "unknown scheduler"),
    "custom pipeline": (index(_class_name=["evil", "MagicBokehPipeline"]), UsageError, "another pipeline"),
    "link": (link, DataError, "is a link"),
    "linked weights": (linked_weights, DataError, "is a link"),
    "pipe for weights": (fifo, DataError, "is a pipe"),
    "pipe for a configuration": (index_fifo, DataError, "is a pipe"),
    "pickled weights": (pickle_weights, DataError, "safetensors only"),
    "weights elsewhere": (elsewhere, DataError, "in the same folder"),
    "adapter": (text("depth_estimator/adapter_config.json", '{"base_model_name_or_path": "x/y"}'), DataError, "belong"),
    "cut weights": (cut, DataError, "cannot be opened"),
    "header": (long_header, DataError, "cannot be opened"),
    "holes": (holes, DataError, "holes|at most"),
    "many files": (many_files, DataError, "more than 1000"),
    "no weights": (lambda f: (f / "vae" / WEIGHTS).unlink(), UsageError, "holds no weights"),
    "other depth weights": (other_weights, DataError, r"1 missing \(head\.conv3\.bias\)"),
    # configurations
    "deep": (text("model_index.json", deep_json()), DataError, "nested"),
    "rather deep": (text("unet/config.json", deep_json(60)), DataError, "nested"),
    "list": (text("unet/config.json", "[1]"), DataError, "must hold a JSON object"),
    "no JSON": (text("vae/config.json", "{"), DataError, "is not JSON"),
    "digits": (text("vae/config.json", '{"a": ' + "9" * 6000 + "}"), DataError, "is not JSON"),
    "large JSON": (text("vae/config.json", '{"a": "' + "9" * 2_000_000 + '"}'), DataError, "at most"),
    "no text": (lambda f: (f / "vae/config.json").write_bytes(b"\xff\xfe{}"), DataError, "is not JSON"),
    "channels": (config("unet", block_out_channels=[10**9] * 4), DataError, "block_out_channels each must be"),
    "many blocks": (config("vae", block_out_channels=[8] * 10**5), DataError, "must be a list of 1 to 6"),
    "blocks of text": (config("vae", block_out_channels="8888"), DataError, "must be a list"),
    "layers": (config("controlnet", layers_per_block=10**6), DataError, "layers_per_block must be"),
    "flag": (config("unet", time_folded="no"), DataError, "must be true or false"),
    "boolean number": (config("unet", sr_rank=True), DataError, "sr_rank must be"),
    "float number": (config("unet", sr_rank=4.0), DataError, "sr_rank must be"),
    "text number": (index(blur_reference="x"), DataError, "blur_reference must be a number"),
    "NaN": (index(blur_reference=float("nan")), DataError, "blur_reference must be a number"),
    "infinity": (config("vae", scaling_factor=float("inf")), DataError, "scaling_factor must be a number"),
    "zero": (config("vae", scaling_factor=0), DataError, "scaling_factor must be a number"),
    "prediction": (index(prediction=["eps"]), DataError, "prediction must be"),
    "sizes that do not go together": (config("unet", norm_groups=7), DataError, "cannot be opened"),
    "heads that are missing": (config("unet", heads=[2]), DataError, "cannot be opened"),
    "sizes without weights": (config("vae", block_out_channels=[4096] * 4), DataError, "cannot be opened"),
    "quantised": (config("unet", quantization_config={"quant_method": "bitsandbytes"}), DataError, "unknown quantiz"),
    "auto_map": (config("unet", auto_map={"AutoModel": "evil.X"}), DataError, "unknown auto_map"),
    "another class": (config("unet", _class_name="UNet2DModel"), DataError, "_class_name must be"),
    "depth: code": (config("depth_estimator", auto_map={"AutoModel": "evil.X"}), DataError, "auto_map"),
    "depth: quantised": (config("depth_estimator", quantization_config={"a": 1}), DataError, "quantization_config"),
    "depth: backbone elsewhere": (config("depth_estimator", backbone="resnet50"), DataError, "from elsewhere"),
    "depth: backbone of timm": (backbone(model_type="timm_backbone"), DataError, "must be dinov2"),
    "depth: no backbone": (config("depth_estimator", backbone_config=None), DataError, "backbone_config"),
    "depth: type": (config("depth_estimator", model_type="llama"), DataError, "Depth Anything"),
    "depth: size": (backbone(hidden_size=10**9), DataError, "hidden_size must be"),
    "depth: patches": (backbone(image_size=4096, patch_size=1), DataError, "patches"),
    "depth: zero width": (backbone(hidden_size=0), DataError, "hidden_size must be"),
    "depth: sizes without weights": (backbone(**HUGE), DataError, "its files hold"),
    "depth: activation": (backbone(hidden_act="eval"), DataError, "hidden_act must be"),
    "depth: stages": (backbone(out_features=[["stage1"]]), DataError, "out_features must"),
    "depth: dtype": (config("depth_estimator", dtype="load"), DataError, "dtype must be"),
    "depth: sizes that do not go together": (backbone(num_attention_heads=7), DataError, "cannot be opened"),
}  # fmt: skip


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", MUTATIONS)
def test_folders_that_mean_harm_are_refused(folder, tmp_path, monkeypatch, name):
    change, kind, says = MUTATIONS[name]
    monkeypatch.chdir(tmp_path)
    change(folder)
    with pytest.raises(kind, match=says) as refused:
        MagicBokehPipeline.from_pretrained(folder)
    assert len(str(refused.value)) < 1000
    assert str(folder) in str(refused.value)
    assert not list(tmp_path.rglob("RAN"))


def test_attention_kernels_and_notes_of_transformers_are_not_followed(folder):
    """Fields that transformers would act on, and that are not among the known ones, do not reach it."""
    for name in ("_attn_implementation", "attn_implementation", "_attn_implementation_internal", "use_kernels"):
        config("depth_estimator", **{name: "evil/kernel"})(folder)
    model = load_depth_model(folder / "depth_estimator")
    assert model.config._attn_implementation != "evil/kernel"
    assert not hasattr(model.config, "use_kernels")


@pytest.mark.parametrize("name", ["code", "link", "pipe for weights", "depth: code", "depth: sizes without weights"])
def test_depth_folders_alone(folder, name):
    part = folder / "depth_estimator"
    for other in ("unet", "controlnet", "vae", "model_index.json"):
        shutil.rmtree(folder / other) if (folder / other).is_dir() else (folder / other).unlink()
    change = {
        "code": lambda f: (part / "modeling.py").write_text(EVIL),
        "link": lambda f: (part / "notes").symlink_to("/etc/passwd"),
        "pipe for weights": lambda f: ((part / "model.safetensors").unlink(), os.mkfifo(part / "model.safetensors")),
    }.get(name, MUTATIONS[name][0])
    change(folder)
    with pytest.raises(DataError):
        load_depth_model(part)


def test_export_and_init_check_too(folder, tmp_path, mini_shards):
    from support.train_toys import mini

    from magicbokeh.training.run import train

    put("unet/evil.py")(folder)
    with pytest.raises(DataError, match="is code"):
        export_model(str(folder), tmp_path / "out")
    with pytest.raises(DataError, match="is code"):
        train(mini(tmp_path / "mini.yaml", mini_shards), tmp_path / "run", init=folder)
    assert not (tmp_path / "out").exists()


# --- the hub


def test_repositories_are_fetched_first_and_then_checked(folder, tmp_path, monkeypatch):
    """The hub's cache holds links into its blobs: these pass, others do not."""
    blobs, snapshot = tmp_path / "models--a--b" / "blobs", tmp_path / "models--a--b" / "snapshots" / "0123"
    blobs.mkdir(parents=True)
    for number, file in enumerate(sorted(path for path in folder.rglob("*") if path.is_file())):
        shutil.copy(file, blobs / str(number))
        target = snapshot / file.relative_to(folder)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to(os.path.relpath(blobs / str(number), target.parent))
    asked = []

    def fetched(repository, **options):
        asked.append((repository, options))
        return str(snapshot)

    monkeypatch.setattr("huggingface_hub.snapshot_download", fetched)
    assert MagicBokehPipeline.from_pretrained("a/b", revision="v1").depth_estimator is not None
    assert asked[0][0] == "a/b"
    assert asked[0][1]["revision"] == "v1"
    assert not [pattern for pattern in asked[0][1]["allow_patterns"] if pattern.endswith((".py", ".bin", "*"))]
    (snapshot / "unet" / "notes").symlink_to("/etc/passwd")
    with pytest.raises(DataError, match="is a link"):
        MagicBokehPipeline.from_pretrained("a/b")


def test_pickles_cannot_be_asked_for(good):
    with pytest.raises(UsageError, match="use_safetensors"):
        MagicBokehPipeline.from_pretrained(good, use_safetensors=False)


# --- bases of convert and --init


@pytest.fixture(scope="module")
def base_and_lora(tmp_path_factory):
    folder, networks = tmp_path_factory.mktemp("official"), toy_networks()
    return write_base(folder / "base", networks), write_official(folder / "lora.pkl", networks)


BASES = {
    "deep": (text("unet/config.json", deep_json()), "nested"),
    "channels": (config("unet", block_out_channels=[10**9] * 4), "block_out_channels"),
    "one number": (config("unet", block_out_channels=8), "must be a list"),
    "text": (config("unet", layers_per_block="2"), "layers_per_block"),
    "heads": (config("unet", attention_head_dim={"a": 1}), "heads each must be|heads must be"),
    "infinity": (config("vae", scaling_factor=float("inf")), "scaling_factor"),
    "groups": (config("vae", norm_num_groups=0), "norm_groups"),
    "schedule": (
        lambda f: (
            (f / "scheduler").mkdir(),
            text("scheduler/scheduler_config.json", '{"beta_start": "x"}')(f),
        ),
        "beta_start",
    ),
    "pipe": (index_fifo, "cannot be read|pipe"),
    "elsewhere": (elsewhere, "in the same folder"),
}


@pytest.mark.parametrize("name", BASES)
def test_bases_that_mean_harm_are_refused(base_and_lora, tmp_path, name):
    base, lora = base_and_lora
    folder = shutil.copytree(base, tmp_path / "base")
    change, says = BASES[name]
    change(folder)
    with pytest.raises(BokehsynthError, match=says) as refused:
        convert_official(folder, lora, tmp_path / "out")
    assert str(folder) in str(refused.value)
    assert not (tmp_path / "out").exists()


# --- nothing runs


@pytest.fixture
def trap(tmp_path):
    """A working directory whose modules tell when they are imported."""
    place = tmp_path / "cwd"
    place.mkdir()
    names = (
        "random torch diffusers numpy OpenEXR selectors magicbokeh bokehsynth evil sitecustomize transformers_modules"
    )
    for name in names.split():
        (place / f"{name}.py").write_text(f"open({str(tmp_path / 'RAN')!r}, 'a').write({name!r})\n")
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)).save(place / "photo.png")
    return place


def test_commands_run_nothing_of_folders_or_the_working_directory(good, base_and_lora, trap, tmp_path):
    """One process, first of all the innocent folder, so that everything a command ever imports was imported."""
    folders, lines, codes = {}, [], []
    for change in ("good", "component of the folder", "code", "auto_map", "depth: code"):
        folder = folders[change] = shutil.copytree(good, tmp_path / change)
        if change != "good":
            MUTATIONS[change][0](folder)
        lines += [
            ["infer", "photo.png", "--model", folder, "--focus", "0.5", "--out", tmp_path / "out", "--device", "cpu"],
            ["export", "--model", folder, "--out", tmp_path / f"{change} exported"],
        ]
        codes += [0, 0] if change == "good" else [1, 1]
    base, lora = base_and_lora
    folder = folders["base"] = shutil.copytree(base, tmp_path / "base")
    put("unet/evil.py")(folder)
    change_json(folder / "unet" / "config.json", auto_map={"AutoModel": "evil.X"}, _class_name="evil.X")
    lines.append(["convert", "--base", folder, "--lora", lora, "--out", tmp_path / "converted"])
    codes.append(0)  # what is read of a base is numbers; the rest does not matter
    for line, code, (found, err, seen) in zip(
        lines, codes, watched_commands([*folders.values(), trap], lines, cwd=trap), strict=True
    ):
        assert (found, seen) == (code, []), (line, err)
    assert not (tmp_path / "RAN").exists()


# --- what nobody thought of

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
FILES = [
    "model_index.json",
    "unet/config.json",
    "controlnet/config.json",
    "vae/config.json",
    "depth_estimator/config.json",
]


@settings(max_examples=60)
@given(file=st.sampled_from(FILES), data=st.data(), value=JSON_VALUES)
def test_any_value_of_any_key_is_refused_by_name_or_harmless(good, tmp_path_factory, file, data, value):
    copy = tmp_path_factory.getbasetemp() / "any-value"
    if not copy.exists():
        shutil.copytree(good, copy)
    original = (good / file).read_text()
    content = json.loads(original)
    target = content
    if "backbone_config" in content and data.draw(st.booleans()):
        target = content["backbone_config"]
    key = data.draw(st.sampled_from(sorted(target)) | st.text(max_size=12))
    target[key] = value
    try:
        (copy / file).write_text(json.dumps(content))
        try:
            check_pipeline_folder(copy)
        except BokehsynthError:
            return
        if value != json.loads(original).get(key):
            try:
                MagicBokehPipeline.from_pretrained(copy)
            except BokehsynthError:
                return
    finally:
        (copy / file).write_text(original)


@settings(max_examples=40)
@given(st.data())
def test_any_bytes_of_the_weights(good, tmp_path_factory, data):
    copy = tmp_path_factory.getbasetemp() / "any-bytes"
    if not copy.exists():
        shutil.copytree(good, copy)
    name = data.draw(st.sampled_from([f"vae/{WEIGHTS}", "depth_estimator/model.safetensors"]))
    original = (good / name).read_bytes()
    length = int.from_bytes(original[:8], "little") + 8
    changed = bytearray(original)
    for _ in range(data.draw(st.integers(1, 4))):
        changed[data.draw(st.integers(0, length - 1))] = data.draw(st.integers(0, 255))
    try:
        (copy / name).write_bytes(changed)
        try:
            MagicBokehPipeline.from_pretrained(copy)
        except BokehsynthError:
            return
    finally:
        (copy / name).write_bytes(original)
