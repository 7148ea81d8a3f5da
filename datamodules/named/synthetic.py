"""Tables that are no files: clouds, checkerboards, two regressions, and those of scikit-learn.

Each takes a variant and returns float64 [size, features + 1], the target last. What is drawn comes
from one NumPy generator that its seed starts. The published figures of the drawn ones (Scherer et
al., 2022, appendix C) were made without a fixed draw, except those of :func:`line`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from ..readers.table_files import Array
from .drawings import DRAWINGS
from .table_spec import Variant

__all__ = [
    "DRAWINGS",
    "bimodal_sine",
    "bundled",
    "checkerboard",
    "density_grid",
    "gaussian_clouds",
    "line",
    "six_clouds",
    "spiral",
    "three_clouds",
    "two_clouds",
]

_MIX = ((0.60834549, -0.63667341), (-0.40887718, 0.85253229))
Mean = Sequence[float]
Cloud = tuple[Mean, Sequence[Mean]]  # mean [E], covariance [E, E]
_UNIT = ((1.0, 0.0), (0.0, 1.0))


def _clouds(classes: Sequence[Sequence[Cloud]], size: int, seed: int) -> Array:
    """Half of the rows for each of two classes, spread evenly over its clouds; class 0 first."""
    rng = np.random.default_rng(seed)
    blocks = []
    for label, (clouds, half) in enumerate(zip(classes, _even(size, 2), strict=True)):
        for (mean, cov), count in zip(clouds, _even(half, len(clouds)), strict=True):
            points = rng.multivariate_normal(mean, cov, count)
            blocks.append(np.column_stack([points, np.full(count, float(label))]))
    return np.concatenate(blocks)


def _even(total: int, parts: int) -> list[int]:
    return [total // parts + (i < total % parts) for i in range(parts)]


@DRAWINGS.register("two-clouds")
def two_clouds(variant: Variant = "corrected", size: int = 500, seed: int = 1234) -> Array:
    """SynthClass1: two unit Gaussians, class 1 at (1, 1) and class 0 at (-1, -1).

    Published: at (3, 3) and (0, 0).
    """
    zero, one = ((0, 0), (3, 3)) if variant == "published" else ((-1, -1), (1, 1))
    return _clouds([[(zero, _UNIT)], [(one, _UNIT)]], size, seed)


@DRAWINGS.register("six-clouds")
def six_clouds(variant: Variant = "corrected", size: int = 500, seed: int = 1234) -> Array:
    """SynthClass2: six unit Gaussians, three a class, which no line divides.

    The published variant gives four of them to the other class.
    """
    if variant == "published":
        zero, one = [(0, -5), (5, 10), (5, -10)], [(0, 5), (-5, 10), (-5, -10)]
    else:
        zero, one = [(0, 5), (0, -5), (-5, 10)], [(5, 10), (-5, -10), (5, -10)]
    return _clouds([[(m, _UNIT) for m in means] for means in (zero, one)], size, seed)


@DRAWINGS.register("three-clouds")
def three_clouds(variant: Variant = "corrected", size: int = 500, seed: int = 1234) -> Array:
    """SynthClass3: class 1 in two narrow clouds, class 0 in a wide one between them."""
    mix = np.array(_MIX)
    narrow = (mix @ mix.T).tolist()
    one: list[Cloud] = [((0, 0), narrow), ((3, 10), narrow)]
    return _clouds([[((3, 3), ((1, 2), (2, 7)))], one], size, seed)


@DRAWINGS.register("gaussian-clouds")
def gaussian_clouds(
    variant: Variant = "corrected",
    size: int = 1000,
    seed: int = 0,
    dimensions: int = 2,
    share: float | None = 0.8,
) -> Array:
    """GaussianClouds: two random Gaussians of unequal size (after Konyushkova et al., 2017).

    Means are uniform in the unit cube, covariances A Aᵀ with A uniform in (-0.5, 0.5).

    Args:
        variant: both are the same.
        size: training rows, which come first; ten times as many for the test follow.
        seed: of the draw.
        dimensions: features.
        share: of class 1; None draws it between 0.1 and 0.9.
    """
    rng = np.random.default_rng(seed)
    share = rng.uniform(0.1, 0.9) if share is None else share
    clouds = []
    for _ in range(2):
        mean = rng.uniform(0, 1, dimensions)
        mix = rng.uniform(-0.5, 0.5, (dimensions, dimensions))
        clouds.append((mean, mix @ mix.T))
    blocks = []
    for rows in (size, 10 * size):
        ones = int(share * rows)
        for label, count in ((1, ones), (0, rows - ones)):
            points = rng.multivariate_normal(*clouds[label], count)
            blocks.append(np.column_stack([points, np.full(count, float(label))]))
    return np.concatenate(blocks)


@DRAWINGS.register("checkerboard")
def checkerboard(
    variant: Variant = "corrected", cells: int = 2, size: int = 2000, seed: int = 0
) -> Array:
    """Points uniform in the unit square; class 1 on the fields of one colour.

    Args:
        variant: both are the same.
        cells: fields along each side.
        size: rows.
        seed: of the draw.
    """
    points = np.random.default_rng(seed).uniform(0, 1, (size, 2))
    even = np.minimum((points * cells).astype(int), cells - 1).sum(1) % 2 == 0
    return np.column_stack([points, even.astype(np.float64)])


@DRAWINGS.register("line")
def line(variant: Variant = "corrected", size: int = 1000, seed: int = 1234) -> Array:
    """SynthReg1: a line through the origin without noise; scikit-learn's ``make_regression``."""
    from sklearn.datasets import make_regression

    x, y = make_regression(n_samples=size, n_features=1, random_state=seed)
    return np.column_stack([x, y])


@DRAWINGS.register("spiral")
def spiral(variant: Variant = "corrected", size: int = 1000, seed: int = 1234) -> Array:
    """SynthReg2: x = (z, sin z + 0.1 e), y = cos z + 0.1 e', with z uniform in (0, 15)."""
    rng = np.random.default_rng(seed)
    z = rng.uniform(0, 15, size)
    noise = 0.1 * rng.standard_normal((2, size))
    return np.column_stack([z, np.sin(z) + noise[0], np.cos(z) + noise[1]])


@DRAWINGS.register("bimodal-sine")
def bimodal_sine(variant: Variant = "corrected", size: int = 1000, seed: int = 1234) -> Array:
    """Two answers an input: y = sin x ± 0.5, a fair coin, + 0.2 e, with x uniform in (-4, 4).

    Source: Werner, Schmidt-Thieme (2025).
    """
    rng = np.random.default_rng(seed)
    x = rng.uniform(-4, 4, size)
    side = rng.choice((-0.5, 0.5), size)
    return np.column_stack([x, np.sin(x) + side + 0.2 * rng.standard_normal(size)])


@DRAWINGS.register("density-grid")
def density_grid(
    variant: Variant = "corrected", side: int = 4, each: int = 100, seed: int = 1234
) -> Array:
    """Clouds of variance 0.1 at the points of an even grid, 2 apart; the target is the cloud.

    Source: Werner, Schmidt-Thieme (2025).

    Args:
        variant: both are the same.
        side: clouds along each axis.
        each: points a cloud.
        seed: of the draw.
    """
    rng = np.random.default_rng(seed)
    cloud = np.repeat(np.arange(side * side), each)
    centre = 2.0 * np.column_stack([cloud // side, cloud % side])
    points = centre + np.sqrt(0.1) * rng.standard_normal(centre.shape)
    return np.column_stack([points, cloud])


@DRAWINGS.register("bundled")
def bundled(
    variant: Variant,
    loader: Literal["load_breast_cancer", "load_diabetes", "load_digits"],
) -> Array:
    """A table that comes with scikit-learn.

    Args:
        variant: "published" takes scikit-learn's scaling of the diabetes table, which has seen all
            rows.
        loader: scikit-learn's function.
    """
    from sklearn import datasets

    options = {"scaled": variant == "published"} if loader == "load_diabetes" else {}
    return np.column_stack(getattr(datasets, loader)(return_X_y=True, **options))
