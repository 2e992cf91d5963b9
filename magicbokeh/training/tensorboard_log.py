"""TensorBoard event files, written in the thread that trains.

torch's SummaryWriter hands its records to a thread, which prints a traceback when the disk is full and goes on. Here
the same records are written at once, and an error ends the run as any other of its files would.
"""

import os
import socket
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bokehsynth import StorageError, UsageError
from magicbokeh.training.validation import Score


class TensorBoardLog:
    """TensorBoard event files, opened when first written to; `step` counts over all stages.

    StorageError, naming the file, where one cannot be written; UsageError where TensorBoard is not installed.
    """

    def __init__(self, folder: Path, first_step: int) -> None:
        self.folder, self.first_step = folder, first_step
        self._path: Path | None = None

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Write one point per curve."""
        for name, value in values.items():
            self._write(step=step, summary=_summaries().scalar(name, value))

    def scores(self, scores: Sequence[Score], step: int) -> None:
        """Write the scores of a validation."""
        for score in scores:
            self.scalars({f"val_{score.task}/ours": score.ours, f"val_{score.task}/lq": score.lq}, step)
            if score.classical is not None:
                self.scalars({f"val_{score.task}/classical": score.classical}, step)

    def sheet(self, name: str, picture: Any, step: int) -> None:
        """Write a sheet, uint8 [H, W, 3]."""
        self._write(step=step, summary=_summaries().image(name, picture, dataformats="HWC"))

    def _write(self, **event: Any) -> None:
        """Append one event; the first of a resumed run lets TensorBoard drop what a killed run wrote beyond it."""
        first = self._path is None
        if self._path is None:
            stamp = f"{int(time.time())}.{socket.gethostname()}.{os.getpid()}"
            names = (
                f"events.out.tfevents.{stamp}{more}" for more in ("", *(f".{number}" for number in range(1, 1000)))
            )
            # A process that goes on with a run within a second has the same name twice.
            self._path = next(path for path in map(self.folder.joinpath, names) if not path.exists())
        try:
            if first:
                self.folder.mkdir(parents=True, exist_ok=True)
                self._append(_opening_events(self.first_step), "xb")
            self._append([event], "ab")
        except OSError as error:
            raise StorageError(f"{self._path}: {error.strerror} (check permissions and room)") from None

    def _append(self, events: Sequence[Mapping[str, Any]], mode: str) -> None:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.summary.writer.record_writer import RecordWriter

        assert self._path is not None
        with open(self._path, mode) as file:
            writer = RecordWriter(file)
            for event in events:
                writer.write(Event(wall_time=time.time(), **event).SerializeToString())


def _summaries() -> Any:
    """The module that makes TensorBoard's records out of numbers and pictures."""
    try:
        from torch.utils.tensorboard import summary
    except ImportError as error:
        raise UsageError(f"training writes TensorBoard files: pip install tensorboard ({error})") from None
    return summary


def _opening_events(first_step: int) -> list[Mapping[str, Any]]:
    """What an event file begins with: its version, and after a resume at `first_step` that later points are purged."""
    from tensorboard.compat.proto.event_pb2 import SessionLog

    version: Mapping[str, Any] = {"file_version": "brain.Event:2"}
    if not first_step:
        return [version]
    return [version, {"step": first_step + 1, "session_log": SessionLog(status=SessionLog.START)}]
