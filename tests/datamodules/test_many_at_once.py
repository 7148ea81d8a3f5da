"""What is read of many items at once is what one at a time gives."""

import hashlib

import pytest
import torch
from torch.utils.data import Dataset

from lightning_al.datamodules import ActiveDataModule, TensorItems
from lightning_al.datamodules.continuous import ContinuousDataModule
from lightning_al.datamodules.items import Items
from lightning_al.datamodules.kept_labels import KeptLabels
from lightning_al.datamodules.portraits import AT_ONCE, feed
from lightning_al.records import Answers

N = 23


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def classes(n=N):
    return torch.arange(n) % 3


class Pairs(Dataset):
    """Items that can only be read one by one; it counts how often each is."""

    def __init__(self, labels):
        self.labels, self.reads = labels, []

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        self.reads.append(index)
        return torch.tensor([float(index)]), self.labels[index]


# --- answers for tables ---------------------------------------------------------------------------


class Own(ActiveDataModule):
    def answer(self, index):
        return f"item {index}"


def module(targets, kind=ActiveDataModule, **more):
    data = kind(TensorItems(drawn(N, 4), targets), test=4, initial=5, **more)
    data.setup()
    return data


def named():
    data = module(classes())
    data.class_names = ("a", "b", "c")
    return data


def told(data, values):
    """The data module after answers to the first candidates."""
    index = data.pool[: len(values)]
    data.acquire(index, Answers(values={"y": values}))
    return data


MODULES = {
    "classes": lambda: module(classes()),
    "names": named,
    "names, some answered": lambda: told(named(), torch.tensor([2, 0, 1])),
    "numbers": lambda: module(drawn(N)),
    "vectors": lambda: module(drawn(N, 2)),
    "answers of another type": lambda: told(
        module(drawn(N)), torch.tensor([0.1, 0.2], dtype=torch.float64)
    ),
    "one by one": lambda: Own(Pairs(classes()), test=4, initial=5),
    "of its own": lambda: module(classes(), Own),
}


@pytest.mark.parametrize("name", MODULES)
def test_answers_of_many_are_those_of_each(name):
    data = MODULES[name]()
    data.setup()
    index = torch.cat([data.pool[:2], data.labelled.flip(0)])
    one = [data.answer(i) for i in index.tolist()]
    many = data.answers_to(index)
    assert many == one
    assert [type(v) for v in many] == [type(v) for v in one]
    assert data.answers_to(index[:0]) == []


def test_answers_on_a_box_are_those_of_each():
    data = ContinuousDataModule(
        [0.0], [1.0], function=lambda x: x[:, 0].sin(), noise=0.1, initial=4, test=3
    )
    data.setup()
    index = torch.arange(4).flip(0)
    assert data.answers_to(index) == [data.answer(i) for i in index.tolist()]


# --- labels ---------------------------------------------------------------------------------------

LABELS = {
    "numbers": [0.5 * i for i in range(N)],
    "classes": list(range(N)),
    "tensors": list(drawn(N, 2, 2)),
    "whole numbers and others": [i if i % 3 else float(i) for i in range(N)],
}


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("kind", LABELS)
def test_labels_are_each_items_own_and_read_once(kind, seed):
    data = Pairs(LABELS[kind])
    items, order = Items(data), torch.Generator().manual_seed(seed)
    asked = set()
    for _ in range(6):
        index = torch.randint(N, (9,), generator=order)
        asked |= set(index.tolist())
        expected = [LABELS[kind][i] for i in index.tolist()]
        expected = torch.stack(
            [
                torch.as_tensor(v, dtype=torch.float64 if isinstance(v, float) else None)
                for v in expected
            ]
        )
        found = items.labels(index)
        assert torch.equal(found, expected)
        assert found.dtype == expected.dtype
    assert sorted(data.reads) == sorted(asked)


def test_labels_of_different_shapes_are_kept_each():
    data = Pairs([torch.ones(1 + i % 2) for i in range(N)])
    items = Items(data)
    for i in range(N):
        assert items.labels(torch.tensor([i])).shape == (1, 1 + i % 2)
    assert items.labels(torch.tensor([1, 3, 5])).shape == (3, 2)
    with pytest.raises(RuntimeError, match="equal size"):
        items.labels(torch.arange(4))
    assert len(data.reads) == N


def test_what_is_unread_is_named_once_in_its_order():
    kept = KeptLabels(10)
    assert kept.unread(torch.tensor([7, 2, 7, 3, 2])).tolist() == [7, 2, 3]
    kept.add(torch.tensor([2, 5]), [torch.tensor(1), torch.tensor(1.5)])
    assert kept.unread(torch.tensor([7, 2, 5, 7, 3])).tolist() == [7, 3]
    assert kept.unread(torch.tensor([5, 2])).tolist() == []
    assert kept.unread(torch.tensor([], dtype=torch.int64)).tolist() == []
    kept.add(torch.tensor([], dtype=torch.int64), [])
    assert kept.get(torch.tensor([5, 2])).tolist() == [1.5, 1.0]


# --- hashes of what items are ---------------------------------------------------------------------

INPUTS = {
    "rows": drawn(N, 5),
    "single numbers": drawn(N),
    "pictures": (drawn(N, 3, 4, 4) * 50).to(torch.uint8),
    "strided": drawn(N, 8)[:, ::2],
    "half": drawn(N, 3).to(torch.bfloat16),
    "marks": drawn(N, 3) > 0,
    "without a column": drawn(N, 0),
    "larger than what is read at once": drawn(N, AT_ONCE // 20),
}


@pytest.mark.parametrize("name", INPUTS)
def test_what_many_items_are_is_what_each_is(name):
    data = ActiveDataModule(TensorItems(INPUTS[name], classes()), test=4, initial=5)
    data.setup()
    index = torch.cat([data.pool.flip(0), data.pool[:1]])
    expected = []
    for i in index.tolist():
        digest = hashlib.sha256()
        feed(digest, INPUTS[name][i : i + 1])
        expected.append(digest.hexdigest()[:12])
    assert data.contents(index) == expected
    assert data.contents(index[:0]) == []


def test_of_several_inputs_all_count():
    parts = drawn(N, 2), drawn(N, 3, seed=1)
    data = ActiveDataModule(TensorItems(parts, classes()), test=4, initial=5)
    data.setup()
    index = data.pool
    before = data.contents(index)
    parts[1][int(index[2]), 0] += 1
    changed = [a != b for a, b in zip(before, data.contents(index), strict=True)]
    assert changed == [row == 2 for row in range(len(index))]
    digest = hashlib.sha256()
    feed(digest, tuple(p[index[:1]] for p in parts))
    assert before[0] == digest.hexdigest()[:12]
