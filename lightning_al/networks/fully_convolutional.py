"""A network that gives an output for every pixel."""

from __future__ import annotations

from torch import Tensor, nn

from lightning_al.values import share, whole

from .network_specs import needed, record

__all__ = ["FullyConvolutional"]


class FullyConvolutional(nn.Module):
    """Convolutions of 3 x 3 that keep the picture's size: [n, C, H, W] -> [n, outputs, H, W].

    Every second one looks twice as far (dilated), so that a pixel's output depends on its wider
    surroundings. The last layer is 1 x 1; its input is the embedding, one for each pixel.

    Args:
        in_channels: C.
        outputs: a pixel.
        width: channels within.
        depth: convolutions before the last.
        dropout: odds before the last layer, of whole channels.
    """

    embedding_layer = "head:input"

    def __init__(
        self,
        in_channels: int | None = None,
        outputs: int | None = None,
        width: int = 24,
        depth: int = 4,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        needed("FullyConvolutional", in_channels=in_channels, outputs=outputs)
        needed("FullyConvolutional", width=width)
        whole(1)("FullyConvolutional: depth", depth)
        dropout = share("FullyConvolutional: dropout", dropout)
        assert in_channels is not None
        assert outputs is not None
        layers: list[nn.Module] = []
        for i in range(depth):
            far = 1 + i % 2
            layers += [
                nn.Conv2d(in_channels if i == 0 else width, width, 3, padding=far, dilation=far),
                nn.BatchNorm2d(width),
                nn.ReLU(),
            ]
        self.body = nn.Sequential(*layers)
        self.drop = nn.Dropout2d(dropout)
        self.head = nn.Conv2d(width, outputs, 1)
        sizes = {"in_channels": in_channels, "outputs": outputs, "width": width}
        record(self, FullyConvolutional, **sizes, depth=depth, dropout=dropout)

    def forward(self, pictures: Tensor) -> Tensor:
        """Outputs [n, outputs, H, W]."""
        return self.head(self.drop(self.body(pictures)))  # type: ignore[no-any-return]
