"""Quantiles of distributions whose inverse has no formula: Newton's steps inside a bracket."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["bracketed", "solve"]

STEPS = 80
CLOSE = 4.0  # units of the last place


def solve(
    curve: Callable[[Tensor], tuple[Tensor, Tensor]],
    levels: Tensor,
    low: Tensor,
    high: Tensor,
) -> Tensor:
    """Where an increasing function reaches some levels: [...] each -> [...].

    Newton's step where it stays inside the bracket and at least halves the step before, else
    bisection; every step narrows the bracket, so it ends at the worst as bisection does.

    Args:
        curve: y -> (its values, its slopes), each [...].
        levels: wanted values.
        low: the curve is at or below the level here.
        high: and at or above it here.
    """
    y, before = 0.5 * (low + high), high - low
    least = CLOSE * torch.finfo(y.dtype).eps * torch.maximum(low.abs(), high.abs())
    for _ in range(STEPS):
        value, slope = curve(y)
        below = value < levels
        low, high = torch.where(below, y, low), torch.where(below, high, y)
        newton = y - (value - levels) / slope.clamp_min(torch.finfo(y.dtype).tiny)
        good = (newton >= low) & (newton <= high) & ((newton - y).abs() <= 0.5 * before)
        following = torch.where(good, newton, 0.5 * (low + high))
        before = (following - y).abs()
        y = following
        if bool(((before <= least) | (high - low <= least)).all()):
            break
    return y


def bracketed(nodes: Tensor, values: Tensor, levels: Tensor) -> tuple[Tensor, Tensor]:
    """Nodes below and above some levels of an increasing function, with one to spare.

    Args:
        nodes: [..., T], increasing.
        values: of the function there [..., T].
        levels: [..., L].

    Returns:
        [..., L] each; infinite where no node is so far out.
    """
    place = torch.searchsorted(values.cummax(-1).values, levels)
    edge = nodes.new_full((*nodes.shape[:-1], 1), torch.inf)
    spare = torch.cat([-edge, -edge, nodes, edge, edge], -1)  # node i lies at i + 2
    return spare.gather(-1, place), spare.gather(-1, place + 3)
