"""A trained policy that scores candidates at work: queries on a box, scores of given rows.

What :class:`lightning_al.policies.Policy` asks of an engine is here. Points are made tokens when
they are told; what does not depend on them of candidates that are always the same, once for all.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from .folded import Folded, folded
from .network import CandidatePolicy
from .places import Places

__all__ = ["Looking"]

Array = NDArray[np.float32]
ROWS = 2048  # candidates scored at once, so that what lies between two layers stays in the cache


@dataclass(frozen=True)
class Told:
    """Points that were told: themselves [R, n, D + S], and their tokens [R, n, E]."""

    points: Tensor
    tokens: Tensor
    serving: Serving = field(repr=False)

    @cached_property
    def known(self) -> Known:
        """What candidates attend to."""
        return self.serving.known(self)


@dataclass(frozen=True)
class Known:
    """Points as candidates attend to them; the sink first. Letters as in :mod:`.folded`."""

    rows: int  # R
    count: int  # n
    keys: tuple[Tensor, Tensor]  # of both blocks, [R H, n + 1, e + D + 2]
    values: tuple[Tensor, Tensor]  # [R H, n + 1, e], and [R H, n + 1, e + D + 1]


@dataclass(frozen=True)
class Asked:
    """Candidates, of all R users (then U is 1) or of each (U is R), before anything is known."""

    places: Tensor  # [U, A, D]
    token: Tensor  # [U, A, E]
    first: Tensor  # [U, A, H (e + D + 2)], queries of the first block
    second: Tensor  # the same of the second, as far as they say where a candidate is


class Serving:
    """A network for D inputs.

    Args:
        weights: folded for as many.
        places: where it looks on a box.
    """

    def __init__(self, weights: Folded, places: Places) -> None:
        self.weights, self.places = weights, places

    def told(self, points: Tensor) -> Told:
        """Points with their outcomes [R, n, D + S], made tokens."""
        rows, n, width = points.shape
        tokens = self.weights.token(points.reshape(-1, width))
        return Told(points, tokens.view(rows, n, -1), self)

    def known(self, told: Told) -> Known:
        """What candidates attend to."""
        own, heads = self.weights, self.weights.heads
        rows, n, width = told.tokens.shape
        token = torch.cat([own.sink.expand(rows, 1, width), told.tokens], 1)
        flat = token.view(-1, width)
        known = torch.addmm(own.own[0], flat, own.own[1]).view(rows, n + 1, 3, heads, -1)
        query, key, value = known.permute(2, 0, 3, 1, 4).flatten(1, 2).unbind(0)
        seen = torch.bmm(torch.softmax(torch.bmm(query, key.mT), -1), value)
        flat = own.history(flat, self._joined(seen, rows))
        x = told.points[..., : own.inputs].reshape(-1, own.inputs)
        held = self._features(x, own.near).view(rows, n, -1)
        held = torch.cat([own.sunk.expand(rows, 1, -1), held], 1)
        held.view(rows * (n + 1), -1).addmm_(flat, own.held)
        wide = width + heads * (own.inputs + 2)
        sizes = (wide, wide, width, wide - heads)
        key, key_two, value, value_two = (self._heads(part) for part in held.split(sizes, -1))
        return Known(rows, n, (key, key_two), (value, value_two))

    def asked(self, places: Tensor) -> Asked:
        """Candidates [U, A, D]."""
        own, (users, count, _) = self.weights, places.shape
        flat = places.reshape(-1, own.inputs)
        token = own.place(flat)
        first, second = self._features(flat, own.here).chunk(2, -1)
        first = torch.addmm(first, token, own.first)
        size = (users, count, -1)
        return Asked(places, token.view(size), first.view(size), second.reshape(size))

    @cached_property
    def fixed(self) -> Asked:
        """Candidates that do not depend on what was measured."""
        return self.asked(self.places.fixed[:, : self.weights.inputs].contiguous()[None])

    def judge(self, known: Known, asked: Asked) -> tuple[Tensor, Tensor]:
        """What is said of candidates [R, A, 1 + H + 1], and where heads look [R, H, A, D + 1].

        The worth after a move, by how much each head moves, the worth without.
        """
        own, rows = self.weights, known.rows
        token = (asked.token + own.count[known.count]).expand(rows, -1, -1)
        count, width = token.shape[1:]
        query = (asked.first + own.counted[known.count]).expand(rows, -1, -1)
        share = torch.softmax(torch.bmm(self._heads(query), known.keys[0].mT), -1)
        seen = self._joined(torch.bmm(share, known.values[0]), rows)
        flat = own.blocks[0](token.reshape(-1, width), seen)
        lying = asked.second.expand(rows, -1, -1).reshape(rows * count, -1)
        query = torch.addmm(lying, flat, own.second).view(rows, count, -1)
        share = torch.softmax(torch.bmm(self._heads(query), known.keys[1].mT), -1)
        both = torch.bmm(share, known.values[1])
        seen, where = both.split([width // own.heads, own.inputs + 1], -1)
        flat = own.blocks[1](flat, self._joined(seen, rows))
        found = torch.addmm(own.head[0], flat, own.head[1]).view(rows, count, -1)
        return found, where.unflatten(0, (rows, own.heads))

    def best(self, known: Known, asked: Asked) -> Tensor:
        """The best candidate of each user, moved: [R, D]."""
        found, where = (part.numpy() for part in self.judge(known, asked))
        places, second = asked.places.numpy(), asked.second.numpy()
        best = np.empty((known.rows, self.weights.inputs), np.float32)
        for user, row in enumerate(found[..., 0].argmax(-1)):  # few numbers: numpy is quicker
            own = user if len(places) > 1 else 0
            best[user] = places[own, row] + self._move(
                found[user, row, 1:-1], second[own, row], where[user, :, row]
            )
        return torch.from_numpy(best.clip(0.0, 1.0, out=best))

    def _move(self, heads: Array, second: Array, seen: Array) -> Array:
        """How far a candidate goes [D]: by each head [H], from where that looks [H, D + 1]."""
        d = self.weights.inputs
        at = second.reshape(len(heads), -1)[:, -d - 2 : -2] / 2
        away = at * (1 - seen[:, d:]) - seen[:, :d]
        moved: Array = np.float32(self.weights.reach) * np.tanh(heads @ away)
        return moved

    def query(self, told: Told) -> Tensor:
        """Queries [R, D]."""
        asked = self.fixed
        if self.places.offsets is not None:
            x = told.points[..., : self.weights.inputs]
            asked = _both(asked, self.asked(self._around(x)))
        return self.best(told.known, asked)

    def _around(self, x: Tensor) -> Tensor:
        if missing := len(self.places.order) - x.shape[-1]:
            return self.places.around(functional.pad(x, (0, missing)))[..., : x.shape[-1]]
        return self.places.around(x)

    def _features(self, x: Tensor, linear: tuple[Tensor, Tensor]) -> Tensor:
        return torch.addmm(linear[0], torch.cat([x, x * x], -1), linear[1])

    def _heads(self, value: Tensor) -> Tensor:
        """[R, m, H f] to [R H, m, f]."""
        return value.unflatten(-1, (self.weights.heads, -1)).transpose(1, 2).flatten(0, 1)

    def _joined(self, seen: Tensor, rows: int) -> Tensor:
        """[R H, m, e] to [R m, E]."""
        _, m, e = seen.shape
        return seen.view(rows, -1, m, e).transpose(1, 2).reshape(rows * m, -1)


@dataclass(frozen=True)
class Looking:
    """A CandidatePolicy that learns no more, in float32.

    Args:
        network: with its weights.
        most: points measured at most.
    """

    network: CandidatePolicy
    most: int
    places: Places = field(init=False)
    _serving: dict[int, Serving] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        network = self.network
        grid = False if network.flexible else None
        object.__setattr__(self, "places", Places.of(network.dimension, network.candidates, grid))

    def encode(self, points: Tensor) -> Told:
        """Points with their outcomes, [R, n, D + S]."""
        return self._for(points).told(points)

    def join(self, state: Told, new: Told) -> Told:
        """With further points behind."""
        pairs = zip((state.points, state.tokens), (new.points, new.tokens), strict=True)
        points, tokens = (torch.cat(pair, 1) for pair in pairs)
        told = Told(points, tokens, state.serving)
        told.known  # noqa: B018 - now, while somebody measures, not when a query is waited for
        return told

    def answer(self, state: Told, left: Tensor) -> Tensor:
        """Queries [R, D] from points; how many queries are left does not matter."""
        return state.serving.query(state)

    def query(self, points: Tensor, left: Tensor) -> Tensor:
        """Both in one."""
        return self.answer(self.encode(points), left)

    def scores(self, points: Tensor, rows: Tensor) -> Tensor:
        """Scores [R, A] of rows [A, D] where they are, given points [R, n, D + S]."""
        serving = self._for(points)
        known = serving.told(points).known
        parts = (serving.judge(known, serving.asked(part[None]))[0] for part in rows.split(ROWS))
        return torch.cat([found[..., -1] for found in parts], -1)

    def _for(self, points: Tensor) -> Serving:
        inputs = points.shape[-1] - (2 if self.network.safe else 1)
        if inputs not in self._serving:
            weights = folded(self.network, inputs, self.most)
            self._serving[inputs] = Serving(weights, self.places)
        return self._serving[inputs]


def _both(one: Asked, other: Asked) -> Asked:
    """Candidates of all users and of each, side by side."""
    users = len(other.places)
    pairs = ((getattr(one, f.name), getattr(other, f.name)) for f in fields(Asked))
    return Asked(*(torch.cat([a.expand(users, *a.shape[1:]), b], 1) for a, b in pairs))
