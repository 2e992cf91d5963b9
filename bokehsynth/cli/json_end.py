"""--json: one JSON object at stdout says how a command ended; all other text goes to stderr.

`{"command": "verify", "exit_code": 1, "error": "...", "result": {...}}`: `error` is null where there was none, `result`
holds what the command recorded until then. It is printed at every end but a kill, which a second signal is, too, and
SIGTERM to a command that makes no set.
"""

import os
import sys
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import TextIO

import click

from bokehsynth.cli.facts import FACTS
from bokehsynth.cli.run import echo
from bokehsynth.files import canonical_json

OPTION = "--json"


@dataclass
class JsonEnd:
    """Holds back what a command would say at stdout."""

    words: Sequence[str]
    """Of the command line."""
    commands: Collection[str]
    """Names of all commands."""
    error: str | None = None
    stdout: TextIO | None = field(default=None, init=False)
    """Where the object goes; None where none was asked for."""
    _descriptor: int = field(default=-1, init=False)
    """A second one of the file that stdout is."""

    def __post_init__(self) -> None:
        FACTS.clear()
        if OPTION in self.words:
            self.stdout, sys.stdout = sys.stdout, sys.stderr
            self._descriptor = os.dup(1)
            os.dup2(2, 1)  # what workers and libraries print goes to stderr, too

    def print(self, exit_code: int) -> int:
        """Print the object, if one was asked for, and return the exit code: 4 where it would be 0 but there is no room.

        A reader of the object that has gone changes nothing.
        """
        if self.stdout is None:
            return exit_code
        os.dup2(self._descriptor, 1)
        os.close(self._descriptor)
        sys.stdout = self.stdout
        command = next((word for word in self.words if word in self.commands), None)
        try:
            click.echo(
                canonical_json({"command": command, "exit_code": exit_code, "error": self.error, "result": FACTS})
            )
        except BrokenPipeError:
            return exit_code
        except OSError as error:
            echo(f"error: stdout: {error.strerror}; the object of {OPTION} is not whole", err=True)
            return exit_code or 4
        return exit_code


def json_option() -> click.Option:
    """The option, which `JsonEnd` has seen before click did."""
    words = "Say how it ended as one JSON object at stdout; all other text goes to stderr."
    return click.Option([OPTION], is_flag=True, expose_value=False, help=words)
