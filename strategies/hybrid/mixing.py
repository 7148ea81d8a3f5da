"""Items whose predicted class hangs by a thread: it changes when the embedding is tampered with.

Both strategies ask the head of the fitted task (``pool.bench.head``) what it makes of changed
embeddings, and cluster the items whose class changes. Where these are fewer than asked for,
ALFA-Mix mixes further, until there are enough; else the others with the smallest margin follow (the
authors' codes draw them). Without labelled items the network knows nothing: the whole pool is
clustered.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from lightning_al import measures
from lightning_al.records import Pool

from ..diversity.clustered import KMeans
from ..selection import top_k
from ..sets import BLOCK, SetStrategy, covered, unit
from ..strategy_registry import STRATEGIES

__all__ = ["AlfaMix", "DropQuery", "class_anchors", "mixed", "widths"]

FAR = 2**10  # no need to mix farther
Head = Callable[[Tensor], Tensor]


class _Flips(SetStrategy):
    """Clusters the items whose class flips; a subclass says how often each does."""

    needs: ClassVar[tuple[str, ...]] = ("probs", "head_input")
    keeps: ClassVar[tuple[str, ...]] = ("head_input",)

    def flips(
        self, pool: Pool, k: int, generator: torch.Generator
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Whether an item's class changes, how often, and its margin: [N] each; k are wanted."""
        raise NotImplementedError

    def clustered(self, points: Tensor) -> Tensor:
        """What is clustered of embeddings [n, E]."""
        return points

    def pick(self, pool: Pool, k: int, generator: torch.Generator) -> Tensor:
        """The hearts of k clusters of those that change, or all of them and then the others."""
        if covered(pool) is None:
            return KMeans().hearts(self.clustered(pool.head_input), k, generator)
        changes, often, margin = self.flips(pool, k, generator)
        rows, rest = changes.nonzero().squeeze(1), (~changes).nonzero().squeeze(1)
        if len(rows) > k:
            points = self.clustered(pool.head_input[rows])
            return rows[KMeans().hearts(points, k, generator)]
        urgent = often - margin  # a margin is at most 1: it decides among equals only
        rows = rows[top_k(urgent[rows], len(rows), generator)]
        return torch.cat([rows, rest[top_k(urgent[rest], k - len(rows), generator)]])


@STRATEGIES.register("alfa-mix", kind="classification")
@dataclass(frozen=True, repr=False, eq=False)
class AlfaMix(_Flips):
    """ALFA-Mix: the class changes when embeddings are mixed (Parvaneh et al. 2022).

    Items whose class changes when their embedding is mixed with that of a labelled class.
    The anchor of a class is the mean embedding of its labelled items; classes without any share the
    mean of all labelled items. Each candidate is mixed with each anchor by the closed form of
    :func:`mixed`, by ``eps``, twice ``eps`` and so on up to 1 (then twice as far each time), until
    the class of k items or more has changed. These are clustered by k-means at unit length, and of
    each cluster the item nearest to its centre is taken.

    Source: Parvaneh et al., Active Learning by Feature Mixing (2022), section 3.2; widening, unit
    length and the anchor of missing classes as in the authors' code, which stops at 1 and draws the
    rest.

    Args:
        eps: how far to mix at first; divided by the square root of E, as the authors do.
    """

    eps: float = 0.2

    def __post_init__(self) -> None:
        if not 0 < self.eps < math.inf:
            raise ValueError(f"alfa-mix needs eps > 0, got {self.eps}; 0.2 is customary")

    def clustered(self, points: Tensor) -> Tensor:
        """Embeddings [n, E] at unit length."""
        return unit(points)

    def flips(
        self, pool: Pool, k: int, generator: torch.Generator
    ) -> tuple[Tensor, Tensor, Tensor]:
        """By mixing with each anchor, further and further until k flip."""
        points, head = pool.head_input, pool.bench.head
        anchors = class_anchors(pool).to(points.device)
        often, margin = _empty(points), _empty(points)
        label = torch.empty(len(points), dtype=torch.int64, device=points.device)
        slope = torch.empty(points.shape, dtype=torch.float32, device=points.device)
        for rows, part in _blocks(points):
            label[rows], margin[rows], slope[rows] = _look(head, part)
        often.zero_()
        for width in widths(self.eps):
            left = (often == 0).nonzero().squeeze(1)
            if len(points) - len(left) >= k:
                break
            eps = width / math.sqrt(points.shape[1])
            for block, part in _blocks(points[left]):
                these = left[block]
                for anchor in anchors:
                    with torch.no_grad():
                        moved = mixed(part, anchor, slope[these], eps)
                        often[these] += _log_probs(head, moved).argmax(1) != label[these]
        return often > 0, often, margin


@STRATEGIES.register("drop-query", kind="classification")
@dataclass(frozen=True, repr=False, eq=False)
class DropQuery(_Flips):
    """DropQuery: the class changes when features are dropped (Gupte et al. 2024).

    ``views`` times each feature is set to zero with odds ``p`` and the others are multiplied by
    1 / (1 - p). Items whose class then differs in more than a share ``threshold`` of the views are
    clustered by k-means, and of each cluster the item nearest to its centre is taken.

    Source: Gupte, Aklilu, Nirschl and Yeung-Levy, Revisiting Active Learning in the Era of Vision
    Foundation Models (2024).

    Args:
        p: odds of dropping a feature.
        views: how often.
        threshold: share of the views that must disagree.
    """

    p: float = 0.75
    views: int = 3
    threshold: float = 0.5

    def __post_init__(self) -> None:
        if not (0 < self.p < 1 and self.views >= 1 and 0 <= self.threshold < 1):
            raise ValueError(
                "drop-query needs 0 < p < 1, views >= 1 and 0 <= threshold < 1, got "
                f"{self.p}, {self.views} and {self.threshold}"
            )

    def flips(
        self, pool: Pool, k: int, generator: torch.Generator
    ) -> tuple[Tensor, Tensor, Tensor]:
        """By dropping features."""
        points, head = pool.head_input, pool.bench.head
        often, margin = _empty(points), _empty(points)
        for rows, part in _blocks(points):
            label, margin[rows], _ = _look(head, part, gradient=False)
            often[rows] = 0.0
            for _ in range(self.views):
                drawn = torch.rand(part.shape, generator=generator, device=generator.device)
                view = part * (drawn >= self.p).to(part.device) / (1 - self.p)
                with torch.no_grad():
                    often[rows] += _log_probs(head, view).argmax(1) != label
        return often > self.threshold * self.views, often, margin


def mixed(points: Tensor, anchor: Tensor, gradient: Tensor, eps: float) -> Tensor:
    """Embeddings [n, E] mixed with an anchor [E], feature by feature, to raise the loss most.

    The mixture is ``a z* + (1 - a) z`` with ``a = eps |z* - z| g / |g| / (z* - z)``, where g is the
    gradient [n, E] of the loss under the predicted class; that is, a step from z along g of length
    ``eps |z* - z|``. Where the gradient is zero nothing moves.

    Source: Parvaneh et al. (2022), the closed form of the interpolation.

    >>> mixed(torch.zeros(1, 2), torch.tensor([3.0, 4.0]), torch.tensor([[0.0, 2.0]]), 0.2)
    tensor([[0., 1.]])
    """
    far = torch.linalg.vector_norm(anchor - points, dim=1, keepdim=True)
    steep = torch.linalg.vector_norm(gradient, dim=1, keepdim=True)
    way = torch.where(steep > 0, gradient / steep, torch.zeros_like(gradient))
    return points + eps * far * way


def widths(eps: float) -> Iterator[float]:
    """How far to mix, one after the other: multiples of ``eps`` up to 1, then twice as far each.

    Ends beyond a thousand, where a class that has not changed never will.

    >>> [round(width, 3) for width in widths(0.4)][:5]
    [0.4, 0.8, 1.2, 2.4, 4.8]
    """
    width = eps
    yield width
    while width < FAR:
        width = width + eps if width < 1 else 2 * width
        yield width


def class_anchors(pool: Pool) -> Tensor:
    """Mean embeddings [A, E] of the labelled items of each class that has any that are finite.

    Where some of the task's classes have none, the mean of all labelled items follows.

    Raises:
        ValueError: labels that are not one class an item.
    """
    labelled, targets = pool.labelled, pool.context.targets
    if targets is None or targets.ndim != 1 or targets.is_floating_point():
        got = "none" if targets is None else f"{targets.dtype} {list(targets.shape)}"
        raise ValueError(
            f"alfa-mix needs the labels of the labelled items, one class each [L], got {got}"
        )
    embedding = labelled.head_input
    fine = embedding.isfinite().all(1)
    targets, embedding = targets.to(embedding.device)[fine], embedding[fine]
    present = targets.unique()
    anchors = [embedding[targets == c].mean(0) for c in present]
    if len(present) < (pool.context.classes or 0):
        anchors.append(embedding.mean(0))
    return torch.stack(anchors)


def _empty(points: Tensor) -> Tensor:
    return torch.empty(len(points), dtype=torch.float32, device=points.device)


def _blocks(points: Tensor) -> Iterator[tuple[slice, Tensor]]:
    size = max(1, BLOCK // (4 * max(1, points.shape[1])))
    for start in range(0, len(points), size):
        part = points[start : start + size].float()
        yield slice(start, start + len(part)), part


def _log_probs(head: Head, points: Tensor) -> Tensor:
    """Log of the members' mean probabilities [n, C]."""
    logits = head(points)
    if logits.ndim != 3:
        raise ValueError(
            f"a change of class needs one prediction an item, logits [n, S, C], got "
            f"{list(logits.shape)}; items with places (pixels, several labels) have no single class"
        )
    return logits.log_softmax(2).logsumexp(1) - math.log(logits.shape[1])


def _look(head: Head, points: Tensor, gradient: bool = True) -> tuple[Tensor, Tensor, Tensor]:
    """Class [n], margin [n], and the gradient [n, E] of its loss at the embedding."""
    with torch.enable_grad():
        leaf = points.detach().clone().requires_grad_(gradient)
        log_probs = _log_probs(head, leaf)
        best, label = log_probs.max(1)
        slope = torch.autograd.grad(-best.sum(), leaf)[0] if gradient else torch.zeros_like(points)
    log_probs = log_probs.detach()
    return label, 1 - measures.margin(log_probs.exp()), slope
