"""Tables that people filled in, line by line as they stand in the file."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Line", "Sheet", "read_sheet"]


@dataclass(frozen=True)
class Line:
    """One line of a table of answers."""

    line: int  # in the file, from 1
    index: str  # as written
    cells: Sequence[str]  # of the answer columns
    annotator: str = ""

    @property
    def item(self) -> int | None:
        """The index as a number; None where it is none."""
        return int(self.index) if self.index.isdecimal() and self.index.isascii() else None


@dataclass(frozen=True)
class Sheet:
    """A table of answers."""

    path: Path
    rows: Sequence[Line]

    @property
    def empty(self) -> bool:
        """Whether nobody has written an answer."""
        return not any(any(row.cells) for row in self.rows)

    @property
    def items(self) -> list[int | None]:
        """The items in the order of the lines."""
        return [row.item for row in self.rows]


def _text(cell: str) -> str:
    """A cell without the mark by which tables keep spreadsheets from taking it for a formula."""
    return cell[1:] if cell[:1] == "'" and cell[1:2] in tuple("=+-@") else cell


def read_sheet(path: Path, columns: Sequence[str]) -> Sheet:
    """A table as a spreadsheet leaves it: commas, semicolons or tabs, with or without a mark.

    Args:
        path: the CSV file.
        columns: of the answers.

    Raises:
        ValueError: a column is missing, or the file is no text.
    """
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            first = file.readline()
            file.seek(0)
            between = max(",;\t", key=first.count)
            reader = csv.reader(file, delimiter=between)
            cells = [(reader.line_num, [_text(cell.strip()) for cell in row]) for row in reader]
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path} cannot be read as a table ({error}); save it as UTF-8") from None
    _, names = cells[0] if cells else (1, [])
    if missing := [name for name in ("index", *columns) if name not in names]:
        raise ValueError(
            f"{path}: the header must name {', '.join(('index', *columns))}; "
            f"{', '.join(missing)} missing, it is {', '.join(names) or 'empty'}"
        )

    def at(row: Sequence[str], name: str) -> str:
        place = names.index(name) if name in names else len(row)
        return row[place] if place < len(row) else ""

    rows = [
        Line(line, at(row, "index"), [at(row, c) for c in columns], at(row, "annotator"))
        for line, row in cells[1:]
        if any(row)
    ]
    return Sheet(path, rows)
