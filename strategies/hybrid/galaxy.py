"""GALAXY: bisection between differently labelled items, in the order of each class's margin."""

from __future__ import annotations

import heapq
from bisect import bisect_left
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from lightning_al import measures
from lightning_al.records import Pool

from ..selection import RESOLUTION, check_k, shuffled
from ..sets import SetStrategy, mean_probs, usable
from ..strategy_registry import STRATEGIES

__all__ = ["Galaxy", "galaxy"]


@STRATEGIES.register("galaxy", kind="classification")
@dataclass(frozen=True, repr=False, eq=False)
class Galaxy(SetStrategy):
    """GALAXY: bisection between classes on each class's margin (Zhang et al. 2022).

    Bisects, in a line of all items per class, between items of that class and others.
    Made for rare classes: what it takes lies on both sides of each class's cut. See :func:`galaxy`
    for the rule; within a batch the predicted class stands in for an answer that is open. Over
    several members the mean prediction counts.

    Source: Zhang, Katz-Samuels and Nowak, GALAXY: Graph-based Active Learning at the Extreme
    (2022), which rests on Dasarathy, Nowak and Zhu, S2 (2015).
    """

    needs: ClassVar[tuple[str, ...]] = ("probs",)
    keeps: ClassVar[tuple[str, ...]] = ("probs",)

    def pick(self, pool: Pool, k: int, generator: torch.Generator) -> Tensor:
        """Bisection on the lines of all classes."""
        probs = mean_probs(pool.probs, "galaxy")
        known, labels = probs[:0], torch.empty(0, dtype=torch.int64)
        answers, labelled = pool.context.targets, pool.labelled
        if len(labelled) and labelled.kept is not None and answers is not None:
            rows, _ = usable(labelled)
            if answers.ndim != 1:
                raise ValueError(
                    f"galaxy needs one label an item, targets [L], got {list(answers.shape)}; "
                    "it cannot serve items with several labels"
                )
            known = mean_probs(labelled.probs[rows], "galaxy").to(probs.device)
            labels = answers[rows.to(answers.device)]
        return galaxy(probs, known, labels, k, generator)


def galaxy(
    probs: Tensor, known: Tensor, labels: Tensor, k: int, generator: torch.Generator
) -> Tensor:
    """Items at and around the cuts of the classes: probs [N, C] -> rows [K], first pick first.

    For each class c all items, labelled ones too, stand in a line by their margin
    p_c - max of the other p; a labelled item is of the class or not. Again and again:

    1. Of all neighbouring labelled items of a line, one of the class and one not, with unlabelled
       items between them, the closest pair over all lines is taken (the shortest path between
       differently labelled items); its middle item is chosen.
    2. Where no such pair is left, the unlabelled item is chosen that is the fewest steps from both
       a labelled item of the class and one not of it: by turns on either side of the cuts. (In the
       paper's words items 2, 3, ... steps apart are connected until there is a path again.)
    3. Where no line has items of both kinds (one class is labelled, or nothing), the smallest
       lead of the best class.

    The paper asks for each label before it chooses the next item, and only trains the network anew
    once a batch. Here a batch is chosen as a whole, and until it is answered each pick counts on a
    line as what is known on both of its sides; where the two sides differ, or nothing is known, as
    what the model predicts (of the class, if its margin is not negative). With k = 1 the two are
    one.

    Equal margins stand in random order; of equally good items (both middles of an even gap, too)
    one is drawn. Holds 8 C (N + L) bytes; takes the time of sorting each line, and C log(N + L) a
    pick.

    Args:
        probs: class probabilities of the candidates.
        known: those of the labelled items [L, C].
        labels: the labelled items' classes [L].
        k: batch size.
        generator: for equal margins and equally good items.

    Raises:
        ValueError: not [N, C], [L, C] and [L], labels that are no classes, or k > N.

    >>> p = torch.tensor([0.1, 0.3, 0.6, 0.7, 0.8])  # of class 1
    >>> known = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    >>> galaxy(torch.stack([1 - p, p], 1), known, torch.tensor([0, 1]), 1, torch.Generator())
    tensor([2])
    """
    check_k(probs, k, axes=2)
    classes = probs.shape[1]
    if classes < 2 or known.ndim != 2 or known.shape[1] != classes or len(known) != len(labels):
        raise ValueError(
            f"galaxy needs probs [N, C] with C >= 2, known [L, C] and labels [L], got "
            f"{list(probs.shape)}, {list(known.shape)} and {list(labels.shape)}"
        )
    wrong = (labels < 0) | (labels >= classes) | (labels != labels.long())
    if bool(wrong.any()):
        raise ValueError(
            f"labels must be classes 0 to {classes - 1}, got {labels[wrong][:3].tolist()}"
        )
    everything = torch.cat([probs, known])
    rank = shuffled(len(everything), generator, probs.device)
    lines = [_Line(everything, labels.tolist(), c, rank) for c in range(classes)]
    lead = (measures.margin(probs).double() / RESOLUTION).round()
    spare = rank[: len(probs)].argsort()
    spare = spare[lead[spare].argsort(descending=True, stable=True)]
    fallback = iter(spare.tolist())
    chosen: dict[int, None] = {}
    while len(chosen) < k:
        offers = [offer for line in lines if (offer := line.offer()) is not None]
        item = min(offers)[-1] if offers else next(i for i in fallback if i not in chosen)
        chosen[item] = None
        for line in lines:
            line.take(item)
    return torch.tensor(list(chosen), dtype=torch.int64, device=probs.device)


class _Line:
    """All items in the order of one class's margin, and which of them are known to be of it.

    Places count from 0 to N + L - 1. An offer is (tier, steps, rank, item): the least is taken.
    """

    def __init__(self, probs: Tensor, labels: list[int], own: int, rank: Tensor) -> None:
        rest = probs.clone()
        rest[:, own] = -1
        margin = ((probs[:, own] - rest.amax(1)).double() / RESOLUTION).round()
        order = rank.argsort()
        order = order[margin[order].argsort(stable=True)]
        place = torch.empty_like(order)
        place[order] = torch.arange(len(order), device=order.device)
        self.rank = rank.int().cpu().numpy()
        self.items, self.place = order.int().cpu().numpy(), place.int().cpu().numpy()
        self.zero = int((margin < 0).sum())  # from this place on the class leads
        places = [int(here) for here in self.place[len(order) - len(labels) :]]
        self.kind = {here: label == own for here, label in zip(places, labels, strict=True)}
        self.known = sorted(places)
        self.gaps: set[tuple[int, int]] = set()  # neighbours in `known`, a cut is between them
        self.heap: list[tuple[int, ...]] = []  # offers, with a gap or a walk
        for low, high in zip(self.known, self.known[1:], strict=False):
            self._between(low, high)

    def offer(self) -> tuple[int, ...] | None:
        """The item that this line would take next, None where it holds no cut."""
        while self.heap:
            _, steps, _, _, start, end, way = self.heap[0]
            if way == 0:
                if (start, end) in self.gaps:
                    return self.heap[0][:4]
                heapq.heappop(self.heap)
                continue
            here = start + way * steps
            if here not in self.kind:
                return self.heap[0][:4]
            heapq.heappop(self.heap)
            if self.kind[here] != self.kind[start]:  # else a nearer cut has walks of its own
                self._walk(steps + 1, start, way)
        return None

    def take(self, item: int) -> None:
        """Count an item as chosen, and as what its neighbours among the known agree on.

        Where they do not, as what the model predicts.
        """
        here = int(self.place[item])
        at = bisect_left(self.known, here)
        before, after = self.known[max(at - 1, 0) : at], self.known[at : at + 1]
        sides = {self.kind[place] for place in before + after}
        self.kind[here] = sides.pop() if len(sides) == 1 else here >= self.zero
        self.known.insert(at, here)
        self.gaps.difference_update((low, high) for low in before for high in after)
        for low in before:
            self._between(low, here)
        for high in after:
            self._between(here, high)

    def _between(self, low: int, high: int) -> None:
        """Note the cut between two neighbours among the known, if there is one."""
        if self.kind[low] == self.kind[high]:
            return
        if high - low > 1:
            self.gaps.add((low, high))
            middle = min(map(self._ranked, {(low + high) // 2, (low + high + 1) // 2}))
            heapq.heappush(self.heap, (0, high - low, *middle, low, high, 0))
        else:  # nothing between them: walks off it on both sides
            self._walk(2, low, 1)
            self._walk(2, high, -1)

    def _walk(self, steps: int, start: int, way: int) -> None:
        """Look at the place so many steps from a cut's far side, past its near side."""
        here = start + way * steps
        if 0 <= here < len(self.items):
            heapq.heappush(self.heap, (1, steps, *self._ranked(here), start, here, way))

    def _ranked(self, place: int) -> tuple[int, int]:
        item = int(self.items[place])
        return int(self.rank[item]), item
