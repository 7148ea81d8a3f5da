"""The drawn tables: their laws, their sizes, and the one draw."""

import numpy as np
import pytest
import torch

from lightning_al.datamodules import named as datasets
from lightning_al.datamodules.named import synthetic

DRAWN = {
    "synthclass1": (500, 2),
    "synthclass2": (500, 2),
    "synthclass3": (500, 2),
    "gaussian-clouds": (11_000, 2),
    "drawn-checkerboard-2x2": (2000, 2),
    "drawn-checkerboard-4x4": (2000, 2),
    "synthreg1": (1000, 1),
    "synthreg2": (1000, 2),
    "bimodal-sine": (1000, 1),
    "density-grid": (1600, 2),
}
LARGE = 60_000


def classes(table):
    """Points of class 0 and of class 1."""
    return table[table[:, -1] == 0, :-1], table[table[:, -1] == 1, :-1]


def nearest(points, means):
    """How many points are nearest to each mean."""
    squares = ((points[:, None] - np.array(means)[None]) ** 2).sum(-1)
    return np.bincount(squares.argmin(1), minlength=len(means))


@pytest.mark.parametrize("variant", ["corrected", "published"])
@pytest.mark.parametrize("name", DRAWN)
def test_size_and_repetition(name, variant):
    state = np.random.get_state()[1].tolist(), torch.get_rng_state()
    a, b = (datasets.load(name, variant) for _ in range(2))
    assert tuple(a.features.shape) == DRAWN[name]
    assert torch.equal(a.features, b.features)
    assert torch.equal(a.targets, b.targets)
    assert np.random.get_state()[1].tolist() == state[0]
    assert torch.equal(torch.get_rng_state(), state[1])


@pytest.mark.parametrize(
    "draw",
    [synthetic.two_clouds, synthetic.six_clouds, synthetic.gaussian_clouds, synthetic.spiral],
)
def test_another_seed_is_another_draw(draw):
    assert not np.array_equal(draw(size=50, seed=1), draw(size=50, seed=2))


@pytest.mark.parametrize("size", [500, 501, 7])
def test_classes_are_of_equal_size_and_clouds_within_them(size):
    for draw in (synthetic.two_clouds, synthetic.six_clouds, synthetic.three_clouds):
        zero, one = classes(draw(size=size))
        assert len(zero) + len(one) == size
        assert len(zero) - len(one) in (0, 1)


@pytest.mark.parametrize(
    ("variant", "zero", "one"),
    [("corrected", (-1, -1), (1, 1)), ("published", (0, 0), (3, 3))],
)
def test_two_clouds(variant, zero, one):
    for points, mean in zip(
        classes(synthetic.two_clouds(variant, LARGE)), (zero, one), strict=True
    ):
        np.testing.assert_allclose(points.mean(0), mean, atol=0.03)
        np.testing.assert_allclose(np.cov(points.T), np.eye(2), atol=0.03)


@pytest.mark.parametrize(
    ("variant", "zero", "one"),
    [
        ("corrected", [(0, 5), (0, -5), (-5, 10)], [(5, 10), (-5, -10), (5, -10)]),
        ("published", [(0, -5), (5, 10), (5, -10)], [(0, 5), (-5, 10), (-5, -10)]),
    ],
)
def test_six_clouds(variant, zero, one):
    found = classes(synthetic.six_clouds(variant, LARGE))
    for points, means in zip(found, (zero, one), strict=True):
        counts = nearest(points, [*zero, *one])
        mine = nearest(points, means)
        assert abs(mine - LARGE // 6).max() < 20  # five deviations apart, few points stray
        assert counts.sum() == LARGE // 2
        assert abs(points - np.array(means)[:, None]).max(-1).min(0).max() < 6


def test_three_clouds():
    zero, one = classes(synthetic.three_clouds(size=LARGE))
    np.testing.assert_allclose(zero.mean(0), [3, 3], atol=0.06)
    np.testing.assert_allclose(np.cov(zero.T), [[1, 2], [2, 7]], atol=0.15)
    mix = np.array([[0.60834549, -0.63667341], [-0.40887718, 0.85253229]])
    half = len(one) // 2
    for points, mean in ((one[:half], (0, 0)), (one[half:], (3, 10))):
        np.testing.assert_allclose(points.mean(0), mean, atol=0.03)
        np.testing.assert_allclose(np.cov(points.T), mix @ mix.T, atol=0.03)


@pytest.mark.parametrize("share", [0.8, 0.3])
def test_gaussian_clouds_have_their_share_in_both_parts(share):
    table = synthetic.gaussian_clouds(size=200, share=share)
    assert len(table) == 2200
    assert table[:200, -1].sum() == int(share * 200)
    assert table[200:, -1].sum() == int(share * 2000)
    for label in (0, 1):  # one law for training and test
        train, test = (part[part[:, -1] == label, :-1] for part in (table[:200], table[200:]))
        spread = test.std(0)
        assert (abs(train.mean(0) - test.mean(0)) < 5 * spread / np.sqrt(len(train))).all()
    assert datasets.load("gaussian-clouds").targets.float().mean() == pytest.approx(0.8)


def test_gaussian_clouds_of_a_drawn_share_and_more_dimensions():
    shares = {
        synthetic.gaussian_clouds(size=100, seed=s, share=None)[:100, -1].mean() for s in range(20)
    }
    assert len(shares) > 10
    assert 0.09 <= min(shares) < max(shares) <= 0.9
    wide = synthetic.gaussian_clouds(size=4000, dimensions=5, seed=3)
    for points in classes(wide):
        assert points.shape[1] == 5
        assert (points.mean(0) > -0.1).all()
        assert (points.mean(0) < 1.1).all()
        assert np.linalg.eigvalsh(np.cov(points.T)).max() < 5 * 5 * 0.25


@pytest.mark.parametrize("cells", [1, 2, 4])
def test_a_checkerboard_changes_colour_over_every_edge(cells):
    table = synthetic.checkerboard(cells=cells, size=4000)
    for x, y, colour in table:
        assert colour == (int(x * cells) + int(y * cells) + 1) % 2
    if cells > 1:
        assert table[:, 2].mean() == pytest.approx(0.5, abs=0.05)


def test_the_line_is_that_of_scikit_learn_and_has_no_noise():
    from sklearn.datasets import make_regression

    x, y = make_regression(n_samples=1000, n_features=1, random_state=1234)
    table = datasets.load("synthreg1", "published")
    np.testing.assert_array_equal(table.features, x.astype("float32"))
    np.testing.assert_array_equal(table.targets, y.astype("float32"))
    slope = y / x[:, 0]
    np.testing.assert_allclose(slope, slope[0])


def test_the_spiral():
    z, second, target = synthetic.spiral(size=LARGE).T
    assert 0 <= z.min() < 0.01
    assert 14.99 < z.max() <= 15
    for noise in (second - np.sin(z), target - np.cos(z)):
        assert noise.std() == pytest.approx(0.1, abs=0.002)
        assert abs(noise.mean()) < 0.002
        assert abs(np.corrcoef(noise, z)[0, 1]) < 0.02
    assert abs(np.corrcoef(second - np.sin(z), target - np.cos(z))[0, 1]) < 0.02


def test_the_bimodal_sine_has_two_answers():
    table = synthetic.bimodal_sine(size=LARGE)
    x, off = table[:, 0], table[:, 1] - np.sin(table[:, 0])
    assert -4 <= x.min() < -3.99
    assert 3.99 < x.max() <= 4
    assert abs(np.mean(off > 0) - 0.5) < 0.01
    up = off[off > 0.5]  # the outer half of each mode is hardly the other's
    down = off[off < -0.5]
    for tail, centre in ((up, 0.5), (-down, 0.5)):
        assert abs(np.mean((tail - centre) ** 2) - 0.04) < 0.002
    assert not np.array_equal(table[:50], synthetic.bimodal_sine(size=50, seed=1))


def test_the_density_grid_has_clouds_on_a_grid():
    table = synthetic.density_grid(each=2000)
    for cloud in range(16):
        points = table[table[:, 2] == cloud, :2]
        assert len(points) == 2000
        np.testing.assert_allclose(points.mean(0), [2 * (cloud // 4), 2 * (cloud % 4)], atol=0.04)
        np.testing.assert_allclose(np.cov(points.T), 0.1 * np.eye(2), atol=0.012)
