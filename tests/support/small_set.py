"""A real data set of a few small samples, made in this process: the bytes of `generate`, without its workers."""

from pathlib import Path

from bokehsynth.generation.dataset_files import write_description, write_root_files
from bokehsynth.generation.plan import all_plans
from bokehsynth.generation.provenance import describe_machine
from bokehsynth.pipeline import make_sample
from bokehsynth.recipe import load_recipe
from bokehsynth.shards import Layout, write_shard

RECIPE = """\
name: small
samples: {train: 3, val: 1}
size: 32
scene: {foregrounds: 1}
shards: {samples: 2}
"""


def make_small_set(root: Path, recipe: str = RECIPE) -> Layout:
    """Make the set of a recipe's text in `root` on the CPU; the recipe stands beside it as NAME.yaml."""
    path = root.with_suffix(".yaml")
    path.write_text(recipe)
    loaded, layout = load_recipe(path), Layout(root)
    plans = all_plans(loaded)
    write_root_files(layout, loaded, plans, describe_machine("cpu"))
    for plan in plans:
        samples = (
            make_sample(loaded, index, plan.split, "cpu") for index in range(plan.first, plan.first + plan.count)
        )
        write_shard(layout, plan, samples, loaded.shards, loaded.identity)
    write_description(layout, loaded, plans)
    return layout
