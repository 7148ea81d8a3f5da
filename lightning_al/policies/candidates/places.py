"""Where a policy looks: candidates on a box, a fixed function of the history.

With one or two inputs they are a grid. Else half of them are a Sobol sequence (Sobol, 1967),
stretched over the borders so that these are met, and half lie around the points measured.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Places", "scattered", "shifted"]

STRETCH = 1.2  # of a side; what lies outside is put on the border
NEAREST, FARTHEST = 0.03, 0.38  # of candidates from the point that they lie around


@dataclass(frozen=True)
class Places:
    """Candidates on a box; made by :meth:`of`."""

    fixed: Tensor  # [A, D]
    offsets: Tensor | None  # [A', D], of those around points measured
    order: Tensor  # [D], points are put in order by their product with this

    @classmethod
    def of(cls, dimension: int, count: int, grid: bool | None = None) -> Places:
        """About `count` candidates with `dimension` inputs.

        Args:
            dimension: D.
            count: of candidates; a grid of two inputs has the nearest square number of them.
            grid: where there are one or two inputs by default.
        """
        order = torch.frac(torch.arange(1.0, dimension + 1) * 0.618033988749895) + 0.5
        if dimension <= 2 if grid is None else grid:
            side = max(2, round(count ** (1 / dimension)))
            axes = [torch.linspace(0.0, 1.0, side)] * dimension
            return cls(torch.cartesian_prod(*axes).reshape(-1, dimension), None, order)
        drawn = _sobol(dimension + 1, count)
        half = (count + 1) // 2
        fixed = stretched(drawn[:half, :dimension]).float()
        direction = torch.special.ndtri(drawn[half:, :dimension].clamp(1e-6, 1 - 1e-6))
        direction = direction / torch.linalg.vector_norm(direction, dim=-1, keepdim=True)
        radius = NEAREST * (FARTHEST / NEAREST) ** drawn[half:, dimension:]
        return cls(fixed, (direction * radius).float(), order)

    def __call__(self, x: Tensor, active: Tensor | None = None) -> Tensor:
        """Candidates for points measured x [B, n, D], n >= 1: [A, D] or, for each, [B, A, D]."""
        fixed = self.fixed.to(x)
        if self.offsets is not None:
            fixed = torch.cat([fixed.expand(len(x), *fixed.shape), self.around(x)], 1)
        if active is not None:
            return fixed * active.to(x).unsqueeze(1)
        return fixed

    def around(self, x: Tensor) -> Tensor:
        """Those around the points x [B, n, D], in turn, in an order that is not that of x."""
        if self.offsets is None:
            raise ValueError("a grid has no candidates around points")
        count = len(self.offsets)
        rank = (x @ self.order.to(x)).argsort(dim=-1, stable=True)
        turn = rank[:, torch.arange(count, device=x.device) % x.shape[1]]
        centre = x.gather(1, turn.unsqueeze(-1).expand(-1, -1, x.shape[-1]))
        return (centre + self.offsets.to(x)).clamp(0.0, 1.0)


def stretched(drawn: Tensor) -> Tensor:
    """Numbers in (0, 1), stretched about the middle and put back on the border."""
    return (0.5 + STRETCH * (drawn - 0.5)).clamp(0.0, 1.0)


def scattered(drawn: Tensor, x: Tensor, known: Tensor, near: float) -> Tensor:
    """Candidates [R, A, D] to learn from: a share `near` around points x [R, n, D], the rest wide.

    Args:
        drawn: uniform numbers [R, A, 2 D + 2].
        x: points.
        known: [R], how many of them are measured, the first ones.
        near: in [0, 1].
    """
    rows, _, dim = x.shape
    count = round(near * drawn.shape[1])
    wide = stretched(drawn[:, count:, :dim])
    if not count:
        return wide
    direction = torch.special.ndtri(drawn[:, :count, :dim])
    direction = direction / torch.linalg.vector_norm(direction, dim=-1, keepdim=True)
    radius = NEAREST * (FARTHEST / NEAREST) ** drawn[:, :count, -1:]
    turn = (drawn[:, :count, -2] * known[:, None]).long()  # drawn below 1
    centre = x.gather(1, turn.unsqueeze(-1).expand(rows, count, dim))
    return torch.cat([wide, (centre + direction * radius).clamp(0.0, 1.0)], 1)


def shifted(shift: Tensor, count: int) -> Tensor:
    """The Sobol sequence [R, count, D], moved by shifts [R, D] modulo 1."""
    engine = torch.quasirandom.SobolEngine(shift.shape[-1])
    return torch.frac(engine.draw(count, dtype=torch.float64).to(shift) + shift.unsqueeze(1))


def _sobol(dimension: int, count: int) -> Tensor:
    """Points [count, dimension] in (0, 1), shifted modulo 1 so that none lies on the border."""
    shift = torch.frac(torch.arange(1, dimension + 1, dtype=torch.float64) * 0.7548776662466927)
    return shifted(shift[None], count)[0]
