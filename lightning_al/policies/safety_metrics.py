"""How safe the queries of a run were, as torchmetrics."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

__all__ = ["SafeArea", "SafeShare", "UnsafeDistance"]


class _Mean(Metric):
    """A mean over everything seen; NaN of nothing."""

    full_state_update = False
    total: Tensor
    count: Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_state("total", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")

    def add(self, values: Tensor) -> None:
        """Take numbers in."""
        self.total += values.double().sum()
        self.count += values.numel()

    def compute(self) -> Tensor:
        """The mean, float64 []."""
        return self.total / self.count


def _known(z: Tensor) -> Tensor:
    if bool(z.isnan().any()):
        raise ValueError("safety measurements hold NaN; leave out what was not measured")
    return z


class SafeShare(_Mean):
    """Share of queries that were safe: z >= 0, as measured."""

    higher_is_better = True

    def update(self, z: Tensor) -> None:
        """Safety measurements [n] of queries; of several constraints [n, m] all must hold."""
        self.add((_known(z).reshape(len(z), -1) >= 0).all(1))


class UnsafeDistance(_Mean):
    """Mean of max(0, -z): how far queries were below the threshold, in units of z."""

    higher_is_better = False

    def update(self, z: Tensor) -> None:
        """Safety measurements of queries, [n] or [n, m]."""
        self.add((-_known(z)).clamp_min(0))


class SafeArea(Metric):
    """What of a grid a model declares safe rightly and wrongly.

    ``true_positive`` and ``false_positive`` are shares of all points of the grid, as published; the
    true safe share stands beside them as ``safe``.
    """

    full_state_update = False
    right: Tensor
    wrong: Tensor
    safe: Tensor
    count: Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        for name in ("right", "wrong", "safe", "count"):
            self.add_state(name, torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, declared: Tensor, z: Tensor) -> None:
        """Points [n] declared safe (bool), and their true z [n] without noise.

        Raises:
            ValueError: not one of each a point.
        """
        if declared.shape != z.shape or declared.dtype != torch.bool:
            raise ValueError(
                f"declared is bool [n] and z [n], got {declared.dtype} {list(declared.shape)} and "
                f"{list(z.shape)}"
            )
        truth = z >= 0
        self.right += (declared & truth).sum()
        self.wrong += (declared & ~truth).sum()
        self.safe += truth.sum()
        self.count += truth.numel()

    def compute(self) -> dict[str, Tensor]:
        """The shares, float64 []."""
        return {
            "true_positive": self.right / self.count,
            "false_positive": self.wrong / self.count,
            "safe": self.safe / self.count,
        }
