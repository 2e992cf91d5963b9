"""The command line: options in, a call of the library, exit codes out. Nothing here is worth testing without click."""

import contextlib
import errno
import io
import os
import select
import sys
import tempfile
import traceback
import warnings
from pathlib import Path
from typing import Any

import click

from bokehsynth.cli import (
    assets,
    audit,
    calibrate,
    estimate,
    export,
    generate,
    preview,
    publish,
    recipes,
    render,
    replay,
    report,
)
from bokehsynth.cli.json_end import JsonEnd, json_option
from bokehsynth.cli.run import echo
from bokehsynth.errors import BokehsynthError, printable, shortened, user_error
from bokehsynth.version import __version__

_LINES = "\n\t"
"""Characters of our own messages that stay as they are."""

COMMANDS = [
    generate.generate, preview.preview, estimate.estimate, assets.assets, generate.verify, generate.extend,
    audit.audit, replay.replay, report.report, export.export, publish.publish, generate.finalize, generate.merge,
    render.render, calibrate.calibrate, preview.degrade, recipes.recipes, recipes.schema,
]  # fmt: skip


class _ReaderHasGoneError(Exception):
    """The reader of the output has seen enough."""


class _Group(click.Group):
    """Lists commands in the order a newcomer needs them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command. What ends it and is no Exception, as an exit, comes from a user's class: an error.

        So is a pipe that breaks elsewhere than at our output, which click would pass over in silence.
        """
        try:
            return super().invoke(ctx)
        except BrokenPipeError as error:
            if _reader_has_gone():
                raise _ReaderHasGoneError from error  # of a BrokenPipeError click makes an exit with code 1
            raise BokehsynthError(f"a process at the other end of a pipe has gone ({error})") from error
        except Exception:
            raise
        except BaseException as raised:
            raise user_error(raised) from raised


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="bokehsynth")
@click.option(
    "--picture-cache",
    envvar="BOKEHSYNTH_PICTURE_CACHE",
    metavar="SIZE|off",
    help="Most that is kept of reduced and of drawn pictures in the user's cache, such as 5GB  [default: 20GB, a tenth "
    "of the disk at most]. Changes no byte.",
)
def cli(picture_cache: str | None) -> None:
    """Make bokeh training data: scenes through a thin lens, degraded, in WebDataset shards.

    \b
    First steps:
      bokehsynth generate quickstart --out demo    a small data set and demo/preview.png
      bokehsynth recipes                           the packaged recipes
      bokehsynth preview my.yaml --out sheet.png   look before you make thousands

    \b
    Exit codes: 0 done; 1 unexpected error or damage found; 2 usage, recipe or device; 3 done, with
    assets or samples in quarantine; 4 disk or permission; 5 locked by another run; 6 too many
    failures; 130, 143 interrupted.
    """
    if picture_cache is not None:
        from bokehsynth.assets.load import picture_cache as kept

        os.environ[kept.SETTING] = picture_cache  # workers inherit it
        kept.size_setting(kept.SETTING, kept.USUAL_BYTES)


for _command in COMMANDS:
    _command.params.append(json_option())
    cli.add_command(_command)


def main() -> None:
    """Entry point of the console script: errors as messages, interrupts as 130 and 143, never 0."""
    _open_standard_streams()
    warnings.simplefilter("default")
    end = JsonEnd(sys.argv[1:], cli.commands.keys())
    try:
        code = cli.main(standalone_mode=False)
        code = code if isinstance(code, int) else 0
        end.error = "interrupted" if code in {130, 143} else None
    except SystemExit as done:  # of click, which completes words for a shell before it runs a command
        code = done.code if isinstance(done.code, int) else 0
    except click.ClickException as error:
        with contextlib.suppress(OSError):
            error.show()
        code, end.error = error.exit_code, error.format_message()
    except BokehsynthError as error:
        end.error = shortened(printable(str(error), keep=_LINES))
        echo(f"error: {end.error}", err=True)
        code = error.exit_code
    except (KeyboardInterrupt, click.Abort):
        end.error = "interrupted"
        echo(end.error, err=True)
        code = 130
    except (BrokenPipeError, _ReaderHasGoneError):  # as with `| head`; with --json the object says what was done
        code, end.error = (0, None) if end.stdout is None else (4, "the reader of the text has gone")
    except OSError as error:  # of an output stream: whatever touches files of ours says so itself
        advice = "; raise the limit (`ulimit -n`) to 64 or more" if error.errno == errno.EMFILE else ""
        end.error = f"{error.filename or 'output'}: {error.strerror}{advice}"
        echo(f"error: {end.error}", err=True)
        code = 4
    except Exception as error:
        missing = _missing_requirement(error)
        end.error = missing or _unexpected(error)
        echo(f"error: {end.error}", err=True)
        code = 2 if missing else 1
    _leave(end.print(code))


def _missing_requirement(error: Exception) -> str:
    """Return what to install, where a package that bokehsynth requires cannot be imported."""
    if not isinstance(error, ImportError):
        return ""
    frames = traceback.extract_tb(error.__traceback__)
    last = Path(frames[-1].filename)
    wanted = {(error.name or "").partition(".")[0], last.stem, last.parent.name}
    if "cv2" in wanted:
        return (
            f"OpenCV cannot be imported ({error}). opencv-python and opencv-python-headless share one folder: where "
            "both were installed, removing or updating one breaks the other. `pip uninstall opencv-python`, then "
            "`pip install --force-reinstall --no-deps opencv-python-headless`"
        )
    names = wanted & {"numpy", "numba", "llvmlite", "PIL", "pymatting", "scipy", "OpenEXR", "pydantic", "ruamel"}
    return f"{names.pop()} cannot be imported ({error}): `pip install --force-reinstall bokehsynth`" if names else ""


def _reader_has_gone() -> bool:
    """Whether stdout or stderr is a pipe without a reader."""
    poll = select.poll()
    for number in (1, 2):
        poll.register(number, 0)  # errors are always reported
    return any(found & (select.POLLERR | select.POLLHUP) for _, found in poll.poll(0))


def _unexpected(error: Exception) -> str:
    """One line of what happened and where; the traceback goes to a file that it names."""
    trace = traceback.extract_tb(error.__traceback__)
    frame = trace[-1]
    first = (str(error).splitlines() or [""])[0][:300]
    line = printable(f"unexpected {type(error).__name__} in {Path(frame.filename).name}:{frame.lineno}: {first}")
    try:
        with tempfile.NamedTemporaryFile("w", prefix="bokehsynth-", suffix=".log", delete=False, encoding="utf-8",
                                         errors="backslashreplace") as log:  # fmt: skip
            log.write(f"{sys.argv}\n{''.join(traceback.format_exception(error))}")
    except OSError as refused:
        return f"{line} (no place for the traceback: {refused.strerror})"
    return f"{line} (traceback: {log.name})"


def _open_standard_streams() -> None:
    """A stream that came closed would give its number to the next file, and stray output would land in a shard."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, "r" if number == 0 else "w", closefd=False))
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="backslashreplace")  # of a name that the terminal's encoding cannot say


def _leave(code: int) -> None:
    """Exit with `code`, whatever the streams still hold: Python would turn a failing flush into 120."""
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except (OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    sys.exit(code)
