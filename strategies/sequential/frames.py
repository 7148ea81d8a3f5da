"""Inputs between their bounds as points of the unit cube, and back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lightning_al.records import Box, Pool

from .nearest import Array

__all__ = ["Frame", "unit_of"]

SLACK = 1e-6  # of a side: what rounding may put outside a box


@dataclass(frozen=True)
class Frame:
    """Inputs in [low, high] as points in [0, 1]."""

    low: Array  # [D] or [1]
    high: Array
    given: bool  # by arguments, not by a box

    @classmethod
    def of(cls, candidates: Pool, low: Any, high: Any) -> Frame:
        """That of the candidates' box, or of bounds [D] or one number for a pool.

        Raises:
            ValueError: bounds of no interval.
        """
        box = candidates.domain
        if isinstance(box, Box):
            return cls(box.low.double().numpy(), box.high.double().numpy(), False)
        lower, upper = (np.atleast_1d(np.asarray(v, dtype=np.float64)) for v in (low, high))
        if lower.ndim > 1 or upper.ndim > 1 or not bool((lower < upper).all()):
            raise ValueError(f"low < high, one number each or one an input; got {low} and {high}")
        return cls(lower, upper, True)

    @property
    def key(self) -> tuple[bytes, bytes]:
        """Tells frames apart."""
        return self.low.tobytes(), self.high.tobytes()

    def scaled(self, inputs: Tensor) -> Array:
        """Points [n, D] of inputs [n, ...].

        Raises:
            ValueError: inputs outside, or bounds for another number of inputs.
        """
        flat = inputs.detach().reshape(len(inputs), -1).double().cpu().numpy()
        for bound in (self.low, self.high):
            if len(bound) not in (1, flat.shape[1]):
                raise ValueError(
                    f"low and high are one number or {flat.shape[1]}, one an input, got "
                    f"{len(bound)}"
                )
        points: Array = (flat - self.low) / (self.high - self.low)
        if points.size and not (points.min() >= -SLACK and points.max() <= 1 + SLACK):
            mend = "give the strategy's arguments low and high, the bounds of the inputs"
            raise ValueError(
                f"inputs lie in [{flat.min():g}, {flat.max():g}], outside [low, high] = "
                f"[{self.low.min():g}, {self.high.max():g}], or are NaN; "
                + (mend if self.given else "measure places of the box")
            )
        return points.clip(0.0, 1.0)

    def back(self, point: Array) -> Tensor:
        """The place [D] of a point [D], float64; never outside the box."""
        place = self.low + point * (self.high - self.low)
        return torch.from_numpy(np.clip(place, self.low, self.high))


def unit_of(values: Tensor) -> Tensor:
    """The standard deviation of outcomes [n]; 1 where they do not differ."""
    deviation = values.std(correction=0)
    return torch.where(deviation > 0, deviation, 1.0)
