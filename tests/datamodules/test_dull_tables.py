"""Tables with names that occur twice, and with features that say nothing."""

import gzip
import warnings

import pytest

from lightning_al.datamodules import TabularDataModule

N = 60


def table(path, header, row):
    lines = [header] + [row.format(i=i, m=i % 5, k="pq"[i % 2], w=f"name {i}") for i in range(N)]
    text = "\n".join(lines) + "\n"
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def made(path, target="z", **more):
    data = TabularDataModule(str(path), target, **more)
    data.setup()
    return data


@pytest.mark.parametrize("name", ["t.csv", "t.tsv", "t.csv.gz"])
@pytest.mark.parametrize(
    ("header", "said"),
    [
        ("a,a,z", "'a' (2 times)"),
        ("a,z,z", "'z' (2 times)"),  # the target once more, among the features
        ("z,a,z", "'z' (2 times)"),
        ("a, a,z", "'a' (2 times)"),
        ('"a",a,z', "'a' (2 times)"),
    ],
)
def test_names_that_occur_twice_are_refused(name, header, said, tmp_path):
    row = "{m},{k},{k}"
    if name.endswith(".tsv"):
        header, row = header.replace(",", "\t"), row.replace(",", "\t")
    path = table(tmp_path / name, header, row)
    with pytest.raises(ValueError, match=r"the header line names .* a name of its own") as caught:
        made(path)
    assert said in str(caught.value)


@pytest.mark.parametrize("header", ["a,A,z", "a,a.1,z", "a,b,z", ",b,z", "a,,z"])
def test_names_that_differ_are_taken(header, tmp_path):
    data = made(table(tmp_path / "t.csv", header, "{m},{k},{k}"))
    assert data.in_features == 3  # a number, and two categories


DULL = {
    "a constant": ("a,z", "3,{k}", "'a' has one value in all rows"),
    "two constants": ("a,b,z", "3,x,{k}", "'b' has one value in all rows"),
    "names": ("a,z", "{w},{k}", "'a' has another in each, as an identifier"),
    "names and a constant": ("a,b,z", "{w},3,{k}", "'b' has one value in all rows, 'a' has ano"),
}


@pytest.mark.parametrize("case", DULL)
def test_features_that_say_nothing_are_refused(case, tmp_path):
    header, row, said = DULL[case]
    path = table(tmp_path / "t.csv", header, row)
    with (
        warnings.catch_warnings(action="ignore"),
        pytest.raises(ValueError, match=f"nothing can be learned .*{said}"),
    ):
        made(path)


@pytest.mark.parametrize("beside", ["7", "x", "{w}"])
def test_one_that_says_something_is_enough(beside, tmp_path):
    path = table(tmp_path / "t.csv", "a,b,z", "{m}," + beside + ",{k}")
    with pytest.warns(UserWarning, match="'b' .*(say nothing|looks like an identifier)"):
        made(path)


@pytest.mark.parametrize("row", ["{m},{k}", "{i}.5,{k}", "{i} mg,{k}"])
def test_numbers_are_no_identifiers(row, tmp_path):
    with warnings.catch_warnings(action="ignore"):
        assert made(table(tmp_path / "t.csv", "a,z", row)).in_features >= 1
