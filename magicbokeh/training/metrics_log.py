"""Loss history that survives a resume, and the summary table."""

from collections.abc import Mapping
from typing import Any

from magicbokeh.training.validation import Score


class LossHistory:
    """The losses of each phase; part of the checkpoint.

    points       training losses, each the mean of `every` steps; every point has seen other samples
    pending      training losses of the steps since the last point
    validation   losses over the val split, always the same samples: they decide whether a loss falls
    """

    def __init__(self, every: int, record: Mapping[str, Any] | None = None) -> None:
        self.every = every

        def lines(key: str) -> dict[str, list[float]]:
            return {phase: list(line) for phase, line in (record or {}).get(key, {}).items()}

        self.points, self.pending, self.validation = lines("points"), lines("pending"), lines("held")

    def add(self, phase: str, loss: float) -> float | None:
        """Add a training loss; returns the mean when it completes a point."""
        pending = self.pending.setdefault(phase, [])
        pending.append(loss)
        if len(pending) < self.every:
            return None
        mean = sum(pending) / len(pending)
        self.points.setdefault(phase, []).append(mean)
        pending.clear()
        return mean

    def record(self) -> dict[str, Any]:
        """The JSON-able form from which a resumed run continues."""
        return {"points": self.points, "pending": self.pending, "held": self.validation}

    def add_validation(self, phase: str, loss: float) -> None:
        """Add a loss over the val split: before the stage's first step, and at each validation."""
        self.validation.setdefault(phase, []).append(loss)

    def fell(self, phase: str) -> bool:
        """Whether the phase's loss on the val split is lower after its last step than before its first."""
        line = self.validation.get(phase, [])
        return len(line) > 1 and line[-1] < line[0]

    @property
    def phases(self) -> list[str]:
        """The names of all phases that have a loss."""
        return sorted(self.points.keys() | self.pending.keys() | self.validation.keys())

    def summary(self) -> dict[str, Any]:
        """First and last losses of each phase."""
        return {
            name: {
                "val": [line[0], line[-1]] if (line := self.validation.get(name)) else None,
                "train": self.ends(name),
                "fell": self.fell(name),
            }
            for name in self.phases
        }

    def ends(self, phase: str) -> tuple[float, float]:
        """Mean of the first and of the last fifth of the phase's points, at least one each; 0, 0 without any.

        Before the first point is complete, the mean of the pending losses stands for it.
        """
        pending = self.pending.get(phase, [])
        line = self.points.get(phase, []) or ([sum(pending) / len(pending)] if pending else [])
        if not line:
            return 0.0, 0.0
        count = max(1, len(line) // 5)
        return sum(line[:count]) / count, sum(line[-count:]) / count


def summary_table(losses: LossHistory, scores: Mapping[str, Score]) -> list[str]:
    """Lines of the table: each phase's first and last loss, on the val split and in training, and each task's score."""
    lines = ["phase         val loss: before -> after   training: first -> last"]
    for phase in losses.phases:
        validation, ends = losses.validation.get(phase, []), losses.ends(phase)
        both = f"{validation[0]:.4f} -> {validation[-1]:.4f}" if validation else "-"
        verdict = "" if losses.fell(phase) else "   DID NOT FALL"
        lines.append(f"{phase:<12}  {both:<26}  {ends[0]:.4f} -> {ends[1]:.4f}{verdict}")
    lines += ["", "task          LQ        classical  ours      gain"]
    for task, score in scores.items():
        classical = "-" if score.classical is None else f"{score.classical:.3f}"
        verdict = "" if score.beats_lq else "   NOT LEARNING"
        numbers = f"{score.lq:<8.3f}  {classical:<9}  {score.ours:<8.3f}  {score.improvement:+.3f}"
        lines.append(f"{task:<12}  {numbers}{verdict}")
    return lines
