"""A picture from plain rays alone, by `ray_tracer.trace_tiles`: what the CPU renderer must converge to."""

import numpy as np

from bokehsynth.rendering.aperture.lens_points import bake
from bokehsynth.rendering.aperture.pupil import NO_DISC
from bokehsynth.rendering.cpu.kernel_arguments import Camera, Picture, Pyramids, TracedLayers
from bokehsynth.rendering.cpu.ray_tracer import trace_tiles
from bokehsynth.rendering.cpu.tile_bounds import min_max_pyramid, pyramid_levels
from bokehsynth.rendering.tile_constants import TILE_H, TILE_W


def trace_points(scene, points, weights):
    """Colour [H, W, 3] and coverage [H, W] from the lens points [N, 2] with weights [N, 3], the same on every tile."""
    levels = pyramid_levels(*scene.layers[0].shape)
    packed = np.stack([layer.packed for layer in scene.layers])
    pyramids = Pyramids(np.stack([min_max_pyramid(planes, levels) for planes in packed]), levels)
    planes = np.array([(layer.disparity.d, layer.disparity.gx, layer.disparity.gy) for layer in scene.layers])
    rows, columns = packed.shape[2:]
    camera = Camera(scene.lens.blur, scene.lens.focus, (rows - 1) / 2, (columns - 1) / 2)
    layers = TracedLayers(packed, planes, pyramids, camera, scene.margin)
    rays = points, np.ascontiguousarray(weights.T, np.float32), np.array([(0, len(points))], np.int64)
    color, coverage = np.empty((*scene.size, 3), np.float32), np.empty(scene.size, np.float32)
    corners = [(y, x) for y in range(0, scene.size[0], TILE_H) for x in range(0, scene.size[1], TILE_W)]
    trace_tiles(layers, rays, NO_DISC, np.array(corners), Picture(color, coverage))
    return color, coverage


def trace_grid(scene, side):
    """`trace_points` with the side x side grid of the scene's own aperture."""
    table = bake(scene.lens.aperture, side)
    return trace_points(scene, table.points, table.weights)
