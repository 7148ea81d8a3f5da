"""Cover kernels and TypiClust: against slow references, bounds, limits, and bad input."""

import doctest
import itertools
import math
from functools import partial
from importlib import import_module

import numpy as np
import pytest
import torch

from lightning_al.strategies.kernels import cover
from lightning_al.strategies.kernels.cover import (
    facility_location,
    max_herding,
    prob_cover,
    purity_radius,
)
from lightning_al.strategies.kernels.k_means import assign, kmeans
from lightning_al.strategies.kernels.typiclust import typiclust as typical


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def blobs(n=40, e=5, seed=0):
    draw = seeded(seed)
    centres = 4 * torch.randn(4, e, generator=draw)
    return centres[torch.randint(4, (n,), generator=draw)] + torch.randn(n, e, generator=draw)


def heavy(n=40, e=5, seed=1):
    draw = seeded(seed)
    tails = torch.rand(n, 1, generator=draw) + 0.05
    return torch.randn(n, e, generator=draw) / tails


def far_off(n=40, e=5, seed=2):
    """A common offset that would cost float32 its digits."""
    return blobs(n, e, seed) + 100


FIXTURES = [blobs, heavy, far_off]


def distances(a, b):
    a, b = a.double().numpy(), b.double().numpy()
    return np.array([[math.sqrt(sum((x - y) ** 2)) for y in b] for x in a]).reshape(len(a), len(b))


def spread(pool):
    pool = pool.double()
    return float((pool - pool.mean(0)).square().sum(1).mean().sqrt())


def cosine(a, b):
    unit_a, unit_b = (torch.nn.functional.normalize(x.double()).numpy() for x in (a, b))
    return (1 + unit_a @ unit_b.T) / 2


KERNELS = {
    "medoids": facility_location,
    "cosine": partial(facility_location, similarity="cosine"),
    "herding": max_herding,
    "narrow": partial(max_herding, width=0.7),
    "cover": partial(prob_cover, radius=2.3),
}
SIMILARITY = {
    "medoids": lambda a, b, pool: 1e3 - distances(a, b),
    "cosine": lambda a, b, pool: cosine(a, b),
    "herding": lambda a, b, pool: np.exp(-((distances(a, b) / spread(pool)) ** 2)),
    "narrow": lambda a, b, pool: np.exp(-((distances(a, b) / 0.7) ** 2)),
    "cover": lambda a, b, pool: (distances(a, b) <= 2.3).astype(float),
}
every_kernel = pytest.mark.parametrize("name", KERNELS)
every_fixture = pytest.mark.parametrize("fixture", FIXTURES)
ALL = {**KERNELS, "typiclust": typical}


def value(name, pool, labelled, rows):
    """The objective by its definition, float64."""
    centres = pool[list(rows)] if labelled is None else torch.cat([labelled, pool[list(rows)]])
    if not len(centres):
        return 0.0
    return SIMILARITY[name](pool, centres, pool).max(1).sum()


def assert_greedy(name, pool, labelled, rows):
    """Each pick has the largest gain, up to the stated resolution; the tail is farthest first."""
    largest = 1e3 if name == "medoids" else 1.0
    similar = SIMILARITY[name](pool, pool, pool)
    for step, row in enumerate(rows):
        centres = similar[:, rows[:step]]
        if labelled is not None:
            centres = np.concatenate([centres, SIMILARITY[name](pool, labelled, pool)], 1)
        covered = centres.max(1, initial=0.0)  # no similarity is negative
        gains = np.maximum(similar, covered[:, None]).sum(0) - covered.sum()
        gains[rows[:step]] = -math.inf
        unit = 1e-6 * largest * len(pool)
        if max(gains) > 3 * unit:
            assert gains[row] >= max(gains) - 3 * unit, (step, row)
        elif max(gains) < 0.3 * unit:
            taken = torch.cat([pool[:0] if labelled is None else labelled, pool[rows[:step]]])
            unit = torch.nn.functional.normalize if name == "cosine" else torch.clone
            near = distances(unit(pool), unit(taken)).min(1)
            near[rows[:step]] = -1
            assert near[row] >= near.max() - 1e-3 * near.max() - 1e-6, (step, row)


@pytest.mark.parametrize(
    "module", [cover, import_module(typical.__module__)], ids=lambda module: module.__name__
)
def test_doctests(module):
    assert doctest.testmod(module).failed == 0


@every_fixture
@every_kernel
@pytest.mark.parametrize("labels", [0, 3])
def test_every_pick_has_the_largest_gain(name, fixture, labels):
    pool = fixture()
    labelled = fixture(n=3, seed=11) if labels else None
    rows = KERNELS[name](pool, labelled, 12, seeded()).tolist()
    assert len(set(rows)) == 12
    assert_greedy(name, pool, labelled, rows)


@every_fixture
@every_kernel
def test_greedy_is_near_the_best_batch(name, fixture):
    pool, labelled = fixture(n=8), fixture(n=2, seed=5)
    start = value(name, pool, labelled, [])
    rows = KERNELS[name](pool, labelled, 3, seeded()).tolist()
    best = max(value(name, pool, labelled, some) for some in itertools.combinations(range(8), 3))
    gain = value(name, pool, labelled, rows) - start
    assert (1 - 1 / math.e) * (best - start) - 1e-4 <= gain <= best - start + 1e-4


@every_fixture
@every_kernel
def test_a_batch_is_its_single_picks(name, fixture):
    pool = fixture()
    batch = KERNELS[name](pool, None, 8, seeded())
    for step in range(8):
        assert torch.equal(KERNELS[name](pool, None, step, seeded()), batch[:step])
    if name == "herding":  # its default width is the pool's, whoever is labelled
        one = max_herding(pool, pool[batch[:5]], 1, seeded())
        assert one.item() == batch[5]


@pytest.mark.parametrize(  # without ties
    ("name", "fixture"),
    [*itertools.product(["medoids", "herding"], FIXTURES), ("cosine", blobs), ("cosine", heavy)],
)
def test_order_of_the_pool_does_not_matter(name, fixture):
    pool = fixture()
    moved = torch.randperm(len(pool), generator=seeded(9))
    want = KERNELS[name](pool, None, 6, seeded())
    assert torch.equal(moved[KERNELS[name](pool[moved], None, 6, seeded())], want)


@pytest.mark.parametrize("name", ["medoids", "cosine", "herding", "narrow"])
@pytest.mark.parametrize("memory", [2**12, 2**16])
def test_memory_changes_no_pick(name, memory):
    pool, labelled = heavy(300), heavy(10, seed=4)
    want = KERNELS[name](pool, labelled, 20, seeded())
    assert torch.equal(KERNELS[name](pool, labelled, 20, seeded(), memory=memory), want)


def test_typiclust_memory_changes_no_pick():
    pool = blobs(300)
    want = typical(pool, None, 10, seeded())
    assert torch.equal(typical(pool, None, 10, seeded(), memory=2**14), want)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("k", [0, 1, 17])
@pytest.mark.parametrize("labels", [0, 4])
def test_k_distinct_rows_up_to_the_whole_pool(name, k, labels):
    pool = blobs(17)
    before = pool.clone()
    rows = ALL[name](pool, blobs(labels, seed=8) if labels else None, k, seeded())
    assert rows.dtype == torch.int64
    assert len(set(rows.tolist())) == len(rows) == k
    assert set(rows.tolist()) <= set(range(17))
    assert torch.equal(pool, before)


@pytest.mark.parametrize("name", ALL)
def test_identical_items_are_picked_at_random(name):
    pool = torch.full((7, 3), 5.3)
    seen = set()
    for seed in range(60):
        rows = ALL[name](pool, pool[:2], 3, seeded(seed)).tolist()
        assert len(set(rows)) == 3
        seen |= set(rows)
    assert seen == set(range(7))


@pytest.mark.parametrize("name", ALL)
def test_generator_alone_decides(name):
    pool = blobs(60)
    torch.manual_seed(1)
    first = ALL[name](pool, None, 6, seeded(3))
    state = torch.get_rng_state()
    torch.manual_seed(2)
    assert torch.equal(ALL[name](pool, None, 6, seeded(3)), first)
    torch.manual_seed(1)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("name", ALL)
def test_bad_input_says_which_rows_and_the_mend(name):
    pool, kernel = blobs(9), ALL[name]
    for bad in (torch.nan, torch.inf):
        broken = pool.clone()
        broken[[2, 5], 1] = bad
        with pytest.raises(ValueError, match=r"embedding.*2 of 9 rows.*2, 5"):
            kernel(broken, None, 2, seeded())
        with pytest.raises(ValueError, match=r"labelled.*2 of 9 rows"):
            kernel(pool, broken, 2, seeded())
    with pytest.raises(ValueError, match="cannot acquire 10 of 9 candidates"):
        kernel(pool, None, 10, seeded())
    with pytest.raises(ValueError, match=r"labelled must be \[L, 5\]"):
        kernel(pool, torch.zeros(2, 4), 2, seeded())
    with pytest.raises(ValueError, match="axes"):
        kernel(pool[0], None, 1, seeded())
    with pytest.raises(ValueError, match="cannot acquire 1 of 0"):
        kernel(pool[:0], None, 1, seeded())
    assert kernel(pool[:0], None, 0, seeded()).tolist() == []


def test_bad_settings_name_the_mend():
    pool = blobs(9)
    with pytest.raises(ValueError, match="choose one of cosine, euclidean"):
        facility_location(pool, None, 1, seeded(), similarity="dot")
    for width in (0, -1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match="positive width"):
            max_herding(pool, None, 1, seeded(), width=width)
        with pytest.raises(ValueError, match="purity_radius"):
            prob_cover(pool, None, 1, seeded(), radius=width)
    with pytest.raises(ValueError, match="neighbours >= 1"):
        typical(pool, None, 1, seeded(), neighbours=0)


def test_few_similarities_are_computed():
    """Old gains are bounds: with labels far less than a pass over all pairs a pick."""
    pool, labelled = blobs(1000), blobs(100, seed=4)
    search = cover.Cover(pool, labelled, 50, seeded())
    search.similarity = lambda squared: squared.mul_(-0.05).exp_()
    search.choose(50)
    assert search.computed < 3 * 1000 * 1000  # a full search: 50 passes


def test_a_sample_of_the_pool_measures_coverage():
    pool = blobs(600)
    rows = max_herding(pool, None, 4, seeded(), sample=100)
    assert len(set(rows.tolist())) == 4
    best = value("herding", pool, None, max_herding(pool, None, 4, seeded()).tolist())
    assert value("herding", pool, None, rows.tolist()) > 0.95 * best


def test_cover_goes_on_with_the_farthest_when_all_is_covered():
    pool = torch.tensor([[0.0], [1.0], [2.0], [2.5], [9.0]])
    rows = prob_cover(pool, None, 5, seeded(), radius=2.6).tolist()
    assert rows[0] != 4
    assert rows[1] == 4
    assert sorted(rows) == list(range(5))
    assert_greedy("cover", pool, None, prob_cover(pool, None, 5, seeded(), radius=2.3).tolist())


def test_zero_vector_is_at_right_angles():
    pool = torch.tensor([[0.0, 0.0], [1.0, 0.0], [2.0, 0.0], [3.0, 0.0]])
    rows = facility_location(pool, None, 2, seeded(), similarity="cosine").tolist()
    assert rows[0] in (1, 2, 3)
    assert rows[1] == 0


@every_fixture
def test_purity_radius_is_the_largest_pure_enough(fixture):
    pool = fixture(60)
    radius = purity_radius(pool, 3, seeded(), alpha=0.8)
    cluster = assign(pool, kmeans(pool, 3, seeded()))[0]

    def purity(limit):
        inside = distances(pool, pool) <= limit
        same = (cluster[:, None] == cluster).numpy()
        return (same | ~inside).all(1).mean()

    assert purity(radius) >= 0.8
    assert purity(radius * 1.001) < 0.8
    with pytest.raises(ValueError, match="at least two"):
        purity_radius(pool, 1, seeded())
    with pytest.raises(ValueError, match="alpha"):
        purity_radius(pool, 3, seeded(), alpha=1.5)


# TypiClust


def typicality(members, neighbours):
    near = np.sort(distances(members, members) + np.diag([np.inf] * len(members)), 1)
    return -near[:, :neighbours].mean(1) if len(members) > 1 else np.zeros(1)


@every_fixture
@pytest.mark.parametrize(("k", "labels", "most"), [(6, 0, 500), (12, 3, 5), (30, 10, 4)])
def test_typiclust_agrees_with_its_definition(fixture, k, labels, most):
    """Given the clusters: fewest covered, then largest first; most typical first within."""
    pool, labelled = fixture(90), fixture(labels, seed=6)
    rows = typical(pool, labelled, k, seeded(2), neighbours=4, max_clusters=most, min_size=4)
    clusters = min(k + labels, most)
    centres = kmeans(pool, clusters, seeded(2), labelled=labelled)
    own = assign(pool, centres)[0].tolist()
    covered = [assign(labelled, centres)[0].tolist().count(c) for c in range(clusters)]
    sizes = [own.count(c) for c in range(clusters)]
    order = {
        c: sorted(
            (r for r in range(90) if own[r] == c),
            key=dict(
                zip(
                    [r for r in range(90) if own[r] == c],
                    -typicality(pool[[r for r in range(90) if own[r] == c]], 4),
                    strict=True,
                )
            ).get,
        )
        for c in range(clusters)
        if sizes[c]
    }
    for row in rows.tolist():
        rank = {c: (sizes[c] < 4, covered[c], -sizes[c]) for c in order if order[c]}
        assert rank[own[row]] == min(rank.values())
        assert row == order[own[row]].pop(0)
        covered[own[row]] += 1


def test_typiclust_takes_one_of_each_blob_and_avoids_the_labelled():
    centres = 50 * torch.eye(6)
    own = torch.arange(6).repeat_interleave(torch.tensor([30, 25, 20, 15, 12, 10]))
    pool = centres[own] + torch.randn(len(own), 6, generator=seeded())
    labelled = centres[[0, 3]] + 0.1
    picks = own[typical(pool, labelled, 4, seeded())].tolist()
    assert picks == [1, 2, 4, 5]
    assert own[typical(pool, None, 6, seeded())].tolist() == list(range(6))


def test_typiclust_order_of_the_pool_does_not_matter_given_clusters():
    pool = torch.cat([torch.randn(20, 3, generator=seeded(i)) + 40 * i for i in range(4)])
    moved = torch.randperm(80, generator=seeded(3))
    want = typical(pool, None, 4, seeded(1))
    again = moved[typical(pool[moved], None, 4, seeded(1))]
    assert set(again.tolist()) == set(want.tolist())


def test_kmeans_finds_separated_blobs_and_uses_all_its_centres():
    pool = torch.cat([torch.randn(50, 4, generator=seeded(i)) + 60 * i for i in range(5)])
    centres = kmeans(pool, 5, seeded(), per_centre=50)
    cluster, squared = assign(pool, centres)
    assert cluster.bincount(minlength=5).tolist() == [50] * 5
    torch.testing.assert_close(
        squared, (pool - centres[cluster]).square().sum(1), atol=1e-2, rtol=1e-3
    )
    want = torch.stack([pool[cluster == c].mean(0) for c in range(5)])
    torch.testing.assert_close(centres, want, atol=1e-3, rtol=1e-4)
    every = kmeans(pool, 250, seeded())
    assert assign(pool, every)[0].unique().numel() == 250
    with pytest.raises(ValueError, match="251 clusters of 250"):
        kmeans(pool, 251, seeded())
