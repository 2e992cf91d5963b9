"""MagicBokeh beside the official release's formulation: attention, a tile step by step, and a 12 megapixel photo.

    python -m benchmarks.magicbokeh [--rounds 7] [--threads 1] [--compile]

The official formulation is written anew from its description: a dense mask added to materialised scores, LoRAs beside
the weights, a text encoder whose output is unused, overlapping tiles decoded one by one. Correctness is checked
before anything is timed; the candidates take turns in one process; medians.
"""

import argparse
import statistics
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from torch.utils.flop_counter import FlopCounterMode
from tqdm import tqdm

from benchmarks.machine import machine_lines
from magicbokeh import ModelConfig, TileOptions, build_networks
from magicbokeh.inference.tiled_forward import Canvas, TiledForward
from magicbokeh.model.attention import Regions, segmented_attention
from magicbokeh.model.bundle import Networks

PHOTO = (3024, 4032)
MIDDLE = ModelConfig(
    sample_size=32,
    block_out_channels=(64, 128, 256, 256),
    heads=(2, 4, 8, 8),
    norm_groups=16,
    map_channels=(8, 8, 16, 32),
    vae_block_out_channels=(16, 32, 64, 64),
    vae_norm_groups=8,
    sr_rank=8,
    vae_rank=8,
    bokeh_rank=16,
    bokeh_alpha=1.0,
)
"""A fifth of the real widths, at a tile of 256 px."""

Run = Callable[[], Any]


def medians(candidates: dict[str, Run], rounds: int) -> dict[str, float]:
    """Milliseconds; the candidates take turns."""
    times: dict[str, list[float]] = {name: [] for name in candidates}
    for turn in range(rounds + 1):
        for name, run in candidates.items():
            start = time.perf_counter()
            run()
            if turn:  # the first round warms up
                times[name].append(1000 * (time.perf_counter() - start))
    return {name: statistics.median(values) for name, values in times.items()}


# --- attention


def official_masked(query: Tensor, key: Tensor, value: Tensor, labels: Tensor) -> Tensor:
    """Scores in memory, a mask of 0 and -100 per head, softmax. Tensors [B, heads, N, d]."""
    batch, heads, tokens, dim = query.shape
    q, k, v = (part.reshape(batch * heads, tokens, dim) for part in (query, key, value))
    mask = torch.where(labels[:, :, None] == labels[:, None, :], 0.0, -100.0).repeat_interleave(heads, 0)
    scores = torch.baddbmm(torch.empty(1), q, k.transpose(1, 2), beta=0, alpha=dim**-0.5)
    scores = scores + mask
    return torch.bmm(scores.softmax(dim=-1), v).reshape(batch, heads, tokens, dim)


def attention_table(rounds: int) -> list[str]:
    """4,096 tokens, 5 heads of 64, 30 % in focus: the layer of a 512 px tile with the most tokens."""
    noise = torch.Generator().manual_seed(0)
    query, key, value = torch.randn((3, 1, 5, 4096, 64), generator=noise)
    labels = torch.zeros((1, 4096), dtype=torch.bool)
    labels[0, : int(0.3 * 4096)] = True
    regions = Regions.from_labels(labels)
    dense = (labels[:, None, :, None] == labels[:, None, None, :]).expand(1, 5, -1, -1)
    candidates: dict[str, Run] = {
        "official: dense mask on materialised scores": lambda: official_masked(query, key, value, labels),
        "torch SDPA with a boolean mask": lambda: scaled_dot_product_attention(query, key, value, dense),
        "torch SDPA, no mask (another function)": lambda: scaled_dot_product_attention(query, key, value),
        "two segments": lambda: segmented_attention(query, key, value, regions),
    }
    error = float(
        (segmented_attention(query, key, value, regions) - official_masked(query, key, value, labels)).abs().max()
    )
    assert error < 1e-5, error
    found = medians(candidates, rounds)
    slowest = next(iter(found.values()))
    rows = [f"| {name} | {ms:.0f} | {slowest / ms:.1f} |" for name, ms in found.items()]
    return [
        "| masked attention, 4,096 tokens | ms | times faster |",
        "|---|---|---|",
        *rows,
        "",
        f"Largest difference {error:.0e}.",
    ]


# --- one tile, row by row


class OfficialProcessor:
    """The official attention processor on a layer's own bokeh LoRA: both paths, the masked one dense."""

    def __init__(self, lora: Any, labels: dict[int, Tensor]) -> None:
        self.lora, self.labels = lora, labels

    def __call__(self, attn: Any, hidden_states: Tensor, *_: Any, regions: Any = None, **__: Any) -> Tensor:
        """As diffusers calls it."""
        batch, tokens, width = hidden_states.shape

        def heads(part: Tensor) -> Tensor:
            return part.view(batch, tokens, attn.heads, -1).transpose(1, 2)

        def low(name: str, values: Tensor) -> Tensor:
            return self.lora.scale * getattr(self.lora, name)(values)

        q, k, v = attn.to_q(hidden_states), attn.to_k(hidden_states), attn.to_v(hidden_states)
        plain = scaled_dot_product_attention(heads(q), heads(k), heads(v))
        changed = [heads(part + low(f"to_{name}_lora", hidden_states)) for name, part in (("q", q), ("k", k), ("v", v))]
        masked = official_masked(changed[0], changed[1], changed[2], self.labels[tokens])

        def joined(part: Tensor) -> Tensor:
            return part.transpose(1, 2).reshape(batch, tokens, width)

        return attn.to_out[0](joined(plain)) + low("to_out_lora", joined(masked))


def make_official(networks: Networks, defocus: Tensor) -> None:
    """Give the networks the official attention."""
    side = networks.unet.config.sample_size
    labels = {}
    for level in range(3):
        step = defocus.shape[2] // (side >> level)
        labels[(side >> level) ** 2] = (defocus <= networks.focus_threshold)[:, 0, ::step, ::step].flatten(1)
    for layer in networks.unet.focus_layers():
        layer.processor = OfficialProcessor(layer._modules.pop("processor"), labels)


def text_encoder() -> Run:
    """A text encoder as large, beside the middle network, as CLIP is beside the real one."""
    from transformers import CLIPTextConfig, CLIPTextModel

    config = CLIPTextConfig(
        hidden_size=256,
        intermediate_size=1024,
        num_hidden_layers=23,
        num_attention_heads=4,
        vocab_size=100,
        bos_token_id=0,
        eos_token_id=2,
    )
    model = CLIPTextModel(config).eval()
    tokens = torch.full((1, 77), 1)
    return lambda: model(tokens)


def tile_table(rounds: int, compiled: bool) -> list[str]:
    """Gains: each row adds one change to the one above."""
    noise = torch.Generator().manual_seed(1)
    side = MIDDLE.sample_size * MIDDLE.scale
    lq = torch.rand((1, 3, side, side), generator=noise) * 2 - 1
    x = torch.linspace(0, 1, side)
    defocus = (x[None, :] * x[:, None])[None, None].contiguous()
    prompt = text_encoder()

    def fresh() -> Networks:
        networks = build_networks(MIDDLE, 0)
        for part in (networks.unet, networks.controlnet, networks.vae):
            part.eval()
        return networks

    def run(networks: Networks, many: int = 1) -> Run:
        pictures, maps = lq.expand(many, -1, -1, -1).contiguous(), defocus.expand(many, -1, -1, -1).contiguous()
        return lambda: networks.restore(pictures, maps).image

    official = fresh()
    make_official(official, defocus)
    segments, merged, folded, lasting = fresh(), fresh(), fresh(), fresh()
    merged.vae.fuse()
    merge_only(merged)
    folded.fuse()
    lasting.fuse()
    for part in (lasting.unet, lasting.controlnet, lasting.vae):
        part.to(memory_format=torch.channels_last)
    rows: dict[str, tuple[Run, int]] = {
        "official formulation": (lambda: (prompt(), run(official)()), 1),
        "no text encoder": (run(official), 1),
        "two segments for the mask": (run(segments), 1),
        "LoRAs merged": (run(merged), 1),
        "time embedding folded": (run(folded), 1),
        "channels last": (run(lasting), 1),
        "four tiles at once": (run(lasting, 4), 4),
    }
    if compiled:
        quick = fresh()
        quick.fuse()
        for part in (quick.unet, quick.controlnet):
            part.compile()
        rows["torch.compile (of the row 'folded')"] = (run(quick), 1)
    wanted = run(official)()
    for name, (call, _) in list(rows.items())[1:]:
        error = float((call()[:1] - wanted).abs().max())
        assert error < 1e-4, (name, error)
    found = medians({name: call for name, (call, _) in rows.items()}, rounds)
    first = next(iter(found.values()))
    lines = [
        f"| {name} | {found[name] / many:.0f} | {first / (found[name] / many):.2f} |"
        for name, (_, many) in rows.items()
    ]
    return ["| one tile at a fifth of the widths | ms per tile | times faster, in all |", "|---|---|---|", *lines]


def merge_only(networks: Networks) -> None:
    """Merged LoRAs, time embedding kept."""
    from magicbokeh.model.lora import merge_lora

    merge_lora(networks.unet)


def tiling_table(rounds: int) -> list[str]:
    """A photo of 960 x 768 in tiles of 256, everything else fused: what the tiles alone cost."""
    networks = build_networks(MIDDLE, 0)
    networks.fuse()
    noise = torch.Generator().manual_seed(2)
    image = torch.rand((768, 960, 3), generator=noise).numpy()
    canvas = Canvas.pad(image, image[..., 0], MIDDLE.sample_size, MIDDLE.scale)
    run = TiledForward(
        forward=networks.restore, decode=networks.decode, device=torch.device("cpu"), sample_size=MIDDLE.sample_size,
        scale=MIDDLE.scale,
        options=TileOptions(), progress=lambda total: tqdm(total=total, disable=True),
    )  # fmt: skip
    lq = torch.from_numpy(image).permute(2, 0, 1)[None] * 2 - 1
    starts = [(top, left) for top in official_positions(768, 256) for left in official_positions(960, 256)]

    def official() -> None:
        for top, left in starts:
            part = lq[:, :, top : top + 256, left : left + 256]
            _ = networks.restore(part, part[:, :1] / 2 + 0.5).image

    found = medians({"official": official, "ours": lambda: run.picture(canvas, None)}, rounds)
    ours = f"{len(run.grid(canvas))} steps, {len(run.decode_grid(canvas))} decoded"
    return [
        "| 960 x 768 at a fifth of the widths | tiles | s | times faster |",
        "|---|---|---|---|",
        f"| stride of half a tile, each decoded | {len(starts)} | {found['official'] / 1000:.1f} | 1.0 |",
        f"| evenly placed, merged latents | {ours} | {found['ours'] / 1000:.1f} | "
        f"{found['official'] / found['ours']:.1f} |",
    ]


# --- a photo of 12 megapixels, in operations


@dataclass(frozen=True)
class Work:
    """TFLOP per 512 px tile (decode: of the given tile)."""

    encode: float
    step: float
    text: float

    decode: Callable[[int, int], float]


def count(call: Run) -> float:
    """TFLOP by torch's own counter."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        call()
    return counter.get_total_flops() / 1e12


def real_work() -> Work:
    """The real network on the meta device. The masked path is counted in full, for both."""
    from transformers import CLIPTextConfig, CLIPTextModel

    with torch.device("meta"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        networks = build_networks(ModelConfig.sd21(sr_rank=0, vae_rank=0, bokeh_rank=4))
        text = CLIPTextModel(
            CLIPTextConfig(hidden_size=1024, intermediate_size=4096, num_hidden_layers=23, num_attention_heads=16)
        )
        picture, defocus, latent = torch.empty(1, 3, 512, 512), torch.empty(1, 1, 512, 512), torch.empty(1, 4, 64, 64)
        tokens = torch.zeros((1, 77), dtype=torch.long)
        step = count(lambda: networks.unet(latent, networks.controlnet(latent, defocus)))
        return Work(
            encode=count(lambda: networks.vae.encode(picture)),
            step=step,
            text=count(lambda: text(tokens)),
            decode=lambda h, w: count(lambda: networks.vae.decode(torch.empty(1, 4, h, w, device="meta"))),
        )


def photo_work() -> dict[str, tuple[int, float]]:
    """Tiles and TFLOP of a photo of 4032 x 3024 in each scheme."""
    work = real_work()
    height, width = PHOTO
    official_tiles = len(official_positions(height)) * len(official_positions(width))
    official = official_tiles * (work.encode + work.step + work.text + work.decode(64, 64))
    found = {"official: stride 256, text encoder, each tile decoded": (official_tiles, official)}
    for name, size in (("evenly placed, merged latents", PHOTO), ("the same at work_size 1512", (1512, 2016))):
        run, canvas = geometry(size)
        grid, decoder = run.grid(canvas), run.decode_grid(canvas)
        total = len(grid) * (work.encode + work.step)
        total += len(decoder) * work.decode(decoder.rows.size, decoder.columns.size)
        found[name] = (len(grid), total)
    return found


def official_positions(length: int, tile: int = 512) -> list[int]:
    """Tiles every half tile, and one more at the end where that leaves a rest."""
    starts = list(range(0, length - tile + 1, tile // 2))
    return starts if length % (tile // 2) == 0 else [*starts, length - tile]


def geometry(size: tuple[int, int]) -> tuple[TiledForward, Canvas]:
    """The pipeline's own tiles of a picture of that size."""
    import numpy as np

    run = TiledForward(
        forward=lambda *_: None, decode=lambda x: x, device=torch.device("cpu"), sample_size=64, scale=8,
        options=TileOptions(), progress=lambda total: None,
    )  # fmt: skip
    empty = np.broadcast_to(np.float32(0), (*size, 3))
    return run, Canvas.pad(empty, empty[..., 0], 64, 8)


def photo_table() -> list[str]:
    found = photo_work()
    first = next(iter(found.values()))[1]
    rows = [f"| {name} | {tiles} | {work:.0f} | {100 * work / first:.0f} % |" for name, (tiles, work) in found.items()]
    return ["| 4032 x 3024, real network, counted | tiles | TFLOP | of official |", "|---|---|---|---|", *rows]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--compile", action="store_true", help="also torch.compile (minutes)")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    print("# MagicBokeh beside the official formulation\n")
    print("\n".join(machine_lines("python -m benchmarks.magicbokeh")), f"{arguments.threads} thread(s)\n")
    with torch.no_grad():
        print("\n".join(photo_table()), "\n", flush=True)
        print("\n".join(attention_table(arguments.rounds)), "\n", flush=True)
        print("\n".join(tile_table(arguments.rounds, arguments.compile)), "\n", flush=True)
        print("\n".join(tiling_table(min(arguments.rounds, 3))), flush=True)


if __name__ == "__main__":
    main()
