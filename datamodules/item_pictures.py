"""Pictures of items, for tables of what was acquired."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .items import Items

__all__ = ["image_of"]


def image_of(items: Items, index: int) -> Any:
    """A PIL picture of an item whose input is an image tensor [C, H, W] or [H, W]; else None.

    Stored bytes are shown as they are; anything else is stretched from its minimum to its maximum.
    """
    from PIL import Image

    image: Any = None
    if items.tensors is not None:
        image = items.tensors.inputs[0][index]
    else:
        batch = items.inputs(torch.tensor([index]))
        image = batch[0] if isinstance(batch, Tensor) else None
    if not isinstance(image, Tensor) or image.ndim not in (2, 3) or min(image.shape[-2:]) < 4:
        return None
    if image.ndim == 2:
        image = image[None]
    if image.shape[0] not in (1, 3):
        return None
    if image.dtype != torch.uint8:
        image = image.float()
        low, high = image.amin(), image.amax()
        image = ((image - low) / (high - low).clamp_min(1e-12) * 255).to(torch.uint8)
    array = image.permute(1, 2, 0).squeeze(-1).cpu().numpy()
    return Image.fromarray(array)
