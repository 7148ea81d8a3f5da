"""Nodes and weights integrate what members say, wherever they say it."""

import math

import pytest
import torch

from lightning_al.densities import (
    GaussianDensity,
    MixtureDensity,
    Units,
    adaptive_grid,
    window_grid,
)
from lightning_al.readings import Density

N, G = 6, 200


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def gaussian(members=5, sigma=1.0, apart=1.0, units=None):
    mean = sigma * apart * draw(N, members, 1)
    return GaussianDensity(mean, sigma * (0.4 * draw(N, members, 1, seed=1)).exp(), units)


def integral(grid, values):
    return (grid.weights.unsqueeze(1) * values).sum(-1)


def kl(mean, std):
    """KL of member i from member j [n, i, j] in closed form."""
    m, s = mean[..., 0].double(), std[..., 0].double()
    ratio = (s[:, :, None] / s[:, None]).square()
    off = ((m[:, :, None] - m[:, None]) / s[:, None]).square()
    return 0.5 * (ratio + off - 1 - ratio.log())


@pytest.mark.parametrize("sigma", [0.001, 0.005, 0.05, 0.5])
@pytest.mark.parametrize("apart", [0.0, 0.3, 2.0])
def test_kl_of_gaussians_is_that_of_the_closed_form(sigma, apart):
    density = gaussian(5, sigma, apart)
    grid = adaptive_grid(density, G)
    assert all(bool(value.isfinite().all()) for value in (grid.log_density, grid.weights))
    p = grid.log_density.double().exp() * grid.weights.unsqueeze(1)
    ratio = grid.log_density[:, :, None].double() - grid.log_density[:, None].double()
    found = (p.unsqueeze(2) * ratio).sum(-1)
    torch.testing.assert_close(found, kl(density.loc, density.std), rtol=0.01, atol=2e-3)


@pytest.mark.parametrize("members", [1, 2, 5, 25])
@pytest.mark.parametrize("apart", [0.0, 1.0, 20.0])
def test_the_mass_of_the_mean_is_one(members, apart):
    grid = adaptive_grid(gaussian(members, apart=apart), G)
    mean = grid.log_density.exp().mean(1, keepdim=True)
    torch.testing.assert_close(integral(grid, mean), torch.ones(N, 1), rtol=0, atol=1e-4)
    assert grid.nodes.shape == (N, G)
    assert bool((grid.nodes.diff(dim=1) >= 0).all())
    assert bool((grid.weights >= 0).all())


def test_equal_members_share_an_even_grid():
    density = GaussianDensity(torch.zeros(1, 8, 1), torch.ones(1, 8, 1))
    grid = adaptive_grid(density, G)
    step = grid.nodes.diff(dim=1)
    torch.testing.assert_close(step, step.mean().expand_as(step), rtol=1e-4, atol=0)
    entropy = -integral(grid, grid.log_density.exp() * grid.log_density)
    wanted = torch.full((1, 8), 0.5 * math.log(2 * math.pi * math.e))
    torch.testing.assert_close(entropy, wanted, rtol=1e-3, atol=0)


def test_a_gap_between_modes_costs_no_mass():
    loc = torch.tensor([-1.0, 1.0]).reshape(1, 1, 2, 1)
    density = MixtureDensity(torch.zeros(1, 1, 2), loc, torch.full_like(loc, 0.001))
    grid = adaptive_grid(density, G)
    p = grid.log_density.exp()
    torch.testing.assert_close(integral(grid, p), torch.ones(1, 1), rtol=0, atol=1e-3)
    entropy = 0.5 * math.log(2 * math.pi * math.e) + math.log(0.001) + math.log(2)
    found = -float(integral(grid, p * grid.log_density))
    assert found == pytest.approx(entropy, abs=0.02)


def test_the_order_of_members_and_items_does_not_matter():
    density = gaussian(4)
    items, members = torch.randperm(N), torch.tensor([2, 0, 3, 1])
    moved = GaussianDensity(density.loc[items][:, members], density.std[items][:, members])
    # nodes are shifted from member to member, so an integral moves by the error of the rule
    entropies = [
        -integral(grid, grid.log_density.exp() * grid.log_density)
        for grid in (adaptive_grid(density, G), adaptive_grid(moved, G))
    ]
    torch.testing.assert_close(entropies[1], entropies[0][items][:, members], rtol=0, atol=5e-3)


@pytest.mark.parametrize(("a", "b"), [(2.0**10, 0.0), (2.0**-20, 2.0**5)])
def test_other_units(a, b):
    units = Units(torch.tensor([b]).double(), torch.tensor([a]).double())
    one, other = adaptive_grid(gaussian(3), G), adaptive_grid(gaussian(3, units=units), G)
    torch.testing.assert_close((other.nodes - b) / a, one.nodes, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(other.log_density, one.log_density - math.log(a))
    torch.testing.assert_close(other.weights / a, one.weights)


def test_a_window_is_even_and_the_same_for_all():
    units = Units(torch.tensor([10.0]).double(), torch.tensor([4.0]).double())
    density = gaussian(3, units=units)
    grid = window_grid(density, 81, (0.1, 0.9))
    assert float(grid.nodes[0, 0]) == pytest.approx(10.4)
    assert float(grid.nodes[-1, -1]) == pytest.approx(13.6)
    assert bool((grid.nodes == grid.nodes[0]).all())
    y = grid.nodes[..., None].transpose(0, 1)[:, :, None].expand(-1, -1, 3, -1)
    torch.testing.assert_close(grid.log_density, density.log_prob(y).permute(1, 2, 0))
    torch.testing.assert_close(grid.weights.sum(1), torch.full((N,), 3.2))
    assert float(grid.weights[0, 0]) == pytest.approx(float(grid.weights[0, 1]) / 2)


# --- what the reading makes of them --------------------------------------------------------------

ALL = ["log_density", "nodes", "weights", "quantiles", "density_samples", "cross_log_density"]
ALL += ["mean", "variance"]


def raw(n=N, members=3, d=1):
    return draw(n, members, 2 * d, seed=4)


def test_fields_of_a_gaussian():
    reading, given = Density(samples=16, quantiles=8, nodes=50), raw()
    fields = reading.fields(given, ALL)
    mean, std = given[..., :1], (0.5 * given[..., 1:]).exp()
    shapes = {name: tuple(value.shape) for name, value in fields.items()}
    assert shapes["log_density"] == (N, 3, 50)
    assert shapes["nodes"] == shapes["weights"] == (N, 50)
    assert shapes["cross_log_density"] == (N, 3, 3, 16)
    torch.testing.assert_close(fields["mean"].float(), mean)
    torch.testing.assert_close(fields["variance"].float(), std.square())
    normal = torch.distributions.Normal(mean, std)
    wanted = normal.log_prob(fields["nodes"].float().unsqueeze(1))
    torch.testing.assert_close(fields["log_density"], wanted, rtol=1e-5, atol=1e-5)
    levels = ((torch.arange(8) + 0.5) / 8).expand(N, 3, -1)
    torch.testing.assert_close(normal.cdf(fields["quantiles"].float()), levels)
    samples = fields["density_samples"].float()
    for i in range(3):
        for j in range(3):
            member = torch.distributions.Normal(mean[:, i], std[:, i])
            wanted = member.log_prob(samples[:, j, :, 0])
            cross = fields["cross_log_density"][:, i, j]
            torch.testing.assert_close(cross, wanted, rtol=1e-4, atol=1e-4)


def test_items_are_read_in_parts_without_a_trace(monkeypatch):
    given = raw(n=23)
    whole = Density().fields(given, ALL)
    monkeypatch.setattr("lightning_al.readings.density.AT_ONCE", 1000)
    parts = Density().fields(given, ALL)
    for name in ALL:
        torch.testing.assert_close(parts[name], whole[name])
    assert {name: value.shape[0] for name, value in Density().fields(raw(0), ALL).items()} == (
        dict.fromkeys(ALL, 0)
    )


def test_several_outputs_have_samples_and_no_grid():
    reading, given = Density(outputs=2, samples=8), raw(d=2)
    fields = reading.fields(given, ["density_samples", "cross_log_density", "mean"])
    assert fields["density_samples"].shape == (N, 3, 8, 2)
    assert fields["cross_log_density"].shape == (N, 3, 3, 8)
    for name in ("log_density", "nodes", "weights", "quantiles"):
        with pytest.raises(LookupError, match=r"predicts 2; take a strategy that needs density_sa"):
            reading.fields(given, [name])


def test_what_makes_no_sense_is_refused():
    with pytest.raises(ValueError, match="a function from outputs to a PredictiveDensity"):
        Density(given="poisson")
    with pytest.raises(ValueError, match="nodes must be 2 or more, got 1"):
        Density(nodes=1)
    with pytest.raises(ValueError, match="low < high"):
        Density(window=(1.0, 0.0))
    with pytest.raises(ValueError, match="twice as many outputs"):
        Density().fields(draw(4, 2, 3), ["mean"])
    with pytest.raises(ValueError, match="numbers of a density"):
        Density().fields(draw(4, 2), ["mean"])
    with pytest.raises(LookupError, match="needs \\['probs'\\]"):
        Density().fields(raw(), ["probs"])
    with pytest.raises(ValueError, match="outputs=…"):
        Density().check(raw(), torch.zeros(N, 3))
    Density().check(raw(), torch.zeros(N))
