"""The named tables: their specifications, the forms of their files, and what is read from them."""

import gzip
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from helpers import tiny_tables
from helpers.tiny_tables import content, numbers, shrink

from lightning_al.datamodules import named as datasets
from lightning_al.datamodules.named.table_spec import TableSpec
from lightning_al.datamodules.readers import table_files as parsers
from lightning_al.datamodules.readers.table_files import Excel, Parser, Text
from lightning_al.datamodules.sources import Resource, Source

SPECS = {n: datasets.spec(n) for n in datasets.names()}
TABLES = [s for s in SPECS.values() if isinstance(s, TableSpec)]
FILES = [s for s in TABLES if s.parts]
by_name = pytest.mark.parametrize("spec", TABLES, ids=lambda s: s.name)
from_files = pytest.mark.parametrize("spec", FILES, ids=lambda s: s.name)


def put(root, source, raw):
    path = source.path(root)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(raw)
    return path


def blocks(spec, table):
    """The part of the table [rows, columns] that each file holds, by the file's resource."""
    for row, rows in zip(spec.parts, np.split(table, len(spec.parts)), strict=True):
        cut = [rows] if len(row) == 1 else [rows[:, :-1], rows[:, -1:]]
        yield from zip(row, cut, strict=True)


def write(root, spec, table, which=0):
    """The files of a table, each as the source number ``which``."""
    for resource, block in blocks(spec, table):
        source = resource.sources[which]
        if isinstance(source.parse.form, parsers.R):
            pytest.importorskip("pyreadr")
        if isinstance(source.parse.form, Excel):
            pytest.importorskip("openpyxl")
        raw = content(source.parse, block)
        put(root, source, gzip.compress(raw) if source.file.endswith(".gz") else raw)


# --- the list ------------------------------------------------------------------------------------


def test_all_sets_of_the_papers_are_there():
    wanted = """airfoil breast checkerboard-2x2 checkerboard-4x4 concrete creditcard diabetes digits
    energy fashion-mnist gaussian-clouds glass mnist parkinsons power seeds striatum-mini
    synthclass1 synthclass2 synthclass3 synthreg1 synthreg2 wine-quality yacht
    parkinsons-telemonitoring superconductors sarcos diamonds bimodal-sine density-grid
    moons adversarial-moons blobs diverging-sine dna splice"""
    assert set(wanted.split()) <= set(SPECS)
    with pytest.raises(LookupError, match=r"no data set named 'galss'.*did you mean 'glass'"):
        datasets.spec("galss")


def test_each_set_tells_its_licence_and_files():
    for spec in SPECS.values():
        assert spec.licence, spec.name
        assert spec.task in ("classification", "regression")


@by_name
def test_a_specification_agrees_with_itself(spec):
    if spec.columns is not None:
        assert len(set(spec.columns)) == len(spec.columns)
        assert spec.target in spec.columns
    assert spec.target not in spec.dropped
    assert set(spec.published.leaked) <= set(spec.dropped)
    assert (spec.draw is None) == bool(spec.parts)
    assert bool(spec.labels) == (spec.task == "classification")
    assert len(spec.labels) == len(spec.class_names) == len(set(spec.labels))
    if spec.counts is not None:
        assert sum(spec.counts) == spec.rows
    if spec.parts:
        assert spec.citation
        assert spec.source.startswith("https://")


@from_files
def test_sources_name_the_original_first_and_no_place_twice(spec):
    heights = [row[0].sources[0].parse.rows for row in spec.parts]
    assert sum(heights) == spec.rows
    for place, resource in enumerate(spec.resources):
        first = resource.sources[0]
        assert first.url.startswith("https://")
        places = [(s.folder, s.file) for s in resource.sources]
        assert len(set(places)) == len(places)
        for source in resource.sources:
            assert source.sha256 is None or len(source.sha256) == 64
            assert source.parse.rows == heights[place // len(spec.parts[0])]
            if source.parse.names and len(resource.sources) > 1:
                kept = [n for n in source.parse.names if n not in source.parse.skip]
                assert tuple(kept) == spec.columns


# --- miniature files -----------------------------------------------------------------------------

LAYOUTS = [
    pytest.param(spec, which, id=f"{spec.name}-{which}")
    for spec in FILES
    for which in range(len(spec.resources[0].sources))
]


@pytest.mark.parametrize(("spec", "which"), LAYOUTS)
def test_every_accepted_form_gives_the_same_arrays(tmp_path, spec, which):
    spec = shrink(spec, 24)
    table = numbers(spec, 24)
    write(tmp_path, spec, table, which)
    got = spec.load(tmp_path)
    columns = list(spec.columns or ("feature0", "feature1", "feature2", spec.target))
    kept = [c for c in columns if c != spec.target and c not in spec.dropped]
    assert list(got.feature_names) == [
        name
        for c in kept
        for name in ([f"{c}={v}" for v in spec.categories[c]] if c in spec.categories else [c])
    ]
    wanted = [table[:, [columns.index(c)]] for c in kept]
    for i, name in enumerate(kept):
        if name in spec.categories:
            wanted[i] = np.eye(len(spec.categories[name]))[wanted[i][:, 0].astype(int)]
    np.testing.assert_array_equal(got.features, np.hstack(wanted))
    target = table[:, columns.index(spec.target)]
    if spec.labels:
        assert [spec.labels[c] for c in got.targets] == target.tolist()
    else:
        np.testing.assert_array_equal(got.targets, target)
    assert got.features.dtype == torch.float64


@from_files
def test_the_published_parsing_loses_leaks_and_shuffles_as_the_paper_did(tmp_path, spec):
    spec = shrink(spec, 24)
    write(tmp_path, spec, numbers(spec, 24))
    mine, theirs = spec.load(tmp_path), spec.load(tmp_path, "published")
    lost = {"glass": 1, "seeds": 1, "wine-quality": 1, "airfoil": 1, "yacht": 2}.get(spec.name, 0)
    shuffled = spec.name in ("concrete", "energy", "wine-quality", "yacht", "airfoil")
    shuffled |= spec.published.unit_range  # BALSA's
    more = {"glass": ["Id"], "energy": ["Y1"]}.get(spec.name, [])
    assert sorted(set(theirs.feature_names) - set(mine.feature_names)) == more
    rows = torch.arange(lost, 24)
    if shuffled:
        rows = rows[torch.from_numpy(np.random.default_rng(0).permutation(24 - lost))]
    assert torch.equal(theirs.targets.double(), mine.targets[rows].float().double())
    shared = [theirs.feature_names.index(n) for n in mine.feature_names]
    assert torch.equal(theirs.features[:, shared], mine.features[rows].float())
    if spec.name == "glass":
        assert theirs.features[:, 0].tolist() == [float(i) for i in range(2, 25)]
    if spec.name == "energy":
        assert theirs.feature_names.index("Y1") == 8
    assert theirs.features.dtype == torch.float32
    assert (mine.fold_seed, theirs.fold_seed) == (spec.fold_seed, None)


@pytest.mark.filterwarnings("ignore:The .* engine")
def test_the_oldest_excel_form_is_read_too(tmp_path, monkeypatch):
    pytest.importorskip("xlrd")
    monkeypatch.setattr(parsers, "find_spec", lambda name: None)  # calamine reads no BIFF 2
    table = np.arange(6.0).reshape(2, 3)
    path = tmp_path / "t.xls"
    path.write_bytes(tiny_tables.xls("abc", table))
    got = Parser(Excel(), ("a", "b", "c"), 2)(path)
    np.testing.assert_array_equal(got, table)


@pytest.mark.filterwarnings("ignore:The default engine")
@pytest.mark.parametrize("engine", [True, False])
def test_both_excel_readers_give_the_same(tmp_path, monkeypatch, engine):
    pytest.importorskip("python_calamine" if engine else "openpyxl")
    monkeypatch.setattr(parsers, "find_spec", lambda name: engine or None)
    table = np.random.default_rng(0).normal(size=(7, 3)).round(3)
    path = tmp_path / "t.xlsx"
    path.write_bytes(tiny_tables.xlsx("abc", table))
    np.testing.assert_array_equal(Parser(Excel(), ("a", "b", "c"), 7)(path), table)


def test_a_form_without_its_library_says_what_to_install(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise ImportError("no reader here")

    monkeypatch.setattr(pd, "read_excel", refuse)
    path = tmp_path / "t"
    path.write_bytes(b"x")
    with pytest.raises(ImportError, match="pip install python-calamine"):
        Parser(Excel(), ("a",), 1)(path)
    monkeypatch.setitem(__import__("sys").modules, "pyreadr", None)
    with pytest.raises(ImportError, match="pip install pyreadr"):
        Parser(parsers.R(), ("a",), 1)(path)


def test_categories_are_their_levels_and_others_are_refused(tmp_path):
    levels = {"cut": ("Fair", "Very Good"), "n": ("1", "2")}
    parser = Parser(Text(header=True), ("cut", "n", "y"), 2, categories=levels)
    path = tmp_path / "t.csv"
    path.write_text("cut,n,y\nVery Good,2,0.5\nFair,1,1.5\n")
    np.testing.assert_array_equal(parser(path), [[1, 1, 0.5], [0, 0, 1.5]])
    path.write_text("cut,n,y\nVery Good,2,0.5\nGood,1,1.5\n")
    with pytest.raises(ValueError, match=r"'cut' must be one of Fair, Very Good, row 1 is 'Good'"):
        parser(path)


def test_an_arff_file_that_is_none_is_named(tmp_path):
    path = tmp_path / "t.arff"
    for raw in ("a,b\n1,2\n", "@attribute a real\n@data\n{0 1}\n", "@data\n1\n"):
        path.write_text(raw)
        with pytest.raises(ValueError, match=r"t\.arff: it is no dense ARFF file"):
            Parser(parsers.Arff(), ("a",), 1)(path)
    path.write_text("@attribute a real\n@attribute b real\n@data\n1\n")
    with pytest.raises(ValueError, match="it names 2 attributes, its rows have 1"):
        Parser(parsers.Arff(), ("a",), 1)(path)


# --- files that are not as expected --------------------------------------------------------------

AB = ("a", "b")
HEADED = Text(header=True)


@pytest.mark.parametrize(
    ("form", "raw", "why"),
    [
        (Text(), b"1,2\n", "must hold 2 rows x 2 columns, it holds 1 x 2"),
        (Text(), b"1,2\n3,4\n5,6\n", "it holds 3 x 2"),
        (Text(), b"1,2,3\n4,5,6\n", "it holds 2 x 3"),
        (Text(), b"1,2\n3,4,5\n", "Expected 2 fields"),
        (Text(), b"1,2\n3\n", "'b' must hold finite numbers, row 1 is 'nan'"),
        (Text(), b"a,b\n1,2\n", "'a' must hold finite numbers, row 0 is 'a'"),
        (Text(), b"1,inf\n2,3\n", "'b' must hold finite numbers, row 0 is 'inf'"),
        (Text(), b"", "No columns"),
        (HEADED, b"1,2\n3,4\n", "first line must name a, b; got 1, 2"),
        (HEADED, b"b,a\n1,2\n3,4\n", "first line must name a, b; got b, a"),
        (HEADED, b"a,b\n1,2,3\n4,5,6\n", "more cells than its first line has names"),
        (Text(separator=";"), b"1,2\n3,4\n", "it holds 2 x 1"),
        (Text(), b"<html>\n<p>sorry</p>\n", "it holds 2 x 1"),
        (Excel(), b"<html>", "no Excel file"),
        (parsers.NumPy(), b"no", "holds no arrays x, y"),
        (parsers.NumPy(), tiny_tables.saved(lambda f: np.savez(f, x=[1.0])), "holds no arrays"),
        (parsers.Matlab(), b"no", "no Matlab file"),
    ],
)
def test_a_file_that_is_not_as_expected_is_named(tmp_path, form, raw, why):
    path = tmp_path / "file.bin"
    path.write_bytes(raw)
    with pytest.raises(ValueError, match=rf"file\.bin.*{why}"):
        Parser(form, AB, 2)(path)


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (b"no", "not a zip file"),
        (tiny_tables.zipped({"other.csv": b"1,2\n"}), r"the archive holds other\.csv"),
        (tiny_tables.zipped({"x/t.csv": b"1,2\n"}), r"file\.zip:t\.csv must hold 2 rows"),
    ],
)
def test_a_bad_archive_is_named(tmp_path, raw, why):
    path = tmp_path / "file.zip"
    path.write_bytes(raw)
    with pytest.raises(ValueError, match=why):
        Parser(Text(), AB, 2, member="t.csv")(path)


def test_an_r_file_that_is_none_is_named(tmp_path):
    pytest.importorskip("pyreadr")
    path = tmp_path / "x.Rdata"
    path.write_bytes(b"no")
    with pytest.raises(ValueError, match=r"x\.Rdata: it is no R file"):
        Parser(parsers.R(), AB, 2)(path)


def test_classes_are_checked(tmp_path):
    spec = shrink(SPECS["seeds"], 6)
    table = numbers(spec, 6)
    write(tmp_path, spec, table, which=2)
    spec.load(tmp_path)
    with pytest.raises(ValueError, match=r"seeds must have \(3, 2, 1\) rows of its classes"):
        replace(spec, counts=(3, 2, 1)).load(tmp_path)
    table[:, -1] = [1, 2, 2, 1, 2, 1]
    write(tmp_path, spec, table, which=2)
    with pytest.raises(ValueError, match="must have the classes 1, 2, 3, got 1, 2"):
        spec.load(tmp_path)
    with pytest.raises(ValueError, match="variant must be 'corrected' or 'published', got 'raw'"):
        spec.load(tmp_path, "raw")


# --- downloads -----------------------------------------------------------------------------------


def moved(spec, base):
    """The same specification with every address on the local server."""

    def local(source):
        return replace(source, url=source.url and f"{base}/{source.file}")

    def near(resource):
        return Resource(resource.name, tuple(local(s) for s in resource.sources))

    return replace(spec, parts=tuple(tuple(map(near, row)) for row in spec.parts))


@pytest.mark.parametrize("name", ["dna", "splice"])
def test_the_parts_of_a_set_are_downloaded_from_the_original(tmp_path, served, monkeypatch, name):
    spec = moved(shrink(SPECS[name], 12), served.base)
    table = numbers(spec, 12)
    monkeypatch.setitem(datasets.DATASETS._factories, name, lambda: spec)
    for resource, block in blocks(spec, table):
        served.bodies[f"/{resource.sources[0].file}"] = content(resource.sources[0].parse, block)
    got = datasets.load(name, data_dir=tmp_path)
    np.testing.assert_array_equal(got.features, table[:, :3])
    assert [spec.labels[c] for c in got.targets] == table[:, -1].tolist()
    assert all(r.sources[0].path(tmp_path).is_file() for r in spec.resources)
    assert served.asked == len(spec.resources)


@pytest.mark.parametrize(
    ("text", "said"),
    [("1 1:2 5:1\n2 1:1\n", "n_features"), ("1 1:2 2:x\n2 1:1\n", "could not convert")],
)
def test_what_is_no_svmlight_file_of_so_many_features_is_refused(tmp_path, text, said):
    (tmp_path / "t").write_text(text)
    with pytest.raises(ValueError, match=f"{tmp_path / 't'}.*{said}"):
        Parser(parsers.SvmLight(3), None, 2)(tmp_path / "t")


def test_a_missing_table_is_downloaded_and_its_hash_recorded(tmp_path, served, monkeypatch):
    spec = moved(shrink(SPECS["glass"], 12), served.base)
    table = numbers(spec, 12)
    original, archive = spec.resources[0].sources[:2]
    monkeypatch.setitem(datasets.DATASETS._factories, "glass", lambda: spec)

    served.bodies[f"/{original.file}"] = b"<html>sorry</html>\n"
    with pytest.raises(FileNotFoundError) as caught:
        datasets.load("glass", data_dir=tmp_path)
    text = str(caught.value)
    assert "must hold 12 rows x 11 columns" in text
    assert f"{original.url}: " in text
    assert f"put the file (from {original.url}) at {tmp_path / 'uci' / 'glass.data'}" in text

    served.bodies[f"/{archive.file}"] = content(archive.parse, table)
    got = datasets.load("glass", data_dir=tmp_path)
    np.testing.assert_array_equal(got.features, table[:, :9])
    assert {p.name for p in (tmp_path / "uci").iterdir()} == {
        archive.file,
        f"{archive.file}.sha256",
    }
    archive.path(tmp_path).write_bytes(content(archive.parse, table + 1))
    with pytest.raises(ValueError, match="damaged or another file"):
        datasets.load("glass", data_dir=tmp_path)


def test_images_are_not_loaded_as_tables():
    with pytest.raises(ValueError, match="mnist is a set of images; use MNISTDataModule"):
        datasets.load("mnist")


def test_a_set_of_your_own_is_registered_as_a_function(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.DATASETS, "_factories", dict(datasets.DATASETS._factories))
    source = Source("mine", "t.csv", Parser(Text(), ("a", "b"), 3))
    mine = TableSpec(
        "mine", "regression", 3, ("a", "b"), "b", parts=((Resource("mine", (source,)),),)
    )
    datasets.DATASETS.register("mine")(lambda: mine)
    put(tmp_path, source, b"1,2\n3,4\n5,6\n")
    assert datasets.load("mine", data_dir=tmp_path).targets.tolist() == [2, 4, 6]
