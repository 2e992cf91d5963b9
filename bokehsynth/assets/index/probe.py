"""Probe one candidate: decode and measure it, or reject it with a reason."""

import base64
import hashlib
import math
from dataclasses import asdict, dataclass, replace
from typing import Any

import cv2
import numpy as np

from bokehsynth.assets.catalogue import Candidate
from bokehsynth.assets.decode.decoder import Limits, decode_raster
from bokehsynth.assets.decode.downscale import averaged, reduced, shrunk, whole_factor
from bokehsynth.assets.decode.matte import reject_transparency, with_matte
from bokehsynth.assets.decode.raster import ALL_BYTES, Raster, looked_up
from bokehsynth.assets.decode.rejection import RejectedPicture
from bokehsynth.assets.decode.safe_read import read_file
from bokehsynth.assets.index.jpeg_damage import reject_damaged_jpeg
from bokehsynth.assets.index.measure import THUMB, grey_of, matte_facts, perceptual_hash, sharpness
from bokehsynth.assets.index.quality import cutout_quality, picture_quality
from bokehsynth.assets.load.pairs import load_pair
from bokehsynth.color import FloatArray, linear_to_srgb, srgb_to_linear
from bokehsynth.imaging.registration import compare_views

PROBE_VERSION = 2
"""To be raised when a measure or a verdict changes; cached results of another version are measured again."""

MEASURED_SIDE = 1024
"""Least shorter side in pixels at which cut-outs are measured."""
JUDGED_SIDE = 512
"""Least shorter side in pixels at which landscapes are measured."""


@dataclass(frozen=True, kw_only=True)
class Probe:
    """Identity and measures of a usable picture; the fields are keys of the index on disk."""

    sha256: str
    """Digest of the file; of image and matte together where there are two."""
    image_sha256: str
    matte_sha256: str | None
    width: int
    height: int
    mode: str
    depth: int
    bright: bool
    notes: tuple[str, ...]
    dhash: str
    thumb: str
    aspect: float
    sharpness: float | None = None
    """For landscapes only."""
    coverage: float | None = None
    soft: float | None = None
    colors: str | None = None
    box: tuple[int, int, int, int] | None = None
    beside_sha256: tuple[str | None, str | None] = (None, None)
    """For a pair, digests of the photo through the lens and of the disparity map."""
    views: tuple[float, ...] | None = None
    """For a pair, gain of red, green, blue; shift in x, y; correlation (see `ViewComparison`)."""
    quality: dict[str, float] | None = None
    """What `quality` measures; None where no recipe has asked."""

    @property
    def record(self) -> dict[str, Any]:
        """What the index keeps."""
        return {key: value for key, value in asdict(self).items() if key != "quality" or value is not None}

    @property
    def is_comparable(self) -> bool:
        """Whether hash and thumbnail are such as near duplicates are found by; in an index they may be anything."""
        sizes = (len(bytes.fromhex(self.dhash)), len(base64.b64decode(self.thumb, validate=True)))
        return sizes == (16, THUMB * THUMB) and 0 < self.aspect < math.inf


def probe(candidate: Candidate, limits: Limits) -> Probe:
    """Read, decode and measure a candidate; RejectedPicture says why it cannot be used."""
    if candidate.kind == "pair":
        return _pair(candidate, limits)
    data = read_file(candidate.image, candidate.root)
    raster = decode_raster(data, str(candidate.image), limits)
    reject_damaged_jpeg(data, str(candidate.image))
    image_sha = hashlib.sha256(data).hexdigest()
    if candidate.kind in {"background", "photo"}:
        return _landscape(candidate, raster, image_sha, limits.judged)
    return _cutout(candidate, raster, image_sha, limits)


def _landscape(candidate: Candidate, raster: Raster, sha256: str, judged: bool) -> Probe:
    reject_transparency(raster, candidate.image)
    color = reduced(raster, JUDGED_SIDE)
    phash = perceptual_hash(grey_of(shrunk(color, 256)))
    measured = asdict(phash) | {"sharpness": round(sharpness(color), 4)}
    if judged:
        measured["quality"] = {} if raster.linear else picture_quality(color)
    return _probe(raster, sha256, sha256, None, measured)


def _cutout(candidate: Candidate, raster: Raster, image_sha: str, limits: Limits) -> Probe:
    matte_sha = None
    if candidate.matte is not None:
        data = read_file(candidate.matte, candidate.root)
        matte_sha = hashlib.sha256(data).hexdigest()
        raster = with_matte(raster, decode_raster(data, str(candidate.matte), limits), candidate.matte)
        reject_damaged_jpeg(data, str(candidate.matte))
    if raster.alpha is None:
        raise RejectedPicture(f"{candidate.image}: a foreground without transparency or a matte beside it", "no_matte")
    alpha = raster.opacity()
    assert alpha is not None
    if float(alpha.min()) > 0.98:
        raise RejectedPicture(f"{candidate.image}: its alpha is opaque everywhere, so it cuts nothing out", "no_matte")
    color, alpha = reduced(raster, MEASURED_SIDE), averaged(alpha, whole_factor(raster.size, MEASURED_SIDE))
    encoded = _encoded(raster, color)
    facts = matte_facts(encoded, alpha)
    if facts is None:
        raise RejectedPicture(f"{candidate.image}: its alpha shows nothing", "empty_matte")
    if matte_sha is not None:
        facts = replace(facts, colors="photographed")
    judged = {"quality": _cutout_quality(raster, color, alpha, facts.box)} if limits.judged else {}
    sha256 = image_sha if matte_sha is None else hashlib.sha256(f"{image_sha} {matte_sha}".encode()).hexdigest()
    top, left, height, width = facts.box
    # Hashed as displayed: the subject's box alone, composited over mid-grey.
    part = (slice(top, top + height), slice(left, left + width))
    shown = encoded[part] if facts.colors == "premultiplied" else encoded[part] * alpha[part][..., None]
    grey = np.asarray(cv2.cvtColor(shown, cv2.COLOR_RGB2GRAY), np.float32)
    phash = perceptual_hash(grey + np.float32(0.5) * (1 - alpha[part]))
    up = raster.size[0] / alpha.shape[0]
    box = (int(top * up), int(left * up), int(np.ceil(height * up)), int(np.ceil(width * up)))
    return _probe(raster, sha256, image_sha, matte_sha, asdict(phash) | asdict(replace(facts, box=box)) | judged)


def _encoded(raster: Raster, color: FloatArray) -> FloatArray:
    """sRGB-encoded colour [h, w, 3], at most white, of a raster's light after reduction."""
    if color.shape[:2] == raster.size and raster.values.ndim == 3 and raster.is_srgb_of_8_bits:
        return looked_up(raster.values, linear_to_srgb(srgb_to_linear(ALL_BYTES)))
    return linear_to_srgb(np.minimum(color, 1))


def _cutout_quality(
    raster: Raster, color: FloatArray, alpha: FloatArray, box: tuple[int, int, int, int]
) -> dict[str, float]:
    """Measures of a cut-out; of a scene-referred one those of its matte alone."""
    measured = cutout_quality(color, alpha, box)
    return {name: value for name, value in measured.items() if not raster.linear or name in {"soft", "holes", "area"}}


def _pair(candidate: Candidate, limits: Limits) -> Probe:
    """Probe a pair: its digest covers all its files, its perceptual hash is that of the sharp photo."""
    sums = {role: hashlib.sha256(read_file(path, candidate.root)).hexdigest() for role, path in candidate.roles.items()}
    pair, photo = load_pair(candidate.roles, candidate.root, limits, sums)
    for path in candidate.roles.values():
        reject_damaged_jpeg(read_file(path, candidate.root), str(path))
    views = compare_views(pair.all_in_focus, pair.bokeh, pair.mask)
    phash = perceptual_hash(grey_of(shrunk(pair.all_in_focus, 256)))
    joined = "\n".join(f"{role} {digest}" for role, digest in sorted(sums.items()))
    measured: dict[str, Any] = asdict(phash) | {
        "beside_sha256": (sums["bokeh"], sums.get("disparity")),
        "views": tuple(round(number, 4) for number in (*views.gain, *views.shift, views.correlation)),
    }
    if limits.judged:
        measured["quality"] = {} if photo.linear else picture_quality(pair.all_in_focus)
    return _probe(photo, hashlib.sha256(joined.encode()).hexdigest(), sums["aif"], sums.get("mask"), measured)


def _probe(raster: Raster, sha256: str, image_sha: str, matte_sha: str | None, measured: dict[str, Any]) -> Probe:
    height, width = raster.size
    return Probe(
        sha256=sha256, image_sha256=image_sha, matte_sha256=matte_sha, width=width, height=height, mode=raster.mode,
        depth=raster.depth, bright=raster.linear, notes=raster.notes, **measured,
    )  # fmt: skip
