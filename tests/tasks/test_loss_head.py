"""Heads that predict losses: trained beside a task, or on embeddings, and asked by a strategy."""

import math
from dataclasses import replace

import pytest
import pytorch_lightning as pl
import torch
from helpers import small
from torch import nn

from lightning_al.networks import MLP, Ensemble, ResNet18, SmallCNN
from lightning_al.strategies import build
from lightning_al.strategies.around.composition import EMPTY
from lightning_al.strategies.trained.learning_loss import labelled_losses
from lightning_al.tasks import Classification, LossHead, PlaceClassification, Regression
from lightning_al.tasks.loss_head import LossPredictor, ranking_loss
from lightning_al.testing import World

F, C = 4, 3


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def chosen(strategy, pool, k, seed=0):
    return strategy.choose(pool, k, seeded(seed)).index.tolist()


def task(network=None, **settings):
    torch.manual_seed(0)
    network = MLP(F, [8], C) if network is None else network
    return Classification(network, C, lr=0.02, loss_head=LossHead(width=16, **settings))


def batch(n=12, seed=0):
    drawn = seeded(seed)
    return torch.randn(n, F, generator=drawn), torch.randint(C, (n,), generator=drawn)


def fit(module, epochs=3, data=None):
    data = small.datamodule(initial=40) if data is None else data
    data.start(0)
    quiet = {"enable_progress_bar": False, "enable_checkpointing": False}
    trainer = pl.Trainer(**(small.TRAINER | quiet | {"max_epochs": epochs}))
    trainer.fit(module, data)
    return module


# --- the ranking loss ------------------------------------------------------------------------


@pytest.mark.parametrize("n", [2, 3, 8, 9])
@pytest.mark.parametrize("margin", [0.3, 1.0])
def test_ranking_loss_is_a_hinge_on_pairs(n, margin):
    drawn = seeded(n)
    predicted = torch.randn(n, generator=drawn, dtype=torch.float64)
    losses = torch.rand(n, generator=drawn, dtype=torch.float64)
    pairs = [(i, i + n // 2) for i in range(n // 2)]
    slow = 0.0
    for i, j in pairs:
        sign = 1 if losses[i] > losses[j] else -1
        slow += max(0.0, float(-sign * (predicted[i] - predicted[j]) + margin)) / len(pairs)
    assert float(ranking_loss(predicted, losses, margin)) == pytest.approx(slow)


def test_only_the_order_of_the_true_losses_counts():
    predicted, losses = torch.randn(10, generator=seeded(1)), torch.rand(10, generator=seeded(2))
    plain = ranking_loss(predicted, losses)
    assert torch.equal(plain, ranking_loss(predicted, 1e3 * losses.exp()))
    torch.testing.assert_close(plain, ranking_loss(predicted + 7.5, losses))
    assert ranking_loss(10 * losses.argsort().argsort(), losses) == 0  # in order, a margin apart


def test_pairs_that_teach_nothing():
    predicted = torch.randn(4, requires_grad=True)
    for losses in (torch.ones(4), torch.ones(1)):
        value = ranking_loss(predicted[: len(losses)], losses)
        value.backward()
        assert value == 0
    assert not predicted.grad.any()
    with pytest.raises(ValueError, match=r"predicted \[n\] and losses \[n\]"):
        ranking_loss(predicted, torch.ones(3))


def test_no_gradient_reaches_the_true_losses():
    losses = torch.rand(6, requires_grad=True)
    ranking_loss(torch.randn(6, requires_grad=True), losses).backward()
    assert losses.grad is None


# --- beside a task ---------------------------------------------------------------------------


def gradients(module, x, y, epoch):
    module.zero_grad()
    module.__class__.current_epoch = property(lambda self: epoch)
    try:
        module.training_step((x, y), 0).backward()
    finally:
        del module.__class__.current_epoch
    return {n: p.grad.clone() for n, p in module.named_parameters()}


def test_from_the_stop_epoch_on_the_network_feels_the_task_alone():
    x, y = batch()
    module = type("Own", (Classification,), {})(MLP(F, [8], C), C, loss_head=LossHead(stop_epoch=2))
    plain = Classification(MLP(F, [8], C), C)
    plain.network.load_state_dict(module.network.state_dict())
    plain.training_step((x, y), 0).backward()
    alone = {f"network.{n}": p.grad for n, p in plain.network.named_parameters()}
    for epoch in (0, 1, 2, 5):
        found = gradients(module, x, y, epoch)
        same = all(torch.allclose(found[n], g, atol=1e-7) for n, g in alone.items())
        assert same == (epoch >= 2)
        assert any(g.any() for n, g in found.items() if n.startswith("loss_head"))


@pytest.mark.parametrize(
    ("settings", "epoch", "share", "stopped"),
    [
        ({}, 0, 0.59, False),
        ({}, 0, 0.6, True),
        ({"stop_share": 0.25}, 0, 0.25, True),
        ({"stop_share": None}, 99, 1.0, False),
        ({"stop_share": 0.0}, 0, 0.0, True),
        ({"stop_epoch": 3}, 2, 0.9, False),  # the epoch wins
        ({"stop_epoch": 3}, 3, 0.1, True),
    ],
)
def test_when_the_ranking_loss_stops_moving_the_network(settings, epoch, share, stopped):
    assert LossHead(**settings).stopped(epoch, share) == stopped


@pytest.mark.parametrize(
    ("limits", "wanted"),
    [
        ({"max_epochs": 5}, [i / 20 for i in range(20)]),
        ({"max_steps": 10}, [i / 10 for i in range(10)]),
        ({"max_epochs": 5, "accumulate_grad_batches": 2}, [i // 2 / 10 for i in range(20)]),
        ({"max_epochs": 2, "max_steps": 4}, [i / 4 for i in range(4)]),
    ],
)
def test_the_share_of_a_fit_counts_steps(limits, wanted):
    shares = []

    class Watched(Classification):
        def training_step(self, batch, batch_idx):
            shares.append(self._share())
            return super().training_step(batch, batch_idx)

    x, y = torch.randn(32, F), torch.arange(32) % C
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, y), batch_size=8)
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    pl.Trainer(accelerator="cpu", **quiet, **limits).fit(Watched(MLP(F, [8], C), C), loader)
    assert shares == pytest.approx(wanted)
    assert Watched(MLP(F, [8], C), C)._share() == 0  # nobody fits it


@pytest.mark.parametrize("weight", [0.5, 2.0])
def test_the_training_loss_is_the_sum(weight):
    x, y = batch()
    module = task(weight=weight, margin=0.7)
    hidden = nn.Sequential(*list(module.network)[:-1])(x)
    predicted = module.loss_head.out(module.loss_head.branches[0](hidden).relu()).squeeze(1)
    logits = module.network(x)
    each = nn.functional.cross_entropy(logits, y, reduction="none")
    wanted = each.mean() + weight * ranking_loss(predicted, each, 0.7)
    torch.testing.assert_close(module.training_step((x, y), 0), wanted)
    torch.testing.assert_close(module.predicted_losses(x), predicted)


def test_a_head_learns_which_items_are_hard():
    """Labels on one side of the plane are coin flips: the largest losses are there."""
    drawn = seeded(3)
    x = torch.randn(400, F, generator=drawn)
    noisy = x[:, 0] > 0
    y = torch.where(noisy, torch.randint(C, (400,), generator=drawn), (x[:, 1] > 0).long())
    train = small.TensorItems(x[:300], y[:300])
    data = small.datamodule(train, small.TensorItems(x[300:], y[300:]), initial=300, batch_size=50)
    module = fit(task(), 30, data).eval()
    told = module.predicted_losses(x[300:])
    assert told[noisy[300:]].mean() > told[~noisy[300:]].mean() + 0.5


@pytest.mark.parametrize(
    ("network", "layers", "widths", "x"),
    [
        (MLP(F, [8, 6], C), None, [6], torch.randn(5, F)),
        (MLP(F, [8, 6], C), ["1", "3", "5:input"], [8, 6, 6], torch.randn(5, F)),
        (SmallCNN(2, C, 10), ["0", "2"], [32, 32], torch.randn(5, 2, 10, 10)),
        (SmallCNN(2, C, 10), {"1": 32}, [32], torch.randn(5, 2, 10, 10)),
        (ResNet18(3, C), ["layer1", "layer2", "layer4"], [64, 128, 512], torch.randn(2, 3, 8, 8)),
        (Ensemble(MLP(F, [8], C), 3), None, [8, 8, 8], torch.randn(5, F)),
    ],
    ids=["default", "several", "channels", "told", "resnet", "ensemble"],
)
def test_layers_tell_their_features(network, layers, widths, x):
    module = Classification(network, C, loss_head=LossHead(layers, width=7))
    assert [b.in_features for b in module.loss_head.branches] == widths
    assert module.predicted_losses(x).shape == (len(x),)
    module.training_step((x, torch.arange(len(x)) % C), 0).backward()
    assert all(p.grad is not None for p in module.loss_head.parameters())


def test_feature_maps_are_averaged_over_their_places():
    head = LossPredictor(LossHead({"a": 2}, width=3), nn.Identity())
    maps = torch.randn(4, 2, 5, 6)
    torch.testing.assert_close(head([maps]), head([maps.mean((2, 3))]))


@pytest.mark.parametrize(
    ("network", "settings", "said"),
    [
        (nn.Sequential(nn.Flatten()), {}, "no embedding for a LossHead"),
        (MLP(F, [8], C), {"layers": ["nine"]}, "no layer 'nine'"),
        (MLP(F, [8], C), {"layers": ["2"]}, "does not tell"),
    ],
)
def test_layers_that_cannot_be_read(network, settings, said):
    with pytest.raises(ValueError, match=said):
        Classification(network, C, loss_head=LossHead(**settings))


@pytest.mark.parametrize(
    "wrong", [{"width": 0}, {"weight": 0}, {"margin": -1.0}, {"stop_epoch": -1}]
)
def test_settings_of_the_head_that_make_no_sense(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        LossHead(**wrong)


@pytest.mark.parametrize("kind", ["classes", "members", "places", "mse", "gaussian"])
def test_item_losses_average_to_the_loss(kind):
    drawn = seeded(5)
    if kind in ("mse", "gaussian"):
        module = Regression(MLP(F, [8], 2 if kind == "mse" else 4), 2, kind)
        module.target_mean.fill_(0.5)
        raw = torch.randn(6, 2 if kind == "mse" else 4, generator=drawn)
        y, share = torch.randn(6, 2, generator=drawn), 1
    else:
        shape = {"classes": (6, C), "members": (6, 4, C), "places": (6, C, 5)}[kind]
        network = Ensemble(MLP(F, [8], C), 4) if kind == "members" else MLP(F, [8], C)
        cls = PlaceClassification if kind == "places" else Classification
        module, raw = cls(network, C), torch.randn(shape, generator=drawn)
        share = 4 if kind == "members" else 1
        y = torch.randint(C, (6, 5) if kind == "places" else (6,), generator=drawn)
    each = module.item_losses(raw, y)
    assert each.shape == (6,)
    torch.testing.assert_close(each.mean() * share, module.loss(raw, y))
    row = module.item_losses(raw[2:3], y[2:3])
    torch.testing.assert_close(row, each[2:3])


def test_places_without_a_label_do_not_count():
    module, raw = PlaceClassification(MLP(F, [8], C), C), torch.randn(2, C, 4)
    y = torch.tensor([[0, 1, -100, -100], [-100] * 4])
    each = module.item_losses(raw, y)
    torch.testing.assert_close(each[0], nn.functional.cross_entropy(raw[:1, :, :2], y[:1, :2]))
    assert each[1] == 0


def test_a_checkpoint_brings_the_head_back(tmp_path):
    module, x = fit(task(layers=["1"], stop_epoch=1)), batch()[0]
    module.trainer.save_checkpoint(tmp_path / "it.ckpt")
    again = Classification.load_from_checkpoint(tmp_path / "it.ckpt")
    assert again.loss_head.settings == LossHead(["1"], width=16, stop_epoch=1)
    torch.testing.assert_close(again.eval().predicted_losses(x), module.eval().predicted_losses(x))


def test_a_task_without_a_head_is_what_it_was():
    module = small.task()
    assert "loss_head" not in module.hparams
    assert not any("loss_head" in name for name in module.state_dict())
    with pytest.raises(LookupError, match="no loss head; build it with loss_head=LossHead"):
        module.predicted_losses(batch()[0])


def test_a_run_with_a_head_is_chosen_by_it(learner):
    whole = {"name": "learning-loss", "subset": 10**6}
    found = learner(strategy=whole, task=task, budget=5).run()
    first = found.rounds[0]
    module = task()
    module.load_state_dict(small.weights(found.run_dir / first.checkpoint))
    data = small.datamodule()
    data.start(0)
    told = module.eval().predicted_losses(data.items.inputs(data.pool))
    best = data.pool[told.argsort(descending=True)[:5]]
    assert list(first.acquired) == best.tolist()


# --- learning-loss ---------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["classification", "regression"])
def test_losses_of_labelled_items(kind):
    world = World.make(kind, 3, seed=2)
    pool, seen = world.pool(build("learning-loss")), world.predictions
    targets = world.context.targets
    slow = []
    for item, y in zip(world.labelled.tolist(), targets, strict=True):
        if kind == "classification":
            slow.append(-math.log(sum(float(p[int(y)]) for p in seen.probs[item]) / 3))
        else:
            mean = sum(float(m) for m in seen.mean[item]) / 3
            slow.append((mean - float(y)) ** 2 / float(targets.var(unbiased=False)))
    wanted = torch.tensor(slow).double()
    torch.testing.assert_close(labelled_losses(pool).double(), wanted, atol=1e-4, rtol=1e-4)


def many_labels(seed=0):
    """A world of 40 labelled items whose labels a rule of the embedding contradicts."""
    world = World.make("classification", 1, seed)
    labelled = torch.arange(20, 60)[~torch.isin(torch.arange(20, 60), world.index)]
    labelled = torch.cat([torch.arange(20), labelled])[:40]
    seen = world.predictions
    wrong = seen.embedding[labelled, 0] > 0  # there the model is always wrong
    best = seen.probs[labelled, 0].argmax(1)
    targets = torch.where(wrong, (best + 1) % 3, best)
    context = replace(world.context, targets=targets, n_labelled=40)
    return replace(world, labelled=labelled, context=context)


@pytest.mark.parametrize("seed", range(3))
def test_a_head_trained_here_finds_where_the_model_is_wrong(seed, monkeypatch):
    monkeypatch.setattr("lightning_al.testing.world_bench.STEPS", 200)
    world, strategy = many_labels(seed), build("learning-loss", width=32)
    pool = world.pool(strategy)
    bad = world.predictions.embedding[world.index, 0] > 0
    expected = strategy.late_scores(pool)
    ranks = expected.argsort().argsort().float()
    assert float(ranks[bad].mean()) > float(ranks[~bad].mean()) + 3
    best = expected.argsort(descending=True)[:4]
    assert set(chosen(strategy, pool, 4, seed)) == set(pool.index[best].tolist())


@pytest.mark.parametrize("count", [0, 1])
def test_with_fewer_than_two_labelled_items_some_are_drawn(count):
    world = World.make("classification", 1)
    targets = world.context.targets[:count] if count else None
    context = replace(world.context, n_labelled=count, targets=targets)
    world = replace(world, labelled=world.labelled[:count], context=context)
    strategy = build("learning-loss")
    draws = {frozenset(chosen(strategy, world.pool(strategy), 4, s)) for s in range(20)}
    assert len(draws) > 10


def test_a_task_with_a_head_of_its_own_is_asked():
    world, strategy = World.make("classification", 1), build("learning-loss")
    pool = world.pool(strategy)
    pool.bench.task.predicted_losses = lambda inputs: inputs[:, 2]
    third = world.predictions.embedding[world.index, 2]
    best = world.index[third.argsort(descending=True)[:5]].tolist()
    assert chosen(strategy, pool, 5) == best
    part = pool.subset(torch.arange(4, 12))
    assert chosen(strategy, part, 8)[0] == int(part.index[third[4:12].argmax()])


@pytest.mark.parametrize(("subset", "k", "seen"), [(2.0, 3, 6), (1.0, 4, 4), (9, 3, 9), (2, 5, 5)])
def test_a_random_part_of_the_pool_is_looked_at(subset, k, seen):
    world, strategy = World.make("classification", 1), build("learning-loss", subset=subset)
    pool = world.pool(strategy)
    pool.bench.task.predicted_losses = lambda inputs: inputs[:, 2]
    third = world.predictions.embedding[:, 2]
    drawn = set()
    for seed in range(30):
        made = strategy.choose(pool, k, seeded(seed))
        assert made.notes == {"looked at": seen}
        values = third[made.index].tolist()
        assert values == sorted(values, reverse=True)
        drawn.add(frozenset(made.index.tolist()))
    assert len(drawn) > 5
    whole = build("learning-loss", subset=100).choose(pool, k, seeded())
    assert set(whole.index.tolist()) == set(world.index[third[world.index].argsort()[-k:]].tolist())


AROUND = {
    "weighted-sum": {"parts": ["learning-loss"], "normalise": "none"},
    "filter-then-choose": {"filter": "random", "then": "learning-loss", "keep": 17},
    "epsilon-greedy": {"strategy": {"name": "learning-loss", "subset": 100}, "epsilon": 0.0},
    "density-weighted": {"score": "learning-loss", "beta": 0.0},
    "soft-rank": {"score": "learning-loss", "beta": 1e6},
    "per-class-quota": {"strategy": {"name": "learning-loss", "subset": 100}, "slack": 99},
}


@pytest.mark.parametrize("name", AROUND)
@pytest.mark.parametrize("own", [True, False], ids=["the task's head", "a head trained here"])
def test_compositions_take_it(name, own):
    """Compositions that add nothing choose the items of the largest predicted losses."""
    world, strategy = many_labels(), build(name, **AROUND[name])
    pool = world.pool(strategy)
    if own:
        pool.bench.task.predicted_losses = lambda inputs: 1.5 + inputs[:, 2].tanh()
    expected = build("learning-loss").late_scores(pool)
    if name == "density-weighted" and not own:  # of scores from 0 on
        return
    made = strategy.choose(pool, 4, seeded())
    best = pool.index[expected.argsort(descending=True)[:4]]
    if name == "filter-then-choose":  # which looks at a random part
        assert set(made.index.tolist()) <= set(pool.index.tolist())
    else:
        assert set(made.index.tolist()) == set(best.tolist())


def test_late_scores_inside_compositions_inside_compositions():
    inner = {"name": "weighted-sum", "parts": ["margin", "learning-loss"], "weights": [1, 0.5]}
    strategy = build("weighted-sum", parts=["bald", inner, "learning-loss"], normalise="none")
    world = many_labels()
    pool = world.pool(strategy)
    losses = build("learning-loss").late_scores(pool).to(pool.scores)
    assert pool.scores.shape == (len(pool), 4)
    assert bool((pool.scores[:, [2, 3]] == EMPTY).all())  # nobody knows them yet
    table = strategy.table(pool)
    torch.testing.assert_close(table[:, 2], losses)
    torch.testing.assert_close(table[:, 3], losses)
    torch.testing.assert_close(table[:, :2], pool.scores[:, :2])
    again = strategy.table(replace(pool, scores=table))
    assert torch.equal(again, table)
    assert len(strategy.choose(pool, 5, seeded()).index) == 5
