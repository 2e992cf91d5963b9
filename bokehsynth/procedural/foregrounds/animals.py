"""Proportions and coats of the animals that `fur` grows."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Coat:
    """Colours of a coat, hex sRGB."""

    back: str
    face: str
    """Muzzle, cheeks and chest."""
    mark: str
    """Stripes, ears' backs, forehead."""
    iris: str
    stripes: float = 0.0


@dataclass(frozen=True)
class Animal:
    """Proportions of a head in units of its radius; `half` lists the right half of its outline from top to chin."""

    half: tuple[tuple[float, float], ...]
    ear: tuple[tuple[float, float], ...]
    """Right ear: outer base, tip side, tip, inner side, inner base."""
    eye: tuple[float, float, float]
    """x, y and half width."""
    slant: float
    round_pupil: bool
    nose: tuple[float, float]
    """y and half width."""
    muzzle: tuple[float, float]
    """Half width and half height."""
    length: float
    """Of the hair."""
    mask: float
    """How far the pale face reaches, 0..1."""
    coats: tuple[Coat, ...]


CAT = Animal(
    half=((0, -0.82), (0.42, -0.80), (0.80, -0.50), (0.98, 0.02), (0.98, 0.36), (0.72, 0.68), (0.34, 0.86), (0, 0.92)),
    ear=((0.90, -0.38), (0.98, -0.95), (0.86, -1.38), (0.52, -1.12), (0.26, -0.74)),
    eye=(0.42, -0.04, 0.235),
    slant=-0.16,
    round_pupil=False,
    nose=(0.36, 0.125),
    muzzle=(0.30, 0.22),
    length=0.17,
    mask=0.45,
    coats=(
        Coat("a8793f", "f3e6d2", "5a3a1c", "9cc24a", 0.9),
        Coat("8d8f94", "dcdcdc", "3b3d42", "e2b13c", 0.7),
        Coat("d98a3d", "fbe9cf", "a9541a", "c8a53a", 0.8),
        Coat("efe8dc", "ffffff", "c9b79c", "5fa6d6", 0.3),
        Coat("2f2c2c", "4a4543", "151414", "d8c23a", 0.0),
    ),
)
FOX = Animal(
    half=((0, -0.78), (0.40, -0.76), (0.74, -0.50), (0.98, 0.00), (1.12, 0.36), (0.74, 0.62), (0.34, 0.86), (0, 1.02)),
    ear=((0.86, -0.40), (0.98, -1.05), (0.84, -1.56), (0.50, -1.20), (0.26, -0.72)),
    eye=(0.40, -0.02, 0.175),
    slant=-0.30,
    round_pupil=False,
    nose=(0.66, 0.15),
    muzzle=(0.25, 0.30),
    length=0.20,
    mask=0.9,
    coats=(
        Coat("cf6a22", "fdf4e6", "7c2f0c", "c98a2a"),
        Coat("b8551c", "f7e7d0", "54200a", "a8741f"),
        Coat("e9edf2", "ffffff", "b4bcc6", "8a6a34"),
    ),
)
BEAR = Animal(
    half=((0, -0.86), (0.46, -0.80), (0.82, -0.48), (0.98, 0.00), (0.96, 0.36), (0.72, 0.70), (0.38, 0.92), (0, 0.98)),
    ear=((1.06, -0.42), (1.20, -0.80), (0.94, -1.08), (0.62, -0.98), (0.42, -0.62)),
    eye=(0.36, -0.06, 0.125),
    slant=0.0,
    round_pupil=True,
    nose=(0.38, 0.20),
    muzzle=(0.40, 0.36),
    length=0.18,
    mask=0.0,
    coats=(
        Coat("7a4f2c", "b98d5e", "4a2c16", "4a2a12"),
        Coat("3a302b", "a07b52", "1e1815", "3a2412"),
        Coat("e9e1d0", "f6efe2", "cdbfa5", "2c1c10"),
        Coat("9b6a3b", "d2a674", "5f3c1d", "3e2510"),
    ),
)
DOG = Animal(
    half=((0, -0.86), (0.44, -0.84), (0.80, -0.54), (0.96, -0.02), (0.94, 0.40), (0.70, 0.74), (0.36, 0.98), (0, 1.04)),
    ear=((0.62, -0.78), (1.12, -0.62), (1.36, 0.10), (1.18, 0.56), (0.84, 0.10)),
    eye=(0.38, -0.08, 0.165),
    slant=0.05,
    round_pupil=True,
    nose=(0.40, 0.19),
    muzzle=(0.36, 0.34),
    length=0.21,
    mask=0.35,
    coats=(
        Coat("d9a65e", "f3dcb0", "a26a2a", "5a3415"),
        Coat("6b4526", "c79b66", "3c2412", "6a4018"),
        Coat("f0ece4", "ffffff", "8c6a48", "4a2c14"),
        Coat("2c2a2b", "e9e2d8", "161516", "6a4420"),
    ),
)
