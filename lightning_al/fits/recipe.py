"""How the fits of a run are made: modules, and Trainers that nothing has served before."""

from __future__ import annotations

import copy
import inspect
import logging
import warnings
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytorch_lightning
from torch import Tensor, nn

from lightning_al.compat import NAMES, family_of, is_a
from lightning_al.history.loggers import part_runs
from lightning_al.randomness import seeded
from lightning_al.tuning.settable import under

from .weights import start_weights

__all__ = ["QUIET", "Recipe", "quietly"]

QUIET: dict[str, Any] = {
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "num_sanity_val_steps": 0,
    "use_distributed_sampler": False,  # the datamodule shards by itself
}


BUILT_OF: weakref.WeakKeyDictionary[Any, dict[str, Any]] = weakref.WeakKeyDictionary()
"""Trainer -> the settings that it was built of."""


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

    task: Any
    trainer: Any
    weights: str = "reset"
    restore: str = "last"
    loggers: Sequence[Any] = ()
    _built: list[weakref.ref[Tensor]] = field(
        default_factory=list, init=False, repr=False, compare=False
    )
    _used: list[Any] = field(default_factory=list, init=False, repr=False, compare=False)

    def under(self, settings: Mapping[str, Any]) -> Recipe:
        """The recipe of fits under other settings, by dotted name; itself where there are none.

        Raises:
            ValueError: a task that was given as an object, which has no settings.
        """
        if not settings:
            return self
        task, trainer = under(self.task, self.trainer, settings)
        return Recipe(task, trainer, self.weights, self.restore, self.loggers)

    def build_task(self, seed: int, round: int, previous: Mapping[str, Tensor] | None) -> Any:
        """The module of a round with its start weights.

        Raises:
            TypeError: the task builds no LightningModule.
            ValueError: one with parameters that the round before has trained.
        """
        with seeded(seed, round, "build"):
            given = isinstance(self.task, nn.Module)
            module = copy.deepcopy(self.task) if given else self.task()
        if not is_a(module, "LightningModule"):
            raise TypeError(
                f"task must be a LightningModule or a function that builds one, got "
                f"{type(module).__name__}"
            )
        self._refuse_shared(module)
        start_weights(module, self.weights, previous, seed, round)
        return module

    def _refuse_shared(self, module: nn.Module) -> None:
        """A network that the last round trained would make every policy a warm start."""
        trainable = [p for p in module.parameters() if p.requires_grad]
        if any(old() is p for old in self._built for p in trainable):
            raise ValueError(
                "task() returned parameters that the round before has trained; build the network "
                "inside of it, or pass the module itself, which is copied each round"
            )
        self._built[:] = map(weakref.ref, trainable)

    def build_trainer(
        self,
        callbacks: Sequence[Any] = (),
        folder: Path | None = None,
        family: Any = None,
    ) -> Any:
        """A fresh Trainer with fresh callbacks; ``callbacks`` come on top.

        Args:
            callbacks: of the run itself.
            folder: where it keeps files.
            family: the Lightning of the module that it is for; None where it is for none yet.

        Raises:
            ValueError: a function that gave the same Trainer or callback before, whose state (best
                score, patience, epochs) would survive a round.
            TypeError: a Trainer of the other name of Lightning.
        """
        made: Any = self._made()
        if isinstance(made, Mapping):
            trainer = self._of_arguments(made, callbacks, folder, family or pytorch_lightning)
        else:
            if family is not None:
                _refuse_other_family(made, family)
            trainer = made
            trainer.callbacks.extend(callbacks)
            if self.loggers:
                trainer.loggers = [*trainer.loggers, *self.loggers]
        self._refuse_used([trainer, *trainer.callbacks])
        part_runs(trainer.loggers)
        return trainer

    def _refuse_used(self, now: list[Any]) -> None:
        if old := [x for x in now if any(x is used for used in self._used)]:
            raise ValueError(
                f"the trainer function returned the same {type(old[0]).__name__} twice; it must "
                "build a new Trainer with new callbacks each time, for their state (best score, "
                "patience, epochs) must not survive a round"
            )
        self._used[:] = now

    def renew(self, trainer: Any, callbacks: Sequence[Any] = (), family: Any = None) -> bool:
        """Give a Trainer of such a recipe, that has fitted nothing, the callbacks of a new one.

        Building a Trainer takes some milliseconds, most of them in the search for plugins.

        Args:
            trainer: built by :meth:`build_trainer` of this recipe or another; None for none.
            callbacks: of the run itself.
            family: the Lightning of the module.

        Returns:
            Whether it is as a new one now; not where a new one would have other settings.
        """
        if trainer is None or type(trainer) is not family.Trainer:
            return False
        made = self._made()
        if not isinstance(made, Mapping) or _settings(made) != BUILT_OF.get(trainer):
            return False
        fresh = [*_callbacks(made), *callbacks]
        if _kinds(trainer.callbacks) != _kinds(fresh):  # Lightning adds some by itself
            return False
        self._refuse_used([*fresh])
        saving = [c for c in fresh if is_a(c, "callbacks.Checkpoint")]
        trainer.callbacks = [*(c for c in fresh if c not in saving), *saving]
        return True

    def _of_arguments(
        self, made: Mapping[str, Any], callbacks: Sequence[Any], folder: Path | None, family: Any
    ) -> Any:
        arguments = QUIET | dict(made)
        logger = arguments.pop("logger", None)
        own = [logger] if is_a(logger, "loggers.Logger") else list(logger or [])
        mine = _callbacks(made)
        arguments["callbacks"] = [*mine, *callbacks]
        saves = any(is_a(c, "callbacks.Checkpoint") for c in mine)
        arguments.setdefault("enable_checkpointing", saves)
        arguments["logger"] = [*own, *self.loggers] or False
        if folder is not None:
            arguments.setdefault("default_root_dir", str(folder))
        with quietly():
            try:
                trainer = family.Trainer(**arguments)
            except (TypeError, ValueError, ImportError, RuntimeError) as error:
                shown = _shown(made, family.Trainer)
                raise ValueError(
                    f"no Trainer can be made of {shown} ({error}); change them"
                ) from error
        BUILT_OF[trainer] = _settings(made) or {"": None}
        return trainer

    def _made(self) -> Any:
        """A Trainer, or arguments of one, that no earlier round has touched."""
        if callable(self.trainer):
            with quietly():
                made = self.trainer()
            return made if is_a(made, "Trainer") else dict(made)
        # loggers are one for all rounds; everything else, callbacks above all, is copied
        loggers = {k: v for k, v in self.trainer.items() if k == "logger" and v is not True}
        rest = {k: v for k, v in self.trainer.items() if k != "logger"}
        return copy.deepcopy(rest) | loggers

    def alone(self, family: Any = pytorch_lightning, callbacks: Sequence[Any] = ()) -> Any:
        """A Trainer of the same settings on one device, without loggers.

        Args:
            family: the Lightning of the module that it is for.
            callbacks: of the run itself.
        """
        given = self.arguments()
        arguments = {k: v for k, v in given.items() if k not in ("strategy", "num_nodes")}
        lone = Recipe(self.task, {**arguments, "devices": 1, "logger": False})
        return lone.build_trainer(callbacks, family=family)

    def arguments(self) -> dict[str, Any]:
        """Trainer arguments, for a Trainer that must differ in some of them.

        Raises:
            ValueError: the recipe builds whole Trainers.
        """
        made = self._made()
        if not isinstance(made, Mapping):
            raise ValueError(
                "fits on one device (full-batch tasks on several processes, refits) need trainer "
                "as a dict of arguments, not as a Trainer"
            )
        return dict(made)


def _callbacks(arguments: Mapping[str, Any]) -> list[Any]:
    """The callbacks among Trainer arguments."""
    given = arguments.get("callbacks") or []
    return [given] if is_a(given, "Callback") else list(given)


def _kinds(callbacks: Sequence[Any]) -> list[str]:
    """What kinds of callbacks these are, the run's own left out."""
    theirs = (c for c in callbacks if not getattr(c, "counts_batches", False))
    return sorted(type(c).__name__ for c in theirs)


def _settings(arguments: Mapping[str, Any]) -> dict[str, Any] | None:
    """The other ones; None where they are more than plain values, that can be compared."""
    rest = {k: v for k, v in arguments.items() if k != "callbacks" and v is not None and v != []}
    plain = all(isinstance(v, bool | int | float | str) for v in rest.values())
    # with a Checkpoint among the callbacks a Trainer is built otherwise
    saves = any(is_a(c, "callbacks.Checkpoint") for c in _callbacks(arguments))
    return {**rest, "": saves} if plain else None


def _shown(arguments: Mapping[str, Any], trainer: Any) -> str:
    """The arguments that are others than the Trainer's own; of those that are objects the name."""
    usual = {k: p.default for k, p in inspect.signature(trainer).parameters.items()}
    plain = (bool, int, float, str)
    changed = {
        k: v
        for k, v in arguments.items()
        if k not in ("logger", *QUIET) and v is not None and v != [] and v != usual.get(k)
    }
    return ", ".join(f"{k}={v!r}" if isinstance(v, plain) else k for k, v in changed.items())


def _refuse_other_family(trainer: Any, family: Any) -> None:
    if not isinstance(trainer, family.Trainer):
        raise TypeError(
            f"the task is a module of {family.__name__}, the trainer one of "
            f"{family_of(trainer).__name__}, and neither knows the other; build both with the same "
            "one of the two"
        )


def _warnings_only(record: logging.LogRecord) -> bool:
    return record.levelno >= logging.WARNING


@contextmanager
def quietly() -> Iterator[None]:
    """Silence the advice that does not fit a run of many small fits."""
    talk = [logging.getLogger(f"{name}.utilities.rank_zero") for name in NAMES]
    for logger in talk:
        logger.addFilter(_warnings_only)  # another level would make each forget its own
    with warnings.catch_warnings():
        for text in (
            ".*isinstance.treespec, LeafSpec.*",
            ".*does not have many workers.*",
            ".*The number of training batches.*",
            ".*GPU available but not used.*",
            ".*Checkpoint directory .* exists.*",
            ".*No `test_dataloader.*",
            ".*across ranks is zero.*",
            r".*module\(s\) in eval mode at the start of training.*",  # frozen extractors
            ".*returned `None`, this fit will run with no optimizer.*",  # closed forms
            ".*You passed in a `val_dataloader` but have no.*",  # data modules always have one
        ):
            warnings.filterwarnings("ignore", text)
        try:
            yield
        finally:
            for logger in talk:
                logger.removeFilter(_warnings_only)
