"""The folder of a run: the record of its start, its lock, and the check before a resume.

RUN/recipe.yaml   the resolved recipe     run.json    what must be the same when it is resumed
    checkpoints/  sheets/  tensorboard/   summary.json at the end      data/  only with `store` or a URL
"""

import fcntl
import io
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from bokehsynth import ChangedError, DataError, LockedError, StorageError, UsageError, atomic_write
from magicbokeh.given_files import read_json
from magicbokeh.recipe import TrainRecipe


class RunFolder:
    """One run on disk."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def started(self) -> bool:
        """Whether a run was begun here."""
        return (self.path / "run.json").is_file()

    def check_free(self) -> None:
        """UsageError unless a new run may begin here."""
        if self.started:
            raise UsageError(f"{self.path}: a run was begun here; --resume goes on with it, another --out begins anew")
        if self.path.exists() and (not self.path.is_dir() or not self._unused()):
            raise UsageError(f"{self.path}: is there already and is no run; choose another --out or remove it")

    def _unused(self) -> bool:
        """Whether the folder holds no more than a run leaves that ended before it began: its lock, no sheets."""
        sheets = self.path / "sheets"
        names = {path.name for path in self.path.iterdir()}
        return names <= {"sheets", ".lock"} and not (sheets.is_dir() and any(sheets.iterdir()))

    def record(self) -> dict[str, Any]:
        """The content of run.json."""
        try:
            return read_json(self.path / "run.json")
        except (UsageError, DataError) as error:
            raise DataError(f"{error}; begin anew in another folder") from None

    def begin(self, recipe: TrainRecipe, facts: Mapping[str, Any]) -> None:
        """Write the recipe and everything that must be the same when the run is resumed."""
        content = {"recipe": recipe.identity(), **facts}
        stream = io.StringIO()
        writer = YAML(typ="rt", pure=True)
        writer.dump(recipe.model_dump(mode="json"), stream)
        atomic_write(self.path / "recipe.yaml", stream.getvalue())
        atomic_write(self.path / "run.json", json.dumps(content, sort_keys=True, indent=1) + "\n")

    def check_same(self, recipe: TrainRecipe, facts: Mapping[str, Any]) -> None:
        """ChangedError, naming what differs, unless the run was begun with the same."""
        begun = _without_dropped_keys(self.record())
        now = json.loads(json.dumps({"recipe": recipe.identity(), **facts}))
        changed = [text for key in now for text in differences(begun.get(key), now[key], key)]
        if changed:
            raise ChangedError(
                f"{self.path}: was begun with something else: {'; '.join(changed[:5])}; set it back, or begin a new "
                "run (--init with this one's folder keeps its weights)"
            )

    def make(self) -> None:
        """Create the folder."""
        try:
            (self.path / "sheets").mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError(f"{self.path}: {error.strerror} (choose another --out)") from None

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the folder's lock; LockedError if another process does. The system releases it with its process."""
        path = self.path / ".lock"
        try:
            file = open(path, "ab")  # noqa: SIM115  # closed below, after the block
        except OSError as error:
            raise StorageError(f"{path}: {error.strerror} (check permissions, or choose another --out)") from None
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise LockedError(f"{self.path}: another training is at work here; wait for it, or stop it") from None
            except OSError as error:
                raise StorageError(
                    f"{path}: cannot be locked ({error.strerror}); choose an --out on a file system with locks"
                ) from None
            yield


def _without_dropped_keys(record: dict[str, Any]) -> dict[str, Any]:
    """A run's record without keys of 0.4 that said what there is no choice about any more."""
    recipe = record.get("recipe")
    stages = recipe.get("stages") if isinstance(recipe, dict) else None
    for stage in stages if isinstance(stages, list) else ():
        if isinstance(stage, dict) and stage.get("stage") == "sr" and stage.get("unet") == "lora":
            del stage["unet"]
    return record


def differences(before: Any, now: Any, where: str) -> Iterator[str]:
    """Describe every leaf that differs."""
    if isinstance(before, dict) and isinstance(now, dict):
        for key in sorted(before.keys() | now.keys()):
            yield from differences(before.get(key), now.get(key), f"{where}.{key}")
    elif isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        for place, pair in enumerate(zip(before, now, strict=True)):
            yield from differences(*pair, f"{where}.{place}")
    elif before != now:
        yield f"{where} was {before}, is {now}"
