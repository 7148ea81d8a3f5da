"""Scenes of digits: what is in a picture is what its targets say, and the test knows new digits."""

import pytest
import torch

from lightning_al.datamodules import ScenesDataModule
from lightning_al.datamodules import named as datasets

SIDE, GRID, INK, NOTHING = 8, 3, 0.25, 10


def module(targets="labels", **more):
    data = ScenesDataModule(targets=targets, **({"scenes": 60, "test": 30, "initial": 10} | more))
    data.start(0)
    return data


def scenes_of(data):
    """Pictures [n, 1, 24, 24] and targets of the pool and of the test."""
    train = data.items.tensors
    test = data.splits.test
    return (train.inputs[0], train.targets), (test.inputs[0], test.targets)


def cells(pictures):
    """[n, 24, 24] -> [n, 9, 8, 8], the cells of each scene."""
    split = pictures.reshape(-1, GRID, SIDE, GRID, SIDE)
    return split.transpose(2, 3).reshape(-1, GRID**2, SIDE, SIDE)


@pytest.fixture(scope="module")
def glyphs():
    """The digits by their pixels: bytes -> label."""
    table = datasets.load("digits")
    pictures = table.features.float().reshape(-1, SIDE, SIDE) / table.features.max()
    return {p.numpy().tobytes(): int(y) for p, y in zip(pictures, table.targets, strict=True)}


@pytest.fixture(scope="module")
def worlds():
    return {kind: module(kind) for kind in ("labels", "places")}


@pytest.mark.parametrize("part", [0, 1], ids=["pool", "test"])
def test_targets_say_what_the_pictures_show(worlds, glyphs, part):
    """Every cell is empty or holds a digit of the table; the targets are those of the table."""
    x, present = scenes_of(worlds["labels"])[part]
    same, places = scenes_of(worlds["places"])[part]
    assert torch.equal(x, same)  # one scene, told in two ways
    assert x.dtype == torch.float32
    assert x.shape == (len(x), 1, SIDE * GRID, SIDE * GRID)
    assert 0 <= float(x.min()) <= float(x.max()) <= 1
    for row, (picture, told) in enumerate(zip(cells(x[:, 0]), cells(places), strict=True)):
        found = []
        for cell, classes in zip(picture, told, strict=True):
            if not bool(cell.any()):
                assert bool((classes == NOTHING).all())
                continue
            label = glyphs[cell.contiguous().numpy().tobytes()]
            found.append(label)
            assert torch.equal(classes, torch.where(cell > INK, label, NOTHING))
        assert 1 <= len(found) <= 4
        assert present[row].nonzero().flatten().tolist() == sorted(set(found))


def test_the_digits_of_the_test_are_in_no_other_scene(worlds):
    pool, test = (
        {c.contiguous().numpy().tobytes() for picture in cells(x[:, 0]) for c in picture}
        for x, _ in scenes_of(worlds["labels"])
    )
    blank = torch.zeros(SIDE, SIDE).numpy().tobytes()
    assert pool & test == {blank}


def test_every_number_of_digits_is_as_likely():
    x, _ = scenes_of(module(scenes=2000, test=1))[0]
    several = (cells(x[:, 0]).flatten(2).amax(2) > 0).sum(1)
    count = several.bincount(minlength=5)
    assert int(count[0]) == 0
    spread = (2000 * 0.25 * 0.75) ** 0.5
    assert bool(((count[1:] - 500).abs() < 4 * spread).all())
    where = (cells(x[:, 0]).flatten(2).amax(2) > 0).double().mean(0)
    assert bool(((where - 2.5 / 9).abs() < 4 * (2.5 / 9 / 2000) ** 0.5).all())


def test_the_making_is_keyed_by_its_own_seed_alone():
    torch.manual_seed(1)
    first = scenes_of(module())[0][0]
    torch.manual_seed(2)
    assert torch.equal(scenes_of(module())[0][0], first)
    other = ScenesDataModule(scenes=60, test=30, initial=10)
    other.start(7)  # of the run: who is labelled, and not what there is
    assert torch.equal(scenes_of(other)[0][0], first)
    assert not torch.equal(scenes_of(module(scene_seed=1))[0][0], first)


@pytest.mark.parametrize(
    ("kind", "facts"),
    [
        ("labels", {"classes": None, "outputs": 10}),
        ("places", {"classes": 11, "outputs": None}),
    ],
)
def test_sizes_that_the_command_line_fills_in(worlds, kind, facts):
    data = worlds[kind]
    assert {name: getattr(data, name, None) for name in facts} == facts
    assert (data.in_channels, data.image_size) == (1, 24)
    inputs, targets = next(iter(data.train_dataloader()))
    assert inputs.shape[1:] == (1, 24, 24)
    assert targets.shape[1:] == ((10,) if kind == "labels" else (24, 24))
    assert targets.dtype == torch.int64
    assert int(targets.max()) <= (1 if kind == "labels" else NOTHING)


def test_names_of_the_classes_are_those_of_the_targets(worlds):
    assert worlds["places"].class_names[7] == "7"
    assert worlds["places"].class_names[NOTHING] == "background"
    assert len(worlds["places"].class_names) == worlds["places"].classes


def test_shares_and_sizes():
    data = module(val=0.2, scenes=50, test=20)
    assert len(data.labelled) + len(data.pool) == 40
    assert sum(len(y) for _, y in data.val_dataloader()) == 10
    assert sum(len(y) for _, y in data.test_dataloader()) == 20


@pytest.mark.parametrize(
    "wrong", [{"targets": "boxes"}, {"scenes": 0}, {"test": 0}], ids=["targets", "scenes", "test"]
)
def test_what_cannot_be_made(wrong):
    with pytest.raises(ValueError, match="'labels' or 'places', and there is 1 scene or more"):
        ScenesDataModule(**wrong)
