"""A stand-in for the model on the demo's pages: what it does to a picture follows from the picture alone."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from time import monotonic, sleep
from typing import Any

import numpy as np
import torch

from magicbokeh import MagicBokehPipeline, ModelConfig, build_networks
from magicbokeh.demo.server import DemoOptions, listening, make_server
from magicbokeh.inference.photo import open_photo
from magicbokeh.model.bundle import StepOutput

SMALL = ModelConfig.small(
    sample_size=32, block_out_channels=(8, 8, 8), heads=(0, 0, 1), norm_groups=4, sr_rank=0, bokeh_rank=0
)


class PaintingPipeline(MagicBokehPipeline):
    """Bright is near, and what is out of focus becomes black: the page's part of the work is all that is left."""

    def disparity(self, photo: Any, depth: Any = None) -> Any:
        return open_photo(photo).srgb()[..., 1].copy() if depth is None else super().disparity(photo, depth)

    @torch.no_grad()
    def forward_tensors(self, lq: Any, defocus: Any, latent_noise: Any = None) -> StepOutput:
        painted = torch.where(defocus > 0.01, torch.full_like(lq, -1.0), lq)
        latent = self.vae.encode(painted)
        return StepOutput(latent, [], latent, latent, self._decode)


def painting_pipeline() -> PaintingPipeline:
    networks = build_networks(SMALL, 0)
    return PaintingPipeline(networks.unet, networks.controlnet, networks.vae, blur_reference=32.0)


def two_halves(path: Path, near_left: bool = True, size: tuple[int, int] = (240, 320)) -> Path:
    """A picture whose halves are near (light) and far (dark green)."""
    from PIL import Image

    pixels = np.zeros((*size, 3), np.uint8)
    pixels[:] = (20, 60, 20)
    half = slice(0, size[1] // 2) if near_left else slice(size[1] // 2, None)
    pixels[:, half] = (230, 220, 200)
    Image.fromarray(pixels).save(path)
    return path


@contextmanager
def serving(options: DemoOptions, folder: Path) -> Iterator[str]:
    """The demo's server in a thread; gives its address."""
    with listening("127.0.0.1", 0) as listener:
        server = make_server(options, folder)
        thread = Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        end = monotonic() + 60
        while not server.started:
            assert thread.is_alive(), "the server ended"
            assert monotonic() < end, "the server did not start within a minute"
            sleep(0.02)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        server.should_exit = True
        thread.join(20)
        assert not thread.is_alive()
