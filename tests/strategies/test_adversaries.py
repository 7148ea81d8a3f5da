"""VAAL, WAAL and CEAL: what is unlike the labelled items, and what a network is sure of."""

from dataclasses import replace

import pytest
import torch
from helpers.small import blobs

from lightning_al.networks import MLP
from lightning_al.strategies import build
from lightning_al.strategies.trained.input_networks import Critic, Pairs, Vae
from lightning_al.tasks import SelfTraining
from lightning_al.testing import World


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def trained(module, batches):
    optimizer = module.configure_optimizers()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for i, batch in enumerate(batches):
            optimizer.zero_grad()
            module.training_step(batch, i).backward()
            optimizer.step()
    return module


def sides(n=200):
    """Labelled items on the left, a pool on both sides: [n, 4] each."""
    labelled = torch.randn(n, 4, generator=seeded())
    labelled[:, 0] -= 2
    pool = torch.randn(n, 4, generator=seeded(1))
    pool[:, 0] += torch.where(torch.arange(n) < n // 2, -2.0, 2.0)
    return labelled, pool


def vae(sample, **more):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        usual = {"latent": 2, "width": 16, "beta": 0.1, "adversary": 1.0, "lr": 0.01, "turns": 2}
        return Vae(sample, **(usual | more))


def batches(labelled, pool, steps):
    counts = (len(labelled), len(pool))
    return Pairs(labelled.__getitem__, pool.__getitem__, counts, 64, steps, 3)


def test_the_discriminator_is_surest_of_what_no_labelled_item_is_like():
    labelled, pool = sides()
    said = trained(vae(torch.cat([labelled, pool])), batches(labelled, pool, 240))(pool)
    near, far = said[:100].mean(), said[100:].mean()
    assert float(far) < float(near) - 0.2


def test_autoencoder_and_discriminator_take_turns():
    labelled, pool = sides(20)
    module = vae(pool)
    for step, mine in ((0, {"encoder", "decoder"}), (1, {"encoder", "decoder"}), (2, {"judge"})):
        module.zero_grad()
        module.training_step((labelled, pool), step).backward()
        moved = {n.split(".")[0] for n, p in module.named_parameters() if p.grad is not None}
        assert moved == mine


def test_the_critic_is_higher_where_the_pool_is_and_hardly_steeper_than_one():
    labelled, pool = sides()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        critic = Critic(torch.cat([labelled, pool]), 32, 5.0, 0.01)
    trained(critic, batches(labelled, pool, 200))
    said = critic(pool)
    assert float(said[100:].mean()) > float(said[:100].mean()) + 0.5
    points = pool.clone().requires_grad_()
    (slope,) = torch.autograd.grad(critic(points).sum(), points)
    assert float((slope * critic.scale).norm(dim=1).mean()) == pytest.approx(1, abs=0.5)


def test_without_a_critic_waal_takes_the_most_even_predictions():
    world, strategy = World.make("classification", 1), build("waal", critic_weight=0.0)
    probs = world.predictions.probs[:, 0].double()
    want = []
    for i in world.index.tolist():
        logs = [-float(p.log()) for p in probs[i]]
        want.append((-(sum(v * v for v in logs) ** 0.5 + sum(logs)) / 2, i))
    best = [i for _, i in sorted(want, reverse=True)[:5]]
    got = strategy.choose(world.pool(strategy), 5, seeded()).index.tolist()
    assert got == best
    even = torch.full((1, 1, 3), 1 / 3)
    even = replace(world.predictions, probs=torch.full((60, 1, 3), 1 / 3))
    assert float(strategy.score(even, world.context)[0]) > max(w for w, _ in want)


@pytest.mark.parametrize("name", ["vaal", "waal"])
def test_without_labelled_items_they_still_choose(name):
    world = World.make("classification", 1)
    context = replace(world.context, targets=None, n_labelled=0)
    world = replace(world, labelled=world.labelled[:0], context=context)
    strategy = build(name)
    assert len(set(strategy.choose(world.pool(strategy), 5, seeded()).index.tolist())) == 5


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("vaal", {"steps": 0}),
        ("vaal", {"beta": -1.0}),
        ("waal", {"lr": 0.0}),
        ("waal", {"penalty": -1.0}),
    ],
)
def test_settings_that_make_no_sense(name, wrong):
    with pytest.raises(ValueError, match=f"{name} needs"):
        build(name, **wrong)


# --- CEAL ----------------------------------------------------------------------------------------


def classifier(**more):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return SelfTraining(MLP(in_features=4, hidden=[8], outputs=3), 3, **more)


def test_only_what_is_sure_teaches_with_its_own_class():
    task = classifier(threshold=0.1, weight=2.0)
    items = blobs(12)
    inputs, labels = items.inputs, items.targets
    sure, classes = task.sure_of(torch.tensor([[9.0, 0, 0], [1.0, 0.9, 0], [0, 0, 8.0]]))
    assert sure.tolist() == [True, False, True]
    assert classes.tolist() == [0, 0, 2]
    plain = task.training_step((inputs, labels), 0)
    both = task.training_step({"labelled": (inputs, labels), "unlabelled": inputs}, 0)
    raw = task.raw(inputs)
    own, best = task.sure_of(raw)
    want = sum(float(task.item_losses(raw[i : i + 1], best[i : i + 1])) for i in own.nonzero())
    assert float(both) == pytest.approx(float(plain) + 2 * want / 12, rel=1e-5)


def test_the_threshold_falls_with_the_rounds_and_never_below_nothing():
    class Trainer:
        class datamodule:
            round = 4

    task = classifier(threshold=0.05, decay=0.01)
    assert task.limit == 0.05
    task._trainer = Trainer
    assert task.limit == pytest.approx(0.01)
    Trainer.datamodule.round = 40
    assert task.limit == 0.0
    task._trainer = None
    assert dict(task.hparams)["threshold"] == 0.05
    with pytest.raises(ValueError, match="decay must be"):
        classifier(decay=-1)
