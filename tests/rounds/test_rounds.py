"""The driver: budgets, queries, oracles, stopping, and what a run leaves behind."""

import math

import pandas as pd
import pytest
import pytorch_lightning as pl
import torch
from helpers import small
from torch import nn
from torch.utils.data import Dataset

from lightning_al import History
from lightning_al.datamodules import ActiveDataModule
from lightning_al.history.records import Round
from lightning_al.oracles import SimulatedOracle
from lightning_al.records import Acquisition, Answers, Status
from lightning_al.rounds import MetricTarget, NoImprovement
from lightning_al.tasks import Classification

# --- budget and queries ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query_size", "budget", "bought"),
    [(5, 10, [5, 5, 0]), (4, 10, [4, 4, 2, 0]), (10, 10, [10, 0]), (1, 2, [1, 1, 0])],
)
def test_the_last_query_is_what_the_budget_leaves(learner, query_size, budget, bought):
    history = learner(strategy="random", query_size=query_size, budget=budget).run()
    assert [len(r.acquired) for r in history.rounds] == bought
    assert [r.n_labelled for r in history.rounds] == [
        6 + sum(bought[:i]) for i in range(len(bought))
    ]
    assert history.stopped == "the budget is spent"
    assert len(set(history.acquired)) == budget


def test_the_last_query_is_what_the_pool_leaves(learner):
    data = small.datamodule(small.blobs(20))  # 6 labelled, 14 in the pool
    history = learner(query_size=5, budget=1000, datamodule=data).run()
    assert [len(r.acquired) for r in history.rounds] == [5, 5, 4, 0]
    assert [r.n_pool for r in history.rounds] == [14, 9, 4, 0]
    assert history.stopped == "the pool is empty"
    assert len(data.pool) == 0
    assert len(data.labelled) == 20


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"query_size": 0}, "query_size must be a whole number from 1, got 0"),
        ({"budget": 4}, "the budget of 4 is smaller than one query of 5"),
        ({"query_size": 55, "budget": 60}, "cannot acquire 55 of 54 candidates; lower query_size"),
        ({"restore": "first"}, "restore must be one of last, best, got 'first'"),
        ({"keep_checkpoints": "some"}, "keep_checkpoints must be one of all, last"),
        ({"datamodule": small.datamodule(initial=60)}, "the pool is empty: every item"),
        ({"weights": "rest"}, "no weights policy named 'rest'.*reset, shrink_perturb, warm"),
        ({"strategy": "entropi"}, r"no strategy named 'entropi' \(did you mean 'entropy'\?\)"),
        ({"task": lambda: nn.Linear(1, 1)}, "must be a LightningModule or a function.*Linear"),
    ],
)
def test_settings_that_cannot_work_are_refused(learner, change, said):
    with pytest.raises((ValueError, LookupError, TypeError), match=said):
        learner(**change).run()


def test_nothing_is_written_for_settings_that_cannot_work(learner):
    with pytest.raises(ValueError, match="budget"):
        learner(budget=1).run()
    assert not learner().run_dir.exists()


class Chooses:
    """A strategy that chooses what it is told, without looking."""

    needs = keeps = ()
    members = "one"
    privileged = False

    def __init__(self, choice):
        self.choice = choice

    def choose(self, candidates, k, generator):
        return Acquisition(index=torch.as_tensor(self.choice(candidates, k)))


@pytest.mark.parametrize(
    ("choice", "said"),
    [
        (lambda pool, k: [], "chose nothing; it must choose 5 of 54"),
        (lambda pool, k: pool.index[[0, 0, 1]], "chose an item twice"),
        (lambda pool, k: pool.index[: k + 1], "chose 6 items where 5 were due"),
        (lambda pool, k: range(k), "chose items outside the pool"),
    ],
)
def test_a_strategy_that_breaks_its_contract_is_named(learner, choice, said):
    with pytest.raises(ValueError, match=rf"strategy 'Chooses' {said}"):
        learner(strategy=Chooses(choice)).run()


def test_a_strategy_may_choose_fewer(learner):
    fewer = Chooses(lambda pool, k: pool.index[: max(1, k - 1)])
    history = learner(strategy=fewer, budget=6).run()
    assert [len(r.acquired) for r in history.rounds] == [4, 1, 1, 0]


def test_a_privileged_strategy_runs_only_where_it_is_allowed(learner):
    cheat = Chooses(lambda pool, k: pool.index[:k])
    cheat.privileged = True
    with pytest.raises(ValueError, match="reads labels of the pool; it runs only inside `bench`"):
        learner(strategy=cheat).run()
    assert len(learner(strategy=cheat, privileged=True).run()) == 3


def test_initial_zero_begins_with_a_random_query(learner):
    history = learner(strategy="random", datamodule=small.datamodule(initial=0)).run()
    first, second, _ = history.rounds
    assert (first.n_labelled, first.batches, first.checkpoint, dict(first.metrics)) == (
        0,
        0,
        None,
        {},
    )
    assert second.n_labelled == 5
    assert second.metrics["test/accuracy"] >= 0
    assert history.final_checkpoint == history.run_dir / "checkpoints" / "round-002.ckpt"
    assert len(learner(strategy="random", datamodule=small.datamodule(initial=0)).run()) == 3


# --- oracles --------------------------------------------------------------------------------------


class Refuses:
    """Answers with the label, but refuses odd positions; each question costs 2.5."""

    def __init__(self):
        self.asked = []

    def __repr__(self):
        return "Refuses()"

    def ask(self, index, datamodule, round):
        self.asked += index.tolist()
        labels = datamodule.labels(index)
        refused = index % 2 == 1
        labels[refused] = -7  # whatever stands there is ignored
        return Answers({"y": labels}, cost=torch.full((len(index),), 2.5), refused=refused)


def test_refused_items_cost_and_are_never_asked_again(learner):
    oracle, data = Refuses(), small.datamodule()
    history = learner(oracle=oracle, strategy="random", budget=54, datamodule=data).run()
    assert len(set(oracle.asked)) == len(oracle.asked) == 54
    assert sum(r.cost for r in history.rounds) == 2.5 * 54
    for r in history.rounds:
        assert all(i % 2 == 0 for i in r.acquired)
        assert all(i % 2 == 1 for i in r.refused)
    assert history.rounds[-1].n_labelled == 6 + len(history.acquired)
    refused = (data.status == Status.REFUSED).nonzero().flatten().tolist()
    assert refused == sorted(i for r in history.rounds for i in r.refused)
    # and the same from the journal
    again = learner(oracle=Refuses(), strategy="random", budget=54).run()
    assert again.rounds == history.rounds


def test_a_round_in_which_all_is_refused_goes_on(learner):
    class Never:
        def ask(self, index, datamodule, round):
            return Answers({}, refused=torch.ones(len(index), dtype=torch.bool))

    history = learner(oracle=Never()).run()
    assert [r.n_labelled for r in history.rounds] == [6, 6, 6]
    assert [len(r.refused) for r in history.rounds] == [5, 5, 0]
    assert [r.cost for r in history.rounds] == [5.0, 5.0, 0.0]


def test_answers_reach_the_fit_and_not_the_data_set(learner):
    train = small.blobs()
    bare = small.TensorItems(train.inputs[0])
    before = train.inputs[0].clone()

    class Person:
        def ask(self, index, datamodule, round):
            return Answers({"y": train.targets[index]})

    class Given(ActiveDataModule):
        classes = 3

    with_labels = learner(strategy="random", datamodule=small.datamodule(initial=0)).run()
    data = Given(bare, small.blobs(30, seed=1), initial=0, batch_size=4)
    answered = learner(
        run_dir=with_labels.run_dir / "other", strategy="random", datamodule=data, oracle=Person()
    ).run()
    for a, b in zip(with_labels.rounds[1:], answered.rounds[1:], strict=True):
        assert a.metrics == b.metrics
        one, other = (small.weights(h.run_dir / a.checkpoint) for h in (with_labels, answered))
        assert small.same_weights(one, other)
    assert bare.targets is None
    assert torch.equal(bare.inputs[0], before)


def test_the_simulated_oracle_has_no_labels_for_bare_items():
    data = small.datamodule(small.TensorItems(torch.randn(9, 4)), initial=0)
    data.setup()
    with pytest.raises(ValueError, match=r"no label for 2 of 2 items, first: \[3, 4\].*`suggest`"):
        SimulatedOracle().ask(torch.tensor([3, 4]), data, 0)


# --- stopping -------------------------------------------------------------------------------------


def rounds(*values, metric="test/accuracy"):
    return [Round(i, 6, 54, {metric: v}, batches=3, checkpoint=None) for i, v in enumerate(values)]


def test_a_target_stops_in_both_directions():
    assert MetricTarget("test/accuracy", 0.9)(rounds(0.95, 0.89)) is None
    assert MetricTarget("test/accuracy", 0.9)(rounds(0.1, 0.9)) == (
        "test/accuracy reached 0.9 (target 0.9)"
    )
    assert MetricTarget("test/accuracy", 0.2, mode="min")(rounds(0.1, 0.3)) is None
    assert MetricTarget("test/accuracy", 0.2, mode="min")(rounds(0.3, 0.2))
    assert MetricTarget("test/accuracy", 0.2)(rounds(math.nan)) is None


def test_no_improvement_counts_from_the_best_round():
    rule = NoImprovement("test/accuracy", rounds=2)
    assert rule(rounds(0.5)) is None
    assert rule(rounds(0.5, 0.4)) is None
    assert rule(rounds(0.5, 0.4, 0.5)) == "test/accuracy has not improved for 2 rounds"
    assert rule(rounds(0.5, 0.4, 0.6, 0.5)) is None
    assert rule(rounds(0.5, 0.4, math.nan))
    least = NoImprovement("test/accuracy", rounds=2, mode="min")
    assert least(rounds(0.5, 0.4, 0.3)) is None
    assert least(rounds(0.3, 0.4, 0.5))


def test_an_improvement_must_exceed_min_delta():
    rule = NoImprovement("test/accuracy", rounds=2, min_delta=0.1)
    assert rule(rounds(0.5, 0.55, 0.59))  # creeping up is none
    assert rule(rounds(0.5, 0.55, 0.61)) is None


def test_rounds_without_a_fit_do_not_count():
    nothing = Round(0, 0, 60, {}, batches=0, checkpoint=None)
    for rule in (MetricTarget("test/accuracy", 0.9), NoImprovement("test/accuracy", rounds=1)):
        assert rule([nothing]) is None
        assert rule([nothing, *rounds(0.5)]) is None


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: MetricTarget("a", 0.1, mode="least"), "mode must be 'max' or 'min', got 'least'"),
        (lambda: NoImprovement("a", mode="most"), "mode must be"),
        (lambda: NoImprovement("a", rounds=0), "rounds must be at least 1, got 0"),
    ],
)
def test_rules_that_make_no_sense(make, said):
    with pytest.raises(ValueError, match=said):
        make()


def test_a_run_stops_at_its_target_and_stays_stopped(learner):
    stopping = [MetricTarget("test/accuracy", 0.0)]
    for _ in range(2):
        history = learner(stopping=stopping).run()
        assert len(history) == 1
        assert history.stopped.startswith("test/accuracy reached")
        assert history.acquired == []


def test_an_unknown_metric_lists_those_there_are(learner):
    rule = MetricTarget("test/acuracy", 0.5)
    with pytest.raises(LookupError, match=r"no metric named 'test/acuracy' in round 0.*test/nll"):
        learner(stopping=[rule]).run()


# --- what a run leaves ----------------------------------------------------------------------------


def test_the_frame_has_a_row_a_round(learner):
    frame = learner().run().to_frame()
    assert isinstance(frame, pd.DataFrame)
    wanted = ["round", "n_labelled", "n_pool", "test/accuracy", "test/nll", "train/loss", "cost"]
    wanted += ["batches", "n_acquired", "seconds_fit", "seconds_score", "seconds_choose"]
    assert set(wanted) <= set(frame.columns)
    assert frame["round"].tolist() == [0, 1, 2]
    assert frame["n_labelled"].tolist() == [6, 11, 16]
    assert frame["batches"].tolist() == [2 * math.ceil(n / 4) for n in (6, 11, 16)]
    assert (frame[["seconds_fit", "seconds_test"]] > 0).all().all()


def test_a_history_read_back_is_the_one_returned(learner):
    first, again = learner().run(), learner().run()
    assert isinstance(again, History)
    assert again == first
    assert again.name == "entropy"


def test_the_final_checkpoint_is_an_ordinary_one(learner):
    data = small.datamodule()
    history = learner(datamodule=data).run()
    task = Classification.load_from_checkpoint(history.final_checkpoint)
    assert small.same_weights(
        dict(task.state_dict()), dict(small.weights(history.final_checkpoint))
    )
    trainer = pl.Trainer(**small.TRAINER, enable_progress_bar=False, enable_checkpointing=False)
    fresh = small.datamodule()
    trainer.test(small.task(), datamodule=fresh, ckpt_path=history.final_checkpoint, verbose=False)
    last = history.rounds[-1].metrics
    assert float(trainer.callback_metrics["test/accuracy"]) == last["test/accuracy"]
    assert fresh.labelled.tolist() == data.labelled.tolist()  # who was labelled came along


def test_observers_hear_of_everything_in_order(learner):
    heard = []

    class Watcher:
        def run_started(self, plan, done):
            heard.append(("started", plan["rounds"], len(done), plan["datamodule"].classes))

        def stage_started(self, round, stage):
            heard.append((round, stage))

        def round_ended(self, round, datamodule):
            heard.append((round.round, "ended", len(datamodule.labelled)))

        def run_ended(self, history):
            heard.append(("over", history.stopped))

    learner(budget=5, observers=[Watcher()]).run()
    stages = ["fit", "score", "choose", "ask"]
    assert heard == [
        ("started", 2, 0, 3),
        *((0, stage) for stage in stages),
        (0, "ended", 11),
        (1, "fit"),
        (1, "ended", 11),
        ("over", "the budget is spent"),
    ]


def test_an_error_is_told_to_observers(learner):
    told = []

    class Watcher:
        run_started = stage_started = round_ended = staticmethod(lambda *_: None)

        def run_ended(self, history):
            told.append(history.stopped)

    class Broken:
        def ask(self, index, datamodule, round):
            raise ConnectionError("nobody there")

    with pytest.raises(ConnectionError):
        learner(oracle=Broken(), observers=[Watcher()]).run()
    assert told == ["error: nobody there"]


# --- bring your own -------------------------------------------------------------------------------


class Photos(Dataset):
    """Somebody's data set; reads are recorded, writes impossible."""

    def __init__(self, n, seed):
        data = small.blobs(n, seed)
        self._rows = tuple(
            (x.clone(), int(y)) for x, y in zip(data.inputs[0], data.targets, strict=True)
        )

    def __len__(self):
        return len(self._rows)

    def __getitem__(self, i):
        x, y = self._rows[i]
        return x.clone(), y


class Own(pl.LightningModule):
    """Somebody's module: nothing of this library in it."""

    def __init__(self, width=8):
        super().__init__()
        self.save_hyperparameters()
        self.layers = nn.Sequential(nn.Linear(4, width), nn.ReLU(), nn.Linear(width, 3))

    def forward(self, x):
        return self.layers(x)

    def training_step(self, batch, batch_idx):
        x, y = batch
        return nn.functional.cross_entropy(self(x), y)

    def test_step(self, batch, batch_idx):
        x, y = batch
        self.log("accuracy", (self(x).argmax(1) == y).float().mean())

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


@pytest.mark.parametrize("strategy", ["random", "margin", "entropy"])
def test_any_module_and_any_data_set(learner, strategy):
    train = Photos(40, 0)
    before = [(x.tolist(), y) for x, y in train._rows]
    data = ActiveDataModule(train, Photos(20, 1), initial="one_per_class", batch_size=4)
    history = learner(task=Own, datamodule=data, strategy=strategy).run()
    assert [r.n_labelled for r in history.rounds] == [3, 8, 13]
    assert all("accuracy" in r.metrics for r in history.rounds)
    assert [(x.tolist(), y) for x, y in train._rows] == before
    assert Own.load_from_checkpoint(history.final_checkpoint).hparams["width"] == 8


def test_a_module_without_a_test_step_still_runs(learner):
    class Silent(Own):
        test_step = pl.LightningModule.test_step

    with pytest.warns(UserWarning, match="Silent has no test_step: the run records no test metric"):
        history = learner(task=Silent, budget=5).run()
    assert len(history) == 2


def test_a_module_instance_is_copied_and_never_trained(learner):
    torch.manual_seed(0)
    module = Own()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    history = learner(task=module).run()
    assert small.same_weights(dict(module.state_dict()), before)
    assert learner(task=module).run() == history
