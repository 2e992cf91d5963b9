"""The training loop of one stage: steps, validations, checkpoints. `run.train` goes through the stages.

Nothing depends on the time at which something happens. The samples of a step, its learning rate and its phase are
functions of the step's number, so that a run that was killed at any moment and resumed ends in the same weights.
"""

import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from bokehsynth import BokehsynthError, DataError, UsageError
from magicbokeh.data.loader import Batch, BatchSchedule, TrainingSet, make_loader, rendered_ahead
from magicbokeh.given_files import check_size
from magicbokeh.model.folder_files import MAX_WEIGHTS
from magicbokeh.model.lora import skip_idle_loras
from magicbokeh.recipe import Stage, TrainRecipe
from magicbokeh.training.checkpoint import Checkpoints
from magicbokeh.training.optimizers import PhaseOptimizer
from magicbokeh.training.phases import Models, Phase, activate, total
from magicbokeh.training.tensorboard_log import TensorBoardLog
from magicbokeh.training.train_state import TrainState
from magicbokeh.training.validation import Validator

TASKS = {
    "from_scratch": ("bokeh", "sr"),
    "sr": ("sr",),
    "alternate": ("bokeh", "sr"),
    "depth": ("depth",),
}
"""The tasks scored after each stage."""


class DivergedError(BokehsynthError):
    """The loss or its gradient is no longer finite; the step was not taken."""


class StoppedError(BokehsynthError):
    """A signal ended the run after a whole step and a checkpoint."""

    def __init__(self, message: str, signum: int) -> None:
        super().__init__(message)
        self.exit_code = 128 + signum


@dataclass
class TrainContext:
    """The parts of a run that its stages share."""

    recipe: TrainRecipe
    accelerator: Any
    models: Models
    data: TrainingSet
    counts: dict[str, int]
    """Samples per epoch, by source; 0 for an endless one."""
    validator: Validator
    checkpoints: Checkpoints
    write_pipeline: Callable[[Path], None]
    """Writes the pipeline into a checkpoint's folder."""
    tensorboard: TensorBoardLog
    run: Path
    report: Callable[[str], None]
    progress: bool


class StageTrainer:
    """Trains one stage from the run's current step to its end."""

    def __init__(
        self, context: TrainContext, stage: Stage, phases: list[Phase], state: TrainState, teacher: Any = None
    ) -> None:
        """`teacher` is the depth stage's: its output on degraded pictures is the baseline of the score."""
        self.context, self.stage, self.phases, self.state, self.teacher = context, stage, phases, state, teacher
        self.accelerator = context.accelerator
        self.optimizers: dict[str, PhaseOptimizer] = {}
        for phase in phases:
            if phase.name not in self.optimizers:
                self.optimizers[phase.name] = PhaseOptimizer(phase, activate(phase, context.models), stage)
        skip_idle_loras(context.models.networks.unet, lambda name: any(one.trains(f"unet.{name}") for one in phases))
        self._active: str | None = None
        self._timing = {"wait": 0.0, "all": 0.0, "samples": 0.0}

    def schedule(self) -> BatchSchedule:
        """The samples of each micro-batch."""
        return BatchSchedule(
            seed=self.context.recipe.seed,
            stage=self.state.stage,
            batch=self.stage.batch,
            accumulation=self.stage.accumulation,
            rank=self.accelerator.process_index,
            world=self.accelerator.num_processes,
            counts=self.context.counts,
            source_cycle=[phase.source for phase in self.phases],
            windows=self.context.recipe.data.windows or 1,
        )

    def run(self) -> None:
        """Train to the stage's end; raises StoppedError after a signal, with a checkpoint written."""
        if self.state.step >= self.stage.steps:
            return
        parts = self.stage.accumulation
        loader = make_loader(
            self.context.data,
            self.schedule(),
            self.state.step * parts,
            self.stage.steps * parts,
            self.context.recipe.data.workers,
            pin=self.accelerator.device.type == "cuda",
        )
        if self.state.step == 0:
            self.record_validation_losses()
        self.accelerator.gradient_accumulation_steps = parts
        self.accelerator.step = 0  # its count of micro-batches starts anew with the stage
        pin = self.accelerator.device.type == "cuda"
        with (
            _signals() as caught,
            self._progress_bar() as bar,
            rendered_ahead(self.context.data, loader, pin) as batches,
        ):
            while self.state.step < self.stage.steps:
                started = time.perf_counter()
                loss, stop = self.step(batches, caught)
                self._timing["all"] += time.perf_counter() - started
                self._after_step(bar, loss, stop)

    # --- one step

    def step(self, batches: Iterator[Any], caught: list[int]) -> tuple[float, int]:
        """Take one optimiser step of the current phase; returns the mean loss and the signal to stop for, or 0."""
        phase = self.phases[self.state.step % len(self.phases)]
        optimizer = self.optimizers[phase.name]
        self._activate(phase)
        rate = optimizer.set_rate(self.state.step)
        sums, keys = torch.zeros((), device=self.accelerator.device), []
        terms: dict[str, Tensor] = {}
        for _ in range(self.stage.accumulation):
            batch = self._next(batches)
            keys += batch.keys
            with self._deterministic(phase), self.accelerator.accumulate(), self.accelerator.autocast():
                terms = phase.losses(self.context.models, batch)
                loss = total(terms)
                self.accelerator.backward(loss)
            sums += loss.detach().float() / self.stage.accumulation
        # One message between processes: the mean loss, and whether any of them received a signal.
        message = torch.stack([sums, sums.new_tensor(float(caught[0] if caught else 0))])
        mean, stop = self.accelerator.reduce(message, reduction="mean").tolist()
        self._check_finite(mean, phase, "loss", terms, keys)
        self._all_reduce(optimizer.active)
        scaler = self.accelerator.scaler
        norm = optimizer.clip(self.stage.clip, scaler)
        if scaler is None:  # with one, a step whose fp16 gradients overflow is skipped by design
            self._check_finite(float(norm), phase, "gradient", terms, keys)
        optimizer.step(scaler)
        self._timing["samples"] += len(keys) * self.accelerator.num_processes
        self._log(phase.name, mean, rate)
        return mean, 0 if stop == 0 else (caught[0] if caught else signal.SIGTERM)

    @contextmanager
    def _deterministic(self, phase: Phase) -> Iterator[None]:
        """Say what can be done where `compute.deterministic` meets an operation that has no such kernel."""
        try:
            yield
        except RuntimeError as error:
            if "deterministic" not in str(error) or not torch.are_deterministic_algorithms_enabled():
                raise
            raise UsageError(
                f"compute.deterministic: phase {phase.name} needs an operation without a deterministic kernel on this "
                f"device ({str(error).partition('. ')[0]}); leave it off, or train on pictures of the size that the "
                "network's position embeddings were made for"
            ) from error

    def _activate(self, phase: Phase) -> None:
        if self._active != phase.name:
            activate(phase, self.context.models)
            for module in self.context.models.parts().values():
                module.train()
            self._active = phase.name

    def _next(self, batches: Iterator[Any]) -> Batch:
        started = time.perf_counter()
        batch: Batch = next(batches)
        self._timing["wait"] += time.perf_counter() - started
        return batch.to(self.accelerator.device)

    def _all_reduce(self, active: dict[str, nn.Parameter]) -> None:
        """Average the gradients of the phase's tensors over the processes, as one message."""
        if self.accelerator.num_processes == 1:
            return
        gradients = [value.grad if value.grad is not None else torch.zeros_like(value) for value in active.values()]
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        flat = self.accelerator.reduce(flat, reduction="mean")
        sizes = [gradient.numel() for gradient in gradients]
        for value, part in zip(active.values(), flat.split(sizes), strict=True):
            value.grad = torch.empty_like(value).copy_(part.view_as(value))  # in its memory format

    def _check_finite(self, value: float, phase: Phase, what: str, terms: dict[str, Tensor], keys: list[str]) -> None:
        if math.isfinite(value):
            return
        last = ", ".join(f"{name} {float(term.detach()):.4g}" for name, term in terms.items())
        raise DivergedError(
            f"{self.context.run}: the {what} of phase {phase.name} is {value} at step {self.state.step} of stage "
            f"{self.stage.stage}; the step was not taken, the checkpoints are as they were. Last terms: {last}; "
            f"samples: {', '.join(keys[:8])}. Lower the learning rate or clip, or use precision fp32, in a new run "
            "that begins with --init from this one's folder"
        )

    # --- around the steps

    def _log(self, phase: str, loss: float, rate: float) -> None:
        mean = self.state.losses.add(phase, loss)
        if mean is None or not self.accelerator.is_main_process:
            return
        values = {f"loss/{phase}": mean, f"lr/{phase}": rate}
        if self._timing["all"]:
            values["data/wait_share"] = self._timing["wait"] / self._timing["all"]
            values["data/samples_per_second"] = self._timing["samples"] / self._timing["all"]
        self._timing = dict.fromkeys(self._timing, 0.0)  # each point covers the steps since the last one
        self.context.tensorboard.scalars(values, self.state.global_step + 1)

    def _after_step(self, bar: Any, loss: float, stop: int) -> None:
        self.state.step += 1
        self.state.global_step += 1
        bar.update()
        bar.set_postfix_str(f"loss {loss:.4f}, wait {self.wait_share:.0%}")
        recipe, ends = self.context.recipe, self.state.step == self.stage.steps
        improved = False
        # Also before stopping: a validation is part of the run's record, and a resumed run is past this step.
        if ends or self.state.step % recipe.validation.every == 0:
            improved = self.validate()
        if stop or ends or improved or self.state.step % recipe.checkpoints.every == 0:
            self.save(improved)
        if stop:
            name = signal.Signals(stop).name
            raise StoppedError(
                f"{name} after step {self.state.step} of stage {self.stage.stage}; the checkpoint is written, the same "
                "line with --resume goes on",
                stop,
            )

    @property
    def wait_share(self) -> float:
        """Share of the step time spent waiting for data."""
        return self._timing["wait"] / self._timing["all"] if self._timing["all"] else 0.0

    @torch.no_grad()
    def record_validation_losses(self) -> None:
        """Compute and log each phase's mean loss over the val batches, on the main process."""
        if not self.accelerator.is_main_process:
            return
        models, batches = self.context.models, self.context.validator.batches
        for module in models.parts().values():
            module.eval()
        for phase in {phase.name: phase for phase in self.phases}.values():
            losses = [
                float(total(phase.losses(models, batch.to(self.accelerator.device)))) * len(batch) for batch in batches
            ]
            mean = sum(losses) / sum(map(len, batches))
            if not math.isfinite(mean):
                raise DataError(
                    f"{self.context.run}: the loss of phase {phase.name} over the val split is {mean}: the weights are "
                    "damaged or the training failed; begin a new run with --init from an earlier checkpoint"
                )
            self.state.losses.add_validation(phase.name, mean)
            self.context.tensorboard.scalars({f"val_loss/{phase.name}": mean}, self.state.global_step)
        self._active = None  # the networks are in eval mode

    def validate(self) -> bool:
        """Score the stage's tasks and draw their sheet, on the main process; returns whether it is the stage's best."""
        improved = torch.zeros((), device=self.accelerator.device)
        if self.accelerator.is_main_process:
            context, state, tasks = self.context, self.state, TASKS[self.stage.stage]
            self.record_validation_losses()
            scores = context.validator.scores(tasks, context.models, self.teacher)
            for score in scores:
                context.report(f"step {state.global_step:>6}  {score.line()}")
                state.scores[score.task] = score
            path = context.run / "sheets" / f"{state.global_step:06d}-{self.stage.stage}.png"
            sheet = context.validator.sheet(tasks, context.models, path)
            context.tensorboard.scores(scores, state.global_step)
            context.tensorboard.sheet(f"sheet/{self.stage.stage}", sheet, state.global_step)
            improvement = sum(score.improvement for score in scores)
            if state.best is None or improvement > state.best:
                state.best = improvement
                improved += 1
        self._active = None  # validation left the networks in eval mode
        return bool(self.accelerator.reduce(improved, reduction="sum"))

    def save(self, best: bool) -> None:
        """Commit a checkpoint of the current step."""
        self.accelerator.wait_for_everyone()
        if self.accelerator.is_main_process:
            scaler, last_stage = self.accelerator.scaler, len(self.context.recipe.stages) - 1
            record = {
                **self.state.record(),
                "stage_name": self.stage.stage,
                "finished": self.state.stage == last_stage and self.state.step == self.stage.steps,
                "scaler": scaler.state_dict() if scaler is not None else None,
            }
            self.context.checkpoints.save(self.state.global_step, record, self._write, best)
        self._active = None  # saving left the networks in eval mode, and a resumed run begins in train mode
        self.accelerator.wait_for_everyone()

    def _write(self, folder: Path) -> None:
        from safetensors.torch import save_file

        self.context.write_pipeline(folder / "pipeline")
        tensors = {name: value for one in self.optimizers.values() for name, value in one.tensors().items()}
        save_file(tensors, str(folder / "optimizer.safetensors"))

    def load(self, checkpoint: Path, record: dict[str, Any]) -> None:
        """Restore the optimisers' moments from a checkpoint of this stage."""
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        path = checkpoint / "optimizer.safetensors"
        check_size(path, MAX_WEIGHTS)
        try:
            tensors = load_file(str(path))
        except (SafetensorError, OSError) as error:
            raise DataError(
                f"{path}: damaged ({error}); remove {checkpoint.name}/ and run the same line again"
            ) from None
        for optimizer in self.optimizers.values():
            optimizer.load(tensors)
        if self.accelerator.scaler is not None and record["scaler"]:
            self.accelerator.scaler.load_state_dict(record["scaler"])

    def _progress_bar(self) -> Any:
        shown = self.context.progress and self.accelerator.is_main_process
        return tqdm(total=self.stage.steps, initial=self.state.step, desc=self.stage.stage, disable=not shown)


@contextmanager
def _signals() -> Iterator[list[int]]:
    """Collect SIGINT and SIGTERM; a second one of a kind has its usual effect at once."""
    caught: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield caught
        return
    previous: dict[int, Any] = {}

    def collect(signum: int, _: Any) -> None:
        caught.append(signum)
        signal.signal(signum, previous[signum])

    for one in (signal.SIGINT, signal.SIGTERM):
        previous[one] = signal.signal(one, collect)
    try:
        yield caught
    finally:
        for signum, handler in previous.items():
            signal.signal(signum, handler)
