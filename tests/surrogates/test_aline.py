"""ALINE: its size, who sees whom, its tasks, what choices are credited with, its training."""

import math

import pytest
import torch
from pytorch_lightning import Trainer
from pytorch_lightning.callbacks import ModelCheckpoint
from torch import nn

from lightning_al.policies.streams import Streams
from lightning_al.surrogates.aline import ALINE, Mixtures
from lightning_al.surrogates.aline_tasks import ALINETasks
from lightning_al.surrogates.aline_training import (
    ALINEDataModule,
    ALINEModule,
    credit,
    log_beliefs,
    roll_out,
)


def network(dimension=2, seed=0, **settings):
    torch.manual_seed(seed)
    made = ALINE(dimension, **{"width": 8, "hidden": 8, "heads": 2, **settings}).eval()
    for parameter in made.parameters():
        parameter.data.add_(0.3 * torch.randn_like(parameter))
    return made


def tasks(dimension=2, seed=0, **law):
    sizes = {"initial": 3, "pool": 5, "targets": 4, "batch": 3, **law}
    return ALINETasks(dimension, **sizes)(Streams.of(seed, 0, "aline"))


def changed(given, **fields):
    return type(given)(**{**vars(given), **fields})


def aimed(given, values):
    """At all values, or at all hyper-parameters."""
    flags = torch.full_like(given.selected, not values)
    flags[: given.target_y.shape[1]] = values
    return changed(given, selected=flags)


@pytest.mark.parametrize(("dimension", "count"), [(1, 84_703), (2, 84_863), (5, 85_343)])
def test_it_has_the_published_size(dimension, count):
    assert sum(p.numel() for p in ALINE(dimension).parameters()) == count
    three = sum(p.numel() for p in ALINE(dimension, layers=3).parameters())
    assert three - count == 12_704


@pytest.mark.parametrize("values", [True, False])
def test_it_is_the_transformer_with_the_mask_of_the_paper(values):
    """One sequence [context, pool, targets] through torch's own layers with a dense mask."""
    net, given = network(), aimed(tasks(), values)
    n, q, m = 3, 5, 4 + 3
    mask = torch.ones(n + q + m, n + q + m, dtype=torch.bool)  # True: may not look
    mask[:, :n] = False
    picked = n + q + given.selected.nonzero().squeeze(1)
    for row in range(n, n + q):
        mask[row, picked] = False
    context = net.place(given.x) + net.value(given.y.unsqueeze(-1))
    theta = net.theta.expand(3, -1, -1)
    tokens = torch.cat([context, net.place(given.pool_x), net.place(given.target_x), theta], 1)
    for layer in net.layers:
        dense = nn.TransformerEncoderLayer(8, 2, 8, 0.0, batch_first=True)
        attention = dense.self_attn
        attention.in_proj_weight.data = torch.cat([layer.query.weight, layer.key_value.weight])
        attention.in_proj_bias.data = torch.cat([layer.query.bias, layer.key_value.bias])
        attention.out_proj.load_state_dict(layer.out.state_dict())
        dense.linear1.load_state_dict(layer.first.state_dict())
        dense.linear2.load_state_dict(layer.second.state_dict())
        dense.norm1.load_state_dict(layer.norms[0].state_dict())
        dense.norm2.load_state_dict(layer.norms[1].state_dict())
        tokens = dense(tokens, src_mask=mask)
    logits, beliefs = net(given)
    torch.testing.assert_close(
        logits, net.acquire(tokens[:, n : n + q]).squeeze(-1), atol=1e-5, rtol=1e-4
    )
    wanted = net.beliefs(tokens[:, n + q :])
    for name in ("mean", "deviation", "log_weight"):
        torch.testing.assert_close(
            getattr(beliefs, name), getattr(wanted, name), atol=1e-5, rtol=1e-4
        )


def test_the_order_of_the_pool_is_followed_and_an_item_changes_no_other():
    net, given = network(), tasks()
    logits, beliefs = net(given)
    order = torch.tensor([2, 0, 4, 1, 3])
    moved, same = net(changed(given, pool_x=given.pool_x[:, order], pool_y=given.pool_y[:, order]))
    torch.testing.assert_close(moved, logits[:, order])
    torch.testing.assert_close(net(given.few(2))[0], logits[:, :2])
    torch.testing.assert_close(same.mean, beliefs.mean)
    torch.testing.assert_close(net(changed(given, pool_x=given.pool_x + 1))[1].mean, beliefs.mean)


def test_the_order_of_the_context_does_not_matter():
    net, given = network(), tasks()
    turned = changed(given, x=given.x.flip(1), y=given.y.flip(1))
    torch.testing.assert_close(net(turned)[0], net(given)[0])


def test_the_policy_looks_at_selected_targets_alone():
    net, given = network(), tasks()
    theta, values = aimed(given, False), aimed(given, True)
    moved = {"target_x": given.target_x + 0.5}
    torch.testing.assert_close(net(changed(theta, **moved))[0], net(theta)[0])
    assert float((net(changed(values, **moved))[0] - net(values)[0]).detach().abs().max()) > 1e-5
    assert float((net(values)[0] - net(theta)[0]).detach().abs().max()) > 1e-5
    torch.testing.assert_close(net(values)[1].mean, net(theta)[1].mean)


def test_answers_of_the_pool_and_of_targets_are_never_seen():
    net, given = network(), tasks()
    told = changed(given, pool_y=given.pool_y + 9, target_y=given.target_y - 9)
    torch.testing.assert_close(net(told)[0], net(given)[0])
    torch.testing.assert_close(net(told)[1].mean, net(given)[1].mean)


def test_mixtures_are_densities_with_their_moments():
    it = torch.Generator().manual_seed(0)
    draw = torch.randn(3, 10, generator=it, dtype=torch.float64)
    it = Mixtures(draw[0], draw[1].abs() + 0.1, draw[2].log_softmax(-1))
    grid = torch.linspace(-20, 20, 40_001, dtype=torch.float64)
    density = it.log_density(grid.unsqueeze(-1).squeeze(-1)).exp()
    mean, variance = it.moments()
    assert float(torch.trapezoid(density, grid)) == pytest.approx(1.0, abs=1e-6)
    assert float(torch.trapezoid(density * grid, grid)) == pytest.approx(float(mean), abs=1e-6)
    second = float(torch.trapezoid(density * (grid - mean) ** 2, grid))
    assert second == pytest.approx(float(variance), abs=1e-5)


def test_buying_moves_one_item_of_each_pool():
    given = tasks()
    rows = torch.tensor([4, 0, 2])
    after = given.bought(rows)
    assert after.x.shape[1] == 4
    assert after.pool_x.shape == (3, 4, 2)
    for b, row in enumerate(rows.tolist()):
        torch.testing.assert_close(after.x[b, -1], given.pool_x[b, row])
        torch.testing.assert_close(after.y[b, -1], given.pool_y[b, row])
        rest = [i for i in range(5) if i != row]
        torch.testing.assert_close(after.pool_y[b], given.pool_y[b, rest])


def test_tasks_are_of_their_law():
    many = tasks(1, batch=3000, initial=1, pool=1, targets=1)
    assert float(many.theta[:, 0].min()) >= 0.2
    assert float(many.theta[:, 0].mean()) == pytest.approx(1.1, abs=0.04)
    assert float(many.theta[:, 1].mean()) == pytest.approx(0.55, abs=0.02)
    ratio = many.y[:, 0].square() / many.theta[:, 1]
    assert float(ratio.mean()) == pytest.approx(1.0, abs=0.1)
    assert -1 <= float(many.x.min()) < -0.9
    two = tasks(2, batch=2000).theta[:, :2]
    share = float((two[:, 0] == two[:, 1]).float().mean())
    assert share == pytest.approx(0.5, abs=0.04)
    assert float(two.min()) >= 0.2 * math.sqrt(2) - 1e-6
    splits = torch.stack([tasks(seed=seed, batch=1).selected for seed in range(40)])
    assert 8 < int(splits[:, 0].sum()) < 32
    assert bool((splits[:, :4].all(1) != splits[:, 4:].all(1)).all())


def test_two_processes_draw_what_one_does():
    law, streams = ALINETasks(1, 2, 4, 3, 4), Streams.of(0, 5, "aline")
    whole = law(streams)
    for rank in (0, 1):
        part = law(streams, rank=rank, world=2)
        torch.testing.assert_close(part.pool_y, whole.pool_y[rank::2])
        assert torch.equal(part.selected, whole.selected)


def test_gains_of_a_rollout_add_up_and_chances_are_those_of_the_policy():
    net, given = network(), tasks()
    u = torch.rand(3, 4, generator=torch.Generator().manual_seed(0))
    done = roll_out(net, given, 4, u)
    assert done.selected.shape == (3, 5)
    assert done.log_chance.shape == (3, 4)
    first = log_beliefs(net(given)[1], given)
    torch.testing.assert_close(done.selected[:, 0], first[0])
    torch.testing.assert_close(done.everything[:, 0], first[1])
    flat = roll_out(net, given, 4, u, random=True).log_chance
    wanted = -torch.log(torch.tensor([5.0, 4.0, 3.0, 2.0])).expand(3, -1)
    torch.testing.assert_close(flat, wanted)
    best = net(given)[0].log_softmax(-1).max(1).values
    torch.testing.assert_close(roll_out(net, given, 1, None).log_chance[:, 0], best)


def test_choices_are_drawn_with_their_chances():
    net, given = network(), tasks(batch=1)
    chance = net(given)[0][0].softmax(-1).detach()
    u = (torch.arange(400).float() + 0.5) / 400
    many = changed(
        given,
        **{
            name: getattr(given, name).expand(400, *getattr(given, name).shape[1:])
            for name in ("x", "y", "pool_x", "pool_y", "target_x", "target_y", "theta")
        },
    )
    found = roll_out(net, many, 1, u[:, None]).log_chance[:, 0].exp().detach()
    for value in chance:
        share = float((found - value).abs().lt(1e-6).float().mean())
        assert share == pytest.approx(float(value), abs=0.01)


def test_credit_by_hand():
    beliefs = torch.tensor([[0.0, 1.0, 0.5, 2.0], [0.0, 0.0, 1.0, 1.0]])
    gains = torch.tensor([[1.0, -0.5, 1.5], [0.0, 1.0, 0.0]])
    to_go = torch.tensor([[2.0, 1.0, 1.5], [1.0, 1.0, 0.0]])
    torch.testing.assert_close(credit(beliefs, published=False), to_go - to_go.mean(0))
    own = gains.clamp_min(0)
    own = (own - own.mean(0)) / own.std(0, correction=0)
    own[:, -1] = 0
    torch.testing.assert_close(credit(beliefs, published=True), own, atol=1e-6, rtol=1e-6)
    discounted = credit(beliefs, published=True, gamma=0.5)
    torch.testing.assert_close(discounted, own, atol=1e-6, rtol=1e-6)  # it cancels
    half = torch.tensor([[1.125, 0.125, 0.375], [0.5, 0.5, 0.0]])
    torch.testing.assert_close(credit(beliefs, False, 0.5), half - half.mean(0))


# --- training ------------------------------------------------------------------------------------


def module(seed=0, **settings):
    torch.manual_seed(seed)
    return ALINEModule(ALINE(1, 8, 8, 2), **{"horizon": 3, "burn_in": 3, **settings})


def fit(tmp_path, model, *callbacks, epochs=2, ckpt=None):
    trainer = Trainer(
        accelerator="cpu",
        devices=1,
        max_epochs=epochs,
        callbacks=list(callbacks),
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        default_root_dir=tmp_path,
        enable_checkpointing=bool(callbacks),
        logger=False,
    )
    law = ALINETasks(1, pool=5, targets=3, batch=4)
    trainer.fit(model, ALINEDataModule(law, 3), ckpt_path=ckpt)
    return trainer


def weights(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()])


@pytest.mark.parametrize("published", [True, False])
def test_a_training_that_was_stopped_goes_on_as_if_it_had_not_been(published, tmp_path):
    whole = module(published=published)
    trainer = fit(tmp_path, whole)
    assert {"train/log_belief", "val/own", "val/random"} <= set(trainer.callback_metrics)
    kept = ModelCheckpoint(tmp_path, filename="{epoch}", save_top_k=-1)
    fit(tmp_path, module(published=published), kept)
    path = next(p for p in tmp_path.glob("*.ckpt") if "epoch=0" in p.name)
    resumed = module(seed=9, published=published)
    fit(tmp_path, resumed, ckpt=path)
    assert torch.equal(weights(resumed), weights(whole))


def test_the_acquisition_head_waits_for_the_end_of_the_burn_in(tmp_path):
    model = module(burn_in=3)
    before = weights(model.network.acquire)
    fit(tmp_path, model, epochs=1)
    # weight decay alone moves it: AdamW leaves alone what has no gradient
    assert torch.equal(weights(model.network.acquire), before)
    model = module(burn_in=2)
    fit(tmp_path, model, epochs=1)
    assert not torch.equal(weights(model.network.acquire), before)


def test_learning_rates_of_the_two_phases(tmp_path):
    trainer = fit(tmp_path, module(burn_in=2), epochs=2)
    trunk, head = trainer.lr_scheduler_configs[0].scheduler.lr_lambdas
    assert trunk(0) == head(0) == 1.0
    assert [trunk(2), head(2)] == [pytest.approx(0.2), 1.0]
    assert head(6) == pytest.approx(0.0, abs=1e-12)


def test_what_is_no_aline_is_refused():
    with pytest.raises(TypeError, match=r"ALINE's network is wanted, got Linear"):
        ALINEModule(torch.nn.Linear(1, 1))
    with pytest.raises(ValueError, match="dimension must be a whole number from 1"):
        ALINE(0)
    with pytest.raises(ValueError, match="scales are the least and largest"):
        ALINETasks(scales=(2.0, 0.2))
