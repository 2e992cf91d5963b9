"""Pictures encoded on the device, by the same table as on the host: a quarter of the bytes comes back."""

from collections.abc import Sequence

import numpy as np

from bokehsynth.rendering.cuda.device import DeviceArray
from bokehsynth.rendering.cuda.layer_cache import LayerCache
from bokehsynth.rendering.cuda.structs import ENCODING, rows
from bokehsynth.rendering.types import ByteArray, CodeTable

ALIGNED = 256
"""Bytes between which pictures begin in what is fetched, so that warps write whole lines."""


def encode_on_device(cache: LayerCache, pictures: Sequence[DeviceArray], table: CodeTable) -> list[ByteArray | None]:
    """The codes of linear pictures [H, W, 3] on the device, fetched by one copy; uint8 [H, W, 3].

    `table.encode` gives the same. None for a picture with values that are not finite, which has no codes.
    """
    if not pictures:
        return []
    device, (least, steps) = cache.device, cache.codes(table)
    sizes = [int(np.prod(picture.shape)) for picture in pictures]
    starts = np.cumsum([0] + [-(-size // ALIGNED) * ALIGNED for size in [4 * len(pictures), *sizes]])[1:]
    made = device.zeros((int(starts[-1]),), np.uint8)
    begin = device.address(made)
    entries = [
        {
            "color": device.address(picture), "codes": begin + int(start), "unsound": begin + 4 * k,
            "least": device.address(least), "steps": device.address(steps), "values": size,
            "bucket_bits": table.bucket_bits,
        }
        for k, (picture, start, size) in enumerate(zip(pictures, starts, sizes, strict=False))
    ]  # fmt: skip
    table = device.put(rows(ENCODING, entries))
    device.launch("encode_pictures", (-(-max(sizes) // 256), 1, len(pictures)), (256, 1, 1), table)
    fetched = device.get(made)
    unsound = fetched[: 4 * len(pictures)].view(np.int32)
    return [
        None if unsound[k] else fetched[start : start + size].reshape(picture.shape).copy()
        for k, (picture, start, size) in enumerate(zip(pictures, starts, sizes, strict=False))
    ]
