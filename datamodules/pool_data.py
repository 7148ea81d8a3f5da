"""The datamodule that knows which items are labelled, asked for, refused, or still in the pool."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from pytorch_lightning import LightningDataModule
from pytorch_lightning.utilities import CombinedLoader
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from lightning_al.randomness import generator, seeded
from lightning_al.records import Answers, Status, positions

from . import checks
from .item_pictures import image_of
from .loading import InProcess
from .overlay import Overlay
from .splits import draw, is_dataset, one_per_class, share_to_count
from .views import Bare, Batches, Items, Labelled, batches

__all__ = ["ActiveDataModule", "Splits"]


@dataclass(frozen=True)
class Splits:
    """What :meth:`ActiveDataModule.load` gives: data sets, or shares of ``train``."""

    train: Any  # map-style; items with or without labels
    test: Any  # data set, share, or positions in train
    pool: Any = None  # the items of train under the test transform
    val: Any = None  # data set, share, count, or positions in train
    groups: Sequence[Any] | None = None  # one group an item of train


class ActiveDataModule(LightningDataModule):
    """Labelled and unlabelled items of any map-style data set.

    The data set is never written: a status per item says who is labelled, answers lie in an
    overlay. Positions are positions in ``train``.

    Args:
        train: items ``(inputs, label)``, ``(a, b, label)``, mappings, or inputs without a label.
        test: a data set, or a share or positions of ``train`` to be held out.
        pool: the same items as ``train`` under the test transform; default ``train`` itself, which
            is refused when two reads of one item differ.
        val: like ``test``; no validation set is normal.
        initial: labelled items of round 0: a count, a share in (0, 1), positions,
            ``"one_per_class"``, ``"given"`` (all that carry a label), or a function
            ``(datamodule, generator) -> positions``.
        stratified: initial set and validation share drawn class by class.
        groups: one group per item of ``train``; held-out items never share a group with the pool.
        batch_size: training batch of one process.
        eval_batch_size: batch for scoring, validation and test.
        num_workers: worker processes of the loaders.
        label: key of the label where items are mappings; None where items have no label.
        collate: joins a list of items to a batch; torch's default.
        seed: of the splits and the shuffling; ``ActiveLearner`` sets it.
    """

    classes: int | None = None
    class_names: Sequence[str] | None = None
    in_features: int | None = None
    in_channels: int | None = None
    image_size: int | None = None
    outputs: int | None = None
    measures: Sequence[str] = ("y",)  # names of the answers; of several, targets are [N, m]
    given: Tensor | None = None  # positions of items that carry a label; None: all, or none

    def __init__(
        self,
        train: Dataset | None = None,
        test: Dataset | float | Sequence[int] | None = None,
        *,
        pool: Dataset | None = None,
        val: Dataset | float | Sequence[int] | None = None,
        initial: int | float | str | list[int] | Callable[..., Any] | Any = 10,
        stratified: bool = False,
        groups: Sequence[Any] | None = None,
        batch_size: int = 32,
        eval_batch_size: int = 512,
        num_workers: int = 0,
        label: str | None = "auto",
        collate: Callable[..., Any] | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self._given_splits = Splits(train, test, pool, val, groups)
        self.initial, self.stratified = initial, stratified
        self.batch_size, self.eval_batch_size = batch_size, eval_batch_size
        self.num_workers, self.label, self.collate = num_workers, label, collate
        self.seed, self.round = seed, 0
        self._loaded = False
        self._restored: Mapping[str, Any] | None = None

    # --- data --------------------------------------------------------------------------------

    def load(self) -> Splits:
        """The data sets; ready modules override this. Called once."""
        return self._given_splits

    def setup(self, stage: str | None = None) -> None:
        """Load the data and draw the splits, once; later calls do nothing."""
        if self._loaded:
            return
        with seeded(0, 0, "load"):  # splits drawn in there are the same in every process
            splits = self.load()
        if splits.train is None or splits.test is None:
            raise ValueError(
                "ActiveDataModule needs train and test; test may be a share of train such as 0.2"
            )
        checks.not_empty(splits.train, "train")
        self.splits = splits
        self.items = Items(splits.train, self.label, self.collate)
        pool = splits.train if splits.pool is None else splits.pool
        checks.same_length(splits.train, pool)
        if splits.groups is not None:
            checks.group_per_item(splits.groups, len(self.items))
        self.pool_items = Items(pool, self.label, self.collate)
        checks.finite_inputs(self.pool_items)
        with seeded(0, 0, "random-pool-check"):
            checks.repeatable(self.pool_items)
        for name in ("test", "val"):
            other = getattr(splits, name)
            if is_dataset(other):
                if name == "test":
                    checks.not_empty(other, name)
                checks.disjoint(splits.train, other, name)
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
        n = len(self.items)
        self._status = torch.zeros(n, dtype=torch.int8)
        self.overlay = Overlay(n)
        self._labelled_cache: Tensor | None = None
        self._pool_cache: Tensor | None = None
        self._held = {name: self._hold(name) for name in ("test", "val")}
        initial = self._initial_positions(generator(seed, 0, "initial"))
        checks.from_pool(initial, self._status, "initial")
        checks.have_labels(initial, self.has_label(initial), "initial")
        self._set(initial, Status.LABELLED)

    def _hold(self, name: str) -> Tensor | None:
        spec = getattr(self.splits, name)
        if spec is None or is_dataset(spec):
            return None
        free = self._where(Status.POOL)
        if isinstance(spec, (int, float)):
            if spec == 0:
                return None
            free = free[self.has_label(free)]
            count = share_to_count(spec, len(free), name)
            labels = self.labels(free) if self.stratified else None
            drawn = generator(self.seed, 0, f"hold-{name}")
            held = draw(free, count, drawn, labels=labels, groups=self.splits.groups)
            self._hold_groups_of(held)
        else:
            held = positions(spec)
            checks.from_pool(held, self._status, name)
            checks.have_labels(held, self.has_label(held), name)
            if self.splits.groups is not None:
                checks.groups_apart(held, self.splits.groups, len(self.items), name)
        self._set(held, Status.HELD)
        return held

    def _hold_groups_of(self, held: Tensor) -> None:
        """Keep items without a label out of the pool where their group is held out."""
        groups = self.splits.groups
        if groups is not None and not bool(self.has_label(torch.arange(len(self.items))).all()):
            names = {str(groups[i]) for i in held.tolist()}
            mates = [i for i in range(len(self.items)) if str(groups[i]) in names]
            self._set(positions(mates), Status.HELD)

    def _initial_positions(self, drawn: torch.Generator) -> Tensor:
        free = self._where(Status.POOL)
        if callable(self.initial):
            return positions(self.initial(self, drawn))
        if not isinstance(self.initial, (str, int, float)):
            return positions(self.initial)
        free = free[self.has_label(free)]
        if self.initial == "given":
            return free
        if self.initial == "one_per_class":
            return one_per_class(free, self.labels(free), drawn)
        if isinstance(self.initial, str):
            raise ValueError(
                f"initial={self.initial!r} is not known; give a count, a share, positions, "
                "'one_per_class', 'given', or a function (datamodule, generator) -> positions"
            )
        count = share_to_count(self.initial, len(free), "initial")
        return draw(free, count, drawn, labels=self.labels(free) if self.stratified else None)

    def has_label(self, index: Tensor) -> Tensor:
        """Which of some items [K] carry a label in the data set itself, bool [K]."""
        if self.given is not None:
            return torch.isin(index, self.given)
        return torch.full((len(index),), self.items.labelled)

    # --- who is labelled ---------------------------------------------------------------------

    def _set(self, index: Tensor, status: Status) -> None:
        self._status[index] = int(status)
        self._labelled_cache = self._pool_cache = None

    def _where(self, status: Status) -> Tensor:
        """Positions of the items with this status, ascending; NumPy's search is the fast one."""
        return torch.from_numpy(np.flatnonzero(self._status.numpy() == int(status)))

    @property
    def status(self) -> Tensor:
        """Status of every item [N], int8 (see :class:`lightning_al.records.Status`); a copy."""
        return self._status.clone()

    @property
    def labelled(self) -> Tensor:
        """Positions of the labelled items [L], ascending."""
        if self._labelled_cache is None:
            self._labelled_cache = self._where(Status.LABELLED)
        return self._labelled_cache

    @property
    def pool(self) -> Tensor:
        """Positions that may be chosen [N], ascending."""
        if self._pool_cache is None:
            self._pool_cache = self._where(Status.POOL)
        return self._pool_cache

    def ask(self, index: Sequence[int] | Tensor) -> None:
        """Mark pool items [K] as asked for: no longer candidates, not yet labelled."""
        index = positions(index)
        checks.from_pool(index, self._status, "ask")
        self._set(index, Status.ASKED)

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
        checks.from_pool(index, self._status, "acquire", asked=True)
        if answers is None:
            checks.have_labels(index, self.has_label(index), "acquire")
            self._set(index, Status.LABELLED)
            return
        if isinstance(answers, Tensor):
            answers = {"y": answers}
        if not isinstance(answers, Answers):
            answers = Answers(values=answers)
        given, values = self.check_answers(index, answers)
        if bool(given.any()):
            self.overlay.put(index[given], values)
        self._set(index[given], Status.LABELLED)
        self._set(index[~given], Status.REFUSED)

    def check_answers(self, index: Tensor, answers: Answers) -> tuple[Tensor, dict[str, Tensor]]:
        """Which of the asked items [K] were answered (bool [K]), and those answers by name.

        Raises:
            ValueError: answers that are missing, not finite, or outside the classes.
        """
        if not isinstance(answers, Answers):
            raise TypeError(
                f"an oracle gives Answers(values={{'y': labels}}), got {type(answers).__name__}"
            )
        given = torch.ones(len(index), dtype=torch.bool)
        if answers.refused is not None:
            given = ~answers.refused.bool()
        for name, value in {"refused": given, "cost": answers.cost, **answers.values}.items():
            if value is not None and len(value) != len(index):
                raise ValueError(
                    f"{len(index)} items were asked, but {name!r} has {len(value)} entries"
                )
        values = {n: v[given] for n, v in answers.values.items()}
        self.overlay.check(index[given], values)
        if len(self.measures) > 1:
            checks.measured(index[given], values, self.measures)
        own = self._example_label() if len(self.measures) == 1 else None
        checks.answers(index[given], values, self.classes, own)
        return given, values

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
        laid = self._answered(index)
        if laid is None:
            return self.items.labels(index)
        answers, answered = laid
        if bool(answered.all()):
            return answers
        own = self.items.labels(index[~answered])
        labels = torch.empty((len(index), *own.shape[1:]), dtype=own.dtype)
        labels[~answered], labels[answered] = own, answers[answered].to(own.dtype)
        return labels

    def _answered(self, index: Tensor) -> tuple[Tensor, Tensor] | None:
        """(answers [K, ...], answered [K] bool) of some items; several measures side by side."""
        parts = [self.overlay.get(index, name) for name in self.measures]
        if len(parts) == 1 or parts[0] is None:
            return parts[0]
        return torch.stack([part[0] for part in parts if part is not None], 1), parts[0][1]

    def named(self, labels: Tensor) -> dict[str, Tensor]:
        """Labels [K, ...] as an oracle gives them: one tensor for each of ``measures``."""
        if len(self.measures) == 1:
            return {self.measures[0]: labels}
        return dict(zip(self.measures, labels.unbind(1), strict=True))

    def labelled_targets(self) -> Tensor:
        """Labels of the labelled set [L, ...], in the order of :attr:`labelled`."""
        return self.labels(self.labelled)

    # --- loaders -----------------------------------------------------------------------------

    def _place(self) -> tuple[int, int]:
        trainer = self.trainer
        return (0, 1) if trainer is None else (trainer.global_rank, trainer.world_size)

    def train_dataloader(self) -> Any:
        """The labelled set, shuffled; with the pool beside it for tasks that use it."""
        rank, world = self._place()
        task = None if self.trainer is None else self.trainer.lightning_module
        view = Labelled(self.items, self.labelled, self._answered(self.labelled))
        if getattr(task, "full_batch", False):
            return batches(view, Batches(len(view), max(len(view), 1)), 0)
        key = (self.seed, self.round)
        order = Batches(len(view), self.batch_size, shuffle=key, rank=rank, world=world, pad=True)
        loader = self._loader(view, order)
        if not getattr(task, "uses_unlabelled", False):
            return loader
        rest = self.pool if len(self.pool) else self.labelled  # steps go on when all are labelled
        bare = _InputsOnly(self.items, rest)
        other = Batches(len(bare), self.batch_size, shuffle=key, rank=rank, world=world, pad=True)
        return CombinedLoader(
            {"labelled": loader, "unlabelled": self._loader(bare, other)}, "max_size_cycle"
        )

    def _loader(self, view: Any, sampler: Batches) -> DataLoader | InProcess:
        drawn = generator(self.seed, self.round, "workers")
        return batches(view, sampler, self.num_workers, generator=drawn)

    def _eval_loader(self, name: str) -> DataLoader | InProcess | list[Any]:
        spec, held = getattr(self.splits, name), self._held[name]
        if held is not None:
            view = Labelled(self.pool_items, held)
        elif is_dataset(spec):
            view = Labelled(Items(spec, self.label, self.collate), torch.arange(len(spec)))
        else:
            return []
        rank, world = self._place()
        if len(view) < world:  # an empty shard would leave a rank without a step
            rank, world = 0, 1
        return self._loader(view, Batches(len(view), self.eval_batch_size, rank=rank, world=world))

    def val_dataloader(self) -> Any:
        """The validation set; empty when there is none. Each rank reads its share once."""
        return self._eval_loader("val")

    def test_dataloader(self) -> Any:
        """The test set. Each rank reads its share once, nothing is repeated."""
        return self._eval_loader("test")

    def predict_dataloader(self) -> Any:
        """The pool in ascending order, inputs only."""
        view = _InputsOnly(self.pool_items, self.pool)
        return self._loader(view, Batches(len(view), self.eval_batch_size))

    def labelled_loader(self) -> DataLoader | InProcess:
        """The labelled set, shuffled, for strategies that train something of their own."""
        view = Labelled(self.items, self.labelled, self._answered(self.labelled))
        key = (self.seed, self.round)
        return self._loader(view, Batches(len(view), self.batch_size, shuffle=key, pad=True))

    def bare_batches(self, index: Tensor, size: int | None = None) -> Iterable[tuple[Tensor, Any]]:
        """(positions [n], inputs [n, ...]) of some items, under the test transform, no labels."""
        view = Bare(self.pool_items, index)
        return self._loader(view, Batches(len(index), size or self.eval_batch_size))

    # --- for people --------------------------------------------------------------------------

    def item_path(self, index: int) -> str | None:
        """File of an item, where items are files."""
        return None

    def thumbnail(self, index: int) -> Any:
        """A small PIL picture of an item, where items are pictures; else None."""
        return image_of(self.pool_items, index)

    def answer(self, index: int) -> Any:
        """Label of a labelled item as a plain value, with its class name where there is one."""
        label = self.labels(torch.tensor([index]))[0]
        if self.class_names is not None and label.ndim == 0 and not label.is_floating_point():
            return str(self.class_names[int(label)])
        return label.tolist()

    # --- state -------------------------------------------------------------------------------

    def fingerprint(self) -> str:
        """Hash of who is labelled and of all answers; equal on all ranks or something is wrong."""
        digest = hashlib.sha256(self._status.numpy().tobytes())
        self.overlay.update_hash(digest)
        return digest.hexdigest()[:16]

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain values only (a weights-only load reads it back)."""
        if not self._loaded:
            return {}
        return {
            "status": self._status.clone(),
            "overlay": self.overlay.state_dict(),
            "seed": self.seed,
            "round": self.round,
        }

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Put a saved state back; before ``setup`` it is kept until the data are there."""
        if not state_dict:
            return
        if self._loaded:
            self._restore(state_dict)
        else:
            self._restored = state_dict

    def _restore(self, state: Mapping[str, Any]) -> None:
        if len(state["status"]) != len(self.items):
            raise ValueError(
                f"the saved state is of {len(state['status'])} items, this data set has "
                f"{len(self.items)}; give the same data"
            )
        self._restored = None
        if state["seed"] != self.seed:
            self.start(state["seed"])
        self.round = state["round"]
        self._set(torch.arange(len(self.items)), Status.POOL)
        self._status.copy_(state["status"])
        self.overlay = Overlay(len(self.items))
        self.overlay.load_state_dict(state["overlay"])


class _InputsOnly(Bare):
    """Rows -> inputs [n, ...] alone, for tasks that train on unlabelled items."""

    def __getitem__(self, rows: Tensor) -> Any:
        return super().__getitem__(rows)[1]
