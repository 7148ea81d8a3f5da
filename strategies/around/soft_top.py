"""A smooth choice of the highest scores whose odds add up to an exact count; ranks as utilities."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["picks_as_utility", "ranks_as_utility", "soft_top", "threshold"]

PARTS, CUTS = 32, 10  # an interval is cut in 32 at once: 50 halvings
FAR = 40.0  # temperatures beyond the extremes at which a sigmoid is 0 or 1 to 1e-17


def threshold(values: Tensor, count: float, temperature: float) -> Tensor:
    """Where ``sum(sigmoid((values - threshold) / temperature))`` is ``count``: [n] -> scalar.

    By bisection, 32 parts at once, in float64; no gradient.

    Raises:
        ValueError: a count that is not between 0 and n, or a temperature that is not above 0.
    """
    if values.ndim != 1 or not 0 < count < len(values):
        raise ValueError(
            f"a threshold needs values [n] and a count between 0 and n, got {list(values.shape)} "
            f"and {count}"
        )
    if not temperature > 0:
        raise ValueError(f"a temperature is above 0, got {temperature}")
    with torch.no_grad():
        scaled = values.double() / temperature
        low, high = scaled.min() - FAR, scaled.max() + FAR
        steps = torch.linspace(0, 1, PARTS + 1, dtype=torch.float64, device=values.device)
        for _ in range(CUTS):
            ends = low + (high - low) * steps
            many = torch.sigmoid(scaled - ends[:, None]).sum(1) > count  # falls along the ends
            last = int(many.sum().clamp(1, PARTS)) - 1
            low, high = ends[last], ends[last + 1]
        return (low + high) / 2 * temperature


def soft_top(values: Tensor, count: float, temperature: float) -> Tensor:
    """How far each of n values is among the ``count`` highest: [n] -> [n] in (0, 1), sum ``count``.

    ``s = sigmoid((values - t) / temperature)`` with t so that s adds up to ``count``. The gradient
    goes through t too, by the implicit function theorem: dt = sum(w dvalues), with weights
    ``w = s (1 - s) / sum(s (1 - s))``. All values raised alike change nothing. Float64.

    Raises:
        ValueError: as :func:`threshold`.

    >>> soft_top(torch.tensor([0.0, 1.0]), 1.0, 1e-3)
    tensor([0., 1.], dtype=torch.float64)
    """
    values = values.double()
    fixed = threshold(values.detach(), count, temperature)
    with torch.no_grad():
        chosen = torch.sigmoid((values - fixed) / temperature)
        slope = chosen * (1 - chosen)
        slope = slope / slope.sum().clamp_min(1e-300)
    moving = fixed + (slope * (values - values.detach())).sum()
    return torch.sigmoid((values - moving) / temperature)


def ranks_as_utility(scores: Tensor) -> Tensor:
    """Scores [N] as their ranks in [0, 1], float32: 1 the highest; ties the mean of theirs.

    Scores that all tie are 1/2; NaN has 0.

    >>> ranks_as_utility(torch.tensor([3.0, 1.0, 1.0]))
    tensor([1.0000, 0.2500, 0.2500])
    """
    out = torch.zeros(len(scores), dtype=torch.float32, device=scores.device)
    valid = ~scores.isnan()
    if not bool(valid.any()):
        return out
    _, place, count = torch.unique(scores[valid], return_inverse=True, return_counts=True)
    middle = count.cumsum(0) - (count + 1) / 2  # mean rank of the tied, from 0
    many = int(valid.sum())
    ranks = middle / (many - 1) if many > 1 else torch.full_like(middle, 0.5)
    out[valid] = ranks.to(out.dtype)[place]
    return out


def picks_as_utility(rows: Tensor, n: int) -> Tensor:
    """Picks [K] among n items as utilities [n], float32: 1 the first, 0 what is not picked.

    >>> picks_as_utility(torch.tensor([2, 0]), 3)
    tensor([0.5000, 0.0000, 1.0000])
    """
    out = torch.zeros(n, dtype=torch.float32, device=rows.device)
    order = torch.arange(len(rows), dtype=torch.float32, device=rows.device)
    out[rows] = 1 - order / max(1, len(rows))
    return out
