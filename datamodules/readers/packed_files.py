"""What archives and compressed streams hold, each with a bound on what it unpacks to."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from lightning_al.files import UNPACKED, bounded, within

__all__ = ["bounded_zip", "npz_arrays", "plain_stream", "unpack_gzip", "zip_member"]

CHUNK = 1 << 20
STREAMS: dict[str, Callable[[Path], Any]] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
UNREADABLE = (OSError, ValueError, EOFError, MemoryError, zipfile.BadZipFile, zlib.error)


def npz_arrays(
    file: Path | IO[bytes], names: Iterable[str], most: int | None = None
) -> dict[str, npt.NDArray[Any]]:
    """Some arrays of an ``.npz`` file, by name; none may need pickle.

    Args:
        file: its path, or the file itself.
        names: of the arrays.
        most: bytes that one of them may have.

    Raises:
        ValueError: an array is missing, damaged, or larger than it may be.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            found = {}
            for name in names:
                raw = io.BytesIO(zip_member(archive, f"{name}.npy", most))
                found[name] = np.load(raw, allow_pickle=False)
            return found
    except UNREADABLE as error:  # a header may tell of more than there is room for
        raise ValueError(str(error) or "it is no .npz file") from error


def zip_member(archive: zipfile.ZipFile, name: str, most: int | None = None) -> bytes:
    """A member of a zip archive, by its whole name.

    Raises:
        ValueError: there is none, or it unpacks to more than ``most`` bytes.
    """
    if name not in archive.namelist():
        held = ", ".join(archive.namelist()[:10]) or "nothing"
        raise ValueError(f"it lacks {name}: the archive holds {held}")
    with archive.open(name) as file:
        return bounded(file, UNPACKED if most is None else most, name)


def bounded_zip(file: Path | IO[bytes], most: int | None = None) -> None:
    """Refuse a zip archive (an ``.xlsx`` file is one) whose members are too large together.

    Raises:
        ValueError: they say so themselves.
    """
    if not zipfile.is_zipfile(file):
        return
    with zipfile.ZipFile(file) as archive:
        size = sum(member.file_size for member in archive.infolist())
        within(size, UNPACKED if most is None else most, "it")


def unpack_gzip(path: Path, place: Path, most: int | None = None) -> None:
    """Unpack a gzipped file to another place.

    Raises:
        ValueError: it is damaged, or unpacks to more than ``most`` bytes.
    """
    done = 0
    try:
        with gzip.open(path) as packed, place.open("wb") as out:
            while part := packed.read(CHUNK):
                done += len(part)
                within(done, UNPACKED if most is None else most, str(path))
                out.write(part)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"{path} is a damaged gzip file: {error}; fetch it again") from error


@contextmanager
def plain_stream(path: Path, most: int | None = None) -> Iterator[Path | IO[bytes]]:
    """A compressed file as the bytes that it holds, by the end of its name; any other as it is.

    Raises:
        ValueError: it is damaged, or unpacks to more than ``most`` bytes.
    """
    suffix = path.suffix.lower()
    try:
        if suffix == ".zip":
            bounded_zip(path, most)
        if suffix not in STREAMS:
            yield path
            return
        with io.BufferedReader(_Bounded(STREAMS[suffix](path), path, most), CHUNK) as file:
            yield file
    except (EOFError, gzip.BadGzipFile, zlib.error, lzma.LZMAError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} is a damaged {suffix} file: {error}; fetch it again") from error


class _Bounded(io.RawIOBase):
    """A stream that ends with an error where it goes beyond its bound."""

    def __init__(self, file: IO[bytes], path: Path, most: int | None) -> None:
        self.file, self.path, self.done = file, path, 0
        self.most = UNPACKED if most is None else most

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        part = self.file.read(len(buffer))
        self.done += len(part)
        within(self.done, self.most, str(self.path))
        buffer[: len(part)] = part
        return len(part)

    def close(self) -> None:
        self.file.close()
        super().close()
