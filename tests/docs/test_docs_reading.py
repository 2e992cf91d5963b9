"""The code of docs/reading.md runs as it stands, in its order, over a small set in place of the named ones."""

import re
from pathlib import Path

import bokehsynth as bs

PAGE = (Path(__file__).parents[2] / "docs/reading.md").read_text(encoding="utf-8")


def test_the_code_runs(tiny_dataset: Path) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE, re.M | re.S)
    assert len(blocks) == 5
    whole, recipe, position, torch, layers = (
        block.replace('open_dataset("set"', f"open_dataset({str(tiny_dataset)!r}") for block in blocks
    )
    names: dict[str, object] = {}
    exec(whole, names)
    exec(recipe, names)
    for block in (position, torch):
        exec(block.replace('"quickstart"', repr(str(tiny_dataset))), names)
    state = names["state"]
    assert isinstance(state, dict)
    assert state["position"] == [2, 0], "one batch of two, of the first of two workers"
    exec(layers.replace('bs.open_dataset("out", fields=["layers"])[0]', "sample"), names | {"sample": layered_sample()})


def layered_sample() -> bs.Sample:
    """A sample with its layers."""
    fields = "shards.fields=[lq, hq, aif, defocus, disparity, layers]"
    return bs.make_sample(bs.load_recipe("quickstart", ["size=48", fields]), 0, backend="cpu")
