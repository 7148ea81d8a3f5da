"""Quotas per predicted class, random parts of the pool, and names that choose alike."""

import math
from collections import Counter
from dataclasses import dataclass

import pytest
import torch

from lightning_al.records import Acquisition, Pool, Predictions
from lightning_al.strategies import PerClassQuota, Subsample, build, resolve, selection
from lightning_al.strategies.around.restricted import unusable
from lightning_al.testing import World, check_strategy

ALIKE = {
    frozenset({"regression-bald", "variance"}): "monotone in the variance, noise being 1",
    frozenset({"subsample", "posterior-entropy"}): "a pool below its size is taken whole",
}
NESTED = [
    {"name": "per-class-quota", "strategy": "random"},
    {"name": "per-class-quota", "strategy": {"name": "power", "score": "bald"}, "slack": 1},
    {"name": "per-class-quota", "strategy": {"name": "subsample", "size": 0.5}},
    {"name": "per-class-quota", "strategy": {"name": "epig", "targets": 3}},
    {"name": "subsample", "strategy": "bald", "size": 8},
    {"name": "subsample", "strategy": "epig", "size": 0.7},
    {"name": "subsample", "strategy": {"name": "weighted-sum"}, "size": 0.4},
    {"name": "subsample", "strategy": "ucb", "size": 10},
    {"name": "subsample", "strategy": "thompson-per-item", "size": 0.6},
    {"name": "filter-then-choose", "filter": "bald", "then": "per-class-quota", "keep": 2.0},
    {"name": "epsilon-greedy", "strategy": {"name": "subsample", "strategy": "margin"}},
    {
        "class_path": "lightning_al.strategies.PerClassQuota",
        "init_args": {"strategy": {"class_path": "lightning_al.strategies.Subsample"}},
    },
]


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def chosen(strategy, pool, k, seed=0):
    return strategy.choose(pool, k, seeded(seed)).index.tolist()


@dataclass(frozen=True)
class Order:
    """The pool in the order of its first feature; has no score, only kept embeddings."""

    needs: tuple = ("embedding",)
    keeps: tuple = ("embedding",)
    members: str = "one"
    privileged: bool = False

    def choose(self, candidates, k, generator):
        rows = selection.top_k(candidates.embedding[:, 0], k, generator)
        return Acquisition(candidates.index[rows])


@pytest.mark.parametrize("spec", NESTED, ids=str)
def test_nested_by_name_they_conform(spec):
    check_strategy(spec)


def test_around_strategies_without_scores_they_conform():
    check_strategy(PerClassQuota(Order()))
    check_strategy(Subsample(Order(), 0.5))
    check_strategy(Subsample(Order(), 9), kind="regression")


# Quotas.


def classes_of(world):
    best = world.predictions.probs.mean(1).argmax(-1)
    return {item: int(best[item]) for item in world.index.tolist()}


def walk(ranked, label, quota, k):
    """Down the ranking while the class has room, then down the rest; in plain Python."""
    left, taken = Counter(dict.fromkeys(range(3), quota)), []
    for item in ranked:
        if left[label[item]] > 0 and len(taken) < k:
            left[label[item]] -= 1
            taken.append(item)
    return taken + [item for item in ranked if item not in taken][: k - len(taken)]


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize(("k", "slack"), [(1, 0), (4, 0), (6, 0), (6, 2), (16, 0), (17, 0)])
@pytest.mark.parametrize("name", ["posterior-entropy", "bald"])
def test_a_quota_is_a_walk_down_the_ranking(name, k, slack, seed):
    world = World.make("classification", samples=4, seed=seed)
    strategy = PerClassQuota(name, slack)
    ranked = chosen(build(name), world.pool(build(name)), 17)
    want = walk(ranked, classes_of(world), math.ceil(k / 3) + slack, k)
    got = strategy.choose(world.pool(strategy), k, seeded())
    assert got.index.tolist() == want
    beyond = Counter(classes_of(world)[i] for i in want) - Counter(
        dict.fromkeys(range(3), math.ceil(k / 3) + slack)
    )
    assert got.notes == {"beyond quota": beyond.total()}


@pytest.mark.parametrize("k", [3, 6, 9])
def test_no_class_gets_more_than_its_quota_while_others_last(k):
    labels = torch.arange(60) % 3
    probs = torch.eye(3)[labels][:, None] * 0.9 + 0.1 / 3
    score = -labels.double()  # class 0 first, always
    index = torch.arange(60)
    pool = Pool(index, scores=score, kept=Predictions(index, probs=probs))
    got = chosen(PerClassQuota("entropy"), pool, k)
    assert Counter(labels[got].tolist()) == {0: k // 3, 1: k // 3, 2: k // 3}


def test_where_classes_run_out_the_rest_comes_from_the_others():
    labels = torch.tensor([0] * 9 + [1])
    probs = torch.eye(3)[labels][:, None]
    index = torch.arange(10)
    pool = Pool(index, scores=torch.arange(10.0), kept=Predictions(index, probs=probs))
    got = PerClassQuota("entropy").choose(pool, 6, seeded())
    assert got.index.tolist() == [9, 8, 7, 6, 5, 4]  # quota 2: one of class 1, two of class 0
    assert got.notes == {"beyond quota": 3}
    assert got.scores.tolist() == [9, 8, 7, 6, 5, 4]


def test_items_with_nan_come_after_those_beyond_the_quota():
    probs = torch.eye(3)[torch.tensor([0, 0, 0, 1])][:, None].clone()
    probs[3] = torch.nan
    index = torch.arange(4)
    scores = torch.tensor([3.0, 2.0, 1.0, torch.nan])
    pool = Pool(index, scores=scores, kept=Predictions(index, probs=probs))
    assert chosen(PerClassQuota("entropy"), pool, 3) == [0, 1, 2]
    assert chosen(PerClassQuota("entropy"), pool, 4)[-1] == 3


# Parts of the pool.


@pytest.mark.parametrize(("size", "n"), [(9, 9), (0.5, 9), (6, 6), (3, 6), (0.01, 6), (1.0, 17)])
def test_the_choice_is_the_strategys_on_the_part(size, n):
    world = World.make("classification", samples=4)
    parts = set()

    @dataclass(frozen=True)
    class Noted(Order):
        def choose(self, candidates, k, generator):
            parts.add(tuple(candidates.index.tolist()))
            assert len(candidates) == n
            return super().choose(candidates, k, generator)

    strategy = Subsample(Noted(), size)
    for seed in range(12):
        got = chosen(strategy, world.pool(strategy), 6, seed)
        assert len(got) == 6
    assert len(parts) == (1 if n == 17 else 12)
    if n == 17:
        assert got == chosen(Order(), world.pool(Order()), 6)


def test_every_candidate_is_drawn_as_often():
    world = World.make("classification", samples=1)
    strategy, draws, share = Subsample("random", 5), 1000, 5 / 17
    pool, count = world.pool(strategy), Counter()
    for seed in range(draws):
        count.update(chosen(strategy, pool, 5, seed))
    error = math.sqrt(draws * share * (1 - share))
    assert len(count) == 17
    assert all(abs(times - draws * share) < 4 * error for times in count.values())


def test_the_best_of_m_drawn_is_among_the_best():
    """The best of m of N is the best of all with probability m / N (Ertekin et al. 2007)."""
    index, draws, m = torch.arange(100), 1200, 20
    pool = Pool(index, scores=index.double())
    strategy = Subsample("entropy", m)
    hits = sum(chosen(strategy, pool, 1, seed) == [99] for seed in range(draws))
    assert abs(hits - draws * 0.2) < 4 * math.sqrt(draws * 0.2 * 0.8)


def test_nan_is_found_in_scores_and_kept_fields():
    index = torch.arange(6)
    scores, embedding, probs = torch.zeros(6), torch.zeros(6, 3), torch.zeros(6, 2, 2)
    scores[1] = embedding[3, 2] = probs[5, 1, 0] = torch.nan
    kept = Predictions(index, embedding=embedding, probs=probs)
    bad = unusable(Pool(index, scores=scores, kept=kept))
    assert bad.tolist() == [False, True, False, True, False, True]
    assert unusable(Pool(index)).tolist() == [False] * 6
    assert unusable(Pool(index, scores=torch.zeros(6, 0))).tolist() == [False] * 6


# Facts of a composition.


def test_they_need_and_keep_what_their_strategy_does():
    quota = PerClassQuota(Order(), 1)
    assert (quota.needs, quota.keeps) == (("embedding", "probs"), ("embedding", "probs"))
    part = resolve({"name": "subsample", "strategy": "thompson", "size": 100})
    assert (part.needs, part.keeps, part.members) == (("mean",), ("mean",), "many")
    assert Subsample("random").needs == ()
    assert Subsample("margin") == Subsample("margin", 10_000)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (lambda: PerClassQuota(slack=-1), "at least 0"),
        (lambda: Subsample(size=0), "count .int, at least 1."),
        (lambda: Subsample(size=1.5), "share .float, above 0, at most 1."),
        (
            lambda: PerClassQuota("random").choose(
                Pool(
                    torch.arange(2), kept=Predictions(torch.arange(2), probs=torch.ones(2, 1, 2, 3))
                ),
                1,
                seeded(),
            ),
            "items with places have no class",
        ),
    ],
)
def test_errors_say_the_mend(wrong, says):
    with pytest.raises(ValueError, match=says):
        wrong()


# Which names agree; that all others differ is seen in ``test_strategy_library.py``.


@pytest.mark.parametrize("pair", ALIKE, ids=sorted)
def test_names_that_are_declared_alike_are(pair):
    kind = "regression" if "variance" in pair else "classification"
    for seed in range(3):
        one, two = (
            set(chosen(build(n), World.make(kind, samples=4, seed=seed).pool(build(n)), 6))
            for n in pair
        )
        assert one == two
