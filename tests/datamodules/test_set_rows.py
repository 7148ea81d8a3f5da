"""Rows of the table of data sets: what comes of them, and what is said about wrong ones."""

import tomllib
from copy import deepcopy
from functools import partial
from importlib.resources import files

import numpy as np
import pytest

from lightning_al.datamodules import named as datasets
from lightning_al.datamodules.named import synthetic
from lightning_al.datamodules.named.checked_row import arguments
from lightning_al.datamodules.readers.table_files import NumPy, Text

ROWS = tomllib.loads((files("lightning_al.datamodules.named") / "sets.toml").read_text("utf-8"))
URL = "https://example.org/data/mine.csv"
MINE = {
    "task": "classification",
    "rows": 4,
    "columns": ["a", "b", "kind"],
    "target": "kind",
    "labels": [1, 2],
    "class_names": ["one", "two"],
    "counts": [3, 1],
    "parser": "text",
    "published": {"lost_rows": 1, "permuted": True},
    "files": [{"folder": "mine", "url": URL, "skip": ["id"]}],
}


def mine(*path, **values):
    """The row with other values at a path; None takes a key out."""
    row = deepcopy(MINE)
    at = row
    for step in path:
        at = at[step]
    at.update(values)
    for key in [key for key, value in values.items() if value is None]:
        del at[key]
    return row


def drawn(draw):
    return mine(files=None, parser=None, draw=draw)


# --- the shipped rows ----------------------------------------------------------------------------


def test_each_row_is_a_set_and_each_set_a_row():
    assert sorted(ROWS) == datasets.names()
    assert all(row["title"] for row in ROWS.values())


@pytest.mark.parametrize("name", ROWS)
def test_a_specification_says_what_its_row_says(name):
    row, spec = ROWS[name], datasets.spec(name)
    assert spec.name == name
    for key, value in row.items():
        if key in ("files", "parser", "draw", "module", "published"):
            continue
        expected = tuple(value) if isinstance(value, list) else value
        assert getattr(spec, key) == (expected if value != [] else None), key
    for key, value in row.get("published", {}).items():
        got = getattr(spec.published, key)
        assert (list(got) if isinstance(got, tuple) else got) == value
    if "files" in row:
        written = [(f["folder"], f.get("url"), f.get("sha256")) for f in row["files"]]
        got = [(s.folder, s.url, s.sha256) for r in spec.resources for s in r.sources]
        assert got == written
        for source, file in zip(
            (s for r in spec.resources for s in r.sources), row["files"], strict=True
        ):
            assert file.get("file") in (source.file, None)
            assert source.file in (file.get("file"), (source.url or "").split("/")[-1])
            assert source.parse.member == file.get("member")
            assert list(source.parse.skip) == file.get("skip", [])
            given = {file.get("rows") for file in row["files"]} - {None}
            assert source.parse.rows in (given or {spec.rows // len(spec.parts)})


def test_what_files_do_not_say_is_that_of_the_set(tmp_path):
    spec = datasets.spec_from_row("mine", MINE)
    ((resource,),) = spec.parts
    (source,) = resource.sources
    assert (resource.name, source.file, source.url) == ("mine", "mine.csv", URL)
    assert source.parse.names == ("id", "a", "b", "kind")
    assert source.parse.form == Text()
    (tmp_path / "mine").mkdir()
    source.path(tmp_path).write_text("x,1,2,1\ny,3,4,1\nz,5,6,2\nw,7,8,1\n")
    table = spec.load(tmp_path)
    assert table.features.tolist() == [[1, 2], [3, 4], [5, 6], [7, 8]]
    assert table.targets.tolist() == [0, 0, 1, 0]
    assert table.feature_names == ("a", "b")


def test_parts_lie_below_and_beside_each_other(tmp_path):
    (tmp_path / "mine").mkdir()
    blocks = {(0, 0): "1,2\n3,4\n", (0, 1): "1\n2\n", (1, 0): "5,6\n7,8\n", (1, 1): "1\n1\n"}
    parts = []
    for (i, j), text in blocks.items():
        (tmp_path / "mine" / f"{i}{j}.csv").write_text(text)
        columns = ["a", "b"] if j == 0 else ["kind"]
        parts.append({"folder": "mine", "file": f"{i}{j}.csv", "part": [i, j], "columns": columns})
    for order in (parts, parts[::-1]):
        table = datasets.spec_from_row("mine", mine(files=order)).load(tmp_path)
        assert table.features.tolist() == [[1, 2], [3, 4], [5, 6], [7, 8]]
        assert table.targets.tolist() == [0, 1, 0, 0]


def test_blocks_may_be_of_unequal_height(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "0.csv").write_text("1,2,1\n3,4,2\n5,6,1\n")
    (tmp_path / "mine" / "1.csv").write_text("7,8,1\n")
    files = [
        {"folder": "mine", "file": f"{i}.csv", "part": [i, 0], "rows": 3 - 2 * i} for i in (0, 1)
    ]
    table = datasets.spec_from_row("mine", mine(files=files)).load(tmp_path)
    assert table.features[:, 0].tolist() == [1, 3, 5, 7]
    (tmp_path / "mine" / "1.csv").write_text("7,8,1\n9,9,1\n")
    with pytest.raises(ValueError, match="must hold 1 rows x 3 columns, it holds 2 x 3"):
        datasets.spec_from_row("mine", mine(files=files)).load(tmp_path)


def test_a_dropped_column_marks_items():
    row = mine(columns=["a", "pot", "b", "kind"], dropped=["pot"], marks="pot")
    spec = datasets.spec_from_row("mine", row)
    assert spec.marks == "pot"
    row = {
        **{k: v for k, v in mine().items() if k not in ("files", "parser")},
        **{"rows": 400, "columns": ["x0", "x1", "pot", "kind"], "labels": [0, 1], "counts": None},
        **{"dropped": ["pot"], "marks": "pot", "draw": "blobs"},
    }
    del row["counts"]
    drawn_table = datasets.spec_from_row("mine", row)
    whole = drawn_table.draw("corrected")
    assert drawn_table.load(None).marked.tolist() == (whole[:, 2] == 1).tolist()
    kept = whole[1:][np.random.default_rng(0).permutation(399)]  # as published, the marks go along
    assert drawn_table.load(None, "published").marked.tolist() == (kept[:, 2] == 1).tolist()


def test_names_with_arguments_are_those_of_the_functions():
    row = mine("files", 0, parser={"name": "text", "separator": ";", "header": True})
    assert datasets.spec_from_row("mine", row).resources[0].sources[0].parse.form == Text(";", True)
    row = mine(parser={"name": "numpy", "keys": ["u", "v"]})
    assert datasets.spec_from_row("mine", row).resources[0].sources[0].parse.form == NumPy(
        ("u", "v")
    )
    spec = datasets.spec_from_row("mine", drawn({"name": "checkerboard", "cells": 3, "seed": 5}))
    np.testing.assert_array_equal(spec.draw("published"), synthetic.checkerboard(cells=3, seed=5))
    spec = datasets.spec_from_row("mine", drawn("two-clouds"))
    for variant in ("corrected", "published"):
        np.testing.assert_array_equal(spec.draw(variant), synthetic.two_clouds(variant))


def test_a_row_of_your_own_is_registered_by_a_function(monkeypatch):
    monkeypatch.setattr(datasets.DATASETS, "_factories", dict(datasets.DATASETS._factories))
    row = {
        "task": "classification",
        "rows": 30,
        "columns": ["x0", "x1", "y"],
        "target": "y",
        "labels": [0, 1],
        "class_names": ["a", "b"],
        "draw": {"name": "checkerboard", "size": 30},
    }
    datasets.DATASETS.register("mine")(partial(datasets.spec_from_row, "mine", row))
    assert "mine" in datasets.names()
    assert tuple(datasets.load("mine").features.shape) == (30, 2)


# --- wrong rows ----------------------------------------------------------------------------------

WRONG = {
    "an unknown key": (
        mine(colums=["a"]),
        r"colums is no key \(did you mean 'columns'\?\); keys are task, rows, .*files.*rename it",
    ),
    "an unknown key of a file": (
        mine("files", 0, sha="0"),
        r"files\[0\]\.sha is no key .*folder, file, url",
    ),
    "an unknown key below": (mine("published", lost=1), r"published\.lost is no key .*lost_rows"),
    "a missing key": (mine(target=None), "target is missing; add it to the row, as text"),
    "a missing key of a file": (
        mine("files", 0, folder=None),
        r"files\[0\]\.folder is missing; add it to the row, as text",
    ),
    "text for a number": (
        mine(rows="many"),
        "rows must be a whole number, got 'many'; correct it in the row",
    ),
    "truth for a number": (mine(rows=True), "rows must be a whole number, got True"),
    "a number for truth": (
        mine("published", permuted=1),
        r"published\.permuted must be true or false, got 1",
    ),
    "text for a list": (mine(columns="a"), "columns must be a list of text, got 'a'"),
    "a number in a list": (mine(columns=["a", 3]), r"columns\[1\] must be text, got 3"),
    "text for a table": (mine(published="no"), "published must be a table, got 'no'"),
    "another task": (
        mine(task="ranking"),
        "task must be one of 'classification', 'regression', got 'ranking'",
    ),
    "a part of one number": (
        mine("files", 0, part=[0]),
        r"files\[0\]\.part must be a list of 2 times a whole number, got \[0\]",
    ),
    "a part too far": (mine("files", 0, part=[1, 0]), r"files must be of parts that count from"),
    "rows that do not divide": (
        mine(rows=3, counts=None, files=[MINE["files"][0] | {"part": [i, 0]} for i in range(2)]),
        "rows must be a multiple of the 2 parts",
    ),
    "rows that do not sum": (
        mine(files=[MINE["files"][0] | {"part": [i, 0], "rows": 3} for i in range(2)]),
        r"files must be of rows that sum to 4, one number a block, got \[3, 3\]",
    ),
    "rows of some blocks alone": (
        mine(
            files=[
                MINE["files"][0] | {"part": [i, 0]} | ({"rows": 3} if i else {}) for i in range(2)
            ]
        ),
        "files must be of rows that sum to 4",
    ),
    "a mark that is a feature": (
        mine(marks="a"),
        "marks must be one of the dropped columns",
    ),
    "a parser that there is not": (
        mine(parser="cvs"),
        "parser must be the name of a form of table files: arff, excel, .*text, got 'cvs'",
    ),
    "a parser of one file": (
        mine("files", 0, parser="cvs"),
        r"files\[0\]\.parser must be the name of a form",
    ),
    "an argument of a parser": (
        mine(parser={"name": "text", "header": "yes"}),
        r"parser\.header must be true or false, got 'yes'",
    ),
    "no argument of a parser": (
        mine(parser={"name": "excel", "sheet": 2}),
        r"parser\.sheet is no key; keys are none",
    ),
    "a parser without its name": (
        mine(parser={"header": True}),
        "parser must be the name of a form of table files: .*, got None",
    ),
    "no parser": (mine(parser=None), r"files\[0\]\.parser is missing; add it to the file or"),
    "a drawing that there is not": (drawn("clouds"), "draw must be the name of a drawn table"),
    "an argument of a drawing": (
        drawn({"name": "checkerboard", "cells": "two"}),
        r"draw\.cells must be a whole number, got 'two'",
    ),
    "a variant in the row": (
        drawn({"name": "checkerboard", "variant": "published"}),
        r"draw\.variant is no key; keys are cells",
    ),
    "files and a drawing": (mine(draw="line"), "expected either files or draw, got both"),
    "neither": (mine(files=None), "expected either files or draw, got neither"),
    "a file without a name": (
        mine("files", 0, url=None),
        r"files\[0\]\.file is missing; add it, or an url",
    ),
    "a hash too short": (
        mine("files", 0, sha256="abc"),
        r"files\[0\]\.sha256 must be 64 digits 0-9 and a-f, got 'abc'",
    ),
    "a target that is no column": (
        mine(target="c"),
        "target must be one of the columns a, b, kind, got 'c'",
    ),
    "classes of a regression": (mine(task="regression"), "labels must be the classes of"),
    "no classes": (mine(labels=None), "labels must be the classes of a classification"),
    "a class without a name": (mine(class_names=["one"]), "class_names must be a name for each"),
    "counts of other rows": (mine(counts=[1, 1]), "counts must be 2 numbers that sum to rows = 4"),
    "another module": (
        {"module": "ImageNet", "task": "classification"},
        "module must be one of MNISTDataModule, FashionMNISTDataModule, got 'ImageNet'",
    ),
    "an unknown key of images": (
        {"module": "MNISTDataModule", "rows": 3},
        "rows is no key; keys are fold_seed, flat",
    ),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_wrong_row_names_the_set_the_key_and_the_mend(what):
    row, why = WRONG[what]
    before = deepcopy(row)
    with pytest.raises(ValueError, match=f"^data set 'mine': {why}"):
        datasets.spec_from_row("mine", row)
    assert row == before


def test_numbers_of_a_function_may_be_whole_and_truth_is_none():
    def share(part: float, times: int = 1) -> None: ...

    assert arguments(share, {"part": 1}, "x") == {"part": 1}
    assert arguments(share, {"part": 0.5, "times": 3}, "x") == {"part": 0.5, "times": 3}
    for wrong in (True, "1"):
        with pytest.raises(ValueError, match="x: part must be a number, got"):
            arguments(share, {"part": wrong}, "x")
    with pytest.raises(ValueError, match=r"x: times must be a whole number, got 1\.5"):
        arguments(share, {"part": 1, "times": 1.5}, "x")


@pytest.mark.parametrize(
    ("categories", "why"),
    [
        ({"c": ["x", "y"]}, r"categories must be of columns that are no target, got 'c'"),
        ({"kind": ["1", "2"]}, r"categories must be of columns that are no target"),
        ({"a": "xy"}, r"categories\.a must be a list of texts, the levels, got 'xy'"),
        ({"a": [1, 2]}, r"categories\.a must be a list of texts"),
        ({"a": ["x", "x"]}, r"categories\.a must be two levels or more, each once"),
    ],
)
def test_categories_that_make_no_sense_are_refused(categories, why):
    with pytest.raises(ValueError, match=why):
        datasets.spec_from_row("mine", mine(categories=categories))
