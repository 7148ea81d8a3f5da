"""The small data sets that come with scikit-learn; nothing is downloaded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from . import named as datasets
from .partition import held_out, scaling
from .pool_data import PoolDataModule, Splits
from .tensors import TensorItems

__all__ = ["BreastCancerDataModule", "DiabetesDataModule", "DigitsDataModule"]


class _Bundled(PoolDataModule):
    """A named table of scikit-learn with a fixed test part that is drawn from it."""

    table_name: ClassVar[str]

    def __init__(
        self,
        *,
        test: int | float = 0.2,
        val: int | float | None = None,
        split_seed: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(collate=None, **kwargs)
        self.test_size, self.val_size, self.split_seed = test, val, split_seed

    def load(self) -> Splits:
        """Read the table, draw the fixed parts, put the features to scale."""
        table = datasets.load(self.table_name)
        targets = table.targets
        classes = None if targets.is_floating_point() else targets
        test, val = held_out(
            torch.arange(len(table)),
            test=self.test_size,
            val=self.val_size,
            seed=self.split_seed,
            classes=classes,
        )
        features = self._scaled(table.features, test, val).float()
        items = TensorItems(features, targets.float() if classes is None else classes)
        return Splits(train=items, test=test, val=val)

    def _scaled(self, features: Tensor, test: Tensor | None, val: Tensor | None) -> Tensor:
        """Features [N, E], standardised on the rows that are not held out."""
        mean, std = scaling(features, test, val)
        return (features - mean) / std


class DigitsDataModule(_Bundled):
    """1,797 handwritten digits of 8 x 8 pixels (Alpaydin & Kaynak, 1998), from scikit-learn.

    Items are float32 [64] in [0, 1] (or [1, 8, 8]), labels 0..9. Positions are scikit-learn's rows.

    Args:
        as_images: items [1, 8, 8], for convolutional networks.
        test: share or number of items held out for the test, class by class.
        val: the same for validation; None for none.
        split_seed: of these draws; they do not change with the seed of a run.
        kwargs: see :class:`PoolDataModule`.
    """

    table_name = "digits"
    classes: int | None = 10
    class_names: Sequence[str] | None = tuple("0123456789")

    def __init__(
        self,
        *,
        as_images: bool = False,
        test: int | float = 0.2,
        val: int | float | None = None,
        split_seed: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(test=test, val=val, split_seed=split_seed, **kwargs)
        self.as_images = as_images
        if as_images:
            self.in_channels, self.image_size = 1, 8
        else:
            self.in_features = 64

    def _scaled(self, features: Tensor, test: Tensor | None, val: Tensor | None) -> Tensor:
        """Pixels [N, 64] or [N, 1, 8, 8] in [0, 1]."""
        pixels = features / 16
        return pixels.reshape(-1, 1, 8, 8) if self.as_images else pixels


class BreastCancerDataModule(_Bundled):
    """Breast cancer Wisconsin (Street, Wolberg & Mangasarian, 1993), from scikit-learn.

    569 items float32 [30], standardised on the labelled and pool rows; labels 0 malignant,
    1 benign. Positions are scikit-learn's rows.

    Args:
        test: share or number of items held out for the test, class by class.
        val: the same for validation; None for none.
        split_seed: of these draws; they do not change with the seed of a run.
        kwargs: see :class:`PoolDataModule`.
    """

    table_name = "breast"
    classes: int | None = 2
    class_names: Sequence[str] | None = ("malignant", "benign")
    in_features: int | None = 30


class DiabetesDataModule(_Bundled):
    """Diabetes progression after one year (Efron et al., 2004), from scikit-learn: regression.

    442 items float32 [10], standardised on the labelled and pool rows; targets float32 in the
    original unit, 25..346. Positions are scikit-learn's rows.

    Args:
        test: share or number of items held out for the test.
        val: the same for validation; None for none.
        split_seed: of these draws; they do not change with the seed of a run.
        kwargs: see :class:`PoolDataModule`.
    """

    table_name = "diabetes"
    in_features: int | None = 10
    outputs: int | None = 1
