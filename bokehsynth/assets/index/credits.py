"""The table beside a source's pictures that says who made each of them: author, address, title and licence."""

import csv
import io
from dataclasses import dataclass
from pathlib import Path

from bokehsynth.errors import DataError, RecipeError
from bokehsynth.untrusted_files import read_text

MAX_TABLE = 256 << 20
"""Bytes of a table: about a million pictures."""
MAX_VALUE = 1000
"""Characters of one value."""

_OPTIONAL = ("author", "url", "title", "licence")


@dataclass(frozen=True, kw_only=True)
class Credit:
    """What a table says of one picture; empty where it says nothing."""

    author: str = ""
    url: str = ""
    title: str = ""
    licence: str = ""


NO_CREDIT = Credit()


def read_credits(path: Path) -> dict[str, Credit]:
    """The credits by picture, the path of its file relative to the folder of the table, with `/`.

    The table is a .csv file in UTF-8 with a line of column names: `file` and any of author, url, title and licence.
    Raises RecipeError, naming file and line, for another table, a picture that stands in it twice, a url that is no
    https:// or http:// address, and a value that is longer than MAX_VALUE or holds control characters.
    """
    try:
        text = read_text(path, MAX_TABLE)
    except FileNotFoundError:
        raise RecipeError(f"{path}: there is no such table of credits; write one, or leave out `credits`") from None
    except (OSError, DataError) as error:
        raise RecipeError(f"{path}: the table of credits cannot be read ({error})") from None
    rows = csv.reader(io.StringIO(text.removeprefix("\ufeff")), strict=True)
    credits_of: dict[str, Credit] = {}
    try:
        columns = _columns(path, next(rows, []))
        for row in rows:
            if row:
                name, credit = _read_row(f"{path}: line {rows.line_num}", columns, row)
                if name in credits_of:
                    raise RecipeError(f"{path}: line {rows.line_num}: {name!r} has a line before this one")
                credits_of[name] = credit
    except csv.Error as error:
        raise RecipeError(f"{path}: line {rows.line_num}: is no CSV ({error})") from None
    return credits_of


def _columns(path: Path, head: list[str]) -> list[str]:
    columns = [name.strip().lower() for name in head]
    wrong = [name for name in columns if name not in ("file", *_OPTIONAL)]
    if wrong or "file" not in columns or len({*columns}) < len(columns):
        said = f"{wrong[0]!r:.60} is none of them" if wrong else "each once, and `file` always"
        raise RecipeError(f"{path}: the first line names the columns: file, {', '.join(_OPTIONAL)} ({said})")
    return columns


def _read_row(where: str, columns: list[str], row: list[str]) -> tuple[str, Credit]:
    if len(row) != len(columns):
        raise RecipeError(f"{where}: has {len(row)} values for {len(columns)} columns")
    values = {column: value.strip() for column, value in zip(columns, row, strict=True)}
    for column, value in values.items():
        if len(value) > MAX_VALUE or not value.isprintable():
            raise RecipeError(f"{where}: {column} is longer than {MAX_VALUE} characters, or holds control characters")
    name, address = values.pop("file"), values.get("url", "")
    if not name:
        raise RecipeError(f"{where}: names no file")
    if address and not address.startswith(("https://", "http://")):
        raise RecipeError(f"{where}: url must begin with https:// or http://, got {address!r:.80}")
    return name.removeprefix("./"), Credit(**values)
