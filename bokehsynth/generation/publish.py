"""Publish a finished data set as a repository of the Hugging Face Hub, `dataset.json` last of all."""

import importlib
from collections.abc import Callable
from pathlib import Path

from bokehsynth.errors import DataError, StorageError, UsageError
from bokehsynth.files import data_path
from bokehsynth.generation.dataset_files import file_text
from bokehsynth.shards import Layout, find_shards, read_dataset, stored_plans
from bokehsynth.untrusted_files import parse_json

PUBLISHED = [
    "README.md", "assets.jsonl", "preview.png", "quarantine.jsonl", "recipe.yaml", "schema.json",
    "train/*.tar", "val/*.tar", ".bokehsynth/*.json", ".bokehsynth/train/*", ".bokehsynth/val/*",
]  # fmt: skip
"""What is uploaded before `dataset.json`: nothing else that lies in the folder, no logs, which name hosts."""

DENIED = (401, 403)


def publish(out: str | Path, repo: str, private: bool = False, say: Callable[[str], None] = print) -> str:
    """Upload the finished data set in the folder `out` into the dataset repository `repo` (`name/set`); its address.

    The repository is made if there is none. huggingface_hub uploads, with the token of its login or of HF_TOKEN; the
    same call after an interruption skips what has arrived. A reader that finds `dataset.json` finds all it counts.
    `say` gets what a publisher should know: pictures of unknown licence, folders of this machine in the recipe.
    Raises UsageError without huggingface_hub, for a bucket and a name that the Hub does not take, DataError for a set
    that is not finished, lacks shards or holds strays, StorageError where the Hub refuses or cannot be reached.
    """
    layout = Layout(data_path(out))
    if not isinstance(layout.root, Path):
        raise UsageError(f"{layout.root}: publish needs a local folder; copy the set first")
    _check_whole(layout)
    try:
        from huggingface_hub import HfApi
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError
    except ImportError as error:
        raise UsageError(f"publish needs huggingface_hub ({error}): pip install 'bokehsynth[hub]'") from None
    for note in _notes(layout):
        say(f"note: {note}")
    api = HfApi()
    try:
        address = api.create_repo(repo, repo_type="dataset", private=private, exist_ok=True)
        upload = {"repo_id": repo, "repo_type": "dataset", "folder_path": layout.root}
        api.upload_folder(**upload, allow_patterns=PUBLISHED, commit_message="Shards and what describes them")
        api.upload_folder(**upload, allow_patterns=[layout.dataset.name], commit_message="The data set is complete")
    except HFValidationError as error:
        raise UsageError(f"{repo}: is no name of a repository ({_line(error)})") from None
    except (HfHubHTTPError, OSError, RuntimeError, *_network_errors()) as error:  # RuntimeError: of a large file
        raise StorageError(f"{repo}: {_why(error)}; the same line goes on where this one ended") from None
    return str(address)


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
    if any(f"{word} /" in file_text(layout.recipe) for word in ("root:", "path:")):
        notes.append("recipe.yaml names folders of this machine (assets.root and paths of sources)")
    return notes


def _check_whole(layout: Layout) -> None:
    """Raise unless the set is finished, its shards are there with their sizes, and no strays lie among them."""
    record = read_dataset(layout)
    for split in record["splits"]:
        plans = stored_plans(record, split)
        for plan, marker in zip(plans, find_shards(layout, plans, record["identity"]), strict=True):
            if marker is None:
                raise DataError(f"{layout.root}: {plan.name} is missing or damaged; `bokehsynth verify` tells more")
        known = {layout.tar(plan).name for plan in plans}
        strays = sorted(path.name for path in layout.split(split).iterdir() if path.name not in known)
        if strays:
            raise DataError(
                f"{layout.split(split) / strays[0]}: no shard of this data set, but readers of the Hub would take it "
                "for one; move it away"
            )


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
