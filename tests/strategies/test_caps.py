"""Caps on what is compared grow with k: a choice beyond them stays what it is by its name."""

import itertools
import math
import warnings
from dataclasses import replace

import pytest
import torch
from helpers.set_worlds import seeded

from lightning_al.records import Context, Predictions
from lightning_al.strategies import build
from lightning_al.strategies.kernels.linkage import _groups, average_linkage
from lightning_al.strategies.sets import drawn_rows, looked_at
from lightning_al.strategies.trained.core_gcn import hidden_features
from lightning_al.testing import World

N, L, E, C, LIMIT = 500, 12, 4, 3, 20


def world(seed):
    """Twenty clumps of unequal size, and predictions that are linear in the place."""
    draw = seeded(seed)
    centres = 3 * torch.randn(20, E, generator=draw)
    owner = torch.multinomial(1 / torch.arange(1.0, 21), N + L, True, generator=draw)
    points = centres[owner] + 0.3 * torch.randn(N + L, E, generator=draw)
    logits = (points @ torch.randn(E, C, generator=draw))[:, None]
    fields = {"probs": logits.softmax(-1), "logits": logits, "embedding": points}
    context = Context(1, L, N, C, torch.arange(L) % C)
    index = torch.arange(N + L)
    return World(Predictions(index, **fields, head_input=points), index[:N], index[N:], context)


def acquired(strategy, seen, k, seed=0):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return strategy.choose(seen.pool(strategy), k, seeded(seed))


def margins(seen):
    best = seen.predictions.probs[:N, 0].topk(2).values
    return best[:, 0] - best[:, 1]


def spread_of(seen, rows):
    """Mean squared distance of the pool to the nearest of some rows."""
    points = seen.predictions.embedding[:N]
    return float(torch.cdist(points, points[rows]).amin(1).square().mean())


def hidden_radius(seen, rows):
    """Largest distance to the nearest of some rows, under the features of a graph network."""
    points = seen.predictions.embedding
    hidden = hidden_features(points, L, seeded(), build("core-gcn", epochs=20))
    return float(
        torch.cdist(hidden[:N], hidden[torch.cat([rows, torch.arange(N, N + L)])]).amin(1).max()
    )


HALF_AND_TWICE = pytest.mark.parametrize("k", [LIMIT // 2, 2 * LIMIT])
SEEDS = pytest.mark.parametrize("seed", [0, 1, 2])


@HALF_AND_TWICE
@SEEDS
def test_cluster_margin_beyond_its_limit_is_neither_margin_nor_random(k, seed):
    seen = world(seed)
    got = acquired(build("cluster-margin", limit=LIMIT), seen, k)
    margin = set(acquired(build("margin"), seen, k).index.tolist())
    order = margins(seen).argsort()
    assert set(got.index.tolist()) <= set(order[: 10 * k].tolist())  # of the shortlist
    assert len(margin & set(got.index.tolist())) < 0.5 * k
    assert spread_of(seen, got.index) < spread_of(seen, torch.tensor(sorted(margin)))
    drawn = [acquired(build("random"), seen, k, s).index for s in range(5)]
    if 10 * k < N / 2:
        assert float(margins(seen)[got.index].mean()) < min(
            float(margins(seen)[d].mean()) for d in drawn
        )
    assert got.notes == {"looked at": min(N, 10 * k)}


@pytest.mark.parametrize("k", [3, 60, 120])
@SEEDS
def test_cluster_margin_has_a_cluster_for_each_pick(k, seed):
    """Also where the pool is shorter than the shortlist should be."""
    seen = world(seed)
    got = acquired(build("cluster-margin"), seen, k).index
    short = margins(seen).argsort()[: 10 * k]
    own = average_linkage(seen.predictions.embedding[short], k, seeded())
    place = {item: at for at, item in enumerate(short.tolist())}
    assert own[[place[item] for item in got.tolist()]].sort().values.tolist() == list(range(k))


@HALF_AND_TWICE
@SEEDS
def test_representative_beyond_its_limit_spreads_better_than_chance(k, seed):
    seen = world(seed)
    got = acquired(build("representative", limit=LIMIT), seen, k)
    drawn = [spread_of(seen, acquired(build("random"), seen, k, s).index) for s in range(5)]
    assert spread_of(seen, got.index) < min(drawn)
    assert set(got.index.tolist()) != set(acquired(build("margin"), seen, k).index.tolist())
    assert got.notes == {"looked at": 10 * k}


@HALF_AND_TWICE
@SEEDS
def test_core_gcn_beyond_its_limit_covers_better_than_chance(k, seed):
    seen = world(seed)
    got = acquired(build("core-gcn", limit=LIMIT, epochs=20), seen, k)
    drawn = [hidden_radius(seen, acquired(build("random"), seen, k, s).index) for s in range(5)]
    assert hidden_radius(seen, got.index) < sum(drawn) / 5
    assert set(got.index.tolist()) != set(acquired(build("margin"), seen, k).index.tolist())
    assert got.notes == {"looked at": 10 * k}


@pytest.mark.parametrize(("name", "given"), [("core-gcn", {"epochs": 2}), ("representative", {})])
def test_a_part_of_the_pool_is_said_and_the_whole_is_not(name, given):
    seen = world(0)
    with pytest.warns(UserWarning, match=rf"{name} looks at 30 of 500 candidates.*raise limit"):
        found = build(name, limit=LIMIT, **given).choose(seen.pool(build(name)), 3, seeded())
    assert found.notes == {"looked at": 30}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = build(name, limit=N, **given).choose(seen.pool(build(name)), 3, seeded())
    assert found.notes == {"looked at": N}


def test_items_that_are_not_finite_are_not_looked_at():
    seen = world(0)
    probs = seen.predictions.embedding.clone()
    probs[:7] = torch.nan
    spoilt = replace(seen, predictions=replace(seen.predictions, embedding=probs))
    found = build("representative").choose(spoilt.pool(build("representative")), 3, seeded())
    assert found.notes == {"looked at": N - 7}


@pytest.mark.parametrize(("n", "most"), [(0, 3), (1, 1), (7, 7), (7, 3), (100, 99), (5, 0)])
def test_drawn_rows_ascend_and_are_all_where_there_are_few(n, most):
    rows = drawn_rows(n, most, seeded(), torch.device("cpu")).tolist()
    assert rows == sorted(set(rows))
    assert len(rows) == min(n, most)
    assert set(rows) <= set(range(n))
    if 0 < most < n - 1:
        assert (
            len({tuple(drawn_rows(n, most, seeded(s), torch.device("cpu"))) for s in range(9)}) > 1
        )


def test_looked_at_counts():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert looked_at("x", 5, 5, "") == {"looked at": 5}
    with pytest.warns(UserWarning, match="x looks at 1,000 of 2,000 candidates, .*; do this"):
        assert looked_at("x", 1000, 2000, "do this") == {"looked at": 1000}


# --- average linkage of many items ---------------------------------------------------------------


def merged(points, groups, clusters):
    """Average linkage in plain Python, merging within each group alone."""
    parts = [[row] for group in groups for row in group]
    home = {row: g for g, group in enumerate(groups) for row in group}

    def apart(pair):
        return sum(math.dist(points[a], points[b]) for a in pair[0] for b in pair[1]) / (
            len(pair[0]) * len(pair[1])
        )

    while len(parts) > max(clusters, len(groups)):
        pairs = [p for p in itertools.combinations(parts, 2) if home[p[0][0]] == home[p[1][0]]]
        one, two = min(pairs, key=apart)
        parts = [part for part in parts if part is not one and part is not two] + [one + two]
    return {tuple(sorted(part)) for part in parts}


@pytest.mark.parametrize("clusters", [1, 6, 14, 29, 30, 99])
@pytest.mark.parametrize("limit", [1, 4, 12, 30])
def test_many_items_are_merged_at_one_height_within_their_groups(clusters, limit):
    points = torch.randn(30, 2, generator=seeded())
    groups = [group.tolist() for group in _groups(points, limit, seeded(3))]
    label = average_linkage(points, clusters, seeded(3), limit=limit)
    got = {tuple((label == c).nonzero().flatten().tolist()) for c in label.unique()}
    assert got == merged(points.tolist(), groups, clusters)
    assert label.unique().tolist() == list(range(len(got)))


MADE = {
    "noise": torch.randn(60, 3, generator=seeded()),
    "one point": torch.zeros(60, 3),
    "far off": torch.randn(60, 1, generator=seeded()) * 1e-3 + 1e4,
}


@pytest.mark.parametrize("limit", [1, 3, 10, 400])
@pytest.mark.parametrize("points", MADE.values(), ids=MADE)
def test_groups_are_a_partition_within_the_limit(limit, points):
    groups = _groups(points, limit, seeded())
    assert sorted(torch.cat(groups).tolist()) == list(range(60))
    assert max(map(len, groups)) <= limit
    assert min(map(len, groups)) >= 1


def test_groups_of_far_clumps_are_the_clumps():
    owner = torch.arange(40) % 4
    points = 100 * torch.randn(4, 3, generator=seeded(1))[owner] + torch.randn(
        40, 3, generator=seeded(2)
    )
    label = average_linkage(points, 4, seeded(), limit=16)
    assert all(len(owner[label == c].unique()) == 1 for c in range(4))
