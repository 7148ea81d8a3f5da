"""The high-pressure fluid system: a pressure from seven lagged inputs, safe up to 18.

The simulator is a sum of 100 harmonics fitted to measurements (Zimmer, Meister and Nguyen-Tuong,
2018). Its coefficients are a file of the user's data folder.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..readers.table_files import Array, Parser, Text
from ..sources import Resource, Source, data_root
from .problem import CENTRE, Measured, Problem, accept, noisy

__all__ = ["COEFFICIENTS", "FLUID_SYSTEM", "FluidSystem", "pressure", "trajectories"]

LIMIT, UNIT = 18.0, 15.0  # the highest safe pressure, and one unit of y and z
LEVEL, GAIN = 14.886169231027, 5.1489801806121
_SHIFT = (
    *(2253.3056464309, 2253.3096911602, 2253.3137973002, 2253.3179648508),
    *(38.215389287748, 38.215412400486, 38.215460803251),
    *(0.70942737910475, 0.70941240606961, 0.70940475206843),
)
_SCALE = (
    *(803.10036183397, 803.0960165043, 803.09162233565, 803.08718748759),
    *(21.683961765866, 21.68392095213, 21.683841783813),
    *(0.53560619117677, 0.53561824817519, 0.5356235081677),
)
BLOCK = 8192  # points whose harmonics are held at once: 6.5 MB
AT_ZERO = 18.4117006281  # the pressure at the corner 0: tells the right coefficients
WANTED = (
    "No address offers this file: it holds the 100 harmonics of the simulator in "
    "https://github.com/cenyou/active-learning-framework (AGPL-3.0) as a table with the columns "
    "w0,…,w9,a_cos,b_sin and a header line. Write it from there, or ask someone who has it"
)


def pressure(x: Tensor, terms: Tensor) -> Tensor:
    """Pressure at some places, computed in blocks.

    Args:
        x: places [n, 7] = (n_t, n_{t-1}, n_{t-2}, n_{t-3}, v_t, v_{t-1}, v_{t-3}) in [0, 1].
        terms: [100, 12] frequencies of ten inputs, then the weights of cosine and sine.

    Returns:
        [n] float64, in the simulator's unit.
    """
    shift = torch.tensor(_SHIFT, dtype=torch.float64)
    scale = torch.tensor(_SCALE, dtype=torch.float64)
    span = torch.tensor([3000.0] * 4 + [60.0] * 3, dtype=torch.float64)
    start = torch.tensor([1000.0] * 4 + [0.0] * 3 + [0.7] * 3, dtype=torch.float64)
    waves, cosine, sine = terms[:, :10].double(), terms[:, 10].double(), terms[:, 11].double()
    # A cos p + B sin p = R cos(p - t): half the cosines; scaling and shifts join the frequencies
    slope = (waves[:, :7] / scale[:7] * span).T
    phase = waves @ ((start - shift) / scale) - torch.atan2(sine, cosine)
    weight = GAIN * torch.hypot(cosine, sine)
    out = torch.empty(len(x), dtype=torch.float64)
    for begin in range(0, len(x), BLOCK):
        block = x[begin : begin + BLOCK].double()
        out[begin : begin + BLOCK] = torch.addmm(phase, block, slope).cos_() @ weight
    return out.add_(LEVEL)


def trajectories(n: int, generator: torch.Generator, low: float = 0.0, high: float = 1.0) -> Tensor:
    """Places that a plant can pass through: each lagged input starts from the one before it.

    The oldest input is uniform in [low, high], each later one uniform within its step of the one
    before, as far as that lies in [low, high].

    Args:
        n: number of places.
        generator: source of all randomness.
        low: lower end of all inputs.
        high: upper end.

    Returns:
        [n, 7] float64, ordered as in :func:`pressure`.
    """
    draws = torch.rand(7, n, generator=generator, dtype=torch.float64)

    def after(previous: Tensor, step: float, draw: Tensor) -> Tensor:
        least = (previous - step).clamp_min_(low)
        most = (previous + step).clamp_max_(high)
        return most.sub_(least).mul_(draw).add_(least)

    x = torch.empty(n, 7, dtype=torch.float64)
    x[:, 3] = low + (high - low) * draws[0]
    for column in (2, 1, 0):
        x[:, column] = after(x[:, column + 1], 0.3, draws[3 - column])
    x[:, 6] = low + (high - low) * draws[4]
    x[:, 5] = after(x[:, 6], 0.6, draws[5])
    x[:, 4] = after(x[:, 5], 0.3, draws[6])
    return x


_COLUMNS = (*(f"w{i}" for i in range(10)), "a_cos", "b_sin")
_READ = Parser(Text(header=True), _COLUMNS, 100)


def _read(path: Path) -> Array:
    """The coefficients [100, 12], which must give the known pressure at the corner 0."""
    terms = _READ(path)
    found = float(pressure(torch.zeros(1, 7, dtype=torch.float64), torch.from_numpy(terms)))
    if not np.isclose(found, AT_ZERO, rtol=0, atol=1e-6):
        raise ValueError(
            f"{path} holds other coefficients: the pressure at 0 must be {AT_ZERO}, these give "
            f"{found:.10f}; fetch the file again"
        )
    return terms


COEFFICIENTS = Resource("Fluid system", (Source("fluid_system", "hpfs_terms.csv", _read),))


@dataclass(frozen=True)
class FluidSystem(Problem):
    """y = (pressure - 18) / 15 and z = -(pressure - 18) / 15, each with its own N(0, 0.1^2) noise.

    Points are :func:`trajectories`; the initial ones lie in the centre box, and they and the test
    points are safe. The published pool holds a million points.
    """

    pool_size: int | None = 1_000_000

    @property
    def resources(self) -> tuple[Resource[Array], ...]:
        """The coefficients."""
        return (COEFFICIENTS,)

    def prepare(self) -> None:
        """Look for the coefficients, which no server offers.

        Raises:
            FileNotFoundError: they are not there; says where they come from and where to put them.
        """
        self.terms  # noqa: B018

    @cached_property
    def terms(self) -> Tensor:
        """The coefficients [100, 12], float64."""
        try:
            return torch.from_numpy(COEFFICIENTS.read(data_root(self.data_dir)))
        except FileNotFoundError as error:
            raise FileNotFoundError(f"{error}\n{WANTED}") from None

    def truth(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Noise-free y and z, f [n] and g [n] = -f, at places [n, 7].

        Raises:
            ValueError: places of another shape.
        """
        if x.ndim != 2 or x.shape[1] != 7:
            raise ValueError(
                f"{self.name} takes places [n, 7], got {list(x.shape)}; give one row a place"
            )
        f = (pressure(x, self.terms) - LIMIT) / UNIT
        return f, -f

    def measure(self, x: Tensor, generator: torch.Generator) -> Measured:
        """Noisy y and z at places [n, 7]; the noise of y is drawn before that of z."""
        return noisy(x, *self.truth(x), generator)

    def initial(self, n: int, generator: torch.Generator) -> Measured:
        """Trajectories [n] inside the centre box with z >= 0."""
        return accept(
            lambda count: self.measure(trajectories(count, generator, *CENTRE), generator),
            n,
            self.name,
        )

    def test(self, n: int, generator: torch.Generator) -> Measured:
        """Trajectories [n] with z >= 0."""
        return accept(lambda count: self.pool(count, generator), n, self.name)

    def pool(self, n: int | None, generator: torch.Generator) -> Measured:
        """Trajectories [n], safe or not; None for a million."""
        count = self.pool_size if n is None else n
        return self.measure(trajectories(count or 0, generator), generator)


FLUID_SYSTEM = FluidSystem(
    "fluid-system",
    dimension=7,
    safe=True,
    n_initial=10,
    horizon=100,
    baseline_horizon=100,
    n_test=10_000,
)
