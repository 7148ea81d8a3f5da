"""Columns of numbers taken to mean 0 and deviation 1, wherever they lie."""

from __future__ import annotations

import torch
from torch import Tensor

from lightning_al.gp.safety import unit_of

__all__ = ["away_from", "standardised", "with_last"]

ROUNDING = 4.0  # units of the last place: a column that spreads no wider is constant


def standardised(values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean [D], standard deviation [D] and standardised values [n, D] of values [n, D], float64.

    The deviation (of the population) of a constant column is given as 1. Values are compared with
    the first row before they are summed, so that an offset which leaves the differences as they
    are leaves the standardised values as they are too, bit for bit.

    >>> standardised(torch.tensor([[1e9, 3.0], [1e9 + 2, 3.0]], dtype=torch.float64))[2]
    tensor([[-1.,  0.],
            [ 1.,  0.]], dtype=torch.float64)
    """
    values = values.double()
    if not len(values):
        width = values.shape[1:]
        return values.new_zeros(width), values.new_ones(width), values
    away = values - values[0]
    mean, deviation = away.mean(0), away.std(0, correction=0)
    least = ROUNDING * torch.finfo(values.dtype).eps * values.abs().amax(0)
    deviation = torch.where(deviation > least, deviation, 1.0)
    return values[0] + mean, deviation, (away - mean) / deviation


def away_from(z: Tensor, far: float) -> tuple[Tensor, Tensor, Tensor]:
    """Mean [], deviation [] and measurements z [n] in units of their size, less ``far``."""
    unit = z.new_tensor(unit_of(z))
    return far * unit, unit, z / unit - far


def with_last(mean: Tensor, std: Tensor, y: Tensor, *last: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """With another mean [], deviation [] and column [n] of the last output."""
    parts = zip((mean, std, y), last, strict=True)
    mean, std, y = (torch.cat([old[..., :-1], new.unsqueeze(-1)], -1) for old, new in parts)
    return mean, std, y
