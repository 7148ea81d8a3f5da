"""CIFAR-100, SVHN and MedMNIST; variants of image sets with other classes, or fewer of some.

Images are uint8 in memory, normalised in batches by the statistics of the training images, test
images too. Files are looked for below the data root and are downloaded from their original sources
when they are not there; their SHA-256 is recorded then.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from .images import CIFAR10DataModule, cropped, image_items
from .pool_data import PoolDataModule, Splits
from .readers.image_files import Arrays
from .readers.more_image_files import Part, changed, read_cifar100, read_medmnist, read_svhn
from .readers.transforms import Normalise
from .sources import Resource, Source, data_root

__all__ = [
    "CIFAR10VariantDataModule",
    "CIFAR100DataModule",
    "MedMNISTDataModule",
    "SVHNDataModule",
]

LONG_TAIL = tuple(0.1 * (c + 1) for c in range(10))
"""How many of each class the long-tailed CIFAR-10 of Zhan et al. (2022) keeps."""

_CIFAR100 = "cifar-100-python"
CIFAR100: Resource[Arrays] = Resource(
    "CIFAR-100",
    (
        Source(
            "cifar100",
            f"{_CIFAR100}.tar.gz",
            read_cifar100,
            f"https://www.cs.toronto.edu/~kriz/{_CIFAR100}.tar.gz",
        ),
        Source("", _CIFAR100, read_cifar100),
        Source("cifar100", _CIFAR100, read_cifar100),
        Source("", f"{_CIFAR100}.tar.gz", read_cifar100),
    ),
)


def _svhn(part: str, rows: int) -> Resource[Part]:
    file, parse = f"{part}_32x32.mat", partial(read_svhn, rows=rows)
    url = f"http://ufldl.stanford.edu/housenumbers/{file}"
    return Resource(f"SVHN ({part})", (Source("svhn", file, parse, url), Source("", file, parse)))


SVHN = {"train": _svhn("train", 73_257), "test": _svhn("test", 26_032)}

Name = Literal[
    "organcmnist", "pathmnist", "tissuemnist", "dermamnist", "pneumoniamnist", "pneumonia_balanced"
]
_ZENODO = "https://zenodo.org/records/10519652/files"
_BALANCED = "f36c2b3e34de9d60c5c734118bc6daff281eaf76b67a57d26ad958da948274b0"
_GREY, _COLOUR = ((0.5,), (0.5,)), ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616))
MEDMNIST: Mapping[str, tuple[int, int, Normalise]] = {
    "organcmnist": (11, 1, Normalise(*_GREY)),
    "pathmnist": (9, 3, Normalise((0.7406, 0.5330, 0.7058), (0.1237, 0.1768, 0.1244))),
    "tissuemnist": (8, 1, Normalise(*_GREY)),
    "dermamnist": (7, 3, Normalise(*_COLOUR)),
    "pneumoniamnist": (2, 1, Normalise(*_GREY)),
    "pneumonia_balanced": (2, 1, Normalise(*_GREY)),
}
"""Classes, channels and statistics of each set."""


def medmnist(name: str) -> Resource[tuple[Part, Part, Part]]:
    """Where a MedMNIST set lies."""
    classes, channels, _ = MEDMNIST[name]
    parse = partial(read_medmnist, classes=classes, channels=channels)
    if name == "pneumonia_balanced":
        made = Source("pneumoniamnist_balanced", "pneumoniamnist.npz", parse, sha256=_BALANCED)
        return Resource("PneumoniaMNIST, balanced and split anew", (made,))
    file = f"{name}.npz"
    url = f"{_ZENODO}/{file}?download=1"
    return Resource(name, (Source("medmnist", file, parse, url), Source("", file, parse)))


def thinned(
    labels: npt.NDArray[Any], keep: Sequence[float], seed: int = 4666
) -> npt.NDArray[np.bool_]:
    """Which of some items [N] stay, where class c stays with probability ``keep[c]``: bool [N].

    Raises:
        ValueError: not a probability for each class.
    """
    odds = np.asarray(keep, dtype=float)
    if odds.ndim != 1 or len(odds) <= int(labels.max(initial=0)):
        raise ValueError(f"keep is a probability for each class, got {len(odds)} of them")
    if not ((odds >= 0) & (odds <= 1)).all() or not odds.any():
        raise ValueError(f"keep is probabilities from 0 to 1, not all 0, got {list(keep)}")
    kept: npt.NDArray[np.bool_] = np.random.default_rng(seed).random(len(labels)) < odds[labels]
    return kept


class _ImageSet(PoolDataModule):
    """Images of a few parts, with a normalisation and perhaps augmented training images."""

    normalise: Normalise

    def __init__(
        self, *, augment: bool, val: int | float | None, data_dir: str | None, **kwargs: Any
    ) -> None:
        super().__init__(collate=None, **kwargs)
        self.augment, self.val_size, self.data_dir = augment, val, data_dir

    def in_parts(self, train: Part, test: Part, val: Part | None = None) -> Splits:
        """What :meth:`load` gives; the pool is scored without augmentation."""
        plain, tested = (image_items(p.images, p.labels, self.normalise) for p in (train, test))
        held: Any = self.val_size
        if val is not None:
            held = image_items(val.images, val.labels, self.normalise)
        learnt = cropped(plain, self.normalise, self.augment)
        return Splits(train=learnt, pool=plain, test=tested, val=held)


class CIFAR100DataModule(_ImageSet):
    """CIFAR-100: 50,000 + 10,000 colour images of a hundred kinds of things (Krizhevsky, 2009).

    Items are float32 [3, 32, 32], normalised by channel; labels 0..99. Files: ``cifar100/`` or
    torchvision's layout (``cifar-100-python/``) below the data folder, packed or unpacked.

    Args:
        merged: classes from this one on are one class; None for all hundred.
        augment: train on randomly cropped and mirrored images; the pool is scored without.
        val: share or number of training images for validation; None for none.
        data_dir: data folder; default ``$LIGHTNING_AL_DATA``, else the user's cache.
        kwargs: see :class:`PoolDataModule`.
    """

    resource: ClassVar[Resource[Arrays]] = CIFAR100
    normalise = Normalise((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762))
    in_channels: int | None = 3
    image_size: int | None = 32

    def __init__(
        self,
        *,
        merged: int | None = None,
        augment: bool = True,
        val: int | float | None = None,
        data_dir: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(augment=augment, val=val, data_dir=data_dir, **kwargs)
        if merged is not None and not 1 <= merged < 100:
            raise ValueError(f"merged is a class from 1 to 99, got {merged}")
        self.merged = merged
        self.classes = 100 if merged is None else merged + 1

    def prepare_data(self) -> None:
        """Download what is missing (169 MB).

        Raises:
            FileNotFoundError: the file could not be had; the message says where to put it.
        """
        self.resource.fetch(data_root(self.data_dir))

    def load(self) -> Splits:
        """Read the set."""
        found = self.resource.read(data_root(self.data_dir))
        train, test = (
            changed(labels, merged=self.merged)
            for labels in (found.train_labels, found.test_labels)
        )
        return self.in_parts(Part(found.train_images, train), Part(found.test_images, test))


class SVHNDataModule(_ImageSet):
    """SVHN: 73,257 + 26,032 colour images of house numbers' digits (Netzer et al., 2011).

    Items are float32 [3, 32, 32], normalised by channel; labels 0..9. Files: ``svhn/`` below the
    data folder, or the data folder itself.

    Args:
        against: this digit is 1 and the rest 0; None for ten classes.
        val: share or number of training images for validation; None for none.
        data_dir: data folder; default ``$LIGHTNING_AL_DATA``, else the user's cache.
        kwargs: see :class:`PoolDataModule`.
    """

    resources: ClassVar[Mapping[str, Resource[Part]]] = SVHN
    normalise = Normalise((0.4377, 0.4438, 0.4728), (0.1980, 0.2010, 0.1970))
    in_channels: int | None = 3
    image_size: int | None = 32

    def __init__(
        self,
        *,
        against: int | None = None,
        val: int | float | None = None,
        data_dir: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(augment=False, val=val, data_dir=data_dir, **kwargs)
        self.against = _one_of_ten(against)
        self.classes = 10 if against is None else 2

    def prepare_data(self) -> None:
        """Download what is missing (246 MB).

        Raises:
            FileNotFoundError: a file could not be had; the message says where to put it.
        """
        for resource in self.resources.values():
            resource.fetch(data_root(self.data_dir))

    def load(self) -> Splits:
        """Read both files."""
        root = data_root(self.data_dir)
        parts = [self.resources[part].read(root) for part in ("train", "test")]
        train, test = (Part(p.images, changed(p.labels, against=self.against)) for p in parts)
        return self.in_parts(train, test)


class MedMNISTDataModule(_ImageSet):
    """A MedMNIST set: small medical images in their own three parts (Yang et al., 2023).

    Items are float32 [1, 28, 28] or [3, 28, 28], normalised by channel; labels 0..C-1. The set's
    own validation part is used. Files: ``medmnist/NAME.npz`` below the data folder, or in it.

    Args:
        name: "organcmnist", "pathmnist", "tissuemnist", "dermamnist", "pneumoniamnist", or
            "pneumonia_balanced", a balanced part of the last (which cannot be downloaded).
        augment: train on randomly cropped and mirrored images; the pool is scored without.
        data_dir: data folder; default ``$LIGHTNING_AL_DATA``, else the user's cache.
        kwargs: see :class:`PoolDataModule`.
    """

    image_size: int | None = 28

    def __init__(
        self,
        name: Name = "organcmnist",
        *,
        augment: bool = False,
        data_dir: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(augment=augment, val=None, data_dir=data_dir, **kwargs)
        if name not in MEDMNIST:
            raise ValueError(f"name is one of {', '.join(MEDMNIST)}, got {name!r}")
        self.set_name = name
        self.classes, self.in_channels, self.normalise = MEDMNIST[name]

    def prepare_data(self) -> None:
        """Download the set where it is missing.

        Raises:
            FileNotFoundError: the file could not be had; the message says where to put it.
        """
        medmnist(self.set_name).fetch(data_root(self.data_dir))

    def load(self) -> Splits:
        """Read the three parts."""
        train, val, test = medmnist(self.set_name).read(data_root(self.data_dir))
        return self.in_parts(train, test, val)


class CIFAR10VariantDataModule(CIFAR10DataModule):
    """CIFAR-10 with fewer of some classes, or one class against the rest.

    The training images (and pool) of class c stay with probability ``keep[c]``, by a draw that is
    always the same; test images all stay.

    Args:
        against: this class is 1 and the rest 0; None for ten classes.
        keep: a probability for each of the ten classes; "long-tail" is 0.1, 0.2, …, 1.0; None: all.
        kwargs: see :class:`CIFAR10DataModule`.
    """

    def __init__(
        self,
        *,
        against: int | None = None,
        keep: Sequence[float] | Literal["long-tail"] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.against = _one_of_ten(against)
        if isinstance(keep, str) and keep != "long-tail":
            raise ValueError(f"keep is ten probabilities or 'long-tail', got {keep!r}")
        self.keep = LONG_TAIL if isinstance(keep, str) else keep
        if self.keep is not None:
            thinned(np.arange(10), self.keep)  # a wrong list is said at once
        if against is not None:
            rest, own = "anything else", CIFAR10DataModule.class_names
            self.classes = 2
            self.class_names = (rest, str(against) if own is None else own[against])

    def arrays(self, root: Path) -> Arrays:
        """The set, changed."""
        found = super().arrays(root)
        images, labels = found.train_images, found.train_labels
        if self.keep is not None:
            stay = thinned(labels, self.keep)
            images, labels = images[stay], labels[stay]
        train, test = (changed(part, against=self.against) for part in (labels, found.test_labels))
        return Arrays(images, train, found.test_images, test)


def _one_of_ten(against: int | None) -> int | None:
    if against is not None and not 0 <= against < 10:
        raise ValueError(f"against is a class from 0 to 9, got {against}")
    return against
