"""Compiles the kernels of a recipe, once on each machine: processes that start later load them from the cache."""

from bokehsynth.assets.load import foreground_colors
from bokehsynth.generation.provenance import is_coarse
from bokehsynth.recipe import Recipe
from bokehsynth.rendering import keeps_kernels
from bokehsynth.workers import signals


def left_to_worker(workers: int | None, device: str) -> bool:
    """Whether a run's only worker may compile what it needs: then its own process need not even load Numba.

    Several workers would all compile the same at once, and one whose kernels cannot be kept would compile them again
    whenever it is replaced.
    """
    return workers == 1 and device == "cpu" and keeps_kernels()


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
