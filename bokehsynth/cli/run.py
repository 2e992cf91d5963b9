"""Running a command that makes a data set: its words, its exit code, and what a signal does to it."""

import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bokehsynth.workers.signals import Stopped, stop_on_signals

if TYPE_CHECKING:
    from bokehsynth.generation.generate import Outcome


def supervise(work: "Callable[..., Outcome]", out: Path, *, engine: str, quiet: bool, **how: Any) -> None:
    """Call `work(say, progress, **how)`, say how it ended, and exit with 0, 3, 130 or 143; errors pass through.

    The data are what counts: words that cannot be written (a full disk, a reader that has gone) change nothing.
    """
    line = shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])
    try:
        with stop_on_signals(f"stopped at once; what was committed stays. To go on: {line}"):
            outcome = work(say=lambda message: tell(message, err=True), progress=not quiet, **how)
    except Stopped as stop:
        tell(f"\ninterrupted; what was committed stays. To go on: {line}", err=True)
        sys.exit(128 + stop.number)
    if not quiet:
        tell(_closing_words(out, outcome))
    if outcome.exit_code:
        tell(_about_quarantine(out, outcome), err=True)
    sys.exit(outcome.exit_code)


def tell(message: str, err: bool = False) -> None:
    """Say something that nobody has to hear; a stdout that is full is worth a warning."""
    try:
        click.echo(message, err=err)
    except BrokenPipeError:
        pass
    except OSError as error:
        if not err:
            tell(f"warning: stdout: {error.strerror}; the data set is not affected", err=True)


def _closing_words(out: Path, outcome: "Outcome") -> str:
    if not outcome.complete:
        return f"{out}: this range is done ({outcome.made} samples made now); other ranges are still missing."
    if outcome.made == 0:
        return f"{out}: already complete, {outcome.samples} samples; nothing to do."
    return f"{out}: complete, {outcome.samples} samples. Look at {out / 'preview.png'}"


def _about_quarantine(out: Path, outcome: "Outcome") -> str:
    parts = []
    if outcome.refused:
        reasons = sorted({refused.reason for refused in outcome.refused})
        parts.append(f"{len(outcome.refused)} files in quarantine, not used ({', '.join(reasons)})")
    if outcome.given_up:
        samples = {(draw.split, draw.index) for draw in outcome.given_up}
        reasons = sorted({draw.reason for draw in outcome.given_up})
        parts.append(f"{len(samples)} samples in quarantine, drawn anew ({', '.join(reasons)})")
    listed = out / "quarantine.jsonl" if outcome.complete else out / "logs" / "events.jsonl"
    return f"{'; '.join(parts)}; see {listed}"
