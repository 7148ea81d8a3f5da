"""A round's fit: everything fresh, weights by policy, and fits that did nothing refused."""

import pytest
import pytorch_lightning as pl
import torch
from helpers import small
from pytorch_lightning.callbacks import EarlyStopping, ModelCheckpoint
from torch import nn

from lightning_al.fits.lightning import Recipe, fit_round
from lightning_al.fits.weights import WEIGHTS, start_weights
from lightning_al.networks import MLP
from lightning_al.randomness import generator
from lightning_al.tasks import Adapter, Classification


class Spy(pl.Callback):
    """Looks at the stateful callbacks around it when a fit starts and when it ends."""

    seen: list = []  # noqa: RUF012 - shared by the copies that each round makes

    def on_fit_start(self, trainer, pl_module):
        stop, best = trainer.early_stopping_callback, trainer.checkpoint_callback
        optimizer_steps = trainer.global_step
        Spy.seen.append(
            (stop.wait_count, stop.stopped_epoch, best.best_model_path, optimizer_steps)
        )

    def on_fit_end(self, trainer, pl_module):
        stop, best = trainer.early_stopping_callback, trainer.checkpoint_callback
        ended = (stop.wait_count, trainer.current_epoch, best.best_model_path)
        state = trainer.optimizers[0].state
        Spy.seen.append((*ended, trainer, [stop, best], len(state), id(pl_module)))


@pytest.fixture
def spied():
    Spy.seen = []
    return Spy.seen


def as_mapping():
    return small.TRAINER | {"max_epochs": 12, "callbacks": callbacks()}


def callbacks():
    return [
        EarlyStopping("val/accuracy", mode="max", patience=1),
        ModelCheckpoint(monitor="val/accuracy", mode="max"),
        Spy(),
    ]


def a_trainer():
    quiet = {"enable_progress_bar": False, "enable_model_summary": False}
    return pl.Trainer(**as_mapping(), **quiet)


@pytest.mark.parametrize("trainer", [as_mapping(), as_mapping, a_trainer])
def test_no_state_survives_a_round(learner, spied, trainer, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data = small.datamodule(val=0.2)
    history = learner(trainer=trainer, restore="best", datamodule=data).run()
    starts, ends = spied[0::2], spied[1::2]
    assert starts == [(0, 0, "", 0)] * 3
    assert all(wait == 1 for wait, *_ in ends)  # patience was used up each time, by its own fit
    best = [end[2] for end in ends]
    assert len(set(best)) == 3
    trainers = [end[3] for end in ends]
    stateful = [callback for end in ends for callback in end[4]]
    assert len(set(map(id, trainers))) == 3
    assert len(set(map(id, stateful))) == 6
    for r, path in zip(history.rounds, best, strict=True):
        kept = small.weights(history.run_dir / r.checkpoint)
        assert small.same_weights(dict(kept), dict(small.weights(path)))


def test_best_differs_from_last_and_needs_a_monitor(learner):
    data = small.datamodule(val=0.2)
    trainer = small.TRAINER | {"max_epochs": 8}
    watch = [ModelCheckpoint(monitor="val/accuracy", mode="max")]
    best = learner(
        trainer=trainer | {"callbacks": watch}, restore="best", datamodule=data, budget=5
    ).run()
    assert all(r.metrics["val/accuracy"] >= 0 for r in best.rounds)
    for callback in ([], [ModelCheckpoint()]):
        again = learner(
            trainer=trainer | {"callbacks": callback},
            restore="best",
            datamodule=data,
            overwrite=True,
        )
        with pytest.raises(
            ValueError, match="restore='best' needs a ModelCheckpoint with a monitor"
        ):
            again.run()


@pytest.mark.parametrize("same", ["trainer", "callback", "callback in arguments"])
def test_a_trainer_function_that_reuses_is_refused(learner, same):
    callback = EarlyStopping("train/loss")
    trainer = pl.Trainer(**small.TRAINER, enable_progress_bar=False)

    def factory():
        if same == "trainer":
            return trainer
        if same == "callback":
            return pl.Trainer(**small.TRAINER, callbacks=[callback], enable_progress_bar=False)
        return small.TRAINER | {"callbacks": callback}

    name = "Trainer" if same == "trainer" else "EarlyStopping"
    with pytest.raises(ValueError, match=f"returned the same {name} twice; it must build a new"):
        learner(trainer=factory).run()


def test_a_task_function_that_reuses_a_network_is_refused(learner):
    network = MLP(in_features=4, hidden=[8], outputs=3)
    whole = small.task()
    for factory in (lambda: Classification(network, 3), lambda: whole):
        with pytest.raises(ValueError, match=r"task\(\) returned parameters that the round before"):
            learner(task=factory, overwrite=True).run()


def test_a_frozen_network_may_be_shared(learner):
    backbone = nn.Linear(4, 4).requires_grad_(False)
    history = learner(
        task=lambda: Classification(nn.Sequential(backbone, nn.Linear(4, 3)), 3),
    ).run()
    assert len(history) == 3


@pytest.mark.parametrize(
    "nothing", [{"limit_train_batches": 0}, {"max_epochs": 0}, {"max_steps": 0}]
)
def test_a_fit_without_a_batch_is_an_error(learner, nothing):
    with pytest.raises(ValueError, match="round 0: the fit saw 0 training batches"):
        learner(trainer=small.TRAINER | nothing).run()


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_a_fit_that_diverged_is_an_error(learner, value):
    class Explodes(Classification):
        def on_train_end(self):
            with torch.no_grad():
                self.network[1].weight[0, 0] = value

    def task():
        return Explodes(MLP(in_features=4, hidden=[8], outputs=3), 3)

    with pytest.raises(ValueError, match=r"round 0 diverged: network\.1\.weight is not finite"):
        learner(task=task).run()


def test_infinite_buffers_are_no_divergence(learner):
    class Masked(Classification):
        def __init__(self):
            super().__init__(MLP(in_features=4, hidden=[8], outputs=3), 3)
            self.register_buffer("mask", torch.tensor([0.0, -torch.inf]))

    assert len(learner(task=Masked, budget=5).run()) == 2


# --- weights policies -----------------------------------------------------------------------------


class Started(Classification):
    """Keeps the weights that each fit started from."""

    started: list = []  # noqa: RUF012

    def __init__(self):
        layers = nn.Sequential(nn.Linear(4, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 3))
        super().__init__(layers, 3)

    def on_fit_start(self):
        state = {name: value.detach().clone() for name, value in self.state_dict().items()}
        Started.started.append(state)


@pytest.fixture
def started():
    Started.started = []
    return Started.started


def finals(history):
    return [dict(small.weights(history.run_dir / r.checkpoint)) for r in history.rounds]


def test_warm_starts_where_the_round_before_ended(learner, started):
    history = learner(task=Started, weights="warm", rehearse=False).run()
    ended = finals(history)
    assert small.same_weights(started[1], ended[0])
    assert small.same_weights(started[2], ended[1])


def test_reset_starts_each_round_by_itself(learner, started):
    history = learner(task=Started, rehearse=False).run()
    first = learner(task=Started, overwrite=True, seed=0, rehearse=False).run()
    assert len(started) == 6
    for a, b in zip(started[:3], started[3:], strict=True):
        assert small.same_weights(a, b)
    assert not torch.equal(started[0]["network.0.weight"], started[1]["network.0.weight"])
    assert not torch.equal(started[1]["network.0.weight"], finals(history)[0]["network.0.weight"])
    assert first.acquired == history.acquired


def test_shrink_perturb_shrinks_and_perturbs_and_takes_buffers_over(learner, started):
    history = learner(task=Started, weights="shrink_perturb", rehearse=False).run()
    ended = finals(history)
    for before, after in ((ended[0], started[1]), (ended[1], started[2])):
        for name, value in after.items():
            if "running" in name or "num_batches" in name:
                assert torch.equal(value, before[name])
            else:
                assert torch.allclose(value, 0.6 * before[name], atol=0.06)
                assert not torch.equal(value, 0.6 * before[name])
    assert int(ended[0]["network.1.num_batches_tracked"]) > 0


def test_the_noise_of_shrink_perturb_is_normal_with_deviation_a_hundredth():
    module, previous = nn.Linear(300, 300), nn.Linear(300, 300).state_dict()
    start_weights(module, "shrink_perturb", previous, seed=3, round=2)
    noise = module.weight.detach() - 0.6 * previous["weight"]
    assert abs(noise.mean()) < 4 * 0.01 / 300  # four standard errors of 90,000 draws
    assert abs(noise.std() / 0.01 - 1) < 4 / (2 * 90_000) ** 0.5
    kurtosis = (noise / noise.std()).pow(4).mean()
    assert abs(kurtosis - 3) < 4 * (24 / 90_000) ** 0.5


def test_shrink_and_noise_are_keyed_by_seed_and_round():
    previous = nn.Linear(4, 4).state_dict()

    def drawn(seed, round):
        module = nn.Linear(4, 4)
        start_weights(module, "shrink_perturb", previous, seed, round)
        return module.weight.detach()

    assert torch.equal(drawn(0, 1), drawn(0, 1))
    assert not torch.equal(drawn(0, 1), drawn(0, 2))
    assert not torch.equal(drawn(0, 1), drawn(1, 1))


@pytest.mark.parametrize("name", WEIGHTS.names())
def test_without_a_previous_round_every_policy_is_a_fresh_start(name):
    module = nn.Linear(3, 3)
    before = module.weight.detach().clone()
    start_weights(module, name, None, seed=0, round=0)
    assert torch.equal(module.weight, before)


@pytest.mark.parametrize("name", WEIGHTS.names())
def test_every_policy_is_documented(name):
    assert WEIGHTS.factory(name).__doc__


# --- other kinds of tasks -------------------------------------------------------------------------


class Ridge(pl.LightningModule):
    """Closed-form ridge regression on all labelled items at once; no optimiser at all."""

    full_batch = True
    adapter = Adapter(kind="regression")
    batches: list = []  # noqa: RUF012

    def __init__(self, penalty=1e-3):
        super().__init__()
        self.automatic_optimization = False
        self.penalty = penalty
        self.weight = nn.Parameter(torch.zeros(4))

    def forward(self, x):
        return x @ self.weight

    def training_step(self, batch, batch_idx):
        x, y = batch
        Ridge.batches.append(len(x))
        gram = x.T @ x + self.penalty * torch.eye(4)
        with torch.no_grad():
            self.weight.copy_(torch.linalg.solve(gram, x.T @ y))

    def test_step(self, batch, batch_idx):
        x, y = batch
        self.log("rmse", (self(x) - y).square().mean().sqrt())

    def configure_optimizers(self):
        return None


def test_a_full_batch_task_sees_all_labelled_items_at_once(learner):
    Ridge.batches = []
    data = small.datamodule(small.line(), small.line(30, 1), batch_size=2)
    data.classes = None
    history = learner(
        task=Ridge,
        datamodule=data,
        strategy="greedy",
        trainer=small.TRAINER | {"max_epochs": 1},
        rehearse=False,
    ).run()
    assert Ridge.batches == [6, 11, 16]
    assert [r.batches for r in history.rounds] == [1, 1, 1]
    data.start(0)
    data.acquire(torch.tensor(history.acquired))
    x, y = data.items.inputs(data.labelled), data.labelled_targets()
    dense = torch.linalg.lstsq(
        torch.cat([x, 1e-3**0.5 * torch.eye(4)]), torch.cat([y, y.new_zeros(4)])
    )
    final = small.weights(history.final_checkpoint)["weight"]
    torch.testing.assert_close(final, dense.solution, rtol=1e-4, atol=1e-4)
    assert history.rounds[-1].metrics["rmse"] < 0.2


class SemiSupervised(Classification):
    """Counts what it is given beside the labelled batch."""

    uses_unlabelled = True
    seen: list = []  # noqa: RUF012

    def training_step(self, batch, batch_idx):
        SemiSupervised.seen.append((batch["labelled"][0], batch["unlabelled"]))
        return super().training_step(batch["labelled"], batch_idx)


def test_a_task_may_use_the_unlabelled_pool(learner):
    SemiSupervised.seen = []
    data = small.datamodule(small.blobs(12), initial=4, batch_size=4)
    history = learner(
        task=lambda: SemiSupervised(MLP(in_features=4, hidden=[8], outputs=3), 3),
        datamodule=data,
        query_size=4,
        budget=100,
        trainer=small.TRAINER | {"max_epochs": 1},
    ).run()
    assert [r.n_pool for r in history.rounds] == [8, 4, 0]  # the last fit has no pool left
    assert [r.batches for r in history.rounds] == [2, 2, 3]
    inputs = data.items.dataset.inputs[0]
    rows = {tuple(row): i for i, row in enumerate(inputs.tolist())}
    initial = [rows[tuple(row)] for row in SemiSupervised.seen[0][0].tolist()]
    pool = [rows[tuple(row)] for _, bare in SemiSupervised.seen[:2] for row in bare.tolist()]
    assert sorted(initial + pool) == list(range(12))
    for labelled, unlabelled in SemiSupervised.seen:
        assert labelled.shape[1:] == unlabelled.shape[1:] == (4,)


# --- the recipe -----------------------------------------------------------------------------------


def test_a_mapping_is_copied_and_loggers_are_shared(tmp_path):
    from pytorch_lightning.loggers import CSVLogger

    logger, stop = CSVLogger(tmp_path), EarlyStopping("a")
    recipe = Recipe(small.task, small.TRAINER | {"callbacks": stop, "logger": logger})
    one, other = recipe.build_trainer(), recipe.build_trainer()
    assert one.logger is other.logger is logger
    stops = [trainer.early_stopping_callback for trainer in (one, other)]
    assert len({id(s) for s in (*stops, stop)}) == 3


def test_fits_are_keyed_by_seed_and_round_alone():
    def fitted(seed, round):
        torch.manual_seed(seed + 100 * round)  # must not matter
        data = small.datamodule()
        data.start(0)
        data.round = round
        recipe = Recipe(small.dropout_task, small.TRAINER)
        module = recipe.build_task(seed, round, None)
        fit_round(module, recipe, data, recipe.build_trainer(), seed=seed, round=round)
        return dict(module.state_dict())

    first = fitted(0, 1)
    torch.randn(3, generator=generator(0, 0, "anything"))
    assert small.same_weights(first, fitted(0, 1))
    assert not small.same_weights(first, fitted(0, 2))
    assert not small.same_weights(first, fitted(1, 1))
