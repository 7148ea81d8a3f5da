"""Deep ensembles: several copies of a network, trained together in one fit."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from lightning_al.values import whole

from .network_specs import build, embedding_layer, record, spec_of

__all__ = ["Ensemble"]


def _again(prototype: nn.Module) -> nn.Module:
    """A copy of ``prototype`` with weights drawn anew."""
    spec = spec_of(prototype)
    if spec is not None:
        return build(spec)
    network = copy.deepcopy(prototype)
    for name, module in network.named_modules():
        reset = getattr(module, "reset_parameters", None) or getattr(
            module, "_reset_parameters", None
        )
        if callable(reset):
            reset()
        elif any(True for _ in module.parameters(recurse=False)):
            raise ValueError(
                f"cannot draw new weights for {name or 'the network'} "
                f"({type(module).__name__}), which owns parameters and has no reset_parameters(); "
                "write that method, or give the network a `spec` to be rebuilt from"
            )
    return network


class Ensemble(nn.Module):
    """Independently initialised members side by side: outputs [n, C] each -> [n, S, C].

    Lakshminarayanan, Pritzel, Blundell (2017), "Simple and Scalable Predictive Uncertainty
    Estimation using Deep Ensembles". Tasks add the members' losses, so that training them together
    is training each alone on the same batches. The embedding is that of all members, side by side
    [n, S * E].

    Args:
        network: the prototype (its weights are not used), or its spec.
        members: S, at least 1.

    Raises:
        ValueError: less than one member, or a prototype whose weights cannot be drawn anew.
    """

    gives_members = True

    def __init__(self, network: nn.Module, members: int = 5) -> None:
        super().__init__()
        members = whole(1)("Ensemble: members", members)
        prototype = build(network) if isinstance(network, Mapping) else network
        self.members = nn.ModuleList(_again(prototype) for _ in range(members))
        if (spec := spec_of(prototype)) is not None:
            record(self, Ensemble, network=spec, members=members)

    def forward(self, *inputs: Any) -> Tensor:
        """Outputs of all members [n, S, C]."""
        return torch.stack([member(*inputs) for member in self.members], dim=1)

    @property
    def member_count(self) -> int:
        """S."""
        return len(self.members)

    @property
    def embedding_layer(self) -> tuple[str, ...] | None:
        """The places of the members' embeddings, relative to this network."""
        places: list[str] = []
        for i, member in enumerate(self.members):
            place = embedding_layer(member)
            if place is None:
                return None
            names = (place,) if isinstance(place, str) else place
            places += [f"members.{i}.{name}" for name in names]
        return tuple(places)
