"""Who answers: the oracle protocol's simplest member. More come with the benchmark."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lightning_al.records import Answers

__all__ = ["SimulatedOracle"]


@dataclass(frozen=True)
class SimulatedOracle:
    """Answers with the labels that the data set carries; each costs ``cost``."""

    cost: float = 1.0

    def ask(self, index: Tensor, datamodule: Any, round: int) -> Answers:
        """The data set's own labels [K, ...] of the items ``index`` [K].

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
        values = {"y": datamodule.labels(index)}
        return Answers(values=values, cost=torch.full((len(index),), self.cost).double())
