"""Seeing whether it learns: PSNR beside that of LQ itself and of the classical render, and sheets one can judge."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from bokehsynth import Lens, atomic_write
from magicbokeh.data.augment import classical_bokeh, no_changes, window
from magicbokeh.data.loader import Batch
from magicbokeh.data.sources import Source
from magicbokeh.training.depth_distillation import network_input
from magicbokeh.training.phases import Models
from magicbokeh.training.validation_sheet import Row, draw_sheet

FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Score:
    """One line of the table. Decibels, but for depth (mean absolute error of disparity)."""

    task: str
    """sr (against aif), bokeh (against hq), autoencoder (aif through the VAE) or depth."""
    ours: float
    lq: float
    """The degraded picture itself; for depth the best constant map, or the teacher on the degraded picture."""
    classical: float | None = None
    """Bokeh only: LQ blurred by the renderer with exact disparity."""

    @property
    def beats_lq(self) -> bool:
        """Whether there is anything learned at all."""
        return self.ours < self.lq if self.task == "depth" else self.ours > self.lq

    @property
    def gain(self) -> float:
        """How much better than LQ; above 0 is better."""
        return self.lq - self.ours if self.task == "depth" else self.ours - self.lq

    def line(self) -> str:
        """For the log."""
        unit = "mean abs. error" if self.task == "depth" else "dB"
        name = "baseline" if self.task == "depth" else "LQ"
        parts = [f"{name} {self.lq:.4g}"]
        if self.classical is not None:
            parts.append(f"classical {self.classical:.4g}")
        verdict = "" if self.beats_lq else f"  NOT LEARNING: no better than {name}"
        return f"val {self.task:<11} {'  '.join(parts)}  ours {self.ours:.4g} {unit}{verdict}"


Restorer = Callable[[Tensor, Tensor], Tensor]
"""lq, defocus to pictures in -1..1."""


class Validator:
    """The val split, looked at again and again: everything that does not depend on the weights is kept."""

    def __init__(
        self,
        batches: Sequence[Batch],
        source: Source,
        blur_reference: float,
        device: torch.device,
        crop: int | None = None,
    ) -> None:
        self.batches, self.source, self.blur_reference = list(batches), source, blur_reference
        self.device, self.crop = device, crop
        self._classical: list[float] | None = None

    @torch.no_grad()
    def scores(self, tasks: Sequence[str], models: Models, depth_baseline: Any = None) -> list[Score]:
        """One score per task. The networks are put into eval mode and left in it."""
        for module in models.parts().values():
            module.eval()
        return [
            self._depth(models, depth_baseline) if task == "depth" else self._pictures(task, models) for task in tasks
        ]

    def _pictures(self, task: str, models: Models) -> Score:
        ours, lq = [], []
        for batch in self.batches:
            target = batch.hq if task == "bokeh" else batch.aif
            found = run(task, models, batch.to(self.device)).cpu()
            ours += psnr(found, target)
            lq += psnr(batch.lq, target)
        return Score(task, _mean(ours), _mean(lq), self.classical() if task == "bokeh" else None)

    def classical(self) -> float:
        """Mean PSNR of LQ blurred by the renderer, which knows the exact disparity but one layer only."""
        if self._classical is None:
            self._classical = []
            count = sum(len(batch) for batch in self.batches)
            for index in range(count):
                sample = self.source[index]
                lens = Lens(blur=sample.meta["blur"], focus=sample.meta["focus"])
                pair: list[Any] = [classical_bokeh(sample.lq, sample.disparity, lens), sample.hq]
                if self.crop is not None:
                    pair = [window(picture, self.crop, no_changes().window) for picture in pair]
                found, target = (_signed(picture)[None] for picture in pair)
                self._classical += psnr(found, target)
        return _mean(self._classical)

    def _depth(self, models: Models, teacher: Any) -> Score:
        ours, base = [], []
        for batch in (one.to(self.device) for one in self.batches):
            found = depth_of(models.depth, batch.lq)
            if teacher is None:
                target = _like(batch.disparity[:, 0], found)
                plain = target.flatten(1).median(dim=1).values[:, None, None].expand_as(target)
            else:
                target, plain = (normal(depth_of(teacher, picture)) for picture in (batch.aif, batch.lq))
                found = normal(found)
            ours.append(float((found - target).abs().mean()))
            base.append(float((plain - target).abs().mean()))
        return Score("depth", _mean(ours), _mean(base))

    @torch.no_grad()
    def sheet(self, tasks: Sequence[str], models: Models, path: Path) -> npt.NDArray[np.uint8]:
        """LQ | ours | target | error as PNG. Bokeh at no blur and at the smallest, middle and largest of the val
        split; other tasks on three samples.
        """
        single = [one for batch in self.batches for one in batch.split()]
        order = sorted(single, key=lambda one: float(one.defocus.max()))
        picked = [order[0], order[len(order) // 2], order[-1]]
        rows: list[Row] = []
        for task in tasks:
            if task == "depth":
                rows += [self._depth_row(models, batch) for batch in picked]
            elif task == "sr" and "bokeh" in tasks:  # the row without blur
                rows.insert(0, self._row(task, models, picked[1]))
            else:
                rows += [self._row(task, models, batch) for batch in picked]
        sheet = draw_sheet(rows)
        atomic_write(path, cv2.imencode(".png", sheet[..., ::-1])[1].tobytes())
        return sheet

    def _row(self, task: str, models: Models, batch: Batch) -> Row:
        target = batch.hq if task == "bokeh" else batch.aif
        found = run(task, models, batch.to(self.device)).cpu()
        what = {"bokeh": "largest radius", "sr": "no blur", "autoencoder": "through the VAE"}[task]
        radius = f" {float(batch.defocus.max()) * self.blur_reference:.1f} px" if task == "bokeh" else ""
        before, after = psnr(batch.lq, target)[0], psnr(found, target)[0]
        return Row(
            lq=_picture(batch.lq),
            ours=_picture(found),
            target=_picture(target),
            error=((found - target).abs().mean(1)[0] / 2).numpy(),
            caption=f"{batch.keys[0]}   {what}{radius}   LQ {before:.2f} dB   ours {after:.2f} dB",
        )

    def _depth_row(self, models: Models, batch: Batch) -> Row:
        found = depth_of(models.depth, batch.lq.to(self.device)).cpu()
        target = _like(batch.disparity[:, 0], found)
        error = (found - target).abs()[0]
        return Row(
            lq=_picture(batch.lq),
            ours=_map(found[0]),
            target=_map(target[0]),
            error=error.numpy(),
            caption=f"{batch.keys[0]}   disparity from LQ   mean abs. error {float(error.mean()):.3f}",
        )


def run(task: str, models: Models, batch: Batch) -> Tensor:
    """What the networks make of a batch for a task: pictures in -1..1, clamped, float32."""
    networks = models.networks
    if task == "autoencoder":
        return networks.vae(batch.aif).clamp(-1, 1).float()
    defocus = batch.defocus if task == "bokeh" else torch.zeros_like(batch.defocus)
    found: Tensor = networks.restore(batch.lq, defocus)["image"]
    return found.float()


def psnr(found: Tensor, target: Tensor) -> list[float]:
    """Decibels of each picture of [B, 3, H, W] in -1..1."""
    error = ((found - target) / 2).double().square().flatten(1).mean(1).clamp_min(1e-12)
    return [float(value) for value in -10 * error.log10()]


def depth_of(model: Any, picture: Tensor) -> Tensor:
    """Disparity [B, h, w] of pictures in -1..1."""
    found: Tensor = model(network_input(picture, model)).predicted_depth
    return found.float()


def normal(disparity: Tensor) -> Tensor:
    """Stretched to 0..1 per picture, as inference does."""
    flat = disparity.flatten(1)
    low, high = flat.min(1).values[:, None, None], flat.max(1).values[:, None, None]
    return (disparity - low) / (high - low).clamp_min(1e-6)


def _like(disparity: Tensor, found: Tensor) -> Tensor:
    if disparity.shape == found.shape:
        return disparity
    size = found.shape[1:]
    return torch.nn.functional.interpolate(disparity[:, None], size=size, mode="bilinear", align_corners=False)[:, 0]


def _signed(picture: npt.NDArray[np.uint8]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(picture.transpose(2, 0, 1))).float() / 127.5 - 1


def _picture(tensor: Tensor) -> npt.NDArray[np.uint8]:
    return ((tensor[0].clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).permute(1, 2, 0).numpy()


def _map(disparity: Tensor) -> npt.NDArray[np.uint8]:
    grey = (disparity.clamp(0, 1) * 255).round().to(torch.uint8).numpy()
    return np.asarray(cv2.applyColorMap(grey, cv2.COLORMAP_VIRIDIS)[..., ::-1], np.uint8)


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values))
