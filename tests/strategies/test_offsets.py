"""A common offset of the data, or clusters far apart, cost no digit that decides.

Items lie on a grid of 2^-9 and offsets are powers of two, so that ``x + offset`` is exact in
float32 and the distances between items are the same numbers: what is chosen must be the same.
"""

from dataclasses import replace

import pytest
import torch

from lightning_al.gp import ExactGP, Stationary, log_marginal_likelihood
from lightning_al.strategies import build, kind_of, names, resolve
from lightning_al.strategies.diversity.clustered import KMeans, representatives
from lightning_al.strategies.hybrid.batches import average_linkage
from lightning_al.strategies.hybrid.herding import smallest_distance
from lightning_al.strategies.hybrid.kernel_batches import largest_cluster_maximum_distance
from lightning_al.strategies.kernels import (
    facility_location,
    k_center_greedy,
    kmeans_plus_plus,
    max_herding,
    prob_cover,
    purity_radius,
    typiclust,
)
from lightning_al.strategies.kernels.k_means import assign, kmeans
from lightning_al.strategies.sets import closest
from lightning_al.testing import World

OFFSETS = [2.0**7, 2.0**10, 2.0**13]  # of items whose standard deviation is about 1
N, L, E, K = 150, 12, 6, 10

NOT_INVARIANT = {
    "alfa-mix": "it clusters items at unit length",
    "badge": "its gradients are products with the embedding, not differences",
    "bait": "its Fisher information is made of products of embeddings",
    "core-gcn": "its edges are cosines",
    "density-weighted": "its density is a mean of cosines",
    "drop-query": "it sets features to zero",
    "learning-loss": "a network reads the embedding",
    "max-det": "its kernel is the inner product",
}
ONLY_UNLABELLED = {"drop-query"}  # clusters the pool where nothing is labelled
FIRST_BY_NORM = {"lcmd"}  # where nothing is labelled its first item is that of largest norm
VARIANTS = {
    "uherding": {"normalise": False},  # else it compares cosines
    "prob-cover": {"clusters": 4},
}


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def on_grid(points):
    return (points * 512).round() / 512


def clumps(n, seed=0, apart=1.0, width=0.4):
    """Clumps of unequal size [n, E]."""
    draw = seeded(seed)
    centres = apart * torch.randn(7, E, generator=draw)
    owner = torch.multinomial(1 / torch.arange(1.0, 8), n, True, generator=draw)
    return centres[owner] + width * torch.randn(n, E, generator=draw)


def away(offset, width=E):
    """One offset for all items, of either sign: [E]."""
    return offset * torch.tensor([1.0, -1.0, 1.0, 0.5, -0.5, 1.0, 0.25, 1.0])[:width]


# --- kernels that choose -------------------------------------------------------------------------


def clustered(points, k, seed):
    squared, cluster = closest(points, points[:k])
    return representatives(squared.sqrt(), cluster, k, seed)


CHOOSERS = {
    "average linkage": lambda x, _, k, g: average_linkage(x, k, g),
    "closest": lambda x, a, k, g: closest(x, a)[1],
    "facility location": facility_location,
    "k-center": k_center_greedy,
    "k-means": lambda x, _, k, g: KMeans().hearts(x, k, g),
    "k-means++": lambda x, a, k, g: kmeans_plus_plus(x, k, g, start=a),
    "largest cluster": largest_cluster_maximum_distance,
    "max-herding": max_herding,
    "max-herding, narrow": lambda x, a, k, g: max_herding(x, a, k, g, width=0.02),
    "prob-cover": lambda x, a, k, g: prob_cover(x, a, k, g, radius=0.9),
    "prob-cover, narrow": lambda x, a, k, g: prob_cover(x, a, k, g, radius=0.05),
    "representatives": lambda x, _, k, g: clustered(x, k, g),
    "typiclust": typiclust,
    "typiclust, indexed": lambda x, a, k, g: typiclust(x, a, k, g, limit=10),
}


@pytest.mark.parametrize("offset", OFFSETS)
@pytest.mark.parametrize("name", CHOOSERS)
def test_kernels_choose_what_they_choose_without_an_offset(name, offset):
    points = on_grid(clumps(N + L))
    moved = points + away(offset)
    assert torch.equal(moved - away(offset), points)  # exact, see above
    want = CHOOSERS[name](points[:N], points[N:], K, seeded())
    assert torch.equal(CHOOSERS[name](moved[:N], moved[N:], K, seeded()), want)


@pytest.mark.parametrize("name", CHOOSERS)
def test_float64_is_not_rounded_before_the_offset_is_gone(name):
    points = on_grid(clumps(N + L)).double()
    moved = points + away(2.0**33).double()  # nothing would be left of it in float32
    want = CHOOSERS[name](points[:N], points[N:], K, seeded())
    assert torch.equal(CHOOSERS[name](moved[:N], moved[N:], K, seeded()), want)


# --- kernels that measure ------------------------------------------------------------------------


def squares(a, b):
    """Squared distances [n, m] in float64, by differences."""
    return (a.double()[:, None] - b.double()).square().sum(2)


@pytest.mark.parametrize("offset", [0.0, *OFFSETS])
@pytest.mark.parametrize("apart", [1.0, 60.0, 1e3, 1e5])
def test_the_nearest_centre_and_its_distance(apart, offset):
    points = clumps(N, apart=apart) + away(offset)
    centres = clumps(40, apart=apart, seed=0) + away(offset) + 0.1
    cluster, squared = assign(points, centres)
    every = squares(points, centres)
    torch.testing.assert_close(squared.double(), every.amin(1), rtol=2e-3, atol=1e-12)
    taken = every.gather(1, cluster[:, None])[:, 0]
    torch.testing.assert_close(taken, every.amin(1), rtol=2e-3, atol=1e-12)


@pytest.mark.parametrize("offset", OFFSETS)
def test_centres_of_clusters_move_with_the_items(offset):
    points = on_grid(clumps(N))
    one, two = (kmeans(x, 9, seeded()) for x in (points, points + away(offset)))
    torch.testing.assert_close(
        two.double() - away(offset).double(), one.double(), atol=2e-3, rtol=0
    )


def test_clusters_are_refined_where_they_lie_far_apart():
    points = clumps(400, apart=1e4)
    centres = kmeans(points, 60, seeded(), iterations=20, per_centre=10)
    rest = squares(points, centres).amin(1).mean()
    whole = squares(points, torch.stack([p.mean(0) for p in far_parts(points)])).amin(1).mean()
    assert rest < 0.6 * whole  # of Gaussian clumps in six dimensions


def far_parts(points):
    """Items in groups of those less than 100 apart."""
    near = squares(points, points) < 1e4
    return [points[row] for row in near.unique(dim=0)]


@pytest.mark.parametrize("offset", [0.0, *OFFSETS])
@pytest.mark.parametrize("apart", [1.0, 300.0])
def test_the_radius_of_pure_balls(apart, offset):
    points = on_grid(clumps(N, apart=apart))
    got = purity_radius(points + away(offset), 20, seeded())
    centres = kmeans(points + away(offset), 20, seeded())
    cluster = assign(points + away(offset), centres)[0]
    strange = squares(points, points).masked_fill(cluster[:, None] == cluster, torch.inf)
    assert got == pytest.approx(float(strange.amin(1).sort().values[7].sqrt()), rel=2e-3)


@pytest.mark.parametrize("offset", [0.0, *OFFSETS])
@pytest.mark.parametrize("apart", [1.0, 1e3])
def test_the_smallest_distance_and_the_nearest_centre(apart, offset):
    points = clumps(N, apart=apart) + away(offset)
    every = squares(points, points)
    every.fill_diagonal_(torch.inf)
    every[every == 0] = torch.inf
    assert smallest_distance(points) == pytest.approx(float(every.min().sqrt()), rel=1e-6)
    near, which = closest(points, points[:20] + 0.25)
    want = squares(points, points[:20] + 0.25)
    torch.testing.assert_close(near, want.amin(1), rtol=1e-6, atol=0)
    torch.testing.assert_close(want.gather(1, which[:, None])[:, 0], want.amin(1))


@pytest.mark.parametrize("offset", [0.0, *OFFSETS])
@pytest.mark.parametrize("apart", [1.0, 1e3])
def test_the_typical_item_is_the_one_with_the_nearest_neighbours(apart, offset):
    points = on_grid(clumps(60, apart=1.0, width=0.3))
    points[:30] += away(apart)
    points += away(offset)
    row = int(typiclust(points, None, 1, seeded(), neighbours=5, max_clusters=1)[0])
    near = squares(points, points).sqrt().sort().values[:, 1:6].mean(1)
    assert float(near[row]) <= float(near.min()) * (1 + 2e-3)


@pytest.mark.parametrize("apart", [1.0, 1e3])
@pytest.mark.parametrize("kernel", ["herding", "prob-cover"])
def test_a_narrow_cover_of_clusters_far_apart_is_greedy(kernel, apart):
    points, width = clumps(N, apart=apart), 0.8
    every = squares(points, points)
    if kernel == "herding":
        rows, similar = (
            max_herding(points, None, K, seeded(), width=width),
            (-every / width**2).exp(),
        )
    else:
        rows, similar = prob_cover(points, None, K, seeded(), radius=width), every <= width**2
    similar, covered = similar.double(), torch.zeros(N, dtype=torch.float64)
    for row in rows.tolist():
        gains = (similar - covered).clamp_min(0).sum(1)
        assert float(gains[row]) >= float(gains.max()) - 1e-4
        covered = torch.maximum(covered, similar[row])


# --- Gaussian processes --------------------------------------------------------------------------


@pytest.mark.parametrize("offset", OFFSETS)
@pytest.mark.parametrize("shape", ["rbf", "matern12", "matern32", "matern52"])
def test_a_gaussian_process_looks_at_differences_alone(shape, offset):
    points = on_grid(clumps(40)).double()
    moved, y = points + away(offset).double(), points.sum(1).sin()
    kernel = Stationary(shape, torch.full((E,), 2.0).double(), torch.tensor(1.5).double())
    noise = torch.tensor(1e-4).double()
    torch.testing.assert_close(kernel(moved, moved), kernel(points, points), rtol=1e-8, atol=1e-10)
    fits = [ExactGP.given(kernel, noise, x[:30], y[:30]) for x in (points, moved)]
    one, two = (fit.moments(x[30:]) for fit, x in zip(fits, (points, moved), strict=True))
    torch.testing.assert_close(two, one, rtol=1e-5, atol=1e-7)
    value, slopes = log_marginal_likelihood(kernel, noise, points, y)
    again, moved_slopes = log_marginal_likelihood(kernel, noise, moved, y)
    assert again == pytest.approx(value, rel=1e-6)
    for name, slope in slopes.items():
        assert moved_slopes[name] == pytest.approx(slope, rel=1e-5, abs=1e-5)


# --- strategies ----------------------------------------------------------------------------------


def embedded(name):
    return bool({"embedding", "head_input"} & set(build(name).needs))


EMBEDDED = [name for name in names() if embedded(name)]


def choices(name, offset, labelled=True):
    """What a strategy chooses from a world, and from the same world moved away."""
    strategy = resolve({"name": name} | VARIANTS.get(name, {}))
    seen = World.make(kind_of(strategy), samples=4)
    points = on_grid(seen.predictions.embedding)
    seen = replace(seen, index=torch.arange(20, 60)[torch.randperm(40, generator=seeded())])
    context = replace(seen.context, n_pool=40, remaining=40)
    if not labelled:
        seen = replace(seen, labelled=seen.labelled[:0])
        context = replace(context, n_labelled=0, targets=None)
    found = []
    for where in (points, points + away(offset, points.shape[1])):
        predictions = replace(seen.predictions, embedding=where, head_input=where)
        world = replace(seen, predictions=predictions, context=context)
        found.append(strategy.choose(world.pool(strategy), 6, seeded(1)).index.tolist())
    return found


LEARN = ("auto-al", "regression-auto-al")  # from labels, and refuse to choose without any


@pytest.mark.parametrize("offset", OFFSETS)
@pytest.mark.parametrize("name", [n for n in EMBEDDED if n not in NOT_INVARIANT])
def test_strategies_choose_what_they_choose_without_an_offset(name, offset):
    want, got = choices(name, offset)
    assert got == want


@pytest.mark.parametrize("offset", OFFSETS)
@pytest.mark.parametrize(
    "name",
    [n for n in EMBEDDED if n not in {*NOT_INVARIANT, *FIRST_BY_NORM, *LEARN} - ONLY_UNLABELLED],
)
def test_so_they_do_where_nothing_is_labelled(name, offset):
    want, got = choices(name, offset, labelled=False)
    assert got == want


def test_what_is_left_out_exists_and_has_a_reason():
    assert set(NOT_INVARIANT) <= set(EMBEDDED)
    assert {*ONLY_UNLABELLED, *FIRST_BY_NORM, *VARIANTS} <= set(EMBEDDED)
