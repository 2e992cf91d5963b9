"""A scene: drawn as plain numbers (`draw_scene`), then composed into layers on one canvas (`compose`)."""

from bokehsynth.scene.aperture_spec import LensSpec, read_aperture
from bokehsynth.scene.composed_scene import ComposedScene
from bokehsynth.scene.dispatch import AnyDraw, AnySpec, compose, draw_scene, kinds_of_assets
from bokehsynth.scene.draw import SceneDraw
from bokehsynth.scene.pair import PairDraw, PairSpec
from bokehsynth.scene.photo import PhotoDraw, PhotoSpec
from bokehsynth.scene.spec import SceneSpec

__all__ = [
    "AnyDraw",
    "AnySpec",
    "ComposedScene",
    "LensSpec",
    "PairDraw",
    "PairSpec",
    "PhotoDraw",
    "PhotoSpec",
    "SceneDraw",
    "SceneSpec",
    "compose",
    "draw_scene",
    "kinds_of_assets",
    "read_aperture",
]
