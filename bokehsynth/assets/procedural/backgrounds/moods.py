"""Colors of five kinds of forest."""

from dataclasses import dataclass


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
