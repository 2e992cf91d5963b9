"""Where a checkpoint stands after a fault between writing it and giving it its names."""

from pathlib import Path

import pytest

from bokehsynth import StorageError
from magicbokeh.training import checkpoint as module
from magicbokeh.training.checkpoint import Checkpoints


def _save(checkpoints: Checkpoints, step: int, best: bool) -> None:
    def write(folder: Path) -> None:
        (folder / "weights").write_text(f"weights of step {step}")

    checkpoints.save(step, {"global_step": step, "finished": step == 2}, write, best)


def _weights(run: Path) -> dict[str, str]:
    return {path.parent.name: path.read_text() for path in sorted(run.glob("checkpoints/*/weights"))}


@pytest.mark.parametrize("fault_at", ["last", "best"])
@pytest.mark.parametrize("best", [False, True])
def test_a_resume_gives_a_checkpoint_the_names_that_it_lacks(
    fault_at: str, best: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Found by the fault sweep: `best` stayed that of an earlier step, or was missing."""
    checkpoints = Checkpoints(tmp_path, 1)
    _save(checkpoints, 1, best=True)
    install = Checkpoints._install

    def failing(self: Checkpoints, source: Path, name: str) -> None:
        if name == fault_at:
            raise OSError(5, "Input/output error")
        install(self, source, name)

    monkeypatch.setattr(Checkpoints, "_install", failing)
    if fault_at == "last" or best:
        with pytest.raises(StorageError):
            _save(checkpoints, 2, best)
    else:
        _save(checkpoints, 2, best)
    monkeypatch.undo()

    newest = checkpoints.newest()
    assert newest is not None
    assert newest.record["global_step"] == 2
    checkpoints.settle(newest)
    expected = {"last": "weights of step 2", "best": f"weights of step {2 if best else 1}"}
    assert expected.items() <= _weights(tmp_path).items()
    assert checkpoints.is_settled(newest)
    before = {path: path.stat().st_ino for path in tmp_path.rglob("*")}
    checkpoints.settle(newest)  # nothing more to do
    assert {path: path.stat().st_ino for path in tmp_path.rglob("*")} == before


@pytest.mark.parametrize("left", [".tmp-last", "step-000001"])
def test_a_resume_removes_what_an_interrupted_writer_left(left: str, tmp_path: Path) -> None:
    """Found by the fault sweep, where the last checkpoint of a run was the one."""
    checkpoints = Checkpoints(tmp_path, 1)
    _save(checkpoints, 2, best=False)
    clean = _weights(tmp_path)
    (tmp_path / "checkpoints" / left).mkdir()
    (tmp_path / "checkpoints" / left / "weights").write_text("old")
    (tmp_path / "checkpoints" / left / "state.json").write_text('{"format": 1, "global_step": 1, "files": {}}')
    newest = checkpoints.newest()
    assert newest is not None
    assert not checkpoints.is_settled(newest)
    checkpoints.settle(newest)
    assert checkpoints.is_settled(newest)
    assert _weights(tmp_path) == clean


def test_a_checkpoint_of_an_earlier_version_tells_nothing_of_best(tmp_path: Path) -> None:
    """It has no `is_best`, and `best` stays what it is."""
    checkpoints = Checkpoints(tmp_path, 1)
    _save(checkpoints, 1, best=True)
    for path in tmp_path.glob("checkpoints/*/state.json"):
        text = path.read_text().replace(',\n "is_best": true', "")
        assert "is_best" not in text
        path.unlink()
        path.write_text(text)
    newest = checkpoints.newest()
    assert newest is not None
    module.shutil.rmtree(tmp_path / "checkpoints" / "best")
    checkpoints.settle(newest)
    assert sorted(_weights(tmp_path)) == ["last", "step-000001"]
