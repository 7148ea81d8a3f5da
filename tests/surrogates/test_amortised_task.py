"""``hyperparameters: amortised`` of the Gaussian process task."""

import pytest
import torch
from helpers.surrogates import checkpoint_of

from lightning_al.surrogates import AmortisedGP, load, shipped
from lightning_al.surrogates.amortised_gp import hyperparameters_of
from lightning_al.tasks import GPRegression, SparseGPRegression
from lightning_al.tasks.amortised import SHIPPED


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return str(checkpoint_of(AmortisedGP(16, 2), tmp_path_factory.mktemp("agp") / "a.ckpt"))


def data(n=9, seed=0):
    it = torch.Generator().manual_seed(seed)
    x = 4 * torch.rand(n, 2, generator=it, dtype=torch.float64) - 1
    return x, torch.stack([torch.sin(5 * x[:, 0]), 100 + 7 * x.sum(1)], 1)


def learnt(path, **settings):
    task = GPRegression(2, hyperparameters="amortised", surrogate=path, **settings)
    task.learn(*data())
    return task


def test_hyper_parameters_are_the_networks_in_standardised_units(path):
    task, network = learnt(path), load(path).network
    for d in range(2):
        scale, output, noise = hyperparameters_of(network, task.x, task.y[:, d])
        torch.testing.assert_close(task.lengthscale[d], scale)
        torch.testing.assert_close(task.outputscale[d], output)
        torch.testing.assert_close(task.noise[d], noise)


def test_predictions_are_those_of_the_process_with_these_values(path):
    task = learnt(path)
    for d in range(2):
        fixed = GPRegression(
            1,
            hyperparameters="fixed",
            lengthscale=task.lengthscale[d].tolist(),
            outputscale=float(task.outputscale[d]),
            noise=float(task.noise[d]),
        )
        x, y = data()
        fixed.learn(x, y[:, d])
        points = data(5, seed=1)[0]
        for mine, its in zip(task.moments(points), fixed.moments(points), strict=True):
            torch.testing.assert_close(mine[:, [d]], its)


def test_units_of_data_change_nothing_but_units(path):
    task, other = learnt(path), GPRegression(2, hyperparameters="amortised", surrogate=path)
    x, y = data()
    other.learn(3 * x - 7, 5 * y + 2)
    points = data(5, seed=1)[0]
    mean, variance = task.moments(points)
    moved = other.moments(3 * points - 7)
    torch.testing.assert_close(moved[0], 5 * mean + 2, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(moved[1], 25 * variance, rtol=1e-3, atol=1e-3)


def test_it_is_written_down_and_read_again(path, tmp_path):
    task = learnt(path)
    assert task.hparams["surrogate"] == path
    fresh = GPRegression(**{k: v for k, v in task.hparams.items() if k != "metrics"})
    fresh.load_state_dict(task.state_dict())
    points = data(5, seed=1)[0]
    torch.testing.assert_close(fresh.moments(points)[0], task.moments(points)[0])


@pytest.mark.parametrize(
    "settings",
    [
        *({"kernel": "matern52"}, {"ard": False}, {"lengthscale": 1.0}, {"noise": 0.1}),
        *({"starts": 2}, {"standardize": False}, {"safety": True}),
    ],
)
def test_what_the_network_has_no_use_for_is_refused(settings, path):
    with pytest.raises(ValueError, match="'amortised' means rbf with a length scale a feature"):
        GPRegression(2, hyperparameters="amortised", surrogate=path, **settings)


def test_a_network_alone_is_refused_and_so_is_one_that_is_not_there(path):
    with pytest.raises(ValueError, match="is for hyperparameters='amortised'"):
        GPRegression(1, surrogate=path)
    with pytest.raises(LookupError, match="no surrogate named 'mine'; there are"):
        GPRegression(1, hyperparameters="amortised", surrogate="mine")
    with pytest.raises(ValueError, match="not 'published' or 'amortised'"):
        SparseGPRegression(1, hyperparameters="amortised")


@pytest.mark.skipif(SHIPPED not in shipped(), reason="no trained network is shipped")
def test_the_shipped_one_learns_length_scales():
    it = torch.Generator().manual_seed(3)
    x = torch.rand(60, 2, generator=it, dtype=torch.float64)
    y = torch.sin(12 * x[:, 0]) + 0.05 * torch.randn(60, generator=it, dtype=torch.float64)
    task = GPRegression(1, hyperparameters="amortised")
    task.learn(x, y)
    assert float(task.lengthscale[0, 1]) > 2 * float(task.lengthscale[0, 0])
    points = torch.rand(200, 2, generator=it, dtype=torch.float64)
    error = task(points)[:, 0] - torch.sin(12 * points[:, 0])
    assert float(error.square().mean().sqrt()) < 0.15
