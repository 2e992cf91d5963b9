"""Finds lamps out of focus in a photograph: bright convex regions whose outline stays put while the threshold moves."""

import math
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from bokehsynth.color import FloatArray
from bokehsynth.errors import UsageError

SIDE = 1600
"""Longer side in pixels at which lamps are looked for."""
LEAST_RADIUS = 6.0
"""Pixels of the photograph: blades and rims of a smaller spot cannot be told."""
LARGEST_SHARE = 0.2
"""Largest radius, over the shorter side."""
LEVELS = 0.9 * 0.86 ** np.arange(24)[::-1]
"""Thresholds in linear light, ascending to 0.9."""
LEAST_SOLIDITY = 0.95
"""Area over that of the convex hull: two overlapping discs have less."""
MOST_ELONGATION = 2.4
"""Longer over shorter side of the box around it; a cat's eye in a corner has up to 2."""
MOST_GROWTH = 1.2
"""How much larger the region may be at the next lower threshold: the edge of a spot is steep."""
LEAST_CONTRAST = 1.8
"""Light within over light around it."""
MOST_REGIONS = 20_000
"""Bright regions at one threshold: more are no lamps, and would take minutes."""

Progress = Callable[[Iterable[Any], str, int], Iterable[Any]]
"""Passes items on, with a name and their number, and may show how far they are."""


@dataclass(frozen=True)
class Region:
    """A region that may be a lamp, in pixels of the photograph."""

    x: float
    y: float
    radius: float
    """That of a disc of its area."""
    outline: npt.NDArray[np.int32]
    """[N, 2] in pixels of the reduced picture."""


@dataclass(frozen=True)
class Found:
    """The lamps of a photograph, and why other bright regions are none."""

    lamps: list[Region]
    dropped: Counter[str]
    bright: npt.NDArray[np.uint8]
    """How many bright regions cover a pixel of the reduced picture, used ones or not."""
    factor: float
    """Size of the reduced picture over that of the photograph."""


@dataclass(frozen=True, eq=False)
class _Candidate:
    outline: npt.NDArray[np.int32]
    area: float
    growth: float
    fault: str

    @property
    def centre(self) -> tuple[float, float]:
        moments = cv2.moments(self.outline)
        return moments["m10"] / moments["m00"], moments["m01"] / moments["m00"]


def find_lamps(photo: FloatArray, show: Progress = lambda items, _name, _count: items) -> Found:
    """Lamps in a photograph [H, W, 3] of linear light, from the left upper corner; deterministic.

    `show(items, name, count)` may show progress. UsageError for more bright regions than a photograph of lamps has.
    """
    factor = min(1.0, SIDE / max(photo.shape[:2]))
    small: FloatArray = photo.max(axis=2)
    if factor < 1:
        size = (round(photo.shape[1] * factor), round(photo.shape[0] * factor))
        small = np.asarray(cv2.resize(small, size, interpolation=cv2.INTER_AREA), np.float32)
    small = np.asarray(cv2.GaussianBlur(small, (0, 0), 1.0), np.float32)
    chosen = _stable(_candidates(small, factor, show), small)
    dropped: Counter[str] = Counter()
    bright = np.zeros(small.shape, np.uint8)
    lamps = []
    for candidate in chosen:
        rows, columns, mask = _filled(candidate.outline)
        bright[rows, columns] += mask
        fault = candidate.fault or _contrast_fault(candidate, small)
        if fault:
            dropped[fault] += 1
            continue
        x, y = candidate.centre
        radius = math.sqrt(candidate.area / math.pi)
        outline = np.asarray(candidate.outline[:, 0], np.int32)
        lamps.append(Region((x + 0.5) / factor - 0.5, (y + 0.5) / factor - 0.5, radius / factor, outline))
    lamps.sort(key=lambda lamp: (lamp.y, lamp.x))
    return Found(lamps, dropped, bright, factor)


def _candidates(small: FloatArray, factor: float, show: Progress) -> list[_Candidate]:
    """Regions above each threshold that are large and bright enough, with what speaks against each."""
    least = math.pi * (0.8 * LEAST_RADIUS * factor) ** 2
    most = math.pi * (LARGEST_SHARE * min(small.shape)) ** 2
    found: list[_Candidate] = []
    lower_labels, lower_areas = np.zeros(small.shape, np.int32), np.array([math.inf])
    for level in show(LEVELS, "thresholds", len(LEVELS)):
        labels, contours = _regions(small > level, least)
        areas = np.full(int(labels.max()) + 1, math.inf)
        for contour in contours:
            x, y = contour[0, 0]
            area = cv2.contourArea(contour) + 0.5 * len(contour)  # to the outer side of its border pixels
            areas[labels[y, x]] = area
            if least <= area <= most:
                growth = float(lower_areas[lower_labels[y, x]]) / area  # of the region at the lower threshold around it
                found.append(_Candidate(contour, area, growth, _fault(contour, area, small.shape)))
        lower_labels, lower_areas = labels, areas
    return found


def _regions(mask: npt.NDArray[np.bool_], least: float) -> tuple[npt.NDArray[np.int32], list[npt.NDArray[np.int32]]]:
    """Labels [H, W] of the regions of a mask, 0 around them, and the outlines [N, 1, 2] of those not within another.

    Regions whose box is smaller than `least` pixels have label 0. UsageError for more than MOST_REGIONS others.
    """
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    large = stats[:, cv2.CC_STAT_WIDTH].astype(np.float64) * stats[:, cv2.CC_STAT_HEIGHT] >= least
    large[0] = False
    if large.sum() > MOST_REGIONS:
        raise UsageError(
            f"the photograph shows {large.sum()} bright regions at one threshold, more than {MOST_REGIONS}: this is "
            "texture or noise rather than lamps. Cut out the part with the lamps, or expose shorter"
        )
    kept = np.asarray(np.where(large, np.arange(count), 0)[labels], np.int32)
    contours, _ = cv2.findContours((kept > 0).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    return kept, [np.asarray(contour, np.int32) for contour in contours]


def _fault(contour: npt.NDArray[np.int32], area: float, shape: tuple[int, ...]) -> str:
    """What makes a region no lamp to measure, by its outline; empty for nothing."""
    left, top, width, height = cv2.boundingRect(contour)
    if left <= 1 or top <= 1 or left + width >= shape[1] - 1 or top + height >= shape[0] - 1:
        return "cut by the picture's border"
    hull = cv2.convexHull(contour)
    if area / (cv2.contourArea(hull) + 0.5 * cv2.arcLength(hull, True)) < LEAST_SOLIDITY:
        return "overlaps another, or is no disc"
    sides = cv2.minAreaRect(contour)[1]
    if max(sides) > MOST_ELONGATION * max(1.0, min(sides)):
        return "too long for a lamp"
    return ""


def _stable(candidates: list[_Candidate], small: FloatArray) -> list[_Candidate]:
    """Choose among nested regions those without a fault, and then the one that moves least with the threshold."""
    ranked = sorted(
        (each for each in candidates if each.growth < MOST_GROWTH),
        key=lambda each: (bool(each.fault), each.growth, -each.area, each.centre),
    )
    taken = np.zeros(small.shape, np.int32)
    chosen: list[_Candidate] = []
    for each in ranked:
        rows, columns, mask = _filled(each.outline)
        inside = taken[rows, columns]
        if (inside[mask > 0] > 0).mean() > (0.02 if each.fault else 0.2):
            continue
        chosen.append(each)
        inside[mask > 0] = len(chosen)
    return chosen


def _filled(outline: npt.NDArray[np.int32]) -> tuple[slice, slice, npt.NDArray[np.uint8]]:
    """Rows and columns of the box around an outline [N, 1, 2], and 1 within it, 0 without."""
    left, top, width, height = cv2.boundingRect(outline)
    mask = np.zeros((height, width), np.uint8)
    cv2.drawContours(mask, [outline - np.array([left, top])], -1, 1, cv2.FILLED)
    return slice(top, top + height), slice(left, left + width), mask


def _contrast_fault(candidate: _Candidate, small: FloatArray) -> str:
    """Whether a region is too little brighter than what is around it."""
    (x, y), radius = candidate.centre, math.sqrt(candidate.area / math.pi)
    reach = math.ceil(1.5 * radius) + 2
    top, left = max(0, round(y) - reach), max(0, round(x) - reach)
    part = small[top : round(y) + reach + 1, left : round(x) + reach + 1]
    rows, columns = np.mgrid[: part.shape[0], : part.shape[1]]
    far = np.hypot(columns + left - x, rows + top - y) / radius
    within, around = np.median(part[far < 0.6]), np.median(part[(far > 1.2) & (far < 1.5)])
    return "too little contrast" if within < LEAST_CONTRAST * around or within - around < 0.02 else ""
