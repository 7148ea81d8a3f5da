"""Quantiles of distributions whose inverse has no formula: Newton's steps inside a bracket."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["solve"]

STEPS = 60
CLOSE = 1e-14  # of the bracket's magnitude


def solve(
    curve: Callable[[Tensor], tuple[Tensor, Tensor]],
    levels: Tensor,
    low: Tensor,
    high: Tensor,
) -> Tensor:
    """Where an increasing function reaches some levels: [...] each -> [...].

    Newton's step where it stays inside the bracket, else bisection; every step narrows the bracket,
    so it ends at the worst as bisection does.

    Args:
        curve: y -> (its values, its slopes), each [...].
        levels: wanted values.
        low: the curve is at or below the level here.
        high: and at or above it here.
    """
    y = 0.5 * (low + high)
    least = CLOSE * torch.maximum(low.abs(), high.abs()).clamp_min(1.0)
    for step in range(STEPS):
        value, slope = curve(y)
        below = value < levels
        low, high = torch.where(below, y, low), torch.where(below, high, y)
        newton = y - (value - levels) / slope.clamp_min(torch.finfo(y.dtype).tiny)
        inside = (newton > low) & (newton < high)
        halved = step % 3 == 2  # so that a flat stretch is crossed
        following = torch.where(inside & (not halved), newton, 0.5 * (low + high))
        moved = (following - y).abs()
        y = following
        if bool(((moved <= least) | (high - low <= least)).all()):
            break
    return y
