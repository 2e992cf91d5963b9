"""Models of step 0: newly initialised, or those of a pipeline folder, a run, or a Stable Diffusion base."""

import dataclasses
from pathlib import Path
from typing import Any

import torch
from torch import nn

from bokehsynth import UsageError
from magicbokeh.conversion.imagenet import read_imagenet_encoder
from magicbokeh.conversion.official import base_sizes, base_unet_tensors, base_vae_tensors
from magicbokeh.inference.depth import load_depth_model
from magicbokeh.inference.model_source import check_finite_weights
from magicbokeh.inference.pipeline import MagicBokehPipeline
from magicbokeh.model.bundle import Networks, build_networks
from magicbokeh.model.checkpoint_files import SavedCheckpoint, check_files, read_state
from magicbokeh.model.config import ModelConfig
from magicbokeh.model.haar import HaarCodec
from magicbokeh.model.init import init_map_embedding, zero_init_residuals
from magicbokeh.model.lite_depth import LiteDepthNetwork
from magicbokeh.model.networks import BokehVAE
from magicbokeh.recipe import DepthStage, FromScratchStage, TrainRecipe
from magicbokeh.training.depth_distillation import small_depth_network
from magicbokeh.training.phases import Models


def build_initial_models(
    recipe: TrainRecipe, init: Path | None, radius_bound: float, side: int
) -> tuple[Models, ModelConfig]:
    """Build the models of step 0 and their configuration; all new weights follow from the recipe's seed.

    `radius_bound` of the data, pixels, becomes the model's `blur_reference` where neither recipe nor `init` has one;
    `side` is that of the training pictures.
    """
    if init is None:
        config = recipe.model.build(radius_bound)
        config = _tile_size(config, recipe, side)
        networks = build_networks(config, recipe.seed)
        _init_fully_trained(networks, recipe)
        controlnet_from_unet(networks)
        depth = None
    else:
        networks, config, depth = _from_folder(recipe, init, radius_bound)
    if radius_bound > config.blur_reference * 1.001:
        raise UsageError(
            f"data.source: its blur reaches {radius_bound:.4g} px, this model is defined to "
            f"{config.blur_reference:.4g} (blur_reference): lower scene.blur or the size of the data recipe, or set "
            "model.blur_reference"
        )
    return Models(networks, _depth_network(recipe, depth, side)), config


def _init_fully_trained(networks: Networks, recipe: TrainRecipe) -> None:
    """Initialise the networks that a stage trains from scratch so that they learn quickly."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        if any(isinstance(stage, FromScratchStage) for stage in recipe.stages):
            zero_init_residuals(networks.unet)
            init_map_embedding(networks.controlnet)


def _tile_size(config: ModelConfig, recipe: TrainRecipe, side: int) -> ModelConfig:
    """Give inference tiles of the size of the training pictures, unless the recipe sets another or names the preset
    `small`, which is convolutions but for its coarsest block."""
    if recipe.model.changes().get("sample_size") is not None or recipe.model.preset == "small":
        return config
    return dataclasses.replace(config, sample_size=side // config.scale)


def controlnet_from_unet(networks: Networks) -> None:
    """Copy the UNet encoder's weights into the ControlNet, as ControlNets are initialised; its outputs stay zero."""
    unet = {name.replace(".base_layer.", "."): value for name, value in networks.unet.state_dict().items()}
    own = networks.controlnet.state_dict()
    shared = {name: unet[name].clone() for name in own if name in unet and own[name].shape == unet[name].shape}
    networks.controlnet.load_state_dict({**own, **shared})


def init_untrained_controlnet(networks: Networks) -> None:
    """Initialise a ControlNet that was never trained (its outputs are all zero) from the UNet as it is now."""
    outputs = networks.controlnet.controlnet_down_blocks
    if not any(value.any() for value in outputs.parameters()):
        controlnet_from_unet(networks)


# --- from a folder


def load_saved_models(folder: Path) -> tuple[Models, ModelConfig]:
    """Load a checkpoint's models as new modules: aligned memory, and no path in their configuration."""
    pipe = MagicBokehPipeline.from_pretrained(folder)
    config = pipeline_config(pipe)
    return Models(_copy_networks(pipe, config, 0), copy_depth_model(pipe.depth_estimator)), config


def _copy_networks(pipe: MagicBokehPipeline, config: ModelConfig, seed: int) -> Networks:
    networks = build_networks(config, seed)
    for name in ("unet", "controlnet", "vae"):
        getattr(networks, name).load_state_dict(getattr(pipe, name).state_dict())
    return networks


def _from_folder(recipe: TrainRecipe, init: Path, radius_bound: float) -> tuple[Networks, ModelConfig, Any]:
    last = init / "checkpoints" / "last"
    folder = last / "pipeline" if (last / "pipeline").is_dir() else init
    if folder != init:
        check_files(SavedCheckpoint(last, read_state(last)))
    if (folder / "model_index.json").is_file():
        return _from_pipeline(recipe, folder)
    if (folder / "unet" / "config.json").is_file():
        return _from_base(recipe, folder, radius_bound)
    raise UsageError(
        f"{init}: --init takes a run's folder, a pipeline folder (made by convert, export or training) or a Stable "
        "Diffusion 2.1-base folder with unet/ and vae/"
    )


def _from_pipeline(recipe: TrainRecipe, folder: Path) -> tuple[Networks, ModelConfig, Any]:
    """Load a pipeline folder, which fixes sizes, ranks and alphas; UsageError where its LoRAs were merged."""
    pipe = MagicBokehPipeline.from_pretrained(folder)
    config = pipeline_config(pipe)
    check_finite_weights(pipe, folder)
    changes = recipe.model.changes()
    changeable = {"blur_reference", "focus_threshold"}
    wrong = [name for name, value in changes.items() if name not in changeable and value != getattr(config, name)]
    if wrong:
        listed = "; ".join(f"{name} is {getattr(config, name)}, not {changes[name]}" for name in wrong)
        raise UsageError(f"{folder}: the recipe's model asks for other sizes: {listed}; leave them out or start afresh")
    config = dataclasses.replace(config, **{name: changes[name] for name in changeable & changes.keys()})
    if pipe.unet.config.time_folded or 0 in (config.sr_rank, config.bokeh_rank):
        raise UsageError(f"{folder}: its LoRAs are merged into the weights (export); start from one that was not fused")
    return _copy_networks(pipe, config, recipe.seed), config, copy_depth_model(pipe.depth_estimator)


def pipeline_config(pipe: MagicBokehPipeline) -> ModelConfig:
    """The ModelConfig of a pipeline's networks."""
    unet, control = pipe.unet.config, pipe.controlnet.config
    return ModelConfig(
        sample_size=unet.sample_size,
        block_out_channels=tuple(unet.block_out_channels),
        heads=tuple(unet.heads),
        layers_per_block=unet.layers_per_block,
        norm_groups=unet.norm_groups,
        norm_eps=unet.norm_eps,
        use_linear_projection=unet.use_linear_projection,
        upcast_attention=unet.upcast_attention,
        map_channels=tuple(control.map_channels),
        latent_channels=unet.latent_channels,
        attention_in_last=unet.attention_in_last,
        **_codec_config(pipe.vae),
        sr_rank=unet.sr_rank,
        sr_alpha=unet.sr_alpha,
        bokeh_rank=unet.bokeh_rank,
        bokeh_alpha=unet.bokeh_alpha,
        prediction=pipe.config.prediction,
        alpha_bar=pipe.config.alpha_bar,
        blur_reference=pipe.config.blur_reference,
        focus_threshold=pipe.config.focus_threshold,
    )


def _codec_config(codec: BokehVAE | HaarCodec) -> dict[str, Any]:
    """The codec's fields of ModelConfig."""
    if isinstance(codec, HaarCodec):
        return {
            "codec": "haar",
            "haar_levels": codec.config.levels,
            "scaling_factor": codec.config.scaling_factor,
            "vae_rank": 0,
        }
    return {
        "vae_block_out_channels": tuple(codec.config.block_out_channels),
        "vae_layers_per_block": codec.config.layers_per_block,
        "vae_norm_groups": codec.config.norm_groups,
        "scaling_factor": codec.config.scaling_factor,
        "vae_rank": codec.config.vae_rank,
        "vae_alpha": codec.config.vae_alpha,
    }


def _from_base(recipe: TrainRecipe, folder: Path, radius_bound: float) -> tuple[Networks, ModelConfig, Any]:
    """Load Stable Diffusion's weights under new LoRAs; the ControlNet is initialised from the UNet's encoder."""
    changes = {"blur_reference": radius_bound, **recipe.model.changes()}
    sizes = base_sizes(folder)
    wrong = [name for name in sizes.keys() & changes.keys() if sizes[name] != changes[name]]
    if wrong:
        raise UsageError(f"{folder}: the base fixes {', '.join(sorted(wrong))}; leave them out of the recipe's model")
    config = ModelConfig(**{**sizes, **changes})
    networks = build_networks(config, recipe.seed)
    load_base_weights(networks.unet, base_unet_tensors(folder, networks.unet), f"{folder}/unet")
    load_base_weights(networks.vae, base_vae_tensors(folder, networks.vae), f"{folder}/vae")
    controlnet_from_unet(networks)
    return networks, config, None


def load_base_weights(model: nn.Module, tensors: dict[str, torch.Tensor], what: str) -> None:
    """Load the base weights of a model; `tensors` must hold all of its weights but those of LoRAs, and no others."""
    own = model.state_dict()
    loras = {name: value for name, value in own.items() if ".lora_" in name or ".processor." in name}
    missing = sorted(own.keys() - loras.keys() - tensors.keys())
    unknown = sorted(tensors.keys() - own.keys())
    odd = sorted(name for name in tensors.keys() & own.keys() if tensors[name].shape != own[name].shape)
    if missing or unknown or odd:
        raise UsageError(
            f"{what}: is not this network's base: missing {missing[:2]}, unknown {unknown[:2]}, "
            f"of another shape {odd[:2]}"
        )
    model.load_state_dict({**tensors, **loras})


# --- depth


def _depth_network(recipe: TrainRecipe, given: Any, side: int) -> Any:
    """The depth stage's student; without that stage the folder's depth network, if any."""
    stage = next((stage for stage in recipe.stages if isinstance(stage, DepthStage)), None)
    if stage is None:
        return given
    if given is not None:
        if stage.network is not None or stage.encoder is not None:
            raise UsageError("stages: --init brings a depth network; leave network and encoder out, or --init")
        return given
    if stage.teacher is not None:
        return load_depth_teacher(stage.teacher)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        if stage.network == "lite":
            network = LiteDepthNetwork()
            if stage.encoder is not None:
                network.backbone.load_state_dict(read_imagenet_encoder(Path(stage.encoder)))
            return network
        return copy_depth_model(small_depth_network(stage.width, side))


def check_encoders(recipe: TrainRecipe) -> None:
    """UsageError or DataError unless the weights that depth networks start from can be read.

    Called before a run is begun: its data may take an hour to make.
    """
    for stage in recipe.stages:
        if isinstance(stage, DepthStage) and stage.encoder is not None:
            read_imagenet_encoder(Path(stage.encoder))


def load_depth_teacher(source: str) -> Any:
    """Load Depth Anything V2 from a folder or repository, or the small network of a run."""
    return copy_depth_model(load_depth_model(source))


def copy_depth_model(given: Any) -> Any:
    """Rebuild a depth network with the given one's weights: aligned memory, and no path in its configuration."""
    if given is None:
        return None
    if isinstance(given, LiteDepthNetwork):
        sizes = {name: given.config[name] for name in ("side", "channels", "repeats", "decoder_channels")}
        lite = LiteDepthNetwork(**sizes)
        lite.load_state_dict(given.state_dict())
        return lite
    content = given.config.to_dict()
    content.pop("_name_or_path", None)
    config = type(given.config).from_dict(content)
    for part in (config, config.backbone_config):
        if hasattr(part, "dtype"):  # null when fresh, named when opened: the same file either way
            part.dtype = torch.float32
    model = type(given)(config)
    model.load_state_dict(given.state_dict())
    return model
