"""Policy networks: what was measured and what may still be asked in, the next query out.

A point is encoded once, when it is measured: its token, and its query, key and value in the first
layer of attention. What a forward pass over the whole history would give, :meth:`PolicyNetwork.
propose` gives from these.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from lightning_al.networks.network_specs import record

from .layers import Attention, Block, Feed, Linears, Norms, attend
from .limits import outcomes_of

__all__ = ["FlexiblePolicy", "History", "PolicyNetwork", "SetPolicy"]

Squash = Literal["tanh", "sigmoid"]


@dataclass(frozen=True)
class History:
    """Encoded points of R rollouts in S branches; `...` is D where tokens are one an input."""

    token: Tensor  # [S, R, n, ..., E]
    query: Tensor  # [S, R, ..., heads, n, e], of the first attention
    key: Tensor
    value: Tensor
    axis: int  # of the points in queries, keys and values
    valid: Tensor | None  # [R, n], False for padding
    active: Tensor | None  # [R, D], inputs that count

    def __len__(self) -> int:
        return self.token.shape[2]

    def head(self, rows: int) -> History:
        """The first rollouts."""
        if rows == self.token.shape[1]:
            return self
        return self.each(lambda t: t[:, :rows], lambda m: m[:rows])

    def each(self, change: Callable[[Tensor], Tensor], mask: Callable[[Tensor], Tensor]) -> History:
        """Changed tensors; masks have a change of their own."""
        return History(
            change(self.token),
            change(self.query),
            change(self.key),
            change(self.value),
            self.axis,
            None if self.valid is None else mask(self.valid),
            None if self.active is None else mask(self.active),
        )

    def extended(self, new: History) -> History:
        """With the points of another one behind, all of them valid."""
        valid = self.valid
        if valid is not None:
            valid = torch.cat([valid, valid.new_ones(len(valid), len(new))], -1)
        return History(
            torch.cat([self.token, new.token], 2),
            torch.cat([self.query, new.query], self.axis),
            torch.cat([self.key, new.key], self.axis),
            torch.cat([self.value, new.value], self.axis),
            self.axis,
            valid,
            self.active,
        )


class PolicyNetwork(nn.Module):
    """What both kinds of policies share.

    Args:
        dimension: D, inputs; the most there may be where the kind is flexible.
        safe: a second branch encodes the safety measurements.
        budget_aware: how many queries are left is an input.
        width: E.
        heads: of attention.
        hidden: features of the perceptrons' hidden layers.
        squash: "tanh" or "sigmoid", onto [0, 1].
    """

    def __init__(
        self,
        dimension: int = 1,
        *,
        safe: bool = False,
        budget_aware: bool = True,
        width: int = 128,
        heads: int = 8,
        hidden: int = 512,
        squash: Squash = "tanh",
    ) -> None:
        super().__init__()
        if min(dimension, width, heads, hidden) < 1:
            raise ValueError("dimension, width, heads and hidden are 1 or more")
        if squash not in ("tanh", "sigmoid"):
            raise ValueError(f"no squash named {squash!r}; choose one of tanh, sigmoid")
        self.dimension, self.safe, self.budget_aware = dimension, safe, budget_aware
        self.width, self.heads, self.squash = width, heads, squash
        self.branches = 2 if safe else 1
        self.settings = {
            "dimension": dimension,
            "safe": safe,
            "budget_aware": budget_aware,
            "width": width,
            "heads": heads,
            "hidden": hidden,
            "squash": squash,
        }
        # what a policy says that has seen nothing is not learned
        self.empty = nn.Parameter(torch.zeros(1, dimension), requires_grad=False)
        self.budget = Feed(1, 1, hidden, width, zero=True) if budget_aware else None

    def forward(
        self,
        budget: Tensor | None,
        x: Tensor,
        y: Tensor,
        z: Tensor | None = None,
        valid: Tensor | None = None,
        active: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """The next queries [R, D].

        Args:
            budget: [R], queries left, this one included; None where the policy does not ask.
            x: [R, n, D], points measured, in any order.
            y: [R, n].
            z: [R, n], for a safe policy.
            valid: [R, n], False for padding; each rollout has a point at least.
            active: [R, D], True for inputs that count, for a flexible policy.
            generator: for a history without points, whose query is uniform.
        """
        if x.shape[1] == 0:
            return torch.rand(x.shape[0], x.shape[2], generator=generator).to(x)
        history = self.encode(x, y, z, valid, active)
        return self.propose(history, None if budget is None else self.remaining(budget))

    def encode(
        self,
        x: Tensor,
        y: Tensor,
        z: Tensor | None = None,
        valid: Tensor | None = None,
        active: Tensor | None = None,
    ) -> History:
        """Points [R, n, D] with their outcomes [R, n], encoded for :meth:`propose`."""
        outcome = torch.stack(outcomes_of(self.safe, y, z))
        token = self.tokens(x, outcome)
        query, key, value, axis = self.known(token)
        return History(token, query, key, value, axis, valid, active)

    def remaining(self, budget: Tensor) -> Tensor:
        """Embeddings [R, E] of budgets [R]."""
        if self.budget is None:
            raise ValueError("this policy does not take a budget")
        return self.budget(budget.to(self.empty.dtype).view(1, -1, 1))[0]

    def squashed(self, u: Tensor) -> Tensor:
        """Onto [0, 1]."""
        return (u.tanh() + 1) / 2 if self.squash == "tanh" else u.sigmoid()

    def pooled(self, history: History, token: Tensor, last: Linears) -> Tensor:
        """Sum over points of ``last(token)``, [S, R, n, ..., E] -> [S, R, ..., E]."""
        if history.valid is None:
            total, count = token.sum(2), torch.tensor(float(len(history))).to(token)
        else:
            valid = history.valid.view(1, *history.valid.shape, *(1,) * (token.ndim - 3))
            total = (token * valid).sum(2)
            count = valid.sum(2).to(token)
        # the sum goes through the linear layer instead of each point
        weights, bias = last.weight, last.bias
        out = torch.matmul(total.flatten(1, -2), weights.mT).view(total.shape)
        return (
            out if bias is None else out + count * bias.view(len(bias), *(1,) * (out.ndim - 2), -1)
        )

    def tokens(self, x: Tensor, outcome: Tensor) -> Tensor:
        """Tokens [S, R, n, ..., E] of points x [R, n, D] with outcomes [S, R, n]."""
        raise NotImplementedError

    def known(self, token: Tensor) -> tuple[Tensor, Tensor, Tensor, int]:
        """Queries, keys and values of the first attention, and the axis of the points in them."""
        raise NotImplementedError

    def propose(self, history: History, remaining: Tensor | None) -> Tensor:
        """Queries [R, D] from encoded points and embedded budgets [R, E]."""
        raise NotImplementedError


class SetPolicy(PolicyNetwork):
    """A policy for a fixed number of inputs; `safe` and `budget_aware` give its three forms.

    Two transformer blocks over the set of measured points, their sum, and a perceptron. Without
    safety and budget it is the network of deep adaptive design.
    """

    def __init__(
        self,
        dimension: int = 1,
        *,
        safe: bool = False,
        budget_aware: bool = True,
        width: int = 128,
        heads: int = 8,
        hidden: int = 512,
        squash: Squash = "tanh",
    ) -> None:
        super().__init__(
            dimension,
            safe=safe,
            budget_aware=budget_aware,
            width=width,
            heads=heads,
            hidden=hidden,
            squash=squash,
        )
        branches = self.branches
        self.encoder = Feed(branches, dimension + 1, hidden, width)
        self.first = Block(branches, width, heads)
        self.second = Block(branches, width, heads)
        self.last = Linears(branches, width, width)
        self.emitter = Feed(1, width * (branches + budget_aware), hidden, dimension)
        record(
            self,
            SetPolicy,
            dimension=dimension,
            safe=safe,
            budget_aware=budget_aware,
            width=width,
            heads=heads,
            hidden=hidden,
            squash=squash,
        )

    def tokens(self, x: Tensor, outcome: Tensor) -> Tensor:
        """[S, R, n, E], from a point and one outcome each."""
        inputs = x.expand(len(outcome), *x.shape)
        return self.encoder(torch.cat([inputs, outcome.unsqueeze(-1)], -1))

    def known(self, token: Tensor) -> tuple[Tensor, Tensor, Tensor, int]:
        """Those of the first block."""
        return *self.first.attention.project(token), -2

    def propose(self, history: History, remaining: Tensor | None) -> Tensor:
        """See the base class."""
        attended = attend(history.query, history.key, history.value, history.valid)
        token = self.first.rest(history.token, attended)
        token = self.second(token, history.valid)
        read = self.pooled(history, token, self.last)  # [S, R, E]
        seen = read.transpose(0, 1).flatten(1)
        if remaining is not None:
            seen = torch.cat([seen, remaining], -1)
        return self.squashed(self.emitter(seen.unsqueeze(0))[0])


class _Stripe(nn.Module):
    """Attention along the points, then a block along the inputs (or the other way round)."""

    def __init__(self, branches: int, width: int, heads: int, sequence_first: bool) -> None:
        super().__init__()
        self.attention = Attention(branches, width, heads)
        self.norm = Norms(branches, width)
        self.block = Block(branches, width, heads)
        self.sequence_first = sequence_first

    def project(self, token: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values of tokens [S, R, n, D, E], along the first way."""
        return self.attention.project(token.transpose(2, 3) if self.sequence_first else token)

    def forward(self, token: Tensor, history: History, known: tuple[Tensor, ...]) -> Tensor:
        """[S, R, n, D, E] -> the same shape; `known` are queries, keys and values."""
        points = None if history.valid is None else history.valid[None, :, None, :]
        inputs = None if history.active is None else history.active[None, :, None, :]
        q, k, v = known
        if self.sequence_first:
            seen = attend(q, k, v, points).transpose(2, 3)
            return self.block(self.norm(seen + token), inputs)
        token = self.norm(attend(q, k, v, inputs) + token)
        return self.block(token.transpose(2, 3), points).transpose(2, 3)


class FlexiblePolicy(PolicyNetwork):
    """A policy for any number of inputs up to `dimension`; it does not know their order.

    Each input of each point has a token; attention runs along the points and along the inputs in
    turn. Arguments as for the base class, and:

    Args:
        sequence_first: attention runs along the points first.
    """

    def __init__(
        self,
        dimension: int = 5,
        *,
        safe: bool = False,
        budget_aware: bool = True,
        width: int = 128,
        heads: int = 8,
        hidden: int = 512,
        squash: Squash = "tanh",
        sequence_first: bool = True,
    ) -> None:
        super().__init__(
            dimension,
            safe=safe,
            budget_aware=budget_aware,
            width=width,
            heads=heads,
            hidden=hidden,
            squash=squash,
        )
        branches = self.branches
        self.encoder = Linears(branches, 2, width)
        self.first = _Stripe(branches, width, heads, sequence_first)
        self.second = _Stripe(branches, width, heads, sequence_first)
        self.last = Linears(branches, width, width)
        self.emitter = Feed(1, width * (branches + budget_aware), hidden, 1, "relu")
        record(
            self,
            FlexiblePolicy,
            dimension=dimension,
            safe=safe,
            budget_aware=budget_aware,
            width=width,
            heads=heads,
            hidden=hidden,
            squash=squash,
            sequence_first=sequence_first,
        )

    def tokens(self, x: Tensor, outcome: Tensor) -> Tensor:
        """[S, R, n, D, E], from one input of a point and one outcome each."""
        inputs = x.expand(len(outcome), *x.shape)
        return self.encoder(torch.stack([inputs, outcome.unsqueeze(-1).expand_as(inputs)], -1))

    def known(self, token: Tensor) -> tuple[Tensor, Tensor, Tensor, int]:
        """Those of the first stripe."""
        return *self.first.project(token), -2 if self.first.sequence_first else 2

    def propose(self, history: History, remaining: Tensor | None) -> Tensor:
        """See the base class; inputs that do not count are 0."""
        token = self.first(history.token, history, (history.query, history.key, history.value))
        token = self.second(token, history, self.second.project(token))
        read = self.pooled(history, token, self.last)  # [S, R, D, E]
        seen = read.movedim(0, 2).flatten(2)  # [R, D, S E]
        if remaining is not None:
            seen = torch.cat([seen, remaining[:, None].expand(-1, seen.shape[1], -1)], -1)
        query = self.squashed(self.emitter(seen.unsqueeze(0))[0].squeeze(-1))
        return query if history.active is None else query * history.active
