"""One hash for all pixels of a data set: the root of a Merkle tree over the pixel hashes of its shards.

The leaves are the `pixels_sha256` of the markers, in the order of splits (train, val) and shards; each is a hash over
the hashes of its samples. Leaves and nodes are hashed as in RFC 6962, so that none can pass for the other.
"""

import hashlib
from collections.abc import Sequence

from bokehsynth.shards.marker import ShardMarker

_LEAF, _NODE = b"\x00", b"\x01"


def pixels_root(markers: Sequence[ShardMarker]) -> str:
    """The root for these shards, at least one, as hex."""
    ordered = sorted(markers, key=lambda marker: marker.plan)
    return merkle_root([bytes.fromhex(marker.pixels_sha256) for marker in ordered])


def merkle_root(leaves: Sequence[bytes]) -> str:
    """The root over at least one leaf, as hex: pairs are hashed together, and an odd last one moves up as it is."""
    level = [hashlib.sha256(_LEAF + leaf).digest() for leaf in leaves]
    while len(level) > 1:
        pairs = [hashlib.sha256(_NODE + a + b).digest() for a, b in zip(level[::2], level[1::2], strict=False)]
        level = pairs + level[2 * len(pairs) :]
    return level[0].hex()
