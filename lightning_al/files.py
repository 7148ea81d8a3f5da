"""Files that are whole or absent: written beside their place, then moved there."""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

__all__ = [
    *(
        "UNPACKED",
        "bounded",
        "cell",
        "disk_errors",
        "file_hash",
        "if_writable",
        "read_only",
        "replacing",
        "within",
    ),
]

log = logging.getLogger(__name__)

FULL = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC), errno.EFBIG)
CLOSED = (errno.EROFS, errno.EACCES, errno.EPERM)
BROKEN = (errno.EIO,)


@contextmanager
def replacing(path: str | Path, size: int | None = None, *, sync: bool = True) -> Iterator[Path]:
    """A temporary neighbour of ``path`` that takes its place when the block ends well.

    A crash at any moment leaves the old file or the new one. Folders that are missing are made;
    the suffix is kept, for writers that read the format from it.

    Args:
        path: of the file.
        size: bytes that are to be written, where that is known; for messages.
        sync: wait until it lies on the disk; without, it may be empty after a loss of power, which
            will do for what is made again from the journal.

    Raises:
        OSError: the disk would not take it; the message names the file and how much it was.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    with disk_errors(f"cannot write {path}", path.parent, size):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield temporary
            if sync:
                with open(temporary, "rb+") as file:
                    os.fsync(file.fileno())
            os.replace(temporary, path)
        finally:
            with suppress(OSError):  # on a disk that takes nothing there is nothing to remove
                temporary.unlink(missing_ok=True)


@contextmanager
def disk_errors(failed: str, folder: Path | None = None, size: int | None = None) -> Iterator[None]:
    """Say what ``failed``, how much it was, and what to do, where the disk is full or broken.

    Args:
        failed: in words.
        folder: in which it is written.
        size: bytes that are to be written.

    Raises:
        OSError: with the number of the one that happened inside.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in FULL + CLOSED + BROKEN or getattr(error, "told", False):
            raise  # of something else, or said already
        full = error.errno in FULL
        much = f" ({_much(folder, size)})" if full and (folder or size is not None) else ""
        mend = (
            "make room and run the same command again, which goes on from there"
            if full
            else "mend that and run the same command again, which goes on from there"
        )
        told = OSError(
            error.errno,
            f"{failed}{much}: {error.strerror or error}; nothing that was written before is lost: "
            f"{mend}",
        )
        told.told = True  # type: ignore[attr-defined]
        raise told from error


def _much(folder: Path | None, size: int | None) -> str:
    """How much was to be written, and how much the disk has left."""
    parts = [] if size is None else [f"{_bytes(size)} to write"]
    with suppress(OSError):
        if folder is not None:
            found = os.statvfs(folder)
            parts.append(f"{_bytes(found.f_bavail * found.f_frsize)} free on that disk")
    return ", ".join(parts) or "the disk is full"


def _bytes(count: int) -> str:
    """A number of bytes for people.

    >>> _bytes(900), _bytes(3_200_000)
    ('900 bytes', '3.2 MB')
    """
    for unit, of in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= of:
            return f"{count / of:.1f} {unit}"
    return f"{count} bytes"


def read_only(error: OSError) -> bool:
    """Whether an error says that nothing may be written there at all."""
    return error.errno in CLOSED


@contextmanager
def if_writable(path: Path) -> Iterator[None]:
    """Where nothing may be written at all the block is left, with a notice, and no error."""
    try:
        yield
    except OSError as error:
        if not read_only(error):
            raise
        log.warning("%s is not written anew: %s", path, os.strerror(error.errno or 0))


UNPACKED = 2**31
"""Bytes that a member of an archive may have."""


def bounded(file: IO[bytes], most: int, what: str) -> bytes:
    """All of a file, of an archive's member say, that is as large as it may be at most.

    Raises:
        ValueError: it goes on behind ``most`` bytes.
    """
    data = file.read(most + 1)
    within(len(data), most, what)
    return data


def within(size: int, most: int, what: str) -> None:
    """Refuse what unpacks to more bytes than it may.

    Raises:
        ValueError: it does; says how many it may be.
    """
    if size > most:
        raise ValueError(
            f"{what} unpacks to more than {_bytes(most)}, which it should not hold; fetch it anew, "
            "or unpack it by hand where you know who made it"
        )


FORMULA = re.compile(r"[=+\-@\t\r]")
NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?|[-+](inf|nan)")


def cell(value: Any) -> Any:
    """A value as a table holds it: a text that a spreadsheet would take for a formula is marked.

    Numbers stay numbers, also those that are written as text.

    >>> cell("=1+1"), cell("-1.5"), cell("@me"), cell(-2), cell("a=b")
    ("'=1+1", '-1.5', "'@me", -2, 'a=b')
    """
    if isinstance(value, str) and FORMULA.match(value) and not NUMBER.fullmatch(value):
        return f"'{value}"
    return value


def file_hash(path: str | Path) -> str:
    """What a file holds, as 32 hexadecimal digits of its SHA-256."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:32]
