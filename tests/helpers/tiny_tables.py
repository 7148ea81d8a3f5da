"""Miniature files of every form in which the named tables are read."""

import io
import struct
import tempfile
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from lightning_al.datamodules.readers import table_files as parsers
from lightning_al.datamodules.sources import Resource


def shrink(spec, rows):
    """The same specification of so many rows, of files without a known SHA-256."""

    def smaller(resource):
        made = (
            replace(
                s,
                parse=replace(s.parse, form=few(s.parse.form), rows=rows // len(spec.parts)),
                sha256=None,
            )
            for s in resource.sources
        )
        return Resource(resource.name, tuple(made))

    parts = tuple(tuple(smaller(resource) for resource in row) for row in spec.parts)
    return replace(spec, rows=rows, parts=parts, counts=None)


def few(form):
    """The same form of files with the three features of :func:`numbers`."""
    return replace(form, features=3) if isinstance(form, parsers.SvmLight) else form


def numbers(spec, rows, seed=0):
    """A random table [rows, columns] whose class labels all occur."""
    columns = spec.columns or ("a", "b", "c", spec.target)
    table = np.random.default_rng(seed).normal(size=(rows, len(columns))).round(3)
    for name, levels in spec.categories.items():
        table[:, columns.index(name)] = np.arange(rows) % len(levels)
    if spec.labels:
        table[:, columns.index(spec.target)] = np.resize(spec.labels, rows)
    return table


def content(parser, table):
    """The bytes of a file that ``parser`` reads as ``table``; skipped columns hold names."""
    cells = [[repr(v) for v in row] for row in table.tolist()]
    names = parser.names or [f"c{i}" for i in range(table.shape[1])]
    for at in [names.index(n) for n in parser.categories]:
        for row, place in zip(cells, table[:, at].astype(int), strict=True):
            row[at] = parser.categories[names[at]][place]
    for at in [names.index(n) for n in parser.skip]:
        for number, row in enumerate(cells, 1):
            row.insert(at, f"item_{number}")
    match parser.form:
        case parsers.Text(separator=separator, header=header):
            lines = [[f'"{n}"' for n in names]] if header else []
            between = "\t" if separator is None else separator
            raw = "".join(between.join(row) + "\n" for row in [*lines, *cells]).encode()
        case parsers.SvmLight():
            lines = [[row[-1], *(f"{i}:{v}" for i, v in enumerate(row[:-1], 1))] for row in cells]
            raw = "".join(" ".join(line) + "\n" for line in lines).encode()
        case parsers.Arff():
            raw = weka(names, cells, parser.categories)
        case parsers.Excel():
            raw = xlsx(names, table)
        case parsers.NumPy():
            raw = saved(lambda f: np.savez(f, x=table[:, :-1], y=table[:, -1:]))
        case parsers.R():
            raw = rdata(names, table)
        case parsers.Matlab():
            from scipy.io import savemat

            raw = saved(lambda f: savemat(f, {"anything": table}))
    return raw if parser.member is None else zipped({f"folder/{parser.member}": raw})


def saved(write):
    file = io.BytesIO()
    write(file)
    return file.getvalue()


def weka(names, cells, categories):
    """Attributes of numbers, and nominal ones whose levels with a blank are quoted."""

    def said(level):
        return f"'{level}'" if " " in level else level

    kinds = {n: "{" + ",".join(map(said, levels)) + "}" for n, levels in categories.items()}
    head = [f"@ATTRIBUTE {n} {kinds.get(n, 'REAL')}" for n in names]
    rows = [",".join(map(said, row)) for row in cells]
    return "\n".join(["% a comment", "@RELATION any", *head, "@DATA", *rows, ""]).encode()


def rdata(names, table):
    """A data frame whose last column is a factor, as R keeps classes."""
    import pandas as pd
    import pyreadr

    frame = pd.DataFrame(table, columns=list(names))
    frame[names[-1]] = frame[names[-1]].astype(int).astype(str).astype("category")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "frame.Rdata"
        pyreadr.write_rdata(str(path), frame, df_name="anything")
        return path.read_bytes()


def zipped(members):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, raw in members.items():
            archive.writestr(name, raw)
    return file.getvalue()


def xlsx(names, table):
    """A workbook with a line of names, then an empty row and an empty column after the table."""
    import openpyxl

    book = openpyxl.Workbook()
    book.active.append([*names, None])
    for row in table.tolist():
        book.active.append([*row, None])
    book.active.cell(len(table) + 3, len(names) + 2).number_format = "0.00"  # used, but empty
    book.create_sheet("other").append([1, 2, 3])
    return saved(book.save)


def xls(names, table):
    """The same as the oldest Excel format, BIFF 2: records of a code, a length and the cell."""

    def record(code, body):
        return struct.pack("<HH", code, len(body)) + body

    made = record(0x0009, struct.pack("<HH", 7, 0x10))
    for column, name in enumerate(names):
        cell = struct.pack("<HH3xB", 0, column, len(name)) + name.encode()
        made += record(0x0004, cell)
    for number, row in enumerate(table.tolist(), 1):
        for column, value in enumerate(row):
            made += record(0x0003, struct.pack("<HH3xd", number, column, value))
    return made + record(0x000A, b"")
