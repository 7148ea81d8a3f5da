"""The simulated functions that ALINE is trained on, and who of a task is a target.

Huang, Wen, Bharti, Kaski, Acerbi (2025), "ALINE: Joint Amortization for Bayesian Inference and
Active Data Acquisition".
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from lightning_al.policies.streams import Streams
from lightning_al.values import number, whole

__all__ = ["ALINETasks", "Tasks"]

JITTER = 1e-5
SCALE = 0.1, 1.0  # output variance, uniform


@dataclass(frozen=True)
class Tasks:
    """B tasks with context, pool and targets; float32."""

    x: Tensor  # [B, n, D], context
    y: Tensor  # [B, n]
    pool_x: Tensor  # [B, Q, D]
    pool_y: Tensor  # [B, Q], bought when it is asked for
    target_x: Tensor  # [B, M, D]
    target_y: Tensor  # [B, M]
    theta: Tensor  # [B, D + 1], length scales, then output variance
    selected: Tensor  # [M + D + 1] bool: what the policy is to learn about

    def bought(self, rows: Tensor) -> Tasks:
        """With one item [B] of each pool moved to the context."""
        each = torch.arange(len(rows), device=rows.device)
        keep = torch.ones_like(self.pool_y, dtype=torch.bool)
        keep[each, rows] = False
        left = self.pool_y.shape[1] - 1
        return replace(
            self,
            x=torch.cat([self.x, self.pool_x[each, rows].unsqueeze(1)], 1),
            y=torch.cat([self.y, self.pool_y[each, rows].unsqueeze(1)], 1),
            pool_x=self.pool_x[keep].unflatten(0, (len(rows), left)),
            pool_y=self.pool_y[keep].unflatten(0, (len(rows), left)),
        )

    def few(self, size: int) -> Tasks:
        """With the first items of each pool alone."""
        return replace(self, pool_x=self.pool_x[:, :size], pool_y=self.pool_y[:, :size])


@dataclass(frozen=True)
class ALINETasks:
    """A law of tasks on [-s, s]^D.

    Kernels are RBF, Matern-3/2 or Matern-5/2, alike likely; half of the functions have one length
    scale for all inputs.

    Args:
        dimension: D.
        initial: context points at the start.
        pool: Q.
        targets: M.
        batch: B.
        reach: s.
        scales: least and largest length scale, before they are multiplied by sqrt(D).
        noise: standard deviation of all values.

    Raises:
        ValueError: numbers that make no sense.
    """

    dimension: int = 1
    initial: int = 1
    pool: int = 200
    targets: int = 100
    batch: int = 200
    reach: float = 1.0
    scales: Sequence[float] = (0.2, 2.0)
    noise: float = 0.01

    def __post_init__(self) -> None:
        for name in ("dimension", "initial", "pool", "targets", "batch"):
            whole(1)(name, getattr(self, name))
        for name in ("reach", "noise"):
            number(0, open=True)(name, getattr(self, name))
        if len(self.scales) != 2 or not 0 < self.scales[0] <= self.scales[1]:
            raise ValueError(f"scales are the least and largest length scale, got {self.scales}")

    def __call__(
        self,
        streams: Streams,
        *,
        rank: int = 0,
        world: int = 1,
        device: torch.device | str = "cpu",
    ) -> Tasks:
        """Draw a batch; process r takes the tasks r, r + world, ..."""
        index = torch.arange(rank, self.batch, world, device=device)
        dim, total = self.dimension, self.initial + self.pool + self.targets
        x = self.reach * (2 * streams.uniform("x", index, total, dim) - 1)
        scale, output = self.hyper(streams, index)
        covariance = output[:, None, None] * self._kernel(streams, index, x, scale)
        covariance.diagonal(dim1=-2, dim2=-1).add_(JITTER)
        factor = torch.linalg.cholesky(covariance)
        y = (factor @ streams.normal("values", index, total).unsqueeze(-1)).squeeze(-1)
        y = y + self.noise * streams.normal("noise", index, total)
        sizes = [self.initial, self.pool, self.targets]
        (x0, x1, x2), (y0, y1, y2) = x.float().split(sizes, 1), y.float().split(sizes, 1)
        theta = torch.cat([scale, output.unsqueeze(1)], 1).float()
        return Tasks(x0, y0, x1, y1, x2, y2, theta, self.split(streams, device))

    def hyper(self, streams: Streams, index: Tensor) -> tuple[Tensor, Tensor]:
        """Length scales [B, D] and output variances [B]."""
        low, high = self.scales
        u = streams.uniform("lengthscale", index, self.dimension)
        same = streams.uniform("isotropic", index) < 0.5
        u = torch.where(same.unsqueeze(1), u[:, :1], u)
        scale = math.sqrt(self.dimension) * (low + (high - low) * u)
        return scale, SCALE[0] + (SCALE[1] - SCALE[0]) * streams.uniform("outputscale", index)

    def _kernel(self, streams: Streams, index: Tensor, x: Tensor, scale: Tensor) -> Tensor:
        z = x / scale.unsqueeze(1)
        square = (z.unsqueeze(2) - z.unsqueeze(1)).square().sum(-1)
        which = streams.between("kernel", index, 0, 2)[:, None, None]
        three, five = (3 * square).sqrt(), (5 * square).sqrt()
        smooth = (1 + five + five.square() / 3) * torch.exp(-five)
        rough = (1 + three) * torch.exp(-three)
        return torch.where(
            which == 0, torch.exp(-0.5 * square), torch.where(which == 1, rough, smooth)
        )

    def split(self, streams: Streams, device: torch.device | str) -> Tensor:
        """Targets of this batch [M + D + 1]: all values or all hyper-parameters, alike likely."""
        values = bool(streams.uniform("split", torch.zeros(1, dtype=torch.int64)) < 0.5)
        chosen = torch.zeros(self.targets + self.dimension + 1, dtype=torch.bool, device=device)
        chosen[: self.targets] = values
        chosen[self.targets :] = not values
        return chosen
