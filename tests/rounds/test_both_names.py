"""``lightning.pytorch`` is ``pytorch_lightning`` under another name, and serves like it."""

import itertools
from importlib import import_module

import pytest
from helpers import both_names, small

pytest.importorskip("lightning")

from helpers import other_name

from lightning_al import replay, suggest
from lightning_al.cli import main
from lightning_al.posteriors import MCDropout
from lightning_al.records import Acquisition

NAMES = {"pytorch_lightning": both_names, "lightning.pytorch": other_name}
PATHS = {"pytorch_lightning": "helpers.both_names", "lightning.pytorch": "helpers.other_name"}
EACH = pytest.mark.parametrize("name", NAMES)
MIXES = pytest.mark.parametrize(("of_module", "of_rest"), list(itertools.product(NAMES, NAMES)))


@pytest.fixture(autouse=True)
def _forgotten():
    for where in NAMES.values():
        where.Watch.begun = where.Watch.steps = where.Watch.tested = 0
        where.Told.values.clear()


def family(name):
    return import_module(name)


def stop(name, patience=5):
    return family(f"{name}.callbacks").EarlyStopping("val/loss", patience=patience)


def best(name):
    return family(f"{name}.callbacks").ModelCheckpoint(monitor="val/loss")


@MIXES
def test_callbacks_and_loggers_of_either_serve_modules_of_either(learner, of_module, of_rest):
    rest = NAMES[of_rest]
    trainer = small.TRAINER | {"callbacks": [rest.Watch(), stop(of_rest), best(of_rest)]}
    trainer |= {"logger": rest.Told(), "log_every_n_steps": 1}
    data = small.datamodule(val=0.2)
    settings = {"task": NAMES[of_module].Net, "trainer": trainer, "datamodule": data}
    history = learner(**settings, restore="best", budget=5).run()
    assert (rest.Watch.begun, rest.Watch.tested) == (2, 2)  # rehearsals are not told of
    assert rest.Watch.steps > 0
    assert {"train/loss", "val/loss"} <= set(rest.Told.values)
    assert all("test/hit" in done.metrics for done in history.rounds)


def test_both_give_the_same_run(learner, tmp_path):
    one, other = (
        learner(
            task=where.Net, strategy="bald", posterior=MCDropout(3), run_dir=tmp_path / name
        ).run()
        for name, where in NAMES.items()
    )
    assert [r.acquired for r in one.rounds] == [r.acquired for r in other.rounds]
    assert [r.metrics for r in one.rounds] == [r.metrics for r in other.rounds]


@EACH
def test_a_run_goes_on_is_replayed_and_suggests(learner, name):
    def build():
        return learner(task=NAMES[name].Net, weights="warm", datamodule=small.datamodule())

    history = build().run()
    assert len(build().run()) == 3
    again = replay(history.run_dir, 1, build())
    assert isinstance(again, family(name).LightningModule)
    kept = small.weights(history.run_dir / "checkpoints" / "round-001.ckpt")
    assert small.same_weights(dict(again.state_dict()), dict(kept))
    data = small.datamodule()
    data.setup()
    assert len(suggest(again, data, "entropy", 4)) == 4


class Refits:
    """A strategy that fits for itself."""

    needs, keeps, members, privileged = (), (), "one", False

    def choose(self, candidates, k, generator):
        bench = candidates.bench
        for module in (bench.refit(), bench.fit(bench.fresh(), bench.loader(), max_epochs=1)):
            assert type(module) is type(bench.task)
            assert set(bench.metrics(module)) == {"val/loss"}
        return Acquisition(index=candidates.index[:k])


@EACH
def test_refits_of_a_strategy_are_fits_of_its_lightning(learner, name):
    data = small.datamodule(val=0.2)
    history = learner(task=NAMES[name].Net, strategy=Refits(), budget=5, datamodule=data).run()
    assert len(history) == 2


@EACH
def test_a_function_builds_trainers_of_the_modules_own(learner, name, tmp_path):
    def build():
        return family(name).Trainer(**small.TRAINER, default_root_dir=tmp_path)

    assert len(learner(task=NAMES[name].Net, trainer=build, budget=5).run()) == 2


@EACH
def test_a_trainer_of_the_other_name_is_refused_in_one_sentence(learner, name):
    (other,) = set(NAMES) - {name}

    def build():
        return family(other).Trainer(**small.TRAINER, enable_progress_bar=False)

    with pytest.raises(TypeError) as refused:
        learner(task=NAMES[name].Net, trainer=build, budget=5).run()
    said = str(refused.value)
    assert "\n" not in said
    assert f"a module of {name}" in said
    assert f"one of {other}" in said


# --- the command line ----------------------------------------------------------------------------

WORDS = [
    *("--trainer.accelerator", "cpu", "--trainer.max_epochs", "1"),
    *("--trainer.enable_progress_bar", "false"),
]
POOL = [
    *("--data", "ActiveDataModule", "--data.train", "helpers.user_parts.Blobs"),
    *("--data.test", "0.2", "--query_size", "5", "--budget", "5", "--progress", "false"),
]


@MIXES
def test_the_command_run(of_module, of_rest, tmp_path):
    words = [*WORDS, "--model", f"{PATHS[of_module]}.Net", "--model.width", "6"]
    words += ["--trainer.callbacks", f"{PATHS[of_rest]}.Watch"]
    words += ["--trainer.logger", f"{PATHS[of_rest]}.Told", "--trainer.log_every_n_steps", "1"]
    (history,) = main(["run", *words, *POOL, "--run_dir", str(tmp_path / "run")])
    assert len(history) == 2
    assert NAMES[of_rest].Watch.begun == 2
    assert "train/loss" in NAMES[of_rest].Told.values


@MIXES
def test_the_command_fit_with_data_modules_of_either(of_module, of_rest, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = [*WORDS, "--model", f"{PATHS[of_module]}.Net", "--data", f"{PATHS[of_rest]}.Data"]
    words += ["--trainer.callbacks", f"{PATHS[of_rest]}.Watch"]
    main(["fit", *words, "--trainer.logger", "false"])
    assert NAMES[of_rest].Watch.steps == 4
