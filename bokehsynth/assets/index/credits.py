"""The table beside a source's pictures that says who made each of them: author, address, title and licence."""

import csv
import io
import re
import unicodedata
from dataclasses import dataclass
from pathlib import Path

from bokehsynth.errors import DataError, RecipeError
from bokehsynth.untrusted_files import read_text

MAX_TABLE = 256 << 20
"""Bytes of a table: about a million pictures."""
MAX_VALUE = 1000
"""Characters of one value."""

MAX_LICENCES = 1000
"""Unlike licences of one table: the card has a line for each."""

_LICENCE = re.compile(r"[\w .,:;+()/-]{0,100}")
_ADDRESS = re.compile(r"https?://[!#-;=?-\[\]-{}~]+")
"""Printable ASCII without what ends an address in Markdown."""
_DIRECTIONS = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""Characters that turn the direction of the text around them."""

_CONTROLS = ("Cc", "Cs", "Zl", "Zp")
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
    Raises RecipeError, naming file and line, for another table, a picture that stands in it twice, a url or
    licence that is none, more than MAX_LICENCES of these, and a value longer than MAX_VALUE or with control characters.
    """
    try:
        text = read_text(path, MAX_TABLE)
    except FileNotFoundError:
        raise RecipeError(f"{path}: there is no such table of credits; write one, or leave out `credits`") from None
    except (OSError, DataError) as error:
        raise RecipeError(f"{path}: the table of credits cannot be read ({error})") from None
    rows = csv.reader(io.StringIO(text.removeprefix("\ufeff")), strict=True)
    credits_of: dict[str, Credit] = {}
    licences: set[str] = set()
    try:
        columns = _columns(path, next(rows, []))
        for row in rows:
            if row:
                name, credit = _read_row(f"{path}: line {rows.line_num}", columns, row)
                if name in credits_of:
                    raise RecipeError(f"{path}: line {rows.line_num}: {name!r} has a line before this one")
                credits_of[name] = credit
                licences.add(credit.licence)
                if len(licences) > MAX_LICENCES:
                    raise RecipeError(
                        f"{path}: names more than {MAX_LICENCES} licences; is another column under `licence`?"
                    )
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
        if len(value) > MAX_VALUE:
            raise RecipeError(f"{where}: {column} is longer than {MAX_VALUE} characters")
        if any(unicodedata.category(one) in _CONTROLS or one in _DIRECTIONS for one in value):
            raise RecipeError(f"{where}: {column} holds control characters")
    name, address, licence = values.pop("file"), values.get("url", ""), values.get("licence", "")
    if not name:
        raise RecipeError(f"{where}: names no file")
    if address and not _ADDRESS.fullmatch(address):
        raise RecipeError(f"{where}: url must be an http:// or https:// address in ASCII, got {address!r:.80}")
    if not _LICENCE.fullmatch(licence):
        raise RecipeError(
            f"{where}: licence must be a name of at most 100 letters, digits and -+.,:;/(), got {licence!r:.80}"
        )
    return name.removeprefix("./"), Credit(**values)
