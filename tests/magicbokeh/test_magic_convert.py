"""The converter: everything arrives bit for bit, misfits are named, and hostile files do nothing."""

import collections
import json
import os
import pickle
import re
import shutil
import zipfile

import pytest
import torch
from safetensors.torch import load_file, save_file
from support.magic_toys import (
    TOY,
    official_content,
    plain_names,
    reference,
    toy_input,
    toy_networks,
    write_base,
    write_official,
)

from bokehsynth import DataError, UsageError
from magicbokeh import MagicBokehPipeline, convert_official
from magicbokeh.conversion.official import current_vae_tensor
from magicbokeh.conversion.safe_pickle import MAX_PROGRAM, read_checkpoint


@pytest.fixture(scope="module")
def networks():
    return toy_networks()


@pytest.fixture(scope="module")
def base(networks, tmp_path_factory):
    return write_base(tmp_path_factory.mktemp("base"), networks)


@pytest.fixture(scope="module")
def lora(networks, tmp_path_factory):
    return write_official(tmp_path_factory.mktemp("lora") / "lora.pkl", networks)


def same(pipe, networks):
    for part in ("unet", "controlnet", "vae"):
        wanted, found = getattr(networks, part).state_dict(), getattr(pipe, part).state_dict()
        assert set(found) == set(wanted)
        assert all(torch.equal(found[name], value) for name, value in wanted.items()), part


@pytest.mark.parametrize("whole", [True, False], ids=["whole", "pruned"])
def test_every_number_arrives(networks, lora, tmp_path, whole):
    out = convert_official(write_base(tmp_path / "base", networks, whole=whole), lora, tmp_path / "out")
    pipe = MagicBokehPipeline.from_pretrained(out)
    same(pipe, networks)
    lq, defocus, noise = toy_input()
    found, wanted = pipe.forward_tensors(lq, defocus, noise), reference(networks, TOY, lq, defocus, noise)
    assert float((found.image - wanted["image"]).abs().max()) <= 5e-5
    assert pipe.depth_estimator is None
    assert pipe.unet.dtype == torch.float32
    record = json.loads((out / "conversion.json").read_text())
    assert len(record["sources"]["lora.pkl"]) == 64
    assert record["ranks"] == {"bokeh": 6, "sr": 4, "vae": 4}
    assert record["alphas"] == {"bokeh": 1.0, "sr": 8.0, "vae": 8.0}
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]
    assert not list(out.rglob("*.bin")) + list(out.rglob("*.pkl"))


def test_wrappers_halves_and_state_dicts(networks, base, tmp_path):
    """Prefixes of DataParallel and compile fall; half precision becomes float32; a ControlNet may be a state dict."""

    def change(content):
        state = content["controlnet"].state_dict()
        content["controlnet"] = {f"module._orig_mod.{name}": value.half() for name, value in state.items()}
        content["extra"] = "of another release"

    lora = write_official(tmp_path / "lora.pkl", networks, change=change)
    pipe = MagicBokehPipeline.from_pretrained(convert_official(base, lora, tmp_path / "out"))
    own, wanted = pipe.controlnet.state_dict(), networks.controlnet.state_dict()
    assert all(torch.equal(own[name], value.half().float()) for name, value in wanted.items())


def test_old_names_of_the_vae(networks):
    """Before diffusers 0.15: query, key, value, proj_attn, as 1x1 convolutions."""
    new = "encoder.mid_block.attentions.0."
    weight = torch.ones(4, 4, 1, 1)
    assert current_vae_tensor(f"{new}query.weight", weight)[0] == f"{new}to_q.weight"
    assert current_vae_tensor(f"{new}proj_attn.bias", torch.ones(4))[0] == f"{new}to_out.0.bias"
    assert current_vae_tensor(f"{new}value.weight", weight)[1].shape == (4, 4)
    assert current_vae_tensor("encoder.conv_in.weight", weight)[1].shape == (4, 4, 1, 1)
    assert {current_vae_tensor(name, value)[0] for name, value in plain_names(networks.vae).items()} == set(
        plain_names(networks.vae)
    )


def test_the_schedule_of_the_base_counts(networks, base, lora, tmp_path):
    folder = tmp_path / "base"
    shutil.copytree(base, folder)
    (folder / "scheduler").mkdir()
    schedule = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(schedule))
    pipe = MagicBokehPipeline.from_pretrained(convert_official(folder, lora, tmp_path / "out"))
    assert pipe.config.alpha_bar == pytest.approx(0.00466009508818388, abs=1e-12)
    for change in ({"prediction_type": "v_prediction"}, {"beta_schedule": "linear"}):
        (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(schedule | change))
        with pytest.raises(UsageError, match=r"SD2\.1-base"):
            convert_official(folder, lora, tmp_path / "out2")


# --- misfits


def drop_one(content):
    content["state_dict_unet"].pop("conv_out.lora_A.default_decoder.weight")


def add_one(content):
    content["state_dict_vae"]["encoder.conv_in.lora_C.default_encoder.weight"] = torch.zeros(1)


def reshape_one(content):
    content["processor_state_dict"] = {name: value.T for name, value in content["processor_state_dict"].items()}


def poison_one(content):
    content["state_dict_unet"] = content["state_dict_unet"] | {"conv_in.base_layer.bias": torch.full((16,), torch.nan)}


def forget_rank(content):
    del content["state_dict_attn"]


def absurd_rank(content):
    content["rank_unet"] = 10**9


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (drop_one, r"conv_out\.lora_A\.sr\.weight is missing"),
        (add_one, "lora_C.* is unknown"),
        (reshape_one, "must be"),
        (poison_one, "NaN"),
        (forget_rank, "'state_dict_attn' must be a rank"),
        (absurd_rank, "'rank_unet' must be a rank"),
    ],
)
def test_misfits_are_named_and_leave_nothing_behind(networks, base, tmp_path, change, says):
    lora = write_official(tmp_path / "lora.pkl", networks, change=change)
    with pytest.raises(DataError, match=says):
        convert_official(base, lora, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["lora.pkl"]


def test_wrong_bases_are_named(base, lora, tmp_path):
    with pytest.raises(UsageError, match=r"unet/config\.json"):
        convert_official(tmp_path, lora, tmp_path / "out")
    folder = tmp_path / "base"
    shutil.copytree(base, folder)
    weights = folder / "vae" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(DataError, match="damaged"):
        convert_official(folder, lora, tmp_path / "out")
    weights.rename(weights.with_name("diffusion_pytorch_model.bin"))
    with pytest.raises(UsageError, match="safetensors"):
        convert_official(folder, lora, tmp_path / "out")


@pytest.mark.parametrize(
    ("part", "change", "says"),
    [
        ("vae", {"block_out_channels": None}, "vae/config.json: must describe the VAE"),
        ("unet", {"norm_num_groups": 7}, "no network that can be built"),
        ("unet", None, "must hold a JSON object"),
    ],
)
def test_wrong_configurations_of_a_base_are_named(base, lora, tmp_path, part, change, says):
    folder = tmp_path / "base"
    shutil.copytree(base, folder)
    file = folder / part / "config.json"
    content = [] if change is None else json.loads(file.read_text()) | change
    file.write_text(json.dumps(content))
    with pytest.raises((UsageError, DataError), match=says):
        convert_official(folder, lora, tmp_path / "out")


def test_a_base_that_is_not_finite(base, lora, tmp_path):
    folder = tmp_path / "base"
    shutil.copytree(base, folder)
    file = folder / "vae" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(file)
    tensors["decoder.conv_in.bias"][0] = float("nan")
    save_file(tensors, file)
    with pytest.raises(DataError, match=r"decoder\.conv_in\.bias holds NaN"):
        convert_official(folder, lora, tmp_path / "out")


def test_an_existing_folder_is_left_alone(base, lora, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "precious").touch()
    with pytest.raises(UsageError, match="is there already"):
        convert_official(base, lora, tmp_path / "out")
    assert (tmp_path / "out" / "precious").exists()


# --- hostile files


class Payload:
    """Unpickled naively, it makes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


def zipped(path, members, compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def torch_global(module, name):
    """A pickle that calls `module.name` with one string."""
    return b"\x80\x02c" + f"{module}\n{name}\n".encode() + b"X\x04\x00\x00\x00evil\x85R."


def test_os_system(networks, base, tmp_path):
    mark = tmp_path / "mark"

    def change(content):
        content["note"] = Payload(mark)

    lora = write_official(tmp_path / "lora.pkl", networks, change=change)
    with pytest.raises(DataError, match=r"(posix|os|nt)\.system.*nothing of it was run"):
        convert_official(base, lora, tmp_path / "out")
    assert not mark.exists()
    assert not (tmp_path / "out").exists()


def test_nested_in_the_state_of_a_module(networks, base, tmp_path):
    mark = tmp_path / "mark"

    def change(content):
        content["controlnet"].down_blocks[0].resnets[0].secret = {"deep": [Payload(mark)]}

    lora = write_official(tmp_path / "lora.pkl", networks, change=change)
    with pytest.raises(DataError, match=r"\.system"):
        convert_official(base, lora, tmp_path / "out")
    assert not mark.exists()


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("torch", "load"),
        ("torch.hub", "load"),
        ("torch.nn.modules.module", "torch.load"),
        ("torch._utils", "_import_dotted_name"),
        ("torch.nn.modules.utils", "_ntuple"),
        ("models.controlnet", "run"),
        ("builtins", "eval"),
        ("builtins", "getattr"),
        ("diffusers", "Evil"),
        ("functools", "partial"),
    ],
)
def test_names_that_no_tensor_needs(tmp_path, module, name):
    path = zipped(tmp_path / "x.pkl", {"x/data.pkl": torch_global(module, name)})
    with pytest.raises(DataError, match=re.escape(f"asks for {module}.{name}")):
        read_checkpoint(path)


def test_zip_bomb(tmp_path):
    path = zipped(tmp_path / "bomb.pkl", {"x/data.pkl": b"\0" * (50 << 20)}, zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 100_000
    with pytest.raises(DataError, match="compressed"):
        read_checkpoint(path)


def test_records_that_overlap(tmp_path):
    """A bomb without compression: many names for the same bytes."""
    path = zipped(tmp_path / "x.pkl", {"x/data.pkl": b"N.", "x/data/0": b"\0" * 4000})
    raw = path.read_bytes()
    start = raw.rindex(b"PK\x01\x02")
    entry, end = raw[start : raw.rindex(b"PK\x05\x06")], bytearray(raw[raw.rindex(b"PK\x05\x06") :])
    many = [entry[:-1] + bytes([48 + digit]) for digit in range(1, 9)]
    end[8:12] = (10).to_bytes(2, "little") * 2
    end[12:16] = (int.from_bytes(end[12:16], "little") + 8 * len(entry)).to_bytes(4, "little")
    path.write_bytes(raw[: raw.rindex(b"PK\x05\x06")] + b"".join(many) + bytes(end))
    with pytest.raises(DataError, match=r"overlap|compressed|damaged"):
        read_checkpoint(path)


def test_truncated(lora, tmp_path):
    path = tmp_path / "short.pkl"
    path.write_bytes(lora.read_bytes()[:-20_000])
    with pytest.raises(DataError, match="damaged or cut short"):
        read_checkpoint(path)


def test_damaged_records(lora, tmp_path):
    path = tmp_path / "bent.pkl"
    raw = bytearray(lora.read_bytes())
    middle = len(raw) // 2
    raw[middle : middle + 64] = bytes(64)
    path.write_bytes(raw)
    with pytest.raises(DataError, match="refused"):
        read_checkpoint(path)


def test_legacy_and_bare_pickles(tmp_path):
    mark = tmp_path / "mark"
    torch.save({"a": torch.ones(2)}, tmp_path / "legacy.pkl", _use_new_zipfile_serialization=False)
    (tmp_path / "bare.pkl").write_bytes(pickle.dumps(Payload(mark)))
    for name in ("legacy.pkl", "bare.pkl"):
        with pytest.raises(UsageError, match=r"not a zip archive.*torch\.save"):
            read_checkpoint(tmp_path / name)
    assert not mark.exists()


def test_tensors_that_reach_beyond_their_storage(tmp_path):
    good = tmp_path / "good.pkl"
    torch.save({"a": torch.arange(4.0)}, good)
    assert torch.equal(read_checkpoint(good)["a"], torch.arange(4.0))
    with zipfile.ZipFile(good) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    program = next(name for name in members if name.endswith("data.pkl"))
    bent = members[program].replace(b"K\x04\x85", b"K\x05\x85")  # a size of 5 in a storage of 4
    assert bent != members[program]
    path = zipped(tmp_path / "bad.pkl", members | {program: bent})
    with pytest.raises(DataError, match="reaches beyond"):
        read_checkpoint(path)


def test_programs_are_of_bounded_size(tmp_path):
    path = zipped(tmp_path / "x.pkl", {"x/data.pkl": b"N" * (MAX_PROGRAM + 1)})
    with pytest.raises(DataError, match="larger than"):
        read_checkpoint(path)


def test_no_such_file(tmp_path):
    with pytest.raises(UsageError, match="no such file"):
        read_checkpoint(tmp_path / "nothing.pkl")


def test_what_torch_saves_is_read(tmp_path):
    shared = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))
    content = {
        "view": shared[1:3, ::2],
        "turned": shared.T,
        "half": shared.half(),
        "brain": shared.bfloat16(),
        "whole": torch.arange(5),
        "flag": torch.tensor([True, False]),
        "empty": torch.zeros(0, 3),
        "number": torch.tensor(2.5),
        "parameter": torch.nn.Parameter(shared),
        "names": ["a", "b"],
        "nested": collections.OrderedDict(x=shared),
        "set": {1, 2},
    }
    torch.save(content, tmp_path / "x.pkl")
    found = read_checkpoint(tmp_path / "x.pkl")
    for name, value in content.items():
        if isinstance(value, torch.Tensor):
            assert found[name].dtype == value.dtype
            assert torch.equal(found[name], value), name
    assert found["names"] == ["a", "b"]
    assert found["set"] == {1, 2}
    assert torch.equal(found["nested"]["x"], shared)


def test_the_official_dict_survives_reading(networks, lora):
    content = read_checkpoint(lora)
    assert content["rank_unet"] == TOY.sr_rank
    assert set(content["state_dict_unet"]) == set(official_content(networks)["state_dict_unet"])


# --- the depth model


@pytest.fixture(scope="module")
def depth_model():
    from transformers import DepthAnythingConfig, DepthAnythingForDepthEstimation, Dinov2Config

    backbone = Dinov2Config(
        hidden_size=64,
        num_hidden_layers=12,
        num_attention_heads=1,
        image_size=56,
        patch_size=14,
        out_features=["stage3", "stage6", "stage9", "stage12"],
        reshape_hidden_states=False,
        apply_layernorm=True,
    )
    config = DepthAnythingConfig(
        backbone_config=backbone,
        patch_size=14,
        reassemble_hidden_size=64,
        neck_hidden_sizes=[8, 8, 8, 8],
        fusion_hidden_size=8,
        head_hidden_size=4,
    )
    torch.manual_seed(0)
    return DepthAnythingForDepthEstimation(config).eval()


def official_depth(model):
    """The state dict under the names of Depth Anything V2's authors, written out from their published layout."""
    own = model.state_dict()
    back = "backbone.encoder.layer."
    found = {
        "pretrained.cls_token": own["backbone.embeddings.cls_token"],
        "pretrained.mask_token": own["backbone.embeddings.mask_token"],
        "pretrained.pos_embed": own["backbone.embeddings.position_embeddings"],
    }
    for kind in ("weight", "bias"):
        found[f"pretrained.patch_embed.proj.{kind}"] = own[f"backbone.embeddings.patch_embeddings.projection.{kind}"]
        found[f"pretrained.norm.{kind}"] = own[f"backbone.layernorm.{kind}"]
        for layer in range(12):
            here, there = f"pretrained.blocks.{layer}", f"{back}{layer}"
            for part in ("norm1", "norm2", "mlp.fc1", "mlp.fc2"):
                found[f"{here}.{part}.{kind}"] = own[f"{there}.{part}.{kind}"]
            if f"{there}.attention.q_proj.weight" in own:
                names = [f"{there}.attention.{part}_proj.{kind}" for part in "qkvo"]
            else:
                names = [f"{there}.attention.attention.{part}.{kind}" for part in ("query", "key", "value")]
                names.append(f"{there}.attention.output.dense.{kind}")
            found[f"{here}.attn.qkv.{kind}"] = torch.cat([own[name] for name in names[:3]])
            found[f"{here}.attn.proj.{kind}"] = own[names[3]]
            found[f"{here}.ls1.gamma"] = own[f"{there}.layer_scale1.lambda1"]
            found[f"{here}.ls2.gamma"] = own[f"{there}.layer_scale2.lambda1"]
        for index in range(4):
            found[f"depth_head.projects.{index}.{kind}"] = own[
                f"neck.reassemble_stage.layers.{index}.projection.{kind}"
            ]
            if index != 2:
                name = f"neck.reassemble_stage.layers.{index}.resize.{kind}"
                found[f"depth_head.resize_layers.{index}.{kind}"] = own[name]
            if kind == "weight":
                found[f"depth_head.scratch.layer{index + 1}_rn.weight"] = own[f"neck.convs.{index}.weight"]
            stage, net = f"neck.fusion_stage.layers.{index}", f"depth_head.scratch.refinenet{4 - index}"
            found[f"{net}.out_conv.{kind}"] = own[f"{stage}.projection.{kind}"]
            for unit in (1, 2):
                for half in (1, 2):
                    name = f"{stage}.residual_layer{unit}.convolution{half}.{kind}"
                    found[f"{net}.resConfUnit{unit}.conv{half}.{kind}"] = own[name]
        for part, name in (("output_conv1", "conv1"), ("output_conv2.0", "conv2"), ("output_conv2.2", "conv3")):
            found[f"depth_head.scratch.{part}.{kind}"] = own[f"head.{name}.{kind}"]
    return found


def test_the_official_depth_model(networks, base, lora, depth_model, tmp_path):
    state = {f"module.{name}": value for name, value in official_depth(depth_model).items()}
    torch.save({"model": state}, tmp_path / "DAdepth.pth")
    out = convert_official(base, lora, tmp_path / "out", depth=tmp_path / "DAdepth.pth")
    pipe = MagicBokehPipeline.from_pretrained(out)
    pixels = torch.randn(1, 3, 56, 70, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        wanted = depth_model(pixels).predicted_depth
        assert torch.equal(pipe.depth_estimator(pixels).predicted_depth, wanted)
    assert wanted.std() > 0
    same(pipe, networks)
    import numpy as np

    disparity = pipe.disparity(np.random.default_rng(0).random((64, 90, 3), np.float32))
    assert disparity.shape == (64, 90)
    assert (disparity.min(), disparity.max()) == (0, 1)


def test_a_depth_model_that_is_none(base, lora, tmp_path):
    torch.save({"model": {"a": torch.ones(1)}}, tmp_path / "DAdepth.pth")
    with pytest.raises(DataError, match="not a Depth Anything V2"):
        convert_official(base, lora, tmp_path / "out", depth=tmp_path / "DAdepth.pth")
