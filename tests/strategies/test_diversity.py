"""Diverse and representative batches: slow references, limits, and what they share."""

import doctest
import functools
import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers import small
from helpers.set_worlds import (
    FIXTURES,
    C,
    E,
    L,
    N,
    check_greedy,
    chosen,
    features,
    seeded,
    unlabelled,
    world,
)

from lightning_al import ActiveLearner, suggest
from lightning_al.datamodules import DigitsDataModule
from lightning_al.networks import MLP
from lightning_al.records import Context, Pool, Predictions
from lightning_al.strategies import build, names, sets
from lightning_al.strategies.diversity import clustered
from lightning_al.strategies.diversity.clustered import representatives
from lightning_al.strategies.hybrid import density_weighted as density
from lightning_al.strategies.selection import RESOLUTION
from lightning_al.tasks import Classification

RANDOM = {"k-means", "k-means-plus-plus", "typiclust", "prob-cover", "representative", "badge",
          "cluster-margin"}  # fmt: skip
DIVERSITY = ["density-weighted", "facility-location", "k-center", "k-means", "k-means-plus-plus",
             "max-herding", "prob-cover", "relative-distance", "representative",
             "typiclust"]  # fmt: skip
HYBRID = ["badge", "bait", "batch-bald", "cluster-margin", "lcmd", "max-det"]
OWN = DIVERSITY + HYBRID
EVERY = pytest.mark.parametrize("fixture", FIXTURES)


# --- what all of them share (the hybrid ones too) ------------------------------------------------


@pytest.mark.parametrize("name", OWN)
@pytest.mark.parametrize("labels", [True, False])
@EVERY
def test_the_order_of_the_pool_decides_nothing(name, labels, fixture):
    """The same seed gives the same list, ties and draws included."""
    strategy, seen = build(name), world(fixture)
    seen = seen if labels else unlabelled(seen)
    moved = seen.index[torch.randperm(N, generator=seeded(3))]
    for k in (1, 6):
        assert chosen(strategy, seen, k) == chosen(strategy, seen, k, index=moved)


# two odd items beside each other gain alike in a cover: true ties
@pytest.mark.parametrize("name", sorted(set(OWN) - RANDOM - {"facility-location", "max-herding"}))
def test_the_deterministic_ones_draw_for_ties_only(name):
    strategy, seen = build(name), world("clumped")
    assert len({tuple(chosen(strategy, seen, 6, seed)) for seed in range(5)}) == 1


@pytest.mark.parametrize("name", OWN)
@pytest.mark.parametrize("labels", [True, False])
@EVERY
def test_one_and_all(name, labels, fixture):
    strategy, seen = build(name), world(fixture)
    seen = seen if labels else unlabelled(seen)
    assert 0 <= chosen(strategy, seen, 1)[0] < N
    assert sorted(chosen(strategy, seen, N)) == list(range(N))
    pool = seen.pool(strategy)
    assert len(strategy.choose(pool, 0, seeded())) == 0
    with pytest.raises(ValueError, match=f"cannot acquire {N + 1} of {N}"):
        strategy.choose(pool, N + 1, seeded())
    alone = seen.pool(strategy, seen.index[:1])
    assert strategy.choose(alone, 1, seeded()).index.tolist() == seen.index[:1].tolist()
    nothing = pool.subset(torch.empty(0, dtype=torch.int64))
    assert len(strategy.choose(nothing, 0, seeded())) == 0


def some_class(value, classes):
    """All items are of the first class, for certain."""
    certain = torch.zeros(*value.shape[:2], classes)
    certain[..., 0] = 1
    return certain


@pytest.mark.parametrize("name", OWN)
@pytest.mark.parametrize("labels", [True, False])
@pytest.mark.parametrize("classes", [2, C])
def test_one_class_only(name, labels, classes):
    seen = world("clumped")
    seen = seen if labels else unlabelled(seen)
    certain = some_class(seen.predictions.probs, classes)
    seen = replace(
        seen,
        predictions=replace(seen.predictions, probs=certain),
        context=replace(seen.context, classes=classes, targets=torch.zeros(L).long()),
    )
    strategy = build(name)
    for k in (1, 6, N):
        assert len(set(chosen(strategy, seen, k))) == k


@pytest.mark.parametrize("name", OWN)
@pytest.mark.parametrize("labels", [True, False])
def test_identical_items_are_drawn(name, labels):
    seen = world("clumped").changed(lambda v: v[:1].expand_as(v).clone())
    strategy, seen = build(name), seen if labels else unlabelled(seen)
    assert len({chosen(strategy, seen, 1, seed)[0] for seed in range(40)}) > 10
    assert sorted(chosen(strategy, seen, N)) == list(range(N))


@pytest.mark.parametrize("name", OWN)
@pytest.mark.parametrize("wrong", [torch.nan, torch.inf])
def test_items_that_are_not_finite_come_last_and_cover_nothing(name, wrong):
    strategy, seen = build(name), world("clumped")
    bad = torch.cat([seen.index[[2, 5]], seen.labelled[:2]])

    def spoil(value):
        value[bad] = wrong
        return value

    spoiled = seen.changed(spoil)
    good = torch.tensor([row for row in range(N) if row not in (2, 5)])
    assert {2, 5} & set(chosen(strategy, spoiled, N - 2)) == set()
    assert set(chosen(strategy, spoiled, N)[-2:]) == {2, 5}
    clean = replace(seen, index=seen.index[good], labelled=seen.labelled[2:])
    if name != "batch-bald":  # log-probabilities of the labelled are not asked for
        pool = clean.pool(strategy)
        want = strategy.choose(pool, 4, seeded()).index.tolist()
        assert seen.index[chosen(strategy, spoiled, 4)].tolist() == want


@functools.cache
def batches(name):
    """What a name chooses from each fixture."""
    return [frozenset(chosen(build(name), world(fixture), 6)) for fixture in FIXTURES]


@pytest.mark.parametrize("name", OWN)
def test_differs_from_every_other_name(name):
    others = {n for n in names() if not hasattr(build(n), "kind")}  # the rest is for other tasks
    others -= {"tcm", "pca-k-center"}  # typiclust up to a switch, k-center up to few components
    assert [other for other in others if batches(other) == batches(name)] == [name]


@pytest.mark.parametrize("name", OWN)
def test_a_labelled_set_that_keeps_nothing_is_a_cold_start(name):
    """The rounds hand out an empty labelled set without any fields."""
    strategy, seen = build(name), unlabelled(world("clumped"))
    bench = SimpleNamespace(labelled_pool=lambda: Pool(torch.empty(0).long()))
    bare = replace(seen.pool(strategy), bench=bench)
    got = strategy.choose(bare, 6, seeded()).index.tolist()
    assert seen.index[chosen(strategy, seen, 6)].tolist() == got


@pytest.mark.parametrize(
    "name",
    ["k-center", "relative-distance", "k-means-plus-plus", "k-means", "representative", "badge",
     "cluster-margin", "lcmd"],
)  # fmt: skip
def test_a_common_offset_and_a_wider_type_change_nothing(name):
    seen, strategy = world("clumped"), build(name)
    points = seen.predictions.embedding.double()
    double = replace(
        seen, predictions=replace(seen.predictions, embedding=points, head_input=points)
    )
    assert chosen(strategy, seen, 6) == chosen(strategy, double, 6)
    shifted = replace(
        double, predictions=replace(seen.predictions, embedding=points + 8, head_input=points + 8)
    )
    if name != "badge":  # the gradients' norms
        assert chosen(strategy, shifted, 6) == chosen(strategy, double, 6)


# --- slow references -----------------------------------------------------------------------------


@pytest.mark.parametrize("labels", [True, False])
@EVERY
def test_k_center(fixture, labels):
    seen = world(fixture) if labels else unlabelled(world(fixture))
    points, labelled = features(seen)

    def value(rows):
        centres = torch.cat([labelled, points[rows]])
        return torch.cdist(points, centres).amin(1) if len(centres) else torch.ones(N)

    check_greedy(chosen(build("k-center"), seen, 12), value)


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@EVERY
def test_relative_distance_is_not_updated(fixture, metric):
    seen = world(fixture)
    points, labelled = (part.tolist() for part in features(seen))

    def apart(x, y):
        if metric == "euclidean":
            return math.dist(x, y)
        lengths = math.hypot(*x) * math.hypot(*y)
        return 1 - sum(a * b for a, b in zip(x, y, strict=True)) / lengths if lengths else 0.5

    distance = torch.tensor([min(apart(x, y) for y in labelled) for x in points])
    if metric == "cosine" and fixture == "ties":  # zero vectors: apart from others by definition
        strategy = build("relative-distance", metric=metric)
        assert len(set(chosen(strategy, seen, 12))) == 12
        return
    strategy = build("relative-distance", metric=metric)
    check_greedy(chosen(strategy, seen, 12), lambda rows: distance, 1e-4)


def test_relative_distance_is_k_center_for_one():
    for fixture in ("clumped", "tight"):
        seen = world(fixture)
        one, other = (chosen(build(n), seen, 1) for n in ("relative-distance", "k-center"))
        assert one == other


@pytest.mark.parametrize("labels", [True, False])
@EVERY
def test_k_means_plus_plus_draws_by_squared_distance(fixture, labels):
    seen = world(fixture) if labels else unlabelled(world(fixture))
    points, labelled = features(seen)
    odds = torch.cdist(points, labelled).amin(1).square() if labels else torch.ones(N).double()
    count, draws = torch.zeros(N), 600
    strategy = build("k-means-plus-plus")
    pool = seen.pool(strategy)
    place = {item: row for row, item in enumerate(seen.index.tolist())}
    for seed in range(draws):
        count[place[int(strategy.choose(pool, 1, seeded(seed)).index)]] += 1
    share = odds / odds.sum()
    spread = (share * (1 - share) / draws).sqrt()
    assert bool(((count / draws - share).abs() <= 5 * spread + 1e-9).all())


@EVERY
def test_typiclust_in_one_cluster_takes_the_most_typical(fixture):
    seen = unlabelled(world(fixture))
    points, _ = features(seen)
    distance = torch.cdist(points, points)
    distance.fill_diagonal_(torch.inf)
    typicality = -distance.sort(1).values[:, :7].mean(1)
    strategy = build("typiclust", max_clusters=1, neighbours=7)
    check_greedy(chosen(strategy, seen, 8), lambda rows: typicality)


def test_typiclust_goes_where_no_label_is():
    seen = world("tight")
    owner = seen.predictions.index % 6
    counts = torch.bincount(owner[seen.labelled], minlength=6)
    without = set((counts == 0).nonzero().flatten().tolist())
    got = [int(owner[seen.index[row]]) for row in chosen(build("typiclust", min_size=1), seen, 1)]
    assert set(got) <= without


@pytest.mark.parametrize("labels", [True, False])
@EVERY
def test_prob_cover(fixture, labels):
    seen = world(fixture) if labels else unlabelled(world(fixture))
    points, labelled = features(seen)
    radius = 1.01

    def value(rows):
        centres = torch.cat([labelled, points[rows]])
        covered = (torch.cdist(points, centres) <= radius).any(1)
        gain = ((torch.cdist(points, points) <= radius) & ~covered).sum(1).double()
        if gain.max() > 0:
            return gain
        # the tail: farthest first, in float32 (the kernel's ties are 1e-6 of the largest norm)
        tail = torch.cdist(points, centres).amin(1).square()
        return tail + (points - points.mean(0)).square().sum(1).max()

    check_greedy(chosen(build("prob-cover", radius=radius), seen, 12), value)


def test_prob_cover_finds_a_radius_of_the_clumps_size():
    seen = world("tight")
    strategy = build("prob-cover", clusters=6)
    pool = seen.pool(strategy)
    radius = strategy._radius(pool, seeded())
    points, _ = features(seen)
    owner = seen.predictions.index[seen.index] % 6
    same = owner[:, None] == owner
    distance = torch.cdist(points, points)
    if len(torch.unique(owner)) == 6:
        assert radius > float(distance[same].max())
    duplicated = Predictions(torch.arange(8), embedding=torch.tensor([[0.0], [1.0]]).repeat(4, 1))
    pool = Pool(torch.arange(8), kept=duplicated, context=Context(classes=5))
    assert strategy._radius(pool, seeded()) > 0


@pytest.mark.parametrize("labels", [True, False])
@EVERY
def test_max_herding(fixture, labels):
    seen = world(fixture) if labels else unlabelled(world(fixture))
    points, labelled = features(seen)
    similar = torch.exp(-torch.cdist(points, torch.cat([points, labelled])).square() / 1.5**2)

    def value(rows):
        before = similar[:, [*rows, *range(N, similar.shape[1])]]
        covered = before.amax(1) if before.shape[1] else torch.zeros(N).double()
        return (similar[:, :N] - covered[:, None]).clamp_min(0).sum(0)

    rows = chosen(build("max-herding", width=1.5), seen, 6)
    check_greedy(rows, lambda before: value(before) + 1.0, 2e-4)


@pytest.mark.parametrize("similarity", ["euclidean", "cosine"])
@EVERY
def test_facility_location(fixture, similarity):
    seen = world(fixture)
    points, labelled = features(seen)
    every = torch.cat([points, labelled])
    if similarity == "cosine":
        length = every.norm(dim=1, keepdim=True)
        scaled = every / length.clamp_min(1e-30)
        scaled = torch.cat([scaled, (length == 0).double()], 1)
        similar = (1 + scaled[:N] @ scaled.T) / 2
    else:
        distance = torch.cdist(points, every)
        similar = 2 * (points - points.mean(0)).norm(dim=1).max() - distance

    def value(rows):
        covered = similar[:, [*rows, *range(N, N + L)]].amax(1).clamp_min(0)
        return (similar[:, :N] - covered[:, None]).clamp_min(0).sum(0)

    rows = chosen(build("facility-location", similarity=similarity), seen, 5)
    scale = 1e-4 * float(similar.abs().max()) * N  # gains are compared to 1e-6 of the largest sum
    check_greedy(rows, lambda before: value(before) + scale, 1e-1)


@pytest.mark.parametrize("beta", [0.0, 1.0, 2.0])
@EVERY
def test_density_weighted(fixture, beta):
    seen = world(fixture)
    points, _ = features(seen)
    probs = seen.predictions.probs[seen.index].double().mean(1)
    entropy = -(probs * probs.log()).sum(-1)
    cosine = torch.nn.functional.cosine_similarity(points[:, None], points[None], dim=-1)
    weighted = entropy * cosine.mean(1).clamp_min(0) ** beta
    rows = chosen(build("density-weighted", beta=beta), seen, 10)
    check_greedy(rows, lambda before: weighted)


def by_heart(distance, cluster, k):
    """Nearest of each cluster, largest cluster first, then the second nearest, in plain Python."""
    members = {c: [] for c in set(cluster) - {-1}}
    for row in sorted(range(len(cluster)), key=distance.__getitem__):
        if cluster[row] >= 0:
            members[cluster[row]].append(row)
    queue = sorted(members.values(), key=len, reverse=True)
    turns = max(map(len, queue))
    return [m[turn] for turn in range(turns) for m in queue if turn < len(m)][:k]


@pytest.mark.parametrize("seed", range(5))
def test_hearts_of_clusters(seed):
    draw = seeded(seed)
    distance = torch.rand(40, generator=draw)
    cluster = torch.tensor([0] * 3 + [1] * 12 + [2] * 4 + [3] * 15 + [4] * 1 + [-1] * 5)
    cluster = cluster[torch.randperm(40, generator=draw)]
    want = by_heart(distance.tolist(), cluster.tolist(), 40)
    got = representatives(distance, cluster, 40, seeded())
    assert got[:35].tolist() == want
    assert set(cluster[got[35:]].tolist()) == {-1}
    assert representatives(distance, cluster, 3, seeded()).tolist() == want[:3]


@EVERY
def test_k_means_of_one_cluster_is_nearest_to_the_mean(fixture):
    seen = world(fixture)
    points, _ = features(seen)
    near = -(points - points.mean(0)).norm(dim=1)
    check_greedy(chosen(build("k-means"), seen, 1), lambda rows: near, 1e-4)


def test_k_means_takes_the_heart_of_each_clump():
    seen = unlabelled(world("tight"))
    points, _ = features(seen)
    owner = (seen.predictions.index[seen.index] % 6).tolist()
    want = set()
    for clump in range(6):
        rows = [row for row in range(N) if owner[row] == clump]
        middle = points[rows].mean(0)
        want.add(min(rows, key=lambda row: math.dist(points[row], middle)))
    found = [set(chosen(build("representative"), seen, 6, seed)) for seed in range(6)]
    found += [set(chosen(build("k-means", iterations=50), seen, 6, seed)) for seed in range(12)]
    assert want in found[:6]  # one start may end in a poor optimum
    assert want in found[6:]


@pytest.mark.parametrize("k", [1, 4, 9])
@EVERY
def test_representative_of_agglomerative_clusters(fixture, k):
    from scipy.cluster.hierarchy import fcluster, linkage

    seen = world(fixture)
    points, _ = features(seen)
    strategy = build("representative", clusterer="AgglomerativeClustering")
    rows = chosen(strategy, seen, k)
    if fixture == "ties":  # the tree itself is tied
        assert len(set(rows)) == k
        return
    label = fcluster(linkage(points.numpy(), "ward"), k, "maxclust")
    middle = {c: points[label == c].mean(0) for c in set(label.tolist())}
    distance = [math.dist(points[row], middle[label[row]]) for row in range(N)]
    want = by_heart(distance, label.tolist(), k)
    assert sorted(label[rows]) == sorted(label[want])
    near = [sorted(distance[row] for row in some) for some in (rows, want)]  # pairs are tied
    assert near[0] == pytest.approx(near[1])


@pytest.mark.parametrize(
    ("clusterer", "arguments"),
    [
        ("AffinityPropagation", {}),
        ("DBSCAN", {"eps": 0.7, "min_samples": 3}),
        ("HDBSCAN", {"min_cluster_size": 3, "store_centers": "medoid"}),
        ("MeanShift", {"bandwidth": 2.0}),
        ("BisectingKMeans", {}),
        ("Birch", {}),
        ("MiniBatchKMeans", {"n_init": 1}),
    ],
)
def test_representative_takes_any_clusterer(clusterer, arguments):
    strategy = build("representative", clusterer=clusterer, arguments=arguments)
    for fixture in FIXTURES:
        seen = unlabelled(world(fixture))
        for k in (1, 5, N):
            assert len(set(chosen(strategy, seen, k))) == k


def test_representative_takes_exemplars_first():
    from sklearn.cluster import AffinityPropagation

    seen = world("clumped")
    order = seen.index.argsort()
    points = features(seen)[0][order]
    fitted = AffinityPropagation(random_state=0).fit(points.numpy())
    exemplars = set(order[torch.as_tensor(fitted.cluster_centers_indices_)].tolist())
    strategy = build("representative", clusterer="AffinityPropagation")
    assert set(chosen(strategy, seen, len(exemplars))) == exemplars


def test_noise_is_no_cluster():
    embedding = torch.cat(
        [0.01 * torch.randn(9, 2, generator=seeded()), torch.tensor([[50.0, 50]])]
    )
    kept = Predictions(torch.arange(10), embedding=embedding)
    strategy = build("representative", clusterer="DBSCAN", arguments={"eps": 1.0})
    got = strategy.choose(Pool(torch.arange(10), kept=kept), 10, seeded()).index.tolist()
    assert got[-1] == 9


# --- bad input, numbers, whole runs --------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "arguments", "says"),
    [
        ("relative-distance", {"metric": "hamming"}, "'euclidean' or 'cosine'"),
        ("prob-cover", {"radius": 0.0}, "radius is positive"),
        ("prob-cover", {"purity": 1.0}, "purity is a share"),
        ("prob-cover", {"clusters": 1}, "clusters >= 2"),
        ("density-weighted", {"score": "random"}, "needs a strategy that scores"),
        ("density-weighted", {"beta": -1.0}, "at least 0"),
    ],
)
def test_settings_are_refused_at_construction(name, arguments, says):
    with pytest.raises(ValueError, match=says):
        build(name, **arguments)


def test_an_unknown_clusterer_names_those_there_are():
    seen, strategy = world("clumped"), build("representative", clusterer="KMedoid")
    with pytest.raises(LookupError, match=r"named 'KMedoid'; choose one of AffinityPropagation"):
        chosen(strategy, seen, 2)


def test_negative_scores_have_no_density():
    seen = world("clumped")
    strategy = build("density-weighted", score={"name": "greedy"})
    with pytest.raises(ValueError, match="needs scores >= 0"):
        chosen(strategy, seen, 2)


def test_closest_far_from_the_origin():
    draw = seeded()
    points, centres = (torch.randn(n, E, generator=draw).double() + 1e4 for n in (50, 7))
    near, which = sets.closest(points, centres)
    want = torch.cdist(points, centres, compute_mode="donot_use_mm_for_euclid_dist").min(1)
    torch.testing.assert_close(near.sqrt(), want.values, rtol=RESOLUTION, atol=1e-9)
    assert torch.equal(which, want.indices)
    assert sets.closest(centres, centres)[0].tolist() == [0.0] * 7


def test_blocks_change_nothing(monkeypatch):
    before = {n: [chosen(build(n), world(f), 6) for f in FIXTURES] for n in OWN}
    for module in (sets, density):
        monkeypatch.setattr(module, "BLOCK", 16)
    assert before == {n: [chosen(build(n), world(f), 6) for f in FIXTURES] for n in OWN}


@pytest.mark.parametrize("module", [clustered, density, sets])
def test_doctests(module):
    assert doctest.testmod(module).failed == 0


@pytest.mark.parametrize("name", ["k-center", "badge"])
def test_two_rounds_on_digits(name, tmp_path):
    learner = ActiveLearner(
        lambda: Classification(MLP(64, (16,), 10), 10, lr=0.01),
        DigitsDataModule(initial=20, batch_size=32),
        name,
        10,
        20,
        trainer=small.TRAINER,
        run_dir=tmp_path / "run",
    )
    history = learner.run()
    assert [len(r.acquired) for r in history.rounds] == [10, 10, 0]
    assert np.isfinite([r.metrics["test/accuracy"] for r in history.rounds]).all()


@pytest.mark.parametrize("name", [*DIVERSITY, "badge", "lcmd", "max-det", "bait", "cluster-margin"])
def test_the_first_batch_can_be_chosen(name):
    data = small.datamodule(initial=0)
    assert len(set(suggest(small.task(), data, name, 5).index.tolist())) == 5
