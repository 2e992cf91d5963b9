"""Words for the faults that pydantic finds at one place of a file, where its own speak of branches and types."""

import difflib
from collections.abc import Iterable, Sequence

_BEGINNING = "Input should be "
_TYPES = {
    "a valid integer": "a whole number",
    "a valid number": "a number",
    "a valid string": "text",
    "a valid boolean": "true or false",
    "a valid list": "a list",
    "a valid tuple": "a list",
    "a valid dictionary": "a mapping",
}


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`did you mean 'x'? ` for the known word that is like this one; empty where none is."""
    close = difflib.get_close_matches(word, list(known), n=1)
    return f"did you mean {close[0]!r}? " if close else ""


def said_once(faults: Sequence[tuple[str, str]]) -> str:
    """One message for what is wrong at one place, from pydantic's (type, message) of each branch that was tried.

    Where a branch took the value's type, the others say nothing; where none did, any of their types would do.
    """
    mismatches = [message for kind, message in faults if kind.endswith("_type") or kind == "literal_error"]
    others = [message for kind, message in faults if message not in mismatches]
    if others:
        return "; or ".join(others)
    parts, shown = [], ""
    for message in mismatches:
        wanted, _, shown = message.partition(", got ")
        wanted = wanted.removeprefix(_BEGINNING)
        parts.append(_TYPES.get(wanted, wanted))
    return f"must be {' or '.join(parts)}, got {shown}" if shown else "; or ".join(mismatches)
