"""Priors, random starts and the "gamma" model of Gaussian processes, against SciPy."""

import math

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from scipy.stats import gamma, multivariate_normal, norm

from lightning_al.gp import GammaPrior, Prior
from lightning_al.gp.fit import climb, scattered
from lightning_al.gp.hyperpriors import log_density
from lightning_al.randomness import seeded
from lightning_al.tasks import GPClassification, GPRegression

PRIORS = [GammaPrior(2.0, 2.0, 0.2), Prior(1.5, 0.7), Prior(0.1), GammaPrior(1.0, 3.0, 0.5)]


def drawn(seed=0):
    return torch.Generator().manual_seed(seed)


def waves(n=30, d=2, seed=0, noise=0.1):
    """Inputs [n, d] in the unit box, targets [n] of deviation about 1."""
    it = drawn(seed)
    x = torch.rand(n, d, generator=it)
    return x, 1.4 * torch.sin(7.0 * x.sum(1)) + noise * torch.randn(n, generator=it)


def learnt(task, data, seed=0):
    with seeded(seed, 0, "fit"):
        task.learn(*data)
    return task


# --- priors --------------------------------------------------------------------------------------


def slow_density(theta, of_logarithms):
    """SciPy's, with the Jacobian of the gammas' logarithms where wanted."""
    total = 0.0
    for prior, at in zip(PRIORS, theta, strict=True):
        if isinstance(prior, GammaPrior):
            total += gamma.logpdf(math.exp(at), prior.shape, scale=1 / prior.rate)
            total += at if of_logarithms else 0.0
        elif prior.sigma is not None:
            total += norm.logpdf(at, math.log(prior.median), prior.sigma)
    return total


@pytest.mark.parametrize("of_logarithms", [False, True])
def test_densities_are_scipys_up_to_a_constant(of_logarithms):
    density = log_density(PRIORS, of_logarithms=of_logarithms)
    points = np.random.default_rng(0).normal(size=(5, 4))
    ours = [density(theta)[0] for theta in points]
    theirs = [slow_density(theta, of_logarithms) for theta in points]
    np.testing.assert_allclose(np.diff(ours), np.diff(theirs), rtol=1e-10)
    for theta in points:
        steps = 1e-6 * np.eye(4)
        slopes = [(density(theta + e)[0] - density(theta - e)[0]) / 2e-6 for e in steps]
        np.testing.assert_allclose(density(theta)[1], slopes, rtol=1e-6, atol=1e-7)


def test_the_mode_of_a_gamma_is_its_mode():
    def nothing(theta):
        return 0.0, np.zeros(1)

    found = climb(nothing, [GammaPrior(2.0, 2.0, 0.2)])
    assert math.exp(found.theta[0]) == pytest.approx(0.5, rel=1e-4)  # (shape - 1) / rate


def test_flat_priors_are_no_prior():
    assert log_density([Prior(1.0), Prior(2.0)]) is None


@pytest.mark.parametrize(
    "build",
    [
        lambda: GammaPrior(0.0, 1.0, 0.5),
        lambda: GammaPrior(1.0, -1.0, 0.5),
        lambda: GammaPrior(2.0, 2.0, 1e-9),
        lambda: GammaPrior(2.0, 2.0, 0.5, 1.0, 2.0),
    ],
)
def test_gammas_that_make_no_sense(build):
    with pytest.raises(ValueError, match="got"):
        build()


# --- random starts -------------------------------------------------------------------------------


def two_hills(theta):
    """Log of a low hill at -4 and one five times as high at -6.5."""
    near, far = float(theta[0]) + 4.0, float(theta[0]) + 6.5
    low, high = math.exp(-(near**2)), 5.0 * math.exp(-(far**2))
    return math.log(low + high), -2.0 * np.array([near * low + far * high]) / (low + high)


def test_the_best_of_several_searches_counts():
    prior = [Prior(0.01, low=1e-6)]  # starts at -4.6, in the catchment of the low hill
    once = climb(two_hills, prior)
    assert once.theta[0] == pytest.approx(-4.0, abs=0.05)
    for seed in range(5):
        found = [climb(two_hills, prior, starts=k, generator=drawn(seed)) for k in (1, 2, 5, 15)]
        values = [fit.value for fit in found]
        assert values == sorted(values)
        assert values[0] == once.value
        assert found[-1].theta[0] == pytest.approx(-6.5, abs=0.05)
        assert found[-1].evaluations > found[0].evaluations


def test_the_first_start_is_not_moved_and_failures_are_passed_over():
    seen = []

    def picky(theta):
        seen.append(float(theta[0]))
        if abs(theta[0]) < 1e-12:
            return None
        return -float(theta[0] ** 2), -2 * theta

    found = climb(picky, [Prior(1.0)], starts=4, generator=drawn())
    assert seen[0] == 0.0
    assert found.theta[0] == pytest.approx(0.0, abs=1e-3)
    assert found.evaluations == len(seen)
    with pytest.raises(ValueError, match="not defined at the start"):
        climb(lambda theta: None, [Prior(1.0)], starts=3, generator=drawn())
    with pytest.raises(ValueError, match="generator"):
        climb(picky, [Prior(1.0)], starts=3)
    with pytest.raises(ValueError, match="1 start"):
        climb(picky, [Prior(1.0)], starts=0)


def test_scattered_values_have_half_to_half_as_much_again_of_the_inverse_softplus():
    values = np.array([1e-6, 0.01, 0.2, 0.6931, 3.0, 900.0])
    before = np.array([v if v > 30 else math.log(math.expm1(v)) for v in values])
    ratios = []
    for seed in range(200):
        moved = np.exp(scattered(np.log(values), drawn(seed)))
        after = np.array([v if v > 30 else math.log(math.expm1(v)) for v in moved])
        ratios.append(after / before)
    ratios = np.array(ratios)[:, [0, 1, 2, 4, 5]]  # the fourth is 0 times anything
    assert ratios.min() > 0.49
    assert ratios.max() < 1.51
    np.testing.assert_allclose(ratios.mean(0), 1.0, atol=0.08)
    np.testing.assert_allclose(ratios.std(0), 1 / math.sqrt(12), atol=0.04)


# --- the model -----------------------------------------------------------------------------------


def slow_loss(free, x, y):
    """Minus log evidence and gamma densities: dense, at [log lengthscales, log noise]."""
    scale, noise = np.exp(free[:-1]), math.exp(free[-1])
    r2 = (((x[:, None] - x[None]) / scale) ** 2).sum(-1)
    covariance = np.exp(-0.5 * r2) + noise * np.eye(len(x))
    evidence = multivariate_normal(np.zeros(len(x)), covariance).logpdf(y)
    return -evidence - gamma.logpdf(scale, 2.0, scale=0.5).sum()


@pytest.mark.parametrize("n", [2, 12, 30])
def test_gamma_finds_the_posterior_mode(n):
    data = waves(n)
    task = learnt(GPRegression(hyperparameters="gamma"), data)
    x, y = (part.double().numpy() for part in data)
    bounds = [(math.log(1e-3), math.log(1e3))] * 2 + [(math.log(1e-6), math.log(1e3))]
    starts = [np.log([a, b, c]) for a in (0.1, 0.6) for b in (0.1, 0.6) for c in (1e-3, 0.5)]
    best = min(minimize(slow_loss, s, (x, y), bounds=bounds).fun for s in starts)
    ours = torch.cat([task.lengthscale[0], task.noise]).log().numpy()
    assert slow_loss(ours, x, y) == pytest.approx(best, abs=1e-3)
    assert task.outputscale.tolist() == [1.0]
    assert not task.feature_mean.any()
    assert not task.target_mean.any()
    assert float(task(torch.full((1, 2), 1e3))) == 0.0  # of zero mean, on data as they are


def test_gamma_takes_a_start_and_an_output_scale_of_its_own():
    task = GPRegression(
        hyperparameters="gamma", lengthscale=[0.9, 0.6], noise=1e-4, outputscale=2.0
    )
    assert task.starts == 5
    learnt(task, waves())
    assert task.outputscale.tolist() == [2.0]
    plain = learnt(GPRegression(hyperparameters="gamma", outputscale=2.0), waves())
    torch.testing.assert_close(task.lengthscale, plain.lengthscale, rtol=0.01, atol=0)
    with pytest.raises(ValueError, match="3 length scales for 2"):
        learnt(GPRegression(hyperparameters="gamma", lengthscale=[0.9, 0.6, 0.1]), waves())


def test_the_same_seed_gives_the_same_starts_and_the_global_state_is_left_alone(monkeypatch):
    from lightning_al.gp import fit

    seen = []
    real = fit.scattered
    monkeypatch.setattr(
        fit, "scattered", lambda theta, g: seen.append(real(theta, g).tolist()) or real(theta, g)
    )
    for seed in (0, 0, 1):
        with seeded(seed, 0, "fit"):
            GPRegression(hyperparameters="gamma", starts=3).learn(*waves())
            left = torch.rand(1)
        with seeded(seed, 0, "fit"):
            assert torch.equal(left, torch.rand(1))
    first, second, third = seen[:2], seen[2:4], seen[4:]
    assert first == second
    assert first != third
    assert first[0] != first[1]


def test_more_starts_are_never_worse():
    values = []
    for starts in (1, 2, 8):
        task = GPRegression(hyperparameters="evidence", starts=starts)
        learnt(task, waves(6, noise=1.0))
        values.append(float(task.processes()[0].log_evidence()))
    assert values == sorted(values)


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: GPRegression(starts=0), "starts must be at least 1"),
        (lambda: GPClassification(2, hyperparameters="gamma"), "map, evidence, fixed, published"),
        (lambda: GPRegression(kernel=torch.nn.Identity(), starts=2), "GPyTorch"),
    ],
)
def test_settings_that_make_no_sense(build, words):
    with pytest.raises(ValueError, match=words):
        build()
