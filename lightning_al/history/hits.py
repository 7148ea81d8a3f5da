"""The hit ratio: how many of the best items of the pool a run has found."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from lightning_al.records import Status

__all__ = ["Hits", "best_items", "hits_of"]


@dataclass(frozen=True)
class Hits:
    """The best items of a run's first pool, and how many of them are labelled.

    Args:
        best: their positions [T] in the data set.
    """

    best: Tensor

    def ratio(self, datamodule: Any) -> float:
        """Share of the best items that are labelled now, in [0, 1]."""
        found = datamodule.status[self.best] == int(Status.LABELLED)
        return float(found.double().mean())

    def figures(self, datamodule: Any) -> dict[str, float]:
        """``hit_ratio`` until now."""
        return {"hit_ratio": self.ratio(datamodule)}


def best_items(targets: Tensor, share: float) -> Tensor:
    """Positions [T] of the largest of the targets [N], or [N, 1].

    As many as the share is, at least one; further items as large as the smallest of these belong
    to them too, so that the order of the items does not matter. NaN is never among the best.

    Raises:
        ValueError: a share outside (0, 1), or targets that are no single numbers.
    """
    if not 0 < share < 1:
        raise ValueError(f"hit_ratio_at must be a share between 0 and 1, got {share}")
    if targets.ndim == 2 and targets.shape[1] == 1:
        targets = targets[:, 0]
    if targets.ndim != 1 or not targets.is_floating_point() or not len(targets):
        raise ValueError(
            f"hit_ratio_at needs one number an item as target, got {targets.dtype} "
            f"{list(targets.shape)}; leave it out"
        )
    n = max(1, math.ceil(share * len(targets) - 1e-9))
    values = targets.nan_to_num(nan=-math.inf, posinf=math.inf, neginf=-math.inf)
    least = values.topk(n).values[-1]
    return ((values >= least) & ~targets.isnan()).nonzero().flatten()


def hits_of(datamodule: Any, share: float | None) -> Hits | None:
    """The best items of the pool as it is now; None without a share.

    Reads labels of the pool, for this number alone: no strategy sees them.

    Raises:
        ValueError: see :func:`best_items`; or items without a label.
    """
    if share is None:
        return None
    pool: Tensor = datamodule.pool
    bare = pool[~datamodule.has_label(pool)]
    if len(bare):
        raise ValueError(
            f"hit_ratio_at needs the targets of the whole pool, {len(bare)} of {len(pool)} items "
            "carry none; leave it out"
        )
    return Hits(pool[best_items(datamodule.labels(pool), share)])
