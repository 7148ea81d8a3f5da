"""Invariant 1: each round is an ordinary Lightning fit, done again bit for bit."""

import pytest
import pytorch_lightning as pl
import torch
from helpers import small
from pytorch_lightning.callbacks import EarlyStopping, LearningRateMonitor, ModelCheckpoint
from pytorch_lightning.loggers import CSVLogger

from lightning_al import replay
from lightning_al.callbacks import ActiveLearning
from lightning_al.cli import main
from lightning_al.fits.lightning import Recipe
from lightning_al.journal.journal import JournalError
from lightning_al.testing import Bandit


def checkpoint(run_dir, round):
    return small.weights(run_dir / "checkpoints" / f"round-{round:03d}.ckpt")


def equal_to_checkpoint(module, run_dir, round):
    return small.same_weights(dict(module.state_dict()), dict(checkpoint(run_dir, round)))


@pytest.fixture
def seen(monkeypatch):
    """The Trainers that a Recipe builds, in order."""
    trainers = []
    build = Recipe.build_trainer

    def spy(self, *args, **kwargs):
        trainers.append(build(self, *args, **kwargs))
        return trainers[-1]

    monkeypatch.setattr(Recipe, "build_trainer", spy)
    return trainers


@pytest.mark.parametrize("weights", ["reset", "warm", "shrink_perturb"])
def test_every_round_again_bit_for_bit(learner, weights, seen):
    history = learner(weights=weights, task=small.dropout_task).run()
    assert any(isinstance(c, ActiveLearning) for c in seen[-1].callbacks)
    seen.clear()
    for r in (2, 0, 1):
        torch.manual_seed(r)
        again = learner(weights=weights, task=small.dropout_task, datamodule=small.datamodule())
        assert equal_to_checkpoint(replay(history.run_dir, r, again), history.run_dir, r)
    assert len(seen) == 3
    for trainer in seen:
        assert type(trainer) is pl.Trainer
        assert not any(isinstance(c, ActiveLearning) for c in trainer.callbacks)
    rounds = [checkpoint(history.run_dir, r) for r in range(3)]
    assert not small.same_weights(rounds[0], rounds[1])


def test_a_strategy_that_learns_across_rounds(learner):
    """The journal knows whom it chose: it is not asked again."""

    def build(bandit):
        return learner(strategy=bandit, task=small.dropout_task, budget=20)

    mine = Bandit(("entropy", "random", "margin"))
    history = build(mine).run()
    assert len(history.rounds) == 5
    assert mine.last == -1  # a run learns in a copy of it
    notes = sorted(history.run_dir.glob("checkpoints/*.memory"))
    assert len(notes) == 4  # of each query
    before = {path: path.read_bytes() for path in notes}
    experienced = Bandit(("entropy", "random", "margin"))
    experienced.load_state_dict(torch.load(notes[-1], weights_only=True)["strategy"])
    learnt = experienced.state_dict()
    assert learnt["counts"].sum() == 3  # each query but the last has brought its reward
    for r in (4, 0, 2):
        again = replay(history.run_dir, r, build(experienced))
        assert equal_to_checkpoint(again, history.run_dir, r)
    after = experienced.state_dict()
    assert all(torch.equal(after[n], learnt[n]) for n in ("counts", "rewards"))
    assert after["last"] == learnt["last"]
    assert {path: path.read_bytes() for path in notes} == before
    with pytest.raises(JournalError, match=r"another learner .*strategy"):
        replay(history.run_dir, 0, build(Bandit(("entropy", "random"))))


def test_with_worker_processes(learner):
    def build():
        return learner(
            task=small.dropout_task, budget=5, datamodule=small.datamodule(num_workers=2)
        )

    history = build().run()
    assert equal_to_checkpoint(replay(history.run_dir, 1, build()), history.run_dir, 1)


def test_with_the_best_weights_and_a_logger(learner, tmp_path, monkeypatch):
    def build():
        callbacks = [
            EarlyStopping("val/nll", patience=1),
            ModelCheckpoint(monitor="val/nll"),
            LearningRateMonitor(),
        ]
        trainer = small.TRAINER | {"callbacks": callbacks, "max_epochs": 6}
        trainer |= {"logger": CSVLogger(tmp_path / "logs"), "log_every_n_steps": 1}
        data = small.datamodule(val=0.2)
        return learner(task=small.dropout_task, restore="best", trainer=trainer, datamodule=data)

    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    history = build().run()
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*") if p.is_file()}
    assert equal_to_checkpoint(replay(history.run_dir, 1, build()), history.run_dir, 1)
    after = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*") if p.is_file()}
    assert after == before  # neither the run folder, nor its logs, nor the working directory


def test_a_run_of_the_command_line(tmp_path):
    run_dir = tmp_path / "run"
    arguments = ["--config=quickstart", "--budget=20", "--query_size=10", "--progress=false"]
    arguments += ["--trainer.max_epochs=2", "--model.init_args.network.init_args.dropout=0.2"]
    main(["run", *arguments, f"--run_dir={run_dir}"])
    for r in (2, 0):
        assert equal_to_checkpoint(replay(run_dir, r), run_dir, r)


def test_global_random_state_and_threads_are_left_alone(learner):
    history = learner().run()
    before = torch.get_rng_state(), torch.get_num_threads()
    replay(history.run_dir, 1, learner())
    assert torch.equal(torch.get_rng_state(), before[0])
    assert torch.get_num_threads() == before[1]


def test_the_recorded_number_of_threads_is_used(learner):
    class Watched(pl.Callback):
        threads: tuple = ()

        def on_fit_start(self, trainer, pl_module):
            Watched.threads = (*Watched.threads, torch.get_num_threads())

    trainer = small.TRAINER | {"callbacks": [Watched()]}
    learner(trainer=trainer).run()
    run_with, other = torch.get_num_threads(), torch.get_num_threads() + 1
    torch.set_num_threads(other)
    try:
        replay(learner().run_dir, 0, learner(trainer=trainer))
        assert torch.get_num_threads() == other
    finally:
        torch.set_num_threads(run_with)
    assert set(Watched.threads) == {run_with}


# --- what cannot be replayed ----------------------------------------------------------------------


def test_a_round_that_never_was(learner):
    learner().run()
    with pytest.raises(LookupError, match=r"round 3 was not fitted.*rounds \[0, 1, 2\]"):
        replay(learner().run_dir, 3, learner())


def test_a_round_without_labels(learner):
    def build():
        return learner(strategy="random", datamodule=small.datamodule(initial=0))

    build().run()
    with pytest.raises(LookupError, match=r"round 0 was not fitted.*rounds \[1, 2\]"):
        replay(learner().run_dir, 0, build())
    assert equal_to_checkpoint(replay(learner().run_dir, 1, build()), learner().run_dir, 1)


def test_a_folder_without_a_run(tmp_path):
    with pytest.raises(LookupError, match="holds no journal"):
        replay(tmp_path, 0)


def test_a_run_of_python_needs_its_learner(learner):
    learner().run()
    with pytest.raises(LookupError, match=r"replay\(run_dir, round, learner\)"):
        replay(learner().run_dir, 0)


def test_another_learner_is_refused(learner):
    learner().run()
    with pytest.raises(JournalError, match=r"another learner .*task"):
        replay(learner().run_dir, 0, learner(task=small.dropout_task))


def test_other_data_are_refused(learner):
    learner(config={"mine": 1}).run()
    other = learner(config={"mine": 1}, datamodule=small.datamodule(initial=7))
    with pytest.raises(JournalError, match=r"a run of another learner \(data\.state"):
        replay(learner().run_dir, 0, other)


def test_a_lost_checkpoint_of_a_warm_start(learner):
    learner(weights="warm", keep_checkpoints="last").run()
    with pytest.raises(JournalError, match=r"round 1 starts from .*round-000\.ckpt, which is gone"):
        replay(learner().run_dir, 1, learner(weights="warm"))
