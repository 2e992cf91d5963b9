"""The progress of a run, and its form in a checkpoint's `state.json`."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bokehsynth import DataError
from magicbokeh.training.metrics_log import LossHistory
from magicbokeh.training.validation import Score


@dataclass
class TrainState:
    """Progress of a run: `step` steps of stage number `stage` are done."""

    losses: LossHistory
    stage: int = 0
    step: int = 0
    global_step: int = 0
    best: float | None = None
    """The stage's best validation: the sum of its tasks' improvements on LQ."""
    scores: dict[str, Score] = field(default_factory=dict)
    """The newest score of each task."""

    def enter_stage(self, number: int) -> None:
        """Begin stage `number` unless the run is in it already."""
        if number > self.stage:
            self.stage, self.step, self.best = number, 0, None

    def record(self) -> dict[str, Any]:
        """The JSON-able form that `from_record` reads."""
        return {
            "stage": self.stage,
            "step": self.step,
            "global_step": self.global_step,
            "best": self.best,
            "curves": self.losses.record(),
            "scores": {name: vars(score) for name, score in self.scores.items()},
        }

    @classmethod
    def from_record(cls, record: dict[str, Any], checkpoint: Path, log_every: int) -> "TrainState":
        """The state of a checkpoint; DataError where its record lacks something."""
        try:
            return cls(
                losses=LossHistory(log_every, record["curves"]),
                stage=record["stage"],
                step=record["step"],
                global_step=record["global_step"],
                best=record["best"],
                scores={name: Score(**score) for name, score in record["scores"].items()},
            )
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise DataError(f"{checkpoint}/state.json: lacks or misnames {error}; remove {checkpoint.name}/") from None
