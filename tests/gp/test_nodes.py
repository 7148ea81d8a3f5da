"""Hyper-parameters integrated out by weighted nodes, against dense grids and closed forms."""

import math

import pytest
import torch

from lightning_al.gp import ExactGP, Prior, Stationary
from lightning_al.gp import nodes as module
from lightning_al.gp.nodes import equal_nodes, posterior_nodes

PRIORS = Prior(0.3, 0.5, 1e-2, 1e2), Prior(1.0, 1.0, 1e-2, 1e2), Prior(1e-2, 2.0, 1e-6)


def waves(n=8, d=1, seed=0):
    it = torch.Generator().manual_seed(seed)
    x = torch.rand(n, d, generator=it, dtype=torch.float64)
    return x, torch.sin(7 * x.sum(1)) + 0.15 * torch.randn(n, generator=it, dtype=torch.float64)


def by_grid(shape, x, y, sizes=(24, 15, 46), reach=4.5):
    """Logarithms [G, 3] on a dense grid of the prior's range, and the posterior's weights."""
    axes = [
        math.log(p.median) + p.sigma * torch.linspace(-reach, reach, size).double()
        for p, size in zip(PRIORS, sizes, strict=True)
    ]
    logs = torch.cartesian_prod(*axes)
    values = logs.exp()
    values[:, 2].clamp_(min=1e-6)
    kernel = Stationary(shape, values[:, :1], values[:, 1])
    many = len(values)
    gp = ExactGP.given(kernel, values[:, 2], x.expand(many, -1, -1), y.expand(many, -1))
    prior = sum(
        -0.5 * ((logs[:, i] - math.log(p.median)) / p.sigma).square() for i, p in enumerate(PRIORS)
    )
    return values.log(), (gp.log_evidence() + prior).softmax(0)


def moments(logs, weights):
    mean = weights @ logs
    return mean, (weights @ (logs - mean).square()).sqrt()


@pytest.mark.parametrize("shape", ["rbf", "matern52"])
@pytest.mark.parametrize("n", [1, 5, 12, 25])
def test_the_nodes_have_the_moments_of_a_dense_grid(shape, n):
    x, y = waves(n)
    values, weights = posterior_nodes(shape, PRIORS, x, y)
    assert values.shape == (len(weights), 3)
    assert float(weights.sum()) == pytest.approx(1)
    mean, spread = moments(values.log(), weights)
    wanted, wide = moments(*by_grid(shape, x, y))
    assert bool(((mean - wanted).abs() < 0.1 * wide + 0.02).all())
    assert bool(((spread / wide).log().abs() < 0.15).all())
    assert 1 / float(weights.square().sum()) > 30  # so many count


@pytest.mark.parametrize("d", [2, 7])
def test_more_points_change_little(d):
    x, y = waves(30, d)
    few, many = (
        moments((v := posterior_nodes("rbf", PRIORS, x, y, rounds=r))[0].log(), v[1])
        for r in (module.ROUNDS, (2048, 2048, 2048))
    )
    assert bool(((few[0] - many[0]).abs() < 0.35 * many[1]).all())


@pytest.mark.parametrize("rounds", [(64,), (64, 64), (32, 32, 32)])
def test_without_data_that_tell_it_is_the_prior(rounds):
    x, y = torch.zeros(1, 2).double(), torch.tensor([0.7]).double()
    values, weights = posterior_nodes("rbf", PRIORS, x, y, rounds=rounds)
    mean, spread = moments(values.log(), weights)  # one value says nothing of length scales
    assert mean[:2].tolist() == pytest.approx([math.log(0.3)] * 2, abs=0.1)
    assert spread[:2].tolist() == pytest.approx([0.5] * 2, abs=0.1)


def test_the_same_data_give_the_same_and_the_global_draws_are_left_alone(monkeypatch):
    x, y = waves(9, 2)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    values, weights = posterior_nodes("rbf", PRIORS, x, y)
    assert torch.equal(before, torch.get_rng_state())
    order = torch.randperm(9)
    again = posterior_nodes("rbf", PRIORS, x[order], y[order])
    torch.testing.assert_close(again[0], values)
    torch.testing.assert_close(again[1], weights)
    monkeypatch.setattr(module, "BLOCK", 200)  # two nodes at a time
    torch.testing.assert_close(posterior_nodes("rbf", PRIORS, x, y)[1], weights)
    shared, _ = posterior_nodes("rbf", PRIORS, x, y, ard=False)
    assert shared.shape[1] == 3


def test_values_stay_in_their_bounds_and_flat_priors_are_refused():
    x, y = waves(6)
    tight = Prior(0.3, 2.0, 0.2, 0.4), PRIORS[1], Prior(1e-3, 1.0, 1e-3, 1e-3)
    values, _ = posterior_nodes("rbf", tight, x, y)
    assert float(values[:, 0].min()) >= 0.2
    assert float(values[:, 0].max()) <= 0.4
    assert values[:, 2].unique().tolist() == pytest.approx([1e-3])
    with pytest.raises(ValueError, match="proper priors"):
        posterior_nodes("rbf", (Prior(0.3), *PRIORS[1:]), x, y)


@pytest.mark.parametrize("count", [1, 4, 64])
def test_equal_nodes_are_middles_of_equal_shares(count):
    it = torch.Generator().manual_seed(2)
    values = torch.rand(50, 4, generator=it).double() + 0.1
    weights = torch.rand(50, generator=it).double().pow(4)
    weights = weights / weights.sum()
    found = equal_nodes(values, weights, count)
    assert found.shape == (count, 4)
    ranked = sorted(range(50), key=lambda i: float(values[i, :2].log().mean()))
    for k in range(count):
        rest = (k + 0.5) / count
        for i in ranked:
            rest -= float(weights[i])
            if rest <= 0:
                break
        assert torch.equal(found[k], values[i])


def test_where_one_node_has_all_the_weight_it_is_taken():
    values = torch.tensor([[1.0, 1, 1], [2, 2, 2], [3, 3, 3]]).double()
    found = equal_nodes(values, torch.tensor([0.0, 1.0, 0.0]).double(), 5)
    assert found.tolist() == [[2, 2, 2]] * 5
