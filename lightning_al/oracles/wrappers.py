"""Oracles that refuse, that ask a price of their own, and that take their time."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lightning_al.records import Answers, Later

from .noisy import check_rates
from .wrapper import Wrapper, check, keyed, noise_rows

__all__ = ["AbstainingOracle", "CostlyOracle", "DelayedOracle"]


@dataclass(frozen=True)
class AbstainingOracle(Wrapper):
    """Refuses some items; a refused item leaves the pool for good.

    Args:
        rate: chance to refuse an item; or one chance a class [C], by the inner oracle's answer.
        paid: whether a refusal costs as much as an answer; else it is free.
        seed: for other draws than those of a second run with the same seed.
        oracle: who answers the rest.
    """

    rate: float | Sequence[float] = 0.1
    paid: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        check_rates("rate", [self.rate] if isinstance(self.rate, (int, float)) else self.rate)

    def change(self, answers: Answers, index: Tensor, datamodule: Any) -> Answers:
        """The same with some answers refused.

        Raises:
            ValueError: a chance per class where the answers are no classes, or too few chances.
        """
        n = len(index)
        rows = noise_rows(answers, n)
        drawn = keyed(index, datamodule, "abstain", self.seed)
        refused = answers.mask("refused", n).clone()
        refused[rows] |= drawn[rows] < self._rates(answers, rows)
        cost = answers.cost
        if not self.paid:
            cost = torch.ones(n, dtype=torch.float64) if cost is None else cost.double()
            cost = cost.masked_fill(refused, 0.0)
        return replace(answers, refused=refused, cost=cost)

    def _rates(self, answers: Answers, rows: Tensor) -> Tensor:
        if isinstance(self.rate, (int, float)) or not bool(rows.any()):
            whole = self.rate if isinstance(self.rate, (int, float)) else 0.0
            return torch.full((int(rows.sum()),), float(whole), dtype=torch.float64)
        rates, y = torch.tensor(self.rate, dtype=torch.float64), answers.values["y"][rows]
        if y.is_floating_point() or y.ndim != 1 or bool(((y < 0) | (y >= len(rates))).any()):
            raise ValueError(
                f"rate holds one chance for each of {len(rates)} classes, the answers are "
                f"{y.dtype} {list(y.shape[1:])} an item up to {y.max().item()}"
            )
        return rates[y]


@dataclass(frozen=True)
class CostlyOracle(Wrapper):
    """Each item has a price of its own.

    Args:
        cost: one number; a number for each item of the data set [N]; a CSV file with the columns
            ``index`` and ``cost``; or a function ``(index [K], datamodule) -> costs [K]``.
        oracle: who answers.
    """

    cost: float | str | Sequence[float] | Tensor | Callable[[Tensor, Any], Any] = 1.0

    def price(self, index: Tensor, datamodule: Any) -> Tensor:
        """The price of each item, float64 [K].

        Raises:
            ValueError: an item without a price, or a price that is negative or no number.
        """
        if isinstance(self.cost, (str, Path)):
            known = read_costs(Path(self.cost))
            if bare := [i for i in index.tolist() if i not in known]:
                raise ValueError(
                    f"{self.cost} has no cost for {len(bare)} item(s), first: {bare[:5]}"
                )
            costs = torch.tensor([known[i] for i in index.tolist()], dtype=torch.float64)
        elif callable(self.cost) and not isinstance(self.cost, Tensor):
            costs = torch.as_tensor(self.cost(index, datamodule), dtype=torch.float64)
        elif isinstance(self.cost, (int, float)):
            costs = torch.full((len(index),), float(self.cost), dtype=torch.float64)
        else:
            every = torch.as_tensor(self.cost, dtype=torch.float64)
            items = getattr(datamodule, "items", None)
            if every.ndim != 1 or (items is not None and len(every) != len(items)):
                n = "?" if items is None else len(items)
                raise ValueError(
                    f"cost must hold one number for each of {n} items, got {list(every.shape)}"
                )
            costs = every[index]
        if costs.shape != index.shape:
            raise ValueError(f"cost of {len(index)} items must be [K], got {list(costs.shape)}")
        wrong = (~(costs.isfinite() & (costs >= 0))).nonzero().flatten()
        if len(wrong):
            at = int(wrong[0])
            raise ValueError(
                f"cost of item {int(index[at])} is {costs[at].item()}; a cost is a number from 0"
            )
        return costs

    def check(self, datamodule: Any) -> None:
        """Refuse candidates without a price; a function is tried on two of them.

        Raises:
            ValueError: there are some.
        """
        check(self.oracle, datamodule)
        tried = callable(self.cost) and not isinstance(self.cost, Tensor)
        self.price(datamodule.pool[:2] if tried else datamodule.pool, datamodule)

    def change(self, answers: Answers, index: Tensor, datamodule: Any) -> Answers:
        """The same answers at their prices."""
        return replace(answers, cost=self.price(index, datamodule))

    def collect(self, index: Tensor, asked: Tensor, datamodule: Any, round: int) -> Answers | Later:
        """The inner oracle's late answers; they were paid when they were asked for."""
        late = self.oracle.collect(index, asked, datamodule, round)
        if isinstance(late, Later):
            return late
        return replace(late, cost=torch.zeros(len(index), dtype=torch.float64))


def read_costs(path: Path) -> dict[int, float]:
    """Costs by item from a CSV with the columns ``index`` and ``cost``.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a missing column, or a line that holds no index and cost.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no file of costs at {path}")
    with open(path, newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file)
        if missing := {"index", "cost"} - set(reader.fieldnames or ()):
            raise ValueError(f"{path} needs the columns index and cost, {sorted(missing)} missing")
        costs: dict[int, float] = {}
        for row in reader:
            try:
                item, cost = int(row["index"]), float(row["cost"])
            except (TypeError, ValueError):
                raise ValueError(
                    f"{path}, line {reader.line_num}: expected an index and a cost, got "
                    f"{row['index']!r} and {row['cost']!r}"
                ) from None
            if item in costs:
                raise ValueError(f"{path}, line {reader.line_num}: item {item} stands there twice")
            costs[item] = cost
    return costs


@dataclass(frozen=True)
class DelayedOracle(Wrapper):
    """Answers arrive rounds after the question; the items wait outside pool and labelled set.

    An item asked for in round ``r`` is trained on from round ``r + 1`` by any other oracle, from
    round ``r + 1 + delay`` by this one. Its cost is paid when it is asked for.

    Args:
        delay: rounds that an answer takes longer; 0 for none.
        oracle: who answers.
    """

    delay: int = 1

    def __post_init__(self) -> None:
        if self.delay < 0:
            raise ValueError(f"delay must be 0 or more rounds, got {self.delay}")

    def ask(self, index: Tensor, datamodule: Any, round: int) -> Answers | Later:
        """What the answers cost; all are pending."""
        answers: Answers | Later = self.oracle.ask(index, datamodule, round)
        if isinstance(answers, Later) or not self.delay:
            return answers
        late = torch.ones(len(index), dtype=torch.bool)
        cost = torch.ones(len(index), dtype=torch.float64) if answers.cost is None else answers.cost
        return Answers(values={}, cost=cost, pending=late)

    def collect(self, index: Tensor, asked: Tensor, datamodule: Any, round: int) -> Answers | Later:
        """Answers to what was asked for long enough ago; the rest is pending still."""
        due = asked + self.delay < round
        free = torch.zeros(len(index), dtype=torch.float64)
        if not bool(due.any()):
            return Answers(values={}, cost=free, pending=~due)
        values: dict[str, Tensor] = {}
        refused = torch.zeros(len(index), dtype=torch.bool)
        by = [""] * len(index)
        for r in asked[due].unique().tolist():  # the question of each round as it was put
            rows = ((asked == r) & due).nonzero().flatten()
            part: Answers | Later = self.oracle.ask(index[rows], datamodule, int(r))
            if isinstance(part, Later):
                return part
            refused[rows] = part.mask("refused", len(rows))
            for name, value in part.values.items():
                whole = value.new_zeros((len(index), *value.shape[1:]))
                values.setdefault(name, whole)[rows] = value
            for row, who in zip(rows.tolist(), part.by or [""] * len(rows), strict=True):
                by[row] = who
        return Answers(values=values, cost=free, refused=refused, pending=~due, by=by)
