"""Write pictures as an animation: GIF through Pillow, MP4 through imageio."""

import importlib.util
import io
import tempfile
from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

from PIL import Image

from bokehsynth.color import ByteArray, FloatArray, encode_8bit
from bokehsynth.errors import StorageError, UsageError
from bokehsynth.files import atomic_write, storage_errors

SUFFIXES = (".gif", ".mp4")
MOST_GIF_FPS = 50.0
"""GIF counts in hundredths of a second, and viewers show a frame of one of them for ten."""
SRGB_VIDEO = [
    "-vf", "scale=out_color_matrix=bt709:out_range=tv,"
    "setparams=colorspace=bt709:color_primaries=bt709:color_trc=iec61966-2-1:range=tv",
    "-colorspace", "bt709", "-color_primaries", "bt709", "-color_trc", "iec61966-2-1", "-color_range", "tv",
]  # fmt: skip
"""For ffmpeg: how sRGB is stored, and that players be told; newer ones read frames, older ones options."""


def check_animation(path: Path, frames_per_second: float) -> None:
    """Raise what would stop `save_animation`, before pictures are made for it.

    UsageError for another suffix, no folder, a rate that GIF cannot have, or missing packages; StorageError where no
    file can be written.
    """
    suffix, folder = path.suffix.lower(), path.absolute().parent
    if suffix not in SUFFIXES:
        raise UsageError(f"{path}: the name of an animation must end in {' or '.join(SUFFIXES)}")
    if not folder.is_dir():
        raise UsageError(f"{path}: there is no folder {folder}")
    if path.is_dir():
        raise UsageError(f"{path}: is a folder; name a file in it")
    if suffix == ".gif" and frames_per_second > MOST_GIF_FPS:
        raise UsageError(f"{path}: a GIF has at most {MOST_GIF_FPS:g} frames per second, got {frames_per_second:g}")
    if suffix == ".mp4":
        _check_ffmpeg(path)
    with storage_errors(path), tempfile.TemporaryFile(dir=folder):
        pass


def save_animation(path: Path, pictures: Iterable[FloatArray], frames_per_second: float) -> int:
    """Write linear pictures [H, W, 3] of one size, made one by one, in 8-bit sRGB; how many frames the file has.

    MP4 (H.264) loses an odd last row or column. A GIF shows each picture for whole hundredths of a second, all together
    for as long as they last; pictures that its 256 colours make equal to the one before are one frame with it.

    The errors of `check_animation`; StorageError where the file cannot be written.
    """
    check_animation(path, frames_per_second)
    encoded = map(encode_8bit, pictures)
    if path.suffix.lower() == ".gif":
        return _save_gif(path, encoded, frames_per_second)
    return _save_mp4(path, encoded, frames_per_second)


def _check_ffmpeg(path: Path) -> None:
    advice = f"{path}: MP4 needs imageio with ffmpeg: pip install 'bokehsynth[animation]', or write a .gif"
    if any(importlib.util.find_spec(name) is None for name in ("imageio", "imageio_ffmpeg")):
        raise UsageError(advice)
    import imageio_ffmpeg

    try:
        imageio_ffmpeg.get_ffmpeg_exe()
    except RuntimeError as error:  # the package without its program
        raise UsageError(f"{advice} ({error})") from None


def _save_gif(path: Path, pictures: Iterator[ByteArray], frames_per_second: float) -> int:
    frames = [Image.fromarray(picture).convert("P", palette=Image.Palette.ADAPTIVE) for picture in pictures]
    ends = [round(100 * i / frames_per_second) for i in range(len(frames) + 1)]
    durations = [10 * (end - start) for start, end in pairwise(ends)]  # milliseconds
    buffer = io.BytesIO()
    frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:], duration=durations, loop=0)
    atomic_write(path, buffer.getvalue())
    with Image.open(buffer) as written:
        return int(getattr(written, "n_frames", 1))


def _save_mp4(path: Path, pictures: Iterator[ByteArray], frames_per_second: float) -> int:
    import imageio.v2 as imageio

    count = 0
    with tempfile.TemporaryDirectory() as folder:
        draft = Path(folder) / "draft.mp4"
        try:
            writer: Any = imageio.get_writer(
                draft, fps=frames_per_second, quality=8, macro_block_size=1, output_params=SRGB_VIDEO
            )
            with writer:
                for count, picture in enumerate(pictures, 1):  # noqa: B007
                    writer.append_data(_even(picture))
            data = draft.read_bytes()
        except OSError as error:
            raise StorageError(f"{path}: imageio cannot write it: {error}") from error
        atomic_write(path, data)
    return count


def _even(picture: ByteArray) -> ByteArray:
    """The picture without an odd last row or column, which the usual colour format of H.264 cannot hold."""
    height, width = picture.shape[:2]
    return picture[: height - height % 2, : width - width % 2]
