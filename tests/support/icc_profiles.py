"""Profiles as cameras and phones write them, made from their published numbers."""

import struct

import numpy as np


def p3_profile():
    """Display P3 as phones write it: its own primaries, the tone curve of sRGB."""
    return matrix_profile([[0.51512, 0.24120, -0.00105], [0.29198, 0.69225, 0.04189], [0.15710, 0.06657, 0.78407]])


def adobe_profile():
    return matrix_profile([[0.60974, 0.31111, 0.01947], [0.20528, 0.62567, 0.06087], [0.14919, 0.06322, 0.74457]], 2.2)


def matrix_profile(columns, gamma=None):
    """A minimal ICC profile, version 2, of three colorants and one curve."""

    def fixed(value):
        return struct.pack(">i", round(value * 65536))

    x = np.linspace(0, 1, 1024)
    srgb = np.where(x <= 0.04045, x / 12.92, ((x + 0.055) / 1.055) ** 2.4)
    if gamma is None:
        table = np.rint(srgb * 65535).astype(">u2").tobytes()
        curve = b"curv\0\0\0\0" + struct.pack(">I", 1024) + table
    else:
        curve = b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256)) + b"\0\0"
    tags = {b"wtpt": (0.9642, 1.0, 0.8249)}
    tags |= dict(zip((b"rXYZ", b"gXYZ", b"bXYZ"), columns, strict=True))
    blocks = {name: b"XYZ \0\0\0\0" + b"".join(map(fixed, values)) for name, values in tags.items()}
    blocks |= dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve)
    text = b"x profile\0"
    blocks[b"desc"] = b"desc\0\0\0\0" + struct.pack(">I", len(text)) + text + bytes(90)
    blocks[b"cprt"] = b"text\0\0\0\0none\0"
    table, body, offset = b"", b"", 132 + 12 * len(blocks)
    for name, block in blocks.items():
        padded = block + bytes(-len(block) % 4)
        table += struct.pack(">4sII", name, offset + len(body), len(block))
        body += padded
    head = bytearray(128)
    head[8:12], head[12:16], head[16:20], head[20:24] = b"\x02\x10\0\0", b"mntr", b"RGB ", b"XYZ "
    head[36:40] = b"acsp"
    head[68:80] = b"".join(map(fixed, (0.9642, 1.0, 0.8249)))
    data = bytes(head) + struct.pack(">I", len(blocks)) + table + body
    return struct.pack(">I", len(data)) + data[4:]
