"""What strategies that choose a batch as a set have in common.

Such a strategy names its kernel in ``pick``. Here the candidates are put in the order of their
index, so that the order of the pool decides nothing, not even which tie a given seed draws; items
with NaN or infinite values are set aside and come last; the labelled set is fetched on demand.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from lightning_al.records import Acquisition, Pool, Predictions

from .score_strategy import Described, acquired
from .selection import check_k, shuffled

__all__ = [
    "A_PICK",
    "Picked",
    "SetStrategy",
    "choose_rows",
    "closest",
    "covered",
    "covered_embedding",
    "drawn_rows",
    "looked_at",
    "mean_probs",
    "unit",
    "usable",
]

BLOCK = 2**22  # elements looked at together: 32 MiB of float64
A_PICK = 10  # candidates a pick that a choice among a part of the pool looks at, at least


@dataclass(frozen=True)
class Picked:
    """What a ``pick`` gives that has something to say of its choice."""

    rows: Tensor  # [K]
    notes: Mapping[str, Any] = field(default_factory=dict)  # plain values, for the journal


class SetStrategy(Described):
    """Chooses a batch by looking at all candidates together; a subclass has ``pick``."""

    needs: ClassVar[tuple[str, ...]] = ("embedding",)
    keeps: ClassVar[tuple[str, ...]] = ("embedding",)
    members: ClassVar[str] = "one"
    privileged: ClassVar[bool] = False

    def pick(self, pool: Pool, k: int, generator: torch.Generator) -> Tensor | Picked:
        """Rows [K] of a pool of at least ``k`` candidates, all finite; k >= 1."""
        raise NotImplementedError

    def choose(self, candidates: Pool, k: int, generator: torch.Generator) -> Acquisition:
        """Choose k candidates; those with NaN or infinite values only when no others are left.

        Raises:
            ValueError: more asked than there are.
        """
        notes: dict[str, Any] = {}

        def pick(pool: Pool, k: int, generator: torch.Generator) -> Tensor:
            found = self.pick(pool, k, generator)
            if isinstance(found, Tensor):
                return found
            notes.update(found.notes)
            return found.rows

        rows = choose_rows(pick, candidates, k, generator)
        return replace(acquired(candidates, rows, candidates.scores), notes=notes)


def drawn_rows(n: int, most: int, generator: torch.Generator, device: torch.device) -> Tensor:
    """At most ``most`` of n rows, drawn without repetition, ascending; all of fewer."""
    if n <= most:
        return torch.arange(n, device=device)
    return shuffled(n, generator, device)[:most].sort().values


def looked_at(name: str, count: int, total: int, mend: str) -> dict[str, int]:
    """The note of how many candidates a choice looked at; warns where that is not all of them.

    Args:
        name: of the strategy.
        count: candidates that it compares with each other.
        total: candidates that it could.
        mend: what to do to have all of them looked at.
    """
    if count < total:
        warnings.warn(
            f"{name} looks at {count:,} of {total:,} candidates, drawn at random; {mend}",
            stacklevel=2,
        )
    return {"looked at": count}


def choose_rows(
    pick: Callable[[Pool, int, torch.Generator], Tensor],
    candidates: Pool,
    k: int,
    generator: torch.Generator,
) -> Tensor:
    """Rows [K] by ``pick(pool, k, generator)``, which sees the usable candidates in order.

    Raises:
        ValueError: more asked than there are.
    """
    check_k(candidates.index, k)
    good, bad = usable(candidates)
    whole = len(good) == len(candidates) and bool((good[1:] > good[:-1]).all())
    pool = candidates if whole else candidates.subset(good)
    some = min(k, len(good))
    rows = good[:0]
    if some:
        rows = good[pick(pool, some, generator).to(good.device)]
    if some < k:
        rest = bad[shuffled(len(bad), generator, bad.device)]
        rows = torch.cat([rows, rest[: k - some]])
    return rows


def usable(candidates: Pool) -> tuple[Tensor, Tensor]:
    """Rows whose kept fields and scores are finite, and the others; each by ascending index."""
    order = candidates.index.argsort()
    fine = torch.ones(len(candidates), dtype=torch.bool, device=candidates.index.device)
    fields = {} if candidates.kept is None else candidates.kept.tensors()
    if candidates.scores is not None:
        fields["the score"] = candidates.scores
    for name, values in fields.items():
        if name not in ("index", "mask"):
            fine &= _finite(values).to(fine.device)
    return order[fine[order]], order[~fine[order]]


def _finite(values: Tensor) -> Tensor:
    """Which rows of [N, ...] hold no NaN and no infinity, and whose squares do not overflow."""
    limit = torch.finfo(torch.float32).max ** 0.5 / (4 * max(1, values[:1].numel()))
    rows = max(1, BLOCK // max(1, values[:1].numel()))
    parts = [
        (part.abs() <= limit).flatten(1).all(1) if part.ndim > 1 else part.isfinite()
        for part in values.split(rows)
    ]
    return torch.cat(parts) if parts else torch.ones(0, dtype=torch.bool)


def covered(pool: Pool) -> Predictions | None:
    """What is kept of the labelled set, usable items by ascending index; None where there is none.

    Labelled items that are not finite cover nothing.
    """
    labelled = pool.labelled
    if len(labelled) == 0 or labelled.kept is None:
        return None
    rows, _ = usable(labelled)
    return labelled.kept.rows(rows) if len(rows) else None


def covered_embedding(pool: Pool, field: str = "embedding") -> Tensor:
    """Embeddings [L, E] of the labelled set (or head inputs), [0, E] at a cold start."""
    points: Tensor = getattr(pool, field)
    known = covered(pool)
    found: Tensor | None = None if known is None else getattr(known, field)
    return points[:0] if found is None else found.to(points.device)


def mean_probs(probs: Tensor, name: str) -> Tensor:
    """Class probabilities [N, C] averaged over the members of [N, S, C].

    Raises:
        ValueError: items with places, which have no single prediction.
    """
    if probs.ndim != 3:
        raise ValueError(
            f"{name} needs one prediction an item, probs [N, S, C], got {list(probs.shape)}; "
            "it cannot serve items with places (pixels, several labels)"
        )
    return probs.mean(1)


def closest(points: Tensor, centres: Tensor) -> tuple[Tensor, Tensor]:
    """Squared Euclidean distance to the nearest centre, float64 [N], and which centre it is [N].

    points [N, E], centres [L, E], L >= 1. Of several equally near it is the first. Blocked; about
    the centres' mean, so that a common offset costs no digits.
    """
    origin = centres.double().mean(0)
    about = centres.double() - origin
    norms = about.square().sum(1)
    near = torch.empty(len(points), dtype=torch.float64, device=points.device)
    which = torch.empty(len(points), dtype=torch.int64, device=points.device)
    rows = max(1, BLOCK // max(len(centres), points.shape[1], 1))
    for start in range(0, len(points), rows):
        part = points[start : start + rows].double() - origin
        own = part.square().sum(1)
        squared = torch.addmm(norms, part, about.T, alpha=-2)
        best = squared.amin(1)
        tiny = 2.0**-44 * (own + norms.max())  # what cannot be told from zero
        which[start : start + rows] = (squared <= (best + tiny)[:, None]).byte().argmax(1)
        best += own
        near[start : start + rows] = best.masked_fill(best <= tiny, 0.0)
    return near, which


def unit(points: Tensor) -> Tensor:
    """Rows [N, E] at unit length, float32; a zero row stays zero."""
    points = points.float()
    return points / torch.linalg.vector_norm(points, dim=1, keepdim=True).clamp_min(1e-30)
