"""A user's collation gets what a plain DataLoader would give it."""

from collections import UserDict

import pytest
import torch
from helpers import small
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader, Dataset, Subset

from lightning_al import ActiveLearner
from lightning_al.datamodules import ActiveDataModule
from lightning_al.tasks import Classification

N = 30


class Sequences(Dataset):
    """Sequences of several lengths, and a class; None from position ``known`` on."""

    def __init__(self, known=N, mapping=False):
        self.known, self.mapping = known, mapping

    def __len__(self):
        return N

    def __getitem__(self, i):
        x, y = torch.full((1 + i % 4, 2), float(i)), (i % 3 if i < self.known else None)
        return {"x": x, "c": y} if self.mapping else (x, y)


def padded(items):
    xs, ys = zip(*items, strict=True)
    return pad_sequence(xs, batch_first=True), torch.tensor(ys)


def with_lengths(items):
    xs, ys = zip(*items, strict=True)
    lengths = torch.tensor([len(x) for x in xs])
    return pad_sequence(xs, batch_first=True), lengths, torch.tensor(ys)


def keyed(items):
    xs, ys = padded(items)
    return {"x": xs, "labels": ys}


def user_dict(items):
    return UserDict(keyed(items))


def of_mappings(items):
    return {
        "x": pad_sequence([item["x"] for item in items], batch_first=True),
        "c": torch.tensor([item["c"] for item in items]),
    }


CASES = {
    "pair": (padded, {}, lambda batch: batch[0]),
    "three parts": (with_lengths, {"label": -1}, lambda batch: tuple(batch[:-1])),
    "mapping by a usual key": (keyed, {}, lambda batch: {"x": batch["x"]}),
    "another class of mappings": (user_dict, {}, lambda batch: {"x": batch["x"]}),
    "mapping by its key": (of_mappings, {"label": "c"}, lambda batch: {"x": batch["x"]}),
    "list of items": (list, {}, lambda batch: [x for x, _ in batch]),
    "reversed list": (lambda items: items[::-1], {}, lambda batch: [x for x, _ in batch]),
}


@pytest.mark.parametrize("known", [N, 20])
@pytest.mark.parametrize("case", CASES)
def test_pool_and_training_batches_are_those_of_a_plain_loader(case, known):
    collate, label, bare = CASES[case]
    train = Sequences(known, mapping=case == "mapping by its key")
    data = ActiveDataModule(train, [0, 1], initial=[2, 3, 4, 5], collate=collate, **label)
    data.setup()
    for size in (1, 2, 3, 5):
        index = torch.arange(6, 6 + size)
        (plain,) = DataLoader(Subset(train, index), size, collate_fn=collate)
        ((rows, got),) = data.bare_batches(index, size)
        assert torch.equal(rows, index)
        torch.testing.assert_close(got, bare(plain))
    (plain,) = DataLoader(Subset(train, [2, 3, 4, 5]), 4, collate_fn=collate)
    torch.testing.assert_close(data.items.batch(torch.tensor([2, 3, 4, 5])), plain)
    everything = [len(rows) for rows, _ in data.bare_batches(data.pool, 7)]  # those without too
    assert sum(everything) == N - 6


class Batch:
    """An object of a library's own."""

    def __init__(self, items):
        self.x, self.y = padded(items)


@pytest.mark.parametrize(
    ("collate", "said"),
    [
        (Batch, "a batch of type Batch"),
        (with_lengths, "a batch has 3 parts"),
        (lambda items: {"a": padded(items)[0], "b": padded(items)[1]}, "a batch of type dict"),
        (lambda items: padded(items)[0], "a batch of type Tensor"),
    ],
)
def test_a_batch_of_which_the_label_is_not_known_is_refused_with_the_mend(collate, said):
    with pytest.raises(ValueError, match=f"{said}.*label"):
        ActiveDataModule(Sequences(), [0, 1], initial=4, collate=collate).setup()


def test_a_run_with_a_padding_collation(tmp_path):
    class Mean(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Linear(2, 3)

        def forward(self, x):
            return self.layer(x.mean(1))

    learner = ActiveLearner(
        lambda: Classification(Mean(), classes=3),
        ActiveDataModule(Sequences(), 0.2, initial=6, batch_size=4, collate=padded),
        strategy="entropy",
        query_size=3,
        budget=3,
        trainer=small.TRAINER,
        run_dir=tmp_path / "run",
    )
    assert len(learner.run().rounds) == 2
