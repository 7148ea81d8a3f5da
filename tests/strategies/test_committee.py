"""Query by committee: votes and divergences in plain Python, and which names are one."""

import math
from collections import Counter

import pytest
import torch
from helpers import small
from helpers.set_worlds import FIXTURES, chosen, seeded, world

from lightning_al import measures, suggest
from lightning_al.networks import MLP, Ensemble
from lightning_al.strategies import EQUIVALENT, build, kind_of, names
from lightning_al.tasks import Classification
from lightning_al.testing import World

N, S, C = 23, 5, 4


def draw(seed=0, scale=2.0, shape=(N, S, C)):
    return (scale * torch.randn(*shape, generator=seeded(seed), dtype=torch.float64)).softmax(-1)


def few(seed=0):
    """Members that often agree in full."""
    shared = draw(seed, shape=(N, 1, C))
    return 0.8 * shared + 0.2 * draw(seed + 1)


def halves(seed=0):
    """Probabilities of 0, 1/2 and 1: ties inside a member."""
    pairs = torch.randint(C, (N, S, 2), generator=seeded(seed))
    return torch.nn.functional.one_hot(pairs, C).double().mean(2)


EVERY = pytest.mark.parametrize("fixture", [draw, few, halves])
SEED = pytest.mark.parametrize("seed", [0, 1])


def plain_vote_entropy(members):
    votes = Counter()
    for p in members:
        best = [c for c, q in enumerate(p) if q == max(p)]
        votes.update(dict.fromkeys(best, 1 / len(best) / len(members)))
    return -sum(v * math.log(v) for v in votes.values() if v > 0)


def plain_consensus_kl(members):
    mean = [sum(column) / len(members) for column in zip(*members, strict=True)]
    each = [
        sum(q * math.log(q / m) for q, m in zip(p, mean, strict=True) if q > 0) for p in members
    ]
    return sum(each) / len(each)


PLAIN = {"vote_entropy": plain_vote_entropy, "consensus_kl": plain_consensus_kl}
BOTH = pytest.mark.parametrize("name", PLAIN)


@BOTH
@EVERY
@SEED
def test_equals_plain_python(name, fixture, seed):
    probs = fixture(seed)
    want = [PLAIN[name](item) for item in probs.tolist()]
    assert getattr(measures, name)(probs).tolist() == pytest.approx(want, abs=1e-12)


@BOTH
@EVERY
def test_bounds_order_and_precision(name, fixture):
    measure, probs = getattr(measures, name), fixture()
    score = measure(probs)
    low, high = measures.BOUNDS[name](S, C)
    assert bool(((score >= low) & (score <= high + 1e-12)).all())
    moved = probs[:, torch.randperm(S, generator=seeded())][..., torch.tensor([2, 0, 3, 1])]
    torch.testing.assert_close(measure(moved), score)
    if fixture is not halves:
        single = measure(probs.float())
        assert single.dtype == torch.float32
        torch.testing.assert_close(single.double(), score, atol=2e-6, rtol=0)
        assert measure(probs.bfloat16()).dtype == torch.float32


@BOTH
def test_limits(name):
    measure = getattr(measures, name)
    apart = torch.eye(C, dtype=torch.float64)[None]  # each member for a class of its own
    assert float(measure(apart)) == pytest.approx(math.log(C))
    assert measure(draw()[:, :1]).tolist() == pytest.approx([0] * N, abs=1e-12)
    agreed = draw()[:, :1].expand(-1, S, -1)
    assert measure(agreed).tolist() == pytest.approx([0] * N, abs=1e-12)
    spoiled = draw()
    spoiled[3, 1, 2] = torch.nan
    assert measure(spoiled).isnan().nonzero().flatten().tolist() == [3]
    assert measure(draw()[:0]).shape == (0,)
    with pytest.raises(ValueError, match=rf"{name} needs probs \[N, S, C\]"):
        measure(draw()[0])


def test_votes_do_not_count_how_sure_a_member_is():
    sure = torch.tensor([[[0.9, 0.1], [0.1, 0.9]], [[0.51, 0.49], [0.49, 0.51]]])
    assert measures.vote_entropy(sure).tolist() == pytest.approx([math.log(2)] * 2)
    soft = measures.of_mean(measures.entropy, torch.tensor([[[0.9, 0.1], [0.6, 0.4]]]))
    hard = measures.vote_entropy(torch.tensor([[[0.9, 0.1], [0.6, 0.4]]]))
    assert float(hard) == 0 < float(soft)


def test_votes_without_ties_reach_the_log_of_the_members_at_most():
    probs = draw(shape=(500, 3, 8))
    assert float(measures.vote_entropy(probs).max()) == pytest.approx(math.log(3))


def test_divergence_is_entropy_of_the_mean_less_mean_entropy():
    probs = draw()
    want = measures.entropy(probs.mean(1)) - measures.entropy(probs).mean(1)
    torch.testing.assert_close(measures.consensus_kl(probs), want)


# Names that are one.


def picks(name, seed, kind="classification"):
    strategy = build(name)
    pool = World.make(kind, samples=4, seed=seed).pool(strategy)
    return strategy.choose(pool, 6, seeded()).index.tolist()


@pytest.mark.parametrize(("name", "other"), EQUIVALENT.items())
def test_declared_equivalents_choose_alike(name, other):
    assert {name, other} <= set(names())
    assert build(name).needs == build(other).needs
    kind = "regression" if "mean" in build(name).needs else "classification"
    if kind_of(name) == "density":
        kind = "density"
    for seed in range(10):
        assert picks(name, seed, kind) == picks(other, seed, kind)
    for fixture in FIXTURES if kind != "density" else ():
        seen = world(fixture)
        assert chosen(build(name), seen, 6) == chosen(build(other), seen, 6)


def test_an_equivalent_is_no_alias_of_an_alias():
    assert not set(EQUIVALENT) & set(EQUIVALENT.values())


def test_vote_entropy_is_no_other_name():
    """Nor is it variation-ratio, which looks at the favourite class alone."""
    for other in ("variation-ratio", "posterior-entropy", "bald", "mean-std"):
        assert any(picks("vote-entropy", seed) != picks(other, seed) for seed in range(10))
    votes = torch.eye(3)[torch.tensor([[0, 0, 0, 1, 1, 2], [0, 0, 0, 1, 1, 1]])]
    assert measures.variation_ratio(votes).tolist() == pytest.approx([0.5, 0.5])
    first, second = measures.vote_entropy(votes).tolist()
    assert first > second


def test_an_ensemble_is_a_committee():
    """A task with several networks needs no posterior beside it."""
    torch.manual_seed(0)
    network = Ensemble(MLP(small.FEATURES, (8,), small.CLASSES), 5)
    task = Classification(network, small.CLASSES)
    got = suggest(task, small.datamodule(), "vote-entropy", 4)
    assert len(set(got.index.tolist())) == 4
    assert got.scores.tolist() == sorted(got.scores.tolist(), reverse=True)
    assert float(got.scores[0]) > 0
