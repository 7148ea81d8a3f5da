"""What cannot work ends a run before its first fit, and nothing else is touched by finding it."""

import copy

import pytest
import pytorch_lightning as pl
import torch
from helpers import small
from pytorch_lightning.callbacks import Callback, EarlyStopping, ModelCheckpoint
from pytorch_lightning.loggers import CSVLogger
from pytorch_lightning.loggers.logger import Logger

from lightning_al import suggest
from lightning_al.callbacks import CollectSWAG
from lightning_al.datamodules import ActiveDataModule
from lightning_al.datamodules.tensors import TensorItems
from lightning_al.fits.lightning import LightningFits
from lightning_al.networks import MLP
from lightning_al.oracles import CostlyOracle, FileOracle, FunctionOracle, NoisyOracle
from lightning_al.posteriors import SWAG, LastLayerLaplace, MCDropout
from lightning_al.posteriors.swag import SWAGNetwork
from lightning_al.records import Acquisition, Answers
from lightning_al.rounds.stopping import MetricTarget, NoImprovement
from lightning_al.tasks import Adapter, Classification, SklearnClassification


@pytest.fixture
def fits(monkeypatch):
    """How often a round was fitted."""
    counted = []
    fit = LightningFits.fit

    def spy(self, request):
        counted.append(request.round)
        return fit(self, request)

    monkeypatch.setattr(LightningFits, "fit", spy)
    return counted


class Breaks(Classification):
    """Fails in one of its hooks, after a while."""

    def __init__(self, where):
        super().__init__(MLP(small.FEATURES, [8], small.CLASSES), small.CLASSES)
        self.where = where

    def _fail(self, here):
        if here == self.where:
            raise RuntimeError(f"no way to {here}")

    def validation_step(self, batch, i):
        self._fail("validate")
        super().validation_step(batch, i)

    def test_step(self, batch, i):
        self._fail("test")
        super().test_step(batch, i)

    def on_train_epoch_end(self):
        super().on_train_epoch_end()
        self._fail("end an epoch")

    def on_validation_epoch_end(self):
        super().on_validation_epoch_end()
        self._fail("end a validation")

    def on_test_epoch_end(self):
        super().on_test_epoch_end()
        self._fail("end a test")

    def configure_optimizers(self):
        self._fail("configure")
        return super().configure_optimizers()


class Strategy:
    needs = ("probs",)
    keeps = ("probs",)
    members = "one"
    privileged = False

    def choose(self, pool, k, generator):
        return Acquisition(pool.index[:k])


class Scoring(Strategy):
    def score(self, batch, context):
        return batch.probs[:3].flatten()


class Choosing(Strategy):
    def choose(self, pool, k, generator):
        return pool.probs @ "x"


class Lists(Strategy):
    def choose(self, pool, k, generator):
        return pool.index[:k].tolist()


def with_callbacks(*callbacks):
    return small.TRAINER | {"callbacks": list(callbacks)}


def unlabelled():
    """A pool of which half carries no label."""

    class Half(ActiveDataModule):
        classes = small.CLASSES
        given = torch.arange(30)

    return Half(small.blobs(), small.blobs(30, 1), initial=6)


def network():
    return MLP(small.FEATURES, [8], small.CLASSES)


FAULTS = {
    "no posterior": ({"strategy": "bald"}, "MCDropout"),
    "no dropout": ({"strategy": "bald", "posterior": MCDropout(3)}, "ropout"),
    "no moments": (
        {
            "task": lambda: Classification(SWAGNetwork(network()), small.CLASSES),
            "strategy": "bald",
            "posterior": SWAG(3),
        },
        "CollectSWAG",
    ),
    "no last layer": (
        {
            "strategy": "bald",
            "posterior": LastLayerLaplace(3),
            "adapter": Adapter(output="network", embedding="network.0", reading="classes"),
        },
        "nn.Linear",
    ),
    "no layer": ({"strategy": "k-center", "adapter": Adapter(embedding="netwrok")}, "network"),
    "no output": ({"strategy": "entropy", "adapter": Adapter(output="decide")}, "decide"),
    "no embedding": ({"strategy": "k-center", "adapter": Adapter()}, "names none"),
    "wrong reading": ({"strategy": "entropy", "adapter": Adapter(reading="labels")}, "targets"),
    "a strategy of numbers": ({"strategy": "greedy"}, "this classification model gives"),
    "a score of other length": ({"strategy": Scoring()}, "one score per item"),
    "a choice that fails": ({"strategy": Choosing()}, "unsupported operand|matmul"),
    "a choice that is a list": ({"strategy": Lists()}, "must return an Acquisition"),
    "a metric to stop at": ({"stopping": [MetricTarget("test/acuracy", 0.9)]}, "test/acuracy"),
    "a metric to improve": ({"stopping": [NoImprovement("val/nll")]}, "val/nll"),
    "an early stop": ({"trainer": with_callbacks(EarlyStopping("val/los"))}, "val/los"),
    "a checkpoint": ({"trainer": with_callbacks(ModelCheckpoint(monitor="loss"))}, "'loss'"),
    "best of nothing": ({"restore": "best"}, "ModelCheckpoint with a monitor"),
    "no labels to simulate": ({"datamodule": unlabelled}, "no label for 30 of"),
    "noise on classes": ({"oracle": NoisyOracle(sd=0.1)}, "these answers are classes"),
    "another confusion": ({"oracle": NoisyOracle(confusion=[[1, 0], [0, 1]])}, "of 2 classes"),
    "no price": ({"oracle": CostlyOracle([1.0, 2.0])}, "for each of 60 items"),
    "features of another shape": (
        {"strategy": "k-center", "features": lambda x: x[:3]},
        "row an item|\\[n, E\\]|one an item|must",
    ),
    **{
        where: ({"task": (lambda w: lambda: Breaks(w))(where), "val": 0.2}, f"no way to {where}")
        for where in (
            *("validate", "test", "end an epoch", "end a validation", "end a test"),
            "configure",
        )
    },
}


def faulty(learner, changes, **more):
    changes = dict(changes)
    val = changes.pop("val", None)
    data = changes.pop("datamodule", lambda: small.datamodule(val=val))
    return learner(**{"strategy": "random", "datamodule": data(), **changes, **more})


@pytest.mark.parametrize("fault", FAULTS)
def test_it_ends_before_the_first_fit(fault, learner, fits, tmp_path):
    changes, said = FAULTS[fault]
    with pytest.raises(Exception, match=said) as caught:
        faulty(learner, changes, run_dir=tmp_path / "run").run()
    assert fits == []
    assert not (tmp_path / "run" / "journal.jsonl").exists()
    assert not isinstance(caught.value, AttributeError | AssertionError)


@pytest.mark.parametrize("fault", ["no posterior", "a choice that fails", "an early stop"])
def test_an_older_run_is_not_overwritten_by_one_that_cannot_work(fault, learner, tmp_path):
    learner(run_dir=tmp_path / "run").run()
    before = {p: p.read_bytes() for p in (tmp_path / "run").rglob("*") if p.is_file()}
    changes, said = FAULTS[fault]
    with pytest.raises(Exception, match=said):
        faulty(learner, changes, run_dir=tmp_path / "run", overwrite=True).run()
    assert {p: p.read_bytes() for p in (tmp_path / "run").rglob("*") if p.is_file()} == before


def test_the_error_says_that_it_was_a_rehearsal(learner):
    with pytest.raises(ValueError, match="MCDropout") as caught:
        learner(strategy="bald").run()
    assert caught.value.__notes__ == ["(found in the rehearsal, before anything was fitted)"]


def test_a_run_may_do_without(learner, fits):
    with pytest.raises(ValueError, match="MCDropout"):
        learner(strategy="bald", rehearse=False).run()
    assert fits == [0]


# --- nothing else is touched ---------------------------------------------------------------------


class Counting(Callback):
    seen: list[str] = []  # noqa: RUF012, shared on purpose: callbacks are copied each round

    def __getattribute__(self, name):
        if name.startswith("on_"):
            Counting.seen.append(name)
        return super().__getattribute__(name)


class Telling(Logger):
    name, version = "telling", "0"

    def __init__(self):
        super().__init__()
        self.told = []

    def log_metrics(self, metrics, step=None):
        self.told.append((dict(metrics), step))

    def log_hyperparams(self, *args, **kwargs):
        pass


class Asked:
    """Says when it was asked."""

    def __init__(self):
        self.rounds = []

    def ask(self, index, datamodule, round):
        self.rounds.append(round)
        return Answers({"y": datamodule.labels(index)})


def test_a_run_is_the_same_bit_for_bit(learner, tmp_path):
    def go(name, **more):
        torch.manual_seed(5)
        run = learner(
            task=small.dropout_task,
            strategy="bald",
            posterior=MCDropout(3),
            datamodule=small.datamodule(val=0.2),
            run_dir=tmp_path / name,
            **more,
        ).run()
        return small.outcome(run.run_dir), torch.get_rng_state().tolist()

    assert go("with") == go("without", rehearse=False)


def test_loggers_and_callbacks_hear_nothing_of_it(learner, monkeypatch, tmp_path):
    from lightning_al import rehearsal
    from lightning_al.rounds import run

    logger, oracle, heard = Telling(), Asked(), []

    def listening(given):
        Counting.seen.clear()
        rehearsal.rehearse(given)
        heard.append((list(Counting.seen), list(logger.told), list(oracle.rounds)))

    monkeypatch.setattr(run, "rehearse", listening)
    learner(
        oracle=oracle,
        loggers=[logger],
        trainer=with_callbacks(Counting()) | {"log_every_n_steps": 1},
    ).run()
    assert heard == [([], [], [])]
    assert Counting.seen
    plain = Telling()
    learner(
        oracle=Asked(),
        loggers=[plain],
        trainer=small.TRAINER | {"log_every_n_steps": 1},
        rehearse=False,
        run_dir=tmp_path / "plain",
    ).run()
    assert logger.told == plain.told
    assert oracle.rounds == [0, 1]


def test_the_task_that_is_given_is_not_trained_by_it(learner):
    task = small.task()
    before = copy.deepcopy(task.state_dict())
    with pytest.raises(ValueError, match="MCDropout"):
        learner(task=task, strategy="bald").run()
    assert small.same_weights(before, task.state_dict())


def test_a_resumed_run_is_not_rehearsed(learner, tmp_path, monkeypatch):
    from lightning_al.rounds import run

    learner(run_dir=tmp_path / "r").run()
    monkeypatch.setattr(run, "rehearse", lambda _: pytest.fail("rehearsed again"))
    assert len(learner(run_dir=tmp_path / "r", datamodule=small.datamodule()).run()) == 3


def test_modules_that_reach_for_their_logger_find_one(learner, tmp_path):
    class Draws(Classification):
        def on_train_epoch_end(self):
            super().on_train_epoch_end()
            self.logger.log_metrics({"own": 1.0}, step=0)
            self.logger.experiment.log_metrics({"own": 2.0})

    logger = CSVLogger(tmp_path / "logs")
    run = learner(
        task=lambda: Draws(network(), small.CLASSES), trainer=small.TRAINER | {"logger": logger}
    ).run()
    assert len(run) == 3


# --- no false alarm ------------------------------------------------------------------------------


def test_a_task_that_a_few_items_do_not_satisfy(learner):
    def many_neighbours():
        return SklearnClassification("KNeighborsClassifier", small.CLASSES, {"n_neighbors": 20})

    data = small.datamodule(initial=30)
    run = learner(task=many_neighbours, strategy="entropy", datamodule=data).run()
    assert len(run) == 3


def test_a_strategy_that_a_few_candidates_do_not_satisfy(learner):
    class Shortlist(Strategy):
        def choose(self, pool, k, generator):
            if len(pool) < 30:
                raise ValueError("a shortlist of 30 is needed")
            return Acquisition(pool.index[:k])

    assert len(learner(strategy=Shortlist()).run()) == 3


def test_moments_that_a_callback_will_collect(learner):
    run = learner(
        task=lambda: Classification(SWAGNetwork(network()), small.CLASSES),
        strategy="bald",
        posterior=SWAG(3),
        trainer=with_callbacks(CollectSWAG(start=0)),
    ).run()
    assert len(run) == 3


@pytest.mark.parametrize("strategy", ["k-center", "entropy", "bald"])
def test_nothing_labelled_yet(learner, strategy):
    run = learner(
        task=small.dropout_task,
        strategy=strategy,
        posterior=MCDropout(3),
        datamodule=small.datamodule(initial=0),
    ).run()
    assert len(run.acquired) == 10


def test_a_metric_of_the_hit_ratio_may_stop_a_run(learner):
    data = ActiveDataModule(small.line(), small.line(30, 1), initial=6)
    run = learner(
        task=small.regression_task,
        datamodule=data,
        hit_ratio_at=0.1,
        stopping=[MetricTarget("hit_ratio", 2.0)],
        strategy="random",
    ).run()
    assert len(run) == 3


def test_a_trainer_that_a_function_builds(learner, tmp_path):
    def build():
        return pl.Trainer(**small.TRAINER, default_root_dir=tmp_path)

    run = learner(trainer=build, datamodule=small.datamodule()).run()
    assert len(run) == 3


def test_an_oracle_of_people_is_not_asked(learner, tmp_path):
    run = learner(run_dir=tmp_path / "r", oracle=FileOracle()).run()
    assert run.waiting
    assert [p.name for p in (tmp_path / "r" / "queries").iterdir()] == ["round-000.csv"]


def test_a_function_that_costs_is_not_called(learner):
    calls = []

    def measure(x):
        calls.append(len(x))
        return x.sum(1)

    data = ActiveDataModule(small.line(), small.line(30, 1), initial=6)
    given = {"task": small.regression_task, "datamodule": data, "strategy": "random"}
    learner(**given, oracle=FunctionOracle(measure)).run()
    assert calls == [5, 5]


# --- one shot ------------------------------------------------------------------------------------


def test_suggest_compares_output_and_targets_first():
    items = TensorItems(torch.randn(20, small.FEATURES), torch.zeros(20, 3, dtype=torch.long))
    data = ActiveDataModule(items, test=4, initial=4)
    with pytest.raises(ValueError, match="declare"):
        suggest(small.task(), data, "entropy", 2)
    assert len(suggest(small.task(), data, "random", 2)) == 2
