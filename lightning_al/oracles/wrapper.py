"""What oracles share: prices, wrappers around another oracle, and keyed draws."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from lightning_al.randomness import generator
from lightning_al.records import Answers, Later

from .simulated import SimulatedOracle

__all__ = ["Wrapper", "check", "keyed", "noise_rows", "placed", "price"]

W = TypeVar("W", bound="Wrapper")


def placed(oracle: Any, run_dir: Path) -> Any:
    """The oracle for a run in this folder: itself, unless it needs to know the folder."""
    at = getattr(oracle, "placed", None)
    return oracle if at is None else at(run_dir)


def price(oracle: Any, index: Tensor, datamodule: Any) -> Tensor:
    """What asking for the items [K] will cost, float64 [K]; 1 each where the oracle has no price.

    Raises:
        ValueError: not one finite price from 0 an item.
    """
    ask = getattr(oracle, "price", None)
    if ask is None:
        return torch.ones(len(index), dtype=torch.float64)
    prices = torch.as_tensor(ask(index, datamodule), dtype=torch.float64)
    if prices.shape != index.shape or not bool((prices.isfinite() & (prices >= 0)).all()):
        raise ValueError(
            f"{type(oracle).__name__}.price must give a finite number from 0 for each of "
            f"{len(index)} items, got {list(prices.shape)}: {prices.flatten()[:5].tolist()}"
        )
    return prices


def check(oracle: Any, datamodule: Any) -> None:
    """Let an oracle say whether the data can serve it, where it knows; nothing is asked."""
    own = getattr(oracle, "check", None)
    if own is not None:
        own(datamodule)


@dataclass(frozen=True)
class Wrapper:
    """An oracle around another one; by itself it changes nothing.

    Args:
        oracle: the one inside; by default the labels of the data set.
    """

    oracle: Any = field(default=SimulatedOracle(), kw_only=True)

    def change(self, answers: Answers, index: Tensor, datamodule: Any) -> Answers:
        """What becomes of the inner oracle's answers for the items ``index`` [K]."""
        return answers

    def ask(self, index: Tensor, datamodule: Any, round: int) -> Answers | Later:
        """The inner oracle's answers, changed."""
        answers = self.oracle.ask(index, datamodule, round)
        return answers if isinstance(answers, Later) else self.change(answers, index, datamodule)

    def check(self, datamodule: Any) -> None:
        """Refuse data that cannot be served: tried on labels that are known, nothing is asked.

        Raises:
            ValueError: the inner oracle cannot serve them, or this one cannot change such answers.
        """
        check(self.oracle, datamodule)
        index = datamodule.labelled[:2]
        if len(index):
            values = datamodule.outcomes.named(datamodule.labels(index))
            free = torch.zeros(len(index), dtype=torch.float64)
            self.change(Answers(values=values, cost=free), index, datamodule)

    def collect(self, index: Tensor, asked: Tensor, datamodule: Any, round: int) -> Answers | Later:
        """The inner oracle's late answers, changed."""
        answers = self.oracle.collect(index, asked, datamodule, round)
        return answers if isinstance(answers, Later) else self.change(answers, index, datamodule)

    def price(self, index: Tensor, datamodule: Any) -> Tensor:
        """What asking for each item [K] will cost: as much as inside."""
        return price(self.oracle, index, datamodule)

    def placed(self: W, run_dir: Path) -> W:
        """The same around the inner oracle for a run in this folder."""
        return replace(self, oracle=placed(self.oracle, run_dir))


def keyed(
    index: Tensor,
    datamodule: Any,
    role: str,
    seed: int = 0,
    *,
    shape: tuple[int, ...] = (),
    normal: bool = False,
) -> Tensor:
    """Draws [K, *shape] float64, uniform in [0, 1) or standard normal.

    Each item's own depend on the run's seed, the role and the item alone: not on the round, nor on
    the items asked for beside it. So whatever strategy asks for an item, the answer is the same.
    """
    draw = torch.randn if normal else torch.rand
    run = int(getattr(datamodule, "seed", 0))
    rows = [
        draw(shape, generator=generator(run, 0, role, seed, item), dtype=torch.float64)
        for item in index.tolist()
    ]
    return torch.stack(rows) if rows else torch.empty((0, *shape), dtype=torch.float64)


def noise_rows(answers: Answers, n: int) -> Tensor:
    """Which of the ``n`` items have an answer that noise can act on, bool [n]."""
    if "y" not in answers.values:
        return torch.zeros(n, dtype=torch.bool)
    return ~(answers.mask("refused", n) | answers.mask("pending", n))
