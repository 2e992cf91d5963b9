"""What a recipe says about a scene of layers."""

from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field, model_validator

from bokehsynth.config.distributions import Constant, Distribution, GrownSpec, Spec, Uniform, bounds, within
from bokehsynth.scene.layout import check_layout

FocusMode = Literal["layer", "foreground", "background", "pixel"]


class DisparitySpec(Spec):
    """Where the layers stand between far (0) and near (1)."""

    background: Annotated[Distribution, within(0, 1)] = Uniform(kind="uniform", low=0.0, high=0.3)
    """Disparity of the background at the picture's centre."""
    nearest: Annotated[float, Field(gt=0, le=1)] = 1.0
    """No foreground comes nearer than this."""
    gap: Annotated[float, Field(ge=0, le=0.5)] = 0.05
    """Least distance between neighbouring layers, kept over the whole canvas: planes never cross."""


class SceneSpec(GrownSpec):
    """Cut-outs in front of a background: what stands where, and what is in focus."""

    absent_unused: ClassVar[tuple[str, ...]] = ("layout",)

    kind: Literal["layers"] = "layers"
    foregrounds: Annotated[Distribution, within(0, 6)] = Constant(value=2)
    """Number of cut-outs in front of the background, 0 to 6; what is drawn is rounded."""
    disparity: DisparitySpec = DisparitySpec()
    """Where the layers stand."""
    blur: Annotated[Distribution, within(0, 4096)] = Uniform(kind="uniform", low=0.0, high=32.0)
    """K: pixels of blur radius per unit of disparity difference (or what `blur_is` says). A blur so large that rays
    would run along a tilted plane is reduced to K * slope = 0.5."""
    blur_is: Literal["K", "largest_radius"] = "K"
    """`largest_radius`: `blur` is the radius of the most blurred pixel of the planes, and K follows from it (it comes
    out smaller only where K had to be reduced)."""
    unit: Literal["px_at_512", "px"] = "px_at_512"
    """`px_at_512`: `blur` holds for 512 px of the shorter side and scales with `size`; `px`: absolute."""
    focus: FocusMode | Annotated[Distribution, within(0, 1)] = "layer"
    """`layer`: on one of the layers, evenly; `foreground`, `background`: on one of that kind; `pixel`: on what is seen
    at a random pixel; a number or distribution: that disparity."""
    background_tilt: Annotated[Distribution, within(0, 1)] = Uniform(kind="uniform", low=0.0, high=0.2)
    """Disparity difference across the picture along the steepest direction."""
    background_tilt_angle: Distribution = Uniform(kind="uniform", low=0.0, high=360.0)
    """Direction in which the background comes nearer, degrees clockwise from +x (90 = downwards)."""
    foreground_tilt: Annotated[Distribution, within(0, 1)] = Constant(value=0.0)
    """Disparity difference of a cut-out's plane across the picture; its direction is drawn evenly."""
    highlight_boost: Annotated[Distribution, within(1, 1000)] = Constant(value=1.0)
    """Gain given back to the lamps of a photographed landscape that its file clipped at white: small, in the dark, by
    night. Large bright areas, pictures taken by day and cut-outs are left. City lights become discs at 10 to 100."""
    scale: Annotated[Distribution, within(0.05, 4)] = Uniform(kind="uniform", low=0.55, high=0.95)
    """Longer side of a cut-out over the shorter side of the picture."""
    rotation: Distribution = Uniform(kind="uniform", low=-4.0, high=4.0)
    """Degrees clockwise; cut-outs that a frame side cuts off are not rotated."""
    flip: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Probability that a picture is mirrored."""
    exposure: Annotated[Distribution, within(-6, 6)] = Uniform(kind="uniform", low=-0.3, high=0.3)
    """Stops by which each picture is made lighter."""
    light_match: Annotated[float, Field(ge=0, le=1)] = 0.5
    """How far the light on a cut-out follows the background's: 0 not at all, 1 wholly (brightness in stops, and half of
    that in colour)."""
    layout: Annotated[str, AfterValidator(check_layout)] | None = None
    """`package.module:Class` that says where the layers stand: their disparities and, as far as it does, their places;
    the rest is drawn as the other keys say. Absent: all of it is."""

    @model_validator(mode="after")
    def _has_room(self) -> "SceneSpec":
        most, step = round(bounds(self.foregrounds)[1]), self.disparity.gap
        if bounds(self.disparity.background)[1] + most * step > self.disparity.nearest:
            raise ValueError(
                f"{most} foregrounds with a gap of {step:g} do not fit between the background "
                f"(up to {bounds(self.disparity.background)[1]:g}) and nearest = {self.disparity.nearest:g}"
            )
        if self.focus == "foreground" and bounds(self.foregrounds)[0] < 1:
            raise ValueError("focus: foreground needs at least one foreground in every scene")
        return self

    @property
    def most_layers(self) -> int:
        """Layers of its largest scene, the background counted."""
        return round(bounds(self.foregrounds)[1]) + 1

    def radius_bound(self, shorter_side: int) -> float:
        """Largest blur radius in pixels that a scene of this spec can hold: disparities differ by at most 1."""
        return bounds(self.blur)[1] * self.blur_scale(shorter_side)

    def blur_scale(self, shorter_side: int) -> float:
        """What `blur` is multiplied by to be in pixels of this data set."""
        return shorter_side / 512 if self.unit == "px_at_512" else 1.0
