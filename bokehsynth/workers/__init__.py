"""Where and when work runs: an engine calls a picklable task for each spec and yields events.

An engine knows neither shards nor pixels. It retries a spec whose worker died, ends workers that time out, hands on
what a task raised, and stops cleanly on a signal.
"""

from bokehsynth.workers.events import (
    Cancelled,
    Died,
    Done,
    Event,
    Failed,
    Progress,
    Report,
    Task,
    WorkerWarning,
    is_fatal_to_worker,
)
from bokehsynth.workers.pool import LocalEngine, default_workers
from bokehsynth.workers.timeouts import TimeoutPolicy

__all__ = [
    "Cancelled",
    "Died",
    "Done",
    "Event",
    "Failed",
    "LocalEngine",
    "Progress",
    "Report",
    "Task",
    "TimeoutPolicy",
    "WorkerWarning",
    "default_workers",
    "is_fatal_to_worker",
]
