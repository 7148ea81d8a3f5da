"""Image files as a map-style data set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor
from torch.utils.data import Dataset

__all__ = ["SUFFIXES", "ImageItems", "ImageView", "check_images", "find_images", "read_image"]

SUFFIXES = frozenset(
    {".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}
)
UNREADABLE = (
    OSError,
    SyntaxError,
    ValueError,
    UnidentifiedImageError,
    Image.DecompressionBombError,
)


def find_images(root: Path) -> list[str]:
    """Paths of all image files below ``root``, relative to it with "/", sorted; none hidden.

    Raises:
        FileNotFoundError: no such folder, or no image in it.
    """
    if not root.is_dir():
        raise FileNotFoundError(f"no image folder at {root}")
    found = sorted(
        relative.as_posix()
        for path in root.rglob("*")
        if path.suffix.lower() in SUFFIXES and path.is_file()
        for relative in [path.relative_to(root)]
        if not any(part.startswith(".") for part in relative.parts)
    )
    if not found:
        raise FileNotFoundError(f"no image below {root}; looked for {', '.join(sorted(SUFFIXES))}")
    return found


def read_image(path: Path) -> Image.Image:
    """Decode an image file to RGB, turned upright as its EXIF data say.

    Raises:
        ValueError: it cannot be decoded; the file is named.
    """
    try:
        with Image.open(path) as image:
            return ImageOps.exif_transpose(image).convert("RGB")
    except UNREADABLE as error:
        raise ValueError(
            f"{path} cannot be read as an image: {error}; replace or remove it"
        ) from None


def check_images(paths: Sequence[Path]) -> None:
    """Read the header of every file.

    Raises:
        ValueError: names up to ten files that are no images.
    """
    bad = []
    for path in paths:
        try:
            with Image.open(path) as image:
                image.verify()
        except UNREADABLE:
            bad.append(str(path))
    if bad:
        more = f" and {len(bad) - 10} more" if len(bad) > 10 else ""
        raise ValueError(
            f"{len(bad)} of {len(paths)} files cannot be read as images: "
            f"{', '.join(bad[:10])}{more}; replace or remove them"
        )


@dataclass(frozen=True)
class ImageView:
    """How an image becomes a tensor: RGB [3, size, size], float32, normalised by channel.

    Args:
        size: pixels a side; the whole image is resized, whatever its proportions.
        mean: of the channels, of pixels in [0, 1].
        std: of the channels.
        augment: a random part (60 % of the area or more) instead of the whole, mirrored half the
            time; drawn from torch's global state, as a fit runs seeded.
    """

    size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    augment: bool = False

    def __call__(self, image: Image.Image) -> Tensor:
        """The tensor of one picture."""
        box: tuple[float, float, float, float] = (0, 0, *image.size)
        mirror = False
        if self.augment:
            area, left, top, coin = torch.rand(4).tolist()
            side = (0.6 + 0.4 * area) ** 0.5
            width, height = image.width * side, image.height * side
            x, y = left * (image.width - width), top * (image.height - height)
            box, mirror = (x, y, x + width, y + height), coin < 0.5
        small = image.resize((self.size, self.size), Image.Resampling.BILINEAR, box=box)
        pixels = torch.from_numpy(np.array(small)).permute(2, 0, 1).float() / 255
        if mirror:
            pixels = pixels.flip(-1)
        mean, std = (torch.tensor(value).view(3, 1, 1) for value in (self.mean, self.std))
        return (pixels - mean) / std


class ImageItems(Dataset):
    """Items ``(image [3, size, size], class)``; the class is -1 where there is no label.

    Args:
        paths: of the files [N].
        targets: classes [N] int64.
        view: how an image becomes a tensor.
    """

    labels_are_targets = True  # a label is known without decoding its picture

    def __init__(self, paths: Sequence[Path], targets: Tensor, view: ImageView) -> None:
        self.paths, self.targets, self.view = list(paths), targets, view

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.view(read_image(self.paths[index])), self.targets[index]
