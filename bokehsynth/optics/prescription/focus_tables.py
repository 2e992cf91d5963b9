"""A prescription at any stop and focus, between tables that are traced at a few focus distances and cached.

For the many lenses of a data set. `Prescription.at` traces for about a second; here a lens is a weighted sum of
traced tables, and K, focus and pupil are exact all the same.
"""

import math
from dataclasses import replace
from functools import lru_cache

import numpy as np

from bokehsynth.errors import UsageError
from bokehsynth.optics.apertures import Float64Array
from bokehsynth.optics.prescription import table_cache
from bokehsynth.optics.prescription.aperture import PrescriptionAperture
from bokehsynth.optics.prescription.bake import LensTable, bake_tables, farthest
from bokehsynth.optics.prescription.bundles import Camera
from bokehsynth.optics.prescription.polynomials import degree_of, exponents
from bokehsynth.optics.prescription.prescription import LensState, Prescription
from bokehsynth.optics.prescription.table_cache import TableSet
from bokehsynth.optics.thin_lens import Lens

NODES = 3
"""Focus distances at which tables are traced."""

_GOOD = 2e-5
"""Root mean square of the tables' error, relative to the half-diagonal of the picture, that is good enough."""

_EMPTY = 1e4
"""Stands for infinity in bounds that are weighted."""

_BLUR_NODES = 9
"""Focus distances at which the largest K is looked for."""


class FocusTables:
    """A prescription's lenses for sensors up to a half-diagonal, focused no nearer than a distance."""

    def __init__(self, prescription: Prescription, half_diagonal_mm: float, nearest_focus_m: float) -> None:
        prescription.state(prescription.f_number, nearest_focus_m)  # refuses a focus that cannot be
        self.prescription = prescription
        self.half_diagonal_mm, self.nearest_focus_m = half_diagonal_mm, nearest_focus_m
        self._sets: dict[int, TableSet] = {}

    @property
    def nodes(self) -> Float64Array:
        """Reciprocal focus distances in 1/m at which tables are traced: Chebyshev's points, from infinity."""
        line = 0.5 - 0.5 * np.cos(np.linspace(0, math.pi, NODES))
        return np.asarray(line / self.nearest_focus_m, np.float64)

    def lens(
        self, *, f_number: float, focus_m: float, near_m: float, sensor_width_mm: float, size: tuple[int, int]
    ) -> Lens:
        """What `Prescription.at` gives for these arguments, its aberration and rims interpolated over focus."""
        state = self.prescription.state(f_number, focus_m)
        aperture = _aperture(self, float(f_number), float(focus_m), float(sensor_width_mm), (size[0], size[1]))
        return Lens(state.blur(size[1] / sensor_width_mm, near_m), near_m / focus_m, aperture)

    def aperture(
        self, f_number: float, focus_m: float, sensor_width_mm: float, size: tuple[int, int]
    ) -> PrescriptionAperture:
        """Make the opening of `lens`, which does not depend on near_m: K and d_f scale alike."""
        state = self.prescription.state(f_number, focus_m)
        f_px = state.mm_per_tangent * size[1] / sensor_width_mm
        traced = self._set(self._rung(f_number))
        half = math.hypot(*size) / 2
        if traced.tangent * f_px / half < 1 - 1e-9:
            raise UsageError(
                f"{self.prescription.name}: a sensor {sensor_width_mm:g} mm wide and pictures of {size[1]} x {size[0]} "
                f"reach beyond the {self.half_diagonal_mm:g} mm from the axis for which tables were asked"
            )
        between = self._between(traced, state, focus_m)
        table = replace(
            between,
            fields=between.fields * (f_px / half),
            aberration=between.aberration * f_px,
            residual_rms=between.residual_rms * f_px,
            residual_max=between.residual_max * f_px,
        )
        return PrescriptionAperture(table, f"{self.prescription.name} f/{f_number:g}")

    def blur_bound(self, f_number: float, near_m: float, pixels_per_mm: float) -> float:
        """Largest K of lenses of at least this f-number, near_m and pitch; from K at some focus distances, and 2 %."""
        states = [
            self.prescription.state(f_number, 1 / v if v else math.inf)
            for v in np.linspace(0, 1 / self.nearest_focus_m, _BLUR_NODES)
        ]
        return 1.02 * max(state.blur(pixels_per_mm, near_m) for state in states)

    def prepare(self, f_numbers: tuple[float, float]) -> None:
        """Trace all tables, or read them from the cache, that f-numbers of this range need."""
        for rung in range(self._rung(f_numbers[0]), self._rung(f_numbers[1]) + 1):
            self._set(rung)

    def _rung(self, f_number: float) -> int:
        """Full stops, halved, from the file's f-number: one set of tables serves the f-numbers of one rung."""
        return max(0, math.floor(2 * math.log2(f_number / self.prescription.f_number) + 1e-9))

    def _set(self, rung: int) -> TableSet:
        if rung not in self._sets:
            key = {
                "prescription": self.prescription.record, "rung": rung, "half_diagonal_mm": self.half_diagonal_mm,
                "nearest_focus_m": self.nearest_focus_m, "nodes": NODES,
            }  # fmt: skip
            found = table_cache.load(key)
            if found is None:
                found = self._trace(rung)
                table_cache.save(key, found)
            self._sets[rung] = found
        return self._sets[rung]

    def _trace(self, rung: int) -> TableSet:
        number = self.prescription.f_number * 2 ** (rung / 2)
        focuses = [1 / v if v else math.inf for v in self.nodes]
        states = [self.prescription.state(number, focus) for focus in focuses]
        radius = states[0].radius
        tangent = self.half_diagonal_mm / min(state.mm_per_tangent for state in states)
        cameras = [
            Camera(
                state.stack, state.properties, self.prescription.wavelengths_nm, 1.0, radius,
                radius / 1000 / focus, tangent,
            )
            for state, focus in zip(states, focuses, strict=True)
        ]  # fmt: skip
        stop = states[0].stack.surfaces[states[0].stack.stop].semi_diameter or 0.0
        return TableSet(tuple(bake_tables(cameras, _GOOD * tangent)), radius, stop, tangent)

    def _between(self, traced: TableSet, state: LensState, focus_m: float) -> LensTable:
        """The table at a focus and stop, its fields as tangents, s in units of the state's radius."""
        shares = lagrange(self.nodes, 1 / focus_m)
        first, lit = traced.tables[0], np.array([_lit(table) for table in traced.tables])
        nearest = int(np.argmin(np.abs(self.nodes - 1 / focus_m)))
        weights = np.where(lit.all(axis=0), shares[:, None, None], 0.0)
        weights[nearest] = np.where(lit.all(axis=0), weights[nearest], 1.0)  # beside the dark nothing is smooth

        def mixed(name: str) -> Float64Array:
            values = np.array([getattr(table, name) for table in traced.tables])
            if name == "bounds":
                values = np.where(np.isfinite(values), values, np.sign(values) * _EMPTY)
            return np.asarray(np.einsum("nfc,nfc...->fc...", weights, values), np.float64)

        scale = state.radius / traced.radius
        powers = np.array([scale ** (i + j) for i, j in exponents(degree_of(first.aberration.shape[2]))])
        rims = mixed("rims") * powers[:, None, None]
        stop = state.stack.surfaces[state.stack.stop].semi_diameter or 0.0
        rims[..., first.surfaces.index(state.stack.stop), :] *= traced.stop / stop
        weight = mixed("weight") * powers
        bounds = mixed("bounds") / scale
        bounds = np.where(np.abs(bounds) > _EMPTY / 10, np.sign(bounds) * np.inf, bounds)
        extent = max(
            farthest(rims[f, c], bounds[f, c], 36, 100) for f in range(len(rims)) for c in range(rims.shape[1])
        )
        return replace(
            first,
            fields=first.fields * traced.tangent,
            aberration=mixed("aberration") * powers[:, None],
            weight=weight / weight[0, 1, 0],
            rims=rims,
            bounds=bounds,
            extent=extent,
            inner=np.array(state.stack.inner_shares(first.surfaces)),
            residual_rms=max(table.residual_rms for table in traced.tables),
            residual_max=max(table.residual_max for table in traced.tables),
        )


def lagrange(nodes: Float64Array, at: float) -> Float64Array:
    """Weights of values at the nodes whose sum is the polynomial through them, at a place."""
    others = [np.delete(nodes, i) for i in range(len(nodes))]
    return np.array([np.prod((at - rest) / (node - rest)) for node, rest in zip(nodes, others, strict=True)])


def _lit(table: LensTable) -> Float64Array:
    """Where anything passes, bool [fields, colours]."""
    return np.asarray(table.bounds[..., 1] > table.bounds[..., 0], np.bool_)


@lru_cache(maxsize=16)
def focus_tables(prescription: Prescription, half_diagonal_mm: float, nearest_focus_m: float) -> FocusTables:
    """The tables of these arguments, kept for the process."""
    return FocusTables(prescription, half_diagonal_mm, nearest_focus_m)


@lru_cache(maxsize=8)
def _aperture(
    tables: FocusTables, f_number: float, focus_m: float, sensor_width_mm: float, size: tuple[int, int]
) -> PrescriptionAperture:
    """The same object for the same arguments: what renderers bake from it is kept with it."""
    return tables.aperture(f_number, focus_m, sensor_width_mm, size)
