"""Cells in columns, for a terminal."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["aligned"]


def aligned(rows: Sequence[Sequence[str]], left: int = 0) -> list[str]:
    """A line a row, all columns as wide as their widest cell.

    Args:
        rows: of as many cells each; the heads are one of them.
        left: columns, the first ones, whose cells begin below each other; those of the others end.

    >>> aligned([["name", "n"], ["a", "10"]], left=1)
    ['name   n', 'a     10']
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]

    def line(row: Sequence[str]) -> str:
        cells = zip(row, widths, strict=True)
        set_ = [c.ljust(w) if i < left else c.rjust(w) for i, (c, w) in enumerate(cells)]
        return "  ".join(set_).rstrip()

    return [line(row) for row in rows]
