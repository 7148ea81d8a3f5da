"""Trainings of designers: they learn, are resumed as if unbroken, and every configuration runs."""

import pytest
import torch
from pytorch_lightning import Trainer
from pytorch_lightning.callbacks import ModelCheckpoint

from lightning_al.assembly.shipped import list_trainings
from lightning_al.cli import main
from lightning_al.designs import (
    Adaptive,
    DeathProcess,
    DesignDataModule,
    DesignModule,
    StaticDesigns,
    gain_on_grid,
)


def module(seed=0, network=None, **settings):
    torch.manual_seed(seed)
    return DesignModule(network or Adaptive(1, [8], 4, [8], "softplus"), **settings)


def data(**settings):
    sizes = {"steps": 3, "histories": 8, "others": 6, "validation": 8, **settings}
    return DesignDataModule(DeathProcess(2), **sizes)


def fit(tmp_path, model, source, *callbacks, epochs=2, ckpt=None):
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
    trainer.fit(model, source, ckpt_path=ckpt)
    return trainer


def weights(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def test_a_training_that_was_stopped_goes_on_as_if_it_had_not_been(tmp_path):
    whole = module()
    trainer = fit(tmp_path, whole, data())
    assert {"train/spce", "val/spce"} <= set(trainer.callback_metrics)
    fit(tmp_path, module(), data(), ModelCheckpoint(tmp_path, filename="last"), epochs=1)
    resumed = module(seed=9)
    fit(tmp_path, resumed, data(), ckpt=tmp_path / "last.ckpt")
    assert torch.equal(weights(resumed), weights(whole))


def test_static_designs_learn_the_best_constant_time(tmp_path):
    model = module(network=StaticDesigns(1, 1), lr=0.1)
    one = DesignDataModule(DeathProcess(1), 80, 100, 100, validation=0)
    fit(tmp_path, model, one, epochs=1)
    time = float(torch.nn.functional.softplus(model.network.raw[0, 0].detach()))
    assert time == pytest.approx(1.28, abs=0.35)
    start = gain_on_grid(DeathProcess(1), StaticDesigns(1, 1), 2000)[0]
    assert gain_on_grid(DeathProcess(1), model.network, 2000)[0] > start + 0.01


def test_the_learning_rate_falls_after_the_first_step_and_each_thousandth(tmp_path):
    trainer = fit(tmp_path, module(decay=0.5), data(), epochs=1)
    share = trainer.lr_scheduler_configs[0].scheduler.lr_lambdas[0]
    assert [share(k) for k in (0, 1, 1000, 1001)] == [1.0, 0.5, 0.5, 0.25]


def test_a_module_that_is_no_designer_is_refused():
    with pytest.raises(TypeError, match="a designer is wanted, such as Adaptive, got Linear"):
        DesignModule(torch.nn.Linear(1, 1))


CONFIGS = [name for name in list_trainings() if name.startswith("design/")]


def test_the_steps_of_the_ladder_are_there():
    assert {"design/death", "design/discounting", "design/location"} <= set(CONFIGS)


@pytest.mark.parametrize("name", CONFIGS)
def test_every_configuration_trains(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    small = ["--data.histories=2", "--data.others=2", "--data.steps=2", "--data.validation=2"]
    small += ["--trainer.max_epochs=1", "--trainer.enable_progress_bar=false"]
    main(["fit", "--config", name, *small, "--trainer.accelerator=cpu"])
    (rows,) = tmp_path.rglob("metrics.csv")
    assert "val/spce" in rows.read_text()
    (kept,) = tmp_path.rglob("*.ckpt")
    assert torch.load(kept, weights_only=True)["global_step"] == 2
