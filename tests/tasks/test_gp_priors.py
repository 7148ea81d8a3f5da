"""MAP hyper-parameters are where evidence times priors is largest, both written down anew here."""

import math

import pytest
import pytorch_lightning as pl
import torch
from helpers import small

from lightning_al.tasks import GPClassification, GPRegression

QUIET = small.TRAINER | {"max_epochs": 1, "enable_progress_bar": False}
QUIET |= {"enable_model_summary": False, "enable_checkpointing": False}
# log-normal priors as the documents give them: median and spread of the logarithm
NOISE, SCALE = (0.1, 2.0), (1.0, 1.0)


def length(dimensions):
    """Hvarfner, Hellsten and Nardi (2024): longer in more dimensions."""
    return 2.0 * math.sqrt(dimensions), 1.0


def drawn(n, dimensions, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, dimensions, generator=generator)
    y = torch.sin(x[:, 0]) + 0.3 * x[:, -1] + 0.3 * torch.randn(n, generator=generator)
    return x, y


def fitted(task, x, y):
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, y), len(x))
    pl.Trainer(**QUIET).fit(task, loader)
    return task


def log_prior(theta, prior):
    median, spread = prior
    return -0.5 * ((theta - math.log(median)) / spread).square().sum()


def standardised(values):
    return (values - values.mean(0)) / values.std(0, unbiased=False)


def objective(logs, x, y):
    """Log evidence and log priors at logarithms [D + 2]: length scales, output scale, noise."""
    scales, scale, noise = logs[:-2], logs[-2], logs[-1]
    apart = (x[:, None] - x) / scales.exp()
    kernel = scale.exp() * torch.exp(-0.5 * apart.square().sum(-1))
    covariance = kernel + noise.exp() * torch.eye(len(x), dtype=x.dtype)
    law = torch.distributions.MultivariateNormal(torch.zeros_like(y), covariance)
    priors = log_prior(scales, length(x.shape[1])) + log_prior(scale, SCALE)
    return law.log_prob(y) + priors + log_prior(noise, NOISE)


@pytest.mark.parametrize("dimensions", [1, 4, 9])
def test_map_is_stationary_under_evidence_times_priors(dimensions):
    x, y = drawn(12, dimensions)
    task = fitted(GPRegression(), x, y)
    x, y = standardised(x.double()), standardised(y.double())
    found = torch.cat([task.lengthscale[0], task.outputscale[:1], task.noise[:1]]).log()
    logs = found.expand(dimensions + 2).clone().requires_grad_()
    (slope,) = torch.autograd.grad(objective(logs, x, y), logs)
    assert slope.abs().max() < 1e-2
    # it is a summit, not a saddle
    best = objective(logs, x, y)
    for direction in torch.eye(len(logs), dtype=logs.dtype):
        for step in (-0.2, 0.2):
            assert objective(logs + step * direction, x, y) < best


@pytest.mark.parametrize("dimensions", [2, 16])
def test_without_a_signal_the_priors_decide(dimensions):
    """Labels without meaning, two items: what is found lies near the medians of the priors."""
    x = torch.tensor([[0.0], [1.0]]).expand(2, dimensions).contiguous()
    task = fitted(GPRegression(), x, torch.tensor([0.0, 1.0]))
    off = task.lengthscale.log() - math.log(2.0 * math.sqrt(dimensions))
    assert off.abs().max() < 0.5
    labels = torch.tensor([0, 1])
    other = fitted(GPClassification(classes=2), x, labels)
    off = other.lengthscale.log() - math.log(2.0 * math.sqrt(dimensions))
    assert off.abs().max() < 0.5
