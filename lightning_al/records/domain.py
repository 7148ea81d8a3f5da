"""Where candidates come from, and what is measured of each."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Box", "Domain", "Finite", "Outcomes"]


@dataclass(frozen=True)
class Finite:
    """The items of a data set: what can be chosen is what lies in the pool."""


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


Domain = Finite | Box


@dataclass(frozen=True)
class Outcomes:
    """What is measured of an item: its target, and where it is declared how safe it is.

    Targets are [N] of one outcome, [N, m] of several, in the order of ``names``.

    Args:
        names: of the measurements.
        safety: the one that says how safe an item is, safe where it is 0 or more; None for none.

    Raises:
        ValueError: no names, one of them twice, or a safety that is none of several.
    """

    names: tuple[str, ...] = ("y",)
    safety: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "names", tuple(self.names))
        if not self.names or len(set(self.names)) < len(self.names):
            raise ValueError(f"outcomes are different names, one at least, got {self.names}")
        if self.safety is not None and (self.safety not in self.names or len(self.names) < 2):
            raise ValueError(
                f"safety is one of several outcomes, got {self.safety!r} of {', '.join(self.names)}"
            )

    def __len__(self) -> int:
        return len(self.names)

    @property
    def target(self) -> str:
        """The outcome that a model of one output is for: the first that is no safety."""
        return next(name for name in self.names if name != self.safety)

    @property
    def safety_column(self) -> int | None:
        """Where the safety measurement stands among the outcomes."""
        return None if self.safety is None else self.names.index(self.safety)

    def named(self, values: Tensor) -> dict[str, Tensor]:
        """Values [K] of one outcome, or [K, m] of several, by name."""
        if len(self.names) == 1:
            return {self.names[0]: values}
        return dict(zip(self.names, values.unbind(1), strict=True))
