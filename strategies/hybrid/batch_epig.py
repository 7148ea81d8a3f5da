"""Batches that together say most about the answers at targets: EPIG without its redundancy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from lightning_al.records import Acquisition, Pool
from lightning_al.scores.numerics import check_regression, one_output

from ..kernels.joint_epig import SAMPLES, SHORTLIST, informed_batch_epig, regression_batch_epig
from ..score_strategy import acquired
from ..selection import top_k
from ..sets import choose_rows, mean_probs
from ..strategy_registry import STRATEGIES
from ..uncertainty.epig import EPIG, RegressionEPIG
from .saturation import saturation

__all__ = ["BatchEPIG", "RegressionBatchEPIG"]


@STRATEGIES.register("batch-epig", kind="classification", members=100)
@dataclass(frozen=True, repr=False, eq=False)
class BatchEPIG(EPIG):
    """EPIG of the whole batch, found greedily (Bickford Smith et al. 2023).

    The batch whose labels together say most about the targets' labels.
    For k = 1 it is ``epig``. See :func:`.kernels.joint_epig.batch_epig` for the search and its
    cost. In pools above ``shortlist`` the later picks are searched among the most promising
    candidates only; give the size of the pool to search all. The notes of the acquisition hold what
    the batch says about the S members, log S nats at the most; a warning tells when it is more
    than 0.9 log S. So many members are needed, more for larger batches.

    Source: Bickford Smith et al., Prediction-Oriented Bayesian Active Learning (2023); joint and
    greedy as Kirsch, van Amersfoort and Gal, BatchBALD (2019).

    Args:
        targets: how many to draw from the pool each round, or their positions in the data set:
            items that are candidates or labelled.
        inputs: what the model will be used on, where that is not the pool: a tensor [T, ...], or
            batches as the model takes them; the targets are drawn from these.
        samples: label configurations by which the joint distribution is known; while all of them
            fit, the choice is exact for the members.
        shortlist: candidates searched at a pick in a pool that is larger.
    """

    selector: Callable[..., Tensor] = field(default=top_k, init=False, repr=False)
    samples: int = SAMPLES
    shortlist: int = SHORTLIST

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, usual in (("samples", SAMPLES), ("shortlist", SHORTLIST)):
            if getattr(self, name) < 1:
                raise ValueError(
                    f"{name} is at least 1, got {getattr(self, name)}; {usual} is the default"
                )

    def choose(self, candidates: Pool, k: int, generator: torch.Generator) -> Acquisition:
        """Choose k candidates; those that are not finite only when no others are left.

        Raises:
            ValueError: more asked than there are, or no target to be had.
        """
        notes: dict[str, Any] = {}

        def pick(pool: Pool, k: int, generator: torch.Generator) -> Tensor:
            mean_probs(pool.probs[:1], "batch-epig")  # refuses items with places
            targets = self._targets(pool, generator)["probs"]
            rows, told = informed_batch_epig(
                *(pool.probs.log(), targets.log(), k, generator),
                samples=self.samples,
                shortlist=self.shortlist,
            )
            notes.update(saturation("batch-epig", told, pool.probs.shape[1]))
            return rows

        rows = choose_rows(pick, candidates, k, generator)
        return replace(acquired(candidates, rows), notes=notes)


@STRATEGIES.register("regression-batch-epig", kind="regression", members=20)
@dataclass(frozen=True, repr=False, eq=False)
class RegressionBatchEPIG(RegressionEPIG):
    """EPIG of the whole batch, for numbers, found greedily (Bickford Smith et al. 2023).

    The batch whose answers together say most about the targets' answers.
    Gaussian, by the members' covariances; for k = 1 it is ``regression-epig``. See
    :func:`.kernels.joint_epig.regression_batch_epig`.

    Source: Bickford Smith et al., Prediction-Oriented Bayesian Active Learning (2023).

    Args:
        targets: how many to draw from the pool each round, or their positions in the data set:
            items that are candidates or labelled.
        inputs: what the model will be used on, where that is not the pool: a tensor [T, ...], or
            batches as the model takes them; the targets are drawn from these.
        noise: variance of the noise, as a share of the variance of the answers bought so far (of
            the predictions for the targets, where fewer than two differ).
        aleatoric: take the noise that the members predict instead (needs a task with a variance).
        output: which of several outputs.
    """

    selector: Callable[..., Tensor] = field(default=top_k, init=False, repr=False)

    def choose(self, candidates: Pool, k: int, generator: torch.Generator) -> Acquisition:
        """Choose k candidates; those that are not finite only when no others are left.

        Raises:
            ValueError: more asked than there are, or no target to be had.
        """
        return acquired(candidates, choose_rows(self.pick, candidates, k, generator))

    def pick(self, pool: Pool, k: int, generator: torch.Generator) -> Tensor:
        """Greedy joint EPIG of Gaussians: rows [K]."""
        name = "regression-batch-epig"
        check_regression(name, pool.mean)
        targets = self._targets(pool, generator)
        own, theirs = (one_output(name, v, self.output) for v in (pool.mean, targets["mean"]))
        if self.aleatoric:
            assert pool.kept is not None  # its mean is
            assert pool.kept.variance is not None  # it is kept
            noise, target_noise = (
                one_output(name, v, self.output).double().mean(1)
                for v in (pool.kept.variance, targets["variance"])
            )
            return regression_batch_epig(
                own, theirs, k, generator, noise=noise, target_noise=target_noise
            )
        scale = self.noise * self._scale(pool.context.targets, targets["mean"])
        return regression_batch_epig(own, theirs, k, generator, noise=scale, target_noise=scale)
