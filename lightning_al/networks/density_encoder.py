"""The network that BALSA conditions its densities on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from torch import nn

from lightning_al.values import share, sizes

from .chains import activation_named
from .network_specs import needed, record

__all__ = ["DensityEncoder"]


class DensityEncoder(nn.Sequential):
    """Linear layers with dropout behind each but the first: inputs [n, ...] -> [n, outputs].

    The encoder of Werner, Schmidt-Thieme (2025), "Bayesian Active Learning By Distribution
    Disagreement": a linear layer to the first width, then for each width a linear layer, the
    activation, and dropout. Their paper has ReLU for the activation, the code that they released
    has none. A flow reads the last of these; means and deviations of a Gaussian a linear layer
    behind a ReLU.

    Args:
        in_features: numbers per item.
        hidden: widths; the last is the width of what a flow reads.
        outputs: numbers that the head reads.
        dropout: probability behind each layer.
        activation: elu, gelu, leaky_relu, relu, selu, silu or tanh; None for none.
        readout: a ReLU and a linear layer to the outputs at the end; None has them where
            ``outputs`` is not the last width.

    Raises:
        ValueError: a size left out or below 1, a dropout that is no share, an unknown activation,
            or outputs that are not the last width without a readout.
    """

    def __init__(
        self,
        in_features: int | None = None,
        hidden: Sequence[int] = (32, 64, 128),
        outputs: int | None = None,
        dropout: float = 0.05,
        activation: str | None = "relu",
        readout: bool | None = None,
    ) -> None:
        needed("DensityEncoder", in_features=in_features, outputs=outputs)
        hidden, dropout = sizes("DensityEncoder: hidden", hidden), share("dropout", dropout)
        if not hidden:
            raise ValueError("DensityEncoder needs a width in hidden, got none")
        reads = outputs != hidden[-1] if readout is None else readout
        if not reads and outputs != hidden[-1]:
            raise ValueError(
                f"without a readout the outputs are the last width, {hidden[-1]}, got {outputs}; "
                "give the head that context, or readout=True"
            )
        width = hidden[0]
        layers: list[nn.Module] = [nn.Flatten(), nn.Linear(cast(int, in_features), width)]
        for size in hidden:
            layers.append(nn.Linear(width, size))
            layers += [] if activation is None else [activation_named(activation)]
            layers.append(nn.Dropout(dropout))
            width = size
        if reads:
            layers += [nn.ReLU(), nn.Linear(width, cast(int, outputs))]
        super().__init__(*layers)
        record(
            self,
            DensityEncoder,
            in_features=in_features,
            hidden=hidden,
            outputs=outputs,
            dropout=dropout,
            activation=activation,
            readout=readout,
        )
