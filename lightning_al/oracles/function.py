"""A function answers: a simulator, an instrument, a service."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lightning_al.records import Answers
from lightning_al.spec import find
from lightning_al.values import narrowed

__all__ = ["FunctionOracle"]


@dataclass(frozen=True)
class FunctionOracle:
    """Answers by a function of the inputs; what it gives for an item is written down once.

    Args:
        function: inputs [K, ...] of the chosen items, as the data set has them -> answers [K, ...],
            or a mapping of them by name (``{"y": [K], "z": [K]}``); or its import path. Places of a
            box are float64.
        cost: of each answer.

    Raises:
        LookupError: nothing at the import path.
        TypeError: no function.
    """

    function: Callable[[Any], Any] | str
    cost: float = 1.0

    def __post_init__(self) -> None:
        found: Any = self.function
        if isinstance(found, str):
            found = find(found, "function", "give an import path such as my_lab.measure")
        if not callable(found):
            raise TypeError(
                f"FunctionOracle takes a function of the inputs, got {type(found).__name__}"
            )
        object.__setattr__(self, "function", found)

    def price(self, index: Tensor, datamodule: Any) -> Tensor:
        """What each item [K] costs."""
        return torch.full((len(index),), float(self.cost), dtype=torch.float64)

    def ask(self, index: Tensor, datamodule: Any, round: int) -> Answers:
        """What the function says of the items ``index`` [K].

        Raises:
            TypeError: it gives neither a tensor nor a mapping of tensors.
        """
        at = getattr(datamodule, "coordinates", None)
        function: Any = self.function
        found = function(datamodule.pool_items.inputs(index) if at is None else at(index))
        if isinstance(found, Mapping):
            values = {str(name): _tensor(value) for name, value in found.items()}
        else:
            values = {"y": _tensor(found)}
        return Answers(values=values, cost=self.price(index, datamodule))


def _tensor(value: Any) -> Tensor:
    try:
        found = torch.as_tensor(value)
    except (TypeError, ValueError, RuntimeError):
        raise TypeError(
            f"the function of a FunctionOracle gives a tensor [K] (or a mapping of them by name), "
            f"got {type(value).__name__}"
        ) from None
    return narrowed(found, "the answers") if found.dtype == torch.float64 else found
