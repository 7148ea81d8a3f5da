"""TypiClust's k-means beside scikit-learn's: inertia, coverage, and centres that are freed."""

import sys

import pytest
import torch
from sklearn.cluster import KMeans, MiniBatchKMeans
from sklearn.datasets import load_digits

from lightning_al.strategies.kernels.k_means import _fresh, _sums, assign, kmeans
from lightning_al.strategies.kernels.typiclust import typiclust

N, E = 6000, 24
SEEDS = 3


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def clumped():
    """Clumps of unequal size with heavy tails (Student t, 3 degrees of freedom)."""
    draw = seeded(5)
    centres = torch.randn(50, E, generator=draw)
    owner = torch.multinomial(1 / torch.arange(1.0, 51), N, True, generator=draw)
    heavy = torch.randn(N, 3, generator=draw).square().mean(1, keepdim=True).sqrt()
    return centres[owner] + 0.3 * torch.randn(N, E, generator=draw) / heavy


def tight():
    """Clumps far narrower than their distances."""
    draw = seeded(6)
    centres = torch.randn(30, E, generator=draw)
    owner = torch.multinomial(1 / torch.arange(1.0, 31), N, True, generator=draw)
    return centres[owner] + 0.05 * torch.randn(N, E, generator=draw)


def noise():
    """i.i.d. normal."""
    return torch.randn(N, E, generator=seeded(7))


def digits():
    """Real ones, 8 x 8 pixels."""
    return torch.from_numpy(load_digits().data).float()


EVERY = pytest.mark.parametrize("points", [clumped, tight, noise, digits])
COUNTS = pytest.mark.parametrize("k", [30, 60])


def inertia(points, centres):
    return float(assign(points, centres)[1].double().sum())


def reference(points, k, seed):
    found = MiniBatchKMeans(k, random_state=seed).fit(points.numpy())
    return torch.from_numpy(found.cluster_centers_).float()


def middle(values):
    return sum(values) / len(values)


@EVERY
@COUNTS
def test_inertia_is_within_three_per_cent_of_the_reference(points, k):
    x = points()
    ours = middle([inertia(x, kmeans(x, k, seeded(s))) for s in range(SEEDS)])
    theirs = middle([inertia(x, reference(x, k, s)) for s in range(SEEDS)])
    assert ours <= 1.03 * theirs


@EVERY
@COUNTS
def test_picks_cover_as_those_of_the_reference_do(points, k, monkeypatch):
    """Mean distance to the nearest pick, by our centres and by scikit-learn's."""
    x = points()

    def coverage(seed):
        picks = typiclust(x, None, k, seeded(seed))
        return float(assign(x, x[picks])[1].sqrt().mean())

    ours = middle([coverage(s) for s in range(SEEDS)])
    module = sys.modules[typiclust.__module__]
    monkeypatch.setattr(module, "kmeans", lambda x, k, g, **_: reference(x, k, 0))
    assert ours <= 1.03 * middle([coverage(s) for s in range(SEEDS)])


@pytest.mark.parametrize("k", [20, 40, 80])
@pytest.mark.parametrize("points", [clumped, noise])
def test_next_to_no_centre_is_an_odd_item(points, k):
    x = points()
    sizes = assign(x, kmeans(x, k, seeded()))[0].bincount(minlength=k)
    assert int((sizes < 6).sum()) <= k // 10


@pytest.mark.parametrize("k", [1, 3, 25])
def test_the_last_step_is_lloyds_on_all_points(k):
    """Of the centres found on a sample the means of all points that are theirs are returned."""
    x = noise()
    before = kmeans(x, k, seeded(), per_centre=40)
    step = KMeans(k, init=before.numpy(), n_init=1, max_iter=1).fit(x.numpy())
    assert inertia(x, before) <= 1.05 * step.inertia_
    if k == 1:
        torch.testing.assert_close(before, x.mean(0, keepdim=True), atol=1e-4, rtol=1e-4)


def test_labelled_points_count_as_all_others_do():
    x, own = noise().split([5000, 1000])
    centre = kmeans(x, 1, seeded(), labelled=own + 9, per_centre=40)
    torch.testing.assert_close(centre[0], torch.cat([x, own + 9]).mean(0), atol=1e-4, rtol=1e-4)


def test_lost_centres_begin_anew_where_the_sum_of_squares_is():
    """Cluster 0 has 3/4 of the squares, 1 the rest, 2 is lost; within a cluster all are alike."""
    cluster = torch.tensor([0, 0, 0, 1, 1, 2])
    squared = torch.tensor([0.0, 1.0, 8.0, 3.0, 0.0, 50.0])
    count, draws, hits = cluster.bincount(minlength=4), 4000, torch.zeros(6)
    generator = seeded()
    for _ in range(draws):
        rows = _fresh(cluster, squared, count, torch.tensor([2]), generator)
        hits[rows] += 1
    want = torch.tensor([0.25, 0.25, 0.25, 0.125, 0.125, 0.0])
    error = (want * (1 - want) / draws).sqrt()
    assert bool(((hits / draws - want).abs() <= 5 * error + 1e-9).all())
    some = _fresh(cluster, squared, count, torch.tensor([2, 3]), generator)
    assert len(set(some.tolist())) == 2


@pytest.mark.parametrize("k", [1, 4, 9])
def test_sums_of_clusters(k):
    values, own = torch.randn(50, 3, generator=seeded()), torch.arange(50) % k
    got = _sums(values, own, k)
    for one in range(k):
        torch.testing.assert_close(got[one], values[own == one].sum(0))
