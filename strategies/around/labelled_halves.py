"""The labelled items of a round in two halves, and what candidates think of each as a pool."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lightning_al.records import Pool

from .candidates import Candidates, sorted_usable

__all__ = ["LEAST", "Halves", "halves_of", "split"]

LEAST = 4  # labelled items: two a half, so that a candidate has a choice


@dataclass(frozen=True)
class Halves:
    """Labelled items [L] by ascending index, those whose predictions are finite."""

    index: Tensor  # [L] positions in the data set
    half: Tensor  # [L] 0 or 1, for as long as the item is known
    utility: Tensor  # [L, K] in [0, 1]: of each half as a pool, the other one being labelled
    nominated: Tensor  # [L, K] bool: in a candidate's own batch of that half
    targets: Tensor  # [L, ...]
    points: Tensor | None  # [L, E] embeddings, where they are kept

    @property
    def silent(self) -> Tensor:
        """Which candidates have the same to say of all items of a half, bool [K]."""
        sides = [self.utility[self.half == side] for side in (0, 1)]
        same = torch.stack([part.amax(0) == part.amin(0) for part in sides]).all(0)
        return same & ~same.all()

    def plain(self) -> dict[str, Any]:
        """What the next round has to know, for its memory."""
        return {"index": self.index.clone(), "half": self.half.clone()}


def split(index: Tensor, memory: Mapping[str, Any], seed: int) -> Tensor:
    """Which half each item [L] belongs to: 0 or 1, [L], sizes as equal as can be.

    An item stays in the half that it was in, so that no network that is carried over has seen those
    it is asked about; new ones fill the smaller half first, in random order.

    Args:
        index: positions, ascending.
        memory: of the last round: ``index`` and ``half``.
        seed: of the draw.
    """
    half = torch.full_like(index, -1)
    if "index" in memory and len(memory["index"]):
        known, place = memory["index"].sort()
        at = torch.searchsorted(known, index).clamp_max(len(known) - 1)
        same = known[at] == index
        half[same] = memory["half"][place][at][same]
    new = (half < 0).nonzero().squeeze(1)
    draw = torch.Generator().manual_seed(seed)
    new = new[torch.randperm(len(new), generator=draw)]
    lead = int((half == 0).sum()) - int((half == 1).sum())
    ahead = min(abs(lead), len(new))
    half[new[:ahead]] = 1 if lead > 0 else 0
    rest = new[ahead:]
    begins = int(torch.randint(2, (), generator=draw))
    half[rest] = (torch.arange(len(rest)) + begins) % 2
    return half


def halves_of(
    strategy: Candidates, pool: Pool, memory: Mapping[str, Any], seed: int, share: float
) -> Halves:
    """Score and rank each half of the labelled items as a pool, as the candidates would.

    Args:
        strategy: whose candidates they are.
        pool: of the round.
        memory: of the last round.
        seed: of all draws.
        share: of a half, that a candidate's own batch of it is.

    Raises:
        ValueError: a half with fewer than two items whose predictions are finite.
    """
    bench, targets = pool.bench, pool.context.targets
    assert targets is not None  # the caller looked
    index, order = bench.labelled.cpu().sort()
    half = split(index, memory, seed)
    rows, utility, nominated, points = [], [], [], []
    for side in (0, 1):
        own, other = index[half == side], index[half != side]
        part = bench.pool_of(own, labelled=other, strategy=strategy)
        part = strategy.whole(part)
        good, _ = sorted_usable(part)
        if len(good) < 2:
            raise ValueError(
                f"auto-al needs two labelled items of finite predictions in each half, got "
                f"{len(good)} of {len(own)}; look for NaN among features, or label more"
            )
        part = part.subset(good)
        count = min(len(part), max(2, math.ceil(share * len(part))))
        found = strategy.opinions(part, count, seed + 1 + side)
        rows.append(torch.searchsorted(index, part.index.cpu()))
        utility.append(found.utility.cpu())
        nominated.append(found.nominated.cpu())
        kept = {} if part.kept is None else part.kept.tensors()
        if "embedding" in kept:
            points.append(kept["embedding"].float().cpu())
    at, place = torch.cat(rows).sort()
    return Halves(
        index=index[at],
        half=half[at],
        utility=torch.cat(utility)[place],
        nominated=torch.cat(nominated)[place],
        targets=targets.cpu()[order][at],
        points=torch.cat(points)[place] if points else None,
    )
