"""Polynomials in lens points: evaluated, differentiated, fitted."""

import numpy as np

from bokehsynth.optics.apertures import Float64Array

DEGREES = (5, 7, 9)
"""That tables may have."""


def monomials(s: Float64Array, degree: int) -> Float64Array:
    """x^i y^j of points [N, 2] for all i + j <= degree, [N, P]."""
    x, y = (_powers(s[:, axis], degree) for axis in (0, 1))
    return np.stack([x[i] * y[j] for i, j in exponents(degree)], axis=1)


def derivatives(s: Float64Array, degree: int) -> tuple[Float64Array, Float64Array]:
    """Derivatives of the monomials by x and by y."""
    x, y = (_powers(s[:, axis], degree) for axis in (0, 1))
    powers = exponents(degree)
    by_x = np.stack([i * x[max(i - 1, 0)] * y[j] for i, j in powers], axis=1)
    by_y = np.stack([x[i] * j * y[max(j - 1, 0)] for i, j in powers], axis=1)
    return by_x, by_y


def degree_of(count: int) -> int:
    """Degree of polynomials with so many monomials."""
    return next(degree for degree in DEGREES if len(exponents(degree)) == count)


def exponents(degree: int) -> list[tuple[int, int]]:
    """Powers of x and y of the monomials, in order."""
    return [(i, j) for i in range(degree + 1) for j in range(degree + 1 - i)]


def _powers(x: Float64Array, degree: int) -> list[Float64Array]:
    powers = [np.ones_like(x)]
    for _ in range(degree):
        powers.append(powers[-1] * x)
    return powers


def fit(s: Float64Array, values: Float64Array, degree: int) -> Float64Array:
    """Coefficients [P, ...] of the polynomial that fits values [N, ...] best."""
    matrix = monomials(s, degree)
    square = matrix.T @ matrix + 1e-12 * len(s) * np.eye(matrix.shape[1])
    result: Float64Array = np.asarray(np.linalg.solve(square, matrix.T @ values), np.float64)
    return result
