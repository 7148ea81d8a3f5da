"""What newcomers hand over: refused with how to wrap it, or wrapped."""

import numpy as np
import pandas as pd
import pytest
import pytorch_lightning as pl
import torch
from helpers import small
from torch import nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from lightning_al.datamodules import ActiveDataModule

X, Y = small.blobs(40).inputs[0], small.blobs(40).targets
SET = TensorDataset(X, Y)


class Stream(IterableDataset):
    def __iter__(self):
        return iter(SET)


class NoLength(Dataset):
    def __getitem__(self, i):
        return SET[i]


class Plain(pl.LightningDataModule):
    """A data module as Lightning's own pages have it."""

    def __init__(self, **loader):
        super().__init__()
        self.loader, self.ready = {"batch_size": 7} | loader, []

    def prepare_data(self):
        self.ready.append("prepared")

    def setup(self, stage):
        self.ready.append(stage)

    def train_dataloader(self):
        return DataLoader(SET, shuffle=True, **self.loader)

    def val_dataloader(self):
        return DataLoader(small.blobs(9, 1), 5)

    def test_dataloader(self):
        return DataLoader(small.blobs(12, 2), 5)


@pytest.mark.parametrize(
    ("train", "mend"),
    [
        (lambda: DataLoader(SET), "got a DataLoader; give the data set of the loader"),
        (Stream, "got a Stream; a stream has no positions"),
        (NoLength, "got a NoLength; give NoLength the method __len__"),
        (lambda: iter(SET), "__getitem__"),
        (lambda: (X.numpy(), Y.numpy()), "a tuple of 2 arrays; give TensorDataset"),
        (lambda: [X, Y], "a list of 2 arrays; give TensorDataset"),
        (lambda: (X, Y, X), "a tuple of 3 arrays"),
        (lambda: pd.DataFrame({"a": [1]}), r"TabularDataModule\(path, target\)"),
        (lambda: "table.csv", r"got a str; read the file: TabularDataModule"),
        (lambda: {"train": SET, "test": SET}, r"one of its entries \(train, test\)"),
        (lambda: nn.Linear(2, 2), r"ActiveLearner\(task=…\)"),
        (lambda: pl.Trainer(logger=False, accelerator="cpu"), r"ActiveLearner\(trainer=…\)"),
        (Plain, r"ActiveDataModule.of_datamodule\(yours\)"),
        (lambda: 7, "wrap it in a class"),
    ],
)
def test_what_is_no_data_set_is_refused_with_the_mend(train, mend):
    said = rf"must be a map-style data set .*{mend}"
    with pytest.raises(TypeError, match=f"train {said}"):
        ActiveDataModule(train(), 0.2).setup()
    with pytest.raises(TypeError, match=f"pool {said}"):
        ActiveDataModule(SET, 0.2, pool=train()).setup()


@pytest.mark.parametrize("name", ["test", "val"])
@pytest.mark.parametrize(
    "value",
    [
        lambda: DataLoader(SET),
        Stream,
        Plain,
        lambda: (X, Y),
        lambda: {"a": SET},
        lambda: list(SET),
    ],
)
def test_held_out_parts_too(name, value):
    with pytest.raises(TypeError, match=rf"{name} must be .* a share of train such as 0.2, or pos"):
        ActiveDataModule(SET, **({"test": 0.2} | {name: value()})).setup()


@pytest.mark.parametrize(
    "train",
    [list(SET), tuple(SET), SET, small.blobs(), [X[0], X[1], X[2]], np.zeros((9, 2)), X],
    ids=lambda value: type(value).__name__,
)
def test_what_can_be_read_by_position_is_taken(train):
    ActiveDataModule(train, small.blobs(5, 1), initial=0).setup()


@pytest.mark.parametrize("held", [[0, 1], (0, 1), range(2), np.arange(2), torch.arange(2), 2, 0.05])
def test_shares_counts_and_positions_are_no_data_sets(held):
    data = ActiveDataModule(SET, held, initial=3)
    data.setup()
    assert len(data.held["test"]) == 2


def test_a_plain_data_module_is_wrapped_by_its_sets():
    plain = Plain()
    data = ActiveDataModule.of_datamodule(plain, initial=6)
    data.setup()
    assert plain.ready == ["prepared", "fit", "test"]
    assert (len(data.items), data.batch_size, data.collate) == (40, 7, None)
    assert sum(len(batch[1]) for batch in data.val_dataloader()) == 9
    assert sum(len(batch[1]) for batch in data.test_dataloader()) == 12
    other = ActiveDataModule.of_datamodule(Plain(collate_fn=list), test=0.2, batch_size=3)
    assert (other.collate, other.batch_size) == (list, 3)


def test_a_module_of_several_loaders_is_refused():
    class Two(Plain):
        def train_dataloader(self):
            return [DataLoader(SET), DataLoader(SET)]

    with pytest.raises(ValueError, match="train_dataloader gives a list, expected one DataLoader"):
        ActiveDataModule.of_datamodule(Two())
