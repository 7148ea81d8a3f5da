"""Densities are densities: mass 1, quantiles that invert, scores that are integrals, any unit."""

import math

import pytest
import torch
import zuko
from torch.distributions import Normal

from lightning_al.densities import (
    FlowDensity,
    GaussianDensity,
    MixtureDensity,
    PooledDensity,
    StackedDensity,
    Units,
    midpoints,
    pooled,
    sobol,
)
from lightning_al.densities.quantiles import solve

N, S = 3, 2
FLOWS = ["NSF", "MAF", "NAF", "SOSPF", "BPF", "GF"]


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def units(d, a=1.0, b=0.0):
    return Units(torch.full((d,), float(b)).double(), torch.full((d,), float(a)).double())


def gaussian(d, batch=(N, S), **more):
    return GaussianDensity(draw(*batch, d), 0.3 + draw(*batch, d, seed=1).abs(), **more)


def mixture(d, batch=(N, S), k=3, **more):
    loc, std = 2 * draw(*batch, k, d), 0.2 + draw(*batch, k, d, seed=1).abs()
    return MixtureDensity(draw(*batch, k, seed=2), loc, std, **more)


def flow(d, batch=(N, S), name="NSF", seed=0, **more):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        made = getattr(zuko.flows, name)(d, 4)
        with torch.no_grad():
            for p in made.parameters():
                p.add_(0.02 * torch.randn_like(p))
    context = draw(*batch, 4, seed=5)
    with torch.no_grad():
        return FlowDensity(made(context), context, **more)


def several(d, batch=(N, S), **more):
    parts = [flow(d, (*batch[:-1], batch[-1] // 2), seed=seed, **more) for seed in (1, 2)]
    return StackedDensity(parts)


def mixed(d, batch=(N,), **more):
    return PooledDensity(flow(d, (*batch, 3), **more))


MAKES = {"gaussian": gaussian, "mixture": mixture, "flow": flow, "stacked": several}
MAKES |= {"pooled": mixed}
KINDS = pytest.mark.parametrize("kind", MAKES)


def line(density, count=8001, reach=14.0):
    """Targets [count, *batch, 1] across all the mass, and their spacing."""
    z = torch.linspace(-reach, reach, count, dtype=torch.float64)
    y = density.units.target(z.reshape(-1, *(1 for _ in density.batch_shape), 1))
    shape = (-1, *density.batch_shape, density.outputs)
    return y.expand(shape), float(density.units.scale[0]) * float(z[1] - z[0])


@KINDS
@pytest.mark.parametrize(("a", "b"), [(1.0, 0.0), (2e4, 1e6), (1e-6, -3.0)])
def test_the_mass_is_one(kind, a, b):
    density = MAKES[kind](1, units=units(1, a, b))
    y, step = line(density)
    mass = density.log_prob(y).double().exp().sum(0) * step
    torch.testing.assert_close(mass, torch.ones_like(mass), rtol=0, atol=1e-4)


@KINDS
def test_the_mass_of_two_outputs_is_one(kind):
    density = MAKES[kind](2)
    z = torch.linspace(-10, 10, 81)
    both = torch.cartesian_prod(z, z).reshape(-1, *(1 for _ in density.batch_shape), 2)
    log_prob = density.log_prob(both.expand(-1, *density.batch_shape, 2))
    mass = log_prob.double().exp().sum(0) * float(z[1] - z[0]) ** 2
    torch.testing.assert_close(mass, torch.ones_like(mass), rtol=0, atol=1e-2)


@KINDS
def test_the_distribution_function_is_the_integral(kind):
    density = MAKES[kind](1)
    y, step = line(density)
    p = density.log_prob(y).double().exp()
    summed = (p.cumsum(0) - 0.5 * p) * step
    torch.testing.assert_close(density.cdf(y)[..., 0].double(), summed, rtol=0, atol=1e-4)


@KINDS
def test_quantiles_invert_the_distribution_function(kind):
    density = MAKES[kind](1, units=units(1, 3.0, 100.0))
    levels = torch.linspace(0.01, 0.99, 25).reshape(-1, *(1 for _ in density.batch_shape), 1)
    y = density.icdf(levels.expand(-1, *density.batch_shape, 1))
    assert bool((y.diff(dim=0) > 0).all())
    torch.testing.assert_close(density.cdf(y), levels.expand_as(y), rtol=0, atol=2e-6)
    again = density.icdf(density.cdf(y))
    torch.testing.assert_close(again, y, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("name", FLOWS)
def test_flows_are_inverted(name):
    density = flow(1, name=name)
    z = torch.linspace(-2, 2, 41)[:, None, None, None].expand(-1, N, S, 1)
    transform = density.flow.transform
    with torch.no_grad():
        atol = 1e-5 if name == "NSF" else 2e-3
        torch.testing.assert_close(transform.inv(transform(z)), z, rtol=0, atol=atol)
        assert bool((density.cdf(z).diff(dim=0) > 0).all())  # increasing, so it has quantiles


def test_the_slope_of_a_spline_is_that_of_autograd():
    density = flow(1)
    z = draw(50, 1, 1, 1).expand(-1, N, S, 1).clone().requires_grad_()
    out, slope = density.flow.transform.call_and_ladj(z)
    (taken,) = torch.autograd.grad(out.sum(), z)
    torch.testing.assert_close(slope, taken[..., 0].log(), rtol=0, atol=1e-4)
    far = torch.full((1, N, S, 1), 7.0)
    assert torch.equal(density.flow.transform(far), far)  # the identity beyond the box


@KINDS
def test_moments_are_integrals(kind):
    density = MAKES[kind](1, units=units(1, 2.0, 10.0))
    y, step = line(density)
    p = density.log_prob(y).double().exp() * step
    mean = (p * y[..., 0]).sum(0)
    variance = (p * (y[..., 0] - mean).square()).sum(0)
    torch.testing.assert_close(density.mean[..., 0], mean, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(density.variance[..., 0], variance, rtol=1e-2, atol=1e-3)


@KINDS
@pytest.mark.parametrize("d", [1, 2])
def test_draws_have_the_moments(kind, d):
    density = MAKES[kind](d, units=units(d, 3.0, -1.0))
    torch.manual_seed(0)
    random = density.sample((1000,))
    rule = density.pushed(sobol(256, density.width, density.like))
    for drawn, share in ((random, 5 / 1000**0.5), (rule, 0.03)):
        assert drawn.shape[1:] == (*density.batch_shape, d)
        off = (drawn.mean(0) - density.mean).abs() / density.stddev
        assert bool((off < share).all())
        torch.testing.assert_close(drawn.std(0), density.stddev, rtol=0.15, atol=0.1)


@KINDS
@pytest.mark.parametrize("d", [1, 2])
def test_a_crps_is_its_integral(kind, d):
    density = MAKES[kind](d)
    y = density.units.target(1.5 * draw(*density.batch_shape, d, seed=8))
    points, step = line(density, count=4001)
    off = density.cdf(points).double() - (points >= y).double()
    wanted = off.square().sum(0) * step
    torch.testing.assert_close(density.crps(y).double(), wanted, rtol=0.01, atol=5e-3)


@pytest.mark.parametrize("kind", ["gaussian", "mixture"])
def test_an_exact_crps_is_the_limit_of_a_sorted_sample(kind):
    density = MAKES[kind](1)
    y = 1.5 * draw(N, S, 1, seed=8)
    by_quantiles = super(type(density), density).ranked(y)
    torch.testing.assert_close(density.ranked(y), by_quantiles, rtol=0, atol=2e-3)
    sample = density.sample((3000,)).float()
    within = (sample[:1500] - sample[1500:]).abs().mean(0)
    ensemble = (sample - y).abs().mean(0) - 0.5 * within
    torch.testing.assert_close(density.ranked(y), ensemble, rtol=0, atol=0.08)


@KINDS
@pytest.mark.parametrize("d", [1, 2])
@pytest.mark.parametrize(("a", "b"), [(4.0, 0.0), (2.0**-20, 1.0), (2.0**20, 2.0**40)])
def test_other_units_change_what_they_must(kind, d, a, b):
    one, other = MAKES[kind](d), MAKES[kind](d, units=units(d, a, b))
    z = draw(*one.batch_shape, d, seed=3).double()
    y = a * z + b
    wanted = one.log_prob(z) - d * math.log(a)
    torch.testing.assert_close(other.log_prob(y), wanted, rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(other.cdf(y), one.cdf(z), rtol=0, atol=1e-5)
    torch.testing.assert_close(other.crps(y), a * one.crps(z), rtol=1e-4, atol=1e-5 * a)
    torch.testing.assert_close((other.median - b) / a, one.median, rtol=0, atol=1e-4)
    torch.testing.assert_close((other.mean - b) / a, one.mean, rtol=0, atol=1e-4)
    torch.testing.assert_close(other.variance, a * a * one.variance, rtol=1e-6, atol=0)


@pytest.mark.parametrize("make", [gaussian, mixture, flow])
@pytest.mark.parametrize("d", [1, 2])
def test_members_are_pooled_evenly(make, d):
    members = make(d, (N, 4))
    one = pooled(members)
    y = draw(N, d, seed=4)
    each = members.log_prob(y.unsqueeze(1).expand(-1, 4, -1))
    torch.testing.assert_close(one.log_prob(y), each.logsumexp(1) - math.log(4))
    cdf = members.cdf(y.unsqueeze(1).expand(-1, 4, -1)).mean(1)
    torch.testing.assert_close(one.cdf(y), cdf)
    torch.testing.assert_close(one.mean, members.mean.mean(1), rtol=1e-5, atol=1e-5)
    total = members.variance.mean(1) + members.mean.var(1, correction=0)
    torch.testing.assert_close(one.variance, total, rtol=1e-5, atol=1e-5)
    assert one.batch_shape == (N,)


def test_stacked_members_come_in_turns():
    parts = [gaussian(1, (N, 2)), GaussianDensity(5 + draw(N, 2, 1), torch.ones(N, 2, 1))]
    density = StackedDensity(parts)
    assert density.batch_shape == (N, 4)
    mean = torch.stack([parts[0].mean, parts[1].mean], 2).flatten(1, 2)
    assert torch.equal(density.mean, mean)
    y = draw(7, N, 4, 1)
    for s in range(4):
        one = parts[s % 2]
        wanted = one.log_prob(y[:, :, s : s + 1].expand(-1, -1, 2, -1))[:, :, s // 2]
        assert torch.equal(density.log_prob(y)[:, :, s], wanted)


def test_a_component_alone_is_a_gaussian():
    loc, std = draw(N, S, 1), 0.5 + draw(N, S, 1, seed=1).abs()
    one = MixtureDensity(draw(N, S, 1), loc.unsqueeze(2), std.unsqueeze(2))
    other, y = GaussianDensity(loc, std), draw(N, S, 1, seed=2)
    for name in ("log_prob", "cdf", "crps"):
        torch.testing.assert_close(getattr(one, name)(y), getattr(other, name)(y))
    levels = torch.rand(9, N, S, 1)
    torch.testing.assert_close(one.icdf(levels), other.icdf(levels), rtol=0, atol=1e-5)
    points = sobol(16, 2, loc)
    torch.testing.assert_close(one.pushed(points), other.pushed(points[:, 1:]))


@pytest.mark.parametrize("apart", [0.0, 1.0, 30.0, 1e4])
@pytest.mark.parametrize("std", [1e-3, 1.0])
def test_quantiles_of_far_components(apart, std):
    loc = torch.tensor([-apart, apart])[None, :, None].double()
    density = MixtureDensity(torch.tensor([[0.3, 0.7]]).log().double(), loc, 0 * loc + std)
    levels = torch.tensor([1e-5, 0.1, 0.29, 0.31, 0.5, 0.99999]).double()[:, None, None]
    y = density.icdf(levels)
    torch.testing.assert_close(density.cdf(y), levels, rtol=0, atol=1e-8)


def test_the_solver_ends_where_a_curve_is_flat():
    def steps(y):
        return (y > 0.5).double() * 0.5 + (y > 2).double() * 0.5, torch.zeros_like(y)

    low, high = torch.tensor([0.0, 0.0]).double(), torch.tensor([4.0, 4.0]).double()
    found = solve(steps, torch.tensor([0.25, 0.75]).double(), low, high)
    torch.testing.assert_close(found, torch.tensor([0.5, 2.0]).double(), rtol=0, atol=1e-5)


def test_log_densities_stay_finite_far_outside():
    density = GaussianDensity(torch.zeros(1, 1), torch.full((1, 1), 1e-3))
    y = torch.tensor([[[0.0]], [[1.0]], [[-50.0]]])
    wanted = Normal(0.0, 1e-3).log_prob(y[..., 0])
    torch.testing.assert_close(density.log_prob(y), wanted)
    assert bool(density.log_prob(y).isfinite().all())
    assert bool(flow(1).log_prob(torch.full((1, N, S, 1), 80.0)).isfinite().all())


def test_rules_of_quadrature():
    assert torch.equal(midpoints(4, torch.zeros(1)), -midpoints(4, torch.zeros(1)).flip(0))
    points = sobol(64, 3, torch.zeros(1))
    assert torch.equal(points, sobol(64, 3, torch.zeros(1)))
    for column in points.t():  # one point in each of 64 equal parts of every axis
        assert sorted((column * 64).long().tolist()) == list(range(64))
