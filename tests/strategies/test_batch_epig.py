"""Batch EPIG: against enumeration and dense determinants, its bounds, limits and ties."""

import doctest
import itertools
import math
from dataclasses import replace
from importlib import import_module

import pytest
import torch
from helpers.set_worlds import FIXTURES, chosen, unlabelled, world

from lightning_al import measures
from lightning_al.strategies import BatchEPIG, RegressionBatchEPIG, build
from lightning_al.strategies.kernels.batch_bald import _Configurations, _Items
from lightning_al.strategies.kernels.joint_epig import batch_epig, joint_epig, regression_batch_epig
from lightning_al.strategies.kernels.label_cells import Targets, share
from lightning_al.testing import check_strategy

module = import_module("lightning_al.strategies.kernels.joint_epig")
S, T = 4, 5


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def noisy(n=12, c=3, seed=0):
    logits = 2 * torch.randn(n + T, S, c, generator=seeded(seed))
    return logits.log_softmax(-1).split([n, T])


def confident(n=12, c=3, seed=1):
    draw = seeded(seed)
    shared = 4 * torch.randn(n + T, 1, c, generator=draw) * torch.rand(n + T, 1, 1, generator=draw)
    return (shared + torch.randn(n + T, S, c, generator=draw)).log_softmax(-1).split([n, T])


def linear(n=12, c=3, seed=2):
    draw = seeded(seed)
    features, weights = torch.randn(n + T, 5, generator=draw), torch.randn(S, 5, c, generator=draw)
    return torch.einsum("ne,sec->nsc", features, weights).log_softmax(-1).split([n, T])


def sharp(n=12, c=3, seed=3):
    """Probabilities of 0 and 1 among them."""
    logits = 30 * torch.randn(n + T, S, c, generator=seeded(seed))
    return logits.log_softmax(-1).split([n, T])


every_fixture = pytest.mark.parametrize("fixture", [noisy, confident, linear, sharp])


def entropy(values):
    return -sum(v * math.log(v) for v in values if v > 0)


def information(log_probs, targets, rows):
    """Mean over targets of I(labels of the rows; the target's label), by enumeration."""
    probs, others = (v.double().exp().tolist() for v in (log_probs, targets))
    classes = range(len(probs[0][0]))
    weights = [
        [math.prod(probs[r][s][y] for r, y in zip(rows, labels, strict=True)) for s in range(S)]
        for labels in itertools.product(classes, repeat=len(rows))
    ]
    batch = [sum(w) / S for w in weights]
    total = 0.0
    for other in others:
        own = [sum(p[y] for p in other) / S for y in classes]
        both = [sum(w[s] * other[s][y] for s in range(S)) / S for w in weights for y in classes]
        total += entropy(batch) + entropy(own) - entropy(both)
    return total / len(others)


def test_doctests():
    assert doctest.testmod(module).failed == 0


@every_fixture
@pytest.mark.parametrize("c", [2, 3])
def test_agrees_with_enumeration(fixture, c):
    """Every pick adds what the best one would, given those before it."""
    pool, targets = fixture(c=c)
    picks = batch_epig(pool, targets, 4, seeded()).tolist()
    for b in range(4):
        rest = [row for row in range(len(pool)) if row not in picks[:b]]
        values = {row: information(pool, targets, [*picks[:b], row]) for row in rest}
        assert values[picks[b]] >= max(values.values()) - 2e-6


@every_fixture
@pytest.mark.parametrize("rows", [[3], [5, 0], [1, 7, 2], [4, 4, 9, 0]])
def test_joint_epig_equals_enumeration(fixture, rows):
    pool, targets = fixture()
    want = information(pool, targets, rows)
    assert float(joint_epig(pool[rows], targets, seeded())) == pytest.approx(want, abs=2e-6)


@every_fixture
def test_one_pick_is_the_highest_epig(fixture):
    pool, targets = fixture(n=200)
    scores = measures.epig(pool.exp(), targets.exp())
    assert batch_epig(pool, targets, 1, seeded()).item() == int(scores.argmax())
    for row in range(20):
        alone = float(joint_epig(pool[[row]], targets, seeded()))
        assert alone == pytest.approx(float(scores[row]), abs=2e-6)


@every_fixture
def test_a_batch_is_its_picks_one_by_one(fixture):
    pool, targets = fixture(n=40)
    whole = batch_epig(pool, targets, 4, seeded()).tolist()
    for b in range(4):
        pending = torch.tensor(whole[:b], dtype=torch.int64)
        assert batch_epig(pool, targets, 1, seeded(), pending=pending).tolist() == [whole[b]]
        assert batch_epig(pool, targets, b, seeded()).tolist() == whole[:b]


@every_fixture
def test_greedy_beats_the_top_and_no_batch_beats_exhaustion(fixture):
    pool, targets = fixture(n=8)
    every = {rows: information(pool, targets, rows) for rows in itertools.combinations(range(8), 3)}
    greedy = every[tuple(sorted(batch_epig(pool, targets, 3, seeded()).tolist()))]
    top = measures.epig(pool.exp(), targets.exp()).topk(3).indices.tolist()
    assert greedy >= every[tuple(sorted(top))] - 1e-6
    assert sorted(every.values()).index(greedy) >= 0.8 * len(every)
    assert greedy <= max(every.values())


@every_fixture
def test_information_grows_with_the_batch_and_stays_below_the_model(fixture):
    pool, targets = fixture()
    values = [float(joint_epig(pool[:b], targets, seeded())) for b in range(6)]
    assert values[0] == 0
    assert values == sorted(values)
    bald = float(measures.bald(targets.exp()).mean())
    assert values[-1] <= bald + 1e-6  # all that can be known of the targets


@every_fixture
def test_bounds_hold_for_every_item(fixture):
    """The proof of the search: no gain is above its bound, and the bound prunes."""
    pool, targets = fixture(n=60)
    items, known = _Items(pool, 2**28), Targets(targets, 2**28)
    state = _Configurations.none(S, pool.device)
    rows, pruned, chosen = torch.arange(60), [], []
    for row in (3, 17, 40, 41):
        beliefs = known.under(state)
        gains, (bounds, about) = beliefs.gains(items, rows), beliefs.bounds(items, rows)
        assert bool((gains <= bounds).all())
        assert bool((gains > -1e-6).all())
        assert bool((about <= bounds).all())
        if fixture is not sharp:
            large = gains > 0.1 * gains.max()
            ratio = about[large] / gains[large]
            assert 0.7 < float(ratio.min()) <= float(ratio.max()) < 1.4  # in which order to look
        for least in (float(gains.max()), float(gains.median())):
            better, which = beliefs.better(items, rows, least)
            torch.testing.assert_close(better, gains[which])
            assert set((gains >= least + 1e-9).nonzero().flatten().tolist()) <= set(which.tolist())
        if len(chosen) < 3:
            base = information(pool, targets, chosen)
            for one in (0, 25):
                want = information(pool, targets, [*chosen, one]) - base
                assert float(gains[one]) == pytest.approx(want, abs=2e-6)
        pruned.append(float((bounds < gains.max()).float().mean()))
        state = state.extended(items.probs(row), 200, seeded())
        chosen.append(row)
    assert max(pruned) > 0.2


def test_the_bound_of_a_divergence_by_the_chi_square():
    """f(largest q / p) chi-square(q | p) <= KL(q | p) <= f(least q / p) chi-square(q | p)."""
    q, p = (torch.rand(2000, 4, generator=seeded(), dtype=torch.float64) for _ in range(2))
    p = torch.cat([p[:1000], q[1000:] * (1 + 1e-3 * p[1000:])])  # near ones too
    q, p = q / q.sum(1, keepdim=True), p / p.sum(1, keepdim=True)
    divergence, chi = (q * (q / p).log()).sum(1), ((q - p).square() / p).sum(1)
    assert bool((divergence <= share((q / p).amin(1)) * chi * (1 + 1e-5)).all())
    assert bool((divergence >= share((q / p).amax(1)) * chi * (1 - 1e-5)).all())
    ends = share(torch.tensor([0.0, 1.0, 1e6]))
    assert ends.tolist() == pytest.approx([1, 0.5, 0], abs=2e-5)
    r = torch.linspace(0, 2, 4001, dtype=torch.float64)
    assert bool((share(r).diff() <= 2e-6).all())


@every_fixture
@pytest.mark.parametrize("memory", [2**8, 2**12])
def test_memory_changes_nothing(fixture, memory):
    pool, targets = fixture(n=30)
    want = batch_epig(pool, targets, 3, seeded()).tolist()
    assert batch_epig(pool, targets, 3, seeded(), memory=memory).tolist() == want


@pytest.mark.parametrize("fixture", [noisy, confident, linear])  # with sharp all is known: ties
def test_names_and_order_decide_nothing(fixture):
    pool, targets = fixture(n=30)
    want = batch_epig(pool, targets, 4, seeded()).tolist()
    moved, members = torch.randperm(30, generator=seeded(1)), torch.randperm(S, generator=seeded())
    got = batch_epig(pool[moved][:, members].flip(-1), targets.flip(0)[:, members], 4, seeded())
    # the candidates' classes are renamed, the targets' are not: information sees neither
    assert moved[got].tolist() == want


def test_few_samples_estimate_without_bias():
    pool, targets = linear(seed=5)
    rows = [0, 3, 5, 7, 9]
    want = float(joint_epig(pool[rows], targets, seeded()))
    draws = [float(joint_epig(pool[rows], targets, seeded(s), samples=12)) for s in range(300)]
    mean = torch.tensor(draws)
    assert abs(float(mean.mean()) - want) < 4 * float(mean.std()) / 300**0.5 + 1e-6


@pytest.mark.parametrize("samples", [1, 5])
def test_never_a_duplicate(samples):
    pool, targets = confident(n=20)
    for k in (7, 20):
        got = batch_epig(pool, targets, k, seeded(), samples=samples).tolist()
        assert len(set(got)) == k


def test_a_long_shortlist_searches_all():
    """Exact at N = shortlist, and above it while the configurations are few."""
    for fixture in (noisy, confident, linear):
        pool, targets = fixture(n=40)
        want = batch_epig(pool, targets, 5, seeded(), shortlist=10**6).tolist()
        assert batch_epig(pool, targets, 5, seeded(), shortlist=40).tolist() == want
        few = batch_epig(pool, targets, 2, seeded(), samples=120, shortlist=1)  # 40 x 3 pairs
        assert few.tolist() == want[:2]


@every_fixture
@pytest.mark.parametrize("samples", [8, 128])
def test_a_shortlist_keeps_the_information(fixture, samples):
    pool, targets = fixture(n=200)
    whole = batch_epig(pool, targets, 8, seeded(), samples=samples)
    short = batch_epig(pool, targets, 8, seeded(), samples=samples, shortlist=20)
    again = batch_epig(pool, targets, 8, seeded(), samples=samples, shortlist=20)
    assert short.tolist() == again.tolist()
    assert len(set(short.tolist())) == 8
    got, want = (float(joint_epig(pool[rows], targets, seeded())) for rows in (short, whole))
    assert got >= 0.95 * want


@every_fixture
def test_a_shortlist_of_one_leaves_none_out(fixture):
    pool, targets = fixture(n=120)
    assert batch_epig(pool, targets, 120, seeded(), samples=4, shortlist=1).unique().numel() == 120


@pytest.mark.parametrize("fixture", [noisy, confident, linear])
def test_order_decides_nothing_above_the_shortlist(fixture):
    pool, targets = fixture(n=60)
    want = batch_epig(pool, targets, 5, seeded(), shortlist=6).tolist()
    moved = torch.randperm(60, generator=seeded(1))
    got = batch_epig(pool[moved], targets, 5, seeded(), shortlist=6)
    assert moved[got].tolist() == want


def test_probabilities_near_zero_leave_finite_bounds():
    logits = 90 * torch.randn(40, S, 3, generator=seeded())
    pool = logits.log_softmax(-1).clamp_min(-torch.finfo(torch.float32).max)
    for state in (
        _Configurations.none(S, pool.device),
        _Configurations(torch.ones(1).double(), torch.tensor([[1.0, 1e-38, 0.0, 1e-20]]), True),
    ):
        items, beliefs = _Items(pool, 2**28), Targets(pool[:5], 2**28).under(state)
        rows = torch.arange(40)
        bounds, _ = beliefs.bounds(items, rows)
        gains = beliefs.gains(items, rows)
        assert bool(bounds.isfinite().all() and gains.isfinite().all())
        assert bool((gains <= bounds).all())


def test_one_member_or_agreed_members_leave_nothing_to_learn():
    pool, targets = noisy(n=9)
    for a, b in ((pool[:, :1], targets[:, :1]), (pool, targets[:, :1].expand(-1, S, -1))):
        assert float(joint_epig(a, b, seeded())) == pytest.approx(0, abs=1e-6)
        picks = {batch_epig(a, b, 1, seeded(seed)).item() for seed in range(60)}
        assert len(picks) > 6  # all are alike: drawn


def test_equal_items_are_drawn_and_a_copy_is_worth_less():
    pool, targets = linear(n=6)
    copies = pool.repeat(4, 1, 1)
    first = {batch_epig(copies, targets, 1, seeded(s)).item() for s in range(60)}
    assert len({row % 6 for row in first}) == 1
    assert len(first) == 4
    single = measures.epig(pool.exp(), targets.exp())
    pair = float(joint_epig(pool[[0, 0]], targets, seeded()))
    assert float(single[0]) < pair < 2 * float(single[0])


# Gaussian answers.


def gaussian(n=10, members=6, seed=0):
    draw = seeded(seed)
    features, weights = (torch.randn(m, 4, generator=draw) for m in (n + T, members))
    return (features @ weights.T).double().split([n, T])


def dense(mean, targets, rows, noise, target_noise):
    """½ (log det K_BB + log k_tt - log det of both), mean over targets."""
    deviations = torch.cat([mean, targets])
    deviations = deviations - deviations.mean(1, keepdim=True)
    spread = torch.cat([noise, target_noise])
    covariance = deviations @ deviations.T / mean.shape[1] + spread.diag()
    values = []
    for t in range(len(mean), len(deviations)):
        one, both = torch.tensor(rows), torch.tensor([*rows, t])
        logs = [torch.linalg.slogdet(covariance[i][:, i])[1] for i in (one, both)]
        values.append(0.5 * float(logs[0] + covariance[t, t].log() - logs[1]))
    return sum(values) / len(values)


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("level", [0.01, 1.0])
@pytest.mark.parametrize("members", [3, 40])
def test_gaussian_greedy_equals_determinants(seed, level, members):
    mean, targets = gaussian(seed=seed, members=members)
    noise, other = (level * (0.5 + torch.rand(n, generator=seeded(seed)).double()) for n in (10, T))
    picks = []
    while len(picks) < 5:
        rest = [row for row in range(10) if row not in picks]
        picks.append(max(rest, key=lambda r: dense(mean, targets, [*picks, r], noise, other)))
    got = regression_batch_epig(mean, targets, 5, seeded(), noise=noise, target_noise=other)
    assert got.tolist() == picks
    single = measures.regression_epig(mean[..., None], targets[..., None], noise, other)
    assert picks[0] == int(single.argmax())
    assert float(single[3]) == pytest.approx(dense(mean, targets, [3], noise, other), abs=1e-9)


def test_gaussian_limits():
    mean, targets = gaussian()
    flat = mean[:, :1].expand(-1, 6)
    picks = {
        regression_batch_epig(m, targets, 1, seeded(s), noise=1.0, target_noise=1.0).item()
        for s in range(60)
        for m in (flat,)
    }
    assert len(picks) > 6
    for level in (0.0, 1e-12):  # noiseless: known after as many picks as there are members
        got = regression_batch_epig(mean, targets, 10, seeded(), noise=level, target_noise=0.1)
        assert sorted(got.tolist()) == list(range(10))
    for unit in (1e-3, 1e3):
        given = {"noise": 0.3 * unit**2, "target_noise": 0.3 * unit**2}
        got = regression_batch_epig(unit * mean, unit * targets, 5, seeded(), **given)
        want = regression_batch_epig(mean, targets, 5, seeded(), noise=0.3, target_noise=0.3)
        assert got.tolist() == want.tolist()


# The strategies.


@pytest.mark.parametrize("name", ["batch-epig", "regression-batch-epig"])
@pytest.mark.parametrize("fixture", FIXTURES)
def test_strategies_begin_as_their_single_ones_and_ignore_order(name, fixture):
    strategy, single = build(name), build(name.replace("batch-", ""))
    for seen in (world(fixture), unlabelled(world(fixture))):
        moved = seen.index[torch.randperm(30, generator=seeded(3))]
        for k in (1, 6, 30):
            assert chosen(strategy, seen, k) == chosen(strategy, seen, k, index=moved)
        if fixture != "ties":
            assert chosen(strategy, seen, 1) == chosen(single, seen, 1)
    few = type(strategy)(targets=4)
    assert chosen(few, seen, 6) == chosen(few, seen, 6, index=moved)


def test_given_targets_and_predicted_noise():
    seen = world("clumped")
    items = [*seen.index[[3, 5]].tolist(), *seen.labelled[[0, 4]].tolist()]
    strategy = BatchEPIG(targets=items)
    probs = seen.predictions.probs
    order = seen.index.sort().values
    want = batch_epig(probs[order].log(), probs[torch.tensor(items)].log(), 3, seeded())
    got = strategy.choose(seen.pool(strategy), 3, seeded()).index
    assert got.tolist() == order[want].tolist()
    strategy = RegressionBatchEPIG(targets=items, aleatoric=True)
    mean, spread = seen.predictions.mean[..., 0], seen.predictions.variance.mean((1, 2)).double()
    at = torch.tensor(items)
    given = {"noise": spread[order], "target_noise": spread[at]}
    want = regression_batch_epig(mean[order], mean[at], 3, seeded(), **given)
    got = strategy.choose(seen.pool(strategy), 3, seeded()).index
    assert got.tolist() == order[want].tolist()
    check_strategy(RegressionBatchEPIG(aleatoric=True, noise=0.5))
    check_strategy(BatchEPIG(targets=3, samples=4))
    check_strategy(BatchEPIG(targets=3, samples=8, shortlist=4))


def test_items_that_are_not_finite_come_last():
    for name in ("batch-epig", "regression-batch-epig"):
        seen, strategy = world("clumped"), build(name)
        bad = seen.index[[2, 5]]

        def spoil(value, bad=bad):
            value[bad] = torch.nan
            return value

        spoiled = seen.changed(spoil)
        assert set(chosen(strategy, spoiled, 30)[-2:]) == {2, 5}


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (lambda p, t: batch_epig(p, t[:, :2], 1, seeded()), "of the members"),
        (lambda p, t: batch_epig(p, t[:0], 1, seeded()), "T >= 1"),
        (lambda p, t: batch_epig(p, t.exp(), 1, seeded()), "sum to 1"),
        (lambda p, t: batch_epig(p, t, 13, seeded()), "cannot acquire 13 of 12"),
        (lambda p, t: batch_epig(p, t, 1, seeded(), samples=0), "samples >= 1"),
        (lambda p, t: batch_epig(p, t, 12, seeded(), pending=torch.tensor([1])), "1 are pending"),
        (lambda p, t: batch_epig(p, t, 1, seeded(), shortlist=0), "shortlist >= 1"),
        (lambda p, t: BatchEPIG(samples=0), "at least 1"),
        (lambda p, t: BatchEPIG(shortlist=0), "shortlist is at least 1"),
        (lambda p, t: BatchEPIG(targets=0), "at least 1"),
        (
            lambda p, t: regression_batch_epig(
                p[..., 0], t[:0, :, 0], 1, seeded(), noise=1.0, target_noise=1.0
            ),
            "T >= 1",
        ),
        (
            lambda p, t: BatchEPIG().choose(_with_places(), 1, seeded()),
            "cannot serve items with places",
        ),
    ],
)
def test_errors_say_the_mend(wrong, says):
    with pytest.raises(ValueError, match=says):
        wrong(*noisy())


def _with_places():
    seen = world("clumped")
    probs = torch.stack([seen.predictions.probs] * 2, -1)
    return replace(seen, predictions=replace(seen.predictions, probs=probs)).pool(BatchEPIG())
