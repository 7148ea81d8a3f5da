"""Items that are objects with their label inside: declared by the name of the attribute."""

from collections import UserDict
from dataclasses import dataclass

import pytest
import torch
from helpers import small
from torch import nn
from torch.utils.data import Dataset

from lightning_al import ActiveLearner
from lightning_al.datamodules import ActiveDataModule
from lightning_al.records.parts import labelled_attribute, with_attribute
from lightning_al.tasks import Classification

N, CLASSES = 40, 3


class Plain:
    def __init__(self, x, y):
        self.x, self.y = x, y


@dataclass
class Open:
    x: torch.Tensor
    y: object


@dataclass(frozen=True)
class Frozen:
    x: torch.Tensor
    y: object


class Slots:
    __slots__ = ("x", "y")

    def __init__(self, x, y):
        self.x, self.y = x, y


class Stored:
    """Keeps its attributes in a store of its own, as graphs of some libraries do."""

    def __init__(self, x, y):
        self.__dict__["store"] = {"x": x, "y": y}

    def __getattr__(self, name):
        try:
            return self.__dict__["store"][name]
        except KeyError:
            raise AttributeError(name) from None

    def __setattr__(self, name, value):
        self.store[name] = value

    def __copy__(self):
        return Stored(**self.store)


KINDS = [Plain, Open, Frozen, Slots, Stored]
FORMS = {
    "number": lambda c: c,
    "scalar": torch.tensor,
    "one element": lambda c: torch.tensor([c]),
}


class Graphs(Dataset):
    def __init__(self, kind=Plain, form=int, known=N):
        self.kind, self.form, self.known = kind, form, known

    def __len__(self):
        return N

    def __getitem__(self, i):
        label = self.form(i % CLASSES) if i < self.known else None
        x = torch.nn.functional.one_hot(torch.tensor(i % CLASSES), 4) + 0.01 * i
        return self.kind(x, label)


class Batch:
    """Several items, with the labels side by side; those of which one has none have no labels."""

    def __init__(self, items):
        self.x = torch.stack([item.x for item in items])
        labels = [item.y for item in items]
        self.y = (
            None if None in labels else torch.cat([torch.as_tensor(y).view(-1) for y in labels])
        )


def made(dataset, **changes):
    data = ActiveDataModule(
        dataset, [0, 1, 2], **({"initial": 6, "label": "y", "collate": Batch} | changes)
    )
    data.setup()
    return data


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", KINDS)
def test_labels_are_read_and_never_reach_the_pool(kind, form):
    data = made(Graphs(kind, FORMS[form]))
    index = torch.arange(5, 12)
    assert data.labels(index).tolist() == (index % CLASSES).tolist()
    ((rows, bare),) = data.bare_batches(index, len(index))
    assert rows.tolist() == index.tolist()
    assert bare.y is None
    assert torch.equal(bare.x, torch.stack([data.splits.train[i].x for i in index.tolist()]))
    whole = data.items.batch(index)
    assert whole.y.tolist() == (index % CLASSES).tolist()
    assert data.splits.train[5].y is not None  # the data set's own items are left as they are


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", KINDS)
def test_answers_take_the_place_of_the_label(kind, form):
    data = made(Graphs(kind, FORMS[form], known=20), initial=[4, 5])
    assert data.given.tolist() == list(range(20))
    data.acquire([30, 7], torch.tensor([2, 0]))
    index = torch.tensor([4, 7, 30])
    assert data.labels(index).tolist() == [4 % CLASSES, 0, 2]
    batch = data.items.batch(index, data.answered(index))
    assert batch.y.tolist() == [4 % CLASSES, 0, 2]
    ((_, bare),) = data.bare_batches(torch.tensor([31, 8]), 2)  # with a label, and without
    assert bare.y is None


@pytest.mark.parametrize("initial", [9, 0.3, "one_per_class", "given"])
def test_draws_by_class(initial):
    data = made(Graphs(form=FORMS["one element"]), initial=initial, stratified=True)
    counts = data.labelled_targets().bincount(minlength=CLASSES)
    assert int(counts.max() - counts.min()) <= 1


@pytest.mark.parametrize(
    ("label", "said"),
    [("target", "an item is a Plain without"), ("yy", "label='yy', but"), ("X", "label='X'")],
)
def test_an_attribute_that_is_not_there_is_refused(label, said):
    with pytest.raises(ValueError, match=said):
        made(Graphs(), label=label)


@pytest.mark.parametrize("label", ["auto", None])
def test_what_is_not_declared_is_not_guessed(label):
    data = ActiveDataModule(Graphs(), Graphs(), initial=0, label=label, collate=list)
    data.setup()
    assert not data.items.labelled
    assert not bool(data.has_label(torch.arange(3)).any())


def test_objects_without_a_collation_are_refused_with_the_mend():
    with pytest.raises(TypeError, match=r"torch cannot join items to a batch .*give collate="):
        made(Graphs(), collate=None)


def test_a_label_that_cannot_be_taken_out_is_refused():
    class Shut(Plain):
        y = property(lambda self: 1)

        def __init__(self, x, y):
            self.x = x

    with pytest.raises(ValueError, match=r"the label 'y' of a Shut cannot be taken out"):
        made(Graphs(Shut))


@pytest.mark.parametrize(
    ("thing", "label", "found"),
    [
        (Plain(1, 2), "y", "y"),
        (Plain(1, 2), "auto", None),
        (Plain(1, 2), 1, None),
        ({"y": 1}, "keys", None),
        (UserDict(y=1), "data", None),
        ((1, 2), "count", None),
    ],
)
def test_only_objects_have_attributes(thing, label, found):
    assert labelled_attribute(thing, label) == found


@pytest.mark.parametrize("kind", KINDS)
def test_a_copy_with_another_label_leaves_the_object(kind):
    first = kind(torch.ones(2), 1)
    other = with_attribute(first, "y", None)
    assert (first.y, other.y) == (1, None)
    assert type(other) is kind
    assert other.x is first.x


class Linear(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, CLASSES)

    def forward(self, batch):
        return self.layer(batch.x)


@pytest.mark.parametrize("kind", [Plain, Frozen, Stored])
def test_a_run_on_objects(kind, tmp_path):
    learner = ActiveLearner(
        lambda: Classification(Linear(), classes=CLASSES),
        ActiveDataModule(Graphs(kind), 0.2, initial=6, batch_size=4, label="y", collate=Batch),
        strategy="entropy",
        query_size=3,
        budget=6,
        trainer=small.TRAINER,
        run_dir=tmp_path / "run",
    )
    history = learner.run()
    assert len(history.rounds) == 3
    data = learner.datamodule
    assert data.labels(data.labelled).tolist() == (data.labelled % CLASSES).tolist()
    assert set(history.acquired) <= set(data.labelled.tolist())
