"""The contract for apertures: what it reports of good ones, and what it says of each way to break it."""

import dataclasses
import sys

import numpy as np
import pytest

import bokehsynth as bs
from bokehsynth import aperture_check
from bokehsynth.aperture_check import check_aperture
from bokehsynth.errors import UsageError


class Heart(bs.Aperture):
    """Upright: the tip points down, +y."""

    def inside(self, s):
        x, y = 1.25 * s[:, 0], 0.15 - 1.25 * s[:, 1]
        return (x * x + y * y - 1) ** 3 <= x * x * y**3


class Warm(bs.Disc):
    """Redder on the right."""

    def weight(self, s):
        return np.stack([1 + 0.5 * s[:, 0], np.ones(len(s)), 1 - 0.5 * s[:, 0]], axis=1)


def broken(base=bs.Disc, **methods):
    return type("Broken", (base,), methods)()


# ------------------------------------------------------------------------------------------------------------- keepers


def test_the_report_of_a_heart():
    report = check_aperture(Heart())
    assert report.area == pytest.approx(0.7330, abs=1e-4)
    assert report.centroid == pytest.approx((0, -0.105), abs=2e-3)
    assert report.transmission == (1, 1, 1)
    assert [report.depends_on_field, report.weighted, report.tinted, report.fine_detail] == [False] * 4
    assert report.cpu.startswith("as the reference: rms 0.00")
    lines = str(report).splitlines()
    assert lines[:2] == ["Heart: keeps the contract", "  opening  73.3% of the disc"]
    assert lines[3:5] == [
        "  field    the same all over the picture",
        "  passes   100% at the centre, 100% at the edge, 100% in the corner",
    ]


def test_weights_and_tints_are_told_apart():
    tinted = check_aperture(Warm())
    assert tinted.tinted
    assert "tinted" in str(tinted)
    grey = check_aperture(broken(weight=lambda self, s: 1.5 - np.hypot(*s.T)))
    assert (grey.weighted, grey.tinted) == (True, False)
    same = check_aperture(broken(weight=lambda self, s: np.full((len(s), 3), 0.4)))
    assert (same.weighted, same.tinted) == (False, False)


def test_the_light_of_a_cats_eye_at_three_places():
    """Common area of two unit discs at t = 0.9 |h|: (2 acos(t/2) - t/2 sqrt(4 - t^2)) / pi."""
    report = check_aperture(bs.CatEye(0.9))
    t = 0.9 * np.array([0, 3 / np.hypot(3, 2), 1])
    expected = (2 * np.arccos(t / 2) - t / 2 * np.sqrt(4 - t * t)) / np.pi
    assert report.transmission == pytest.approx(expected, abs=1e-3)  # 16,384 lens points: worst 5e-4
    assert report.depends_on_field
    assert "changes over the picture" in str(report)


def test_a_lens_that_the_cpu_does_not_render_is_reported_not_refused():
    class Unrenderable(bs.Disc):
        def aberration(self, s, h):
            return 2.0 * s + h

    report = check_aperture(Unrenderable())
    assert report.depends_on_field
    assert report.cpu.startswith(("not rendered: ", "as the reference: "))


def test_detail_finer_than_the_outlines_grid_is_mentioned(monkeypatch):
    """A grating of 200 lines per radius: the grid beats with it. The backends may well disagree about it, too."""
    monkeypatch.setattr(aperture_check, "_compare_backends", lambda aperture: "not compared")
    grating = broken(inside=lambda self, s: (np.hypot(*s.T) <= 1) & (np.sin(1256 * s[:, 0]) > 0.6))
    report = check_aperture(grating)
    assert report.fine_detail
    assert "% of the disc, finer in parts than tables can hold\n" in str(report)


# -------------------------------------------------------------------------------------------------------------- breaks


class Counting(bs.Disc):
    """Opens less each time it is asked."""

    asked = 0

    def weight(self, s):
        self.asked += 1
        return np.full(len(s), 1 / self.asked)


def minus_equals(self, s):
    s -= 0.1
    return np.hypot(*s.T) <= 0.5


@pytest.mark.parametrize(
    ("aperture", "message"),
    [
        (bs.Disc, r"needs an Aperture, got <class .*pass an object: Disc\(\.\.\.\)"),
        ("disc", r"needs an Aperture, got 'disc'; derive it from bokehsynth\.Aperture"),
        (broken(inside=lambda self, s: np.ones(len(s))), r"Broken\.inside must return bool \[N\], got float64"),
        (broken(inside=lambda self, s: True), r"Broken\.inside must return \[N\], got shape \(\) for N = 16385"),
        (broken(inside=lambda self, s: np.zeros(len(s), bool)), "Broken lets no light through"),
        (
            broken(inside=lambda self, s: s[:, 0] <= s[:, 0].max(initial=0) / 2),
            "inside must not depend on which points",
        ),
        (broken(inside=lambda self, s: s[:, 0] <= s[0, 0]), r"raised IndexError for shape \(0, 2\)"),
        (broken(inside=lambda self, s: s[0] > 0 and True), "raised ValueError for shape"),
        (broken(inside=minus_equals), r"inside must not change its input; work on a copy"),
        (Counting(), r"Counting\.weight must answer the same when asked again"),
        (broken(weight=lambda self, s: np.ones((len(s), 2))), r"weight must return \[N\] or \[N, 3\], got shape"),
        (broken(weight=lambda self, s: s[:, 0]), "weight must return finite numbers >= 0"),
        (broken(weight=lambda self, s: 1 / s[:, 0] - 1 / s[:, 0]), "weight must return finite numbers >= 0"),
        (broken(inside=lambda self, s: [[1], [1, 2]]), "raised ValueError for shape"),
        (broken(weight=lambda self, s: np.zeros(len(s))), r"weight is 0 at all \d+ open lens points"),
        (
            broken(weight=lambda self, s: np.arange(len(s)) / max(1, len(s))),
            r"weight must not depend on which points are asked together: at .* it is .* among \d+ points and .* alone",
        ),
        (broken(pupil=lambda self, h: 0.5 * h), r"pupil must return \(centre, radius\), got ndarray"),
        (
            broken(pupil=lambda self, h: (h[..., 0], 1.0)),
            r"a finite centre of h's shape \(5, 7, 2\), got shape \(5, 7\)",
        ),
        (broken(pupil=lambda self, h: (h * np.nan, 1.0)), "a finite centre of h's shape .* got NaN"),
        (broken(pupil=lambda self, h: (h, 0.0)), r"pupil must return one radius > 0, got 0\.0"),
        (broken(pupil=lambda self, h: (h, h[..., 0])), "pupil must return one radius > 0, got array"),
        (broken(pupil=lambda self, h: (h + 3, 1.0)), r"blocks every lens point at the picture's centre"),
        (broken(aberration=lambda self, s, h: s[:, 0]), r"aberration must return \[N, 2\]"),
        (broken(aberration=lambda self, s, h: s / 0.0), "aberration must return finite pixels"),
        (broken(aberration=lambda self, s, h: s - s[-1:].sum(axis=0)), "aberration must not depend on"),
    ],
)
@pytest.mark.filterwarnings("ignore:divide by zero", "ignore:invalid value")
def test_a_broken_rule_is_named(aperture, message):
    with pytest.raises(UsageError, match=message):
        check_aperture(aperture)


class Variant(bs.Aperture):
    """Another aperture, its lens points multiplied and its channels in another order."""

    def __init__(self, aperture, turn, channels):
        self.aperture, self.turn, self.channels = aperture, turn, channels

    def inside(self, s):
        return self.aperture.inside(s * self.turn)

    def weight(self, s):
        weights = self.aperture.weight(s * self.turn)
        return weights[:, self.channels] if weights.ndim == 2 else weights


@pytest.mark.parametrize(
    ("aperture", "turn", "channels"),
    [(Heart(), [1, -1], [0, 1, 2]), (bs.Polygon(3), [-1, 1], [0, 1, 2]), (Warm(), [1, 1], [2, 1, 0])],
    ids=["upside down", "left and right", "red and blue"],
)
def test_a_backend_with_a_wrong_table_is_seen(monkeypatch, aperture, turn, channels):
    """As if the cpu's tables were mirrored or had swapped channels."""
    from bokehsynth.rendering.cpu import renderer as cpu

    right = cpu.render_scene

    def wrong(scene, samples):
        lens = dataclasses.replace(scene.lens, aperture=Variant(scene.lens.aperture, np.array(turn), channels))
        return right(dataclasses.replace(scene, lens=lens), samples)

    monkeypatch.setattr(cpu, "render_scene", wrong)
    with pytest.raises(UsageError, match=r"is not the same lens on cpu and reference: rms .* of white"):
        check_aperture(aperture)


# ----------------------------------------------------------------------------------------------------- from the shell


def test_the_command_checks_a_class_by_name(monkeypatch, capsys, tmp_path):
    (tmp_path / "half_lens.py").write_text(
        "import bokehsynth as bs\nclass Half(bs.Aperture):\n    def inside(self, s):\n        return s[:, 0] > 0\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "argv", ["aperture_check", "half_lens:Half"])
    aperture_check.main()
    assert "opening  50.0% of the disc" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "package.module:Class"),
        (["nowhere:Nothing"], "error: aperture 'nowhere:Nothing' cannot be loaded"),
        (["collections:OrderedDict"], "is a OrderedDict, not a subclass"),
    ],
)
def test_the_command_fails_with_2(monkeypatch, capsys, arguments, message):
    monkeypatch.setattr(sys, "argv", ["aperture_check", *arguments])
    with pytest.raises(SystemExit) as stop:
        aperture_check.main()
    assert stop.value.code == 2
    assert message in capsys.readouterr().err
