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


def test_what_is_not_whole_is_not_published(hub: Hub, made: Path) -> None:
    (made / "train" / "extra.tar").write_bytes(b"")
    with pytest.raises(DataError, match=r"extra.tar: no shard of this data set"):
        publish(made, "me/set")
    (made / "train" / "extra.tar").rename(made / "train" / "train-000001.tar")
    with pytest.raises(DataError, match="train-000001 is missing or damaged"):
        publish(made, "me/set")
    (made / "dataset.json").unlink()
    with pytest.raises(DataError):
        publish(made, "me/set")
    assert hub.files == {}


def test_what_others_will_read_is_said_before(hub: Hub, made: Path) -> None:
    said: list[str] = []
    text = (made / "recipe.yaml").read_text()
    (made / "recipe.yaml").write_text(text.replace("root:", "root: /home/a", 1))
    (made / "assets.jsonl").write_text('{"licence":"unknown"}\n')
    publish(made, "me/set", say=said.append)
    assert said[0].startswith("note: 1 pictures are of unknown licence")
    assert said[1].startswith("note: recipe.yaml names folders")
