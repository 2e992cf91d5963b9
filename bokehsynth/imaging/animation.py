"""Write pictures as an animation: GIF or MP4, through imageio."""

import importlib.util
import tempfile
from collections.abc import Iterable
from pathlib import Path

from bokehsynth.color import ByteArray, FloatArray, encode_8bit
from bokehsynth.errors import StorageError, UsageError
from bokehsynth.files import atomic_write

SUFFIXES = (".gif", ".mp4")


def is_animation(path: Path) -> bool:
    """Whether a file of this name holds an animation."""
    return path.suffix.lower() in SUFFIXES


def save_animation(path: Path, pictures: Iterable[FloatArray], frames_per_second: float) -> None:
    """Write linear pictures [H, W, 3] of one size, made one by one, in 8-bit sRGB.

    MP4 (H.264) loses an odd last row or column.

    UsageError where imageio is missing, StorageError where the file cannot be written.
    """
    needed = ["imageio", "imageio_ffmpeg"] if path.suffix.lower() == ".mp4" else ["imageio"]
    if any(importlib.util.find_spec(name) is None for name in needed):
        raise UsageError(f"{path}: animations need imageio: pip install 'bokehsynth[animation]'")
    import imageio.v2 as imageio

    with tempfile.TemporaryDirectory() as folder:
        draft = Path(folder) / f"draft{path.suffix.lower()}"
        try:
            if draft.suffix == ".mp4":
                writer = imageio.get_writer(draft, fps=frames_per_second, quality=8, macro_block_size=1)
            else:
                writer = imageio.get_writer(draft, duration=1000 / frames_per_second, loop=0)
            with writer:
                for picture in map(encode_8bit, pictures):
                    writer.append_data(_even(picture) if draft.suffix == ".mp4" else picture)
            data = draft.read_bytes()
        except OSError as error:
            raise StorageError(f"{path}: imageio cannot write it: {error}") from error
        atomic_write(path, data)


def _even(picture: ByteArray) -> ByteArray:
    """The picture without an odd last row or column, which the usual colour format of H.264 cannot hold."""
    height, width = picture.shape[:2]
    return picture[: height - height % 2, : width - width % 2]
