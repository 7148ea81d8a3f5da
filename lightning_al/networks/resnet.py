"""ResNet-18 in the form used for images of 32 pixels."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from lightning_al.values import share

from .network_specs import needed, record

__all__ = ["ResNet18"]


class ResNet18(nn.Sequential):
    """ResNet-18 with a 3x3 stem, no max-pooling: [n, in_channels, H, W] -> [n, outputs].

    He, Zhang, Ren, Sun (2016), "Deep Residual Learning for Image Recognition"; the stem, of
    stride 1, is the one commonly used for CIFAR. The embedding is the input of the
    last linear layer [n, 512].

    Args:
        in_channels: channels of the images.
        outputs: classes.
        dropout: probability before the last layer; 0 leaves the layer out.

    Raises:
        ValueError: a size left out or below 1, or a dropout that is no share.
    """

    def __init__(
        self, in_channels: int | None = None, outputs: int | None = None, dropout: float = 0.0
    ) -> None:
        from torchvision.models import resnet18

        needed("ResNet18", in_channels=in_channels, outputs=outputs)
        dropout = share("ResNet18: dropout", dropout)
        base = resnet18(weights=None, num_classes=outputs)
        stem = nn.Conv2d(in_channels, 64, 3, padding=1, bias=False)  # type: ignore[arg-type]
        nn.init.kaiming_normal_(stem.weight, mode="fan_out", nonlinearity="relu")
        layers: OrderedDict[str, nn.Module] = OrderedDict(conv1=stem, bn1=base.bn1, relu=base.relu)
        layers |= {f"layer{i}": getattr(base, f"layer{i}") for i in range(1, 5)}
        layers |= {"avgpool": base.avgpool, "flatten": nn.Flatten()}
        if dropout > 0:
            layers["dropout"] = nn.Dropout(dropout)
        layers["fc"] = base.fc
        super().__init__(layers)
        record(self, ResNet18, in_channels=in_channels, outputs=outputs, dropout=dropout)
