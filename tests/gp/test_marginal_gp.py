"""Gaussian processes without hyper-parameters: the sampler, and the mixture against quadrature."""

import functools
import math

import numpy as np
import pytest
import torch
from scipy.stats import gamma, norm

from lightning_al import measures
from lightning_al.cli import main
from lightning_al.gp import ExactGP, GammaPrior, MixtureGP, Prior, Stationary, sample_posterior
from lightning_al.gp.marginal import BLOCK
from lightning_al.gp.sampling import hamiltonian
from lightning_al.posteriors import Deterministic, LatentQuantiles
from lightning_al.randomness import seeded
from lightning_al.records import Predictions
from lightning_al.tasks import GPRegression, MarginalGPRegression


def drawn(seed=0):
    return torch.Generator().manual_seed(seed)


def waves(n=8, d=1, seed=0):
    it = drawn(seed)
    x = torch.rand(n, d, generator=it, dtype=torch.float64)
    return x, torch.sin(7 * x.sum(1)) + 0.15 * torch.randn(n, generator=it, dtype=torch.float64)


def learnt(task, data, seed=0):
    with seeded(seed, 0, "fit"):
        task.learn(*data)
    return task


# --- the sampler ---------------------------------------------------------------------------------


def test_a_gaussian_is_sampled():
    cov, mean = np.array([[1.0, 0.8], [0.8, 2.0]]), np.array([1.0, -2.0])
    inverse = np.linalg.inv(cov)

    def target(t):
        return -0.5 * float((t - mean) @ inverse @ (t - mean)), -inverse @ (t - mean)

    out = hamiltonian(target, np.zeros(2), 1500, drawn())
    np.testing.assert_allclose(out.mean(0), mean, atol=0.1)
    np.testing.assert_allclose(np.cov(out.T), cov, atol=0.2)
    off = out - out.mean(0)
    assert float(((off[1:] * off[:-1]).mean(0) / off.var(0)).max()) < 0.2  # next to independent


def test_a_border_and_a_skewed_density_are_sampled():
    def half(t):  # the half normal
        return None if t[0] < 0 else (-0.5 * float(t[0] ** 2), -t)

    out = hamiltonian(half, np.array([0.5]), 1500, drawn(1))
    assert out.min() >= 0
    assert out.mean() == pytest.approx(math.sqrt(2 / math.pi), abs=0.05)
    assert out.var() == pytest.approx(1 - 2 / math.pi, abs=0.05)
    priors = [GammaPrior(2.0, 2.0, 0.5), Prior(3.0, 0.7), Prior(1.3, low=1.3, high=1.3)]
    logs = np.log([0.5, 3.0, 1.3])
    out = sample_posterior(lambda theta: (0.0, np.zeros(3)), priors, logs, 1500, drawn(2))
    assert np.exp(out[:, 0]).mean() == pytest.approx(1.0, abs=0.08)  # shape / rate
    assert np.exp(out[:, 0]).std() == pytest.approx(gamma.std(2.0, scale=0.5), abs=0.08)
    assert out[:, 1].mean() == pytest.approx(math.log(3.0), abs=0.07)
    assert out[:, 1].std() == pytest.approx(0.7, abs=0.07)
    assert np.unique(out[:, 2]).tolist() == [logs[2]]  # it was fixed


def test_draws_come_from_the_generator_alone():
    def target(t):
        return -0.5 * float(t @ t), -t

    a, b, c = (hamiltonian(target, np.zeros(2), 5, drawn(seed)) for seed in (0, 0, 1))
    np.testing.assert_array_equal(a, b)
    assert not np.array_equal(a, c)
    torch.manual_seed(3)
    before = torch.rand(1)
    torch.manual_seed(3)
    hamiltonian(target, np.zeros(2), 5, drawn())
    assert torch.equal(before, torch.rand(1))
    with pytest.raises(ValueError, match="not defined where the sampler starts"):
        hamiltonian(lambda t: None, np.zeros(1), 5, drawn())


# --- the mixture ---------------------------------------------------------------------------------


def test_the_mixture_is_its_members_one_by_one(monkeypatch):
    (x, y), (points, _) = waves(9, 2), waves(7, 2, 1)
    values = torch.rand(5, 4, generator=drawn()).double() + 0.2
    mixture = MixtureGP.given("matern52", values, x, y)
    means, covariances = [], []
    for v in values:
        gp = ExactGP.given(Stationary("matern52", v[:2], v[2]), v[3], x, y)
        mean, covariance = gp.joint(points)
        means.append(mean)
        covariances.append(covariance)
    means = torch.stack(means)
    total = sum(covariances) / 5
    for a in range(7):
        for b in range(7):
            off = [(m[a] - means[:, a].mean()) * (m[b] - means[:, b].mean()) for m in means]
            total[a, b] += sum(off) / 5
    for _ in range(2):
        mean, variance = mixture.moments(points)
        torch.testing.assert_close(mean, means.mean(0))
        torch.testing.assert_close(variance, total.diagonal())
        monkeypatch.setattr("lightning_al.gp.marginal.BLOCK", 5 * 9 * 2)  # two points at a time
    mean, covariance = mixture.joint(points)
    torch.testing.assert_close(mean, means.mean(0))
    torch.testing.assert_close(covariance, total)
    assert BLOCK >= 5 * 9 * 2


def by_quadrature(x, y, points, size=90):
    """Posterior weights over a grid of [log l, log noise], and each cell's mean and variance."""
    ls = torch.linspace(math.log(1e-3), 3.0, size).double()
    ns = torch.linspace(math.log(1e-6), 5.0, size).double()
    grid = torch.cartesian_prod(ls, ns)
    kernel = Stationary("rbf", grid[:, :1].exp(), torch.ones(len(grid)).double())
    gp = ExactGP.given(
        kernel, grid[:, 1].exp(), x.expand(len(grid), -1, -1), y.expand(len(grid), -1)
    )
    prior = gamma.logpdf(grid[:, 0].exp(), 2.0, scale=0.5) + grid[:, 0].numpy()
    prior = prior + norm.logpdf(grid[:, 1], math.log(0.01), 2.0)
    weights = (gp.log_evidence() + torch.from_numpy(prior)).softmax(0)
    mean, variance = gp.moments(points.expand(len(grid), -1, -1))
    return weights, mean, variance, grid


@pytest.mark.parametrize("n", [2, 8])
def test_predictions_are_those_of_quadrature(n):
    x, y = waves(n)
    points = torch.linspace(-0.2, 1.2, 6).double()[:, None]
    weights, means, variances, grid = by_quadrature(x, y, points)
    samples = 700
    task = learnt(MarginalGPRegression(samples=samples, hyperparameters="gamma"), (x, y))
    mean, variance = (part[:, 0] for part in task.moments(points))
    exact = weights @ means
    spread = (weights @ (means - exact).square()).sqrt()
    error = 4.5 / math.sqrt(samples / 2)  # deviations; half as many independent draws
    assert bool(((mean - exact).abs() < error * spread + 1e-3).all())
    each = variances + (means - exact).square()
    total = weights @ each
    wide = (weights @ (each - total).square()).sqrt()
    assert bool(((variance - total).abs() < error * wide + 1e-3).all())
    logs = task.drawn[0].log()
    assert task.drawn[0, :, 1].unique().tolist() == [1.0]  # the output scale is fixed
    for column, at in ((0, 0), (2, 1)):
        centre = float(weights @ grid[:, at])
        deviation = float((weights @ (grid[:, at] - centre).square()).sqrt())
        assert float(logs[:, column].mean()) == pytest.approx(centre, abs=error * deviation)
    # a single process at the mode is something else
    mode = learnt(GPRegression(hyperparameters="gamma"), (x, y)).moments(points)[1][:, 0]
    assert bool(((mode - total).abs() > error * wide + 1e-3).any())


# --- the task ------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["map", "gamma"])
def test_one_sample_is_the_mode(mode):
    x, y = waves(12, 2)
    both, points = torch.stack([y, y.square()], 1), waves(9, 2, 1)[0]
    ours = learnt(MarginalGPRegression(2, samples=1, hyperparameters=mode), (x, both))
    plain = learnt(GPRegression(2, hyperparameters=mode), (x, both))
    for a, b in zip(ours.moments(points), plain.moments(points), strict=True):
        torch.testing.assert_close(a, b)
    torch.testing.assert_close(ours.raw(points), plain.raw(points))
    torch.testing.assert_close(
        ours.joint(points).covariance_matrix, plain.joint(points).covariance_matrix
    )
    z = torch.randn(3, 2, generator=drawn())
    torch.testing.assert_close(ours.at_quantiles(points, z), plain.at_quantiles(points, z))


def members(task, points, posterior):
    said = posterior.start(0, 0).members(task, task.adapter, points, len(points))
    fields = task.adapter.reading.fields(said.raw, ["mean", "variance"])
    return Predictions(torch.arange(len(points)), **fields)


@pytest.mark.parametrize("variance", ["latent", "predictive"])
def test_strategies_see_the_processes_or_functions_of_them(variance):
    x, y = waves(12, 2)
    both, points = torch.stack([50 + 9 * y, y.square()], 1), waves(9, 2, 1)[0]
    task = MarginalGPRegression(2, samples=6, variance=variance, safety=True)
    learnt(task, (x, both))
    mean, latent = task.moments(points)
    noise = task.noise_variance()
    torch.testing.assert_close(noise, task.drawn[:, :, -1].mean(1) * task.target_std.square())
    torch.testing.assert_close(task.raw(points), torch.cat([mean, latent + noise], 1))
    # the processes themselves
    said = members(task, points, Deterministic())
    assert said.mean.shape == said.variance.shape == (9, 6, 2)
    torch.testing.assert_close(said.mean.mean(1), mean)
    total = said.mean.double().var(1, correction=0) + said.variance.double().mean(1)
    wanted = latent + (noise if variance == "predictive" else 0.0)
    torch.testing.assert_close(total, wanted, rtol=1e-4, atol=1e-6)
    at = task.drawn[0, 3]
    gp = ExactGP.given(Stationary("rbf", at[:-2], at[-2]), at[-1], task.x, task.y[:, 0])
    alone = gp.moments(task.scaled(points))[0] * task.target_std[0] + task.target_mean[0]
    torch.testing.assert_close(said.mean[:, 3, 0], alone)
    # what strategies are given: functions, with the mixture's variance between them
    assert task.posterior == LatentQuantiles(2)
    seen = members(task, points, task.posterior)
    assert seen.mean.shape == (9, 12, 2)
    torch.testing.assert_close(measures.variance(seen.mean), latent.sum(1))
    torch.testing.assert_close(seen.variance.mean(1), noise.expand(9, 2))


def test_a_state_is_a_state_and_nothing_labelled_is_the_prior():
    settings = {"samples": 5, "hyperparameters": "gamma", "lengthscale": [0.4, 0.2]}
    task = MarginalGPRegression(**settings)
    x = torch.rand(4, 2)
    assert members(task, x, Deterministic()).mean.shape == (4, 1, 1)
    assert members(task, x, task.posterior).mean.shape == (4, 2, 1)
    learnt(task, waves(10, 2))
    again = MarginalGPRegression(**settings)
    again.load_state_dict(task.state_dict())
    torch.testing.assert_close(again.moments(x), task.moments(x), rtol=1e-9, atol=1e-9)
    same = learnt(MarginalGPRegression(**settings), waves(10, 2))
    assert torch.equal(same.drawn, task.drawn)
    other = learnt(MarginalGPRegression(**settings), waves(10, 2), seed=1)
    assert not torch.equal(other.drawn, task.drawn)
    assert task.half().drawn.dtype == torch.float64


def test_three_rounds_by_the_command_line(tmp_path):
    (history,) = main(
        [
            *("run", "--model", "MarginalGPRegression", "--model.samples", "4", "--data"),
            *("DiabetesDataModule", "--data.initial", "10", "--trainer.max_epochs", "1"),
            *("--trainer.accelerator", "cpu", "--strategy", "variance", "--query_size", "5"),
            *("--budget", "10", "--progress", "false", "--run_dir", str(tmp_path / "run")),
            *("--model.warm_up", "5"),
        ]
    )
    assert [r.n_labelled for r in history.rounds] == [10, 15, 20]
    assert all(math.isfinite(r.metrics["test/nll"]) for r in history.rounds)
    task = MarginalGPRegression.load_from_checkpoint(history.final_checkpoint)
    assert (task.samples, task.warm_up, task.drawn.shape) == (4, 5, (1, 4, 12))
    task(torch.rand(3, 10))


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (functools.partial(MarginalGPRegression, samples=0), "at least 1"),
        (functools.partial(MarginalGPRegression, thin=0), "at least 1"),
        (functools.partial(MarginalGPRegression, hyperparameters="evidence"), "'map' or 'gamma'"),
        (functools.partial(MarginalGPRegression, kernel=torch.nn.Identity()), "by name"),
        (functools.partial(MarginalGPRegression, outputs=1, safety=True), "2 outputs or more"),
    ],
)
def test_settings_that_make_no_sense(build, words):
    with pytest.raises(ValueError, match=words):
        build()
