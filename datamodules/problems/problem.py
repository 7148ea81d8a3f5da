"""What a problem of sequential design is: its facts, and the points it measures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from os import PathLike
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..sources import Resource, data_root

__all__ = ["CENTRE", "NOISE", "Drawn", "Measured", "Problem", "accept", "noisy", "uniform"]

CENTRE = (0.4, 0.6)  # sides of the box that the initial points of safe problems lie in
NOISE = 0.1  # deviation of the measurement noise on y and z
ROUNDS = 1000  # of redraws after which a rejection gives up


@dataclass(frozen=True)
class Measured:
    """Points and what was measured there; safe is z >= 0."""

    x: Tensor  # [n, D] float64, in [0, 1]
    y: Tensor  # [n] float64
    z: Tensor | None = None  # [n] float64; None for problems without a constraint

    def __len__(self) -> int:
        return len(self.x)

    @property
    def safe(self) -> Tensor:
        """Which points are safe, bool [n]; all of them where there is no constraint."""
        return torch.ones(len(self), dtype=torch.bool) if self.z is None else self.z >= 0

    @property
    def targets(self) -> Tensor:
        """Targets: y [n], or y and z side by side [n, 2]."""
        return self.y if self.z is None else torch.stack((self.y, self.z), dim=1)

    def rows(self, rows: Tensor) -> Measured:
        """Some points (positions, or a mask), in that order."""
        return Measured(self.x[rows], self.y[rows], None if self.z is None else self.z[rows])

    @classmethod
    def cat(cls, parts: Sequence[Measured]) -> Measured:
        """Several parts, one after the other.

        Raises:
            ValueError: no part, or parts with and without z.
        """
        if not parts or len({part.z is None for part in parts}) > 1:
            raise ValueError(
                f"Measured.cat needs parts that all have z or all have none, got {len(parts)} parts"
            )
        z = [part.z for part in parts if part.z is not None]
        return cls(
            torch.cat([part.x for part in parts]),
            torch.cat([part.y for part in parts]),
            torch.cat(z) if z else None,
        )


class Drawn(NamedTuple):
    """The three parts of one repetition of a problem; no measurement is in two of them."""

    initial: Measured
    pool: Measured
    test: Measured


@dataclass(frozen=True)
class Problem:
    """A problem with its published run lengths.

    Args:
        name: as in :func:`lightning_al.datamodules.problems.names`.
        dimension: D; inputs lie in the unit cube.
        safe: whether a safety measurement z comes with every y.
        n_initial: points measured before the first query.
        horizon: queries of a policy.
        baseline_horizon: queries of the other methods.
        n_test: test points.
        pool_size: points of a pool; None for all that there are.
        data_dir: data folder; default ``$LIGHTNING_AL_DATA``, else the user's cache.
    """

    name: str
    dimension: int
    safe: bool
    n_initial: int
    horizon: int
    baseline_horizon: int
    n_test: int
    pool_size: int | None = None
    data_dir: str | PathLike[str] | None = None

    @property
    def resources(self) -> tuple[Resource[Any], ...]:
        """The files that the problem reads."""
        return ()

    def prepare(self) -> None:
        """Download what is missing.

        Raises:
            FileNotFoundError: a file could not be had; the message says where to put it.
        """
        for resource in self.resources:
            resource.fetch(data_root(self.data_dir))

    def initial(self, n: int, generator: torch.Generator) -> Measured:
        """Initial points [n]: uniform, or safe ones in the centre box of a safe problem."""
        raise NotImplementedError

    def test(self, n: int, generator: torch.Generator) -> Measured:
        """Test points [n] with noise; safe ones alone in a safe problem."""
        raise NotImplementedError

    def pool(self, n: int | None, generator: torch.Generator) -> Measured:
        """Candidates [n], safe or not; None for ``pool_size``."""
        raise NotImplementedError

    def draw(
        self, n_initial: int, n_pool: int | None, n_test: int, generator: torch.Generator
    ) -> Drawn:
        """Initial points, candidates and test points of one repetition.

        Raises:
            ValueError: more points than there are.
        """
        initial, test = self.initial(n_initial, generator), self.test(n_test, generator)
        return Drawn(initial, self.pool(n_pool, generator), test)  # the pool last: any size

    def published(self, generator: torch.Generator) -> Problem:
        """The problem with constants estimated as in the original code, where it does so."""
        return self


def noisy(x: Tensor, f: Tensor, g: Tensor | None, generator: torch.Generator) -> Measured:
    """Measurements at places [n, D] of what is f [n] and g [n]; y's noise is drawn before z's."""

    def add(value: Tensor) -> Tensor:
        return value + NOISE * torch.randn(len(x), generator=generator, dtype=torch.float64)

    return Measured(x.double(), add(f), None if g is None else add(g))


def uniform(
    n: int, dimension: int, generator: torch.Generator, low: float = 0.0, high: float = 1.0
) -> Tensor:
    """Points [n, D] float64, uniform in the cube [low, high]^D."""
    unit = torch.rand(n, dimension, generator=generator, dtype=torch.float64)
    return low + (high - low) * unit


def accept(draw: Callable[[int], Measured], n: int, what: str) -> Measured:
    """The first n safe points of repeated draws (rejection sampling).

    Args:
        draw: number -> so many fresh points.
        n: points that are wanted.
        what: of which problem, for the message.

    Raises:
        ValueError: hardly any point is safe.
    """
    parts, found, asked = [draw(0)], 0, 0
    for _ in range(ROUNDS):
        if found >= n:
            break
        more = draw(max(16, 2 * (n - found)))
        asked += len(more)
        parts.append(more.rows(more.safe))
        found += len(parts[-1])
    if found < n:
        raise ValueError(
            f"{what}: {n} safe points (z >= 0) were asked for, {asked} draws gave {found}; "
            "the region has next to no safe part"
        )
    return Measured.cat(parts).rows(torch.arange(n))
