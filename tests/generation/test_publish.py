"""Publishing on the Hub's own protocol: a stand-in server gets the set, `dataset.json` last, and nothing else."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants
from support.hub_server import TOKEN, Hub, hub_server
from support.promised import promised_files

import bokehsynth as bs
from bokehsynth.errors import DataError, StorageError, UsageError
from bokehsynth.generation.publish import publish


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    with hub_server() as server:
        monkeypatch.setattr(constants, "ENDPOINT", server.address)
        template = f"{server.address}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        yield server


@pytest.fixture
def made(tiny_dataset: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_dataset, tmp_path / "set"))


def test_the_set_arrives_and_is_one_for_the_reader(hub: Hub, made: Path, tmp_path: Path) -> None:
    (made / "notes.txt").write_text("of no concern")
    said: list[str] = []
    assert publish(made, "me/set", private=True, say=said.append) == f"{hub.address}/datasets/me/set"
    assert said == []
    assert hub.private is True
    assert hub.commits[-1] == ["dataset.json"]
    assert all("dataset.json" not in commit for commit in hub.commits[:-1])
    assert not [path for path in hub.files if path.startswith("logs/") or "lock" in path or path == "notes.txt"]
    copy = tmp_path / "copy"
    for path, data in hub.files.items():
        (copy / path).parent.mkdir(parents=True, exist_ok=True)
        (copy / path).write_bytes(data)
    assert promised_files(copy) == promised_files(made)
    first = next(iter(bs.open_dataset(copy)))
    assert first.key == "train-000000000"


def test_an_upload_that_broke_off_goes_on(hub: Hub, made: Path) -> None:
    hub.break_at = 3
    with pytest.raises(StorageError, match="the same line goes on"):
        publish(made, "me/set")
    assert "dataset.json" not in hub.files
    before = hub.puts
    publish(made, "me/set")
    assert "dataset.json" in hub.files
    arrived = len([path for path in hub.files if path.endswith((".tar", ".png"))])
    assert hub.puts - before < arrived, "what had arrived is not sent again"


def test_a_refusal_names_the_way_in_and_no_token(hub: Hub, made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_wrongTokenOfTheTests")
    with pytest.raises(StorageError, match="hf auth login") as refused:
        publish(made, "me/set")
    assert "hf_wrong" not in str(refused.value)
    with pytest.raises(UsageError, match="is no name of a repository"):
        publish(made, "a/b/c d")
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(StorageError, match="cannot be reached"):
        publish(made, "me/set")


def test_what_is_not_whole_is_not_published(hub: Hub, made: Path, tmp_path: Path) -> None:
    def refused(words: str) -> None:
        with pytest.raises(DataError, match=words):
            publish(made, "me/set")

    for name in ("train/extra.tar", "val/val-000009.tar", ".bokehsynth/train/notes", ".bokehsynth/more.json"):
        (made / name).write_bytes(b"")
        refused(f"{name}: is not counted by dataset.json")
        (made / name).unlink()
    (tmp_path / "secret").write_text("of this machine")
    for name in ("quarantine.jsonl", ".bokehsynth/train/train-000000.quarantine.jsonl"):
        (made / name).symlink_to(tmp_path / "secret")
        refused(f"{name}: is a link")
        (made / name).unlink()
    (made / "README.md").rename(made / "x.md")
    refused("README.md: is missing; `bokehsynth finalize`")
    (made / "x.md").rename(made / "README.md")
    tar = made / "train" / "train-000001.tar"
    tar.write_bytes(b"")
    refused("train-000001 is missing or damaged")
    (made / "dataset.json").unlink()
    refused("dataset.json")
    assert hub.files == {}


def test_a_repository_of_another_set_is_refused_and_one_that_grew_is_shortly_unfinished(hub: Hub, made: Path) -> None:
    (made / ".bokehsynth" / "tmp").mkdir(exist_ok=True)
    (made / ".bokehsynth" / "tmp" / "x.json").write_text("{}")
    publish(made, "me/set")
    assert ".bokehsynth/tmp/x.json" not in hub.files
    whole, first = hub.files["dataset.json"], len(hub.commits)
    publish(made, "me/set")
    assert ["-dataset.json"] not in hub.commits, "the same set again takes nothing away"
    hub.files["dataset.json"] = whole.replace(b'"samples": 5', b'"samples": 4', 1)
    assert hub.files["dataset.json"] != whole
    publish(made, "me/set")
    assert ["-dataset.json"] in hub.commits[first:]
    assert hub.files["dataset.json"] == whole
    hub.files["train/train-000099.tar"] = b""
    with pytest.raises(UsageError, match=r"holds train/train-000099.tar, which is no part"):
        publish(made, "me/set")
    hub.files["dataset.json"] = whole.replace(b'"recipe_digest": "', b'"recipe_digest": "0')
    with pytest.raises(UsageError, match="holds another data set already"):
        publish(made, "me/set")


def test_what_others_will_read_is_said_before(hub: Hub, made: Path) -> None:
    said: list[str] = []
    text = (made / "recipe.yaml").read_text()
    (made / "recipe.yaml").write_text(text.replace("path: procedural", "path: [/home/a]", 1))
    (made / "assets.jsonl").write_text('{"licence":"unknown"}\n')
    publish(made, "me/set", say=said.append)
    assert said[0].startswith("note: 1 pictures are of unknown licence")
    assert said[1].startswith("note: recipe.yaml names folders")
