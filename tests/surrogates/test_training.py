"""Trainings of surrogates: an ordinary fit, resumed as if unbroken, and their files."""

import json

import pytest
import torch
from pytorch_lightning import Callback, Trainer
from pytorch_lightning.callbacks import ModelCheckpoint
from safetensors.torch import save_file

from lightning_al.assembly.shipped import list_trainings
from lightning_al.cli import main
from lightning_al.surrogates import (
    KINDS,
    PFN,
    AmortisedGP,
    FunctionDataModule,
    FunctionPrior,
    SurrogateModule,
    load,
    save,
    shipped,
)

LAW = {"context": (2, 6), "ahead": 3, "batch": 4}


class Losses(Callback):
    def __init__(self):
        self.seen = []

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        self.seen.append(outputs["loss"].item())


def module(seed=0, **settings):
    torch.manual_seed(seed)
    return SurrogateModule(AmortisedGP(16, 2), **{"lr": 1e-3, "warm_up": 2, **settings})


def data(**settings):
    return FunctionDataModule(FunctionPrior(**LAW), **{"steps": 3, "validation": 1, **settings})


def fit(tmp_path, model, *callbacks, epochs=2, ckpt=None, **settings):
    losses = Losses()
    trainer = Trainer(
        accelerator="cpu",
        devices=1,
        max_epochs=epochs,
        callbacks=[losses, *callbacks],
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        default_root_dir=tmp_path,
        enable_checkpointing=any(isinstance(c, ModelCheckpoint) for c in callbacks),
        logger=False,
    )
    trainer.fit(model, data(**settings), ckpt_path=ckpt)
    return trainer, losses.seen


def weights(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()])


@pytest.fixture
def checkpoint(tmp_path):
    fit(tmp_path, module(), ModelCheckpoint(tmp_path, filename="last"), epochs=1)
    return tmp_path / "last.ckpt"


def test_a_training_that_was_stopped_goes_on_as_if_it_had_not_been(tmp_path):
    whole = module()
    trainer, seen = fit(tmp_path, whole)
    assert len(set(seen)) == 6
    assert {"train/loss", "val/loss"} <= set(trainer.callback_metrics)
    kept = ModelCheckpoint(tmp_path, filename="{epoch}", save_top_k=-1)
    fit(tmp_path, module(), kept)
    path = next(p for p in tmp_path.glob("*.ckpt") if "epoch=0" in p.name)
    resumed = module(seed=9)
    _, rest = fit(tmp_path, resumed, ckpt=path)
    assert rest == seen[3:]
    assert torch.equal(weights(resumed), weights(whole))
    _, other = fit(tmp_path, module(), seed=1)
    assert not set(other) & set(seen)


def test_the_learning_rate_rises_then_falls_to_nothing(tmp_path):
    trainer, _ = fit(tmp_path, module(lr=1.0), epochs=4)
    share = trainer.lr_scheduler_configs[0].scheduler.lr_lambdas[0]
    assert [share(0), share(1), share(2)] == [0.5, 1.0, 1.0]
    assert share(7) == pytest.approx(0.5)
    assert share(12) == pytest.approx(0.0, abs=1e-12)


def test_a_checkpoint_becomes_one_file_that_gives_the_same_network(checkpoint, tmp_path):
    path = save(checkpoint, tmp_path / "mine")
    assert path.name == "mine.safetensors"
    one, other = load(path, "AmortisedGP"), load(checkpoint)
    assert one.steps == other.steps == 3
    assert one.prior["context"] == other.prior["context"] == [2, 6]
    assert one.network.spec == other.network.spec
    state = other.network.state_dict()
    assert one.network.state_dict().keys() == state.keys()
    for name, value in one.network.state_dict().items():
        assert torch.equal(value, state[name])
    assert not any(p.requires_grad for p in one.network.parameters())


def test_files_that_are_none_or_hold_others(checkpoint, tmp_path):
    with pytest.raises(LookupError, match=r"no surrogate named 'agp'; there are .*fit --config"):
        load("agp")
    with pytest.raises(LookupError, match="no file"):
        load(tmp_path / "absent.ckpt")
    with pytest.raises(ValueError, match="holds a AmortisedGP, and a PFN is wanted"):
        load(checkpoint, "PFN")
    (tmp_path / "bad.safetensors").write_bytes(b"hello")
    with pytest.raises(ValueError, match="no surrogate's file, or is damaged"):
        load(tmp_path / "bad.safetensors")
    (tmp_path / "bad.ckpt").write_bytes(b"hello")
    with pytest.raises(ValueError, match="cannot be read as a checkpoint"):
        load(tmp_path / "bad.ckpt")
    torch.save({"state_dict": {}, "hyper_parameters": {"lr": 1}}, tmp_path / "other.ckpt")
    with pytest.raises(ValueError, match="no checkpoint of a SurrogateModule"):
        load(tmp_path / "other.ckpt")
    spec = {"class_path": "lightning_al.surrogates.PFN", "init_args": {"dimension": 1}}
    told = {"network": spec, "prior": {}, "steps": 1}
    told = {k: json.dumps(v) for k, v in told.items()}
    save_file({"edges": torch.zeros(2)}, tmp_path / "short.safetensors", told)
    with pytest.raises(ValueError, match="holds no weights of its network"):
        load(tmp_path / "short.safetensors")


def test_weights_that_are_not_finite_are_refused(checkpoint, tmp_path):
    state = torch.load(checkpoint, weights_only=True)
    next(iter(state["state_dict"].values())).fill_(float("nan"))
    torch.save(state, tmp_path / "nan.ckpt")
    with pytest.raises(ValueError, match="weights that are NaN or infinite"):
        load(tmp_path / "nan.ckpt")


@pytest.mark.parametrize("name", shipped())
def test_those_that_are_shipped_load(name):
    trained = load(name)
    assert type(trained.network).__name__ in KINDS.names()
    assert trained.steps >= 1000
    assert trained.prior["laws"]


def test_a_network_without_a_loss_is_refused():
    with pytest.raises(TypeError, match=r"network with loss.*got Linear"):
        SurrogateModule(torch.nn.Linear(1, 1))


def test_a_training_that_diverged_ends(tmp_path):
    broken = module()
    broken.network.embed.weight.data.fill_(float("inf"))
    with pytest.raises((FloatingPointError, RuntimeError), match=r"diverged|positive-definite"):
        fit(tmp_path, broken)


CONFIGS = [name for name in list_trainings() if name.startswith("surrogate/")]
ALINES = [name for name in CONFIGS if "aline" in name]


@pytest.mark.parametrize("name", ALINES)
def test_every_configuration_of_aline_trains(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    small = [f"--data.tasks.{k}=3" for k in ("initial", "pool", "targets", "batch")]
    small += ["--model.horizon=2", "--model.burn_in=1", "--data.steps=2", "--data.validation=1"]
    small += ["--trainer.max_epochs=1", "--trainer.enable_progress_bar=false"]
    main(["fit", "--config", name, *small, "--trainer.accelerator=cpu"])
    (rows,) = tmp_path.rglob("metrics.csv")
    assert "val/own" in rows.read_text()
    (kept,) = tmp_path.rglob("*.ckpt")
    assert torch.load(kept, weights_only=True)["global_step"] == 2


@pytest.mark.parametrize("name", [name for name in CONFIGS if name not in ALINES])
def test_every_configuration_trains(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    small = ["--data.prior.batch=2", "--data.prior.context=[2,3]", "--data.prior.ahead=2"]
    small += ["--data.steps=2", "--data.validation=1", "--trainer.accelerator=cpu"]
    small += ["--trainer.max_epochs=1", "--trainer.enable_progress_bar=false"]
    main(["fit", "--config", name, *small])
    (rows,) = tmp_path.rglob("metrics.csv")
    assert "val/loss" in rows.read_text()
    (kept,) = tmp_path.rglob("*.ckpt")
    assert load(kept).steps == 2


def test_class_names_are_registered():
    assert KINDS.factory("PFN") is PFN
    assert KINDS.factory("AmortisedGP") is AmortisedGP
