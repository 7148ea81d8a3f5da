"""A few steps both ways: whether the bare loop gives what Lightning gives, to the last bit."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lightning_al.compat import family_of
from lightning_al.randomness import seeded

from .lightning import Engine
from .recipe import Recipe

__all__ = ["probe"]

BATCHES, EPOCHS = 2, 2


def probe(
    recipe: Recipe,
    datamodule: Any,
    engines: tuple[Engine, Engine],
    previous: Mapping[str, Any] | None = None,
    *,
    seed: int,
    round: int,
) -> str:
    """What differs between two engines on the first batches of a round; empty where nothing does.

    Weights and buffers, the optimiser's state, what was logged and what the test gave are compared
    bit by bit, over two epochs of two batches, each with a validation of two.

    Args:
        recipe: of the run; callbacks take no part, which may write files.
        datamodule: at the round; it is left as it is.
        engines: that are compared.
        previous: weights to go on from.
        seed: of the run.
        round: whose first batches these are.
    """
    apart = Recipe(recipe.task, recipe.trainer, recipe.weights)
    modules = [apart.build_task(seed, round, previous) for _ in engines]
    found = []
    with tempfile.TemporaryDirectory() as scratch, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for engine, module in zip(engines, modules, strict=True):
            trainer = _short(apart.build_trainer((), Path(scratch), family_of(module)))
            data = datamodule.restricted(None)
            try:
                used = engine.fit(module, apart, data, trainer, seed=seed, round=round)
                logged = dict(used.callback_metrics)
                state = [each.state_dict() for each in used.optimizers]
                with seeded(seed, round, "stage-test"):
                    tested = engine.test(module, data, used)
            except Exception as error:
                return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
            found.append(
                {
                    "weights": module.state_dict(),
                    "the state of the optimiser": state,
                    "what is logged": logged,
                    "the test": tested,
                }
            )
    one, other = found
    for what in one:
        if not same(one[what], other[what]):
            return f"{what} would not be the same to the last bit"
    return ""


def _short(trainer: Any) -> Any:
    """A Trainer for a few batches, without callbacks."""
    for kind in ("train", "val", "test"):
        name = f"limit_{kind}_batches"
        if getattr(trainer, name) != 0:
            setattr(trainer, name, BATCHES)
    loops = trainer.fit_loop
    if loops.max_epochs is None or loops.max_epochs not in (0, 1):
        loops.max_epochs = EPOCHS
    loops.min_epochs, loops.epoch_loop.min_steps = None, None
    trainer.callbacks = []
    return trainer


def same(one: Any, other: Any) -> bool:
    """Whether nested values are equal, tensors and floats to the last bit.

    >>> same({"a": torch.tensor([0.0, float("nan")])}, {"a": torch.tensor([0.0, float("nan")])})
    True
    >>> same([0.0], [-0.0])
    False
    """
    if isinstance(one, Tensor):
        alike = isinstance(other, Tensor) and one.dtype == other.dtype
        return alike and one.shape == other.shape and _bits(one) == _bits(other)
    if isinstance(one, Mapping):
        alike = isinstance(other, Mapping) and list(one) == list(other)
        return alike and all(same(one[name], other[name]) for name in one)
    if isinstance(one, list | tuple):
        alike = type(one) is type(other) and len(one) == len(other)
        return alike and all(map(same, one, other))
    if isinstance(one, float):
        return isinstance(other, float) and one.hex() == other.hex()
    return bool(one == other)


def _bits(value: Tensor) -> bytes:
    made: bytes = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
    return made
