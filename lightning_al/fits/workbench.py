"""What a strategy is given that looks inside the model, or fits something of its own."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import InitVar, dataclass, field, replace
from functools import cached_property
from typing import Any, ClassVar

import torch
from torch import Tensor

from lightning_al.compat import bridged, family_of
from lightning_al.posteriors import Deterministic
from lightning_al.randomness import seeded
from lightning_al.records import Pool, Predictions
from lightning_al.scoring.scorer import Bound, predictions_of
from lightning_al.tasks import Adapter, find_head

from .lightning import refits, test_round
from .recipe import Recipe, quietly

__all__ = ["Workbench", "adapter_for"]

HEAD_ITEMS = 8  # in the batch on which a head is checked
QUIET: dict[str, Any] = {
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "use_distributed_sampler": False,
}


@dataclass(frozen=True)
class Plain:
    """A plan to run the plain network and keep what it says; the strategy of a bare pass."""

    needs: Collection[str]

    members: ClassVar[str] = "one"

    @property
    def keeps(self) -> Collection[str]:
        """All of it."""
        return self.needs


def adapter_for(module: Any, task: Any, adapter: Adapter) -> Adapter:
    """How a module is read in a run whose ``task`` is read by ``adapter``.

    A module of the task's class as the task is: by the adapter that the run was given, or by its
    own where that was the task's own. A module of another class by its own, where it has one.
    """
    own = isinstance(getattr(module, "adapter", None), Adapter)
    given = adapter != Adapter.for_task(task)
    if not own or (given and type(module) is type(task)):
        return adapter
    return Adapter.for_task(module)


class _Inputs:
    """Batches of inputs out of batches (positions, inputs)."""

    def __init__(self, loader: Any) -> None:
        self.loader = loader

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Any]:
        return (inputs for _, inputs in self.loader)


@dataclass(frozen=True)
class Workbench:
    """The fitted task of a round, its data as far as a strategy may see them, and fits.

    See :class:`lightning_al.protocols.Workbench` for the contract. It works on one rank and one
    device; its fits are seeded by (run, round, place among the fits of the round). Nothing that it
    holds leads to the data: what reads them is behind a function.

    Args:
        bound: the scorer of the round, bound to the strategy whose pool this is the bench of.
        recipe: how the run fits its modules; None where nothing can be refitted.
        privileged: labels of the pool and the test set are open.
        refitting: fits fresh modules, each on some data, as :func:`.lightning.refits`.
        count: of the fits so far.
    """

    bound: InitVar[Bound]
    recipe: InitVar[Recipe | None] = None
    privileged: bool = False
    refitting: Callable[..., list[Any]] = refits
    count: Iterator[int] = field(default_factory=itertools.count, repr=False, compare=False)
    _bound: Callable[[], Bound] = field(init=False, repr=False, compare=False)
    _given: Callable[[], Recipe | None] = field(init=False, repr=False, compare=False)

    def __post_init__(self, bound: Bound, recipe: Recipe | None) -> None:
        object.__setattr__(self, "_bound", lambda: bound)
        object.__setattr__(self, "_given", lambda: recipe)

    # --- what is there -----------------------------------------------------------------------

    @property
    def task(self) -> Any:
        """The fitted module of the round."""
        return self._bound().scorer.task

    @property
    def reading(self) -> Any:
        """What the task's outputs are (see :mod:`lightning_al.readings`)."""
        return self._bound().scorer.adapter.reading

    @property
    def _data(self) -> Any:
        return self._bound().scorer.datamodule

    @property
    def _where(self) -> tuple[int, int]:
        """Seed and round."""
        return self._bound().scorer.seed, self._bound().scorer.round

    @property
    def labelled(self) -> Tensor:
        """Positions of the labelled items [L], in the order of ``Context.targets``."""
        index: Tensor = self._data.labelled
        return index

    @cached_property
    def head(self) -> Callable[[Tensor], Tensor]:
        """The fitted task from its embedding on: [n, E] -> logits [n, S, C, *P].

        Means [n, S, D] of a regression; S is 1 for a network without members. Differentiable; a
        copy in eval mode whose own parameters ask for no gradient. Any device in, the same out.

        Raises:
            LookupError: the head cannot be told from the adapter.
        """
        it = self._bound().scorer
        index = it.datamodule.pool
        index = (index if len(index) else it.datamodule.labelled)[:HEAD_ITEMS]
        if not len(index):
            raise LookupError("the head of a model is checked on items, and there are none")
        ((_, inputs),) = it.datamodule.bare_batches(index, len(index))
        with it.running.ready(), it.running.forward() as bring:
            return find_head(it.task, it.adapter, bring(inputs), it.running.device)

    # --- predictions and pools ---------------------------------------------------------------

    def predict(self, index: Tensor, needs: Collection[str], module: Any = None) -> Predictions:
        """Predictions for the items ``index`` [n], in their order.

        Args:
            index: positions in the data set.
            needs: fields.
            module: another module to run, plain and in eval mode; by default the task by the
                members that scored the pool. Of no items only the index is set.
        """
        if module is None:
            return self._bound().predict(index, needs)
        it = replace(self._bound().scorer, bank=None)  # what a module says is its own
        if module is not self.task:
            it = replace(it, task=module, adapter=adapter_for(module, self.task, it.adapter))
        plain = Bound(it, Plain(tuple(needs)), Deterministic().start(0, 0))
        return predictions_of(index, plain.score(index))

    def predict_inputs(self, batches: Iterable[Any], needs: Collection[str]) -> Predictions:
        """Predictions for inputs that are no items of the run, by the members that scored the pool.

        Args:
            batches: of inputs, as the model takes them.
            needs: fields.
        """
        return self._bound().predict_inputs(batches, needs)

    def joint(self, index: Tensor) -> Any:
        """The joint predictive distribution over the items ``index`` [K]."""
        return self._bound().joint(index)

    def labelled_pool(self) -> Pool:
        """The labelled set as a pool, scored by the strategy."""
        return self._bound().labelled_pool()

    def pool_of(
        self, index: Tensor, *, labelled: Tensor | None = None, strategy: Any = None
    ) -> Pool:
        """Some items as a pool of their own, scored: for strategies that rehearse a choice.

        Args:
            index: positions [N] in the data set, of the pool or the labelled set.
            labelled: the labelled set [L] of this pool, a part of the run's; all but those of
                ``index`` by default.
            strategy: that scores it; the bench's own by default.
        """
        data = self._data
        if labelled is None:
            labelled = data.labelled[~torch.isin(data.labelled, index)]
        scorer = replace(self._bound().scorer, datamodule=data.restricted(labelled, pool=index))
        chosen_by = self._bound().strategy if strategy is None else strategy
        bound = Bound(scorer, chosen_by, scorer.session(chosen_by))
        bound.teach()
        return bound.pool_of(index)

    # --- data --------------------------------------------------------------------------------

    def inputs(self, index: Tensor) -> Iterable[Any]:
        """Batches of inputs of the items ``index`` [n], in that order, without labels."""
        return _Inputs(self._data.bare_batches(index))

    def loader(self, index: Tensor | None = None, weights: Tensor | None = None) -> Any:
        """Batches (inputs, targets) of labelled items, shuffled.

        Args:
            index: positions [M]; some may be there several times; all labelled ones by default.
            weights: [M], how often each counts: whole numbers repeat items, others are the odds of
                M draws an epoch.

        Raises:
            ValueError: an item that is not labelled, or weights that are none.
        """
        return self._data.labelled_loader(index, weights)

    # --- fits --------------------------------------------------------------------------------

    def fresh(self) -> Any:
        """A module as the run builds them, never fitted."""
        return self._recipe().build_task(*self._where, None)

    def fit(self, module: Any, loader: Iterable[Any], **arguments: Any) -> Any:
        """Fit a module on batches, by a plain Trainer on the run's device; the module.

        Args:
            module: of the strategy's own.
            loader: of batches.
            arguments: of the Trainer.
        """
        device = self._bound().scorer.running.device
        chosen: Any = 1 if device.index is None or device.type == "cpu" else [device.index]
        place = {"accelerator": device.type, "devices": chosen}
        with seeded(*self._where, f"learner-{next(self.count)}"), quietly():
            family_of(module).Trainer(**(QUIET | place | arguments)).fit(module, loader)
        return module

    def refit(
        self,
        index: Tensor | None = None,
        weights: Tensor | None = None,
        *,
        answers: Tensor | None = None,
        ahead: int = 0,
    ) -> Any:
        """The task fitted anew on some labelled items, as the run fits it; the module.

        Args:
            index: positions [M] of labelled items; all by default.
            weights: [M], how often each counts (see :meth:`loader`).
            answers: positions of items of the pool that count as labelled too, with the labels
                that the data set carries; for privileged strategies alone.
            ahead: 0 draws weights and order of this fit anew; 1 takes those of the next round.

        Raises:
            ValueError: items that are not labelled, a fit that diverged.
        """
        return self.refits([(index, weights)], answers=answers, ahead=ahead)[0]

    def refits(
        self,
        multisets: Sequence[tuple[Tensor | None, Tensor | None]],
        *,
        answers: Tensor | None = None,
        ahead: int = 0,
    ) -> list[Any]:
        """Several :meth:`refit`, one for each (index, weights)."""
        recipe = replace(self._recipe(), loggers=())
        seed, round = self._where
        some = []
        for index, weights in multisets:
            data = self._data.restricted(index, weights=weights, answers=self._open(answers))
            data.round = round + ahead
            some.append(data)
        keys = [next(self.count) for _ in some]
        if not some:
            return []
        with seeded(seed, round, f"refit-{keys[0]}"):
            return self.refitting(recipe, some, seed=seed, round=round + ahead)

    def metrics(self, module: Any, on: str = "val") -> dict[str, float]:
        """What a module logs on the validation set; on the test set for privileged strategies.

        Args:
            module: of the run's kind, fitted.
            on: "val" or "test".

        Raises:
            ValueError: no such data, or data that are not open.
        """
        if on not in ("val", "test"):
            raise ValueError(f"on is 'val' or 'test', got {on!r}")
        if on == "test":
            self._open(self.labelled)
            trainer = self._recipe().alone(family_of(module))
            return test_round(module, self._data.restricted(None), trainer)
        if self._data.val_dataloader() == []:
            raise ValueError("this run has no validation set; give the data module val=…")
        family = family_of(module)
        data = bridged(self._data.restricted(None), family)
        trainer = self._recipe().alone(family)
        found = trainer.validate(module, datamodule=data, verbose=False)
        return {k: float(v) for result in found for k, v in result.items()}

    def loss(self, module: Any = None, on: str | Tensor = "val") -> Tensor:
        """Loss of each item [n] under a module, where it knows such: its ``item_losses``.

        Args:
            module: fitted; the task by default.
            on: "val", or positions [n] of labelled items; for privileged strategies of the pool's
                too, with the labels that the data set carries.

        Raises:
            LookupError: a module without ``item_losses(raw, targets)`` and ``split(batch)``.
            ValueError: no validation set, or items that are not labelled.
        """
        module = self.task if module is None else module
        if not (hasattr(module, "item_losses") and hasattr(module, "split")):
            raise LookupError(
                f"{type(module).__name__} has no item_losses(raw, targets) -> [n]; a task of "
                "lightning_al.tasks is needed here"
            )
        running = replace(self._bound().scorer.running, task=module)
        parts = []
        with running.ready(), running.forward() as bring:
            for batch in self._batches(on):
                inputs, targets = module.split(bring(batch))
                raw = module.raw(inputs)
                parts.append(module.item_losses(raw, targets).float().cpu())
        return torch.cat(parts) if parts else torch.empty(0)

    def _batches(self, on: str | Tensor) -> Iterable[Any]:
        if isinstance(on, Tensor):
            data = self._data
            if self.privileged and len(pool := on[torch.isin(on, data.pool)]):
                data = data.restricted(None, answers=pool)
            found: Iterable[Any] = data.labelled_batches(on)
            return found
        if on != "val":
            raise ValueError(f"on is 'val' or positions of labelled items, got {on!r}")
        loader: Any = self._data.val_dataloader()
        if loader == []:
            raise ValueError("this run has no validation set; give the data module val=…")
        return loader  # type: ignore[no-any-return]

    def _recipe(self) -> Recipe:
        recipe = self._given()
        if recipe is None:
            raise LookupError("nothing can be refitted here: there is a trained model, and no run")
        return recipe

    def _open(self, what: Any) -> Any:
        """Refuse what only privileged strategies may see."""
        if what is not None and not self.privileged:
            raise ValueError(
                "labels of the pool and the test set are open to privileged strategies alone, "
                "which run inside `bench`"
            )
        return what
