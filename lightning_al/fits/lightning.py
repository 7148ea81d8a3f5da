"""One round's fit: an ordinary Lightning fit under a fresh Trainer."""

from __future__ import annotations

import copy
import logging
import warnings
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.callbacks import Checkpoint, ModelCheckpoint
from pytorch_lightning.loggers import Logger
from pytorch_lightning.utilities.model_helpers import is_overridden
from torch import Tensor
from torch.nn import Parameter

from lightning_al.randomness import seeded
from lightning_al.ranks.ranks import ALONE, World

from .weights import start_weights

__all__ = ["Recipe", "fit_round", "test_round"]

QUIET: dict[str, Any] = {
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "num_sanity_val_steps": 0,
    "use_distributed_sampler": False,  # the datamodule shards by itself
}


@dataclass(frozen=True)
class Recipe:
    """How the fits of a run are made.

    Args:
        task: builds a fresh module; an instance is copied each round.
        trainer: Trainer arguments, copied anew each round, or a function that builds
            a Trainer, or its arguments.
        weights: policy from :mod:`lightning_al.fits.weights`.
        restore: "last" keeps the weights of the last step, "best" those of the ModelCheckpoint
            among the callbacks.
        loggers: shared by all rounds, so that a run is one run.
    """

    task: Callable[[], LightningModule] | LightningModule
    trainer: Mapping[str, Any] | Callable[[], Trainer | Mapping[str, Any]]
    weights: str = "reset"
    restore: str = "last"
    loggers: Sequence[Logger] = ()
    _built: list[weakref.ref[Tensor]] = field(
        default_factory=list, init=False, repr=False, compare=False
    )

    def build_task(self, seed: int, round: int, previous: Mapping[str, Tensor] | None) -> Any:
        """The module of a round with its start weights."""
        with seeded(seed, round, "build"):
            module = (
                copy.deepcopy(self.task) if isinstance(self.task, LightningModule) else self.task()
            )
        if not isinstance(module, LightningModule):
            raise TypeError(
                f"task must be a LightningModule or a function that builds one, got "
                f"{type(module).__name__}"
            )
        self._refuse_shared(module)
        start_weights(module, self.weights, previous, seed, round)
        return module

    def _refuse_shared(self, module: LightningModule) -> None:
        """A network that the last round trained would make every policy a warm start."""
        trainable = [p for p in module.parameters() if p.requires_grad]
        if any(old() is p for old in self._built for p in trainable):
            raise ValueError(
                "task() returned parameters that the round before has trained; build the network "
                "inside of it, or pass the module itself, which is copied each round"
            )
        self._built[:] = map(weakref.ref, trainable)

    def build_trainer(
        self, callbacks: Sequence[Callback] = (), folder: Path | None = None
    ) -> Trainer:
        """A fresh Trainer with fresh callbacks; ``callbacks`` come on top."""
        made: Any = self._made()
        if isinstance(made, Trainer):
            made.callbacks.extend(callbacks)  # type: ignore[attr-defined]
            if self.loggers:
                made.loggers = [*made.loggers, *self.loggers]
            return made
        arguments = QUIET | made
        logger = arguments.pop("logger", None)
        own = [logger] if isinstance(logger, Logger) else list(logger or [])
        mine = arguments.pop("callbacks", None) or []
        mine = [mine] if isinstance(mine, Callback) else list(mine)
        arguments["callbacks"] = [*mine, *callbacks]
        arguments.setdefault("enable_checkpointing", any(isinstance(c, Checkpoint) for c in mine))
        arguments["logger"] = [*own, *self.loggers] or False
        if folder is not None:
            arguments.setdefault("default_root_dir", str(folder))
        with _quietly():
            return Trainer(**arguments)

    def _made(self) -> Trainer | dict[str, Any]:
        """A Trainer, or arguments of one, that no earlier round has touched."""
        if callable(self.trainer):
            with _quietly():
                made = self.trainer()
            return made if isinstance(made, Trainer) else dict(made)
        # loggers are one for all rounds; everything else, callbacks above all, is copied
        loggers = {k: v for k, v in self.trainer.items() if k == "logger" and v is not True}
        rest = {k: v for k, v in self.trainer.items() if k != "logger"}
        return copy.deepcopy(rest) | loggers

    def arguments(self) -> dict[str, Any]:
        """Trainer arguments, for a Trainer that must differ in some of them.

        Raises:
            ValueError: the recipe builds whole Trainers.
        """
        made = self._made()
        if isinstance(made, Trainer):
            raise ValueError(
                "a full-batch task on several processes needs trainer as a dict of arguments, so "
                "that rank 0 can fit it alone"
            )
        return made


def _warnings_only(record: logging.LogRecord) -> bool:
    return record.levelno >= logging.WARNING


@contextmanager
def _quietly() -> Iterator[None]:
    """Silence the advice that does not fit a run of many small fits."""
    talk = logging.getLogger("pytorch_lightning.utilities.rank_zero")
    talk.addFilter(_warnings_only)  # another level would make every logger forget its own
    with warnings.catch_warnings():
        for text in (
            ".*isinstance.treespec, LeafSpec.*",
            ".*does not have many workers.*",
            ".*The number of training batches.*",
            ".*GPU available but not used.*",
            ".*Checkpoint directory .* exists.*",
            ".*No `test_dataloader.*",
            ".*across ranks is zero.*",
            ".*returned `None`, this fit will run with no optimizer.*",  # closed forms
            ".*You passed in a `val_dataloader` but have no.*",  # data modules always have one
        ):
            warnings.filterwarnings("ignore", text)
        try:
            yield
        finally:
            talk.removeFilter(_warnings_only)


def fit_round(
    recipe: Recipe,
    datamodule: Any,
    trainer: Trainer,
    *,
    seed: int,
    round: int,
    previous: Mapping[str, Tensor] | None = None,
    world: World = ALONE,
) -> LightningModule:
    """Fit a fresh module on the labelled set; all ranks end with rank 0's weights.

    Raises:
        ValueError: the fit saw no batch, or its weights are not finite.
    """
    module: LightningModule = recipe.build_task(seed, round, previous)
    alone = world.size > 1 and getattr(module, "full_batch", False)

    def fit() -> None:
        ours = _on_one_device(recipe, trainer) if alone else trainer
        if datamodule.val_dataloader() == []:
            ours.limit_val_batches = 0  # or Lightning would look for a validation set each epoch
        with seeded(seed, round, "fit"), _quietly():
            ours.fit(module, datamodule=datamodule)
        if ours.interrupted:
            raise KeyboardInterrupt
        if alone and recipe.restore == "best":
            _load_best(module, ours)

    if alone:
        world.on_zero(fit)
    else:
        fit()
        if recipe.restore == "best":
            world.together(lambda: None if world.rank else _load_best(module, trainer))
    world.sync_weights(module)
    _refuse_diverged(module, round)
    return module


def _on_one_device(recipe: Recipe, trainer: Trainer) -> Trainer:
    """A Trainer for rank 0 alone: tasks fitted on all data at once are not split over ranks."""
    arguments = {k: v for k, v in recipe.arguments().items() if k not in ("strategy", "num_nodes")}
    callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
    ours = [c for c in callbacks if getattr(c, "counts_batches", False)]
    lone = Recipe(recipe.task, {**arguments, "devices": 1}, loggers=recipe.loggers)
    return lone.build_trainer(ours)


def _load_best(module: LightningModule, trainer: Any) -> None:
    for callback in trainer.callbacks:
        if isinstance(callback, ModelCheckpoint) and callback.monitor and callback.best_model_path:
            # written by this fit a moment ago; hyper-parameters may be of any class
            state = torch.load(callback.best_model_path, map_location="cpu", weights_only=False)
            module.on_load_checkpoint(state)
            module.load_state_dict(state["state_dict"])
            return
    raise ValueError(
        "restore='best' needs a ModelCheckpoint with a monitor among the Trainer's callbacks, "
        "and a validation set for it to look at"
    )


def _refuse_diverged(module: LightningModule, round: int) -> None:
    def bad(value: Any) -> bool:
        if not isinstance(value, Tensor) or not value.is_floating_point():
            return False
        # a buffer may hold infinities (attention masks), never NaN
        return bool((~value.isfinite() if isinstance(value, Parameter) else value.isnan()).any())

    for name, value in module.state_dict(keep_vars=True).items():
        if bad(value):
            raise ValueError(
                f"the fit of round {round} diverged: {name} is not finite; lower the learning "
                "rate, clip gradients (trainer.gradient_clip_val), or look for NaN in the features"
            )


def test_round(module: LightningModule, datamodule: Any, trainer: Trainer) -> dict[str, float]:
    """Metrics of the fit and of the test set, by name."""
    metrics = {k: float(v) for k, v in trainer.callback_metrics.items() if v.numel() == 1}
    if is_overridden("test_step", module):
        with _quietly():
            results = trainer.test(module, datamodule=datamodule, verbose=False)
        for result in results:
            metrics |= {k: float(v) for k, v in result.items()}
    else:
        warnings.warn(
            f"{type(module).__name__} has no test_step: the run records no test metric",
            stacklevel=2,
        )
    return metrics
