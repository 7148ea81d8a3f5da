"""Gaussian processes in closed form, against dense inverses, finite differences, scikit-learn."""

import math
import warnings

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.special import expit
from scipy.stats import norm
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessClassifier, GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, Matern, WhiteKernel

from lightning_al.gp import (
    SHAPES,
    BinaryLaplace,
    ExactGP,
    Prior,
    Stationary,
    cholesky,
    fit_exact,
    fit_laplace,
    log_marginal_likelihood,
    sigmoid_mean,
)
from lightning_al.gp.evidence import evidence
from lightning_al.gp.fit import climb
from lightning_al.gp.latent_mode import laplace_evidence

SKLEARN = {
    "rbf": RBF,
    "matern12": lambda ell: Matern(ell, nu=0.5),
    "matern32": lambda ell: Matern(ell, nu=1.5),
    "matern52": lambda ell: Matern(ell, nu=2.5),
}


def data(n=25, d=3, seed=0):
    drawn = torch.Generator().manual_seed(seed)
    x = torch.randn(n, d, generator=drawn, dtype=torch.float64)
    noise = 0.1 * torch.randn(n, generator=drawn, dtype=torch.float64)
    return x, torch.sin(x.sum(1)) + noise


def kernel(shape="rbf", lengthscale=(0.7, 1.3, 2.0), outputscale=1.7):
    return Stationary(
        shape,
        torch.tensor(lengthscale, dtype=torch.float64),
        torch.tensor(outputscale, dtype=torch.float64),
    )


def number(value):
    return torch.tensor(value, dtype=torch.float64)


def slow_covariance(it, a, b):
    """Plain Python: one number at a time."""
    shape = {
        "rbf": lambda r: math.exp(-(r**2) / 2),
        "matern12": lambda r: math.exp(-r),
        "matern32": lambda r: (1 + 3**0.5 * r) * math.exp(-(3**0.5) * r),
        "matern52": lambda r: (1 + 5**0.5 * r + 5 * r * r / 3) * math.exp(-(5**0.5) * r),
    }[it.shape]
    scale = it.lengthscale.expand(a.shape[1]).tolist()
    rows = []
    for p in a.tolist():
        radii = [
            sum(((u - v) / s) ** 2 for u, v, s in zip(p, q, scale, strict=True)) ** 0.5
            for q in b.tolist()
        ]
        rows.append([float(it.outputscale) * shape(r) for r in radii])
    return torch.tensor(rows, dtype=torch.float64)


@pytest.mark.parametrize("shape", SHAPES)
def test_covariances_one_by_one(shape):
    (a, _), (b, _) = data(6), data(4, seed=1)
    it = kernel(shape)
    torch.testing.assert_close(it(a, b), slow_covariance(it, a, b), rtol=1e-12, atol=1e-13)
    torch.testing.assert_close(it.diagonal(a), it(a, a).diagonal())


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("d", [1, 3])
def test_cholesky_equals_the_dense_inverse(shape, d):
    (x, y), (points, _) = data(d=d), data(8, d, seed=3)
    it, noise = kernel(shape, (0.9,) * d), number(0.05)
    gp = ExactGP.given(it, noise, x, y)
    noisy = slow_covariance(it, x, x) + noise * torch.eye(len(x)).double()
    inverse = torch.linalg.inv(noisy)
    cross = slow_covariance(it, points, x)
    mean, variance = gp.moments(points)
    covariance = slow_covariance(it, points, points) - cross @ inverse @ cross.T
    torch.testing.assert_close(mean, cross @ inverse @ y, rtol=1e-8, atol=1e-9)
    torch.testing.assert_close(variance, covariance.diagonal(), rtol=1e-8, atol=1e-9)
    together, joint = gp.joint(points)
    torch.testing.assert_close(together, mean)
    torch.testing.assert_close(joint, covariance, rtol=1e-8, atol=1e-9)
    dense = torch.distributions.MultivariateNormal(torch.zeros(len(x)).double(), noisy)
    torch.testing.assert_close(gp.log_evidence(), dense.log_prob(y), rtol=1e-8, atol=1e-8)


def test_sequential_conditioning_is_joint_conditioning():
    (x, y), (points, _) = data(20), data(9, seed=4)
    it, noise = kernel("matern52"), number(0.02)
    whole = ExactGP.given(it, noise, x, y)
    for cuts in ([10, 10], [5, 1, 14], [1] * 20):
        xs, ys = x.split(cuts), y.split(cuts)
        grown = ExactGP.given(it, noise, xs[0], ys[0])
        for a, b in zip(xs[1:], ys[1:], strict=True):
            grown = grown.condition(a, b)
        for ours, theirs in zip(grown.moments(points), whole.moments(points), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-10)
        torch.testing.assert_close(grown.log_evidence(), whole.log_evidence())


@pytest.mark.parametrize("shape", SHAPES)
def test_variance_never_grows_on_conditioning(shape):
    (x, y), (points, _) = data(15), data(40, seed=5)
    gp = ExactGP.given(kernel(shape), number(0.01), x[:1], y[:1])
    before = gp.moments(points)[1]
    assert bool((before <= gp.kernel.diagonal(points) + 1e-12).all())
    for i in range(1, 15):
        gp = gp.condition(x[i : i + 1], y[i : i + 1])
        after = gp.moments(points)[1]
        assert bool((after <= before + 1e-12).all())
        before = after
    twice = gp.condition(x[:1], y[:1]).moments(x[:1])[1]  # a repeat says more, not all
    assert 0 < float(twice) < float(gp.moments(x[:1])[1]) < 0.01


def test_a_batch_is_each_alone():
    sets = [data(12, seed=s) for s in range(3)]
    x, y = (torch.stack(part) for part in zip(*sets, strict=True))
    points = data(5, seed=9)[0]
    lengths = torch.rand(3, 3, generator=torch.Generator().manual_seed(0)).double() + 0.5
    scales, noises = number([0.5, 1.0, 2.0]), number([0.1, 0.01, 0.2])
    it = Stationary("matern32", lengths, scales)
    batch = ExactGP.given(it, noises, x, y).condition(x[:, :2] + 0.1, y[:, :2])
    mean, variance = batch.moments(points.expand(3, -1, -1))
    for i in range(3):
        alone = ExactGP.given(Stationary("matern32", lengths[i], scales[i]), noises[i], x[i], y[i])
        alone = alone.condition(x[i, :2] + 0.1, y[i, :2])
        torch.testing.assert_close(alone.moments(points), (mean[i], variance[i]))
        torch.testing.assert_close(alone.log_evidence(), batch.log_evidence()[i])


def slopes(function, theta, step=1e-6):
    found = []
    for k in range(len(theta)):
        move = np.zeros_like(theta)
        move[k] = step
        found.append((function(theta + move)[0] - function(theta - move)[0]) / (2 * step))
    return np.array(found)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("ard", [True, False])
def test_the_gradient_of_the_evidence_is_its_slope(shape, ard):
    x, y = (part.numpy() for part in data())
    theta = np.log([0.7, 1.3, 2.0, 1.7, 0.05] if ard else [0.8, 1.7, 0.05])

    def value(at):
        return evidence(shape, x + 100.0, y, at, ard)  # the place does not matter

    scale = torch.tensor(np.exp(theta[:-2]))
    it = Stationary(shape, scale, number(math.exp(theta[-2])))
    exact = ExactGP.given(it, number(0.05), *data()).log_evidence()
    assert value(theta)[0] == pytest.approx(float(exact), rel=1e-10)
    np.testing.assert_allclose(value(theta)[1], slopes(value, theta), rtol=1e-6, atol=1e-6)
    found, named = log_marginal_likelihood(it, number(0.05), *data())
    assert found == pytest.approx(value(theta)[0])
    np.testing.assert_allclose(named["lengthscale"], value(theta)[1][:-2], rtol=1e-6)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("ard", [True, False])
def test_the_gradient_of_the_laplace_evidence_is_its_slope(shape, ard):
    x, y = data(30)
    labels = (y > 0.2).double().numpy()
    theta = np.log([0.7, 1.3, 2.0, 3.0] if ard else [0.8, 3.0])

    def value(at):
        return laplace_evidence(shape, x.numpy(), labels, at, ard)

    np.testing.assert_allclose(value(theta)[1], slopes(value, theta, 1e-5), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_fixed_regressor_is_scikit_learns(shape):
    (x, y), (points, _) = data(40), data(60, seed=2)
    it = kernel(shape, (1.0,), 1.0)
    theirs = GaussianProcessRegressor(1.0 * SKLEARN[shape](1.0), alpha=1e-10, optimizer=None)
    mean, std = theirs.fit(x.numpy(), y.numpy()).predict(points.numpy(), return_std=True)
    ours = ExactGP.given(it, number(1e-10), x, y).moments(points)
    np.testing.assert_allclose(ours[0].numpy(), mean, rtol=1e-8, atol=1e-8)
    np.testing.assert_allclose(ours[1].sqrt().numpy(), std, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize(("n", "d"), [(10, 2), (40, 3)])
def test_the_search_ends_no_worse_than_scikit_learns(n, d):
    x, y = data(n, d)
    start = ConstantKernel(1.0) * RBF(np.ones(d)) + WhiteKernel(0.1, (1e-6, 1e5))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        theirs = GaussianProcessRegressor(start, alpha=0).fit(x.numpy(), y.numpy())
    it, noise, found = fit_exact(x, y, "rbf", Prior(1.0), Prior(1.0), Prior(0.1, low=1e-6))
    assert found.value >= theirs.log_marginal_likelihood_value_ - 1e-3
    assert found.value == pytest.approx(float(ExactGP.given(it, noise, x, y).log_evidence()))


def test_a_prior_is_added_and_pulls():
    x, y = data(15, 2)
    flat = [Prior(1.0), Prior(1.0), Prior(0.1, low=1e-6)]
    tight = [Prior(3.0, 1e-3), Prior(1.0), Prior(0.1, low=1e-6)]
    free, pulled = fit_exact(x, y, "rbf", *flat), fit_exact(x, y, "rbf", *tight)
    torch.testing.assert_close(pulled[0].lengthscale, number([3.0, 3.0]), rtol=0.02, atol=0)
    assert pulled[2].value < free[2].value
    loose = fit_exact(x, y, "rbf", Prior(3.0, 1.0), *flat[1:])
    off = np.log(loose[0].lengthscale.numpy() / 3.0)
    plain = float(ExactGP.given(loose[0], loose[1], x, y).log_evidence())
    assert loose[2].value == pytest.approx(plain - 0.5 * float(off @ off), abs=1e-8)


def test_equal_bounds_fix_a_number():
    fixed = Prior(0.25, low=0.25, high=0.25)
    _, noise, _ = fit_exact(*data(15), "matern32", Prior(1.0), Prior(1.0), fixed)
    assert float(noise) == pytest.approx(0.25)


def test_a_search_turns_back_where_nothing_is_defined():
    def half_plane(theta):
        return None if theta[0] > 0.5 else (-float((theta[0] - 1) ** 2), -2 * (theta - 1))

    assert climb(half_plane, [Prior(1.0)]).theta[0] <= 0.5
    with pytest.raises(ValueError, match="not defined at the start"):
        climb(lambda theta: None, [Prior(1.0)])


# --- classification ------------------------------------------------------------------------------


def labelled(n=40, seed=0):
    x, _ = data(n, 2, seed)
    return x, (x[:, 0] * x[:, 1] > 0).double()


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_fixed_classifier_is_scikit_learns(seed):
    (x, y), (points, _) = labelled(seed=seed), labelled(80, 5)
    ours = BinaryLaplace.given(kernel("rbf", (1.0,), 1.0), x, y)
    probs = sigmoid_mean(*ours.moments(2 * points), published=True)
    theirs = GaussianProcessClassifier(1.0 * RBF(1.0), optimizer=None).fit(x.numpy(), y.numpy())
    np.testing.assert_allclose(
        probs.numpy(), theirs.predict_proba(2 * points.numpy())[:, 1], rtol=0, atol=1e-9
    )
    assert ours.value == pytest.approx(theirs.log_marginal_likelihood(), abs=1e-9)


def test_the_search_for_a_classifier_ends_no_worse_than_scikit_learns():
    x, y = labelled()
    theirs = GaussianProcessClassifier(ConstantKernel(1.0, (1e-3, 1e3)) * RBF([1.0, 1.0]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        theirs.fit(x.numpy(), y.numpy())
    it, found = fit_laplace(x, y, "rbf", Prior(1.0), Prior(1.0, None, 1e-3, 1e3))
    assert found.value >= theirs.log_marginal_likelihood_value_ - 1e-3
    assert found.value == pytest.approx(BinaryLaplace.given(it, x, y).value)


def test_the_mode_is_where_the_slope_is_nothing():
    x, y = labelled()
    it = kernel("matern52", (0.8, 1.5), 4.0)
    ours = BinaryLaplace.given(it, x, y)
    mean, variance = ours.moments(x)
    torch.testing.assert_close(it(x, x) @ (y - mean.sigmoid()), mean, rtol=1e-4, atol=1e-5)
    curvature = torch.diag(mean.sigmoid() * (1 - mean.sigmoid()))
    dense = torch.linalg.inv(torch.linalg.inv(it(x, x)) + curvature)
    torch.testing.assert_close(variance, dense.diagonal(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("label", [0.0, 1.0])
def test_one_class_leans_to_it_and_forgets_far_away(label):
    x, _ = labelled(10)
    ours = BinaryLaplace.given(kernel("rbf", (1.0,), 1.0), x, torch.full((10,), label).double())
    near, far = (sigmoid_mean(*ours.moments(at)) for at in (x, x + 100))
    assert bool(((near - 0.5) * (label - 0.5) > 0).all())
    torch.testing.assert_close(far, torch.full_like(far, 0.5))


@pytest.mark.parametrize("mean", [-3.0, 0.0, 0.4, 6.0])
@pytest.mark.parametrize("variance", [0.0, 0.5, 2.2, 2.3, 9.0, 100.0, 1e5])
def test_the_mean_of_the_logistic_function(mean, variance):
    def integrand(z):
        return norm.pdf(z) * expit(mean + variance**0.5 * z)

    step = -mean / variance**0.5 if variance else 0.0
    exact = quad(integrand, -12, 12, epsabs=1e-12, points=[step], limit=500)[0]
    assert float(sigmoid_mean(number(mean), number(variance))) == pytest.approx(exact, abs=1e-7)
    told = float(sigmoid_mean(number(mean), number(variance), published=True))
    assert told == pytest.approx(exact, abs=5e-4)


# --- errors --------------------------------------------------------------------------------------


def test_jitter_where_rounding_wants_it_and_an_error_where_it_does_not_help():
    ones = torch.ones(5, 5, dtype=torch.float64)
    factor = cholesky(ones)
    torch.testing.assert_close(factor @ factor.T, ones, rtol=1e-5, atol=1e-5)
    exact = torch.eye(3, dtype=torch.float64) * 2
    torch.testing.assert_close(cholesky(exact), exact.sqrt(), rtol=1e-14, atol=0)
    with pytest.raises(ValueError, match="not positive definite"):
        cholesky(torch.diag(number([1.0, -1.0])))
    with pytest.raises(ValueError, match="NaN or infinities"):
        cholesky(torch.full((2, 2), math.nan))


def test_what_does_not_go_together_is_refused():
    x, y = data(5)
    with pytest.raises(ValueError, match=r"x \[n, d\] and y \[n\]"):
        ExactGP.given(kernel(), number(0.1), x, y[:4])
    with pytest.raises(LookupError, match="choose one of rbf"):
        Stationary("linear", number([1.0]), number(1.0))
    with pytest.raises(ValueError, match="0 or 1"):
        BinaryLaplace.given(kernel(), x, y)
    with pytest.raises(ValueError, match="low <= median <= high"):
        Prior(1e-9)
    with pytest.raises(ValueError, match="sigma"):
        Prior(1.0, 0.0)
