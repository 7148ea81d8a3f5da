"""Two reads of one item are compared by what they hold."""

import threading
import weakref
from collections import namedtuple
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import Dataset

from lightning_al.datamodules import ActiveDataModule
from lightning_al.datamodules.contents import same_content

Pair = namedtuple("Pair", "a b")


@dataclass
class Record:
    x: torch.Tensor
    name: str = "a"
    more: dict = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Frozen:
    x: np.ndarray


class Slots:
    __slots__ = ("x", "y")

    def __init__(self, x):
        self.x = x


class Knotted:
    """Parts that point at each other, as graph libraries have them."""

    def __init__(self, x):
        self.x, self.me, self.parent = x, self, weakref.ref(self)
        self.lock, self.do = threading.Lock(), lambda: x


class Child(Slots):
    __slots__ = ("z",)

    def __init__(self, x):
        super().__init__(0)
        self.z = x


def ones(value):
    return torch.full((3,), float(value))


MAKERS = {
    "tensor": ones,
    "nan": lambda v: torch.tensor([float("nan"), v]),
    "sparse": lambda v: (ones(v) + 1).to_sparse(),
    "array": lambda v: np.array([v, np.nan]),
    "array of objects": lambda v: np.array([ones(v), "a"], dtype=object),
    "dataclass": lambda v: Record(ones(v), more={"k": [ones(v)]}),
    "dataclass that cannot be compared": lambda v: Frozen(np.array([v])),
    "slots": lambda v: Slots(ones(v)),
    "slots of a parent": lambda v: Child(v),
    "knotted": lambda v: Knotted(ones(v)),
    "named tuple": lambda v: Pair(ones(v), "b"),
    "mapping": lambda v: {"x": ones(v), "text": "word"},
    "text": lambda v: f"word {v}",
    "number": lambda v: float(v),
    "set": lambda v: {1, v + 2},
    "picture": lambda v: Image.new("L", (4, 4), v),
}


@pytest.mark.parametrize("kind", MAKERS)
def test_content_counts(kind):
    make = MAKERS[kind]
    assert same_content(make(1), make(1))
    assert not same_content(make(1), make(2))
    assert not same_content([make(1)], [make(1), make(1)])
    assert not same_content({"a": make(1)}, {"b": make(1)})


class Items(Dataset):
    def __init__(self, make, random):
        self.make, self.random = make, random

    def __len__(self):
        return 30

    def __getitem__(self, i):
        return self.make(int(torch.randint(0, 200, ())) if self.random else i), i % 2


@pytest.mark.parametrize("kind", ["dataclass", "slots", "knotted", "picture", "array of objects"])
def test_deterministic_objects_are_taken_and_random_ones_refused(kind):
    data = ActiveDataModule(Items(MAKERS[kind], random=False), 0.2, collate=list)
    data.setup()
    with pytest.raises(ValueError, match=r"two reads of item 0 differ.*check_repeatable=False"):
        ActiveDataModule(Items(MAKERS[kind], random=True), 0.2, collate=list).setup()
    told = ActiveDataModule(
        Items(MAKERS[kind], random=True), 0.2, collate=list, check_repeatable=False
    )
    told.setup()
    assert len(told.pool) == 14
