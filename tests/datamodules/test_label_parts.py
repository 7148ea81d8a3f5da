"""Which part of an item is its label: declared, never guessed; and always the item's own."""

from collections import namedtuple

import pytest
import torch
from helpers import small
from torch import nn
from torch.utils.data import Dataset, Subset, TensorDataset, default_collate

from lightning_al import ActiveLearner
from lightning_al.datamodules import ActiveDataModule
from lightning_al.datamodules.tensors import TensorItems
from lightning_al.tasks import Classification

N = 40
Named = namedtuple("Named", "picture weight label")


class Listed(Dataset):
    """Items in a list, with what a data set may keep beside them."""

    def __init__(self, items, **beside):
        self.items, self.reads = list(items), 0
        for name, value in beside.items():
            setattr(self, name, value)

    def __len__(self):
        return len(self.items)

    def __getitem__(self, i):
        self.reads += 1
        return self.items[i]


def made(items, test=(0, 1, 2, 3), initial=10, **changes):
    data = ActiveDataModule(items, list(test), initial=initial, **changes)
    data.setup()
    return data


def pairs():
    table = small.blobs(N)
    return list(zip(table.inputs[0], table.targets.tolist(), strict=True))


# --- long items ----------------------------------------------------------------------------------

LONG = {
    "index at the end": [(x, y, i) for i, (x, y) in enumerate(pairs())],
    "index in front": [(i, x, y) for i, (x, y) in enumerate(pairs())],
    "weight": [(x, y, 0.5) for x, y in pairs()],
    "two inputs": [(x, x, y) for x, y in pairs()],
    "four parts": [(x, x, y, "note") for x, y in pairs()],
}


@pytest.mark.parametrize("form", LONG)
def test_items_of_more_than_two_parts_need_a_position(form):
    with pytest.raises(ValueError, match=r"has \d parts.*name its position.*label=1") as caught:
        made(Listed(LONG[form]))
    assert ("counts up with the position" in str(caught.value)) == form.startswith("index")


def test_tensors_side_by_side_need_a_position_too():
    x, y = small.blobs(N).inputs[0], small.blobs(N).targets
    with pytest.raises(ValueError, match="has 3 parts"):
        made(TensorDataset(x, y, torch.arange(N)))
    data = made(TensorDataset(x, y, torch.arange(N)), label=1)
    assert torch.equal(data.pool_items.inputs(torch.tensor([4, 7])), x[[4, 7]])
    assert torch.equal(data.labels(torch.tensor([4, 7])), y[[4, 7]])
    assert [len(part) for part in next(iter(data.train_dataloader()))] == [10, 10, 10]


@pytest.mark.parametrize(("form", "label"), [("index at the end", 2), ("index in front", 0)])
def test_an_index_is_no_label(form, label):
    with pytest.raises(ValueError, match=rf"part {label} of the items counts up"):
        made(Listed(LONG[form]), label=label)


@pytest.mark.parametrize(
    ("item", "label", "inputs"),
    [
        (lambda x, y: (x, y, 1.5), 1, "x"),
        (lambda x, y: (x, y, 1.5), -2, "x"),
        (lambda x, y: (y, x), 0, "x"),
        (lambda x, y: [x, 2 * x, y], -1, "x, 2x"),
        (lambda x, y: Named(x, 2 * x, y), 2, "x, 2x"),
        (lambda x, y: (y, x, 2 * x), 0, "x, 2x"),
    ],
)
def test_the_position_says_what_is_label_and_what_are_inputs(item, label, inputs):
    items = [item(x, y) for x, y in pairs()]
    data = made(Listed(items), label=label)
    index = torch.tensor([5, 9, 11])
    x = torch.stack([pairs()[i][0] for i in index])
    got = data.pool_items.inputs(index)
    expected = x if inputs == "x" else (x, 2 * x)
    torch.testing.assert_close(tuple(got) if isinstance(got, (tuple, list)) else got, expected)
    assert data.labels(index).tolist() == [pairs()[i][1] for i in index]
    whole = default_collate([items[i] for i in index])
    answered = (torch.tensor([7, 7, 7]), torch.tensor([False, True, False]))
    batch = data.items.batch(index, answered)
    assert type(batch) is type(whole)
    assert len(batch) == len(whole)
    assert batch[label].tolist() == [pairs()[5][1], 7, pairs()[11][1]]


@pytest.mark.parametrize("label", [3, -4, 9])
def test_a_position_that_is_not_there_is_refused(label):
    with pytest.raises(ValueError, match=r"is no position in an item of 3 parts; name one of 0"):
        made(Listed(LONG["weight"]), label=label)


@pytest.mark.parametrize(
    ("form", "label"), [("index at the end", 1), ("weight", 1), ("two inputs", -1)]
)
def test_a_run_trains_and_asks_by_the_position(form, label, tmp_path):
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(4, 3)

        def forward(self, x, other=None):
            assert (other is not None) == (form == "two inputs")
            return self.layer(x)

    data = ActiveDataModule(Listed(LONG[form]), 0.2, initial=6, batch_size=4, label=label)
    learner = ActiveLearner(
        lambda: Classification(Two(), classes=3),
        data,
        strategy="margin",
        query_size=3,
        budget=3,
        trainer=small.TRAINER,
        run_dir=tmp_path / "run",
    )
    assert len(learner.run().rounds) == 2
    bought = data.labelled
    assert data.labels(bought).tolist() == [pairs()[i][1] for i in bought.tolist()]


# --- what lies beside the items ------------------------------------------------------------------


@pytest.mark.parametrize(
    "beside",
    [
        [f"{i}.png" for i in range(N)],
        [9] * N,
        [i % 5 for i in range(N)],
        torch.linspace(0, 1, 2 * N).reshape(N, 2),
        [None] * N,
        "no list",
        [[1], [2, 3]] * (N // 2),
        [1, 2, 3],
    ],
    ids=lambda value: str(value)[:20],
)
def test_labels_are_the_items_own_whatever_lies_beside_them(beside):
    data = made(Listed(pairs(), targets=beside), stratified=True)
    assert data.labels(torch.arange(N)).tolist() == [y for _, y in pairs()]
    data.acquire(data.pool[:3])
    assert data.labelled_targets().tolist() == [pairs()[i][1] for i in data.labelled.tolist()]
    sizes = torch.bincount(data.items.labels(data.labelled[:10]))
    assert len(sizes) == 3


def test_what_agrees_with_the_items_serves_draws_without_reading_them():
    train = Listed(pairs() * 50, targets=[y for _, y in pairs()] * 50)
    data = made(train, initial=30, stratified=True)
    assert train.reads < 400  # of 2000
    assert torch.bincount(data.labels(data.labelled)).tolist() == [10, 10, 10]
    half = made(Subset(train, range(0, 2000, 2)), initial="one_per_class")
    assert sorted(half.labels(half.labelled).tolist()) == [0, 1, 2]


def test_labels_are_fetched_in_batches_and_once():
    class Many(Listed):
        calls = 0

        def __getitems__(self, rows):
            self.calls += 1
            return [self.items[row] for row in rows]

    train = Many(pairs() * 50)
    data = made(train, initial=5)
    train.calls, train.reads = 0, 0
    index = torch.arange(1000)
    assert data.labels(index).tolist() == [y for _, y in pairs()] * 25
    assert train.calls == 4
    data.labels(index)
    assert (train.calls, train.reads) == (4, 0)


def test_reading_labels_moves_nothing_that_is_drawn_later():
    class Augmented(Listed):
        def __getitem__(self, i):
            x, y = super().__getitem__(i)
            return x + torch.rand(4), y

    data = made(Augmented(pairs()), pool=Listed(pairs()), stratified=True)
    torch.manual_seed(3)
    data.labels(torch.arange(30))
    first = torch.rand(2)
    torch.manual_seed(3)
    data.labels(torch.arange(30))
    assert torch.equal(torch.rand(2), first)


# --- labels that are words, or none --------------------------------------------------------------


@pytest.mark.parametrize(
    ("beside", "names"),
    [
        ({}, ("ant", "bee", "cat")),
        ({"classes": ["cat", "bee", "ant"]}, ("cat", "bee", "ant")),
        ({"classes": ["dog", "cow"]}, ("ant", "bee", "cat")),
    ],
)
def test_words_become_classes(beside, names, tmp_path):
    words = [(x, ("ant", "bee", "cat")[y]) for x, y in pairs()]
    data = made(Listed(words, **beside))
    assert (data.class_names, data.classes) == (names, 3)
    expected = [names.index(word) for _, word in words]
    assert data.labels(torch.arange(N)).tolist() == expected
    batch = data.items.batch(torch.arange(6))
    assert batch[1].tolist() == expected[:6]
    assert data.answer(int(data.labelled[0])) == words[int(data.labelled[0])][1]
    test = next(iter(data.test_dataloader()))
    assert test[1].tolist() == expected[:4]


def test_a_word_that_is_no_class_is_named():
    words = [(x, "ab"[y % 2]) for x, y in pairs()]
    with pytest.raises(ValueError, match="label 'zebra' is none of the 2 classes a, b"):
        ActiveDataModule(Listed(words), Listed([(x, "zebra") for x, _ in pairs()])).setup()


@pytest.mark.parametrize(
    "labels",
    [
        lambda i, y: y if i % 3 == 0 else None,
        lambda i, y: None if i < 26 else y,
        lambda i, y: float(y) if i % 3 == 1 else float("nan"),
        lambda i, y: torch.tensor(float(y) if i % 2 else float("nan")),
        lambda i, y: "abc"[y] if i % 5 < 2 else None,
    ],
)
def test_items_without_a_label_are_the_pool(labels):
    items = [(x, labels(i, y)) for i, (x, y) in enumerate(pairs())]
    known = [i for i, (_, y) in enumerate(items) if y is not None and y == y]
    data = ActiveDataModule(Listed(items), small.blobs(9, 1), initial="given")
    data.setup()
    assert data.labelled.tolist() == known == data.given.tolist()
    assert data.items.labelled
    few = ActiveDataModule(Listed(items), 0.2, initial=4)
    few.setup()
    assert set(few.labelled.tolist()) | set(few.held["test"].tolist()) <= set(known)
    missing = next(i for i in range(N) if i not in known)
    with pytest.raises(ValueError, match=rf"item\(s\) {missing} carry no label"):
        data.acquire([missing])
    data.acquire([missing], torch.tensor([1]).to(data.labels(data.labelled[:1]).dtype))
    assert float(data.labels(torch.tensor([missing]))) == 1


def test_nan_among_targets_in_tensors_is_no_label():
    table = small.line(N)
    table.targets[5:] = torch.nan
    data = ActiveDataModule(table, small.line(9, 1), initial="given")
    data.setup()
    assert data.labelled.tolist() == [0, 1, 2, 3, 4]


def test_given_names_the_items_with_labels():
    data = ActiveDataModule(Listed(pairs()), small.blobs(9, 1), initial="given", given=[7, 3, 30])
    data.setup()
    assert data.labelled.tolist() == [3, 7, 30]
    with pytest.raises(ValueError, match="given names items outside the data set of 40"):
        made(Listed(pairs()), given=[40])


@pytest.mark.parametrize(
    ("labels", "told"), [((-1, 0, 1), True), ((-1, 1), False), ((0, 1), False), ((-1, 0), True)]
)
@pytest.mark.parametrize("form", [list, TensorItems])
def test_minus_one_beside_zero_is_pointed_at(labels, told, form, recwarn):
    values = [labels[i % len(labels)] for i in range(N)]
    x = torch.randn(N, 2)
    items = (
        TensorItems(x, torch.tensor(values))
        if form is TensorItems
        else Listed(zip(x, values, strict=True))
    )
    made(items)
    assert told == any("are -1" in str(w.message) for w in recwarn)


@pytest.mark.parametrize(
    "test",
    [
        lambda x, y: TensorItems(x, y),
        lambda x, y: TensorDataset(x, y),
        lambda x, y: TensorItems(x, torch.stack([torch.zeros(9), y], 1)),
        lambda x, y: Listed(zip(x, y.tolist(), strict=True)),
        lambda x, y: Listed((a, None if b != b else 1) for a, b in zip(x, y, strict=True)),
    ],
)
def test_test_items_without_a_label_are_refused(test):
    y = torch.zeros(9)
    y[6] = torch.nan
    for name in ("test", "val"):
        splits = {"test": small.line(9, 2)} | {name: test(torch.randn(9, 4), y)}
        with pytest.raises(ValueError, match=rf"1 {name} item\(s\) have no label.*item 6; .*NaN"):
            ActiveDataModule(small.line(N), initial=5, **splits).setup()
