"""Which weights a round starts from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from lightning_al.compat import load_weights
from lightning_al.randomness import generator
from lightning_al.registry import Registry

__all__ = ["WEIGHTS", "start_weights"]

State = Mapping[str, Tensor]
Rule = Callable[[nn.Module, State, torch.Generator], None]

WEIGHTS: Registry[None] = Registry("weights policy", "weights policies")


@WEIGHTS.register("reset")
def reset(module: nn.Module, previous: State, drawn: torch.Generator) -> None:
    """Fresh weights each round: rounds are independent fits."""


@WEIGHTS.register("warm")
def warm(module: nn.Module, previous: State, drawn: torch.Generator) -> None:
    """The previous round's weights."""
    load_weights(module, previous)


@WEIGHTS.register("shrink_perturb")
def shrink_perturb(
    module: nn.Module,
    previous: State,
    drawn: torch.Generator,
    shrink: float = 0.6,
    noise: float = 0.01,
) -> None:
    """Shrunk previous weights plus noise, ``shrink * w + N(0, noise^2)`` (Ash & Adams, 2020).

    Only floating parameters that are trained are touched; buffers (batch statistics) are taken
    over, and so are frozen weights.
    """
    load_weights(module, previous)
    with torch.no_grad():
        for parameter in module.parameters():
            if not (parameter.is_floating_point() and parameter.requires_grad):
                continue
            eps = torch.randn(parameter.shape, generator=drawn)
            parameter.mul_(shrink).add_(eps.to(parameter), alpha=noise)


def start_weights(
    module: nn.Module, policy: str, previous: State | None, seed: int, round: int
) -> None:
    """Put the weights of a round's start into a freshly built module.

    Raises:
        LookupError: an unknown policy; the message lists them.
    """
    rule: Any = WEIGHTS.factory(policy)
    if previous is not None:
        rule(module, previous, generator(seed, round, "perturb"))
