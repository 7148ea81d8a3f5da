"""The oracle that knows: the labels that the data set carries."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lightning_al.records import Answers

__all__ = ["SimulatedOracle"]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SimulatedOracle:
    """Answers with the labels that the data set carries; each costs ``cost``.

    Args:
        cost: of each answer.
    """

    cost: float = 1.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.cost) and self.cost >= 0):
            raise ValueError(f"cost must be a finite number from 0, got {self.cost}")

    def ask(self, index: Tensor, datamodule: Any, round: int) -> Answers:
        """The data set's own labels [K, ...] of the items ``index`` [K].

        Items that turn out to have none only now that they are read are refused, with a notice.

        Raises:
            ValueError: items that carry no label; a person or a file must answer for those.
        """
        bare = index[~datamodule.has_label(index)]
        if len(bare):
            raise ValueError(
                f"the simulated oracle has no label for {len(bare)} of {len(index)} items, first: "
                f"{bare.tolist()[:5]}; the data set carries none: give another oracle, or use "
                "`suggest` and label them yourself"
            )
        known = datamodule.items.known(index)
        if bool(known.all()):
            values = datamodule.outcomes.named(datamodule.labels(index))
            return Answers(values=values, cost=self.price(index, datamodule))
        unlabelled = index[~known].tolist()
        log.warning(
            "the data set holds None or NaN for the label of %d item(s), first: %s; they leave the "
            "pool without an answer, and cost nothing",
            *(len(unlabelled), unlabelled[:5]),
        )
        some = datamodule.labels(index[known]) if bool(known.any()) else torch.zeros(0)
        values = datamodule.outcomes.named(_spread(some, known))
        cost = self.price(index, datamodule).masked_fill(~known, 0.0)
        return Answers(values=values, cost=cost, refused=~known)

    def check(self, datamodule: Any) -> None:
        """Refuse a pool with items that carry no label.

        Raises:
            ValueError: there are some.
        """
        bare = datamodule.pool[~datamodule.has_label(datamodule.pool)]
        if len(bare):
            raise ValueError(
                f"the simulated oracle has no label for {len(bare)} of {len(datamodule.pool)} "
                f"candidates, first: {bare.tolist()[:5]}; give another oracle (--oracle File asks "
                "people), or use `suggest` and label them yourself"
            )

    def price(self, index: Tensor, datamodule: Any) -> Tensor:
        """What each item [K] costs."""
        return torch.full((len(index),), self.cost, dtype=torch.float64)


def _spread(labels: Tensor, known: Tensor) -> Tensor:
    """Labels [M, ...] at those M of K rows that have one; zeros elsewhere."""
    rows = labels.new_zeros((len(known), *labels.shape[1:]))
    rows[known] = labels
    return rows
