"""The small data sets that come with scikit-learn; nothing is downloaded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from .active_data import ActiveDataModule
from .partition import held_out, scaling
from .pool_data import Splits
from .tensors import TensorItems

__all__ = ["BreastCancerDataModule", "DiabetesDataModule", "DigitsDataModule"]


class DigitsDataModule(ActiveDataModule):
    """1,797 handwritten digits of 8 x 8 pixels (Alpaydin & Kaynak, 1998), from scikit-learn.

    Items are float32 [64] in [0, 1] (or [1, 8, 8]), labels 0..9. Positions are scikit-learn's rows.

    Args:
        as_images: items [1, 8, 8], for convolutional networks.
        test: share or number of items held out for the test, class by class.
        val: the same for validation; None for none.
        split_seed: of these draws; they do not change with the seed of a run.
        kwargs: see :class:`ActiveDataModule`.
    """

    classes: int | None = 10
    class_names: Sequence[str] | None = tuple("0123456789")

    def __init__(
        self,
        *,
        as_images: bool = False,
        test: float = 0.2,
        val: float | None = None,
        split_seed: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            train=None, test=None, pool=None, val=None, groups=None, collate=None, **kwargs
        )
        self.as_images = as_images
        if as_images:
            self.in_channels, self.image_size = 1, 8
        else:
            self.in_features = 64
        self.test_size, self.val_size, self.split_seed = test, val, split_seed

    def load(self) -> Splits:
        """Read the table and draw the fixed test part."""
        from sklearn.datasets import load_digits

        features, targets = (torch.from_numpy(a) for a in load_digits(return_X_y=True))
        pixels = (features / 16).float()
        if self.as_images:
            pixels = pixels.reshape(-1, 1, 8, 8)
        test, val = held_out(
            torch.arange(len(targets)),
            test=self.test_size,
            val=self.val_size,
            seed=self.split_seed,
            classes=targets,
        )
        return Splits(train=TensorItems(pixels, targets.long()), test=test, val=val)


class BreastCancerDataModule(ActiveDataModule):
    """Breast cancer Wisconsin (Street, Wolberg & Mangasarian, 1993), from scikit-learn.

    569 items float32 [30], standardised on the labelled and pool rows; labels 0 malignant,
    1 benign. Positions are scikit-learn's rows.

    Args:
        test: share or number of items held out for the test, class by class.
        val: the same for validation; None for none.
        split_seed: of these draws; they do not change with the seed of a run.
        kwargs: see :class:`ActiveDataModule`.
    """

    classes: int | None = 2
    class_names: Sequence[str] | None = ("malignant", "benign")
    in_features: int | None = 30

    def __init__(
        self,
        *,
        test: float = 0.2,
        val: float | None = None,
        split_seed: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            train=None, test=None, pool=None, val=None, groups=None, collate=None, **kwargs
        )
        self.test_size, self.val_size, self.split_seed = test, val, split_seed

    def load(self) -> Splits:
        """Read the table, draw the fixed test part, standardise on the rest."""
        from sklearn.datasets import load_breast_cancer

        features, targets = (torch.from_numpy(a) for a in load_breast_cancer(return_X_y=True))
        test, val = held_out(
            torch.arange(len(targets)),
            test=self.test_size,
            val=self.val_size,
            seed=self.split_seed,
            classes=targets,
        )
        mean, std = scaling(features, test, val)
        return Splits(TensorItems(((features - mean) / std).float(), targets.long()), test, val=val)


class DiabetesDataModule(ActiveDataModule):
    """Diabetes progression after one year (Efron et al., 2004), from scikit-learn: regression.

    442 items float32 [10], standardised on the labelled and pool rows; targets float32 in the
    original unit, 25..346. Positions are scikit-learn's rows.

    Args:
        test: share or number of items held out for the test.
        val: the same for validation; None for none.
        split_seed: of these draws; they do not change with the seed of a run.
        kwargs: see :class:`ActiveDataModule`.
    """

    in_features: int | None = 10
    outputs: int | None = 1

    def __init__(
        self,
        *,
        test: float = 0.2,
        val: float | None = None,
        split_seed: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            train=None, test=None, pool=None, val=None, groups=None, collate=None, **kwargs
        )
        self.test_size, self.val_size, self.split_seed = test, val, split_seed

    def load(self) -> Splits:
        """Read the table, draw the fixed test part, standardise on the rest."""
        from sklearn.datasets import load_diabetes

        features, targets = (
            torch.from_numpy(a) for a in load_diabetes(return_X_y=True, scaled=False)
        )
        test, val = held_out(
            torch.arange(len(targets)), test=self.test_size, val=self.val_size, seed=self.split_seed
        )
        mean, std = scaling(features, test, val)
        return Splits(
            TensorItems(((features - mean) / std).float(), targets.float()), test, val=val
        )
