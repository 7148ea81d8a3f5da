"""What is known of a positive number before the data, and where a search for it starts."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from .evidence import Array

__all__ = ["AnyPrior", "GammaPrior", "Prior", "bounds_of", "log_density", "starts_of"]


@dataclass(frozen=True)
class Prior:
    """Log-normal, in bounds.

    The density maximised is that of the logarithm, ``N(log median, sigma²)``.

    Args:
        median: of the distribution; the search starts there.
        sigma: standard deviation of the logarithm; None for a flat one.
        low: least value.
        high: largest value; the same as ``low`` fixes it.
    """

    median: float
    sigma: float | None = None
    low: float = 1e-5
    high: float = 1e5

    def __post_init__(self) -> None:
        if not 0 < self.low <= self.median <= self.high < math.inf:
            raise ValueError(
                f"a prior needs 0 < low <= median <= high, got {self.low}, {self.median}, "
                f"{self.high}"
            )
        if self.sigma is not None and not self.sigma > 0:
            raise ValueError(f"sigma must be above 0 (None: flat), got {self.sigma}")

    @property
    def start(self) -> float:
        """Where the search starts."""
        return self.median


@dataclass(frozen=True)
class GammaPrior:
    """Gamma, in bounds: density proportional to ``v^(shape - 1) exp(-rate v)``.

    The density maximised is that of the value itself, without the Jacobian of its logarithm, so
    that the mode is the mode of the distribution: what maximum a posteriori means in GPflow 2.

    Args:
        shape: above 0.
        rate: above 0, in units of 1 / value.
        start: where the search starts.
        low: least value.
        high: largest value.
    """

    shape: float
    rate: float
    start: float
    low: float = 1e-5
    high: float = 1e5

    def __post_init__(self) -> None:
        if not (self.shape > 0 and self.rate > 0):
            raise ValueError(f"a gamma needs shape, rate > 0, got {self.shape}, {self.rate}")
        if not 0 < self.low <= self.start <= self.high < math.inf:
            raise ValueError(
                f"a prior needs 0 < low <= start <= high, got {self.low}, {self.start}, {self.high}"
            )


AnyPrior = Prior | GammaPrior


def starts_of(priors: Sequence[AnyPrior]) -> Array:
    """Logarithms [p] of where the search starts."""
    return np.log([prior.start for prior in priors])


def bounds_of(priors: Sequence[AnyPrior]) -> tuple[Array, Array]:
    """Logarithms [p] of the least and the largest values."""
    return np.log([prior.low for prior in priors]), np.log([prior.high for prior in priors])


def log_density(
    priors: Sequence[AnyPrior], *, of_logarithms: bool = False
) -> Callable[[Array], tuple[float, Array]] | None:
    """Log density without its constant, and gradient [p], at logarithms [p]; None where all flat.

    Args:
        priors: p independent ones.
        of_logarithms: the density of the logarithms, whoever the prior is of: what is integrated
            over logarithms. Otherwise what each prior says is maximised.
    """
    centre, weight, linear, rate = np.zeros((4, len(priors)))
    for i, prior in enumerate(priors):
        if isinstance(prior, GammaPrior):
            linear[i], rate[i] = prior.shape - (0.0 if of_logarithms else 1.0), prior.rate
        elif prior.sigma is not None:
            centre[i], weight[i] = math.log(prior.median), prior.sigma**-2
    if not (weight.any() or linear.any() or rate.any()):
        return None
    gammas = bool(rate.any())

    def density(theta: Array) -> tuple[float, Array]:
        off = theta - centre
        pull = weight * off
        value, gradient = -0.5 * float(off @ pull), -pull
        if gammas:
            fall = rate * np.exp(theta)
            value += float(linear @ theta - fall.sum())
            gradient = gradient + linear - fall
        return value, gradient

    return density
