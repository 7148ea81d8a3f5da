"""Scores of densities against closed forms, brute force, SciPy, and each other."""

import doctest
import math

import pytest
import torch
from scipy.stats import wasserstein_distance

from lightning_al.scores import density, density_gaussian, density_grid, density_samples
from lightning_al.scores.numerics import p_log_p

N, S, G = 7, 5, 200
GRID_SCORES = (
    "kl_pairs",
    "kl_all_pairs",
    "kl_grid",
    "kl_diff",
    "bald_entropy",
    "bald_least_confidence",
    "reverse_information",
    "entropy",
    "least_confidence",
    "log_density_spread",
)
OF_DISAGREEMENT = GRID_SCORES[:7]
OF_ANY_ORDER = tuple(n for n in GRID_SCORES if n not in ("kl_pairs", "kl_diff"))


def normal(mean, std, nodes):
    """log-densities [..., G] of Gaussians [...] at nodes [..., G] or [G]."""
    z = (nodes - mean.unsqueeze(-1)) / std.unsqueeze(-1)
    return -0.5 * z.square() - std.log().unsqueeze(-1) - 0.5 * math.log(2 * math.pi)


def trapezoid(nodes):
    step = nodes.diff(dim=-1)
    weights = torch.zeros_like(nodes)
    weights[..., 1:] += step / 2
    weights[..., :-1] += step / 2
    return weights


def gaussians(sigma, seed=0, n=N, members=S, dtype=torch.float64):
    """Members' means and deviations [n, S] about sigma wide, and a grid for them."""
    draw = torch.Generator().manual_seed(seed)
    mean = 0.5 + sigma * torch.randn(n, members, generator=draw, dtype=torch.float64)
    std = sigma * torch.exp(0.3 * torch.randn(n, members, generator=draw, dtype=torch.float64))
    low, high = (mean - 9 * std).amin(1), (mean + 9 * std).amax(1)
    nodes = low[:, None] + (high - low)[:, None] * torch.linspace(0, 1, 3 * G)
    nodes = nodes.to(torch.float64)
    log = normal(mean, std, nodes[:, None])
    return mean, std, log.to(dtype), trapezoid(nodes).to(dtype), nodes


def bumpy(dtype=torch.float64, seed=1, n=N, members=S, scale=2.0):
    """log-densities [n, S, G] of no shape in particular, and weights [n, G] of uneven nodes."""
    draw = torch.Generator().manual_seed(seed)
    log = scale * torch.randn(n, members, 40, generator=draw, dtype=torch.float64)
    nodes = torch.rand(n, 40, generator=draw, dtype=torch.float64).sort(-1).values
    return log.to(dtype), trapezoid(nodes).to(dtype)


def kl(p, q, weights):
    return sum(w * a * math.log(a / b) for a, b, w in zip(p, q, weights, strict=True))


def brute(name, log, weights):
    """Plain loops over one item's members, from normalised densities."""
    rows = []
    for values in log.tolist():
        p = [math.exp(v) for v in values]
        mass = sum(w * v for w, v in zip(weights, p, strict=True))
        rows.append([v / mass for v in p])
    members = len(rows)
    mean = [sum(column) / members for column in zip(*rows, strict=True)]
    h = [-sum(w * v * math.log(v) for v, w in zip(r, weights, strict=True)) for r in [*rows, mean]]
    pairs = [(i, j) for i in range(members) for j in range(members) if i != j]
    following = [kl(rows[j], rows[j + 1], weights) for j in range(members - 1)]
    if name == "kl_pairs":
        return sum(following)
    if name == "kl_all_pairs":
        return sum(kl(rows[i], rows[j], weights) for i, j in pairs) / len(pairs)
    if name == "kl_grid":
        return sum(kl(row, mean, weights) for row in rows)
    if name == "kl_diff":
        return sum(following) - sum(kl(row, mean, weights) for row in rows[:-1])
    if name == "bald_entropy":
        return h[-1] - sum(h[:-1]) / members
    if name == "bald_least_confidence":
        return math.log(sum(map(max, rows)) / members / max(mean))
    if name == "reverse_information":
        return sum(kl(mean, row, weights) for row in rows) / members
    if name == "entropy":
        return h[-1]
    if name == "least_confidence":
        return -math.log(max(mean))
    squares = [w * v * (math.log(v) + h[-1]) ** 2 for v, w in zip(mean, weights, strict=True)]
    return math.sqrt(sum(squares))


@pytest.mark.parametrize("module", [density, density_samples, density_gaussian])
def test_doctests(module):
    assert doctest.testmod(module, extraglobs={"torch": torch}).failed == 0


@pytest.mark.parametrize("name", GRID_SCORES)
def test_on_a_grid_as_brute_force(name):
    log, weights = bumpy()
    want = [brute(name, one, own.tolist()) for one, own in zip(log, weights, strict=True)]
    want = torch.tensor(want, dtype=torch.float64)
    torch.testing.assert_close(getattr(density, name)(log, weights), want)
    near = getattr(density, name)(log.float(), weights.float())
    torch.testing.assert_close(near.double(), want, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("name", GRID_SCORES)
def test_blocks_order_of_items_and_a_shared_grid_change_nothing(name, monkeypatch):
    score = getattr(density, name)
    log, weights = bumpy()
    whole = score(log, weights)
    moved = torch.randperm(N, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(score(log[moved], weights[moved]), whole[moved])
    monkeypatch.setattr(density_grid, "_CPU_BLOCK", 2 * S * 40)
    torch.testing.assert_close(score(log, weights), whole)
    one = weights[:1]
    torch.testing.assert_close(score(log, one), score(log, one.expand(N, -1)))


@pytest.mark.parametrize("name", OF_ANY_ORDER)
def test_the_order_of_the_members_does_not_matter(name):
    log, weights = bumpy()
    score = getattr(density, name)
    torch.testing.assert_close(score(log.flip(1), weights), score(log, weights))


@pytest.mark.parametrize("name", GRID_SCORES)
def test_a_common_factor_of_a_density_does_not_matter(name):
    """Members are normalised on the grid, so what they miss of the mass is no disagreement."""
    log, weights = bumpy()
    score = getattr(density, name)
    factor = torch.randn(N, S, 1, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    torch.testing.assert_close(score(log + factor, weights), score(log, weights))


@pytest.mark.parametrize("name", OF_DISAGREEMENT)
@pytest.mark.parametrize("members", [1, 2, 25])
def test_members_that_agree_score_zero(name, members):
    log, weights = bumpy(torch.float32)
    same = log[:, :1].expand(-1, members, -1)
    score = getattr(density, name)(same, weights)
    torch.testing.assert_close(score, torch.zeros(N), rtol=0, atol=2e-5)


@pytest.mark.parametrize("name", OF_DISAGREEMENT)
def test_disagreement_is_never_below_zero(name):
    log, weights = bumpy(torch.float32, n=400)
    if name != "kl_diff":
        assert bool((getattr(density, name)(log, weights) >= 0).all())
        near = log[:, :1] + 1e-4 * log
        assert bool((getattr(density, name)(near, weights) >= 0).all())


def test_grid_is_members_times_mutual_information():
    """KL Grid = BALD of entropy times S = S times the information estimated on a sum."""
    log, weights = bumpy(torch.float32)
    p = log.double().exp() * weights.double()[:, None]
    p = p / p.sum(-1, keepdim=True)
    information = (-p_log_p(p.mean(1)) + p_log_p(p).mean(1)).sum(-1)
    want = S * information
    torch.testing.assert_close(density.kl_grid(log, weights).double(), want, rtol=1e-4, atol=1e-6)
    bald = density.bald_entropy(log, weights)
    torch.testing.assert_close(density.kl_grid(log, weights), S * bald, rtol=1e-4, atol=1e-6)
    assert bool((bald <= math.log(S)).all())


def test_information_reverse_information_and_pairs():
    """Sum over all (i, j) of KL / S² = I + reverse I, and pairs are at least the information."""
    log, weights = bumpy()
    both = density.bald_entropy(log, weights) + density.reverse_information(log, weights)
    pairs = density.kl_all_pairs(log, weights)
    torch.testing.assert_close(both, pairs * (S - 1) / S)
    assert bool((pairs >= density.bald_entropy(log, weights)).all())


def test_consecutive_pairs_over_all_orders_are_the_mean_of_all_pairs():
    """The expectation of KL Pairs over the order of the members is S - 1 times all pairs."""
    log, weights = bumpy(members=3)
    orders = [(0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)]
    mean = sum(density.kl_pairs(log[:, list(order)], weights) for order in orders) / len(orders)
    torch.testing.assert_close(mean, 2 * density.kl_all_pairs(log, weights))


def test_a_member_apart_from_the_others_gives_all_there_is_to_know():
    log = torch.full((1, 4, 80), -torch.inf)
    for member in range(4):
        log[0, member, 20 * member : 20 * member + 20] = 0.0
    weights = torch.full((1, 80), 0.05)
    found = density.bald_entropy(log, weights)
    torch.testing.assert_close(found, torch.tensor([math.log(4)]))
    torch.testing.assert_close(
        density.bald_least_confidence(log, weights), torch.tensor([math.log(4)])
    )


# --- Gaussians: closed forms against the grid -------------------------------------------------

SIGMAS = (0.005, 0.02, 0.1, 0.5)


@pytest.mark.parametrize("sigma", SIGMAS)
def test_closed_divergences_are_those_of_the_grid(sigma):
    mean, std, log, weights, _ = gaussians(sigma, dtype=torch.float32)
    moments = mean.unsqueeze(-1), std.square().unsqueeze(-1)
    for closed, grid in (
        (density_gaussian.gaussian_kl_pairs, density.kl_pairs),
        (density_gaussian.gaussian_kl_all_pairs, density.kl_all_pairs),
    ):
        found = grid(log, weights)
        torch.testing.assert_close(found.double(), closed(*moments), rtol=1e-2, atol=1e-4)


@pytest.mark.parametrize("sigma", SIGMAS)
def test_closed_moments_and_entropy_are_those_of_the_grid(sigma):
    mean, std, log, weights, nodes = gaussians(sigma)
    found, spread = density.moments(log, nodes, weights)
    torch.testing.assert_close(found.squeeze(-1), mean, rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(spread.squeeze(-1), std.square(), rtol=1e-5, atol=0)
    one = density.entropy(log[:, :1], weights)
    closed = density_gaussian.gaussian_entropy(mean[:, :1, None], std[:, :1, None].square())
    torch.testing.assert_close(one, closed, rtol=1e-5, atol=1e-6)
    own = density.log_density_spread(log[:, :1], weights)
    half = torch.full((N,), 0.5**0.5, dtype=torch.float64)
    torch.testing.assert_close(own, half, rtol=1e-4, atol=0)
    peak = density.least_confidence(log[:, :1], weights)
    exact = (std[:, 0] * math.sqrt(2 * math.pi)).log()
    torch.testing.assert_close(peak, exact, rtol=0, atol=5e-3)


@pytest.mark.parametrize("sigma", [1e-3, 1e-6, 1e-12])
@pytest.mark.parametrize("name", GRID_SCORES)
def test_finite_however_narrow(name, sigma):
    """Also where the grid is the published window, and steps over most of the density."""
    draw = torch.Generator().manual_seed(0)
    mean, std = torch.rand(N, S, generator=draw), torch.full((N, S), sigma)
    nodes = torch.linspace(0.1, 0.9, G)
    score = getattr(density, name)(normal(mean, std, nodes), trapezoid(nodes)[None])
    assert bool(score.isfinite().all())


def test_nodes_that_fell_together_count_once():
    log, weights = bumpy()
    twice = log.repeat_interleave(2, -1)
    twice[..., 1::2] += 50.0  # what is said at a node without a weight is not heard
    none = torch.stack([weights, torch.zeros_like(weights)], -1).flatten(1)
    for name in GRID_SCORES:
        score = getattr(density, name)
        torch.testing.assert_close(score(twice, none), score(log, weights))


def test_what_is_not_a_number_stays_so():
    log, weights = bumpy()
    log[2, 1, 3] = torch.nan
    for name in GRID_SCORES:
        assert getattr(density, name)(log, weights).isnan().nonzero().tolist() == [[2]]


def test_moments_far_from_zero_lose_no_digits():
    mean, std, log, weights, nodes = gaussians(0.5)
    found, spread = density.moments(log, nodes + 2.0**30, weights)
    torch.testing.assert_close(found.squeeze(-1) - 2.0**30, mean, rtol=0, atol=1e-6)
    torch.testing.assert_close(spread.squeeze(-1), std.square(), rtol=1e-5, atol=0)


def test_members_moments_make_that_of_their_mixture():
    """The law of total variance, against the moments of the mean density."""
    mean, std, log, weights, nodes = gaussians(0.1)
    mixture = log.logsumexp(1, keepdim=True) - math.log(S)
    _, whole = density.moments(mixture, nodes, weights)
    variance = std.square().unsqueeze(-1)
    total = density_gaussian.mixture_std(mean.unsqueeze(-1), variance)
    torch.testing.assert_close(total, whole.flatten().sqrt(), rtol=1e-6, atol=0)
    excess = density_gaussian.bald_std(mean.unsqueeze(-1), variance)
    torch.testing.assert_close(excess, whole.flatten().sqrt() - std.mean(1), rtol=1e-5, atol=0)


def test_standard_deviation_adds_nothing_where_members_agree():
    mean = torch.randn(N, 1, 2).expand(N, S, 2)
    variance = torch.rand(N, 1, 2).expand(N, S, 2) + 0.1
    score = density_gaussian.bald_std(mean, variance)
    torch.testing.assert_close(score, torch.zeros(N), rtol=0, atol=1e-6)
    for name in ("gaussian_kl_pairs", "gaussian_kl_all_pairs", "gaussian_pairs_distance"):
        score = getattr(density_gaussian, name)(mean, variance)
        torch.testing.assert_close(score, torch.zeros(N), rtol=0, atol=1e-6)


def test_closed_pairs_of_several_outputs_as_brute_force():
    draw = torch.Generator().manual_seed(4)
    mean = torch.randn(N, S, 3, generator=draw, dtype=torch.float64)
    variance = torch.rand(N, S, 3, generator=draw, dtype=torch.float64) + 0.05
    both = torch.distributions.Normal(mean, variance.sqrt())

    def apart(i, j):
        one, other = (torch.distributions.Normal(both.loc[:, m], both.scale[:, m]) for m in (i, j))
        return torch.distributions.kl_divergence(one, other).sum(-1)

    pairs = [apart(i, j) for i in range(S) for j in range(S) if i != j]
    torch.testing.assert_close(
        density_gaussian.gaussian_kl_all_pairs(mean, variance), sum(pairs) / len(pairs)
    )
    following = sum(apart(j, j + 1) for j in range(S - 1))
    torch.testing.assert_close(density_gaussian.gaussian_kl_pairs(mean, variance), following)
    entropy = both.entropy().sum(-1).mean(1)
    torch.testing.assert_close(density_gaussian.gaussian_entropy(mean, variance), entropy)


def test_a_gaussian_without_a_width_is_refused():
    mean, variance = torch.zeros(1, 2, 1), torch.tensor([[[1.0], [0.0]]])
    with pytest.raises(ValueError, match="variances above 0, got 0; give the head a floor"):
        density_gaussian.gaussian_kl_pairs(mean, variance)


# --- quantiles ---------------------------------------------------------------------------------


def test_distance_of_sorted_values_is_that_of_scipy():
    draw = torch.Generator().manual_seed(5)
    values = torch.randn(4, 5, 64, generator=draw, dtype=torch.float64).sort(-1).values
    far = torch.tensor(
        [[[wasserstein_distance(a, b) for a in one] for b in one] for one in values.numpy()]
    )
    following = far.diagonal(1, 1, 2).sum(-1)
    torch.testing.assert_close(density_samples.pairs_distance(values), following)
    mean = far.sum((1, 2)) / (5 * 4)
    torch.testing.assert_close(density_samples.all_pairs_distance(values), mean)
    torch.testing.assert_close(density_samples.all_pairs_distance(values.flip(1)), mean)


def test_distance_of_gaussians_of_one_width_is_that_of_their_means():
    """Then the distances of Wasserstein agree, and are |mu_1 - mu_2|."""
    mean = torch.tensor([[0.0, 2.0, -1.0]], dtype=torch.float64)
    levels = (torch.arange(64, dtype=torch.float64) + 0.5) / 64
    quantiles = mean.unsqueeze(-1) + 0.3 * torch.special.ndtri(levels)
    torch.testing.assert_close(
        density_samples.pairs_distance(quantiles), torch.tensor([5.0], dtype=torch.float64)
    )
    variance = torch.full((1, 3, 1), 0.09, dtype=torch.float64)
    closed = density_gaussian.gaussian_pairs_distance(mean.unsqueeze(-1), variance)
    torch.testing.assert_close(closed, torch.tensor([5.0], dtype=torch.float64))


def test_distance_is_zero_where_members_agree_and_follows_the_unit():
    draw = torch.Generator().manual_seed(6)
    values = torch.randn(N, S, 16, generator=draw).sort(-1).values
    for score in (density_samples.pairs_distance, density_samples.all_pairs_distance):
        assert not bool(score(values[:, :1].expand(-1, S, -1)).any())
        assert not bool(score(values[:, :1]).any())
        torch.testing.assert_close(score(8 * values + 3), 8 * score(values), rtol=1e-5, atol=1e-5)


def test_values_in_no_order_are_refused():
    with pytest.raises(ValueError, match=r"ascending order; .*sort\(-1\)"):
        density_samples.pairs_distance(torch.tensor([[[1.0, 0.0], [0.0, 1.0]]]))


# --- values drawn ------------------------------------------------------------------------------


def drawn(sigma=1.0, members=S, values=4000, outputs=1, n=3, seed=7):
    """Gaussian members' cross log-densities [n, S, S, M] and the values [n, S, M, D]."""
    draw = torch.Generator().manual_seed(seed)
    mean = sigma * torch.randn(n, members, outputs, generator=draw, dtype=torch.float64)
    std = sigma * torch.exp(0.2 * torch.randn(n, members, outputs, generator=draw)).double()
    noise = torch.randn(n, members, values, outputs, generator=draw, dtype=torch.float64)
    y = mean.unsqueeze(2) + std.unsqueeze(2) * noise
    under = torch.distributions.Normal(mean[:, :, None, None], std[:, :, None, None])
    return under.log_prob(y[:, None]).sum(-1), y, mean, std


PAIRED = {
    "mutual_information": "bald_entropy",
    "sampled_kl_pairs": "kl_pairs",
    "sampled_kl_all_pairs": "kl_all_pairs",
    "sampled_entropy": "entropy",
    "sampled_log_density_spread": "log_density_spread",
    "sampled_least_confidence": "least_confidence",
}


@pytest.mark.parametrize("name", PAIRED)
def test_by_values_drawn_as_on_the_grid(name):
    cross, _, mean, std = drawn()
    nodes = torch.linspace(-12, 12, 2001, dtype=torch.float64)
    log = normal(mean.squeeze(-1), std.squeeze(-1), nodes)
    want = getattr(density, PAIRED[name])(log, trapezoid(nodes)[None])
    torch.testing.assert_close(getattr(density_samples, name)(cross), want, rtol=0.06, atol=0.03)


def test_anomaly_is_members_times_the_reverse_information():
    cross, _, mean, std = drawn(values=20_000)
    nodes = torch.linspace(-12, 12, 2001, dtype=torch.float64)
    log = normal(mean.squeeze(-1), std.squeeze(-1), nodes)
    want = S * density.reverse_information(log, trapezoid(nodes)[None])
    torch.testing.assert_close(density_samples.kl_anomaly(cross), want, rtol=0.06, atol=0.03)


@pytest.mark.parametrize("name", ["sampled_kl_pairs", "sampled_kl_all_pairs"])
def test_by_values_of_several_outputs_as_in_closed_form(name):
    cross, _, mean, std = drawn(outputs=3)
    closed = getattr(density_gaussian, name.replace("sampled", "gaussian"))
    want = closed(mean, std.square())
    torch.testing.assert_close(getattr(density_samples, name)(cross), want, rtol=0.06, atol=0.03)


def test_information_by_values_as_brute_force():
    cross, *_ = drawn(values=6, n=2)
    for item, found in zip(cross.tolist(), density_samples.mutual_information(cross), strict=True):
        total = 0.0
        for j in range(S):
            for m in range(6):
                mean = sum(math.exp(item[i][j][m]) for i in range(S)) / S
                total += item[j][j][m] - math.log(mean)
        assert float(found) == pytest.approx(max(0.0, total / (6 * S)), abs=1e-12)


def test_members_that_agree_have_no_information_in_what_is_drawn():
    cross = torch.randn(N, 1, S, 9).expand(N, S, S, 9)
    for name in ("mutual_information", "sampled_kl_pairs", "sampled_kl_all_pairs", "kl_anomaly"):
        score = getattr(density_samples, name)(cross)
        torch.testing.assert_close(score, torch.zeros(N), rtol=0, atol=1e-5)


def test_information_is_bounded_by_the_number_of_members():
    log, weights = bumpy(torch.float32, n=50, scale=30.0)
    assert bool((density.bald_entropy(log, weights) <= math.log(S) + 1e-5).all())
    cross = torch.full((1, S, S, 8), -1e35)
    cross.diagonal(0, 1, 2).fill_(0.0)
    score = density_samples.mutual_information(cross)
    torch.testing.assert_close(score, torch.tensor([math.log(S)]))


def test_sample_moments_and_points():
    _, y, mean, std = drawn(values=20_000, outputs=2)
    found, spread = density_samples.sample_moments(y)
    torch.testing.assert_close(found, mean, rtol=0, atol=0.05)
    torch.testing.assert_close(spread, std.square(), rtol=0.05, atol=0)
    want = mean.var(1, correction=0).sum(-1).sqrt()
    torch.testing.assert_close(density_samples.point_spread(mean), want)


def test_medians_lie_between_the_middle_quantiles():
    values = torch.tensor([[[0.0, 1.0, 3.0, 9.0], [0.0, 4.0, 6.0, 9.0]]])  # medians 2 and 5
    assert float(density_samples.median_spread(values)) == 1.5


@pytest.mark.parametrize("name", GRID_SCORES)
def test_few_odd_items_are_looked_at_again_and_the_others_are_as_they_were(name):
    """Far below what can be exponentiated, and without any mass at some nodes."""
    log, weights = bumpy(torch.float32)
    score = getattr(density, name)
    usual = score(log, weights)
    odd = log.clone()
    odd[1] -= 300.0
    odd[3] += 200.0
    torch.testing.assert_close(score(odd, weights), usual, rtol=1e-4, atol=1e-5)
    hole = log.clone()
    hole[2, 0, :5] = -torch.inf
    torch.testing.assert_close(score(hole, weights)[[0, 1, 3]], usual[[0, 1, 3]])
    assert bool(score(hole, weights).isfinite().all())


@pytest.mark.parametrize("name", GRID_SCORES)
def test_other_shapes_are_refused(name):
    score = getattr(density, name)
    with pytest.raises(ValueError, match=r"needs log_density \[N, S, G\], got \[3, 8\]; add"):
        score(torch.zeros(3, 8), torch.ones(3, 8))
    with pytest.raises(ValueError, match=r"weights of 8 nodes, \[3, 8\] or \[1, 8\], got \[8\]"):
        score(torch.zeros(3, 2, 8), torch.ones(8))
    with pytest.raises(ValueError, match=r"needs cross_log_density \[N, S, S, M\]"):
        density_samples.mutual_information(torch.zeros(3, 2, 8))


@pytest.mark.parametrize("name", GRID_SCORES)
def test_input_is_left_as_it_is(name):
    log, weights = bumpy()
    before = log.clone(), weights.clone()
    getattr(density, name)(log, weights)
    assert torch.equal(log, before[0])
    assert torch.equal(weights, before[1])


def test_no_items():
    for name in GRID_SCORES:
        assert getattr(density, name)(torch.zeros(0, S, 8), torch.ones(1, 8)).shape == (0,)
