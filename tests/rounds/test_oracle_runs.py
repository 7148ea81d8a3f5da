"""Oracles in a run: cost budgets, late answers, the ledger, and the hit ratio."""

import csv
import math
import shutil
from dataclasses import replace

import pytest
import torch
from helpers import small

from lightning_al import replay
from lightning_al.datamodules import ActiveDataModule
from lightning_al.datamodules.tensors import TensorItems
from lightning_al.history.hits import best_items
from lightning_al.history.round_log import RoundLog
from lightning_al.journal.journal import read_journal
from lightning_al.oracles import (
    AbstainingOracle,
    CommitteeOracle,
    CostlyOracle,
    DelayedOracle,
    NoisyOracle,
    SimulatedOracle,
)
from lightning_al.records import Answers, Status


@pytest.fixture
def learner(tmp_path):
    return lambda **changes: small.learner(
        changes.pop("run_dir", tmp_path / "run"), **{"strategy": "random", **changes}
    )


# --- what it costs -------------------------------------------------------------------------------


def test_a_cost_budget_is_never_overdrawn_and_used_up(learner):
    costs = torch.rand(60, generator=torch.Generator().manual_seed(3)).double() + 0.1
    history = learner(oracle=CostlyOracle(costs), budget=54, cost_budget=8.0).run()
    assert history.cost <= 8.0
    assert history.cost == pytest.approx(sum(costs[i] for i in history.acquired).item())
    assert history.costs == [
        pytest.approx(costs[list(r.acquired)].sum().item()) for r in history.rounds
    ]
    assert "the cost budget is spent" in history.stopped
    full, cut = history.rounds[0], history.rounds[-2]
    assert len(full.acquired) == 5
    assert len(cut.acquired) < 5
    journal = history.run_dir / "journal.jsonl"
    before = journal.read_bytes()
    again = learner(oracle=CostlyOracle(costs), budget=54, cost_budget=8.0).run()
    assert (again, journal.read_bytes()) == (history, before)


@pytest.mark.parametrize(
    ("cost_budget", "bought"), [(7.0, [5, 2, 0]), (0.5, [0]), (10.0, [5, 5, 0])]
)
def test_a_cost_budget_in_whole_items(learner, cost_budget, bought):
    history = learner(budget=54, cost_budget=cost_budget).run()
    assert [len(r.acquired) for r in history.rounds] == bought
    assert f"spent: {sum(bought)} of {cost_budget:g}, the cheapest item costs 1" in history.stopped


def test_money_left_over_does_not_stop_at_a_dear_item(learner):
    costs = torch.where(torch.arange(60) % 2 == 0, 1.0, 100.0)
    history = learner(oracle=CostlyOracle(costs), budget=54, cost_budget=9.0).run()
    assert all(i % 2 == 0 for i in history.acquired)
    assert "the cost budget is spent" in history.stopped
    with pytest.raises(ValueError, match="cost_budget must be a finite number from 0, got -1"):
        learner(cost_budget=-1).run()


class OnDelivery(DelayedOracle):
    """Half of the price is due when the answer comes."""

    def collect(self, index, asked, datamodule, round):
        late = super().collect(index, asked, datamodule, round)
        return replace(late, cost=torch.where(late.pending, 0.0, 1.0).double())


def test_a_spent_run_waits_for_its_late_answers_and_pays_them(learner):
    history = learner(oracle=DelayedOracle(1), budget=54, cost_budget=7.0).run()
    assert [r.n_labelled for r in history.rounds] == [6, 6, 11, 13]
    assert "the cost budget is spent: 7 of 7" in history.stopped
    run_dir = history.run_dir / "other"
    history = learner(oracle=OnDelivery(1), budget=54, cost_budget=27.0, run_dir=run_dir).run()
    # asked 5, 5, 5, then the 2 that can still be paid; came 0, 0, 5, 5, 5, 2
    assert history.costs == [5, 5, 5 + 5, 2 + 5, 5, 2]
    assert [len(p) for p in (history.acquired, history.ledger)] == [17, 17]
    assert history.cost == 2 * 17
    assert sum(p.cost for p in history.ledger) == history.cost


def test_late_answers_come_in_their_round(learner):
    data = small.datamodule()
    oracle = DelayedOracle(2, oracle=SimulatedOracle(0.5))
    history = learner(oracle=oracle, datamodule=data).run()
    assert [r.n_labelled for r in history.rounds] == [6, 6, 6, 11, 16]
    assert [r.n_pool for r in history.rounds] == [54, 49, 44, 44, 44]
    assert [len(r.pending) for r in history.rounds] == [5, 5, 0, 0, 0]
    assert [len(r.arrived) for r in history.rounds] == [0, 0, 0, 5, 5]
    assert history.costs == [2.5, 2.5, 0, 0, 0]
    assert [(p.round, p.answered) for p in history.ledger] == [(0, 3)] * 5 + [(1, 4)] * 5
    assert history.acquired == [p.index for p in history.ledger]
    assert set(history.acquired) <= set(data.labelled.tolist())
    assert not bool((data.status == Status.ASKED).any())
    assert history.stopped == "the budget is spent"
    again = learner(oracle=oracle).run()
    assert again.rounds == history.rounds
    # a round that begins with late answers is fitted again as it was
    run = history.run_dir
    replayed = replay(run, 3, learner(oracle=oracle, datamodule=small.datamodule()))
    assert small.same_weights(
        replayed.state_dict(), small.weights(run / "checkpoints" / "round-003.ckpt")
    )


def test_a_delay_of_zero_changes_nothing(learner, tmp_path):
    plain = learner().run()
    late = learner(oracle=DelayedOracle(0), run_dir=tmp_path / "other").run()
    assert [r.acquired for r in late.rounds] == [r.acquired for r in plain.rounds]


def test_late_answers_are_noisy_and_refused_as_prompt_ones(learner, tmp_path):
    inner = AbstainingOracle(0.4, oracle=NoisyOracle(0.5))
    found = {}
    for name, oracle in {
        "prompt": inner,
        "outside": DelayedOracle(1, oracle=inner),
        "inside": AbstainingOracle(
            0.4, oracle=NoisyOracle(0.5, oracle=CostlyOracle(3.0, oracle=DelayedOracle(1)))
        ),
    }.items():
        data = small.datamodule()
        history = learner(oracle=oracle, datamodule=data, run_dir=tmp_path / name, budget=20).run()
        refused = (data.status == Status.REFUSED).nonzero().flatten().tolist()
        found[name] = (sorted(history.acquired), refused, data.labelled_targets().tolist())
        assert history.cost == (60 if name == "inside" else 20)
        late = {p.index for p in history.ledger if p.refused}
        assert late == set(refused)
    assert found["prompt"] == found["outside"] == found["inside"]


def test_a_delayed_run_that_was_cut_off_goes_on_as_it_was(learner, tmp_path):
    oracle = NoisyOracle(0.3, oracle=DelayedOracle(1))
    whole = learner(oracle=oracle, run_dir=tmp_path / "whole")
    whole.with_(observers=[RoundLog()]).run()
    expected = small.outcome(tmp_path / "whole")
    lines = (tmp_path / "whole" / "journal.jsonl").read_bytes().splitlines(keepends=True)
    events = [
        (r["round"], r["event"]) for r in read_journal(tmp_path / "whole/journal.jsonl")[0][1:]
    ]
    assert [r for r, event in events if event == "collected"] == [1, 2, 3]
    cuts = [i for i, (r, e) in enumerate(events) if r in (0, 1) and e in ("collected", "labelled")]
    for cut in [c + more for c in cuts for more in (1, 2)]:  # before and after these lines
        run_dir = tmp_path / f"cut-{cut}"
        run_dir.mkdir()
        (run_dir / "journal.jsonl").write_bytes(b"".join(lines[:cut]))
        shutil.copy(tmp_path / "whole/config.yaml", run_dir)
        shutil.copytree(tmp_path / "whole/checkpoints", run_dir / "checkpoints")
        learner(oracle=oracle, run_dir=run_dir).with_(observers=[RoundLog()]).run()
        left = small.outcome(run_dir)
        assert [name for name in expected if left[name] != expected[name]] == []


def test_what_is_pending_needs_a_way_to_come(learner):
    class Never:
        def ask(self, index, datamodule, round):
            return Answers({}, pending=torch.ones(len(index), dtype=torch.bool))

    with pytest.raises(TypeError, match=r"Never left 5 item\(s\) pending, and has no method coll"):
        learner(oracle=Never()).run()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"pending": torch.ones(2).bool()}, "'pending' has 2 entries"),
        ({"pending": torch.ones(5).bool(), "refused": torch.ones(5).bool()}, "not both at once"),
        ({"by": ["me"]}, "'by' has 1 entries"),
        ({"cost": torch.full((5,), -1.0)}, "costs must be finite numbers from 0"),
    ],
)
def test_answers_that_contradict_themselves_never_reach_the_journal(learner, changes, said):
    class Bad:
        def ask(self, index, datamodule, round):
            return replace(Answers({"y": datamodule.labels(index)}), **changes)

    with pytest.raises(ValueError, match=said):
        learner(oracle=Bad()).run()
    assert read_journal(learner().run_dir / "journal.jsonl")[0][-1]["event"] == "asked"


def test_answers_come_back_from_the_journal():
    answers = Answers(
        {"y": torch.tensor([1, 2])},
        cost=torch.tensor([0.5, 1.0]).double(),
        pending=torch.tensor([False, True]),
        by=["a", "b"],
    )
    again = Answers.from_json(answers.to_json())
    assert again.to_json() == answers.to_json()
    assert again.rows(torch.tensor([False, True])).by == ["b"]
    assert "pending" not in Answers({}).to_json()


def test_where_each_label_comes_from(learner):
    oracle = CommitteeOracle([0.9, 0.8, 0.7], votes=2)
    run = learner(oracle=oracle, datamodule=small.datamodule(initial=0), strategy="entropy")
    history = run.with_(first="random", observers=[RoundLog()]).run()
    rows = list(csv.DictReader((history.run_dir / "acquired.csv").open()))
    assert [r["strategy"] for r in rows] == ["random"] * 5 + ["entropy"] * 5
    assert [r["round"] for r in rows] == [r["answered"] for r in rows] == ["0"] * 5 + ["1"] * 5
    assert all(len(r["annotators"].split()) == 2 and r["time"] for r in rows)
    assert [float(r["cost"]) for r in rows] == [2.0] * 10
    assert [int(r["index"]) for r in rows] == [p.index for p in history.ledger]


# --- hit ratio -----------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.01, 0.05, 0.1, 0.5, 0.99])
@pytest.mark.parametrize("n", [1, 7, 100])
def test_the_best_items_are_the_largest_with_their_ties(share, n):
    targets = torch.randint(-6, 4, (n,), generator=torch.Generator().manual_seed(n)).double()
    best = set(best_items(targets, share).tolist())
    k = max(1, math.ceil(round(share * n, 9)))
    least = sorted(targets.tolist(), reverse=True)[k - 1]
    assert best == {i for i, y in enumerate(targets.tolist()) if y >= least}
    assert best == set(best_items(targets[:, None], share).tolist())


def test_large_negative_targets_are_not_the_best_and_neither_is_nan():
    targets = torch.tensor([-100.0, 1.0, math.nan, 2.0, math.inf, -math.inf])
    assert best_items(targets, 0.4).tolist() == [1, 3, 4]
    for share in (0, 1, 5, math.nan):
        with pytest.raises(ValueError, match="a share between 0 and 1"):
            best_items(targets, share)
    with pytest.raises(ValueError, match=r"one number an item as target, got torch\.int64"):
        best_items(torch.arange(4), 0.5)


def test_the_hit_ratio_of_a_run_is_that_of_its_labels(learner):
    y = small.line().targets
    plain = {"task": small.regression_task, "strategy": "greedy", "oracle": NoisyOracle(sd=5.0)}
    data = ActiveDataModule(small.line(), small.line(9, 1), initial=6, batch_size=4)
    history = learner(datamodule=data, hit_ratio_at=0.1, budget=20, **plain).run()
    pool = sorted(set(range(60)) - (set(data.labelled.tolist()) - set(history.acquired)))
    top = sorted(pool, key=lambda i: -y[i].item())[:6]
    found = set()
    for r in history.rounds:
        assert r.metrics["hit_ratio"] == pytest.approx(len(found & set(top)) / 6)
        found |= set(r.acquired)
    assert history.rounds[-1].metrics["hit_ratio"] > 0
    with pytest.raises(ValueError, match="one number an item as target"):
        learner(hit_ratio_at=0.1, run_dir=history.run_dir / "other").run()
    bare = TensorItems(torch.randn(9, 4))
    data = ActiveDataModule(bare, small.line(9, 1), initial=0, batch_size=4)
    with pytest.raises(ValueError, match="9 of 9 items carry none"):
        learner(datamodule=data, hit_ratio_at=0.1, run_dir=history.run_dir / "3", **plain).run()


# --- patience ------------------------------------------------------------------------------------


class Trickle(SimulatedOracle):
    """Nothing is answered when it is asked for; later ``a_round`` items a round, from ``start``."""

    def __init__(self, a_round, start=0):
        super().__init__()
        self.a_round, self.start = a_round, start

    def ask(self, index, datamodule, round):
        free = torch.zeros(len(index), dtype=torch.float64)
        return Answers(values={}, cost=free, pending=torch.ones(len(index), dtype=torch.bool))

    def collect(self, index, asked, datamodule, round):
        answers = super().ask(index, datamodule, round)
        pending = torch.arange(len(index)) >= (self.a_round if round >= self.start else 0)
        return replace(answers, cost=torch.zeros(len(index)).double(), pending=pending)


@pytest.mark.parametrize("patience", [1, 3])
def test_a_run_waits_as_long_as_answers_arrive(learner, monkeypatch, patience):
    """All five are asked for at once; one comes a round, over more rounds than its patience."""
    monkeypatch.setattr("lightning_al.rounds.stages.PATIENCE", patience)
    history = learner(oracle=Trickle(1), budget=5).run()
    assert [r.n_labelled for r in history.rounds] == [6, 7, 8, 9, 10, 11]
    assert "wait" not in history.stopped


@pytest.mark.parametrize("patience", [1, 3])
def test_a_run_in_which_nothing_arrives_ends(learner, monkeypatch, patience):
    monkeypatch.setattr("lightning_al.rounds.stages.PATIENCE", patience)
    history = learner(oracle=Trickle(0), budget=5).run()
    assert len(history) == 2 + patience  # the query, its patience, the last look
    assert f"5 item(s) still wait after {patience} rounds" in history.stopped
    late = learner(
        run_dir=history.run_dir.with_name("late"), oracle=Trickle(2, start=patience), budget=5
    )
    assert late.run().rounds[-1].n_labelled == 11
