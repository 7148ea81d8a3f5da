"""Experiments with a known likelihood: densities, draws and transforms against closed forms."""

import math

import pytest
import torch
from scipy import stats

from lightning_al.designs import DeathProcess, Discounting, LocationFinding
from lightning_al.policies.streams import Streams

ALL = (LocationFinding(), LocationFinding(1, 5, "uniform"), Discounting(), DeathProcess())


def drawn(experiment, count=4000, seed=0):
    streams, index = Streams.of(seed, 0, "test"), torch.arange(count)
    latent = experiment.latent(streams, "latent", index)
    raw = streams.normal("raw", index, experiment.size)
    return latent, experiment.design(raw), streams.uniform("u", index), raw


@pytest.mark.parametrize("experiment", ALL, ids=str)
def test_shapes(experiment):
    latent, design, u, raw = drawn(experiment, 6)
    y = experiment.outcome(latent, design, u)
    assert y.shape == (6,)
    assert experiment.log_likelihood(latent, design, y).shape == (6,)
    many = experiment.log_likelihood(latent.unsqueeze(0), design.unsqueeze(1), y.unsqueeze(1))
    assert many.shape == (6, 6)
    torch.testing.assert_close(many.diagonal(), experiment.log_likelihood(latent, design, y))
    assert experiment.remembered(raw, design).shape == design.shape


@pytest.mark.parametrize("experiment", [Discounting(), DeathProcess(population=7)], ids=str)
def test_probabilities_of_all_outcomes_sum_to_one(experiment):
    latent, design, _, _ = drawn(experiment, 50)
    count = 2 if isinstance(experiment, Discounting) else 8
    each = [
        experiment.log_likelihood(latent, design, torch.full((50,), float(k)).double())
        for k in range(count)
    ]
    torch.testing.assert_close(torch.stack(each).logsumexp(0), torch.zeros(50).double())


def test_the_location_density_is_that_of_its_draws():
    experiment = LocationFinding()
    latent = torch.tensor([[0.5, 0.0, -1.0, 1.0]]).double()
    design = torch.tensor([[0.0, 0.0]]).double()
    exact = math.log(0.1 + 1 / (0.25 + 1e-4) + 1 / (2 + 1e-4))
    assert float(experiment.strength(latent, design)) == pytest.approx(exact)
    u = (torch.arange(2000).double() + 0.5) / 2000
    y = experiment.outcome(latent, design, u)
    assert float(y.mean()) == pytest.approx(exact, abs=1e-6)
    assert float(y.std()) == pytest.approx(0.5, abs=2e-3)
    one = experiment.log_likelihood(latent, design, y[:1])
    assert float(one) == pytest.approx(stats.norm(exact, 0.5).logpdf(float(y[0])))


def test_gradients_pass_through_outcomes_that_are_continuous():
    experiment = LocationFinding(1)
    latent, design, u, _ = drawn(experiment, 3)
    design.requires_grad_(True)
    experiment.outcome(latent, design, u).sum().backward()
    assert bool((design.grad != 0).all())


def test_priors_of_locations():
    normal = drawn(LocationFinding())[0]
    assert normal.shape == (4000, 4)
    assert float(normal.std()) == pytest.approx(1.0, abs=0.03)
    uniform = drawn(LocationFinding(1, prior="uniform"))[0]
    assert 0 < float(uniform.min()) < float(uniform.max()) < 1


def test_discounting_by_hand():
    experiment = Discounting()
    latent = torch.tensor([[math.log(0.02), 3.0]]).double()
    design = torch.tensor([[50.0, 40.0]]).double()
    gain = (40 - 100 / (1 + 0.02 * 50)) / 3.0
    chance = 0.01 + 0.98 * stats.norm.cdf(gain * math.sqrt(2))
    assert float(experiment.chance(latent, design)) == pytest.approx(chance)
    latents = drawn(experiment)[0]
    assert float(latents[:, 0].mean()) == pytest.approx(-4.25, abs=0.08)
    assert float(latents[:, 1].min()) >= 1e-3
    delay, reward = experiment.design(torch.zeros(1, 2).double())[0]
    assert float(delay) == pytest.approx(math.exp(4.25 - 1.125))
    assert float(reward) == pytest.approx(50.0)


def test_the_death_process_is_binomial():
    experiment = DeathProcess()
    latent, design, u, _ = drawn(experiment, 300)
    y = experiment.outcome(latent, design, u)
    chance = (1 - torch.exp(-latent[:, 0] * design[:, 0])).numpy()
    wanted = stats.binom.ppf(u.numpy(), 50, chance)
    assert (y.numpy() == wanted).mean() > 0.99  # but for rounding at a step
    exact = torch.from_numpy(stats.binom.logpmf(y.numpy(), 50, chance))
    torch.testing.assert_close(experiment.log_likelihood(latent, design, y), exact)


def test_the_rate_is_a_normal_above_nothing():
    latent = drawn(DeathProcess(), 20_000)[0][:, 0]
    law = stats.truncnorm(-1, math.inf, loc=1)
    assert float(latent.min()) > 0
    assert float(latent.mean()) == pytest.approx(law.mean(), abs=0.02)
    assert float(latent.std()) == pytest.approx(law.std(), abs=0.02)
    two = DeathProcess().log_prior(torch.tensor([0.3, 2.0]).double())
    assert float(two[1] - two[0]) == pytest.approx(law.logpdf(2.0) - law.logpdf(0.3))


@pytest.mark.parametrize(
    ("made", "wanted"),
    [
        (lambda: LocationFinding(0), "sources must be a whole number from 1"),
        (lambda: LocationFinding(prior="beta"), "prior must be one of normal, uniform"),
        (lambda: LocationFinding(noise=0.0), "noise must be a finite number above 0"),
        (lambda: Discounting(slip=0.5), "slip must be a finite number between 0 and 0.5"),
        (lambda: DeathProcess(horizon=0), "horizon must be"),
    ],
)
def test_settings_that_make_no_sense(made, wanted):
    with pytest.raises(ValueError, match=wanted):
        made()
