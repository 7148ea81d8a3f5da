"""Small pictures of items, and a sheet of several."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["as_grid", "contained"]


def contained(image: Image, side: int) -> Image:
    """The picture scaled down to at most ``side`` pixels; a smaller one is left alone."""
    from PIL import ImageOps

    return image if max(image.size) <= side else ImageOps.contain(image, (side, side))


def as_grid(images: Sequence[Image], side: int = 64, gap: int = 2) -> np.ndarray:
    """Pictures side by side as one array [3, H, W] uint8, row by row, on white.

    Small pictures are enlarged without blur, so that a 28-pixel digit can be seen.
    """
    from PIL import Image as images_of
    from PIL import ImageOps

    wide = math.ceil(math.sqrt(len(images)))
    high = math.ceil(len(images) / wide)
    cell = side + gap
    sheet = images_of.new("RGB", (wide * cell + gap, high * cell + gap), "white")
    for place, image in enumerate(images):
        small = max(image.size) <= side
        how = images_of.Resampling.NEAREST if small else images_of.Resampling.BICUBIC
        tile = ImageOps.pad(image.convert("RGB"), (side, side), method=how, color="white")
        row, column = divmod(place, wide)
        sheet.paste(tile, (gap + column * cell, gap + row * cell))
    return np.asarray(sheet).transpose(2, 0, 1).copy()
