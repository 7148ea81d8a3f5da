"""Training of policies: an ordinary fit, its resumption, its processes, its configurations."""

from pathlib import Path

import pytest
import torch
from helpers import policy_ranks
from helpers.policy_ranks import Recorder
from helpers.processes import end, start
from pytorch_lightning import Callback, Trainer
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.loggers import CSVLogger

from lightning_al.assembly.shipped import list_policies
from lightning_al.cli import main
from lightning_al.policies import (
    Batch,
    FlexiblePolicy,
    PolicyModule,
    SafetyPrior,
    SetPolicy,
    Simulator,
    SimulatorDataModule,
    Stage,
)
from lightning_al.policies.training_record import read_metrics

TINY = {"width": 8, "heads": 2, "hidden": 8}
SMALL = Batch(kernels=2, functions=2, replicates=2)


def module(dim=1, seed=0, objective="GPMI2", safe=False, **settings):
    torch.manual_seed(seed)
    return PolicyModule(SetPolicy(dim, safe=safe, **TINY), objective, **{"lr": 1e-3, **settings})


def data(dim=1, steps=3, seed=0, validate=False, **law):
    simulator = Simulator(dim, **{"horizon": 4, "initial": 1, "batch": SMALL, **law})
    return SimulatorDataModule(simulator, steps=steps, seed=seed, validate=validate)


class Losses(Callback):
    def __init__(self):
        self.seen, self.rates = [], []

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        self.seen.append(outputs["loss"].item())
        self.rates.append(trainer.optimizers[0].param_groups[0]["lr"])


def trainer(tmp_path, *callbacks, epochs=2, **settings):
    return Trainer(
        accelerator="cpu",
        devices=1,
        max_epochs=epochs,
        callbacks=list(callbacks),
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        default_root_dir=tmp_path,
        enable_checkpointing=any(isinstance(c, ModelCheckpoint) for c in callbacks),
        **{"logger": False, **settings},
    )


def fit(tmp_path, *, epochs=2, ckpt=None, model=None, **settings):
    model, losses = model or module(), Losses()
    trainer(tmp_path, losses, epochs=epochs).fit(model, data(**settings), ckpt_path=ckpt)
    return model, losses


def weights(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def test_each_step_is_drawn_anew_and_by_its_seed(tmp_path):
    _, one = fit(tmp_path)
    assert len(set(one.seen)) == len(one.seen) == 6
    _, again = fit(tmp_path)
    assert again.seen == one.seen
    _, other = fit(tmp_path, seed=1)
    assert not set(other.seen) & set(one.seen)


def test_the_learning_rate_falls_once_an_epoch(tmp_path):
    _, losses = fit(tmp_path, epochs=3)
    expected = [1e-3 * 0.98**epoch for epoch in (0, 0, 1, 1, 1, 2, 2, 2)]
    assert losses.rates[:2] + losses.rates[3:5] == pytest.approx(expected[:2] + expected[2:4])
    assert isinstance(module().configure_optimizers()["optimizer"], torch.optim.RAdam)


@pytest.mark.parametrize("when", [{"every_n_epochs": 1}, {"every_n_train_steps": 4}], ids=str)
def test_a_run_that_was_stopped_goes_on_as_if_it_had_not_been(tmp_path, when):
    whole, seen = fit(tmp_path, epochs=3)
    saved = ModelCheckpoint(tmp_path, filename="{step}", save_top_k=-1, **when)
    trainer(tmp_path, saved, epochs=3).fit(module(), data())
    paths = sorted(tmp_path.glob("*.ckpt"))
    step = 3 if "every_n_epochs" in when else 4
    path = next(p for p in paths if f"step={step}" in p.name)
    resumed, rest = fit(tmp_path, epochs=3, ckpt=path, model=module(seed=9))
    assert rest.seen == seen.seen[step:]
    assert torch.equal(weights(resumed), weights(whole))
    assert [float(v) for v in resumed.progress.losses] == seen.seen
    assert torch.load(path, weights_only=True)["progress"]["losses"] == seen.seen[:step]


@pytest.mark.parametrize("end", [{"epochs": 4}, {"epochs": 9, "max_steps": 12}], ids=str)
def test_the_log_of_a_resumed_run_goes_on_with_the_next_step(tmp_path, end):
    saved, rows = ModelCheckpoint(tmp_path, filename="last"), []
    for version, (until, path) in enumerate([({}, None), (end, tmp_path / "last.ckpt")]):
        log = CSVLogger(tmp_path, version=version)
        run = trainer(tmp_path, saved, logger=log, log_every_n_steps=1, **until)
        run.fit(module(), data(), ckpt_path=path)
        rows.append(read_metrics([Path(log.log_dir) / "metrics.csv"])["train/loss"])
    assert [list(r) for r in rows] == [list(range(6)), list(range(6, 12))]


NETWORKS = {
    "plain": (SetPolicy, {}, {}, "GPMI2"),
    "no-budget": (SetPolicy, {"budget_aware": False}, {"random_budget": False}, "DAD"),
    "safe": (SetPolicy, {"safe": True}, {"safety": SafetyPrior()}, "MinUnsafeGPEntropy2"),
    "safe-no-budget": (
        SetPolicy,
        {"safe": True, "budget_aware": False},
        {"safety": SafetyPrior(), "random_budget": False},
        "SafeGPMI2",
    ),
    "flexible": (FlexiblePolicy, {}, {"flexible": True}, "GPEntropy2"),
    "flexible-safe": (
        FlexiblePolicy,
        {"safe": True, "sequence_first": False},
        {"flexible": True, "safety": SafetyPrior()},
        "MinUnsafeGPEntropy1",
    ),
}


@pytest.mark.parametrize("pack", [True, False])
@pytest.mark.parametrize("name", NETWORKS)
def test_every_parameter_but_the_empty_one_learns_through_a_rollout(tmp_path, name, pack):
    cls, arguments, law, objective = NETWORKS[name]
    grads = {}

    class Learned(PolicyModule):
        def configure_gradient_clipping(self, optimizer, *args, **kwargs):
            super().configure_gradient_clipping(optimizer, *args, **kwargs)
            grads.update({k: p.grad for k, p in self.network.named_parameters()})

    torch.manual_seed(0)
    model = Learned(cls(2, **arguments, **TINY), objective, pack=pack)
    run = trainer(tmp_path, epochs=1)
    run.fit(model, data(2, steps=1, horizon=3, initial=2, **law))
    assert [k for k, g in grads.items() if g is None or not g.any()] == ["empty"]
    assert all(g.isfinite().all() for g in grads.values() if g is not None)


def test_a_checkpoint_loads_with_plain_lightning(tmp_path):
    saved = ModelCheckpoint(tmp_path, filename="policy")
    model = module(2, safe=True, curriculum=[Stage("GPMI2", 1), Stage("SafeGPMI2", 1)])
    trainer(tmp_path, saved, epochs=1).fit(model, data(2, safety=SafetyPrior()))
    loaded = PolicyModule.load_from_checkpoint(tmp_path / "policy.ckpt")
    assert torch.equal(weights(loaded), weights(model))
    assert loaded.curriculum.stages == model.curriculum.stages
    torch.load(tmp_path / "policy.ckpt", weights_only=True)  # plain values only


def test_the_curriculum_follows_the_epochs(tmp_path):
    drawn = []

    class Grids(Callback):
        def on_train_batch_start(self, trainer, module, batch, batch_idx):
            drawn.append(batch.grid is not None)

    model = module(curriculum=[Stage("GPMI2", 1), Stage("GPEntropy2", 1)])
    trainer(tmp_path, Grids(), epochs=3).fit(model, data(steps=2))
    assert drawn == [True] * 2 + [False] * 4


def test_accumulated_gradients_come_from_different_functions(tmp_path):
    losses = Losses()
    trainer(tmp_path, losses, epochs=1, accumulate_grad_batches=2).fit(module(), data(steps=4))
    assert len(set(losses.seen)) == 4


def test_validation_measures_the_model_and_safety(tmp_path):
    run = trainer(tmp_path, epochs=1)
    run.fit(
        module(2, safe=True, objective="MinUnsafeGPEntropy2"),
        data(2, validate=True, safety=SafetyPrior(), initial=(2, 3)),
    )
    assert 0 < run.callback_metrics["val/rmse"] < 2
    assert 0 <= run.callback_metrics["val/safe"] <= 1
    flexible = PolicyModule(FlexiblePolicy(3, **TINY), "GPEntropy2")
    run = trainer(tmp_path, epochs=1)
    run.fit(flexible, data(3, validate=True, flexible=True))
    assert 0 < run.callback_metrics["val/rmse"] < 2


def test_the_error_of_validation_falls_with_more_points(tmp_path):
    found = []
    for horizon in (1, 20):
        run = trainer(tmp_path, epochs=1)
        run.fit(module(), data(validate=True, horizon=horizon, batch=Batch(4, 4, 2)))
        found.append(float(run.callback_metrics["val/rmse"]))
    assert found[1] < 0.85 * found[0]


def test_gradients_are_scaled_by_their_largest_entry():
    model = Recorder()
    for p in model.network.parameters():
        p.grad = torch.randn_like(p) if p.requires_grad else None
    model.configure_gradient_clipping(None)
    ((raw, clipped),) = model.seen
    torch.testing.assert_close(clipped, raw * 1e-3 / raw.abs().max(), rtol=1e-5, atol=0)
    model.clip = 1e9
    before = model.flat().clone()
    model.configure_gradient_clipping(None)
    assert torch.equal(model.flat(), before)


CLOSE = {"safe-float64": 1e-10, "safe-float32": 1e-5, "plain-float32": 1e-5}


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    """Folders of what one process and what two have found, all cases each."""
    folders = [tmp_path_factory.mktemp(f"ranks-{world}") for world in (1, 2)]
    for case in CLOSE:
        policy_ranks.main(folders[0], 1, case)
    status, output = end(start("policy_ranks.py", folders[1], 2, *CLOSE), within=600)
    assert status == 0, output[-2000:]
    return folders


@pytest.mark.slow
@pytest.mark.parametrize("case", CLOSE)
def test_two_processes_have_the_gradient_of_one(ranks, case):
    close = CLOSE[case]
    one, two = (torch.load(folder / f"{case}.pt") for folder in ranks)
    assert len(one["seen"]) == len(two["seen"]) == 3
    for (raw, clipped), (raw_too, clipped_too) in zip(one["seen"], two["seen"], strict=True):
        assert str(raw.dtype) == str(raw_too.dtype) == f"torch.{case.split('-')[1]}"
        assert raw.abs().max() > 1e-3
        assert (raw - raw_too).abs().max() <= close * raw.abs().max()
        assert (clipped - clipped_too).abs().max() <= close * clipped.abs().max()
        assert clipped.abs().max() <= 1e-3 * (1 + 1e-6)
    assert two["loss"] == pytest.approx(one["loss"], rel=max(close, 1e-6))
    kept = [torch.load(f / f"{case}.ckpt", weights_only=True)["progress"] for f in ranks]
    assert [p["machine"]["processes"] for p in kept] == [1, 2]
    assert len(kept[0]["losses"]) == 3
    assert kept[1]["losses"] == pytest.approx(kept[0]["losses"], rel=max(close, 1e-6))


@pytest.mark.parametrize(
    ("model", "law", "says"),
    [
        (lambda: module(2), {}, "takes 2 inputs, the simulator has 1"),
        (lambda: module(safe=True, objective="SafeGPMI2"), {}, "safety go together"),
        (lambda: module(), {"flexible": True}, "needs a FlexiblePolicy"),
    ],
)
def test_parts_that_do_not_go_together_are_refused(tmp_path, model, law, says):
    with pytest.raises(ValueError, match=says):
        trainer(tmp_path, epochs=1).fit(model(), data(**law))


def test_bad_settings_are_refused(tmp_path):
    with pytest.raises(LookupError, match="did you mean 'GPMI2'"):
        module(objective="GPMI3")
    with pytest.raises(TypeError, match="such as SetPolicy, got Linear"):
        PolicyModule(torch.nn.Linear(1, 1))
    with pytest.raises(ValueError, match="a step or more"):
        data(steps=0)
    broken = module()
    broken.network.last.weight.data.fill_(float("nan"))
    with pytest.raises(FloatingPointError, match="asks at NaN at step 0"):
        trainer(tmp_path, epochs=1).fit(broken, data())


CONFIGS = list_policies()


def test_there_are_configurations_of_policies():
    assert {"policy/quick-1d", "policy/asal-1d", "policy/asal-safe-2d"} <= set(CONFIGS)


@pytest.mark.parametrize("name", CONFIGS)
def test_every_configuration_trains(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    batch = [f"--data.simulator.batch.{k}=1" for k in ("kernels", "functions", "replicates")]
    small = ["--data.simulator.horizon=2", "--trainer.accelerator=cpu", "--data.steps=2"]
    more = ["--trainer.max_epochs=1", "--trainer.enable_progress_bar=false"]
    if name.startswith("policy/dad"):
        small.append("--model.arguments.contrast=3")
    main(["fit", "--config", name, *batch, *small, *more])
    (rows,) = tmp_path.rglob("metrics.csv")
    assert "val/rmse" in rows.read_text()
    assert len(read_metrics([rows])["train/loss"]) == 2  # every step's loss is kept
    (kept,) = [p for p in tmp_path.rglob("*.ckpt") if "step=2" in p.name or p.name == "last.ckpt"]
    assert len(torch.load(kept, weights_only=True)["progress"]["losses"]) == 2


def test_long_trainings_keep_the_last_epoch_and_every_twentieth(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    small = [f"--data.simulator.batch.{k}=1" for k in ("kernels", "functions", "replicates")]
    small += ["--data.simulator.horizon=2", "--data.steps=1", "--data.validate=false"]
    small += [f"--model.network.init_args.{k}=8" for k in ("width", "hidden")]
    small += ["--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false"]
    main(["fit", "--config", "policy/asal-1d", *small, "--trainer.max_epochs=41"])
    assert sorted(p.name for p in tmp_path.rglob("*.ckpt")) == [
        "epoch=19-step=20.ckpt",
        "epoch=39-step=40.ckpt",
        "last.ckpt",
    ]
    (last,) = tmp_path.rglob("last.ckpt")
    assert torch.load(last, weights_only=True)["global_step"] == 41
