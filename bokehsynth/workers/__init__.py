"""Where and when work runs: an engine calls a picklable task for each spec and reports what happened.

An engine knows neither shards nor pixels. It tries again what died without a word, ends what hangs, hands on what a
task raised, and stops cleanly when it is told to.
"""

from bokehsynth.workers.events import (
    Abandoned,
    Died,
    Done,
    Event,
    Failed,
    Progress,
    Remark,
    Report,
    Task,
    ends_worker,
)
from bokehsynth.workers.pool import LocalEngine, default_workers
from bokehsynth.workers.timeouts import Patience

__all__ = [
    "Abandoned",
    "Died",
    "Done",
    "Event",
    "Failed",
    "LocalEngine",
    "Patience",
    "Progress",
    "Remark",
    "Report",
    "Task",
    "default_workers",
    "ends_worker",
]
