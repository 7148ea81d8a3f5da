"""How a network asks simulated functions, on a box or a pool, and the error that is left."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from .network import CandidatePolicy, moved
from .places import Places
from .worlds import Asked, World

__all__ = ["asking", "choosing", "error"]

TEST_POINTS = 200


def asking(
    network: CandidatePolicy, active: Tensor | None = None
) -> Callable[[Tensor, Tensor, Tensor | None], Tensor]:
    """How a network asks on a box: points [R, n, D], y [R, n], z -> queries [R, D], float64."""
    places = Places.of(network.dimension, network.candidates, False if network.flexible else None)

    @torch.no_grad()
    def ask(x: Tensor, y: Tensor, z: Tensor | None) -> Tensor:
        kind = next(network.parameters()).dtype
        points = x.to(kind)
        looked = places(points, active)
        known = network.encode(points, y.to(kind), None if z is None else z.to(kind), active=active)
        score, moves = network.judge(known, looked)
        best = score.argmax(-1)[:, None, None].expand(-1, 1, x.shape[-1])
        found = moved(looked, moves).gather(1, best).squeeze(1)
        return found.to(x)

    return ask


def choosing(
    network: CandidatePolicy, rows: Tensor, active: Tensor | None = None
) -> Callable[[Tensor, Tensor, Tensor | None], Tensor]:
    """How a network asks on pools, rows [R, M, D], each row once at the most; for one play."""
    left = torch.ones(rows.shape[:2], dtype=torch.bool, device=rows.device)

    @torch.no_grad()
    def ask(x: Tensor, y: Tensor, z: Tensor | None) -> Tensor:
        kind = next(network.parameters()).dtype
        points, outcome = x.to(kind), None if z is None else z.to(kind)
        known = network.encode(points, y.to(kind), outcome, active=active)
        score = network.rate(known, rows.to(kind)).masked_fill(~left, -torch.inf)
        best = score.argmax(-1, keepdim=True)
        left.scatter_(1, best, value=False)
        return rows.gather(1, best.unsqueeze(-1).expand(-1, -1, rows.shape[-1])).squeeze(1)

    return ask


def error(world: World, asked: Asked, points: int = TEST_POINTS) -> Tensor:
    """Root of the expected squared error [R] at random noisy outcomes, under the true process."""
    places = world.places("test", points)
    variance = asked.known.variance(asked.known.side(places))
    return variance.mean(-1).sqrt()
