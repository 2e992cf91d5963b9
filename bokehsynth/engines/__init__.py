"""Where and when work runs: an engine calls a picklable task for each spec and reports what happened.

An engine knows neither shards nor pixels. It retries what died without a word, and hands on what a task raised.
"""

from bokehsynth.engines.events import Done, Event, Failed, Progress, Report, Task
from bokehsynth.engines.local import default_workers, run_local

__all__ = ["Done", "Event", "Failed", "Progress", "Report", "Task", "default_workers", "run_local"]
