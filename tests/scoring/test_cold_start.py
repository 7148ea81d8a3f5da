"""Round 0 is chosen where nothing is labelled: by every strategy of embeddings, and for good."""

import csv
import logging
from types import SimpleNamespace

import pytest
import torch
from helpers import cold_ranks, small
from helpers.wandb_file import read_finished
from torch import nn

from lightning_al import replay, suggest
from lightning_al.datamodules import ActiveDataModule
from lightning_al.history.curves import LearningCurve
from lightning_al.history.loggers import build_loggers, close_loggers
from lightning_al.history.progress import RoundProgress
from lightning_al.history.round_log import RoundLog
from lightning_al.journal import journal
from lightning_al.journal.journal import JournalError, read_journal
from lightning_al.posteriors import MCDropout
from lightning_al.randomness import generator
from lightning_al.records import Acquisition, Answers, Context, Pool, Predictions
from lightning_al.scoring.extractors import Backbone, Raw
from lightning_al.strategies import ScoreStrategy, build, names
from lightning_al.tasks import Classification

DIVERSITY = [name for name in names() if tuple(build(name).needs) == ("embedding",)]


class Counted(nn.Module):
    """Notes how many items it was given."""

    def __init__(self, seed=0):
        super().__init__()
        drawn = torch.Generator().manual_seed(seed)
        self.weight = nn.Parameter(torch.randn(4, 6, generator=drawn), requires_grad=False)
        self.count = 0

    def forward(self, x):
        self.count += len(x)
        return (x @ self.weight).tanh()


@pytest.fixture
def cold(learner):
    """``cold(strategy, **changes)``: three rounds of five items each, from no label."""

    def build(strategy="k-center", **changes):
        data = small.datamodule(initial=0, eval_batch_size=11)
        return learner(**({"strategy": strategy, "datamodule": data, "budget": 15} | changes))

    return build


def from_features(strategy, embedding, datamodule, k):
    """What a strategy chooses from a pool built by hand, nothing labelled."""
    index = datamodule.pool
    context = Context(n_pool=len(index), classes=datamodule.classes)
    nothing = Predictions(index[:0], embedding=embedding[:0])
    pool = Pool(index, kept=Predictions(index, embedding=embedding[index]), context=context)
    bench = SimpleNamespace(
        labelled_pool=lambda: Pool(index[:0], kept=nothing, context=context),
    )
    pool = Pool(index, kept=pool.kept, context=context, bench=bench)
    return build(strategy).choose(pool, k, generator(0, 0, "choose")).index.tolist()


# --- what is chosen -------------------------------------------------------------------------------


def test_there_are_strategies_to_begin_with():
    assert {"k-center", "typiclust", "prob-cover", "k-means"} <= set(DIVERSITY)


@pytest.mark.parametrize("name", DIVERSITY)
def test_every_strategy_of_embeddings_chooses_round_0(name, cold):
    data = small.datamodule(initial=0)
    data.start(0)
    extract = Counted()
    with torch.no_grad():
        embedding = extract(data.pool_items.inputs(torch.arange(60)))
    wanted = from_features(name, embedding, data, 5)
    history = cold(name, features=extract, budget=5).run()
    assert list(history.rounds[0].acquired) == wanted
    assert [r.n_labelled for r in history.rounds] == [0, 5]


def test_without_features_the_raw_inputs_serve_and_it_is_said(cold, caplog):
    with caplog.at_level(logging.INFO, "lightning_al"):
        plain = cold(run_dir=cold().run_dir / "plain").run()
    assert "chosen by k-center on the raw inputs; name features for others" in caplog.text
    raw = cold(features=Raw(), run_dir=cold().run_dir / "raw").run()
    first, second = (h.rounds[0].acquired for h in (plain, raw))
    assert first == second
    assert plain.rounds[1].acquired != raw.rounds[1].acquired  # now by the fitted network's


@pytest.mark.parametrize("name", ["entropy", "badge", "bald"])
def test_a_strategy_that_needs_a_network_begins_at_random_and_it_is_said(name, cold, caplog):
    more = {"task": small.dropout_task, "posterior": MCDropout(3)} if name == "bald" else {}
    with caplog.at_level(logging.INFO, "lightning_al"):
        history = cold(name, **more).run()
    assert f"chosen by random: {name} needs a fitted network" in caplog.text
    drawn = cold("random", run_dir=history.run_dir / "random").run()
    assert history.rounds[0].acquired == drawn.rounds[0].acquired
    assert len(history) == 4


def test_the_first_strategy_serves_until_something_is_labelled(cold):
    class Shy:
        """Answers nothing in round 0."""

        def ask(self, index, datamodule, round):
            refused = torch.full((len(index),), round == 0)
            return Answers({"y": datamodule.labels(index)}, refused=refused)

    history = cold("margin", first="typiclust", oracle=Shy()).run()
    records, _ = read_journal(history.run_dir / "journal.jsonl")
    by = [r["strategy"] for r in records if r["event"] == "chosen"]
    assert by == ["typiclust", "typiclust", "margin"]
    assert [r.n_labelled for r in history.rounds] == [0, 0, 5, 10]


def test_a_first_strategy_that_reads_a_network_is_warned_of(cold, caplog):
    history = cold("random", first="margin").run()
    assert "chosen by margin, from a network that was never fitted" in caplog.text
    assert len(history) == 4


def test_the_first_strategy_leaves_labelled_starts_alone(learner):
    a = learner(first="typiclust", run_dir=learner().run_dir / "a").run()
    b = learner(run_dir=learner().run_dir / "b").run()
    assert [r.acquired for r in a.rounds] == [r.acquired for r in b.rounds]


# --- features in all rounds -----------------------------------------------------------------------


@pytest.mark.parametrize("strategy", ["k-center", ScoreStrategy(cold_ranks.length, "embedding")])
@pytest.mark.parametrize("budget", [2**30, 0])
def test_each_item_is_extracted_once_in_a_run(cold, strategy, budget):
    extract = Counted()
    history = cold(strategy, features=extract, memory_budget=budget, rehearse=False).run()
    assert extract.count == 60
    held = cold(strategy, features=Counted(), run_dir=history.run_dir / "other").run()
    assert [r.acquired for r in held.rounds] == [r.acquired for r in history.rounds]


def test_features_replace_the_embeddings_and_nothing_else(learner):
    extract = Counted()

    class Sees(ScoreStrategy):
        """Holds what it is given."""

        seen = []  # noqa: RUF012

        def score(self, batch, context):
            Sees.seen.append(batch)
            return super().score(batch, context)

    strategy = Sees(lambda probs, e: probs.mean(1).amax(1) + e.sum(1), ("probs", "embedding"))
    one = learner(strategy=strategy, features=extract, budget=5, rehearse=False)
    history = one.run()
    task = small.task()
    task.load_state_dict(small.weights(history.run_dir / "checkpoints" / "round-000.ckpt"))
    task.eval()
    with torch.no_grad():
        for batch in Sees.seen:
            inputs = one.datamodule.pool_items.inputs(batch.index)
            torch.testing.assert_close(batch.embedding, extract(inputs))
            torch.testing.assert_close(batch.probs[:, 0], task(inputs).softmax(1))


class Looks:
    """Takes the first items; holds the embeddings of the pool and of the labelled set."""

    needs = keeps = ("embedding",)
    members = "one"
    privileged = False

    def __init__(self):
        self.seen = []

    def choose(self, candidates, k, generator):
        for pool in (candidates, candidates.labelled):
            self.seen.append((pool.index, pool.embedding if len(pool) else None))
        rows = torch.arange(2)
        self.seen.append(
            (candidates.index[rows], candidates.predict(rows, ["embedding"]).embedding)
        )
        return Acquisition(index=candidates.index[:k])


@pytest.mark.parametrize("initial", [0, 6])
def test_the_labelled_set_has_features_too(learner, initial):
    looks, data = Looks(), small.datamodule(initial=initial)
    learner(strategy=looks, features=Counted(), datamodule=data).run()
    with torch.no_grad():
        wanted = Counted()(data.pool_items.inputs(torch.arange(60)))
    assert [len(index) for index, _ in looks.seen[1::3]] == [initial, initial + 5]
    for index, found in looks.seen:
        if len(index):
            torch.testing.assert_close(found, wanted[index])


def test_mixed_strategies_work_on_features(learner):
    for strategy in ("badge", "k-center", "cluster-margin", "density-weighted"):
        run_dir = learner().run_dir / strategy
        history = learner(strategy=strategy, features=Counted(), run_dir=run_dir).run()
        assert [len(r.acquired) for r in history.rounds] == [5, 5, 0]


def test_a_backbone_in_a_run(learner):
    drawn = torch.Generator().manual_seed(0)
    x = torch.rand(24, 1, 8, 8, generator=drawn)
    items = small.TensorItems(x, torch.arange(24) % 3)
    data = ActiveDataModule(items, test=list(range(6)), initial=0)
    features = Backbone("mobilenet_v3_small", image_size=32)

    def task():
        return Classification(nn.Sequential(nn.Flatten(), nn.Linear(64, 3)), 3)

    made = learner(strategy="k-center", features=features, datamodule=data, task=task, budget=5)
    history = made.run()
    with torch.no_grad():
        embedding = features(x)
    data.start(0)
    assert list(history.rounds[0].acquired) == from_features("k-center", embedding, data, 5)
    other = made.with_(features=Backbone("mobilenet_v3_small", image_size=32, seed=1))
    with pytest.raises(JournalError, match=r"features\.weights"):
        other.run()
    with pytest.raises(JournalError, match=r"features\.arguments\.image_size"):
        made.with_(features=Backbone("mobilenet_v3_small", image_size=64)).run()
    assert made.with_(features=Backbone("mobilenet_v3_small", image_size=32)).run() == history


def test_suggestions_by_features():
    data = small.datamodule(initial=0)
    data.start(0)
    embedding = Raw()(data.pool_items.inputs(torch.arange(60)))
    found = suggest(small.task(), data, "k-center", 4, features=Raw())
    assert found.index.tolist() == from_features("k-center", embedding, data, 4)


# --- what cannot work -----------------------------------------------------------------------------


class Pairs(torch.utils.data.Dataset):
    """Items of two parts."""

    def __len__(self):
        return 20

    def __getitem__(self, i):
        return torch.full((4,), float(i)), torch.ones(1), i % 3


def test_inputs_of_several_parts_need_features(learner):
    data = ActiveDataModule(Pairs(), test=0.3, initial=0, label=2)
    with pytest.raises(ValueError, match="a list of 2 parts; give features of your own"):
        learner(strategy="k-center", datamodule=data).run()
    assert not learner().run_dir.exists()


@pytest.mark.parametrize(
    ("changes", "error", "said"),
    [
        (
            {"features": lambda x: x / 0 * 0},
            ValueError,
            r"NaN or infinite, first: item\(s\) \[0, 1",
        ),
        ({"features": Raw}, TypeError, "give an instance"),
        ({"first": "tipiclust"}, LookupError, "did you mean 'typiclust'"),
    ],
)
def test_settings_that_cannot_work(cold, changes, error, said):
    with pytest.raises(error, match=said):
        cold(**changes).run()


def test_a_privileged_first_strategy_is_refused(cold):
    class Cheat(ScoreStrategy):
        privileged = True

    with pytest.raises(ValueError, match="first strategy 'Cheat' reads labels of the pool"):
        cold(first=Cheat(torch.sum)).run()


def test_features_and_first_make_another_run(cold):
    cold(first="typiclust", features=Raw()).run()
    for changes, said in (
        ({"first": "k-means", "features": Raw()}, "first"),
        ({"first": "typiclust"}, "features"),
        ({"first": "typiclust", "features": Counted()}, "features"),
    ):
        with pytest.raises(JournalError, match=said):
            cold(**changes).run()


# --- a round without a fit, everywhere ------------------------------------------------------------


class KilledError(Exception):
    """Stands for the end of the process."""


def test_killed_at_any_write_of_round_0_it_goes_on(cold, monkeypatch):
    def one(run_dir):
        more = {"features": Counted(), "observers": [RoundLog()], "run_dir": run_dir}
        return cold("k-center", budget=5, **more)

    whole = one(cold().run_dir / "whole").run()
    moments = []
    monkeypatch.setattr(journal, "fault_hook", lambda *name: moments.append(name))
    one(cold().run_dir / "watched").run()
    round_0 = [i for i, (when, _) in enumerate(moments) if when in ("before-write", "after-sync")]
    round_0 = [i for i in round_0 if i < 4 * 7]  # start, and six events
    assert [moments[i][1] for i in round_0[::2]][-2:] == ["labelled", "committed"]
    for kill in round_0:
        count = -1

        def die(*_, kill=kill):
            nonlocal count
            count += 1
            if count == kill:
                raise KilledError

        folder = cold().run_dir / f"killed-{kill}"
        monkeypatch.setattr(journal, "fault_hook", die)
        with pytest.raises(KilledError):
            one(folder).run()
        monkeypatch.setattr(journal, "fault_hook", lambda *_: None)
        one(folder).run()
        assert small.outcome(folder) == small.outcome(whole.run_dir)


def test_replay_of_the_first_fit(cold):
    def made():
        return cold("margin", first="typiclust", features=Counted())

    run = made().run()
    with pytest.raises(LookupError, match=r"round 0 was not fitted.*rounds \[1, 2, 3\]"):
        replay(run.run_dir, 0, made())
    again = replay(run.run_dir, 1, made())
    saved = small.weights(run.run_dir / "checkpoints" / "round-001.ckpt")
    assert small.same_weights(again.state_dict(), saved)


def test_logs_tables_and_pictures_bear_a_round_without_metrics(cold, monkeypatch, capsys):
    monkeypatch.setenv("WANDB_MODE", "offline")
    run_dir = cold().run_dir
    loggers = build_loggers(["csv", "tensorboard", "wandb"], run_dir)
    observers = [RoundLog(loggers), LearningCurve(every=0.0), RoundProgress()]
    history = cold(loggers=loggers, observers=observers, first="typiclust").run()
    close_loggers(loggers)
    rows = list(csv.DictReader((run_dir / "metrics.csv").open()))
    assert [row["n_labelled"] for row in rows] == ["0", "5", "10", "15"]
    assert rows[0]["test/accuracy"] == ""
    assert len(list(csv.DictReader((run_dir / "acquired.csv").open()))) == 15
    assert (run_dir / "curve.png").exists()
    assert "0 labelled" in capsys.readouterr().err
    frame = history.to_frame()
    assert frame["test/accuracy"].isna().tolist() == [True, False, False, False]
    history.plot(run_dir / "again.png", beside=[history])
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    (folder,) = (run_dir / "wandb").glob("offline-run-*")
    logged = [row for row in read_finished(folder).history if "al/n_acquired" in row]
    assert [row["al/n_labelled"] for row in logged] == [0, 5, 10, 15]
    assert ["al/test/accuracy" in row for row in logged] == [False, True, True, True]
    (file,) = run_dir.rglob("events.out.tfevents*")
    events = EventAccumulator(str(file)).Reload()
    assert [e.step for e in events.Scalars("al/n_acquired")] == [0, 5, 10, 15]
    assert [e.step for e in events.Scalars("al/test/accuracy")] == [5, 10, 15]
