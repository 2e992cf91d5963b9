"""The methods that are compared: each makes a picture of an item, or finds one that another program made."""

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from bokehsynth import Lens, UsageError
from magicbokeh.data.augment import classical_bokeh
from magicbokeh.evaluation import real_esrgan
from magicbokeh.evaluation.items import BoolArray, ByteArray, Item, ItemSet, Scene
from magicbokeh.evaluation.sets import PICTURES, read_picture
from magicbokeh.given_files import local_path
from magicbokeh.inference.infer import check_device, open_pipeline, pipeline_folder
from magicbokeh.inference.model_source import packaged_model
from magicbokeh.inference.picture_header import read_header
from magicbokeh.model.conditioning import BLUR_SIZE

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._+-]{0,39}")


class MethodOptions(NamedTuple):
    """How networks are run."""

    device: str = "auto"
    dtype: str | None = None
    color: str = "auto"
    """How colour is brought back to the degraded picture's, as in `infer`."""
    exact_depth: bool = True
    """Models get the set's disparity; False: their own depth network's, on the degraded picture."""


@dataclass
class Method:
    """One column of numbers: what it is called, and the picture it gives for an item."""

    name: str
    run: Callable[[Item], ByteArray]
    identity: str
    """Differs between methods that give other pictures."""
    about: str
    """One line for the table's notes."""
    is_measured: bool = True
    """Whether its time and memory are its own; not those of pictures that another program made."""
    counts_flops: bool = False
    """Whether torch can count its operations."""
    needs_lens: bool = False
    check: Callable[[ItemSet], None] = field(default=lambda _: None)
    """Raises UsageError where the method does not fit the set, before anything is run."""


def parse_methods(words: Sequence[str], options: MethodOptions) -> list[Method]:
    """The methods that a command line names, in its order; UsageError for an unknown one, or a name given twice."""
    parts = [part.strip() for word in words for part in word.split(",") if part.strip()]
    if not parts:
        raise UsageError("--methods: name at least one: lq, classical, two-stage, a model's folder, NAME=FOLDER")
    given = [_named(part) for part in parts]
    methods = [_method(one, given, options) for one in given]
    names = [method.name for method in methods]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise UsageError(f"--methods: {', '.join(twice)} twice; give one of them another name, NAME=FOLDER")
    return methods


class _Named(NamedTuple):
    """A method as the command line names it."""

    name: str
    source: str | None
    """A folder or repository, `packaged` and `~` resolved; None for a word that stands alone."""
    must_be_model: bool


def _named(part: str) -> _Named:
    name, equals, source = part.partition("=")
    if not equals and part in ("lq", "classical", "two-stage"):
        return _Named(part, None, False)
    if equals and not _NAME.fullmatch(name):
        raise UsageError(f"--methods: a name has letters, digits, spaces and ._+-, at most 40 of them, not {name!r}")
    if equals and not source:
        raise UsageError(f"--methods: {part} names no folder; write {name}=FOLDER")
    word = source if equals else part
    path = packaged_model() if word == "packaged" else local_path(word)
    default = word if word == "packaged" else path.name or word
    found = str(path) if word == "packaged" or word.startswith("~") else word  # a repository keeps its slash
    return _Named(name if equals else default, found, not equals)


def _method(one: _Named, given: Sequence[_Named], options: MethodOptions) -> Method:
    if one.source is None and one.name == "lq":
        return Method("lq", lambda item: item.lq, "lq", "the degraded picture as it is", is_measured=False)
    if one.source is None and one.name == "classical":
        about = "the renderer on the degraded picture, as one layer with the exact disparity and a disc for aperture"
        return Method("classical", lambda item: render(item.lq, item), "classical", about, needs_lens=True)
    if one.source is None or (one.name == "two-stage" and not one.must_be_model):
        return _two_stage(one.source, given, options)
    if one.must_be_model or is_model(Path(one.source)):
        return model_method(one.name, one.source, options)
    return folder_method(one.name, Path(one.source))


def is_model(folder: Path) -> bool:
    """Whether a folder is a pipeline's or a training run's."""
    return (folder / "model_index.json").is_file() or (folder / "run.json").is_file()


def render(picture: ByteArray, item: Item) -> ByteArray:
    """A picture through the item's lens, as one layer; as it is where nothing is blurred."""
    if item.scene is None:
        return picture
    return classical_bokeh(picture, item.scene.disparity, Lens(blur=item.scene.blur, focus=item.scene.focus))


# --- networks


def model_method(name: str, source: str, options: MethodOptions) -> Method:
    """A model: restores and blurs in one step, with the item's focus and blur."""
    pipe, identity = _open(source, options)

    def run(item: Item) -> ByteArray:
        scene = item.scene
        if scene is None:
            return _call(pipe, item.lq, options, blur=0.0)
        blur = scene.blur * BLUR_SIZE / min(item.lq.shape[:2])
        depth = scene.disparity if options.exact_depth else None
        if depth is None:  # the focus is a disparity of the set; the network's own has another scale
            return _call(pipe, item.lq, options, blur=blur, focus=_focal_mask(item, scene))
        return _call(pipe, item.lq, options, blur=blur, focus=scene.focus, depth=depth)

    depth = "the exact disparity" if options.exact_depth else "its own depth network and the focal mask"
    return Method(name, run, identity, f"the model {name} with {depth}, colour {options.color}", counts_flops=True)


def _focal_mask(item: Item, scene: Scene) -> BoolArray:
    """What is in focus; where nothing is, the hundredth of the picture that comes nearest to it."""
    if item.in_focus is not None and item.in_focus.any():
        return item.in_focus
    return np.asarray(scene.defocus <= np.quantile(scene.defocus, 0.01), np.bool_)


def _two_stage(source: str | None, given: Sequence[_Named], options: MethodOptions) -> Method:
    """Restoration, then the renderer with the exact disparity: by Real-ESRGAN, or by a model without blur.

    Where Real-ESRGAN is not installed, by the first model among the methods; the note says which it was.
    """
    if source is None and real_esrgan.weight_files() is None:
        source = next((one.source for one in given if one.source is not None and is_model(Path(one.source))), None)
        if source is None:
            raise UsageError(
                f"two-stage: Real-ESRGAN's weights are not installed; {real_esrgan.INSTALL}, or restore by a model: "
                "two-stage=MODEL"
            )
    if source is not None:
        pipe, identity = _open(source, options)
        return Method(
            "two-stage",
            lambda item: render(_call(pipe, item.lq, options, blur=0.0), item),
            f"sr {identity}",
            f"restored by {Path(source).name} without blur, then rendered as classical with the exact disparity",
            counts_flops=True,
        )
    network = real_esrgan.load_real_esrgan(_device(options.device))
    return Method(
        "two-stage",
        lambda item: render(real_esrgan.restore(network, item.lq, item.lq_native), item),
        "real-esrgan-x4plus",
        "restored by Real-ESRGAN x4plus, then rendered as classical with the exact disparity",
        counts_flops=True,
    )


def _device(word: str) -> Any:
    import torch

    return check_device(("cuda" if torch.cuda.is_available() else "cpu") if word == "auto" else word)


def _open(source: str, options: MethodOptions) -> tuple[Any, str]:
    """A fused pipeline and what tells it from others: the digests of its files, device, precision and options."""
    folder = pipeline_folder(source, "last")
    pipe = open_pipeline(folder, options.device, options.dtype)
    pipe.fuse()
    digest = hashlib.sha256(repr((options, str(pipe.dtype))).encode())
    files = sorted(path for path in Path(folder).rglob("*") if path.suffix in (".json", ".safetensors"))
    for path in files:
        digest.update(f"{path.relative_to(folder)}\n".encode())
        with open(path, "rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return pipe, digest.hexdigest() if files else f"{source} {digest.hexdigest()}"


def _call(pipe: Any, lq: ByteArray, options: MethodOptions, **call: Any) -> ByteArray:
    found = pipe(lq, color=options.color, output_type="np", **call).images[0]
    return np.rint(np.clip(found, 0, 1) * 255).astype(np.uint8)


# --- pictures of other programs


def folder_method(name: str, folder: Path) -> Method:
    """Pictures that another program made, under the samples' keys: KEY.png or another picture format."""
    if not folder.is_dir():
        raise UsageError(f"--methods: {name}: {folder}: no such folder")
    files: dict[str, Path] = {}
    for path in sorted(path for path in folder.iterdir() if path.suffix.lower() in PICTURES and path.is_file()):
        if path.stem in files:
            raise UsageError(f"--methods: {name}: {files[path.stem]} and {path.name}: two pictures of one sample")
        files[path.stem] = path

    def check(items: ItemSet) -> None:
        if missing := [outline.key for outline in items.outlines if outline.key not in files]:
            more = f" (and of {len(missing) - 1} more)" if len(missing) > 1 else ""
            raise UsageError(f"--methods: {name}: {folder} holds no picture of {missing[0]}{more}: {missing[0]}.png")
        for key, size, may_turn in items.outlines:
            header = read_header(files[key])
            turns = may_turn or header.format != "PNG"  # EXIF may tell that height and width are to be swapped
            if not turns or sorted(header.size) != sorted(size):
                _check_size(name, files[key], header.size, size)

    def run(item: Item) -> ByteArray:
        found = read_picture(files[item.key])
        _check_size(name, files[item.key], (found.shape[0], found.shape[1]), (item.lq.shape[0], item.lq.shape[1]))
        return found

    digest = hashlib.sha256(
        str([(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in files.values()]).encode()
    )
    return Method(name, run, digest.hexdigest(), f"pictures of {folder.name}", is_measured=False, check=check)


def _check_size(name: str, path: Path, found: tuple[int, int], wanted: tuple[int, int]) -> None:
    if found != wanted:
        raise UsageError(
            f"--methods: {name}: {path} has {found[1]} x {found[0]} px, the sample {wanted[1]} x {wanted[0]}"
        )
