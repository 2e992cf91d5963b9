"""Lens files of strangers: whatever they hold, they are read within bounds or refused in one line."""

import json
import os
import warnings
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.lens_files import DOUBLET as GOOD

import bokehsynth as bs
from bokehsynth.errors import UsageError
from bokehsynth.optics.prescription import read_prescription

KEYS = ["radius", "thickness", "index", "abbe", "semi_diameter", "conic", "asphere", "stop", "sellmeier", "mirror"]
NUMBERS = st.one_of(
    st.floats(width=64, allow_nan=True, allow_infinity=True),
    st.sampled_from([0, -0.0, 1e-320, 1e300, -1e15, 10**400, 1, -1, 0.5, 2, True]),
)
VALUES = st.one_of(
    NUMBERS, st.none(), st.text(max_size=3), st.lists(NUMBERS, max_size=7), st.dictionaries(st.text(), NUMBERS)
)


def read_or_refused(data):
    """The lens, or the words of the error."""
    try:
        return read_prescription(data, "file.json")
    except UsageError as error:
        return str(error)


def load(tmp_path, data: "str | bytes"):
    path = tmp_path / "lens.json"
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return bs.load_prescription(path)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(0, 3), st.dictionaries(st.sampled_from([*KEYS, "glass", "inner_semi_diameter"]), VALUES, max_size=3))
def test_any_change_of_a_surface_is_a_lens_or_a_usage_error(place, changes):
    data = json.loads(json.dumps(GOOD))
    data["surfaces"][place] |= changes
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = read_or_refused(data)
    if isinstance(found, str):
        assert "file.json" in found
        assert "\n" not in found
        assert len(found) < 600
    else:
        assert read_prescription(found.record, "record") == found


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(st.sampled_from([*GOOD, "source", "wavelengths_nm", "x"]), VALUES, max_size=4))
def test_any_change_of_the_head_is_a_lens_or_a_usage_error(changes):
    found = read_or_refused(GOOD | changes)
    assert not isinstance(found, str) or len(found) < 600


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ("[" * 200_000, "nested too deeply"),
        ('{"name": ' * 50_000, "nested too deeply"),
        (json.dumps(GOOD).replace("60,", "NaN,", 1), r"surface 1: radius must be a finite number, got nan"),
        (json.dumps(GOOD).replace("60,", "-Infinity,", 1), "finite number, got -inf"),
        (json.dumps(GOOD).replace("60,", "1e999,", 1), "finite number, got inf"),
        (json.dumps(GOOD).replace("60,", "9" * 5000 + ",", 1), "is no JSON"),
        (json.dumps(GOOD).replace('"radius": 60,', '"radius": 60, "radius": 61,', 1), "'radius' stands twice"),
        (json.dumps(GOOD | {"surfaces": [GOOD["surfaces"][0]] * 201}), "201 surfaces; at most 200"),
        (
            json.dumps(GOOD).replace('"conic"', '"x"').replace('"abbe": 64.2', '"asphere": ' + str([0] * 21), 1),
            "21 coeff",
        ),
        (json.dumps(GOOD | {"name": "a\u001b[2J"}), "name must be a printable text"),
        (json.dumps(GOOD | {"name": "x" * 101}), "at most 100 characters"),
        (json.dumps(GOOD | {"name": 7}), "printable text of at most 100 characters, got 7"),
        (b"\xff\xfe{}", "is no JSON"),
        (b" " * 1_000_001, "more than 1,000,000 bytes"),
    ],
    ids=range(14),
)
def test_hostile_files(tmp_path, data, words):
    with pytest.raises(UsageError, match=words):
        load(tmp_path, data)


def test_no_file_blocks(tmp_path):
    os.mkfifo(tmp_path / "pipe.json")
    with pytest.raises(UsageError, match="is not a regular file"):
        bs.load_prescription(tmp_path / "pipe.json")
    (tmp_path / "folder.json").mkdir()
    with pytest.raises(UsageError, match=r"folder\.json"):
        bs.load_prescription(tmp_path / "folder.json")


def test_a_lens_that_forms_no_image_is_refused(tmp_path):
    flat = json.loads(json.dumps(GOOD))
    for surface in flat["surfaces"]:
        surface["radius"] = 0
    with pytest.raises(UsageError, match="form no image"):
        load(tmp_path, json.dumps(flat))


@pytest.mark.parametrize(("ending", "line"), [(".zmx", "SURF {}\n  CURV 0.0\n"), (".seq", "S {} 1.0\n")])
@pytest.mark.parametrize("encoding", ["ascii", "utf-16"])
def test_surfaces_are_counted_before_another_program_reads_them(
    ending: str, line: str, encoding: str, tmp_path: Path
) -> None:
    """optiland takes the square of their number: 20,000 would keep it busy for minutes."""
    path = tmp_path / f"many{ending}"
    path.write_text("".join(line.format(i) for i in range(20_000)), encoding=encoding)
    with pytest.raises(UsageError, match=r"(20,000|19,999) surfaces; at most 200 are traced"):
        bs.load_prescription(path)
