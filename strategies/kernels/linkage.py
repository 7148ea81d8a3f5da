"""Average linkage: agglomerative clustering by mean distance, of any number of items."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..selection import shuffled
from .k_means import assign, kmeans

__all__ = ["LIMIT", "average_linkage"]

LIMIT = 5_000  # items all pairs of which are compared


def average_linkage(
    points: Tensor, clusters: int, generator: torch.Generator, *, limit: int = LIMIT
) -> Tensor:
    """Agglomerative clustering by mean Euclidean distance: [n, E] -> cluster [n], 0 to m - 1.

    More than ``limit`` items are split into groups by k-means first, and merged within their group
    alone; over all groups the merges at the smallest distances are done, so that one height cuts
    all trees. That is the tree of all items where no cluster reaches over the border of a group.
    There are never fewer clusters than groups. Equal distances merge in an order that the
    generator draws. Holds 4 ``limit``^2 bytes; takes the time of n ``limit`` comparisons.

    Source: Sokal and Michener, A Statistical Method for Evaluating Systematic Relationships (1958).

    >>> points = torch.tensor([[0.0], [0.1], [5.0], [5.2]])
    >>> average_linkage(points, 3, torch.Generator()).bincount().sort().values
    tensor([1, 1, 2])
    """
    from scipy.cluster.hierarchy import linkage

    clusters = max(1, min(clusters, len(points)))
    groups = _groups(points, limit, generator)
    trees = []
    for rows in groups:
        moved = (points[rows] - points[rows].mean(0)).double().cpu()
        trees.append(linkage(moved.numpy(), "average") if len(rows) > 1 else None)
    heights = [torch.zeros(0) if t is None else torch.from_numpy(t[:, 2]) for t in trees]
    group = torch.repeat_interleave(torch.tensor([len(h) for h in heights]))
    lowest = torch.cat(heights).argsort(stable=True)[: len(points) - clusters]
    merges = group[lowest].bincount(minlength=len(groups)).tolist()
    label, count = torch.zeros(len(points), dtype=torch.int64), 0
    for rows, tree, done in zip(groups, trees, merges, strict=True):
        own = _leaves(tree, len(rows), done)
        label[rows.cpu()] = own + count
        count += int(own.max()) + 1
    return label.to(points.device)


def _leaves(tree: object, n: int, merges: int) -> Tensor:
    """The cluster of each of n leaves after the first merges of a tree [n], from 0 on."""
    import numpy as np
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    if tree is None or merges == 0:
        return torch.arange(n)
    children = np.asarray(tree)[:merges, :2].astype(np.int64)
    parents = np.repeat(np.arange(n, n + merges), 2)
    edges = (np.ones(2 * merges, dtype=np.int8), (parents, children.ravel()))
    graph = coo_matrix(edges, shape=(n + merges, n + merges))
    return torch.from_numpy(connected_components(graph, directed=False)[1][:n]).long()


def _groups(points: Tensor, limit: int, generator: torch.Generator) -> list[Tensor]:
    """Rows of the groups, each shuffled, of at most ``limit`` rows; near items together."""
    open_ = [shuffled(len(points), generator, points.device)]
    done: list[Tensor] = []
    while open_:
        rows = open_.pop()
        if len(rows) <= limit:
            done.append(rows)
            continue
        some = points[rows]
        centres = kmeans(some, min(len(rows), math.ceil(2 * len(rows) / limit)), generator)
        own = assign(some, centres)[0]
        sizes = own.bincount(minlength=len(centres))
        if int(sizes.max()) == len(rows):  # duplicates: nothing tells them apart
            done += rows.split(limit)
            continue
        parts = rows[own.argsort(stable=True)].split(sizes.tolist())
        open_ += [part for part in parts if len(part)]
    return done
