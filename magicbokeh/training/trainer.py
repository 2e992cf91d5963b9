"""The loop: stages one after another, steps within them, checkpoints between. Read `train` first.

Nothing here depends on when something happens. The samples of a step, its learning rate and its phase are functions
of the step's number, so a run that was killed anywhere ends in the weights of one that was not.
"""

import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from bokehsynth import BokehsynthError
from magicbokeh.data.loader import Batch, Plan, TrainingSet, make_loader
from magicbokeh.recipe import Stage, TrainRecipe
from magicbokeh.training.checkpoint import Checkpoints
from magicbokeh.training.metrics_log import Board, Curves
from magicbokeh.training.optimizers import PhaseOptimizer
from magicbokeh.training.phases import Models, Phase, activate, total
from magicbokeh.training.validation import Score, Validator

TASKS = {
    "autoencoder": ("autoencoder",),
    "sr": ("sr",),
    "alternate": ("bokeh", "sr"),
    "depth": ("depth",),
}
"""What is scored after each stage, the deciding one first."""


class DivergedError(BokehsynthError):
    """The loss or its gradient is no longer a number; the step was not taken."""


class StoppedError(BokehsynthError):
    """A signal ended the run after a whole step and a checkpoint."""

    def __init__(self, message: str, signum: int) -> None:
        super().__init__(message)
        self.exit_code = 128 + signum


@dataclass
class Position:
    """Where a run stands: `step` steps of stage number `stage` are done."""

    stage: int = 0
    step: int = 0
    global_step: int = 0
    best: float | None = None
    """The stage's best score."""
    scores: dict[str, Score] = field(default_factory=dict)
    """The newest of each task."""


@dataclass
class Tools:
    """What a run works with, made once."""

    recipe: TrainRecipe
    accelerator: Any
    models: Models
    data: TrainingSet
    counts: dict[str, int]
    validator: Validator
    checkpoints: Checkpoints
    write: Callable[[Path], None]
    """Writes the pipeline into a checkpoint's folder."""
    board: Board
    run: Path
    say: Callable[[str], None]
    progress: bool


class StageRun:
    """One stage from where it stands to its end."""

    def __init__(self, tools: Tools, stage: Stage, phases: list[Phase], position: Position, curves: Curves) -> None:
        self.tools, self.stage, self.phases, self.at, self.curves = tools, stage, phases, position, curves
        self.accelerator = tools.accelerator
        self.optimizers: dict[str, PhaseOptimizer] = {}
        for phase in phases:
            if phase.name not in self.optimizers:
                made = PhaseOptimizer(phase, activate(phase, tools.models), stage)
                made.optimizer = self.accelerator.prepare_optimizer(made.plain, device_placement=False)
                self.optimizers[phase.name] = made
        self.teacher: Any = None
        """The depth stage's, for its scores."""
        self._active: str | None = None
        self._clock = {"wait": 0.0, "all": 0.0, "samples": 0.0}

    def plan(self) -> Plan:
        """Which samples each micro-batch holds."""
        return Plan(
            seed=self.tools.recipe.seed,
            stage=self.at.stage,
            batch=self.stage.batch,
            accumulation=self.stage.accumulation,
            rank=self.accelerator.process_index,
            world=self.accelerator.num_processes,
            counts=self.tools.counts,
            turns=[phase.source for phase in self.phases],
        )

    def run(self) -> None:
        """Steps to the stage's end; raises StoppedError after a signal, with a checkpoint written."""
        if self.at.step >= self.stage.steps:
            return
        parts = self.stage.accumulation
        loader = make_loader(
            self.tools.data,
            self.plan(),
            self.at.step * parts,
            self.stage.steps * parts,
            self.tools.recipe.data.workers,
            pin=self.accelerator.device.type == "cuda",
        )
        if self.at.step == 0:
            self.measure()
        self.accelerator.gradient_accumulation_steps = parts
        self.accelerator.step = 0  # its count of micro-batches begins anew with the stage
        batches = iter(loader)
        with _signals() as caught, self._bar() as bar:
            while self.at.step < self.stage.steps:
                begun = time.perf_counter()
                loss, stop = self.step(batches, caught)
                self._clock["all"] += time.perf_counter() - begun
                self._after_step(bar, loss, stop)

    # --- one step

    def step(self, batches: Iterator[Any], caught: list[int]) -> tuple[float, int]:
        """One optimiser step of the phase whose turn it is; returns the mean loss and the signal to stop for, or 0."""
        phase = self.phases[self.at.step % len(self.phases)]
        optimizer = self.optimizers[phase.name]
        self._turn_to(phase)
        rate = optimizer.set_rate(self.at.step)
        sums, keys = torch.zeros((), device=self.accelerator.device), []
        terms: dict[str, Tensor] = {}
        for _ in range(self.stage.accumulation):
            batch = self._next(batches)
            keys += batch.keys
            with self.accelerator.accumulate(), self.accelerator.autocast():
                terms = phase.losses(self.tools.models, batch)
                loss = total(terms)
                self.accelerator.backward(loss)
            sums += loss.detach().float() / self.stage.accumulation
        # One message between processes: the mean loss, and whether anyone was told to stop.
        message = torch.stack([sums, sums.new_tensor(float(caught[0] if caught else 0))])
        mean, stop = self.accelerator.reduce(message, reduction="mean").tolist()
        self._check_finite(mean, phase, "loss", terms, keys)
        self._all_reduce(optimizer.active)
        norm = self.accelerator.clip_grad_norm_(list(optimizer.active.values()), self.stage.clip)
        if self.accelerator.scaler is None:  # with one, a step whose fp16 gradients overflow is left out by design
            self._check_finite(float(norm), phase, "gradient", terms, keys)
        optimizer.optimizer.step()
        optimizer.optimizer.zero_grad(set_to_none=True)
        self._clock["samples"] += len(keys) * self.accelerator.num_processes
        self._log(phase.name, mean, rate)
        return mean, 0 if stop == 0 else (caught[0] if caught else signal.SIGTERM)

    def _turn_to(self, phase: Phase) -> None:
        if self._active != phase.name:
            activate(phase, self.tools.models)
            for module in self.tools.models.parts().values():
                module.train()
            self._active = phase.name

    def _next(self, batches: Iterator[Any]) -> Batch:
        begun = time.perf_counter()
        batch = self.tools.data.finish(next(batches))
        self._clock["wait"] += time.perf_counter() - begun
        return batch.to(self.accelerator.device)

    def _all_reduce(self, active: dict[str, nn.Parameter]) -> None:
        """Mean gradients over the processes, of the phase's tensors alone, as one message."""
        if self.accelerator.num_processes == 1:
            return
        gradients = [value.grad if value.grad is not None else torch.zeros_like(value) for value in active.values()]
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        flat = self.accelerator.reduce(flat, reduction="mean")
        sizes = [gradient.numel() for gradient in gradients]
        for value, part in zip(active.values(), flat.split(sizes), strict=True):
            value.grad = part.view_as(value).clone()

    def _check_finite(self, value: float, phase: Phase, what: str, terms: dict[str, Tensor], keys: list[str]) -> None:
        if math.isfinite(value):
            return
        last = ", ".join(f"{name} {float(term.detach()):.4g}" for name, term in terms.items())
        raise DivergedError(
            f"{self.tools.run}: the {what} of phase {phase.name} is {value} at step {self.at.step} of stage "
            f"{self.stage.stage}; the step was not taken, the checkpoints are as they were. Last terms: {last}; "
            f"samples: {', '.join(keys[:8])}. Lower the learning rate or clip, or use precision fp32, in a new run "
            "that begins with --init from this one's folder"
        )

    # --- around the steps

    def _log(self, phase: str, loss: float, rate: float) -> None:
        mean = self.curves.add(phase, loss)
        if mean is None or not self.accelerator.is_main_process:
            return
        values = {f"loss/{phase}": mean, f"lr/{phase}": rate}
        if self._clock["all"]:
            values["data/wait_share"] = self._clock["wait"] / self._clock["all"]
            values["data/samples_per_second"] = self._clock["samples"] / self._clock["all"]
        self._clock = dict.fromkeys(self._clock, 0.0)  # each point tells of the steps since the last
        self.tools.board.scalars(values, self.at.global_step + 1)

    def _after_step(self, bar: Any, loss: float, stop: int) -> None:
        self.at.step += 1
        self.at.global_step += 1
        bar.update()
        bar.set_postfix_str(f"loss {loss:.4f}, wait {self.wait_share:.0%}")
        recipe, ends = self.tools.recipe, self.at.step == self.stage.steps
        improved = False
        # Also when told to stop: what a validation finds is part of the run, and a resumed one is past this step.
        if ends or self.at.step % recipe.validation.every == 0:
            improved = self.validate()
        if stop or ends or improved or self.at.step % recipe.checkpoints.every == 0:
            self.save(improved)
        if stop:
            name = signal.Signals(stop).name
            raise StoppedError(
                f"{name} after step {self.at.step} of stage {self.stage.stage}; the checkpoint is written, the same "
                "line with --resume goes on",
                stop,
            )

    @property
    def wait_share(self) -> float:
        """Share of the step time spent waiting for data."""
        return self._clock["wait"] / self._clock["all"] if self._clock["all"] else 0.0

    @torch.no_grad()
    def measure(self) -> None:
        """Each phase's loss on the val split, always the same samples. On the main process."""
        if not self.accelerator.is_main_process:
            return
        for module in self.tools.models.parts().values():
            module.eval()
        for phase in {phase.name: phase for phase in self.phases}.values():
            batches = [batch.to(self.accelerator.device) for batch in self.tools.validator.batches]
            losses = [float(total(phase.losses(self.tools.models, batch))) * len(batch) for batch in batches]
            mean = sum(losses) / sum(map(len, batches))
            self.curves.add_held(phase.name, mean)
            self.tools.board.scalars({f"val_loss/{phase.name}": mean}, self.at.global_step)
        self._active = None  # the networks are in eval mode

    def validate(self) -> bool:
        """Score and draw the stage's tasks; returns whether it is the stage's best so far. On the main process."""
        improved = torch.zeros((), device=self.accelerator.device)
        if self.accelerator.is_main_process:
            models, tasks = self.tools.models, TASKS[self.stage.stage]
            self.measure()
            scores = self.tools.validator.scores(tasks, models, self.teacher)
            for score in scores:
                self.tools.say(f"step {self.at.global_step:>6}  {score.line()}")
                self.at.scores[score.task] = score
            name = f"{self.at.global_step:06d}-{self.stage.stage}"
            sheet = self.tools.validator.sheet(tasks, models, self.tools.run / "sheets" / f"{name}.png")
            self.tools.board.scores(scores, self.at.global_step)
            self.tools.board.sheet(f"sheet/{self.stage.stage}", sheet, self.at.global_step)
            gain = sum(score.gain for score in scores)
            if self.at.best is None or gain > self.at.best:
                self.at.best = gain
                improved += 1
        self._active = None  # validation left the networks in eval mode
        return bool(self.accelerator.reduce(improved, reduction="sum"))

    def save(self, best: bool) -> None:
        """Commit a checkpoint of this very step."""
        self.accelerator.wait_for_everyone()
        if self.accelerator.is_main_process:
            scaler = self.accelerator.scaler
            state = {
                "stage": self.at.stage,
                "stage_name": self.stage.stage,
                "step": self.at.step,
                "global_step": self.at.global_step,
                "best": self.at.best,
                "finished": self.at.stage + 1 == len(self.tools.recipe.stages) and self.at.step == self.stage.steps,
                "curves": self.curves.state(),
                "scores": {name: vars(score) for name, score in self.at.scores.items()},
                "scaler": scaler.state_dict() if scaler is not None else None,
            }
            self.tools.checkpoints.save(self.at.global_step, state, self._write, best)
        self._active = None  # writing left the networks in eval mode, and a resumed run begins in train mode
        self.accelerator.wait_for_everyone()

    def _write(self, folder: Path) -> None:
        from safetensors.torch import save_file

        self.tools.write(folder / "pipeline")
        tensors = {name: value for made in self.optimizers.values() for name, value in made.tensors().items()}
        save_file(tensors, str(folder / "optimizer.safetensors"))

    def load(self, checkpoint: Path, state: dict[str, Any]) -> None:
        """Take the optimisers' moments back from a checkpoint of this stage."""
        from safetensors.torch import load_file

        tensors = load_file(str(checkpoint / "optimizer.safetensors"))
        for made in self.optimizers.values():
            made.load(tensors)
        if self.accelerator.scaler is not None and state["scaler"]:
            self.accelerator.scaler.load_state_dict(state["scaler"])

    def _bar(self) -> Any:
        shown = self.tools.progress and self.accelerator.is_main_process
        return tqdm(total=self.stage.steps, initial=self.at.step, desc=self.stage.stage, disable=not shown)


@contextmanager
def _signals() -> Iterator[list[int]]:
    """Collects SIGINT and SIGTERM; the second one of a kind has its usual effect at once."""
    caught: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield caught
        return
    before: dict[int, Any] = {}

    def note(signum: int, _: Any) -> None:
        caught.append(signum)
        signal.signal(signum, before[signum])

    for one in (signal.SIGINT, signal.SIGTERM):
        before[one] = signal.signal(one, note)
    try:
        yield caught
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
