"""Tables of a lens over focus: how far they are from tracing it, and their cache."""

import pickle

import numpy as np
import pytest

import bokehsynth as bs
from bokehsynth.errors import UsageError
from bokehsynth.optics.prescription import focus_tables, table_cache
from bokehsynth.optics.prescription.focus_tables import FocusTables, lagrange

SIZE, HALF = (342, 512), 18 * np.hypot(1, 342 / 512)
RNG = np.random.default_rng(5)
S, H = RNG.uniform(-1, 1, (3000, 2)), RNG.uniform(-1, 1, (3000, 2)) * [0.83, 0.55]


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch):
    """One cache for the tests of real lenses, away from the user's."""
    folder = tmp_path_factory.getbasetemp() / "lens-cache"
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
    return folder / "bokehsynth" / "lenses"


def far(lens, other):
    """Largest and rms difference of aberrations in px, share of rays that pass one of them alone."""
    passes = [each.aperture.weight(S, H) > 0 for each in (lens, other)]
    both = passes[0] & passes[1]
    off = np.hypot(*np.moveaxis(lens.aperture.aberration(S, H) - other.aperture.aberration(S, H), -1, 0))[both]
    return off.max(), np.sqrt(np.square(off).mean()), (passes[0] != passes[1]).mean()


@pytest.mark.long
def test_a_lens_between_tables_is_the_traced_one():
    """Tessar at 512 px, focus from 1 m: worst 0.014 px, 0.0074 px rms (of the fit); K and focus are exact."""
    tessar = bs.load_prescription("tessar-1903-f5.5")
    tables = FocusTables(tessar, HALF, 1.0)
    for f_number, focus in ((5.5, 1.15), (7.0, 2.5)):
        traced = tessar.at(f_number=f_number, focus_m=focus, near_m=0.8, size=SIZE)
        between = tables.lens(f_number=f_number, focus_m=focus, near_m=0.8, sensor_width_mm=36, size=SIZE)
        assert (between.blur, between.focus) == (traced.blur, traced.focus)
        most, rms, alone = far(between, traced)
        assert most < 0.02
        assert rms < 0.009
        assert alone < 1e-3
        light = [each.aperture.weight(S, H) for each in (between, traced)]
        both = (light[0] > 0) & (light[1] > 0)
        np.testing.assert_allclose(light[0][both], light[1][both], atol=2e-3)
        assert abs(between.aperture.extent - traced.aperture.extent) < 0.05


@pytest.mark.long
@pytest.mark.parametrize("name", ["double-gauss-1950-f2", "petzval-f1.4", "retrofocus-24-f2.8", "biotar-1927-f1.4"])
def test_other_lenses_between_tables(name):
    """Worst rms: 0.009 px (double Gauss), 0.086 (Petzval type), 0.009, 0.010."""
    lens = bs.load_prescription(name)
    tables = FocusTables(lens, HALF, 1.0)
    for stops, focus in ((1.0, 1.11), (1.3, 1.3), (1.41, 20.0)):
        number = lens.f_number * stops
        traced = lens.at(f_number=number, focus_m=focus, size=SIZE)
        between = tables.lens(f_number=number, focus_m=focus, near_m=1.0, sensor_width_mm=36, size=SIZE)
        _, rms, alone = far(between, traced)
        assert rms < (0.1 if name.startswith("petzval") else 0.012)
        assert alone < 1e-3


def test_the_bound_of_k_holds_at_every_focus():
    lens = bs.load_prescription("double-gauss-1950-f2")
    bound = FocusTables(lens, HALF, 0.7).blur_bound(2.0, 0.7, 512 / 36)
    found = [lens.state(2.0, focus).blur(512 / 36, 0.7) for focus in np.geomspace(0.7, 50, 30)]
    assert max(found) <= bound <= 1.05 * max(found)


def test_a_wider_sensor_than_asked_for_is_refused():
    tables = FocusTables(bs.load_prescription("tessar-1903-f5.5"), HALF, 1.0)
    with pytest.raises(UsageError, match=r"a sensor 60 mm wide .* reach beyond the 21\.6"):
        tables.lens(f_number=5.5, focus_m=2, near_m=1, sensor_width_mm=60, size=SIZE)
    with pytest.raises(UsageError, match="focus_m must be beyond"):
        FocusTables(bs.load_prescription("tessar-1903-f5.5"), HALF, 0.05)


def test_lagrange_goes_through_polynomials():
    nodes = np.array([0.0, 0.4, 1.0])
    assert lagrange(nodes, 0.7) @ (3 * nodes**2 - nodes + 2) == pytest.approx(3 * 0.49 - 0.7 + 2)
    np.testing.assert_allclose(lagrange(nodes, 0.4), [0, 1, 0], atol=1e-15)


def traced_set():
    tables = FocusTables(bs.load_prescription("tessar-1903-f5.5"), HALF, 1.0)
    return tables._set(0)


def same(a, b):
    return (
        a is not None
        and a[1:] == b[1:]
        and all(np.array_equal(x.aberration, y.aberration) for x, y in zip(a.tables, b.tables, strict=True))
        and all(x.surfaces == y.surfaces for x, y in zip(a.tables, b.tables, strict=True))
    )


def test_the_cache_gives_back_what_it_was_given_and_never_more(cache, tmp_path, monkeypatch):
    found = traced_set()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    key = {"prescription": "x", "rung": 0}
    assert table_cache.load(key) is None
    table_cache.save(key, found)
    (path,) = (tmp_path / "bokehsynth" / "lenses").iterdir()
    assert path.stat().st_size < 400_000
    assert same(table_cache.load(key), found)
    assert table_cache.load(key | {"rung": 1}) is None
    whole = path.read_bytes()
    for damaged in (b"", whole[:1000], whole[:-100], pickle.dumps({"count": 1}), b"PK\x03\x04" + whole[4:200]):
        path.write_bytes(damaged)
        assert table_cache.load(key) is None
    for place in range(40, len(whole), 4096):  # streams of the archive, too
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x55]) + whole[place + 1 :])
        table_cache.load(key)
    hollow = {f"0/{name}": np.zeros(3) for name in ("fields", "aberration")}
    np.savez(path, count=np.array(1), lengths=np.zeros(3), **hollow)
    assert table_cache.load(key) is None
    np.savez(path, count=np.array([{"a": 1}], dtype=object), lengths=np.zeros(3))
    assert table_cache.load(key) is None


def test_without_a_place_for_the_cache_lenses_are_traced(tmp_path, monkeypatch):
    found = traced_set()
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    table_cache.save({"k": 1}, found)
    assert table_cache.load({"k": 1}) is None


def test_tables_are_shared_in_a_process():
    lens = bs.load_prescription("tessar-1903-f5.5")
    assert focus_tables(lens, HALF, 1.0) is focus_tables(bs.load_prescription("tessar-1903-f5.5"), HALF, 1.0)


def test_another_near_m_is_the_same_opening():
    """What renderers bake from it is made once for a stop and a focus; K and d_f follow near_m."""
    tables = FocusTables(bs.load_prescription("tessar-1903-f5.5"), HALF, 1.0)
    one, two, other = (
        tables.lens(f_number=5.5, focus_m=focus, near_m=near, sensor_width_mm=36, size=SIZE)
        for focus, near in ((2.0, 1.0), (2.0, 0.5), (3.0, 1.0))
    )
    assert one.aperture is two.aperture
    assert one.aperture is not other.aperture
    assert (two.blur / one.blur, two.focus / one.focus) == (2.0, 0.5)
