"""CoreGCN: a graph network learns to tell labelled from unlabelled; k-center on what it sees."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from lightning_al.records import Pool

from ..kernels.k_center import k_center_greedy
from ..sets import (
    A_PICK,
    Picked,
    SetStrategy,
    covered_embedding,
    drawn_rows,
    looked_at,
    unit,
)
from ..strategy_registry import STRATEGIES

__all__ = ["CoreGCN", "Graph", "hidden_features"]

_ROWS = 2**9  # rows of the graph looked at together


@STRATEGIES.register("core-gcn")
@dataclass(frozen=True, repr=False, eq=False)
class CoreGCN(SetStrategy):
    """CoreGCN: k-center on the features of a graph network (Caramalau et al. 2021).

    Greedy, on the hidden features of :func:`hidden_features`.
    Pool and labelled items are the nodes, their cosines the edges. Without labelled items there is
    nothing to tell apart: the network stays as it was drawn.

    Source: Caramalau, Bhattarai and Kim, Sequential Graph Convolutional Network for Active
    Learning (2021).

    Args:
        hidden: features of the hidden layer.
        epochs: steps of Adam, each on the whole graph.
        learning_rate: of Adam.
        weight_decay: of Adam.
        dropout: share of hidden features that is dropped while it learns.
        balance: weight of the unlabelled in the loss.
        limit: of a larger pool this many items, drawn from it, are candidates and nodes (the
            authors take 10,000 whatever the pool), but at least ten a pick. The acquisition's notes
            say how many.
    """

    hidden: int = 128
    epochs: int = 200
    learning_rate: float = 1e-3
    weight_decay: float = 5e-4
    dropout: float = 0.3
    balance: float = 1.2
    limit: int = 10_000

    def __post_init__(self) -> None:
        if self.hidden < 1 or self.epochs < 0 or self.limit < 1:
            raise ValueError(
                "core-gcn needs hidden and limit of at least 1 and epochs of at least 0, got "
                f"{self.hidden}, {self.limit} and {self.epochs}"
            )
        if not (0 <= self.dropout < 1 and self.balance > 0 and self.learning_rate > 0):
            raise ValueError(
                "core-gcn needs dropout in [0, 1), balance > 0 and learning_rate > 0, got "
                f"{self.dropout}, {self.balance} and {self.learning_rate}"
            )

    def pick(self, pool: Pool, k: int, generator: torch.Generator) -> Picked:
        """k-center on hidden features."""
        points, labelled = pool.embedding, covered_embedding(pool)
        rows = drawn_rows(len(points), max(self.limit, A_PICK * k), generator, points.device)
        nodes = torch.cat([points[rows].float(), labelled.float()])
        seen = hidden_features(nodes, len(labelled), generator, self)
        some = k_center_greedy(seen[: len(rows)], seen[len(rows) :], k, generator)
        mend = "raise limit to have more as nodes"
        return Picked(rows[some], looked_at("core-gcn", len(rows), len(points), mend))


class Graph:
    """The cosines of N nodes as edges, never built: [N, E] -> N x N by products of [N, E].

    ``A = (S - I) D^-1 + I`` with ``S`` the cosines and ``D`` the sums of the magnitudes of a
    node's cosines to others (embeddings after a ReLU have no negative ones, so that this is the
    authors' sum); a node at right angles to all has ``D = 1``.
    """

    def __init__(self, nodes: Tensor) -> None:
        self.unit = unit(nodes)
        sums = [(part @ self.unit.T).abs_().sum(1) for part in self.unit.split(_ROWS)]
        self.own = self.unit.square().sum(1)  # 1, or 0 for a zero row
        degree = torch.cat(sums) - self.own
        self.degree = torch.where(degree > 1e-6 * len(nodes), degree, 1.0)[:, None]

    def spread(self, values: Tensor) -> Tensor:
        """A times values [N, H] -> [N, H]."""
        shared = values / self.degree
        return self.unit @ (self.unit.T @ shared) - self.own[:, None] * shared + values


def hidden_features(
    nodes: Tensor, labelled: int, generator: torch.Generator, settings: CoreGCN
) -> Tensor:
    """What the trained graph network sees: nodes [N, E], the last ones labelled -> [N, H] >= 0.

    ``relu(A X W + b)`` of the network ``sigmoid(A dropout(relu(A X W + b)) V + c)``, trained by
    ``- mean log p`` of the labelled and ``- balance mean log(1 - p)`` of the others. X has rows of
    unit length.
    """
    with torch.inference_mode(False), torch.enable_grad():
        graph = Graph(nodes.detach().clone())
        inputs = graph.spread(graph.unit)  # A X does not change: computed once
        draw = _Draw(generator, nodes.device)
        into = [draw.uniform(inputs.shape[1], settings.hidden, bound=settings.hidden**-0.5)]
        into += [draw.uniform(settings.hidden, bound=settings.hidden**-0.5)]
        out = [draw.uniform(settings.hidden, 1, bound=1.0), draw.uniform(1, bound=1.0)]
        weights = [part.requires_grad_() for part in (*into, *out)]
        adam = torch.optim.Adam(
            weights, lr=settings.learning_rate, weight_decay=settings.weight_decay
        )
        others = len(nodes) - labelled
        for _ in range(settings.epochs if labelled and others else 0):
            seen = torch.addmm(into[1], inputs, into[0]).relu()
            if settings.dropout:
                seen = seen * draw.kept(seen.shape, settings.dropout)
            score = graph.spread(seen @ out[0]).squeeze(1) + out[1]
            loss = -logsigmoid(score[others:]).mean()
            loss = loss - settings.balance * logsigmoid(-score[:others]).mean()
            adam.zero_grad()
            loss.backward()
            adam.step()
        return torch.addmm(into[1], inputs, into[0]).relu().detach()


class _Draw:
    """Numbers from one generator, on the device of the nodes."""

    def __init__(self, generator: torch.Generator, device: torch.device) -> None:
        self.generator, self.device = generator, device

    def uniform(self, *shape: int, bound: float) -> Tensor:
        drawn = torch.rand(shape, generator=self.generator, device=self.generator.device)
        return (drawn * 2 - 1).mul_(bound).to(self.device)

    def kept(self, shape: torch.Size, dropout: float) -> Tensor:
        drawn = torch.rand(shape, generator=self.generator, device=self.generator.device)
        return (drawn >= dropout).to(self.device, torch.float32) / (1 - dropout)
