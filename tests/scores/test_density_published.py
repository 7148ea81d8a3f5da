"""What BALSA's released code computes, and where that is not what it is called."""

import math

import pytest
import torch
from scipy.special import rel_entr
from scipy.stats import wasserstein_distance

from lightning_al.scores import density, density_published, density_samples

N, S, G = 6, 4, 400


def wide(low=-6.0, high=7.0, sigma=0.5, seed=0):
    """Gaussian members on evenly spaced nodes [G], with the weights of the trapezoid."""
    draw = torch.Generator().manual_seed(seed)
    mean = 0.5 + 0.4 * torch.randn(N, S, 1, generator=draw, dtype=torch.float64)
    std = sigma * torch.exp(0.2 * torch.randn(N, S, 1, generator=draw, dtype=torch.float64))
    nodes = torch.linspace(low, high, G, dtype=torch.float64)
    log = -0.5 * ((nodes - mean) / std).square() - std.log() - 0.5 * math.log(2 * math.pi)
    weights = torch.full((1, G), float(nodes[1] - nodes[0]), dtype=torch.float64)
    weights[:, [0, -1]] /= 2
    return log, weights


def step(weights):
    return float(weights[0, 1])


@pytest.mark.parametrize("name", ["kl_pairs", "kl_grid", "kl_diff"])
def test_where_the_nodes_cover_everything_a_sum_is_the_integral_without_its_step(name):
    log, weights = wide()
    found = getattr(density_published, name)(log, weights) * step(weights)
    torch.testing.assert_close(found, getattr(density, name)(log, weights), rtol=1e-4, atol=1e-6)


def test_there_entropies_and_the_grid_are_one_number_too():
    """KL Grid = BALD^H = S times the information, where every density is 1 on the nodes."""
    log, weights = wide()
    want = density.kl_grid(log, weights)
    torch.testing.assert_close(density_published.bald_entropy(log, weights), want)
    again = density_published.kl_grid_normalised(log, weights) * step(weights)
    torch.testing.assert_close(again, want, rtol=1e-4, atol=1e-6)


def test_the_published_window_tells_more_of_what_it_covers_than_of_disagreement():
    """Two Gaussians amid the window, and the same two left of it."""
    nodes = torch.linspace(0.1, 0.9, 200, dtype=torch.float64)
    weights = torch.full((1, 200), 0.8 / 199)
    mean = torch.tensor([[[0.5], [0.53]], [[0.0], [0.03]]])
    log = -0.5 * ((nodes - mean) / 0.04).square() - math.log(0.04 * math.sqrt(2 * math.pi))
    published = density_published.kl_grid(log, weights)
    assert float(published[1]) < 0.2 * float(published[0])
    assert float(density_published.kl_pairs(log, weights)[1]) < 0  # no divergence at all


def test_narrow_gaussians_underflow_and_come_first():
    log, weights = wide(0.1, 0.9, sigma=0.001)
    log, weights = log.float(), weights.float()
    for name in ("kl_pairs", "kl_grid", "bald_entropy"):
        assert bool((getattr(density_published, name)(log, weights) == torch.inf).all())
        assert bool(getattr(density, name)(log, weights).isfinite().all())


def test_differences_are_those_of_scipy():
    log, weights = wide()
    p = log.exp().numpy()
    want = [
        sum(
            float(rel_entr(one[j], one[j + 1]).sum() - rel_entr(one[j], one.mean(0)).sum())
            for j in range(S - 1)
        )
        for one in p
    ]
    found = density_published.kl_diff(log, weights)
    torch.testing.assert_close(found, torch.tensor(want, dtype=torch.float64))


def test_nflows_out_is_zero_and_the_information_is_not():
    log, weights = wide()
    none = density_published.nflows_out(log.float(), weights)
    torch.testing.assert_close(none, torch.zeros(N), rtol=0, atol=1e-4)
    assert bool((density.bald_entropy(log, weights) > 1e-3).all())


def test_sums_that_telescope():
    draw = torch.Generator().manual_seed(1)
    values = torch.randn(N, S, 64, 1, generator=draw, dtype=torch.float64)
    deviation = values.squeeze(-1).std(-1)
    found = density_published.bald_std(values)
    torch.testing.assert_close(found, deviation[:, -1] - deviation[:, 0])
    cross = torch.randn(N, S, S, 8, generator=draw, dtype=torch.float64)
    peak = cross.diagonal(0, 1, 2).amax(1)
    found = density_published.bald_least_confidence(cross)
    torch.testing.assert_close(found, peak[:, -1] - peak[:, 0])


def test_distance_of_values_drawn_is_that_of_scipy():
    draw = torch.Generator().manual_seed(2)
    values = torch.randn(N, S, 64, 1, generator=draw, dtype=torch.float64)
    far = [
        sum(wasserstein_distance(one[j, :, 0], one[j + 1, :, 0]) for j in range(S - 1))
        for one in values.numpy()
    ]
    found = density_published.pairs_distance(values)
    torch.testing.assert_close(found, torch.tensor(far, dtype=torch.float64))
    ranked = values.squeeze(-1).sort(-1).values
    torch.testing.assert_close(found, density_samples.pairs_distance(ranked))


def test_anomaly_by_loops():
    cross = torch.randn(2, 3, 3, 5, generator=torch.Generator().manual_seed(3)).double()
    for item, found in zip(cross.tolist(), density_published.kl_anomaly(cross), strict=True):
        q = [[math.exp(v) for v in item[(j + 1) % 3][j]] for j in range(3)]
        mean = [sum(column) / 3 for column in zip(*q, strict=True)]
        want = -sum(math.log(q[j][s] / mean[s]) for j in range(3) for s in range(5))
        assert float(found) == pytest.approx(want)
        assert float(found) >= 0


def test_geometric_entropy_and_entropy_by_loops():
    log, weights = wide()
    own = weights[0].tolist()

    def h(p):
        return -sum(w * v * math.log(v) for v, w in zip(p, own, strict=True) if v > 0)

    for row, item in enumerate(log.tolist()):
        middle = [math.exp(sum(column) / S) for column in zip(*item, strict=True)]
        members = [[math.exp(v) for v in one] for one in item]
        want = sum(h(members[j]) - h(middle) for j in range(S - 1))
        found = density_published.geometric_entropy(log[row : row + 1], weights)
        assert float(found) == pytest.approx(want)
        single = density_published.entropy(log[row : row + 1, :1], weights)
        assert float(single) == pytest.approx(h(members[0]))


def test_deviations_of_what_was_drawn():
    draw = torch.Generator().manual_seed(4)
    values = torch.randn(3, 1, 64, 2, generator=draw, dtype=torch.float64)
    want = values[:, 0].var(1).sum(-1).sqrt()
    torch.testing.assert_close(density_published.sample_std(values), want)


def test_the_likeliest_value_drawn_is_the_point_of_a_member():
    values = torch.tensor([[[[0.0], [5.0]], [[2.0], [7.0]]]])  # of two members
    cross = torch.zeros(1, 2, 2, 2)
    cross[0, 0, 0] = torch.tensor([1.0, 0.0])  # the first member's first value is its likeliest
    cross[0, 1, 1] = torch.tensor([0.0, 1.0])  # and the second member's second
    found = density_published.mode_spread(values, cross)
    assert float(found) == pytest.approx(torch.tensor([0.0, 7.0]).std())
