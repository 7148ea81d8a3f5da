"""The command ``answers``: what was answered in a run, and how it is corrected or withdrawn."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from lightning_al.assembly.building import Assembly
from lightning_al.assembly.recall import parse_run
from lightning_al.history.aligned import aligned
from lightning_al.journal.fixes import (
    SET_ASIDE,
    WITHDRAWN,
    Fix,
    answers_of,
    fix_answers,
    standing_in,
)
from lightning_al.journal.journal import read_journal
from lightning_al.oracles.forms import Form, form_of

from .typed import Words

__all__ = ["answers_command"]

WORDS = {"withdraw": WITHDRAWN, "skip": SET_ASIDE}
"""Instead of an answer: back to the pool, or never asked again."""


def answers_command(words: Sequence[str]) -> list[Any]:
    """List the answers of a run, or fix some; the purchases, or the lines that were written."""
    parser = Words(
        prog="lightning-al answers",
        usage="lightning-al answers FOLDER [--fix ITEM=ANSWER ...] [--id COLUMN] [--why TEXT]",
        description="The answers of a run. With --fix some are corrected (12=cat), withdrawn "
        "(12=withdraw: the item may be asked for again) or set aside (12=skip: never again); the "
        "command of the run then goes on, and fits on what holds now.",
        allow_abbrev=False,
    )
    parser.add_argument("folder", type=Path, help="of a run")
    parser.add_argument(
        "--fix",
        nargs="+",
        default=[],
        metavar="ITEM=ANSWER",
        help="by position, or by ID with --id; or CSV files with the columns index (or the ID) and "
        "answer, perhaps why",
    )
    parser.add_argument("--id", help="column of the table that names items; path for files")
    parser.add_argument("--why", default="", help="in words, for the journal")
    known = parser.parse_args(list(words))
    data = Assembly(parse_run(known.folder)).datamodule
    records, _ = read_journal(known.folder / "journal.jsonl")
    standing = standing_in(known.folder, data, records)
    if not known.fix:
        found = answers_of(standing)
        _show(found, data, known.id)
        return list(found)
    form, names = form_of(data), _names(data, known.id)
    asked = [pair for text in known.fix for pair in _pairs(text, form, known.id or "index")]
    fixes = [Fix(_item(name, names, known.id), why=why, **_said(a, form)) for name, a, why in asked]
    written = fix_answers(known.folder, data, fixes, known.why)
    for line in written:
        print(f"item {line['item']}: {line['shown'][0]} → {line['shown'][1]}")
    if len(written) < len(fixes):
        print(f"{len(fixes) - len(written)} answer(s) are so already")
    if written:
        print("the command of the run goes on with them")
    return list(written)


def _pairs(text: str, form: Form, column: str) -> list[tuple[str, list[str], str]]:
    """(item, cells of its answer, why) of one word, or of all lines of a CSV."""
    name, equals, answer = text.partition("=")
    if equals:
        several = len(form.columns) > 1 and answer not in WORDS
        return [(name.strip(), [c.strip() for c in answer.split(",")] if several else [answer], "")]
    path = Path(text)
    if not path.is_file():
        raise ValueError(f"--fix takes ITEM=ANSWER or a CSV file, got {text!r}")
    with open(path, newline="", encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    wanted = [column, *form.columns]
    if missing := [c for c in wanted if rows and c not in rows[0]]:
        raise ValueError(
            f"{path}: the header must name {', '.join(wanted)}; {', '.join(missing)} missing"
        )
    return [
        (row[column].strip(), [(row[c] or "").strip() for c in form.columns], row.get("why") or "")
        for row in rows
    ]


def _said(cells: Sequence[str], form: Form) -> dict[str, Any]:
    """What a fix does: a value, or where the item goes.

    Raises:
        ValueError: no answer of these data.
    """
    if cells[0] in WORDS and cells[0] not in form.names:
        return {"values": None, "to": WORDS[cells[0]]}
    if len(cells) != len(form.columns):
        raise ValueError(f"expected {', '.join(form.columns)}, got {','.join(cells)!r}")
    value, fault = form.read(cells)
    if fault:
        raise ValueError(f"{fault}; or withdraw")
    return {"values": form.answers([value])}


def _names(data: Any, column: str | None) -> Mapping[str, int] | None:
    """Item of each ID; None where items go by their position.

    Raises:
        ValueError: no such column, or an ID that names two items.
    """
    if column is None:
        return None
    cells = _cells(data, range(len(data.state)), column)
    names: dict[str, int] = {}
    for item, cell in enumerate(cells):
        if cell in names:
            raise ValueError(
                f"{column} {cell!r} names the items {names[cell]} and {item}; go by positions"
            )
        names[cell] = item
    return names


def _cells(data: Any, items: Sequence[int], column: str) -> list[str]:
    """What a column says of some items."""
    index = torch.tensor(list(items), dtype=torch.int64)
    if column == "path":
        return [str(data.item_path(i) or i) for i in index.tolist()]
    written = getattr(data, "written", None)
    names, rows = ([], []) if written is None else written(index)
    if column not in names:
        raise ValueError(
            f"the data have no column {column!r} to go by; they have {', '.join([*names, 'path'])}"
        )
    return [str(row[names.index(column)]) for row in rows]


def _item(name: str, names: Mapping[str, int] | None, column: str | None) -> int:
    """The position that is meant."""
    if names is None:
        if not name.isdecimal():
            raise ValueError(
                f"{name!r} is no position of an item; say with --id COLUMN which column names it"
            )
        return int(name)
    if name not in names:
        near = [i for n, i in names.items() if Path(n).name == name] if column == "path" else []
        if len(near) != 1:
            raise ValueError(f"no item has the {column} {name!r}")
        return near[0]
    return names[name]


def _show(found: Sequence[Any], data: Any, column: str | None) -> None:
    """Print a table of answers."""
    rows = [["item", "answer", "round", "by", "fixed"]]
    cells = _cells(data, [p.index for p in found], column or "path") if found else []
    for p, cell in zip(found, cells, strict=True):
        name = cell if cell == str(p.index) else f"{p.index} {cell}"
        answer = "" if p.withdrawn else str(data.answer(p.index))
        rows.append([name, answer, str(p.round), p.annotators, p.fixed])
    print(*aligned(rows, left=len(rows[0])), sep="\n")
