"""A label that is missing far behind, in a data set that is read item by item, is met when read."""

import logging
from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch
from helpers import small
from torch.utils.data import Dataset

from lightning_al.datamodules import ActiveDataModule
from lightning_al.datamodules.opening import LOOKED_AT
from lightning_al.oracles import SimulatedOracle
from lightning_al.records import Acquisition, Status

N, NAN = 3000, float("nan")
GAP = 1234  # not among those looked at when a run begins


class Lazy(Dataset):
    """Classes, or numbers, but for one item."""

    def __init__(self, gap=None, number=False, n=N, at=GAP):
        self.gap, self.number, self.n, self.at, self.reads = gap, number, n, at, 0

    def __len__(self):
        return self.n

    def __getitem__(self, i):
        self.reads += 1
        x = torch.full((4,), float(i % 3))
        if i == self.at:
            return x, self.gap
        return x, i % 3 / 2 if self.number else i % 3


def made(dataset, **changes):
    data = small.Blobs(dataset, [0, 1, 2], **({"initial": [3, 4, 5]} | changes))
    data.setup()
    return data


GAPS = {"None": (None, False), "NaN": (NAN, True), "a tensor": (torch.tensor(NAN), True)}


@pytest.mark.parametrize("case", GAPS)
def test_the_oracle_refuses_the_item_and_answers_the_others(case, caplog):
    gap, number = GAPS[case]
    dataset = Lazy(gap, number)
    data = ActiveDataModule(dataset, [0, 1, 2], initial=[3, 4, 5])
    data.setup()
    assert dataset.reads < 3 * LOOKED_AT  # it was not read whole
    index = torch.tensor([7, GAP, 8])
    with caplog.at_level(logging.WARNING):
        answers = SimulatedOracle(cost=2.0).ask(index, data, 0)
    assert f"the label of 1 item(s), first: [{GAP}]" in caplog.text
    assert answers.refused.tolist() == [False, True, False]
    assert answers.cost.tolist() == [2.0, 0.0, 2.0]
    data.acquire(index, answers)
    assert data.status[index].tolist() == [Status.LABELLED, Status.REFUSED, Status.LABELLED]
    expected = [7 % 3 / 2, 1.0] if number else [1, 2]
    assert data.labels(index[[0, 2]]).tolist() == expected


def test_nothing_but_gaps():
    data = made(Lazy())
    answers = SimulatedOracle().ask(torch.tensor([GAP]), data, 0)
    assert answers.refused.tolist() == [True]
    data.acquire([GAP], answers)
    assert int(data.status[GAP]) == Status.REFUSED


@pytest.mark.parametrize("case", GAPS)
def test_a_gap_that_is_labelled_or_held_is_named(case):
    gap, number = GAPS[case]
    data = ActiveDataModule(Lazy(gap, number), [0, 1, 2], initial=[3, GAP])
    data.setup()
    with pytest.raises(ValueError, match=rf"item {GAP} carries None or NaN .*given=\[…\]"):
        data.labelled_targets()
    with pytest.raises(ValueError, match=rf"item {GAP} has no label .*given=\[…\]"):
        data.items.batch(torch.tensor([3, GAP]))


@pytest.mark.parametrize("n", [1, 5, 700])
def test_what_is_known_is_what_has_a_label(n):
    data = made(Lazy(at=GAP))
    index = torch.randperm(N, generator=torch.Generator().manual_seed(n))[:n]
    index = torch.cat([index, torch.tensor([GAP])])
    assert data.items.known(index).tolist() == [i != GAP for i in index.tolist()]
    assert bool(small_tensors().items.known(torch.arange(4)).all())


def small_tensors():
    data = small.datamodule()
    data.setup()
    return data


@dataclass(frozen=True)
class InOrder:
    """Asks for some items first, in their order, then for any."""

    first: tuple[int, ...] = ()
    needs: ClassVar = ()
    keeps: ClassVar = ()
    members: ClassVar = "one"
    privileged: ClassVar = False

    def choose(self, pool, k, generator):
        free = pool.index.tolist()
        order = dict.fromkeys([i for i in self.first if i in free] + free)
        return Acquisition(torch.tensor(list(order)[:k]))


def test_a_run_goes_on_without_the_item(tmp_path):
    def learner():
        data = small.Blobs(Lazy(n=300, at=234), [0, 1, 2], initial=[3, 4, 5], batch_size=4)
        asks = InOrder((234, *range(10, 19)))
        return small.learner(tmp_path / "run", datamodule=data, strategy=asks)

    first, again = learner(), learner()
    history = first.run()
    assert again.run().acquired == history.acquired  # from the journal
    for one in (first, again):
        assert int(one.datamodule.status[234]) == Status.REFUSED
        assert len(one.datamodule.labelled) == 3 + len(history.acquired)
    assert history.acquired[:9] == list(range(10, 19))
