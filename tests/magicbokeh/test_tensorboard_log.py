"""The curves of a run: TensorBoard's own reader finds them, and a full disk ends the run with one line."""

from pathlib import Path

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from bokehsynth import StorageError
from magicbokeh.training.tensorboard_log import TensorBoardLog


def _curve(folder: Path) -> list[tuple[int, float]]:
    found = EventAccumulator(str(folder)).Reload()
    return [(event.step, event.value) for event in found.Scalars("loss/sr")]


def test_a_resumed_run_drops_what_a_killed_one_wrote_beyond_its_checkpoint(tmp_path: Path) -> None:
    first = TensorBoardLog(tmp_path, 0)
    for step in (1, 2, 3):
        first.scalars({"loss/sr": step / 2}, step)
    assert _curve(tmp_path) == [(1, 0.5), (2, 1.0), (3, 1.5)]
    (next(tmp_path.iterdir())).rename(tmp_path / "events.out.tfevents.1")  # of another process, earlier
    resumed = TensorBoardLog(tmp_path, 2)
    for step in (3, 4):
        resumed.scalars({"loss/sr": step * 2.0}, step)
    assert _curve(tmp_path) == [(1, 0.5), (2, 1.0), (3, 6.0), (4, 8.0)]


def test_a_sheet_is_a_picture_of_its_size(tmp_path: Path) -> None:
    TensorBoardLog(tmp_path, 0).sheet("sheet/sr", np.zeros((20, 30, 3), np.uint8), 7)
    image = EventAccumulator(str(tmp_path)).Reload().Images("sheet/sr")[0]
    assert (image.step, image.height, image.width) == (7, 20, 30)


def test_what_cannot_be_written_is_named(tmp_path: Path) -> None:
    """SummaryWriter's thread printed a traceback and lost the rest."""
    log = TensorBoardLog(tmp_path / "curves", 0)
    log.scalars({"loss/sr": 1.0}, 1)
    file = next((tmp_path / "curves").iterdir())
    file.unlink()
    file.symlink_to("/dev/full")
    with pytest.raises(StorageError, match=r"tfevents.*No space left on device"):
        log.scalars({"loss/sr": 1.0}, 2)
