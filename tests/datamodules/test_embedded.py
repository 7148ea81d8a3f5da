"""Embeddings are extracted once for all, and again where network, transform or items change."""

import multiprocessing

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from lightning_al.datamodules import (
    ActiveDataModule,
    EmbeddedDataModule,
    TensorItems,
    TextDataModule,
)
from lightning_al.scoring.extractors import Raw

N, T = 30, 9


class Counting(nn.Module):
    """A frozen layer that counts the items it was given."""

    seen = 0

    def __init__(self, seed=0, outputs=4):
        super().__init__()
        drawn = torch.Generator().manual_seed(seed)
        self.layer = nn.Linear(5, outputs, bias=False)
        self.layer.weight.data = torch.randn(outputs, 5, generator=drawn)

    def forward(self, x):
        Counting.seen += len(x)
        return self.layer(x)


class Doubled:
    def __call__(self, x):
        return 2 * x

    def portrait(self):
        return {"by": 2}


def source(shift=0.0, transform=None, **more):
    drawn = torch.Generator().manual_seed(1)
    x, other = torch.randn(N, 5, generator=drawn) + shift, torch.randn(T, 5, generator=drawn)
    train = TensorItems(x, torch.arange(N) % 3, transform)
    return ActiveDataModule(
        train, TensorItems(other, torch.arange(T) % 3, transform), initial=6, **more
    )


def built(folder, extractor=None, data=None, **more):
    dm = EmbeddedDataModule(data or source(), extractor or Counting(), cache_dir=folder, **more)
    dm.setup()
    return dm


@pytest.fixture(autouse=True)
def _count():
    Counting.seen = 0


def test_the_vectors_are_those_of_the_extractor(tmp_path):
    data = built(tmp_path, extract_batch_size=7)
    frozen = Counting()
    for name, items in (("train", data.items.dataset), ("test", data.splits.test)):
        n = len(items)
        x, y = items[torch.arange(n)]
        raw = getattr(data.source.splits, name).inputs[0]
        torch.testing.assert_close(x, frozen.layer(raw).detach())
        assert y.tolist() == [i % 3 for i in range(n)]
    assert data.in_features == 4
    assert len(data.labelled) == 6


def test_one_extraction_serves_every_seed_and_every_later_run(tmp_path):
    for seed in (0, 1, 2):
        data = built(tmp_path, seed=seed)
        data.start(seed)
    assert Counting.seen == N + T
    assert len(list(tmp_path.glob("*.npy"))) == 2


@pytest.mark.parametrize(
    "change",
    [
        {"extractor": lambda: Counting(seed=1)},
        {"data": lambda: source(shift=0.5)},
        {"data": lambda: source(transform=Doubled())},
    ],
)
def test_other_weights_items_or_transforms_are_other_vectors(tmp_path, change):
    first = built(tmp_path).items.dataset.inputs[0].clone()
    before = Counting.seen
    other = built(tmp_path, **{k: make() for k, make in change.items()}).items.dataset.inputs[0]
    assert Counting.seen > before
    assert not torch.equal(first, other)
    assert torch.equal(built(tmp_path).items.dataset.inputs[0], first)


def test_a_batch_size_changes_no_name(tmp_path):
    built(tmp_path)
    built(tmp_path, data=source(batch_size=4, eval_batch_size=3), extract_batch_size=2)
    assert Counting.seen == N + T


class Stops(Counting):
    """Breaks after some items."""

    after = 0

    def forward(self, x):
        if Counting.seen >= Stops.after:
            raise KeyboardInterrupt
        return super().forward(x)


def test_an_extraction_that_was_cut_off_goes_on_where_it_was(tmp_path, monkeypatch):
    monkeypatch.setattr("lightning_al.datamodules.embedded.SAVED", 2)
    Stops.after = 15
    with pytest.raises(KeyboardInterrupt):
        built(tmp_path, Stops(), extract_batch_size=2)
    assert not list(tmp_path.glob("*.npy"))
    reached, Stops.after = Counting.seen, 1000
    data = built(tmp_path, Stops(), extract_batch_size=2)
    assert Counting.seen - reached <= N + T - 12  # what was written down is not done again
    torch.testing.assert_close(
        data.items.dataset.inputs[0], Counting().layer(data.source.items.tensors.inputs[0]).detach()
    )


def _open(folder, answer):
    data = built(folder)
    answer.put((Counting.seen, data.items.dataset.inputs[0].sum().item()))


def test_processes_that_start_together_extract_once(tmp_path):
    context = multiprocessing.get_context("fork")
    answer = context.Queue()
    team = [context.Process(target=_open, args=(tmp_path, answer)) for _ in range(3)]
    for process in team:
        process.start()
    found = [answer.get(timeout=60) for _ in team]
    for process in team:
        process.join()
    assert sorted(seen for seen, _ in found) == [0, 0, N + T]
    assert len({total for _, total in found}) == 1


def test_the_pool_is_embedded_under_the_test_transform(tmp_path):
    drawn = torch.Generator().manual_seed(1)
    x = torch.randn(N, 5, generator=drawn)
    data = ActiveDataModule(
        TensorItems(x, torch.arange(N) % 3, torch.zeros_like),
        0.2,
        pool=TensorItems(x, torch.arange(N) % 3),
        initial=6,
    )
    found = built(tmp_path, Raw(), data).items.dataset.inputs[0]
    assert torch.equal(found, x)


def test_items_without_a_label_stay_pool_items(tmp_path):
    x = torch.randn(N, 5)
    data = ActiveDataModule(
        TensorItems(x, torch.arange(N) % 3), 5, given=list(range(12)), initial="given"
    )
    found = built(tmp_path, Raw(), data)
    assert len(found.pool) == N - 12
    assert set(found.labelled.tolist()) <= set(range(12))


@pytest.mark.parametrize(
    ("extractor", "said"),
    [
        (lambda x: x.sum(), r"wanted \[n, E\]"),
        (lambda x: x / 0, r"NaN or infinities for 30 of 30 items, first: item\(s\) \[0, 1"),
        (lambda x: "no", "gives str"),
        (Counting, "give an instance"),
        (3, "a feature extractor is a name"),
    ],
)
def test_an_extractor_that_gives_no_vectors_is_refused(tmp_path, extractor, said):
    with pytest.raises((TypeError, ValueError), match=said):
        built(tmp_path, extractor)


def test_an_extractor_that_nothing_tells_apart_is_refused(tmp_path):
    class Odd:
        __slots__ = ()

        def __call__(self, x):
            return x

    with pytest.raises(ValueError, match="cannot tell"):
        built(tmp_path, Odd())


def test_a_damaged_cache_says_so(tmp_path):
    built(tmp_path)
    path = max(tmp_path.glob("*.npy"), key=lambda p: p.stat().st_size)
    np.save(path, np.zeros((3, 4), np.float32))
    with pytest.raises(ValueError, match="is damaged; delete it"):
        built(tmp_path)


def lengths(texts):
    return torch.tensor([[float(len(text)), float(text.count("a"))] for text in texts])


def test_texts_become_vectors_too(tmp_path):
    table = pd.DataFrame({"text": [f"b {'a' * i}b" for i in range(20)], "label": ["x", "y"] * 10})
    table.to_csv(tmp_path / "t.csv", index=False)
    data = built(tmp_path, lengths, TextDataModule(str(tmp_path / "t.csv"), test=4))
    assert data.items.dataset.inputs[0].tolist() == [[i + 3.0, float(i)] for i in range(20)]
    assert (data.classes, data.class_names) == (2, ("x", "y"))
    assert data.written(torch.tensor([3])) == (["text"], [["b aaab"]])


@pytest.mark.parametrize(
    ("rows", "more", "said"),
    [
        (
            {"text": ["a", " "], "label": ["x", "y"]},
            {},
            r"1 rows have no 'text', first: rows \[1\]",
        ),
        ({"text": ["a", "b"], "label": ["x", "x"]}, {}, r"1 class\(es\)"),
        ({"text": ["a", "b"], "label": ["x", "y"]}, {"text": "txt"}, "did you mean 'text'"),
    ],
)
def test_tables_of_texts_that_cannot_be_right(tmp_path, rows, more, said):
    pd.DataFrame(rows).to_csv(tmp_path / "t.csv", index=False)
    with pytest.raises(ValueError, match=said):
        TextDataModule(str(tmp_path / "t.csv"), initial=1, **more).setup()
