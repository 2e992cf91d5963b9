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
from bokehsynth.workers.line_children import ChildEnded, ask_all
from bokehsynth.workers.pool import LocalEngine, usable_cpus
from bokehsynth.workers.timeouts import TimeoutPolicy
from bokehsynth.workers.worker import request_parent_death_signal

__all__ = [
    "Cancelled",
    "ChildEnded",
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
    "ask_all",
    "is_fatal_to_worker",
    "request_parent_death_signal",
    "usable_cpus",
]
