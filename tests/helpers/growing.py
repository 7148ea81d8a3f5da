"""Data of four kinds that grow while a run goes on."""

import shutil

import torch
from torch import nn
from torch.utils.data import Dataset

from helpers import small, tiny_data
from lightning_al.datamodules import ImageFolderDataModule, TabularDataModule
from lightning_al.datamodules.tensors import TensorItems
from lightning_al.networks import MLP
from lightning_al.tasks import Classification

OLD, MORE, MOST = 40, 55, 60
"""Items at the start, and after one and two extensions."""


class World:
    """One kind of data; ``rows`` are the items that are there now, by their place in the whole."""

    def __init__(self, root):
        self.root = root
        self.rows = list(range(OLD))

    def grow(self, n):
        """Let there be n items."""
        self.rows = list(range(n))
        return self

    def data(self, **changes):
        """A fresh data module over the items that are there."""
        plain = {"test": 0.25, "val": 0.1, "initial": 6, "batch_size": 4}
        return self.build(**(plain | changes))

    def task(self):
        return small.task()

    @property
    def changed(self):
        """The item of the old ones that :meth:`spoil` changes, in words."""
        return "item 3"


class Tensors(World):
    """A user's own data in tensors."""

    spoilt = ()

    @property
    def whole(self):
        x, y = small.blobs(MOST).inputs[0].clone(), small.blobs(MOST).targets
        x[list(self.spoilt)] += 1
        return TensorItems(x[self.rows], y[self.rows])

    def build(self, **changes):
        return small.Blobs(self.whole, **changes)

    def spoil(self):
        self.spoilt = (3,)


class Listed(Dataset):
    """Items that can only be read one by one."""

    def __init__(self, items):
        self.items = items

    def __len__(self):
        return len(self.items)

    def __getitem__(self, i):
        return self.items[i]


class OneByOne(Tensors):
    """Items of which a sample is looked at."""

    def build(self, **changes):
        whole = self.whole
        return small.Blobs(Listed([whole[i] for i in range(len(whole))]), **changes)

    def spoil(self):
        self.spoilt = (OLD - 1,)  # the last one belongs to every sample

    @property
    def changed(self):
        return f"item {OLD - 1}"


class Table(World):
    """A CSV; the rows that join lie far from the others, and would move scales and classes."""

    def __init__(self, root):
        super().__init__(root)
        root.mkdir(exist_ok=True)
        lines = tiny_data.write_table(root / "whole.csv", MOST).read_text().splitlines()
        self.head, self.lines = lines[0], lines[1:]
        for i in range(OLD, MOST):
            a, b, *rest = self.lines[i].split(",")
            self.lines[i] = ",".join([str(float(a) * 100), b, *rest])

    def build(self, **changes):
        path = self.root / "t.csv"
        path.write_text("\n".join([self.head, *(self.lines[i] for i in self.rows)]) + "\n")
        return TabularDataModule(str(path), "kind", drop=["size"], **changes)

    def spoil(self):
        self.lines[3] = "9.5" + self.lines[3][self.lines[3].index(",") :]

    def task(self):
        return Classification(MLP(2, (8,), 2), 2, lr=0.02)

    @property
    def changed(self):
        return "row 3"


class Folder(World):
    """Images; those that join sort ahead of the others, and between them."""

    def __init__(self, root):
        super().__init__(root)
        tiny_data.write_images(root / "whole", each=MOST // 2)
        files = sorted(p.relative_to(root / "whole") for p in (root / "whole").rglob("*.png"))
        late = files[::3][: MOST - OLD]  # of each class, anywhere
        self.files = [f for f in files if f not in late] + late

    def build(self, **changes):
        shutil.rmtree(self.root / "now", ignore_errors=True)
        for i in self.rows:
            place = self.root / "now" / self.files[i]
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(self.root / "whole" / self.files[i], place)
        return ImageFolderDataModule(str(self.root / "now"), image_size=8, **changes)

    def spoil(self):
        with (self.root / "whole" / self.files[3]).open("ab") as file:
            file.write(b" ")

    def task(self):
        return Classification(nn.Sequential(nn.Flatten(), nn.Linear(192, 2)), 2, lr=0.02)

    @property
    def changed(self):
        return f"{self.files[3].as_posix()} (item 3)"


WORLDS = {"tensors": Tensors, "one by one": OneByOne, "table": Table, "folder": Folder}


def held_inputs(data):
    """What validation and test hold, and where: as texts of numbers."""
    found = {}
    for name in ("val", "test"):
        index = data.held[name]
        inputs = data.pool_items.inputs(index)
        found[name] = (index.tolist(), torch.as_tensor(inputs).tolist())
    return found
