"""EPIG: the candidates whose answers say most about the answers at other, target, inputs."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor

from lightning_al import measures
from lightning_al.records import Acquisition, Inputs, Pool, positions
from lightning_al.scores.numerics import check_regression, one_output

from ..around.restricted import unusable
from ..score_strategy import Described, acquired, select
from ..selection import check_k, shuffled, top_k
from ..strategy_registry import STRATEGIES

__all__ = ["EPIG", "RegressionEPIG"]


@dataclass(frozen=True, repr=False, eq=False)
class _Informed(Described):
    """Ranks candidates by the information on targets that a subclass computes (``_scores``).

    The members' predictions of the whole pool are kept (in a memory-mapped file above the run's
    memory budget) and read in blocks: every candidate meets every target under the same members,
    so that no batch can be scored alone.
    """

    targets: int | Sequence[int] | Tensor = 100
    selector: Callable[..., Tensor] = top_k
    inputs: Tensor | Iterable[Any] | None = field(default=None, kw_only=True)

    members: ClassVar[str] = "many"
    privileged: ClassVar[bool] = False

    def __post_init__(self) -> None:
        wanted: Any = self.targets
        if not isinstance(wanted, int):
            wanted = tuple(positions(wanted).tolist())
            if not wanted:
                raise ValueError("targets is an empty list; give positions, or how many to draw")
        elif wanted < 1:
            raise ValueError(f"targets is a count of at least 1 or positions, got {wanted}")
        object.__setattr__(self, "targets", wanted)
        if self.inputs is not None:
            if not isinstance(wanted, int):
                raise ValueError("give targets by their positions or as inputs, not both")
            object.__setattr__(self, "inputs", Inputs.of(self.inputs))

    def choose(self, candidates: Pool, k: int, generator: torch.Generator) -> Acquisition:
        """Rank all candidates against the targets, then select k.

        Raises:
            ValueError: more asked than there are, or no target to be had.
        """
        check_k(candidates.index, k)
        if k == 0:
            return acquired(candidates, torch.empty(0, dtype=torch.int64))
        targets = self._targets(candidates, generator)
        scores = self._scores(candidates, targets)
        rows = select(self.selector, scores, k, generator)
        made = acquired(candidates, rows, scores)
        count = len(next(iter(targets.values())))
        return Acquisition(made.index, scores=made.scores, notes={"targets": count})

    def _scores(self, candidates: Pool, targets: dict[str, Tensor]) -> Tensor:
        raise NotImplementedError

    def _targets(self, candidates: Pool, generator: torch.Generator) -> dict[str, Tensor]:
        """Kept fields [T, ...] of the targets."""
        if self.inputs is not None:
            return self._among_inputs(candidates, self.targets, generator)
        if isinstance(self.targets, int):
            rows = (~unusable(candidates)).nonzero().squeeze(1)
            if len(rows) > self.targets:
                order = shuffled(len(rows), generator, rows.device)
                rows = rows[order[: self.targets]].sort().values
            if not len(rows):
                raise ValueError("no targets: the predictions of all candidates are NaN")
            return _fields(candidates, rows)
        wanted = torch.tensor(self.targets, device=candidates.index.device).unique()
        rows, missing = _find(candidates, wanted)
        found = [_fields(candidates, rows)] if len(rows) else []
        if len(missing):
            rows, missing = _find(candidates.labelled, missing)
            found += [_fields(candidates.labelled, rows)] if len(rows) else []
        if len(missing):
            message = (
                f"{len(missing)} of {len(wanted)} targets are neither candidates nor labelled "
                f"(or their predictions are NaN), first: {missing[:5].tolist()}; give positions "
                "of items that the run may choose, or how many to draw"
            )
            if not found:
                raise ValueError(message)
            warnings.warn(f"left out: {message}", stacklevel=2)
        return {name: torch.cat([part[name] for part in found]) for name in found[0]}

    def _among_inputs(
        self, candidates: Pool, count: Any, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """Fields [T, ...] of some of the inputs, drawn where there are more."""
        strategy: Any = self  # a subclass declares its needs
        seen = candidates.bench.predict_inputs(self.inputs, tuple(strategy.needs)).tensors()
        fields = {name: seen[name] for name in strategy.needs}
        fine = torch.stack([~v.flatten(1).isnan().any(1) for v in fields.values()]).all(0)
        rows = fine.nonzero().squeeze(1)
        if not len(rows):
            raise ValueError("no targets: the predictions of all inputs are NaN")
        if len(rows) > count:
            rows = rows[shuffled(len(rows), generator, rows.device)[:count]].sort().values
        device = candidates.index.device
        return {name: values[rows].to(device) for name, values in fields.items()}


def _fields(pool: Pool, rows: Tensor) -> dict[str, Tensor]:
    assert pool.kept is not None  # rows were found, so something is kept
    fields = pool.kept.rows(rows).tensors()
    del fields["index"]
    return fields


def _find(pool: Pool, wanted: Tensor) -> tuple[Tensor, Tensor]:
    """Rows of the items ``wanted`` (sorted) in a pool, and those that it does not have."""
    here = torch.isin(pool.index, wanted) & ~unusable(pool)
    return here.nonzero().squeeze(1), wanted[~torch.isin(wanted, pool.index[here])]


@STRATEGIES.register("epig", kind="classification", members=20)
@dataclass(frozen=True, repr=False, eq=False)
class EPIG(_Informed):
    """Most information on the labels of targets first (Bickford Smith et al. 2023).

    Exact for the members given (see :func:`lightning_al.measures.epig`); N T C² (S + 2)
    operations. Keeps the probabilities [N, S, C].

    Args:
        targets: how many to draw from the pool each round, or their positions in the data set:
            items that are candidates or labelled.
        selector: scores [N], k, generator -> rows [K].
        inputs: what the model will be used on, where that is not the pool: a tensor [T, ...], or
            batches as the model takes them (a DataLoader without labels); the targets are drawn
            from these.
    """

    needs: ClassVar[tuple[str, ...]] = ("probs",)
    keeps: ClassVar[tuple[str, ...]] = ("probs",)

    def _scores(self, candidates: Pool, targets: dict[str, Tensor]) -> Tensor:
        probs = candidates.probs
        if probs.ndim != 3:
            raise ValueError(
                f"epig needs one label an item, probs [N, S, C], got {list(probs.shape)}; "
                "for items with places use bald"
            )
        return measures.epig(probs, targets["probs"])


@STRATEGIES.register("regression-epig", kind="regression", members=20)
@dataclass(frozen=True, repr=False, eq=False)
class RegressionEPIG(_Informed):
    """Most information on the answers at targets first (Bickford Smith et al. 2023).

    A Gaussian approximation by the members' covariances (see
    :func:`lightning_al.measures.regression_epig`). Keeps the means [N, S, D].

    Args:
        targets: how many to draw from the pool each round, or their positions in the data set:
            items that are candidates or labelled.
        selector: scores [N], k, generator -> rows [K].
        inputs: what the model will be used on, where that is not the pool: a tensor [T, ...], or
            batches as the model takes them (a DataLoader without labels); the targets are drawn
            from these.
        noise: variance of the noise, as a share of the variance of the answers bought so far (of
            the predictions for the targets, where fewer than two differ).
        aleatoric: take the noise that the members predict instead (needs a task with a variance).
        output: which of several outputs.
        inputs: what the model will be used on, where that is not the pool: a tensor [T, ...], or
            batches as the model takes them; the targets are drawn from these.
    """

    noise: float = 0.1
    aleatoric: bool = False
    output: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.noise > 0:
            raise ValueError(f"noise is a share above 0, got {self.noise}")

    @property
    def needs(self) -> tuple[str, ...]:
        """The means, and the noise where it counts."""
        return ("mean", "variance") if self.aleatoric else ("mean",)

    @property
    def keeps(self) -> tuple[str, ...]:
        """All that is needed."""
        return self.needs

    def _scores(self, candidates: Pool, targets: dict[str, Tensor]) -> Tensor:
        mean = candidates.mean
        check_regression("regression-epig", mean)
        if self.aleatoric:
            assert candidates.kept is not None  # its mean is
            assert candidates.kept.variance is not None  # it is kept
            own, theirs = (
                one_output("regression-epig", v, self.output).double().mean(1)
                for v in (candidates.kept.variance, targets["variance"])
            )
            return measures.regression_epig(mean, targets["mean"], own, theirs, output=self.output)
        noise = self.noise * self._scale(candidates.context.targets, targets["mean"])
        return measures.regression_epig(mean, targets["mean"], noise, noise, output=self.output)

    def _scale(self, answers: Tensor | None, mean: Tensor) -> float:
        """The variance of the answers, or of the targets' predictions."""
        values = one_output("regression-epig", mean, self.output)
        if answers is not None and answers.ndim > 1:
            answers = one_output("regression-epig", answers, self.output)
        for known in (answers, values):
            if known is not None and known.numel() > 1:
                spread = float(known.double().var(correction=0))
                if spread > 0:
                    return spread
        return 1.0
