"""Paths in a bucket, with those methods of `pathlib.Path` that files of a data set need.

It is no os.PathLike: what would open a local file of that name fails at once.
"""

import os
import re
import stat
from collections.abc import Iterator
from fnmatch import fnmatchcase
from functools import total_ordering

from bokehsynth.errors import UsageError
from bokehsynth.stores.bucket import Bucket, Change, Held
from bokehsynth.stores.ranged_file import RangedFile

SCHEMES = ("s3", "gs", "az")
"""Amazon S3 and what speaks like it, Google Cloud Storage, Azure Blob Storage."""

MAX_CHANGED = 256 << 20
"""Bytes of an object that is changed as a whole."""
_MAKER = "madeby"
"""The attribute that names an object's machine."""
_URL = re.compile(r"(s3|gs|az)://([A-Za-z0-9][A-Za-z0-9._-]{1,220})/(.+)", re.DOTALL)
_SEGMENT = re.compile(r"[\w.=+@,:!()'& -]+")
"""Names that every store takes as they are, without escapes."""


def is_object_url(text: object) -> bool:
    """Whether a text begins as a URL of a store does; UsageError only comes from `ObjectPath.from_url`."""
    return isinstance(text, str) and text.lower().partition("://")[0] in SCHEMES and "://" in text


@total_ordering
class ObjectPath:
    """The place of an object, or of a folder of objects, in a bucket."""

    __slots__ = ("bucket", "key")

    def __init__(self, bucket: Bucket, key: str) -> None:
        self.bucket, self.key = bucket, key

    @classmethod
    def from_url(cls, url: str) -> "ObjectPath":
        """The place that `s3://bucket/folder` names; UsageError, without what may be a secret, for any other form."""
        bucket = url.partition("://")[2].partition("/")[0]
        if "@" in bucket or "?" in url or "#" in url:
            raise UsageError(
                "a URL of a data set holds no credentials and no parameters: s3://bucket/folder; credentials come from "
                "the environment"
            )
        match = _URL.fullmatch(url)
        segments = match[3].rstrip("/").split("/") if match else []
        if match is None or not all(_SEGMENT.fullmatch(part) and part.strip(".") for part in segments):
            raise UsageError(
                f"{url!r:.300}: must be s3://bucket/folder, gs://bucket/folder or az://container/folder, its names of "
                "letters, digits and plain marks"
            )
        return cls(Bucket(f"{match[1]}://{match[2]}"), "/".join(segments))

    def __str__(self) -> str:
        return f"{self.bucket.url}/{self.key}"

    def __repr__(self) -> str:
        return f"ObjectPath({str(self)!r})"

    def __truediv__(self, name: str) -> "ObjectPath":
        return ObjectPath(self.bucket, f"{self.key}/{name}")

    def __eq__(self, other: object) -> bool:
        return str(self) == str(other) if isinstance(other, ObjectPath) else NotImplemented

    def __lt__(self, other: "ObjectPath") -> bool:
        return str(self) < str(other)

    def __hash__(self) -> int:
        return hash(str(self))

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.key.rpartition("/")[2]

    @property
    def parent(self) -> "ObjectPath":
        """The folder in which it lies."""
        return ObjectPath(self.bucket, self.key.rpartition("/")[0])

    def is_file(self) -> bool:
        """Whether there is an object of this name."""
        return self.bucket.head(self.key) is not None

    def is_dir(self) -> bool:
        """Whether there is an object in this folder."""
        return bool(self.bucket.list_folder(self.key))

    def exists(self) -> bool:
        """Whether there is an object of this name or in this folder."""
        return self.is_file() or self.is_dir()

    def is_symlink(self) -> bool:
        """False: stores have no links."""
        return False

    def held(self) -> Held:
        """Size and version; FileNotFoundError where there is no such object."""
        if (held := self.bucket.head(self.key)) is None:
            raise FileNotFoundError(f"{self}: not there")
        return held

    def stat(self) -> os.stat_result:
        """Kind, size and time, as of a regular file; FileNotFoundError where there is no such object."""
        held = self.held()
        return os.stat_result((stat.S_IFREG | 0o444, 0, 0, 1, 0, 0, held.size, *[int(held.modified)] * 3))

    def iterdir(self) -> Iterator["ObjectPath"]:
        """What lies directly in this folder, objects and folders."""
        return (ObjectPath(self.bucket, key) for key in self.bucket.list_folder(self.key))

    def glob(self, pattern: str) -> Iterator["ObjectPath"]:
        """What lies directly in this folder and has a name of this pattern."""
        return (path for path in self.iterdir() if fnmatchcase(path.name, pattern))

    def unlink(self, missing_ok: bool = False) -> None:
        """Delete the object; one that is not there is no error, whatever `missing_ok` says: a store does not tell."""
        self.bucket.delete(self.key)

    def create(self, data: "bytes | memoryview", machine: str) -> None:
        """Put an object where none is, or one with these bytes; TakenError where another one is."""
        self.bucket.create(self.key, data, {_MAKER: re.sub(r"[^\w.-]", "_", machine, flags=re.ASCII)[:100]})

    def maker(self) -> str:
        """The machine that created the object; empty where the store does not tell."""
        return re.sub(r"[^\w.-]", "_", self.bucket.attributes(self.key).get(_MAKER, ""), flags=re.ASCII)[:100]

    def change(self, change: Change) -> None:
        """Put what `change` makes of the object, over just the version that it was given."""
        self.bucket.change(self.key, change, MAX_CHANGED)

    def open_read(self) -> RangedFile:
        """The object, open for reading by ranges; nothing is asked of the store yet."""
        return RangedFile(self.bucket, self.key)

    def read_bytes(self, most: int) -> bytes:
        """What the object holds, of at most `most` bytes; FileNotFoundError, DataError."""
        return self.bucket.read(self.key, most)[0]
