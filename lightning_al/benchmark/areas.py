"""One number for a learning curve: named rules for the area under it, and label efficiency."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from lightning_al.registry import Registry

__all__ = ["AREAS", "area", "collapse_count", "final_value", "label_efficiency"]

ROUNDING = 1e-6  # of float32 metrics
Array = NDArray[np.float64]
AREAS: Registry[float] = Registry("area rule")
"""Rules by name, each ``rule(labels=[T], values=[T]) -> float``."""


def _curve(labels: Sequence[float], values: Sequence[float]) -> tuple[Array, Array]:
    """Both as float64 [T], checked.

    Raises:
        ValueError: nothing in them, of different lengths, or labels that do not increase.
    """
    x, y = np.asarray(labels, dtype=np.float64), np.asarray(values, dtype=np.float64)
    if x.ndim != 1 or x.shape != y.shape or not len(x):
        raise ValueError(
            f"a curve is labels [T] and values [T], T >= 1, got {x.shape} and {y.shape}"
        )
    if not np.isfinite(x).all() or bool((np.diff(x) <= 0).any()):
        raise ValueError(f"the numbers of labels must increase, got {x.tolist()}")
    return x, y


def area(labels: Sequence[float], values: Sequence[float], rule: str = "budget") -> float:
    """Area under one learning curve by a named rule; NaN where a value is NaN (but for "mean").

    Args:
        labels: number of labels at each fit [T], increasing.
        values: the metric after each fit [T].
        rule: a name of :data:`AREAS`.

    Raises:
        LookupError: no such rule.
        ValueError: no curve.

    >>> area([10, 20, 40], [0.0, 1.0, 1.0])
    0.8333333333333334
    """
    return AREAS.build(rule, labels=labels, values=values)


@AREAS.register("budget")
def over_budget(labels: Sequence[float], values: Sequence[float]) -> float:
    """Trapezoid over the number of labels, divided by its range: a mean over the budget.

    The area under the budget curve (AUBC) of Zhan et al. (2022), who round it to three decimals.
    """
    x, y = _curve(labels, values)
    return float(y[0]) if len(x) == 1 else float(np.trapezoid(y, x) / (x[-1] - x[0]))


@AREAS.register("unit-steps")
def unit_steps(labels: Sequence[float], values: Sequence[float]) -> float:
    """Trapezoid with unit steps over all T + 1 points, divided by T + 1 (Scherer et al. 2022).

    A perfect classifier has T / (T + 1), not 1.
    """
    _, y = _curve(labels, values)
    return float(np.trapezoid(y) / len(y))


@AREAS.register("mean")
def mean_value(labels: Sequence[float], values: Sequence[float]) -> float:
    """Mean of the values that are not NaN (Werner et al. 2024)."""
    _, y = _curve(labels, values)
    kept = y[~np.isnan(y)]
    return float(kept.mean()) if len(kept) else math.nan


@AREAS.register("log-budget")
def over_log_budget(labels: Sequence[float], values: Sequence[float]) -> float:
    """Trapezoid over the logarithm of the number of labels: the first labels count most.

    Raises:
        ValueError: a curve that starts at no labels.
    """
    x, y = _curve(labels, values)
    if x[0] <= 0:
        raise ValueError(
            f"the rule log-budget needs at least one label at each fit, got {x[0]:g} at the first"
        )
    return over_budget(np.log(x).tolist(), y.tolist())


def final_value(labels: Sequence[float], values: Sequence[float]) -> float:
    """The metric after the last fit."""
    return float(_curve(labels, values)[1][-1])


def collapse_count(
    values: Sequence[float], drop: float = 0.05, *, higher_is_better: bool = True
) -> int:
    """How many fits fell short of the best one before them by more than ``drop``.

    Curves of equal area may differ in this: one climbs steadily, the other comes down now and
    then, as curves of models whose hyper-parameters no longer suit their labels do.

    Args:
        values: the metric after each fit [T], in the order of the fits; a NaN counts as a fall.
        drop: in the metric's unit; 0.05 are five points of accuracy.
        higher_is_better: the metric's direction.

    >>> collapse_count([0.6, 0.8, 0.74, 0.76, 0.9, 0.5])
    2
    """
    best, count = -math.inf, 0
    for value in values:
        signed = value if higher_is_better else -value
        count += best > -math.inf and not signed >= best - drop - ROUNDING
        if signed > best:
            best = signed
    return count


def label_efficiency(
    labels: Sequence[float],
    values: Sequence[float],
    target: float,
    *,
    higher_is_better: bool = True,
) -> float:
    """Labels needed until the curve first reaches ``target``; infinite where it never does.

    Between two fits the curve is taken as a straight line.

    >>> round(label_efficiency([10, 20, 40], [0.5, 0.7, 0.9], 0.8))
    30
    """
    x, y = _curve(labels, values)
    sign = 1.0 if higher_is_better else -1.0
    gap = sign * (y - target)
    reached = np.flatnonzero(gap >= 0)
    if not len(reached):
        return math.inf
    i = int(reached[0])
    if i == 0 or math.isnan(gap[i - 1]):
        return float(x[i])
    share = -gap[i - 1] / (gap[i] - gap[i - 1])
    return float(x[i - 1] + share * (x[i] - x[i - 1]))
