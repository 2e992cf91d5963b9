"""Animations: how long frames last, and what colours players are told."""

import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bokehsynth.imaging.animation import save_animation


def durations(path: Path) -> list[int]:
    """Milliseconds of each frame."""
    with Image.open(path) as gif:
        lasts = []
        for i in range(getattr(gif, "n_frames", 1)):
            gif.seek(i)
            lasts.append(gif.info["duration"])
    return lasts


@pytest.mark.parametrize(("fps", "most"), [(12, 90), (30, 40), (50, 20)])
def test_a_gif_lasts_as_long_as_its_frames(tmp_path: Path, fps: float, most: int) -> None:
    pictures = [np.full((4, 6, 3), value, np.float32) for value in np.linspace(0, 1, 2 * round(fps))]
    assert save_animation(tmp_path / "o.gif", pictures, fps) == len(pictures)
    lasts = durations(tmp_path / "o.gif")
    assert len(lasts) == len(pictures)
    assert sum(lasts) == 2000
    assert most - 10 <= min(lasts) <= max(lasts) == most


def test_equal_frames_are_counted_as_one_that_lasts(tmp_path: Path) -> None:
    black, white = (np.full((4, 6, 3), value, np.float32) for value in (0, 1))
    assert save_animation(tmp_path / "o.gif", [black, black, white], 10) == 2
    assert durations(tmp_path / "o.gif") == [200, 100]


def test_a_video_says_how_its_colours_are_stored(tmp_path: Path) -> None:
    import imageio.v2 as imageio
    import imageio_ffmpeg

    green = np.zeros((16, 32, 3), np.float32)
    green[..., 1] = 0.5
    assert save_animation(tmp_path / "o.mp4", [green, green], 10) == 2
    told = subprocess.run(
        [imageio_ffmpeg.get_ffmpeg_exe(), "-i", tmp_path / "o.mp4"], capture_output=True, text=True, check=False
    ).stderr
    assert "(tv, bt709/bt709/iec61966-2-1" in told, told
    shown = np.asarray(imageio.mimread(tmp_path / "o.mp4")[0]).astype(int)
    np.testing.assert_allclose(shown, np.broadcast_to([0, 188, 0], shown.shape), atol=4)
