"""The structs of `kernels/scene.cuh` as NumPy types, field by field, and rows of them.

A pointer is the address of an array on the device; 0 is none. An array stays alive on the host until
the kernels that read its address are done.
"""

from typing import Any

import numpy as np

MAX_LAYERS = 32
TILE_W, ROWS, BLOCK = 32, 8, 8
WARPS, LINES, LINES_RGB = 4, 4, 2
"""Of a block of `composite_tiles`; rows that a thread of `add_control_variate_N` does, and of `..._rgb`."""
MOST_PLANES = 4
"""Layers for which there is an `add_control_variate_N`, from 2 on."""

_P, _I, _U, _F, _D = np.uint64, np.int32, np.uint32, np.float32, np.float64

CANVAS = np.dtype(
    [
        ("color", _P), ("alpha", _P), ("values", _P), ("texels", _P), ("alphas", _P), ("heights", _P),
        ("height", _I), ("width", _I),
    ],
    align=True,
)  # fmt: skip

LAYER = np.dtype(
    [
        ("texels", _P), ("alpha", _P), ("alphas", _P), ("values", _P), ("heights", _P), ("d", _D), ("gx", _D),
        ("gy", _D), ("focus", _F), ("low", _F), ("high", _F), ("first_node", _I), ("nodes", _I),
    ],
    align=True,
)  # fmt: skip

NODE = np.dtype(
    [
        ("points", _P), ("weights", _P), ("chords", _P), ("rows", _P), ("transmission", _P), ("sums", _P),
        ("spans", _P), ("r", _D), ("ex", _D), ("ey", _D), ("count", _I), ("sets", _I), ("half", _I), ("table_side", _I),
    ],
    align=True,
)  # fmt: skip

TILE = np.dtype(
    [
        ("path", _I), ("count", _I), ("start", _I), ("stop", _I), ("sharp", _U), ("opaque", _U), ("moving", _U),
        ("sorted", _I), ("planes", _I), ("order", np.uint8, (MAX_LAYERS,)),
    ],
    align=True,
)  # fmt: skip

SCENE = np.dtype(
    [
        ("layers", _P), ("nodes", _P), ("points", _P), ("weights", _P), ("spans", _P), ("pupils", _P),
        ("transmission", _P), ("tiles", _P), ("base", _P), ("color", _P), ("coverage", _P), ("blur", _D),
        ("pupil_radius", _F), ("height", _I), ("width", _I), ("canvas_height", _I), ("canvas_width", _I),
        ("margin", _I), ("layer_count", _I), ("rays", _I), ("sides", _I), ("sets", _I), ("channels_passed", _I),
    ],
    align=True,
)  # fmt: skip

ENCODING = np.dtype(
    [
        ("color", _P), ("codes", _P), ("unsound", _P), ("least", _P), ("steps", _P), ("values", _I),
        ("bucket_bits", _I),
    ],
    align=True,
)  # fmt: skip

STRUCTS = {"Canvas": CANVAS, "Layer": LAYER, "Node": NODE, "Tile": TILE, "Scene": SCENE, "Encoding": ENCODING}


def rows(struct: "np.dtype[Any]", entries: "list[dict[str, Any]]") -> "np.ndarray[Any, Any]":
    """A table with one row for each entry, as bytes; fields that an entry leaves out are 0."""
    table = np.zeros(len(entries), struct)
    for name in {name: None for entry in entries for name in entry}:  # a column at a time: that is faster
        table[name] = [entry.get(name, 0) for entry in entries]
    return as_bytes(table)


def as_bytes(table: "np.ndarray[Any, Any]") -> "np.ndarray[Any, Any]":
    """View a table as bytes, since CuPy knows no structs."""
    return table.view(np.uint8)
