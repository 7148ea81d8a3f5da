"""EPIG against brute force, its bounds and limits, and where its targets come from."""

import math
from dataclasses import replace

import pytest
import torch

from lightning_al import measures
from lightning_al.records import Acquisition, Context, Pool, Predictions
from lightning_al.scores import epig as acquisition
from lightning_al.strategies import EPIG, RegressionEPIG, build, resolve
from lightning_al.testing import World, check_strategy

N, T, S, C = 11, 7, 5, 3


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def probabilities(seed, n=N, scale=2.0, dtype=torch.float64):
    drawn = torch.randn(n, S, C, generator=seeded(seed), dtype=dtype)
    return (scale * drawn).softmax(-1)


def means(seed, n=N, members=S, dtype=torch.float64):
    return torch.randn(n, members, 1, generator=seeded(seed), dtype=dtype)


def plain_epig(members, targets):
    """Mean over targets of sum_{y, y*} J log(J / (p(y) p(y*))), in plain Python."""
    total = 0.0
    for other in targets:
        for y in range(C):
            for z in range(C):
                joint = sum(p[y] * q[z] for p, q in zip(members, other, strict=True)) / S
                p_y, p_z = (sum(p[c] for p in of) / S for of, c in ((members, y), (other, z)))
                total += joint * math.log(joint / (p_y * p_z)) if joint > 0 else 0.0
    return total / len(targets)


def plain_regression_epig(own, targets, noise):
    total = 0.0
    for other in targets:
        a, b = (sum(v) / len(v) for v in (own, other))
        shared = sum((x - a) * (y - b) for x, y in zip(own, other, strict=True)) / len(own)
        left = sum((x - a) ** 2 for x in own) / len(own) + noise
        right = sum((y - b) ** 2 for y in other) / len(own) + noise
        total -= 0.5 * math.log(1 - shared**2 / (left * right))
    return total / len(targets)


# Classification.


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_epig_equals_plain_python(seed):
    probs, targets = probabilities(seed), probabilities(seed + 10, T)
    want = [plain_epig(p, targets.tolist()) for p in probs.tolist()]
    assert measures.epig(probs, targets).tolist() == pytest.approx(want, rel=1e-9)


def test_epig_agrees_with_draws_of_both_labels():
    """Mean of log p(y, y*) / p(y) p(y*) with a member drawn, then y and y* under it."""
    probs, targets, draws = probabilities(0, 3), probabilities(1, 1), 100_000
    who = torch.randint(S, (draws,), generator=seeded(2))
    theirs = torch.multinomial(targets[0, who], 1, generator=seeded(3)).squeeze(1)
    for row, got in enumerate(measures.epig(probs, targets).tolist()):
        own = torch.multinomial(probs[row, who], 1, generator=seeded(4)).squeeze(1)
        joint = probs[row].T @ targets[0] / S
        log_ratio = (joint / (probs[row].mean(0)[:, None] * targets[0].mean(0))).log()
        sample = log_ratio[own, theirs]
        assert abs(got - float(sample.mean())) < 4 * float(sample.std()) / math.sqrt(draws)


@pytest.mark.parametrize("block", [1, 40, 300, 10**6])
def test_epig_does_not_depend_on_its_blocks(block, monkeypatch):
    probs, targets = probabilities(0), probabilities(1, T)
    mean, others = means(0), means(1, T)
    whole = measures.epig(probs, targets), measures.regression_epig(mean, others, 0.1, 0.2)
    monkeypatch.setattr(acquisition, "_CPU_BLOCK", block)
    torch.testing.assert_close(measures.epig(probs, targets), whole[0])
    torch.testing.assert_close(measures.regression_epig(mean, others, 0.1, 0.2), whole[1])


def test_no_block_is_larger_than_its_budget(monkeypatch):
    largest = []
    monkeypatch.setattr(acquisition, "_CPU_BLOCK", 90)
    real = acquisition.p_log_p
    monkeypatch.setattr(
        acquisition, "p_log_p", lambda p: largest.append(p.numel()) or real(p), raising=True
    )
    measures.epig(probabilities(0, 50), probabilities(1, 40))
    assert max(largest[:-2]) <= 90  # the last two are the marginals, [N, C] and [T, C]


@pytest.mark.parametrize("scale", [0.1, 2.0, 60.0])
def test_epig_is_at_most_bald_and_never_negative(scale):
    """y - member - y* is a chain: what y says of y* it says of the member (data processing)."""
    probs = probabilities(0, 200, scale, torch.float32)
    got = measures.epig(probs, probabilities(1, 20, scale, torch.float32))
    assert bool((got >= 0).all())
    assert bool((got <= measures.bald(probs) + 1e-5).all())
    assert float(got.max()) <= measures.BOUNDS["epig"](S, C)[1]


def test_epig_is_symmetric_in_candidate_and_target():
    probs, targets = probabilities(0, 1), probabilities(1, 1)
    torch.testing.assert_close(measures.epig(probs, targets), measures.epig(targets, probs))


def test_epig_of_members_told_apart_is_log_s():
    """Each member is sure of a class of its own: the label names the member, and so the other."""
    apart = torch.eye(C, dtype=torch.float64)[None]
    assert float(measures.epig(apart, apart)) == pytest.approx(math.log(C))


def test_limits_of_epig():
    probs, targets = probabilities(0), probabilities(1, T)
    one = measures.epig(probs[:, :1], targets[:, :1])
    assert one.tolist() == pytest.approx([0] * N, abs=1e-12)
    agreed = measures.epig(probs, targets[:, :1].expand(-1, S, -1))
    assert agreed.tolist() == pytest.approx([0] * N, abs=1e-12)
    certain, uniform = torch.eye(C)[:, None].expand(C, S, C), torch.full((2, S, C), 1 / C)
    for own in (certain, uniform):
        for other in (certain, uniform):
            got = measures.epig(own, other)
            assert got.tolist() == pytest.approx([0] * len(own), abs=1e-6)  # and no NaN


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_epig_in_single_precision(dtype):
    probs, targets = probabilities(0).to(dtype), probabilities(1, T).to(dtype)
    got = measures.epig(probs, targets)
    assert got.dtype == torch.float32
    want = measures.epig(probs.double(), targets.double())
    torch.testing.assert_close(got.double(), want, atol=2e-6, rtol=0)


def test_epig_ignores_order_and_names_and_keeps_nan_to_its_item():
    probs, targets = probabilities(0), probabilities(1, T)
    want = measures.epig(probs, targets)
    moved, others = torch.randperm(N, generator=seeded()), torch.randperm(T, generator=seeded())
    members = torch.randperm(S, generator=seeded(1))
    got = measures.epig(probs[moved][:, members], targets[others][:, members].flip(-1))
    torch.testing.assert_close(got, want[moved])
    probs[4, 1] = torch.nan
    assert measures.epig(probs, targets).isnan().nonzero().flatten().tolist() == [4]
    assert measures.epig(probs[:0], targets).shape == (0,)


# Regression.


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_regression_epig_equals_plain_python(seed):
    mean, targets = means(seed), means(seed + 10, T)
    others = targets.squeeze(-1).tolist()
    want = [plain_regression_epig(m, others, 0.3) for m in mean.squeeze(-1).tolist()]
    got = measures.regression_epig(mean, targets, 0.3, 0.3)
    assert got.tolist() == pytest.approx(want, rel=1e-9)
    spread = torch.full((N,), 0.3), torch.full((T,), 0.3)
    torch.testing.assert_close(measures.regression_epig(mean, targets, *spread).double(), got)


def test_regression_epig_of_many_members_is_the_information_between_two_gaussians():
    """H[y] + H[y*] - H[y, y*] by the determinant, members drawn from a known joint Gaussian."""
    covariance = torch.tensor([[2.0, 1.2], [1.2, 1.5]], dtype=torch.float64)
    draws = torch.randn(200_000, 2, generator=seeded(), dtype=torch.float64)
    drawn = draws @ torch.linalg.cholesky(covariance).T
    noisy = covariance + 0.5 * torch.eye(2, dtype=torch.float64)
    want = 0.5 * math.log(float(noisy.diagonal().prod() / torch.linalg.det(noisy)))
    mean = drawn.T[:, :, None]
    got = float(measures.regression_epig(mean[:1], mean[1:], 0.5, 0.5))
    assert got == pytest.approx(want, rel=0.02)


def test_regression_epig_is_at_most_the_information_on_the_function():
    mean, noise = means(0, 100), torch.full((100, S, 1), 0.2, dtype=torch.float64)
    got = measures.regression_epig(mean, means(1, 20), 0.2, 0.2)
    assert bool((got >= 0).all())
    assert bool((got <= measures.regression_bald(mean, noise)).all())


def test_limits_of_regression_epig():
    mean = means(0)
    assert measures.regression_epig(mean[:, :1], mean[:, :1], 0.1, 0.1).tolist() == [0] * N
    assert measures.regression_epig(mean, mean[:1] * 0, 0.0, 0.0).tolist() == [0] * N  # no NaN
    assert measures.regression_epig(mean, mean[:1], 0.0, 0.0)[0] > 15  # the noiseless self
    single = measures.regression_epig(mean.float(), mean.float(), 0.1, 0.1)
    assert single.dtype == torch.float32
    want = measures.regression_epig(mean, mean, 0.1, 0.1)
    torch.testing.assert_close(single.double(), want, atol=2e-6, rtol=0)
    mean[2] = torch.nan
    got = measures.regression_epig(mean, mean[:2], 0.1, 0.1)
    assert got.isnan().nonzero().flatten().tolist() == [2]


def test_units_and_direction_of_the_target_do_not_matter():
    strategy, world = build("regression-epig"), World.make("regression", samples=4)
    scores = []
    for unit in (1.0, -1e4):
        scaled = world.changed(lambda v, u=unit: v * u)
        context = replace(world.context, targets=world.context.targets * unit)
        pool = replace(scaled, context=context).pool(strategy)
        scores.append(strategy.choose(pool, 17, seeded()).scores)
    torch.testing.assert_close(scores[0], scores[1])


# The strategies and their targets.


def by_item(made: Acquisition):
    return dict(zip(made.index.tolist(), made.scores.tolist(), strict=True))


def close(got, want):
    assert got.keys() == want.keys()
    assert list(got.values()) == pytest.approx([want[item] for item in got], abs=2e-6)


def test_targets_are_all_candidates_where_the_pool_is_small():
    world, strategy = World.make("classification", samples=S), build("epig")
    got = strategy.choose(world.pool(strategy), 17, seeded())
    probs = world.predictions.probs[world.index]
    want = measures.epig(probs, probs)
    close(by_item(got), dict(zip(world.index.tolist(), want.tolist(), strict=True)))
    assert got.scores.tolist() == sorted(got.scores.tolist(), reverse=True)
    assert got.notes == {"targets": 17}


def test_drawn_targets_come_from_the_generator():
    world, strategy = World.make("classification", samples=S), EPIG(targets=4)
    pool = world.pool(strategy)
    scores = [by_item(strategy.choose(pool, 17, seeded(seed))) for seed in (0, 0, 1)]
    assert scores[0] == scores[1]
    assert scores[0] != scores[2]
    mean = torch.zeros(17)
    draws = 600
    for seed in range(draws):
        found = by_item(strategy.choose(pool, 17, seeded(seed)))
        mean += torch.tensor([found[i] for i in world.index.tolist()]) / draws
    probs = world.predictions.probs[world.index]
    torch.testing.assert_close(mean, measures.epig(probs, probs), atol=0.02, rtol=0.05)


@pytest.mark.parametrize("given", [list, tuple, torch.tensor])
def test_given_targets_are_found_among_candidates_and_labelled(given):
    world = World.make("classification", samples=4)  # the one that the kit will use
    items = [*world.index[[3, 5]].tolist(), *world.labelled[[0, 4]].tolist()]
    strategy = resolve({"name": "epig", "targets": given(items)})
    got = strategy.choose(world.pool(strategy), 17, seeded())
    probs = world.predictions.probs
    want = measures.epig(probs[world.index], probs[torch.tensor(items)])
    close(by_item(got), dict(zip(world.index.tolist(), want.tolist(), strict=True)))
    assert got.notes == {"targets": 4}
    check_strategy(strategy)


def test_given_targets_of_regression_with_predicted_noise():
    world = World.make("regression", samples=4)
    items = [int(world.index[2]), *world.labelled.tolist()]
    strategy = RegressionEPIG(targets=items, aleatoric=True)
    got = strategy.choose(world.pool(strategy), 17, seeded())
    at = torch.tensor(items)
    mean, noise = world.predictions.mean, world.predictions.variance.mean((1, 2))
    want = measures.regression_epig(mean[world.index], mean[at], noise[world.index], noise[at])
    close(by_item(got), dict(zip(world.index.tolist(), want.tolist(), strict=True)))
    check_strategy(strategy)


FORMS = {
    "tensor": lambda x: x,
    "batches": lambda x: list(x.split(4)),
    "loader": lambda x: torch.utils.data.DataLoader(x, batch_size=3),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ["epig", "batch-epig", "regression-epig", "regression-batch-epig"])
def test_targets_may_be_inputs_of_any_kind(name, form):
    """Inputs of items that the run knows give what their positions give."""
    kind = "regression" if "regression" in name else "classification"
    world = World.make(kind, samples=4)
    items = [*world.index[:4].tolist(), *world.labelled[:3].tolist()]
    inputs = FORMS[form](world.inputs[items])
    by_inputs, by_place = build(name, inputs=inputs), build(name, targets=items)
    got, want = (s.choose(world.pool(s), 6, seeded()) for s in (by_inputs, by_place))
    assert got.index.tolist() == want.index.tolist()
    if want.scores is not None:
        torch.testing.assert_close(got.scores, want.scores, atol=1e-4, rtol=1e-3)
    assert by_inputs == build(name, inputs=FORMS[form](world.inputs[items]))
    assert by_inputs != build(name, inputs=FORMS[form](world.inputs[items] + 1))


def test_inputs_need_not_be_items_of_the_run():
    world = World.make("classification", samples=S)
    far = 3 * torch.randn(9, 5, generator=seeded(7))
    strategy = EPIG(inputs=far)
    pool = world.pool(strategy)
    probs = pool.bench.predict_inputs([far], ["probs"]).probs
    want = measures.epig(world.predictions.probs[world.index], probs)
    got = by_item(strategy.choose(pool, 17, seeded()))
    close(got, dict(zip(world.index.tolist(), want.tolist(), strict=True)))


@pytest.mark.parametrize("count", [1, 4, 9, 50])
def test_so_many_of_the_inputs_are_drawn(count):
    world = World.make("classification", samples=S)
    far = torch.randn(9, 5, generator=seeded(7))
    far[2] = torch.nan
    strategy = EPIG(count, inputs=far)
    made = [strategy.choose(world.pool(strategy), 3, seeded(s)) for s in range(6)]
    assert {m.notes["targets"] for m in made} == {min(count, 8)}  # never the one that is NaN
    assert len({tuple(m.scores.tolist()) for m in made}) > 1 or count >= 8


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"inputs": torch.zeros(0, 3)}, "no items"),
        ({"inputs": []}, "no items"),
        ({"inputs": "test.csv"}, "a DataLoader without labels.*got str"),
        ({"inputs": 7}, "got int"),
        ({"inputs": ["a"]}, "a batch of inputs is a tensor"),
        ({"inputs": torch.zeros(2, 3), "targets": [1, 2]}, "not both"),
    ],
)
def test_what_are_no_inputs(wrong, says):
    with pytest.raises(ValueError, match=says):
        EPIG(**wrong)


def test_inputs_that_are_all_nan():
    strategy = EPIG(inputs=torch.full((3, 5), torch.nan))
    with pytest.raises(ValueError, match="predictions of all inputs are NaN"):
        strategy.choose(World.make("classification", S).pool(strategy), 2, seeded())


def test_noise_is_a_share_of_the_variance_of_the_answers():
    world, strategy = World.make("regression", samples=S), build("regression-epig", noise=0.4)
    mean = world.predictions.mean[world.index]
    for targets in (world.context.targets, world.context.targets[:, 0], None, torch.ones(5)):
        spread = mean.var(correction=0)
        if targets is not None and float(targets.std()) > 0:
            spread = targets.var(correction=0)
        pool = replace(world, context=Context(targets=targets)).pool(strategy)
        want = measures.regression_epig(mean, mean, float(0.4 * spread), float(0.4 * spread))
        got = by_item(strategy.choose(pool, 17, seeded()))
        close(got, dict(zip(world.index.tolist(), want.tolist(), strict=True)))


def test_targets_out_of_reach_are_named():
    world = World.make("classification", samples=S)
    strangers = sorted(set(range(60)) - {*world.index.tolist(), *world.labelled.tolist()})[:3]
    strategy = EPIG(targets=strangers)
    with pytest.raises(ValueError, match="3 of 3 targets are neither candidates nor labelled"):
        strategy.choose(world.pool(strategy), 3, seeded())
    strategy = EPIG(targets=[int(world.index[0]), *strangers])
    with pytest.warns(UserWarning, match="left out: 3 of 4 targets"):
        got = strategy.choose(world.pool(strategy), 3, seeded())
    assert got.notes == {"targets": 1}


def test_an_item_that_says_nothing_of_the_targets_comes_last():
    """BALD likes an item whose members disagree; EPIG asks whether that helps elsewhere."""
    apart = torch.eye(2)[[0, 0, 1, 1]]  # members 0, 1 against 2, 3
    across = torch.eye(2)[[0, 1, 0, 1]]  # independent of that split
    probs = torch.stack([apart, across])
    pool = Pool(index=torch.arange(2), kept=Predictions(torch.arange(2), probs=probs))
    assert measures.bald(probs).tolist() == pytest.approx([math.log(2)] * 2)
    got = by_item(EPIG(targets=[0]).choose(pool, 2, seeded()))
    assert got == pytest.approx({0: math.log(2), 1: 0.0}, abs=1e-6)


def test_an_empty_pool_and_no_picks():
    for strategy in (build("epig"), build("regression-epig")):
        assert len(strategy.choose(Pool(index=torch.arange(0)), 0, seeded())) == 0


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (lambda: EPIG(targets=0), "at least 1"),
        (lambda: EPIG(targets=[]), "empty list"),
        (lambda: RegressionEPIG(noise=0.0), "share above 0"),
        (lambda: measures.epig(torch.ones(2, 3), torch.ones(2, 3, 2)), r"targets \[T, S, C\]"),
        (lambda: measures.epig(torch.ones(2, 3, 2), torch.ones(2, 4, 2)), "same members"),
        (lambda: measures.epig(torch.ones(2, 3, 2), torch.ones(0, 3, 2)), "at least one target"),
        (
            lambda: measures.regression_epig(torch.ones(2, 3, 2), torch.ones(2, 3, 2), 1, 1),
            "name it: output=0",
        ),
        (
            lambda: EPIG().choose(
                Pool(
                    torch.arange(2), kept=Predictions(torch.arange(2), probs=torch.ones(2, 3, 2, 4))
                ),
                1,
                seeded(),
            ),
            "for items with places use bald",
        ),
        (
            lambda: EPIG().choose(
                Pool(
                    torch.arange(2),
                    kept=Predictions(torch.arange(2), probs=torch.full((2, 3, 2), torch.nan)),
                ),
                1,
                seeded(),
            ),
            "predictions of all candidates are NaN",
        ),
    ],
)
def test_errors_say_the_mend(wrong, says):
    with pytest.raises(ValueError, match=says):
        wrong()
