"""The forward pass of a trained SetPolicy with few operations: weights that meet are multiplied.

The same function as ``SetPolicy.forward``, for a network that learns no more. Letters: R users,
n points, S branches, E width, H heads of e features, F hidden features, T the largest budget.

- The scale of the attention goes into the queries; queries, keys and values are one product.
- A perceptron's last bias goes into the normalisation before it, so that its result and the sum
  with its input are one product.
- The last normalisation's weights, the layer after the sum over points and the emitter's first
  layer follow each other without anything in between: one matrix.
- What the emitter reads of the budget takes T values: a table.
- ``(tanh(u) + 1) / 2`` is ``sigmoid(2 u)``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from .networks import PolicyNetwork, SetPolicy

__all__ = [
    "EPSILON",
    "Branch",
    "Emitter",
    "Fused",
    "Layer",
    "emitter_of",
    "fuse",
    "layer_of",
    "projection_of",
    "weights_of",
]

State = list[tuple[Tensor, Tensor]]
"""Of each branch: tokens [R, n, E], and the first attention's queries, keys, values [R, n, 3 E]."""
EPSILON = 1e-5  # of the layer normalisations
TOKENS = 512  # at once, so that what lies between two layers stays in the cache


@dataclass(frozen=True)
class Layer:
    """A transformer block; weights are [inputs, outputs]."""

    project: tuple[Tensor, Tensor]  # bias [3 E], weights [E, 3 E]
    norm: tuple[Tensor, Tensor]  # weights and bias [E]
    wide: tuple[Tensor, Tensor]  # bias and weights of the perceptron's first layer
    narrow: Tensor  # [E, E], its last; its bias is in `norm`
    end: tuple[Tensor, Tensor] | None  # None where the weights went into the emitter


@dataclass(frozen=True)
class Branch:
    """Encoder and blocks of one outcome."""

    first: tuple[Tensor, Tensor]  # bias [F], weights [D + S, F]; rows of other outcomes are 0
    last: tuple[Tensor, Tensor]  # bias [E], weights [F, E]
    layers: tuple[Layer, Layer]


@dataclass(frozen=True)
class Emitter:
    """What follows the sum over points."""

    table: Tensor  # [T, F], or [1, F] for a policy that does not read the budget
    count: Tensor  # [F], what each point adds
    read: Tensor  # [S E, F]
    out: tuple[Tensor, Tensor]  # bias [D], weights [F, D]; then a sigmoid


@dataclass(frozen=True)
class Fused:
    """A SetPolicy that learns no more; see :func:`fuse`."""

    branches: tuple[Branch, ...]
    heads: int
    emitter: Emitter

    def encode(self, points: Tensor) -> State:
        """Points with their outcomes, [R, n, D + S]."""
        flat = points.flatten(0, -2)
        state = []
        for branch in self.branches:
            hidden = functional.softplus(torch.addmm(branch.first[0], flat, branch.first[1]))
            token = torch.addmm(branch.last[0], hidden, branch.last[1])
            known = torch.addmm(branch.layers[0].project[0], token, branch.layers[0].project[1])
            shape = (*points.shape[:-1], -1)
            state.append((token.view(shape), known.view(shape)))
        return state

    def join(self, state: State, new: State) -> State:
        """With further points behind."""
        return [
            (torch.cat([a, c], 1), torch.cat([b, d], 1))
            for (a, b), (c, d) in zip(state, new, strict=True)
        ]

    def answer(self, state: State, left: Tensor) -> Tensor:
        """Queries [R, D] from encoded points and budgets [R]."""
        totals = []
        for branch, (token, known) in zip(self.branches, state, strict=True):
            first, second = branch.layers
            token = self._block(first, token.clone(), known)
            known = torch.addmm(second.project[0], token.flatten(0, 1), second.project[1])
            token = self._block(second, token, known.view(*token.shape[:-1], -1))
            totals.append(token.sum(1))
        seen = totals[0] if len(totals) == 1 else torch.cat(totals, -1)
        last = self.emitter
        rows = last.table if len(last.table) == 1 else last.table.index_select(0, left - 1)
        rows = torch.add(rows, last.count, alpha=token.shape[1])
        hidden = functional.softplus(torch.addmm(rows, seen, last.read))
        return torch.addmm(last.out[0], hidden, last.out[1]).sigmoid_()

    def query(self, points: Tensor, left: Tensor) -> Tensor:
        """Both in one, some users at a time."""
        users = max(1, TOKENS // points.shape[1])
        if len(points) <= users:
            return self.answer(self.encode(points), left)
        parts = zip(points.split(users), left.split(users), strict=True)
        return torch.cat([self.answer(self.encode(p), b) for p, b in parts])

    def _block(self, layer: Layer, token: Tensor, known: Tensor) -> Tensor:
        """[R, n, E] -> the same shape; writes into `token`."""
        rows, n, width = token.shape
        parts = known.view(rows, n, 3, self.heads, -1)
        split = token.view(rows, n, self.heads, -1)
        if rows == 1:  # products of views, and the sum with the input in the same breath
            q, k, v = parts[0].permute(1, 2, 0, 3).unbind(0)
            share = torch.softmax(torch.bmm(q, k.mT), -1)
            split[0].transpose(0, 1).baddbmm_(share, v)
        else:
            q, k, v = parts.permute(2, 0, 3, 1, 4).flatten(1, 2).unbind(0)
            seen = torch.bmm(torch.softmax(torch.bmm(q, k.mT), -1), v)
            split.add_(seen.view(rows, self.heads, n, -1).transpose(1, 2))
        flat = torch.layer_norm(token.view(-1, width), (width,), *layer.norm, EPSILON)
        wide = torch.addmm(layer.wide[0], flat, layer.wide[1]).relu_()
        flat.addmm_(wide, layer.narrow)
        weight, bias = (None, None) if layer.end is None else layer.end
        return torch.layer_norm(flat, (width,), weight, bias, EPSILON).view(rows, n, width)


@torch.no_grad()
def fuse(network: SetPolicy, budget: int) -> Fused:
    """The network with budgets from 1 to `budget`; products of weights in float64."""
    branches, dim, heads = [], network.dimension, network.heads
    for s in range(network.branches):
        own = weights_of(network, s)
        first = own["encoder.first.weight"]
        rows = first.new_zeros(dim + network.branches, len(first))
        rows[[*range(dim), dim + s]] = first.T
        branches.append(
            Branch(
                (_as(own["encoder.first.bias"]), _as(rows)),
                (_as(own["encoder.last.bias"]), _as(own["encoder.last.weight"].T)),
                (layer_of(own, "first", heads), layer_of(own, "second", heads, final=True)),
            )
        )
    return Fused(tuple(branches), heads, emitter_of(network, budget, "second"))


def weights_of(network: PolicyNetwork, branch: int) -> dict[str, Tensor]:
    """Weights of one branch in float64, and those that all branches share."""
    state = network.state_dict()
    shared = ("budget.", "emitter.", "empty")
    return {
        name: value.detach().double().cpu()[0 if name.startswith(shared) else branch]
        for name, value in state.items()
    }


def emitter_of(network: PolicyNetwork, budget: int, block: str) -> Emitter:
    """What follows the sum over points; `block` is the last one before it."""
    own = weights_of(network, 0)
    reads, table = own["emitter.first.weight"], own["emitter.first.bias"].unsqueeze(0)
    if network.budget is not None:
        count = torch.arange(1.0, budget + 1, dtype=torch.float64).unsqueeze(1)
        hidden = functional.softplus(
            count @ own["budget.first.weight"].T + own["budget.first.bias"]
        )
        left = hidden @ own["budget.last.weight"].T + own["budget.last.bias"]
        table = table + left @ reads[:, network.branches * network.width :].T
    read, each = [], torch.zeros_like(table[0])
    for s in range(network.branches):
        own = weights_of(network, s)
        part = reads[:, s * network.width : (s + 1) * network.width]
        weight, bias = own["last.weight"], own["last.bias"]
        read.append(part @ weight * own[f"{block}.end.weight"])
        each = each + part @ (weight @ own[f"{block}.end.bias"] + bias)
    weight, bias = own["emitter.last.weight"], own["emitter.last.bias"]
    scale = 2.0 if network.squash == "tanh" else 1.0
    out = _as(bias * scale), _as(weight.T * scale)
    return Emitter(_as(table), _as(each), _as(torch.cat(read, 1).T), out)


def projection_of(own: Mapping[str, Tensor], attention: str, heads: int) -> tuple[Tensor, Tensor]:
    """Bias [3 E] and weights [E, 3 E] of queries, keys and values."""
    query, key, value = (own[f"{attention}.{p}.weight"] for p in ("query", "key", "value"))
    scale = (len(query) // heads) ** -0.5
    bias = own[f"{attention}.query.bias"] * scale
    return (
        _as(torch.cat([bias, bias.new_zeros(2 * len(bias))])),
        _as(torch.cat([query * scale, key, value]).T),
    )


def layer_of(own: Mapping[str, Tensor], block: str, heads: int, final: bool = False) -> Layer:
    """One block of one branch."""
    late, wide = own[f"{block}.feed.last.bias"], own[f"{block}.feed.first.weight"]
    ends = _as(own[f"{block}.end.weight"]), _as(own[f"{block}.end.bias"])
    return Layer(
        projection_of(own, f"{block}.attention", heads),
        (_as(own[f"{block}.norm.weight"]), _as(own[f"{block}.norm.bias"] + late)),
        (_as(own[f"{block}.feed.first.bias"] - wide @ late), _as(wide.T)),
        _as(own[f"{block}.feed.last.weight"].T),
        None if final else ends,
    )


def _as(weights: Tensor) -> Tensor:
    return weights.float().contiguous()
