"""Networks that choose the next design from all designs and outcomes so far, and baselines."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from lightning_al.networks.network_specs import record
from lightning_al.policies.streams import Streams
from lightning_al.values import sizes, whole, word

__all__ = ["Adaptive", "Designer", "RandomDesigns", "StaticDesigns"]


class Designer(nn.Module):
    """What chooses designs: a code of each step is summed, the sum and the step decide the next."""

    code = 1  # width of a code

    def encode(self, told: Tensor, y: Tensor) -> Tensor:
        """Codes [R, E] of one step: what is remembered of the designs [R, d], outcomes [R]."""
        return told.new_zeros(len(told), self.code)

    def propose(self, total: Tensor, step: int) -> Tensor:
        """The next designs [R, d], not yet transformed, from sums of codes [R, E]."""
        raise NotImplementedError


class Adaptive(Designer):
    """Deep adaptive design: codes of steps are summed, so their order does not matter.

    Foster, Ivanova, Malik, Rainforth (2021), "Deep Adaptive Design", equation 9.

    Args:
        size: d, numbers of a design.
        hidden: widths of the encoder.
        code: E.
        emitter: widths of the layers behind the sum.
        activation: "relu" or "softplus".
        outcomes: where outcomes are 0, 1, ... so many, each has a last layer of the encoder of its
            own; else the outcome is an input.

    Raises:
        ValueError: sizes that make no sense.
    """

    def __init__(
        self,
        size: int,
        hidden: Sequence[int] = (256,),
        code: int = 16,
        emitter: Sequence[int] = (),
        activation: str = "relu",
        outcomes: int | None = None,
    ) -> None:
        super().__init__()
        self.size, self.code = whole(1)("size", size), whole(1)("code", code)
        inner, outer = sizes("hidden", hidden), sizes("emitter", emitter)
        word("relu", "softplus")("activation", activation)
        if outcomes is not None:
            whole(2)("outcomes", outcomes)
        if not inner:
            raise ValueError("an encoder has a hidden layer at least, got hidden=[]")
        kind = nn.ReLU if activation == "relu" else nn.Softplus
        inputs = size + (outcomes is None)
        self.encoder = _chain([inputs, *inner], kind, last=True)
        self.heads = nn.ModuleList([nn.Linear(inner[-1], code) for _ in range(outcomes or 1)])
        self.emitter = _chain([code, *outer, size], kind, last=False)
        record(
            self,
            Adaptive,
            size=size,
            hidden=inner,
            code=code,
            emitter=outer,
            activation=activation,
            outcomes=outcomes,
        )

    def encode(self, told: Tensor, y: Tensor) -> Tensor:
        """Codes [R, E]."""
        if len(self.heads) == 1:
            first: Tensor = self.heads[0](self.encoder(torch.cat([told, y.unsqueeze(-1)], -1)))
            return first
        inner = self.encoder(told)
        codes = torch.stack([head(inner) for head in self.heads], 1)
        return codes[torch.arange(len(y), device=y.device), y.long()]

    def propose(self, total: Tensor, step: int) -> Tensor:
        """Designs [R, d]; the first ones are the same for all."""
        raw: Tensor = self.emitter(total)
        return raw


class StaticDesigns(Designer):
    """T designs that depend on nothing, learned.

    Args:
        size: d.
        horizon: T.
    """

    def __init__(self, size: int, horizon: int) -> None:
        super().__init__()
        self.raw = nn.Parameter(torch.zeros(whole(1)("horizon", horizon), whole(1)("size", size)))
        record(self, StaticDesigns, size=size, horizon=horizon)

    def propose(self, total: Tensor, step: int) -> Tensor:
        """Designs [R, d]."""
        return self.raw[step].expand(len(total), -1)


class RandomDesigns(Designer):
    """Designs drawn at random.

    Args:
        size: d.
        law: "normal", or "uniform" on [0, 1].
        seed: of the draws.
    """

    anchor: Tensor

    def __init__(self, size: int, law: str = "normal", seed: int = 0) -> None:
        super().__init__()
        self.size, self.seed = whole(1)("size", size), whole(0)("seed", seed)
        self.law = word("normal", "uniform")("law", law)
        self.register_buffer("anchor", torch.zeros(0), persistent=False)
        record(self, RandomDesigns, size=size, law=law, seed=seed)

    def propose(self, total: Tensor, step: int) -> Tensor:
        """Designs [R, d]."""
        streams = Streams.of(self.seed, step, "random designs")
        draw = streams.normal if self.law == "normal" else streams.uniform
        return draw("raw", torch.arange(len(total), device=total.device), self.size).to(total)


def _chain(widths: Sequence[int], kind: Any, *, last: bool) -> nn.Sequential:
    """Linear layers with activations between them, and behind the last one where wanted."""
    layers: list[nn.Module] = []
    for i, (a, b) in enumerate(itertools.pairwise(widths)):
        layers.append(nn.Linear(a, b))
        if last or i + 2 < len(widths):
            layers.append(kind())
    return nn.Sequential(*layers)
