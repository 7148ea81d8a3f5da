"""Sparse Gaussian processes, against dense formulas, the exact process and finite differences."""

import functools
import math

import numpy as np
import pytest
import torch
from helpers import small

from lightning_al.cli import main
from lightning_al.gp import SHAPES, ExactGP, GammaPrior, Prior, SparseGP, Stationary, fit_sparse
from lightning_al.gp.evidence import evidence
from lightning_al.gp.sparse import collapsed_bound, greedy_points
from lightning_al.randomness import seeded
from lightning_al.tasks import GPRegression, SparseGPRegression

SEARCH = (Prior(1.0, 1.0), Prior(1.0, 1.0), Prior(0.1, 2.0, low=1e-6))


def data(n=25, d=3, seed=0):
    drawn = torch.Generator().manual_seed(seed)
    x = torch.randn(n, d, generator=drawn, dtype=torch.float64)
    noise = 0.1 * torch.randn(n, generator=drawn, dtype=torch.float64)
    return x, torch.sin(x.sum(1)) + noise


def number(value):
    return torch.tensor(value, dtype=torch.float64)


def kernel(shape="rbf", lengthscale=(0.9, 1.3, 2.0), outputscale=1.7):
    return Stationary(shape, number(list(lengthscale)), number(outputscale))


def logs(it, noise):
    return np.log([*it.lengthscale.tolist(), float(it.outputscale), noise])


def slow_bound(it, noise, z, x, y):
    """log N(y; 0, Q + noise I) - tr(K - Q) / (2 noise), with the inverse of K(z, z)."""
    cross = it(x, z)
    q = cross @ torch.linalg.pinv(it(z, z), rtol=1e-12) @ cross.mT
    normal = torch.distributions.MultivariateNormal(
        torch.zeros(len(x)).double(), q + noise * torch.eye(len(x)).double()
    )
    return normal.log_prob(y) - (it.diagonal(x).sum() - q.trace()) / (2 * noise)


# --- the bound -----------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("points", [1, 4, 12])
def test_the_bound_is_the_dense_formula(shape, points):
    (x, y), z = data(), data(points, seed=5)[0]
    it = kernel(shape)
    found = collapsed_bound(shape, z.numpy(), x.numpy(), y.numpy(), logs(it, 0.05))
    assert found[0] == pytest.approx(float(slow_bound(it, 0.05, z, x, y)), abs=1e-6)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("ard", [True, False])
def test_its_gradient_is_that_of_differences(shape, ard):
    x, y = (part.numpy() for part in data())
    theta = np.log([0.9, 1.3, 2.0, 1.7, 0.05] if ard else [1.1, 1.7, 0.05])
    for z in (x[:6], x, x[:5] + 0.3):
        _, gradient, moves = collapsed_bound(shape, z, x, y, theta, ard)
        for k, step in enumerate(1e-5 * np.eye(len(theta))):
            ahead, behind = (
                collapsed_bound(shape, z, x, y, theta + s, ard)[0] for s in (step, -step)
            )
            assert gradient[k] == pytest.approx((ahead - behind) / 2e-5, rel=1e-5, abs=1e-5)
        if shape == "matern12" and len(z) != 5:
            continue  # it has a kink where a point lies on an item
        for i, k in ((0, 0), (2, 1), (4, 2)):
            step = np.zeros_like(z)
            step[i, k] = 1e-5
            ahead, behind = (
                collapsed_bound(shape, z + s, x, y, theta, ard)[0] for s in (step, -step)
            )
            assert moves[i, k] == pytest.approx((ahead - behind) / 2e-5, rel=1e-4, abs=1e-4)


@pytest.mark.parametrize("shape", SHAPES)
def test_all_points_give_the_evidence_and_fewer_never_more(shape):
    x, y = (part.numpy() for part in data())
    drawn = np.random.default_rng(0)
    for _ in range(10):
        theta = np.concatenate([drawn.normal(0, 0.7, 4), drawn.normal(-3, 1, 1)])
        exact, slope = evidence(shape, x, y, theta)
        value, gradient, _ = collapsed_bound(shape, x, x, y, theta)
        assert value == pytest.approx(exact, abs=1e-6)
        np.testing.assert_allclose(gradient, slope, atol=2e-6)
        order = drawn.permutation(25)
        bounds = [collapsed_bound(shape, x[order[:m]], x, y, theta)[0] for m in range(1, 26)]
        assert all(b <= exact + 1e-9 for b in bounds)
        assert bool((np.diff(bounds) > -1e-7).all())  # each point more helps


def test_repeated_points_and_hopeless_numbers():
    x, y = (part.numpy() for part in data(10))
    z = x[[0, 0, 0, 1]]
    theta = np.log([1.0, 1.0, 1.0, 1.0, 0.1])
    alone = collapsed_bound("rbf", x[:2], x, y, theta)[0]
    assert collapsed_bound("rbf", z, x, y, theta)[0] == pytest.approx(alone, abs=1e-6)
    assert collapsed_bound("rbf", x * np.nan, x, y, theta) is None


# --- the points ----------------------------------------------------------------------------------


def slow_greedy(it, x, count):
    chosen = []
    for _ in range(count):
        left = it.diagonal(x).clone()
        if chosen:
            cross = it(x, x[chosen])
            left = left - (cross @ torch.linalg.inv(it(x[chosen], x[chosen])) * cross).sum(1)
            left[chosen] = -1.0
        chosen.append(int(left.argmax()))
    return chosen


@pytest.mark.parametrize("shape", ["rbf", "matern32"])
def test_points_are_those_of_greatest_conditional_variance(shape):
    it, x = kernel(shape), data(20)[0]
    assert greedy_points(it, x, 8).tolist() == slow_greedy(it, x, 8)
    assert sorted(greedy_points(it, x, 50).tolist()) == list(range(20))
    same = torch.ones(6, 3).double()
    assert greedy_points(it, same, 4).unique().numel() == 4  # all alike: still four items
    order = torch.randperm(20, generator=torch.Generator().manual_seed(0))
    order = torch.cat([torch.tensor([0]), order[order != 0]])  # the first of equals stays first
    assert set(order[greedy_points(it, x[order], 8)].tolist()) == set(slow_greedy(it, x, 8))


# --- predictions ---------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES)
def test_predictions_are_the_dense_formulas(shape):
    (x, y), (points, _), z = data(), data(9, seed=3), data(6, seed=5)[0]
    it, noise = kernel(shape), number(0.05)
    gp = SparseGP.given(it, noise, z, x, y)
    inner = torch.linalg.inv(it(z, z) + it(z, x) @ it(x, z) / noise)
    cross, inverse = it(points, z), torch.linalg.inv(it(z, z))
    mean = cross @ inner @ it(z, x) @ y / noise
    covariance = it(points, points) - cross @ (inverse - inner) @ cross.mT
    torch.testing.assert_close(gp.moments(points)[0], mean, rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(gp.moments(points)[1], covariance.diagonal(), rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(gp.joint(points)[0], mean, rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(gp.joint(points)[1], covariance, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("shape", SHAPES)
def test_all_points_predict_as_the_exact_process(shape):
    (x, y), (points, _) = data(), data(30, seed=3)
    it, noise = kernel(shape), number(0.05)
    sparse, exact = SparseGP.given(it, noise, x, x, y), ExactGP.given(it, noise, x, y)
    for ours, theirs in zip(sparse.moments(points), exact.moments(points), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)
    for ours, theirs in zip(sparse.joint(points), exact.joint(points), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)


# --- the search ----------------------------------------------------------------------------------


def test_the_search_climbs_the_bound_over_numbers_and_points():
    x, y = data(60, 2)
    it, noise, z, found = fit_sparse(x, y, "rbf", *SEARCH, points=8)
    theta, at = found.theta, (x - x.mean(0)).numpy()
    value, slope, moves = collapsed_bound(
        "rbf", (z - x.mean(0)).numpy(), at, y.numpy(), theta[:4], True
    )
    off = theta[:4] - np.log([1.0, 1.0, 1.0, 0.1])
    weight = np.array([1.0, 1.0, 1.0, 0.25])
    assert found.value == pytest.approx(value - 0.5 * float(off @ (weight * off)), abs=1e-6)
    assert float(np.abs(slope - weight * off).max()) < 0.05  # nowhere further up
    assert float(np.abs(moves).max()) < 0.05
    chosen = x[greedy_points(it, x, 8)].numpy()
    held = collapsed_bound("rbf", chosen - x.mean(0).numpy(), at, y.numpy(), theta[:4])[0]
    assert value > held
    exact = evidence("rbf", at, y.numpy(), theta[:4])[0]
    assert value <= exact
    assert float(noise) == pytest.approx(math.exp(theta[3]))
    assert (it.lengthscale.shape, z.shape) == ((2,), (8, 2))


# --- the task ------------------------------------------------------------------------------------


def waves(n=40, seed=0):
    drawn = torch.Generator().manual_seed(seed)
    x = torch.rand(n, 2, generator=drawn)
    return x, 50 + 20 * torch.sin(6 * x.sum(1)) + 2 * torch.randn(n, generator=drawn)


def learnt(task, data):
    with seeded(0, 0, "fit"):
        task.learn(*data)
    return task


@pytest.mark.parametrize("mode", ["map", "evidence", "gamma", "fixed"])
def test_with_all_points_it_is_the_exact_task(mode):
    x, y = waves(20)
    y = (y - 50) / 14 if mode == "gamma" else y
    sparse = learnt(SparseGPRegression(points=20, hyperparameters=mode), (x, y))
    exact = learnt(GPRegression(hyperparameters=mode), (x, y))
    points = waves(30, 1)[0]
    scale = float(y.std())
    for ours, theirs in zip(sparse.moments(points), exact.moments(points), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-2, atol=2e-3 * scale**2)
    fine = SparseGPRegression(points=99, hyperparameters=mode)  # the same numbers: to rounding
    fine.load_state_dict(sparse.state_dict())
    exact.load_state_dict({k: v for k, v in sparse.state_dict().items() if k != "inducing"})
    torch.testing.assert_close(fine(points), exact(points), rtol=0, atol=1e-6 * scale)
    assert set(map(tuple, fine.inducing[0].tolist())) == set(map(tuple, fine.x.tolist()))


@pytest.mark.parametrize("mode", ["map", "fixed"])
def test_few_points_do_well_and_a_state_is_a_state(mode):
    settings = {"outputs": 2, "points": 12, "hyperparameters": mode}
    x, y = waves(60)
    both = torch.stack([y, -y], 1)
    task = learnt(SparseGPRegression(**settings), (x, both))
    assert task.inducing.shape == (2, 12, 2)
    points, truth = waves(30, 1)
    if mode == "map":
        assert float((task(points)[:, 0] - truth).square().mean().sqrt()) < 6  # of 15; 2 is noise
    torch.testing.assert_close(task(points)[:, 1], -task(points)[:, 0], rtol=0.02, atol=0.5)
    again = SparseGPRegression(**settings)
    again.load_state_dict(task.state_dict())
    torch.testing.assert_close(again.moments(points), task.moments(points), rtol=1e-9, atol=1e-9)
    joint = task.joint(points)
    torch.testing.assert_close(joint.variance.mT, task.moments(points)[1], rtol=1e-5, atol=1e-6)


def test_three_rounds_by_the_command_line(tmp_path):
    (history,) = main(
        [
            *("run", "--model", "SparseGPRegression", "--model.points", "6", "--data"),
            *("DiabetesDataModule", "--data.initial", "10", "--trainer.max_epochs", "1"),
            *("--trainer.accelerator", "cpu", "--strategy", "variance", "--query_size", "5"),
            *("--budget", "10", "--progress", "false", "--run_dir", str(tmp_path / "run")),
        ]
    )
    assert [r.n_labelled for r in history.rounds] == [10, 15, 20]
    assert all(math.isfinite(r.metrics["test/nll"]) for r in history.rounds)
    task = SparseGPRegression.load_from_checkpoint(history.final_checkpoint)
    assert (task.points, task.inducing.shape) == (6, (1, 6, 10))
    assert not task.safety
    x = small.line(5)[torch.arange(5)][0]
    task(torch.cat([x, x, x[:, :2]], 1))


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (functools.partial(SparseGPRegression, points=0), "1 inducing point or more"),
        (functools.partial(SparseGPRegression, hyperparameters="published"), "published"),
        (functools.partial(SparseGPRegression, kernel=torch.nn.Identity()), "by name"),
        (functools.partial(SparseGPRegression, outputs=1, safety=True), "2 outputs or more"),
    ],
)
def test_settings_that_make_no_sense(build, words):
    with pytest.raises(ValueError, match=words):
        build()


def test_priors_of_gamma_form_serve_too():
    x, y = data(20, 2)
    gamma = (GammaPrior(2.0, 2.0, 0.2), Prior(1.0, low=1.0, high=1.0), Prior(0.01, low=1e-6))
    it, _, _, _ = fit_sparse(x, y, "rbf", *gamma, points=9)
    assert float(it.outputscale) == pytest.approx(1.0)
