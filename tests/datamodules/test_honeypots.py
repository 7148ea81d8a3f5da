"""The two-dimensional sets of ALRM: their laws, their honeypots, their split."""

import numpy as np
import pytest
import torch

from lightning_al.datamodules import NamedDataModule
from lightning_al.datamodules import named as datasets
from lightning_al.datamodules.named import honeypots

SIZES = {  # rows, honeypots, training part
    "moons": (600, 0, 480),
    "adversarial-moons": (600, 100, 480),
    "blobs": (400, 200, 320),
    "diverging-sine": (500, 0, 400),
}


@pytest.mark.parametrize("name", SIZES)
def test_sizes_marks_and_the_split(name):
    rows, pots, train = SIZES[name]
    module = NamedDataModule(name, initial=20)
    module.start(3)
    assert len(module.items) == rows
    assert (len(module.labelled), len(module.pool)) == (20, train - 20)
    assert module.held["test"].tolist() == list(range(train, rows))
    assert (0 if module.marked is None else len(module.marked)) == pots
    assert module.feature_names == ("x0", "x1")
    seen = torch.cat([module.labelled, module.pool])
    features = module.items.inputs(seen)  # to scale by the training part alone
    np.testing.assert_allclose(features.mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(features.std(0, correction=0), 1, atol=1e-5)


@pytest.mark.parametrize("draw", [honeypots.adversarial_moons, honeypots.blobs])
def test_labels_of_honeypots_are_even_and_tell_nothing_of_the_place(draw):
    table = draw()
    pots = table[table[:, 2] == 1]
    assert pots[:, 3].mean() == 0.5
    gap = pots[pots[:, 3] == 0, :2].mean(0) - pots[pots[:, 3] == 1, :2].mean(0)
    assert abs(gap).max() < 4 * pots[:, :2].std(0).max() / np.sqrt(len(pots) / 4)


def test_the_ring_is_a_ring_with_the_moons_of_scikit_learn_inside():
    from sklearn.datasets import make_moons

    table = honeypots.adversarial_moons(ring=4000)
    pots, rest = (table[table[:, 2] == mark] for mark in (1, 0))
    away = pots[:, :2] - np.array([0.5, 0.25])
    radius = np.linalg.norm(away, axis=1)
    assert radius.mean() == pytest.approx(2.5, abs=0.01)
    assert radius.std() == pytest.approx(0.1, abs=0.01)
    assert abs(away.mean(0)).max() < 0.01
    points, labels = make_moons(500, noise=0.25, random_state=42)
    wanted = np.column_stack([points, labels])
    mine = rest[:, [0, 1, 3]]
    np.testing.assert_array_equal(mine[np.lexsort(mine.T)], wanted[np.lexsort(wanted.T)])


def test_blobs_and_honeypots_lie_where_they_should():
    table = honeypots.blobs(size=4000, pots=4000)
    for mark, label, centre, spread in ((0, 0, (0, 0), 0.25), (0, 1, (0, 2), 0.25)):
        some = table[(table[:, 2] == mark) & (table[:, 3] == label), :2]
        np.testing.assert_allclose(some.mean(0), centre, atol=0.03)
        np.testing.assert_allclose(some.std(0), spread, atol=0.02)
    pots = table[table[:, 2] == 1, :2]
    np.testing.assert_allclose(pots.mean(0), (1, 1), atol=0.03)
    np.testing.assert_allclose(pots.std(0), 0.375, atol=0.02)


def test_the_sines_part_from_left_to_right():
    table = honeypots.diverging_sine(each=5000)
    for label, slope in ((0, 0.15), (1, -0.15)):
        x, y = table[table[:, 3] == label, :2].T
        off = y - np.sin(2 * x) - slope * x
        assert (x.min(), x.max()) == (0, 6)
        assert off.std() == pytest.approx(0.2, abs=0.01)
        assert abs(np.polyfit(x, off, 1)[0]) < 0.01


@pytest.mark.parametrize("name", SIZES)
def test_the_draw_is_one_draw(name):
    draw = {"adversarial-moons": "adversarial_moons", "diverging-sine": "diverging_sine"}
    draw = getattr(honeypots, draw.get(name, name))
    before = np.random.get_state()[1].tolist()
    np.testing.assert_array_equal(draw(), draw())
    assert np.random.get_state()[1].tolist() == before
    assert not np.array_equal(draw()[:, :2], draw(seed=1)[:, :2])
    spec = datasets.table_spec(name)
    np.testing.assert_array_equal(spec.draw("published"), spec.draw("corrected"))
