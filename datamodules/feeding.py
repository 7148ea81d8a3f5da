"""The loaders of a data module: training, validation, test, and the pool."""

from __future__ import annotations

from typing import Any

import torch
from pytorch_lightning.utilities import CombinedLoader
from torch.utils.data import DataLoader

from lightning_al.randomness import generator

from .loading import InProcess
from .splits import is_dataset
from .views import Bare, Batches, Labelled, batches, drawn_rows

__all__ = ["eval_loader", "pool_loader", "shuffled_loader", "train_loader"]


def train_loader(data: Any) -> Any:
    """The labelled set, shuffled; with the pool beside it for tasks that use it.

    A task that says ``full_batch`` gets all labelled items at once, one that says
    ``uses_unlabelled`` also inputs of the pool.
    """
    rank, world = _place(data)
    task = None if data.trainer is None else data.trainer.lightning_module
    index, odds = data.labelled, data.shares
    whole = getattr(task, "full_batch", False)
    if whole and odds is not None:  # a fit on all at once has one epoch, and one draw
        index, odds = index[drawn_rows(odds, generator(data.seed, data.round, "odds"))], None
    view = Labelled(data.items, index, data.answered(index))
    if whole:
        return batches(view, Batches(len(view), max(len(view), 1)), 0)
    loader = shuffled_loader(data, view, rank, world, odds)
    if not getattr(task, "uses_unlabelled", False):
        return loader
    rest = data.pool if len(data.pool) else data.labelled  # steps go on when all are labelled
    other = shuffled_loader(data, InputsOnly(data.items, rest), rank, world)
    return CombinedLoader({"labelled": loader, "unlabelled": other}, "max_size_cycle")


def shuffled_loader(
    data: Any,
    view: Labelled | Bare,
    rank: int = 0,
    world: int = 1,
    odds: torch.Tensor | None = None,
) -> DataLoader | InProcess:
    """Batches of a view in an order drawn by (seed, round, epoch), the same on every rank.

    With ``odds`` [n] an epoch is n draws of rows by them, instead of each row once.
    """
    key = (data.seed, data.round)
    order = Batches(
        *(len(view), data.batch_size), shuffle=key, rank=rank, world=world, pad=True, odds=odds
    )
    return _loader(data, view, order)


def eval_loader(data: Any, name: str) -> DataLoader | InProcess | list[Any]:
    """The "val" or "test" set; empty when there is none. Each rank reads its share once."""
    spec, held = getattr(data.splits, name), data.held[name]
    if name == "val" and data.judging is not None:
        view = Labelled(data.pool_items, data.judging, data.answered(data.judging))
    elif held is not None:
        view = Labelled(data.pool_items, held)
    elif is_dataset(spec):
        view = Labelled(data.items.like(spec), torch.arange(len(spec)))
    else:
        return []
    rank, world = _place(data)
    if len(view) < world:  # an empty shard would leave a rank without a step
        rank, world = 0, 1
    order = Batches(len(view), data.eval_batch_size, rank=rank, world=world)
    return _loader(data, view, order)


def pool_loader(data: Any) -> DataLoader | InProcess:
    """The pool in ascending order, inputs only."""
    view = InputsOnly(data.pool_items, data.pool)
    return _loader(data, view, Batches(len(view), data.eval_batch_size))


def _place(data: Any) -> tuple[int, int]:
    trainer = data.trainer
    return (0, 1) if trainer is None else (trainer.global_rank, trainer.world_size)


def _loader(data: Any, view: Any, sampler: Batches) -> DataLoader | InProcess:
    drawn = generator(data.seed, data.round, "workers")
    return batches(view, sampler, data.num_workers, generator=drawn)


class InputsOnly(Bare):
    """Rows -> inputs [n, ...] alone, for tasks that train on unlabelled items."""

    def __getitem__(self, rows: torch.Tensor) -> Any:
        return super().__getitem__(rows)[1]
