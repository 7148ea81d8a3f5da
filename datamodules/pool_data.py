"""What every data module is: items of a pool, who of them is labelled, loaders over both."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from pytorch_lightning import LightningDataModule
from torch import Tensor

from lightning_al.labels import LabelState
from lightning_al.randomness import generator, seeded
from lightning_al.records import Answers, Domain, Finite, Outcomes, Status, positions
from lightning_al.values import MOST_SEED, flag, whole

from . import checks
from .descriptions import as_html, described
from .drawing import hold, initial_positions
from .feeding import eval_loader, pool_loader, shuffled_loader, train_loader
from .growing import Growth, remembered
from .item_pictures import image_of
from .opening import opened
from .plain_answers import plain_answers
from .portraits import content_digests, portrait_of
from .splits import Splits
from .views import Bare, Batches, Labelled, batches
from .weighting import Share, repeated, require_labelled, share_of

__all__ = ["PoolDataModule", "Splits"]


class PoolDataModule(LightningDataModule):
    """Labelled and unlabelled items; a subclass says in :meth:`load` what the data are.

    The data set is never written: :attr:`state` says who is labelled and holds the answers, this
    module reads items. Positions are positions in the training data.

    Args:
        initial: labelled items of round 0: a count, a share in (0, 1), positions,
            ``"one_per_class"``, ``"given"`` (all that carry a label), or a function
            ``(datamodule, generator) -> positions``.
        stratified: initial set and validation share drawn class by class.
        batch_size: training batch of one process.
        eval_batch_size: batch for scoring, validation and test; None for 512, and for more than
            that to score data in memory by a small network.
        num_workers: worker processes of the loaders.
        label: key or attribute of the label where items are mappings or objects, its position
            where they are longer than two parts; None where items have no label.
        collate: joins a list of items to a batch, as in a ``DataLoader``; torch's default.
        check_repeatable: refuse a pool of which two reads of one item differ.
        seed: of the splits and the shuffling; ``ActiveLearner`` sets it.
    """

    classes: int | None = None
    class_names: Sequence[str] | None = None
    in_features: int | None = None
    in_channels: int | None = None
    image_size: int | None = None
    outputs: int | None = None
    outcomes: Outcomes = Outcomes()
    given: Tensor | None = None  # positions of items that carry a label; None: all, or none
    grows: bool = False  # whether later reads may find more items
    begun: int | None = None  # how many of the items a run began with; None: all
    order: tuple[str, ...] = ()  # of files whose positions a run knows

    def __init__(
        self,
        *,
        initial: int | float | str | list[int] | Callable[..., Any] | Any = 10,
        stratified: bool = False,
        batch_size: int = 32,
        eval_batch_size: int | None = None,
        num_workers: int = 0,
        label: str | int | None = "auto",
        collate: Callable[..., Any] | None = None,
        check_repeatable: bool = True,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.initial, self.stratified = initial, flag("stratified", stratified)
        self.batch_size = whole(1)("batch_size", batch_size)
        self.free_eval_batch = 512 if eval_batch_size is None else None  # may grow, if unchanged
        size = self.free_eval_batch or eval_batch_size
        self.eval_batch_size = whole(1)("eval_batch_size", size)
        self.num_workers = whole(0)("num_workers", num_workers)
        self.label, self.collate = label, collate
        self.check_repeatable = flag("check_repeatable", check_repeatable)
        self._loaded = False
        self._restored: Mapping[str, Any] | None = None
        self._share: Share | None = None  # of a view on a part of the labelled items
        self.seed, self.round = whole(0, MOST_SEED)("seed", seed), 0

    __repr__ = __str__ = described  # Lightning's builds all loaders
    _repr_html_ = as_html

    # --- data --------------------------------------------------------------------------------

    def load(self) -> Splits:
        """The data sets; called once."""
        raise NotImplementedError

    @property
    def domain(self) -> Domain:
        """Where candidates come from: the items of the data set."""
        return Finite()

    def setup(self, stage: str | None = None) -> None:
        """Load the data and draw the splits, once; later calls do nothing."""
        if self._loaded:
            return
        self._told = remembered(self)
        with seeded(0, 0, "load"):  # splits drawn in there are the same in every process
            splits = self.load()
        if splits.train is None or splits.test is None:
            raise ValueError(
                f"{type(self).__name__} needs train and test; test may be a share of train such "
                "as 0.2"
            )
        self.splits = splits
        self.items, self.pool_items = opened(self)
        self._loaded = True
        self.start(self.seed)
        if self._restored is not None:
            self._restore(self._restored)

    def start(self, seed: int) -> None:
        """Back to round 0 of the run with this seed: draw the splits and the initial labels."""
        self.seed, self.round = seed, 0
        if not self._loaded:
            self.setup()
            return
        self.state = self.fresh_state()
        self.held = {name: hold(self, name) for name in ("test", "val")}
        initial = initial_positions(self, generator(seed, 0, "initial"))
        self.state.require(initial, "initial")
        checks.have_labels(initial, self.has_label(initial), "initial")
        self.state.put(initial, Status.LABELLED)

    def fresh_state(self) -> LabelState:
        """The state of nobody labelled yet."""
        n = len(self.items)
        return LabelState(n if self.begun is None else self.begun, room=n)

    @property
    def growth(self) -> Growth | None:
        """How these data grow while a run goes on; None where all items are there at once."""
        return Growth(self) if self.grows else None

    def has_label(self, index: Tensor) -> Tensor:
        """Which of some items [K] carry a label in the data set itself, bool [K]."""
        if self.given is not None:
            return torch.isin(index, self.given)
        return torch.full((len(index),), self.items.labelled)

    def portrait(self) -> dict[str, Any]:
        """What these data are, for the identity of a run: settings, and hashes of the items."""
        return portrait_of(self)

    def contents(self, index: Tensor) -> list[str]:
        """What each of some items [K] is, as twelve letters that change with it."""
        return content_digests(self, index)

    # --- who is labelled ---------------------------------------------------------------------

    @property
    def status(self) -> Tensor:
        """Status of every item [N], int8 (see :class:`lightning_al.records.Status`); a copy."""
        return self.state.status

    @property
    def labelled(self) -> Tensor:
        """Positions of the labelled items [L], ascending."""
        return self.state.labelled if self._share is None else self._share.labelled

    @property
    def pool(self) -> Tensor:
        """Positions that may be chosen [N], ascending."""
        return self.state.pool if self._share is None else self._share.pool

    @property
    def judging(self) -> Tensor | None:
        """Positions [H] that are the validation set, in a view that says so; else None."""
        return None if self._share is None else self._share.held

    @property
    def shares(self) -> Tensor | None:
        """How often each labelled item counts [L], in a view that weighs them; else None."""
        return None if self._share is None else self._share.weights

    def ask(self, index: Sequence[int] | Tensor) -> None:
        """Mark pool items [K] as asked for: no longer candidates, not yet labelled."""
        self.state.ask(positions(index))

    def acquire(
        self,
        index: Sequence[int] | Tensor,
        answers: Answers | Mapping[str, Tensor] | Tensor | None = None,
    ) -> None:
        """Move items [K] of the pool (or asked ones) to the labelled set.

        Args:
            index: positions in the data set.
            answers: their labels [K, ...]; None takes the labels that the data set carries.

        Raises:
            ValueError: an item that is no candidate, a repeated one, or one without any label;
                nothing has changed then.
        """
        index = positions(index)
        self.state.require(index, "acquire", asked=True)
        if answers is None:
            checks.have_labels(index, self.has_label(index), "acquire")
            self.state.settle(index)
            return
        if isinstance(answers, Tensor):
            answers = {"y": answers}
        if not isinstance(answers, Answers):
            answers = Answers(values=answers)
        self.check_answers(index, answers)
        self.state.settle(index, answers)

    def apply(self, record: Mapping[str, Any]) -> None:
        """Take one line of a run's journal."""
        self.state.apply(record)

    def check_answers(self, index: Tensor, answers: Answers) -> None:
        """Refuse answers of items [K] that cannot be the labels of these data.

        Raises:
            TypeError: no answers.
            ValueError: answers that are missing, not finite, or outside the classes.
        """
        checks.oracle_answers(self, index, answers)

    def _example_label(self) -> Tensor | None:
        """A label [1, ...] that the data set itself carries, if any."""
        labelled = torch.arange(1) if self.given is None else self.given[:1]
        if not self.items.labelled or not len(labelled):
            return None
        return self.items.labels(labelled)

    def labels(self, index: Tensor) -> Tensor:
        """Labels [K, ...] of some items: the answer where there is one, else the data set's own.

        This is what oracles and metrics read; strategies never see the datamodule.
        """
        laid = self.answered(index)
        if laid is None:
            return self.items.labels(index)
        answers, told = laid
        if bool(told.all()):
            return answers
        own = self.items.labels(index[~told])
        labels = torch.empty((len(index), *own.shape[1:]), dtype=own.dtype)
        labels[~told], labels[told] = own, answers[told].to(own.dtype)
        return labels

    def answered(self, index: Tensor) -> tuple[Tensor, Tensor] | None:
        """(answers [K, ...], answered [K] bool) of some items; several outcomes side by side."""
        parts = [self.state.answers.get(index, name) for name in self.outcomes.names]
        if len(parts) == 1 or parts[0] is None:
            return parts[0]
        return torch.stack([part[0] for part in parts if part is not None], 1), parts[0][1]

    def strata(self, index: Tensor) -> Tensor:
        """Labels [K] of some items before any answer, to draw them class by class."""
        return self.labels(index) if self.items.tensors is not None else self.items.strata(index)

    def labelled_targets(self) -> Tensor:
        """Labels of the labelled set [L, ...], in the order of :attr:`labelled`."""
        return self.labels(self.labelled)

    # --- loaders -----------------------------------------------------------------------------

    def train_dataloader(self) -> Any:
        """The labelled set, shuffled; with the pool beside it for tasks that use it."""
        return train_loader(self)

    def val_dataloader(self) -> Any:
        """The validation set; empty when there is none. Each rank reads its share once."""
        return eval_loader(self, "val")

    def test_dataloader(self) -> Any:
        """The test set. Each rank reads its share once, nothing is repeated."""
        return eval_loader(self, "test")

    def predict_dataloader(self) -> Any:
        """The pool in ascending order, inputs only."""
        return pool_loader(self)

    def labelled_loader(self, index: Tensor | None = None, weights: Tensor | None = None) -> Any:
        """Labelled items, shuffled, for strategies that train something of their own.

        Args:
            index: positions [M] of labelled items, some several times; all of them by default.
            weights: [M], how often each counts: whole numbers repeat items, others are the odds
                of M draws an epoch.

        Raises:
            ValueError: an item that is not labelled, or weights that are none.
        """
        index = self.labelled if index is None else index
        require_labelled(self, index)
        index, odds = repeated(index, weights)
        return shuffled_loader(self, Labelled(self.items, index, self.answered(index)), odds=odds)

    def labelled_batches(self, index: Tensor) -> Iterable[Any]:
        """Labelled items [n] in their order, with labels, under the test transform.

        Raises:
            ValueError: an item that is not labelled.
        """
        require_labelled(self, index)
        view = Labelled(self.pool_items, index, self.answered(index))
        return batches(view, Batches(len(index), self.eval_batch_size), self.num_workers)

    def restricted(
        self,
        index: Tensor | None = None,
        *,
        weights: Tensor | None = None,
        answers: Tensor | None = None,
        pool: Tensor | None = None,
        held: Tensor | None = None,
    ) -> PoolDataModule:
        """The same data with a part of the labelled items, for fits inside a round.

        Args:
            index: positions [M] of labelled items, some several times; all of them by default.
            weights: [M], how often each counts (see :meth:`labelled_loader`).
            answers: positions of items of the pool that count as labelled too, with the labels
                that the data set carries; with ``weights`` they count once.
            pool: positions of the candidates; by default those of this module.
            held: positions [H] of items with labels that are the validation set instead of this
                module's; none of them should be among those fitted on.

        Raises:
            ValueError: an item that is not labelled, or weights that are none.
        """
        view = copy.copy(self)
        view.trainer = None
        view._share = share_of(self, index, weights, answers, pool, held)
        return view

    def bare_batches(self, index: Tensor, size: int | None = None) -> Iterable[tuple[Tensor, Any]]:
        """(positions [n], inputs [n, ...]) of some items, under the test transform, no labels."""
        sampler = Batches(len(index), size or self.eval_batch_size)
        drawn = generator(self.seed, self.round, "workers")
        return batches(Bare(self.pool_items, index), sampler, self.num_workers, generator=drawn)

    # --- for people --------------------------------------------------------------------------

    def item_path(self, index: int) -> str | None:
        """File of an item, where items are files."""
        return None

    def thumbnail(self, index: int) -> Any:
        """A small PIL picture of an item, where items are pictures; else None."""
        return image_of(self.pool_items, index)

    def answer(self, index: int) -> Any:
        """Label of a labelled item as a plain value, with its class name where there is one."""
        return plain_answers(self, torch.tensor([index]))[0]

    def answers_to(self, index: Tensor) -> list[Any]:
        """The same of several items [K]; by :meth:`answer` where a subclass has its own."""
        own = type(self).answer is not PoolDataModule.answer
        return [self.answer(i) for i in index.tolist()] if own else plain_answers(self, index)

    # --- state -------------------------------------------------------------------------------

    def fingerprint(self) -> str:
        """Hash of who is labelled and of all answers; equal on all ranks or something is wrong."""
        return self.state.fingerprint()

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain values only (a weights-only load reads it back)."""
        if not self._loaded:
            return {}
        return {**self.state.state_dict(), "seed": self.seed, "round": self.round}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Put a saved state back; before ``setup`` it is kept until the data are there."""
        if not state_dict:
            return
        if self._loaded:
            self._restore(state_dict)
        else:
            self._restored = state_dict

    def _restore(self, state: Mapping[str, Any]) -> None:
        self._restored = None
        if state["seed"] != self.seed:
            self.start(state["seed"])
        self.state.load_state_dict(state)
        self.round = state["round"]
