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
    encoding = Encoding(cache, pictures, table)
    encoding.launch()
    return encoding.fetch()


class Encoding:
    """Pictures that are to be encoded: memory and tables first, then the kernel, then the copy."""

    def __init__(self, cache: LayerCache, pictures: Sequence[DeviceArray], table: CodeTable) -> None:
        """At least one picture."""
        self._device, self._pictures, self._codes = cache.device, pictures, cache.codes(table)
        self._sizes = [int(np.prod(picture.shape)) for picture in pictures]
        ends = [-(-size // ALIGNED) * ALIGNED for size in [4 * len(pictures), *self._sizes]]
        self._starts = np.cumsum([0, *ends])[1:]
        self._made = self._device.zeros((int(self._starts[-1]),), np.uint8)
        address = self._device.address
        begin, (least, steps) = address(self._made), self._codes
        entries = [
            {
                "color": address(picture), "codes": begin + int(start), "unsound": begin + 4 * k,
                "least": address(least), "steps": address(steps), "values": size, "bucket_bits": table.bucket_bits,
            }
            for k, (picture, start, size) in enumerate(zip(pictures, self._starts, self._sizes, strict=False))
        ]  # fmt: skip
        self._table = self._device.put(rows(ENCODING, entries))

    def launch(self) -> None:
        """Encode; once."""
        grid = -(-max(self._sizes) // 256), 1, len(self._pictures)
        self._device.launch("encode_pictures", grid, (256, 1, 1), self._table)

    def fetch(self) -> list[ByteArray | None]:
        """The codes."""
        fetched = self._device.get(self._made)
        unsound = fetched[: 4 * len(self._pictures)].view(np.int32)
        return [
            None if unsound[k] else fetched[start : start + size].reshape(picture.shape).copy()
            for k, (picture, start, size) in enumerate(zip(self._pictures, self._starts, self._sizes, strict=False))
        ]
