"""Transforms of image batches, for :class:`TensorItems`."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["Chain", "CropFlip", "Normalise"]


@dataclass(frozen=True)
class Normalise:
    """Batch transform: uint8 [n, C, H, W] in 0..255 -> float32 ``(x / 255 - mean) / std``."""

    mean: tuple[float, ...]  # [C], of pixels in [0, 1]
    std: tuple[float, ...]  # [C]

    def __call__(self, images: Tensor) -> Tensor:
        """The normalised batch."""
        mean = torch.tensor(self.mean, device=images.device).view(-1, 1, 1)
        std = torch.tensor(self.std, device=images.device).view(-1, 1, 1)
        return (images.float() / 255 - mean) / std


@dataclass(frozen=True)
class CropFlip:
    """Batch transform: each image padded with black, cropped at random, mirrored half the time.

    The augmentation of He et al. (2016) for CIFAR; draws from torch's global state, as a fit runs
    seeded. Shapes [n, C, H, W] -> the same.
    """

    padding: int = 4

    def __call__(self, images: Tensor) -> Tensor:
        """The augmented batch."""
        n, channels, height, width = images.shape
        pad = self.padding
        padded = functional.pad(images, (pad, pad, pad, pad))
        top, left = torch.randint(2 * pad + 1, (2, n, 1))
        columns = torch.arange(width).expand(n, -1)
        columns = torch.where(torch.rand(n, 1) < 0.5, columns.flip(1), columns)
        rows = top + torch.arange(height)
        return padded[
            torch.arange(n)[:, None, None, None],
            torch.arange(channels)[None, :, None, None],
            rows[:, None, :, None],
            (left + columns)[:, None, None, :],
        ]


@dataclass(frozen=True)
class Chain:
    """Batch transforms one after the other."""

    steps: tuple[CropFlip | Normalise, ...]

    def __call__(self, images: Tensor) -> Tensor:
        """The batch after all steps."""
        for step in self.steps:
            images = step(images)
        return images
