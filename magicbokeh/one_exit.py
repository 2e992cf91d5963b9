"""The one way out of a command: whatever is raised ends in one line with a way out, and in the right exit code.

    BokehsynthError       its own code          click's errors              2
    missing packages      2                     an error of the system      4, where it tells its number
    Ctrl-C                130                   anything else, SystemExit   1

The traceback of an error that nothing expected is written to a file, which the line names. Output that cannot be
written (a reader that has gone, a full disk) never ends a command: the files it makes are what counts.
"""

import contextlib
import errno
import os
import re
import sys
import tempfile
import traceback
import warnings
from pathlib import Path
from typing import Any, NoReturn

import click

from bokehsynth import BokehsynthError, RecipeError
from magicbokeh.given_files import printable

_PACKAGES = {"torch", "diffusers", "transformers", "peft", "accelerate", "safetensors", "huggingface_hub"}
"""What the extra `train` brings."""
_WORKER = re.compile(r"Caught \w+ in .*\nOriginal Traceback")
"""How torch begins the message of an error of a loader's process; it holds the whole traceback."""


class _RaisedError(Exception):
    """Carries what a command raised past click, which would make exit codes of its own of some of it."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(str(error))
        self.error = error


class GuardedCommand(click.Command):
    """A command whose code cannot end the program: a SystemExit in it is an error, of whatever code."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit):
            raise
        except BaseException as error:
            raise _RaisedError(error) from error


def run(group: click.Group, program: str) -> NoReturn:
    """Run a group of commands with this process's arguments, and exit; `program` begins the names of kept files."""
    _open_standard_streams()
    warnings.simplefilter("default")
    real = sys.stdout, sys.stderr
    out, err = _Output(real[0]), _Output(real[1])
    sys.stdout, sys.stderr = out, err
    try:
        try:
            # None from a command; a number where the words were the product: help, the version
            result = group.main(standalone_mode=False)
            code = result if isinstance(result, int) else 0
        except SystemExit as end:  # of click, which completes words for a shell before it runs a command
            result, code = None, end.code if isinstance(end.code, int) else 0
        except BaseException as error:
            result, code = None, _say(error.error if isinstance(error, _RaisedError) else error, program)
        out.flush()
        if out.failed is not None and out.failed.errno != errno.EPIPE:
            _print(f"warning: stdout: {out.failed.strerror}; files are not affected")
            code = 4 if isinstance(result, int) and code == 0 else code
        err.flush()
    finally:
        sys.stdout, sys.stderr = real
    sys.exit(code)


def echo(message: str) -> None:
    """Print one line to standard output, with control characters escaped."""
    print(printable(message), flush=True)


def echo_error(message: str) -> None:
    """Print one line to standard error, with control characters escaped."""
    _print(f"error: {message}")


# --- what was raised


def _say(error: BaseException, program: str) -> int:
    """Print what was raised as one line, and return its exit code."""
    if isinstance(error, KeyboardInterrupt | click.Abort):
        _print("interrupted")
        return 130
    if isinstance(error, click.ClickException):
        vars(error)["message"] = printable(error.message, lines=True)
        error.show()
        return error.exit_code
    if isinstance(error, BokehsynthError):
        text = str(error)
        if _WORKER.match(text):
            text = _last_line(text)
        _print(f"error: {text}", lines=isinstance(error, RecipeError))
        return error.exit_code
    missing = _missing_package(error)
    if missing:
        _print(f"error: {missing}; magicbokeh needs torch and diffusers: pip install 'bokehsynth[train]'")
        return 2
    code, text = _describe(error)
    _print(f"error: {text}; {_keep_traceback(error, program)}")
    return code


def _describe(error: BaseException) -> tuple[int, str]:
    """Exit code and text of an error that nothing expected."""
    file = getattr(error, "about", None)
    where = f"{file}: " if file else ""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError" or "can't allocate" in str(error):
        advice = "close other programs, or take a smaller photo, --work-size, --tile-batch or batch"
        return 1, f"{where}not enough memory ({_last_line(str(error)) or 'MemoryError'}): {advice}"
    if isinstance(error, RecursionError):
        return 1, f"{where}something is nested too deeply ({_place(error)}); a file may be damaged, or made to do harm"
    if isinstance(error, OSError) and error.errno is not None:
        advice = "raise the limit (`ulimit -n`)" if error.errno == errno.EMFILE else "check path, permissions and room"
        name = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else file or "a file"
        return 4, f"{name}: {error.strerror or os.strerror(error.errno)} ({advice})"
    if isinstance(error, SystemExit):
        return 1, f"{where}code that this command called ended the program, by SystemExit({error.code!r:.300})"
    text = _last_line(str(error)) if _WORKER.match(str(error)) else str(error).partition("\n")[0]
    return 1, f"{where}{type(error).__name__}: {text[:500]} ({_place(error)})"


def _place(error: BaseException) -> str:
    """The line of this program, or else of a library, at which an error was raised."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if f"{os.sep}magicbokeh{os.sep}" in frame.filename] or list(frames)
    return f"{Path(own[-1].filename).name}:{own[-1].lineno}" if own else "nowhere"


def _missing_package(error: BaseException) -> str:
    """Which package of the extra `train` cannot be imported, where that is the reason; diffusers hides it in others."""
    seen: BaseException | None = error
    for _ in range(10):
        if isinstance(seen, ImportError) and str(seen.name).partition(".")[0] in _PACKAGES:
            return str(seen).partition("\n")[0]
        seen = None if seen is None else seen.__cause__ or seen.__context__
    return ""


def _last_line(text: str) -> str:
    return text.strip().rpartition("\n")[2]


def _keep_traceback(error: BaseException, program: str) -> str:
    """Write the traceback to a new file, and say where it is."""
    try:
        handle, name = tempfile.mkstemp(prefix=f"{program}-", suffix=".log")
        with open(handle, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write("".join(traceback.format_exception(error)))
    except (OSError, RecursionError, MemoryError):
        return "the traceback could not be kept: no temporary file can be written"
    return f"the traceback is in {name}, for a report of this fault"


# --- the streams


class _Output:
    """A text stream for which no write fails; the first error is kept."""

    def __init__(self, stream: Any) -> None:
        self._stream, self.failed = stream, None

    failed: OSError | None

    def write(self, text: str) -> int:
        """Write text; what the encoding lacks is escaped."""
        try:
            try:
                self._stream.write(text)
            except UnicodeEncodeError:
                coding = self._stream.encoding
                self._stream.write(text.encode(coding, "backslashreplace").decode(coding))
        except OSError as error:
            self._give_up(error)
        return len(text)

    def flush(self) -> None:
        """Flush the stream."""
        try:
            self._stream.flush()
        except OSError as error:
            self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        """Lead the rest nowhere: Python's own flush at the end would make exit code 120 of it."""
        self.failed = self.failed or error
        with contextlib.suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _print(message: str, lines: bool = False) -> None:
    print(printable(message, lines), file=sys.stderr, flush=True)


def _open_standard_streams() -> None:
    """Open streams that came closed: the next file would get their number, and words would land in it."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, "r" if number == 0 else "w", closefd=False))
