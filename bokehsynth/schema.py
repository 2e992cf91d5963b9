"""Defines a sample: its fields, its metadata, and how maps become 16-bit numbers.

`docs/dataset-format.md` is the contract in words; this module is the same contract in code. It knows no
lens, no recipe and no tar, so that reading a data set needs nothing but NumPy and OpenCV.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from bokehsynth.errors import DataError, UsageError

FORMAT_VERSION = 1
"""Version of the directory layout, the members, the metadata and the random addresses together."""

Array = npt.NDArray[Any]
ByteArray = npt.NDArray[np.uint8]
WordArray = npt.NDArray[np.uint16]
FloatArray = npt.NDArray[np.float32]

MAP_MAX = 65535

SCALES = (1e-30, 1e30)
"""What a count of a map may mean: any number for which float32 holds the 65536 values, and tells them apart."""

MAX_SAMPLES = 10**9
"""Samples of a split: their keys have nine digits."""

MAX_SAMPLE_PIXELS = 89_478_485
"""Height times width of a sample: what the largest photograph that a recipe can allow has."""


@dataclass(frozen=True, kw_only=True)
class Field:
    """One stored array of a sample."""

    kind: Literal["color", "color16", "map"]
    """`color`: uint8 [H, W, 3] sRGB, stored by the codec. `color16`: uint16 [H, W, 3] sRGB, stored as 16-bit RGB PNG.
    `map`: float32 [H, W], stored as 16-bit grey PNG."""
    scale_key: str = ""
    """For maps: the metadata key whose value times the stored 16-bit number is the quantity; without one, the number
    is a share of 65535."""
    optional: bool = False
    """Whether a recipe has to name it in `shards.fields`."""
    own_size: bool = False
    """Whether it may be of another size than the sample."""
    about: str

    def scale(self, meta: Mapping[str, Any]) -> float:
        """Return what one count of a map means in a sample with this metadata; DataError unless SCALES hold it."""
        if not self.scale_key:
            return 1 / MAP_MAX
        scale = float(meta[self.scale_key])
        if not SCALES[0] <= scale <= SCALES[1]:
            raise DataError(f"{self.scale_key} must be {SCALES[0]:g} to {SCALES[1]:g}, got {scale:g}")
        return scale


FIELDS: dict[str, Field] = {
    "lq": Field(kind="color", about="degraded all-in-focus picture at the size of hq: the network's input"),
    "hq": Field(kind="color", about="the scene through the lens: the network's target"),
    "aif": Field(kind="color", about="the scene all in focus, clean"),
    "defocus": Field(kind="map", scale_key="defocus_scale", about="blur radius in pixels, K*|d - d_f|"),
    "disparity": Field(kind="map", scale_key="disparity_scale", about="relative inverse depth, 0..1, 1 = near"),
    "mask": Field(kind="map", optional=True, about="1 where the picture is in focus, 0 elsewhere"),
    "hq16": Field(kind="color16", optional=True, about="hq with 16 bits per channel"),
    "lq_native": Field(kind="color", optional=True, own_size=True, about="lq as degraded, before it was enlarged"),
}
SOURCE = "source"
HALVES = ("left", "right")
MAX_STACK = 16
"""Pictures of a focal or aperture stack, at most."""
LARGEST_GRID = 5
"""Parts of an opening along one axis, at most: of 25 and the whole, all tables are in memory together."""
VIEW_FIELDS: dict[str, Field] = {
    "left": Field(kind="color", optional=True, about="the scene through the left half of the opening (dual pixel)"),
    "right": Field(kind="color", optional=True, about="the scene through the right half of the opening (dual pixel)"),
    **{
        f"hq_{i:02d}": Field(kind="color", optional=True, about=f"picture {i} of a stack of lens settings")
        for i in range(MAX_STACK)
    },
    **{
        f"view_{y}{x}": Field(kind="color", optional=True, about=f"the scene through part {y}, {x} of the opening")
        for y in range(LARGEST_GRID)
        for x in range(LARGEST_GRID)
    },
}
"""Further pictures of a sample's scene, of a recipe with `views`."""
FIELDS |= VIEW_FIELDS
FIELDS[SOURCE] = Field(kind="color", optional=True, about="another setting of the lens: lq is its degradation")
NAMES_OF_VIEWS = {
    "focal_stack": ("hq_",), "aperture_stack": ("hq_",), "dual_pixel": HALVES, "sub_apertures": ("view_",),
}  # fmt: skip
"""How the fields begin that the views of each kind are stored in."""
MAX_LAYERS = 7
"""Layers of a scene, at most: six cut-outs and the background."""
LAYER_FIELDS: dict[str, Field] = {
    f"{part}_{i:02d}": Field(kind="map" if part == "matte" else "color", optional=True, about=about.format(i))
    for i in range(MAX_LAYERS)
    for part, about in (
        ("matte", "alpha of layer {}, front to back; 0 where a sample has no such layer"),
        ("color", "straight colour of layer {}, sRGB clipped at white, 0 where its matte is 0"),
    )
}
"""What the layers of a scene show in the picture, one by one; the background is the last one that a recipe has."""
FIELDS |= LAYER_FIELDS
LAYERS = "layers"
"""What stands for all layers of a recipe in `shards.fields`."""
DISPARITY_SLACK = 1e-6
"""By how much a disparity in focus may lie outside 0..1: it was computed on the way to a plane."""
VIEWS = "views"
"""What stands for all views of a recipe in `shards.fields`."""
FIELD_NAMES = (
    "lq, hq, aif, defocus, disparity, mask, hq16, lq_native, source, left, right, "
    f"hq_00 to hq_{MAX_STACK - 1}, view_00 to view_{LARGEST_GRID - 1}{LARGEST_GRID - 1} (views: all of the recipe's), "
    f"matte_00 to matte_{MAX_LAYERS - 1:02d}, color_00 to color_{MAX_LAYERS - 1:02d} (layers: all of the recipe's)"
)
MAX_DECODED = 1_600_000_000
"""Bytes of the arrays of a sample, at most: the usual fields of the largest picture. A file of some kilobytes can hold
as much, so a reader needs no more than 2 GB whatever it is given."""
_DECODED_BYTES = {"color": 3, "color16": 6, "map": 4}
DEFAULT_FIELDS = tuple(name for name, item in FIELDS.items() if not item.optional)

META_TYPES: dict[str, type] = {
    "format": int,  # FORMAT_VERSION
    "index": int,  # within the split
    "split": str,  # train | val
    "seed": int,  # of the recipe
    "attempt": int,  # 0 unless the sample had to be redrawn
    "width": int,
    "height": int,
    "blur": float,  # K, pixels of radius per unit of disparity difference
    "focus": float,  # d_f, the disparity in focus
    "radius_max": float,  # largest value of the defocus map, pixels
    "aperture": str,
    "defocus_scale": float,  # pixels per count of the 16-bit map
    "disparity_scale": float,  # disparity per count of the 16-bit map
    "assets": list,  # of str: the background first, then the foregrounds from near to far
    "recipe_digest": str,
    "assets_digest": str,
    "lens_digest": str,
    "degradation_digest": str,
    "draw": str,  # canonical JSON of every random choice; a string, since its shape varies from sample to sample
}
"""Keys and types of the flat sample JSON: the same in every sample, or table readers break."""

METRIC_META_TYPES: dict[str, type] = {
    "near_m": float,  # metres at which disparity is 1: near_m / disparity is the distance
}
"""Further keys of every sample of a data set whose recipe has a camera."""

VIEW_META_TYPES: dict[str, Any] = {
    "views": str,  # focal_stack | aperture_stack | dual_pixel | sub_apertures
    "view_names": list,  # of str: the fields that hold them; all further lists are in this order
    "view_blur": list[float],  # K of each
    "view_focus": list[float],  # d_f of each
    "view_x": list[float],  # mean lens point of each, x right and y down, radii of the opening
    "view_y": list[float],
}
"""Further keys of every sample of a data set whose recipe has `views`."""

SOURCE_META_TYPES: dict[str, Any] = {
    "source_blur": float,  # K of the picture from which lq starts
    "source_focus": float,  # its d_f
    "source_aperture": str,  # its aperture, as `aperture`
}
"""Further keys of every sample of a data set whose recipe has a `source`."""

PAIR_META_TYPES: dict[str, type] = {
    "f_number": float,  # of the photograph that is hq
}
"""Further keys of every sample of a data set of pairs whose f-numbers are known."""

LAYER_META_TYPES: dict[str, Any] = {
    "layer_names": list,  # of str: the layers that the sample has, near to far, as numbers of their fields: "00"
    "layer_disparity": list[float],  # of each at the picture's centre
    "layer_gx": list[float],  # change of disparity per pixel to the right
    "layer_gy": list[float],  # and downwards
}
"""Further keys of every sample of a data set that stores layers."""

OPTIONAL_META_TYPES: tuple[dict[str, Any], ...] = (
    PAIR_META_TYPES, METRIC_META_TYPES, VIEW_META_TYPES, SOURCE_META_TYPES, LAYER_META_TYPES,
)  # fmt: skip
"""Groups of keys: all keys of a group are there, or none."""


@dataclass(frozen=True, kw_only=True)
class ShardSpec:
    """How samples are packed (`shards:` in a recipe)."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid", "use_attribute_docstrings": True}

    samples: int = 256
    """Samples per shard; the last shard of a split may hold fewer."""
    codec: Literal["png", "webp"] = "png"
    """Encoder of the 8-bit colour fields, lossless either way. Maps and hq16 are always 16-bit PNG."""
    fields: list[str] = field(default_factory=lambda: list(DEFAULT_FIELDS))
    """Which arrays to store, out of lq, hq, aif, defocus, disparity, and those only stored when named: mask (where the
    picture is in focus), hq16 (hq with 16 bits), lq_native (lq before it was enlarged)."""

    def __post_init__(self) -> None:
        if self.samples < 1:
            raise UsageError(f"shards.samples must be at least 1, got {self.samples}")
        unknown = [name for name in self.fields if name not in FIELDS and name not in (VIEWS, LAYERS)]
        if unknown or not self.fields or len(set(self.fields)) != len(self.fields):
            raise UsageError(f"shards.fields must be distinct names out of {FIELD_NAMES}; got {self.fields}")


@dataclass(frozen=True)
class Sample:
    """One training sample, quantised exactly as the shard holds it.

    `arrays` maps field names to uint8 [H, W, 3] sRGB pictures and float32 [H, W] maps; `meta` is the flat JSON record.
    """

    key: str
    meta: Mapping[str, Any]
    arrays: Mapping[str, Array]

    def __getitem__(self, name: str) -> Array:
        """The field `name`; a DataError if this data set does not store it."""
        try:
            return self.arrays[name]
        except KeyError:
            stored = ", ".join(self.arrays)
            raise DataError(f"sample {self.key} has no field {name!r}; stored are: {stored}") from None

    @property
    def lq(self) -> ByteArray:
        """Degraded all-in-focus picture, uint8 [H, W, 3] sRGB."""
        return self["lq"]

    @property
    def hq(self) -> ByteArray:
        """Picture through the lens, uint8 [H, W, 3] sRGB."""
        return self["hq"]

    @property
    def aif(self) -> ByteArray:
        """Clean all-in-focus picture, uint8 [H, W, 3] sRGB."""
        return self["aif"]

    @property
    def defocus(self) -> FloatArray:
        """Blur radius in pixels, float32 [H, W], >= 0."""
        return self["defocus"]

    @property
    def disparity(self) -> FloatArray:
        """Relative inverse depth, float32 [H, W] in 0..1, 1 = near."""
        return self["disparity"]

    @property
    def signed_defocus(self) -> FloatArray:
        """`defocus` with the sign of (disparity - focus): positive in front of the focal plane, float32 [H, W]."""
        side: FloatArray = np.sign(self.disparity - np.float32(self.meta["focus"]))
        return self.defocus * side


def sample_key(split: str, index: int) -> str:
    """The key of a sample, unique over the data set: `train-000000123`."""
    return f"{split}-{index:09d}"


def fields_read(asked: Iterable[str], stored: Collection[str]) -> list[str]:
    """The fields that a reader asks for, with `views` and `layers` written out as those of them that are stored."""
    groups: dict[str, Iterable[str]] = {VIEWS: VIEW_FIELDS, LAYERS: LAYER_FIELDS}
    written = ([each for each in groups.get(name, ()) if each in stored] or [name] for name in asked)
    return list(dict.fromkeys(name for names in written for name in names))


def decoded_bytes(pixels: int, names: Iterable[str]) -> int:
    """Bytes of these fields in memory, each of so many pixels."""
    return pixels * sum(_DECODED_BYTES[FIELDS[name].kind] for name in names if name in FIELDS)


def quantize_map(values: Array, scale: float, name: str) -> WordArray:
    """Map values to 16-bit counts, rounded to nearest; a DataError if any is not finite or outside 0..65535*scale.

    The scale is fixed for a whole data set from the recipe's bounds, so an overflow is a fault, never clipped.
    """
    counts = np.rint(np.asarray(values, dtype=np.float64) / scale)
    if not (np.isfinite(counts).all() and counts.min() >= 0 and counts.max() <= MAP_MAX):
        low, high = float(np.fmin.reduce(values, axis=None)), float(np.fmax.reduce(values, axis=None))
        raise DataError(f"{name} holds {low:.6g}..{high:.6g}, outside 0..{MAP_MAX * scale:.6g} of its 16-bit scale")
    return counts.astype(np.uint16)


def dequantize_map(counts: WordArray, scale: float) -> FloatArray:
    """Turn 16-bit counts back into the quantity, float32, as every reader must."""
    values = counts.astype(np.float32)
    values *= np.float32(scale)  # in place: of a picture of 89 megapixels it is 358 MB
    return values


def quantized(name: str, values: Array, scales: Mapping[str, Any]) -> Array:
    """Return a field as a reader gets it: pictures as they are, maps rounded to the 16-bit steps of their scale."""
    if FIELDS[name].kind != "map":
        return values
    scale = FIELDS[name].scale(scales)
    return dequantize_map(quantize_map(values, scale, name), scale)


def check_meta(meta: Mapping[str, Any]) -> None:
    """Raise DataError unless `meta` has exactly the keys and types of META_TYPES and of some of the optional groups."""
    types: dict[str, Any] = dict(META_TYPES)
    for group in OPTIONAL_META_TYPES:
        types |= group if meta.keys() & group.keys() else {}
    if meta.keys() != types.keys():
        missing, extra = sorted(types.keys() - meta.keys()), sorted(meta.keys() - types.keys())
        raise DataError(f"sample metadata: missing keys {missing}, unknown keys {extra}")
    for key, kind in types.items():
        value = meta[key]
        if kind == list[float]:
            if type(value) is not list or any(type(each) is not float for each in value):
                raise DataError(f"sample metadata: {key} must be a list of floats, got {str(value)[:80]}")
        elif type(value) is not kind:
            raise DataError(f"sample metadata: {key} must be {kind.__name__}, got {type(value).__name__}")
    if VIEWS in meta:
        _check_views(meta)
    if "source_blur" in meta:
        _check_lenses("source", [meta["source_blur"]], [meta["source_focus"]])
    if "layer_names" in meta:
        _check_layers(meta)


def check_views_stored(meta: Mapping[str, Any], fields: Collection[str]) -> None:
    """Raise DataError unless a sample's record names exactly the views among its fields, and a source if it has one."""
    stored = sorted(name for name in fields if name in VIEW_FIELDS)
    if (named := sorted(meta.get("view_names", []))) != stored:
        raise DataError(f"view_names are {', '.join(named) or 'none'}, stored are {', '.join(stored) or 'none'}")
    if SOURCE in fields and "source_blur" not in meta:
        raise DataError(f"{SOURCE} is stored, and the record says nothing about it")


def check_layers_stored(meta: Mapping[str, Any], fields: Collection[str]) -> None:
    """Raise DataError unless a sample's record names layers just if some are among its fields."""
    stored = sorted(name for name in fields if name in LAYER_FIELDS)
    if bool(stored) != ("layer_names" in meta):
        named = ", ".join(meta.get("layer_names", [])) or "none"
        raise DataError(f"layer_names are {named}, stored are {', '.join(stored) or 'none'}")


def _check_layers(meta: Mapping[str, Any]) -> None:
    names, known = meta["layer_names"], [f"{i:02d}" for i in range(MAX_LAYERS)]
    if not names or any(name not in known for name in names) or sorted(set(names)) != names:
        raise DataError(
            f"sample metadata: layer_names must be rising numbers out of 00..{known[-1]}, got {names!r:.80}"
        )
    for key, kind in LAYER_META_TYPES.items():
        if kind == list[float] and len(meta[key]) != len(names):
            raise DataError(f"sample metadata: {key} has {len(meta[key])} numbers for {len(names)} layers")


def _check_lenses(what: str, blurs: Sequence[float], focuses: Sequence[float]) -> None:
    if not all(blur >= 0 for blur in blurs):
        raise DataError(f"sample metadata: {what}_blur must be >= 0, got {str(blurs)[:80]}")
    if not all(-DISPARITY_SLACK <= focus <= 1 + DISPARITY_SLACK for focus in focuses):
        raise DataError(f"sample metadata: {what}_focus must be a disparity, 0..1, got {str(focuses)[:80]}")


def _check_views(meta: Mapping[str, Any]) -> None:
    names, kind = meta["view_names"], meta[VIEWS]
    if kind not in NAMES_OF_VIEWS:
        raise DataError(f"sample metadata: views must be one of {', '.join(NAMES_OF_VIEWS)}, got {kind[:80]!r}")
    known = [name for name in VIEW_FIELDS if name.startswith(NAMES_OF_VIEWS[kind])]
    if not names or any(name not in known for name in names) or len(set(map(str, names))) != len(names):
        raise DataError(f"sample metadata: view_names must be distinct fields of {kind}, got {str(names)[:80]}")
    _check_lenses("view", meta["view_blur"], meta["view_focus"])
    for key, kind in VIEW_META_TYPES.items():
        if kind == list[float] and len(meta[key]) != len(names):
            raise DataError(f"sample metadata: {key} has {len(meta[key])} numbers for {len(names)} views")
