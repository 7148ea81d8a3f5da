"""Problems whose points are the rows of a data set: airline, airfoil, engine and booster."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from ..readers.table_files import Array
from ..sources import Resource, data_root
from .problem import CENTRE, Drawn, Measured, Problem
from .problem_files import AIRFOIL_FILE, AIRLINE_FILE, ENGINE_FILE, LGBB_FILE

__all__ = ["TABLES", "TableProblem"]

LGBB_NOISE = 0.01


def _spread(x: Tensor) -> Tensor:
    """Columns [n, D] taken to [0, 1]."""
    low, high = x.amin(0), x.amax(0)
    return (x - low) / torch.where(high > low, high - low, 1.0)


def _standard(y: Tensor) -> Tensor:
    """Values [n] with mean 0 and population deviation 1."""
    return (y - y.mean()) / y.std(correction=0)


def _airline(table: Tensor) -> Measured:
    """Passengers by time."""
    return Measured(_spread(table[:, :1]), _standard(table[:, 1]))


def _airfoil(table: Tensor) -> Measured:
    """Sound pressure by frequency, angle, chord, velocity and thickness."""
    return Measured(_spread(table[:, :5]), _standard(table[:, 5]))


def _engine(table: Tensor) -> Measured:
    """Roughness by speed, load and air-fuel ratio; safe from 0.2 of the exhaust temperature."""
    return Measured(_spread(table[:, [0, 1, 3]]), table[:, 8], table[:, 5] - 0.2)


def _lgbb(table: Tensor, safe: bool) -> Measured:
    """Lift by speed (mach) and angle of attack at slip 0; safe is a pitch above its mean."""
    rows = table[table[:, 2] == 0]
    if not len(rows):
        raise ValueError("the booster's table holds no run with beta = 0; is the file whole?")
    x = torch.stack((rows[:, 0] / 6, (rows[:, 1] + 5) / 35), dim=1)
    return Measured(x, _standard(rows[:, 3]), _standard(rows[:, 4]) if safe else None)


def _lgbb_free(table: Tensor) -> Measured:
    return _lgbb(table, safe=False)


def _lgbb_safe(table: Tensor) -> Measured:
    return _lgbb(table, safe=True)


@dataclass(frozen=True)
class TableProblem(Problem):
    """Rows of a table; nothing else can be measured.

    :meth:`draw` gives parts without a common row. Drawn one by one, parts may share rows.

    Args:
        file: of the table.
        measured: the table [rows, columns] as points.
        noise: deviation of noise on y, added once to each row.
    """

    file: Resource[Array] = AIRLINE_FILE
    measured: Callable[[Tensor], Measured] = _airline
    noise: float = 0.0

    @property
    def resources(self) -> tuple[Resource[Array], ...]:
        """The file of the table."""
        return (self.file,)

    @cached_property
    def points(self) -> Measured:
        """All rows, without added noise.

        Raises:
            FileNotFoundError: the file is missing; says where it is from and where to put it.
            ValueError: the file is not as expected.
        """
        return self.measured(torch.tensor(self.file.read(data_root(self.data_dir))))

    def initial(self, n: int, generator: torch.Generator) -> Measured:
        """Rows [n]; in a safe problem those of the centre box with z >= 0."""
        points = self._noisy(generator)
        return points.rows(self._pick(n, self._start(points), generator, "initial"))

    def test(self, n: int, generator: torch.Generator) -> Measured:
        """Rows [n]; in a safe problem those with z >= 0."""
        points = self._noisy(generator)
        return points.rows(self._pick(n, points.safe, generator, "test"))

    def pool(self, n: int | None, generator: torch.Generator) -> Measured:
        """Rows [n], safe or not, in the order of the table; None for all."""
        points = self._noisy(generator)
        free = torch.ones(len(points), dtype=torch.bool)
        return points if n is None else points.rows(self._pick(n, free, generator, "pool"))

    def draw(
        self, n_initial: int, n_pool: int | None, n_test: int, generator: torch.Generator
    ) -> Drawn:
        """Parts of the table without a common row: initial, then test, the rest is the pool.

        Raises:
            ValueError: more rows than there are.
        """
        points = self._noisy(generator)
        free = torch.ones(len(points), dtype=torch.bool)
        parts = []
        for n, among, what in (
            (n_initial, self._start(points), "initial"),
            (n_test, points.safe, "test"),
            (n_pool, free, "pool"),
        ):
            allowed = among & free
            count = int(allowed.sum()) if n is None else n
            rows = self._pick(count, allowed, generator, what)
            free[rows] = False
            parts.append(points.rows(rows))
        initial, test, pool = parts
        return Drawn(initial, pool, test)

    def _noisy(self, generator: torch.Generator) -> Measured:
        points = self.points
        if not self.noise:
            return points
        more = torch.randn(len(points), generator=generator, dtype=torch.float64)
        return Measured(points.x, points.y + self.noise * more, points.z)

    def _start(self, points: Measured) -> Tensor:
        """Which rows may be initial ones, bool [n]."""
        if not self.safe:
            return torch.ones(len(points), dtype=torch.bool)
        low, high = CENTRE
        return ((points.x >= low) & (points.x <= high)).all(1) & points.safe

    def _pick(self, n: int, allowed: Tensor, generator: torch.Generator, what: str) -> Tensor:
        """Ascending positions [n] of random rows among the allowed ones (bool)."""
        rows = allowed.nonzero().flatten()
        if n > len(rows):
            raise ValueError(
                f"{self.name}: {n} {what} points were asked for, the table has {len(rows)} rows "
                f"for them{' (safe ones)' if self.safe and what != 'pool' else ''}; lower the "
                "number"
            )
        return rows[torch.randperm(len(rows), generator=generator)[:n]].sort().values


TABLES = (
    TableProblem(
        "airline",
        dimension=1,
        safe=False,
        n_initial=1,
        horizon=20,
        baseline_horizon=30,
        n_test=50,
        file=AIRLINE_FILE,
        measured=_airline,
    ),
    TableProblem(
        "lgbb",
        dimension=2,
        safe=False,
        n_initial=1,
        horizon=30,
        baseline_horizon=40,
        n_test=200,
        file=LGBB_FILE,
        measured=_lgbb_free,
        noise=LGBB_NOISE,
    ),
    TableProblem(
        "lgbb-safe",
        dimension=2,
        safe=True,
        n_initial=5,
        horizon=30,
        baseline_horizon=40,
        n_test=200,
        file=LGBB_FILE,
        measured=_lgbb_safe,
    ),
    TableProblem(
        "airfoil",
        dimension=5,
        safe=False,
        n_initial=20,
        horizon=40,
        baseline_horizon=60,
        n_test=500,
        file=AIRFOIL_FILE,
        measured=_airfoil,
    ),
    TableProblem(
        "engine",
        dimension=3,
        safe=True,
        n_initial=5,
        horizon=60,
        baseline_horizon=100,
        n_test=200,
        file=ENGINE_FILE,
        measured=_engine,
    ),
)
