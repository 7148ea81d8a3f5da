"""What a policy may be asked: the checks of its input, the same however it is run.

They cost a few microseconds on arrays of numpy, which torch takes over without a copy.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["Limits", "array", "outcomes_of"]


@dataclass(frozen=True)
class Limits:
    """What a policy was trained for.

    Args:
        dimension: D, inputs; the most there may be for a flexible policy.
        safe: it needs safety measurements.
        flexible: fewer inputs will do.
        history: the most points.
        budget: the most queries.
    """

    dimension: int
    safe: bool
    flexible: bool
    history: int
    budget: int

    @property
    def outcomes(self) -> int:
        """Outcomes of a point: y, or y and z."""
        return 1 + self.safe

    def points(self, x: Any, y: Any, z: Any = None) -> tuple[NDArray[np.float32], bool]:
        """Points and outcomes side by side, [B, n, D + 1] or [B, n, D + 2]; whether B was left out.

        Args:
            x: [n, D] or [B, n, D].
            y: [n] or [B, n].
            z: as y, for a safe policy.

        Raises:
            ValueError: see :meth:`lightning_al.policies.Policy.query`.
        """
        points, outcomes = array("x", x), [array("y", y)]
        if self.safe != (z is not None):
            raise ValueError(
                "this policy needs z, the safety measurements, a number a point; got none"
                if self.safe
                else "this policy knows no safety: it takes x and y, got z as well; leave z out"
            )
        if z is not None:
            outcomes.append(array("z", z))
        dim, single = points.shape[-1] if points.ndim else 0, points.ndim == 2
        if points.ndim not in (2, 3) or not (
            dim == self.dimension or (self.flexible and 1 <= dim < self.dimension)
        ):
            if points.size == 0:
                raise ValueError(self._count(0))
            D = f"1 to {self.dimension}" if self.flexible else str(self.dimension)
            raise ValueError(
                f"this policy takes points [n, {D}] or [B, n, {D}], got {list(points.shape)}; "
                "a row is a point, and the number of inputs is that of the training"
            )
        n = points.shape[-2]
        if not 1 <= n <= self.history:
            raise ValueError(self._count(n))
        if points.size == 0:
            raise ValueError("points [B, n, D] of no user at all; give those of one at least")
        packed = np.empty((*points.shape[:-1], dim + len(outcomes)), np.float32)
        packed[..., :dim] = points
        for i, values in enumerate(outcomes):
            if values.shape != points.shape[:-1]:
                raise ValueError(
                    f"{'yz'[i]} has a number a point, {list(points.shape[:-1])}, got "
                    f"{list(values.shape)}; give both of each point"
                )
            packed[..., dim + i] = values
        low, high = points.min(), points.max()  # NaN goes through
        if not (low >= 0 and high <= 1) or not np.isfinite(packed).all():
            raise ValueError(self._bad(points, outcomes))
        return packed[None] if single else packed, single

    def candidates(self, values: Any, inputs: int) -> NDArray[np.float32]:
        """Places to be scored, [A, inputs] in [0, 1].

        Raises:
            ValueError: another shape, none at all, places outside the box, or NaN.
        """
        places = array("candidates", values)
        if places.ndim != 2 or places.shape[1] != inputs or not len(places):
            raise ValueError(
                f"candidates are [A, {inputs}], A >= 1, with as many inputs as x, got "
                f"{list(places.shape)}"
            )
        low, high = places.min(), places.max()
        if not (low >= 0 and high <= 1):
            raise ValueError(
                f"candidates lie in the box [0, 1], got {low:g} to {high:g}; scale them to their "
                "bounds, and leave out what is NaN"
            )
        return places

    def left(self, budget: Any, rows: int) -> NDArray[np.int64]:
        """Budgets [rows], each from 1 to the most.

        Raises:
            ValueError: not a whole number, not one for each, spent, or too large.
        """
        given = np.asarray(budget.cpu() if isinstance(budget, Tensor) else budget).reshape(-1)
        if given.size not in (1, rows):
            raise ValueError(
                f"budget is one number or {rows}, one a user, got {given.size}; give one of both"
            )
        whole = given.dtype.kind in "iu"
        if given.dtype.kind == "f":
            whole = bool(np.isfinite(given).all() and (given == np.rint(given)).all())
        if not whole:
            raise ValueError(
                f"a budget is a whole number of queries, got {budget!r}; count them, this one "
                "included"
            )
        count = given.astype(np.int64)
        least, most = int(count.min()), int(count.max())
        if least < 1:
            raise ValueError(f"the budget is spent: {least} queries left; begin a new one")
        if most > self.budget:
            raise ValueError(
                f"the policy was trained for {self.budget} queries at most, got a budget of "
                f"{most}; give a smaller one"
            )
        return count if count.size == rows else count.repeat(rows)

    def _count(self, n: int) -> str:
        mend = (
            "measure a point first; any point of the box will do"
            if n < 1
            else "leave some out, or train a policy with a longer horizon"
        )
        return f"the policy was trained on 1 to {self.history} points, got {n}; {mend}"

    def _bad(self, points: NDArray[np.float32], outcomes: list[NDArray[np.float32]]) -> str:
        """What is wrong with the numbers."""
        for name, values in (("x", points), *zip("yz", outcomes, strict=False)):
            wrong = np.argwhere(~np.isfinite(values))
            if len(wrong):
                return (
                    f"{name} holds NaN or infinities, the first at {wrong[0].tolist()}; finite "
                    "numbers are expected: leave such points out"
                )
        return (
            f"points lie in the box [0, 1], got {points.min():g} to {points.max():g}; scale them "
            "to their bounds"
        )


def outcomes_of(safe: bool, y: Tensor, z: Tensor | None) -> list[Tensor]:
    """What is known of each point, for a network: y, or y and z.

    Raises:
        ValueError: z where none is known of, or none where it is needed.
    """
    if (z is not None) != safe:
        wants, came = ("y and z", "y") if safe else ("y alone", "y and z")
        raise ValueError(f"this policy takes {wants}, got {came}")
    return [y] if z is None else [y, z]


def array(name: str, values: Any) -> NDArray[np.float32]:
    """As float32.

    Raises:
        ValueError: it holds something else than numbers.
    """
    if isinstance(values, Tensor):
        values = values.numpy(force=True)
    try:
        return np.asarray(values, np.float32)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{name} is an array or a tensor of numbers, got {type(values).__name__}: {error}"
        ) from None
