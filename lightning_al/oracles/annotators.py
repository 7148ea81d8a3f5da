"""Several annotators of different quality, and one answer made of theirs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor

from lightning_al.records import Answers, Later

from .noisy import blur, check_rates, confuse, confusion_matrix, matrix_for, refuse_numbers
from .wrapper import Wrapper, keyed, noise_rows

__all__ = ["CommitteeOracle", "likelihood_vote", "majority_vote"]


def majority_vote(votes: Tensor, classes: int, ties: Tensor) -> Tensor:
    """The class with the most votes: votes [K, n] -> classes [K].

    Args:
        votes: whole numbers from 0; -1 where an annotator gave none.
        classes: how many there are.
        ties: uniform [K, C]; among classes with as many votes the one with the largest wins.
    """
    counts = torch.stack([(votes == c).sum(1) for c in range(classes)], 1)
    return (counts + ties).argmax(1)  # ties lie in [0, 1): they never outweigh a vote


def likelihood_vote(votes: Tensor, confusion: Tensor, ties: Tensor) -> Tensor:
    """The class under which the votes are likeliest, all classes being as likely before.

    Args:
        votes: whole numbers [K, n] from 0; -1 where an annotator gave none.
        confusion: of the annotators, [n, C, C], row = true class, column = answer.
        ties: uniform [K, C].
    """
    n, classes, _ = confusion.shape
    gains = torch.zeros(len(votes), classes, dtype=torch.float64)
    for a in range(n):
        said = confusion[a].log().clamp_min(-1e6).T[votes[:, a].clamp_min(0)]  # [K, C]
        gains += torch.where(votes[:, a, None] >= 0, said, torch.zeros_like(said))
    best = gains >= gains.max(1, keepdim=True).values - 1e-9
    return (best + ties).argmax(1)


@dataclass(frozen=True)
class CommitteeOracle(Wrapper):
    """Several annotators answer each item, and their answers become one.

    Give one of the first three, an entry for each annotator. ``Answers.by`` names who answered,
    such as ``0 2``; the cost of an item is that of all its answers.

    Args:
        accuracy: chance of the right class; the others are alike.
        confusion: matrices [C, C], row = true class, column = answer.
        sd: for numbers: standard deviations of Gaussian noise, in units of the target.
        votes: how many annotators answer an item, drawn item by item; None for all.
        combine: "majority" of the classes (ties broken at random), or "likelihood": the likeliest
            class given the annotators' true qualities. Numbers are averaged in either case.
        costs: what an answer of each annotator costs; by default as much as the inner oracle's.
        seed: for other draws than those of a second run with the same seed.
        oracle: the truth that the annotators see.
    """

    accuracy: Sequence[float] | None = None
    confusion: Sequence[Sequence[Sequence[float]]] | None = None
    sd: Sequence[float] | None = None
    votes: int | None = None
    combine: Literal["majority", "likelihood"] = "majority"
    costs: Sequence[float] | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        given = [n for n in ("accuracy", "confusion", "sd") if getattr(self, n) is not None]
        if len(given) != 1:
            raise ValueError(
                f"a committee takes one of accuracy, confusion and sd, got {given or 'none'}"
            )
        if not self.members:
            raise ValueError(f"a committee needs at least one annotator, {given[0]} is empty")
        if not 1 <= self.asked <= self.members:
            raise ValueError(f"votes must be from 1 to {self.members} annotators, got {self.votes}")
        if self.combine not in ("majority", "likelihood"):
            raise ValueError(f"combine must be majority or likelihood, got {self.combine!r}")
        check_rates("accuracy", self.accuracy or ())
        check_rates("sd", self.sd or (), math.inf)
        check_rates("costs", self.costs or (), math.inf)
        for a, matrix in enumerate(self.confusion or ()):
            confusion_matrix(matrix, f"confusion of annotator {a}")
        if self.costs is not None and len(self.costs) != self.members:
            raise ValueError(
                f"{self.members} annotators, but {len(self.costs)} costs; one for each"
            )

    @property
    def members(self) -> int:
        """How many annotators there are."""
        return len(self.accuracy or self.confusion or self.sd or ())

    @property
    def asked(self) -> int:
        """How many of them answer an item."""
        return self.members if self.votes is None else self.votes

    def who(self, index: Tensor, datamodule: Any) -> Tensor:
        """Which annotators answer each item, bool [K, n]."""
        drawn = keyed(index, datamodule, "annotators", self.seed, shape=(self.members,))
        return drawn.argsort(1).argsort(1) < self.asked

    def answers(self, truth: Tensor, index: Tensor, datamodule: Any) -> Tensor:
        """What every annotator would say of each item: truth [K, ...] -> [n, K, ...]."""
        shape, said = tuple(truth.shape[1:]), []
        for a in range(self.members):
            role, normal = f"annotator-{a}", self.sd is not None
            draws = keyed(index, datamodule, role, self.seed, shape=shape, normal=normal)
            if self.sd is not None:
                said.append(blur(truth, self.sd[a], draws))
            else:
                said.append(confuse(truth, self._matrix(a, datamodule), draws))
        return torch.stack(said)

    def _matrix(self, a: int, datamodule: Any) -> Tensor:
        if self.confusion is not None:
            return matrix_for(self.confusion[a], datamodule)
        assert self.accuracy is not None
        return matrix_for(1 - self.accuracy[a], datamodule)

    def change(self, answers: Answers, index: Tensor, datamodule: Any) -> Answers:
        """The annotators' common answer.

        Raises:
            ValueError: class labels per place, or numbers where classes are needed.
        """
        n = len(index)
        rows = noise_rows(answers, n)
        who = self.who(index, datamodule)
        by = [" ".join(str(a) for a in w.nonzero().flatten().tolist()) for w in who]
        values = dict(answers.values)
        if bool(rows.any()):
            y = values["y"] = values["y"].clone()
            y[rows] = self._together(y[rows], index[rows], who[rows], datamodule)
        cost = None if answers.cost is None else answers.cost.double()
        return replace(answers, values=values, cost=self._sum(cost, who), by=by)

    def _together(self, truth: Tensor, index: Tensor, who: Tensor, datamodule: Any) -> Tensor:
        if self.sd is not None:
            said = self.answers(truth, index, datamodule).double()
            weights = who.T.double().reshape(*who.T.shape, *[1] * (truth.ndim - 1))
            return ((said * weights).sum(0) / self.asked).to(truth.dtype)
        refuse_numbers(truth)
        if truth.ndim != 1:
            raise ValueError(
                f"a committee votes on one class an item, these labels have the shape "
                f"{list(truth.shape[1:])}; use NoisyOracle"
            )
        votes = self.answers(truth, index, datamodule).T.masked_fill(~who, -1)
        confusion = torch.stack([self._matrix(a, datamodule) for a in range(self.members)])
        shape = (confusion.shape[1],)
        ties = keyed(index, datamodule, "annotators-tie", self.seed, shape=shape)
        if self.combine == "likelihood":
            return likelihood_vote(votes, confusion, ties).to(truth.dtype)
        return majority_vote(votes, shape[0], ties).to(truth.dtype)

    def _sum(self, cost: Tensor | None, who: Tensor) -> Tensor:
        """What the answers of all annotators to each item cost together, [K]."""
        each = torch.ones(len(who), dtype=torch.float64) if cost is None else cost
        if self.costs is None:
            return each * self.asked
        return who.double() @ torch.tensor(self.costs, dtype=torch.float64)

    def collect(self, index: Tensor, asked: Tensor, datamodule: Any, round: int) -> Answers | Later:
        """The late answers; they were paid when they were asked for."""
        late = super().collect(index, asked, datamodule, round)
        if isinstance(late, Later):
            return late
        return replace(late, cost=torch.zeros(len(index), dtype=torch.float64))

    def price(self, index: Tensor, datamodule: Any) -> Tensor:
        """What all answers to each item [K] will cost together."""
        inside = super().price(index, datamodule)
        if self.costs is None:
            return inside * self.asked
        return self._sum(inside, self.who(index, datamodule))
