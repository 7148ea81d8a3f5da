"""Targets in closed form and the worlds they are of, against Gaussian processes done slowly."""

import math

import pytest
import torch

from lightning_al.gp.exact import ExactGP
from lightning_al.policies import Batch, KernelPrior, SafetyPrior, Simulator, Streams
from lightning_al.policies.candidates.targets import Target
from lightning_al.policies.candidates.worlds import Known, World

CLOSE = {"rtol": 1e-7, "atol": 1e-9}


def anywhere(x, y, z):
    """Queries that fill the box, one after another."""
    step = torch.arange(1, x.shape[-1] + 1).to(x) * 0.618034 * x.shape[1]
    return torch.frac(step).expand(len(x), -1)


def played(dimension=2, safe=False, rows=3, queries=5, starts=2, flexible=False, seed=0):
    law = Simulator(
        dimension,
        queries,
        starts,
        Batch(rows, 1, 1),
        safety=SafetyPrior() if safe else None,
        draws="exact",
        flexible=flexible,
    )
    world = World.of(law, Streams.of(seed, 0))
    return world, world.play(anywhere)


def process(hyper, row, x, y):
    """The same process by :mod:`lightning_al.gp`, without its mean."""

    class Kernel:
        def __call__(self, a, b):
            away = (a[..., :, None, :] - b[..., None, :, :]) / hyper.lengthscale[row]
            return hyper.outputscale[row] * (-0.5 * away.square().sum(-1)).exp()

        def diagonal(self, a):
            return hyper.outputscale[row].expand(a.shape[:-1])

    return ExactGP.given(Kernel(), hyper.noise[row], x, y)


@pytest.mark.parametrize("count", [1, 4, 7])
@pytest.mark.parametrize("dimension", [1, 3])
def test_entropy_and_safety_are_those_of_the_process(dimension, count):
    world, asked = played(dimension, safe=True)
    g = torch.Generator().manual_seed(4)
    places = torch.rand(3, 6, dimension, generator=g, dtype=torch.float64)
    gamma = 0.03
    found = Target("entropy", gamma).of(world, asked).at(count, places)
    for row in range(3):
        x = asked.x[row, :count]
        _, variance = process(world.y, row, x, asked.y[row, :count]).moments(places[row])
        entropy = 0.5 * (variance + world.y.noise[row]).log()
        mean_z = world.z.take([row]).mean_at
        rest = asked.z[row, :count] - mean_z(x[None])[0]
        mean, spread = process(world.z, row, x, rest).moments(places[row])
        above = (mean + mean_z(places[row][None])[0]) / (spread + world.z.noise[row]).sqrt()
        tail = [0.5 * math.erfc(-float(a) / math.sqrt(2)) for a in above]
        safe = torch.tensor(tail, dtype=torch.float64)
        wanted = entropy - torch.log(1 - safe.clamp_max(1 - gamma) + 1e-5)
        torch.testing.assert_close(found[row], wanted, **CLOSE)


def test_mutual_information_is_what_a_grid_would_tell():
    """By conditioning on the grid beside the points; and never negative."""
    world, asked = played()
    places = torch.rand(3, 6, 2, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    target = Target("mutual", points=15)
    worth = target.of(world, asked)
    grid = worth.grid.x[:, :15]
    for count in (1, 5):
        found = worth.at(count, places)
        assert (found >= -1e-9).all()
        for row in range(3):
            x = asked.x[row, :count]
            sizes = []
            for points in (x, torch.cat([x, grid[row]])):
                of = process(world.y, row, points, torch.zeros(len(points)).double())
                sizes.append(0.5 * (of.moments(places[row])[1] + world.y.noise[row]).log())
            torch.testing.assert_close(found[row], sizes[0] - sizes[1], **CLOSE)


@pytest.mark.parametrize("given", [False, True])
def test_ivr_is_the_variance_that_asking_takes_away(given):
    """By really asking: the mean variance over the points, before and after."""
    world, asked = played()
    g = torch.Generator().manual_seed(4)
    places = torch.rand(3, 4, 2, generator=g, dtype=torch.float64)
    inputs = torch.rand(9, 2, generator=g, dtype=torch.float64) if given else None
    worth = Target("ivr", points=20).of(world, asked, inputs)
    if given:
        assert torch.cdist(worth.over, inputs).min(-1).values.max() == 0
    found = worth.at(4, places)
    for row in range(3):
        x, over = asked.x[row, :4], worth.over[row]
        of = process(world.y, row, x, asked.y[row, :4])
        before = of.moments(over)[1]
        for i, place in enumerate(places[row]):
            after = of.condition(place[None], torch.zeros(1).double()).moments(over)[1]
            wanted = 0.5 * (before - after).mean().log()
            torch.testing.assert_close(found[row, i], wanted, rtol=1e-5, atol=1e-6)


def test_a_length_for_each_function_is_the_lengths_one_by_one():
    for kind in ("entropy", "mutual", "ivr"):
        world, asked = played(safe=True)
        worth = Target(kind, points=8).of(world, asked)
        places = world.places("here", 5)
        counts = torch.tensor([1, 6, 3])
        found = worth.at(counts, places)
        for row, n in enumerate(counts.tolist()):
            torch.testing.assert_close(found[row], worth.at(n, places)[row], **CLOSE)


@pytest.mark.parametrize("kind", ["entropy", "mutual", "ivr"])
def test_targets_have_the_gradient_of_their_differences(kind):
    world, asked = played(safe=True)
    worth = Target(kind, points=8).of(world, asked)
    places = world.places("here", 3).requires_grad_()
    assert torch.autograd.gradcheck(lambda p: worth.at(4, p), (places,), atol=1e-5)


def test_limits():
    """Where it was measured often, nothing is left but noise; far away, all of it."""
    law = Simulator(1, 60, 1, Batch(1, 1, 1), draws="exact", prior=KernelPrior(fixed=[0.02]))
    world = World.of(law, Streams.of(0, 0))
    asked = world.play(lambda x, y, z: torch.full_like(x[:, 0], 0.2))
    worth = Target("entropy").of(world, asked)
    places = torch.tensor([[[0.2], [0.9]]], dtype=torch.float64)
    near, far = worth.at(61, places)[0]
    total = world.y.outputscale + world.y.noise
    torch.testing.assert_close(far, 0.5 * total.log()[0], **CLOSE)
    assert near < 0.5 * (world.y.noise[0] * (1 + 1 / 59)).log()
    assert near > 0.5 * world.y.noise[0].log()


def test_a_stricter_gamma_asks_for_more():
    """Between the two, more safety pays under the stricter one alone."""
    world, asked = played(safe=True, rows=40)
    places = world.places("here", 20)
    strict, lax = (Target("entropy", g).of(world, asked) for g in (0.005, 0.05))
    unsafe = strict.unsafe(4, places)
    gain = strict.at(4, places) - lax.at(4, places)
    assert (gain >= 0).all()
    torch.testing.assert_close(gain > 0, unsafe < 0.05)


def test_outcomes_are_draws_of_the_process():
    """Mean, variance and covariance of the outcomes at fixed places, over many functions."""
    law = Simulator(1, 3, 1, Batch(4000, 1, 1), draws="exact", prior=KernelPrior(fixed=[0.3]))
    world = World.of(law, Streams.of(1, 0))
    asked = world.play(lambda x, y, z: torch.full_like(x[:, 0], 0.2 * x.shape[1]))
    ask = asked.y[:, 1:]
    x = torch.tensor([[[0.2], [0.4], [0.6]]], dtype=torch.float64)
    wanted = (
        torch.eye(3) * 1.0001 + (1 - torch.eye(3)) * (-0.5 * (torch.cdist(x, x) / 0.3) ** 2).exp()
    )
    found = torch.cov(ask.T)
    assert (found - wanted[0]).abs().max() < 0.1  # the signal's variance is 0.96 to 1
    assert ask.mean(0).abs().max() < 0.06
    # what the walk says it knows is what is known of these outcomes
    again = Known.of(world.y, asked.x, asked.y)
    torch.testing.assert_close(again.white, asked.known.white, rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(again.inverse, asked.known.inverse, rtol=1e-6, atol=1e-6)


def test_safe_problems_start_in_the_middle_and_mostly_safe():
    _, asked = played(safe=True, rows=60, starts=5)
    first = asked.x[:, :5]
    assert first.min() >= 0.4
    assert first.max() <= 0.6
    assert (asked.z[:, :5] >= 0).double().mean() > 0.95
    assert ((asked.z[:, :5] >= 0).any(1)).all()


def test_rows_are_the_same_whoever_draws_them():
    law = Simulator(3, 4, 2, Batch(5, 1, 1), draws="exact", flexible=True, safety=SafetyPrior())
    whole = World.of(law, Streams.of(3, 8)).play(anywhere)
    parts = [World.of(law, Streams.of(3, 8), rank=r, world=2).play(anywhere) for r in (0, 1)]
    for row in range(5):
        part = parts[row % 2]
        torch.testing.assert_close(part.y[row // 2], whole.y[row], **CLOSE)
        torch.testing.assert_close(part.z[row // 2], whole.z[row], **CLOSE)
        assert torch.equal(part.active[row // 2], whole.active[row])
    assert sum(p.share * len(p.x) for p in parts) / 2 == pytest.approx(
        sum(len(p.x) ** 2 for p in parts) / 5
    )
    with pytest.raises(ValueError, match="6 processes share 5 functions"):
        World.of(law, Streams.of(3, 8), rank=5, world=6)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"kind": "variance"}, "no target named 'variance'; choose one of entropy, mutual, ivr"),
        ({"gamma": 0.0}, r"a probability in \(0, 1\), got 0.0"),
        ({"points": 0}, "points are 1 or more, got 0"),
    ],
)
def test_bad_settings_are_refused(settings, says):
    with pytest.raises(ValueError, match=says):
        Target(**settings)
