"""The base datamodule: who is held, labelled and in the pool, and what batches they make."""

import math
from itertools import chain

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from helpers import small
from torch.utils.data import DataLoader, Dataset, Subset, TensorDataset, default_collate

from lightning_al.datamodules import ActiveDataModule
from lightning_al.datamodules.splits import draw, one_per_class, share_to_count
from lightning_al.datamodules.tensors import TensorItems
from lightning_al.datamodules.views import Batches
from lightning_al.records import Answers, Status


class Listed(Dataset):
    """A data set of items kept in a list; counts what is read."""

    def __init__(self, items):
        self.items, self.reads = list(items), 0

    def __len__(self):
        return len(self.items)

    def __getitem__(self, i):
        self.reads += 1
        return self.items[i]


def ready(*args, **changes):
    data = small.datamodule(*args, **changes)
    data.setup()
    return data


def targets():
    return small.blobs().targets


def positions(data, status):
    return (data.status == status).nonzero().flatten().tolist()


def flat(lists):
    return list(chain.from_iterable(lists))


def first_batch(loader):
    return next(iter(loader))


# --- the initial set ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("initial", "count"),
    [(0, 0), (7, 7), (60, 60), (0.25, 15), (0.001, 1), (0.0, 0), ("one_per_class", 3)],
)
def test_initial_by_count_share_or_class(initial, count):
    data = ready(initial=initial)
    assert len(data.labelled) == count
    assert len(data.pool) == 60 - count
    assert data.labelled.tolist() == sorted(set(data.labelled.tolist()))
    if initial == "one_per_class":
        assert sorted(targets()[data.labelled].tolist()) == [0, 1, 2]


@pytest.mark.parametrize("form", [list, tuple, np.array, torch.tensor])
def test_initial_by_positions(form):
    assert ready(initial=form([3, 58, 17])).labelled.tolist() == [3, 17, 58]
    assert ready(initial=range(3, 6)).labelled.tolist() == [3, 4, 5]


def test_initial_by_a_function_of_module_and_generator():
    def pick(data, generator):
        assert data.classes == 3
        return data.pool[torch.randperm(len(data.pool), generator=generator)[:4]]

    data = ready(initial=pick)
    assert len(data.labelled) == 4
    assert data.labelled.tolist() == ready(initial=pick).labelled.tolist()
    data.start(1)
    assert data.labelled.tolist() != ready(initial=pick).labelled.tolist()


class Partly(small.Blobs):
    """Labels for some of the items only."""

    def load(self):
        self.given = torch.arange(0, 60, 3)
        return self._given_splits


def test_initial_given_takes_what_carries_a_label():
    data = Partly(small.blobs(), small.blobs(30, 1), initial="given")
    data.setup()
    assert data.labelled.tolist() == list(range(0, 60, 3))
    assert data.has_label(torch.tensor([0, 1, 2, 3])).tolist() == [True, False, False, True]


@pytest.mark.parametrize("initial", [8, 0.4, "one_per_class"])
def test_initial_is_drawn_among_items_with_labels(initial):
    data = Partly(small.blobs(), 0.2, initial=initial)
    data.setup()
    assert all(i % 3 == 0 for i in data.labelled.tolist())
    assert all(i % 3 == 0 for i in positions(data, Status.HELD))
    assert len(positions(data, Status.HELD)) == 4  # a share of the 20 with labels


@pytest.mark.parametrize(
    ("initial", "said"),
    [
        (-1, "initial cannot be negative, got -1"),
        (61, "initial asks for 61 of 60 items; lower it"),
        (1.0, r"initial as a share must lie in \(0, 1\), got 1.0; a count is a whole number"),
        (1.5, r"initial as a share must lie in \(0, 1\), got 1.5"),
        ("some", "initial='some' is not known; give a count, a share, positions"),
        ([1, 60], "initial: item 60 is outside the data set of 60 items"),
        ([-1], "initial: item -1 is outside"),
        ([4, 2, 4], r"initial: item\(s\) 4 are named twice; name each once"),
        ([0.5], "positions must be whole numbers"),
        ([[1, 2]], "positions must be whole numbers of shape"),
    ],
)
def test_an_initial_that_cannot_be(initial, said):
    with pytest.raises(ValueError, match=said):
        ready(initial=initial)


def test_initial_items_must_carry_labels_and_be_free():
    data = Partly(small.blobs(), small.blobs(30, 1), initial=[0, 1])
    with pytest.raises(ValueError, match=r"initial: item\(s\) 1 carry no label in the data set"):
        data.setup()
    with pytest.raises(
        ValueError, match=r"initial: 1 item.*first: item 5 is held for validation or"
    ):
        ready(test=[4, 5], initial=[5, 6])


def test_the_seed_draws_the_initial_set_and_the_shares():
    one, other = ready(test=0.2, val=0.1), ready(test=0.2, val=0.1)
    assert torch.equal(one.status, other.status)
    other.start(1)
    assert not torch.equal(one.status, other.status)
    other.start(0)
    assert torch.equal(one.status, other.status)


# --- drawing by class -----------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(20))
def test_each_class_gets_its_share(seed):
    drawn = torch.Generator().manual_seed(seed)
    sizes = torch.randint(1, 40, (int(torch.randint(1, 8, (), generator=drawn)),), generator=drawn)
    labels = torch.repeat_interleave(torch.arange(len(sizes)), sizes)
    labels = labels[torch.randperm(len(labels), generator=drawn)]
    candidates = torch.randperm(500, generator=drawn)[: len(labels)]
    for count in {0, 1, len(sizes), len(labels) // 3, len(labels) // 2, len(labels)}:
        got = draw(candidates, count, drawn, labels=labels)
        assert len(got) == len(got.unique()) == count
        of = dict(zip(candidates.tolist(), labels.tolist(), strict=True))
        got_sizes = torch.bincount(
            torch.tensor([of[i] for i in got.tolist()]).long(), minlength=len(sizes)
        )
        assert bool((got_sizes <= sizes).all())
        ideal = sizes.double() * count / len(labels)
        if count >= len(sizes):
            assert bool((got_sizes >= 1).all())
        if bool((ideal >= 1).all()):  # no class had to be given one by force
            assert bool(((got_sizes - ideal).abs() < 1).all())


def test_largest_remainders_by_hand():
    # ideal shares of 10 from 50, 30, 20: exactly 5, 3, 2; of 7: 3.5, 2.1, 1.4 -> 4, 2, 1
    labels = torch.repeat_interleave(torch.arange(3), torch.tensor([50, 30, 20]))
    for count, quota in ((10, [5, 3, 2]), (7, [4, 2, 1]), (3, [1, 1, 1]), (100, [50, 30, 20])):
        got = draw(torch.arange(100), count, torch.Generator().manual_seed(0), labels=labels)
        assert torch.bincount(labels[got], minlength=3).tolist() == quota


def test_all_items_of_a_class_are_equally_likely():
    labels = torch.tensor([0] * 4 + [1] * 2)
    drawn, count = torch.Generator().manual_seed(0), torch.zeros(6)
    for _ in range(2000):
        count[draw(torch.arange(6), 3, drawn, labels=labels)] += 1
    # two of four, one of two: each item half of the time, five standard errors
    assert bool(((count / 2000 - 0.5).abs() < 5 * (0.25 / 2000) ** 0.5).all())


def test_one_per_class_takes_any_of_the_class():
    labels = torch.tensor([2, 2, 7, 7, 7])
    drawn = torch.Generator().manual_seed(0)
    got = [tuple(one_per_class(torch.arange(5) + 10, labels, drawn).tolist()) for _ in range(200)]
    assert set(got) == {(a, b) for a in (10, 11) for b in (12, 13, 14)}


def test_stratified_splits_and_initial_set():
    data = ready(test=0.2, val=0.1, stratified=True, initial=9)
    for part in (data.held["test"], data.held["val"], data.labelled):
        size = torch.bincount(targets()[part], minlength=3)
        assert int(size.max() - size.min()) <= 1


@pytest.mark.parametrize(
    ("amount", "count"),
    [(0.5, 5), (0.05, 1), (0.26, 3), (4, 4), (0, 0), (0.0, 0), (10, 10), (4.0, 4)],
)
def test_share_to_count(amount, count):
    assert share_to_count(amount, 10, "val") == count


# --- held-out parts -------------------------------------------------------------------------------


@pytest.mark.parametrize("test", [0.2, 12, [5, 1, 59], torch.tensor([7]), range(10, 20)])
@pytest.mark.parametrize("val", [None, 0.1, 4, [30, 31], 0])
def test_held_out_parts_are_disjoint_from_all_else(test, val):
    data = ready(test=test, val=val)
    held = {n: set() if p is None else set(p.tolist()) for n, p in data.held.items()}
    expected = {0.2: 12, 12: 12}.get(test) if isinstance(test, (int, float)) else len(test)
    assert len(held["test"]) == expected
    assert not held["test"] & held["val"]
    everything = [*held["test"], *held["val"], *data.labelled.tolist(), *data.pool.tolist()]
    assert sorted(everything) == list(range(60))
    loaded = [batch[0] for batch in data.test_dataloader()]
    assert sum(map(len, loaded)) == len(held["test"])
    assert (data.val_dataloader() == []) == (val in (None, 0))


def test_own_data_sets_for_test_and_validation():
    data = ready(test=small.blobs(30, 1), val=Listed([(torch.zeros(4), 1)] * 5))
    assert len(data.pool) + len(data.labelled) == 60
    assert sum(len(y) for _, y in data.test_dataloader()) == 30
    assert first_batch(data.val_dataloader())[1].tolist() == [1] * 5


@pytest.mark.parametrize("shape", ["share", "positions"])
def test_groups_never_straddle(shape):
    groups = [f"patient {i // 4}" for i in range(60)]
    test = 0.2 if shape == "share" else [*range(8), 16, 17, 18, 19]
    val = 0.2 if shape == "share" else range(20, 28)
    data = ready(test=test, val=val, groups=groups, initial=5)
    of = [
        {groups[i] for i in part}
        for part in (
            data.held["test"].tolist(),
            data.held["val"].tolist(),
            [*data.pool.tolist(), *data.labelled.tolist()],
        )
    ]
    assert all(of)
    assert not of[0] & of[1]
    assert not of[0] & of[2]
    assert not of[1] & of[2]
    assert len(data.held["test"]) == 12


def test_positions_that_split_a_group_are_refused():
    groups = torch.arange(60) // 4
    with pytest.raises(ValueError, match=r"test and the rest share the group\(s\) .*whole groups"):
        ready(test=[0, 1, 2], groups=groups)


def test_items_without_labels_follow_their_group():
    groups = [i // 2 for i in range(60)]
    data = Partly(small.blobs(), 0.3, groups=groups, initial=2)
    data.setup()
    held = positions(data, Status.HELD)
    assert {groups[i] for i in held}.isdisjoint({groups[i] for i in data.pool.tolist()})
    assert all(i % 3 == 0 for i in data.held["test"].tolist())  # only labelled ones are tested on
    assert len(held) > len(data.held["test"])


def test_groups_must_be_one_an_item():
    with pytest.raises(ValueError, match="groups must have one entry per item: 60 items, 3 groups"):
        ready(test=0.2, groups=[1, 2, 3])


@pytest.mark.parametrize("name", ["test", "val"])
def test_overlap_with_the_training_data_raises(name):
    base = small.blobs()
    rest = {"test": small.blobs(9, 1)} if name == "val" else {}
    cases = [
        (base, base, 60),
        (base, Subset(base, [3, 4]), 2),
        (Subset(base, range(30)), Subset(base, range(25, 60)), 5),
        (Subset(Subset(base, range(10, 40)), range(5)), Subset(base, [14, 50]), 1),
    ]
    for train, other, shared in cases:
        with pytest.raises(ValueError, match=rf"train and {name} overlap in {shared} item.*leak"):
            ready(train, **(rest | {name: other}))
    apart = ready(Subset(base, range(30)), **(rest | {name: Subset(base, range(30, 60))}))
    assert len(apart.items) == 30


def test_positions_for_test_and_validation_must_not_overlap():
    with pytest.raises(
        ValueError, match=r"val: 1 item.*first: item 5 is held for validation or test"
    ):
        ready(test=[4, 5], val=[5, 6])


# --- bad data -------------------------------------------------------------------------------------


def test_no_data_are_refused():
    with pytest.raises(ValueError, match="needs train and test; test may be a share"):
        ActiveDataModule().setup()
    with pytest.raises(ValueError, match="train data are empty: 0 items"):
        ready(TensorItems(torch.zeros(0, 4), torch.zeros(0).long()))
    with pytest.raises(ValueError, match="test data are empty: 0 items"):
        ready(test=TensorItems(torch.zeros(0, 4), torch.zeros(0).long()))


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_features_that_are_not_finite_are_refused_by_row(value):
    train = small.blobs()
    train.inputs[0][[7, 31], 2] = value
    with pytest.raises(
        ValueError, match=r"NaN or infinite values.*item\(s\) 7, 31; drop or impute"
    ):
        ready(train)
    ready(
        TensorDataset(torch.full((9, 2), 3e38), torch.zeros(9).long()), initial=1
    )  # a sum overflows


def test_a_random_pool_view_is_refused():
    class Noisy(Listed):
        def __getitem__(self, i):
            x, y = super().__getitem__(i)
            return x + torch.rand(4), y

    clean = Listed([(torch.zeros(4), i % 3) for i in range(20)])
    noisy = Noisy(clean.items)
    with pytest.raises(ValueError, match=r"two reads of item 0 differ.*give pool=… with the same"):
        ready(noisy)
    assert len(ready(noisy, pool=clean).pool) == 14
    flips = TensorItems(torch.ones(9, 2), torch.zeros(9).long(), lambda x: x + torch.rand_like(x))
    with pytest.raises(ValueError, match="two reads"):
        ready(flips, initial=1)


def test_the_pool_is_read_under_its_own_transform():
    plain = small.blobs()
    augmented = TensorItems(plain.inputs, plain.targets, lambda x: x + 100)
    data = ready(augmented, test=[0, 1], pool=plain)
    assert float(first_batch(data.train_dataloader())[0].min()) > 50
    assert all(float(x.max()) < 50 for _, x in data.bare_batches(data.pool))
    assert float(first_batch(data.test_dataloader())[0].max()) < 50


def test_a_pool_of_another_length_is_refused():
    with pytest.raises(ValueError, match="train has 60 items, pool has 59"):
        ready(pool=small.blobs(59))


# --- moving items ---------------------------------------------------------------------------------


def test_acquire_moves_items():
    data = ready(test=[0, 1])
    chosen = data.pool[[5, 2, 9]]
    before = len(data.labelled)
    data.acquire(chosen.tolist())
    assert set(chosen.tolist()) <= set(data.labelled.tolist())
    assert not set(chosen.tolist()) & set(data.pool.tolist())
    assert len(data.labelled) == before + 3
    data.ask(data.pool[:2])
    assert positions(data, Status.ASKED) == sorted(positions(data, Status.ASKED))
    data.acquire(torch.tensor(positions(data, Status.ASKED)), torch.tensor([1, 2]))
    assert positions(data, Status.ASKED) == []


@pytest.mark.parametrize(
    ("index", "answers", "said"),
    [
        ([7, 8, 7], None, r"item\(s\) 7 are named twice"),
        ([7, 3], None, "1 item.*not in the pool, first: item 3 is labelled already"),
        ([7, 1], None, "item 1 is held for validation or test"),
        ([7, 2], None, "item 2 is refused by the oracle"),
        ([7, 60], None, "acquire: item 60 is outside the data set of 60 items"),
        ([7, -1], None, "acquire: item -1 is outside"),
        ([7, 8], torch.tensor([1]), "2 items were asked, but 'y' has 1 entries"),
        ([7, 8], torch.tensor([1, 3]), "label 3 of item 8 is outside the 3 classes 0…2"),
        ([7, 8], torch.tensor([-1, 1]), "label -1 of item 7 is outside"),
        ([7, 8], torch.tensor([0.5, 1.0]), "must be whole numbers like the labels"),
        ([7, 8], torch.tensor([[1], [1]]), "have shape .1. an item, the data set's own labels"),
        ([7, 8], {"z": torch.tensor([1, 1])}, "answers must hold 'y', got .'z'"),
        (
            [7, 8],
            {"y": torch.tensor([1, 1]), "z": torch.tensor([torch.nan, 1])},
            "'z' of item.s. 7",
        ),
        ([7, 8], Answers({"y": torch.tensor([1, 1])}, refused=torch.tensor([True])), "'refused'"),
    ],
)
def test_nothing_changes_when_acquire_refuses(index, answers, said):
    data = ready(test=[0, 1], initial=[3, 4])
    data.acquire([2], Answers({"y": torch.tensor([0])}, refused=torch.tensor([True])))
    before = data.fingerprint(), data.status, data.labelled.tolist(), len(data.state.answers)
    with pytest.raises(ValueError, match=said):
        data.acquire(index, answers)
    after = data.fingerprint(), data.status, data.labelled.tolist(), len(data.state.answers)
    assert torch.equal(before[1], after[1])
    assert before[::2] == after[::2]
    assert before[3] == after[3]


def test_answers_keep_their_form():
    data = ready(initial=0)
    data.acquire([1, 2], {"y": torch.tensor([0, 1]), "z": torch.tensor([0.5, 1.5])})
    for answers, said in (
        ({"y": torch.tensor([0])}, r"answers must name \['y', 'z'\]"),
        (
            {"y": torch.tensor([0]), "z": torch.tensor([[1.0]])},
            r"of shape \[1\]; answer in one form",
        ),
        ({"y": torch.tensor([0]), "z": torch.tensor([1])}, "were torch.float32.*torch.int64"),
    ):
        with pytest.raises(ValueError, match=said):
            data.acquire([3], answers)
        assert data.labelled.tolist() == [1, 2]


def test_bare_items_need_answers():
    data = ready(TensorItems(small.blobs().inputs), initial=0)
    with pytest.raises(ValueError, match=r"acquire: item\(s\) 4 carry no label in the data set"):
        data.acquire([4])
    data.acquire([4], torch.tensor([2]))
    assert data.labelled_targets().tolist() == [2]


def test_status_is_a_copy():
    data = ready()
    data.status.fill_(4)
    assert len(data.labelled) == 6


# --- the overlay in batches -----------------------------------------------------------------------

N = 6
FORMS = {
    "tensors": lambda x, y: TensorItems(x, y),
    "tensor dataset": lambda x, y: TensorDataset(x, y),
    "several tensors": lambda x, y: TensorItems([x, x + 1], y),
    "tuple": lambda x, y: Listed([(a, int(b)) for a, b in zip(x, y, strict=True)]),
    "list": lambda x, y: Listed([[a, b] for a, b in zip(x, y, strict=True)]),
    "multi-input": lambda x, y: Listed([(a, a + 1, int(b)) for a, b in zip(x, y, strict=True)]),
    "nested": lambda x, y: Listed([((a, {"k": a}), int(b)) for a, b in zip(x, y, strict=True)]),
    "mapping": lambda x, y: Listed([{"x": a, "c": int(b)} for a, b in zip(x, y, strict=True)]),
    "numpy": lambda x, y: Listed([(a.numpy(), b.numpy()) for a, b in zip(x, y, strict=True)]),
    "subset": lambda x, y: Subset(
        Listed([(a, int(b)) for a, b in zip(x.flip(0), y.flip(0), strict=True)]),
        range(N - 1, -1, -1),
    ),
}


def same_structure(a, b):
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same_structure(a[k], b[k]) for k in a)
    return type(a) is type(b) and all(same_structure(x, y) for x, y in zip(a, b, strict=True))


def label_of(batch):
    return batch["c"] if isinstance(batch, dict) else batch[-1]


@pytest.mark.parametrize("form", FORMS)
def test_answers_reach_batches_of_every_form(form):
    x, y = torch.arange(2.0 * N).reshape(N, 2), torch.arange(N)
    train = FORMS[form](x.clone(), y.clone())
    label = {"mapping": {"label": "c"}, "multi-input": {"label": -1}}.get(form, {})
    data = ActiveDataModule(train, [5], initial=[0, 1], batch_size=N, **label)
    data.setup()
    plain = (
        DataLoader(train, batch_size=None, sampler=[data.labelled]) if form == "tensors" else None
    )

    def batch():
        """The labelled set in ascending order."""
        got = data.items.batch(data.labelled, data.state.answers.get(data.labelled))
        drawn = first_batch(data.train_dataloader())
        assert sorted(label_of(drawn).tolist()) == sorted(label_of(got).tolist())
        return got

    own = [train[i] for i in (0, 1)]
    if plain is None and form not in ("several tensors",):
        expected = default_collate(own)
        expected = tuple(expected) if isinstance(batch(), tuple) else expected
        assert same_structure(batch(), expected)
    before = batch()
    data.acquire([2, 3], torch.tensor([40, 30]))
    after = batch()
    assert label_of(after).tolist() == [0, 1, 40, 30]
    assert label_of(after).dtype == label_of(before).dtype
    one, other = (str(_shape(b)) for b in (before, after))
    assert one.replace("[2", "[n") == other.replace("[4", "[n")
    assert data.labels(torch.tensor([3, 1, 2, 4])).tolist() == [30, 1, 40, 4]
    assert data.labelled_targets().tolist() == [0, 1, 40, 30]
    again = FORMS[form](x, y)
    assert all(_same_item(train[i], again[i]) for i in range(N))  # the data set was not written


def _shape(batch):
    if isinstance(batch, torch.Tensor):
        return list(batch.shape)
    if isinstance(batch, dict):
        return {k: _shape(v) for k, v in batch.items()}
    return [type(batch).__name__, *map(_shape, batch)]


def _same_item(a, b):
    return str(a) == str(b)


@pytest.mark.parametrize(
    ("items", "label", "expected"),
    [
        (lambda x: TensorItems(x), "auto", ["tuple", [2, 2], [2]]),
        (lambda x: Listed(x), "auto", ["list", [2, 2], [2]]),
        (lambda x: Listed((a,) for a in x), "auto", ["list", [2, 2], [2]]),
        (lambda x: Listed((a, a) for a in x), None, ["list", [2, 2], [2, 2], [2]]),
        (lambda x: Listed({"x": a} for a in x), None, {"x": [2, 2], "label": [2]}),
    ],
)
def test_answers_become_the_labels_of_bare_items(items, label, expected):
    x = torch.arange(12.0).reshape(6, 2)
    data = ActiveDataModule(items(x), TensorItems(x, x[:, 0]), initial=0, label=label)
    data.setup()
    assert not data.items.labelled
    data.acquire([4, 1], torch.tensor([7, 8]))
    batch = first_batch(data.train_dataloader())
    assert _shape(batch) == expected
    got = batch["label"] if isinstance(batch, dict) else batch[-1]
    inputs = batch["x"] if isinstance(batch, dict) else batch[0]
    assert {tuple(i.tolist()): int(y) for i, y in zip(inputs, got, strict=True)} == {
        (8.0, 9.0): 7,
        (2.0, 3.0): 8,
    }


def test_float_targets_keep_their_type_when_answers_come():
    train = Listed([(torch.zeros(2), 0.1 * i) for i in range(9)])
    data = ActiveDataModule(train, [8], initial=[0, 1], batch_size=9)
    data.setup()
    before = first_batch(data.train_dataloader())[1]
    data.acquire([5], data.labels(torch.tensor([5])))
    after = first_batch(data.train_dataloader())[1]
    assert before.dtype == after.dtype == torch.float64
    assert sorted(after.tolist()) == [0.0, 0.1, 0.5]


def test_labels_under_a_target_transform_are_those_of_the_items():
    class Folder(Listed):
        targets = (9,) * 6

        def target_transform(self, label):
            return label

    train = Folder([(torch.zeros(2), i % 2) for i in range(6)])
    data = ActiveDataModule(train, [5], initial=2)
    data.setup()
    assert data.labels(torch.arange(6)).tolist() == [0, 1] * 3


def test_a_collation_of_the_users_joins_the_items():
    def collate(items):
        return list(items)

    train = TensorItems(torch.zeros(6, 2), torch.arange(6))
    data = ActiveDataModule(train, [5], initial=[2, 3], collate=collate)
    data.setup()
    batch = first_batch(data.train_dataloader())
    assert sorted(int(y) for _, y in batch) == [2, 3]


def test_mappings_must_say_where_the_label_is():
    data = ActiveDataModule(Listed([{"x": 1.0, "c": 2}] * 4), [3], initial=1)
    with pytest.raises(ValueError, match=r"the keys \['c', 'x'\]; say which holds the label"):
        data.setup()


# --- state ----------------------------------------------------------------------------------------


def test_fingerprint_changes_with_status_and_with_answers():
    def after(*moves):
        data = ready(initial=2)
        for index, answers in moves:
            data.acquire(index, answers)
        return data.fingerprint()

    free = ready(initial=2).pool[:2].tolist()
    seen = [
        after(),
        after((free[:1], None)),
        after((free, None)),
        after((free, torch.tensor([0, 0]))),
        after((free, torch.tensor([0, 1]))),
        after((free, Answers({"y": torch.tensor([0, 1])}, refused=torch.tensor([True, False])))),
    ]
    assert len(set(seen)) == len(seen)
    assert after((free, torch.tensor([0, 1]))) == seen[4]


class Net(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(4, 3)

    def training_step(self, batch, batch_idx):
        return torch.nn.functional.cross_entropy(self.layer(batch[0]), batch[1])

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def test_state_survives_a_lightning_checkpoint(tmp_path):
    data = ready(test=0.2, val=0.1)
    data.acquire(data.pool[:3], torch.tensor([2, 1, 0]))
    data.acquire(
        data.pool[:2], Answers({"y": torch.tensor([1, 1])}, refused=torch.tensor([False, True]))
    )
    data.round = 4
    quiet = {"enable_progress_bar": False, "enable_model_summary": False}
    trainer = pl.Trainer(**small.TRAINER, **quiet, default_root_dir=tmp_path)
    trainer.fit(Net(), datamodule=data)
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    saved = torch.load(tmp_path / "a.ckpt", weights_only=True)["Blobs"]
    assert saved["round"] == 4
    for fresh in (small.datamodule(test=0.2, val=0.1), ready(test=0.2, val=0.1)):
        again = pl.Trainer(
            **(small.TRAINER | {"max_epochs": 3}), **quiet, default_root_dir=tmp_path
        )
        again.fit(Net(), datamodule=fresh, ckpt_path=tmp_path / "a.ckpt", weights_only=True)
        assert fresh.fingerprint() == data.fingerprint()
        assert fresh.round == 4
        assert fresh.labelled_targets().tolist() == data.labelled_targets().tolist()


def test_state_of_another_seed_brings_its_splits():
    data = ready(test=0.2)
    data.start(5)
    other = small.datamodule(test=0.2)
    other.load_state_dict(data.state_dict())
    other.setup()
    assert torch.equal(other.status, data.status)
    assert torch.equal(other.held["test"], data.held["test"])
    with pytest.raises(ValueError, match="state is of 60 items, this data set has 50"):
        ready(small.blobs(50)).load_state_dict(data.state_dict())


def test_load_is_called_once():
    class Counted(small.Blobs):
        loads = 0

        def load(self):
            self.loads += 1
            return super().load()

    data = Counted(small.blobs(), small.blobs(9, 1))
    for stage in (None, "fit", "test"):
        data.setup(stage)
    data.start(1)
    assert data.loads == 1


# --- batches --------------------------------------------------------------------------------------


def listed(sampler):
    return [batch.tolist() for batch in sampler]


@pytest.mark.parametrize("n", [1, 2, 3, 7, 8, 9, 16, 17, 33])
@pytest.mark.parametrize("size", [1, 2, 4, 8])
@pytest.mark.parametrize("world", [1, 2, 3])
def test_the_ranks_together_take_the_steps_of_one_process(n, size, world):
    for shuffle in (None, (0, 3)):
        ranks = [
            Batches(n, size, shuffle=shuffle, rank=r, world=world, pad=True) for r in range(world)
        ]
        steps = [listed(rank) for rank in ranks]
        assert {len(s) for s in steps} == {len(rank) for rank in ranks} == {len(steps[0])}
        rows = [flat(s) for s in steps]
        assert {len(f) for f in rows} == {math.ceil(n / world)}
        seen = flat(zip(*rows, strict=True))  # rank by rank, row by row
        assert set(seen) == set(range(n))
        assert len(seen) - n < world  # padded to a multiple of the world, not more
        one = listed(Batches(n, size * world, shuffle=shuffle, pad=True))
        assert seen[:n] == flat(one)
        for together, alone in zip(zip(*steps, strict=True), one, strict=False):
            if n % world == 0 and len(steps[0]) == len(one):
                assert sorted(flat(together)) == sorted(alone)


@pytest.mark.parametrize("n", [0, 1, 2, 5, 8, 9])
@pytest.mark.parametrize("world", [1, 2, 3])
def test_in_evaluation_each_row_is_read_once_and_in_order(n, world):
    ranks = [Batches(n, 4, rank=r, world=world) for r in range(world)]
    read = [flat(listed(rank)) for rank in ranks]
    assert sorted(flat(read)) == list(range(n))
    assert all(rows == list(range(r, n, world)) for r, rows in enumerate(read))
    assert [len(rank) for rank in ranks] == [len(listed(rank)) for rank in ranks]


@pytest.mark.parametrize(
    ("n", "size", "sizes"),
    [
        (9, 4, [4, 5]),
        (8, 4, [4, 4]),
        (5, 4, [5]),
        (1, 4, [1]),
        (3, 1, [1, 1, 1]),
        (10, 4, [4, 4, 2]),
    ],
)
def test_a_last_batch_of_one_row_joins_the_one_before(n, size, sizes):
    assert [len(b) for b in Batches(n, size, shuffle=(0, 0), pad=True)] == sizes
    assert len(Batches(n, size, pad=True)) == len(sizes)


def test_the_order_differs_by_epoch_and_round_and_seed_but_not_by_rank():
    def order(seed=0, round=0, epoch=0, rank=0, world=1):
        sampler = Batches(20, 4, shuffle=(seed, round), rank=rank, world=world, pad=True)
        sampler.set_epoch(epoch)
        return flat(listed(sampler))

    orders = [order(), order(epoch=1), order(round=1), order(seed=1)]
    assert len({tuple(o) for o in orders}) == 4
    for epoch in range(3):
        whole = order(epoch=epoch)
        assert [order(epoch=epoch, rank=r, world=2) for r in range(2)] == [whole[::2], whole[1::2]]
    assert order(epoch=2) == order(epoch=2)


def test_lightning_moves_the_order_on_each_epoch():
    seen = []

    class Watching(Net):
        def training_step(self, batch, batch_idx):
            seen.append((self.current_epoch, batch[0]))
            return super().training_step(batch, batch_idx)

    data = ready(initial=20, batch_size=20)
    trainer = pl.Trainer(
        **(small.TRAINER | {"max_epochs": 3}), enable_progress_bar=False, enable_checkpointing=False
    )
    trainer.fit(Watching(), datamodule=data)
    epochs = [x for _, x in seen]
    assert len(epochs) == 3
    assert not torch.equal(epochs[0], epochs[1])
    for x in epochs[1:]:
        assert sorted(x.tolist()) == sorted(epochs[0].tolist())


@pytest.mark.parametrize("workers", [0, 2])
def test_workers_read_the_same_batches(workers):
    data = ready(Listed([(torch.full((2,), float(i)), i % 3) for i in range(30)]), initial=10)
    data.num_workers = workers
    got = [batch[0][:, 0].tolist() for batch in data.train_dataloader()]
    data.num_workers = 0
    assert got == [batch[0][:, 0].tolist() for batch in data.train_dataloader()]
    positions_read = torch.cat([rows for rows, _ in data.bare_batches(data.pool, 7)])
    assert positions_read.tolist() == data.pool.tolist()


def test_looking_at_labels_costs_only_what_is_looked_at():
    train = Listed([(torch.zeros(2), i % 3) for i in range(1000)])
    data = ActiveDataModule(train, small.blobs(9, 1), initial=[1, 2], batch_size=2)
    data.setup()
    train.reads = 0
    assert len(data.labelled_targets()) == 2
    data.acquire([5, 6], torch.tensor([0, 1]))
    for _ in data.train_dataloader():
        pass
    assert train.reads < 15
