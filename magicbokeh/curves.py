"""What a run says about itself: loss curves that survive a resume, TensorBoard, and the table at the end."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bokehsynth import UsageError
from magicbokeh.validation import Score


class Curves:
    """Mean losses of each phase, one point per `every` of its steps. Part of the checkpoint."""

    def __init__(self, every: int, state: Mapping[str, Any] | None = None) -> None:
        self.every = every
        state = state or {}
        self.points: dict[str, list[float]] = {name: list(line) for name, line in state.get("points", {}).items()}
        self.pending: dict[str, list[float]] = {name: list(line) for name, line in state.get("pending", {}).items()}

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
        return {"points": self.points, "pending": self.pending}

    def fall(self, phase: str) -> tuple[float, float]:
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
    """Lines: each phase's loss at both ends, and each task's score beside LQ's."""
    lines = ["phase         loss: first -> last"]
    for phase in curves.points.keys() | curves.pending.keys():
        first, last = curves.fall(phase)
        one_point = len(curves.points.get(phase, [])) < 2
        verdict = "   (one point)" if one_point else "" if last < first else "   DID NOT FALL"
        lines.append(f"{phase:<12}  {first:.4f} -> {last:.4f}{verdict}")
    lines[1:] = sorted(lines[1:])
    lines += ["", "task          LQ        classical  ours      gain"]
    for task, score in scores.items():
        classical = "-" if score.classical is None else f"{score.classical:.3f}"
        verdict = "" if score.beats_lq else "   NOT LEARNING"
        lines.append(f"{task:<12}  {score.lq:<8.3f}  {classical:<9}  {score.ours:<8.3f}  {score.gain:+.3f}{verdict}")
    return lines
