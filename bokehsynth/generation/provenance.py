"""Provenance: what a data set's bytes depend on besides its recipe (versions, CPU features, device)."""

import importlib.metadata
import platform
from collections.abc import Mapping
from typing import Any

from bokehsynth.assets.catalogue import Catalogue
from bokehsynth.config.distributions import bounds
from bokehsynth.errors import UsageError
from bokehsynth.files import sha256_bytes
from bokehsynth.imaging.dispatch import library_dispatch
from bokehsynth.recipe import Recipe
from bokehsynth.rendering import describe_device
from bokehsynth.rendering.tile_constants import COARSE_FROM
from bokehsynth.scene.lens_spec import LensSpec
from bokehsynth.scene.pair import PairSpec
from bokehsynth.scene.spec import SceneSpec
from bokehsynth.schema import HALVES
from bokehsynth.shards import PngEncoder, encode_png, encode_png_opencv, member_names
from bokehsynth.version import __version__

PIXEL_PACKAGES = ("numpy", "numba", "llvmlite", "pillow")
"""Packages, besides OpenCV in either of its wheels, whose version may change a pixel or a byte."""

ASSET_PACKAGES = ("pymatting", "openexr")
"""Packages that make pixels of some pictures only: colours under soft alpha, and .exr files. They are in the record
where such pictures are used."""

PNG_PACKAGE = "isal"
"""The package that deflates PNG members, whose version may change their bytes and no pixel. Sets begun before 0.5.0
have no such record: their members are encoded by OpenCV (`with_encoder_of`); nor have sets without a PNG member."""

PIXEL_GPU = ("compute_capability", "nvrtc", "cupy")
"""Keys of a GPU's record (`rendering.describe_device`) on which pixels depend; null on the CPU."""

PIXELS = 9
"""Revision of the pixels that this version makes of lenses with a pupil or anything else that depends on the field, of
traced ones, and of openings beyond the unit disc (1: 0.4.0, with another filter and another `falloff` of pupils; 2:
aberrations by rays alone; 3: one distance of nodes for all of a picture; 4: dark corners of traced lenses in pictures
that are not square; 5: kernels of aberrations cell by cell, rays of each colour apart; 6: the same, or kernels of
blocks and rays of green for all colours up to 0.15 px apart; 9: kernels at columns of a few rows in place of rays),
and on the CPU of recipes whose blur goes beyond COARSE_FROM px (before 6: all texels of every layer). All other recipes
are at revision 1 still."""

PIXELS_OF_HALVES = 7
"""The same of other recipes that store the pictures through the halves of an opening (before 7: each was rendered by
itself, and both did not add up to the whole's)."""

PIXEL_KEYS = ("pixels", "architecture", "cpu_features", "dispatch", "device", *PIXEL_GPU, "opencv", *PIXEL_PACKAGES)
"""The keys that two machines must share to work on one data set, and those of ASSET_PACKAGES that both have (up to
0.4.0 none was recorded), and PNG_PACKAGE for the sake of bytes; the others are for the record."""


def describe_machine(device: str, recipe: Recipe | None = None) -> dict[str, Any]:
    """Describe versions, CPU class and device: flat, JSON-able, the same on every run of the same machine.

    With a recipe also what only some recipes depend on: the packages that some pictures need, and `pixels`. UsageError
    where a package that bokehsynth needs is not installed.

    `dispatch` names the CPU features that the libraries use, which variables such as NUMBA_CPU_FEATURES,
    OPENCV_CPU_DISABLE and NPY_DISABLE_CPU_FEATURES restrict: it decides which code computes a pixel.
    """
    import cv2
    from llvmlite import binding

    require_png_package()
    packages = (*PIXEL_PACKAGES, *_png_packages(recipe), *_asset_packages(recipe.catalogue if recipe else None))
    features = binding.get_host_cpu_features()
    flags = ",".join(sorted(name for name, on in features.items() if on))
    return {
        "bokehsynth": __version__,
        "python": platform.python_version(),
        "system": platform.system(),
        "architecture": platform.machine(),
        "cpu": binding.get_host_cpu_name(),
        "cpu_features": sha256_bytes(flags)[:16],
        "dispatch": library_dispatch(flags),
        "device": device,
        **describe_device(device),
        "opencv": cv2.__version__,
        **{name: installed_version(name) for name in packages},
        **({} if recipe is None else _revision(recipe, device)),
    }


def _revision(recipe: Recipe, device: str) -> dict[str, int]:
    """`pixels` of a recipe's record; nothing where it is 1."""
    if any(map(_has_changed, recipe.lenses)) or is_coarse(recipe, device):
        return {"pixels": PIXELS}  # the later revision: halves of such lenses, too, were others before it
    return {} if set(HALVES).isdisjoint(recipe.more_pictures) else {"pixels": PIXELS_OF_HALVES}


def installed_version(package: str) -> str:
    """The version of a package that bokehsynth needs; UsageError where it is not installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        raise UsageError(f"{package} is not installed, and bokehsynth needs it here: pip install {package}") from None


def require_png_package() -> None:
    """UsageError where PNG_PACKAGE is not installed: every set ends with a preview that it encodes."""
    installed_version(PNG_PACKAGE)


def pixel_facts(machine: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """What of a machine's record must be the same in another's."""
    both = [name for name in ASSET_PACKAGES if name in machine and name in other]
    version = machine.get("bokehsynth")
    # before 0.4.0 every version had pixels of its own
    old = isinstance(version, str) and version.startswith(("0.1.", "0.2.", "0.3."))
    return {key: machine.get(key) for key in (*PIXEL_KEYS, PNG_PACKAGE, *both)} | {
        "pixels": machine.get("pixels", version if old else 1)
    }


def with_encoder_of(begun: Mapping[str, Any], machine: Mapping[str, Any]) -> dict[str, Any]:
    """The record of a machine that goes on with a set, with the PNG encoder of the record with which it was begun."""
    return {key: value for key, value in machine.items() if key != PNG_PACKAGE or PNG_PACKAGE in begun}


def png_encoder(machine: Mapping[str, Any]) -> PngEncoder:
    """What encodes the PNG members of a set that a machine with this record works on."""
    return encode_png if PNG_PACKAGE in machine else encode_png_opencv


def _has_changed(lens: LensSpec) -> bool:
    """Whether a recipe's lenses are at revision PIXELS; a traced one stands beside `apertures`, not among them."""
    if lens.prescription is not None:
        return True
    return any(aperture.depends_on_field or aperture.extent > 1 for aperture in lens.apertures)


def is_coarse(recipe: Recipe, device: str) -> bool:
    """Whether some picture of a recipe may be blurred so far that the CPU reduces its layers.

    A pair's picture is a height field, which is never reduced; its lens is searched in planes, on the CPU.
    """
    if isinstance(recipe.scene, PairSpec):
        sides = [min(recipe.frame)] if recipe.frame else [min(a.height, a.width) for a in recipe.catalogue.assets]
        # What is shrunk before the search has its largest blur at SEARCH_SIDE px or at a shorter side of its own.
        return max(recipe.scene.searched_bound(side) for side in (min(sides), max(sides))) > COARSE_FROM
    bounds_px = [recipe.radius_bound]
    if isinstance(recipe.scene, SceneSpec) and recipe.source is not None and recipe.frame:
        if recipe.source.blur is not None:
            bounds_px.append(bounds(recipe.source.blur)[1] * recipe.scene.blur_scale(min(recipe.frame)))
        if recipe.source.lens is not None:
            bounds_px.append(recipe.source.lens.blur_bound(recipe.frame) or 0.0)
    return device == "cpu" and max(bounds_px) > COARSE_FROM


def _png_packages(recipe: Recipe | None) -> list[str]:
    """PNG_PACKAGE, unless a recipe is known to store no PNG."""
    if recipe is not None and not any(name.endswith(".png") for name in member_names(recipe.shards)):
        return []
    return [PNG_PACKAGE]


def _asset_packages(catalogue: Catalogue | None) -> list[str]:
    """Those of ASSET_PACKAGES that the pictures of a catalogue need."""
    if catalogue is None:
        return []
    paths = [path for files in catalogue.files.values() for path in files.files]
    used = {
        "pymatting": any(asset.colors == "photographed" for asset in catalogue.assets),
        "openexr": any(path.suffix.lower() == ".exr" for path in paths),
    }
    return [name for name in ASSET_PACKAGES if used[name]]
