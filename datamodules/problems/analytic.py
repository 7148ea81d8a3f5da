"""Problems given by a formula: Sin, Branin, Simionescu and Townsend.

Values are in standardised units: y = (raw - mean) / std * target + noise, z = raw / std + noise,
with the mean and the deviation over the unit cube, noise N(0, 0.1^2) on each, independent. Without
a constraint the target deviation is sqrt(1 - 0.1^2), so that y has variance 1; with one it is 1.
z is never centred: 0 stays the threshold.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from lightning_al.records import Box

from .problem import CENTRE, NOISE, Measured, Problem, accept, noisy, uniform

__all__ = [
    "ANALYTIC",
    "Analytic",
    "branin",
    "simionescu",
    "simionescu_limit",
    "sine",
    "townsend",
    "townsend_limit",
]

ESTIMATE = 5000  # random points behind the constants of the original code

Function = Callable[[Tensor], Tensor]  # [n, D] in the unit cube -> [n]


def sine(x: Tensor) -> Tensor:
    """sin(20 x): x [n, 1] -> [n]."""
    return torch.sin(20 * x[:, 0])


def branin(x: Tensor) -> Tensor:
    """Branin's function over [-5, 10] x [0, 15], scaled to the unit square: x [n, 2] -> [n]."""
    u, v = 15 * x[:, 0] - 5, 15 * x[:, 1]
    well = v - 5.1 / (4 * math.pi**2) * u.square() + 5 / math.pi * u - 6
    return well.square() + 10 * (1 - 1 / (8 * math.pi)) * torch.cos(u) + 10


def _simionescu_axes(x: Tensor) -> tuple[Tensor, Tensor]:
    return 2.5 * x[:, 0] - 1.25, 2.5 * x[:, 1] - 1.25


def simionescu(x: Tensor) -> Tensor:
    """0.1 a b over [-1.25, 1.25]^2, scaled to the unit square: x [n, 2] -> [n]."""
    a, b = _simionescu_axes(x)
    return 0.1 * a * b


def simionescu_limit(x: Tensor) -> Tensor:
    """A flower: (1 + 0.2 cos(8 arctan(a / b)))^2 - a^2 - b^2, x [n, 2] -> [n]; safe from 0."""
    a, b = _simionescu_axes(x)
    petals = 1 + 0.2 * torch.cos(8 * torch.atan2(a, b))  # 8 pi is a period: atan2 is arctan here
    return petals.square() - a.square() - b.square()


def _townsend_axes(x: Tensor) -> tuple[Tensor, Tensor]:
    return 4.5 * x[:, 0] - 2.25, 4.25 * x[:, 1] - 2.5


def townsend(x: Tensor) -> Tensor:
    """-cos^2((a - 0.1) b) - a sin(3 a + b) over [-2.25, 2.25] x [-2.5, 1.75]: x [n, 2] -> [n]."""
    a, b = _townsend_axes(x)
    return -torch.cos((a - 0.1) * b).square() - a * torch.sin(3 * a + b)


def townsend_limit(x: Tensor) -> Tensor:
    """Townsend's heart-shaped region: x [n, 2] -> [n]; safe from 0."""
    a, b = _townsend_axes(x)
    t = torch.atan2(a, b)
    first = 2 * torch.cos(t) - torch.cos(2 * t) / 2 - torch.cos(3 * t) / 4 - torch.cos(4 * t) / 8
    return first.square() + (2 * torch.sin(t)).square() - a.square() - b.square()


@dataclass(frozen=True)
class Analytic(Problem):
    """A formula that can be measured anywhere in the unit cube.

    Args:
        function: the raw objective.
        limit: the raw constraint, safe from 0; None for none.
        mean: of the raw objective over the unit cube.
        std: its deviation.
        limit_std: deviation of the raw constraint.
    """

    pool_size: int | None = 5000
    function: Function = sine
    limit: Function | None = None
    mean: float = 0.0
    std: float = 1.0
    limit_std: float = 1.0

    @property
    def box(self) -> Box:
        """The unit cube."""
        return Box(torch.zeros(self.dimension), torch.ones(self.dimension))

    @property
    def target_std(self) -> float:
        """Deviation of the noise-free y over the unit cube."""
        return 1.0 if self.safe else math.sqrt(1 - NOISE**2)

    def truth(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Noise-free y and z.

        Args:
            x: places [n, D].

        Returns:
            f [n] and g [n] float64 in standardised units; g is None without a constraint.

        Raises:
            ValueError: places of another shape.
        """
        if x.ndim != 2 or x.shape[1] != self.dimension:
            raise ValueError(
                f"{self.name} takes places [n, {self.dimension}], got {list(x.shape)}; give one "
                "row a place"
            )
        x = x.double()
        f = (self.function(x) - self.mean) / self.std * self.target_std
        return f, None if self.limit is None else self.limit(x) / self.limit_std

    def measure(self, x: Tensor, generator: torch.Generator) -> Measured:
        """Noisy y and z at places [n, D]; the noise of y is drawn before that of z."""
        return noisy(x, *self.truth(x), generator)

    def initial(self, n: int, generator: torch.Generator) -> Measured:
        """Uniform points [n]; in a safe problem from the centre box, z >= 0 with its noise."""
        return self._points(n, generator, *(CENTRE if self.safe else (0.0, 1.0)))

    def test(self, n: int, generator: torch.Generator) -> Measured:
        """Uniform points [n] with noise; in a safe problem those with z >= 0."""
        return self._points(n, generator, 0.0, 1.0)

    def pool(self, n: int | None, generator: torch.Generator) -> Measured:
        """Uniform points [n], safe or not; None for ``pool_size``."""
        count = self.pool_size if n is None else n
        return self.measure(uniform(count or 0, self.dimension, generator), generator)

    def published(self, generator: torch.Generator) -> Analytic:
        """Constants estimated from 5000 random points, as the original code does."""
        x = uniform(ESTIMATE, self.dimension, generator)
        f = self.function(x)
        limit_std = None if self.limit is None else float(self.limit(x).std(correction=0))
        return replace(
            self,
            mean=float(f.mean()),
            std=float(f.std(correction=0)),
            limit_std=self.limit_std if limit_std is None else limit_std,
        )

    def _points(self, n: int, generator: torch.Generator, low: float, high: float) -> Measured:
        def draw(count: int) -> Measured:
            return self.measure(uniform(count, self.dimension, generator, low, high), generator)

        return accept(draw, n, self.name) if self.safe else draw(n)


# Means and deviations over the unit cube; those without a closed form by Gauss-Legendre
# quadrature of 40 points on each of 10 to 40 parts a side.
_SIN_MEAN = (1 - math.cos(20)) / 20

ANALYTIC = (
    Analytic(
        "sin",
        dimension=1,
        safe=False,
        n_initial=1,
        horizon=20,
        baseline_horizon=30,
        n_test=50,
        function=sine,
        mean=_SIN_MEAN,
        std=math.sqrt(0.5 - math.sin(40) / 80 - _SIN_MEAN**2),
    ),
    Analytic(
        "branin",
        dimension=2,
        safe=False,
        n_initial=1,
        horizon=30,
        baseline_horizon=40,
        n_test=200,
        function=branin,
        mean=54.3071982719085,
        std=51.251217667641,
    ),
    Analytic(
        "simionescu",
        dimension=2,
        safe=True,
        n_initial=5,
        horizon=30,
        baseline_horizon=40,
        n_test=200,
        function=simionescu,
        limit=simionescu_limit,
        mean=0.0,
        std=0.1 * 1.25**2 / 3,
        limit_std=0.672976,
    ),
    Analytic(
        "townsend",
        dimension=2,
        safe=True,
        n_initial=5,
        horizon=30,
        baseline_horizon=40,
        n_test=200,
        function=townsend,
        limit=townsend_limit,
        mean=-0.4789330234181,
        std=1.026722273287,
        limit_std=2.256413,
    ),
)
