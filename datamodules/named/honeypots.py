"""Two-dimensional tables of ALRM, some with honeypots: points whose labels are mere noise.

The labels of honeypots go 0, 1, 0, 1 and so on, wherever the points lie, so that there is nothing
to learn there and much to be uncertain of. Each function takes a variant, both of which are the
same, and returns float64 [size, 4] with the columns x0, x1, honeypot (0 or 1) and the label. Rows
are in the order of one permutation of NumPy's ``RandomState(seed)``: the first four fifths are the
training part. What is Gaussian comes of a ``RandomState`` of the same seed.

Source: Koloiarov, Active Learning via Reconstruction Models, repository ALRM (2023).
"""

from __future__ import annotations

import numpy as np

from ..readers.table_files import Array
from .drawings import DRAWINGS
from .table_spec import Variant

__all__ = ["adversarial_moons", "blobs", "diverging_sine", "moons"]

CENTRE, RADIUS, RING_NOISE = (0.5, 0.25), 2.5, 0.1


@DRAWINGS.register("moons")
def moons(
    variant: Variant = "corrected", size: int = 600, noise: float = 0.25, seed: int = 42
) -> Array:
    """Two half moons, by scikit-learn's ``make_moons``; no honeypots.

    Args:
        variant: both are the same.
        size: rows.
        noise: deviation of the Gaussian noise on both coordinates.
        seed: of the draw and of the order.
    """
    return _shuffled([_moons(size, noise, seed)], seed)


@DRAWINGS.register("adversarial-moons")
def adversarial_moons(
    variant: Variant = "corrected",
    size: int = 500,
    ring: int = 100,
    noise: float = 0.25,
    seed: int = 42,
) -> Array:
    """Two half moons in a ring of honeypots at equal angles.

    Args:
        variant: both are the same.
        size: rows of the moons.
        ring: honeypots, at distance 2.5 from (0.5, 0.25), with Gaussian noise of 0.1.
        noise: of the moons.
        seed: of the draws and of the order.
    """
    angle = 2 * np.pi * np.arange(ring) / ring
    circle = np.array(CENTRE) + RADIUS * np.column_stack([np.cos(angle), np.sin(angle)])
    points = circle + np.random.RandomState(seed).normal(0, RING_NOISE, circle.shape)
    return _shuffled([_moons(size, noise, seed), _pots(points)], seed)


@DRAWINGS.register("blobs")
def blobs(
    variant: Variant = "corrected", size: int = 200, pots: int = 200, seed: int = 42
) -> Array:
    """A Gaussian a class at (0, 0) and (0, 2), deviation 0.25, and honeypots around (1, 1), 0.375.

    Both by scikit-learn's ``make_blobs``.

    Args:
        variant: both are the same.
        size: rows of the two classes together.
        pots: honeypots.
        seed: of the draws and of the order.
    """
    from sklearn.datasets import make_blobs

    x, y = make_blobs(size, centers=[(0, 0), (0, 2)], cluster_std=0.25, random_state=seed)
    points, _ = make_blobs(pots, centers=[(1, 1)], cluster_std=0.375, random_state=seed)
    return _shuffled([np.column_stack([x, np.zeros(size), y]), _pots(points)], seed)


@DRAWINGS.register("diverging-sine")
def diverging_sine(variant: Variant = "corrected", each: int = 250, seed: int = 42) -> Array:
    """Two sines that part from left to right: sin 2x + 0.15 x and sin 2x - 0.15 x, noise 0.2.

    x is evenly spaced in [0, 6]. Hard on the left, easy on the right; no honeypots.

    Args:
        variant: both are the same.
        each: rows a class.
        seed: of the noise, class 0 first, and of the order.
    """
    drawn = np.random.RandomState(seed)
    x = np.linspace(0, 6, each)
    rows = []
    for label, slope in enumerate((0.15, -0.15)):
        y = np.sin(2 * x) + slope * x + drawn.normal(0, 0.2, each)
        rows.append(np.column_stack([x, y, np.zeros(each), np.full(each, float(label))]))
    return _shuffled(rows, seed)


def _moons(size: int, noise: float, seed: int) -> Array:
    from sklearn.datasets import make_moons

    x, y = make_moons(size, noise=noise, random_state=seed)
    return np.column_stack([x, np.zeros(size), y])


def _pots(points: Array) -> Array:
    """Points [n, 2] as honeypots [n, 4]."""
    return np.column_stack([points, np.ones(len(points)), np.arange(len(points)) % 2])


def _shuffled(blocks: list[Array], seed: int) -> Array:
    rows = np.concatenate(blocks)
    return rows[np.random.RandomState(seed).permutation(len(rows))]
