"""The recipe: the one file from which every draw of a data set follows."""

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    ModelWrapValidatorHandler,
    model_validator,
)

from bokehsynth.assets.catalogue import Catalogue
from bokehsynth.assets.index.build import build_catalogue
from bokehsynth.assets.spec import AssetsSpec, portable
from bokehsynth.color import CodeTable, table_of_8_bits
from bokehsynth.config.distributions import GrownSpec, Spec
from bokehsynth.config.fault_words import did_you_mean
from bokehsynth.config.strict_yaml import dump_yaml, load_yaml
from bokehsynth.degradation import Degradation, DegradationSpec, resolve
from bokehsynth.errors import RecipeError, UsageError
from bokehsynth.files import canonical_json, sha256_bytes
from bokehsynth.scene import AnySpec, ComposedScene, LensSpec, SceneSpec, kinds_of_assets
from bokehsynth.scene.layout import layout_source
from bokehsynth.scene.recipe_files import absolute_sources, read_lens
from bokehsynth.scene.stored_layers import layer_arrays
from bokehsynth.scene.views_spec import (
    SourceLensSpec,
    ViewsSpec,
    check_decoded,
    check_lenses,
    check_views,
    stored_fields,
    with_layers,
)
from bokehsynth.schema import DEFAULT_FIELDS, HALVES, LAYER_FIELDS, MAP_MAX, SOURCE, ShardSpec

SPLITS = ("train", "val")


def _whole_samples(value: Any) -> Any:
    """ShardSpec is a plain dataclass, so that readers need no pydantic; what pydantic would round is refused here."""
    if isinstance(value, dict) and type(value.get("samples", 1)) is not int:
        raise ValueError(f"samples must be a whole number, got {value['samples']!r}")
    return value


def _resolvable(value: Any) -> Any:
    resolve(value)  # a fault in a list of steps, or a class that cannot be loaded, belongs to the recipe's faults
    return value


Side = Annotated[int, Field(ge=16, le=8192)]
Count = Annotated[int, Field(ge=0, le=999_999_999)] | Literal["each"]


class SamplesSpec(Spec):
    """How many samples; the splits are two index spaces."""

    train: Count
    """Samples of the train split; `each`: as many as it has photographs or pairs."""
    val: Count = 0
    """Samples of the val split, likewise; its assets are not in train."""

    @model_validator(mode="after")
    def _some(self) -> "SamplesSpec":
        if self.train == 0 and self.val == 0:
            raise ValueError("train and val are both 0: nothing to make")
        return self

    @staticmethod
    def split_total(total: int, train: int, val: int) -> "SamplesSpec":
        """Split `total` samples in the proportion of two numbers, val rounded up."""
        val = min(total, math.ceil(total * val / (train + val)))
        return SamplesSpec(train=total - val, val=val)


AnyPart = TypeVar("AnyPart", bound=Spec)


class Recipe(GrownSpec):
    """All of a data set: what it is made of, how it is drawn, rendered, degraded and stored."""

    absent_unused = ("views", "source")

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")]
    """Name of the data set: lower-case letters, digits, - and _."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    """Root of every random choice."""
    samples: SamplesSpec
    """How many."""
    size: Side | Annotated[list[Side], Field(min_length=2, max_length=2)] | Literal["own"] = 512
    """Pixels: one number for a square, or [height, width]; for photographs and pairs also `own`: each as it is."""
    assets: AssetsSpec = AssetsSpec()
    """Which pictures it is made of."""
    scene: AnySpec = SceneSpec()
    """What stands where, and what is in focus; `kind: photo` or `kind: pair` for photographs instead of layers."""
    lens: LensSpec = LensSpec()
    """The opening of the lens."""
    degradation: Annotated[DegradationSpec, AfterValidator(_resolvable)] = "real-esrgan"
    """`real-esrgan`, `none`, a list of steps, or `package.module:Class`."""
    shards: Annotated[ShardSpec, BeforeValidator(_whole_samples)] = ShardSpec()
    """How samples are packed."""
    views: ViewsSpec | None = None
    """Further pictures of every scene, through other settings of the lens or parts of its opening."""
    source: SourceLensSpec | None = None
    """Where LQ starts from another picture of the same scene than the one all in focus."""

    @model_validator(mode="after")
    def _fits_together(self) -> "Recipe":
        layers = isinstance(self.scene, SceneSpec)
        if layers and self.size == "own":
            raise ValueError(
                "size: own needs photographs (scene.kind: photo or pair); layers have no size of their own"
            )
        if layers and "each" in (self.samples.train, self.samples.val):
            raise ValueError("samples: `each` needs photographs (scene.kind: photo or pair); give scenes a number")
        if self.lens.has_camera and not layers:
            raise ValueError(
                f"lens: a camera needs layers, which stand at known distances; in scene.kind: {self.scene.kind} none "
                "are known: leave the camera out, or use scene.kind: layers"
            )
        if not layers and (self.views or self.source):
            raise ValueError(f"views and source need layers; in scene.kind: {self.scene.kind} there are none to render")
        if self.source is not None:
            check_lenses(self.source, self.lens)
        if self.views is not None:
            check_views(self.views, self.lens)
        return self

    @model_validator(mode="wrap")
    @classmethod
    def _stores_all_pictures(cls, data: Any, build: ModelWrapValidatorHandler["Recipe"]) -> "Recipe":
        """Write out `shards.fields`: `views`, `layers`, and all pictures unless it is given, be it the default."""
        recipe = build(data)
        shards = data.get("shards", {}) if isinstance(data, dict) else recipe.shards
        given = "fields" in shards if isinstance(shards, dict) else shards.fields != list(DEFAULT_FIELDS)
        fields = stored_fields(recipe.shards.fields if given else None, recipe.views, recipe.source)
        fields = with_layers(fields, recipe.most_layers)
        grown = recipe.views or recipe.source or LAYER_FIELDS.keys() & set(fields)
        if grown and recipe.frame:  # other recipes were made larger before, and are read
            check_decoded(recipe.frame, fields)
        recipe.__dict__["shards"] = replace(recipe.shards, fields=fields)
        return recipe

    @property
    def frame(self) -> tuple[int, int] | None:
        """Height and width of every picture in pixels; None where each has its own."""
        if isinstance(self.size, str):
            return None
        return (self.size, self.size) if isinstance(self.size, int) else (self.size[0], self.size[1])

    @property
    def height(self) -> int:
        """Height of every picture in pixels; UsageError where each has its own size."""
        return self._frame[0]

    @property
    def width(self) -> int:
        """Width of every picture in pixels; UsageError where each has its own size."""
        return self._frame[1]

    @property
    def _frame(self) -> tuple[int, int]:
        if self.frame is None:
            raise UsageError(f"recipe {self.name}: size is `own`, so pictures differ in height and width")
        return self.frame

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits that have samples."""
        return tuple(split for split in SPLITS if getattr(self.samples, split) != 0)

    def count(self, split: str) -> int:
        """Number of samples of one split; UsageError for an unknown split."""
        if split not in SPLITS:
            raise UsageError(f"unknown split {split!r}; choose train or val")
        count = getattr(self.samples, split)
        return len(self.catalogue.pool(kinds_of_assets(self.scene)[0], split)) if count == "each" else int(count)

    @cached_property
    def scales(self) -> dict[str, float]:
        """What one count of each 16-bit map means, fixed by the recipe's bounds: defocus_scale, disparity_scale."""
        return {"defocus_scale": (self.radius_bound or 1.0) / MAP_MAX, "disparity_scale": 1.0 / MAP_MAX}

    @cached_property
    def radius_bound(self) -> float:
        """Largest blur radius in pixels that a sample can have: disparities differ by at most 1."""
        bound = self.lens.blur_bound(self.frame) if self.frame else None
        if bound is not None:
            return bound
        sides = [min(self.frame)] if self.frame else [min(asset.height, asset.width) for asset in self.catalogue.assets]
        return self.scene.radius_bound(max(sides))

    @cached_property
    def resolved_degradation(self) -> Degradation:
        """The checked chain behind `degradation`."""
        return resolve(self.degradation)

    @cached_property
    def catalogue(self) -> Catalogue:
        """The asset list, indexed and frozen when first asked for."""
        return build_catalogue(self.assets, self.splits, kinds_of_assets(self.scene))

    def with_catalogue(self, catalogue: Catalogue) -> "Recipe":
        """Return the recipe with a known asset list, such as a data set's record: nothing is indexed."""
        copy = self.model_copy()
        copy.__dict__["catalogue"] = catalogue
        return copy

    def without_derived(self) -> "Recipe":
        """Return the recipe without what was computed from it, but for the asset list.

        Where it is unpickled, classes are imported and digests computed anew.
        """
        bare: dict[str, Any] = {"lens": _bare(self.lens)}
        if self.source is not None and self.source.lens is not None:
            bare["source"] = self.source.model_copy(update={"lens": _bare(self.source.lens)})
        copy = _bare(self.model_copy(update=bare))
        return copy.with_catalogue(self.catalogue)

    @cached_property
    def digest(self) -> str:
        """Identity of everything that shapes a sample or its packing; the number of samples is not part of it.

        The paths of photographs are not part of it either: the digest of the asset list identifies their content. The
        code of the scene's layout is. Raises UntrustedCodeError where that must not be imported.
        """
        record = {key: value for key, value in self.portable_dict.items() if key != "samples"}
        if self.layout is not None:
            record["layout_code"] = sha256_bytes(layout_source(self.layout))
        return sha256_bytes(canonical_json(record))

    @property
    def portable_dict(self) -> dict[str, Any]:
        """The recipe without the paths of folders on this machine."""
        whole = self.model_dump(mode="json") | {"assets": portable(self.assets), "lens": self.lens.portable}
        return whole if self.source is None else whole | {"source": self.source.portable}

    @property
    def lenses(self) -> tuple[LensSpec, ...]:
        """The lens, and that of the source where it has one of its own."""
        own = None if self.source is None else self.source.lens
        return (self.lens,) if own is None else (self.lens, own)

    @property
    def more_pictures(self) -> list[str]:
        """Further pictures that are rendered: the source, from which LQ starts, and the views that are stored."""
        views = [] if self.views is None else [name for name in self.views.names if name in self.shards.fields]
        return views if self.source is None else [SOURCE, *views]

    @property
    def most_layers(self) -> int:
        """Layers of its largest scene, the background counted; 0 where scenes are photographs."""
        return self.scene.most_layers if isinstance(self.scene, SceneSpec) else 0

    @property
    def layer_fields(self) -> list[str]:
        """The fields that hold layers."""
        return [name for name in self.shards.fields if name in LAYER_FIELDS]

    def layers_in(self, scene: ComposedScene) -> dict[str, Any]:
        """The fields that hold layers, of a composed scene."""
        return layer_arrays(scene.layers, scene.margin, self.most_layers, self.layer_fields)

    @property
    def device_codes(self) -> CodeTable | None:
        """The table by which a device may encode: all rendered pictures are stored in 8 bits. None: some are not."""
        linear = "hq16" in self.shards.fields or set(HALVES) & set(self.more_pictures)
        return None if linear else table_of_8_bits()

    @property
    def lens_digest(self) -> str:
        """Identity of the tables of all lenses."""
        digests = [lens.digest for lens in self.lenses]
        return digests[0] if len(digests) == 1 else sha256_bytes("".join(digests))

    def device_for(self, asked: str, found: str) -> str:
        """Return `found`, or the CPU where `auto` found one that lacks a lens; UsageError where none is there."""
        for lens in self.lenses:
            found = lens.device_for(asked, found)
        return found

    @cached_property
    def identity(self) -> dict[str, str]:
        """The digests that every sample and every shard carries."""
        return self.code_identity | {"assets_digest": self.catalogue.digest}

    @property
    def code_identity(self) -> dict[str, str]:
        """The digests that follow from the recipe alone, without reading a picture."""
        return {
            "recipe_digest": self.digest,
            "lens_digest": self.lens_digest,
            "degradation_digest": self.resolved_degradation.digest,
        }

    @property
    def class_paths(self) -> list[str]:
        """Everything that it names as `package.module:Class`."""
        paths = [path for lens in self.lenses for path in lens.class_paths] + self.assets.class_paths
        layouts = [] if self.layout is None else [self.layout]
        return paths + layouts + self.resolved_degradation.class_paths

    @property
    def layout(self) -> str | None:
        """The class that says where the layers of its scenes stand, if one does."""
        return self.scene.layout if isinstance(self.scene, SceneSpec) else None

    def text(self) -> str:
        """The resolved recipe as the data set keeps it: every key written out."""
        return dump_yaml(self.model_dump(mode="json"), "yaml-language-server: $schema=schema.json")


def _bare(spec: AnyPart) -> AnyPart:
    """A copy with its fields alone."""
    copy = spec.model_copy()
    for name in copy.__dict__.keys() - type(spec).model_fields.keys():
        del copy.__dict__[name]
    return copy


def load_recipe(path_or_name: str | Path, overrides: Sequence[str] = (), total: int | None = None) -> Recipe:
    """Read a recipe from a file, or a packaged one by its name.

    `overrides` are `KEY=VALUE` strings as on the command line; `total` asks for that many samples in all, shared out
    in the recipe's proportion. Raises RecipeError with every fault, its line and the nearest valid name.
    """
    path = find_recipe(path_or_name)
    recipe = load_yaml(path, Recipe, overrides)
    packaged = path in packaged_recipes().values()
    recipe = recipe.model_copy(update={"assets": absolute_sources(recipe.assets, path, packaged, overrides)})
    lens = read_lens(recipe.lens, path, overrides, "lens")
    if recipe.views is not None and lens is not recipe.lens:
        _check_read_lens(recipe.views, lens, path)
    recipe = recipe.model_copy(update={"lens": lens})
    if recipe.source is not None and recipe.source.lens is not None:
        lens = read_lens(recipe.source.lens, path, overrides, "source.lens")
        recipe = recipe.model_copy(update={"source": recipe.source.model_copy(update={"lens": lens})})
    _check_blur(recipe, path)
    if total is not None:
        if not 1 <= total < 10**9:
            raise UsageError(f"--samples must be at least 1 and below 1,000,000,000, got {total}")
        counts = (recipe.count(split) if split in recipe.splits else 0 for split in SPLITS)
        recipe = recipe.model_copy(update={"samples": SamplesSpec.split_total(total, *counts)})
    return recipe


def _check_read_lens(views: ViewsSpec, lens: LensSpec, path: Path) -> None:
    """RecipeError for views that a lens cannot make whose files were read by now."""
    try:
        check_views(views, lens)
    except ValueError as error:
        raise RecipeError(f"{path}: {error}") from None


def _check_blur(recipe: Recipe, path: Path) -> None:
    """RecipeError for a K that the recipe gives beside a camera, from which K follows."""
    ranges = recipe.lens.ranges
    if ranges is None or not isinstance(recipe.scene, SceneSpec):
        return
    default = SceneSpec()
    given = [name for name in ("blur", "blur_is", "unit") if getattr(recipe.scene, name) != getattr(default, name)]
    if ranges.focus_m is not None and recipe.scene.focus != default.focus:
        given.append("focus")
    if given:
        what = "the distance in focus is lens's focus_m" if given == ["focus"] else "K follows from the lens's camera"
        raise RecipeError(f"{path}: scene.{given[0]}: {what}; leave scene.{', scene.'.join(given)} out, or that")


def packaged_recipes(kind: str = "data") -> dict[str, Path]:
    """The recipes that come with the package, by name; `kind` is data or train."""
    folder = Path(str(files("bokehsynth").joinpath("recipes", kind)))
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def find_recipe(path_or_name: str | Path, kind: str = "data") -> Path:
    """Find the file that a recipe argument means: a path that exists, or the name of a packaged recipe."""
    path = Path(path_or_name)
    if path.is_file():
        return path
    known = packaged_recipes(kind)
    if str(path_or_name) in known:
        return known[str(path_or_name)]
    hint = did_you_mean(str(path_or_name), known)
    raise RecipeError(
        f"{path_or_name}: no such file and no packaged recipe of that name; {hint}packaged are: {', '.join(known)}"
    )
