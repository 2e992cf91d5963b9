"""YAML 1.2 read strictly into a pydantic model: every fault in one go, with file, line and the nearest valid name.

ruamel.yaml reads `1e-4` as a number, refuses a key given twice, and knows the line of every key.
"""

import dataclasses
import difflib
import io
import types
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.constructor import DuplicateKeyError
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.scanner import RoundTripScanner, Scanner

from bokehsynth.config.fault_words import did_you_mean, said_once
from bokehsynth.errors import DataError, RecipeError
from bokehsynth.stores import StoredPath
from bokehsynth.untrusted_files import read_text

MAX_BYTES = 1 << 20
"""Bytes of a file."""
MAX_TOKENS = 60_000
"""Tokens of a file, of which a value in a list has two to three: as many take some seconds."""
MAX_DEPTH = 64
"""Levels of a file: the time to read brackets in brackets grows with the square of their number."""
MAX_NODES = 1_000_000
"""Values of a file with every alias replaced by what its anchor holds: nine anchors of nine are 387 million."""

ModelT = TypeVar("ModelT", bound=BaseModel)

Place = tuple[str | int, ...]
"""Keys and list positions from the top of a file down to a value."""


def load_yaml(path: str | StoredPath, model: type[ModelT], overrides: Sequence[str] = ()) -> ModelT:
    """Read a YAML file into `model`.

    `overrides` are `KEY=VALUE` strings, KEY a dotted path, VALUE read as YAML 1.2; they replace what the file says.
    Raises RecipeError with all faults: file, line, dotted path, the rule, and the nearest valid name.
    """
    path = Path(path) if isinstance(path, str) else path
    try:
        return _load(path, model, overrides)
    except RecursionError:
        raise RecipeError(f"{path}: is nested too deeply") from None
    except MemoryError:
        raise RecipeError(f"{path}: takes more memory to read than there is") from None
    except (ValueError, OverflowError) as error:  # of a number with thousands of digits, a date that is none
        if isinstance(error, RecipeError):
            raise
        fault = (str(error).splitlines() or [""])[0]
        raise RecipeError(f"{path}: holds a value that cannot be read: {fault}") from None


def _load(path: StoredPath, model: type[ModelT], overrides: Sequence[str]) -> ModelT:
    data = _read(path)
    set_places: dict[Place, str] = {}
    for override in overrides:
        set_places[_set(data, override)] = override
    if _too_many(data):
        raise RecipeError(f"{path}: holds more than {MAX_NODES:,} values once its anchors are written out")
    try:
        return model.model_validate(_plain(data))
    except ValidationError as error:
        lines = _describe(error, data, model, path, set_places)
        raise RecipeError("\n".join(lines)) from None


def dump_yaml(value: Mapping[str, Any], head: str = "") -> str:
    """Write a value as YAML with `head` as a first comment line; the same text for the same value."""
    stream = io.StringIO()
    writer = YAML(typ="rt", pure=True)
    writer.default_flow_style = False
    writer.width = 120
    writer.dump(value, stream)
    return (f"# {head}\n" if head else "") + stream.getvalue()


class _TooMuchError(YAMLError):
    """More levels or tokens than a file may have."""


class _Bounded:
    """Stops a scanner of ruamel.yaml at MAX_DEPTH and MAX_TOKENS: what comes after it would take its time first."""

    def fetch_more_tokens(self) -> Any:
        """Scan the next token."""
        if max(self.flow_level, len(self.indents)) > MAX_DEPTH:  # type: ignore[attr-defined]
            raise _TooMuchError(f"is nested more than {MAX_DEPTH} levels deep")
        if self.tokens_taken > MAX_TOKENS:  # type: ignore[attr-defined]
            raise _TooMuchError(f"has more than {MAX_TOKENS:,} tokens")
        return super().fetch_more_tokens()  # type: ignore[misc]


class _BoundedScanner(_Bounded, Scanner):
    pass


class _BoundedRoundTripScanner(_Bounded, RoundTripScanner):
    pass


def _parser(kind: str) -> YAML:
    """A parser of the kind `rt` (which knows the line of every key) or `safe`."""
    parser = YAML(typ=kind, pure=True)
    parser.Scanner = _BoundedRoundTripScanner if kind == "rt" else _BoundedScanner
    return parser


def _read(path: StoredPath) -> dict[str, Any]:
    try:
        text = read_text(path, MAX_BYTES)
    except OSError as error:
        raise RecipeError(f"{path}: cannot be read: {error.strerror or error}") from None
    except DataError as error:
        raise RecipeError(str(error)) from None
    try:
        data = _parser("rt").load(text)
    except _TooMuchError as error:
        raise RecipeError(f"{path}: {error}") from None
    except MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else "?"
        fault = (error.problem or "unreadable").splitlines()[0].rstrip(". ")
        twice = isinstance(error, DuplicateKeyError)
        text = f"{fault}: each key may stand once" if twice else f"not valid YAML: {fault}"
        raise RecipeError(f"{path}:{line}: {text}") from None
    except YAMLError as error:
        raise RecipeError(f"{path}: not valid YAML: {error}") from None
    except (RecursionError, MemoryError, ValueError, OverflowError):
        raise
    except Exception as error:  # constructors of values raise anything: KeyError for `!!bool x`
        fault = f"{type(error).__name__}: {str(error).partition(chr(10))[0][:200]}"
        raise RecipeError(f"{path}: not valid YAML: a value of it cannot be built ({fault})") from None
    if not isinstance(data, dict):
        found = "an empty file" if data is None else "a list" if isinstance(data, list) else repr(data)
        raise RecipeError(f"{path}: must be a mapping of keys to values, found {found}")
    return data


def _set(data: dict[str, Any], override: str) -> Place:
    """Put one KEY=VALUE into the data, making mappings on the way; return its place."""
    key, equals, text = override.partition("=")
    if not equals or not key.strip():
        raise RecipeError(f"--set {override}: must have the form KEY=VALUE, for example scene.blur=16")
    try:
        value = _parser("safe").load(text)
    except YAMLError as error:
        raise RecipeError(f"--set {override}: the value is not valid YAML: {error}") from None
    place: Place = ()
    node: Any = data
    parts = key.strip().split(".")
    for depth, part in enumerate(parts):
        step: str | int = int(part) if isinstance(node, list) and part.isdigit() else part
        if isinstance(node, list) and not (isinstance(step, int) and step < len(node)):
            raise RecipeError(f"--set {override}: {'.'.join(parts[:depth])} is a list of {len(node)}; give a position")
        place += (step,)
        if depth == len(parts) - 1:
            node[step] = value
        else:
            if not isinstance(node, list) and not isinstance(node.get(step), (dict, list)):
                node[step] = {}
            node = node[step]
    return place


def _too_many(value: Any) -> bool:
    """Whether `value` holds more than MAX_NODES values; each alias counts with all that its anchor holds."""
    found, waiting = 1, [value]
    while waiting:
        node = waiting.pop()
        if isinstance(node, (dict, list)):
            found += len(node)
            if found > MAX_NODES:
                return True
            waiting.extend(node.values() if isinstance(node, dict) else node)
    return False


def _plain(value: Any) -> Any:
    """Convert to built-in types: pydantic's strict mode does not take ruamel's."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    for kind in (bool, int, float, str):
        if isinstance(value, kind):
            return kind(value)
    return value


def _describe(
    error: ValidationError, data: Any, model: type[BaseModel], path: StoredPath, set_places: Mapping[Place, str]
) -> list[str]:
    found: dict[tuple[Place, str], list[tuple[str, str]]] = {}
    for fault in error.errors(include_url=False):
        place = _place(fault["loc"], data, fault["type"])
        where = _override(place, set_places) or f"{path}:{_line(data, place)}"
        messages = found.setdefault((place, where), [])
        message = (fault["type"], _message(fault, model))
        if message not in messages:
            messages.append(message)
    return [
        f"{where}: {'.'.join(map(str, place)) or 'recipe'}: {said_once(messages)}"
        for (place, where), messages in found.items()
    ]


def _override(place: Place, set_places: Mapping[Place, str]) -> str | None:
    """The --set that a fault comes from: the one that wrote the value, or wrote something below it."""
    for key, text in set_places.items():
        if place[: len(key)] == key or (place and key[: len(place)] == place):
            return f"--set {text}"
    return None


def _place(loc: tuple[Any, ...], data: Any, kind: str) -> Place:
    """The part of pydantic's location that stands in the file; tags of unions do not."""
    place: Place = ()
    node = data
    for i, step in enumerate(loc):
        last = i == len(loc) - 1
        in_list = isinstance(node, list) and isinstance(step, int) and step < len(node)
        if in_list or (isinstance(node, dict) and step in node):
            node, place = node[step], (*place, step)
        elif last and kind == "missing":
            place = (*place, step)
    return place


def _line(data: Any, place: Place) -> int:
    """Line of the key or list item at `place`, or of the nearest parent that has one."""
    line = 1
    node: Any = data
    step: Any
    for step in place:
        try:
            line = (node.lc.key(step) if hasattr(node, "keys") else node.lc.item(step))[0] + 1
        except (AttributeError, KeyError, TypeError):
            break
        node = node[step] if isinstance(node, list) or step in node else None
    return line


def _message(fault: Any, model: type[BaseModel]) -> str:
    kind, name = fault["type"], fault["loc"][-1] if fault["loc"] else ""
    if kind in {"extra_forbidden", "unexpected_keyword_argument"}:
        known = sorted({key for cls in _models_at(model, fault["loc"][:-1]) for key, _ in _hints(cls)})
        close = difflib.get_close_matches(str(name), known, n=1)
        return "unknown key" + (f"; did you mean {close[0]!r}?" if close else f"; known here: {', '.join(known)}")
    if kind in {"missing", "missing_argument"}:
        return "this key is required"
    if kind == "union_tag_invalid":
        known = [tag.strip("' ") for tag in str(fault["ctx"]["expected_tags"]).split(",")]
        hint = did_you_mean(str(fault["ctx"]["tag"]), known)
        return f"unknown kind {fault['ctx']['tag']!r}; {hint}known are: {', '.join(known)}"
    message = str(fault["msg"]).removeprefix("Value error, ")
    shown = fault.get("input")
    if kind != "value_error" and isinstance(shown, (str, int, float, bool, type(None))):
        message += f", got {shown!r}"
    return message


def _models_at(model: type[BaseModel], loc: Sequence[Any]) -> list[type]:
    """The model classes that may stand at a location of pydantic's."""
    current: list[type] = [model]
    for step in loc:
        named = [hint for cls in current for name, hint in _hints(cls) if name == step]
        if named:
            current = [cls for hint in named for cls in _models_in(hint)]
        elif isinstance(step, str):  # the tag of a discriminated union: keep the class it names
            current = [cls for cls in current if _has_tag(cls, step)] or current
    return current


def _hints(cls: Any) -> Iterator[tuple[str, Any]]:
    if issubclass(cls, BaseModel):
        yield from ((name, field.annotation) for name, field in cls.model_fields.items())
    else:
        yield from ((field.name, field.type) for field in dataclasses.fields(cls))


def _models_in(hint: Any) -> Iterator[type]:
    if isinstance(hint, type) and (issubclass(hint, BaseModel) or dataclasses.is_dataclass(hint)):
        yield hint
    elif get_origin(hint) is Annotated:
        yield from _models_in(get_args(hint)[0])
    elif get_origin(hint) in {Union, types.UnionType, list, tuple, dict}:
        for part in get_args(hint):
            yield from _models_in(part)


def _has_tag(cls: type, tag: str) -> bool:
    return any(get_origin(hint) is Literal and tag in get_args(hint) for name, hint in _hints(cls) if name == "kind")
