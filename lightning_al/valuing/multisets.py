"""Which items are fitted on how often, and which ones judge: a list of refits known beforehand."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lightning_al.randomness import derive, generator

__all__ = ["Multisets"]


@dataclass(frozen=True, eq=False)
class Multisets:
    """Bootstrap draws of some labelled items; the draw ``t`` is a function of seed, round and t.

    Each draw has as many items as it has to draw from, so that all fits of a part have the same
    number of steps.

    Args:
        index: positions [n] of the items that get values.
        parts: positions of the items that judge the draws ``t``, ``t + len(parts)`` and so on, none
            of which is drawn there; one None for a validation set elsewhere.
        seed: of the run.
        round: of the run.
    """

    index: Tensor
    parts: tuple[Tensor | None, ...] = (None,)
    seed: int = 0
    round: int = 0

    def part(self, t: int) -> int:
        """Which part judges the draw ``t``."""
        return t % len(self.parts)

    def held(self, t: int) -> Tensor | None:
        """Positions [H] that judge the draw ``t``; None for the validation set."""
        return self.parts[self.part(t)]

    def counts(self, t: int) -> Tensor:
        """How often each of the n items is fitted on in the draw ``t``: int64 [n].

        >>> Multisets(torch.arange(4), (torch.tensor([1]),)).counts(0)[[0, 2, 3]].sum()
        tensor(3)
        """
        held = self.held(t)
        free = torch.arange(len(self.index))
        if held is not None:
            free = free[~torch.isin(self.index, held)]
        drawn = torch.randint(len(free), (len(free),), generator=self._generator(t))
        return free[drawn].bincount(minlength=len(self.index))

    def _generator(self, t: int) -> torch.Generator:
        return generator(self.seed, self.round, "multiset", t)

    def centred(self, draws: int) -> Tensor:
        """Counts of the first draws less their expectation, float64 [draws, n].

        An item that judges a draw has no part in it: 0 there.
        """
        found = torch.stack([self.counts(t) for t in range(draws)]).double()
        for t in range(draws):
            held = self.held(t)
            drawn = True if held is None else ~torch.isin(self.index, held)
            found[t] -= torch.as_tensor(drawn).double()
        return found

    @property
    def key(self) -> int:
        """A number that another design does not share."""
        said = [tuple(self.index.tolist())]
        said += [() if part is None else tuple(part.tolist()) for part in self.parts]
        return derive(self.seed, self.round, "multisets", repr(said))
