"""fp16 training: the scaler's factor is taken out of every gradient once, in a run's later stages too.

On the CPU, with torch's own GradScaler in accelerate's path for fp16; autocast is off, so that gradients are float32's
times a power of two, and a correct run has the bits of one without a scaler.
"""

from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import AutocastKwargs
from support.train_toys import mini, same_files

from magicbokeh.recipe import TrainRecipe
from magicbokeh.training import run as training
from magicbokeh.training.trainer import StageTrainer

STAGES = [
    "stages=[{stage: sr, steps: 2, batch: 1, lr: 1e-3, loss: {perceptual: edges}},"
    " {stage: alternate, steps: 3, batch: 1, lr: 1e-3, sr_lr: 1e-3, loss: {perceptual: edges},"
    " phase_steps: {bokeh: 1, sr: 2}, clip: 0.05}]",
    "validation.samples=1",
    "checkpoints.every=2",
]


def scaled(recipe: TrainRecipe) -> Any:
    """What `make_accelerator` gives for fp16, on the CPU."""
    torch.set_num_threads(1)
    made = Accelerator(cpu=True, kwargs_handlers=[AutocastKwargs(enabled=False)])
    made.native_amp, made.state._mixed_precision = True, "fp16"
    made.scaler = torch.amp.GradScaler("cpu")
    return made


class Crash(BaseException):
    """Stands for a power failure."""


class Trained:
    """Trains the same recipe again and again, and notes the norm of every gradient before it is clipped."""

    def __init__(self, folder: Path, shards: Path, patch: pytest.MonkeyPatch) -> None:
        self.folder, self.norms, self.patch = folder, [], patch
        self.recipe = mini(folder / "mini.yaml", shards, *STAGES)
        clip = torch.nn.utils.clip_grad_norm_

        def noted(*arguments: Any, **options: Any) -> torch.Tensor:
            norm = clip(*arguments, **options)
            self.norms.append(float(norm))
            return norm

        patch.setattr(torch.nn.utils, "clip_grad_norm_", noted)

    def train(self, name: str, crash_at: int | None = None) -> list[float]:
        """The norms of one run into a folder; it dies before step `crash_at` of all, if given."""
        step = StageTrainer.step

        def mortal(trainer: StageTrainer, *arguments: Any) -> Any:
            if trainer.state.global_step == crash_at:
                raise Crash
            return step(trainer, *arguments)

        self.norms.clear()
        AcceleratorState._reset_state(True)
        with self.patch.context() as patch:
            patch.setattr(StageTrainer, "step", mortal)
            if crash_at is None:
                training.train(self.recipe, self.folder / name, resume=True)
            else:
                with pytest.raises(Crash):
                    training.train(self.recipe, self.folder / name)
        return list(self.norms)


@pytest.fixture
def trained(tmp_path, mini_shards, monkeypatch):
    yield Trained(tmp_path, mini_shards, monkeypatch)
    AcceleratorState._reset_state(True)  # later tests of this process make their own


def test_a_later_stage_sees_the_gradients_of_a_fresh_start(trained, monkeypatch):
    """A tensor that two stages train (the SR LoRA) is unscaled once; a resumed run ends in the same bytes."""
    plain = trained.train("plain")
    monkeypatch.setattr(training, "make_accelerator", scaled)
    whole = trained.train("whole")
    assert len(whole) == 5
    assert whole == pytest.approx(plain, rel=1e-6)
    assert min(whole) > 0.05, "clipping is at work"
    begun, resumed = trained.train("killed", crash_at=3), trained.train("killed")
    assert begun[:2] + resumed == whole, "from the end of the first stage"
    same_files(*(trained.folder / name / "checkpoints" / "last" for name in ("whole", "killed")))


@pytest.mark.long
def test_a_gradient_that_overflows_skips_its_step_alone(trained, monkeypatch):
    """And the scaler's new factor is saved: the resumed run takes it."""

    def greedy(recipe: TrainRecipe) -> Any:
        made = scaled(recipe)
        made.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**127)
        return made

    monkeypatch.setattr(training, "make_accelerator", greedy)
    whole = trained.train("whole")
    assert not torch.isfinite(torch.tensor(whole[:2])).any(), "two steps too large in float32"
    begun, resumed = trained.train("killed", crash_at=4), trained.train("killed")
    assert (begun + resumed)[2:] == pytest.approx(whole[2:], nan_ok=True, rel=0)
    same_files(*(trained.folder / name / "checkpoints" / "last" for name in ("whole", "killed")))
