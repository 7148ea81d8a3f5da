"""Heads of a density regression: from the numbers that a network gives to a density of the target.

A head is a frozen record of settings that says how many numbers it reads, and builds the module
that reads them. All work in standardised units of the target.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from lightning_al.densities import (
    FlowDensity,
    GaussianDensity,
    MixtureDensity,
    PredictiveDensity,
    StackedDensity,
    Units,
    midpoints,
)
from lightning_al.networks.input_flow import zuko_flow
from lightning_al.registry import Registry
from lightning_al.values import number, whole

__all__ = ["HEADS", "DensityHead", "FlowHead", "GaussianHead", "HeadModule", "MixtureHead"]

FLOOR = 1e-3
"""The least deviation of a Gaussian, in deviations of the labelled targets."""


class HeadModule(nn.Module):
    """What reads numbers [n, R], or [n, S, R] of members, as densities of the same batch shape."""

    def forward(self, raw: Tensor, units: Units | None = None) -> PredictiveDensity:
        """The densities, in units of the target."""
        raise NotImplementedError


class DensityHead:
    """Settings of a head; its subclasses are frozen dataclasses."""

    name: ClassVar[str]

    def inputs(self, outputs: int) -> int:
        """How many numbers the network gives for D targets."""
        raise NotImplementedError

    def build(self, outputs: int, members: int = 1) -> HeadModule:
        """The module for D targets; parameters are drawn from torch's global state.

        Args:
            outputs: D.
            members: of the network, each of which trains parameters of its own.
        """
        raise NotImplementedError

    def noise(self, raw: Tensor, outputs: int) -> Tensor | None:
        """Variance [n, D] around the first D of raw outputs [n, R], where these are means."""
        return None

    def plain(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {"name": self.name, **asdict(self)}  # type: ignore[call-overload]


HEADS: Registry[DensityHead] = Registry("density head", contract=DensityHead)
"""Heads by name."""


@HEADS.register("gaussian")
@dataclass(frozen=True)
class GaussianHead(DensityHead):
    """A normal density an output: its mean, and softplus of another number as deviation.

    Nix, Weigend (1994), "Estimating the mean and variance of the target probability distribution".

    Args:
        floor: is added to the deviation, in standardised units; 0 in BALSA's released code, where
            densities may shrink onto a point.
    """

    floor: float = FLOOR

    name: ClassVar[str] = "gaussian"

    def __post_init__(self) -> None:
        number(0)("floor", self.floor)

    def inputs(self, outputs: int) -> int:
        """A mean and a deviation an output."""
        return 2 * outputs

    def build(self, outputs: int, members: int = 1) -> HeadModule:
        """It has no parameters."""
        return _Gaussian(outputs, self.floor)

    def noise(self, raw: Tensor, outputs: int) -> Tensor:
        """The second D numbers say it."""
        return (softplus(raw[..., outputs:]) + self.floor).square()


class _Gaussian(HeadModule):
    def __init__(self, outputs: int, floor: float) -> None:
        super().__init__()
        self.outputs, self.floor = outputs, floor

    def forward(self, raw: Tensor, units: Units | None = None) -> GaussianDensity:
        mean, scale = raw.split(self.outputs, -1)
        return GaussianDensity(mean, softplus(scale) + self.floor, units)


@HEADS.register("mixture")
@dataclass(frozen=True)
class MixtureHead(DensityHead):
    """A mixture of K normal densities, outputs independent inside a component.

    Bishop (1994), "Mixture Density Networks". Components start apart, at quantiles of the normal.

    Args:
        components: K.
        floor: is added to the deviations, in standardised units.
    """

    components: int = 5
    floor: float = FLOOR

    name: ClassVar[str] = "mixture"

    def __post_init__(self) -> None:
        whole(1)("components", self.components)
        number(0)("floor", self.floor)

    def inputs(self, outputs: int) -> int:
        """A weight a component, and a mean and a deviation an output of it."""
        return self.components * (2 * outputs + 1)

    def build(self, outputs: int, members: int = 1) -> HeadModule:
        """It has no parameters."""
        return _Mixture(outputs, self.components, self.floor)


class _Mixture(HeadModule):
    start: Tensor

    def __init__(self, outputs: int, components: int, floor: float) -> None:
        super().__init__()
        self.outputs, self.components, self.floor = outputs, components, floor
        start = midpoints(components, torch.zeros(())).unsqueeze(1)
        self.register_buffer("start", start, persistent=False)

    def forward(self, raw: Tensor, units: Units | None = None) -> MixtureDensity:
        k, d = self.components, self.outputs
        weights, mean, scale = raw.split([k, k * d, k * d], -1)
        mean, scale = (part.unflatten(-1, (k, d)) for part in (mean, scale))
        return MixtureDensity(weights, mean + self.start, softplus(scale) + self.floor, units)


@HEADS.register("flow")
@dataclass(frozen=True)
class FlowHead(DensityHead):
    """A conditional normalising flow of zuko; by default a neural spline flow of two transforms.

    Durkan, Bekasov, Murray, Papamakarios (2019), "Neural Spline Flows"; in active learning Werner,
    Schmidt-Thieme (2025), "Bayesian Active Learning By Distribution Disagreement". Each transform
    has a network of its own from the context to its parameters. zuko's splines live on [-5, 5], in
    standardised units, and are the identity beyond.

    Args:
        flow: a class of ``zuko.flows`` over all numbers: NSF, MAF, NAF, SOSPF, BPF, GF, CNF, …
        context: numbers that the network gives and the flow is conditioned on.
        arguments: of that class, beside features and context: ``{transforms: 3, bins: 16,
            hidden_features: [64, 64]}``.

    Raises:
        LookupError: no such flow.
        ValueError: arguments that it does not take, or a flow that is not over all numbers.
    """

    flow: str = "NSF"
    context: int = 64
    arguments: Mapping[str, Any] | None = None

    name: ClassVar[str] = "flow"

    def __post_init__(self) -> None:
        whole(1)("context", self.context)

    def inputs(self, outputs: int) -> int:
        """The context."""
        return self.context

    def build(self, outputs: int, members: int = 1) -> HeadModule:
        """A flow for each member of the network.

        Raises:
            LookupError: no such flow.
            ValueError: arguments that it does not take, or a flow that is not over all numbers.
        """
        arguments = self.arguments or {}
        return _Flows(
            [zuko_flow(self.flow, outputs, self.context, arguments) for _ in range(members)]
        )


class _Flows(HeadModule):
    def __init__(self, flows: list[nn.Module]) -> None:
        super().__init__()
        self.flows = nn.ModuleList(flows)

    def forward(self, raw: Tensor, units: Units | None = None) -> PredictiveDensity:
        count = len(self.flows)
        if count == 1:
            return FlowDensity(self.flows[0](raw), raw, units)
        members = raw.shape[-2]
        if members % count:
            raise ValueError(
                f"{count} flows read the outputs of as many members of a network, got {members}"
            )
        parts = [
            FlowDensity(flow(raw[..., i::count, :]), raw, units)
            for i, flow in enumerate(self.flows)
        ]
        return StackedDensity(parts)
