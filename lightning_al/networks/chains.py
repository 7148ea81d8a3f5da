"""Networks that are chains of layers: what precedes the first dropout can be run once."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from lightning_al.values import share, sizes

from .network_specs import needed, record

__all__ = ["MLP", "SmallCNN", "activation_named"]

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "elu": nn.ELU,
    "gelu": nn.GELU,
    "leaky_relu": nn.LeakyReLU,
    "relu": nn.ReLU,
    "selu": nn.SELU,
    "silu": nn.SiLU,
    "tanh": nn.Tanh,
}


def activation_named(name: str) -> nn.Module:
    """An activation by its name.

    Raises:
        ValueError: no such name.
    """
    if name not in ACTIVATIONS:
        raise ValueError(f"no activation named {name!r}; choose one of {', '.join(ACTIVATIONS)}")
    return ACTIVATIONS[name]()


def _dropout(p: float) -> list[nn.Module]:
    return [nn.Dropout(p)] if p > 0 else []


class MLP(nn.Sequential):
    """Multilayer perceptron: inputs [n, ...] are flattened -> outputs [n, outputs].

    Each hidden layer is linear, activation, dropout. The embedding is the input of the last linear
    layer: the last hidden layer (after its dropout), or the inputs where there is none.

    Args:
        in_features: numbers per item.
        hidden: widths of the hidden layers; empty for a linear model.
        outputs: classes, or regression outputs (twice as many for a Gaussian likelihood).
        dropout: probability after each hidden layer; 0 leaves the layers out.
        activation: elu, gelu, leaky_relu, relu, selu, silu or tanh.

    Raises:
        ValueError: a size left out or below 1, a dropout that is no share, or an unknown
            activation.
    """

    def __init__(
        self,
        in_features: int | None = None,
        hidden: Sequence[int] = (64, 64),
        outputs: int | None = None,
        dropout: float = 0.0,
        activation: str = "relu",
    ) -> None:
        needed("MLP", in_features=in_features, outputs=outputs)
        hidden, dropout = sizes("MLP: hidden", hidden), share("MLP: dropout", dropout)
        layers: list[nn.Module] = [nn.Flatten()]
        width = in_features
        for size in hidden:
            layers += [nn.Linear(width, size), activation_named(activation), *_dropout(dropout)]  # type: ignore[arg-type]
            width = size
        super().__init__(*layers, nn.Linear(width, outputs))  # type: ignore[arg-type]
        record(
            self,
            MLP,
            in_features=in_features,
            hidden=hidden,
            outputs=outputs,
            dropout=dropout,
            activation=activation,
        )


class SmallCNN(nn.Sequential):
    """Two convolutions and a hidden layer: images [n, in_channels, H, W] -> [n, outputs].

    The network of Gal, Islam, Ghahramani (2017), "Deep Bayesian Active Learning with Image Data":
    convolution-relu-convolution-relu-pooling-dropout-dense-relu-dropout-dense, 4x4 kernels. The
    embedding is the input of the last linear layer [n, hidden].

    Args:
        in_channels: channels of the images.
        outputs: classes.
        image_size: height and width in pixels; at least 8.
        width: channels of the convolutions.
        hidden: width of the dense layer.
        dropout: probability after the pooling; 0 leaves the layer out.
        head_dropout: probability after the dense layer; 0 leaves the layer out.

    Raises:
        ValueError: a size left out or below 1, a dropout that is no share, or images that are too
            small.
    """

    def __init__(
        self,
        in_channels: int | None = None,
        outputs: int | None = None,
        image_size: int | None = None,
        width: int = 32,
        hidden: int = 128,
        dropout: float = 0.25,
        head_dropout: float = 0.5,
    ) -> None:
        needed("SmallCNN", in_channels=in_channels, outputs=outputs, image_size=image_size)
        needed("SmallCNN", width=width, hidden=hidden)
        dropout = share("SmallCNN: dropout", dropout)
        head_dropout = share("SmallCNN: head_dropout", head_dropout)
        side = (int(image_size) - 6) // 2  # type: ignore[arg-type]
        if side < 1:
            raise ValueError(f"SmallCNN needs images of 8 x 8 pixels or more, got {image_size}")
        super().__init__(
            nn.Conv2d(in_channels, width, 4),  # type: ignore[arg-type]
            nn.ReLU(),
            nn.Conv2d(width, width, 4),
            nn.ReLU(),
            nn.MaxPool2d(2),
            *_dropout(dropout),
            nn.Flatten(),
            nn.Linear(width * side * side, hidden),
            nn.ReLU(),
            *_dropout(head_dropout),
            nn.Linear(hidden, outputs),  # type: ignore[arg-type]
        )
        record(
            self,
            SmallCNN,
            in_channels=in_channels,
            outputs=outputs,
            image_size=image_size,
            width=width,
            hidden=hidden,
            dropout=dropout,
            head_dropout=head_dropout,
        )
