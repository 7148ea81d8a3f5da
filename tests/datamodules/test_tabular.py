"""A user's own table: what is read, how it is encoded, and what is refused."""

import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from jsonargparse import ArgumentParser

from lightning_al.datamodules.readers.encoding import class_targets
from lightning_al.datamodules.tabular import TabularDataModule


def frame(rows=40):
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "age": rng.integers(20, 60, rows),
            "colour": rng.choice(["red", "blue", "green"], rows),
            "height": rng.normal(170, 10, rows),
            "smokes": rng.random(rows) < 0.5,
            "constant": 3,
            "kind": [("cat", "dog")[i % 2] for i in range(rows)],
            "weight": rng.normal(70, 5, rows),
        }
    )


def save(table, path):
    if path.suffix == ".parquet":
        table.to_parquet(path)
    else:
        table.to_csv(path, index=False, sep="\t" if ".tsv" in path.suffixes else ",")
    return str(path)


def built(path, target="kind", **kwargs):
    dm = TabularDataModule(str(path), target, **kwargs)
    dm.setup()
    return dm


def features(dm):
    return dm.splits.train.inputs[0].double()


@pytest.mark.parametrize("name", ["t.csv", "t.csv.gz", "t.tsv", "t.parquet"])
def test_every_form_gives_the_same_items(tmp_path, name):
    reference = built(save(frame(), tmp_path / "reference.csv"))
    dm = built(save(frame(), tmp_path / name))
    torch.testing.assert_close(features(dm), features(reference))
    assert torch.equal(dm.splits.train.targets, reference.splits.train.targets)
    assert dm.feature_names == reference.feature_names
    assert dm.class_names == ("cat", "dog")


def test_numbers_are_standardised_on_labelled_and_pool_rows_and_categories_are_one_hot(tmp_path):
    table = frame()
    dm = built(save(table, tmp_path / "t.csv"), val=0.2)
    assert dm.feature_names == (
        "age", "colour=blue", "colour=green", "colour=red", "height", "smokes=False",
        "smokes=True", "constant", "weight",
    )  # fmt: skip
    learn = torch.cat([dm.labelled, dm.pool]).numpy()
    assert len(learn) == 40 - 8 - 8
    expected = np.zeros((40, 9))
    for column, place in (("age", 0), ("height", 4), ("weight", 8)):
        values = table[column].to_numpy(float)
        expected[:, place] = (values - values[learn].mean()) / values[learn].std()
    for i, (colour, smokes) in enumerate(zip(table["colour"], table["smokes"], strict=True)):
        expected[i, 1 + ["blue", "green", "red"].index(colour)] = 1
        expected[i, 5 + int(smokes)] = 1
    np.testing.assert_allclose(features(dm), expected, atol=1e-6)
    assert dm.splits.train.inputs[0].dtype == torch.float32
    assert (dm.in_features, dm.classes, dm.outputs) == (9, 2, None)
    assert dm.splits.train.targets.tolist() == [i % 2 for i in range(40)]


def test_the_test_part_is_by_class_and_fixed(tmp_path):
    path = save(frame(), tmp_path / "t.csv")
    dm = built(path)
    assert dm.splits.train.targets[dm.splits.test].bincount().tolist() == [4, 4]
    assert torch.equal(built(path, seed=5).splits.test, dm.splits.test)
    assert not torch.equal(built(path, split_seed=5).splits.test, dm.splits.test)
    assert len(dm.labelled) == 10


def test_regression_targets_keep_their_unit(tmp_path):
    table = frame()
    dm = built(save(table, tmp_path / "t.csv"), "weight", task="regression")
    np.testing.assert_allclose(dm.splits.train.targets, table["weight"], rtol=1e-6)
    assert dm.splits.train.targets.dtype == torch.float32
    assert (dm.outputs, dm.classes, dm.class_names) == (1, None, None)


@pytest.mark.parametrize("name", ["t.csv", "t.parquet"])
@pytest.mark.parametrize(("target", "task"), [("kind", "classification"), ("weight", "regression")])
def test_rows_without_a_target_are_pool_items_without_a_label(tmp_path, name, target, task):
    table = frame()
    table.loc[10:, target] = None
    dm = built(save(table, tmp_path / name), target, task=task, val=2)
    assert dm.given.tolist() == list(range(10))
    held = set(dm.splits.test.tolist()) | set(dm.splits.val.tolist())
    assert len(held) == 4
    assert held < set(range(10))
    assert set(dm.labelled.tolist()) == set(range(10)) - held
    assert dm.pool.tolist() == list(range(10, 40))
    item = dm.pool[:1]
    with pytest.raises(ValueError, match="carry no label"):
        dm.acquire(item)
    dm.acquire(item, torch.tensor([1]) if task == "classification" else torch.tensor([70.5]))
    assert float(dm.labels(item)) in (1.0, 70.5)


def test_initial_can_be_smaller_than_what_is_given(tmp_path):
    table = frame()
    table.loc[20:, "kind"] = None
    dm = built(save(table, tmp_path / "t.csv"), initial=4)
    assert len(dm.labelled) == 4
    assert set(dm.labelled.tolist()) < set(range(20))


@pytest.mark.parametrize(
    ("cells", "names", "classes"),
    [
        (["10", "9", "", "10"], ["10", "9", None, "10"], ("9", "10")),
        (["1.0", "2", "NA", "1"], ["1", "2", None, "1"], ("1", "2")),
        (["0.5", "-1", "0.5"], ["0.5", "-1", "0.5"], ("-1", "0.5")),
        (["NA", "b", " ", "a "], ["NA", "b", None, "a"], ("NA", "a", "b")),
        ([True, False, None], ["True", "False", None], ("False", "True")),
        ([2.0, np.nan, 1.0], ["2", None, "1"], ("1", "2")),
    ],
)
def test_classes_of_any_type_in_a_sensible_order(cells, names, classes):
    assert class_targets(pd.Series(cells, dtype=object)) == (names, classes)


def test_a_class_called_na_is_no_empty_cell(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("x,region\n" + "1,NA\n2,EU\n3,\n" * 5)
    dm = built(path, "region", initial=2)
    assert dm.class_names == ("EU", "NA")
    assert len(dm.given) == 10


def test_a_second_table_is_the_test_set_under_the_same_scaling(tmp_path):
    table, other = frame(), frame(6)
    other["extra"] = 1
    other = other[other.columns[::-1]]
    dm = built(
        save(table, tmp_path / "t.csv"), test=save(other, tmp_path / "test.csv"), drop=["age"]
    )
    assert len(dm.splits.train) == 40
    values = table["height"].to_numpy()
    place = dm.feature_names.index("height")
    expected = (other["height"] - values.mean()) / values.std()
    np.testing.assert_allclose(dm.splits.test.inputs[0][:, place], expected, atol=1e-6)
    assert dm.splits.test.targets.tolist() == [0, 1] * 3
    assert next(iter(dm.test_dataloader()))[0].shape == (6, dm.in_features)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", r"column\(s\) 'constant'")
        built(tmp_path / "t.csv", test=str(tmp_path / "test.csv"))


def test_an_unseen_category_is_all_zeros_with_a_warning(tmp_path):
    other = frame(6)
    other.loc[2, "colour"] = "mauve"
    path, test = save(frame(), tmp_path / "t.csv"), save(other, tmp_path / "test.csv")
    with pytest.warns(UserWarning, match="'colour': mauve never occur"):
        dm = built(path, test=test)
    hot = [i for i, name in enumerate(dm.feature_names) if name.startswith("colour=")]
    assert dm.splits.test.inputs[0][:, hot].sum(1).tolist() == [1, 1, 0, 1, 1, 1]


def test_categories_do_not_depend_on_the_order_of_rows(tmp_path):
    table = frame()
    a = built(save(table, tmp_path / "a.csv"), categorical=["colour", "smokes", "age"])
    b = built(save(table[::-1], tmp_path / "b.csv"), categorical=["colour", "smokes", "age"])
    assert a.feature_names == b.feature_names
    ages = [name for name in a.feature_names if name.startswith("age=")]
    assert ages == [f"age={value}" for value in sorted(set(table["age"]))]


def test_an_empty_category_cell_is_a_category(tmp_path):
    table = frame()
    table.loc[[1, 5], "colour"] = None
    dm = built(save(table, tmp_path / "t.csv"))
    place = dm.feature_names.index("colour=(missing)")
    assert features(dm)[:, place].nonzero().flatten().tolist() == [1, 5]


def test_missing_numbers_are_an_error_or_the_mean(tmp_path):
    table = frame().astype({"age": float})
    table.loc[[0, 3], "age"] = np.nan
    table.loc[7, "height"] = np.inf
    path = save(table, tmp_path / "t.csv")
    with pytest.raises(ValueError, match=r"age \(2\), height \(1\).*missing=\"mean\""):
        built(path)
    dm = built(path, missing="mean")
    assert features(dm)[[0, 3], 0].tolist() == [0, 0]
    assert float(features(dm)[7, dm.feature_names.index("height")]) == 0
    learn = [i for i in torch.cat([dm.labelled, dm.pool]).tolist() if i not in (0, 3)]
    values = table["age"].to_numpy()
    expected = (values[1] - values[learn].mean()) / values[learn].std()
    assert float(features(dm)[1, 0]) == pytest.approx(expected, abs=1e-6)


def test_a_column_without_any_number_is_refused(tmp_path):
    table = frame()
    table["age"] = np.nan
    with pytest.raises(ValueError, match="age hold no number in any row"):
        built(save(table, tmp_path / "t.csv"), missing="mean")


def test_drop_takes_columns_out_and_identifiers_are_pointed_at(tmp_path):
    table = frame(60)
    table["name"] = [f"row {i}" for i in range(60)]
    path = save(table, tmp_path / "t.csv")
    with pytest.warns(UserWarning, match="'name' has 60 different values"):
        built(path)
    dm = built(path, drop=["name", "colour", "smokes"])
    assert dm.feature_names == ("age", "height", "constant", "weight")


@pytest.mark.parametrize(
    ("kwargs", "why"),
    [
        (
            {"target": "knd"},
            r"no target column 'knd' \(did you mean 'kind'\?\); its columns are age",
        ),
        ({"drop": ["ages"]}, r"no drop column 'ages' \(did you mean 'age'\?\)"),
        ({"categorical": ["hue"]}, "no categorical column 'hue'"),
        ({"drop": ["kind"]}, "'kind' is the target"),
        ({"categorical": ["age"]}, "columns colour, smokes are not numeric"),
        ({"target": "constant"}, r"has 1 class\(es\) \(3\)"),
        ({"task": "regression"}, "must be finite numbers or empty, got 'cat' in row 0"),
        ({"task": "ranking"}, "task must be one of classification, regression, got 'ranking'"),
        ({"missing": "median"}, "missing must be one of error, mean, got 'median'"),
        ({"test": 40}, "would take all of the 40 items that have a label"),
    ],
)
def test_wrong_arguments_say_what_is_expected(tmp_path, kwargs, why):
    path = save(frame(), tmp_path / "t.csv")
    with pytest.raises(ValueError, match=why):
        built(path, **kwargs)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "is empty; expected a header line"),
        ("a,kind\n", "holds 0 rows x 2 columns"),
        ("kind\na\nb\n", "no column left besides the target"),
        ("a,kind\n1,x,2\n1,y,2\n", "more cells than the header"),
        ("a,kind\n0,1,x\n1,2,y\n", "more cells than the header"),  # counts up like an index
        ('a,kind\n1,"x\n2,y\n', "no table separated by ','"),
        ("a,kind\n1,x\n2,y\n1,2,3,4\n", "no table separated by ','"),
        ("a,kind\n1,\n2,\n", r"has 0 class\(es\)"),
        ("a;kind\n1;x\n2;y\n", r"no target column 'kind'.*its columns are a;kind"),
    ],
)
def test_bad_files_are_named(tmp_path, text, why):
    path = tmp_path / "bad.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=rf"bad\.csv.*{why}"):
        built(path)


def test_a_separator_can_be_named(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("a;kind\n" + "1;x\n2;y\n" * 10)
    assert built(path, separator=";", initial=2).class_names == ("x", "y")


def test_files_that_are_not_there_or_no_parquet(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no table at .*absent\.csv"):
        built(tmp_path / "absent.csv")
    path = tmp_path / "t.parquet"
    path.write_bytes(b"no")
    with pytest.raises(ValueError, match=r"t\.parquet is no parquet file"):
        built(path)


def test_times_are_refused(tmp_path):
    table = frame()
    table["day"] = pd.date_range("2024-01-01", periods=40)
    with pytest.raises(ValueError, match="columns day are not numeric"):
        built(save(table, tmp_path / "t.parquet"))


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda t: t.drop(columns="height"), r"no feature column 'height'"),
        (lambda t: t.drop(columns="kind"), "no target column 'kind'"),
        (lambda t: t.assign(kind="bird"), r"class\(es\) bird never occur"),
        (lambda t: t.assign(kind=[None, *t["kind"][1:]]), "1 test rows have no 'kind'"),
        (lambda t: t.assign(height=[None, *t["height"][1:]]), r"height \(1\)"),
    ],
)
def test_a_wrong_test_table_is_named(tmp_path, change, why):
    path = save(frame(), tmp_path / "t.csv")
    with pytest.raises(ValueError, match=rf"test\.csv.*{why}"):
        built(path, test=save(change(frame(6)), tmp_path / "test.csv"))


def test_infinite_regression_targets_are_refused(tmp_path):
    table = frame()
    table.loc[4, "weight"] = np.inf
    with pytest.raises(ValueError, match=r"finite numbers or empty, got 'inf' in row 4 \(1 such"):
        built(save(table, tmp_path / "t.csv"), "weight", task="regression")


def test_the_command_line_can_set_the_arguments(tmp_path):
    path = save(frame(), tmp_path / "t.csv")
    parser = ArgumentParser()
    parser.add_class_arguments(TabularDataModule, "data")
    args = [f"--data.path={path}", "--data.target=kind", "--data.test=0.3", "--data.drop=[age]"]
    dm = TabularDataModule(**parser.parse_args(args).data.as_dict())
    dm.setup()
    assert len(dm.splits.test) == 12
    args = [*args[:2], f"--data.test={path}", "--data.initial=given", "--data.val=0.1"]
    dm = TabularDataModule(**parser.parse_args(args).data.as_dict())
    dm.setup()
    assert len(dm.splits.test) == 40
