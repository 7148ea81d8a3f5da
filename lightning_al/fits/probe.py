"""A few steps both ways: whether the bare loop gives what Lightning gives, to the last bit."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from lightning_al.randomness import seeded

from .lightning import Engine
from .recipe import Recipe

__all__ = ["probe", "same", "short"]

BATCHES, EPOCHS = 2, 2


def probe(
    modules: tuple[Any, Any],
    recipe: Recipe,
    datamodule: Any,
    engines: tuple[Engine, Engine],
    trainer: Any,
    seed: int,
    round: int,
) -> str:
    """What differs between two engines on the first batches of a round; empty where nothing does.

    Weights and buffers, the optimiser's state, what was logged and what the test gave are compared
    bit by bit, over two epochs of two batches, each with a validation of two.

    Args:
        modules: equal ones, one for each engine.
        recipe: that built them.
        datamodule: at the round; it is left as it is.
        engines: that are compared; the first only reads the trainer.
        trainer: built for such modules; callbacks, which may write files, take no part. It has its
            settings and callbacks again afterwards.
        seed: of the run.
        round: whose first batches these are.
    """
    found = []
    with short(trainer), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for engine, module in zip(engines, modules, strict=True):
            data = datamodule.restricted(None)
            try:
                found.append(_shown(engine, module, recipe, data, trainer, seed, round))
            except Exception as error:
                return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    for what in found[0]:
        if not same(found[0][what], found[1][what]):
            return f"{what} would not be the same to the last bit"
    return ""


def _shown(
    engine: Engine, module: Any, recipe: Recipe, data: Any, trainer: Any, seed: int, round: int
) -> Mapping[str, Any]:
    """All that tells of a fit and its test."""
    used = engine.fit(module, recipe, data, trainer, seed=seed, round=round)
    logged = dict(used.callback_metrics)
    states = [optimizer.state_dict() for optimizer in used.optimizers]
    with seeded(seed, round, "stage-test"):
        tested = engine.test(module, data, used)
    return {
        "the weights": module.state_dict(),
        "the state of the optimiser": states,
        "what is logged": logged,
        "the test": tested,
    }


@contextmanager
def short(trainer: Any) -> Iterator[None]:
    """Inside, a Trainer is one for a few batches, without callbacks."""
    loops = trainer.fit_loop
    names = [f"limit_{kind}_batches" for kind in ("train", "val", "test")]
    before = {name: getattr(trainer, name) for name in names}
    most, least, steps = loops.max_epochs, loops.min_epochs, loops.epoch_loop.min_steps
    callbacks = trainer.callbacks
    for name, limit in before.items():
        if limit != 0:
            setattr(trainer, name, min(limit, BATCHES) if isinstance(limit, int) else BATCHES)
    if most not in (0, 1):
        loops.max_epochs = EPOCHS
    loops.min_epochs, loops.epoch_loop.min_steps = None, None
    trainer.callbacks = []
    try:
        yield
    finally:
        for name, limit in before.items():
            setattr(trainer, name, limit)
        loops.max_epochs, loops.min_epochs, loops.epoch_loop.min_steps = most, least, steps
        trainer.callbacks = callbacks


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
    if isinstance(one, Sequence) and not isinstance(one, str):
        alike = type(one) is type(other) and len(one) == len(other)
        return alike and all(map(same, one, other))
    if isinstance(one, float):
        return isinstance(other, float) and one.hex() == other.hex()
    return bool(one == other)


def _bits(value: Tensor) -> bytes:
    made: bytes = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
    return made
