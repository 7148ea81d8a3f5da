"""Image files as a map-style data set."""

from __future__ import annotations

import math
import os
import warnings
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
SMALLEST = 0.6  # share of the area of a picture that training sees
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
    found, folders = [], [(str(root), "")]
    while folders:
        folder, below = folders.pop()
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    if entry.name.startswith("."):
                        continue
                    if entry.is_dir(follow_symlinks=False):
                        folders.append((entry.path, f"{below}{entry.name}/"))
                    elif os.path.splitext(entry.name)[1].lower() in SUFFIXES and entry.is_file():
                        found.append(below + entry.name)
        except PermissionError:
            continue  # somebody else's folder
    found.sort()
    if not found:
        raise FileNotFoundError(f"no image below {root}; looked for {', '.join(sorted(SUFFIXES))}")
    return found


def read_image(path: str | Path, least: int | None = None) -> Image.Image:
    """Decode an image file, turned upright as its EXIF data say.

    Pictures of 16 bits become grey values in [0, 255] of mode "F" by the range of their numbers,
    and float ones are taken to lie in [0, 1]; all others become RGB.

    Args:
        path: of the file.
        least: pixels a side that will do: a JPEG is decoded at 1/2, 1/4 or 1/8 of its size where
            that has as many, which is several times faster; other files are decoded whole.

    Raises:
        ValueError: it cannot be decoded, or its range is not known; the file is named.
    """
    try:
        with Image.open(path) as image:
            if least is not None:
                image.draft(None, (least, least))
            upright = ImageOps.exif_transpose(image)
            if upright.mode == "F" or upright.mode.startswith("I"):
                return _deep(upright, path)
            return upright.convert("RGB")
    except UNREADABLE as error:
        if isinstance(error, DepthError):
            raise
        raise ValueError(
            f"{path} cannot be read as an image: {error}; replace or remove it"
        ) from None


class DepthError(ValueError):
    """Grey values whose range is not known."""


def _deep(image: Image.Image, path: str | Path) -> Image.Image:
    """Grey values of more than 8 bits as [0, 255] of mode "F"."""
    pixels = np.array(image).astype(np.float32)
    most = 1.0 if image.mode == "F" else 65535.0
    if not pixels.size or not np.isfinite(pixels).all() or pixels.min() < 0 or pixels.max() > most:
        low, high = (float(f(pixels)) if pixels.size else 0.0 for f in (np.min, np.max))
        raise DepthError(
            f"{path}: grey values must lie between 0 and {most:g} in a picture of mode "
            f"{image.mode!r}, got {low:g} to {high:g}; scale them to 16 bits, or to floats from "
            "0 to 1"
        )
    kind = "floats from 0 to 1" if image.mode == "F" else "16 bits, from 0 to 65535"
    warnings.warn(f"pictures of {kind} are scaled to grey values from 0 to 1", stacklevel=1)
    return Image.fromarray(pixels * np.float32(255 / most))


def check_images(paths: Sequence[str | Path]) -> None:
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
        draft: take JPEG files decoded at a part of their size (see :func:`read_image`), with twice
            the pixels a side that are wanted, or more: colours differ by a little.
    """

    size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    augment: bool = False
    draft: bool = False

    @property
    def least(self) -> int | None:
        """Pixels a side of a picture that will do; None where all must be decoded."""
        if not self.draft:
            return None
        return math.ceil(2 * self.size / (SMALLEST**0.5 if self.augment else 1))

    def __call__(self, image: Image.Image) -> Tensor:
        """The tensor of one picture."""
        box: tuple[float, float, float, float] = (0, 0, *image.size)
        mirror = False
        if self.augment:
            area, left, top, coin = torch.rand(4).tolist()
            side = (SMALLEST + (1 - SMALLEST) * area) ** 0.5
            width, height = image.width * side, image.height * side
            x, y = left * (image.width - width), top * (image.height - height)
            box, mirror = (x, y, x + width, y + height), coin < 0.5
        small = image.resize((self.size, self.size), Image.Resampling.BILINEAR, box=box)
        array = np.array(small)  # grey values of more than 8 bits have no channels
        array = array[..., None].repeat(3, -1) if array.ndim == 2 else array
        pixels = torch.from_numpy(array).permute(2, 0, 1).float() / 255
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

    def __init__(self, paths: Sequence[str | Path], targets: Tensor, view: ImageView) -> None:
        self.paths, self.targets, self.view = list(paths), targets, view

    @property
    def transform(self) -> ImageView:
        """What is done to each picture."""
        return self.view

    def files(self) -> Sequence[str | Path]:
        """Paths, in the order of the items; they and their sizes are the identity of the data."""
        return self.paths

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        image = read_image(self.paths[index], self.view.least)
        return self.view(image), self.targets[index]
