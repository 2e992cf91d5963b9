"""`magicbokeh train`: from a recipe to a model. Sets the run up, goes through its stages, reports."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from bokehsynth import DataError, DeviceError, atomic_write
from magicbokeh.data.loader import TrainingSet, check_source, validation_batches
from magicbokeh.data.sources import Opened, open_source
from magicbokeh.inference.pipeline import MagicBokehPipeline
from magicbokeh.model.bundle import build_networks
from magicbokeh.model.config import ModelConfig
from magicbokeh.recipe import AlternateStage, DepthStage, Stage, TrainRecipe, check_world
from magicbokeh.training.checkpoint import Checkpoints
from magicbokeh.training.depth_distillation import DepthLoss
from magicbokeh.training.initial_models import (
    controlnet_from_unet,
    load_depth,
    own_depth,
    pipeline_config,
    starting_models,
)
from magicbokeh.training.losses import PictureLoss
from magicbokeh.training.metrics_log import Board, Curves, summary_table
from magicbokeh.training.phases import Models, phases_of
from magicbokeh.training.run_folder import RunFolder
from magicbokeh.training.trainer import Position, StageRun, Tools
from magicbokeh.training.validation import Score, Validator


@dataclass(frozen=True)
class Outcome:
    """What a training run came to."""

    run: Path
    steps: int
    scores: dict[str, Score]
    table: list[str]
    leads: bool = True
    """False in the other processes of a run that has several: one of them speaks."""

    @property
    def learned(self) -> bool:
        """Whether every task's score beats LQ's."""
        return all(score.beats_lq for score in self.scores.values())


def train(
    recipe: TrainRecipe,
    out: str | Path,
    *,
    resume: bool = False,
    init: str | Path | None = None,
    progress: bool = False,
    say: Callable[[str], None] = lambda message: None,
) -> Outcome:
    """Train by `recipe` into the folder `out`, or go on with the run there.

    `resume` continues from the newest checkpoint, at step 0 if there is none; on a finished run it does nothing. `init`
    is a folder whose weights the run starts from. `progress` shows bars, `say` receives lines for the user.
    UsageError, ChangedError, LockedError, DataError and StorageError say what is wrong; DivergedError and StoppedError
    end a run between two steps, with its checkpoints whole.
    """
    folder = RunFolder(Path(out))
    checkpoints = Checkpoints(folder.path, recipe.checkpoints.last)
    if not resume:
        folder.check_free()
    elif (found := checkpoints.newest()) is not None and found[1]["finished"]:
        folder.check_same(recipe, {})
        _complete(folder, checkpoints, found)
        say(f"{out}: finished already, at step {found[1]['global_step']}; nothing to do")
        return _outcome(folder.path, found[1])
    accelerator = make_accelerator(recipe)
    if accelerator.is_main_process:
        folder.make()
        with folder.lock():
            return _train(recipe, folder, checkpoints, accelerator, _Wish(resume, init, progress, say))
    return _train(recipe, folder, checkpoints, accelerator, _Wish(resume, init, False, lambda message: None))


@dataclass(frozen=True)
class _Wish:
    resume: bool
    init: str | Path | None
    progress: bool
    say: Callable[[str], None]


def _train(recipe: TrainRecipe, folder: RunFolder, checkpoints: Checkpoints, accelerator: Any, wish: _Wish) -> Outcome:
    sources = _open_sources(recipe, folder, accelerator)
    found = _agree(recipe, folder, checkpoints, accelerator, sources, wish)
    models, config = _models(recipe, folder, found, sources["main"], wish)
    for module in models.parts().values():
        module.to(accelerator.device)
    position, curves = _restore(found, recipe)
    tools = _tools(recipe, folder, checkpoints, accelerator, sources, models, config, wish, position)
    for number in range(position.stage, len(recipe.stages)):
        if number > position.stage:
            position.stage, position.step, position.best = number, 0, None
        stage = recipe.stages[number]
        run = _stage_run(tools, stage, position, curves)
        if found is not None and position.step:
            run.load(*found)
        found = None
        run.run()
    tools.board.close()
    accelerator.wait_for_everyone()
    table, leads = summary_table(curves, position.scores), bool(accelerator.is_main_process)
    outcome = Outcome(folder.path, position.global_step, position.scores, table, leads)
    if accelerator.is_main_process:
        for line in outcome.table:
            wish.say(line)
        _write_summary(folder, curves, position)
    return outcome


def make_accelerator(recipe: TrainRecipe) -> Any:
    """accelerate's view of this process: device, precision, the other processes."""
    from accelerate import Accelerator

    wanted = recipe.compute.device
    if wanted == "cuda" and not torch.cuda.is_available():
        raise DeviceError("compute.device: cuda was asked for and this torch finds none; use auto or cpu")
    device = "cuda" if wanted != "cpu" and torch.cuda.is_available() else "cpu"
    check_world(recipe, device)
    if recipe.compute.threads is not None:
        torch.set_num_threads(recipe.compute.threads)
    if recipe.compute.deterministic:
        torch.use_deterministic_algorithms(True, warn_only=True)
    mixed = {"fp32": "no", "fp16": "fp16", "bf16": "bf16"}[recipe.compute.precision]
    return Accelerator(cpu=device == "cpu", mixed_precision=mixed)


# --- setting up


def _open_sources(recipe: TrainRecipe, folder: RunFolder, accelerator: Any) -> dict[str, Opened]:
    """The sources by name; the main process fetches or renders first, the others read what it made."""
    wanted = {"main": recipe.data.source, "sr": recipe.data.sr_source}
    found = {}
    for turn in (True, False):
        if accelerator.is_main_process == turn:
            for name, spec in wanted.items():
                if spec is not None:
                    place = folder.path / ("data" if name == "main" else "data-sr")
                    found[name] = open_source(spec, place, recipe.data.workers, main=turn)
        accelerator.wait_for_everyone()
    for name, opened in found.items():
        check_source(opened, recipe, name)
    return found


def _agree(
    recipe: TrainRecipe,
    folder: RunFolder,
    checkpoints: Checkpoints,
    accelerator: Any,
    sources: dict[str, Opened],
    wish: _Wish,
) -> tuple[Path, dict[str, Any]] | None:
    """The checkpoint to go on from, after making sure that the run is the same."""
    facts = {
        "data": {name: opened.identity for name, opened in sources.items()},
        "processes": accelerator.num_processes,
    }
    begun = folder.started
    accelerator.wait_for_everyone()
    if begun:
        folder.check_same(recipe, facts)
    elif accelerator.is_main_process:
        init = None if wish.init is None else str(Path(wish.init).resolve())
        folder.begin(recipe, {**facts, "init": init})
    accelerator.wait_for_everyone()
    found = checkpoints.newest()
    if wish.resume:
        if found is None:
            wish.say(f"{folder.path}: no checkpoint yet: starting at step 0")
        else:
            wish.say(f"{folder.path}: going on after step {found[1]['step']} of stage {found[1]['stage_name']}")
    return found


def _models(
    recipe: TrainRecipe, folder: RunFolder, found: tuple[Path, dict[str, Any]] | None, main: Opened, wish: _Wish
) -> tuple[Models, ModelConfig]:
    if found is not None:
        return _saved_models(found[0] / "pipeline")
    init = wish.init if wish.init is not None else folder.record()["init"]
    side = recipe.data.crop or min(main.size)
    return starting_models(recipe, None if init is None else Path(init), main.radius_bound, side)


def _saved_models(folder: Path) -> tuple[Models, ModelConfig]:
    """A checkpoint's models, in memory of their own and without a trace of where they came from."""
    pipe = MagicBokehPipeline.from_pretrained(folder)
    config = pipeline_config(pipe)
    networks = build_networks(config, 0)
    for name in ("unet", "controlnet", "vae"):
        getattr(networks, name).load_state_dict(getattr(pipe, name).state_dict())
    return Models(networks, own_depth(pipe.depth_estimator)), config


def _restore(found: tuple[Path, dict[str, Any]] | None, recipe: TrainRecipe) -> tuple[Position, Curves]:
    return (Position(), Curves(recipe.log_every)) if found is None else _restored(*found, recipe.log_every)


def _restored(checkpoint: Path, state: dict[str, Any], log_every: int = 1) -> tuple[Position, Curves]:
    try:
        scores = {name: Score(**score) for name, score in state["scores"].items()}
        position = Position(state["stage"], state["step"], state["global_step"], state["best"], scores)
        return position, Curves(log_every, state["curves"])
    except (KeyError, TypeError) as error:
        raise DataError(f"{checkpoint}/state.json: lacks or misnames {error}; remove {checkpoint.name}/") from None


def _tools(
    recipe: TrainRecipe,
    folder: RunFolder,
    checkpoints: Checkpoints,
    accelerator: Any,
    sources: dict[str, Opened],
    models: Models,
    config: ModelConfig,
    wish: _Wish,
    position: Position,
) -> Tools:
    enable_checkpointing(models, recipe)
    main = sources["main"]
    batches = validation_batches(main, recipe.data, config.blur_reference, recipe.validation.samples, 8)

    def write(place: Path) -> None:
        pipe = MagicBokehPipeline.from_networks(models.networks, config, models.depth)
        with quiet_bars():
            pipe.save_pretrained(place)

    return Tools(
        recipe=recipe,
        accelerator=accelerator,
        models=models,
        data=TrainingSet(sources, recipe.data, recipe.seed, config.blur_reference),
        counts={name: 0 if opened.endless else len(opened.train) for name, opened in sources.items()},
        validator=Validator(batches, main.val, config.blur_reference, accelerator.device, recipe.data.crop),
        checkpoints=checkpoints,
        write=write,
        board=Board(folder.path / "tensorboard", position.global_step),
        run=folder.path,
        say=wish.say,
        progress=wish.progress,
    )


@contextmanager
def quiet_bars() -> Iterator[None]:
    """Without transformers' and diffusers' bars, which would tear the run's own."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def enable_checkpointing(models: Models, recipe: TrainRecipe) -> None:
    """Compute the activations of the recipe's networks again in the backward pass, instead of keeping them."""
    parts = models.parts()
    for name in recipe.compute.checkpointing:
        parts[name].enable_gradient_checkpointing()  # type: ignore[operator]  # diffusers', untyped


def _stage_run(tools: Tools, stage: Stage, position: Position, curves: Curves) -> StageRun:
    loss: nn.Module
    teacher = None
    if isinstance(stage, DepthStage):
        teacher = None if stage.teacher is None else load_depth(stage.teacher).to(tools.accelerator.device)
        loss = DepthLoss(stage, teacher)
    else:
        loss = PictureLoss(stage.loss)
    if isinstance(stage, AlternateStage) and position.step == 0:
        _begin_controlnet(tools.models)
    phases = phases_of(stage, loss.to(tools.accelerator.device), "sr" in tools.data.sources)
    run = StageRun(tools, stage, phases, position, curves)
    run.teacher = teacher
    return run


def _begin_controlnet(models: Models) -> None:
    """A ControlNet that was never trained begins as the encoder of the UNet as it is now; it still does nothing."""
    last = models.networks.controlnet.controlnet_down_blocks
    if not any(value.any() for value in last.parameters()):
        controlnet_from_unet(models.networks)


# --- reporting


def _complete(folder: RunFolder, checkpoints: Checkpoints, found: tuple[Path, dict[str, Any]]) -> None:
    """Do what a run that was killed after its last checkpoint had left to do; on a whole one, nothing."""
    position, curves = _restored(*found)
    summary = folder.path / "summary.json"
    if found[0].name == "last" and summary.is_file():
        return
    with folder.lock():
        checkpoints.settle(found[0])
        if not summary.is_file():
            _write_summary(folder, curves, position)


def _write_summary(folder: RunFolder, curves: Curves, position: Position) -> None:
    summary = {
        "steps": position.global_step,
        "losses": curves.summary(),
        "scores": {
            name: {**vars(score), "beats_lq": score.beats_lq} for name, score in sorted(position.scores.items())
        },
    }
    atomic_write(folder.path / "summary.json", json.dumps(summary, sort_keys=True, indent=1) + "\n")


def _outcome(run: Path, state: dict[str, Any]) -> Outcome:
    scores = {name: Score(**score) for name, score in state["scores"].items()}
    return Outcome(run, state["global_step"], scores, summary_table(Curves(1, state["curves"]), scores))
