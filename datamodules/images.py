"""MNIST, Fashion-MNIST and CIFAR-10: uint8 in memory, normalised in batches.

Files are looked for below the data root in torchvision's own layout and in plain folders, and are
downloaded from their original sources when they are not there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from pytorch_lightning.utilities import rank_zero_info

from .pool_data import PoolDataModule, Splits
from .readers.image_files import Arrays, read_cifar10, read_idx, read_npz
from .readers.transforms import Chain, CropFlip, Normalise
from .sources import Resource, Source, data_root
from .tensors import TensorItems

__all__ = [
    "CIFAR10DataModule",
    "FashionMNISTDataModule",
    "MNISTDataModule",
    "cropped",
    "idx_resources",
    "image_items",
]


def idx_resources(
    name: str,
    folder: str,
    unpacked: str,
    urls: Sequence[str],
    digests: Sequence[str | None] = (None, None, None, None),
    rows: tuple[int, int] = (60_000, 10_000),
) -> dict[str, Resource[Any]]:
    """The four files of a set in MNIST's form, by field of :class:`Arrays`.

    Args:
        name: of the set, for messages.
        folder: below the data root, where downloads go.
        unpacked: the folder of torchvision's layout.
        urls: folders to download from, ending in "/".
        digests: SHA-256 of the four gzipped files: train images and labels, test images and labels.
        rows: number of training and of test images.
    """
    files = (
        ("train_images", "train-images-idx3-ubyte", (rows[0], 28, 28)),
        ("train_labels", "train-labels-idx1-ubyte", (rows[0],)),
        ("test_images", "t10k-images-idx3-ubyte", (rows[1], 28, 28)),
        ("test_labels", "t10k-labels-idx1-ubyte", (rows[1],)),
    )
    resources = {}
    for (part, file, shape), digest in zip(files, digests, strict=True):
        parse, gz = partial(read_idx, shape=shape), f"{file}.gz"
        sources = (
            *(Source(folder, gz, parse, url + gz, digest) for url in urls),
            Source(unpacked, file, parse),
            Source(unpacked, gz, parse, sha256=digest),
            Source(folder, file, parse),
        )
        resources[part] = Resource(name, sources)
    return resources


MNIST = idx_resources(
    "MNIST",
    "mnist",
    "MNIST/raw",
    ("https://ossci-datasets.s3.amazonaws.com/mnist/", "http://yann.lecun.com/exdb/mnist/"),
    (
        "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
        "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
        "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
        "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
    ),
)
FASHION_MNIST = idx_resources(
    "Fashion-MNIST",
    "fashion_mnist",
    "FashionMNIST/raw",
    ("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",),
    (
        "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
        "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
        "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
        "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
    ),
)

_ARCHIVE = "cifar-10-python.tar.gz"
_BATCHES = "cifar-10-batches-py"
_CIFAR_SHA256 = "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce"
CIFAR10: Resource[Arrays] = Resource(
    "CIFAR-10",
    (
        Source(
            "cifar10",
            _ARCHIVE,
            read_cifar10,
            f"https://www.cs.toronto.edu/~kriz/{_ARCHIVE}",
            _CIFAR_SHA256,
        ),
        Source("", _BATCHES, read_cifar10),
        Source("cifar10", _BATCHES, read_cifar10),
        Source("", _ARCHIVE, read_cifar10, sha256=_CIFAR_SHA256),
    ),
)
CIFAR10_SUBSET: Resource[Arrays] = Resource(
    "the CIFAR-10 subset (10,000 + 2,000 images)",
    (
        Source(
            "cifar10_subset",
            "cifar10_subset.npz",
            read_npz,
            sha256="eed307aa179a03d0c62299920f987dd975ed267890e142fe0deea0b692389e4e",
        ),
    ),
)


def _read_parts(resources: Mapping[str, Resource[Any]], root: Path) -> Arrays:
    """The four IDX files of one set, images with a channel axis."""
    parts = {name: resource.read(root) for name, resource in resources.items()}
    return Arrays(**{n: a[:, None] if n.endswith("images") else a for n, a in parts.items()})


def image_items(images: np.ndarray, labels: np.ndarray, transform: Any) -> TensorItems:
    """Images [N, ...] and labels [N] as items."""
    return TensorItems(
        torch.from_numpy(images), torch.from_numpy(labels.astype(np.int64)), transform
    )


def cropped(plain: TensorItems, normalise: Normalise, augment: bool) -> TensorItems:
    """The items to train on: with ``augment`` cropped and mirrored at random, else as they are."""
    if not augment:
        return plain
    return TensorItems(plain.inputs, plain.targets, Chain((CropFlip(), normalise)))


class MNISTDataModule(PoolDataModule):
    """MNIST: 60,000 + 10,000 grey images of handwritten digits (LeCun, Cortes & Burges, 1998).

    Items are float32 [1, 28, 28], normalised by the pixel mean 0.1307 and deviation 0.3081; labels
    0..9. Files: ``MNIST/raw/`` (torchvision's layout) or ``mnist/`` below the data folder.

    Args:
        val: share or number of training images for validation; None for none.
        data_dir: data folder; default ``$LIGHTNING_AL_DATA``, else the user's cache.
        kwargs: see :class:`PoolDataModule`.
    """

    resources: ClassVar[Mapping[str, Resource[Any]]] = MNIST
    normalise: ClassVar[Normalise] = Normalise((0.1307,), (0.3081,))
    classes: int | None = 10
    class_names: Sequence[str] | None = tuple("0123456789")
    in_channels: int | None = 1
    image_size: int | None = 28

    def __init__(
        self, *, val: int | float | None = None, data_dir: str | None = None, **kwargs: Any
    ) -> None:
        super().__init__(collate=None, **kwargs)
        self.val_size, self.data_dir = val, data_dir

    def prepare_data(self) -> None:
        """Download what is missing.

        Raises:
            FileNotFoundError: a file could not be had; the message says where to put it.
        """
        for resource in self.resources.values():
            resource.fetch(data_root(self.data_dir))

    def load(self) -> Splits:
        """Read the four files."""
        arrays = _read_parts(self.resources, data_root(self.data_dir))
        return Splits(
            train=image_items(arrays.train_images, arrays.train_labels, self.normalise),
            test=image_items(arrays.test_images, arrays.test_labels, self.normalise),
            val=self.val_size,
        )


class FashionMNISTDataModule(MNISTDataModule):
    """Fashion-MNIST: 60,000 + 10,000 grey images of clothing (Xiao, Rasul & Vollgraf, 2017).

    Items are float32 [1, 28, 28], normalised by the pixel mean 0.2860 and deviation 0.3530; labels
    0..9. Files: ``FashionMNIST/raw/`` (torchvision's layout) or ``fashion_mnist/`` below the data
    folder.

    Args:
        val: share or number of training images for validation; None for none.
        data_dir: data folder; default ``$LIGHTNING_AL_DATA``, else the user's cache.
        kwargs: see :class:`PoolDataModule`.
    """

    resources: ClassVar[Mapping[str, Resource[Any]]] = FASHION_MNIST
    normalise: ClassVar[Normalise] = Normalise((0.2860,), (0.3530,))
    class_names: Sequence[str] | None = (
        "T-shirt/top",
        "trouser",
        "pullover",
        "dress",
        "coat",
        "sandal",
        "shirt",
        "sneaker",
        "bag",
        "ankle boot",
    )


class CIFAR10DataModule(PoolDataModule):
    """CIFAR-10: 50,000 + 10,000 colour images of ten kinds of things (Krizhevsky, 2009).

    Items are float32 [3, 32, 32], normalised by channel; labels 0..9. Files: ``cifar10/`` or
    torchvision's layout (``cifar-10-batches-py/``) below the data folder, packed or unpacked; or
    ``cifar10_subset/cifar10_subset.npz``, a stratified part with 10,000 + 2,000 images.

    Args:
        subset: True for the subset, False for the full set, None for the full set if it is there,
            else the subset if that is there, else the full set, downloaded.
        augment: train on randomly cropped and mirrored images; the pool is scored without.
        val: share or number of training images for validation; None for none.
        data_dir: data folder; default ``$LIGHTNING_AL_DATA``, else the user's cache.
        kwargs: see :class:`PoolDataModule`.
    """

    full: ClassVar[Resource[Arrays]] = CIFAR10
    part: ClassVar[Resource[Arrays]] = CIFAR10_SUBSET
    normalise: ClassVar[Normalise] = Normalise((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616))
    classes: int | None = 10
    class_names: Sequence[str] | None = (
        "airplane",
        "automobile",
        "bird",
        "cat",
        "deer",
        "dog",
        "frog",
        "horse",
        "ship",
        "truck",
    )
    in_channels: int | None = 3
    image_size: int | None = 32

    def __init__(
        self,
        *,
        subset: bool | None = None,
        augment: bool = True,
        val: int | float | None = None,
        data_dir: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(collate=None, **kwargs)
        self.val_size, self.data_dir = val, data_dir
        self.subset = subset
        self.augment = augment

    def _resource(self, root: Path) -> Resource[Arrays]:
        subset = self.subset
        if subset is None:
            subset = self.full.find(root) is None and self.part.find(root) is not None
        return self.part if subset else self.full

    def prepare_data(self) -> None:
        """Download the full set where it is wanted and missing (170 MB).

        Raises:
            FileNotFoundError: the file could not be had; the message says where to put it.
        """
        root = data_root(self.data_dir)
        self._resource(root).fetch(root)

    def arrays(self, root: Path) -> Arrays:
        """The images and labels, of the files below a data root."""
        return self._resource(root).read(root)

    def load(self) -> Splits:
        """Read the full set or the subset; a log line says which."""
        root = data_root(self.data_dir)
        arrays = self.arrays(root)
        name = self._resource(root).name
        rank_zero_info(f"read {name}: {len(arrays.train_labels):,} training images")
        plain = image_items(arrays.train_images, arrays.train_labels, self.normalise)
        return Splits(
            train=cropped(plain, self.normalise, self.augment),
            pool=plain,
            test=image_items(arrays.test_images, arrays.test_labels, self.normalise),
            val=self.val_size,
        )
