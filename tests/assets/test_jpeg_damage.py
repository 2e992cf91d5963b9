"""JPEG files that decoders mend in silence are refused; files with bytes behind the picture are not."""

import cv2
import numpy as np
import pytest
from PIL import Image
from support.photographs import encoded, landscape

from bokehsynth.assets.catalogue import Candidate
from bokehsynth.assets.decode.decoder import Limits
from bokehsynth.assets.decode.rejection import RejectedPicture
from bokehsynth.assets.index.jpeg_damage import EOI, MAX_PADDING
from bokehsynth.assets.index.probe import probe
from bokehsynth.assets.index.probe_pool import probe_all

VARIANTS = {
    "baseline": {}, "progressive": {"progressive": True}, "4:4:4": {"subsampling": 0},
    "restarts": {"restart_marker_blocks": 4}, "optimised": {"optimize": True, "quality": 60},
}  # fmt: skip
MODES = ["RGB", "L", "CMYK"]


def jpeg(seed: int = 1, mode: str = "RGB", **options) -> bytes:
    return encoded(Image.fromarray(landscape(seed, 192, 256)).convert(mode), "JPEG", **{"quality": 90} | options)


def damaged(kind: str, data: bytes, other: bytes) -> bytes:
    third, half = len(data) // 3, len(data) // 2
    return {
        "a third is zero": data[:third] + bytes(third) + data[2 * third :],
        "the last third is zero": data[: 2 * third] + bytes(len(data) - 2 * third),
        "a hole of 0xFF": data[:half] + b"\xff" * 200 + data[half + 200 :],
        "a small hole of 0xFF": data[:half] + b"\xff" * 8 + data[half + 8 :],
        "cut, closed by EOI": data[:half] + EOI,
        "spliced": data[:half] + other[len(other) // 2 :],
        "spliced, shifted": data[:half] + data[third:],
        "cut": data[:half],
        "a hole": data[:half] + data[half + 512 :],
    }[kind]  # fmt: skip


def verdict(tmp_path, data: bytes) -> str:
    path = tmp_path / "x.jpg"
    path.write_bytes(data)
    try:
        probe(Candidate(kind="photo", image=path, root=tmp_path), Limits())
    except RejectedPicture as error:
        return error.reason
    return "good"


KINDS = [
    "a third is zero", "the last third is zero", "a hole of 0xFF", "a small hole of 0xFF", "cut, closed by EOI",
    "spliced", "spliced, shifted", "cut", "a hole",
]  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_damaged_files_are_refused(tmp_path, variant, kind):
    data, other = jpeg(1, **VARIANTS[variant]), jpeg(2, **VARIANTS[variant])
    expected = {"corrupt", "truncated"} if kind in {"cut", "the last third is zero"} else {"corrupt"}
    assert verdict(tmp_path, damaged(kind, data, other)) in expected


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("variant", VARIANTS)
def test_whole_files_are_good_whatever_comes_behind_them(tmp_path, variant, mode):
    data = jpeg(3, mode, **VARIANTS[variant])
    preview = jpeg(4, quality=30)
    for behind in (b"", bytes(4096), b"\xff" * 37, preview, b"MPF\0" + preview[: len(preview) // 2]):
        assert verdict(tmp_path, data + behind) == "good"
    for padding in (b"\0", bytes(5), b"\xff" * 16, bytes(MAX_PADDING)):
        assert verdict(tmp_path, data[:-2] + padding + EOI) == "good"


def test_quality_and_metadata_do_not_matter(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    for options in ({"quality": 5}, {"quality": 100}, {"exif": exif}, {"icc_profile": b"no profile"}, {"comment": "x"}):
        assert verdict(tmp_path, jpeg(5, **options)) == "good"


def test_mattes_and_every_picture_of_the_pool_are_looked_at(tmp_path, capfd):
    whole = encoded(Image.fromarray(landscape(6, 192, 256)), "PNG")
    shape = np.zeros((192, 256), np.uint8)
    cv2.circle(shape, (128, 96), 60, 255, -1)
    matte = encoded(Image.fromarray(cv2.blur(shape, (9, 9))), "JPEG", quality=90)
    cut = {"b.jpg": matte[:-500] + EOI, "l.jpg": jpeg()[:-5000] + EOI}
    for name, data in ({"p.png": whole, "a.jpg": matte} | cut).items():
        (tmp_path / name).write_bytes(data)
    candidates = [
        Candidate(kind="foreground", image=tmp_path / "p.png", matte=tmp_path / "a.jpg", root=tmp_path),
        Candidate(kind="foreground", image=tmp_path / "p.png", matte=tmp_path / "b.jpg", root=tmp_path),
        Candidate(kind="background", image=tmp_path / "l.jpg", root=tmp_path),
    ]
    answers = probe_all(candidates, Limits())
    assert [getattr(answer, "reason", "good") for answer in answers] == ["good", "corrupt", "corrupt"]
    assert "libjpeg: Corrupt JPEG data: premature end of data segment" in str(answers[2])
    assert answers[2].lasting
    assert capfd.readouterr().err == ""
