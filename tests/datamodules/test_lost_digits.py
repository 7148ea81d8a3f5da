"""Numbers that float32 cannot tell apart are spoken of where they are read."""

from __future__ import annotations

import warnings

import pandas as pd
import pytest
import torch

from lightning_al.datamodules import ContinuousDataModule, TabularDataModule
from lightning_al.values import narrowed

SAID = "subtract an offset"


def wave(n=60):
    return torch.sin(torch.arange(n, dtype=torch.float64))


@pytest.mark.parametrize("offset", [1e5, -1e7, 1e9])
@pytest.mark.parametrize("shape", [(), (2,)])
def test_lost_digits_are_spoken_of(offset, shape):
    numbers = wave() + offset
    numbers = torch.stack([wave(), numbers], 1) if shape else numbers
    with pytest.warns(UserWarning, match=SAID):
        assert narrowed(numbers, "these").equal(numbers.float())


@pytest.mark.parametrize(
    "numbers",
    [
        wave(),
        wave() + 100.0,
        1e-9 * wave(),
        1e12 * wave(),
        torch.full((9,), 0.1, dtype=torch.float64),
        torch.full((9,), 1e9 + 0.1, dtype=torch.float64),
        torch.tensor([float("nan"), 1.0, 2.0], dtype=torch.float64),
        torch.full((3,), float("nan"), dtype=torch.float64),
        (wave() + 1e9)[:1],
        wave()[:0],
        (wave() + 1e9).float(),
    ],
    ids=range(11),
)
def test_others_are_not(numbers):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        kept = narrowed(numbers, "these")
    torch.testing.assert_close(kept, numbers.float(), equal_nan=True)


def table(folder, offset):
    path = folder / "t.csv"
    pd.DataFrame({"a": torch.rand(60).numpy(), "y": (wave() + offset).numpy()}).to_csv(path)
    TabularDataModule(path, target="y", task="regression", initial=5).start(0)


def function(folder, offset):
    data = ContinuousDataModule(
        [0.0], [1.0], lambda x: x.double()[:, 0] + offset, initial=5, test=9
    )
    data.start(0)


def places(folder, offset):
    x = torch.rand(9, 1)
    begin = (x, x.double()[:, 0] + offset)
    data = ContinuousDataModule(
        [0.0], [1.0], lambda x: x.double()[:, 0] + offset, initial=begin, test=9
    )
    data.start(0)


@pytest.mark.parametrize("read", [table, function, places])
def test_where_they_are_read(read, tmp_path):
    with pytest.warns(UserWarning, match=SAID):
        read(tmp_path, 1e8)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=f".*{SAID}.*")
        read(tmp_path, 1.0)
