"""Validation scores, beside those of LQ itself and of the classical render, and validation sheets."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from bokehsynth import DataError, Lens, atomic_write
from magicbokeh.data.augment import classical_bokeh, crop, no_augmentation
from magicbokeh.data.loader import Batch
from magicbokeh.data.sources import Source
from magicbokeh.training.depth_distillation import network_input, resize_like
from magicbokeh.training.phases import Models
from magicbokeh.training.validation_sheet import Row, draw_sheet

FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Score:
    """One line of the table. Decibels, but for depth (mean absolute error of disparity)."""

    task: str
    """sr (against aif), bokeh (against hq) or depth."""
    ours: float
    lq: float
    """The degraded picture itself; for depth the best constant map, or the teacher on the degraded picture."""
    classical: float | None = None
    """Bokeh only: LQ blurred by the renderer with exact disparity."""

    @property
    def beats_lq(self) -> bool:
        """Whether anything was learned."""
        return self.improvement > 0

    @property
    def improvement(self) -> float:
        """How much better than LQ: decibels, or the decrease of the depth error."""
        return self.lq - self.ours if self.task == "depth" else self.ours - self.lq

    def line(self) -> str:
        """The line of the log."""
        unit = "mean abs. error" if self.task == "depth" else "dB"
        name = "baseline" if self.task == "depth" else "LQ"
        parts = [f"{name} {self.lq:.4g}"]
        if self.classical is not None:
            parts.append(f"classical {self.classical:.4g}")
        verdict = "" if self.beats_lq else f"  NOT LEARNING: no better than {name}"
        return f"val {self.task:<11} {'  '.join(parts)}  ours {self.ours:.4g} {unit}{verdict}"


class Validator:
    """Scores models on the val split; what does not depend on the weights is computed once."""

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
        """One score per task. Puts the networks into eval mode and leaves them in it."""
        for module in models.parts().values():
            module.eval()
        return [
            self._depth(models, depth_baseline) if task == "depth" else self._pictures(task, models) for task in tasks
        ]

    def _pictures(self, task: str, models: Models) -> Score:
        ours, lq = [], []
        for batch in self.batches:
            target = batch.hq if task == "bokeh" else batch.aif
            found = predict_pictures(task, models, batch.to(self.device)).cpu()
            ours += psnr(found, target)
            lq += psnr(batch.lq, target)
        return Score(task, _mean(ours), _mean(lq), self.classical() if task == "bokeh" else None)

    def classical(self) -> float:
        """Mean PSNR of LQ rendered as a single layer with the exact disparity."""
        if self._classical is None:
            self._classical = []
            count = sum(len(batch) for batch in self.batches)
            for index in range(count):
                sample = self.source[index]
                lens = Lens(blur=sample.meta["blur"], focus=sample.meta["focus"])
                pair: list[Any] = [classical_bokeh(sample.lq, sample.disparity, lens), sample.hq]
                if self.crop is not None:
                    pair = [crop(picture, self.crop, no_augmentation().crop_position) for picture in pair]
                found, target = (_to_tensor(picture)[None] for picture in pair)
                self._classical += psnr(found, target)
        return _mean(self._classical)

    def _depth(self, models: Models, teacher: Any) -> Score:
        ours, baseline = [], []
        for batch in (one.to(self.device) for one in self.batches):
            found = _finite(predict_disparity(models.depth, batch.lq), "depth", batch)
            if teacher is None:
                target = resize_like(batch.disparity[:, 0], found)
                constant = target.flatten(1).median(dim=1).values[:, None, None].expand_as(target)
                baseline.append(float((constant - target).abs().mean()))
            else:
                target = min_max_normalized(predict_disparity(teacher, batch.aif))
                on_lq = min_max_normalized(predict_disparity(teacher, batch.lq))
                baseline.append(float((on_lq - target).abs().mean()))
                found = min_max_normalized(found)
            ours.append(float((found - target).abs().mean()))
        return Score("depth", _mean(ours), _mean(baseline))

    @torch.no_grad()
    def sheet(self, tasks: Sequence[str], models: Models, path: Path) -> npt.NDArray[np.uint8]:
        """Write LQ | ours | target | error as PNG: for each task the val samples of least, median and largest blur;
        beside bokeh rows a single row without blur stands for the sr task.
        """
        single = [one for batch in self.batches for one in batch.split()]
        order = sorted(single, key=lambda one: float(one.defocus.max()))
        selected = [order[0], order[len(order) // 2], order[-1]]
        rows: list[Row] = []
        for task in tasks:
            if task == "depth":
                rows += [self._depth_row(models, batch) for batch in selected]
            elif task == "sr" and "bokeh" in tasks:  # the row without blur
                rows.insert(0, self._row(task, models, selected[1]))
            else:
                rows += [self._row(task, models, batch) for batch in selected]
        sheet = draw_sheet(rows)
        atomic_write(path, cv2.imencode(".png", sheet[..., ::-1])[1].tobytes())
        return sheet

    def _row(self, task: str, models: Models, batch: Batch) -> Row:
        target = batch.hq if task == "bokeh" else batch.aif
        found = predict_pictures(task, models, batch.to(self.device)).cpu()
        what = {"bokeh": "largest radius", "sr": "no blur"}[task]
        radius = f" {float(batch.defocus.max()) * self.blur_reference:.1f} px" if task == "bokeh" else ""
        before, after = psnr(batch.lq, target)[0], psnr(found, target)[0]
        return Row(
            lq=_to_uint8(batch.lq),
            ours=_to_uint8(found),
            target=_to_uint8(target),
            error=((found - target).abs().mean(1)[0] / 2).numpy(),
            caption=f"{batch.keys[0]}   {what}{radius}   LQ {before:.2f} dB   ours {after:.2f} dB",
        )

    def _depth_row(self, models: Models, batch: Batch) -> Row:
        found = predict_disparity(models.depth, batch.lq.to(self.device)).cpu()
        target = resize_like(batch.disparity[:, 0], found)
        error = (found - target).abs()[0]
        return Row(
            lq=_to_uint8(batch.lq),
            ours=_color_map(found[0]),
            target=_color_map(target[0]),
            error=error.numpy(),
            caption=f"{batch.keys[0]}   disparity from LQ   mean abs. error {float(error.mean()):.3f}",
        )


def predict_pictures(task: str, models: Models, batch: Batch) -> Tensor:
    """The networks' pictures of a batch for a task: in -1..1, clamped, float32."""
    networks = models.networks
    defocus = batch.defocus if task == "bokeh" else torch.zeros_like(batch.defocus)
    step = networks.restore(batch.lq, defocus)
    _finite(step.x0, task, batch)  # decoding clamps infinity
    return _finite(step.image, task, batch)


def _finite(found: Tensor, task: str, batch: Batch) -> Tensor:
    """`found` as float32; DataError where it is not finite: neither a score nor a sheet could tell."""
    found = found.float()
    if not torch.isfinite(found).all():
        raise DataError(
            f"validation of {task}: the network gives NaN or infinity for {', '.join(batch.keys[:3])}; the checkpoints "
            "are as they were: go on from one with a lower learning rate, or in fp32"
        )
    return found


def psnr(found: Tensor, target: Tensor) -> list[float]:
    """PSNR of each picture of [B, 3, H, W] in -1..1, decibels."""
    error = ((found - target) / 2).double().square().flatten(1).mean(1).clamp_min(1e-12)
    return [float(value) for value in -10 * error.log10()]


def predict_disparity(model: Any, picture: Tensor) -> Tensor:
    """The depth model's disparity [B, h, w] of pictures in -1..1."""
    found: Tensor = model(network_input(picture, model)).predicted_depth
    return found.float()


def min_max_normalized(disparity: Tensor) -> Tensor:
    """Scale each disparity map to 0..1 by its minimum and maximum, as inference does."""
    flat = disparity.flatten(1)
    low, high = flat.min(1).values[:, None, None], flat.max(1).values[:, None, None]
    return (disparity - low) / (high - low).clamp_min(1e-6)


def _to_tensor(picture: npt.NDArray[np.uint8]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(picture.transpose(2, 0, 1))).float() / 127.5 - 1


def _to_uint8(tensor: Tensor) -> npt.NDArray[np.uint8]:
    return ((tensor[0].clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).permute(1, 2, 0).numpy()


def _color_map(disparity: Tensor) -> npt.NDArray[np.uint8]:
    grey = (disparity.clamp(0, 1) * 255).round().to(torch.uint8).numpy()
    return np.asarray(cv2.applyColorMap(grey, cv2.COLORMAP_VIRIDIS)[..., ::-1], np.uint8)


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values))
