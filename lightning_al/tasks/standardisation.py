"""Columns of numbers taken to mean 0 and deviation 1, wherever they lie."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["standardised"]

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
