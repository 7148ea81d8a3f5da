"""Many fits as one give what each gives alone: weights, metrics, stops, states (float64, 1e-9)."""

import pytest
import torch
from helpers import lean_parts as parts
from helpers import small, stacks
from pytorch_lightning.callbacks import EarlyStopping
from torch.nn import functional as F

from lightning_al.fits.stacked import fit_stack


@pytest.fixture(autouse=True)
def float64():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


class Validates(parts.Mine):
    """Dropout and batch norm, and a loss that a callback looks at."""

    def __init__(self):
        super().__init__()
        self.net[0].bias = None  # before a batch norm its gradient is rounding alone

    def validation_step(self, batch, batch_idx):
        self.log("val/loss", F.cross_entropy(self(batch[0]), batch[1]))


TASKS = {
    "classification": (parts.classification(), stacks.classes),
    "class weights": (parts.classification(class_weights="balanced"), stacks.classes),
    "gaussian": (small.regression_task, stacks.numbers),
    "mse": (parts.mse, stacks.numbers),
    "batch norm": (Validates, stacks.classes),
}


def both(task, **settings):
    stack, twins = (stacks.members(task, **settings) for _ in range(2))
    found = fit_stack(stack)
    stacks.agree(stack, twins, found)
    return stack, found


@pytest.mark.parametrize("name", TASKS)
def test_a_stack_is_its_members(name):
    task, data = TASKS[name]
    both(task, data=data)


def test_each_stops_when_it_would_alone():
    def stops(seed):
        return [EarlyStopping("val/loss", patience=0, min_delta=0.02)]

    _, found = both(Validates, n=12, callbacks=stops, max_epochs=60)
    assert len({trainer.current_epoch for trainer in found}) > 4
