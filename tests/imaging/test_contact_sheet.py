"""Contact sheets."""

import cv2
import numpy as np
import pytest
from support.shard_samples import make_meta
from support.shard_samples import make_sample as made_up_sample

from bokehsynth.errors import UsageError
from bokehsynth.imaging.contact_sheet import BAR, CAPTION, COLUMNS, GAP, HEAD, contact_sheet, gallery, take_spread
from bokehsynth.schema import FIELDS, Sample, sample_key

SIDE = 128  # of the flat samples, and the smallest cell: pictures are shown pixel by pixel

# The ends of the two colour maps, as matplotlib (their author) has them; OpenCV's tables differ by a rounding.
VIRIDIS = {0: (68, 1, 84), 255: (253, 231, 37)}
INFERNO = {0: (0, 0, 4), 255: (252, 255, 164)}


def flat_sample(index=0, height=SIDE, width=SIDE, **values) -> Sample:
    """A sample whose fields are constant: colour fields a triple, maps a number."""
    given = {"aif": (10, 20, 30), "hq": (40, 50, 60), "lq": (70, 80, 90), "defocus": 0.0, "disparity": 0.0} | values
    arrays = {}
    for name, value in given.items():
        if value is not None:
            dtype = np.uint8 if FIELDS[name].kind == "color" else np.float32
            arrays[name] = np.broadcast_to(np.asarray(value, dtype), (height, width, *np.shape(value))).copy()
    return Sample(sample_key("train", index), make_meta("train", index, height, width), arrays)


def cell_of(sheet, row, name, height=SIDE, width=SIDE):
    top = HEAD + row * (height + CAPTION)
    left = GAP + COLUMNS.index(name) * (width + GAP)
    return sheet[top : top + height, left : left + width]


@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize(
    ("height", "width", "shown"), [(128, 128, (256, 256)), (300, 600, (128, 256)), (64, 48, (256, 192))]
)
def test_shape(rows, height, width, shown):
    sheet = contact_sheet([flat_sample(i, height, width) for i in range(rows)])
    expected = (HEAD + rows * (shown[0] + CAPTION), GAP + 5 * (shown[1] + GAP), 3)
    assert (sheet.shape, sheet.dtype) == (expected, np.uint8)


@pytest.mark.parametrize("cell", [1, 90, 127, 128, 129])
def test_cells_are_at_least_128_px(cell):
    side = max(cell, 128)
    sheet = contact_sheet([flat_sample()], cell=cell)
    assert sheet.shape == (HEAD + side + CAPTION, GAP + 5 * (side + GAP), 3)


@pytest.mark.parametrize(("height", "width"), [(512, 128), (128, 512), (400, 20)])
def test_narrow_pictures(height, width):
    sheet = contact_sheet([flat_sample(height=height, width=width)])
    assert sheet.shape[0] == HEAD + round(256 * height / max(height, width)) + CAPTION


def test_pictures_are_shown_as_they_are():
    sheet = contact_sheet([flat_sample()], cell=SIDE)
    for name, color in (("aif", (10, 20, 30)), ("hq", (40, 50, 60)), ("lq", (70, 80, 90))):
        assert (cell_of(sheet, 0, name) == color).all(), name


def test_rows_keep_their_order():
    samples = [flat_sample(i, hq=(50 * i, 0, 0)) for i in range(4)]
    sheet = contact_sheet(iter(samples), cell=SIDE)
    assert [cell_of(sheet, i, "hq")[50, 50, 0] for i in range(4)] == [0, 50, 100, 150]


@pytest.mark.parametrize(("value", "level"), [(0.0, 0), (1.0, 255)])
def test_disparity_colors(value, level):
    shown = cell_of(contact_sheet([flat_sample(disparity=value)], cell=SIDE), 0, "disparity")
    assert np.abs(shown.astype(int) - VIRIDIS[level]).max() <= 3


def test_defocus_colors_run_from_zero_to_the_largest_of_the_sheet():
    sheet = contact_sheet([flat_sample(0, defocus=0.0), flat_sample(1, defocus=8.0)], cell=SIDE)
    for row, level in ((0, 0), (1, 255)):
        shown = cell_of(sheet, row, "defocus")
        assert np.abs(shown.astype(int) - INFERNO[level]).max() <= 3
    middle = contact_sheet([flat_sample(0, defocus=4.0), flat_sample(1, defocus=8.0)], cell=SIDE)
    half = cv2.applyColorMap(np.full((1, 1), 128, np.uint8), cv2.COLORMAP_INFERNO)[0, 0, ::-1].astype(int)
    assert np.abs(cell_of(middle, 0, "defocus").astype(int) - half).max() <= 3


def test_defocus_of_zero_everywhere_is_the_lowest_color():
    shown = cell_of(contact_sheet([flat_sample()], cell=SIDE), 0, "defocus")
    assert np.abs(shown.astype(int) - INFERNO[0]).max() <= 3


def test_scale_is_shown():
    """A ramp in the header over each map, from its lowest to its highest colour, with the largest radius in figures."""
    sheet = contact_sheet([flat_sample(defocus=8.0)], cell=200)
    for name, colors in (("defocus", INFERNO), ("disparity", VIRIDIS)):
        left = GAP + COLUMNS.index(name) * (200 + GAP)
        bar = sheet[BAR + 10, left : left + 200].astype(int)
        places = [np.flatnonzero(np.abs(bar - color).max(axis=1) <= 3) for color in colors.values()]
        assert places[0].size, name
        assert places[1].size, name
        assert places[0][0] < places[1][-1], name
    other = contact_sheet([flat_sample(defocus=16.0)], cell=200)
    left = [GAP + COLUMNS.index(name) * (200 + GAP) for name in COLUMNS]
    assert (sheet[:HEAD, left[3] : left[4]] != other[:HEAD, left[3] : left[4]]).any()  # another figure
    assert (sheet[:HEAD, : left[3]] == other[:HEAD, : left[3]]).all()


def test_caption_tells_the_sample():
    sheets = [contact_sheet([flat_sample(index)], cell=200) for index in (0, 1)]
    captions = [sheet[HEAD + 200 :] for sheet in sheets]
    assert (captions[0] != captions[0][0, 0]).any()
    assert (captions[0] != captions[1]).any()


@pytest.mark.parametrize("missing", COLUMNS)
def test_missing_fields_have_an_empty_cell(missing):
    """Where another sample has the field; one that no sample has gets no column."""
    full = flat_sample(1, mask=1.0)
    sheet = contact_sheet([flat_sample(**{"mask": 0.0, missing: None}), full], cell=SIDE)
    shown = cell_of(sheet, 0, missing)
    assert (shown[0, 0] == 230).all()
    assert (shown != 230).any()  # it says so in words
    whole = contact_sheet([flat_sample(mask=0.0), full], cell=SIDE)
    for other in COLUMNS:
        if other != missing:
            assert np.array_equal(cell_of(sheet, 0, other), cell_of(whole, 0, other))


def test_fields_that_no_sample_has_get_no_column():
    sheet = contact_sheet([flat_sample(defocus=None, disparity=None)], cell=SIDE)
    assert sheet.shape[1] == GAP + 3 * (SIDE + GAP)
    assert contact_sheet([flat_sample(mask=1.0)], cell=SIDE).shape[1] == GAP + 6 * (SIDE + GAP)


def test_pictures_of_another_shape_keep_it():
    sheet = contact_sheet([flat_sample(0, 128, 128), flat_sample(1, 64, 128, aif=(200, 100, 0))], cell=SIDE)
    second = sheet[HEAD + SIDE + CAPTION :]
    assert (second[:64, GAP : GAP + SIDE] == (200, 100, 0)).all()
    assert sheet.shape[0] == HEAD + SIDE + 64 + 2 * CAPTION


def test_gallery_shows_one_field_of_each():
    colors = [(250, 0, 0), (0, 250, 0), (0, 0, 250), (9, 9, 9)]
    sheet = gallery([flat_sample(i, hq=color) for i, color in enumerate(colors)], cell=SIDE, columns=3)
    step = (SIDE + CAPTION - GAP, SIDE + GAP)
    for i, color in enumerate(colors):
        top, left = GAP + i // 3 * step[0], GAP + i % 3 * step[1]
        assert (sheet[top : top + SIDE, left : left + SIDE] == color).all()
    assert (sheet[GAP + SIDE : GAP + step[0], GAP : GAP + SIDE] != 250).any()  # a caption


def test_sample_with_one_field_only():
    assert contact_sheet([made_up_sample("train", 0, fields=("hq",))]).ndim == 3


def test_samples_of_different_sizes_share_the_first_ones_cell():
    sheet = contact_sheet([flat_sample(0), flat_sample(1, 300, 300), flat_sample(2, 20, 20)], cell=SIDE)
    assert sheet.shape[0] == HEAD + 3 * (SIDE + CAPTION)
    for row in range(3):
        assert (cell_of(sheet, row, "lq") == (70, 80, 90)).all()


def test_written_file_is_the_sheet(tmp_path):
    path = tmp_path / "sheet.png"
    sheet = contact_sheet([made_up_sample("val", i) for i in range(2)], path)
    data = path.read_bytes()
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    assert np.array_equal(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)[..., ::-1], sheet)


def test_same_samples_make_the_same_bytes(tmp_path):
    for name in ("a.png", "b.png"):
        contact_sheet([made_up_sample("val", 0)], tmp_path / name)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_inputs_are_not_changed():
    sample = made_up_sample("train", 0)
    before = {name: array.copy() for name, array in sample.arrays.items()}
    contact_sheet([sample])
    assert all(np.array_equal(before[name], sample.arrays[name]) for name in before)


def test_no_samples_is_a_usage_error(tmp_path):
    with pytest.raises(UsageError, match="at least one sample"):
        contact_sheet([], tmp_path / "sheet.png")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("count", "expected"), [(1, [0]), (2, [0, 9]), (4, [0, 3, 6, 9]), (10, list(range(10)))])
def test_take_spread(count, expected):
    assert take_spread(range(10), count) == expected
    assert take_spread(range(3), 5) == [0, 1, 2]
    assert all(len(set(take_spread(range(n), k))) == min(n, k) for n in range(1, 30) for k in range(1, 30))
