"""A normalising flow over the inputs themselves: what is said of an item is how dense they lie."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from torch import Tensor, nn

from .network_specs import needed, record

__all__ = ["InputFlow", "zuko_flow"]


def zuko_flow(name: str, outputs: int, context: int, arguments: Mapping[str, Any]) -> nn.Module:
    """A flow of zuko over all numbers, by its class name.

    Args:
        name: of a class of ``zuko.flows``.
        outputs: numbers that it is a density of.
        context: numbers that it is conditioned on; 0 for none.
        arguments: of that class, beside these.

    Raises:
        LookupError: no such flow.
        ValueError: arguments that it does not take, or a flow that is not over all numbers.
    """
    import difflib

    import torch
    import zuko  # heavy, and of flows alone

    kinds = {
        kind: made
        for kind, made in vars(zuko.flows).items()
        if isinstance(made, type)
        and issubclass(made, zuko.lazy.Flow)
        and made is not zuko.lazy.Flow
    }
    if name not in kinds:
        near = difflib.get_close_matches(name, kinds, n=1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        raise LookupError(
            f"no flow of zuko named {name!r}{hint}; choose one of {', '.join(sorted(kinds))}"
        )
    usual = {"transforms": 2} if name == "NSF" else {}
    try:
        flow = kinds[name](outputs, context, **{**usual, **arguments})
    except TypeError as error:
        raise ValueError(
            f"zuko.flows.{name} refuses the arguments {dict(arguments)} ({error}); see its "
            "documentation"
        ) from None
    base = flow(torch.zeros(context) if context else None).base
    if not torch.allclose(base.variance, torch.ones(())):
        raise ValueError(
            f"the base of zuko.flows.{name} is no standard normal: it is for angles, not for all "
            "numbers; take NSF"
        )
    return cast(nn.Module, flow)


class InputFlow(nn.Module):
    """A flow over items [n, ...], flattened: gives their log-densities [n, 1], in nats.

    Splines live on [-5, 5]: standardise the inputs. The embedding is where the flow puts an item
    among independent standard normals [n, in_features].

    Args:
        in_features: numbers per item.
        flow: a class of ``zuko.flows`` over all numbers: NSF, MAF, NAF, …
        arguments: of that class, beside features: ``{transforms: 3, hidden_features: [64, 128]}``.

    Raises:
        LookupError: no such flow.
        ValueError: a size left out or below 1, or arguments that the flow does not take.
    """

    embedding_layer = "latent"

    def __init__(
        self,
        in_features: int | None = None,
        flow: str = "NSF",
        arguments: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        needed("InputFlow", in_features=in_features)
        self.flow = zuko_flow(flow, cast(int, in_features), 0, arguments or {})
        record(self, InputFlow, in_features=in_features, flow=flow, arguments=arguments)

    def forward(self, x: Tensor) -> Tensor:
        """Log-densities [n, 1] of items [n, ...]."""
        density: Tensor = self.flow().log_prob(x.flatten(1))
        return density.unsqueeze(1)

    def latent(self, x: Tensor) -> Tensor:
        """Items [n, ...] among the normals [n, in_features]."""
        place: Tensor = self.flow().transform(x.flatten(1))
        return place

    def sample(self, count: int) -> Tensor:
        """Draws [count, in_features] by torch's own generator."""
        drawn: Tensor = self.flow().sample((count,))
        return drawn
