"""The loader without workers gives what torch's own gives, batch for batch."""

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from lightning_al.datamodules import ActiveDataModule, TensorItems, loading
from lightning_al.datamodules.items import Items
from lightning_al.datamodules.loading import InProcess
from lightning_al.datamodules.views import Batches, Labelled


def data(n=23, transform=None, several=False):
    x = torch.arange(n * 3.0).reshape(n, 3)
    return TensorItems((x, -x) if several else x, torch.arange(n), transform)


def stock(loader):
    return DataLoader(
        loader.view, batch_size=None, sampler=loader.sampler, collate_fn=lambda batch: batch
    )


def same(one, two):
    one, two = list(one), list(two)
    assert len(one) == len(two)
    for a, b in zip(one, two, strict=True):
        assert type(a) is type(b)
        assert len(a) == len(b)
        for x, y in zip(a, b, strict=True):
            assert torch.equal(x, y)
            assert x.dtype == y.dtype


@pytest.mark.parametrize("chunk", [1, 40, 2**18])
@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize("transform", [None, lambda x: x / 7])
@pytest.mark.parametrize("shuffle", [None, (0, 3)])
@pytest.mark.parametrize("size", [1, 4, 11, 50])
def test_batches_are_those_of_torch(monkeypatch, chunk, several, transform, shuffle, size):
    monkeypatch.setattr(loading, "CHUNK", chunk)
    view = Labelled(Items(data(transform=transform, several=several)), torch.arange(23).flip(0))
    loader = InProcess(view, Batches(23, size, shuffle=shuffle, pad=True))
    assert len(loader) == len(stock(loader))
    for epoch in range(3):  # the first reading teaches how many batches the next ones may take
        loader.sampler.set_epoch(epoch)
        same(loader, stock(loader))


def test_answers_lie_over_the_labels():
    module = ActiveDataModule(data(), data(2), initial=[1, 2, 3], batch_size=2)
    module.setup()
    module.acquire([7, 5], torch.tensor([100, 200]))
    loader = module.train_dataloader()
    assert isinstance(loader, InProcess)
    labels = {int(x[0]) // 3: int(y) for batch in loader for x, y in zip(*batch, strict=True)}
    assert labels == {1: 1, 2: 2, 3: 3, 7: 100, 5: 200}


def test_data_that_are_no_tensors_are_read_batch_by_batch():
    class Pairs(torch.utils.data.Dataset):
        def __len__(self):
            return 9

        def __getitem__(self, i):
            return torch.full((2,), float(i)), i % 3

    module = ActiveDataModule(Pairs(), TensorDataset(torch.zeros(1, 2), torch.zeros(1)), initial=7)
    module.setup()
    loader = module.train_dataloader()
    same(loader, stock(loader))


def test_a_batch_may_be_written_to_without_harm():
    items = data()
    loader = InProcess(Labelled(Items(items), torch.arange(23)), Batches(23, 5))
    for x, _ in loader:
        x.zero_()
    assert torch.equal(items.inputs[0], data().inputs[0])


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("kind", ["train", "val", "test", "predict"])
def test_loaders_tell_how_many_items_they_read(workers, kind):
    x = torch.zeros(40, 2)
    module = ActiveDataModule(TensorItems(x, x[:, 0].long()), 6, val=4, initial=7)
    module.num_workers = workers
    module.setup()
    loader = getattr(module, f"{kind}_dataloader")()
    assert len(loader.dataset) == {"train": 7, "val": 4, "test": 6, "predict": 23}[kind]
    assert (loader.batch_size, loader.num_workers, loader.drop_last) == (None, workers, False)
