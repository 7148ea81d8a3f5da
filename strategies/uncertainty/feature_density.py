"""DDU: items whose features are unlike those of all labelled classes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from lightning_al.records import Pool

from ..selection import range_resolution, top_k
from ..sets import SetStrategy, usable
from ..strategy_registry import STRATEGIES

__all__ = ["Ddu", "log_density"]

BLOCK = 2**14


@STRATEGIES.register("ddu", kind="classification")
@dataclass(frozen=True, repr=False, eq=False)
class Ddu(SetStrategy):
    """DDU: lowest density of the features under a Gaussian a class (Mukhoti et al. 2023).

    The density of an embedding is that of a mixture: a Gaussian for each class of the labelled
    items, weighted by their number. A class of few items has no covariance of its own: it counts
    ``prior`` items of the covariance within all classes (by default as many as an embedding has
    numbers), and the diagonal gains ``jitter`` of the mean variance. The paper's network is
    spectrally normalised; here it is the task's own. Without labelled items all are alike.

    Source: Mukhoti et al., Deep Deterministic Uncertainty: A New Simple Baseline (2023), section 4;
    the shared covariance is our choice, since their sets have thousands of items a class.

    Args:
        prior: items of the shared covariance that a class counts beside its own; None: E.
        jitter: share of the mean variance that is added to the diagonal.
    """

    prior: float | None = None
    jitter: float = 1e-2

    kind: ClassVar[str] = "classification"

    def __post_init__(self) -> None:
        if (self.prior is not None and not self.prior >= 0) or not self.jitter > 0:
            raise ValueError(
                f"ddu needs prior of at least 0 and jitter above 0, got {self.prior} and "
                f"{self.jitter}"
            )

    def pick(self, pool: Pool, k: int, generator: torch.Generator) -> Tensor:
        """The k lowest densities."""
        scores = self.late_scores(pool)
        return top_k(scores, k, generator, resolution=range_resolution(scores))

    def late_scores(self, pool: Pool) -> Tensor:
        """Minus the log densities [N].

        Raises:
            ValueError: several labels an item.
        """
        targets = pool.context.targets
        if targets is None or not len(targets):
            return torch.zeros(len(pool))
        if targets.ndim != 1:
            raise ValueError(
                f"ddu needs one class an item, and the targets are {list(targets.shape)}; items "
                "with places or several labels need another strategy"
            )
        known, _ = usable(pool.labelled)
        if not len(known):
            return torch.zeros(len(pool))
        points = pool.labelled.embedding[known].double().cpu()
        classes = targets.cpu().long()[known.cpu()]
        prior = float(points.shape[1]) if self.prior is None else self.prior
        parts = [
            -log_density(part.double().cpu(), points, classes, prior, self.jitter)
            for part in pool.embedding.split(BLOCK)
        ]
        return torch.cat(parts)


def log_density(
    points: Tensor, labelled: Tensor, classes: Tensor, prior: float, jitter: float
) -> Tensor:
    """Log density of a Gaussian mixture, one component a class: [N, E] -> [N], float64.

    Args:
        points: [N, E].
        labelled: [L, E], L >= 1.
        classes: of the labelled [L].
        prior: items of the shared covariance that each class has beside its own.
        jitter: share of the mean variance that is added to the diagonal.
    """
    found, place, counts = classes.unique(return_inverse=True, return_counts=True)
    means = torch.zeros(len(found), labelled.shape[1], dtype=torch.float64)
    means.index_add_(0, place, labelled).div_(counts[:, None])
    about = labelled - means[place]
    shared = about.T @ about / len(labelled)
    variance = shared.diagonal().mean()
    if not bool(variance > 0):  # an item a class: all directions are alike
        spread = (labelled - labelled.mean(0)).square().mean()
        variance = spread if bool(spread > 0) else torch.ones((), dtype=torch.float64)
        shared = variance * torch.eye(labelled.shape[1], dtype=torch.float64)
    ridge = jitter * variance * torch.eye(len(shared), dtype=torch.float64)
    logs = []
    for c, count in enumerate(counts.tolist()):
        own = about[place == c]
        weight = count + prior
        covariance = (own.T @ own + prior * shared) / weight + ridge
        factor = torch.linalg.cholesky(covariance)
        white = torch.linalg.solve_triangular(factor, (points - means[c]).T, upper=False)
        log_det = 2 * factor.diagonal().log().sum()
        constant = log_det + len(shared) * math.log(2 * math.pi)
        logs.append(math.log(count / len(labelled)) - (white.square().sum(0) + constant) / 2)
    return torch.stack(logs).logsumexp(0)
