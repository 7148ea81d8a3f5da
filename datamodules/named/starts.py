"""The labelled set of round 0, as in Scherer et al. (2022): cold and warm starts.

Positions in, positions out; all draws are Python's ``random.Random(seed)``, so that a start is the
one of the paper for the paper's seed.
"""

from __future__ import annotations

import random
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from lightning_al.records import positions

__all__ = ["WARM_SEED", "StartKind", "farthest", "one_each", "share", "start"]

StartKind: TypeAlias = Literal["cold", "warm"]
WARM_SEED = 1234  # of the published warm starts
BLOCK = 1 << 22  # distances held at once


def share(rows: Tensor, seed: int = WARM_SEED, part: float = 0.1) -> Tensor:
    """Warm start: ``int(part * n)`` of the n training positions, drawn at random; ascending.

    The same rows give the same draw.

    Raises:
        ValueError: the part is not in (0, 1], or comes to no item.
    """
    if not 0 < part <= 1:
        raise ValueError(f"the part of a warm start must lie in (0, 1], got {part}")
    count = int(part * len(rows))
    if count == 0:
        raise ValueError(f"a warm start of {part} of {len(rows)} items is empty; raise it")
    return positions(random.Random(seed).sample(rows.tolist(), count)).sort().values


def one_each(targets: Tensor, rows: Tensor, seed: int) -> Tensor:
    """Cold start of a classification: one random training item of each class; ascending.

    Args:
        targets: classes of all items [N].
        rows: training positions; classes are drawn in the order in which they first occur there.
        seed: of the draws.
    """
    members: dict[int, list[int]] = {}
    for row, label in zip(rows.tolist(), targets[rows].tolist(), strict=True):
        members.setdefault(label, []).append(row)
    drawn = random.Random(seed)
    return positions(sorted(drawn.choice(each) for each in members.values()))


def farthest(features: Tensor, rows: Tensor) -> Tensor:
    """Cold start of a regression: the two training items that are farthest apart; ascending.

    Euclidean distance in float64; of equal distances the first pair in the order of ``rows``.
    O(n²) time, blocks of 32 MB.

    Args:
        features: of all items [N, E], as they stand in the table (not standardised).
        rows: training positions [n].
    """
    if len(rows) < 2:
        raise ValueError(f"the farthest pair needs two training items, got {len(rows)}")
    x = features[rows].double()
    best, pair = 0.0, (0, 1)  # where all items are the same
    step = max(1, BLOCK // len(x))
    for begin in range(0, len(x), step):
        block = torch.cdist(
            x[begin : begin + step], x, compute_mode="donot_use_mm_for_euclid_dist"
        ).flatten()
        largest = float(block.max())
        if largest > best:
            first = int((block == largest).nonzero()[0])
            best, pair = largest, (begin + first // len(x), first % len(x))
    return rows[list(pair)].sort().values


def start(
    kind: StartKind,
    features: Tensor,
    targets: Tensor,
    rows: Tensor,
    *,
    classification: bool,
    seed: int = WARM_SEED,
) -> Tensor:
    """The labelled positions of round 0, ascending.

    Args:
        kind: "cold" (:func:`one_each` or :func:`farthest`) or "warm" (:func:`share`).
        features: of all items [N, E], as they stand in the table.
        targets: of all items [N].
        rows: training positions.
        classification: whether the targets are classes.
        seed: of the draws; the farthest pair has none.

    Raises:
        ValueError: another kind.
    """
    if kind == "warm":
        return share(rows, seed)
    if kind != "cold":
        raise ValueError(f"start must be 'cold' or 'warm', got {kind!r}")
    return one_each(targets, rows, seed) if classification else farthest(features, rows)
