"""A head that learns, beside the task, to rank items by their loss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from lightning_al.networks import embedding_layer

__all__ = ["LossHead", "LossPredictor", "ranking_loss"]

OUTPUTS = ("out_features", "out_channels", "num_features")
INPUTS = ("in_features", "in_channels", "num_features")


@dataclass(frozen=True)
class LossHead:
    """Settings of a head that predicts losses, trained with the task.

    From each of some layers: the mean over places, a linear layer, a ReLU; all side by side into
    one number. The task's loss gains ``weight`` times :func:`ranking_loss`. The strategy
    ``learning-loss`` then asks for the items of the largest predicted loss.

    Source: Yoo and Kweon, Learning Loss for Active Learning (2019).

    Args:
        layers: whose outputs are read (with the suffix ``":input"``: inputs), by their names in
            the network; a mapping gives the number of features (channels) of each where the layer
            does not tell. Default: the embedding.
        width: of the hidden layers.
        weight: of the ranking loss.
        margin: by which predictions are to differ.
        stop_share: from this share of the fit on the ranking loss no longer moves the network, only
            the head; None: never. The authors stop at epoch 120 of 200.
        stop_epoch: the same from this epoch on (the first is 0), instead of by share.
    """

    layers: Sequence[str] | Mapping[str, int] | None = None
    width: int = 128
    weight: float = 1.0
    margin: float = 1.0
    stop_epoch: int | None = None
    stop_share: float | None = 0.6

    def __post_init__(self) -> None:
        if self.width < 1 or not self.weight > 0 or not self.margin > 0:
            raise ValueError(
                "a LossHead needs width >= 1, weight > 0 and margin > 0, got "
                f"{self.width}, {self.weight} and {self.margin}"
            )
        if self.stop_epoch is not None and self.stop_epoch < 0:
            raise ValueError(f"stop_epoch is 0 or more, or None, got {self.stop_epoch}")
        if self.stop_share is not None and not 0 <= self.stop_share <= 1:
            raise ValueError(
                f"stop_share is a share of the fit, 0 to 1, or None, got {self.stop_share}"
            )

    def stopped(self, epoch: int, share: float) -> bool:
        """Whether the ranking loss no longer moves the network.

        Args:
            epoch: the present one, from 0.
            share: of the fit that is over.
        """
        if self.stop_epoch is not None:
            return epoch >= self.stop_epoch
        return self.stop_share is not None and share >= self.stop_share

    @classmethod
    def of(cls, given: LossHead | Mapping[str, Any]) -> LossHead:
        """Settings from themselves, or from the plain values that a checkpoint holds."""
        return given if isinstance(given, LossHead) else cls(**given)

    def plain(self) -> dict[str, Any]:
        """Plain values."""
        layers = self.layers
        named = dict(layers) if isinstance(layers, Mapping) else layers and list(layers)
        return asdict(self) | {"layers": named}

    def places(self, network: nn.Module) -> dict[str, int]:
        """The layers to read, by name, and the number of features of each.

        Raises:
            ValueError: a layer that is not there or does not tell, or no embedding to fall back on.
        """
        if isinstance(self.layers, Mapping):
            return dict(self.layers)
        names = self.layers
        if names is None:
            own = embedding_layer(network)
            names = (own,) if isinstance(own, str) else own
        if not names:
            raise ValueError(
                f"{type(network).__name__} has no embedding for a LossHead to read; name layers: "
                "LossHead(layers=['conv1', …])"
            )
        return {name: _features(network, name) for name in names}


class LossPredictor(nn.Module):
    """The head itself: features of some layers [n, W_i, ...] -> predicted losses [n].

    Args:
        settings: widths and layers.
        network: whose layers are read.
    """

    def __init__(self, settings: LossHead, network: nn.Module) -> None:
        super().__init__()
        places = settings.places(network)
        self.settings, self.names = settings, tuple(places)
        self.branches = nn.ModuleList(nn.Linear(w, settings.width) for w in places.values())
        self.out = nn.Linear(settings.width * len(places), 1)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Predicted losses [n], on a scale of their own: only their order means something."""
        pooled = [f.flatten(2).mean(2) if f.ndim > 2 else f for f in features]
        hidden = [b(f).relu() for b, f in zip(self.branches, pooled, strict=True)]
        return self.out(torch.cat(hidden, dim=1)).squeeze(1)


def ranking_loss(predicted: Tensor, losses: Tensor, margin: float = 1.0) -> Tensor:
    """Hinge loss on the order of pairs: predicted [n], true losses [n] -> scalar.

    The pair of items i and j = i + n // 2 costs ``max(0, margin - sign(l_i - l_j) (p_i - p_j))``;
    the mean over pairs. A pair of equal losses costs nothing; an odd last item has no partner.

    Source: Yoo and Kweon, Learning Loss for Active Learning (2019).

    >>> float(ranking_loss(torch.tensor([0.5, 0.0]), torch.tensor([2.0, 1.0])))
    0.5
    """
    if predicted.shape != losses.shape or predicted.ndim != 1:
        raise ValueError(
            f"ranking_loss needs predicted [n] and losses [n], got {list(predicted.shape)} and "
            f"{list(losses.shape)}"
        )
    half = len(predicted) // 2
    if half == 0:
        return predicted.sum() * 0.0
    lead = predicted[:half] - predicted[half : 2 * half]
    order = (losses[:half] - losses[half : 2 * half]).detach().sign()
    return ((margin - order * lead).relu() * order.abs()).mean()


def _features(network: nn.Module, name: str) -> int:
    """Features (channels) of what a layer gives, or with ":input" takes."""
    whole = dict(network.named_modules())
    layer, takes = whole.get(name.removesuffix(":input")), name.endswith(":input")
    if layer is None:
        raise ValueError(
            f"{type(network).__name__} has no layer {name!r} for a LossHead to read; it has "
            f"{', '.join(n for n in whole if n)}"
        )
    parts = list(layer.modules())
    for part in parts if takes else reversed(parts):
        for fact in INPUTS if takes else OUTPUTS:
            if isinstance(size := getattr(part, fact, None), int):
                return size
    raise ValueError(
        f"the layer {name!r} does not tell its number of features; give it: "
        f"LossHead(layers={{{name!r}: …}})"
    )
