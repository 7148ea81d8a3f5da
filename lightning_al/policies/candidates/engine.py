"""A trained policy that scores candidates at work: queries on a box, scores of given rows.

The network runs as it was trained, without gradients; what :class:`lightning_al.policies.Policy`
asks of an engine is here.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional

from .network import CandidatePolicy, Encoded, moved
from .places import Places

__all__ = ["Looking"]

ROWS = 2048  # candidates scored at once, so that what lies between two layers stays in the cache


@dataclass(frozen=True)
class Looking:
    """A CandidatePolicy that learns no more, in float32."""

    network: CandidatePolicy
    places: Places = field(init=False)

    def __post_init__(self) -> None:
        network = self.network
        grid = False if network.flexible else None
        object.__setattr__(self, "places", Places.of(network.dimension, network.candidates, grid))

    def encode(self, points: Tensor) -> Tensor:
        """Points with their outcomes, [R, n, D + S]: kept as they are, as each changes the rest."""
        return points

    def join(self, state: Tensor, new: Tensor) -> Tensor:
        """With further points behind."""
        return torch.cat([state, new], 1)

    def answer(self, state: Tensor, left: Tensor) -> Tensor:
        """Queries [R, D] from points; how many queries are left does not matter."""
        known, x, inputs = self._known(state)
        looked = self.places(x, known.active)
        score, moves = self.network.judge(known, looked)
        best = score.argmax(-1)[:, None, None].expand(-1, 1, x.shape[-1])
        return moved(looked, moves).gather(1, best).squeeze(1)[:, :inputs]

    def query(self, points: Tensor, left: Tensor) -> Tensor:
        """Both in one."""
        return self.answer(self.encode(points), left)

    def scores(self, points: Tensor, rows: Tensor) -> Tensor:
        """Scores [R, A] of rows [A, D] where they are, given points [R, n, D + S]."""
        known, _, _ = self._known(points)
        rows = self._padded(rows)
        return torch.cat([self.network.judge(known, part)[0] for part in rows.split(ROWS)], -1)

    def _known(self, points: Tensor) -> tuple[Encoded, Tensor, int]:
        """What is known, the places [R, n, D] of the network's size, and how many inputs count."""
        inputs = points.shape[-1] - (2 if self.network.safe else 1)
        x, outcomes = points[..., :inputs], points[..., inputs:].unbind(-1)
        active = None
        if self.network.flexible:
            active = torch.arange(self.network.dimension) < inputs
            active = active.to(points).expand(len(points), -1)
        x, z = self._padded(x), outcomes[1] if self.network.safe else None
        return self.network.encode(x, outcomes[0], z, active=active), x, inputs

    def _padded(self, x: Tensor) -> Tensor:
        return functional.pad(x, (0, self.network.dimension - x.shape[-1]))
