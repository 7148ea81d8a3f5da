"""Data, a task and grids whose runs are fitted together, in float64."""

import copy

import torch

from lightning_al.datamodules.pool_data import PoolDataModule, Splits
from lightning_al.datamodules.tensors import TensorItems
from lightning_al.networks import MLP
from lightning_al.tasks import Classification

from . import small


class Clouds(PoolDataModule):
    """Three clouds, 48 items and 30 for the test; some of them may be spoilt.

    Args:
        split_seed: of the items.
        spoilt: so many items have features whose sums are no numbers.
        val: share held out for validation.
        kwargs: of every pool.
    """

    classes, in_features = small.CLASSES, small.FEATURES

    def __init__(self, split_seed: int = 0, spoilt: int = 0, val: float | None = None, **kwargs):
        super().__init__(**({"initial": 6, "batch_size": 4} | kwargs))
        self.split_seed, self.spoilt, self.val_size = split_seed, spoilt, val

    def load(self):
        made = small.blobs(48, seed=self.split_seed)
        inputs, test = made.inputs[0].double(), small.blobs(30, seed=99)
        inputs[len(inputs) - self.spoilt :] = 1.7e308
        return Splits(
            train=TensorItems(inputs, made.targets),
            test=TensorItems(test.inputs[0].double(), test.targets),
            val=self.val_size,
        )


class Double(Classification):
    """A small network with dropout, in float64."""

    def __init__(self, dropout: float = 0.3, lr: float = 0.02):
        network = MLP(in_features=small.FEATURES, hidden=[8], outputs=3, dropout=dropout)
        super().__init__(network, small.CLASSES, lr=lr, metrics=["accuracy", "nll"])
        self.double()


class Single(Double):
    """The same in float32."""

    def __init__(self, dropout: float = 0.3, lr: float = 0.02):
        super().__init__(dropout, lr)
        self.float()

    def split(self, batch):
        inputs, targets = super().split(batch)
        return inputs.float(), targets

    def forward(self, inputs):
        return super().forward(inputs.float())


class Looks(Double):
    """Asks for a number of its loss, which a stack cannot tell."""

    def training_step(self, batch, batch_idx):
        loss = super().training_step(batch, batch_idx)
        assert loss.item() == loss.item()
        return loss


def settings(*, seeds=3, strategies=("random", "margin"), data=None, model=None, **common):
    """A grid of small runs of two queries."""
    trainer = {"max_epochs": 2, "accelerator": "cpu", "devices": 1}
    given = {"query_size": 4, "budget": 8, "trainer": trainer, "fits": "stacked"}
    return copy.deepcopy(
        {
            "metric": "test/accuracy",
            "seeds": seeds,
            "data": {
                "clouds": {"class_path": "helpers.stack_parts.Clouds", "init_args": data or {}}
            },
            "models": {"mlp": model or {"class_path": "helpers.stack_parts.Double"}},
            "strategies": strategies,
            "common": given | common,
        }
    )


def same_numbers(one, other, within=1e-9):
    """Whether nested plain values are equal, numbers to within so much."""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same_numbers(one[k], other[k]) for k in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same_numbers, one, other))
    if isinstance(one, float) and isinstance(other, float):
        return bool(torch.isclose(*torch.tensor([one, other]).double(), rtol=within, atol=within))
    return one == other
