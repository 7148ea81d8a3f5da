"""Data held in tensors: indexed in batches, never collated item by item."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset, Subset, TensorDataset

__all__ = ["TensorItems", "as_tensor_items"]


class TensorItems(Dataset):
    """A map-style data set over tensors that also takes a batch of positions at once.

    ``items[3]`` is ``(x, y)``; ``items[torch.tensor([3, 5])]`` is the batch of both. Without
    targets an item is ``x`` alone.

    Args:
        inputs: [N, ...], or several such tensors.
        targets: [N] or [N, ...]; None for items without labels.
        transform: acts on a batch of inputs [n, ...] (each of them), for example uint8 to
            normalised float; a random one draws from torch's global state, as fits run seeded.

    Raises:
        ValueError: tensors of different lengths.
    """

    def __init__(
        self,
        inputs: Tensor | Sequence[Tensor],
        targets: Tensor | None = None,
        transform: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        self.inputs = (inputs,) if isinstance(inputs, Tensor) else tuple(inputs)
        self.targets = targets
        self.transform = transform
        lengths = [len(t) for t in (*self.inputs, *(() if targets is None else (targets,)))]
        if len(set(lengths)) > 1:
            raise ValueError(f"inputs and targets must have one length, got {lengths}")

    def __len__(self) -> int:
        return len(self.inputs[0])

    def read(self, index: Tensor) -> Any:
        """Inputs of some items: [K, ...], or a tuple where there are several."""
        batch = tuple(t[index] for t in self.inputs)
        if self.transform is not None:
            batch = tuple(self.transform(t) for t in batch)
        return batch[0] if len(batch) == 1 else batch

    def __getitem__(self, index: int | Tensor) -> Any:
        if isinstance(index, Tensor) and index.ndim == 1:
            inputs = self.read(index)
            targets = None if self.targets is None else self.targets[index]
        else:
            i = int(index)
            inputs = self.read(torch.tensor([i]))
            inputs = inputs[0] if isinstance(inputs, Tensor) else tuple(t[0] for t in inputs)
            targets = None if self.targets is None else self.targets[i]
        if targets is None:
            return inputs
        return (inputs, targets) if isinstance(inputs, Tensor) else (*inputs, targets)


def as_tensor_items(dataset: Any, label: str | int | None = "auto") -> TensorItems | None:
    """The same data as :class:`TensorItems`, or None where it does not lie so in tensors.

    Args:
        dataset: any.
        label: position of the label among the tensors of a ``TensorDataset``; None for none.
    """
    if isinstance(dataset, TensorItems):
        return dataset
    if type(dataset) is TensorDataset:
        *inputs, last = dataset.tensors
        if label is None:
            return TensorItems(dataset.tensors)
        in_the_middle = isinstance(label, int) and label not in (-1, len(inputs))
        if in_the_middle or (len(inputs) > 1 and not isinstance(label, int)):
            return None  # a batch has its parts in their order
        return TensorItems(inputs, last) if inputs else TensorItems(last)
    if type(dataset) is Subset and (base := as_tensor_items(dataset.dataset, label)) is not None:
        rows = torch.as_tensor(dataset.indices, dtype=torch.int64)
        targets = None if base.targets is None else base.targets[rows]
        return TensorItems([t[rows] for t in base.inputs], targets, base.transform)
    return None
