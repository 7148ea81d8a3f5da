"""What share of the places that a model takes for safe is not: on functions of the paper's prior.

Safety functions are drawn exactly, measured at uniform places of a box in the middle, and judged at
uniform places of the domain, by noisy measurements there, as queries are. Li, Toussaint, Rakitsch,
Zimmer (2026) is where the prior is from.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from lightning_al.policies.draws import ExactDraw
from lightning_al.policies.likelihood import Given
from lightning_al.policies.priors import Hyper, KernelPrior, SafetyPrior
from lightning_al.policies.streams import Streams

__all__ = ["Accepted", "Trials", "accepted", "true_deviations"]

BOX = (0.35, 0.65)


@dataclass(frozen=True)
class Trials:
    """F safety functions, measured and yet to be judged; float64."""

    hyper: Hyper  # [F], the true ones
    x: Tensor  # [F, n, D]
    z: Tensor  # [F, n], noisy
    points: Tensor  # [F, m, D]
    truth: Tensor  # [F, m], noisy

    @classmethod
    def drawn(
        cls,
        count: int,
        seed: int,
        *,
        dimension: int = 2,
        measured: int = 30,
        judged: int = 200,
        kernel: KernelPrior | None = None,
        box: tuple[float, float] = BOX,
    ) -> Trials:
        """Draw them; the same for the same numbers.

        Args:
            count: F.
            seed: of the draw.
            dimension: D.
            measured: n.
            judged: m.
            kernel: law of the kernel; the paper's by default.
            box: where the measured points lie, along each input.
        """
        streams, index = Streams.of(seed, 0, "calibration"), torch.arange(count)
        low, high = box
        hyper = (kernel or KernelPrior()).draw(streams, "z", index, dimension, SafetyPrior.share)
        active = torch.ones(count, dimension, dtype=torch.float64)
        mean = SafetyPrior().mean(streams, index, active)
        hyper = Hyper(hyper.lengthscale, hyper.outputscale, hyper.noise, mean)
        x = low + (high - low) * streams.uniform("x", index, measured, dimension)
        points = streams.uniform("points", index, judged, dimension)
        white = streams.normal("white", index, measured + judged)
        value = ExactDraw(hyper, white, active).paths()(torch.cat([x, points], 1))
        noise = streams.normal("noise", index, measured + judged) * hyper.noise.sqrt()[:, None]
        z, truth = (value + noise).split([measured, judged], 1)
        return cls(hyper, x, z, points, truth)

    def first(self, n: int) -> Trials:
        """With the first n measurements alone."""
        return Trials(self.hyper, self.x[:, :n], self.z[:, :n], self.points, self.truth)


def true_deviations(trials: Trials) -> Tensor:
    """Deviations [F, m] by which z is expected above 0 under the process that it was drawn from."""
    hyper = trials.hyper
    given = Given.of(hyper, trials.x, trials.z)
    cross = hyper.covariance(trials.x, trials.points)
    side = torch.linalg.solve_triangular(given.factor, cross, upper=False)
    mean = hyper.mean_at(trials.points) + (given.white.unsqueeze(-2) @ side).squeeze(-2)
    variance = (hyper.outputscale + hyper.noise).unsqueeze(-1) - side.square().sum(-2)
    return mean / variance.sqrt()


@dataclass(frozen=True)
class Accepted:
    """What became of the places that were taken for safe."""

    share: float  # of all places
    unsafe: float  # of those accepted; NaN where there are none
    error: float  # standard error of that, over functions

    def calibrated(self, gamma: float) -> bool:
        """Whether no more than gamma of them are unsafe, two standard errors allowed for."""
        return self.unsafe <= gamma + 2 * self.error


def accepted(enough: Tensor, z: Tensor) -> Accepted:
    """From places taken for safe, bool [F, m], and what was measured there, z [F, m].

    The share of unsafe ones is a ratio of sums over functions, its error the linearised one.

    >>> said = torch.tensor([[True, True], [True, True]])
    >>> accepted(said, torch.tensor([[1.0, -1.0], [1.0, 1.0]]))
    Accepted(share=1.0, unsafe=0.25, error=0.25)
    """
    taken = enough.double().sum(1)
    wrong = (enough & (z < 0)).double().sum(1)
    total, count = float(taken.sum()), len(taken)
    if not total:
        return Accepted(0.0, math.nan, math.nan)
    ratio = float(wrong.sum()) / total
    scatter = float((wrong - ratio * taken).square().sum()) * count / max(count - 1, 1)
    return Accepted(total / enough.numel(), ratio, math.sqrt(scatter) / total)
