"""A real data set of a few small samples, made in this process: the bytes of `generate`, without its workers."""

from pathlib import Path
from typing import Any

from bokehsynth.generation.dataset_files import write_description, write_root_files
from bokehsynth.generation.plan import all_plans
from bokehsynth.generation.provenance import describe_machine, png_encoder
from bokehsynth.pipeline import make_sample
from bokehsynth.recipe import load_recipe
from bokehsynth.shards import Layout, pack, write_shard

RECIPE = """\
name: small
samples: {train: 3, val: 1}
size: 32
scene: {foregrounds: 1}
shards: {samples: 2}
"""


def machine_of_0_4_0() -> dict[str, Any]:
    """This machine as versions recorded it that had OpenCV's PNG encoder alone."""
    return {key: value for key, value in describe_machine("cpu").items() if key != "isal"}


def make_small_set(root: Path, recipe: str = RECIPE, machine: dict[str, Any] | None = None) -> Layout:
    """Make the set of a recipe's text in `root` on the CPU; the recipe stands beside it as NAME.yaml.

    `machine` is the record of the machine that makes it; None: this one.
    """
    path = root.with_suffix(".yaml")
    path.write_text(recipe)
    loaded, layout = load_recipe(path), Layout(root)
    plans = all_plans(loaded)
    machine = describe_machine("cpu") if machine is None else machine
    write_root_files(layout, loaded, plans, machine)
    for plan in plans:
        samples = (
            pack(make_sample(loaded, index, plan.split, "cpu"), loaded.shards, png_encoder(machine))
            for index in range(plan.first, plan.first + plan.count)
        )
        write_shard(layout, plan, samples, loaded.shards, loaded.identity)
    write_description(layout, loaded, plans)
    return layout
