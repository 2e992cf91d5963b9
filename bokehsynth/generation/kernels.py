"""Compiles the kernels of a recipe, once on each machine: processes that start later load them from the cache."""

from bokehsynth.assets.load import foreground_colors
from bokehsynth.generation.provenance import is_coarse
from bokehsynth.recipe import Recipe
from bokehsynth.workers import signals


def compile_kernels(recipe: Recipe, device: str) -> None:
    """Compile, or load, what every worker of a run on `device` needs."""
    with signals.defer_signals():
        from bokehsynth.rendering.cpu import renderer as cpu

        cpu.warm_up()
        if is_coarse(recipe, device):
            cpu.warm_up_coarse()
        for lens in recipe.lenses:
            lens.prepare(recipe.frame)
        if device == "cuda":
            from bokehsynth.rendering.cuda import renderer as cuda

            cuda.warm_up()
        if any(asset.colors == "photographed" for asset in recipe.catalogue.assets):
            foreground_colors.warm_up()
