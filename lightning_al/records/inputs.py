"""Inputs that are no items of a run's data, such as those that a model will be used on."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

__all__ = ["Inputs", "items_of"]

BATCH = 256  # items of a tensor that are run together


@dataclass(frozen=True, repr=False, eq=False)
class Inputs:
    """Batches of inputs, told from others by their content.

    >>> Inputs.of(torch.zeros(300, 2))
    Inputs(300 items, 1b443ebf)
    """

    batches: tuple[Any, ...]

    @classmethod
    def of(cls, given: Any) -> Inputs:
        """Inputs from a tensor [T, ...], or from batches of what the model takes.

        Raises:
            ValueError: nothing of these, or no items.
        """
        if isinstance(given, Inputs):
            return given
        if isinstance(given, Tensor):
            given = given.split(BATCH) if given.ndim else ()
        elif isinstance(given, str | bytes | Mapping) or not isinstance(given, Iterable):
            raise ValueError(
                "inputs are a tensor [T, ...] or batches of what the model takes (a DataLoader "
                f"without labels), got {type(given).__name__}"
            )
        made = cls(tuple(given))
        if not len(made):
            raise ValueError("inputs hold no items; give at least one")
        return made

    def __len__(self) -> int:
        return sum(map(items_of, self.batches))

    def __iter__(self) -> Iterator[Any]:
        return iter(self.batches)

    def __repr__(self) -> str:
        digest = hashlib.sha256()
        for batch in self.batches:
            for part in _leaves(batch):
                digest.update(_bytes(part))
        return f"Inputs({len(self)} items, {digest.hexdigest()[:8]})"

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and repr(self) == repr(other)

    def __hash__(self) -> int:
        return hash(repr(self))


def items_of(batch: Any) -> int:
    """How many items a batch of inputs holds: the length of its first tensor.

    Raises:
        ValueError: a batch without a tensor.

    >>> items_of({"a": [torch.zeros(3, 2)], "b": "text"})
    3
    """
    for part in _leaves(batch):
        if isinstance(part, Tensor) and part.ndim:
            return len(part)
    raise ValueError(
        f"a batch of inputs is a tensor [n, ...] or holds some, got {type(batch).__name__}"
    )


def _leaves(batch: Any) -> Iterator[Any]:
    if isinstance(batch, Mapping):
        batch = [value for _, value in sorted(batch.items(), key=lambda pair: str(pair[0]))]
    if isinstance(batch, list | tuple):
        for part in batch:
            yield from _leaves(part)
    else:
        yield batch


def _bytes(part: Any) -> bytes:
    if not isinstance(part, Tensor):
        return repr(part).encode()
    values = part.detach().cpu().contiguous()
    about = f"{values.dtype} {list(values.shape)}".encode()
    return about + values.reshape(-1).view(torch.uint8).numpy().tobytes()
