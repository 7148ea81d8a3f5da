"""Rows of ``sets.toml`` as specifications of tables."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import partial
from itertools import product
from typing import Any

from ..readers.table_files import FORMS, Array, Parser
from ..sources import Resource, Source
from . import honeypots, synthetic  # noqa: F401 (they fill the registry of drawings)
from .checked_row import Named, arguments, check_keys, chosen, refuse
from .drawings import DRAWINGS
from .table_spec import TableSpec

__all__ = ["FileRow", "table_from_row"]

Parts = tuple[tuple[Resource[Array], ...], ...]


@dataclass(frozen=True)
class FileRow:
    """One accepted file, as a row writes it.

    Args:
        folder: below the data root.
        file: its name; None takes the last part of ``url``.
        url: where to have it.
        sha256: where it is known.
        parser: how it is read; None takes that of the set.
        columns: that it holds; None takes all of the set, and their number is free where that is
            not known.
        skip: columns in front of these that are left out, and need not be numbers.
        member: its name inside a zip archive.
        part: which block of rows and which block of columns of the table.
        rows: of its block; None takes an even share of all.
    """

    folder: str
    file: str | None = None
    url: str | None = None
    sha256: str | None = None
    parser: Named | None = None
    columns: tuple[str, ...] | None = None
    skip: tuple[str, ...] = ()
    member: str | None = None
    part: tuple[int, int] = (0, 0)
    rows: int | None = None


@dataclass(frozen=True)
class _Origin:
    """Where the numbers of a set come from, as its row writes it."""

    files: tuple[FileRow, ...] = ()
    parser: Named | None = None
    draw: Named | None = None


MADE = ("name", "parts", "draw")  # what is not in a row as the specification has it
ORIGIN = tuple(each.name for each in fields(_Origin))


def table_from_row(name: str, row: Mapping[str, Any]) -> TableSpec:
    """The specification of a table.

    Args:
        name: of the set.
        row: its keys, as in ``sets.toml``.

    Raises:
        ValueError: a row that is wrong; names the set, the key, what was expected, and the mend.
    """
    where = f"data set {name!r}"
    facts = {key: value for key, value in row.items() if key not in ORIGIN}
    known = [each.name for each in fields(TableSpec) if each.name not in MADE]
    check_keys(row, [*known, *ORIGIN], where)
    given = {key: value for key, value in row.items() if key in ORIGIN}
    origin = _Origin(**arguments(_Origin, given, where))
    values = arguments(TableSpec, facts, where, without=MADE)
    values["columns"] = values["columns"] or None
    spec = TableSpec(name, **values)
    _check(spec, origin, where)
    if origin.draw is not None:
        drawing, more = chosen(DRAWINGS, origin.draw, where, "draw", without=("variant",))
        return TableSpec(name, draw=partial(drawing, **more), **values)
    return TableSpec(name, parts=_parts(spec, origin, where), **values)


def _check(spec: TableSpec, origin: _Origin, where: str) -> None:
    """Refuse facts that contradict each other."""
    if bool(origin.files) == (origin.draw is not None):
        got = "both" if origin.files else "neither"
        raise ValueError(f"{where}: expected either files or draw, got {got}; give one of them")
    if spec.columns is not None and spec.target not in spec.columns:
        refuse(where, "target", f"one of the columns {', '.join(spec.columns)}", spec.target)
    for name, levels in spec.categories.items():
        if spec.columns is None or name not in spec.columns or name == spec.target:
            refuse(where, "categories", "of columns that are no target", name)
        if not isinstance(levels, list) or not all(isinstance(v, str) for v in levels):
            refuse(where, f"categories.{name}", "a list of texts, the levels", levels)
        if len(set(levels)) != len(levels) or len(levels) < 2:
            refuse(where, f"categories.{name}", "two levels or more, each once", levels)
    if spec.marks is not None and spec.marks not in spec.dropped:
        refuse(where, "marks", f"one of the dropped columns {', '.join(spec.dropped)}", spec.marks)
    if bool(spec.labels) != (spec.task == "classification"):
        wanted = "the classes of a classification, and left out of a regression"
        refuse(where, "labels", wanted, spec.labels)
    if len(spec.class_names) != len(spec.labels):
        refuse(where, "class_names", f"a name for each of {spec.labels}", spec.class_names)
    if spec.counts is not None and (
        len(spec.counts) != len(spec.labels) or sum(spec.counts) != spec.rows
    ):
        wanted = f"{len(spec.labels)} numbers that sum to rows = {spec.rows}"
        refuse(where, "counts", wanted, spec.counts)


def _parts(spec: TableSpec, origin: _Origin, where: str) -> Parts:
    """The files by block of rows and block of columns."""
    places = {file.part for file in origin.files}
    down, across = (max(place[axis] for place in places) + 1 for axis in (0, 1))
    if places != set(product(range(down), range(across))):
        got = [list(place) for place in sorted(places)]
        refuse(where, "files", "of parts that count from [0, 0] without a gap", got)
    heights = _heights(spec, origin, down, where)
    sources: dict[tuple[int, int], list[Source[Array]]] = {place: [] for place in places}
    for i, file in enumerate(origin.files):
        made = _source(file, f"files[{i}]", spec, origin.parser, heights[file.part[0]], where)
        sources[file.part].append(made)

    def one(place: tuple[int, int]) -> Resource[Array]:
        return Resource(spec.title or spec.name, tuple(sources[place]))

    return tuple(tuple(one((i, j)) for j in range(across)) for i in range(down))


def _heights(spec: TableSpec, origin: _Origin, down: int, where: str) -> list[int]:
    """The rows of each block that lies below the others."""
    named = [{file.rows for file in origin.files if file.part[0] == i} for i in range(down)]
    if all(each == {None} for each in named):
        if spec.rows % down:
            wanted = f"a multiple of the {down} parts that lie below each other"
            refuse(where, "rows", wanted, spec.rows)
        return [spec.rows // down] * down
    heights = [count for each in named if len(each) == 1 for count in each if count is not None]
    if len(heights) < down or sum(heights) != spec.rows:
        got = [file.rows for file in origin.files]
        refuse(where, "files", f"of rows that sum to {spec.rows}, one number a block", got)
    return heights


def _source(
    file: FileRow, key: str, spec: TableSpec, parser: Named | None, rows: int, where: str
) -> Source[Array]:
    if (reader := file.parser or parser) is None:
        raise ValueError(f"{where}: {key}.parser is missing; add it to the file or to the set")
    at = f"{key}.parser" if file.parser else "parser"
    form, more = chosen(FORMS, reader, where, at)
    name = file.file or (file.url or "").rsplit("/", 1)[-1]
    if not name:
        raise ValueError(f"{where}: {key}.file is missing; add it, or an url that ends with it")
    if file.sha256 is not None and not re.fullmatch("[0-9a-f]{64}", file.sha256):
        refuse(where, f"{key}.sha256", "64 digits 0-9 and a-f", file.sha256)
    columns: Sequence[str] | None = file.columns or spec.columns
    names = None if columns is None else (*file.skip, *columns)
    categories = {name: tuple(levels) for name, levels in spec.categories.items()}
    parse = Parser(form(**more), names, rows, file.skip, file.member, categories)
    return Source(file.folder, name, parse, file.url, file.sha256)
