"""Encodes a sample as the members of a tar and decodes it, without a loss.

Colour fields become 8-bit PNG or lossless WebP, maps and 16-bit colour 16-bit PNG, the metadata canonical JSON. Every
parameter of an encoder is given, so that bytes depend on the libraries alone and never on their defaults.

Members may be a stranger's: a picture is decoded only if its header says just what the record does, and the members of
a large sample are read only if their sizes can be true (`check_sizes`).
"""

import hashlib
import io
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import cv2
import numpy as np

from bokehsynth.errors import DataError
from bokehsynth.files import canonical_json
from bokehsynth.schema import (
    FIELD_NAMES,
    FIELDS,
    MAX_DECODED,
    MAX_SAMPLE_PIXELS,
    Array,
    Sample,
    ShardSpec,
    check_meta,
    decoded_bytes,
    dequantize_map,
    quantize_map,
    sample_key,
)
from bokehsynth.shards.picture_header import StoredForm, read_form
from bokehsynth.shards.png import PngEncoder, encode_png
from bokehsynth.untrusted_files import parse_json

META_MEMBER = "json"

MAX_RECORD = 16 << 20
"""Bytes of a sample's JSON record: some thousand, and what the draws of user-defined steps hold."""
SMALL_SAMPLE = 64 << 20
"""Bytes of members up to which a sample is read without asking its record how large it can be."""
_LARGEST_SHARE = 1.25
"""Bytes of an encoded picture over those of its pixels, at most: noise does not shrink, and encoders add little."""
_OVERHEAD = 1 << 20

_STORED_AS = {name: np.uint8 if field.kind == "color" else np.uint16 for name, field in FIELDS.items()}

_MEMBERS = {
    name: (f"{name}.png", f"{name}.webp") if field.kind == "color" else (f"{name}.png",)
    for name, field in FIELDS.items()
}

_KEY = re.compile(r"[a-z0-9][a-z0-9_-]{0,79}")
_INT64 = 2**63
_WEBP_SIDE_MAX = 16383

_STRIP = 1 << 24
"""Bytes that are turned from BGR to RGB at once in larger pictures, where they lie."""


def member_name(field: str, codec: str) -> str:
    """The member that holds a field, `lq` -> `lq.png`: the codec of the recipe for colour, always PNG for maps."""
    return f"{field}.{codec if FIELDS[field].kind == 'color' else 'png'}"


def member_names(spec: ShardSpec) -> list[str]:
    """Every member of a sample, in the order in which the tar holds them."""
    return sorted([META_MEMBER, *(member_name(name, spec.codec) for name in spec.fields)])


def encode_sample(sample: Sample, spec: ShardSpec) -> dict[str, bytes]:
    """The members of a sample, sorted by name; a DataError if it is not exactly what `spec` and the format ask for."""
    return encode_stored(stored_arrays(sample, spec), sample.meta, spec)


def decode_sample(key: str, members: Mapping[str, bytes], fields: Iterable[str] | None = None) -> Sample:
    """The sample behind its members; `fields` limits what is decoded (default: everything there).

    Raises DataError, naming the key, if a member is missing, unknown, damaged or of another size than its metadata.
    """
    meta = decode_meta(key, members)
    names = [*(field_members(key, members) if fields is None else fields)]
    size = decoded_bytes(meta["height"] * meta["width"], names)
    if size > MAX_DECODED:
        raise DataError(
            f"sample {key}: {meta['width']} x {meta['height']} px in {len(names)} fields are {size / 1e9:.1f} GB, and "
            f"at most {MAX_DECODED / 1e9:g} are decoded at once; name fewer fields (open_dataset(..., fields=[...]))"
        )
    arrays: dict[str, Array] = {}
    for name, values in iter_stored(key, meta, members, fields):
        field = FIELDS[name]
        arrays[name] = dequantize_map(values, field.scale(meta)) if field.kind == "map" else values
    return Sample(key, meta, arrays)


def pixels_digest(sample: Sample) -> str:
    """Hex sha256 over arrays and metadata, independent of the encoder (see `stored_digest`)."""
    return stored_digest(sorted(stored_arrays(sample).items()), sample.meta)


def stored_digest(stored: Iterable[tuple[str, Array]], meta: Mapping[str, Any]) -> str:
    """Hex sha256 over the stored arrays, in the order of their names, and the metadata.

    Of each field a line `name dtype HxW` or `name dtype HxWx3`, then the numbers, little-endian, row by row. The
    canonical JSON of the metadata comes last.
    """
    digest = hashlib.sha256()
    for name, values in stored:
        digest.update(f"{name} {values.dtype.name} {'x'.join(map(str, values.shape))}\n".encode())
        digest.update(np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("<")).data)
    digest.update(canonical_json(dict(meta)).encode())
    return digest.hexdigest()


def stored_arrays(sample: Sample, spec: ShardSpec | None = None) -> dict[str, Array]:
    """What a shard keeps of each field: uint8 or uint16 [H, W, 3] RGB for colour, uint16 [H, W] counts for maps.

    Raises DataError unless key, metadata, dtypes and shapes follow the format, the fields are those of `spec`, and the
    maps already lie on their 16-bit steps (otherwise a reader would see other numbers than the sample showed).
    """
    _check_record(sample.key, sample.meta)
    if spec is not None and sample.arrays.keys() != set(spec.fields):
        raise DataError(f"sample {sample.key} holds {sorted(sample.arrays)}, the recipe stores {sorted(spec.fields)}")
    size = (sample.meta["height"], sample.meta["width"])
    stored: dict[str, Array] = {}
    for name, values in sample.arrays.items():
        if name not in FIELDS:
            raise DataError(f"sample {sample.key}: {name!r} is no field; known are {FIELD_NAMES}")
        is_map, where = FIELDS[name].kind == "map", f"sample {sample.key}, {name}"
        form = StoredForm(values.shape, values.dtype.name)
        _check_form(where, form, np.float32 if is_map else _STORED_AS[name], size, name)
        stored[name] = values
        if is_map:
            scale = FIELDS[name].scale(sample.meta)
            stored[name] = quantize_map(values, scale, where)
            if not np.array_equal(dequantize_map(stored[name], scale), values):
                raise DataError(f"{where}: not on its 16-bit steps; pass it through quantize_map first")
    return stored


def encode_stored(
    stored: Mapping[str, Array], meta: Mapping[str, Any], spec: ShardSpec, encode_png: PngEncoder = encode_png
) -> dict[str, bytes]:
    """The members for arrays that `stored_arrays` has checked."""
    members = {META_MEMBER: canonical_json(dict(meta)).encode()}
    for name, values in stored.items():
        member = member_name(name, spec.codec)
        members[member] = encode_webp(values) if member.endswith(".webp") else encode_png(values)
    return dict(sorted(members.items()))


def iter_stored(
    key: str, meta: Mapping[str, Any], members: Mapping[str, bytes], fields: Iterable[str] | None = None
) -> Iterator[tuple[str, Array]]:
    """The stored array of each field of a sample, one decoded at a time; DataError, naming `key`, if one is damaged.

    `meta` is what `decode_meta` gives; `fields` limits what is decoded (default: all, in the order of their names).
    """
    names = field_members(key, members)
    for name in sorted(names) if fields is None else fields:
        if name not in names:
            raise DataError(f"sample {key} has no member for {name!r}; it holds {', '.join(sorted(members))}")
        where, data = f"{key}.{names[name]}", members[names[name]]
        form = read_form(data, names[name].rpartition(".")[2], where)
        _check_form(where, form, _STORED_AS[name], (meta["height"], meta["width"]), name)
        yield name, decode_image(data, form, where)


def field_members(key: str, members: Iterable[str]) -> dict[str, str]:
    """The member of each field, by name; a DataError for one that the format does not know."""
    names: dict[str, str] = {}
    for member in members:
        field = member.partition(".")[0]
        if field in names:
            raise DataError(f"sample {key} has two members for {field}, {names[field]} and {member}")
        if member != META_MEMBER:
            names[field] = member
    unknown = [member for name, member in names.items() if name not in FIELDS or member not in _MEMBERS[name]]
    if unknown:
        raise DataError(f"sample {key} has unknown members {', '.join(unknown)}")
    return names


def check_sizes(key: str, sizes: Mapping[str, int], read_meta_member: Callable[[], bytes]) -> None:
    """DataError unless members of these sizes in bytes may belong to one sample; to be asked before they are read.

    `read_meta_member` is called where they take more than SMALL_SAMPLE: then the record's height and width bound them.
    """
    if sum(sizes.values()) <= SMALL_SAMPLE:
        return
    if META_MEMBER not in sizes:
        raise DataError(f"sample {key} has no member {META_MEMBER!r}; it holds {', '.join(sorted(sizes))}")
    meta = decode_meta(key, {META_MEMBER: read_meta_member()})
    for name, member in field_members(key, sizes).items():
        pixels = MAX_SAMPLE_PIXELS if FIELDS[name].own_size else meta["height"] * meta["width"]
        item = np.dtype(_STORED_AS[name]).itemsize * (1 if FIELDS[name].kind == "map" else 3)
        most = int(_LARGEST_SHARE * pixels * item) + _OVERHEAD
        if sizes[member] > most:
            raise DataError(
                f"{key}.{member} would hold {sizes[member]:,} bytes; of {meta['width']} x {meta['height']} px it has "
                f"at most {most:,}"
            )


def decode_meta(key: str, members: Mapping[str, bytes]) -> dict[str, Any]:
    """The metadata of a sample; a DataError, naming `key`, if it is missing, damaged or belongs to another sample."""
    if META_MEMBER not in members:
        raise DataError(f"sample {key} has no member {META_MEMBER!r}; it holds {', '.join(sorted(members))}")
    where, data = f"{key}.{META_MEMBER}", members[META_MEMBER]
    if len(data) > MAX_RECORD:
        raise DataError(f"{where} has {len(data):,} bytes; a record has at most {MAX_RECORD:,}")
    try:
        meta = parse_json(data.decode("ascii"), where)
    except UnicodeDecodeError:
        raise DataError(f"{where} is not JSON: it is no ASCII text") from None
    if not isinstance(meta, dict):
        raise DataError(f"{where} is not a JSON object")
    _check_record(key, meta)
    return meta


def encode_webp(values: Array) -> bytes:
    """Lossless WebP of uint8 [H, W, 3] RGB; a DataError for a side above 16383 px, the format's bound."""
    from PIL import Image  # only writers of WebP need Pillow: OpenCV has no fast lossless mode, but decodes it

    if max(values.shape) > _WEBP_SIDE_MAX:
        raise DataError(f"WebP ends at {_WEBP_SIDE_MAX} px a side, the picture is {values.shape[1]}x{values.shape[0]}")
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, "WEBP", lossless=True, quality=0, method=0, exact=True)
    return buffer.getvalue()


def decode_image(data: bytes, form: StoredForm, where: str) -> Array:
    """A picture whose header was found to say `form`, to just that; DataError, naming `where`, if it is damaged."""
    try:
        values = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        raise DataError(f"{where} cannot be decoded: {' '.join(str(error).split())}") from None
    if values is None:
        raise DataError(f"{where} cannot be decoded: {len(data)} bytes that are no whole picture")
    if values.dtype != form.dtype or values.shape != form.shape:
        raise DataError(f"{where} cannot be decoded: {values.dtype} {list(values.shape)}, its header says {form}")
    return _rgb(values) if values.ndim == 3 else values


def _rgb(values: Array) -> Array:
    """BGR to RGB; a large picture in place, because two of it are half a gigabyte."""
    if values.nbytes <= _STRIP:
        return cv2.cvtColor(values, cv2.COLOR_BGR2RGB)
    rows = max(1, _STRIP * len(values) // values.nbytes)
    for top in range(0, len(values), rows):
        values[top : top + rows] = cv2.cvtColor(values[top : top + rows], cv2.COLOR_BGR2RGB)
    return values


def _check_form(where: str, form: StoredForm, dtype: type, size: tuple[int, int], name: str) -> None:
    if FIELDS[name].own_size and len(form.shape) == 3 and 0 < form.pixels <= MAX_SAMPLE_PIXELS:
        size = (form.shape[0], form.shape[1])
    shape = size if FIELDS[name].kind == "map" else (*size, 3)
    if form != (shape, np.dtype(dtype).name):
        wanted = StoredForm(shape, np.dtype(dtype).name)
        raise DataError(f"{where}: must be {wanted} (height and width of its metadata), got {form}")


def _short(number: int) -> str:
    return str(number) if abs(number) < 10**30 else "a number of more than 30 digits"


def _check_record(key: str, meta: Mapping[str, Any]) -> None:
    """Check what readers rely on beyond types: a plain key, numbers that fit, lists that table readers can type."""
    try:
        check_meta(meta)
    except DataError as error:
        raise DataError(f"sample {key}: {error}") from None
    for name, value in meta.items():
        kind = type(value)
        if kind is int and not -_INT64 <= value < _INT64:
            raise DataError(f"sample {key}: {name} = {_short(value)} does not fit 64 bits, as table readers need")
        if kind is float and not np.isfinite(value):
            raise DataError(f"sample {key}: {name} = {value} has no JSON")
        if kind is list and any(type(each) is float and not np.isfinite(each) for each in value):
            raise DataError(f"sample {key}: {name} holds a number that has no JSON")
    if not _KEY.fullmatch(key) or key != sample_key(meta["split"], meta["index"]):
        raise DataError(
            f"sample {key}: the key of {meta['split']} {meta['index']} must be another, and match {_KEY.pattern}"
        )
    height, width = meta["height"], meta["width"]
    if min(height, width) < 1 or height * width > MAX_SAMPLE_PIXELS:
        raise DataError(
            f"sample {key}: {width} x {height} px; sides must be at least 1 and pixels at most {MAX_SAMPLE_PIXELS:,}"
        )
    if not meta["assets"] or not all(isinstance(asset, str) for asset in meta["assets"]):
        raise DataError(f"sample {key}: assets must be a list of at least one string, got {meta['assets']!r}")
