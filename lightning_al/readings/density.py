"""Outputs that are whole predictive densities of numbers."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from lightning_al.densities import (
    GaussianDensity,
    PredictiveDensity,
    adaptive_grid,
    midpoints,
    sobol,
    window_grid,
)
from lightning_al.densities.grids import Grid
from lightning_al.scores.numerics import full

from .reading import READINGS, check_fields, expected

__all__ = ["Density", "Made"]

Made = Callable[[Tensor], PredictiveDensity]
GRID = ("log_density", "nodes", "weights")
OF_ONE = (*GRID, "quantiles")  # fields of one output alone
AT_ONCE = 2**19  # numbers that a field of some items may have; larger ones are made in parts


@READINGS.register("density")
@dataclass(frozen=True)
class Density:
    """A density of D numbers an item: outputs [n, R], with members [n, S, R].

    Fields, all in units of the target:

    - ``log_density`` [n, S, G], ``nodes`` [n, G] and ``weights`` [n, G] (D is 1): the members'
      log-densities where they are looked at, and a quadrature: the integral of f over the target is
      the sum of ``weights`` f(``nodes``). See :func:`~lightning_al.densities.adaptive_grid`.
    - ``quantiles`` [n, S, Q] (D is 1): at the levels (q + ½) / Q, increasing, without noise.
    - ``density_samples`` [n, S, M, D]: pushed from M points of a fixed scrambled Sobol sequence,
      the same for all members.
    - ``cross_log_density`` [n, S, S, M]: [:, i, j, m] is log p_i of sample m of member j.
    - ``mean`` and ``variance`` [n, S, D]: moments of the members' densities.

    Args:
        outputs: D; None takes it from the output.
        given: "gaussian", [..., 2 D] of means, then log-variances; or a function of outputs
            [n, S, R] that gives a :class:`~lightning_al.densities.PredictiveDensity` of the batch
            shape [n, S] in units of the target.
        members: the output has the posterior samples on its second axis.
        nodes: G.
        quantiles: Q.
        samples: M.
        window: ends of evenly spaced nodes, in the units that the density is made in (those of a
            task's standardised targets); None for nodes that follow the members.
        noise: outputs [n, R], of which the first D are means -> the variance [n, D] around them,
            for a Laplace approximation of the last layer; None where the first are no means.

    Raises:
        ValueError: sizes below 2, a window without extent, or an unknown ``given``.
    """

    outputs: int | None = None
    given: str | Made = "gaussian"
    members: bool = False
    nodes: int = 200
    quantiles: int = 64
    samples: int = 64
    window: tuple[float, float] | None = None
    noise: Callable[[Tensor], Tensor] | None = None

    kind: ClassVar[str] = "regression"
    gives: ClassVar[frozenset[str]] = frozenset(
        {*OF_ONE, "density_samples", "cross_log_density", "mean", "variance"}
    )

    def __post_init__(self) -> None:
        if not callable(self.given) and self.given != "gaussian":
            raise ValueError(
                "given is 'gaussian' or a function from outputs to a PredictiveDensity, got "
                f"{self.given!r}"
            )
        for name in ("nodes", "quantiles", "samples"):
            if getattr(self, name) < 2:
                raise ValueError(f"{name} must be 2 or more, got {getattr(self, name)}")
        if self.window is not None and not self.window[0] < self.window[1]:
            raise ValueError(f"a window is (low, high) with low < high, got {self.window}")

    def density(self, raw: Tensor) -> PredictiveDensity:
        """The density [n, S] of raw outputs [n, S, R].

        Raises:
            ValueError: outputs that are no such numbers.
        """
        if raw.ndim != 3:
            raise expected(
                "numbers of a density [n, R]", raw, "members are declared by Density(members=True)"
            )
        if callable(self.given):
            return self.given(full(raw))
        if raw.shape[2] % 2 or (self.outputs and raw.shape[2] != 2 * self.outputs):
            raise expected(
                "a mean and then a log-variance a target ([n, 2 D])",
                raw,
                "give the model twice as many outputs as there are targets",
            )
        mean, log_variance = full(raw).chunk(2, dim=2)
        return GaussianDensity(mean, (0.5 * log_variance).exp())

    def means(self, width: int) -> int:
        """How many of an output's numbers are means; they come first.

        Raises:
            LookupError: none are.
        """
        if self.given == "gaussian":
            return width // 2
        if self.noise is None or self.outputs is None:
            raise LookupError(
                "a Laplace approximation of the last layer needs outputs that are means, as those "
                "of the Gaussian head; take MCDropout or an Ensemble"
            )
        return self.outputs

    def variance(self, raw: Tensor) -> Tensor:
        """Variance [n, D] around the means of raw outputs [n, R], in their units."""
        if self.noise is not None:
            return self.noise(raw)
        return raw[:, raw.shape[1] // 2 :].exp()

    def fields(self, raw: Tensor, needs: Collection[str]) -> dict[str, Tensor]:
        """Those of the fields above that are needed.

        Raises:
            LookupError: a field of one output, where there are several.
        """
        wanted = check_fields(self, needs)
        parts = [self._fields(self.density(part), wanted) for part in self._parts(raw, wanted)]
        return {name: torch.cat([part[name] for part in parts]) for name in wanted}

    def _parts(self, raw: Tensor, wanted: Collection[str]) -> Iterator[Tensor]:
        """Items in parts whose largest field stays small; the whole where it does anyway."""
        if raw.ndim != 3 or not len(raw):
            return iter([raw])
        members = raw.shape[1]
        sizes = {
            "log_density": members * self.nodes,
            "quantiles": members * self.quantiles,
            "density_samples": members * self.samples,
            "cross_log_density": members * members * self.samples,
        }
        largest = max([sizes.get(name, 1) for name in wanted], default=1)
        return iter(raw.split(max(AT_ONCE // largest, 1)))

    def _fields(self, density: PredictiveDensity, wanted: Collection[str]) -> dict[str, Tensor]:
        """The fields of some items."""
        single = [name for name in wanted if name in OF_ONE]
        if single and density.outputs > 1:
            raise LookupError(
                f"the strategy needs {single}, which a density of one output has, and this model "
                f"predicts {density.outputs}; take a strategy that needs density_samples or "
                "cross_log_density"
            )
        found: dict[str, Tensor] = {}
        if any(name in GRID for name in wanted):
            grid = self._grid(density)
            found |= {name: getattr(grid, name) for name in GRID}
        if "quantiles" in wanted:
            scores = midpoints(self.quantiles, density.like)[:, None, None, None]
            values = density.at_scores(scores.expand(-1, *density.batch_shape, 1))
            found["quantiles"] = density.units.target(values)[..., 0].permute(1, 2, 0)
        if {"density_samples", "cross_log_density"} & set(wanted):
            drawn = density.pushed(sobol(self.samples, density.width, density.like))
            found["density_samples"] = drawn.permute(1, 2, 0, 3)  # of [M, n, S, D]
            if "cross_log_density" in wanted:
                others = drawn.permute(2, 0, 1, 3).unsqueeze(3)  # [S, M, n, 1, D]
                shape = (*others.shape[:2], *density.batch_shape, density.outputs)
                cross = density.log_prob(others.expand(shape))  # [j, M, n, i]
                found["cross_log_density"] = cross.permute(2, 3, 0, 1)
        if "mean" in wanted:
            found["mean"] = density.mean
        if "variance" in wanted:
            found["variance"] = density.variance
        return {name: found[name] for name in wanted}

    def _grid(self, density: PredictiveDensity) -> Grid:
        if self.window is None:
            return adaptive_grid(density, self.nodes)
        return window_grid(density, self.nodes, self.window)

    def check(self, raw: Tensor, targets: Tensor | None) -> None:
        """Targets are D finite numbers an item."""
        density = self.density(raw)
        if targets is None:
            return
        n, d = density.batch_shape[0], density.outputs
        if targets.shape != (n, d) and not (d == 1 and targets.shape == (n,)):
            raise ValueError(
                f"a density of {d} number(s) an item was declared, and the targets are "
                f"{list(targets.shape)} for {n} items; declare Density(outputs=…) as many as there "
                "are targets"
            )
