"""Every error that bokehsynth raises on purpose, and the exit code each one means at the command line.

    BokehsynthError                1  an unexpected failure with a known cause
    ├── UsageError                 2  an argument, option or value that cannot work
    │   ├── RecipeError            2  the recipe file (line and dotted path in the message)
    │   ├── DeviceError            2  a device that is not there
    │   └── ChangedError           2  the output belongs to another recipe, asset list or machine
    ├── DataError                  1  shards that are not what their markers promise
    │   ├── AssetError             3  one picture that cannot be used
    │   ├── NoDatasetError         2  a data set that is not there, or a folder that is none
    │   └── UnsoundError           1  a sample that fails the sample checks
    ├── StorageError               4  disk full, no permission, not a directory
    ├── LockedError                5  another living run owns these shards
    └── FailureBudgetError         6  too many shards failed

A message says the rule, the value, the file, and what to do about it.
"""

import signal


def printable(text: str, keep: str = "") -> str:
    """Escape what a terminal would act upon (controls, marks of direction), except the characters in `keep`."""
    return "".join(
        char if char.isprintable() or char in keep else char.encode("unicode_escape").decode() for char in text
    )


def shortened(text: str, most: int = 1500) -> str:
    """Lines of more than `most` characters without their middle: a message may quote a value of any length."""
    lines = (
        line if len(line) <= most else f"{line[: most - 500]} [{len(line) - most:,} characters] {line[-500:]}"
        for line in text.split("\n")
    )
    return "\n".join(lines)


class BokehsynthError(Exception):
    """Base of the tree; `exit_code` is what the command line returns for it."""

    exit_code = 1


class UsageError(BokehsynthError, ValueError):
    """An argument outside its documented type, shape or range."""

    exit_code = 2


class RecipeError(UsageError):
    """A recipe that does not follow the schema; the message lists every fault with file and line."""


class DeviceError(UsageError):
    """A compute device that was asked for and is not there.

    `lost` tells that it failed under this process: only another process can use it again.
    """

    lost = False


class ChangedError(UsageError):
    """An output directory that was made by another recipe, from other assets or on another kind of machine."""


class DataError(BokehsynthError):
    """Stored data that is damaged or incomplete."""


class NoDatasetError(DataError):
    """A path without a data set: the call was wrong, and nothing is damaged."""

    exit_code = 2


class AssetError(DataError):
    """One asset that cannot be read or used; `reason` is a short word for the quarantine list."""

    exit_code = 3

    def __init__(self, message: str, reason: str = "unreadable") -> None:
        super().__init__(message)
        self.reason = reason


class UnsoundError(DataError):
    """A sample that shows nothing or contradicts itself; `reason` is a short word for the quarantine list."""

    def __init__(self, message: str, reason: str = "unsound") -> None:
        super().__init__(message, reason)
        self.reason = reason

    def __str__(self) -> str:
        return str(self.args[0])


class StorageError(BokehsynthError):
    """A file cannot be written: disk full, read-only, not permitted. `full` tells that the space ran out."""

    exit_code = 4
    full = False


class LockedError(BokehsynthError):
    """A living run already works on these shards."""

    exit_code = 5


class FailureBudgetError(BokehsynthError):
    """More shards failed than a run may lose."""

    exit_code = 6


def user_error(raised: BaseException) -> Exception:
    """Return what code of a user's class raised, as an error: an Exception as it is, the rest as one with its text.

    An exit that such code asks for is not ours, nor is the GeneratorExit, CancelledError or panic that it lets pass. An
    interrupt from the keyboard is raised on; where SIGINT is ignored, as in workers, it cannot be one.
    """
    if isinstance(raised, Exception):
        return raised
    if isinstance(raised, KeyboardInterrupt) and signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        raise raised
    if isinstance(raised, SystemExit):
        return BokehsynthError(f"code of a class of one's own asked to exit: {raised}")
    return BokehsynthError(f"code of a class of one's own raised {type(raised).__name__}: {raised}")
