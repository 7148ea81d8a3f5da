"""Starts, folds, and the datamodule that puts a named data set together."""

import random

import numpy as np
import pytest
import torch
from helpers import tiny_data
from jsonargparse import ArgumentParser
from sklearn.model_selection import KFold, StratifiedKFold

from lightning_al.datamodules import NamedDataModule
from lightning_al.datamodules import named as datasets

CLASSES = torch.tensor([2, 0, 0, 1, 2, 1, 0, 2, 2, 0, 1, 0] * 4)


# --- starts --------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [10, 19, 97, 354])
def test_a_warm_start_is_pythons_sample_of_the_seed(n):
    rows = torch.arange(3, 3 + 2 * n, 2)
    state = random.getstate()
    random.seed(1234)
    expected = random.sample(rows.tolist(), int(0.1 * n))
    random.setstate(state)
    got = datasets.share(rows)
    assert got.tolist() == sorted(expected)
    assert random.getstate() == state
    assert not torch.equal(
        datasets.share(torch.arange(1000), 1), datasets.share(torch.arange(1000))
    )


def test_a_warm_start_of_nothing_is_refused():
    with pytest.raises(ValueError, match=r"a warm start of 0\.1 of 9 items is empty"):
        datasets.share(torch.arange(9))
    with pytest.raises(ValueError, match=r"must lie in \(0, 1\], got 1\.5"):
        datasets.share(torch.arange(9), part=1.5)


def test_a_cold_start_has_one_random_item_of_each_class():
    rows = torch.tensor([3, 0, 5, 7, 9, 10, 4, 20, 21])
    drawn = random.Random(5)
    expected = [
        drawn.choice([r for r in rows.tolist() if CLASSES[r] == label])
        for label in dict.fromkeys(CLASSES[rows].tolist())
    ]
    assert datasets.one_each(CLASSES, rows, 5).tolist() == sorted(expected)
    counts = torch.zeros(len(CLASSES))
    for seed in range(300):
        got = datasets.one_each(CLASSES, rows, seed)
        assert CLASSES[got].sort().values.tolist() == [0, 1, 2]
        counts[got] += 1
    assert set(counts.nonzero().flatten().tolist()) == set(rows.tolist())
    for label in range(3):  # each of a class is as likely as the others
        mine = [r for r in rows.tolist() if CLASSES[r] == label]
        assert counts[mine].min() > 300 / len(mine) * 0.6


def farthest_by_hand(features, rows):
    best, pair = -1.0, None
    for i in rows:
        for j in rows:
            distance = sum((a - b) ** 2 for a, b in zip(features[i], features[j], strict=True))
            if distance > best:
                best, pair = distance, sorted((i, j))
    return pair


@pytest.mark.parametrize("block", [1, 7, 1 << 22])
def test_a_cold_start_of_regression_is_the_farthest_pair(monkeypatch, block):
    monkeypatch.setattr("lightning_al.datamodules.named.starts.BLOCK", block)
    for seed in range(4):
        drawn = torch.Generator().manual_seed(seed)
        features = torch.randn(40, 3, generator=drawn)
        rows = torch.randperm(40, generator=drawn)[:25]
        expected = farthest_by_hand(features.double().tolist(), rows.tolist())
        assert datasets.farthest(features, rows).tolist() == expected


def test_of_equal_distances_the_first_pair_is_taken():
    square = torch.tensor([[0.5, 0.5], [0.0, 0.0], [0.0, 1.0], [1.0, 1.0], [1.0, 0.0]])
    assert datasets.farthest(square, torch.arange(5)).tolist() == [1, 3]
    assert datasets.farthest(square, torch.tensor([0, 4, 1, 2, 3])).tolist() == [2, 4]
    assert datasets.farthest(torch.zeros(4, 2), torch.tensor([1, 2])).tolist() == [1, 2]
    with pytest.raises(ValueError, match="needs two training items, got 1"):
        datasets.farthest(square, torch.tensor([3]))


def test_features_far_from_zero_do_not_blur_the_distance():
    features = torch.tensor([[0.0], [1e-3], [2e-3], [-1e-3]], dtype=torch.float64) + 1e6
    assert datasets.farthest(features, torch.arange(4)).tolist() == [2, 3]


def test_the_kind_of_start_is_checked():
    with pytest.raises(ValueError, match="start must be 'cold' or 'warm', got 'hot'"):
        datasets.start(
            "hot", torch.zeros(2, 1), torch.zeros(2), torch.arange(2), classification=True
        )


# --- folds ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [None, 0, 1234])
@pytest.mark.parametrize("stratified", [True, False])
@pytest.mark.parametrize("folds", [2, 5])
def test_folds_are_those_of_scikit_learn_and_part_the_items(seed, stratified, folds):
    kind = StratifiedKFold if stratified else KFold
    theirs = kind(folds, shuffle=seed is not None, random_state=seed)
    seen = []
    for fold, (train, test) in enumerate(theirs.split(np.zeros((48, 1)), CLASSES.numpy())):
        mine = datasets.split(CLASSES, fold, folds, stratified=stratified, seed=seed)
        assert [p.tolist() for p in mine] == [train.tolist(), test.tolist()]
        assert sorted([*train, *test]) == list(range(48))
        seen += mine[1].tolist()
        if stratified:
            ideal = CLASSES.bincount() / folds
            assert ((CLASSES[mine[1]].bincount(minlength=3) - ideal).abs() < 1).all()
    assert sorted(seen) == list(range(48))


def test_published_folds_of_a_regression_are_blocks():
    train, test = datasets.split(torch.zeros(12), 1, 4, stratified=False, seed=None)
    assert test.tolist() == [3, 4, 5]
    assert train.tolist() == [0, 1, 2, *range(6, 12)]


@pytest.mark.parametrize(
    ("fold", "folds", "why"),
    [(5, 5, r"fold must lie in 0\.\.4, got 5"), (-1, 5, "got -1"), (0, 1, r"folds .* 2\.\.48")],
)
def test_folds_that_are_none(fold, folds, why):
    with pytest.raises(ValueError, match=why):
        datasets.split(CLASSES, fold, folds, stratified=True, seed=0)


# --- the datamodule ------------------------------------------------------------------------------


def built(name, **kwargs):
    dm = NamedDataModule(name, **kwargs)
    dm.prepare_data()
    dm.setup()
    return dm


@pytest.mark.parametrize("start", ["cold", "warm"])
@pytest.mark.parametrize("variant", ["corrected", "published"])
@pytest.mark.parametrize("name", ["diabetes", "breast", "synthreg1", "synthclass2"])
def test_the_module_is_the_table_the_fold_and_the_start(name, variant, start):
    dm = built(name, fold=2, variant=variant, start=start)
    table = datasets.load(name, variant)
    classes = table.spec.task == "classification"
    train, test = datasets.split(table.targets, 2, stratified=classes, seed=table.fold_seed)
    first = datasets.start(
        start, table.features, table.targets, train, classification=classes, seed=1234
    )
    assert torch.equal(dm.splits.test, test)
    assert torch.equal(dm.labelled, first)
    assert sorted([*dm.labelled.tolist(), *dm.pool.tolist()]) == train.tolist()
    rows = torch.arange(len(table))
    inputs, targets = dm.splits.train[rows]
    assert inputs.dtype == torch.float32
    assert torch.equal(targets, table.targets.float() if not classes else table.targets)
    if variant == "published":
        assert torch.equal(inputs, table.features)
    else:
        seen = table.features[train]
        mean, std = seen.mean(0), seen.std(0, correction=0)
        torch.testing.assert_close(inputs, ((table.features - mean) / std).float())
    assert (dm.classes, dm.outputs) == ((2, None) if classes else (None, 1))
    assert dm.in_features == len(dm.feature_names) == table.features.shape[1]


def test_the_test_part_does_not_touch_the_scaling(monkeypatch):
    whole = datasets.load("diabetes")
    _, test = datasets.split(whole.targets, 0, stratified=False, seed=whole.fold_seed)
    before = built("diabetes", fold=0).splits.train.inputs[0]
    spec = datasets.spec("diabetes")
    moved = whole.features.clone()
    moved[test] += 1000
    table = np.column_stack([moved.numpy(), whole.targets.numpy()])
    changed = type(spec)(**{**spec.__dict__, "draw": lambda variant: table})
    monkeypatch.setitem(datasets.DATASETS._factories, "diabetes", lambda: changed)
    after = built("diabetes", fold=0).splits.train.inputs[0]
    rest = torch.ones(len(whole), dtype=torch.bool)
    rest[test] = False
    assert torch.equal(before[rest], after[rest])
    assert not torch.equal(before[test], after[test])


def test_validation_comes_out_of_the_training_part():
    dm = built("breast", fold=1, val=0.2, start="warm")
    held, val = set(dm.splits.test.tolist()), set(dm.splits.val.tolist())
    rows = [i for i in range(569) if i not in held | val]
    assert len(val) == round(0.2 * (569 - len(held)))
    assert not held & val
    assert sorted([*dm.labelled.tolist(), *dm.pool.tolist()]) == rows
    assert len(dm.labelled) == int(0.1 * len(rows))
    inputs = dm.splits.train.inputs[0][rows].double()
    torch.testing.assert_close(inputs.mean(0), torch.zeros(30).double(), atol=1e-5, rtol=0)
    other = built("breast", fold=1, val=0.2, seed=9)
    assert other.splits.val.tolist() == dm.splits.val.tolist()


def test_the_split_seed_moves_shuffled_folds_only():
    for variant, moves in (("corrected", True), ("published", False)):
        a, b = (built("diabetes", variant=variant, split_seed=s).splits.test for s in (None, 7))
        assert torch.equal(a, b) != moves


def test_scaling_can_be_chosen_apart_from_the_variant():
    raw = built("diabetes", standardise=False).splits.train.inputs[0]
    assert torch.equal(raw, datasets.load("diabetes").features.float())
    scaled = built("diabetes", standardise=True, variant="published").splits.train.inputs[0]
    assert scaled[: 442 // 5 + 1].std() != pytest.approx(1, abs=1e-6)  # the first block is the test
    assert scaled[442 // 5 + 1 :].std(0, correction=0).sub(1).abs().max() < 1e-5


def test_the_split_a_set_comes_with_is_the_default():
    dm = built("gaussian-clouds")
    assert dm.splits.test.tolist() == list(range(1000, 11_000))
    assert len(dm.labelled) == 100
    assert len(built("gaussian-clouds", fold=0).splits.test) == 2200
    assert built("diabetes").splits.test.tolist() == built("diabetes", fold=0).splits.test.tolist()


def test_a_start_without_seed_follows_the_run_and_one_with_seed_does_not():
    for kind in ("cold", "warm"):
        dm = built("breast", start=kind, start_seed=None)
        first = dm.labelled.tolist()
        dm.start(1)
        assert dm.labelled.tolist() != first
        dm.start(0)
        assert dm.labelled.tolist() == first
        fixed = built("breast", start=kind)
        before = fixed.labelled.tolist()
        fixed.start(1)
        assert fixed.labelled.tolist() == before


def test_initial_stands_in_place_of_a_start():
    train = built("breast", fold=0).pool.tolist()
    assert built("breast", fold=0, initial=train[3:5]).labelled.tolist() == train[3:5]
    assert len(built("breast", initial=7).labelled) == 7
    with pytest.raises(ValueError, match="give start='cold' or initial=7, not both"):
        NamedDataModule("breast", start="cold", initial=7)


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist"])
def test_images_by_name(name, tmp_path, monkeypatch):
    tiny_data.shrink(monkeypatch, tmp_path)
    tiny_data.write_idx(tmp_path, name.replace("-", "_"))
    dm = built(name, start="cold")
    assert dm.splits.test.tolist() == list(range(40, 50))
    assert dm.labels(dm.labelled).sort().values.tolist() == list(range(10))
    assert int(dm.labelled.max()) < 40
    inner = datasets.spec(name).module(initial=1)
    inner.setup()
    images, labels = dm.splits.train[torch.arange(50)]
    for part, rows in ((inner.splits.train, slice(0, 40)), (inner.splits.test, slice(40, 50))):
        theirs = part[torch.arange(len(part))]
        assert torch.equal(images[rows], theirs[0])
        assert torch.equal(labels[rows], theirs[1])
    assert (dm.classes, dm.in_channels, dm.image_size) == (10, 1, 28)
    folded = built(name, fold=3, variant="published")
    assert len(folded.splits.test) == 10
    items, _ = folded.splits.train[torch.arange(50)]
    if name == "mnist":
        assert torch.equal(items, images)
    else:
        raw = folded.splits.train.inputs[0]
        assert folded.in_features == 784
        assert torch.equal(items, raw.reshape(50, 784) / 255)
    with pytest.raises(ValueError, match="leave standardise out"):
        NamedDataModule(name, standardise=True)


def test_what_is_not_known_is_refused():
    with pytest.raises(
        LookupError, match=r"no data set named 'iris'.*choose one of adversarial-moons, airfoil"
    ):
        NamedDataModule("iris")
    with pytest.raises(ValueError, match=r"variant must be one of .*, got 'raw'"):
        NamedDataModule("glass", variant="raw")
    with pytest.raises(ValueError, match=r"start must be one of .*, got 'hot'"):
        NamedDataModule("glass", start="hot")


def test_missing_files_are_named(tmp_path):
    dm = NamedDataModule("glass", data_dir=str(tmp_path))
    with pytest.raises(FileNotFoundError, match="call prepare_data") as caught:
        dm.setup()
    assert str(tmp_path / "uci" / "glass.data") in str(caught.value)


def test_a_configuration_can_name_it():
    parser = ArgumentParser()
    parser.add_class_arguments(NamedDataModule, "data")
    given = ["--data.name=diabetes", "--data.fold=4", "--data.start=cold", "--data.batch_size=9"]
    dm = NamedDataModule(**parser.parse_args(given).data.as_dict())
    dm.setup()
    assert (dm.fold, dm.batch_size, len(dm.labelled)) == (4, 9, 2)
