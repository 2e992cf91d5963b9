"""Publish a finished data set as a repository of the Hugging Face Hub, `dataset.json` last of all."""

import importlib
import tempfile
from collections.abc import Callable
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from bokehsynth.assets.spec import SOURCE_LISTS
from bokehsynth.config.strict_yaml import load_yaml
from bokehsynth.config.user_code import user_code
from bokehsynth.errors import BokehsynthError, DataError, StorageError, UsageError
from bokehsynth.files import data_path
from bokehsynth.generation.dataset_files import file_text
from bokehsynth.recipe import Recipe
from bokehsynth.shards import MAX_DATASET_JSON, Layout, find_shards, read_dataset, stored_plans
from bokehsynth.untrusted_files import parse_json, read_json

PUBLISHED = [
    "README.md", "assets.jsonl", "preview.png", "quarantine.jsonl", "recipe.yaml", "schema.json",
    "train/*", "val/*", ".bokehsynth/*.json", ".bokehsynth/train/*", ".bokehsynth/val/*",
]  # fmt: skip
"""What is uploaded before `dataset.json`, once it is known that nothing else has such a name: no logs, which name
hosts, and no other file of the folder."""

UNPUBLISHED = [".bokehsynth/tmp/*"]

DENIED = (401, 403)


def publish(out: str | Path, repo: str, private: bool = False, say: Callable[[str], None] = print) -> str:
    """Upload the finished data set in the folder `out` into the dataset repository `repo` (`name/set`); its address.

    The repository is made if there is none. huggingface_hub uploads, with the token of its login or of HF_TOKEN; the
    same call after an interruption skips what has arrived. A reader that finds `dataset.json` finds all it counts: of
    a set that was published before and has been extended, it is taken away first. `say` gets what a publisher should
    know: pictures of unknown licence, folders of this machine in the recipe. Raises UsageError without huggingface_hub,
    for a bucket, a name that the Hub does not take and a repository that holds another set, DataError for a set that is
    not finished, lacks files or holds others, StorageError where the Hub refuses or cannot be reached.
    """
    layout = Layout(data_path(out))
    if not isinstance(layout.root, Path):
        raise UsageError(f"{layout.root}: publish needs a local folder; copy the set first")
    names = _check_files(layout)
    try:
        from huggingface_hub import HfApi
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError
    except ImportError as error:
        raise UsageError(f"publish needs huggingface_hub ({error}): pip install 'bokehsynth[hub]'") from None
    for note in _notes(layout):
        say(f"note: {note}")
    api = HfApi()
    place = {"repo_id": repo, "repo_type": "dataset"}
    try:
        address = api.create_repo(**place, private=private, exist_ok=True)
        _clear_the_way(api, place, layout, names)
        upload = {**place, "folder_path": layout.root, "ignore_patterns": UNPUBLISHED}
        api.upload_folder(**upload, allow_patterns=PUBLISHED, commit_message="Shards and what describes them")
        api.upload_folder(**upload, allow_patterns=[layout.dataset.name], commit_message="The data set is complete")
    except BokehsynthError:
        raise
    except HFValidationError as error:
        raise UsageError(f"{repo}: is no name of a repository ({_line(error)})") from None
    except (HfHubHTTPError, OSError, RuntimeError, *_network_errors()) as error:  # RuntimeError: of a large file
        raise StorageError(f"{repo}: {_why(error)}; the same line goes on where this one ended") from None
    except ValueError as error:  # what the Hub says of a card, or of a quota
        raise DataError(
            f"{repo}: the Hub does not take it ({_line(error)}); if it is the card, `bokehsynth finalize` writes "
            "that anew"
        ) from None
    return str(address)


def _clear_the_way(api: Any, place: dict[str, str], layout: Layout, names: set[str]) -> None:
    """Refuse a repository with shards of another set; take an older `dataset.json` of this one away."""
    there, record = set(api.list_repo_files(**place)), read_dataset(layout)
    repo = place["repo_id"]
    if layout.dataset.name in there:
        with tempfile.TemporaryDirectory() as folder:
            copy = api.hf_hub_download(**place, filename=layout.dataset.name, cache_dir=folder)
            old = read_json(copy, MAX_DATASET_JSON)
        if not isinstance(old, dict) or old.get("identity") != record["identity"]:
            raise UsageError(f"{repo}: holds another data set already; choose another name, or delete that one there")
    others = sorted(name for name in there if name.startswith(("train/", "val/")) and name not in names)
    if others:
        raise UsageError(
            f"{repo}: holds {others[0]}, which is no part of this set, and readers would take it for one; choose "
            "another name, or delete it there"
        )
    if layout.dataset.name in there and old != record:
        api.delete_file(layout.dataset.name, **place, commit_message="The data set grows")


def _notes(layout: Layout) -> list[str]:
    """What a publisher should know before others read the set: licences that are not stated, folders in its recipe."""
    notes = []
    unknown = sum(
        1
        for line in file_text(layout.assets).splitlines()
        if isinstance(record := parse_json(line, "a line"), dict) and record.get("licence") == "unknown"
    )
    if unknown:
        notes.append(f"{unknown} pictures are of unknown licence (`licence:` of a source states it)")
    with user_code(trusted=False):
        assets = load_yaml(layout.recipe, Recipe).assets
    sources = [source for name in SOURCE_LISTS for source in getattr(assets, name) if not source.drawn]
    if assets.root is not None or any(Path(path).is_absolute() for source in sources for path in source.paths):
        notes.append("recipe.yaml names folders of this machine (assets.root and paths of sources)")
    return notes


def _check_files(layout: Layout) -> set[str]:
    """The names of the set's files in its folder, all but `dataset.json`.

    DataError unless it is finished, all of them are regular files, and no other file would be uploaded with them.
    """
    record, wanted = read_dataset(layout), [layout.card, layout.assets, layout.preview, layout.recipe, layout.schema]
    optional = [layout.quarantine, layout.machines, layout.extensions]
    wanted.append(layout.identity)
    for split in record["splits"]:
        plans = stored_plans(record, split)
        for plan, marker in zip(plans, find_shards(layout, plans, record["identity"]), strict=True):
            if marker is None:
                raise DataError(f"{layout.root}: {plan.name} is missing or damaged; `bokehsynth verify` tells more")
        wanted += [path for plan in plans for path in (layout.tar(plan), layout.index(plan), layout.marker(plan))]
        optional += [layout.shard_quarantine(plan) for plan in plans]
    root = Path(str(layout.root))
    names, allowed = ({Path(str(one)).relative_to(root).as_posix() for one in found} for found in (wanted, optional))
    there = {path.relative_to(root).as_posix(): path for path in root.rglob("*") if path.is_symlink() or path.is_file()}
    there = {name: path for name, path in there.items() if _goes_up(name)}
    for name, path in sorted(there.items()):
        if path.is_symlink() or name not in names | allowed:
            what = "a link" if path.is_symlink() else "not counted by dataset.json"
            raise DataError(
                f"{path}: is {what}, and would be uploaded; finish the `extend` that made it, or move it away"
            )
    if missing := sorted(names - there.keys()):
        raise DataError(f"{root / missing[0]}: is missing; `bokehsynth finalize` writes what is beside the shards anew")
    return names | allowed


def _goes_up(name: str) -> bool:
    """Whether the patterns let a file be uploaded."""
    return any(fnmatch(name, pattern) for pattern in PUBLISHED) and not any(fnmatch(name, one) for one in UNPUBLISHED)


def _network_errors() -> tuple[type[Exception], ...]:
    """What the library raises that huggingface_hub connects with: requests, httpx or its successor."""
    from huggingface_hub.utils import get_session

    library = importlib.import_module(type(get_session()).__module__.partition(".")[0])
    names = ("HTTPError", "RequestException", "InvalidURL")
    return tuple(getattr(library, name) for name in names if hasattr(library, name))


def _why(error: Exception) -> str:
    """An error of the Hub in one line, without addresses that may carry a signature."""
    causes: list[BaseException] = [error]
    while (cause := causes[-1].__cause__) is not None:
        causes.append(cause)
    known = [getattr(getattr(one, "response", None), "status_code", None) for one in causes]
    status = next((code for code in known if code is not None), None)
    if status in DENIED:
        return (
            f"the Hub refuses ({status}): `hf auth login`, or HF_TOKEN with a token that may write, to a repository of "
            "your name or organisation"
        )
    if status is not None:
        return f"the Hub answers {status}"
    return f"the Hub cannot be reached, or an upload broke off ({type(error).__name__})"


def _line(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0]
