"""A lens file that is right, to be spoiled."""

DOUBLET = {
    "name": "doublet",
    "source": "made up",
    "focal_length_mm": 100,
    "f_number": 4,
    "surfaces": [
        {"radius": 60, "thickness": 5, "index": 1.5168, "abbe": 64.2, "semi_diameter": 14},
        {"radius": -50, "thickness": 2, "index": 1.62, "abbe": 36.4, "semi_diameter": 14},
        {"radius": -180, "thickness": 3, "semi_diameter": 14},
        {"radius": None, "thickness": 90, "semi_diameter": 12, "stop": True},
    ],
}
