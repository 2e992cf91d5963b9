"""A scene: drawn as plain numbers (`draw_scene`), then composed into layers on one canvas (`compose`)."""

from bokehsynth.scene.compose import Composition, compose
from bokehsynth.scene.draw import SceneDraw, draw_scene
from bokehsynth.scene.spec import LensSpec, SceneSpec

__all__ = ["Composition", "LensSpec", "SceneDraw", "SceneSpec", "compose", "draw_scene"]
