"""The user's own data sets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch.utils.data import DataLoader, Dataset, default_collate

from lightning_al.compat import overrides
from lightning_al.records import positions

from .pool_data import PoolDataModule, Splits

__all__ = ["ActiveDataModule"]


class ActiveDataModule(PoolDataModule):
    """Labelled and unlabelled items of any map-style data set.

    The data set is never written: a status per item says who is labelled, answers lie in an
    overlay. Positions are positions in ``train``.

    Args:
        train: items ``(inputs, label)``, longer tuples whose label has a position, mappings, or
            inputs without a label. Items whose label is None are pool items that only an oracle
            can answer; labels that are words become classes.
        test: a data set, or a count (1), a share (0.1) or positions of ``train`` to be held out.
        pool: the same items as ``train`` under the test transform; default ``train`` itself, which
            is refused when two reads of one item differ.
        val: like ``test``; no validation set is normal.
        initial: labelled items of round 0: a count, a share in (0, 1), positions,
            ``"one_per_class"``, ``"given"`` (all that carry a label), or a function
            ``(datamodule, generator) -> positions``.
        stratified: initial set and validation share drawn class by class.
        groups: one group per item of ``train``; held-out items never share a group with the pool.
        batch_size: training batch of one process.
        eval_batch_size: batch for scoring, validation and test; None for 512, and for more than
            that to score data in memory by a small network.
        num_workers: worker processes of the loaders.
        label: key of the label where items are mappings, its attribute where they are objects
            (``"y"`` of a graph); its position where they are longer than two parts: what comes
            before it are the inputs, what follows it (an index, a weight) is for training steps
            alone. None where items have no label.
        given: positions of the items that carry a label, where others do not; None looks.
        collate: joins a list of items to a batch, as in a ``DataLoader``: it gets whole items, of
            the pool too, and the label is taken out of what it gives. None for torch's default.
        check_repeatable: refuse a pool of which two reads of one item differ.
        seed: of the splits and the shuffling; ``ActiveLearner`` sets it.
    """

    grows = True

    def __init__(
        self,
        train: Dataset | None = None,
        test: Dataset | int | float | Sequence[int] | None = None,
        *,
        pool: Dataset | None = None,
        val: Dataset | int | float | Sequence[int] | None = None,
        initial: int | float | str | list[int] | Callable[..., Any] | Any = 10,
        stratified: bool = False,
        groups: Sequence[Any] | None = None,
        batch_size: int = 32,
        eval_batch_size: int | None = None,
        num_workers: int = 0,
        label: str | int | None = "auto",
        given: Sequence[int] | None = None,
        collate: Callable[..., Any] | None = None,
        check_repeatable: bool = True,
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
            check_repeatable=check_repeatable,
            seed=seed,
        )
        if given is not None:
            self.given = positions(given).unique()
        self._given_splits = Splits(train, test, pool, val, groups)

    def load(self) -> Splits:
        """The data sets that were given."""
        return self._given_splits

    @classmethod
    def of_datamodule(cls, datamodule: Any, **changes: Any) -> ActiveDataModule:
        """The data sets behind the loaders of a plain ``LightningDataModule``.

        Its training set is the pool and the labelled items, its validation and test sets stay.

        Args:
            datamodule: with ``train_dataloader`` and, where there is one, ``val_dataloader`` and
                ``test_dataloader``.
            changes: arguments of this class that are not taken from it; ``test=0.2`` where it has
                no test set.

        Raises:
            ValueError: a loader that is not one ``DataLoader`` over a data set.
        """
        datamodule.prepare_data()
        for stage in ("fit", "test"):
            datamodule.setup(stage)
        found: dict[str, Any] = {}
        for name in ("train", "val", "test"):
            if not overrides(f"{name}_dataloader", datamodule):
                continue
            loader = getattr(datamodule, f"{name}_dataloader")()
            if not isinstance(loader, DataLoader):
                raise ValueError(
                    f"{name}_dataloader gives a {type(loader).__name__}, expected one DataLoader; "
                    "give the data sets to ActiveDataModule(train, test) yourself"
                )
            found[name] = loader.dataset
            if name == "train":
                batch = {"batch_size": loader.batch_size, "num_workers": loader.num_workers}
                own = None if loader.collate_fn is default_collate else loader.collate_fn
                found |= {k: v for k, v in {**batch, "collate": own}.items() if v is not None}
        return cls(**(found | changes))
