"""Runs on a box: places are measured one after another and become the data set."""

import math
from dataclasses import dataclass

import pandas as pd
import pytest
import torch
from helpers import small

from lightning_al import ActiveLearner, replay
from lightning_al.assembly.families import ORACLES, make
from lightning_al.datamodules import ContinuousDataModule, TensorItems
from lightning_al.journal.journal import read_journal
from lightning_al.oracles import CostlyOracle, FileOracle, FunctionOracle, NoisyOracle
from lightning_al.records import Acquisition, Box, Later
from lightning_al.rounds.suggest import suggest, write_suggestions
from lightning_al.tasks import GPRegression

QUIET = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}


def wave(x):
    return torch.sin(6 * x[:, 0])


def guarded(x):
    """A function, and a safety measurement that is positive in the right half."""
    return {"y": torch.sin(6 * x[:, 0]) + x[:, 1], "z": x[:, 0] - 0.5}


def line(**changes):
    settings = {"noise": 0.1, "initial": 3, "test": 20, "candidates": 50}
    return ContinuousDataModule([0.0], [2.0], wave, **(settings | changes))


def plane(**changes):
    settings = {"outcomes": ("y", "z"), "safety": "z", "initial": 4, "test": 20, "candidates": 50}
    return ContinuousDataModule([0.0, 0.0], [1.0, 1.0], guarded, **(settings | changes))


def one():
    return GPRegression(outputs=1)


def two():
    return GPRegression(outputs=2)


def learner(run_dir, datamodule=None, strategy="variance", **changes):
    settings = {"query_size": 1, "budget": 4, "trainer": QUIET, "run_dir": run_dir}
    return ActiveLearner(one, datamodule or line(), strategy, **(settings | changes))


@dataclass(frozen=True)
class Named:
    """Names places of the box."""

    places: tuple = ((0.25,), (1.5,))
    needs = ()
    keeps = ()
    members = "one"
    privileged = False

    def choose(self, candidates, k, generator):
        assert isinstance(candidates.domain, Box)
        return Acquisition(x=torch.tensor(self.places[:k], dtype=torch.float64))


# --- the data set ---------------------------------------------------------------------------------


def test_initial_places_are_labelled_and_candidates_follow_them():
    dm = line()
    dm.setup()
    assert dm.labelled.tolist() == [0, 1, 2]
    assert dm.pool.tolist() == list(range(3, 53))
    assert dm.coordinates(dm.pool).min() >= 0
    assert dm.coordinates(dm.pool).max() <= 2


def test_candidates_are_drawn_anew_each_round_and_the_same_each_time():
    dm = line()
    dm.start(5)
    first = dm.coordinates(dm.pool)
    dm.round = 1
    second = dm.coordinates(dm.pool)
    assert not torch.equal(first, second)
    dm.round = 0
    assert torch.equal(dm.coordinates(dm.pool), first)
    dm.start(6)
    assert not torch.equal(dm.coordinates(dm.pool), first)


def test_each_seed_has_its_own_start_and_test_set():
    dm = line()
    dm.start(1)
    begin, tested = dm.coordinates(dm.labelled), dm.splits.test.inputs[0]
    dm.start(2)
    assert not torch.equal(dm.coordinates(dm.labelled), begin)
    dm.start(1)
    assert torch.equal(dm.coordinates(dm.labelled), begin)
    assert torch.equal(dm.splits.test.inputs[0], tested)


def test_the_start_of_a_seed_is_measured_once():
    counts = []

    def counted(x):
        counts.append(len(x))
        return wave(x)

    dm = ContinuousDataModule([0.0], [2.0], counted, initial=3, test=20, candidates=50)
    dm.setup()
    begin = dm.fingerprint()
    dm.place(torch.tensor([[0.5]]), 3)
    dm.acquire(torch.tensor([3]), torch.tensor([7.0]))
    dm.start(0)
    assert dm.fingerprint() == begin
    assert counts == [3, 20]
    dm.start(1)
    assert counts == [3, 20, 3, 20]


def test_places_take_the_next_positions_and_stay_through_rounds():
    dm = line()
    dm.start(0)
    dm.place(torch.tensor([[0.5], [1.0]]), 3)
    dm.acquire(torch.tensor([3, 4]), torch.tensor([7.0, 8.0]))
    dm.round = 1
    assert dm.labelled.tolist() == [0, 1, 2, 3, 4]
    assert dm.coordinates(torch.tensor([3, 4])).flatten().tolist() == [0.5, 1.0]
    assert dm.labels(torch.tensor([4, 3])).tolist() == [8.0, 7.0]
    assert dm.pool.tolist() == list(range(5, 55))
    batch = next(iter(dm.labelled_loader()))
    pairs = dict(zip(batch[0].flatten().tolist(), batch[1].tolist(), strict=True))
    assert pairs[0.5] == 7.0
    assert pairs[1.0] == 8.0


def test_placing_again_changes_nothing_and_a_gap_is_refused():
    dm = line()
    dm.start(0)
    x = torch.tensor([[0.5], [1.0]])
    dm.place(x, 3)
    state = dm.fingerprint()
    dm.place(x, 3)
    assert dm.fingerprint() == state
    dm.place(x[:1], 3)  # what could not be paid goes
    assert dm.measured == 4
    with pytest.raises(ValueError, match="next place takes position 4, got 6"):
        dm.place(x, 6)
    dm.acquire(torch.tensor([3]))
    with pytest.raises(ValueError, match="journal and the data"):
        dm.place(x, 3)


def test_a_measurement_depends_on_seed_and_position_alone():
    a, b = line(), line()
    for dm in (a, b):
        dm.start(3)
        dm.place(torch.tensor([[0.5], [1.0], [1.5]]), 3)
    wanted = a.labels(torch.tensor([3, 4, 5]))
    assert torch.equal(b.labels(torch.tensor([5, 3])), wanted[[2, 0]])
    noise = wanted - wave(torch.tensor([[0.5], [1.0], [1.5]]))
    assert 0 < noise.abs().max() < 0.6


def test_the_state_comes_back():
    dm = line()
    dm.start(4)
    dm.place(torch.tensor([[0.5], [1.0]]), 3)
    dm.acquire(torch.tensor([3, 4]), torch.tensor([7.0, 8.0]))
    dm.round = 2
    other = line()
    other.load_state_dict(dm.state_dict())
    other.setup()
    assert other.fingerprint() == dm.fingerprint()
    assert torch.equal(other.coordinates(other.pool), dm.coordinates(dm.pool))


def test_safe_starts_and_test_sets_are_safe():
    dm = plane(noise=0.2, initial=30, initial_box=([0.4, 0.4], [0.6, 0.6]))
    dm.start(0)
    places = dm.coordinates(dm.labelled)
    assert places.min() >= 0.4 - 1e-6
    assert places.max() <= 0.6 + 1e-6
    assert (dm.labels(dm.labelled)[:, 1] >= 0).all()
    assert (dm.splits.test.targets[:, 1] >= 0).all()
    assert dm.outputs == 2


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"function": None}, "without a function nothing can be drawn"),
        ({"noise": -1.0}, "noise is 0 or more"),
        ({"candidates": 0}, "candidates 1 or more"),
        ({"initial": (torch.rand(2, 3), torch.rand(2))}, r"initial places are \[n, 1\]"),
        ({"initial": (torch.full((2, 1), 5.0), torch.rand(2))}, "outside the box"),
        ({"function": lambda x: x}, r"as 3 finite numbers \[3\], got \[3, 1\]"),
        ({"function": lambda x: x[:, 0] / 0}, "finite numbers"),
        ({"function": lambda x: {"z": x[:, 0]}}, r"\['y'\] is missing"),
        ({"low": [1.0], "high": [0.0]}, "low < high"),
    ],
)
def test_settings_that_cannot_work_say_why(change, said):
    settings = {"low": [0.0], "high": [2.0], "function": wave, "initial": 3, "test": 5} | change
    with pytest.raises(ValueError, match=said):
        ContinuousDataModule(**settings).setup()


def test_a_box_without_safe_places_says_so():
    dm = plane(initial_box=([0.0, 0.0], [0.3, 1.0]))
    with pytest.raises(ValueError, match="only 0 of 4 places"):
        dm.setup()


# --- runs -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", ["random", "variance", Named()])
def test_a_run_measures_as_many_places_as_it_may(tmp_path, strategy):
    history = learner(tmp_path / "a", strategy=strategy).run()
    assert [r.n_labelled for r in history.rounds] == [3, 4, 5, 6, 7]
    assert history.acquired == [3, 4, 5, 6]
    assert all(math.isfinite(r.metrics["test/rmse"]) for r in history.rounds)


def test_the_journal_holds_places_and_positions(tmp_path):
    learner(tmp_path / "a", strategy=Named(), query_size=2).run()
    records, _ = read_journal(tmp_path / "a" / "journal.jsonl")
    chosen = [r for r in records if r["event"] == "chosen"]
    assert [r["x"] for r in chosen] == [[[0.25], [1.5]]] * 2
    assert [r["index"] for r in chosen] == [[3, 4], [5, 6]]


def test_score_strategies_choose_the_best_candidate(tmp_path):
    run = learner(tmp_path / "a", budget=1)
    run.run()
    dm = line()
    dm.start(0)
    task = replay(tmp_path / "a", 0, run.with_(datamodule=line()))
    spread = task.moments(dm.coordinates(dm.pool).float())[1].flatten()
    best = dm.coordinates(dm.pool)[spread.argmax()]
    records, _ = read_journal(tmp_path / "a" / "journal.jsonl")
    assert next(r for r in records if r["event"] == "chosen")["x"] == [best.tolist()]


def test_a_run_cut_off_anywhere_ends_as_an_unbroken_one(tmp_path):
    learner(tmp_path / "whole", budget=2).run()
    lines = (tmp_path / "whole" / "journal.jsonl").read_bytes().splitlines(keepends=True)
    wanted = small.untimed(read_journal(tmp_path / "whole" / "journal.jsonl")[0])
    for cut in range(1, len(lines)):
        path = tmp_path / "whole" / "journal.jsonl"
        path.write_bytes(b"".join(lines[:cut]))
        learner(tmp_path / "whole", budget=2).run()
        assert small.untimed(read_journal(path)[0]) == wanted, f"cut after line {cut}"


def test_replay_gives_the_state_of_the_checkpoint(tmp_path):
    run = learner(tmp_path / "a")
    run.run()
    task = replay(tmp_path / "a", 3, run.with_(datamodule=line()))
    saved = small.weights(tmp_path / "a" / "checkpoints" / "round-003.ckpt")
    assert small.same_weights(saved, task.state_dict())


def test_safety_of_the_queries_is_reported(tmp_path):
    places = ((0.9, 0.5), (0.4, 0.5), (0.2, 0.5), (0.8, 0.1))
    step = iter(places)

    class Walk(Named):
        def choose(self, candidates, k, generator):
            return Acquisition(x=torch.tensor([next(step)], dtype=torch.float64))

    run = learner(tmp_path / "a", plane(), Walk()).with_(task=two, rehearse=False)
    rounds = run.run().rounds
    assert "safe_share" not in rounds[0].metrics
    found = [(r.metrics["safe_share"], r.metrics["unsafe_distance"]) for r in rounds[1:]]
    wanted = [(1, 0), (1 / 2, 0.1 / 2), (1 / 3, 0.4 / 3), (1 / 2, 0.4 / 4)]
    assert torch.tensor(found) == pytest.approx(torch.tensor(wanted), abs=1e-6)


def test_a_budget_of_costs_buys_the_places_that_can_be_paid(tmp_path):
    oracle = CostlyOracle(lambda index, dm: 5.0 - 4.0 * (dm.coordinates(index)[:, 0] > 1))
    history = learner(
        tmp_path / "a", strategy=Named(), query_size=2, oracle=oracle, cost_budget=1.5
    ).run()
    assert history.rounds[0].acquired == (3,)
    records, _ = read_journal(tmp_path / "a" / "journal.jsonl")
    assert next(r["x"] for r in records if r["event"] == "chosen") == [[1.5]]


# --- who answers ----------------------------------------------------------------------------------


def test_a_function_answers_where_the_data_do_not(tmp_path):
    seen = []

    def lab(x):
        seen.append(x.clone())
        return x[:, 0] ** 2

    tested = TensorItems(torch.rand(5, 1), torch.rand(5))
    dm = ContinuousDataModule([0.0], [2.0], initial=0, test=tested, candidates=20)
    history = learner(tmp_path / "a", dm, Named(), oracle=FunctionOracle(lab), first=Named()).run()
    assert len(history.acquired) == 4
    assert torch.cat(seen).flatten().tolist() == [0.25] * 4
    assert dm.labels(torch.tensor([0])).item() == 0.0625


def test_a_function_may_be_named_by_its_import_path(tmp_path):
    oracle = make(ORACLES, {"name": "Function", "function": "torch.sum"})
    dm = line()
    dm.start(0)
    dm.place(torch.tensor([[0.5], [1.0]]), 3)
    assert oracle.function is torch.sum
    with pytest.raises(LookupError, match=r"no function at 'my_lab\.measure'"):
        FunctionOracle("my_lab.measure")
    with pytest.raises(TypeError, match="takes a function of the inputs, got int"):
        FunctionOracle(3)
    with pytest.raises(TypeError, match="gives a tensor"):
        FunctionOracle(lambda x: object()).ask(torch.tensor([3]), dm, 0)


def test_the_oracle_of_the_data_needs_a_function(tmp_path):
    tested = TensorItems(torch.rand(5, 1), torch.rand(5))
    dm = ContinuousDataModule(
        [0.0], [2.0], initial=(torch.rand(2, 1), torch.rand(2)), test=tested, candidates=20
    )
    with pytest.raises(ValueError, match="simulated oracle has no label"):
        learner(tmp_path / "a", dm, Named()).run()


def test_a_person_reads_the_place_and_writes_both_measures(tmp_path):
    run = learner(tmp_path / "a", plane(), Named(((0.75, 0.5),)), oracle=FileOracle(), budget=1)
    run = run.with_(task=two)
    assert run.run().waiting
    path = tmp_path / "a" / "queries" / "round-000.csv"
    sheet = pd.read_csv(path)
    assert sheet.columns.tolist() == ["index", "x0", "x1", "y", "z"]
    assert sheet[["x0", "x1"]].to_numpy().tolist() == [[0.75, 0.5]]
    sheet["y"], sheet["z"] = [1.5], [-0.25]
    sheet.to_csv(path, index=False)
    dm = plane()
    history = run.with_(datamodule=dm).run()
    assert not history.waiting
    assert dm.labels(torch.tensor([4])).tolist() == [[1.5, -0.25]]
    assert history.rounds[-1].metrics["safe_share"] == 0


def test_one_measure_of_two_is_refused(tmp_path):
    oracle = FunctionOracle(lambda x: x[:, 0])
    run = learner(tmp_path / "a", plane(), Named(((0.75, 0.5),)), oracle=oracle).with_(task=two)
    with pytest.raises(ValueError, match="outcomes y, z here, got y"):
        run.run()


def test_noise_of_an_oracle_acts_on_places_too(tmp_path):
    dm = line(noise=0.0)
    learner(tmp_path / "a", dm, Named(), oracle=NoisyOracle(sd=0.5), budget=1).run()
    assert dm.labels(torch.tensor([3])).item() != pytest.approx(math.sin(1.5))


# --- strategies that go wrong ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("places", "said"),
    [
        (((3.0,),), "outside the box"),
        (((float("nan"),),), "outside the box"),
        (((0.5, 0.5),), r"1 to 1 places \[K, 1\], got \[1, 2\]"),
        ((), r"must choose 1 to 1 places"),
    ],
)
def test_places_that_are_none_are_refused(tmp_path, places, said):
    with pytest.raises(ValueError, match=said):
        learner(tmp_path / "a", strategy=Named(places)).run()


def test_places_in_a_finite_pool_are_refused(learner):
    class Anywhere(Named):
        def choose(self, candidates, k, generator):
            return Acquisition(x=torch.rand(k, 2))

    with pytest.raises(ValueError, match="the pool is finite"):
        learner(strategy=Anywhere()).run()


@pytest.mark.parametrize("what", [{"hit_ratio_at": 0.1}, {"features": lambda x: x}])
def test_settings_of_pools_are_refused_on_a_box(tmp_path, what):
    with pytest.raises(ValueError, match=f"{next(iter(what))} is for pools"):
        learner(tmp_path / "a", **what).run()


# --- one shot -------------------------------------------------------------------------------------


def test_suggest_names_places(tmp_path):
    dm = line()
    run = learner(tmp_path / "a", dm, budget=1)
    run.run()
    task = replay(tmp_path / "a", 0, run.with_(datamodule=line()))
    found = suggest(task, line(), "variance", 3)
    assert found.index is None
    assert found.x.shape == (3, 1)
    write_suggestions(found, dm, tmp_path / "s.csv")
    assert pd.read_csv(tmp_path / "s.csv").columns.tolist() == ["rank", "x0", "score"]


def test_a_box_draws_evenly_and_knows_its_bounds():
    box = Box(torch.tensor([0.0, -2.0]), torch.tensor([1.0, 2.0]))
    x = box.draw(4000, torch.Generator().manual_seed(0))
    assert box.holds(x)
    assert x.mean(0).tolist() == pytest.approx([0.5, 0.0], abs=0.08)
    assert x.std(0).tolist() == pytest.approx([12**-0.5, 4 / 12**0.5], rel=0.05)
    assert not box.holds(torch.tensor([[1.1, 0.0]]))
    assert not box.holds(torch.tensor([[float("nan"), 0.0]]))


def test_a_question_is_asked_of_a_place(tmp_path):
    dm = line()
    dm.start(0)
    dm.place(torch.tensor([[0.5]]), 3)
    later = FileOracle(tmp_path / "asked").ask(torch.tensor([3]), dm, 0)
    assert isinstance(later, Later)
    sheet = pd.read_csv(tmp_path / "asked" / "round-000.csv")
    assert sheet["x0"].tolist() == [0.5]
