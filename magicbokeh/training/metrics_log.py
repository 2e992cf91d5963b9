"""What a run says about itself: loss curves that survive a resume, TensorBoard, and the table at the end."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bokehsynth import UsageError
from magicbokeh.training.validation import Score


class Curves:
    """The losses of each phase. Part of the checkpoint.

    points   of training, the mean of `every` steps each; every point has seen other samples
    held     on the val split, always the same samples: what tells whether a loss falls
    """

    def __init__(self, every: int, state: Mapping[str, Any] | None = None) -> None:
        self.every = every
        state = state or {}
        self.points: dict[str, list[float]] = {name: list(line) for name, line in state.get("points", {}).items()}
        self.pending: dict[str, list[float]] = {name: list(line) for name, line in state.get("pending", {}).items()}
        self.held: dict[str, list[float]] = {name: list(line) for name, line in state.get("held", {}).items()}

    def add(self, phase: str, loss: float) -> float | None:
        """Take a loss; returns the mean when a point is complete."""
        waiting = self.pending.setdefault(phase, [])
        waiting.append(loss)
        if len(waiting) < self.every:
            return None
        mean = sum(waiting) / len(waiting)
        self.points.setdefault(phase, []).append(mean)
        waiting.clear()
        return mean

    def state(self) -> dict[str, Any]:
        """For the checkpoint."""
        return {"points": self.points, "pending": self.pending, "held": self.held}

    def add_held(self, phase: str, loss: float) -> None:
        """Take the loss on the val split: before the stage's first step, and at each validation."""
        self.held.setdefault(phase, []).append(loss)

    def fell(self, phase: str) -> bool:
        """Whether the phase's loss on the val split is lower after its last step than before its first."""
        line = self.held.get(phase, [])
        return len(line) > 1 and line[-1] < line[0]

    @property
    def phases(self) -> list[str]:
        """All that have a loss."""
        return sorted(self.points.keys() | self.pending.keys() | self.held.keys())

    def summary(self) -> dict[str, Any]:
        """Both ends of each phase's curves."""
        return {
            name: {
                "val": [line[0], line[-1]] if (line := self.held.get(name)) else None,
                "train": self.ends(name),
                "fell": self.fell(name),
            }
            for name in self.phases
        }

    def ends(self, phase: str) -> tuple[float, float]:
        """Mean of the first and of the last fifth of the phase's curve, at least a point each; 0, 0 without any.

        A curve without a whole point is the mean of what there is.
        """
        rest = self.pending.get(phase, [])
        line = self.points.get(phase, []) or ([sum(rest) / len(rest)] if rest else [])
        if not line:
            return 0.0, 0.0
        count = max(1, len(line) // 5)
        return sum(line[:count]) / count, sum(line[-count:]) / count


class Board:
    """TensorBoard, opened when first written to; `step` counts over all stages."""

    def __init__(self, folder: Path, first_step: int) -> None:
        self.folder, self.first_step = folder, first_step
        self._writer: Any = None

    @property
    def writer(self) -> Any:
        """The SummaryWriter; points that a killed run wrote beyond its checkpoint are dropped."""
        if self._writer is None:
            try:
                from torch.utils.tensorboard import SummaryWriter
            except ImportError as error:
                raise UsageError(f"training writes TensorBoard files: pip install tensorboard ({error})") from None
            self._writer = SummaryWriter(str(self.folder), purge_step=self.first_step or None)
        return self._writer

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """One point per curve."""
        for name, value in values.items():
            self.writer.add_scalar(name, value, step)

    def scores(self, scores: Sequence[Score], step: int) -> None:
        """A validation."""
        for score in scores:
            self.scalars({f"val_{score.task}/ours": score.ours, f"val_{score.task}/lq": score.lq}, step)
            if score.classical is not None:
                self.scalars({f"val_{score.task}/classical": score.classical}, step)

    def sheet(self, name: str, picture: Any, step: int) -> None:
        """A sheet, [H, W, 3]."""
        self.writer.add_image(name, picture, step, dataformats="HWC")

    def close(self) -> None:
        """Flush."""
        if self._writer is not None:
            self._writer.close()


def summary_table(curves: Curves, scores: Mapping[str, Score]) -> list[str]:
    """Lines: each phase's loss at both ends, on the val split and in training, and each task's score beside LQ's."""
    lines = ["phase         val loss: before -> after   training: first -> last"]
    for phase in curves.phases:
        held, ends = curves.held.get(phase, []), curves.ends(phase)
        both = f"{held[0]:.4f} -> {held[-1]:.4f}" if held else "-"
        verdict = "" if curves.fell(phase) else "   DID NOT FALL"
        lines.append(f"{phase:<12}  {both:<26}  {ends[0]:.4f} -> {ends[1]:.4f}{verdict}")
    lines += ["", "task          LQ        classical  ours      gain"]
    for task, score in scores.items():
        classical = "-" if score.classical is None else f"{score.classical:.3f}"
        verdict = "" if score.beats_lq else "   NOT LEARNING"
        lines.append(f"{task:<12}  {score.lq:<8.3f}  {classical:<9}  {score.ours:<8.3f}  {score.gain:+.3f}{verdict}")
    return lines
