"""What a recipe may say about degradation: the steps, their bounds, and the packaged presets.

The preset `real-esrgan` is Real-ESRGAN's second-order chain (Wang et al. 2021, arXiv:2107.10833), with the numbers of
its released x4plus configuration, which OSEDiff's `params_realesrgan.yml` repeats. Sharpening of the target (USM) is
off: it would belong to the target, not to the degradation.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, ConfigDict, Discriminator, Field, Tag, TypeAdapter, ValidationError

from bokehsynth.config.distributions import Spec
from bokehsynth.config.fault_words import did_you_mean
from bokehsynth.config.user_code import check_class_path, is_refused
from bokehsynth.degradation.custom import load_step, step_source
from bokehsynth.errors import UsageError
from bokehsynth.files import canonical_json, sha256_bytes

Mode = Literal["area", "bilinear", "bicubic"]
"""Ways to resize: pixel areas averaged, or linear / cubic (a = -0.75) interpolation without prefilter."""


def _ordered(pair: tuple[float, float]) -> tuple[float, float]:
    if pair[0] > pair[1]:
        raise ValueError(f"must be [low, high] with low <= high, got [{pair[0]}, {pair[1]}]")
    return pair


def _around_one(pair: tuple[float, float]) -> tuple[float, float]:
    if not pair[0] <= 1 <= pair[1]:
        raise ValueError(f"must be [low, high] with low <= 1 <= high, got [{pair[0]}, {pair[1]}]")
    return pair


def _odd(pair: tuple[int, int]) -> tuple[int, int]:
    if pair[0] % 2 == 0 or pair[1] % 2 == 0:
        raise ValueError(f"kernel sizes are odd, got [{pair[0]}, {pair[1]}]")
    return pair


def _distinct(modes: tuple[Mode, ...]) -> tuple[Mode, ...]:
    if len(set(modes)) != len(modes):
        raise ValueError(f"names a mode twice: {', '.join(modes)}")
    return modes


Probability = Annotated[float, Field(ge=0, le=1)]
Weight = Annotated[float, Field(ge=0)]
Sigma = Annotated[float, Field(gt=0, le=50)]
Level = Annotated[float, Field(ge=0, le=255)]
Angle = Annotated[float, Field(ge=-7, le=7)]
Omega = Annotated[float, Field(gt=0, le=math.pi)]
Size = Annotated[int, Field(ge=3, le=63)]
Quality = Annotated[int, Field(ge=1, le=100)]
Factor = Annotated[float, Field(ge=0.01, le=8)]
Shape = Annotated[float, Field(ge=0.1, le=16)]
PoissonScale = Annotated[float, Field(ge=0, le=20)]

T = TypeVar("T")
_LIST = Field(strict=False)  # lets a YAML list be a tuple; the numbers inside stay strict
Range = Annotated[tuple[T, T], _LIST, AfterValidator(_ordered)]
RangeAroundOne = Annotated[tuple[T, T], _LIST, AfterValidator(_around_one)]
SizeRange = Annotated[Range[Size], AfterValidator(_odd)]
Modes = Annotated[tuple[Mode, ...], _LIST, Field(min_length=1), AfterValidator(_distinct)]
StepPath = Annotated[str, AfterValidator(check_class_path)]

ALL_MODES: tuple[Mode, ...] = ("area", "bilinear", "bicubic")


class KernelWeights(Spec):
    """How often each family of blur kernel is drawn, as weights on any common positive scale."""

    iso: Weight = 0.0
    """Round Gaussian."""
    aniso: Weight = 0.0
    """Elliptic Gaussian, rotated."""
    generalized_iso: Weight = 0.0
    """Round exp(-q^beta / 2), sharper or flatter than a Gaussian."""
    generalized_aniso: Weight = 0.0
    """The same, elliptic and rotated."""
    plateau_iso: Weight = 0.0
    """Round 1 / (1 + q^beta), with long tails."""
    plateau_aniso: Weight = 0.0
    """The same, elliptic and rotated."""

    def model_post_init(self, context: Any, /) -> None:
        """Refuse weights of which none is positive."""
        if not any(self.model_dump().values()):
            raise ValueError("at least one kernel weight must be positive")


_REAL_ESRGAN_KERNELS = KernelWeights(
    iso=0.45, aniso=0.25, generalized_iso=0.12, generalized_aniso=0.03, plateau_iso=0.12, plateau_aniso=0.03
)


class Blur(Spec):
    """Convolve with one drawn kernel; borders are mirrored without repeating the edge pixel."""

    kind: Literal["blur"] = "blur"
    """This step."""
    probability: Probability = 1.0
    """That the picture is blurred at all."""
    sinc: Probability = 0.1
    """That the kernel is a sinc low-pass (ringing) instead of one of `kernels`."""
    kernels: KernelWeights = _REAL_ESRGAN_KERNELS
    """Weights of the other families."""
    size: SizeRange = (7, 21)
    """Kernel size in pixels of the picture at this step, odd, evenly drawn."""
    sigma: Range[Sigma] = (0.2, 3.0)
    """Standard deviation in pixels; the elliptic families draw one per axis."""
    rotation: Range[Angle] = (-math.pi, math.pi)
    """Angle of the elliptic families, radians."""
    beta_generalized: RangeAroundOne[Shape] = (0.5, 4.0)
    """Shape of the generalized families: evenly below 1 in half of the draws, evenly above in the other half."""
    beta_plateau: RangeAroundOne[Shape] = (1.0, 2.0)
    """Shape of the plateau families, drawn in the same way; with a lower end of 1, half of the draws are 1."""
    omega: Range[Omega] = (math.pi / 5, math.pi)
    """Cut-off of sinc kernels of size 13 and more, radians per pixel; pi passes everything."""
    omega_small: Range[Omega] = (math.pi / 3, math.pi)
    """Cut-off of smaller sinc kernels."""


class Resize(Spec):
    """Change the size by a drawn factor; later steps see the other size."""

    kind: Literal["resize"] = "resize"
    """This step."""
    up: Weight = 0.2
    """Weight of enlarging, factor evenly in [1, high]."""
    down: Weight = 0.7
    """Weight of reducing, factor evenly in [low, 1]."""
    keep: Weight = 0.1
    """Weight of factor 1."""
    range: RangeAroundOne[Factor] = (0.15, 1.5)
    """[low, high] with low <= 1 <= high; a factor multiplies height and width."""
    modes: Modes = ALL_MODES
    """One is drawn evenly."""
    relative_to: Literal["current", "native"] = "current"
    """What the factor multiplies: the size at this step, or the picture's own size over `final.scale`."""

    def model_post_init(self, context: Any, /) -> None:
        """Refuse weights of which none is positive."""
        if self.up + self.down + self.keep <= 0:
            raise ValueError("one of up, down, keep must be positive")


class Noise(Spec):
    """Add Gaussian or Poisson noise, then clamp to 0..1."""

    kind: Literal["noise"] = "noise"
    """This step."""
    probability: Probability = 1.0
    """That there is any noise."""
    gaussian: Probability = 0.5
    """That the noise is Gaussian; else Poisson."""
    sigma: Range[Level] = (1.0, 30.0)
    """Standard deviation of the Gaussian noise, in 8-bit levels (0..255)."""
    poisson_scale: Range[PoissonScale] = (0.05, 3.0)
    """Multiplies Poisson noise of as many photons at white as the picture has levels, rounded up to a power of 2."""
    gray: Probability = 0.4
    """That all three channels get the same noise."""


class Jpeg(Spec):
    """Clamp, round to 8 bit and compress as JPEG with 4:2:0 chroma (libjpeg through OpenCV)."""

    kind: Literal["jpeg"] = "jpeg"
    """This step."""
    probability: Probability = 1.0
    """That the picture is compressed at all."""
    quality: Range[Quality] = (30, 95)
    """libjpeg quality, evenly drawn, both ends included."""


class Final(Spec):
    """Bring the picture to its low-quality size, with ringing and a last JPEG in either order. Only as last step."""

    kind: Literal["final"] = "final"
    """This step."""
    scale: Annotated[int, Field(ge=1, le=16)] = 4
    """The low-quality picture is [max(1, H // scale), max(1, W // scale)]."""
    modes: Modes = ALL_MODES
    """For that resize, drawn evenly."""
    sinc: Probability = 0.8
    """That a sinc low-pass follows the resize."""
    size: SizeRange = (7, 21)
    """Size of the sinc kernel in low-quality pixels, odd, evenly drawn."""
    omega: Range[Omega] = (math.pi / 3, math.pi)
    """Cut-off of the sinc kernel, radians per pixel."""
    jpeg_first: Probability = 0.5
    """That the order is JPEG, resize, sinc; else resize, sinc, JPEG."""
    quality: Range[Quality] = (30, 95)
    """libjpeg quality, evenly drawn, both ends included."""
    upscale: Modes = ALL_MODES
    """How the low-quality picture returns to the picture's own size, drawn evenly, as OSEDiff draws it."""


class CustomStep(Spec):
    """A step of one's own, for example a camera's ISP: see `bokehsynth.degradation.custom.DegradationStep`."""

    # schema.json keeps its bytes, and so the path of 0.4: docstrings of recipe sections are its descriptions.
    model_config = ConfigDict(
        json_schema_extra={
            "description": "A step of one's own, for example a camera's ISP: see "
            "`bokehsynth.degrade.custom.DegradationStep`."
        }
    )

    kind: Literal["custom"] = "custom"
    """This step."""
    path: StepPath
    """`package.module:Class`, importable where the data is made; in a list the bare string will do."""


Step = Annotated[Blur | Resize | Noise | Jpeg | Final | CustomStep, Field(discriminator="kind")]


def _check_name(name: str) -> str:
    if name in PRESETS:
        return name
    if ":" in name:
        return check_class_path(name)
    hint = did_you_mean(name, PRESETS)
    raise ValueError(f"{hint}must be {', '.join(PRESETS)}, package.module:Class or a list of steps, got {name!r}")


SPEC_TAGS = frozenset({"string", "mapping", "list"})
"""Parts of pydantic's error locations that name a branch of the unions below, not a place in the recipe."""


def _item_tag(item: Any) -> str:
    return "string" if isinstance(item, str) else "mapping"


def _spec_tag(spec: Any) -> str:
    return "list" if isinstance(spec, list | tuple) else "string"


_ClassName = Annotated[StepPath, Field(description="package.module:Class, a step of one's own"), Tag("string")]
_PresetOrClass = Annotated[
    str, AfterValidator(_check_name), Field(description="real-esrgan, none, or package.module:Class"), Tag("string")
]
StepItem = Annotated[_ClassName | Annotated[Step, Tag("mapping")], Discriminator(_item_tag)]
DegradationSpec = Annotated[_PresetOrClass | Annotated[list[StepItem], Tag("list")], Discriminator(_spec_tag)]
"""What stands under `degradation:` in a recipe: `real-esrgan`, `none`, a list of steps, or `package.module:Class`."""


@dataclass(frozen=True)
class Degradation:
    """A checked chain of steps; what `draw_degradation` draws from."""

    steps: tuple[Blur | Resize | Noise | Jpeg | Final | CustomStep, ...]

    def __post_init__(self) -> None:
        if any(isinstance(step, Final) for step in self.steps[:-1]):
            raise UsageError("degradation: `final` may only be the last step")

    @property
    def final(self) -> Final | None:
        """The closing step, if there is one."""
        return self.steps[-1] if self.steps and isinstance(self.steps[-1], Final) else None

    @property
    def scale(self) -> int:
        """Size of the picture over the size of its low-quality form; 1 without a `final` step."""
        return self.final.scale if self.final else 1

    @property
    def upscale(self) -> tuple[Mode, ...]:
        """The modes that bring the result back to the picture's size; bicubic without a `final` step."""
        return self.final.upscale if self.final else ("bicubic",)

    @property
    def class_paths(self) -> list[str]:
        """The user-defined classes among its steps, `package.module:Class`."""
        return [step.path for step in self.steps if isinstance(step, CustomStep)]

    @property
    def digest(self) -> str:
        """Identity of the chain: every number of its steps, and the source text of user-defined classes."""
        sources = [step_source(path) for path in self.class_paths]
        return sha256_bytes(canonical_json([[step.model_dump(mode="json") for step in self.steps], sources]))


PRESETS: dict[str, Degradation] = {
    "real-esrgan": Degradation(
        (
            Blur(),
            Resize(),
            Noise(),
            Jpeg(),
            Blur(probability=0.8, sigma=(0.2, 1.5)),
            Resize(up=0.3, down=0.4, keep=0.3, range=(0.3, 1.2), relative_to="native"),
            Noise(sigma=(1.0, 25.0), poisson_scale=(0.05, 2.5)),
            Final(),
        )
    ),
    "none": Degradation(()),
}
"""The defaults of the steps are the first stage of Real-ESRGAN; the preset writes out where the second differs."""

_ADAPTER: TypeAdapter[Any] = TypeAdapter(DegradationSpec)


def resolve(spec: str | Sequence[str | Mapping[str, Any] | Spec] | Degradation) -> Degradation:
    """Turn what a recipe says into a checked chain.

    `spec` is a preset name, a list of steps (mappings with `kind`, step models, or `package.module:Class` strings),
    or one such string. Classes are imported and checked here, so that a run fails before it starts. A UsageError names
    every fault with its place in the list.
    """
    if isinstance(spec, Degradation):
        return spec
    try:
        checked = _ADAPTER.validate_python(spec)
    except ValidationError as error:
        raise UsageError("\n".join(_fault(fault) for fault in error.errors())) from None
    if isinstance(checked, str) and checked in PRESETS:
        return PRESETS[checked]
    items = [checked] if isinstance(checked, str) else checked
    steps = tuple(CustomStep(path=item) if isinstance(item, str) else item for item in items)
    for step in steps:
        if isinstance(step, CustomStep) and not is_refused(step.path):
            load_step(step.path)
    return Degradation(steps)


def _fault(fault: Any) -> str:
    place = [str(part) for part in fault["loc"] if part not in SPEC_TAGS]
    message = fault["msg"].removeprefix("Value error, ")
    shown = "" if "got " in message else f" (got {fault.get('input')!r})"
    return f"{'.'.join(['degradation', *place])}: {message}{shown}"
