"""The network of a policy that scores candidates: what is known of the function in, scores out.

Letters: B problems, n points measured, A candidates, D inputs, E width, H heads of e features.
A candidate attends to the points measured and never to another candidate, so that its score is the
same in any company and any order. It moves away from the points that it attends to, or towards
them, by as much as each head says.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from lightning_al.networks.network_specs import record
from lightning_al.policies.limits import outcomes_of

__all__ = ["AWAY", "CandidatePolicy", "Encoded", "Judged", "moved", "waves"]

AWAY = 1e4  # taken from the logit of a point that is padding: its weight is 0 exactly
SINK = 0.04  # squared distance of what a candidate attends to where no point is near
MANY = 40.0  # points measured are counted in these
NEAR = (1.0, 4.0)  # log-sharpness of the first and the last head at the start


@dataclass(frozen=True)
class Encoded:
    """Points measured, as candidates attend to them; one entry a block, the sink first."""

    keys: tuple[Tensor, ...]  # [B, H, n + 1, e + D + 2]
    values: tuple[Tensor, ...]  # [B, H, n + 1, e]
    count: Tensor  # [B, E], how many there are
    active: Tensor | None  # [B, D], 1 or 0


class Judged(NamedTuple):
    """What a network makes of candidates."""

    score: Tensor  # [B, A], the worth of asking where they are moved to
    moves: Tensor  # [B, A, D]
    here: Tensor  # [B, A], the worth of asking where they are


class Attend(nn.Module):
    """Post-norm attention of H heads onto other tokens, and a perceptron."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.known = nn.Linear(width, 2 * width)  # keys and values
        self.out = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width)
        self.feed = nn.Sequential(
            nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
        )
        self.end = nn.LayerNorm(width)

    def split(self, x: Tensor) -> Tensor:
        """[B, m, E] -> [B, H, m, e]."""
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def asked(self, x: Tensor) -> Tensor:
        """Scaled queries [B, H, m, e]."""
        return self.split(self.query(x)) * (x.shape[-1] // self.heads) ** -0.5

    def held(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values [B, H, m, e]."""
        key, value = self.known(x).chunk(2, -1)
        return self.split(key), self.split(value)

    def forward(
        self, x: Tensor, query: Tensor, key: Tensor, value: Tensor
    ) -> tuple[Tensor, Tensor]:
        """[B, m, E] -> [B, m, E], after attention of queries [B, H, m, f] to keys [B, H, n, f].

        Also what a query gives of its attention to whom [B, H, m, n].
        """
        share = torch.softmax(query @ key.mT, -1)
        seen = (share @ value).transpose(1, 2).flatten(-2)
        x = self.norm(x + self.out(seen))
        return self.end(x + self.feed(x)), share


class CandidatePolicy(nn.Module):
    """Scores candidates, and moves each a little, given what was measured.

    The score is an estimate of what asking is worth where a candidate is moved to (a target of
    :mod:`lightning_al.policies.candidates.targets`); another one, :meth:`rate`, is of asking where
    it is, for rows of a pool, which cannot be moved. Attention falls off with the distance of
    candidate and point, at a rate that each head learns an input.

    Args:
        dimension: D, inputs; the most there may be where it is flexible.
        safe: points have a safety measurement z beside y.
        flexible: fewer inputs will do; those left out change nothing.
        width: E.
        heads: H.
        frequencies: of the sine and cosine features of an input.
        reach: the farthest that a candidate is moved along an input; None for 0.12 with up to
            three inputs, 0.2 from there on.
        candidates: how many are looked at on a box.

    Raises:
        ValueError: sizes below 1, a width that is no multiple of the heads, a reach outside (0, 1].
    """

    budget_aware = False

    def __init__(
        self,
        dimension: int = 2,
        *,
        safe: bool = False,
        flexible: bool = False,
        width: int = 64,
        heads: int = 4,
        frequencies: int = 4,
        reach: float | None = None,
        candidates: int = 64,
    ) -> None:
        super().__init__()
        sizes = {
            "dimension": dimension,
            "width": width,
            "heads": heads,
            "frequencies": frequencies,
            "candidates": candidates,
        }
        for name, value in sizes.items():
            if value < 1:
                raise ValueError(f"{name} is 1 or more, got {value}")
        if width % heads:
            raise ValueError(f"width {width} is no multiple of the {heads} heads")
        if reach is not None and not 0 < reach <= 1:
            raise ValueError(f"reach is a share of a side in (0, 1], got {reach}")
        self.dimension, self.safe, self.flexible = dimension, safe, flexible
        self.width, self.heads, self.frequencies = width, heads, frequencies
        self.reach = reach if reach is not None else (0.12 if dimension <= 3 else 0.2)
        self.candidates = candidates
        self.settings = {**sizes, "safe": safe, "flexible": flexible, "reach": self.reach}
        features, outcomes = dimension * (1 + 2 * frequencies), 1 + safe
        self.token = _feed(features + outcomes, width)
        self.place = _feed(features, width)
        self.count = _feed(1, width)
        self.sink = nn.Parameter(torch.randn(width) * 0.1)
        self.history = Attend(width, heads)
        self.blocks = nn.ModuleList([Attend(width, heads) for _ in range(2)])
        start = torch.linspace(*NEAR, heads)[:, None].expand(heads, dimension)
        self.near = nn.ParameterList([nn.Parameter(start.clone()) for _ in range(2)])
        self.head = nn.Linear(width, 1 + heads)
        self.here = nn.Linear(width, 1)
        with torch.no_grad():  # moves start near 0
            self.head.weight[1:] *= 0.1
            self.head.bias[1:] = 0.0
        record(self, CandidatePolicy, **self.settings)

    def forward(
        self,
        x: Tensor,
        y: Tensor,
        candidates: Tensor,
        z: Tensor | None = None,
        valid: Tensor | None = None,
        active: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Scores [B, A] and moves [B, A, D] of candidates [B, A, D], or [A, D] for all problems.

        Args:
            x: [B, n, D], points measured, in any order.
            y: [B, n].
            candidates: in [0, 1].
            z: [B, n], for a safe policy.
            valid: [B, n], False for padding.
            active: [B, D], True for inputs that count, for a flexible policy.

        Raises:
            ValueError: z where none is known of, or none where it is needed.
        """
        return self.judge(self.encode(x, y, z, valid, active), candidates)

    def encode(
        self,
        x: Tensor,
        y: Tensor,
        z: Tensor | None = None,
        valid: Tensor | None = None,
        active: Tensor | None = None,
    ) -> Encoded:
        """Points [B, n, D] with their outcomes [B, n], as candidates attend to them."""
        rows = len(x)
        outcomes = torch.stack(outcomes_of(self.safe, y, z), -1)
        on = None if active is None else active.to(x)
        token = self.token(torch.cat([waves(x, self.frequencies, on), outcomes], -1))
        token = torch.cat([self.sink.expand(rows, 1, -1), token], 1)
        gone = None if valid is None else functional.pad(AWAY * (~valid).to(token), (1, 0))
        query, (key, value) = self.history.asked(token), self.history.held(token)
        if gone is not None:  # as one more feature: its weight is 0
            query = functional.pad(query, (0, 1), value=1.0)
            key = torch.cat([key, -gone[:, None, :, None].expand(*key.shape[:-1], 1)], -1)
        token, _ = self.history(token, query, key, value)
        many = valid.sum(-1) if valid is not None else x.new_full((rows,), x.shape[1])
        held = [block.held(token) for block in self.layers]
        keys = [
            torch.cat([key, self._known_place(near, x, on, gone).to(key)], -1)
            for near, (key, _) in zip(self.near, held, strict=True)
        ]
        count = self.count((many.to(x) / MANY).unsqueeze(-1))
        return Encoded(tuple(keys), tuple(value for _, value in held), count, on)

    def judge(self, known: Encoded, candidates: Tensor) -> tuple[Tensor, Tensor]:
        """Scores [B, A] and moves [B, A, D] of candidates [B, A, D] or [A, D]."""
        return self.look(known, candidates)[:2]

    def rate(self, known: Encoded, candidates: Tensor) -> Tensor:
        """Scores [B, A] of candidates [B, A, D] or [A, D] that stay where they are."""
        return self.look(known, candidates).here

    def look(self, known: Encoded, candidates: Tensor) -> Judged:
        """All that there is to say of candidates [B, A, D] or [A, D]."""
        if candidates.ndim == 2:
            candidates = candidates.unsqueeze(0)
        seen = self.place(waves(candidates, self.frequencies, known.active))
        seen = seen + known.count.unsqueeze(1)
        for block, near, key, value in zip(
            self.layers, self.near, known.keys, known.values, strict=True
        ):
            there = self._asked_place(near, candidates, known.active)
            query = block.asked(seen)
            there = there.expand(*query.shape[:-1], -1)
            seen, share = block(seen, torch.cat([query, there], -1), key, value)
        found = self.head(seen)
        # where the points attended to lie, seen from a candidate, in the units of each head
        start, dim = self.width // self.heads, self.dimension
        points = key[:, :, 1:, start : start + dim]  # [B, H, n, D]
        share = share[..., 1:]
        away = there[..., :dim] / 2 * share.sum(-1, keepdim=True) - share @ points
        pushed = torch.einsum("bah,bhad->bad", found[..., 1:], away)
        here = self.here(seen).squeeze(-1)
        return Judged(found[..., 0], self.reach * pushed.tanh(), here)

    @property
    def layers(self) -> tuple[Attend, ...]:
        """The blocks of a candidate, in their order."""
        return cast("tuple[Attend, ...]", tuple(self.blocks))

    def sharpness(self, near: Tensor, active: Tensor | None) -> Tensor:
        """Factors [1 or B, H, D] by which distances along inputs count: squared, averages."""
        sharp = (near / 2).exp().unsqueeze(0)
        if active is None:
            return sharp * (2 / near.shape[-1]) ** 0.5
        return sharp * active.unsqueeze(1) * (2 / active.sum(-1))[:, None, None].sqrt()

    def _known_place(
        self, near: Tensor, x: Tensor, active: Tensor | None, gone: Tensor | None
    ) -> Tensor:
        """Of points and the sink [B, H, n + 1, D + 2]: minus squared distance, as a product."""
        scale = self.sharpness(near, active)
        at = (x - 0.5).unsqueeze(1) * scale.unsqueeze(2)  # [B, H, n, D]
        far = -at.square().sum(-1, keepdim=True)
        if gone is not None:
            far = far - gone[:, None, 1:, None]
        points = torch.cat([at, torch.zeros_like(far), far], -1)
        far = -SINK / 2 * scale.square().sum(-1, keepdim=True)  # [1 or B, H, 1]
        sink = torch.cat([torch.zeros_like(scale), torch.ones_like(far), far], -1).unsqueeze(2)
        return torch.cat([sink.expand(len(x), *sink.shape[1:]), points], 2)

    def _asked_place(self, near: Tensor, candidates: Tensor, active: Tensor | None) -> Tensor:
        """The other factor [B, H, A, D + 2]."""
        scale = self.sharpness(near, active)
        at = (candidates - 0.5).unsqueeze(1) * scale.unsqueeze(2)
        far = at.square().sum(-1, keepdim=True)
        return torch.cat([2 * at, far, torch.ones_like(far)], -1)


def waves(x: Tensor, frequencies: int, active: Tensor | None = None) -> Tensor:
    """Features [..., n, D (1 + 2 frequencies)] of places [..., n, D]; 0 of inputs left out.

    Of an input: its distance from the middle, and sine and cosine of 1 to `frequencies` half
    turns of it.
    """
    middle = (x - 0.5).unsqueeze(-1)
    angle = middle * (torch.pi * torch.arange(1, frequencies + 1).to(x))
    found = torch.cat([middle, angle.sin(), angle.cos()], -1)
    if active is not None:
        found = found * active[..., None, :, None]
    return found.flatten(-2)


def moved(candidates: Tensor, moves: Tensor) -> Tensor:
    """Places [..., D] in [0, 1]; gradients pass where a move is cut off at the border."""
    place = candidates + moves
    return place + (place.clamp(0, 1) - place).detach()


def _feed(inputs: int, width: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, 2 * width), nn.GELU(), nn.Linear(2 * width, width))
