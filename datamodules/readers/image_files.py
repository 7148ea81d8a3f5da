"""Readers of the image files: IDX (MNIST), CIFAR-10 batches, and the CIFAR-10 subset."""

from __future__ import annotations

import io
import math
import pickle
import tarfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt

from lightning_al.files import UNPACKED, bounded

from .packed_files import CHUNK, npz_arrays, unpack_gzip

__all__ = ["Arrays", "read_cifar10", "read_idx", "read_npz"]

Bytes = npt.NDArray[np.uint8]

GZIP_MAGIC = b"\x1f\x8b"
IDX_UINT8 = 8  # the type code of unsigned bytes
IDX_FAULTS = (AssertionError, KeyError, RuntimeError, TypeError, ValueError)  # of torchvision's
BATCHES = (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch")


@dataclass(frozen=True)
class Arrays:
    """An image data set: images uint8 [N, channels, height, width], labels uint8 [N]."""

    train_images: Bytes
    train_labels: Bytes
    test_images: Bytes
    test_labels: Bytes

    def __post_init__(self) -> None:
        for part in ("train", "test"):
            images, labels = getattr(self, f"{part}_images"), getattr(self, f"{part}_labels")
            if images.ndim != 4 or labels.shape != images.shape[:1]:
                raise ValueError(
                    f"{part} images must be [N, channels, height, width] with labels [N], got "
                    f"{list(images.shape)} and {list(labels.shape)}"
                )


def read_idx(path: Path, shape: tuple[int, ...]) -> Bytes:
    """Read unsigned bytes from an IDX file, plain or gzipped: [*shape], by torchvision's reader.

    The format is that of LeCun, Cortes & Burges (1998). torchvision reads plain files by their
    path, so a gzipped one is unpacked to a temporary file first.

    Args:
        path: the file; compression is seen from its first bytes, not from its name.
        shape: what the file must hold, one to three axes.

    Raises:
        ValueError: not an IDX file of that shape; the file is named.
    """
    from torchvision.datasets.mnist import read_sn3_pascalvincent_tensor

    with TemporaryDirectory() as folder:
        plain = _unpacked(path, Path(folder), math.prod(shape) + CHUNK)
        try:
            found = read_sn3_pascalvincent_tensor(str(plain)).numpy()
        except IDX_FAULTS:  # it says no more than that something is wrong
            found = np.empty(0)
        if found.dtype == np.uint8 and found.shape == shape:
            return found
        raw = plain.read_bytes()
    head = bytes([0, 0, IDX_UINT8, len(shape)]) + np.array(shape, ">u4").tobytes()
    raise ValueError(
        f"{path} must be an IDX file of unsigned bytes {list(shape)}: expected "
        f"{len(head) + math.prod(shape):,} bytes that start with {head.hex(' ')}, got {len(raw):,} "
        f"that start with {raw[: len(head)].hex(' ') or 'nothing'}; fetch it again"
    )


def _unpacked(path: Path, folder: Path, most: int) -> Path:
    """The file itself, or where it is gzipped its content in a file of ``folder``."""
    with path.open("rb") as file:
        if file.read(2) != GZIP_MAGIC:
            return path
    plain = folder / "unpacked"
    unpack_gzip(path, plain, most)
    return plain


class _ArraysOnly(pickle.Unpickler):
    """Builds NumPy arrays and plain containers; any other class is refused, never run."""

    ALLOWED = frozenset(
        {
            ("numpy", "dtype"),
            ("numpy", "ndarray"),
            ("numpy.core.multiarray", "_reconstruct"),
            ("numpy._core.multiarray", "_reconstruct"),
            ("_codecs", "encode"),
        }
    )

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self.ALLOWED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which is not allowed")
        module = module.replace("numpy.core", "numpy._core")
        return super().find_class(module, name)


def _read_batch(raw: bytes, name: str, rows: int) -> tuple[Bytes, Bytes]:
    try:
        batch = _ArraysOnly(io.BytesIO(raw), encoding="latin1").load()
        images, labels = batch["data"], np.asarray(batch["labels"], np.uint8)
    except Exception as error:  # a damaged pickle may raise anything
        raise ValueError(f"{name} is no CIFAR-10 batch: {error}") from error
    if images.dtype != np.uint8 or images.shape != (rows, 3072) or labels.shape != (rows,):
        raise ValueError(
            f"{name} must hold {rows} x 3072 bytes and {rows} labels, "
            f"it holds {list(images.shape)} {images.dtype} and {list(labels.shape)}"
        )
    return images.reshape(-1, 3, 32, 32), labels


def read_cifar10(path: Path, rows: int = 10_000) -> Arrays:
    """Read CIFAR-10 from the original archive, or from the folder that it unpacks to.

    Pickles are read by an unpickler that builds arrays only (Krizhevsky, 2009, for the format).

    Args:
        path: ``cifar-10-python.tar.gz`` or ``cifar-10-batches-py``.
        rows: images in each of the six batches.

    Raises:
        ValueError: a batch is missing, damaged, or of another size; the file is named.
    """
    read = _from_folder if path.is_dir() else _from_archive
    parts = [_read_batch(raw, f"{path}/{name}", rows) for name, raw in read(path).items()]
    images, labels = zip(*parts, strict=True)
    return Arrays(np.concatenate(images[:5]), np.concatenate(labels[:5]), images[5], labels[5])


def _from_folder(path: Path) -> dict[str, bytes]:
    missing = [name for name in BATCHES if not (path / name).is_file()]
    if missing:
        raise ValueError(f"{path} lacks {', '.join(missing)}; unpack the archive anew")
    return {name: (path / name).read_bytes() for name in BATCHES}


def _from_archive(path: Path) -> dict[str, bytes]:
    found = {}
    try:
        with tarfile.open(path) as archive:
            for member in archive:
                name = member.name.rsplit("/", 1)[-1]
                if name in BATCHES and (file := archive.extractfile(member)) is not None:
                    found[name] = bounded(file, UNPACKED, f"{path}: {name}")
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        raise ValueError(f"{path} is a damaged archive: {error}") from error
    if missing := [name for name in BATCHES if name not in found]:
        raise ValueError(f"{path} lacks {', '.join(missing)}")
    return {name: found[name] for name in BATCHES}


def read_npz(path: Path, rows: tuple[int, int] = (10_000, 2_000)) -> Arrays:
    """Read the CIFAR-10 subset: ``X_train`` [N, 32, 32, 3], ``y_train`` [N], and ``X_test`` ….

    Args:
        path: the ``.npz`` file; no array in it may need pickle.
        rows: number of training and of test images.

    Raises:
        ValueError: arrays are missing or of another shape; the file is named.
    """
    try:
        arrays = npz_arrays(path, ("X_train", "y_train", "X_test", "y_test"))
    except ValueError as error:
        raise ValueError(f"{path} is no CIFAR-10 subset: {error}") from error
    for part, n in zip(("train", "test"), rows, strict=True):
        images, labels = arrays[f"X_{part}"], arrays[f"y_{part}"]
        if images.dtype != np.uint8 or images.shape != (n, 32, 32, 3) or labels.shape != (n,):
            raise ValueError(
                f"{path}: X_{part} must be uint8 [{n}, 32, 32, 3] with y_{part} [{n}], "
                f"got {images.dtype} {list(images.shape)} and {list(labels.shape)}"
            )
    return Arrays(
        _channels_first(arrays["X_train"]),
        arrays["y_train"].astype(np.uint8),
        _channels_first(arrays["X_test"]),
        arrays["y_test"].astype(np.uint8),
    )


def _channels_first(images: Bytes) -> Bytes:
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2))
