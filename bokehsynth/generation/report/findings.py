"""What a report says of a data set, before it is laid out."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from bokehsynth.generation.report.event_log_facts import EventFacts
from bokehsynth.generation.report.record_numbers import RecordNumbers
from bokehsynth.generation.report.sample_cards import Card
from bokehsynth.generation.report.side_files import AssetFacts, QuarantineFacts


@dataclass
class Findings:
    """All that a page shows of a set."""

    name: str
    record: Mapping[str, Any]
    """`dataset.json`."""
    splits: dict[str, tuple[int, int, int]]
    """Samples, shards and bytes by split."""
    numbers: RecordNumbers
    assets: AssetFacts
    quarantine: QuarantineFacts
    events: EventFacts
    recipe: tuple[str, str]
    """Its text, and what is wrong with it."""
    steps: list[dict[str, int]] = field(default_factory=list)
    """Samples per split before each extension."""
    cards: list[Card] = field(default_factory=list)
    counts: dict[str, npt.NDArray[np.int64]] = field(default_factory=dict)
    """Pixels of the shown samples by count of a map, [65536]."""
    scales: dict[str, float] = field(default_factory=dict)
    """Value of a count, of the maps in `counts`."""
    spot_fault: str = ""

    @property
    def samples(self) -> int:
        """Samples of all splits."""
        return sum(samples for samples, _, _ in self.splits.values())
