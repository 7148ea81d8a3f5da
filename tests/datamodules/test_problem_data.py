"""Problems as data modules: pools and boxes drawn by seed, runs by the command line."""

import pytest
import torch

from lightning_al import replay
from lightning_al.cli import main
from lightning_al.datamodules import ProblemDataModule, ProblemPoolDataModule, problems
from lightning_al.datamodules.sources import data_root
from lightning_al.journal import journal
from lightning_al.randomness import generator
from lightning_al.records import Outcomes


def real(name):
    found = problems.problem(name)
    for resource in found.resources:
        if resource.find(data_root()) is None:
            pytest.skip(f"{resource.sources[0].file} is not in the data folder")
    return found


# --- pools ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["sin", "branin", "simionescu", "townsend"])
def test_a_pool_is_what_the_problem_draws(name):
    dm = ProblemPoolDataModule(name, pool_size=60, n_test=30)
    dm.setup()
    p = dm.problem
    assert dm.labelled.tolist() == list(range(p.n_initial))
    assert len(dm.pool) == 60
    (x,), targets = dm.splits.train.inputs, dm.splits.train.targets
    assert x.shape == (p.n_initial + 60, p.dimension)
    assert x.dtype == targets.dtype == torch.float32
    assert dm.in_features == p.dimension
    assert len(dm.splits.test) == 30
    if p.safe:
        assert (dm.outcomes, dm.outputs, targets.shape[1]) == (Outcomes(("y", "z"), "z"), 2, 2)
        assert bool((dm.labelled_targets()[:, 1] >= 0).all())
        assert bool((dm.splits.test.targets[:, 1] >= 0).all())
        g = p.truth(x.double())[1]
        assert float((targets[:, 1] - g).std()) == pytest.approx(0.1, abs=0.03)
    else:
        assert (dm.outcomes, dm.outputs, targets.ndim) == (Outcomes(), 1, 1)
    full = ProblemPoolDataModule(name)
    full.setup()
    assert (len(full.pool), len(full.splits.test)) == (5000, p.n_test)
    assert torch.equal(full.splits.train.inputs[0][: p.n_initial], x[: p.n_initial])


def test_points_follow_the_seed_of_the_run():
    dm = ProblemPoolDataModule("townsend", pool_size=50, n_test=10)
    dm.start(3)
    first = [t.clone() for t in (*dm.splits.train.inputs, dm.splits.test.targets)]
    mark = dm.fingerprint()
    dm.acquire(dm.pool[:4])
    assert dm.fingerprint() != mark
    dm.start(3)
    assert dm.fingerprint() == mark
    dm.start(4)
    assert len(dm.labelled) == 5
    assert dm.fingerprint() != mark
    assert not torch.equal(dm.splits.train.inputs[0], first[0])
    (inputs, _), *_ = dm.test_dataloader()
    assert torch.equal(inputs, dm.splits.test.inputs[0])
    again = ProblemPoolDataModule("townsend", pool_size=50, n_test=10, seed=9)
    again.setup()
    again.start(3)
    for got, wanted in zip(
        (*again.splits.train.inputs, again.splits.test.targets), first, strict=True
    ):
        assert torch.equal(got, wanted)
    assert again.fingerprint() == mark


def test_a_problem_seed_fixes_the_points():
    dm = ProblemPoolDataModule("branin", pool_size=20, problem_seed=1)
    dm.start(0)
    before = dm.splits.train
    dm.start(5)
    assert dm.splits.train is before
    assert dm.seed == 5


def test_a_saved_state_comes_back_with_its_points():
    dm = ProblemPoolDataModule("townsend", pool_size=30, n_test=10)
    dm.start(7)
    dm.acquire(dm.pool[:3])
    state, mark = dm.state_dict(), dm.fingerprint()
    for setup_first in (True, False):
        other = ProblemPoolDataModule("townsend", pool_size=30, n_test=10)
        if setup_first:
            other.setup()
        other.load_state_dict(state)
        other.setup()
        assert other.fingerprint() == mark
        assert torch.equal(other.splits.train.inputs[0], dm.splits.train.inputs[0])


def test_published_constants_are_drawn_with_the_points():
    exact, published = (
        ProblemPoolDataModule("branin", pool_size=50, variant=v) for v in ("exact", "published")
    )
    for dm in (exact, published):
        dm.setup()
    assert exact.fingerprint() != published.fingerprint()
    draws = generator(0, 0, "problem")
    estimated = published.problem.published(draws)
    wanted = estimated.draw(1, 50, 200, draws)
    assert torch.equal(published.splits.train.targets[1:], wanted.pool.y.float())


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"variant": "other"}, "variant must be 'exact' or 'published'"),
        ({"pool_size": 0}, "pool_size must be 1 or more points, got 0"),
        ({"n_test": 0}, "n_test must be 1 or more points, got 0"),
        ({"initial": -1}, "initial must be 0 or more points, got -1"),
    ],
)
def test_settings_that_make_no_sense_are_refused(given, why):
    with pytest.raises(ValueError, match=why):
        ProblemPoolDataModule("sin", **given)


def test_the_pool_of_the_plant_holds_trajectories():
    real("fluid-system")
    dm = ProblemPoolDataModule("fluid-system", pool_size=3000, n_test=200)
    dm.setup()
    assert (len(dm.labelled), len(dm.pool), dm.in_features) == (10, 3000, 7)
    (x,) = dm.splits.train.inputs
    assert float((x[:, :3] - x[:, 1:4]).abs().max()) <= 0.3 + 1e-6


# --- boxes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["sin", "townsend"])
def test_a_box_measures_the_same_problem(name):
    dm = ProblemDataModule(name, candidates=100, n_test=60)
    dm.setup()
    p = dm.problem
    assert len(dm.labelled) == p.n_initial
    assert len(dm.splits.test) == 60
    x = dm.coordinates(dm.labelled)
    f = p.truth(dm.splits.test.inputs[0])[0]
    targets = dm.splits.test.targets
    got = targets[:, 0] if p.safe else targets
    assert float((got - f).std()) == pytest.approx(0.1, abs=0.04)
    if p.safe:
        assert bool(((x >= 0.4) & (x <= 0.6)).all())
        assert bool((targets[:, 1] >= 0).all())
        assert dm.outcomes == Outcomes(("y", "z"), "z")
    with pytest.raises(
        ValueError, match=r"engine can be measured .* branin, simionescu, sin, town"
    ):
        ProblemDataModule("engine")


# --- the command line ----------------------------------------------------------------------------

FAST = [
    *("--query_size", "2", "--budget", "4", "--trainer.max_epochs", "1"),
    *("--trainer.accelerator", "cpu", "--progress", "false", "--strategy", "variance"),
]


def run(name, *more, model=()):
    settings = ["--data", "ProblemPoolDataModule", "--data.name", name, "--data.pool_size", "60"]
    (history,) = main(["run", "--model", "GPRegression", *model, *settings, *FAST, *more])
    return history


CASES = [("branin", ()), ("townsend", ("--model.outputs", "2", "--model.safety", "true"))]


class Killed(Exception):
    pass


@pytest.mark.parametrize(("name", "model"), CASES)
def test_runs_of_the_command_line_go_on_and_are_replayed(name, model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    history = run(name, "--run_dir", "it", "--seed", "3", model=model)
    start = problems.problem(name).n_initial
    assert [r.n_labelled for r in history.rounds] == [start, start + 2, start + 4]
    assert len(set(history.acquired)) == 4
    assert min(history.acquired) >= start
    other = run(name, "--run_dir", "other", "--seed", "4", model=model)
    assert other.rounds[0].metrics != history.rounds[0].metrics

    moments = iter(range(1000))

    def kill(moment, event):
        if event == "chosen" and next(moments) == 5:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(journal, "fault_hook", kill)
        with pytest.raises(Killed):
            run(name, "--run_dir", "cut", "--seed", "3", model=model)
    gone_on = run(name, "--run_dir", "cut", "--seed", "3", model=model)
    assert gone_on.acquired == history.acquired
    assert [r.metrics for r in gone_on.rounds] == [r.metrics for r in history.rounds]
    again = replay(tmp_path / "it", 1).state_dict()
    saved = torch.load(tmp_path / "it" / history.rounds[1].checkpoint, weights_only=True)
    assert all(torch.equal(value, again[key]) for key, value in saved["state_dict"].items())
