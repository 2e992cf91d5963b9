"""Encodes a sample as the members of a tar and decodes it, without a loss.

Colour fields become 8-bit PNG or lossless WebP, maps and 16-bit colour 16-bit PNG, the metadata canonical JSON. Every
parameter of an encoder is given, so that bytes depend on the libraries alone and never on their defaults.
"""

import hashlib
import io
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

import cv2
import numpy as np

from bokehsynth.errors import DataError
from bokehsynth.files import canonical_json
from bokehsynth.schema import (
    FIELDS,
    Array,
    Sample,
    ShardSpec,
    check_meta,
    dequantize_map,
    quantize_map,
    sample_key,
)

META_MEMBER = "json"

_STORED_AS = {name: np.uint8 if field.kind == "color" else np.uint16 for name, field in FIELDS.items()}

_KEY = re.compile(r"[a-z0-9][a-z0-9_-]{0,79}")
_INT64 = 2**63
_WEBP_SIDE_MAX = 16383

# OpenCV 4.12 gave this parameter its name; before that it is ignored: same pixels, other bytes.
_PNG_FILTER = 19
_PNG_FILTER_PAETH = 128
# Measured on 512x512 (photograph / blurred / noisy): Paeth + Huffman only takes the time of OpenCV's default (Sub +
# run lengths) and 10 % to 30 % fewer bytes. Maps are made of planes, which Paeth turns into runs of zeros.
_PNG_COLOR, _PNG_MAP = (
    [cv2.IMWRITE_PNG_COMPRESSION, 1, cv2.IMWRITE_PNG_STRATEGY, strategy, _PNG_FILTER, _PNG_FILTER_PAETH]
    for strategy in (cv2.IMWRITE_PNG_STRATEGY_HUFFMAN_ONLY, cv2.IMWRITE_PNG_STRATEGY_RLE)
)


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
    meta, stored = decode_stored(key, members, fields)
    arrays: dict[str, Array] = {}
    for name, values in stored.items():
        field = FIELDS[name]
        arrays[name] = dequantize_map(values, field.scale(meta)) if field.kind == "map" else values
    return Sample(key, meta, arrays)


def pixels_digest(sample: Sample) -> str:
    """Hex sha256 over arrays and metadata, independent of the encoder (see `stored_digest`)."""
    return stored_digest(stored_arrays(sample), sample.meta)


def stored_digest(stored: Mapping[str, Array], meta: Mapping[str, Any]) -> str:
    """Hex sha256 over the stored arrays and the metadata.

    Fields go in by name: a line `name dtype HxW` or `name dtype HxWx3`, then the numbers, little-endian, row by row.
    The canonical JSON of the metadata comes last.
    """
    digest = hashlib.sha256()
    for name in sorted(stored):
        values = stored[name]
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
            raise DataError(f"sample {sample.key}: {name!r} is no field; known are {', '.join(FIELDS)}")
        is_map, where = FIELDS[name].kind == "map", f"sample {sample.key}, {name}"
        _check_array(where, values, np.float32 if is_map else _STORED_AS[name], size, name)
        stored[name] = values
        if is_map:
            scale = FIELDS[name].scale(sample.meta)
            stored[name] = quantize_map(values, scale, where)
            if not np.array_equal(dequantize_map(stored[name], scale), values):
                raise DataError(f"{where}: not on its 16-bit steps; pass it through quantize_map first")
    return stored


def encode_stored(stored: Mapping[str, Array], meta: Mapping[str, Any], spec: ShardSpec) -> dict[str, bytes]:
    """The members for arrays that `stored_arrays` has checked."""
    members = {META_MEMBER: canonical_json(dict(meta)).encode()}
    for name, values in stored.items():
        member = member_name(name, spec.codec)
        members[member] = encode_webp(values) if member.endswith(".webp") else encode_png(values)
    return dict(sorted(members.items()))


def decode_stored(
    key: str, members: Mapping[str, bytes], fields: Iterable[str] | None = None
) -> tuple[dict[str, Any], dict[str, Array]]:
    """Metadata and stored arrays behind the members of a sample, checked against each other; DataError names `key`."""
    meta = decode_meta(key, members)
    names = {member.partition(".")[0]: member for member in members if member != META_MEMBER}
    unknown = [member for name, member in names.items() if name not in FIELDS]
    if unknown:
        raise DataError(f"sample {key} has unknown members {', '.join(unknown)}")
    stored: dict[str, Array] = {}
    for name in names if fields is None else fields:
        if name not in names:
            raise DataError(f"sample {key} has no member for {name!r}; it holds {', '.join(sorted(members))}")
        where = f"{key}.{names[name]}"
        stored[name] = decode_image(members[names[name]], where)
        _check_array(where, stored[name], _STORED_AS[name], (meta["height"], meta["width"]), name)
    return meta, stored


def decode_meta(key: str, members: Mapping[str, bytes]) -> dict[str, Any]:
    """The metadata of a sample; a DataError, naming `key`, if it is missing, damaged or belongs to another sample."""
    if META_MEMBER not in members:
        raise DataError(f"sample {key} has no member {META_MEMBER!r}; it holds {', '.join(sorted(members))}")
    try:
        meta = json.loads(members[META_MEMBER])
        if not isinstance(meta, dict):
            raise ValueError("not an object")
    except ValueError as error:
        raise DataError(f"{key}.{META_MEMBER} is not a JSON object: {error}") from None
    _check_record(key, meta)
    return meta


def encode_png(values: Array) -> bytes:
    """PNG of uint8 or uint16 [H, W, 3] RGB, or of uint16 [H, W]."""
    if values.ndim == 3:
        return bytes(cv2.imencode(".png", cv2.cvtColor(values, cv2.COLOR_RGB2BGR), _PNG_COLOR)[1])
    return bytes(cv2.imencode(".png", values, _PNG_MAP)[1])


def encode_webp(values: Array) -> bytes:
    """Lossless WebP of uint8 [H, W, 3] RGB; a DataError for a side above 16383 px, the format's bound."""
    from PIL import Image  # only writers of WebP need Pillow: OpenCV has no fast lossless mode, but decodes it

    if max(values.shape) > _WEBP_SIDE_MAX:
        raise DataError(f"WebP ends at {_WEBP_SIDE_MAX} px a side, the picture is {values.shape[1]}x{values.shape[0]}")
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, "WEBP", lossless=True, quality=0, method=0, exact=True)
    return buffer.getvalue()


def decode_image(data: bytes, where: str) -> Array:
    """Any member picture to uint8 or uint16 [H, W, 3] RGB or uint16 [H, W]; DataError, naming `where`, if damaged."""
    try:
        values = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        raise DataError(f"{where} cannot be decoded: {error}") from None
    if values is None:
        raise DataError(f"{where} cannot be decoded: {len(data)} bytes that are no whole picture")
    return cv2.cvtColor(values, cv2.COLOR_BGR2RGB) if values.ndim == 3 and values.shape[2] == 3 else values


def _check_array(where: str, values: Array, dtype: type, size: tuple[int, int], name: str) -> None:
    if FIELDS[name].own_size and values.ndim == 3 and 0 not in values.shape:
        size = (values.shape[0], values.shape[1])
    shape = size if FIELDS[name].kind == "map" else (*size, 3)
    if values.dtype != dtype or values.shape != shape:
        wanted = f"{np.dtype(dtype).name} {list(shape)}"
        raise DataError(
            f"{where}: must be {wanted} (height and width of its metadata), got {values.dtype} {list(values.shape)}"
        )


def _check_record(key: str, meta: Mapping[str, Any]) -> None:
    """Check what readers rely on beyond types: a plain key, numbers that fit, lists that table readers can type."""
    try:
        check_meta(meta)
    except DataError as error:
        raise DataError(f"sample {key}: {error}") from None
    if not _KEY.fullmatch(key) or key != sample_key(meta["split"], meta["index"]):
        raise DataError(
            f"sample {key}: the key of {meta['split']} {meta['index']} must be another, and match {_KEY.pattern}"
        )
    for name, value in meta.items():
        kind = type(value)
        if kind is int and not -_INT64 <= value < _INT64:
            raise DataError(f"sample {key}: {name} = {value} does not fit 64 bits, as table readers need")
        if kind is float and not np.isfinite(value):
            raise DataError(f"sample {key}: {name} = {value} has no JSON")
    if not meta["assets"] or not all(isinstance(asset, str) for asset in meta["assets"]):
        raise DataError(f"sample {key}: assets must be a list of at least one string, got {meta['assets']!r}")
