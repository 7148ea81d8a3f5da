"""Whether outcomes lie where a policy was trained: around 0, about 1 in size.

Simulated outcomes have mean 0 (y) or the limit at 0 (z), and a mean square of 1. A policy that is
told y in volts or millions answers all the same, and its answer is worth nothing; so that is said.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

__all__ = ["Outcomes", "Seen"]

LARGE = 6.0  # deviations: a value that lies further off occurs once in 5e8 in the training
OFF = 4.0  # deviations: a mean that lies further off occurs once in 16,000, of alike values
SMALL = 0.01  # deviations: so little in each of MANY values is seen once in 100, of alike ones
SOME, MANY = 3, 5  # values by which a mean and a spread are judged

MENDS = {
    "y": "standardise it: (y - mean) / deviation, by what was measured or is known of it",
    "z": "scale it: z / deviation; 0 stays the limit, so take no mean away",
}


@dataclass(frozen=True)
class Seen:
    """What was seen of an outcome, of B users at once."""

    count: int
    total: NDArray[np.float64]  # [B]
    largest: NDArray[np.float64]  # [B], of the absolute values

    @classmethod
    def of(cls, values: NDArray[np.float32]) -> Seen:
        """From values [B, n], n >= 1."""
        return cls(
            values.shape[-1], values.sum(-1, dtype=np.float64), np.abs(values).max(-1).astype(float)
        )

    def joined(self, more: Seen) -> Seen:
        """Of these and more."""
        largest = np.maximum(self.largest, more.largest)
        return Seen(self.count + more.count, self.total + more.total, largest)

    def far(self) -> str | None:
        """How they differ from those of the training; None where they may be such."""
        mean, largest = np.abs(self.total) / self.count, float(self.largest.max())
        if largest > LARGE:
            return f"values up to {largest:.3g} from 0"
        if self.count >= SOME and float(mean.max()) > OFF:
            return f"a mean of {float(mean.max()):.3g} from 0"
        if self.count >= MANY and float(self.largest.min()) < SMALL:
            return f"no value further than {float(self.largest.min()):.3g} from 0"
        return None


@dataclass(frozen=True)
class Outcomes:
    """What was seen of y, and of z for a safe policy, and which of them were spoken of."""

    seen: tuple[Seen, ...] = ()
    said: frozenset[str] = frozenset()

    def told(self, packed: NDArray[np.float32], count: int) -> Outcomes:
        """With the last ``count`` columns of points [B, n, D + count]; warns once an outcome.

        Warns:
            UserWarning: outcomes that lie far from those of the training.
        """
        new = tuple(Seen.of(packed[..., i - count]) for i in range(count))
        if self.seen:
            new = tuple(old.joined(more) for old, more in zip(self.seen, new, strict=True))
        said = self.said
        for name, values in zip("yz", new, strict=False):
            far = None if name in said else values.far()
            if far:
                said |= {name}
                warnings.warn(
                    f"{name} lies far from what this policy was trained on, about 1 in size: "
                    f"{far}; {MENDS[name]} (of the strategy: standardise: true)",
                    stacklevel=4,
                )
        return replace(self, seen=new, said=said)
