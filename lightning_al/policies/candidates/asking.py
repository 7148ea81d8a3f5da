"""How a network asks simulated functions on a box, and the error that its queries leave."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from .network import CandidatePolicy, moved
from .places import Places
from .worlds import Asked, World

__all__ = ["asking", "error"]

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


def error(world: World, asked: Asked, points: int = TEST_POINTS) -> Tensor:
    """Root of the expected squared error [R] at random noisy outcomes, under the true process."""
    places = world.places("test", points)
    variance = asked.known.variance(asked.known.side(places))
    return variance.mean(-1).sqrt()
