"""Numbers and words in the records of samples, gathered one record at a time: what the distributions are drawn from.

A record may be a stranger's: only finite numbers and short words are taken, and no more series than a recipe makes.
"""

from array import array
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bokehsynth.errors import DataError
from bokehsynth.untrusted_files import parse_json

MAX_SERIES = 96
"""Numbers or words by name; the chain of Real-ESRGAN has 40."""
MAX_WORDS = 200
"""Different words of a series that are counted by themselves; the rest are counted together."""
MAX_PARTS = 32
"""Steps of a degradation, and foregrounds and assets of a sample, that are looked at."""
MAX_ASSETS = 200_000
"""Different assets whose samples are counted."""
MAX_ID = 200
"""Characters of an asset's name; what is longer is none of ours, and not counted."""
MAX_WORD = 100
"""Characters of a word, and of the name of a leaf, that are kept."""
_LARGEST = 1e12
_OTHERS = "others"
_META = ("blur", "radius_max", "focus")
_CAMERA = ("focal_length_mm", "f_number", "sensor_width_mm", "near_m", "focus_m")
_UNTOLD = ("kind", "seed", "relative_to")
"""Keys of a step that say nothing about a distribution."""


@dataclass
class RecordNumbers:
    """What the records of some samples hold."""

    samples: int = 0
    """Records that were read."""
    series: dict[str, "array[float]"] = field(default_factory=dict)
    """Values by name, as `blur` or `jpeg 1: quality`; a sample may add none or several."""
    words: dict[str, Counter[str]] = field(default_factory=dict)
    """Samples by word, by name, as `lens` or `blur 1: family`."""
    assets: Counter[str] = field(default_factory=Counter)
    """Samples by the id of an asset that they show."""
    licences: Counter[str] = field(default_factory=Counter)
    """Samples by a licence in them."""
    redrawn: int = 0
    """Samples whose first draw was not used."""
    unread: int = 0
    """Records whose `draw` is no draw."""

    def add(self, meta: Mapping[str, Any], licence_of: Mapping[str, str]) -> None:
        """Take a record over; `licence_of` names the licence of an asset."""
        self.samples += 1
        self.redrawn += meta["attempt"] > 0
        shown = [name for name in dict.fromkeys(meta["assets"][:MAX_PARTS]) if len(name) <= MAX_ID]
        for name in shown:
            if name in self.assets or len(self.assets) < MAX_ASSETS:
                self.assets[name] += 1
        self.licences.update({licence_of.get(name, "not stated") for name in shown})
        for name in _META:
            self._number(name, meta[name])
        self._number("f_number", meta.get("f_number"))  # of photographed pairs; that of a camera stands in the draw
        self._word("lens", meta["aperture"])
        self._word("size", f"{meta['width']} x {meta['height']}")
        try:
            draw = parse_json(meta["draw"], "draw")
        except DataError:
            draw = None
        if isinstance(draw, dict):
            self._add_draw(draw)
        else:
            self.unread += 1

    def _add_draw(self, draw: dict[str, Any]) -> None:
        scene, camera = _table(draw, "scene"), _table(draw, "camera")
        for name in _CAMERA:
            self._number(name, camera.get(name))
        foregrounds = _list(scene, "foregrounds")
        if scene.get("kind") == "layers":
            self._number("foregrounds", len(foregrounds))
        for foreground in foregrounds:
            self._number("foreground disparity", _table(_table({"f": foreground}, "f"), "plane").get("d"))
        self._number("background disparity", _table(_table(scene, "background"), "plane").get("d"))
        seen: Counter[str] = Counter()
        leaves: dict[str, Any] = {}
        for step in _list(_table(draw, "degradation"), "steps"):
            kind = step.get("kind") if isinstance(step, dict) else None
            if isinstance(kind, str) and len(kind) < 40:
                seen[kind] += 1
                head = f"{kind} {seen[kind]}" if kind != "final" else kind
                leaves |= {f"{head}: {name}": value for name, value in _leaves(step).items()}
        for name, value in leaves.items():
            self._leaf(name, value)

    def _leaf(self, name: str, value: Any) -> None:
        if isinstance(value, bool):
            self._word(name, "yes" if value else "no")
        elif isinstance(value, str):
            self._word(name, value)
        else:
            self._number(name, value)

    def _number(self, name: str, value: Any) -> None:
        if type(value) in {int, float} and abs(value) <= _LARGEST and self._has_room(name):
            self.series.setdefault(name, array("d")).append(value)

    def _word(self, name: str, word: str) -> None:
        if self._has_room(name):
            counter = self.words.setdefault(name, Counter())
            word = word[:MAX_WORD]
            counter[word if word in counter or len(counter) < MAX_WORDS else _OTHERS] += 1

    def _has_room(self, name: str) -> bool:
        return name in self.series or name in self.words or len(self.series) + len(self.words) < MAX_SERIES


def _table(record: Mapping[str, Any], name: str) -> dict[str, Any]:
    found = record.get(name)
    return found if isinstance(found, dict) else {}


def _list(record: Mapping[str, Any], name: str) -> list[Any]:
    found = record.get(name)
    return found[:MAX_PARTS] if isinstance(found, list) else []


def _leaves(step: Mapping[str, Any]) -> dict[str, Any]:
    """Names and values of a step, one value by name; of a step that was skipped the word `none`."""
    found: dict[str, Any] = {}
    for name, value in list(step.items())[:MAX_PARTS]:
        if name in _UNTOLD:
            continue
        if name == "kernel":
            found["family"] = value.get("family", "?") if isinstance(value, dict) else "none"
        if isinstance(value, dict):
            found |= {inner[:MAX_WORD]: leaf for inner, leaf in list(value.items())[:MAX_PARTS] if inner != "family"}
        elif name == "family" and value is None:
            found[name] = "none"
        else:
            found[name[:MAX_WORD]] = value
    return found
