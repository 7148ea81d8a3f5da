"""Where candidates come from: a box of places."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Box"]


@dataclass(frozen=True)
class Box:
    """A continuous domain: the box ``low <= x <= high``."""

    low: Tensor  # [D]
    high: Tensor  # [D]

    def __post_init__(self) -> None:
        if self.low.shape != self.high.shape or self.low.ndim != 1:
            raise ValueError(
                f"a Box needs low and high of one shape [D], got {list(self.low.shape)} "
                f"and {list(self.high.shape)}"
            )
        if not bool((self.low < self.high).all()):
            raise ValueError(
                f"a Box needs low < high, got {self.low.tolist()} and {self.high.tolist()}"
            )

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        """Uniform places [n, D], float64."""
        unit = torch.rand(n, len(self.low), generator=generator, dtype=torch.float64)
        return self.low.double() + unit * (self.high - self.low).double()

    def holds(self, x: Tensor) -> bool:
        """Whether all places [K, D] lie in the box, up to the rounding of single precision."""
        slack = 1e-6 * (self.high - self.low).double()
        inside = (x >= self.low.double() - slack) & (x <= self.high.double() + slack)
        return bool(inside.all())
