"""What each item of a data set was, so that a longer one can be told from another one."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

__all__ = ["Inventory"]

SOME = 5  # items that a message names


@dataclass(frozen=True)
class Inventory:
    """The items [N] of a data set, in the order of their positions.

    Args:
        digest: uint64 [N], changes with the item; 0 for items that were not looked at.
        names: of the files, or none.
        what: an item is: "row", "file" or "item".
    """

    digest: npt.NDArray[np.uint64]
    names: Sequence[str] = ()
    what: str = "item"

    def __len__(self) -> int:
        return len(self.digest)

    def content(self, first: int, last: int) -> str:
        """Twelve letters that change with the items from ``first`` to before ``last``."""
        names = "\n".join(self.names[first:last])
        raw = np.ascontiguousarray(self.digest[first:last]).tobytes() + names.encode()
        return hashlib.sha256(raw).hexdigest()[:12]

    def name(self, item: int) -> str:
        """An item in words."""
        return f"{self.names[item]} (item {item})" if self.names else f"{self.what} {item}"

    def trouble(self, now: Inventory) -> str:
        """Which of these items are gone or others now, in words; empty where none is."""
        if self.names:
            there = set(now.names)
            gone = [i for i, name in enumerate(self.names) if name not in there]
        else:
            gone = list(range(len(now), len(self)))
        if gone:
            return self._said(gone, "gone")
        n = len(self)
        seen = (self.digest != 0) & (now.digest[:n] != 0)
        changed = np.flatnonzero(seen & (self.digest != now.digest[:n])).tolist()
        return self._said(changed, "changed") if changed else ""

    def _said(self, items: Sequence[int], how: str) -> str:
        more = f" and {len(items) - SOME} more" if len(items) > SOME else ""
        verb = "is" if len(items) == 1 else "are"
        return f"{', '.join(map(self.name, items[:SOME]))}{more} {verb} {how}"

    def save(self, path: Path) -> None:
        """Write it, as arrays alone."""
        names = np.frombuffer("\0".join(self.names).encode(), np.uint8)
        with open(path, "wb") as file:
            np.savez(file, digest=self.digest, names=names, what=np.array(self.what))

    @classmethod
    def load(cls, path: Path) -> Inventory:
        """Read what :meth:`save` wrote.

        Raises:
            ValueError: it is no such file.
        """
        try:
            with np.load(path, allow_pickle=False) as held:
                text = held["names"].tobytes().decode()
                names = tuple(text.split("\0")) if text else ()
                return cls(held["digest"].astype(np.uint64), names, str(held["what"]))
        except Exception as error:  # a damaged archive may raise anything
            raise ValueError(f"{path} holds no list of items: {error}") from error
