"""`magicbokeh train`: from a recipe to a model. Sets the run up, trains its stages one after another, summarises."""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from bokehsynth import DeviceError, UsageError, atomic_write
from magicbokeh.data.loader import TrainingSet, check_source, validation_batches
from magicbokeh.data.sources import OpenSource, open_source
from magicbokeh.inference.pipeline import MagicBokehPipeline
from magicbokeh.model.checkpoint_files import SavedCheckpoint
from magicbokeh.model.config import ModelConfig
from magicbokeh.model.haar import HaarCodec
from magicbokeh.recipe import AlternateStage, DepthStage, Stage, TrainRecipe
from magicbokeh.training import device_layout
from magicbokeh.training.checkpoint import Checkpoints
from magicbokeh.training.depth_distillation import DepthLoss
from magicbokeh.training.initial_models import (
    build_initial_models,
    check_encoders,
    init_untrained_controlnet,
    load_depth_teacher,
    load_saved_models,
)
from magicbokeh.training.losses import PictureLoss
from magicbokeh.training.metrics_log import LossHistory, summary_table
from magicbokeh.training.phases import Models, phases_of
from magicbokeh.training.run_folder import RunFolder
from magicbokeh.training.tensorboard_log import TensorBoardLog
from magicbokeh.training.train_state import TrainState
from magicbokeh.training.trainer import StageTrainer, TrainContext
from magicbokeh.training.validation import Score, Validator


@dataclass(frozen=True)
class TrainResult:
    """The result of a training run."""

    run: Path
    steps: int
    scores: dict[str, Score]
    table: list[str]
    is_main_process: bool = True
    """False in all but one of the processes of a distributed run; only that one reports to the user."""

    @property
    def learned(self) -> bool:
        """Whether every task's score beats LQ's."""
        return all(score.beats_lq for score in self.scores.values())


@dataclass(frozen=True)
class _RunOptions:
    """The arguments of `train`, and what is made of them before anything is opened."""

    recipe: TrainRecipe
    folder: RunFolder
    checkpoints: Checkpoints
    resume: bool
    init: str | Path | None
    progress: bool
    report: Callable[[str], None]


def train(
    recipe: TrainRecipe,
    out: str | Path,
    *,
    resume: bool = False,
    init: str | Path | None = None,
    progress: bool = False,
    report: Callable[[str], None] = lambda message: None,
) -> TrainResult:
    """Train by `recipe` into the folder `out`, or resume the run there.

    `resume` continues from the newest checkpoint, at step 0 if there is none; on a finished run it does nothing. `init`
    is a folder whose weights the run starts from. `progress` shows bars, `report` receives lines for the user.
    UsageError, ChangedError, LockedError, DataError and StorageError name what is wrong; DivergedError and StoppedError
    end a run between two steps, with its checkpoints whole.
    """
    folder = RunFolder(Path(out))
    checkpoints = Checkpoints(folder.path, recipe.checkpoints.last)
    if not resume:
        folder.check_free()
    elif (newest := checkpoints.newest()) is not None and newest.record["finished"]:
        folder.check_same(recipe, {})
        state = TrainState.from_record(newest.record, newest.path, recipe.log_every)
        _finish_interrupted(folder, checkpoints, newest, state)
        report(f"{out}: finished already, at step {state.global_step}; nothing to do")
        return TrainResult(folder.path, state.global_step, state.scores, summary_table(state.losses, state.scores))
    if not folder.started:
        check_encoders(recipe)
    options = _RunOptions(recipe, folder, checkpoints, resume, init, progress, report)
    accelerator = make_accelerator(recipe)
    if accelerator.is_main_process:
        folder.make()
        with folder.lock():
            return _train(options, accelerator)
    return _train(replace(options, progress=False, report=lambda message: None), accelerator)


def _train(options: _RunOptions, accelerator: Any) -> TrainResult:
    recipe, folder = options.recipe, options.folder
    sources = _open_sources(recipe, folder, accelerator)
    checkpoint = _find_checkpoint(options, accelerator, sources)
    models, config = _load_or_init_models(options, checkpoint, sources["main"])
    device_layout.move_networks(models, accelerator.device)
    if checkpoint is None:
        state = TrainState(LossHistory(recipe.log_every))
    else:
        state = TrainState.from_record(checkpoint.record, checkpoint.path, recipe.log_every)
    context = _train_context(options, accelerator, sources, models, config, state.global_step)
    for number in range(state.stage, len(recipe.stages)):
        state.enter_stage(number)
        trainer = _stage_trainer(context, recipe.stages[number], state)
        if checkpoint is not None and state.step:
            trainer.load(*checkpoint)
        checkpoint = None  # later stages start with fresh optimisers
        trainer.run()
    accelerator.wait_for_everyone()
    table, is_main = summary_table(state.losses, state.scores), bool(accelerator.is_main_process)
    if is_main:
        for line in table:
            options.report(line)
        _write_summary(folder, state)
    return TrainResult(folder.path, state.global_step, state.scores, table, is_main)


def make_accelerator(recipe: TrainRecipe) -> Any:
    """Set up accelerate for this process: device, precision, the other processes."""
    from accelerate import Accelerator

    requested = recipe.compute.device
    if requested == "cuda" and not torch.cuda.is_available():
        raise DeviceError("compute.device: cuda was asked for and this torch finds none; use auto or cpu")
    device = "cuda" if requested != "cpu" and torch.cuda.is_available() else "cpu"
    if recipe.compute.precision == "fp16" and device != "cuda":
        raise UsageError("compute.precision: fp16 needs CUDA; on a CPU use fp32 (or bf16 with prediction: residual)")
    if recipe.compute.threads is not None:
        torch.set_num_threads(recipe.compute.threads)
    if recipe.compute.deterministic:
        # Not `warn_only`: with it attention keeps gradients that are summed in any order, after one warning.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when cuBLAS is first asked for
        torch.use_deterministic_algorithms(True)
    mixed = {"fp32": "no", "fp16": "fp16", "bf16": "bf16"}[recipe.compute.precision]
    return Accelerator(cpu=device == "cpu", mixed_precision=mixed)


# --- setting up


def _open_sources(recipe: TrainRecipe, folder: RunFolder, accelerator: Any) -> dict[str, OpenSource]:
    """Open the sources by name; the main process downloads or generates first, the others read the result."""
    specs = {"main": recipe.data.source, "sr": recipe.data.sr_source}
    found = {}
    for main_first in (True, False):
        if accelerator.is_main_process == main_first:
            for name, spec in specs.items():
                if spec is not None:
                    run_data = folder.path / ("data" if name == "main" else "data-sr")
                    found[name] = open_source(spec, run_data, recipe.data.workers, is_main=main_first)
        accelerator.wait_for_everyone()
    for name, source in found.items():
        check_source(source, recipe, name)
    return found


def _find_checkpoint(options: _RunOptions, accelerator: Any, sources: dict[str, OpenSource]) -> SavedCheckpoint | None:
    """Return the checkpoint to resume from, after checking that recipe, data and processes are those of the run."""
    folder = options.folder
    facts = {
        "data": {name: source.identity for name, source in sources.items()},
        "processes": accelerator.num_processes,
    }
    started = folder.started
    accelerator.wait_for_everyone()
    if started:
        folder.check_same(options.recipe, facts)
    elif accelerator.is_main_process:
        init = None if options.init is None else str(Path(options.init).resolve())
        folder.begin(options.recipe, {**facts, "init": init})
    accelerator.wait_for_everyone()
    newest = options.checkpoints.newest()
    accelerator.wait_for_everyone()  # the others have looked, too, before anything moves
    if newest is not None and accelerator.is_main_process:
        options.checkpoints.settle(newest)
    accelerator.wait_for_everyone()
    if options.resume:
        if newest is None:
            options.report(f"{folder.path}: no checkpoint yet: starting at step 0")
        else:
            step, stage = newest.record["step"], newest.record["stage_name"]
            options.report(f"{folder.path}: going on after step {step} of stage {stage}")
    return newest


def _load_or_init_models(
    options: _RunOptions, checkpoint: SavedCheckpoint | None, source: OpenSource
) -> tuple[Models, ModelConfig]:
    if checkpoint is not None:
        return load_saved_models(checkpoint.path / "pipeline")
    recipe = options.recipe
    init = options.init if options.init is not None else options.folder.record()["init"]
    side = recipe.data.crop or min(source.size)
    return build_initial_models(recipe, None if init is None else Path(init), source.radius_bound, side)


def _train_context(
    options: _RunOptions,
    accelerator: Any,
    sources: dict[str, OpenSource],
    models: Models,
    config: ModelConfig,
    first_step: int,
) -> TrainContext:
    recipe, main = options.recipe, sources["main"]
    enable_checkpointing(models, recipe)
    batches = validation_batches(main, recipe.data, config.blur_reference, recipe.validation.samples, 8)

    def write_pipeline(folder: Path) -> None:
        pipe = MagicBokehPipeline.from_networks(models.networks, config, models.depth)
        with quiet_bars(), device_layout.contiguous_when_saved(models):
            pipe.save_pretrained(folder)

    return TrainContext(
        recipe=recipe,
        accelerator=accelerator,
        models=models,
        data=TrainingSet(sources, recipe.data, recipe.seed, config.blur_reference),
        counts={name: 0 if source.endless else len(source.train) for name, source in sources.items()},
        validator=Validator(batches, main.val, config.blur_reference, accelerator.device, recipe.data.crop),
        checkpoints=options.checkpoints,
        write_pipeline=write_pipeline,
        tensorboard=TensorBoardLog(options.folder.path / "tensorboard", first_step),
        run=options.folder.path,
        report=options.report,
        progress=options.progress,
    )


@contextmanager
def quiet_bars() -> Iterator[None]:
    """Switch off the progress bars of transformers and diffusers, which would tear the run's own."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def enable_checkpointing(models: Models, recipe: TrainRecipe) -> None:
    """Let the recipe's networks recompute their activations in the backward pass instead of keeping them."""
    parts = models.parts()
    for name in recipe.compute.checkpointing:
        if isinstance(parts[name], HaarCodec):
            raise UsageError(f"compute.checkpointing: {name} has no activations with codec haar; leave it out")
        parts[name].enable_gradient_checkpointing()  # type: ignore[operator]  # diffusers', untyped


def _stage_trainer(context: TrainContext, stage: Stage, state: TrainState) -> StageTrainer:
    loss: nn.Module
    teacher = None
    if isinstance(stage, DepthStage):
        teacher = None if stage.teacher is None else load_depth_teacher(stage.teacher).to(context.accelerator.device)
        loss = DepthLoss(stage, teacher)
    else:
        loss = PictureLoss(stage.loss)
    if isinstance(stage, AlternateStage) and state.step == 0:
        init_untrained_controlnet(context.models.networks)
    phases = phases_of(stage, loss.to(context.accelerator.device), "sr" in context.data.sources)
    return StageTrainer(context, stage, phases, state, teacher)


# --- summary


def _finish_interrupted(
    folder: RunFolder, checkpoints: Checkpoints, newest: SavedCheckpoint, state: TrainState
) -> None:
    """Do what a run that was killed after its last checkpoint had left to do; on a complete one, nothing."""
    summary = folder.path / "summary.json"
    if summary.is_file() and checkpoints.is_settled(newest):
        return
    with folder.lock():
        checkpoints.settle(newest)
        if not summary.is_file():
            _write_summary(folder, state)


def _write_summary(folder: RunFolder, state: TrainState) -> None:
    summary = {
        "steps": state.global_step,
        "losses": state.losses.summary(),
        "scores": {name: {**vars(score), "beats_lq": score.beats_lq} for name, score in sorted(state.scores.items())},
    }
    atomic_write(folder.path / "summary.json", json.dumps(summary, sort_keys=True, indent=1) + "\n")
