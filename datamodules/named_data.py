"""Any named data set, with its folds, splits and starts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor

from lightning_al.randomness import derive

from . import named as datasets
from .named.all_sets import ImageSpec
from .named.starts import WARM_SEED
from .partition import held_out, in_unit_range, scaling
from .pool_data import PoolDataModule, Splits
from .sources import data_root
from .tensors import TensorItems

__all__ = ["NamedDataModule"]


@dataclass(frozen=True, eq=False)
class _Drawn:
    """A start that is drawn anew for each seed of a run."""

    draw: Callable[..., Tensor]  # seed -> positions

    def __call__(self, datamodule: PoolDataModule, generator: torch.Generator) -> Tensor:
        return self.draw(seed=derive(datamodule.seed, 0, "start"))


class NamedDataModule(PoolDataModule):
    """A data set by its name (see :func:`lightning_al.datamodules.named.names`).

    The tasks of Scherer et al. (2022): one fold of a cross-validation is the test part, and the
    labelled set of round 0 is a cold or a warm start. Items of tables are float32 [E], targets
    classes or float32 in their own unit; positions are rows of the whole table. Images are as in
    :class:`MNISTDataModule`; over folds, positions count the training images, then the test images.

    Args:
        name: of the data set.
        fold: which fold is the test part, 0..folds-1; None takes the split that the set comes
            with, and fold 0 of a set without one.
        folds: of the cross-validation; by class for classification.
        start: "cold": one item a class, or for regression the two items farthest apart; "warm": a
            tenth of the training part. Default warm where ``initial`` is not given either.
        start_seed: of the start; None draws one for each seed of a run. 1234 is the published one
            of warm starts.
        variant: "corrected" (all rows, no identifier, no leaked target, shuffled folds), or
            "published": the parsing, raw float32 features and unshuffled folds behind the paper's
            figures; features and targets in [0, 1] where the paper had them so.
        standardise: features of tables by mean and deviation of the training part of the fold
            (without ``val``); None does so unless the variant is "published".
        val: share or number of training items for validation; None for none.
        split_seed: of shuffled folds and of ``val``; None takes that of the data set.
        data_dir: data folder; default ``$LIGHTNING_AL_DATA``, else the user's cache.
        initial: as in :class:`PoolDataModule`, in place of a start.
        kwargs: see :class:`PoolDataModule`.
    """

    feature_names: tuple[str, ...] = ()
    marked: Tensor | None = None  # positions of the items that the set marks: honeypots, say

    def __init__(
        self,
        name: str,
        *,
        fold: int | None = None,
        folds: int = 5,
        start: Literal["cold", "warm"] | None = None,
        start_seed: int | None = WARM_SEED,
        variant: Literal["corrected", "published"] = "corrected",
        standardise: bool | None = None,
        val: int | float | None = None,
        split_seed: int | None = None,
        data_dir: str | None = None,
        initial: int | float | str | list[int] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            collate=None,
            initial=10 if initial is None else initial,
            **kwargs,
        )
        for what, value, allowed in (
            ("variant", variant, ("corrected", "published")),
            ("start", start, ("cold", "warm", None)),
        ):
            if value not in allowed:
                raise ValueError(f"{what} must be one of {allowed}, got {value!r}")
        if start is not None and initial is not None:
            raise ValueError(f"give start={start!r} or initial={initial!r}, not both")
        self.spec = datasets.spec(name)
        if standardise and isinstance(self.spec, ImageSpec):
            raise ValueError(f"{name} has its own normalisation; leave standardise out")
        self.name, self.fold, self.folds, self.variant = name, fold, folds, variant
        self.start_kind = "warm" if start is None and initial is None else start
        self.start_seed = start_seed
        self.standardise = variant == "corrected" if standardise is None else standardise
        self.val_size, self.split_seed, self.data_dir = val, split_seed, data_dir

    def prepare_data(self) -> None:
        """Download what is missing.

        Raises:
            FileNotFoundError: a file could not be had; the message says where to put it.
        """
        root = data_root(self.data_dir)
        for resource in self.spec.resources:
            resource.fetch(root)

    def load(self) -> Splits:
        """Read the table, cut the fold, choose the start, standardise."""
        if isinstance(self.spec, ImageSpec):
            return self._images(self.spec)
        table = self.spec.load(data_root(self.data_dir), self.variant)
        self.feature_names, self.in_features = table.feature_names, table.features.shape[1]
        self.marked = None if table.marked is None else table.marked.nonzero().squeeze(1)
        if table.spec.task == "classification":
            self.classes, self.class_names = len(table.spec.labels), table.spec.class_names
        else:
            self.outputs = 1
        test, val, rows = self._parts(table.targets, table.fold_seed, table.own_split)
        self._start(table.features, table.targets, rows)
        features = table.features
        if self.standardise:
            mean, std = scaling(features, test, val)
            features = (features.double() - mean) / std
        targets = table.targets
        if self.variant == "published" and table.spec.published.unit_range:
            seen = torch.ones(len(table), dtype=torch.bool)
            seen[test] = False
            features, targets = in_unit_range(features, seen), in_unit_range(targets, seen)
        targets = targets.float() if targets.is_floating_point() else targets
        return Splits(TensorItems(features.float(), targets), test, val=val)

    def _images(self, spec: ImageSpec) -> Splits:
        inner = spec.module(data_dir=self.data_dir)
        splits = inner.load()
        self.classes, self.class_names = inner.classes, inner.class_names
        train, test = splits.train, splits.test
        images = torch.cat((train.inputs[0], test.inputs[0]))
        targets = torch.cat((train.targets, test.targets))
        transform = train.transform
        if spec.flat and self.variant == "published":
            self.in_features, transform = images[0].numel(), _flat
        else:
            self.in_channels, self.image_size = inner.in_channels, inner.image_size
        seed = None if self.variant == "published" else spec.fold_seed
        held, val, rows = self._parts(targets, seed, len(train))
        self._start(images, targets, rows)
        return Splits(TensorItems(images, targets, transform), held, val=val)

    def _parts(
        self, targets: Tensor, fold_seed: int | None, own: int | None
    ) -> tuple[Tensor, Tensor | None, Tensor]:
        """Positions of the test and validation parts, and of those to learn from."""
        classification = not targets.is_floating_point()
        shuffle = fold_seed if self.split_seed is None or fold_seed is None else self.split_seed
        if self.fold is None and own is not None:
            rows, test = datasets.own_split(len(targets), own)
        else:
            rows, test = datasets.split(
                targets, self.fold or 0, self.folds, stratified=classification, seed=shuffle
            )
        if not self.val_size:
            return test, None, rows
        seed = self.spec.fold_seed if self.split_seed is None else self.split_seed
        strata = targets[rows] if classification else None
        _, val = held_out(rows, test=None, val=self.val_size, seed=seed, classes=strata)
        return test, val, rows if val is None else rows[~torch.isin(rows, val)]

    def _start(self, features: Tensor, targets: Tensor, rows: Tensor) -> None:
        if self.start_kind is None:
            return
        draw = partial(
            datasets.start,
            self.start_kind,
            features,
            targets,
            rows,
            classification=not targets.is_floating_point(),
        )
        self.initial = _Drawn(draw) if self.start_seed is None else draw(seed=self.start_seed)


def _flat(images: Tensor) -> Tensor:
    """Bytes [n, 1, H, W] -> float32 [n, H W] in [0, 1]."""
    return images.flatten(1).float() / 255
