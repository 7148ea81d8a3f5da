"""Improvement, information and votes: closed forms against plain Python, quadrature and draws."""

import doctest
import itertools
import math
import statistics
from dataclasses import replace

import pytest
import torch

from lightning_al import measures
from lightning_al.records import Context, Pool, Predictions
from lightning_al.scores import regression as acquisition
from lightning_al.scores.regression import incumbent
from lightning_al.strategies import build, selection
from lightning_al.testing import World, check_strategy

N, S, C = 23, 5, 4
IMPROVEMENT = ("expected_improvement", "probability_of_improvement")
GAUSSIAN = ("upper_confidence_bound", *IMPROVEMENT, "regression_bald")
VOTES = ("variation_ratio", "mean_std")
NORMAL = statistics.NormalDist()
OPTIONS = [
    {"name": "ucb", "kappa": 2.0, "maximize": False, "aleatoric": True},
    {"name": "expected-improvement", "maximize": False},
    {"name": "expected-improvement", "form": "members", "aleatoric": True},
    {"name": "probability-of-improvement", "form": "members", "xi": 0.1, "output": 0},
    {"name": "thompson", "maximize": False},
    {"name": "thompson-per-item", "maximize": False, "output": 0},
    {"name": "regression-bald", "aleatoric": True},
    {"name": "softmax", "score": "expected-improvement"},
    {"name": "soft-rank", "score": "ucb", "beta": 3.0},
    {"name": "soft-rank", "score": {"name": "weighted-sum"}},
    {"name": "weighted-sum", "parts": ["ucb", "probability-of-improvement"]},
]


def fixture(seed, n=N, members=S, dtype=torch.float64):
    """Means and noise [n, S, 1] of some members."""
    drawn = torch.Generator().manual_seed(seed)
    mean = torch.randn(n, members, 1, generator=drawn, dtype=dtype)
    return mean, torch.rand(n, members, 1, generator=drawn, dtype=dtype) + 0.05


def probabilities(seed, n=N, members=S, scale=2.0, dtype=torch.float64):
    drawn = torch.Generator().manual_seed(seed)
    return (scale * torch.randn(n, members, C, generator=drawn, dtype=dtype)).softmax(-1)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def call(name, *values, **more):
    more = {"best": 0.4} | more if name in IMPROVEMENT else more
    return getattr(measures, name)(*values, **more)


def plain_moments(means, noises):
    centre = sum(means) / len(means)
    spread = sum((m - centre) ** 2 for m in means) / len(means)
    return centre, spread, sum(noises) / len(noises)


def plain_score(name, means, noises):
    """In plain Python, one item, without and with the members' noise."""
    centre, spread, noise = plain_moments(means, noises)
    both = []
    for total in (spread, spread + noise):
        std = math.sqrt(total)
        z = (centre - 0.4) / std
        both.append(
            {
                "upper_confidence_bound": centre + std,
                "expected_improvement": (centre - 0.4) * NORMAL.cdf(z) + std * NORMAL.pdf(z),
                "probability_of_improvement": NORMAL.cdf(z),
                "regression_bald": 0.5 * math.log(1 + total),
            }[name]
        )
    if name == "regression_bald":
        both[1] = 0.5 * math.log(1 + spread / noise)
    return both


def test_doctests():
    assert doctest.testmod(acquisition).failed == 0


# Regression.


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("name", GAUSSIAN)
def test_scores_of_regression_equal_plain_python(name, seed):
    mean, noise = fixture(seed)
    rows = zip(mean.squeeze(-1).tolist(), noise.squeeze(-1).tolist(), strict=True)
    want = torch.tensor([plain_score(name, *row) for row in rows], dtype=torch.float64)
    torch.testing.assert_close(call(name, mean), want[:, 0])
    torch.testing.assert_close(call(name, mean, noise), want[:, 1])


@pytest.mark.parametrize("xi", [0.0, 0.3])
@pytest.mark.parametrize("maximize", [True, False])
def test_improvement_is_the_integral_over_the_gaussian(xi, maximize):
    """E[relu(y - best - xi)] and P(y > best + xi), by the midpoint rule over +-10 deviations."""
    mean, noise = fixture(3, n=6)
    centre, std = mean.mean((1, 2)), measures.variance(mean, noise).sqrt()
    edges = torch.linspace(-10, 10, 200_001, dtype=torch.float64)
    z = (edges[1:] + edges[:-1]) / 2
    weight = torch.exp(-0.5 * z**2) / math.sqrt(2 * math.pi) * 1e-4
    y = centre[:, None] + std[:, None] * z
    gain = (y - 0.4 if maximize else 0.4 - y) - xi
    given = {"best": 0.4, "xi": xi, "maximize": maximize}
    got = measures.expected_improvement(mean, noise, **given)
    torch.testing.assert_close(got, gain.clamp_min(0) @ weight, atol=1e-7, rtol=1e-6)
    got = measures.probability_of_improvement(mean, noise, **given)
    torch.testing.assert_close(got, (gain > 0).double() @ weight, atol=1e-4, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_no_improvement_is_expected_to_be_below_zero(dtype):
    """However far below the incumbent: rounding in the sum of two terms shows there."""
    ahead = torch.linspace(-40, 0, 20_001, dtype=dtype)
    mean = ahead[:, None, None]
    found = measures.expected_improvement(mean, torch.ones_like(mean), best=0.0)
    assert (found >= 0).all()
    sure = measures.expected_improvement(mean, torch.zeros_like(mean), best=-20.0)
    torch.testing.assert_close(sure, (ahead + 20).clamp_min(0))


@pytest.mark.parametrize("form", ["gaussian", "members"])
@pytest.mark.parametrize("name", IMPROVEMENT)
def test_improvement_agrees_with_draws(name, form):
    mean, noise = fixture(4, n=5)
    draws = 100_000
    normal = torch.randn(5, draws, generator=seeded(1), dtype=torch.float64)
    if form == "gaussian":
        y = mean.mean((1, 2))[:, None] + measures.variance(mean, noise).sqrt()[:, None] * normal
    else:
        who = torch.randint(S, (5, draws), generator=seeded(2))
        y = mean.squeeze(-1).gather(1, who) + noise.squeeze(-1).gather(1, who).sqrt() * normal
    sample = (y - 0.4).clamp_min(0) if name == "expected_improvement" else (y > 0.4).double()
    error = sample.std(1) / math.sqrt(draws)
    got = call(name, mean, noise, form=form)
    assert bool(((got - sample.mean(1)).abs() < 4 * error).all())


def test_members_form_is_the_mean_over_members_of_what_they_say():
    mean, _ = fixture(0)
    means = mean.squeeze(-1).tolist()
    want = [sum(max(m - 0.5, 0) for m in row) / S for row in means]  # best 0.4 + xi 0.1
    got = call("expected_improvement", mean, form="members", xi=0.1)
    assert got.tolist() == pytest.approx(want)
    want = [sum(m > 0.5 for m in row) / S for row in means]
    got = call("probability_of_improvement", mean, form="members", xi=0.1)
    assert got.tolist() == pytest.approx(want)


@pytest.mark.parametrize("form", ["gaussian", "members"])
def test_without_deviation_only_the_lead_counts(form):
    same = torch.tensor([-1.0, 0.5, 1.0]).double()[:, None, None].expand(3, S, 1)
    given = {"form": form, "best": 0.5}
    assert call("expected_improvement", same, **given).tolist() == [0, 0, 0.5]
    assert call("probability_of_improvement", same, **given).tolist() == [0, 0, 1]
    nearly = same + 1e-9 * torch.randn(3, S, 1, generator=seeded(), dtype=torch.float64)
    got = call("expected_improvement", nearly, **given)
    assert got.tolist() == pytest.approx([0, 0, 0.5], abs=1e-8)
    logs = call("expected_improvement", same, **given, log=True)
    assert logs.tolist() == [-math.inf, -math.inf, pytest.approx(math.log(0.5))]
    one = fixture(0, members=1)[0]
    want = (one.squeeze() - 0.4).clamp_min(0)
    torch.testing.assert_close(call("expected_improvement", one, form=form), want)


@pytest.mark.parametrize("name", IMPROVEMENT)
def test_the_logarithm_is_that_of_the_value_and_goes_on_below_it(name):
    mean, noise = fixture(5)
    for form, given in itertools.product(("gaussian", "members"), ((mean, noise), (mean,))):
        want = call(name, *given, form=form).log()
        torch.testing.assert_close(call(name, *given, form=form, log=True), want)
    z = -torch.tensor([0.5, 1.5, 5.0, 30.0, 999.0, 1001.0, 1e4, 1e8], dtype=torch.float64)
    unit = torch.tensor([-1.0, 1.0], dtype=torch.float64)
    got = call(name, z[:, None, None] + unit[:, None], best=0.0, log=True)
    assert bool(got.isfinite().all())
    assert bool((got.diff() < 0).all())
    # phi(z) / z² (1 - 3/z²), and phi(z) / |z| (1 - 1/z²): the two sides of |z| = 1000 alike
    power, next_term = (2, 3) if name == "expected_improvement" else (1, 1)
    far = z[3:]
    want = -0.5 * far**2 - 0.5 * math.log(2 * math.pi) - power * far.abs().log()
    torch.testing.assert_close(got[3:], want + torch.log1p(-next_term / far**2), rtol=1e-7, atol=0)


@pytest.mark.parametrize("name", ["upper_confidence_bound", *IMPROVEMENT])
def test_minimising_is_maximising_the_negative(name):
    mean, noise = fixture(6)
    turned = {"best": -0.4} if name in IMPROVEMENT else {}
    want = call(name, -mean, noise, **turned)
    torch.testing.assert_close(call(name, mean, noise, maximize=False), want)


def test_ucb_without_kappa_is_the_mean_and_grows_by_the_deviation():
    mean, noise = fixture(7)
    zero, one, three = (
        measures.upper_confidence_bound(mean, noise, kappa=kappa) for kappa in (0, 1, 3)
    )
    torch.testing.assert_close(zero, measures.expected(mean))
    torch.testing.assert_close(one - zero, measures.variance(mean, noise).sqrt())
    torch.testing.assert_close(three - zero, 3 * (one - zero))


def test_a_larger_incumbent_or_xi_leaves_less_to_gain():
    mean, noise = fixture(8)
    for name in IMPROVEMENT:
        scores = [call(name, mean, noise, best=b, xi=xi) for b, xi in ((0, 0), (0, 1), (2, 0))]
        assert bool((scores[0] > scores[1]).all())
        assert bool((scores[1] > scores[2]).all())
        torch.testing.assert_close(scores[1], call(name, mean, noise, best=1))


def test_regression_bald_is_the_information_in_one_answer():
    """H[y] - H[y | f] for f ~ N(m, v), y ~ N(f, n): entropies of Gaussians by quadrature."""
    mean, noise = fixture(9, n=4)
    spread, own = mean.var((1, 2), correction=0), noise.mean((1, 2))

    def entropy(variance):
        y = torch.linspace(-12, 12, 100_001, dtype=torch.float64) * math.sqrt(variance)
        density = torch.exp(-0.5 * y**2 / variance) / math.sqrt(2 * math.pi * variance)
        return float(torch.trapezoid(-torch.special.xlogy(density, density), y))

    want = [entropy(float(v + n)) - entropy(float(n)) for v, n in zip(spread, own, strict=True)]
    assert measures.regression_bald(mean, noise).tolist() == pytest.approx(want, rel=1e-6)


def test_regression_bald_sums_over_outputs_and_has_its_limits():
    mean, noise = (torch.cat([a, 2 * a], -1) for a in fixture(10))
    parts = [measures.regression_bald(mean[..., d : d + 1], noise[..., d : d + 1]) for d in (0, 1)]
    torch.testing.assert_close(measures.regression_bald(mean, noise), sum(parts))
    assert measures.regression_bald(mean[:, :1], noise[:, :1]).tolist() == [0] * N
    silent = torch.zeros_like(mean)
    assert measures.regression_bald(mean, silent).isinf().all()
    assert measures.regression_bald(silent, silent).tolist() == [0] * N
    order = measures.regression_bald(mean[..., :1]).argsort()
    assert order.tolist() == measures.variance(mean[..., :1]).argsort().tolist()


@pytest.mark.parametrize("name", [*GAUSSIAN, *VOTES])
def test_half_single_and_double_precision_agree(name):
    values = (probabilities(0),) if name in VOTES else fixture(0)
    want = call(name, *values)
    single = call(name, *(v.float() for v in values))
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), want, atol=2e-6, rtol=1e-5)
    assert call(name, *(v.bfloat16() for v in values)).dtype == torch.float32


@pytest.mark.filterwarnings("ignore:.*degrees of freedom")  # of the variance of no items
@pytest.mark.parametrize("name", [*GAUSSIAN, *VOTES])
def test_items_and_members_may_come_in_any_order_and_nan_stays(name):
    values = (probabilities(1),) if name in VOTES else fixture(1)
    moved, members = torch.randperm(N, generator=seeded()), torch.randperm(S, generator=seeded())
    before = [v.clone() for v in values]
    want = call(name, *values)
    got = call(name, *(v[moved][:, members] for v in values))
    torch.testing.assert_close(got, want[moved])
    assert all(torch.equal(a, b) for a, b in zip(values, before, strict=True))
    values[0][3, 2] = torch.nan
    assert call(name, *values).isnan().nonzero().flatten().tolist() == [3]
    assert call(name, *(v[:0] for v in values)).shape == (0,)


@pytest.mark.parametrize("name", [*GAUSSIAN, *VOTES])
@pytest.mark.parametrize("scale", [0.1, 50.0])
def test_bounds(name, scale):
    if name in VOTES:
        values = (probabilities(2, n=400, scale=scale, dtype=torch.float32),)
    else:
        values = [scale * v for v in fixture(2, n=400, dtype=torch.float32)]
    low, high = measures.BOUNDS[name](S, C)
    score = call(name, *values)
    assert bool((score >= low).all())
    assert bool((score <= high + 1e-6).all())


# The incumbent.


def test_the_incumbent_is_the_best_answer():
    targets = torch.tensor([[1.0, 9.0], [4.0, 3.0], [-2.0, 5.0]])
    assert incumbent(targets, output=0) == 4
    assert incumbent(targets, maximize=False, output=1) == 3
    assert incumbent(torch.tensor([7, 8])) == 8


@pytest.mark.parametrize("what", ["expected", "probability-of"])
@pytest.mark.parametrize("maximize", [True, False])
def test_the_incumbent_reaches_the_score(what, maximize):
    """Against the maxima of answers far off: with best left at 0 the scores would be alike."""
    mean, _ = fixture(0, dtype=torch.float32)
    strategy = build(f"{what}-improvement", maximize=maximize, xi=0.2, form="members")
    batch = Predictions(torch.arange(N), mean=mean)
    measure = getattr(measures, f"{what}_improvement".replace("-", "_"))
    for targets in ([-5.0, 0.3], [[-0.3], [5.0]], [1, 2]):
        best = incumbent(torch.tensor(targets), maximize)
        want = measure(mean, best=best, xi=0.2, maximize=maximize, form="members")
        got = strategy.score(batch, Context(targets=torch.tensor(targets)))
        torch.testing.assert_close(got, want)


@pytest.mark.parametrize("name", ["expected-improvement", "probability-of-improvement"])
@pytest.mark.parametrize("targets", [None, torch.empty(0), torch.tensor([1.0, torch.nan])])
def test_without_an_incumbent_there_is_no_improvement(name, targets):
    batch = Predictions(torch.arange(N), mean=fixture(0)[0])
    with pytest.raises(ValueError, match="the incumbent is the best answer so far"):
        build(name).score(batch, Context(targets=targets))


# Strategies of regression.


@pytest.mark.parametrize("spec", OPTIONS, ids=str)
def test_options_conform(spec):
    check_strategy(spec)


@pytest.mark.parametrize(
    "name", ["ucb", "expected-improvement", "probability-of-improvement", "thompson-per-item"]
)
@pytest.mark.parametrize("unit", [1e-6, 1e6])
def test_units_of_the_target_do_not_matter(name, unit):
    strategy, world = build(name), World.make("regression", samples=4)
    scaled = world.changed(lambda v: v * unit)
    context = replace(world.context, targets=world.context.targets * unit)
    scaled = replace(scaled, context=context)
    one, two = (
        strategy.choose(w.pool(strategy), 6, seeded()).index.tolist() for w in (world, scaled)
    )
    assert one == two


def thompson_pool(mean):
    index = torch.arange(len(mean)) + 100
    return Pool(index=index, kept=Predictions(index, mean=mean))


@pytest.mark.parametrize("maximize", [True, False])
def test_thompson_takes_the_best_of_one_member(maximize):
    mean, _ = fixture(0)
    strategy, seen = build("thompson", maximize=maximize), set()
    for seed in range(40):
        got = strategy.choose(thompson_pool(mean), 4, seeded(seed))
        (member,) = got.notes["members"]
        own = mean[:, member, 0].tolist()
        best = sorted(range(N), key=own.__getitem__, reverse=maximize)[:4]
        assert (got.index - 100).tolist() == best
        sign = 1 if maximize else -1
        assert got.scores.tolist() == pytest.approx([sign * own[row] for row in best])
        seen.add(member)
    assert seen == set(range(S))


@pytest.mark.parametrize("maximize", [True, False])
def test_thompson_per_item_takes_the_best_left_of_a_member_each(maximize):
    mean, _ = fixture(1)
    strategy = build("thompson-per-item", maximize=maximize)
    for seed in range(10):
        got = strategy.choose(thompson_pool(mean), 9, seeded(seed))
        left, want = set(range(N)), []
        for member in got.notes["members"]:
            own = mean[:, member, 0].tolist()
            want.append((max if maximize else min)(left, key=own.__getitem__))
            left.remove(want[-1])
        assert (got.index - 100).tolist() == want
        assert len(set(got.notes["members"])) > 1


def test_thompson_looks_at_every_candidate():
    """Each column of the means decides by itself: an item best under no member is never taken."""
    mean = torch.zeros(N, S, 1)
    for member in range(S):
        mean[2 * member, member] = 1.0
    taken = {
        int(build("thompson").choose(thompson_pool(mean), 1, seeded(seed)).index)
        for seed in range(60)
    }
    assert taken == {100 + 2 * member for member in range(S)}


def test_thompson_chooses_members_evenly():
    mean, draws = fixture(0)[0], 1000
    got = [
        build("thompson").choose(thompson_pool(mean), 1, seeded(seed)).notes["members"][0]
        for seed in range(draws)
    ]
    error = math.sqrt(draws * (1 / S) * (1 - 1 / S))
    assert all(abs(got.count(m) - draws / S) < 4 * error for m in range(S))


# Votes and spread of classes.


def plain_votes(members):
    votes = [0.0] * C
    for p in members:
        best = [c for c in range(C) if p[c] == max(p)]
        for c in best:
            votes[c] += 1 / len(best)
    return 1 - max(votes) / len(members)


def plain_spread(members):
    columns = list(zip(*members, strict=True))
    return sum(statistics.pstdev(column) for column in columns) / C


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_votes_and_spread_equal_plain_python(seed):
    probs = probabilities(seed)
    for name, plain in (("variation_ratio", plain_votes), ("mean_std", plain_spread)):
        want = [plain(item) for item in probs.tolist()]
        assert call(name, probs).tolist() == pytest.approx(want)


def test_limits_of_votes_and_spread():
    one_hot, uniform = torch.eye(C)[:, None], torch.full((1, S, C), 1 / C)
    for name in VOTES:
        assert call(name, one_hot).tolist() == [0] * C  # one member
        assert call(name, one_hot.expand(C, S, C)).tolist() == [0] * C  # all agree
    assert call("variation_ratio", uniform).tolist() == [1 - 1 / C]
    assert call("mean_std", uniform).tolist() == [0]
    apart = torch.eye(C)[None]  # C members, each sure of a class of its own
    for name, value in (("variation_ratio", 1 - 1 / C), ("mean_std", math.sqrt(C - 1) / C)):
        assert float(call(name, apart)) == pytest.approx(value)
        assert measures.BOUNDS[name](C, C)[1] == pytest.approx(value)


# Soft rank.


def test_soft_rank_draws_with_odds_of_the_rank():
    scores, beta, draws = torch.tensor([0.3, 90.0, 0.31, -5.0]), 1.5, 6000
    odds = torch.tensor([3.0, 1.0, 2.0, 4.0]) ** -beta
    want = (odds / odds.sum()).tolist()
    drawn, generator = [0] * 4, seeded()
    for _ in range(draws):
        drawn[int(selection.soft_rank(scores, 1, generator, beta=beta))] += 1
    for count, p in zip(drawn, want, strict=True):
        assert abs(count - draws * p) < 4 * math.sqrt(draws * p * (1 - p))


def test_soft_rank_without_replacement_is_plackett_luce():
    scores, draws, generator = torch.tensor([3.0, 2.0, 1.0]), 6000, seeded(1)
    odds, count = [1, 1 / 2, 1 / 3], dict.fromkeys(itertools.permutations(range(3), 2), 0)
    for _ in range(draws):
        count[tuple(selection.soft_rank(scores, 2, generator).tolist())] += 1
    for (a, b), times in count.items():
        p = odds[a] / sum(odds) * odds[b] / (sum(odds) - odds[a])
        assert abs(times - draws * p) < 4 * math.sqrt(draws * p * (1 - p))


def test_soft_rank_looks_at_the_order_only_and_ends_in_top_k():
    scores = torch.randn(50, generator=seeded())
    for seed in range(5):
        one = selection.soft_rank(scores, 9, seeded(seed))
        assert one.tolist() == selection.soft_rank(scores.exp() * 7, 9, seeded(seed)).tolist()
    best = scores.argsort(descending=True)[:9]
    assert selection.soft_rank(scores, 9, seeded(), beta=1e6).tolist() == best.tolist()
    scores[best[0]] = torch.nan
    got = selection.soft_rank(scores, 50, seeded())
    assert int(got[-1]) == int(best[0])
    with pytest.raises(ValueError, match="soft_rank needs beta > 0"):
        selection.soft_rank(scores, 3, seeded(), beta=0)


# Errors.


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (lambda: call("mean_std", torch.ones(2, 3)), r"mean_std needs probs \[N, S, C\]"),
        (lambda: call("variation_ratio", torch.ones(2, 3)), r"probs\[:, None\]"),
        (lambda: call("expected_improvement", torch.ones(2, 3)), r"mean \[N, S, D\]"),
        (lambda: call("expected_improvement", torch.ones(2, 3, 2)), "D = 2; name it: output=0"),
        (lambda: call("upper_confidence_bound", torch.ones(2, 3, 2), output=2), "use 0 to 1"),
        (lambda: call("regression_bald", torch.ones(2, 3, 1), torch.ones(2, 3, 2)), "one shape"),
        (lambda: call("expected_improvement", torch.ones(2, 3, 1), form="mode"), "'members'"),
        (lambda: build("expected-improvement", form="mode"), "form is 'gaussian' or 'members'"),
        (lambda: build("ucb", kappa=-1), "use maximize=False"),
        (lambda: measures.upper_confidence_bound(torch.ones(2, 3, 1), kappa=-1), "at least 0"),
        (
            lambda: build("thompson").choose(thompson_pool(torch.ones(4, 3, 2)), 1, seeded()),
            "thompson ranks one output, got D = 2",
        ),
    ],
)
def test_errors_say_the_mend(wrong, says):
    with pytest.raises(ValueError, match=says):
        wrong()
