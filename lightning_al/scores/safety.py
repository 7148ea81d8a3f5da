"""Scores of places whose last output says how safe they are: z, safe where z >= 0."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .numerics import check_regression, full

__all__ = ["min_unsafe_entropy", "needed_deviations", "predictive_entropy", "safe_deviations"]

SURE = 1e6  # deviations; more are as many
UNSAFE_FLOOR = 1e-5  # added inside the logarithm of `min_unsafe_entropy`, as published


def _with_safety(
    name: str, mean: Tensor, variance: Tensor | None
) -> tuple[Tensor, Tensor, torch.dtype]:
    """Mean and total variance [N, D] of all outputs, the last of which is z; float64."""
    check_regression(name, mean, variance)
    if mean.shape[-1] < 2:
        raise ValueError(
            f"{name} needs a safety measurement z: the last of two outputs or more, mean "
            f"[N, S, D >= 2], got D = {mean.shape[-1]}; give data with targets (y, z) and a task "
            "with outputs=2"
        )
    centre = mean.double()
    spread = centre.var(1, correction=0)
    if variance is not None:
        spread = spread + variance.double().mean(1)
    return centre.mean(1), spread, full(mean).dtype


def needed_deviations(gamma: float) -> float:
    """Deviations that z must lie above 0 to be safe but for a probability of gamma, in (0, 1].

    Minus infinity at gamma = 1. What :func:`safe_deviations` is compared with.
    """
    return float(-torch.special.ndtri(torch.tensor(gamma, dtype=torch.float64)))


def safe_deviations(mean: Tensor, variance: Tensor | None = None) -> Tensor:
    """Deviations by which z is expected above 0: mean [N, S, D >= 2] (, variance) -> [N].

    The last output is the safety measurement z, safe where z >= 0. With the result r, as one
    Gaussian of its mean and total variance, P(z >= 0) = Phi(r), so that P >= 1 - gamma where
    r >= Phi^-1(1 - gamma). At most 1e6 either way; a z that is known for certain is at one end.

    Raises:
        ValueError: wrong shapes, or one output alone.

    >>> safe_deviations(torch.tensor([[[9.0, 2.0]]]), torch.tensor([[[1.0, 4.0]]]))
    tensor([1.])
    """
    centre, spread, kind = _with_safety("the safe choice", mean, variance)
    z, deviation = centre[:, -1], spread[:, -1].sqrt()
    ratio = z / deviation.clamp_min(torch.finfo(z.dtype).tiny)
    ratio = ratio.masked_fill((deviation == 0) & (z == 0), SURE)
    return ratio.clamp(-SURE, SURE).to(kind)


def predictive_entropy(mean: Tensor, variance: Tensor | None = None) -> Tensor:
    """Entropy of the answer y in nats: mean [N, S, D >= 2] (, variance) -> [N].

    1/2 log(2 pi e v), v the total variance, summed over all outputs but the last, which is the
    safety measurement. May be negative: y has a density. Where v is 0 it is about -350.

    Raises:
        ValueError: wrong shapes, or one output alone.

    >>> predictive_entropy(torch.tensor([[[9.0, 2.0]]]), torch.tensor([[[1.0, 4.0]]]))
    tensor([1.4189])
    """
    _, spread, kind = _with_safety("the entropy of y", mean, variance)
    least = torch.finfo(spread.dtype).tiny
    each = 0.5 * (2 * math.pi * math.e * spread[:, :-1].clamp_min(least)).log()
    return each.sum(-1).to(kind)


def min_unsafe_entropy(
    mean: Tensor, variance: Tensor | None = None, *, gamma: float = 0.05
) -> Tensor:
    """Entropy of y, less what is lost where it is unsafe: mean [N, S, D >= 2] (, variance) -> [N].

    H(y) - log(1 - min(p, 1 - gamma) + 1e-5) in nats, p = P(z >= 0). What is safer than 1 - gamma
    gains nothing by it.

    Source: Li, Toussaint, Rakitsch and Zimmer (2026), whose loss this is for one step.

    Raises:
        ValueError: wrong shapes, or one output alone.

    >>> min_unsafe_entropy(torch.tensor([[[0.0, 9.0]]]), torch.ones(1, 1, 2))
    tensor([4.4145])
    """
    unsafe = torch.special.ndtr(-safe_deviations(mean, variance).double())
    lost = (unsafe.clamp_min(gamma) + UNSAFE_FLOOR).log()
    entropy = predictive_entropy(mean, variance)
    return (entropy.double() - lost).to(entropy.dtype)
