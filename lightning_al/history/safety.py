"""How safe the queries of a run were, where its data measure safety."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lightning_al.policies.safety_metrics import SafeShare, UnsafeDistance

__all__ = ["Safety", "safety_of", "safety_outcome"]


@dataclass(frozen=True)
class Safety:
    """Queries are what is labelled beyond the initial items.

    Args:
        initial: positions [n] labelled at the start.
        column: of the safety outcome among the measures.
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
    outcome = safety_outcome(datamodule)
    if outcome is None:
        return None
    return Safety(datamodule.labelled.clone(), tuple(datamodule.measures).index(outcome))


def safety_outcome(datamodule: Any) -> str | None:
    """Which of its ``measures`` says how safe a place is (safe from 0); None where none does.

    A data module names it in ``safety``; one that names nothing means the measure ``z``.
    """
    measures = tuple(getattr(datamodule, "measures", ()))
    named: str | None = getattr(datamodule, "safety", "z" if "z" in measures else None)
    if named is not None and named not in measures:
        raise ValueError(
            f"{type(datamodule).__name__} names {named!r} as its safety, and measures "
            f"{', '.join(measures) or 'nothing'}; name one of these"
        )
    return named
