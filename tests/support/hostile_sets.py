"""Data sets that mean harm: each a small good set with one thing changed, markers and hashes made to fit again."""

import io
import json
import os
import shutil
import struct
import tarfile
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from bokehsynth.files import pretty_json
from bokehsynth.shards.dataset import split_record
from bokehsynth.shards.layout import Layout
from bokehsynth.shards.marker import committed_plans, read_marker
from bokehsynth.shards.plan import ShardPlan
from bokehsynth.shards.tar import TarWriter, index_text, iter_tar
from support.hostile import deep_json, sparse

KEY = "train-000000000"
JSON_FILES = (
    "dataset.json", "assets.jsonl", "quarantine.jsonl", ".bokehsynth/identity.json", ".bokehsynth/machine.json",
    ".bokehsynth/extensions.json", ".bokehsynth/train/train-000000.done.json",
    ".bokehsynth/train/train-000000.quarantine.jsonl",
)  # fmt: skip
OTHER_FILES = (
    "recipe.yaml", "schema.json", "README.md", "preview.png", "train/train-000000.tar",
    ".bokehsynth/train/train-000000.idx",
)  # fmt: skip

Members = Iterable[tuple[str, bytes]]


def first_plan(layout: Layout) -> ShardPlan:
    return committed_plans(layout, "train")[0]


def change_members(layout: Layout, change: Callable[[str, bytes], Members]) -> None:
    """Rewrite the first shard with changed members; its index, marker and `dataset.json` fit again."""
    stream = io.BytesIO()
    writer = TarWriter(stream)
    with open(layout.tar(first_plan(layout)), "rb") as file:
        for entry, payload in iter_tar(file.read, "x"):
            for name, data in change(entry.name, payload):
                writer.add(name, data)
    writer.close()
    plan = first_plan(layout)
    layout.tar(plan).write_bytes(stream.getvalue())
    layout.index(plan).write_text(index_text(writer.entries))
    change_marker(layout, bytes=writer.size, sha256=writer.sha256)


def change_marker(layout: Layout, **changes: Any) -> None:
    """Change keys of the first marker, and let `dataset.json` follow where the marker can still be read."""
    plan = first_plan(layout)
    path = layout.marker(plan)
    path.write_text(pretty_json(json.loads(path.read_text()) | changes))
    record = json.loads(layout.dataset.read_text())
    plans = committed_plans(layout, "train")
    if len(plans) == len(record["splits"]["train"]["counts"]):
        record["splits"]["train"] = split_record([read_marker(layout, plan) for plan in plans])
        layout.dataset.write_text(pretty_json(record))


def put_member(layout: Layout, member: str, data: bytes) -> None:
    """Replace one member of the first sample."""
    wanted = f"{KEY}.{member}"
    assert any(name == wanted for name, _ in members_of(layout))
    change_members(layout, lambda name, payload: [(name, data if name == wanted else payload)])


def members_of(layout: Layout) -> list[tuple[str, bytes]]:
    with open(layout.tar(first_plan(layout)), "rb") as file:
        return [(entry.name, payload) for entry, payload in iter_tar(file.read, "x")]


def change_meta(layout: Layout, **changes: Any) -> None:
    """Change keys of the first sample's record."""
    meta = json.loads(dict(members_of(layout))[f"{KEY}.json"]) | changes
    put_member(layout, "json", json.dumps(meta, sort_keys=True, separators=(",", ":")).encode())


def change_draw(layout: Layout, change: Callable[[dict], Any]) -> None:
    """Change the draw in the first sample's record; `change` alters it, or returns another one."""
    draw = json.loads(json.loads(dict(members_of(layout))[f"{KEY}.json"])["draw"])
    changed = change(draw)
    changed = draw if changed is None else changed
    change_meta(layout, draw=changed if isinstance(changed, str) else json.dumps(changed))


def change_dataset_json(layout: Layout, change: Callable[[dict], None]) -> None:
    record = json.loads(layout.dataset.read_text())
    change(record)
    layout.dataset.write_text(pretty_json(record))


# --- pictures


def png_bytes(
    width: int, height: int, rows: bytes, depth: int = 8, color: int = 2, interlace: int = 0, extra: bytes = b""
) -> bytes:
    """A PNG with any header; `rows` are its filtered bytes, `extra` are chunks before them."""
    header = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, interlace)
    body = chunk(b"IHDR", header) + extra + chunk(b"IDAT", zlib.compress(rows, 9)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def encoded(suffix: str, **options: Any) -> bytes:
    """A picture of 32 px in another format."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save(buffer, suffix, **options)
    return buffer.getvalue()


def whole_png(**header: Any) -> bytes:
    return png_bytes(32, 32, bytes(32 * (1 + 32 * 3)), **header)


PICTURES: dict[str, Callable[[], bytes]] = {
    "bomb": lambda: png_bytes(30000, 30000, bytes(30001) * 100, color=0),
    "2 GPx": lambda: png_bytes(2**31 - 1, 1, b"", color=0),
    "no size": lambda: png_bytes(0, 0, b""),
    "TIFF": lambda: encoded("TIFF"),
    "JPEG": lambda: encoded("JPEG"),
    "GIF": lambda: encoded("GIF"),
    "BMP": lambda: encoded("BMP"),
    "JPEG 2000": lambda: encoded("JPEG2000"),
    "WebP": lambda: encoded("WEBP", lossless=True),
    "palette": lambda: whole_png(color=3, extra=chunk(b"PLTE", bytes(768))),
    "interlaced": lambda: whole_png(interlace=1),
    "animation": lambda: whole_png(extra=chunk(b"acTL", struct.pack(">II", 9999, 0))),
    "zTXt": lambda: whole_png(extra=chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(300 << 20)))),
    "iCCP": lambda: whole_png(extra=chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(300 << 20)))),
    "chunk of 4 GB": lambda: whole_png(extra=struct.pack(">I", 2**32 - 1) + b"IDAT"),
    "no end": lambda: whole_png()[:-12],
    "empty": lambda: b"",
    "one byte": lambda: b"\x89",
}
"""What stands under `lq.png`."""


def with_tar(write: Callable[[tarfile.TarFile, bytes], None]) -> Callable[[Layout], None]:
    """The first shard as the standard library writes it, with members that it can have and ours cannot."""

    def act(layout: Layout) -> None:
        record = dict(members_of(layout))[f"{KEY}.json"]
        path = layout.tar(first_plan(layout))
        with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as archive:
            write(archive, record)
        change_marker(layout, bytes=path.stat().st_size)

    return act


def _add(archive: tarfile.TarFile, kind: bytes, link: str = "", **more: Any) -> None:
    info = tarfile.TarInfo(f"{KEY}.lq.png")
    info.type, info.linkname, info.mode = kind, link, 0o444
    for name, value in more.items():
        setattr(info, name, value)
    archive.addfile(info)


def _claim(size: int, end: int, member: str = "aif.png") -> Callable[[Layout], None]:
    """A tar of holes whose first member claims `size` bytes."""
    from bokehsynth.shards.tar import tar_header

    def act(layout: Layout) -> None:
        path = layout.tar(first_plan(layout))
        sparse(path, end, tar_header(f"{KEY}.{member}", size))
        change_marker(layout, bytes=end)

    return act


def _large_record(layout: Layout) -> None:
    change_meta(layout, draw="x" * (17 << 20))


def _claims_many(layout: Layout) -> None:
    """A first shard of 300 million samples, by marker and `dataset.json`."""
    change_marker(layout, n=300_000_000, last_key="train-299999999")
    change_dataset_json(layout, lambda record: record["splits"]["train"].update(counts=[300_000_000]))


def _many_members(layout: Layout) -> None:
    more = [(f"{KEY}.lq{number:05d}.png", b"x") for number in range(5000)]
    change_members(layout, lambda name, data: [(name, data), *(more if name == f"{KEY}.lq.png" else [])])


def _index_line(text: str) -> Callable[[Layout], None]:
    def act(layout: Layout) -> None:
        path = layout.index(first_plan(layout))
        head, *rest = path.read_text().splitlines()
        path.write_text("\n".join([head, text, *rest[1:]]) + "\n")

    return act


def _splits(*names: str) -> Callable[[Layout], None]:
    def change(record: dict) -> None:
        for name in names:
            record["splits"][name] = record["splits"]["train"]

    return lambda layout: change_dataset_json(layout, change)


def _counts(counts: list) -> Callable[[Layout], None]:
    return lambda layout: change_dataset_json(layout, lambda record: record["splits"]["train"].update(counts=counts))


def _foreign_marker(layout: Layout) -> None:
    """A marker in its place that speaks of a split outside of the set."""
    change_marker(layout, split="../../outside", first_key="../../outside-000000000",
                  last_key=f"../../outside-{first_plan(layout).count - 1:09d}")  # fmt: skip


SETS: dict[str, Callable[[Layout], None]] = {
    "as it is": lambda x: None,
    **{f"picture: {name}": lambda x, data=data: put_member(x, "lq.png", data()) for name, data in PICTURES.items()},
    "map in colour": lambda x: put_member(x, "defocus.png", whole_png()),
    "record: width": lambda x: change_meta(x, width=10**9),
    "record: pixels": lambda x: change_meta(x, width=2**20, height=2**20),
    "record: negative": lambda x: change_meta(x, height=-32),
    "record: index": lambda x: change_meta(x, index=10**900),
    "record: too large": _large_record,
    "record: no object": lambda x: put_member(x, "json", b"[]"),
    "record: deep": lambda x: put_member(x, "json", deep_json().encode()),
    "record: empty": lambda x: put_member(x, "json", b""),
    "record: no ASCII": lambda x: put_member(x, "json", b"\xff\xfe"),
    "marker: 300 million samples": _claims_many,
    "marker: split outside": _foreign_marker,
    "marker: 10^900 samples": lambda x: change_marker(x, n=10**900),
    "marker: 50,000 members": lambda x: change_marker(x, members=["x"] * 50_000),
    "tar: member of 6 GB": _claim(6 << 30, (6 << 30) + 20480),
    "tar: member of 6 GB that is not there": _claim(6 << 30, 20480),
    "tar: member of 60 MB in holes": _claim(60 << 20, (1 << 30)),
    "tar: 1 TB of holes": lambda x: os.truncate(x.tar(first_plan(x)), 1 << 40),
    "tar: 1 TB of holes in the marker": lambda x: (os.truncate(x.tar(first_plan(x)), 1 << 40),
                                                  change_marker(x, bytes=1 << 40)),
    "tar: 5,000 members": _many_members,
    "tar: link": with_tar(lambda archive, record: _add(archive, tarfile.SYMTYPE, "/etc/passwd")),
    "tar: hard link": with_tar(lambda archive, record: _add(archive, tarfile.LNKTYPE, "/etc/passwd")),
    "tar: device": with_tar(lambda archive, record: _add(archive, tarfile.CHRTYPE, devmajor=1, devminor=5)),
    "tar: FIFO": with_tar(lambda archive, record: _add(archive, tarfile.FIFOTYPE)),
    "tar: GNU sparse": with_tar(lambda archive, record: _add(archive, tarfile.GNUTYPE_SPARSE)),
    "tar: pax": with_tar(lambda archive, record: _add(archive, tarfile.REGTYPE, pax_headers={"size": str(10**15)})),
    "tar: ../ name": with_tar(lambda archive, record: _add(archive, tarfile.REGTYPE, name="../../x.png")),
    "index: 10^15 bytes": _index_line(f"aif.png 512 {10**15} {KEY}.aif.png"),
    "index: 10^900 bytes": _index_line(f"aif.png 512 {10**900} {KEY}.aif.png"),
    "index: 4 GB": _index_line(f"aif.png 512 {4 << 30} {KEY}.aif.png"),
    "index: negative": _index_line(f"aif.png 512 -5 {KEY}.aif.png"),
    "index: 200,000 members": _index_line(" ".join(f"a 512 0 {KEY}.a" for _ in range(200_000))),
    "dataset.json: split /etc": _splits("/etc"),
    "dataset.json: split ../..": _splits("../..", "val/../../.."),
    "dataset.json: 450,000 shards": _counts([1] * 450_000),
    "dataset.json: 10^30 samples": _counts([10**30]),
    "dataset.json: 10^9 samples": _counts([10**9]),
    "dataset.json: identity of numbers": lambda x: change_dataset_json(
        x, lambda record: record["identity"].update(recipe_digest=[1])
    ),
}  # fmt: skip
"""What may be wrong with the content of a set."""


def _scene(**changes: Any) -> Callable[[dict], None]:
    return lambda draw: draw["scene"].update(changes)


def _part(name: str, **changes: Any) -> Callable[[dict], None]:
    """Changes in `background`, `focus` or the first foreground."""

    def change(draw: dict) -> None:
        scene = draw["scene"]
        (scene["foregrounds"][0] if name == "foreground" else scene[name]).update(changes)

    return change


def _step(place: int, **changes: Any) -> Callable[[dict], None]:
    return lambda draw: draw["degradation"]["steps"][place].update(changes)


DRAWS: dict[str, Callable[[dict], Any]] = {
    "no JSON": lambda draw: "{",
    "a list": lambda draw: "[]",
    "a number": lambda draw: "7",
    "deep": lambda draw: deep_json(2000),
    "digits": lambda draw: '{"index": ' + "9" * 9000 + "}",
    "without composed": lambda draw: draw.pop("composed") and None,
    "aperture 99": lambda draw: draw.update(aperture=99),
    "aperture -1": lambda draw: draw.update(aperture=-1),
    "another index": lambda draw: draw.update(index=1),
    "another split": lambda draw: draw.update(split="val"),
    "a camera": lambda draw: draw.update(
        camera={"focal_length_mm": 50.0, "f_number": 0.001, "sensor_width_mm": 36.0, "near_m": 1.0, "focus_m": None}
    ),
    "kind": _scene(kind="photo"),
    "height 2^20": _scene(height=1 << 20),
    "height -32": _scene(height=-32),
    "height in text": _scene(height="many"),
    "blur 10^9": _scene(blur=1e9),
    "blur -1": _scene(blur=-1.0),
    "blur inf": _scene(blur="inf"),
    "blur none": _scene(blur=None),
    "boost 10^9": _scene(highlight_boost=1e9),
    "light_match": _scene(light_match=1e300),
    "1,000 foregrounds": lambda draw: draw["scene"].update(foregrounds=draw["scene"]["foregrounds"] * 1000),
    "no foregrounds": _scene(foregrounds=[]),
    "foregrounds in text": _scene(foregrounds="abc"),
    "unknown asset": _part("background", asset="/etc/passwd"),
    "asset of another kind": lambda draw: draw["scene"]["foregrounds"][0].update(
        asset=draw["scene"]["background"]["asset"]
    ),
    "zoom 0": _part("background", zoom=0.0),
    "zoom 10^6": _part("background", zoom=1e6),
    "u 10^6": _part("background", u=1e6),
    "exposure 10^4": _part("background", exposure=1e4),
    "plane": _part("background", plane={"d": 0.2, "gx": 1e3, "gy": 0.0}),
    "scale 0": _part("foreground", scale=0.0),
    "scale 10^6": _part("foreground", scale=1e6),
    "rotation 10^300": _part("foreground", rotation=1e300),
    "x 10^9": _part("foreground", x=1e9),
    "bottom -10^9": _part("foreground", bottom=-1e9),
    "disparity 10^9": _part("foreground", plane={"d": 1e9, "gx": 0.0, "gy": 0.0}),
    "focus 10^9": _part("focus", disparity=1e9),
    "focus at 10^9": _part("focus", on="pixel", x=10**9, y=10**9),
    "degradation: scale 10^9": lambda draw: draw["degradation"].update(scale=10**9),
    "degradation: scale 0": lambda draw: draw["degradation"].update(scale=0),
    "degradation: no steps": lambda draw: draw["degradation"].update(steps=[]),
    "degradation: 8,000 steps": lambda draw: draw["degradation"].update(steps=draw["degradation"]["steps"] * 1000),
    "degradation: kernel 10^5": _step(0, kernel={"family": "sinc", "size": 10**5 + 1, "omega": 1.0}),
    "degradation: kernel even": _step(0, kernel={"family": "sinc", "size": 8, "omega": 2.0}),
    "degradation: kernel list": _step(0, kernel=[1]),
    "degradation: family": _step(0, kernel={"family": ["x"], "size": 7}),
    "degradation: sigma 0": _step(
        0, kernel={"family": "aniso", "size": 7, "sigma_x": 0, "sigma_y": 0, "rotation": 0.0}
    ),
    "degradation: factor 10^4": _step(1, factor=1e4),
    "degradation: factor in text": _step(1, factor="2"),
    "degradation: mode": _step(1, mode="nearest"),
    "degradation: seed -1": _step(2, family="gaussian", sigma=2.0, gray=False, seed=-1),
    "degradation: sigma 10^300": _step(2, family="gaussian", sigma=1e300, gray=False, seed=1),
    "degradation: quality 10^9": _step(3, quality=10**9),
    "degradation: custom": _step(0, kind="custom", path="os:abort", params={}),
    "degradation: unknown": _step(0, kind="shell"),
}
"""What may be wrong with the draw in a sample's record."""


def fifo(path: Path) -> None:
    path.unlink(missing_ok=True)
    os.mkfifo(path)


def endless(path: Path) -> None:
    path.unlink(missing_ok=True)
    path.symlink_to("/dev/zero")


def folder(path: Path) -> None:
    path.unlink(missing_ok=True)
    path.mkdir()


def holes(path: Path) -> None:
    sparse(path, 1 << 40, b"{")


FILES: dict[str, Callable[[Path], None]] = {"FIFO": fifo, "endless": endless, "folder": folder, "1 TB": holes}
"""What may stand where a file of a set belongs."""

TEXTS: dict[str, str] = {
    "deep": deep_json(),
    "deep lists": "[" * 100_000,
    "twice": '{"format": 1, "format": 1}',
    "NaN": '{"format": NaN}',
    "infinite": '{"format": 1e999}',
    "digits": '{"format": ' + "9" * 900_000 + "}",
    "containers": "[" + "[]," * 200_000 + "[]]",
    "cut": '{"format": 1',
    "a number": "7",
    "null": "null",
    "binary": "\x00\x01\x02",
    "surrogate": '{"format": "\\ud800"}',
}
"""What may stand in a JSON file of a set."""


IN_PLACE = (".bokehsynth/run.lock", "logs/events.jsonl", ".bokehsynth/tmp/train-000000.crashes")
"""Files of a set that runs write to in place."""


def hostile_sets(good: Path, folder: Path, names: Iterable[str]) -> list[tuple[str, Path]]:
    """Copies of a good set, each made hostile by its name in `all_names`."""
    made = []
    for number, name in enumerate(names):
        out = folder / f"{number:03d}"
        shutil.copytree(good, out)
        _spoil(out, name)
        made.append((name, out))
    return made


def all_names() -> list[str]:
    """Every way to make a set hostile, but for the draws."""
    places = [f"{kind} as {file}" for kind in FILES for file in (*JSON_FILES, *OTHER_FILES)]
    return [*SETS, *places, *(f"{text} in {file}" for text in TEXTS for file in JSON_FILES)]


def _spoil(out: Path, name: str) -> None:
    if name.startswith("draw: "):
        change_draw(Layout(out), DRAWS[name.removeprefix("draw: ")])
        return
    kind, _, file = name.partition(" as ")
    if kind in FILES and file:
        FILES[kind](out / file)
        return
    kind, _, file = name.partition(" in ")
    if kind in TEXTS and file:
        (out / file).write_text(TEXTS[kind] + ("\n" if file.endswith("l") else ""))
        return
    SETS[name](Layout(out))
