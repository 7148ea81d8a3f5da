"""Tables as people write them: numbers first, vectors, row numbers, marks of no label."""

import decimal

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from lightning_al.datamodules import ImageFolderDataModule, TabularDataModule
from lightning_al.datamodules.readers.numbers import Form, written_numbers

N = 60
RNG = np.random.default_rng(0)
VALUES = np.round(RNG.uniform(1000, 90000, N), 2)


def table(**columns):
    frame = pd.DataFrame({"a": RNG.normal(size=N), "y": np.arange(N) % 2, **columns})
    return frame[[c for c in frame.columns if c != "y"] + ["y"]]


def read(tmp_path, frame, target="y", form="csv", **changes):
    path = tmp_path / f"t.{form}"
    if form == "parquet":
        frame.to_parquet(path)
    else:
        frame.to_csv(path, index=False)
    dm = TabularDataModule(str(path), target, **changes)
    dm.setup()
    return dm


def quiet(recwarn):
    return not [w for w in recwarn if issubclass(w.category, UserWarning)]


# --- numbers -------------------------------------------------------------------------------------


def european(value):
    return f"{value:,.2f}".replace(",", " ").replace(".", ",").replace(" ", ".")


WRITTEN = {
    "thousands": lambda v: f"{v:,.2f}",
    "thousands without decimals": lambda v: f"{int(v):,}",
    "decimal comma": lambda v: f"{v:.2f}".replace(".", ","),
    "points between thousands": european,
    "spaces between thousands": lambda v: f"{v:,.2f}".replace(",", " "),
    "narrow spaces": lambda v: f"{v:,.2f}".replace(",", "\u202f"),
    "apostrophes": lambda v: f"{v:,.2f}".replace(",", "'"),
    "unit": lambda v: f"{v:.2f} mg",
    "unit without a space": lambda v: f"{v:.2f}kg",
    "rate": lambda v: f"{v:.2f} km/h",
    "per cent": lambda v: f"{v:.2f}%",
    "money": lambda v: f"${v:,.2f}",
    "money and a comma": lambda v: f"{v:.2f} €".replace(".", ","),
    "minus sign": lambda v: f"\u2212{v:.2f} m",
    "exponent": lambda v: f"{v:.6e} Pa",
}


@pytest.mark.parametrize("how", WRITTEN)
def test_numbers_are_numbers_however_they_are_written(tmp_path, how):
    cells = [WRITTEN[how](v) for v in VALUES]
    with pytest.warns(UserWarning, match="column 'dose' is read as numbers: .* is read as"):
        dm = read(tmp_path, table(dose=cells))
    assert dm.feature_names == ("a", "dose")
    values = np.trunc(VALUES) if "without decimals" in how else VALUES
    values = -values if how == "minus sign" else values
    found = written_numbers(pd.Series(cells))
    np.testing.assert_allclose(found[1].values, values, rtol=1e-6)
    rest = torch.cat([dm.labelled, dm.pool]).numpy()
    expected = (values - values[rest].mean()) / values[rest].std()
    np.testing.assert_allclose(dm.splits.train.inputs[0][:, 1], expected, atol=1e-4)


@pytest.mark.parametrize(
    "cells",
    [
        [decimal.Decimal(f"{v:.2f}") for v in VALUES],
        [f"{v:.2f}" for v in VALUES],
        [f"{v:.2f}" if i % 2 else float(v) for i, v in enumerate(VALUES)],
    ],
)
def test_objects_that_are_plain_numbers_need_no_word(tmp_path, cells, recwarn):
    frame = table(dose=pd.Series(cells, dtype=object))
    if any(isinstance(cell, float) for cell in cells):
        found = written_numbers(frame["dose"])
        np.testing.assert_allclose(found[1].values, VALUES, rtol=1e-6)
        return
    dm = read(tmp_path, frame, form="parquet")
    assert dm.feature_names == ("a", "dose")
    assert quiet(recwarn)


@pytest.mark.parametrize("mark", ["?", "-", "n.a.", "#REF!", "missing", "--"])
def test_marks_of_gaps_are_gaps(tmp_path, mark):
    cells = VALUES.astype(object)
    cells[[3, 17]] = mark
    with pytest.raises(ValueError, match=r"empty or infinite cells in numeric columns: dose \(2\)"):
        read(tmp_path, table(dose=cells))
    with pytest.warns(UserWarning, match=r"in 2 cell\(s\) are missing"):
        dm = read(tmp_path, table(dose=cells), missing="mean")
    assert dm.splits.train.inputs[0][[3, 17], 1].tolist() == [0, 0]


@pytest.mark.parametrize("odd", ["< 0.5", "see note", "3 to 4", "1.2.3", "5 mg", "12:30", "1,5"])
def test_cells_that_are_no_numbers_are_named(tmp_path, odd):
    cells = VALUES.astype(object)
    cells[[7, 50]] = odd
    said = rf"'dose' holds numbers, but 2 of its 60 cells are none, first in row 7: '{odd}'"
    for missing in ("error", "mean"):
        with pytest.raises(ValueError, match=said.replace(".", r"\.")):
            read(tmp_path, table(dose=cells), missing=missing)
    dm = read(tmp_path, table(dose=cells), categorical=["dose"])
    assert f"dose={odd}" in dm.feature_names
    assert read(tmp_path, table(dose=cells), drop=["dose"]).feature_names == ("a",)


@pytest.mark.parametrize(
    "cells",
    [
        ["red", "blue"],
        ["a1", "b2"],
        ["2024-01-05", "2024-02-06"],
        ["1st", "2nd", "3rd"],
        ["5-6", "7-8"],
    ],
)
def test_words_stay_categories(tmp_path, cells, recwarn):
    dm = read(tmp_path, table(kind=[cells[i % len(cells)] for i in range(N)]))
    assert dm.feature_names == ("a", *(f"kind={c}" for c in sorted(cells)))
    assert quiet(recwarn)


def test_a_second_table_is_read_in_the_form_of_the_first(tmp_path):
    frame = table(dose=[f"{v:.2f} mg" for v in VALUES])
    for unit, refused in (("mg", False), ("g", True)):
        other = tmp_path / f"{unit}.csv"
        frame.assign(dose=[f"{v:.2f} {unit}" for v in VALUES]).to_csv(other, index=False)
        if refused:
            with pytest.raises(ValueError, match=r"'dose' holds numbers, but 60 of its 60"):
                read(tmp_path, frame, test=str(other))
        else:
            dm = read(tmp_path, frame, test=str(other))
            torch.testing.assert_close(dm.splits.test.inputs[0], dm.splits.train.inputs[0])


def test_forms_are_told_apart():
    assert Form(comma=True).number("1.234,5") == 1234.5
    assert Form(comma=True).number("1.5") is None
    assert Form().number("1,234.5") == 1234.5
    assert Form().number("0,5") is None
    assert written_numbers(pd.Series(["0,123", "4,567"]))[1].values.tolist() == [0.123, 4.567]
    assert written_numbers(pd.Series(["1,234", "4,567"]))[1].values.tolist() == [1234, 4567]


@pytest.mark.parametrize(
    ("cells", "missing_label", "known"),
    [
        (lambda v: f"{v:,.2f}", None, N),
        (lambda v: f"{v:.2f} mg" if v > 5000 else "?", None, int((VALUES > 5000).sum())),
        (lambda v: f"{v:.2f}" if v > 5000 else "-999", -999, int((VALUES > 5000).sum())),
        (lambda v: f"{v:.2f}" if v > 5000 else "not yet", "not yet", int((VALUES > 5000).sum())),
    ],
)
@pytest.mark.filterwarnings("ignore:.*is read as numbers")
def test_regression_targets_are_read_alike(tmp_path, cells, missing_label, known):
    frame = table(z=[cells(v) for v in VALUES])
    dm = read(tmp_path, frame, "z", task="regression", missing_label=missing_label)
    targets = dm.splits.train.targets
    kept = ~targets.isnan()
    assert int(kept.sum()) == known
    np.testing.assert_allclose(targets[kept], VALUES[kept.numpy()], rtol=1e-5)


# --- vectors -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [list, tuple, np.array, lambda v: np.array(v, dtype=np.float32)])
@pytest.mark.parametrize("width", [1, 5])
def test_vectors_become_columns(tmp_path, kind, width):
    vectors = RNG.normal(size=(N, width))
    frame = table(emb=[kind(v) for v in vectors.tolist()])
    dm = read(tmp_path, frame, form="parquet")
    assert dm.feature_names == ("a", *(f"emb[{i}]" for i in range(width)))
    rest = torch.cat([dm.labelled, dm.pool]).numpy()
    expected = (vectors - vectors[rest].mean(0)) / vectors[rest].std(0)
    np.testing.assert_allclose(dm.splits.train.inputs[0][:, 1:], expected, atol=1e-5)


@pytest.mark.parametrize(
    ("vectors", "form", "said"),
    [
        ([[1.0, 2.0]] * (N - 1) + [[1.0]], "parquet", "one vector of the same length"),
        ([[1.0, 2.0]] * (N - 1) + [None], "parquet", "got 1 empty cells"),
        ([["a", "b"]] * N, "parquet", "lists that are no numbers"),
        ([[0.5, i] for i in range(N)], "csv", "holds lists as text"),
        ([np.array([i, 1.5]) for i in range(N)], "csv", "holds lists as text"),
    ],
)
def test_vectors_that_are_none_are_refused(tmp_path, vectors, form, said):
    frame = table(emb=vectors)
    with pytest.raises(ValueError, match=f"'emb'.*{said}"):
        read(tmp_path, frame, form=form)
    assert read(tmp_path, frame, form=form, drop=["emb"]).feature_names == ("a",)


# --- row numbers ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "numbers", [np.arange(N), np.arange(1, N + 1), np.arange(N)[::-1], RNG.permutation(N)]
)
def test_nameless_row_numbers_are_left_out(tmp_path, numbers):
    with pytest.warns(UserWarning, match="nameless column 'Unnamed: 0' numbers the rows and is le"):
        dm = read(tmp_path, table().set_index(pd.Index(numbers)).reset_index(names=""))
    assert dm.feature_names == ("a",)


@pytest.mark.parametrize(
    ("name", "cells", "said"),
    [
        ("id", np.arange(N), "'id' numbers the rows"),
        ("position", RNG.permutation(N) + 1, "'position' numbers the rows"),
        ("", RNG.normal(size=N), "'Unnamed: 1' has no name"),
    ],
)
def test_other_suspects_are_kept_and_named(tmp_path, name, cells, said):
    with pytest.warns(UserWarning, match=f"{said}.*drop"):
        dm = read(tmp_path, table(**{name: cells}))
    assert len(dm.feature_names) == 2


@pytest.mark.parametrize("cells", [np.arange(N) * 2, np.arange(N) + 5, np.arange(N) // 2])
def test_what_is_no_numbering_is_a_feature(tmp_path, cells, recwarn):
    assert read(tmp_path, table(n=cells)).feature_names == ("a", "n")
    assert quiet(recwarn)


# --- marks of no label ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mark", "classes"),
    [
        ("-1", ("0", "1", "2")),
        ("Unlabelled", ("cat", "dog")),
        ("n/a", ("cat", "dog")),
        ("unknown", ("0", "no")),
        ("TODO", ("a", "b")),
        ("-999", ("0", "7")),
    ],
)
def test_a_mark_among_classes_is_named_and_can_be_declared(tmp_path, mark, classes, recwarn):
    labels = [mark if i % 3 else classes[i // 3 % len(classes)] for i in range(N)]
    frame = table().assign(y=labels)
    with pytest.warns(UserWarning, match=rf"{mark!r} is a class of 40 of 60.*missing_label="):
        assert mark in read(tmp_path, frame).class_names
    recwarn.clear()
    dm = read(tmp_path, frame, missing_label=mark)
    assert dm.class_names == tuple(sorted(classes))
    assert dm.given.tolist() == list(range(0, N, 3))
    assert set(dm.labelled.tolist()) <= set(range(0, N, 3))
    assert mark in read(tmp_path, frame, missing_label=[]).class_names
    assert quiet(recwarn)


@pytest.mark.parametrize("classes", [("-1", "1"), ("0", "1"), ("no", "yes"), ("-2", "-1", "3")])
def test_ordinary_classes_are_no_marks(tmp_path, classes, recwarn):
    frame = table().assign(y=[classes[i % len(classes)] for i in range(N)])
    assert set(read(tmp_path, frame).class_names) == set(classes)
    assert quiet(recwarn)


@pytest.mark.parametrize("marks", [-1, "-1", [-1, "?"], -1.0])
def test_marks_may_be_numbers_or_text(tmp_path, marks):
    frame = table().assign(y=[(-1.0, 0.0, 1.0)[i % 3] for i in range(N)])
    assert read(tmp_path, frame, missing_label=marks).class_names == ("0", "1")


@pytest.mark.parametrize("mark", ["unlabeled", "unknown", "none"])
def test_a_folder_that_is_no_class(tmp_path, mark, recwarn):
    for name in ("cat", "dog", mark):
        (tmp_path / name).mkdir()
        for i in range(6):
            Image.new("RGB", (8, 8), (i * 9, 0, 0)).save(tmp_path / name / f"{i}.png")
    settings = {"image_size": 8, "test": 2, "initial": 2}
    with pytest.warns(UserWarning, match=rf"{mark!r} is a class of 6 of 18 labels"):
        ImageFolderDataModule(str(tmp_path), **settings).setup()
    recwarn.clear()
    dm = ImageFolderDataModule(str(tmp_path), missing_label=mark, **settings)
    dm.setup()
    assert (dm.class_names, len(dm.given)) == (["cat", "dog"], 12)
    assert quiet(recwarn)
