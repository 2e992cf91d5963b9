"""Files that mean harm, and a process that watches what reading them does."""

import json
import os
import struct
import subprocess
import sys
import tempfile
import zlib
from pathlib import Path

import numpy as np

MOST_MEMORY = 2 << 30
MOST_SECONDS = 10

_WATCHED = """
import os, resource, sys, time
limit, folders, arguments = int(sys.argv[1]), sys.argv[2].split(os.pathsep), sys.argv[3:]
seen = []

def inside(path):
    return isinstance(path, (str, bytes)) and os.fsdecode(path)[:1] != "<" and any(
        os.path.abspath(os.fsdecode(path)).startswith(folder + os.sep) for folder in folders
    )

def hook(event, given):
    if event == "exec" and inside(given[0].co_filename):
        seen.append(f"exec {given[0].co_filename}")
    elif event == "import" and inside(given[1]):
        seen.append(f"import {given[1]}")
    elif event == "open" and inside(given[0]) and os.fsdecode(given[0]).endswith((".py", ".pyc", ".so", ".pth")):
        seen.append(f"open {given[0]}")
    elif event in ("os.system", "os.exec", "os.posix_spawn", "pty.spawn"):
        seen.append(f"{event} {given[:1]}")

if folders != [""]:
    sys.addaudithook(hook)
"""
_COMMANDS = (
    _WATCHED
    + """
import json
from magicbokeh.cli import main
for line in json.loads(arguments[0]):
    sys.argv = ["magicbokeh", *line]
    try:
        main()
    except SystemExit as end:
        code = end.code
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
    print("\\nSEEN", json.dumps([code, seen, memory]), file=sys.stderr, flush=True)
    seen.clear()
"""
)
_CALL = (
    _WATCHED
    + """
import importlib
module, _, name = arguments[0].partition(":")
call = getattr(importlib.import_module(module), name)
from bokehsynth import BokehsynthError
for path in arguments[1:]:
    before = time.monotonic()
    resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
    try:
        call(path)
        found = "read"
    except BokehsynthError as error:
        found = f"{type(error).__name__}: {error}"
    except BaseException as error:
        found = f"FAULT {type(error).__name__}: {error}"
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
    print(repr((path, found, time.monotonic() - before, memory)))
"""
)


def watched_commands(folders, lines, cwd):
    """Run commands of magicbokeh one after the other in a process that watches: (exit code, standard error, what it
    ran or opened of `folders`) for each.
    """
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    with tempfile.TemporaryDirectory() as place:  # a script, as the console script is: the path starts with its folder
        script = Path(place, "watched.py")
        script.write_text(_COMMANDS)
        words = json.dumps([[str(word) for word in line] for line in lines])
        line = [sys.executable, script, "0", os.pathsep.join(map(str, folders)), words]
        done = subprocess.run(line, cwd=cwd, env=environment, capture_output=True, text=True, check=False, timeout=250)
    found, rest = [], done.stderr
    while "\nSEEN " in rest:
        text, _, rest = rest.partition("\nSEEN ")
        record, _, rest = rest.partition("\n")
        code, seen, memory = json.loads(record)
        assert memory < MOST_MEMORY, done.stderr
        found.append((code, text, seen))
    assert len(found) == len(lines), done.stderr
    return found


def read_all(function, paths, address_space):
    """Call `module:function` on every path in a process of bounded memory: {path: (outcome, seconds, peak bytes)}."""
    line = [sys.executable, "-c", _CALL, str(address_space), "", function, *map(str, paths)]
    done = subprocess.run(line, capture_output=True, text=True, check=False, timeout=60 + MOST_SECONDS * len(paths))
    assert done.returncode == 0, done.stderr[-2000:]
    rows = [eval(text) for text in done.stdout.splitlines() if text.startswith("(")]
    assert [row[0] for row in rows] == [*map(str, paths)], "a path without an answer is not refused"
    return {Path(path): (found, seconds, memory) for path, found, seconds, memory in rows}


# --- pictures


def png(path, width, height, depth=8, kind=0, data=b""):
    """A PNG of any size; its pixels are `data`, by default one empty stream."""

    def chunk(name, content):
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", data or zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + body)
    return path


def tiff(path, width, height, bits=16, samples=3, compression=1, more=()):
    """A TIFF whose tags promise anything; its strip holds a hundred bytes."""
    tags = [
        (256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, bits), (259, 3, 1, compression), (262, 3, 1, 2),
        (273, 4, 1, 8), (277, 3, 1, samples), (278, 4, 1, height), (279, 4, 1, 100), *more,
    ]  # fmt: skip
    entries = b"".join(struct.pack("<HHII", *tag) for tag in sorted(tags))
    body = zlib.compress(b"\0" * 1000).ljust(100, b"\0")
    start = 8 + len(body)
    path.write_bytes(b"II*\0" + struct.pack("<I", start) + body + struct.pack("<H", len(tags)) + entries + bytes(4))
    return path


def jpeg(path, width, height):
    """A JPEG whose header promises another size than it has."""
    import io

    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(buffer, "JPEG")
    data = bytearray(buffer.getvalue())
    place = data.index(b"\xff\xc0") + 5
    data[place : place + 4] = struct.pack(">HH", height, width)
    path.write_bytes(data)
    return path


def many_scans(path):
    """A progressive JPEG that goes through all of its pixels thousands of times."""
    import io

    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(np.zeros((2000, 2000, 3), np.uint8)).save(buffer, "JPEG", progressive=True)
    data = buffer.getvalue()
    last = data.rindex(b"\xff\xda")
    path.write_bytes(data[:last] + data[last:-2] * 3000 + data[-2:])
    return path


def npy(path, shape, kind="<f8", version=1):
    """An array file whose header promises any shape; it holds a hundred bytes."""
    header = f"{{'descr': {kind!r}, 'fortran_order': False, 'shape': {shape!r}, }}".encode().ljust(117) + b"\n"
    length = struct.pack("<H" if version == 1 else "<I", len(header))
    path.write_bytes(b"\x93NUMPY" + bytes([version, 0]) + length + header + bytes(100))
    return path


def sparse(path, size, start=b""):
    """A file of `size` bytes that takes no room."""
    path.write_bytes(start)
    os.truncate(path, size)
    return path


# --- JSON


def deep_json(levels=100_000):
    """An object that is nested beyond any recursion limit."""
    return '{"a":' * levels + "1" + "}" * levels


def change_json(path, **changes):
    """Change keys of a JSON file; a value of `...` removes its key."""
    content = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in content.items() if value is not ...}))
