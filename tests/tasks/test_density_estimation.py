"""Densities of the inputs: likelihoods that integrate to 1, learnt without answers."""

import math

import pytest
import pytorch_lightning as pl
import torch
from helpers import small
from torch.distributions import Normal

from lightning_al.datamodules import ActiveDataModule
from lightning_al.datamodules.tensors import TensorItems
from lightning_al.networks import InputFlow, build
from lightning_al.scoring.scorer import Scorer
from lightning_al.strategies import resolve
from lightning_al.tasks import Adapter, DensityEstimation

SMALL = {"hidden_features": [16]}


def flow(width=2, **more):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return InputFlow(width, **({"arguments": SMALL} | more))


def test_the_mass_over_all_inputs_is_one():
    z = torch.linspace(-9, 9, 121)
    with torch.no_grad():
        log_density = flow()(torch.cartesian_prod(z, z))
    mass = log_density.double().exp().sum() * float(z[1] - z[0]) ** 2
    assert float(mass) == pytest.approx(1, abs=5e-3)


def test_a_gradient_reaches_every_parameter_and_the_loss_is_the_mean():
    task, x = DensityEstimation(flow()), torch.randn(40, 2)
    raw = task.raw(x)
    loss = task.loss(raw, torch.zeros(40))
    torch.testing.assert_close(loss, -raw.mean())
    torch.testing.assert_close(task.item_losses(raw, torch.zeros(40)), -raw[:, 0])
    loss.backward()
    assert all(bool((p.grad != 0).any()) for p in task.parameters())


def test_latents_are_normals_with_the_slope_of_the_density():
    network, x = flow(1), torch.randn(30, 1, requires_grad=True)
    z = network.latent(x)
    (slope,) = torch.autograd.grad(z.sum(), x)
    wanted = Normal(0.0, 1.0).log_prob(z) + slope.abs().log()
    torch.testing.assert_close(network(x), wanted, rtol=1e-4, atol=1e-4)
    assert network.sample(5).shape == (5, 1)


def fitted(epochs):
    g = torch.Generator().manual_seed(1)
    x = torch.cat([0.3 * torch.randn(80, 2, generator=g), torch.tensor([[4.0, 4.0], [-4.0, 3.5]])])
    data = ActiveDataModule(
        TensorItems(x, torch.zeros(82)),
        TensorItems(x[:40], torch.zeros(40)),
        initial=list(range(40)),
    )
    data.start(0)
    task = DensityEstimation(flow(), lr=0.01)
    quiet = dict.fromkeys(("checkpointing", "progress_bar", "model_summary"), False)
    quiet = {f"enable_{name}": value for name, value in quiet.items()}
    run = pl.Trainer(**small.TRAINER | quiet | {"max_epochs": epochs, "num_sanity_val_steps": 0})
    if epochs:
        run.fit(task, datamodule=data)
    return task.eval(), data, run.test(task, datamodule=data, verbose=False)[0]


def test_a_fit_raises_the_likelihood_and_the_least_likely_items_are_found():
    _, _, before = fitted(0)
    task, data, after = fitted(15)
    assert list(after) == ["test/nll"]
    assert after["test/nll"] < before["test/nll"] - 0.5
    strategy = resolve({"name": "greedy", "maximize": False})
    pool = Scorer(task, data, Adapter.for_task(task)).pool(strategy)
    chosen = strategy.choose(pool, 2, torch.Generator().manual_seed(0)).index
    assert sorted(chosen.tolist()) == [80, 81]
    k_center = resolve("k-center")  # by where the flow puts the items
    pool = Scorer(task, data, Adapter.for_task(task)).pool(k_center)
    assert len(k_center.choose(pool, 3, torch.Generator().manual_seed(0)).index) == 3


def test_a_checkpoint_is_rebuilt_and_what_makes_no_sense_is_refused():
    network = flow()
    again = build(network.spec)
    again.load_state_dict(network.state_dict())
    x = torch.randn(4, 2)
    torch.testing.assert_close(again(x), network(x))
    with pytest.raises(ValueError, match="InputFlow needs in_features"):
        InputFlow()
    with pytest.raises(LookupError, match=r"no flow of zuko named 'NFS' .did you mean 'NSF'"):
        InputFlow(2, flow="NFS")
    task = DensityEstimation(flow())
    with pytest.raises(ValueError, match="the log-density of each item"):
        task.loss(torch.zeros(4, 3), torch.zeros(4))
    raw = torch.tensor([[0.0], [math.nan]])
    with pytest.raises(ValueError, match="1 of 2 items of a batch is NaN, the first is row 1"):
        task.loss(raw, torch.zeros(2))
