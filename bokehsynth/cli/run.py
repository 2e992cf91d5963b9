"""Runs a command that makes a data set: its messages, its exit code, and what a signal does to it."""

import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bokehsynth.cli.facts import record
from bokehsynth.stores import StoredPath
from bokehsynth.workers.signals import Stopped, stop_on_signals

if TYPE_CHECKING:
    from bokehsynth.generation.generate import GenerateResult


def supervise(work: "Callable[..., GenerateResult]", out: StoredPath, *, quiet: bool, **options: Any) -> None:
    """Call `work(say=, progress=, **options)`, print how it ended, and exit with 0, 3, 130 or 143; errors pass through.

    Messages that cannot be written (a full disk, a reader that has gone) change nothing: the data are what counts.
    """
    line = shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])
    try:
        with stop_on_signals(f"stopped at once; what was committed stays. To go on: {line}"):
            result = work(say=lambda message: echo(message, err=True), progress=not quiet, **options)
    except Stopped as stop:
        echo(f"\ninterrupted; what was committed stays. To go on: {line}", err=True)
        raise click.exceptions.Exit(128 + stop.number) from None
    record(
        out=out, samples=result.samples, made=result.made, complete=result.complete, notes=result.notes,
        quarantined_samples=len({(draw.split, draw.index) for draw in result.quarantined}),
        quarantined_files=len(result.rejected),
    )  # fmt: skip
    if not quiet:
        echo(_summary(out, result))
    if result.exit_code:
        echo(_quarantine_summary(out, result), err=True)
    raise click.exceptions.Exit(result.exit_code)


def echo(message: str, err: bool = False) -> None:
    """Print a message; a reader that has gone is ignored, a stdout that is full is worth a warning."""
    try:
        click.echo(message, err=err)
    except BrokenPipeError:
        pass
    except OSError as error:
        if not err:
            echo(f"warning: stdout: {error.strerror}; the data set is not affected", err=True)


def _summary(out: StoredPath, result: "GenerateResult") -> str:
    if not result.complete:
        return f"{out}: this range is done ({result.made} samples made now); other ranges are still missing."
    if result.made == 0:
        return f"{out}: already complete, {result.samples} samples; nothing to do."
    return f"{out}: complete, {result.samples} samples. Look at {out / 'preview.png'}"


def _quarantine_summary(out: StoredPath, result: "GenerateResult") -> str:
    parts = []
    if result.rejected:
        reasons = sorted({rejected.reason for rejected in result.rejected})
        parts.append(f"{len(result.rejected)} files in quarantine, not used ({', '.join(reasons)})")
    if result.quarantined:
        samples = {(draw.split, draw.index) for draw in result.quarantined}
        reasons = sorted({draw.reason for draw in result.quarantined})
        parts.append(f"{len(samples)} samples in quarantine, drawn anew ({', '.join(reasons)})")
    listed = out / "quarantine.jsonl" if result.complete else out / "logs" / "events.jsonl"
    return f"{'; '.join(parts)}; see {listed}"
