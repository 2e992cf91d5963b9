"""Folders of generated pictures, small ones, laid out as the packaged recipes expect them."""

from pathlib import Path

import cv2
import numpy as np

import bokehsynth as bs


def photo(seed: int, height: int, width: int) -> np.ndarray:
    """A sharp picture of overlapping rectangles with grain, uint8 [H, W, 3] RGB; no two seeds look alike."""
    rng = np.random.default_rng(seed)
    picture = np.full((height, width, 3), rng.integers(40, 200, 3), np.float64)
    for _ in range(40):
        y, x = rng.integers(-10, height), rng.integers(-10, width)
        h, w = rng.integers(4, max(5, height // 2)), rng.integers(4, max(5, width // 2))
        picture[max(y, 0) : y + h, max(x, 0) : x + w] = rng.integers(20, 235, 3)
    grain = rng.normal(0, 6, (height, width, 1))
    return np.clip(picture + grain, 1, 254).astype(np.uint8)


def cutout(seed: int, height: int, width: int) -> np.ndarray:
    """An upright ellipse cut out of a photo with a hard edge, uint8 [H, W, 4] RGBA."""
    y, x = np.mgrid[:height, :width]
    inside = ((x / (width - 1) - 0.5) / 0.4) ** 2 + ((y / (height - 1) - 0.5) / 0.45) ** 2 <= 1
    return np.dstack([photo(seed, height, width), np.where(inside, 255, 0).astype(np.uint8)])


def save(path: Path, picture: np.ndarray) -> None:
    """PNG (or whatever the name says), RGB or RGBA or grey."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if picture.ndim == 3:
        picture = cv2.cvtColor(picture, cv2.COLOR_RGBA2BGRA if picture.shape[2] == 4 else cv2.COLOR_RGB2BGR)
    assert cv2.imwrite(str(path), picture)


def load(path: Path) -> np.ndarray:
    """uint8 [H, W, 3] RGB."""
    return cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)


def paper_folder(root: Path) -> Path:
    """The five folders of `paper`, two of them with mattes in files of their own."""
    for i in range(2):
        save(root / f"PhotoMatte85/{i:04d}.png", cutout(10 + i, 90, 60))
        save(root / f"web-cutouts/thing{i}.png", cutout(20 + i, 60, 70))
    for i, (folder, image, matte) in enumerate([("RWP-636", "image", "alpha"), ("AIM-500", "original", "mask")]):
        both = cutout(30 + i, 80, 80)
        save(root / folder / image / f"o_{i}.jpg", both[..., :3])
        save(root / folder / matte / f"o_{i}.png", both[..., 3])
    for i in range(3):
        save(root / f"landscapes/{i}.png", photo(40 + i, 150, 200))
    return root


def isr_folder(root: Path) -> Path:
    """LSDIR in subfolders, FFHQ by number; every picture larger than 64 px but one."""
    for i in range(3):
        save(root / f"LSDIR/000{i}000/{i:07d}.png", photo(50 + i, 90 + 10 * i, 120))
    save(root / "LSDIR/0000000/small.png", photo(59, 50, 60))
    for i in (0, 1, 9, 10):
        save(root / f"FFHQ/{i:05d}.png", photo(60 + i, 80, 80))
    return root


NEAR, FAR = 0.9, 0.1


def pair_of(seed: int, blur: float, height: int = 128, width: int = 176) -> dict[str, np.ndarray]:
    """A view all in focus and through a lens focused on its near rectangle: two frontal layers, rendered."""
    sharp = bs.srgb_to_linear(photo(seed, height, width))
    near = np.zeros((height, width), np.float32)
    near[34:110, 60:130] = 1
    margin = int(blur) + 4
    canvas = [cv2.copyMakeBorder(a, *(margin,) * 4, cv2.BORDER_REFLECT_101) for a in (sharp, near)]
    layers = [bs.Layer(canvas[0], np.pad(near, margin), bs.Plane(NEAR))]
    layers.append(bs.Layer(canvas[0], np.ones(canvas[1].shape, np.float32), bs.Plane(FAR)))
    frames = bs.render(layers, bs.Lens(blur, NEAR), margin)
    disparity = np.where(near > 0, NEAR, FAR)
    return {
        "aif": encoded(sharp),
        "bokeh": encoded(frames.bokeh),
        "disparity": np.rint(disparity * 65535).astype(np.uint16),
        "mask": (near * 255).astype(np.uint8),
    }


def encoded(linear: np.ndarray) -> np.ndarray:
    """8-bit sRGB."""
    return np.rint(bs.linear_to_srgb(np.clip(linear, 0, 1)) * 255).astype(np.uint8)


def pairs_folder(root: Path) -> dict[str, dict[str, np.ndarray]]:
    """Three pairs that fit, in EBB's folders, and four that do not; returns the good ones."""
    good = {name: pair_of(70 + i, blur) for i, (name, blur) in enumerate([("11", 9.0), ("12", 14.0), ("13", 6.0)])}
    bad = {name: pair_of(80 + i, 8.0) for i, name in enumerate(["dark", "moved", "other", "half"])}
    bad["dark"]["bokeh"] = encoded(bs.srgb_to_linear(bad["dark"]["bokeh"]) / 3)
    bad["moved"]["bokeh"] = np.roll(bad["moved"]["bokeh"], 5, axis=1)
    bad["other"]["bokeh"] = photo(99, *bad["other"]["bokeh"].shape[:2])
    del bad["half"]["bokeh"], good["13"]["disparity"]
    for name, files in (good | bad).items():
        for role, picture in files.items():
            save(root / {"aif": "original"}.get(role, role) / f"{name}.png", picture)
    return good
