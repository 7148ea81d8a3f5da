"""Whole runs are the same by each backend: picks, figures, checkpoints, replay and resume."""

import json

import pytest
import pytorch_lightning as pl
from helpers import lean_parts as parts
from helpers import small
from pytorch_lightning.callbacks import EarlyStopping, ModelCheckpoint

from lightning_al import replay
from lightning_al.assembly import parsed as parsing
from lightning_al.assembly.parser import parse
from lightning_al.benchmark.execute import execute
from lightning_al.benchmark.grid import bench_of
from lightning_al.fits.lean import LEAN, LeanFits
from lightning_al.fits.lightning import LIGHTNING, LightningFits, refit_by
from lightning_al.fits.plain import why_not_plain
from lightning_al.fits.recipe import Recipe
from lightning_al.journal.journal import read_journal
from lightning_al.posteriors import MCDropout
from lightning_al.ranks.ranks import ALONE, Ranks

WATCHED = {
    "callbacks": [
        EarlyStopping("val/nll", patience=1),
        ModelCheckpoint(monitor="val/accuracy", mode="max"),
    ]
}
RUNS = {
    "margin": {},
    "bald": {"posterior": MCDropout(3)},
    "badge": {"weights": "warm"},
    "k-center": {"weights": "shrink_perturb"},
    "entropy": {"restore": "best", "trainer": small.TRAINER | WATCHED | {"max_epochs": 8}},
}


def backends(run_dir):
    records, _ = read_journal(run_dir / "journal.jsonl")
    return [record["backend"] for record in records if record["event"] == "fitted"]


def without_backend(outcome):
    told = json.loads(outcome["journal"])
    lines = [{k: v for k, v in line.items() if k not in ("backend", "reason")} for line in told]
    return {**outcome, "journal": lines}


@pytest.mark.parametrize("strategy", RUNS)
def test_every_backend_gives_the_same_run(strategy, learner, tmp_path):
    given = {"task": small.dropout_task, "strategy": strategy, "budget": 20, **RUNS[strategy]}
    left = {}
    for fits in ("lightning", "lean", "auto"):
        data = small.datamodule(val=0.2)
        learner(run_dir=tmp_path / fits, datamodule=data, fits=fits, **given).run()
        left[fits] = without_backend(small.outcome(tmp_path / fits))
        assert set(backends(tmp_path / fits)) == {"lightning" if fits == "lightning" else "lean"}
    assert left["lightning"] == left["lean"] == left["auto"]  # checkpoints by hash, too


@pytest.mark.parametrize("round", [0, 2])
@pytest.mark.parametrize("setting", ["bald", "badge", "entropy"])
def test_a_lean_round_is_replayed_by_lightning(round, setting, learner):
    data = small.datamodule(val=0.2)
    it = learner(
        task=small.dropout_task, strategy=setting, fits="lean", datamodule=data, **RUNS[setting]
    )
    history = it.run()
    again = replay(history.run_dir, round, it.with_(datamodule=small.datamodule(val=0.2)))
    kept = small.weights(history.run_dir / history.rounds[round].checkpoint)
    assert small.same_weights(dict(again.state_dict()), dict(kept))


class Ends(Exception):
    pass


class Breaks:
    """Ends a run after its first round."""

    def run_started(self, facts, rounds): ...

    def stage_started(self, round, stage): ...

    def round_ended(self, round, datamodule):
        raise Ends

    def run_ended(self, history): ...


@pytest.mark.parametrize("first", ["lightning", "lean"])
@pytest.mark.parametrize("weights", ["reset", "warm"])
def test_a_run_goes_on_under_another_backend(first, weights, learner, tmp_path):
    given = {"task": small.dropout_task, "weights": weights}
    learner(run_dir=tmp_path / "whole", **given).run()
    other = {"lightning": "lean", "lean": "lightning"}[first]
    with pytest.raises(Ends):
        learner(run_dir=tmp_path / "cut", fits=first, observers=[Breaks()], **given).run()
    learner(run_dir=tmp_path / "cut", fits=other, **given).run()
    assert backends(tmp_path / "cut") == [first, other, other]
    whole, cut = (without_backend(small.outcome(tmp_path / n)) for n in ("whole", "cut"))
    assert whole == cut


def test_a_damaged_checkpoint_is_fitted_again_the_same(learner, tmp_path):
    given = {
        "task": small.dropout_task,
        "weights": "warm",
        "fits": "lean",
        "run_dir": tmp_path / "r",
    }
    with pytest.raises(Ends):
        learner(observers=[Breaks()], **given).run()
    (tmp_path / "r/checkpoints/round-000.ckpt").write_bytes(b"no checkpoint")
    learner(**given).run()
    events = [r["event"] for r in read_journal(tmp_path / "r/journal.jsonl")[0]]
    assert "refitted" not in events


def test_the_reason_is_in_the_journal_once_over_all_commands(learner, tmp_path):
    given = {"fits": "auto", "trainer": small.TRAINER | {"detect_anomaly": True}}
    with pytest.raises(Ends):
        learner(run_dir=tmp_path / "r", observers=[Breaks()], **given).run()
    learner(run_dir=tmp_path / "r", **given).run()
    records, _ = read_journal(tmp_path / "r/journal.jsonl")
    assert [r["round"] for r in records if "reason" in r] == [0]


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("wanted", ["lean", "auto"])
def test_refits_are_the_same(count, wanted):
    found = {}
    for kind in (LightningFits, LeanFits):
        data = small.datamodule()
        data.start(0)
        recipe = Recipe(small.dropout_task, small.TRAINER)
        fits = kind(recipe, data, seed=0, keep=lambda *_: "")
        fits._why = ""  # as after a first fit
        views = [data.restricted(data.labelled[: 3 + i]) for i in range(count)]
        found[kind] = [fits.refit(recipe, view, seed=0, round=0).state_dict() for view in views]
    for usual, lean in zip(*found.values(), strict=True):
        assert small.same_weights(dict(usual), dict(lean))


@pytest.mark.parametrize("task", [parts.Hooked, small.dropout_task, parts.Logs])
def test_a_refit_that_is_not_plain_is_lightnings(task, monkeypatch):
    """Whatever the first fit was: a refit looks for itself."""
    data = small.datamodule()
    data.start(0)
    recipe = Recipe(task, small.TRAINER | {"accumulate_grad_batches": 2})
    fits = LeanFits(recipe, data, seed=0, keep=lambda *_: "")
    fits._why = ""
    made = fits.refit(recipe, data.restricted(None), seed=0, round=0)
    usual = refit_by(LIGHTNING, recipe, data.restricted(None), seed=0, round=0)
    assert small.same_weights(dict(made.state_dict()), dict(usual.state_dict()))


@pytest.mark.parametrize("size", [1, 2, 4])
def test_several_processes_are_lightnings(size):
    data = small.datamodule()
    data.start(0)
    trainer = Recipe(small.task, small.TRAINER).build_trainer()
    why = why_not_plain(small.task(), trainer, data, Ranks(0, size))
    assert why == ("" if size == 1 else f"the run has {size} processes")
    assert why_not_plain(small.task(), trainer, data, ALONE) == ""


def test_a_lean_fit_takes_nothing_of_the_round_before():
    """One Trainer serves all lean fits; callbacks are new each time."""
    recipe = Recipe(small.task, small.TRAINER | WATCHED)
    data = small.datamodule(val=0.2)
    data.start(0)
    fits = LeanFits(recipe, data, seed=0, keep=lambda *_: "")
    first = fits.trainer_for(LEAN, [], pl)
    before = list(first.callbacks)
    again = fits.trainer_for(LEAN, [], pl)
    assert again is first
    assert [type(c) for c in again.callbacks] == [type(c) for c in before]
    assert not {*map(id, again.callbacks)} & {*map(id, before)}
    assert fits.trainer_for(LIGHTNING, [], pl) is not first


@pytest.mark.parametrize("change", [{"max_epochs": 3}, {"logger": True}])
def test_other_settings_are_another_trainer(change):
    given = [small.TRAINER, small.TRAINER | change]
    recipe = Recipe(small.task, lambda: dict(given[0]))
    trainer = recipe.build_trainer()
    assert recipe.renew(trainer, [], pl)
    given.reverse()
    assert not recipe.renew(trainer, [], pl)


# --- benchmarks ----------------------------------------------------------------------------------


def grid(**common):
    network = {"class_path": "lightning_al.networks.MLP", "init_args": {"hidden": [8]}}
    model = {"class_path": "lightning_al.tasks.Classification", "init_args": {"network": network}}
    sizes = {"query_size": 5, "budget": 5, "trainer": {"max_epochs": 1, "accelerator": "cpu"}}
    return bench_of(
        {
            "metric": "test/accuracy",
            "seeds": 3,
            "data": {"digits": {"class_path": "lightning_al.datamodules.DigitsDataModule"}},
            "models": {"mlp": model},
            "strategies": ["margin"],
            "common": sizes | common,
        }
    ).runs


@pytest.mark.parametrize(
    ("common", "backend"),
    [({}, "lean"), ({"fits": "lightning"}, "lightning"), ({"fits": "lean"}, "lean")],
)
def test_a_benchmark_is_lean_unless_its_grid_says_otherwise(common, backend, tmp_path):
    outcome = execute(grid(**common)[0], tmp_path)
    assert outcome["status"] == "done", outcome["error"]
    assert set(backends(tmp_path / "runs" / outcome["run_id"])) == {backend}


def test_settings_that_differ_in_seeds_are_parsed_once(monkeypatch, tmp_path):
    parsing._known.clear()
    usual, calls = [], []
    for run in grid():
        file = tmp_path / "one.yaml"
        file.write_text(json.dumps(run.config))
        usual.append(parse(["run", "--config", str(file)]))
    whole = parsing._parse
    monkeypatch.setattr(parsing, "_parse", lambda config: calls.append(config) or whole(config))
    assert [parsing.parsed(run.config) for run in grid()] == usual
    assert len(calls) == 1
    changed = parsing.parsed(grid()[1].config)
    changed["data"]["init_args"]["split_seed"] = 99  # what is handed out is the caller's
    assert parsing.parsed(grid()[1].config) == usual[1]
    assert len(calls) == 1


@pytest.mark.parametrize(
    "change",
    [{"query_size": 6}, {"strategy": "entropy"}, {"seed": "2"}, {"seed": True}, {"trainer": {}}],
)
def test_other_differences_are_parsed(change, monkeypatch):
    calls = []
    config = dict(grid()[0].config)
    parsing.parsed(config)
    monkeypatch.setattr(parsing, "_parse", lambda given: calls.append(given) or {})
    parsing.parsed(config | change)
    assert len(calls) == 1
    parsing._known.clear()


def test_a_wrong_number_is_refused_as_ever():
    config = dict(grid()[0].config)
    parsing.parsed(config)
    with pytest.raises(Exception, match="many"):
        parsing.parsed(config | {"query_size": "many"})
