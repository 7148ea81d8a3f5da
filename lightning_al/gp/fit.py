"""Hyper-parameters that maximise the evidence, or evidence times prior, by L-BFGS."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lightning_al.threads import working_alone

from .evidence import Array, evidence, numbers
from .hyperpriors import AnyPrior, bounds_of, log_density, starts_of
from .kernels import Stationary, shape_of

__all__ = ["Fit", "climb", "fit_exact", "scattered"]

Climb = Callable[[Array], "tuple[float, Array] | None"]
LOST = 1e30  # minus the evidence where there is none: the line search turns back


@dataclass(frozen=True)
class Fit:
    """What a search found."""

    theta: Array  # logarithms, and what else was searched for
    value: float  # log evidence plus log prior (without its constant), nats
    evaluations: int
    converged: bool


def climb(
    objective: Climb,
    priors: Sequence[AnyPrior],
    start: Array | None = None,
    *,
    starts: int = 1,
    generator: torch.Generator | None = None,
) -> Fit:
    """Maximise log evidence plus log prior by L-BFGS-B; of several searches the best.

    Args:
        objective: logarithms [p] -> value and gradient [p], or None where it is not defined.
        priors: p of them.
        start: logarithms to start from; those of the priors by default. Numbers after the p
            logarithms are searched for too, without priors or bounds.
        starts: how many searches: the first from ``start``, each other one from values moved at
            random by :func:`scattered`.
        generator: of the random starts; needed for more than one.

    Raises:
        ValueError: no evidence at any start.
    """
    from scipy.optimize import fmin_l_bfgs_b  # inside: SciPy loads slowly

    if starts < 1 or (starts > 1 and generator is None):
        raise ValueError(f"a search needs 1 start, or several and a generator, got {starts}")
    density = log_density(priors)
    low, high = bounds_of(priors)
    first = starts_of(priors) if start is None else start
    p = len(priors)
    rest = first[p:]

    def downhill(theta: Array) -> tuple[float, Array]:
        found = objective(theta)
        if found is None or not math.isfinite(found[0]):
            return LOST, np.zeros_like(theta)
        if density is None:
            return -found[0], -found[1]
        value, gradient = density(theta[:p])
        downwards = -found[1]
        downwards[:p] -= gradient
        return -found[0] - value, downwards

    bounds: list[Any] = [*zip(low.tolist(), high.tolist(), strict=True)]
    bounds += [(None, None)] * len(rest)
    best: Fit | None = None
    evaluations = 0
    for turn in range(starts):
        begin = first[:p] if turn == 0 or generator is None else scattered(first[:p], generator)
        begin = np.concatenate([np.clip(begin, low, high), rest])
        theta, value, record = fmin_l_bfgs_b(downhill, begin, bounds=bounds)
        evaluations += int(record["funcalls"])
        if value < LOST and (best is None or -float(value) > best.value):
            best = Fit(theta, -float(value), evaluations, record["warnflag"] == 0)
    if best is None:
        raise ValueError(
            "the marginal likelihood is not defined at the start of the search: the covariance is "
            "not positive definite there, or holds NaN; raise the noise, scale the features"
        )
    return replace(best, evaluations=evaluations)


def scattered(theta: Array, generator: torch.Generator) -> Array:
    """Logarithms [p] of values whose inverse softplus was multiplied by U[0.5, 1.5], each alone."""
    values = np.exp(theta)
    free = values + np.log(-np.expm1(-values))
    factors = torch.rand(len(theta), generator=generator, dtype=torch.float64).numpy() + 0.5
    moved: Array = np.log(np.logaddexp(0.0, free * factors))
    return moved


@working_alone(lambda x, *_, **__: len(x) ** 3)
def fit_exact(
    x: Tensor,
    y: Tensor,
    shape: str,
    lengthscale: AnyPrior,
    outputscale: AnyPrior,
    noise: AnyPrior,
    *,
    ard: bool = True,
    start: Array | None = None,
    starts: int = 1,
    generator: torch.Generator | None = None,
) -> tuple[Stationary, Tensor, Fit]:
    """Kernel and noise of a regressor: x [n, d], y [n] (zero mean) -> kernel, noise [], record.

    ``start``, ``starts`` and ``generator`` are those of :func:`climb`.

    Raises:
        ValueError: no positive-definite covariance at the start.
    """
    shape_of(shape)
    count = x.shape[1] if ard else 1
    inputs, targets = numbers(x - x.mean(0)), numbers(y)  # differences count alone
    priors = [lengthscale] * count + [outputscale, noise]
    found = climb(
        lambda theta: evidence(shape, inputs, targets, theta, ard),
        priors,
        start,
        starts=starts,
        generator=generator,
    )
    values = torch.from_numpy(np.exp(found.theta)).to(x.device)
    return Stationary(shape, values[:-2], values[-2]), values[-1], found
