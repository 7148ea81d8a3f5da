"""How safe the queries of a run were, where its data measure safety."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lightning_al.policies.safety_metrics import SafeShare, UnsafeDistance

__all__ = ["Safety", "safety_of"]


@dataclass(frozen=True)
class Safety:
    """Queries are what is labelled beyond the initial items.

    Args:
        initial: positions [n] labelled at the start.
        column: of the safety measurement among the outcomes.
    """

    initial: Tensor
    column: int

    def figures(self, datamodule: Any) -> dict[str, float]:
        """``safe_share`` in [0, 1] and ``unsafe_distance`` until now; none before a query."""
        labelled = datamodule.labelled
        queries = labelled[~torch.isin(labelled, self.initial)]
        if not len(queries):
            return {}
        z = datamodule.labels(queries)[:, self.column]
        found = {"safe_share": SafeShare(), "unsafe_distance": UnsafeDistance()}
        for metric in found.values():
            metric.update(z)
        return {name: float(metric.compute()) for name, metric in found.items()}


def safety_of(datamodule: Any) -> Safety | None:
    """What to measure from here on; None where the data measure no safety."""
    column = datamodule.outcomes.safety_column
    return None if column is None else Safety(datamodule.labelled.clone(), column)
