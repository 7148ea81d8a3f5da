"""Uncertain and diverse batches against dense references, in float64 and without any shortcut."""

import doctest
import itertools
import math
from types import SimpleNamespace

import pytest
import torch
from helpers.set_worlds import (
    FIXTURES,
    C,
    L,
    N,
    check_greedy,
    chosen,
    features,
    seeded,
    unlabelled,
    world,
)

from lightning_al.records import Pool, Predictions
from lightning_al.strategies import build
from lightning_al.strategies.hybrid import bait as bait_module
from lightning_al.strategies.hybrid import batches as hybrid
from lightning_al.strategies.hybrid import kernel_batches as lcmd
from lightning_al.strategies.hybrid.batches import average_linkage, round_robin
from lightning_al.strategies.kernels import fisher

EVERY = pytest.mark.parametrize("fixture", FIXTURES)
BOTH = pytest.mark.parametrize("labels", [True, False])


def seen_as(fixture, labels=True):
    return world(fixture) if labels else unlabelled(world(fixture))


def mean_probs(seen, index):
    return seen.predictions.probs[index].double().mean(1)


# --- badge ---------------------------------------------------------------------------------------


def gradients(seen):
    """The dense gradient embeddings [N, C E]."""
    probs, points = mean_probs(seen, seen.index), features(seen)[0]
    residual = probs - torch.nn.functional.one_hot(probs.argmax(1), C)
    return torch.einsum("nc,ne->nce", residual, points).flatten(1)


@EVERY
def test_badge_begins_with_the_largest_gradient(fixture):
    seen = world(fixture)
    norms = gradients(seen).norm(dim=1)
    check_greedy(chosen(build("badge"), seen, 1), lambda rows: norms)


@EVERY
def test_badge_draws_by_the_squared_distance_of_dense_gradients(fixture):
    seen, draws = world(fixture), 600
    dense, strategy = gradients(seen), build("badge")
    pool = seen.pool(strategy)
    place = {item: row for row, item in enumerate(seen.index.tolist())}
    count, share = torch.zeros(N), torch.zeros(N).double()
    for seed in range(draws):
        first, second = strategy.choose(pool, 2, seeded(seed)).index.tolist()
        odds = (dense - dense[place[first]]).square().sum(1)
        share += odds / odds.sum() / draws
        count[place[second]] += 1
    spread = (share * (1 - share) / draws).sqrt()
    assert bool(((count / draws - share).abs() <= 5 * spread + 1e-9).all())


def test_badge_may_begin_anywhere():
    seen, strategy = world("clumped"), build("badge", first="uniform")
    assert len({chosen(strategy, seen, 1, seed)[0] for seed in range(60)}) > 15


# --- batch-bald ----------------------------------------------------------------------------------


def information(probs, rows):
    """Joint mutual information [N] of ``rows`` and each item, by enumeration: probs [N, S, C]."""
    joint = torch.zeros(N, dtype=torch.float64)
    for labels in itertools.product(range(C), repeat=len(rows)):
        chance = torch.ones(probs.shape[1], dtype=torch.float64)
        for row, label in zip(rows, labels, strict=True):
            chance = chance * probs[row, :, label]
        mean = (probs * chance[None, :, None]).mean(1)
        joint += torch.special.entr(mean).sum(1)
    own = torch.special.entr(probs).sum(2).mean(1)
    return joint - own - own[rows].sum()


@EVERY
def test_batch_bald(fixture):
    seen = world(fixture)
    probs = seen.predictions.probs[seen.index].double()
    probs = probs / probs.sum(-1, keepdim=True)
    rows = chosen(build("batch-bald"), seen, 4)
    check_greedy(rows, lambda before: information(probs, before))


# --- cluster-margin ------------------------------------------------------------------------------


def merge(points, clusters):
    """Average linkage in plain Python: lists of rows."""
    groups = [[row] for row in range(len(points))]

    def apart(pair):
        return sum(math.dist(points[a], points[b]) for a in pair[0] for b in pair[1]) / (
            len(pair[0]) * len(pair[1])
        )

    while len(groups) > clusters:
        one, two = min(itertools.combinations(groups, 2), key=apart)
        groups = [g for g in groups if g is not one and g is not two] + [one + two]
    return groups


def quota(sizes, k):
    """Picks of a round robin, the smallest first: [m], sizes ascending."""
    taken = [0] * len(sizes)
    for turn in itertools.cycle(range(len(sizes))):
        if sum(taken) == k:
            return taken
        taken[turn] += taken[turn] < sizes[turn]
    return None


@EVERY
def test_cluster_margin(fixture):
    seen, k = world(fixture), 4
    probs = mean_probs(seen, seen.index)
    best = probs.topk(2).values
    margin = 1 - (best[:, 0] - best[:, 1])
    strategy = build("cluster-margin", factor=3.0, cluster_size=4.0)
    rows = chosen(strategy, seen, k)
    least = margin.sort(descending=True).values[11]
    assert all(float(margin[row]) >= float(least) - 1e-5 for row in rows)
    if fixture == "ties":  # neither the shortlist nor the tree is unique
        return
    short = margin.argsort(descending=True)[:12].tolist()
    points = features(seen)[0]
    groups = sorted(merge([points[row].tolist() for row in short], 3), key=len)
    taken = sorted(sum(short[row] in rows for row in group) for group in groups)
    assert taken == sorted(quota([len(g) for g in groups], k))


@EVERY
def test_cluster_margin_of_no_spare_items_is_margin(fixture):
    seen = world(fixture)
    strategy, margin = build("cluster-margin", factor=1.0), build("posterior-margin")
    assert set(chosen(strategy, seen, 6)) == set(chosen(margin, seen, 6))


@pytest.mark.parametrize("clusters", [1, 3, 7, 20])
def test_average_linkage(clusters):
    points = torch.randn(20, 3, generator=seeded())
    label = average_linkage(points, clusters, seeded())
    got = {tuple((label == c).nonzero().flatten().tolist()) for c in range(clusters)}
    assert got == {tuple(sorted(g)) for g in merge(points.tolist(), clusters)}


def test_round_robin_begins_with_the_smallest():
    cluster = torch.tensor([0] * 5 + [1] * 2 + [2] * 9)
    for seed in range(5):
        got = cluster[round_robin(cluster, 16, seeded(seed))].tolist()
        assert got == [1, 0, 2, 1, 0, 2] + [0, 2] * 3 + [2] * 4
    assert len({int(round_robin(cluster, 3, seeded(seed))[2]) for seed in range(60)}) == 9


# --- lcmd, max-det -------------------------------------------------------------------------------


@BOTH
@EVERY
def test_lcmd(fixture, labels):
    seen = seen_as(fixture, labels)
    points, known = features(seen)
    known = known[seen.labelled.argsort()]

    def value(rows):
        centres = torch.cat([known, points[rows]])
        if not len(centres):
            return points.norm(dim=1)
        near, owner = [], []
        for point in points:
            squared = [float((point - centre).square().sum()) for centre in centres]
            least = min(squared)
            near.append(least)
            owner.append(next(i for i, d in enumerate(squared) if d <= least + 1e-9))
        sizes = torch.zeros(len(centres), dtype=torch.float64)
        for distance, cluster in zip(near, owner, strict=True):
            sizes[cluster] += distance
        if sizes.max() < 1e-12:
            return torch.zeros(N)
        largest = sizes >= sizes.max() * (1 - 1e-5)
        return torch.tensor([d if largest[o] else -1.0 for d, o in zip(near, owner, strict=True)])

    check_greedy(chosen(build("lcmd"), seen, 12), value)


@BOTH
@EVERY
def test_max_det(fixture, labels):
    seen = seen_as(fixture, labels)
    points, known = features(seen)
    every = torch.cat([points, known])
    noise = 0.01 * float(every.square().sum(1).mean())
    kernel = every @ every.T + noise * torch.eye(len(every))

    def value(rows):
        before = [*rows, *range(N, len(every))]
        scores = []
        for row in range(N):
            some = [*before, row]
            scores.append(float(torch.linalg.slogdet(kernel[some][:, some]).logabsdet))
        scores = torch.tensor(scores, dtype=torch.float64)
        old = torch.linalg.slogdet(kernel[before][:, before]).logabsdet if before else 0.0
        return (scores - old).exp()  # posterior variance plus noise

    scale = float(points.square().sum(1).max())
    check_greedy(
        chosen(build("max-det"), seen, 8), lambda rows: value(rows).nan_to_num(-1) + scale, 1e-5
    )


# --- bait ----------------------------------------------------------------------------------------


def information_matrices(seen, index):
    """Dense Fisher information of each item, [n, C E, C E]."""
    matrices = []
    for item in index.tolist():
        p = mean_probs(seen, torch.tensor([item]))[0]
        h = seen.predictions.embedding[item].double()
        matrices.append(torch.kron(p.diag() - torch.outer(p, p), torch.outer(h, h)))
    return torch.stack(matrices) if matrices else torch.zeros(0, 1, 1)


class Dense:
    """The objective by inverses of whole matrices, in the authors' scaling of a batch of k."""

    def __init__(self, seen, k, ridge=1.0):
        self.items = information_matrices(seen, seen.index)
        labelled = information_matrices(seen, seen.labelled)
        mean = labelled.mean(0) if labelled.numel() > 1 else 0.0
        count = len(seen.labelled)
        eye = torch.eye(self.items.shape[1], dtype=torch.float64)
        self.start = ridge * eye + mean * count / (count + k)
        self.weight = k / (count + k)
        self.pool = self.items.sum(0) + count * mean

    def __call__(self, rows):
        matrix = self.start + self.weight * self.items[list(rows)].sum(0)
        return float(torch.trace(torch.linalg.inv(matrix) @ self.pool))

    def gains(self, rows):
        before = self(rows)
        return torch.tensor([before - self([*rows, row]) for row in range(N)], dtype=torch.float64)

    def search(self, k, forward):
        rows = []
        while len(rows) < forward:
            rest = [row for row in range(N) if row not in rows]
            rows.append(min(rest, key=lambda row: self([*rows, row])))
        while len(rows) > k:
            rows.remove(min(rows, key=lambda row: self([r for r in rows if r != row])))
        return rows


@BOTH
@EVERY
def test_bait_forward(fixture, labels):
    seen = seen_as(fixture, labels)
    rows = chosen(build("bait", oversample=1.0), seen, 6)
    check_greedy(rows, Dense(seen, 6).gains)


@BOTH
@EVERY
def test_bait_forward_and_backward(fixture, labels):
    seen = seen_as(fixture, labels)
    dense = Dense(seen, 4, ridge=0.5)
    rows, want = chosen(build("bait", ridge=0.5), seen, 4), dense.search(4, 8)
    assert dense(rows) == pytest.approx(dense(want), rel=1e-6)
    if fixture != "ties":
        assert set(rows) == set(want)


def test_bait_of_a_long_embedding_is_sketched():
    draw = seeded()
    kept = Predictions(
        torch.arange(25),
        probs=torch.randn(25, 1, C, generator=draw).softmax(-1),
        head_input=torch.randn(25, 40, generator=draw),
    )
    bench = SimpleNamespace(labelled_pool=lambda: Pool(torch.empty(0).long()))
    pool = Pool(torch.arange(25), kept=kept, bench=bench)
    got = [build("bait", sketch=30).choose(pool, 5, seeded(s)).index.tolist() for s in (0, 0, 1)]
    assert got[0] == got[1]
    assert all(len(set(rows)) == 5 for rows in got)
    whole = [build("bait").choose(pool, 5, seeded(s)).index.tolist() for s in range(3)]
    assert whole[0] == whole[1] == whole[2]


@BOTH
@EVERY
def test_bait_of_all_top_classes_is_bait(fixture, labels, monkeypatch):
    seen = seen_as(fixture, labels)
    monkeypatch.setattr(bait_module, "MANY", 2)  # the three classes of these worlds are many
    rows = chosen(build("bait", oversample=1.0, top=3), seen, 6)
    check_greedy(rows, Dense(seen, 6).gains, tolerance=1e-4)


def many_classes(n, classes, features=6, seed=0):
    """A pool of items of one member's predictions, nothing labelled."""
    draw = seeded(seed)
    kept = Predictions(
        torch.arange(n),
        probs=(2 * torch.randn(n, 1, classes, generator=draw)).softmax(-1),
        head_input=torch.randn(n, features, generator=draw),
    )
    bench = SimpleNamespace(labelled_pool=lambda: Pool(torch.empty(0).long()))
    return Pool(torch.arange(n), kept=kept, bench=bench)


@pytest.mark.parametrize(("classes", "n"), [(3, 60), (60, 80), (200, 500), (1000, 40)])
def test_bait_looks_at_all_of_an_ordinary_pool(classes, n):
    """At 200 classes it once saw 423 candidates, at 1,000 sixteen."""
    pool = many_classes(n, classes)
    made = build("bait").choose(pool, 4, seeded())
    assert made.notes == {"looked at": n}
    if classes * 6 > 512:  # gradients are projected by the generator
        return
    again = build("bait").choose(pool, 4, seeded(1))
    assert set(made.index.tolist()) == set(again.index.tolist())  # no part of it was drawn


@pytest.mark.parametrize("classes", [2, 10, 40, 41, 200, 1000, 20_000])
def test_bait_looks_at_ten_thousand_at_the_least(classes):
    bait = build("bait")
    assert bait.seen(classes, 10) >= 10_000
    assert bait.seen(classes, 20_000) >= 200_000
    assert build("bait", candidates=50).seen(classes, 3) == 50


@pytest.mark.parametrize("classes", [3, 50])
def test_bait_says_when_a_part_of_the_pool_is_looked_at(classes):
    pool, bait = many_classes(60, classes), build("bait", candidates=20)
    with pytest.warns(UserWarning, match=r"bait looks at 20 of 60 candidates.*raise candidates"):
        made = bait.choose(pool, 2, seeded())
    assert made.notes == {"looked at": 20}
    with pytest.warns(UserWarning, match="bait looks at 50 of 60"):  # ten a pick
        assert build("bait", candidates=20).choose(pool, 5, seeded()).notes == {"looked at": 50}
    drawn = [frozenset(bait.choose(pool, 2, seeded(s)).index.tolist()) for s in range(20)]
    assert len(set(drawn)) > 5


# --- settings, blocks ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "arguments", "says"),
    [
        ("badge", {"first": "smallest"}, "'largest' or 'uniform'"),
        ("batch-bald", {"samples": 0}, "samples is at least 1"),
        ("cluster-margin", {"factor": 0.5}, "at least 1"),
        ("max-det", {"noise": 0.0}, "noise > 0"),
        ("bait", {"ridge": 0.0}, "ridge > 0"),
        ("bait", {"oversample": 0.5}, "oversample >= 1"),
        ("bait", {"top": 0}, "top and candidates >= 1"),
    ],
)
def test_settings_are_refused_at_construction(name, arguments, says):
    with pytest.raises(ValueError, match=says):
        build(name, **arguments)


@pytest.mark.parametrize("name", ["badge", "batch-bald", "bait"])
def test_items_with_places_are_refused(name):
    probs = torch.rand(9, 4, C, 2).softmax(2)
    points = torch.rand(9, 5)
    kept = Predictions(torch.arange(9), probs=probs, embedding=points, head_input=points)
    with pytest.raises(ValueError, match=r"one prediction an item.*\[\d, 4, 3, 2\].*places"):
        build(name).choose(Pool(torch.arange(9), kept=kept), 2, seeded())


def test_cluster_margin_needs_its_scores():
    kept = Predictions(torch.arange(9), embedding=torch.rand(9, 5))
    with pytest.raises(ValueError, match="carry no scores"):
        build("cluster-margin").choose(Pool(torch.arange(9), kept=kept), 2, seeded())


@pytest.mark.parametrize("name", ["lcmd", "max-det", "bait"])
def test_blocks_change_nothing(name, monkeypatch):
    before = [chosen(build(name), world(f), 8) for f in FIXTURES]
    monkeypatch.setattr(lcmd, "HELD", 0)
    monkeypatch.setattr(lcmd, "BLOCK", 16)
    monkeypatch.setattr(fisher, "BLOCK", 64)
    assert before == [chosen(build(name), world(f), 8) for f in FIXTURES]


@pytest.mark.parametrize("fault", ["stale", "flipped"])
def test_a_fault_in_the_search_is_noticed(fault, monkeypatch):
    """The references are sharp enough to see wrong picks."""
    if fault == "stale":  # distances that know nothing of the batch
        monkeypatch.setattr(
            lcmd._Rows,
            "squared",
            lambda self, row: (torch.full((N,), torch.inf), torch.zeros(N)),
        )
        with pytest.raises(AssertionError):
            test_lcmd("clumped", True)
    else:  # the least informative first
        change = fisher.Items.change
        monkeypatch.setattr(fisher.Items, "change", lambda self: -change(self))
        with pytest.raises(AssertionError):
            test_bait_forward("clumped", True)


@pytest.mark.parametrize("module", [hybrid, lcmd, bait_module])
def test_doctests(module):
    assert doctest.testmod(module).failed == 0


def test_the_fixtures_are_of_the_sizes_they_say():
    assert [len(world(f).index) for f in FIXTURES] == [N] * 3
    assert [len(world(f).labelled) for f in FIXTURES] == [L] * 3
