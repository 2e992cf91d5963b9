"""Counts that are part of the promise. Times are measured in benchmarks/magicbokeh.py."""

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from magicbokeh import ModelConfig, TileOptions, build_networks
from magicbokeh.inference.tiled_forward import Canvas, TiledForward


def tflop(call):
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        call()
    return counter.get_total_flops() / 1e12


def test_a_photo_of_twelve_megapixels_costs_less_than_half():
    """4032 x 3024 at full resolution: at most 45 % of the official scheme, by torch's own counter on the real sizes.

    The masked path is counted as if it had no segments, in both.
    """
    with torch.device("meta"):
        networks = build_networks(ModelConfig.sd21(sr_rank=0, vae_rank=0, bokeh_rank=4))
        picture, defocus, latent = torch.empty(1, 3, 512, 512), torch.empty(1, 1, 512, 512), torch.empty(1, 4, 64, 64)
        step = tflop(lambda: networks.unet(latent, networks.controlnet(latent, defocus)))
        encode, decode = tflop(lambda: networks.vae.encode(picture)), tflop(lambda: networks.vae.decode(latent))
    text = 0.0451
    official = 15 * 11 * (encode + decode + step + text)
    assert round(official) == 787

    run = TiledForward(lambda *_: None, lambda x: x, torch.device("cpu"), 64, 8, TileOptions(), lambda total: None)
    empty = np.broadcast_to(np.float32(0), (3024, 4032, 3))
    canvas = Canvas.pad(empty, empty[..., 0], 64, 8)
    tiles, decoded = run.grid(canvas), run.decode_grid(canvas)
    with torch.device("meta"):
        part = torch.empty(1, 4, decoded.rows.size, decoded.columns.size)
        band = tflop(lambda: networks.vae.decode(part))
    ours = len(tiles) * (encode + step) + len(decoded) * band
    assert len(tiles) == 88
    assert ours <= 0.45 * official, (ours, official)  # seen: 338 of 787


def test_segments_need_less_than_the_whole():
    """At 30 % in focus the masked path computes 0.3² + 0.7² of the pairs."""
    from magicbokeh.model.attention import Regions, segmented_attention

    labels = torch.zeros((1, 1000), dtype=torch.bool)
    labels[0, :300] = True
    query, found = torch.empty((1, 2, 1000, 8), device="meta"), Regions.from_labels(labels)
    regions = Regions(found.order.to("meta"), found.inverse.to("meta"), found.counts)
    whole = tflop(lambda: torch.nn.functional.scaled_dot_product_attention(query, query, query))
    split = tflop(lambda: segmented_attention(query, query, query, regions))
    assert abs(split / whole - 0.58) < 1e-6
