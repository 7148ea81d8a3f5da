"""Members that spell out a Gaussian latent function item by item: for Gaussian process tasks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from lightning_al.randomness import generator

from .protocol import Drawn, Reader, ShapeFree

__all__ = ["LatentQuantiles", "QuantileSession", "normal_quantiles"]


def normal_quantiles(members: int, problems: int, seed: int, round: int) -> Tensor:
    """Evenly spaced quantiles of the standard normal, scaled to variance 1: [S, P], float64.

    The columns after the first are the same in orders drawn by (seed, round, column).
    """
    z = torch.special.ndtri((torch.arange(members, dtype=torch.float64) + 0.5) / members)
    z = z / z.square().mean().sqrt()
    columns = [z]
    for p in range(1, problems):
        drawn = generator(seed, round, "quantiles", p)
        columns.append(z[torch.randperm(members, generator=drawn)])
    return torch.stack(columns, dim=1)


@dataclass(frozen=True)
class LatentQuantiles:
    """S functions ``mean + z_s std`` of a task that knows its latent mean and deviation.

    The ``z_s`` are evenly spaced quantiles of the standard normal, scaled to variance 1: members
    have exactly the mean and the variance of the latent function, so that ``variance``, ``ucb``
    and ``regression-bald`` are the closed forms, and ``bald`` is a quadrature. With several latent
    functions (outputs, classes) each has the quantiles in an order of its own.

    A member is one function, but all rise and fall together: what compares *different* items under
    one member (Thompson sampling, EPIG, BatchBALD) needs draws from the joint posterior instead.

    The task offers ``problems``, the number P of latent functions, and
    ``at_quantiles(inputs, z [S, P]) -> raw outputs [n, S, ...]``.

    Args:
        members: S, at least 2.
    """

    members: int = 20

    def __post_init__(self) -> None:
        if self.members < 2:
            raise ValueError(f"LatentQuantiles needs 2 members or more, got {self.members}")

    def start(self, seed: int, round: int) -> QuantileSession:
        """Begin a scoring pass."""
        return QuantileSession(self.members, seed, round)


class QuantileSession(ShapeFree):
    """One scoring pass of :class:`LatentQuantiles`."""

    def __init__(self, count: int, seed: int, round: int) -> None:
        self.count, self.seed, self.round = count, seed, round

    def members(
        self,
        task: nn.Module,
        adapter: Reader,
        inputs: Any,
        n: int,
        *,
        outputs: bool = True,
        embedding: bool = False,
    ) -> Drawn:
        """Outputs [n, S, ...] for one batch.

        Raises:
            LookupError: a task without a Gaussian latent function.
        """
        own: Any = task
        if not hasattr(own, "at_quantiles"):
            raise LookupError(
                f"{type(task).__name__} has no at_quantiles(inputs, z); LatentQuantiles is for "
                "Gaussian process tasks: score networks with MCDropout, LastLayerLaplace, SWAG"
            )
        task.eval()
        with torch.no_grad():
            hidden = adapter.run(task, inputs, embedding=True)[1] if embedding else None
            if not outputs:
                return Drawn(None, hidden)
            z = normal_quantiles(self.count, own.problems, self.seed, self.round)
            return Drawn(own.at_quantiles(inputs, z), hidden)
