"""Every registered strategy under the conformance kit, the kit under wrong strategies, and the
mathematics of compositions."""

import doctest
import random as python_random
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import pytest
import torch

from lightning_al import measures, strategies, testing
from lightning_al.records import Acquisition, Context, Pool, Predictions
from lightning_al.strategies import (
    EpsilonGreedy,
    FilterThenChoose,
    ScoreStrategy,
    WeightedSum,
    build,
    names,
    resolve,
)
from lightning_al.strategies import (
    score_strategy as base,
)
from lightning_al.strategies.around.candidates import Candidates
from lightning_al.testing import World, check_strategy, kind_of, rehearsed

SHORT = {  # what is trained, for less
    "core-gcn": {"epochs": 15},
    "learning-loss": {"steps": 15},
    "input-density": {"transforms": 1, "width": 8, "epochs": 1},
    "vaal": {"steps": 3},
    "waal": {"steps": 3},
    "auto-al": {"search": {"warm_up": 1, "steps": 2}},
    "regression-auto-al": {"search": {"warm_up": 1, "steps": 2}},
}
NESTED = [
    {"name": "weighted-sum", "parts": ["bald", "entropy", "margin"], "weights": [1, 0.5, -2]},
    {"name": "weighted-sum", "parts": ["variance", "greedy"], "normalise": "none"},
    {"name": "weighted-sum", "parts": ["margin", "entropy"], "normalise": "rank"},
    {"name": "weighted-sum", "parts": ["margin", "entropy"], "normalise": "minmax"},
    {"name": "power", "score": {"name": "weighted-sum", "normalise": "minmax"}, "beta": 2.0},
    {"name": "softmax", "score": {"name": "power", "score": "entropy"}},
    {"name": "filter-then-choose", "filter": "bald", "then": "margin", "keep": 2.0},
    {"name": "filter-then-choose", "filter": "bald", "then": "margin", "keep": 17},
    {"name": "filter-then-choose", "filter": "random", "then": "random"},
    {
        "name": "filter-then-choose",
        "filter": {"name": "weighted-sum", "parts": ["bald", {"name": "weighted-sum"}]},
        "then": {"name": "epsilon-greedy", "strategy": "power-bald", "epsilon": 0.5},
        "keep": 1.5,
    },
    {"name": "epsilon-greedy", "strategy": "random", "epsilon": 0.5},
    {"name": "epsilon-greedy", "strategy": {"name": "filter-then-choose"}, "epsilon": 0.3},
    {"name": "variance", "aleatoric": True},
    {"name": "greedy", "maximize": False},
    {"name": "weighted-sum", "parts": ["margin", {"name": "learning-loss", "steps": 15}]},
    {"name": "softmax", "score": {"name": "learning-loss", "steps": 15}},
    {
        "name": "filter-then-choose",
        "filter": {"name": "learning-loss", "steps": 15, "subset": 100},
        "then": {"name": "weighted-sum", "parts": ["bald", {"name": "learning-loss", "steps": 15}]},
    },
]


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def chosen(strategy, pool, k, seed=0):
    return strategy.choose(pool, k, seeded(seed)).index.tolist()


# Every strategy.


@pytest.mark.parametrize("name", names())
def test_registered_strategy_conforms(name):
    check_strategy({"name": name} | SHORT.get(name, {}))


@pytest.mark.parametrize("spec", NESTED, ids=str)
def test_nested_strategy_conforms(spec):
    check_strategy(spec)


@pytest.mark.parametrize("name", names())
def test_scores_of_the_chosen_are_theirs(name):
    strategy = rehearsed(build(name))
    pool = World.make(kind_of(strategy), samples=4).pool(strategy)
    acquisition = strategy.choose(pool, getattr(strategy, "most", 6), seeded())
    if pool.scores is None or acquisition.scores is None or getattr(strategy, "columns", 1) > 1:
        return
    if isinstance(strategy, Candidates):
        return  # mixed utilities
    table = dict(zip(pool.index.tolist(), pool.scores.flatten().tolist(), strict=True))
    assert acquisition.scores.tolist() == [table[i] for i in acquisition.index.tolist()]


@pytest.mark.parametrize("name", [n for n in names() if "probs" in build(n).needs])
def test_class_names_do_not_matter(name):
    strategy, world = build(name), World.make("classification", samples=4)
    renamed = world.changed(lambda v: v[..., [2, 0, 1]] if v.ndim == 3 else v)
    labels = torch.tensor([1, 2, 0])[world.context.targets]
    renamed = replace(renamed, context=replace(world.context, targets=labels))
    one, two = world.pool(strategy), renamed.pool(strategy)
    torch.testing.assert_close(one.scores, two.scores)
    assert set(chosen(strategy, one, 6)) == set(chosen(strategy, two, 6))


@pytest.mark.parametrize("name", [n for n in names() if hasattr(build(n), "score")])
def test_places_are_scored_and_averaged(name):
    strategy, world = build(name), World.make("classification", samples=4)
    if "probs" not in strategy.needs or name == "waal":  # it refuses items with places
        return
    probs = world.predictions.probs
    flipped = probs.flip(2)
    both = replace(world.predictions, probs=torch.stack([probs, flipped], -1))
    one, two, mean = (
        strategy.score(p, world.context)
        for p in (world.predictions, replace(world.predictions, probs=flipped), both)
    )
    torch.testing.assert_close(mean, (one + two) / 2)


@pytest.mark.parametrize("name", ["variance", "greedy"])
@pytest.mark.parametrize("unit", [1e-6, 1e6])
def test_units_of_the_target_do_not_matter(name, unit):
    strategy, world = build(name), World.make("regression", samples=4)
    scaled = world.changed(lambda v: v * unit)
    assert chosen(strategy, world.pool(strategy), 6) == chosen(strategy, scaled.pool(strategy), 6)


# Score after selector.


PLAIN = ["entropy", "margin", "ratio", "least-confidence"]


@pytest.mark.parametrize("name", PLAIN)
@pytest.mark.parametrize("samples", [1, 2, 7])
def test_plain_scores_the_mean_prediction_and_expected_averages_the_members(name, samples):
    world = World.make("classification", samples=samples)
    measure, probs = getattr(measures, name.replace("-", "_")), world.predictions.probs
    of_mean, mean_of = measure(probs.mean(1)), measure(probs).mean(1)
    for built, want in (
        (name, of_mean),
        (f"posterior-{name}", of_mean),
        (f"expected-{name}", mean_of),
    ):
        got = build(built).score(world.predictions, world.context)
        torch.testing.assert_close(got, want, atol=1e-6, rtol=0)


@pytest.mark.parametrize("name", PLAIN)
def test_members_that_contradict_each_other_come_first(name):
    sure, split = [[0.999, 0.001], [0.001, 0.999]], [[0.7, 0.3], [0.7, 0.3]]
    for places in ((), (3,)):  # of an item, and of each place of an item
        probs = torch.tensor([sure, split])
        probs = probs.reshape(2, 2, 2, *[1] * len(places)).expand(2, 2, 2, *places)
        seen = Predictions(torch.arange(2), probs=probs)
        first, second = build(name).score(seen, Context()).tolist()
        assert first > second
        first, second = build(f"expected-{name}").score(seen, Context()).tolist()
        assert first < second


@pytest.mark.parametrize("name", PLAIN)
def test_a_composition_shows_plain_scores_all_members(name):
    world = World.make("classification", samples=5)
    both = WeightedSum(["bald", name], [0.0, 1.0], normalise="none")
    pool = world.pool(both)
    alone = build(name).score(world.predictions.rows(world.index), world.context)
    torch.testing.assert_close(pool.scores[:, 1], alone)
    assert chosen(both, pool, 6) == chosen(build(name), world.pool(build(name)), 6)


def test_expected_entropy_and_bald_add_up_to_the_entropy_of_the_mean():
    world = World.make("classification", samples=6)
    total, within, between = (
        build(n).score(world.predictions, world.context)
        for n in ("entropy", "expected-entropy", "bald")
    )
    torch.testing.assert_close(total, within + between)


@pytest.mark.parametrize("name", PLAIN)
def test_posterior_of_one_member_is_the_plain_strategy(name):
    world = World.make("classification", samples=1)
    one, two = (
        build(n).score(world.predictions, world.context) for n in (name, f"posterior-{name}")
    )
    torch.testing.assert_close(one, two)


def test_greedy_takes_the_best_prediction():
    world = World.make("regression", samples=4)
    strategy = build("greedy")
    means = dict(
        zip(world.index.tolist(), world.predictions.mean.mean((1, 2))[world.index], strict=True)
    )
    best = sorted(means, key=means.__getitem__)
    assert chosen(strategy, world.pool(strategy), 3) == best[::-1][:3]
    least = build("greedy", maximize=False)
    assert chosen(least, world.pool(least), 3) == best[:3]


def test_aleatoric_variance_is_added():
    world = World.make("regression", samples=4)
    total = build("variance", aleatoric=True)
    assert set(total.needs) == {"mean", "variance"}
    both = total.score(world.predictions, world.context)
    spread = build("variance").score(world.predictions, world.context)
    torch.testing.assert_close(both - spread, world.predictions.variance.mean((1, 2)))


def test_a_function_of_the_wrong_shape_is_named():
    world = World.make("classification", samples=1)
    strategy = ScoreStrategy(torch.sum)
    with pytest.raises(ValueError, match=r"sum gave scores \[\] for 60 items; return one score"):
        strategy.score(world.predictions, world.context)


def test_a_pool_without_scores_is_refused():
    pool = Pool(index=torch.arange(9))
    with pytest.raises(ValueError, match="carry no scores"):
        build("bald").choose(pool, 3, seeded())
    with pytest.raises(ValueError, match="has 2 columns of scores, the candidates carry 0"):
        build("weighted-sum").choose(pool, 3, seeded())


# Compositions.


def test_needs_and_members_are_unions():
    one = WeightedSum(["entropy", "margin"])
    assert (one.members, one.needs, one.keeps, one.columns) == ("one", ("probs",), (), 2)
    many = EpsilonGreedy(FilterThenChoose("entropy", Farthest()))
    assert many.members == "one"
    assert (many.needs, many.keeps, many.columns) == (("probs", "embedding"), ("embedding",), 1)
    assert WeightedSum([one, "bald"]).members == "many"
    assert WeightedSum([one, "bald"]).columns == 3
    assert FilterThenChoose("entropy", Privileged()).privileged


def by_hand(world, **weights):
    """The weighted z-scores of the pool, in plain Python."""
    result = [0.0] * len(world.index)
    for name, weight in weights.items():
        scores = build(name).score(world.predictions, world.context)[world.index].tolist()
        mean = sum(scores) / len(scores)
        spread = (sum((s - mean) ** 2 for s in scores) / len(scores)) ** 0.5
        result = [r + weight * (s - mean) / spread for r, s in zip(result, scores, strict=True)]
    return result


def test_weighted_sum_equals_the_sum_by_hand():
    world = World.make("classification", samples=4)
    strategy = WeightedSum(["bald", "margin"], [2.0, -0.5])
    got = strategy.choose(world.pool(strategy), 17, seeded())
    want = dict(zip(world.index.tolist(), by_hand(world, bald=2.0, margin=-0.5), strict=True))
    for item, score in zip(got.index.tolist(), got.scores.tolist(), strict=True):
        assert score == pytest.approx(want[item], abs=1e-4)
    assert got.scores.tolist() == sorted(got.scores.tolist(), reverse=True)


@pytest.mark.parametrize("how", ["zscore", "minmax", "rank", "none"])
@pytest.mark.parametrize("name", ["bald", "entropy", "margin"])
def test_a_sum_of_one_part_ranks_as_that_part(how, name):
    world = World.make("classification", samples=4)
    alone, wrapped = build(name), WeightedSum([name], [3.0], how)
    assert chosen(wrapped, world.pool(wrapped), 17) == chosen(alone, world.pool(alone), 17)


def test_normalised_sums_ignore_the_scale_of_a_part():
    world = World.make("classification", samples=4)
    for how in ("zscore", "minmax", "rank"):
        small = WeightedSum(["entropy", ScoreStrategy(measures.margin)], normalise=how)
        large = WeightedSum(["entropy", ScoreStrategy(thousand_margins)], normalise=how)
        assert chosen(small, world.pool(small), 6) == chosen(large, world.pool(large), 6)


def thousand_margins(probs):
    return 1000 * measures.margin(probs)


def test_a_constant_part_changes_nothing():
    world = World.make("classification", samples=4)
    for how in ("zscore", "minmax", "rank"):
        alone = build("margin")
        both = WeightedSum(["margin", ScoreStrategy(nearly_constant)], normalise=how)
        assert chosen(both, world.pool(both), 17) == chosen(alone, world.pool(alone), 17)


def nearly_constant(probs):
    return 0.3 + 1e-9 * measures.entropy(probs)


def test_rank_gives_the_tied_their_mean_rank():
    strategy = WeightedSum(["margin"], normalise="rank")
    scores = torch.tensor([0.1, 0.5, 0.5, 0.9, torch.nan])
    got = strategy.combine(scores[:, None])
    assert got[:4].tolist() == pytest.approx([0, 0.5, 0.5, 1])
    assert bool(got[4].isnan())


@pytest.mark.parametrize("keep", [2.0, 12])
def test_filter_then_choose_is_two_choices(keep):
    world = World.make("classification", samples=4)
    strategy = FilterThenChoose("bald", "margin", keep)
    bald, margin = build("bald"), build("margin")
    short = set(chosen(bald, world.pool(bald), 12))
    ranked = chosen(margin, world.pool(margin), 17)
    assert chosen(strategy, world.pool(strategy), 6) == [i for i in ranked if i in short][:6]


def test_filter_that_keeps_too_few_says_so():
    world, strategy = World.make("classification", samples=4), FilterThenChoose(keep=4)
    with pytest.raises(ValueError, match=r"keeps 4 candidates, fewer than the 6.*4.0"):
        strategy.choose(world.pool(strategy), 6, seeded())


def test_filter_passes_kept_fields_and_the_labelled_set_on():
    world = World.make("classification", samples=4)
    strategy = FilterThenChoose("bald", Farthest(), 2.0)
    bald = build("bald")
    short = torch.tensor(chosen(bald, world.pool(bald), 8))
    embedding = world.predictions.embedding
    distance = torch.cdist(embedding[short], embedding[world.labelled]).amin(1)
    want = short[distance.argsort(descending=True)[:4]].tolist()
    assert chosen(strategy, world.pool(strategy), 4) == want


def test_a_part_that_leaves_the_pool_is_named():
    world = World.make("classification", samples=4)
    strategy = FilterThenChoose(Positions(), "random")
    with pytest.raises(ValueError, match=r"Positions.*not among the candidates"):
        strategy.choose(world.pool(strategy), 3, seeded())


@pytest.mark.parametrize(("epsilon", "explored"), [(0.0, 0), (1.0, 6)])
def test_epsilon_at_its_ends(epsilon, explored):
    world = World.make("classification", samples=4)
    strategy, plain = EpsilonGreedy("bald", epsilon), build("bald")
    got = strategy.choose(world.pool(strategy), 6, seeded())
    assert got.notes == {"explored": explored}
    if epsilon == 0:
        assert got.index.tolist() == chosen(plain, world.pool(plain), 6)


def test_epsilon_is_the_share_of_random_picks_even_one_by_one():
    world = World.make("classification", samples=4)
    strategy = EpsilonGreedy("bald", 0.3)
    pool, generator = world.pool(strategy), seeded()
    for k in (1, 6):
        picks = [strategy.choose(pool, k, generator).notes["explored"] for _ in range(1000 // k)]
        assert sum(picks) / (k * len(picks)) == pytest.approx(0.3, abs=0.07)


def test_columns_of_nested_parts_come_apart_again():
    world = World.make("classification", samples=4)
    inner = WeightedSum(["entropy", "margin"], [1, 2])
    outer = WeightedSum(["bald", inner, "ratio"], [0, 1, 0])
    assert world.pool(outer).scores.shape == (17, 4)
    assert chosen(outer, world.pool(outer), 17) == chosen(inner, world.pool(inner), 17)


def test_a_composition_without_scores_needs_no_model():
    strategy = resolve({"name": "epsilon-greedy", "strategy": "random"})
    assert strategy.needs == ()
    got = strategy.choose(Pool(index=torch.arange(50, 60)), 4, seeded())
    assert set(got.index.tolist()) <= set(range(50, 60))
    batch = Predictions(index=torch.arange(3))
    assert strategy.score(batch, Context()).shape == (3, 0)


# The kit finds each fault.


@dataclass(frozen=True)
class Correct:
    """Margin by hand; the faulty ones below change one thing."""

    needs: tuple = ("probs",)
    keeps: tuple = ()
    members: str = "one"
    privileged: bool = False

    def score(self, batch, context):
        return measures.margin(batch.probs).mean(1)

    def rows(self, scores, k, generator):
        return strategies.selection.top_k(scores, k, generator)

    def choose(self, candidates, k, generator):
        rows = self.rows(candidates.scores, k, generator)
        return Acquisition(candidates.index[rows], scores=candidates.scores[rows])


class Duplicates(Correct):
    def rows(self, scores, k, generator):
        return super().rows(scores, k, generator).clone().fill_(int(scores.argmax()))


class Positions(Correct):
    def choose(self, candidates, k, generator):
        scores = candidates.scores
        if scores is None or scores.ndim != 1:
            scores = torch.zeros(len(candidates))
        return Acquisition(self.rows(scores, k, generator))


class Fewer(Correct):
    def rows(self, scores, k, generator):
        return super().rows(scores, k, generator)[: max(1, k - 1)]


class GlobalTorch(Correct):
    def rows(self, scores, k, generator):
        super().rows(scores, k, generator)
        return torch.randperm(len(scores))[:k]


class GlobalNumpy(Correct):
    def rows(self, scores, k, generator):
        super().rows(scores, k, generator)
        return torch.from_numpy(np.random.permutation(len(scores))[:k])


class GlobalPython(Correct):
    def rows(self, scores, k, generator):
        super().rows(scores, k, generator)
        return torch.tensor(python_random.sample(range(len(scores)), k))


class SetsSeed(Correct):
    def rows(self, scores, k, generator):
        torch.manual_seed(0)
        return super().rows(scores, k, generator)


class OwnRandomness(Correct):
    def rows(self, scores, k, generator):
        super().rows(scores, k, generator)
        return torch.from_numpy(np.random.default_rng().permutation(len(scores))[:k])


class WritesScores(Correct):
    def rows(self, scores, k, generator):
        rows = super().rows(scores, k, generator)
        scores[rows] = -1
        return rows


class WritesBatch(Correct):
    def score(self, batch, context):
        batch.probs.mul_(0.5)
        return super().score(batch, context)


class FirstOfTies(Correct):
    def rows(self, scores, k, generator):
        super().rows(scores, k, generator)
        keys = scores.nan_to_num(nan=-1)
        return keys.argsort(descending=True, stable=True)[:k]


class FirstRows(Correct):
    def rows(self, scores, k, generator):
        super().rows(scores, k, generator)
        return torch.arange(k)


class BatchScores(Correct):
    def score(self, batch, context):
        scores = super().score(batch, context)
        return scores - scores.mean()


class BatchShape(Correct):
    def score(self, batch, context):
        return super().score(batch, context).sum()


class Infinite(Correct):
    def score(self, batch, context):
        return 1 / (super().score(batch, context) * 0)


class NanFirst(Correct):
    def rows(self, scores, k, generator):
        return super().rows(scores.nan_to_num(nan=torch.inf), k, generator)


class NanCrash(Correct):
    def score(self, batch, context):
        if batch.probs.isnan().any():
            raise RuntimeError("NaN!")
        return super().score(batch, context)


class Lenient(Correct):
    def rows(self, scores, k, generator):
        return super().rows(scores, min(k, len(scores)), generator)


class NeedsAString(Correct):
    def __init__(self):
        super().__init__(needs="probs")


class NeedsUnknown(Correct):
    def __init__(self):
        super().__init__(needs=("probs", "gradient"))


class KeepsMore(Correct):
    def __init__(self):
        super().__init__(keeps=("embedding",))


class Several(Correct):
    def __init__(self):
        super().__init__(members="several")


class Array(Correct):
    def choose(self, candidates, k, generator):
        return super().choose(candidates, k, generator).index


class BadNotes(Correct):
    def choose(self, candidates, k, generator):
        made = super().choose(candidates, k, generator)
        return replace(made, notes={"tensor": torch.ones(1)})


class Stateful(Correct):
    calls: ClassVar = [0]

    def rows(self, scores, k, generator):
        self.calls[0] += 1
        super().rows(scores, k, generator)
        return super().rows(scores, len(scores), generator).roll(self.calls[0])[:k]


class Farthest(Correct):
    """Uses embeddings, the labelled set, shortlist predictions and a joint distribution."""

    def __init__(self):
        super().__init__(needs=("embedding",), keeps=("embedding",))

    score = property()  # reading it raises AttributeError: there is no score

    def choose(self, candidates, k, generator):
        distance = torch.cdist(candidates.embedding, candidates.labelled.embedding).amin(1)
        rows = strategies.selection.top_k(distance, k, generator)
        seen = candidates.predict(rows, ["embedding"]).embedding
        assert torch.equal(seen.isnan(), candidates.embedding[rows].isnan())
        if not bool(seen.isnan().any()):
            assert candidates.joint(rows).mean.shape == (k,)
        return Acquisition(candidates.index[rows], scores=distance[rows].nan_to_num())


class Privileged(Correct):
    def __init__(self):
        super().__init__(privileged=True)


FAULTS = [
    (Duplicates, "not distinct"),
    (Positions, "not in the pool; return candidates.index"),
    (Fewer, "asked for 6"),
    (Array, "expected an Acquisition"),
    (BadNotes, "not JSON serializable"),
    (GlobalTorch, "global random state of torch"),
    (GlobalNumpy, "global random state of numpy"),
    (GlobalPython, "global random state of python"),
    (SetsSeed, "global random state of torch"),
    (OwnRandomness, "same generator seed gave different choices"),
    (Stateful, "keep what is learnt across rounds in state_dict"),
    (WritesScores, "writes into its input: pool.scores"),
    (WritesBatch, "changed"),
    (FirstOfTies, "ties must be broken by the generator"),
    (FirstRows, "data order must not decide"),
    (BatchScores, "depend on how the items are batched"),
    (BatchShape, r"gave torch.float32 \[\] for 17 items"),
    (Infinite, "not finite"),
    (NanFirst, "NaN predictions came before"),
    (NanCrash, "`NaN last`: raised RuntimeError: NaN!"),
    (Lenient, "must raise ValueError"),
    (NeedsAString, "expected a collection of names"),
    (NeedsUnknown, "gradient"),
    (KeepsMore, "without naming it in needs"),
    (Several, "'one' or 'many'"),
]


@pytest.mark.parametrize(("faulty", "says"), FAULTS, ids=lambda v: getattr(v, "__name__", ""))
def test_the_kit_finds(faulty, says):
    with pytest.raises(AssertionError, match=says) as error:
        check_strategy(faulty())
    assert faulty.__name__ in str(error.value)


@pytest.mark.parametrize("strategy", [Correct(), Correct, lambda: Correct(), Farthest(), "bald"])
def test_the_kit_passes(strategy):
    check_strategy(strategy)


def test_the_kit_serves_regression_to_those_that_ask():
    check_strategy(Farthest(), kind="regression")
    with pytest.raises(AssertionError, match="a regression model does not give"):
        check_strategy("bald", kind="regression")
    with pytest.raises(ValueError, match="kind is"):
        check_strategy("bald", kind="ranking")
    with pytest.raises(LookupError, match="did you mean 'bald'"):
        check_strategy("blad")


def test_the_kit_leaves_the_random_state_alone():
    before = torch.get_rng_state()
    check_strategy("random")
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("module", [testing, base])
def test_doctests(module):
    assert doctest.testmod(module).failed == 0
