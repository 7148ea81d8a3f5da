"""The user's own data sets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch.utils.data import Dataset

from .pool_data import PoolDataModule, Splits

__all__ = ["ActiveDataModule"]


class ActiveDataModule(PoolDataModule):
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
        super().__init__(
            initial=initial,
            stratified=stratified,
            batch_size=batch_size,
            eval_batch_size=eval_batch_size,
            num_workers=num_workers,
            label=label,
            collate=collate,
            seed=seed,
        )
        self._given_splits = Splits(train, test, pool, val, groups)

    def load(self) -> Splits:
        """The data sets that were given."""
        return self._given_splits
