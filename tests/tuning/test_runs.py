"""Runs that tune: what is fitted under which settings, replay, resume, sharing, and bad input."""

import json
import math
import shutil
from pathlib import Path

import pytest
import torch
from helpers import small, tuned

from lightning_al import replay
from lightning_al.cli import main
from lightning_al.fits.lightning import LightningFits
from lightning_al.journal.journal import JournalError, read_journal
from lightning_al.journal.order import check_order
from lightning_al.tasks import Classification


@pytest.fixture
def learner(tmp_path):
    return lambda name="run", **changes: tuned.learner(tmp_path / name, **changes)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The folder of a run that is over; it is read, or copied."""
    return tuned.learner(tmp_path_factory.mktemp("finished") / "run").run().run_dir


def lines(folder, event=None):
    records, _ = read_journal(folder / "journal.jsonl")
    return [r for r in records if event is None or r["event"] == event]


def hparams(folder, r):
    path = folder / "checkpoints" / f"round-{r:03d}.ckpt"
    return torch.load(path, weights_only=False)["hyper_parameters"]


def small_tasks_of(monkeypatch):
    """The datamodules and recipes of all trial fits."""
    seen = []
    judge = LightningFits.judged_by

    def spy(self, engine, trial, round, previous):
        seen.append(trial)
        return judge(self, engine, trial, round, previous)

    monkeypatch.setattr(LightningFits, "judged_by", spy)
    return seen


# --- what a round is fitted with -----------------------------------------------------------------


def test_every_round_is_fitted_with_the_settings_that_it_settled_on(learner, finished):
    folder = finished
    history = learner().with_(run_dir=folder, files=True).run()
    events = [r["event"] for r in lines(folder)]
    assert events[1:6] == ["tried"] * 3 + ["tuned", "fitted"]
    table = history.to_frame()
    for r, line in enumerate(lines(folder, "tuned")):
        tried = [t for t in lines(folder, "tried") if t["round"] == r]
        best = min(tried, key=lambda t: t["value"] if t["state"] == "complete" else math.inf)
        assert line["settings"] == best["settings"]
        assert line["trial"] == best["trial"]
        assert line["n_labelled"] == history.rounds[r].n_labelled == 9 + 5 * r
        found = hparams(folder, r)
        assert found["lr"] == line["settings"]["model.lr"]
        hidden = found["network"]["init_args"]["hidden"]
        assert list(hidden) == [line["settings"]["model.width"]]
        row = table.iloc[r]
        assert row["model.lr"] == line["settings"]["model.lr"]
        assert (row["trials"], row["tuned"]) == (3, line["value"])
        assert row["seconds_tune"] == line["seconds"] == sum(t["seconds"] for t in tried)
    header = (folder / "metrics.csv").read_text().splitlines()[0]
    assert "trials,tuned,seconds_tune,model.lr,model.width,trainer.max_epochs" in header
    later = [t["settings"] for t in lines(folder, "tried") if t["trial"] == 0][1:]
    assert later == [t["settings"] for t in lines(folder, "tuned")][:2]
    # what a round settled on was better than what it began with, by its own judge
    assert lines(folder, "tried")[0]["settings"] == {
        **{"model.lr": 0.02, "model.width": 8, "trainer.max_epochs": 2}
    }


def test_every_round_again_bit_for_bit(learner, finished):
    folder = finished
    for r in (2, 0):
        module = replay(folder, r, learner())
        kept = small.weights(folder / "checkpoints" / f"round-{r:03d}.ckpt")
        assert small.same_weights(dict(module.state_dict()), dict(kept))


def test_a_round_that_is_fitted_again_takes_its_own_settings(learner, finished):
    folder = Path(shutil.copytree(finished, learner().run_dir))
    kept = small.weights(folder / "checkpoints" / "round-001.ckpt")
    (folder / "checkpoints" / "round-001.ckpt").write_bytes(b"damaged")
    text = (folder / "journal.jsonl").read_text().splitlines(keepends=True)
    events = [(r["event"], r.get("round")) for r in lines(folder)]
    (folder / "journal.jsonl").write_text("".join(text[: events.index(("fitted", 1)) + 1]))
    learner().run()
    again = small.weights(folder / "checkpoints" / "round-001.ckpt")
    assert small.same_weights(dict(again), dict(kept))
    assert small.outcome(folder)["weights"] == small.outcome(finished)["weights"]


def test_lean_fits_try_what_lightning_tries_to_the_last_bit(learner, finished):
    slow = learner(fits="lightning", budget=5).run().run_dir
    found = [[small.untimed(r) for r in lines(folder)] for folder in (finished, slow)]
    found[0] = found[0][: len(found[1])]
    assert [r["event"] for r in found[0]][:6] == [r["event"] for r in found[1]][:6]
    for one, other in zip(*found, strict=True):
        if one["event"] in ("tried", "tuned", "chosen"):
            assert one == other


def test_trials_are_judged_without_what_was_bought(learner, monkeypatch):
    seen = small_tasks_of(monkeypatch)
    learner(budget=5).run()
    assert len(seen) == 2 * 3 * 3
    start = set(seen[0].data.labelled.tolist()) | set(seen[0].judge.judging.tolist())
    for trial in seen:
        judging = set(trial.judge.judging.tolist())
        assert judging <= start
        assert not judging & set(trial.data.labelled.tolist())
    assert all(len(trial.data.labelled) == 6 + 5 for trial in seen[9:])


def test_a_run_without_tuning_has_no_such_lines_and_a_schedule_is_kept(learner):
    none = learner("none", tuning={"when": "never"}).run()
    assert not lines(none.run_dir, "tried")
    assert "trials" not in none.to_frame()
    first = learner("first", tuning={"when": "first"}).run()
    assert [t["round"] for t in lines(first.run_dir, "tuned")] == [0]
    settings = lines(first.run_dir, "tuned")[0]["settings"]
    assert [hparams(first.run_dir, r)["lr"] for r in range(3)] == [settings["model.lr"]] * 3
    assert first.to_frame()["trials"].tolist() == [3, 0, 0]


def test_the_validation_set_judges_and_the_pruner_ends_fits_midway(learner):
    data = small.datamodule(initial=9, val=0.2)
    long = {"trainer.max_epochs": {"choice": [40, 41]}}
    tuning = {
        **{"space": tuned.SPACE | long, "judge": "validation", "trials": 8, "when": "first"},
        "pruner": {"name": "median", "startup": 2, "warmup": 0.2},
    }
    folder = learner(datamodule=data, tuning=tuning, budget=5).run().run_dir
    tried = lines(folder, "tried")
    pruned = [t for t in tried if t["state"] == "pruned"]
    assert pruned
    assert lines(folder, "tuned")[0]["trial"] not in [t["trial"] for t in pruned]
    for trial in tried:
        steps = [step for step, _ in trial["steps"]]
        assert steps == list(range(1, len(steps) + 1))
        assert len(steps) == 19 if trial["state"] == "complete" else len(steps) < 19


def test_seconds_end_a_round_by_what_the_journal_says(learner):
    folder = learner(budget=5, tuning={"trials": 50, "seconds": 1e-9}).run().run_dir
    assert [t["trials"] for t in lines(folder, "tuned")] == [1, 1]
    assert [t["stop"] for t in lines(folder, "tuned")] == ["seconds", "seconds"]


def test_a_grid_ends_with_its_space(learner):
    space = {"model.width": {"choice": [2, 3]}}
    tuning = {"space": space, "sampler": "grid", "trials": 9}
    folder = learner(budget=5, tuning=tuning).run().run_dir
    assert [(t["trials"], t["stop"]) for t in lines(folder, "tuned")] == [(2, "space")] * 2


def test_warm_weights_go_on_under_tuned_settings(learner):
    space = {"model.lr": tuned.SPACE["model.lr"]}
    tuning = {"space": space, "judge": "validation"}

    def build():
        data = small.datamodule(initial=9, val=0.2)
        return learner(datamodule=data, tuning=tuning, weights="warm")

    folder = build().run().run_dir
    for r in (0, 2):
        kept = small.weights(folder / "checkpoints" / f"round-{r:03d}.ckpt")
        assert small.same_weights(dict(replay(folder, r, build()).state_dict()), dict(kept))


# --- shared trials -------------------------------------------------------------------------------


def test_runs_that_share_trials_are_the_same_and_do_each_once(learner, tmp_path, monkeypatch):
    seen = small_tasks_of(monkeypatch)
    alone = small.outcome(learner("alone", strategy="margin", budget=5).run().run_dir)
    n = len(seen)
    shared = {"tuning_shared": tmp_path / "shared", "budget": 5}
    for name, changes, fits in (
        ("first", {"strategy": "entropy"}, n),
        ("second", {"strategy": "margin"}, n // 2),  # round 0 holds the same labels
        ("other", {"strategy": "margin", "seed": 1}, n),  # other labels
        ("judge", {"strategy": "margin", "tuning": {"judge": {"folds": 2}}}, n * 2 // 3),
    ):
        seen.clear()
        folder = learner(name, **shared, **changes).run().run_dir
        assert len(seen) == fits, name
        if name == "second":
            assert small.outcome(folder) == alone


# --- bad input -----------------------------------------------------------------------------------


def space(**more):
    return {"space": {name.replace("__", "."): values for name, values in more.items()}}


@pytest.mark.parametrize(
    ("changes", "kind", "words"),
    [
        (
            {"tuning": space(model__widht={"int": [2, 8]})},
            *(LookupError, "no setting named 'model.widht'; did you mean model.width"),
        ),
        (
            {"tuning": space(optimizer__lr={"float": [0.1, 1.0]})},
            *(LookupError, "no setting named 'optimizer.lr'; did you mean model.lr"),
        ),
        (
            {"tuning": space(trainer__max_epoch={"int": [2, 8]})},
            *(LookupError, "did you mean trainer.max_epochs"),
        ),
        (
            {"tuning": space(model__dropout={"float": [0.0, 1.5]})},
            *(ValueError, "model.dropout = 1.5 is refused: MLP: dropout"),
        ),
        (
            {"tuning": {"objective": "val/auroc", "mode": "max"}},
            *(LookupError, "logs no 'val/auroc'; choose one of val/accuracy, val/nll"),
        ),
        (
            {"datamodule": small.datamodule(initial=3), "tuning": {"judge": {"folds": 5}}},
            *(ValueError, "nothing can judge a trial: 3 item"),
        ),
        (
            {"datamodule": small.datamodule(initial=0)},
            *(ValueError, "nothing can judge a trial: 0 item"),
        ),
        ({"tuning": {"judge": "validation"}}, ValueError, "these data have none"),
        ({"tuning": {"judge": {"whole": 0.2}}}, ValueError, "runs only inside `bench`"),
        ({"task": tuned.task()}, ValueError, "as a function of its settings, def task"),
        ({"weights": "warm"}, ValueError, "weights that have seen the items which are to judge"),
        (
            {
                "weights": "warm",
                "tuning": {"judge": "validation"},
                "datamodule": small.datamodule(initial=9, val=0.2),
            },
            *(ValueError, "model.width = 2 changes the shapes of the model"),
        ),
        (
            {"tuning": {"when": {"falls": "val/accuracy"}}},
            *(LookupError, "no metric named 'val/accuracy' in round 0; choose one of test/accurac"),
        ),
        ({"tuning": {"trails": 3}}, ValueError, "did you mean 'trials'"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_fitted(
    learner, tmp_path, changes, kind, words
):
    with pytest.raises(kind, match=words):
        learner(**changes).run()
    assert not (tmp_path / "run").exists()


class Fragile(Classification):
    """Gives NaN in its fits at a large learning rate."""

    def training_step(self, batch, batch_idx):
        loss = super().training_step(batch, batch_idx)
        return loss * (math.nan if self.lr > 0.1 else 1.0)


def fragile(lr=0.02):
    network = small.task().network
    return Fragile(network, small.CLASSES, lr=lr, metrics=["accuracy", "nll"])


@pytest.mark.parametrize("fits", ["lean", "lightning"])
def test_a_trial_that_diverges_is_written_down_and_ends_nothing(learner, fits):
    tuning = {
        **{"space": {"model.lr": {"choice": [0.01, 0.2, 0.05]}}, "sampler": "grid"},
        "when": "first",
    }
    folder = learner(task=fragile, fits=fits, budget=5, tuning=tuning).run().run_dir
    tried = {t["settings"]["model.lr"]: t for t in lines(folder, "tried")}
    assert [tried[lr]["state"] for lr in (0.01, 0.2, 0.05)] == ["complete", "failed", "complete"]
    assert "diverged" in tried[0.2]["why"]
    assert tried[0.2]["value"] is None
    assert lines(folder, "tuned")[0]["settings"]["model.lr"] != 0.2


def test_that_all_trials_failed_ends_the_run(learner):
    tuning = {"space": {"model.lr": {"choice": [0.2, 0.3]}}, "sampler": "grid"}
    with pytest.raises(ValueError, match="all 2 trials failed; the first one: the fit of round 0"):
        learner(task=fragile, tuning=tuning).run()


def test_another_space_is_another_run(learner, finished):
    narrow = {"space": {"model.lr": {"float": [0.1, 0.2]}}}
    with pytest.raises(JournalError, match=r"tuning\.space"):
        learner(tuning=narrow).with_(run_dir=finished).run()
    with pytest.raises(JournalError, match="tuning"):
        learner().with_(run_dir=finished, tuning=None).run()


@pytest.mark.parametrize("change", ["lost", "doubled", "moved", "unsettled"])
def test_trials_that_were_lost_doubled_or_moved_are_refused(finished, tmp_path, change):
    records = lines(finished)
    check_order(records, tmp_path)
    if change == "lost":
        del records[2]
    elif change == "doubled":
        records.insert(2, records[1])
    elif change == "moved":
        records[1], records[2] = records[2], records[1]
    else:
        del records[4]
    with pytest.raises(JournalError, match="a line was lost, doubled or moved"):
        check_order(records, tmp_path)


# --- the command line ----------------------------------------------------------------------------

CONFIG = """
tuning:
  space:
    model.lr: {float: [1e-3, 0.1], log: true}
    model.network.hidden: {choice: [[4], [8, 8]]}
    trainer.max_epochs: {int: [1, 3]}
  objective: val/nll
  trials: 2
  when: first
  judge: {folds: 2}
"""


def test_a_configuration_is_tuned_and_replayed(tmp_path):
    overlay = tmp_path / "tuned.yaml"
    overlay.write_text(CONFIG)
    words = ["run", "--config", "quickstart", "--config", str(overlay), "--budget=20"]
    folder = tmp_path / "run"
    words += ["--trainer.max_epochs=2", "--run_dir", str(folder), "--progress=false"]
    main(words)
    (line,) = lines(folder, "tuned")
    hidden = hparams(folder, 1)["network"]["init_args"]["hidden"]
    assert list(hidden) == line["settings"]["model.network.hidden"]
    kept = small.weights(folder / "checkpoints" / "round-001.ckpt")
    assert small.same_weights(dict(replay(folder, 1).state_dict()), dict(kept))
    before = json.dumps(lines(folder))
    main(words)
    assert json.dumps(lines(folder)) == before
    other = [*words[:-3], "--run_dir", str(tmp_path / "bad"), "--progress=false"]
    bad = overlay.read_text().replace("model.network.hidden", "model.network.hiden")
    overlay.write_text(bad)
    with pytest.raises(LookupError, match=r"'model.network.hiden'; did you mean model.network.hid"):
        main(other)
