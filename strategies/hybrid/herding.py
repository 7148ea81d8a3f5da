"""Uncertainty herding: coverage of the pool, where uncertain items count more."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar, Literal

import torch
from torch import Tensor

from lightning_al import measures
from lightning_al.records import Pool

from ..kernels.cover import max_herding
from ..kernels.lazy_cover import SAMPLE
from ..selection import shuffled
from ..sets import SetStrategy, covered_embedding, mean_probs, unit, usable
from ..strategy_registry import STRATEGIES

__all__ = ["UHerding", "calibration_error", "held_out_temperature", "smallest_distance"]

UNCERTAINTIES: Mapping[str, Callable[[Tensor], Tensor]] = MappingProxyType(
    {
        "margin": measures.margin,
        "entropy": measures.entropy,
        "least-confidence": measures.least_confidence,
    }
)
TEMPERATURES = torch.logspace(-1, 1, 41, dtype=torch.float64)
FOLDS, BINS = 5, 15
_ROWS = 2**10  # distances computed together
_TINY = 2.0**-44  # of the squared norms: what cannot be told from distance 0


@STRATEGIES.register(
    "uherding",
    kind="classification",
    example=["uncertainty", "temperature", "width", "normalise", "limit"],
)
@dataclass(frozen=True, repr=False, eq=False)
class UHerding(SetStrategy):
    """Uncertainty herding: coverage weighted by uncertainty (Bae et al. 2025).

    Greedy, under a Gaussian similarity.
    Maximises ``sum over x of U(x) max over chosen or labelled a of exp(-|x - a|^2 / width^2)``.
    The width is the smallest distance (not 0) between labelled items, so that it shrinks while
    labels are bought and the choice goes from coverage to uncertainty. Where all uncertainties
    are 0, or nothing is labelled yet, all items count alike, as in ``max-herding`` (which takes
    embeddings as they are, and another width).

    The paper finds the temperature on a held-out part of the labelled set after training on the
    rest. The network is not trained again here: a linear head on its embedding is, five-fold, and
    the temperature with the least calibration error of its held-out predictions is used for the
    network's. With fewer than ten labelled items or two classes it is 1.

    Source: Bae, Oliveira and Sutherland, Uncertainty Herding (2025).

    Args:
        uncertainty: "margin", "entropy" or "least-confidence" of the members' mean.
        temperature: divides the log-probabilities before; None finds it as above.
        width: of the Gaussian, in the embedding's units; None takes the rule above.
        normalise: scale embeddings to unit length.
        limit: in a larger pool, coverage is measured on this many items drawn from it.
    """

    uncertainty: Literal["margin", "entropy", "least-confidence"] = "margin"
    temperature: float | None = None
    width: float | None = None
    normalise: bool = True
    limit: int = SAMPLE

    needs: ClassVar[tuple[str, ...]] = ("probs", "embedding")
    keeps: ClassVar[tuple[str, ...]] = ("probs", "embedding")

    def __post_init__(self) -> None:
        if self.uncertainty not in UNCERTAINTIES:
            raise ValueError(
                f"uncertainty is one of {', '.join(UNCERTAINTIES)}, got {self.uncertainty!r}"
            )
        for name in ("temperature", "width"):
            value = getattr(self, name)
            if value is not None and not 0 < value < float("inf"):
                raise ValueError(f"{name} is positive or None, got {value}")
        if self.limit < 1:
            raise ValueError(f"limit is at least 1, got {self.limit}; {SAMPLE} is the default")

    def pick(self, pool: Pool, k: int, generator: torch.Generator) -> Tensor:
        """Greedy weighted coverage."""
        points, labelled = pool.embedding, covered_embedding(pool)
        if self.normalise:
            points, labelled = unit(points), unit(labelled)
        weights = self._weights(pool, generator).to(points.device)
        width = smallest_distance(labelled) if self.width is None else self.width
        return max_herding(
            points, labelled, k, generator, width=width, weights=weights, sample=self.limit
        )

    def _weights(self, pool: Pool, generator: torch.Generator) -> Tensor:
        probs = mean_probs(pool.probs, "uherding").double()
        ones = torch.ones(len(probs), device=probs.device)
        if probs.shape[1] < 2 or len(pool.labelled) == 0:
            return ones
        temperature = self.temperature
        if temperature is None:
            temperature = self._calibrated(pool, generator)
        if temperature != 1:
            probs = (probs.clamp_min(1e-30).log() / temperature).softmax(1)
        weights = UNCERTAINTIES[self.uncertainty](probs).float().clamp_min(0)
        return weights if bool((weights > 0).any()) else ones

    def _calibrated(self, pool: Pool, generator: torch.Generator) -> float:
        targets = pool.context.targets
        if targets is None or targets.ndim != 1 or len(targets) != len(pool.labelled):
            return 1.0
        known = covered_embedding(pool)
        rows = usable(pool.labelled)[0].to(targets.device)
        return held_out_temperature(known, targets[rows], generator)


def smallest_distance(points: Tensor) -> float | None:
    """The smallest distance that is not 0 between two of the points [L, E]; None without."""
    if len(points) < 2:
        return None
    about = points.double() - points.double().mean(0)
    norms = about.square().sum(1)
    best = torch.inf
    for start in range(0, len(points), _ROWS):
        part = slice(start, start + _ROWS)
        squared = torch.addmm(norms, about[part], about.T, alpha=-2).add_(norms[part, None])
        squared.masked_fill_(squared <= _TINY * (norms[part, None] + norms), torch.inf)
        best = min(best, float(squared.min()))
    return best**0.5 if best < torch.inf else None


def held_out_temperature(points: Tensor, targets: Tensor, generator: torch.Generator) -> float:
    """The temperature that calibrates a linear head: points [L, E], classes [L] -> T > 0.

    Logistic regression is fitted on four fifths of the items and predicts the others, in turn; of
    a grid from 0.1 to 10 the temperature with the least :func:`calibration_error` is returned, of
    equals the one nearest to 1. It is 1 with fewer than ten items or two classes.
    """
    from sklearn.linear_model import LogisticRegression

    classes, own = targets.cpu().unique(return_inverse=True)
    if len(own) < 2 * FOLDS or len(classes) < 2:
        return 1.0
    inputs = points.double().cpu()
    inputs = (inputs - inputs.mean(0)) / inputs.std(correction=0).clamp_min(1e-12)
    fold = shuffled(len(own), generator, own.device) % FOLDS
    logits, answers = [], []
    for one in range(FOLDS):
        train, held = fold != one, fold == one
        if len(own[train].unique()) < 2:
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a fit cut short: calibration is what is measured
            head = LogisticRegression(max_iter=200).fit(inputs[train].numpy(), own[train].numpy())
        seen = torch.full((int(held.sum()), len(classes)), -30.0, dtype=torch.float64)
        seen[:, head.classes_] = torch.from_numpy(head.predict_log_proba(inputs[held].numpy()))
        logits.append(seen)
        answers.append(own[held])
    if not logits:
        return 1.0
    tried, truth = torch.cat(logits), torch.cat(answers)
    errors = [calibration_error((tried / t).softmax(1), truth) for t in TEMPERATURES.tolist()]
    best = min(errors)
    near = [t for t, e in zip(TEMPERATURES.tolist(), errors, strict=True) if e <= best + 1e-9]
    return min(near, key=lambda t: abs(torch.tensor(t).log().item()))


def calibration_error(probs: Tensor, targets: Tensor, bins: int = BINS) -> float:
    """Expected calibration error: probs [n, C], classes [n] -> a number in [0, 1].

    The gap between accuracy and mean confidence in bins of equal width, weighted by size.

    Source: Naeini, Cooper and Hauskrecht (2015); Guo et al. (2017).

    >>> calibration_error(torch.tensor([[0.75, 0.25]]).repeat(4, 1), torch.tensor([0, 0, 0, 1]))
    0.0
    """
    confidence, guess = probs.double().max(1)
    place = (confidence * bins).ceil().long().sub_(1).clamp_(0, bins - 1)
    gap = (guess == targets).double() - confidence
    sums = torch.zeros(bins, dtype=torch.float64, device=probs.device).index_add_(0, place, gap)
    return float(sums.abs().sum() / max(1, len(probs)))
