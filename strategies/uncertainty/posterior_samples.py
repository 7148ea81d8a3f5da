"""Thompson sampling: the best items under functions drawn from the posterior."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch

from lightning_al.records import Acquisition, Pool
from lightning_al.scores.numerics import check_regression, one_output

from ..score_strategy import Described, select
from ..selection import check_k, top_k
from ..strategy_registry import STRATEGIES

__all__ = ["Thompson", "thompson", "thompson_per_item"]


@dataclass(frozen=True, repr=False, eq=False)
class Thompson(Described):
    """Draws posterior members and takes the items that are best under them.

    Keeps the means [N, S, D] of the pool. The acquisition's scores are the picks' values under
    their own member, the ``members`` that were drawn are in its notes.

    Args:
        maximize: whether high or low target values are wanted.
        output: which of several outputs.
        per_item: a member for each pick (of those left), not one for the whole batch.
    """

    maximize: bool = True
    output: int | None = None
    per_item: bool = False

    needs: ClassVar[tuple[str, ...]] = ("mean",)
    keeps: ClassVar[tuple[str, ...]] = ("mean",)
    members: ClassVar[str] = "many"
    privileged: ClassVar[bool] = False

    def choose(self, candidates: Pool, k: int, generator: torch.Generator) -> Acquisition:
        """Draw, then take the best k.

        Raises:
            ValueError: more asked than there are, or D > 1 without ``output``.
        """
        check_k(candidates.index, k)
        if k == 0:
            return Acquisition(index=candidates.index[:0], notes={"members": []})
        mean = candidates.mean
        check_regression("thompson", mean)
        values = one_output("thompson", mean, self.output)  # [N, S]
        broken = values.isnan().any(1)
        draw = torch.randint(
            values.shape[1],
            (k if self.per_item else 1,),
            generator=generator,
            device=generator.device,
        ).tolist()

        def ranking(member: int) -> Iterator[int]:
            own = values[:, member] if self.maximize else -values[:, member]
            own = own.masked_fill(broken, torch.nan)
            return iter(select(top_k, own, k, generator, relative="range").tolist())

        rankings = {member: ranking(member) for member in dict.fromkeys(draw)}
        picks: dict[int, float] = {}
        for member in draw if self.per_item else draw * k:
            row = next(row for row in rankings[member] if row not in picks)
            value = float(values[row, member])
            picks[row] = value if self.maximize else -value
        return Acquisition(
            index=candidates.index[torch.tensor(list(picks), device=candidates.index.device)],
            scores=torch.tensor(list(picks.values()), dtype=torch.float64),
            notes={"members": draw},
        )


@STRATEGIES.register("thompson", kind="regression", members=20)
def thompson(maximize: bool = True, output: int | None = None) -> Thompson:
    """The best k under one posterior member, drawn anew each batch (Thompson 1933; Russo 2018).

    Args:
        maximize: whether high or low target values are wanted.
        output: which of several outputs.
    """
    return Thompson(maximize, output)


@STRATEGIES.register("thompson-per-item", kind="regression", members=20)
def thompson_per_item(maximize: bool = True, output: int | None = None) -> Thompson:
    """Each pick the best of those left under a member of its own (Hernández-Lobato et al. 2017).

    Args:
        maximize: whether high or low target values are wanted.
        output: which of several outputs.
    """
    return Thompson(maximize, output, per_item=True)
