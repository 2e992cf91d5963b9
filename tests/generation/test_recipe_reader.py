"""A recipe as a data set: where its samples are rendered."""

from typing import Any

import pytest

import bokehsynth as bs
from bokehsynth.errors import DeviceError
from bokehsynth.generation import recipe_reader


def test_the_device_is_chosen_once_when_the_recipe_is_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    """A forked worker of a loader cannot use the GPU of its parent: `auto` must not become the CPU there in silence."""
    asked, used = [], []

    def resolve(name: str) -> str:
        asked.append(name)
        return "cuda"

    def make_sample(recipe: Any, index: int, split: str, backend: str) -> Any:
        used.append(backend)
        raise DeviceError("no GPU in this process")

    monkeypatch.setattr(recipe_reader, "resolve_device", resolve)
    monkeypatch.setattr(recipe_reader, "make_sample", make_sample)
    data = bs.open_dataset("quickstart")
    for index in range(2):
        with pytest.raises(DeviceError):
            data[index]
    assert (asked, used) == (["auto"], ["cuda", "cuda"])
