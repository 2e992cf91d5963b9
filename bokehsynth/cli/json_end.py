"""--json: one JSON object at stdout says how a command ended; all other text goes to stderr.

`{"command": "verify", "exit_code": 1, "error": "...", "result": {...}}`: `error` is null where there was none, `result`
holds what the command recorded until then. It is printed at every end but a kill.
"""

import sys
from collections.abc import Sequence
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
    error: str | None = None
    stdout: TextIO | None = field(default=None, init=False)
    """Where the object goes; None where none was asked for."""

    def __post_init__(self) -> None:
        FACTS.clear()
        if OPTION in self.words:
            self.stdout, sys.stdout = sys.stdout, sys.stderr

    def print(self, exit_code: int) -> None:
        """Print the object, if one was asked for."""
        if self.stdout is None:
            return
        sys.stdout = self.stdout
        command = next((word for word in self.words if not word.startswith("-")), None)
        echo(canonical_json({"command": command, "exit_code": exit_code, "error": self.error, "result": FACTS}))


def json_option() -> click.Option:
    """The option, which `JsonEnd` has seen before click did."""
    words = "Say how it ended as one JSON object at stdout; all other text goes to stderr."
    return click.Option([OPTION], is_flag=True, expose_value=False, help=words)
