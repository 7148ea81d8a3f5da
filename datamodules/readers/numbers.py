"""Numbers as people write them in tables: with units, decimal commas, gaps that are marked."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["GAPS", "Form", "Numbers", "written_numbers"]

GAPS = frozenset(
    {"", "-", "--", "–", "—", ".", "?", "na", "n/a", "n.a.", "nan", "-nan", "null", "none", "<na>"}
    | {"#n/a", "#div/0!", "#value!", "#ref!", "#name?", "#num!", "#null!", "missing"}
)
"""What stands in a column of numbers where there is none, in small letters."""

PLAIN = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?|[+-]?inf(inity)?", re.IGNORECASE)
THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2}(,\d{3})+(\.\d+)?")
COMMA = re.compile(r"[+-]?(\d+|\d{1,3}(\.\d{3})+),\d+(e[+-]?\d+)?", re.IGNORECASE)
GROUPED = re.compile(r"[+-]?\d{1,3}(\.\d{3}){2,}")
UNIT = re.compile(r"([€$£¥]?)\s*([+-]?[\d.,]*\d[.]?(?:[eE][+-]?\d+)?)\s*([^\d\s.,+-][^\d]*)?")
SPACED = re.compile(r"(?<=\d)[\u0020\u00a0\u202f'’](?=\d{3}(?!\d))")


Parts = tuple[str, str, str]
"""What stands before a number, the number as it is written, and what stands behind it."""


@dataclass(frozen=True)
class Form:
    """How the numbers of one column are written.

    Args:
        comma: decimal commas; else commas are between thousands.
        unit: what stands beside each number.
    """

    comma: bool = False
    unit: tuple[str, str] = ("", "")  # before it, behind it

    @classmethod
    def of(cls, cells: Counter[str], parts: Mapping[str, Parts | None]) -> Form | None:
        """The form of most of some cells that are no gaps; None where most are no numbers."""
        units: Counter[tuple[str, str]] = Counter()
        for cell, found in parts.items():
            if found is not None:
                units[found[0], found[2]] += cells[cell]
        if not units or 2 * units.most_common(1)[0][1] < cells.total():
            return None
        forms = [cls(comma, units.most_common(1)[0][0]) for comma in (False, True)]
        read = [
            sum(cells[cell] for cell, found in parts.items() if form.value(found) is not None)
            for form in forms
        ]
        best = int(read[1] > read[0])  # "1,234" alone is a thousand
        return forms[best] if 2 * read[best] >= cells.total() else None

    def number(self, cell: str) -> float | None:
        """The number that a cell holds in this form; None for none."""
        return self.value(_parts(cell))

    def value(self, parts: Parts | None) -> float | None:
        """The same, of what a cell consists of."""
        if parts is None or (parts[0], parts[2]) != self.unit:
            return None
        text = parts[1]
        if "," not in text and text.count(".") < 2:
            plain = PLAIN.fullmatch(text) and not (self.comma and "." in text)
            return float(text) if plain else None
        if self.comma:
            written = COMMA.fullmatch(text) or GROUPED.fullmatch(text)
            return float(text.replace(".", "").replace(",", ".")) if written else None
        return float(text.replace(",", "")) if THOUSANDS.fullmatch(text) else None


def _parts(cell: str) -> Parts | None:
    """What a cell consists of; None where it holds no number."""
    text = SPACED.sub("", cell.replace("\u2212", "-").strip())
    if PLAIN.fullmatch(text):
        return "", text, ""
    found = UNIT.fullmatch(text)
    if found is None:
        return None
    return found[1], found[2], (found[3] or "").strip()


@dataclass(frozen=True)
class Numbers:
    """A column of text as numbers.

    Args:
        values: [N] float64; NaN for gaps and for what is no number.
        gaps: how often each mark of a gap occurs.
        odd: rows and cells that are neither numbers nor gaps.
        example: a cell that is not plainly a number, and the number that it is.
    """

    values: np.ndarray[Any, np.dtype[np.float64]]
    gaps: Counter[str]
    odd: tuple[tuple[int, str], ...]
    example: tuple[str, float] | None


def written_numbers(column: pd.Series, form: Form | None = None) -> tuple[Form, Numbers] | None:
    """Read a column whose cells are text or objects as numbers [N].

    Args:
        column: the cells; empty ones are gaps.
        form: how they are written; None finds it.

    Returns:
        the form and the numbers; None where most cells are no numbers.
    """
    empty = column.isna()
    cells = ["" if gap else str(c).strip() for c, gap in zip(column, empty, strict=True)]
    filled = Counter(cell for cell in cells if cell.lower() not in GAPS)
    parts = {cell: _parts(cell) for cell in filled}
    if form is None:
        form = Form.of(filled, parts)
    if form is None:
        return None
    known = {cell: form.value(found) for cell, found in parts.items()}
    values = np.array(
        [np.nan if (v := known.get(cell)) is None else v for cell in cells], dtype=np.float64
    )
    gaps = Counter(cell for cell in cells if cell and cell.lower() in GAPS)
    odd = tuple((i, c) for i, c in enumerate(cells) if c in known and known[c] is None)
    strange = ((c, v) for c, v in known.items() if v is not None and not PLAIN.fullmatch(c))
    return form, Numbers(values, gaps, odd, next(strange, None))
