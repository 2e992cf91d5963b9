"""Writer of one shard: either all of it is committed, with its marker, or nothing is."""

import contextlib
import hashlib
import io
import os
import threading
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any, BinaryIO

from bokehsynth.errors import DataError
from bokehsynth.files import TMP_MARK, atomic_write, commit_file, fsync_directory, make_directory, storage_errors
from bokehsynth.schema import FORMAT_VERSION, META_TYPES, Sample, ShardSpec
from bokehsynth.shards.codec import encode_stored, member_names, stored_arrays, stored_digest
from bokehsynth.shards.layout import Layout
from bokehsynth.shards.marker import ShardMarker
from bokehsynth.shards.plan import ShardPlan
from bokehsynth.shards.png import PngEncoder, encode_png
from bokehsynth.shards.tar import TarWriter, index_line, index_text, iter_headers, join_index
from bokehsynth.untrusted_files import open_regular, refuse_holes

COPIED_AT_A_TIME = 1 << 20
"""Bytes."""


@dataclass(frozen=True, eq=False)
class PackedSample:
    """A sample as a tar holds it."""

    key: str
    meta: Mapping[str, Any]
    members: Mapping[str, bytes]
    """Payloads by member name, sorted."""
    digest: str
    """Hex sha256 over arrays and metadata (`codec.stored_digest`)."""


AnySample = Sample | PackedSample


def pack(sample: Sample, spec: ShardSpec, encode_png: PngEncoder = encode_png) -> PackedSample:
    """Encode a sample, the most expensive part of writing it, on any thread; a DataError unless it fits `spec`."""
    stored = stored_arrays(sample, spec)
    digest = stored_digest(sorted(stored.items()), sample.meta)
    return PackedSample(sample.key, sample.meta, encode_stored(stored, sample.meta, spec, encode_png), digest)


def write_shard(
    layout: Layout, plan: ShardPlan, samples: Iterable[AnySample], spec: ShardSpec, identity: Mapping[str, str]
) -> ShardMarker:
    """Write the samples of `plan`, in index order, and commit them as one shard.

    A sample that is not encoded yet is packed as it comes, so one is in memory at a time. The order is: temporary file,
    fsync, rename, index, marker, fsync of the directories; a crash at any point leaves a shard without a marker, which
    is no shard. In a bucket the tar is put whole from memory, then index and marker, each only where none is: with the
    bytes that are there already the shard is committed, with others ChangedError names both machines.
    `identity` goes into the marker; where it names a metadata key (`recipe_digest`), every sample must carry its value.

    Raises DataError if the samples are not exactly those of the plan or do not follow the format, StorageError if the
    file system refuses; what `samples` raises passes through. Nothing is left behind in any of these cases.
    """
    tar_path, members = layout.tar(plan), member_names(spec)
    pixels = hashlib.sha256()
    with _committed(layout, plan) as file:
        tar = TarWriter(file)
        for sample in _in_order(plan, samples):
            for name, value in identity.items():
                if name in META_TYPES and (own := sample.meta.get(name)) != value:
                    raise DataError(f"sample {sample.key}: {name} is {own!r}, the data set's is {value!r}")
            packed = sample if isinstance(sample, PackedSample) else pack(sample, spec)
            if list(packed.members) != members:
                held = ", ".join(packed.members)
                raise DataError(f"sample {packed.key}: was packed as {held}; the shard holds {', '.join(members)}")
            pixels.update(f"{packed.digest}\n".encode())
            with storage_errors(tar_path):
                for member, payload in packed.members.items():
                    tar.add(f"{packed.key}.{member}", payload)
        with storage_errors(tar_path):
            tar.close()
        marker = ShardMarker(
            format=FORMAT_VERSION,
            split=plan.split,
            shard=plan.shard,
            first=plan.first,
            n=plan.count,
            first_key=plan.first_key,
            last_key=plan.last_key,
            bytes=tar.size,
            sha256=tar.sha256,
            pixels_sha256=pixels.hexdigest(),
            members=members,
            identity=dict(identity),
        )
    commit_file(layout.index(plan), index_text(tar.entries))
    commit_file(layout.marker(plan), marker.text())
    return marker


def copy_shard(source: Layout, layout: Layout, marker: ShardMarker) -> None:
    """Commit in `layout` the shard that `marker` promises in `source`, byte by byte.

    DataError if the tar there is not what its marker says; then nothing is committed here.
    """
    plan, tar = marker.plan, source.tar(marker.plan)
    digest = hashlib.sha256()
    try:
        with _committed(layout, plan) as file, open_regular(tar) as original:
            refuse_holes(original, tar)
            lines = [index_line(entries) for entries in iter_headers(original, str(tar))]
            original.seek(0)
            while block := original.read(COPIED_AT_A_TIME):
                digest.update(block)
                with storage_errors(layout.tar(plan)):
                    file.write(block)
            if digest.hexdigest() != marker.sha256:
                raise DataError(f"{tar}: is not what its marker says; `bokehsynth verify --fix` there, then again")
    except OSError as error:
        raise DataError(f"{tar}: cannot be read ({error.strerror})") from None
    commit_file(layout.index(plan), join_index(lines))
    commit_file(layout.marker(plan), marker.text())


def restore_shard(layout: Layout, plan: ShardPlan, marker: ShardMarker | None) -> None:
    """Write the index of a whole tar anew and, if given, the marker that follows from it (`verify_dataset`)."""
    make_directory(layout.split_markers(plan.split))
    tar = layout.tar(plan)
    with storage_errors(tar), open_regular(tar) as file:
        lines = [index_line(entries) for entries in iter_headers(file, str(tar))]
    atomic_write(layout.index(plan), join_index(lines))
    if marker is not None:
        atomic_write(layout.marker(plan), marker.text())


@contextlib.contextmanager
def _committed(layout: Layout, plan: ShardPlan) -> Iterator[BinaryIO]:
    """Open the file of a tar that moves into the split when the block ends well, and is deleted when it does not.

    It grows in the staging folder, since the split's folder may hold tars and nothing else. Only file operations here
    turn into a StorageError: an OSError of the code that makes the samples is not the disk's.
    """
    final = layout.tar(plan)
    for folder in (layout.split(plan.split), layout.split_markers(plan.split), layout.staging):
        make_directory(folder)
    if not isinstance(final, Path):
        memory = io.BytesIO()
        yield memory
        commit_file(final, memory.getbuffer())
        return
    staged = layout.staging / f"{final.name}{TMP_MARK}{os.getpid()}-{threading.get_ident()}"
    with storage_errors(staged):
        file = open(staged, "xb")  # noqa: SIM115  # closed below, whatever its end
    try:
        try:
            yield file
            with storage_errors(final):
                file.flush()
                os.fsync(file.fileno())
                file.close()  # a network file system may say only now that there was no room
        finally:
            # After a failed write, close tries to flush the rest and fails again; the first error is the story.
            with contextlib.suppress(OSError):
                file.close()
        with storage_errors(final):
            # An older marker must not stand beside the new tar, not even for a moment.
            layout.marker(plan).unlink(missing_ok=True)
            os.replace(staged, final)
            fsync_directory(final.parent)
    except BaseException:
        with contextlib.suppress(OSError):
            staged.unlink()
        raise


def _in_order(plan: ShardPlan, samples: Iterable[AnySample]) -> Iterator[AnySample]:
    """Pass the samples on; a DataError as soon as one is missing, too many or out of order."""
    for seen, (key, sample) in enumerate(zip_longest(plan.keys, samples)):
        if sample is None:
            raise DataError(f"shard {plan.name} must hold {plan.count} samples, got {seen}")
        if sample.key != key:
            raise DataError(f"shard {plan.name}: sample {seen} must be {key or 'no more'}, got {sample.key}")
        yield sample
