"""Readers of further image files: MedMNIST's ``.npz``, CIFAR-100's archive, SVHN's MATLAB files."""

from __future__ import annotations

import io
import pickle
import tarfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lightning_al.files import UNPACKED, bounded

from .image_files import Arrays, Bytes, _ArraysOnly
from .packed_files import npz_arrays

__all__ = ["Part", "changed", "read_cifar100", "read_medmnist", "read_svhn"]

MED_PARTS = ("train", "val", "test")
LABELS = "fine_labels"


@dataclass(frozen=True)
class Part:
    """One part of an image set: images uint8 [N, channels, height, width], labels uint8 [N]."""

    images: Bytes
    labels: Bytes


def read_medmnist(path: Path, classes: int, channels: int) -> tuple[Part, Part, Part]:
    """Training, validation and test images of a MedMNIST set, as they are distributed.

    Arrays ``train_images`` [N, H, W] or [N, H, W, 3] and ``train_labels`` [N, 1], and so on; no
    array may need pickle. The number of images is not looked at: it differs between releases.

    Args:
        path: the ``.npz`` file.
        classes: C; labels are 0..C-1.
        channels: 1 or 3.

    Raises:
        ValueError: arrays are missing or of another shape, or labels that are no class.
    """
    names = [f"{part}_{what}" for part in MED_PARTS for what in ("images", "labels")]
    try:
        arrays = npz_arrays(path, names)
    except ValueError as error:
        raise ValueError(f"{path} is no MedMNIST set: {error}") from error
    parts = []
    for part in MED_PARTS:
        images, labels = arrays[f"{part}_images"], arrays[f"{part}_labels"]
        axes = 3 if channels == 1 else 4
        wrong = images.dtype != np.uint8 or images.ndim != axes
        wrong = wrong or (axes == 4 and images.shape[-1] != channels)
        if wrong or labels.size != len(images) or len(labels) != len(images):
            raise ValueError(
                f"{path}: {part}_images must be uint8 [N, H, W{', 3' if channels == 3 else ''}] "
                f"with one label each, got {images.dtype} {list(images.shape)} and "
                f"{list(labels.shape)}"
            )
        flat = labels.reshape(-1)
        if len(flat) and not 0 <= int(flat.min()) <= int(flat.max()) < classes:
            raise ValueError(
                f"{path}: {part}_labels must be 0 to {classes - 1}, got {int(flat.min())} to "
                f"{int(flat.max())}"
            )
        images = images[:, None] if channels == 1 else images.transpose(0, 3, 1, 2)
        parts.append(Part(np.ascontiguousarray(images), flat.astype(np.uint8)))
    train, val, test = parts
    return train, val, test


def read_cifar100(path: Path, rows: tuple[int, int] = (50_000, 10_000)) -> Arrays:
    """Read CIFAR-100 with its 100 fine labels, from the archive or the folder it unpacks to.

    Pickles are read by an unpickler that builds arrays only (Krizhevsky, 2009, for the format).

    Args:
        path: ``cifar-100-python.tar.gz`` or ``cifar-100-python``.
        rows: number of training and of test images.

    Raises:
        ValueError: a part is missing, damaged, or of another size; the file is named.
    """
    parts = []
    for name, n in zip(("train", "test"), rows, strict=True):
        raw = _member(path, name)
        try:
            batch = _ArraysOnly(io.BytesIO(raw), encoding="latin1").load()
            images, labels = batch["data"], np.asarray(batch[LABELS], np.uint8)
        except (pickle.UnpicklingError, *_DAMAGED) as error:
            raise ValueError(f"{path}/{name} is no part of CIFAR-100: {error}") from error
        if images.dtype != np.uint8 or images.shape != (n, 3072) or labels.shape != (n,):
            raise ValueError(
                f"{path}/{name} must hold {n} x 3072 bytes and {n} labels, it holds "
                f"{list(images.shape)} {images.dtype} and {list(labels.shape)}"
            )
        parts += [images.reshape(-1, 3, 32, 32), labels]
    return Arrays(*parts)


_DAMAGED = (AttributeError, EOFError, ImportError, IndexError, KeyError, TypeError, ValueError)


def _member(path: Path, name: str) -> bytes:
    if path.is_dir():
        if not (path / name).is_file():
            raise ValueError(f"{path} lacks {name}; unpack the archive anew")
        return (path / name).read_bytes()
    try:
        with tarfile.open(path) as archive:
            for member in archive:
                if member.name.rsplit("/", 1)[-1] != name:
                    continue
                if (file := archive.extractfile(member)) is not None:
                    return bounded(file, UNPACKED, f"{path}: {name}")
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        raise ValueError(f"{path} is a damaged archive: {error}") from error
    raise ValueError(f"{path} lacks {name}")


def read_svhn(path: Path, rows: int) -> Part:
    """Read one part of SVHN's cropped digits; what it calls 10 is the digit 0.

    Args:
        path: a MATLAB file with ``X`` [32, 32, 3, N] and ``y`` [N, 1].
        rows: N.

    Raises:
        ValueError: damaged, or of another shape; the file is named.
    """
    from scipy.io import loadmat

    try:
        found: dict[str, Any] = loadmat(str(path), variable_names=["X", "y"])
        images, labels = np.asarray(found["X"]), np.asarray(found["y"]).reshape(-1)
    except Exception as error:  # its reader may raise anything
        raise ValueError(f"{path} is no MATLAB file of SVHN: {error}") from error
    if images.dtype != np.uint8 or images.shape != (32, 32, 3, rows) or len(labels) != rows:
        raise ValueError(
            f"{path} must hold X uint8 [32, 32, 3, {rows}] and {rows} labels, it holds "
            f"{images.dtype} {list(images.shape)} and {len(labels)}"
        )
    digits = np.where(labels == 10, 0, labels).astype(np.uint8)
    return Part(np.ascontiguousarray(images.transpose(3, 2, 0, 1)), digits)


def changed(
    labels: npt.NDArray[Any], *, against: int | None = None, merged: int | None = None
) -> npt.NDArray[Any]:
    """Labels [N] in a variant of their set, the same dtype.

    Args:
        labels: 0..C-1.
        against: this class is 1, the rest 0.
        merged: classes from this one on are one.

    Raises:
        ValueError: both.

    >>> changed(np.array([0, 1, 2, 3]), against=2), changed(np.array([0, 1, 2, 3]), merged=2)
    (array([0, 0, 1, 0]), array([0, 1, 2, 2]))
    """
    if against is not None and merged is not None:
        raise ValueError("give against (one class and the rest) or merged (the last ones as one)")
    if against is not None:
        return (labels == against).astype(labels.dtype)
    return labels if merged is None else np.minimum(labels, merged).astype(labels.dtype)
