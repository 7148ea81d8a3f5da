"""Where data sets lie, which files are accepted, and how a missing one is downloaded.

A data set is a few :class:`Resource` records. Each lists its accepted :class:`Source` records, the
original first: a folder and a file below the data root, the SHA-256 where it is known, the parser,
and the address where the file can be had. All sources of a resource give the same arrays.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import sys
import urllib.request
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from tqdm.auto import tqdm

from lightning_al.files import replacing

__all__ = ["Resource", "Source", "cache_root", "data_root", "download", "sha256_of"]

ENVIRONMENT = "LIGHTNING_AL_DATA"
CHUNK = 1 << 20

T = TypeVar("T")


def data_root(data_dir: str | os.PathLike[str] | None = None) -> Path:
    """The folder that holds the data sets.

    ``data_dir`` if given, else ``$LIGHTNING_AL_DATA``, else ``lightning_al`` in the user's cache
    folder. The folder need not exist yet.
    """
    if chosen := data_dir or os.environ.get(ENVIRONMENT):
        return Path(chosen).expanduser()
    return cache_root()


def cache_root() -> Path:
    """The folder ``lightning_al`` in the user's cache folder, for what can be made again."""
    if sys.platform == "win32":
        cache = os.environ.get("LOCALAPPDATA") or "~/AppData/Local"
    elif sys.platform == "darwin":
        cache = "~/Library/Caches"
    else:
        cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(cache).expanduser() / "lightning_al"


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, as 64 lower-case hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@dataclass(frozen=True)
class Source(Generic[T]):
    """One accepted place and form of a file.

    Args:
        folder: below the data root ("" for the root itself).
        file: name of the file (or of a folder, for a data set that comes unpacked).
        parse: reads it, and raises ``ValueError`` when rows x columns are not as expected.
        url: where to have it; None where it is accepted but cannot be downloaded in this form.
        sha256: of the file; None where it is not known.
    """

    folder: str
    file: str
    parse: Callable[[Path], T]
    url: str | None = None
    sha256: str | None = None

    def path(self, root: Path) -> Path:
        """Where the file belongs below ``root``."""
        return root / self.folder / self.file

    def expected_sha256(self, root: Path) -> str | None:
        """The SHA-256 that is known, or else was recorded at the first download."""
        record = _record(self.path(root))
        if self.sha256 is None and record.is_file():
            return record.read_text().split()[0]
        return self.sha256

    def read(self, root: Path) -> T:
        """Check and parse the file below ``root``.

        Raises:
            ValueError: another SHA-256, or the parser refuses it; the file is named.
        """
        path = self.path(root)
        expected = self.expected_sha256(root)
        if expected is not None and path.is_file() and (found := sha256_of(path)) != expected:
            raise ValueError(
                f"{path} is damaged or another file: expected sha256 {expected}, found {found}; "
                "delete it to have it downloaded again"
            )
        return self.parse(path)


@dataclass(frozen=True)
class Resource(Generic[T]):
    """One part of a data set: a name for messages, and its sources, the original first."""

    name: str
    sources: tuple[Source[T], ...]

    def find(self, root: Path) -> Source[T] | None:
        """The first source whose file is there."""
        return next((s for s in self.sources if s.path(root).exists()), None)

    def fetch(self, root: Path) -> Path:
        """The path of the file below ``root``; downloaded where no source is there.

        Raises:
            FileNotFoundError: it could not be had; says which file, from where, why, and where to
                put it by hand.
        """
        if found := self.find(root):
            return found.path(root)
        failures = []
        for source in self.sources:
            if source.url is None:
                continue
            try:
                return _fetch(source, source.url, root)
            except (OSError, ValueError, http.client.HTTPException) as error:
                failures.append(f"{source.url}: {error}")
        raise FileNotFoundError(self._missing(root, failures))

    def read(self, root: Path) -> T:
        """Parse the first source that is there; never downloads.

        Raises:
            FileNotFoundError: none is there.
            ValueError: damaged, or not as expected.
        """
        found = self.find(root)
        if found is None:
            raise FileNotFoundError(self._missing(root, []))
        return found.read(root)

    def _missing(self, root: Path, failures: list[str]) -> str:
        first = self.sources[0]
        lines = [f"{self.name}: {first.file} is missing, looked for"]
        lines += [f"  {path}" for path in dict.fromkeys(s.path(root) for s in self.sources)]
        if failures:
            lines += ["and the download failed:"] + [f"  {failure}" for failure in failures]
        elif first.url:
            lines += ["call prepare_data() to download it, or"]
        have = f" (from {first.url})" if first.url else ""
        lines += [
            f"put the file{have} at {first.path(root)}, "
            f"or name another data folder by data_dir or ${ENVIRONMENT}"
        ]
        return "\n".join(lines)


def _record(path: Path) -> Path:
    return path.with_name(path.name + ".sha256")


def _fetch(source: Source[Any], url: str, root: Path) -> Path:
    """Download one source; an unknown SHA-256 is recorded once the parser accepts the file."""
    path = source.path(root)
    expected = source.expected_sha256(root)
    check = None if source.sha256 is not None else source.parse
    digest = download(url, path, sha256=expected, check=check)
    if expected is None:
        _record(path).write_text(f"{digest}  {path.name}\n")
    return path


def download(
    url: str,
    path: Path,
    *,
    sha256: str | None = None,
    check: Callable[[Path], Any] | None = None,
    timeout: float = 30.0,
) -> str:
    """Download ``url`` to ``path`` in one step, so that a broken file is never seen there.

    The bytes go to a temporary file in the same folder, which takes its final name only when
    complete and right; whatever happens before, it is removed.

    Args:
        url: address, http or https.
        path: final place; its folder is made.
        sha256: the digest that is asked for, if known.
        check: called with the temporary file; raises ``ValueError`` to refuse it.
        timeout: seconds without an answer after which to give up.

    Returns:
        The SHA-256 of the file.

    Raises:
        OSError: the server or the disk would not.
        ValueError: fewer bytes than announced, another digest, or ``check`` refused the file.
    """
    request = urllib.request.Request(url, headers={"User-Agent": "lightning-al"})
    with replacing(path) as partial:
        with (
            partial.open("wb") as file,
            closing(urllib.request.urlopen(request, timeout=timeout)) as answer,
        ):
            digest = _copy(answer, file, path.name)
        if sha256 is not None and digest != sha256:
            raise ValueError(f"wrong content: expected sha256 {sha256}, got {digest}")
        if check is not None:
            check(partial)
    return digest


def _copy(answer: Any, file: Any, name: str) -> str:
    """Copy a response to a file behind a progress bar; returns the SHA-256."""
    length = answer.headers.get("Content-Length")
    total = int(length) if length is not None else None
    digest, done = hashlib.sha256(), 0
    with tqdm(total=total, unit="B", unit_scale=True, desc=name, leave=False) as bar:
        while chunk := answer.read(CHUNK):
            file.write(chunk)
            digest.update(chunk)
            done += len(chunk)
            bar.update(len(chunk))
    if total is not None and done != total:
        raise ValueError(f"cut off after {done:,} of {total:,} bytes")
    return digest.hexdigest()
