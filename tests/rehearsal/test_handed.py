"""A task, data or a Trainer of another kind than a run can use."""

import pytest
import pytorch_lightning as pl
import torch
from helpers import small
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_al import ActiveLearner
from lightning_al.datamodules import ActiveDataModule
from lightning_al.tasks import Classification

SET = TensorDataset(small.blobs().inputs[0], small.blobs().targets)


class Plain(pl.LightningDataModule):
    def train_dataloader(self):
        return DataLoader(SET)


def run(tmp_path, task=None, data=None, **changes):
    task = task or (lambda: Classification(nn.Linear(4, 3), classes=3))
    data = small.datamodule() if data is None else data
    given = {"trainer": small.TRAINER, "query_size": 2, "budget": 2, "run_dir": tmp_path / "run"}
    return ActiveLearner(task, data, strategy="margin", **given | changes).run()


@pytest.mark.parametrize(
    ("data", "mend"),
    [
        (lambda: DataLoader(SET), r"got a DataLoader; .*ActiveDataModule\(loader.dataset"),
        (Plain, r"got a Plain; ActiveDataModule.of_datamodule"),
        (lambda: SET, r"got a TensorDataset; wrap your data sets"),
        (lambda: SET.tensors, r"got a tuple; .*TensorDataset"),
        (lambda: ActiveDataModule, r"got the class ActiveDataModule; build it"),
        (lambda: "table.csv", r"got a str"),
    ],
)
def test_data_of_another_kind(tmp_path, data, mend):
    with pytest.raises(TypeError, match=f"datamodule must be an ActiveDataModule.*{mend}"):
        run(tmp_path, data=data())
    assert not (tmp_path / "run").exists()


def test_a_trainer_that_is_built_already(tmp_path):
    trainer = pl.Trainer(logger=False, accelerator="cpu")
    with pytest.raises(TypeError, match=r"trainer must be the arguments .*lambda: Trainer"):
        run(tmp_path, trainer=trainer)


@pytest.mark.parametrize(
    ("task", "mend"),
    [
        (nn.Linear(4, 3), "got Linear; Classification"),
        ("resnet", "got str"),
        ({"class_path": "Net"}, "got dict"),
    ],
)
def test_a_task_of_another_kind(tmp_path, task, mend):
    with pytest.raises(TypeError, match=f"task must be a LightningModule or a function.*{mend}"):
        run(tmp_path, task=task)


@pytest.mark.parametrize("form", ["tensors", "items", "two inputs"])
def test_float64_inputs_are_named(tmp_path, form):
    x, y = SET.tensors[0].double(), SET.tensors[1]
    train = TensorDataset(x, y)
    label = "auto"
    if form == "items":
        train = [(a.numpy(), int(b)) for a, b in zip(x, y, strict=True)]
    if form == "two inputs":
        train, label = TensorDataset(x, x, y), -1

    class Net(nn.Linear):
        def forward(self, a, b=None):
            return super().forward(a)

    def task():
        return Classification(Net(4, 3), classes=3)

    data = ActiveDataModule(train, 0.2, initial=6, label=label)
    with pytest.raises(ValueError, match=r"inputs are float64.*give float32.*precision"):
        run(tmp_path, task, data)
    exact = {**small.TRAINER, "precision": "64-true"}
    data = ActiveDataModule(train, 0.2, initial=6, label=label)
    assert len(run(tmp_path, task, data, trainer=exact).rounds) == 2


def test_other_errors_stay_as_they_are(tmp_path):
    class Far(nn.Linear):
        def forward(self, inputs):
            return super().forward(inputs) @ torch.zeros(2)

    with pytest.raises(RuntimeError, match="size mismatch"):
        run(tmp_path, lambda: Classification(Far(4, 3), classes=3))
    assert torch.get_default_dtype() == torch.float32
