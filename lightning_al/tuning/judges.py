"""What a trial is judged by: which labelled items it is fitted on, and which are held out.

Items that were bought are never held out: who chose them decided what they look like, so that a
part of them says little of the data. They are fitted on, in every trial.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lightning_al.randomness import generator
from lightning_al.values import number, whole

__all__ = ["Judge", "Part", "folds_of"]

FORMS = "validation, {split: SHARE}, {folds: K, repeats: N}, or {whole: SHARE}"
FEWEST = 2  # items that a split holds out


@dataclass(frozen=True)
class Part:
    """One fit of a trial.

    Args:
        train: labelled items [M] that it is fitted on; None for all.
        held: items [H] that judge it; None for the validation set of the data.
        answers: items of the pool that count as labelled in it; for privileged judges alone.
    """

    train: Tensor | None = None
    held: Tensor | None = None
    answers: Tensor | None = None


@dataclass(frozen=True)
class Judge:
    """Where a trial gets its value from.

    Args:
        kind: "validation", the validation set of the data; "split", a part of the labelled items
            of the start; "folds", each of these items in turn; "whole", a part of all items with
            all their labels, which only a benchmark may look at.
        share: of a split or of the whole that is held out.
        folds: how many parts the items are dealt into.
        repeats: how often.
    """

    kind: str = "folds"
    share: float = 0.0
    folds: int = 5
    repeats: int = 1

    @classmethod
    def of(cls, given: Any) -> Judge:
        """The judge that a word or a mapping describes.

        Raises:
            ValueError: something else.

        >>> Judge.of({"folds": 4}).fits
        4
        """
        if isinstance(given, Judge):
            return given
        if given == "validation":
            return cls("validation")
        keys = set(given) if isinstance(given, Mapping) else set()
        if keys in ({"split"}, {"whole"}):
            (kind,) = keys
            share = number(0, 1, open=True)(f"tuning.judge: {kind}", given[kind])
            return cls(kind, share=share)
        if {"folds"} <= keys <= {"folds", "repeats"}:
            folds = whole(2)("tuning.judge: folds", given["folds"])
            repeats = whole(1)("tuning.judge: repeats", given.get("repeats", 1))
            return cls("folds", folds=folds, repeats=repeats)
        raise ValueError(f"tuning.judge must be {FORMS}, got {given!r}")

    @property
    def fits(self) -> int:
        """How many fits a trial is."""
        return self.folds * self.repeats if self.kind == "folds" else 1

    @property
    def privileged(self) -> bool:
        """Whether it reads labels of the pool."""
        return self.kind == "whole"

    def parts(self, data: Any, bought: Tensor, seed: int) -> list[Part]:
        """The fits of a trial; the same in each round, as far as the labels are the same.

        Args:
            data: the data module, at its round.
            bought: positions [B] that the run has asked for.
            seed: of the run.

        Raises:
            ValueError: nothing can judge: no validation set, or too few items of the start.
        """
        if self.kind == "validation":
            if data.val_dataloader() == []:
                raise ValueError(
                    "tuning.judge is the validation set, and these data have none; give the data "
                    "val=0.2, or judge by {folds: 5} of the labelled items"
                )
            return [Part()]
        if self.kind == "whole":
            return [self._whole(data, seed)]
        labelled = data.labelled
        start = labelled[~torch.isin(labelled, bought)]
        held = self._held(data, start, seed)
        return [Part(labelled[~torch.isin(labelled, part)], part) for part in held]

    def _held(self, data: Any, start: Tensor, seed: int) -> list[Tensor]:
        """What each fit holds out of the labelled items [n] of the start."""
        n = len(start)
        if self.kind == "split":
            count = round(self.share * n)
            if not FEWEST <= count < n:
                raise _too_few(n, f"a share of {self.share:g} of them is {count}")
        elif n < self.folds:
            raise _too_few(n, f"they make no {self.folds} parts")
        strata = data.strata(start) if data.stratified else None
        found: list[Tensor] = []
        for repeat in range(self.repeats):
            drawn = generator(seed, 0, "judge", repeat)
            if self.kind == "split":
                fold = folds_of(n, strata, -(-n // count), drawn)
                order = torch.argsort(fold, stable=True)
                found.append(start[order[:count].sort().values])
            else:
                fold = folds_of(n, strata, self.folds, drawn)
                found += [start[fold == k] for k in range(self.folds)]
        return found

    def _whole(self, data: Any, seed: int) -> Part:
        labelled, pool = data.labelled, data.pool
        known = torch.cat([labelled, pool[data.has_label(pool)]]).sort().values
        count = round(self.share * len(known))
        if not FEWEST <= count < len(known):
            raise _too_few(len(known), f"a share of {self.share:g} of them is {count}")
        order = torch.randperm(len(known), generator=generator(seed, 0, "judge"))
        held = known[order[:count]].sort().values
        rest = known[~torch.isin(known, held)]
        mine = torch.isin(rest, labelled)
        return Part(rest[mine], held, rest[~mine])


def _too_few(n: int, why: str) -> ValueError:
    return ValueError(
        f"nothing can judge a trial: {n} item(s) were labelled at the start (bought ones never "
        f"judge), and {why}; label more (initial=…), give the data a validation set (val=0.2) "
        "with judge: validation, or lower the number of folds"
    )


def folds_of(n: int, strata: Tensor | None, folds: int, drawn: torch.Generator) -> Tensor:
    """The fold [n] of each item: dealt out in a random order, class by class where there are any.

    Sizes differ by one at most.

    Args:
        n: items.
        strata: their classes [n]; None for one.
        folds: how many.
        drawn: the order.

    >>> folds_of(5, None, 2, torch.Generator().manual_seed(0)).bincount().tolist()
    [3, 2]
    """
    order = torch.randperm(n, generator=drawn)
    if strata is not None:
        order = order[torch.argsort(strata[order], stable=True)]
    fold = torch.empty(n, dtype=torch.int64)
    fold[order] = torch.arange(n) % folds
    return fold
