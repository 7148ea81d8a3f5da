"""Strategies for a task with a safety measurement, against plain Python and closed forms."""

import math
from collections import Counter
from dataclasses import replace
from statistics import NormalDist, fmean, pvariance

import pytest
import torch
from helpers import small

from lightning_al import ActiveLearner
from lightning_al.records import Pool, Predictions
from lightning_al.scores.safety import min_unsafe_entropy, predictive_entropy, safe_deviations
from lightning_al.scoring.scorer import Scorer
from lightning_al.strategies import SafeVariance, build
from lightning_al.strategies.sequential.safe import safe_first
from lightning_al.tasks import Adapter, GPRegression
from lightning_al.testing import World, check_strategy

NAMES = ("min-unsafe-entropy", "safe-random", "safe-variance")
NORMAL = NormalDist()


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def drawn(n=29, members=3, outputs=2, seed=0):
    """Means and variances of answers, [n, S, D]."""
    g = seeded(seed)
    mean = torch.randn(n, members, outputs, generator=g, dtype=torch.float64)
    return mean + 0.5, torch.rand(n, members, outputs, generator=g, dtype=torch.float64)


def slow(mean, variance):
    """Entropy of y and probability of z >= 0 of each item, in plain Python."""
    found = []
    for means, variances in zip(mean.tolist(), variance.tolist(), strict=True):
        by_output = list(zip(*means, strict=True)), list(zip(*variances, strict=True))
        total = [pvariance(m) + fmean(v) for m, v in zip(*by_output, strict=True)]
        entropy = sum(0.5 * math.log(2 * math.pi * math.e * v) for v in total[:-1])
        found.append((entropy, NORMAL.cdf(fmean(by_output[0][-1]) / total[-1] ** 0.5)))
    return found


def pool_of(strategy, mean, variance, index=None):
    """A scored pool of items of which this is predicted."""
    index = torch.arange(len(mean)) + 100 if index is None else index
    batch = Predictions(index, mean=mean.float(), variance=variance.float())
    return Pool(index, scores=strategy.score(batch, None))


def rows(strategy, pool, k, seed=0):
    return (strategy.choose(pool, k, seeded(seed)).index - 100).tolist()


# --- the formulas --------------------------------------------------------------------------------


@pytest.mark.parametrize(("members", "outputs"), [(1, 2), (3, 2), (4, 3)])
def test_the_formulas_are_those_of_plain_python(members, outputs):
    mean, variance = drawn(members=members, outputs=outputs)
    expected = slow(mean, variance)
    entropy, safety = predictive_entropy(mean, variance), safe_deviations(mean, variance)
    score = min_unsafe_entropy(mean, variance, gamma=0.1)
    for i, (h, p) in enumerate(expected):
        assert float(entropy[i]) == pytest.approx(h, rel=1e-12)
        assert NORMAL.cdf(float(safety[i])) == pytest.approx(p, rel=1e-9)
        assert float(score[i]) == pytest.approx(h - math.log(1 - min(p, 0.9) + 1e-5), rel=1e-9)
    assert predictive_entropy(mean.half(), variance.half()).dtype == torch.float32


def test_what_is_safer_than_asked_for_is_worth_no_more():
    mean = torch.tensor([[[0.0, z]] for z in (-50.0, 0.0, 1.7, 9.0, 50.0)])
    score = min_unsafe_entropy(mean, torch.ones(5, 1, 2)) - 0.5 * math.log(2 * math.pi * math.e)
    # log(0.05 + 1e-5) = -2.9955 is the most that safety brings, log(1 + 1e-5) = 0.00001 the least
    assert score[2:].tolist() == pytest.approx([2.9955322] * 3, abs=1e-5)
    assert score[0] == pytest.approx(-1e-5, abs=1e-6)
    assert score[1] == pytest.approx(-math.log(0.50001), abs=1e-6)


def test_what_is_certain_stays_finite():
    mean = torch.tensor([[[0.0, -1.0]], [[0.0, 0.0]], [[0.0, 1.0]]])
    for variance in (torch.zeros(3, 1, 2), None):
        assert safe_deviations(mean, variance).tolist() == [-1e6, 1e6, 1e6]  # z = 0 is safe
        assert bool(min_unsafe_entropy(mean, variance).isfinite().all())
    mean[1, 0, 1] = torch.nan
    assert safe_deviations(mean).isnan().tolist() == [False, True, False]


@pytest.mark.parametrize("name", NAMES)
def test_a_task_without_a_safety_measurement_is_told_what_to_add(name):
    strategy = build(name)
    world = World.make("regression", samples=4)
    with pytest.raises(ValueError, match=r"needs a safety measurement z: .*\(y, z\).*outputs=2"):
        world.pool(strategy)
    check_strategy(strategy, kind="safe")


# --- the choice ----------------------------------------------------------------------------------


@pytest.mark.parametrize("gamma", [0.05, 0.3, 0.5])
@pytest.mark.parametrize("seed", range(3))
def test_safe_variance_is_the_constrained_maximum(gamma, seed):
    mean, variance = drawn(seed=seed)
    expected = slow(mean, variance)
    safe = [i for i, (_, p) in enumerate(expected) if p >= 1 - gamma]
    ranked = sorted(safe, key=lambda i: -expected[i][0])
    rest = sorted(set(range(29)) - set(safe), key=lambda i: -expected[i][1])
    plain = sorted(set(range(29)) - set(safe), key=lambda i: -expected[i][0])
    for fallback, behind in (("safest", rest), ("all", plain)):
        strategy = build("safe-variance", gamma=gamma, fallback=fallback)
        pool = pool_of(strategy, mean, variance)
        assert rows(strategy, pool, 29) == ranked + behind
        for k in (1, 4):
            got = strategy.choose(pool, k, seeded())
            assert (got.index - 100).tolist() == (ranked + behind)[:k]
            assert got.notes == {"safe enough": min(k, len(safe))}


def test_where_nothing_is_safe_the_published_rule_takes_the_most_uncertain():
    mean = torch.tensor([[[0.0, -9.0]], [[0.0, -3.0]], [[0.0, -40.0]]])
    variance = torch.tensor([[[1.0, 1.0]], [[2.0, 1.0]], [[3.0, 1.0]]])  # p: 1e-19, 1e-3, 0
    published, ours = build("safe-variance", fallback="all"), build("safe-variance")
    assert rows(published, pool_of(published, mean, variance), 3) == [2, 1, 0]
    assert rows(ours, pool_of(ours, mean, variance), 3) == [1, 0, 2]  # tiny p still have an order


def test_with_gamma_one_safety_plays_no_part():
    mean, variance = drawn()
    strategy, plain = build("safe-variance", gamma=1.0), build("variance", aleatoric=True)
    every = rows(strategy, pool_of(strategy, mean, variance), 29)
    assert every == rows(plain, pool_of(plain, mean[..., :1], variance[..., :1]), 29)
    score = min_unsafe_entropy(mean, variance, gamma=1.0)  # log(1 + 1e-5) everywhere
    torch.testing.assert_close(score, predictive_entropy(mean, variance), atol=2e-5, rtol=0)


def test_min_unsafe_entropy_trades_what_safe_variance_does_not():
    # a wide y that is unsafe with p = 1/2 against a narrow safe one: worth 1/2 log(v) against 2.3
    mean = torch.tensor([[[0.0, 0.0]], [[0.0, 9.0]]])
    for wide, first in ((400.0, 0), (50.0, 1)):
        variance = torch.tensor([[[wide, 1.0]], [[1.0, 1.0]]])
        soft, hard = build("min-unsafe-entropy"), build("safe-variance")
        assert rows(soft, pool_of(soft, mean, variance), 1) == [first]
        assert rows(hard, pool_of(hard, mean, variance), 1) == [1]


def test_safe_random_draws_evenly_from_what_is_safe():
    mean, variance = drawn()
    safe = {i for i, (_, p) in enumerate(slow(mean, variance)) if p >= 0.7}
    strategy = build("safe-random", gamma=0.3)
    pool = pool_of(strategy, mean, variance)
    counts = Counter(rows(strategy, pool, 1, seed)[0] for seed in range(400))
    assert set(counts) == safe
    expected = 400 / len(safe)
    chi = sum((counts[i] - expected) ** 2 / expected for i in safe)
    assert chi < len(safe) - 1 + 4 * (2 * (len(safe) - 1)) ** 0.5
    behind = sorted(set(range(29)) - safe, key=lambda i: -slow(mean, variance)[i][1])
    assert rows(strategy, pool, 29)[len(safe) :] == behind
    loose = build("safe-random", gamma=0.3, fallback="all")
    lasts = {rows(loose, pool, 29, seed)[len(safe)] for seed in range(30)}
    assert len(lasts) > 5


def test_nan_is_not_safe_and_comes_last():
    wanted = torch.tensor([5.0, torch.nan, 1.0, 2.0])
    safety = torch.tensor([torch.nan, 9.0, 9.0, -9.0])
    for fallback in ("safest", "all"):
        chosen, safe = safe_first(wanted, safety, 4, seeded(), gamma=0.05, fallback=fallback)
        assert chosen[:2].tolist() == [2, 3]
        assert safe == 1
    with pytest.raises(ValueError, match="cannot acquire 5 of 4"):
        safe_first(wanted, safety, 5, seeded(), gamma=0.05)


def test_ties_are_drawn_and_the_order_of_the_pool_is_nothing():
    mean, variance = torch.tensor([[[0.0, 9.0]]]).expand(9, 1, 2), torch.ones(9, 1, 2)
    strategy = build("safe-variance")
    pool = pool_of(strategy, mean, variance)
    assert len({rows(strategy, pool, 1, seed)[0] for seed in range(60)}) == 9
    mean, variance = drawn()
    order = torch.randperm(29, generator=seeded(1))
    one = pool_of(strategy, mean, variance)
    two = pool_of(strategy, mean[order], variance[order], order + 100)
    assert rows(strategy, one, 9) == rows(strategy, two, 9)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"gamma": 0.0}, "gamma is a probability above 0, at most 1, got 0"),
        ({"gamma": 1.5}, "gamma is a probability"),
        ({"fallback": "none"}, "fallback must be 'safest' or 'all', got 'none'"),
    ],
)
def test_settings_that_make_no_sense_are_refused(arguments, says):
    for name in NAMES:
        if name != "min-unsafe-entropy" or "fallback" not in arguments:
            with pytest.raises(ValueError, match=says):
                build(name, **arguments)
    with pytest.raises(ValueError, match="fallback is 'safest' or 'all', got 'none'"):
        SafeVariance(fallback="none")
    with pytest.raises(ValueError, match="carry no scores"):
        SafeVariance().choose(Pool(torch.arange(3)), 1, seeded())


# --- on a Gaussian process -----------------------------------------------------------------------


def fitted(strategy, variance="latent"):
    """A task with two outputs, its data, and the pool that a strategy sees."""
    data = small.safe_datamodule()
    data.setup()
    task = GPRegression(outputs=2, variance=variance)
    labels = data.labelled_targets()
    inputs = torch.cat([batch for _, batch in data.bare_batches(data.labelled)])
    task.learn(inputs, labels)
    return task, data, Scorer(task, data, Adapter.for_task(task)).pool(strategy)


@pytest.mark.parametrize("task_variance", ["latent", "predictive"])
def test_a_gaussian_process_is_read_with_its_noise(task_variance):
    """Whatever the task itself would give as its variance."""
    task, data, pool = fitted(build("safe-variance"), task_variance)
    inputs = torch.cat([batch for _, batch in data.bare_batches(data.pool)])
    mean, variance = task.raw(inputs).chunk(2, dim=1)  # with noise, in closed form
    expected = 0.5 * (2 * math.pi * math.e * variance[:, 0]).log()
    torch.testing.assert_close(pool.scores[:, 0].double(), expected, atol=1e-4, rtol=0)
    ratio = mean[:, 1] / variance[:, 1].sqrt()
    torch.testing.assert_close(pool.scores[:, 1].double(), ratio, atol=1e-3, rtol=1e-3)
    quiet = fitted(build("safe-variance", aleatoric=False))[2]
    assert bool((quiet.scores[:, 0] < pool.scores[:, 0]).all())


@pytest.mark.parametrize("name", NAMES)
def test_a_run_asks_for_safe_items(name, tmp_path):
    history = ActiveLearner(
        task=lambda: GPRegression(outputs=2),
        datamodule=small.safe_datamodule(),
        strategy=name,
        query_size=2,
        budget=6,
        trainer=small.TRAINER | {"max_epochs": 1},
        run_dir=tmp_path,
    ).run()
    assert len(set(history.acquired)) == 6
    z = small.safe_line().targets[list(history.acquired), 1]
    everywhere = float((small.safe_line().targets[:, 1] >= 0).float().mean())
    assert everywhere < 0.75
    if name != "min-unsafe-entropy":
        assert float((z >= 0).float().mean()) >= 5 / 6


def test_predictions_of_another_unit_give_the_same_choice():
    world, strategy = World.make("safe", samples=4), build("safe-variance")
    seen = world.predictions
    scaled = replace(seen, mean=seen.mean * 1e3, variance=seen.variance * 1e6)
    chosen = [
        strategy.choose(w.pool(strategy), 6, seeded()).index.tolist()
        for w in (world, replace(world, predictions=scaled))
    ]
    assert chosen[0] == chosen[1]
