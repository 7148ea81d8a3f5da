"""A count stays a count and a share a share from the command line and YAML to the draw."""

import inspect

import pytest
import yaml
from helpers import small

from lightning_al import datamodules
from lightning_al.assembly.parser import parse
from lightning_al.datamodules import ActiveDataModule, DigitsDataModule
from lightning_al.datamodules.splits import share_to_count

PARTS = [
    (name, part)
    for name in datamodules.__all__
    for part in ("test", "val", "initial")
    if isinstance(getattr(datamodules, name), type)
    for hint in [str(inspect.signature(getattr(datamodules, name)).parameters.get(part))]
    if "int" in hint and "float" in hint
]
NEEDED = {
    "TabularDataModule": {"path": "a.csv", "target": "y"},
    "ImageFolderDataModule": {"root": "a"},
    "NamedDataModule": {"name": "glass"},
    "EmbeddingsDataModule": {"path": "a.npy"},
    "EmbeddedDataModule": {"source": "DigitsDataModule", "extractor": "Raw"},
    "TextDataModule": {"path": "a.csv"},
}
TEXTS = {"1": 1, "8": 8, "1.0": 1.0, "0.25": 0.25, "3.0": 3.0}


def test_every_data_module_with_parts_is_here():
    assert {"ActiveDataModule", "DigitsDataModule", "TabularDataModule"} <= {n for n, _ in PARTS}
    assert {part for _, part in PARTS} == {"test", "val", "initial"}


@pytest.mark.parametrize(("name", "part"), PARTS)
@pytest.mark.parametrize("way", ["typed", "yaml"])
def test_numbers_keep_their_kind(name, part, way, tmp_path):
    words = ["run", "--config", "quickstart", "--data", name]
    for key, value in NEEDED.get(name, {}).items():
        words += [f"--data.{key}", value]
    for text, value in TEXTS.items():
        more = [f"--data.{part}", text]
        if way == "yaml":
            spec = {"class_path": f"lightning_al.datamodules.{name}", "init_args": {part: value}}
            (tmp_path / "it.yaml").write_text(yaml.safe_dump({"data": spec}))
            more = ["--config", str(tmp_path / "it.yaml")]
        found = parse([*words, *more])["data"]["init_args"][part]
        assert (found, type(found)) == (value, type(value)), text


@pytest.mark.parametrize("part", ["test", "val"])
@pytest.mark.parametrize(("amount", "count"), [(1, 1), (7, 7), (0.5, 30), (0.05, 3), (12.0, 12)])
def test_what_is_drawn(part, amount, count):
    others = {"test": small.blobs(9, seed=3), "val": None} | {part: amount}
    data = ActiveDataModule(small.blobs(), initial=2, **others)
    data.setup()
    assert len(data.held[part]) == count


@pytest.mark.parametrize("part", ["test", "val", "initial"])
def test_all_of_them_as_a_share_is_refused_and_says_what_one_item_is(part):
    data = ActiveDataModule(small.blobs(), **({"test": 2, "initial": 2} | {part: 1.0}))
    said = rf"{part} as a share must lie in \(0, 1\), got 1.0; .* whole number: 1 for one item"
    with pytest.raises(ValueError, match=said):
        data.setup()


def test_one_validation_item_of_a_data_set_that_is_shipped():
    data = DigitsDataModule(val=1, initial=5)
    data.setup()
    assert len(data.held["val"]) == 1


@pytest.mark.parametrize("n", [1, 2, 10, 1000])
def test_one_is_one_of_any_number(n):
    assert share_to_count(1, n, "val") == 1
    assert share_to_count(0.999999, n, "val") == max(1, round(0.999999 * n))
