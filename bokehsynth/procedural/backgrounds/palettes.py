"""Colors of the hills at five times of day and year, of flowers, and of five kinds of forest."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Season:
    """Colors of one time of day and year, sRGB codes; `sun_y` is the sun's height as a share of the sky."""

    zenith: str
    horizon: str
    glow: str
    cloud_lit: str
    cloud_shade: str
    haze: str
    rock: str
    forest: str
    forest_lit: str
    conifer: str
    conifer_lit: str
    grass: str
    grass_lit: str
    straw: str
    sun_y: tuple[float, float]
    sun_peak: float
    snow: float


NOON = Season(
    zenith="2f6fc0", horizon="b9d8ee", glow="fff4dc", cloud_lit="ffffff", cloud_shade="9fb0c4", haze="a9c6e2",
    rock="6f6a66", forest="1d3a1c", forest_lit="6f8f3a", conifer="16301c", conifer_lit="4f7a3a",
    grass="2c5416", grass_lit="9fbd45",
    straw="c9c07a", sun_y=(-0.3, 0.1), sun_peak=12.0, snow=0.8,
)  # fmt: skip
AUTUMN = Season(
    zenith="3a7cc8", horizon="d6e3ea", glow="ffe6b8", cloud_lit="fff8ea", cloud_shade="a5afbf", haze="b7c6d6",
    rock="7d7166", forest="5a2c10", forest_lit="e08a2a", conifer="152c1c", conifer_lit="5f7a3c",
    grass="6b5a20", grass_lit="d9b75a",
    straw="c88a4a", sun_y=(-0.1, 0.3), sun_peak=12.0, snow=0.9,
)  # fmt: skip
SUNSET = Season(
    zenith="39507f", horizon="ffb56e", glow="ff8c3a", cloud_lit="ffb27a", cloud_shade="6d5470", haze="d98a6e",
    rock="5d4a55", forest="1c2420", forest_lit="7a5a2a", conifer="12181a", conifer_lit="5c4a2c",
    grass="2e3314", grass_lit="b98a3a",
    straw="c07a3c", sun_y=(0.48, 0.74), sun_peak=12.0, snow=0.4,
)  # fmt: skip
DAWN = Season(
    zenith="6f8fc4", horizon="f6d3d0", glow="ffc9a8", cloud_lit="ffe3da", cloud_shade="9a93b4", haze="bfb6d2",
    rock="66627a", forest="22323a", forest_lit="6f8468", conifer="1b2c34", conifer_lit="5f7a66",
    grass="35502c", grass_lit="a4b86a",
    straw="c9b48c", sun_y=(0.45, 0.8), sun_peak=10.0, snow=0.6,
)  # fmt: skip
GOLDEN = Season(
    zenith="4b86c0", horizon="f8e0ad", glow="ffd083", cloud_lit="fff0cf", cloud_shade="a79a9c", haze="e0c9a0",
    rock="77695a", forest="26351a", forest_lit="a39a3a", conifer="1a2c18", conifer_lit="7c8238",
    grass="3f5418", grass_lit="d2c04a",
    straw="e0b85a", sun_y=(0.35, 0.7), sun_peak=10.0, snow=0.3,
)  # fmt: skip

SEASONS = [NOON, AUTUMN, SUNSET, DAWN, GOLDEN]

PETALS = {
    "poppies": ["d8261c", "e8472a", "f2f0e6"],
    "lupins": ["7a5bd0", "a27ae0", "e6a6d8"],
    "buttercups": ["f4cf1c", "f9e36a", "ffffff"],
    "daisies": ["ffffff", "f4f2e0", "f0c0d8"],
}
"""Colors of the flowers that may stand in one meadow together."""


@dataclass(frozen=True, kw_only=True)
class Mood:
    """Colors (sRGB codes) of one kind of forest at one time of day."""

    haze: str
    sky: str
    glow: str
    bark: str
    bark_lit: str
    leaf: str
    leaf_lit: str
    litter: str
    litter_lit: str
    moss: str
    fern: str
    fern_lit: str
    path: str
    mist: float
    """0 clear air, 1 thick mist."""
    leaf_length: float = 0.026
    """Of the boughs in the upper corners, unit length; under 0.02 means needles."""
    birch: bool = False


MOODS = [
    Mood(  # beeches on a summer morning
        haze="a9c27a", sky="f2f7d0", glow="ffe9a0", bark="1d1a14", bark_lit="6d6552", leaf="1f3a10", leaf_lit="a6cf3c",
        litter="2b2412", litter_lit="8a7440", moss="4d7020", fern="1f3c12", fern_lit="86b53a", path="b59a6c", mist=0.5,
    ),
    Mood(  # beeches in autumn
        haze="e0b87c", sky="fff0cc", glow="ffd08a", bark="1a1512", bark_lit="6a5a4c", leaf="5a2408", leaf_lit="f5a11e",
        litter="4a2410", litter_lit="cf7a2a", moss="6b6a20", fern="4a3a12", fern_lit="c08a30", path="b08458", mist=0.5,
    ),
    Mood(  # conifers in blue mist
        haze="9db4bd", sky="e6f0f2", glow="fff3dc", bark="12110f", bark_lit="4f4740", leaf="0d1f16", leaf_lit="4c7350",
        litter="1d1c12", litter_lit="5c5a38", moss="46682a", fern="16301a", fern_lit="5f9448", path="7d7462", mist=0.95,
        leaf_length=0.018,
    ),
    Mood(  # mossy spruces with a low sun
        haze="8d9a62", sky="fff4c8", glow="ffdc8c", bark="16110c", bark_lit="6b5238", leaf="14240c", leaf_lit="7f9c34",
        litter="20200c", litter_lit="7b8a34", moss="5f8a22", fern="1c3610", fern_lit="8fbf3c", path="94805a", mist=0.35,
        leaf_length=0.018,
    ),
    Mood(  # birches in spring
        haze="b9cf9a", sky="eef6f4", glow="fff2c4", bark="2a2622", bark_lit="bdb6a8", leaf="335a18", leaf_lit="c6e254",
        litter="35401a", litter_lit="92a048", moss="6f9430", fern="2c5418", fern_lit="9fce48", path="b8a582", mist=0.45,
        birch=True, leaf_length=0.022,
    ),
]  # fmt: skip
