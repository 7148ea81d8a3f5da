"""Invariants 4 and 5, for every strategy: labels stay out of reach, randomness comes in."""

import dataclasses
import gc
import inspect
import random
import types
from functools import partial

import numpy as np
import pytest
import torch
from helpers import small
from pytorch_lightning import LightningModule
from torch import Tensor

from lightning_al import suggest
from lightning_al.datamodules import ActiveDataModule
from lightning_al.datamodules.tensors import TensorItems
from lightning_al.posteriors import MCDropout
from lightning_al.records import Acquisition, Pool
from lightning_al.strategies import build, names
from lightning_al.testing import kind_of

EARLY_ERRORS = ("has no joint", "joint(inputs)")


def parts(name, **data):
    """What a learner for one registered strategy is made of, on data that fit it."""
    strategy = build(name)
    if strategy.privileged:
        pytest.skip(f"{name} reads labels by design")
    kind, k = kind_of(strategy), getattr(strategy, "most", 5)
    numbers = kind in ("regression", "density")
    train, test = (small.line(), small.line(30, 1)) if numbers else (None, None)
    train = data.pop("train", train)
    make = small.safe_datamodule if kind == "safe" else partial(small.datamodule, test=test)
    module = make(train, **data)
    if numbers:
        module.classes = None
    tasks = {
        "regression": small.regression_task,
        "density": small.density_task,
        "safe": small.safe_task,
    }
    return {
        "strategy": {"name": name, **getattr(strategy, "rehearsal", {})},
        "task": tasks.get(kind, small.dropout_task),
        "datamodule": module,
        "posterior": MCDropout(4),
        "trainer": small.TRAINER | {"max_epochs": 1},
        "query_size": k,
        "budget": k,
    }


def run(learner, **changes):
    try:
        return learner(**changes).run()
    except LookupError as error:
        if any(text in str(error) for text in EARLY_ERRORS):
            pytest.skip(f"needs a task with a joint posterior: {error}")
        raise


# --- labels of the pool are unreachable -----------------------------------------------------------


@pytest.mark.parametrize("name", names())
def test_permuting_all_pool_labels_changes_nothing_in_round_0(learner, tmp_path, name):
    chosen = []
    for seed in (None, 0, 1):
        first = parts(name)
        data = first["datamodule"]
        data.setup()
        train = data.splits.train
        targets = train.targets.clone()
        if seed is not None:
            drawn = torch.Generator().manual_seed(seed)
            pool = data.pool
            targets[pool] = targets[pool[torch.randperm(len(pool), generator=drawn)]]
            assert not torch.equal(targets, train.targets)
        permuted = parts(name, train=TensorItems(train.inputs, targets))
        history = run(learner, **permuted, run_dir=tmp_path / str(seed))
        chosen.append(history.rounds[0].acquired)
    assert chosen[0] == chosen[1] == chosen[2]


def reachable(value, depth=8):
    """All objects that a strategy can reach by attributes and items (not by looking into code)."""
    if depth == 0 or isinstance(value, (str, bytes, int, float, type, types.ModuleType)):
        return
    yield value
    if isinstance(value, Tensor):
        return
    if dataclasses.is_dataclass(value):
        inner = [getattr(value, f.name) for f in dataclasses.fields(value)]
    elif isinstance(value, dict):
        inner = list(value.values())
    elif isinstance(value, (list, tuple, set)):
        inner = list(value)
    else:
        inner = [] if inspect.isroutine(value) else list(getattr(value, "__dict__", {}).values())
    for part in inner:
        yield from reachable(part, depth - 1)


class Nosy:
    """Looks at everything that a strategy is given."""

    needs = ("mean", "embedding")
    keeps = ("embedding",)
    members = "one"
    privileged = False

    def __init__(self):
        self.seen = []

    def score(self, batch, context):
        self.seen += [*reachable(batch), *reachable(context)]
        return batch.mean[:, 0, 0]

    def choose(self, candidates: Pool, k, generator):
        bench = candidates.bench
        self.seen += [*reachable(candidates), *reachable(candidates.labelled), *reachable(bench)]
        for part in (bench.task, bench.reading, bench.labelled, bench.head):
            self.seen += reachable(part)
        self.seen += reachable(candidates.predict(torch.arange(3), self.needs))
        self.seen += reachable(bench.pool_of(candidates.index[:3], labelled=bench.labelled))
        for batch in bench.inputs(candidates.index):
            self.seen += reachable(batch)
        return Acquisition(index=candidates.index[:k], scores=candidates.scores[:k])


def test_a_strategy_is_given_no_label_of_the_pool_and_no_datamodule(learner):
    # targets that no feature, prediction or position could be mistaken for
    train = small.line()
    train = TensorItems(train.inputs, train.targets.double() * torch.pi)
    data = small.datamodule(train, small.line(30, 1))
    data.classes = None
    nosy = Nosy()
    learner(strategy=nosy, datamodule=data, task=small.regression_task, budget=5).run()
    assert any(isinstance(thing, LightningModule) for thing in nosy.seen)
    assert not any(isinstance(thing, ActiveDataModule) for thing in nosy.seen)
    tensors = [t for t in nosy.seen if isinstance(t, Tensor) and t.is_floating_point()]
    data.start(0)
    hidden = set(train.targets[data.pool].tolist())
    assert len(tensors) > 20
    for tensor in tensors:
        assert not hidden & set(tensor.flatten().tolist())


def test_batches_for_scoring_hold_inputs_only():
    data = small.datamodule()
    data.setup()
    for rows, inputs in data.bare_batches(data.pool, 7):
        assert torch.equal(inputs, data.items.dataset.inputs[0][rows])
    for batch in data.predict_dataloader():
        assert isinstance(batch, Tensor)


# --- randomness comes in --------------------------------------------------------------------------


def global_state():
    numpy = np.random.get_state()
    return random.getstate(), numpy[1].tolist(), numpy[2], torch.get_rng_state().tolist()


def seed_all(seed):
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


@pytest.mark.parametrize("name", names())
def test_global_random_state_is_neither_used_nor_changed(learner, tmp_path, name):
    histories = []
    for seed in (1, 2):
        seed_all(seed)
        changes = parts(name)
        before = global_state()
        histories.append(run(learner, **changes, run_dir=tmp_path / str(seed)))
        assert global_state() == before
    first, second = histories
    assert first.acquired == second.acquired
    assert [r.metrics for r in first.rounds] == [r.metrics for r in second.rounds]


def test_users_code_that_draws_globally_is_keyed_too(learner, tmp_path):
    class Draws:
        needs = ("probs",)
        keeps = ()
        members = "one"
        privileged = False

        def score(self, batch, context):
            return torch.rand(len(batch)) + random.random()

        def choose(self, candidates, k, generator):
            rows = np.random.permutation(len(candidates))[:k]
            return Acquisition(index=candidates.index[torch.as_tensor(rows)])

    class NoisyLoad(small.Blobs):
        def load(self):
            drawn = torch.rand(60) < 0.2
            return dataclasses.replace(self._given_splits, test=drawn.nonzero().flatten().tolist())

    chosen = []
    for seed in (1, 2):
        seed_all(seed)
        data = NoisyLoad(small.blobs(), 0.5, initial=6, batch_size=4)
        before = global_state()
        history = learner(strategy=Draws(), datamodule=data, run_dir=tmp_path / str(seed)).run()
        assert global_state() == before
        chosen.append((history.acquired, data.status.tolist()))
    assert chosen[0] == chosen[1]


def test_the_seed_of_the_run_decides(learner, tmp_path):
    def acquired(seed, folder):
        history = learner(seed=seed, strategy="random", run_dir=tmp_path / folder).run()
        return history.acquired, [dict(r.metrics) for r in history.rounds]

    assert acquired(0, "a") == acquired(0, "b")
    assert acquired(0, "a")[0] != acquired(1, "c")[0]
    assert acquired(0, "a")[1] != acquired(1, "c")[1]


def test_num_workers_change_nothing(learner, tmp_path):
    outcomes = []
    for workers in (0, 2):
        data = small.datamodule(num_workers=workers)
        history = learner(datamodule=data, budget=5, run_dir=tmp_path / str(workers)).run()
        outcomes.append((history.acquired, [r.metrics for r in history.rounds]))
    assert outcomes[0] == outcomes[1]


# --- one shot -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", names())
def test_suggest_chooses_what_round_0_chooses(learner, name):
    changes = parts(name)
    history = run(learner, **changes)
    first = history.rounds[0]
    task = changes["task"]()
    task.load_state_dict(small.weights(history.run_dir / first.checkpoint))
    fresh, k = parts(name)["datamodule"], changes["budget"]
    fresh.seed = 0
    training = task.training
    before = global_state()
    spec, posterior = changes["strategy"], MCDropout(4)
    got = suggest(task, fresh, spec, k, posterior=posterior, seed=0, remaining=k)
    assert global_state() == before
    assert got.index.tolist() == list(first.acquired)
    assert task.training == training
    assert len(fresh.pool) == 54  # nothing was acquired
    if first.scores:
        assert got.scores.tolist() == pytest.approx(list(first.scores))


@pytest.mark.parametrize("k", [0, 55, -1])
def test_suggest_refuses_more_than_the_pool(k):
    with pytest.raises(
        ValueError, match=f"cannot suggest {k} of 54 candidates; give k from 1 to 54"
    ):
        suggest(small.task(), small.datamodule(), "entropy", k)


def test_suggest_prepares_the_data_itself():
    class Downloads(small.Blobs):
        ready = False

        def prepare_data(self):
            self.ready = True

        def load(self):
            assert self.ready
            return super().load()

    data = Downloads(small.blobs(), small.blobs(30, 1), initial=6)
    assert len(suggest(small.task(), data, "entropy", 3)) == 3


def test_suggest_refuses_privileged_strategies():
    class Cheat(Nosy):
        privileged = True

    with pytest.raises(ValueError, match="reads labels of the pool; it runs only inside `bench`"):
        suggest(small.task(), small.datamodule(), Cheat(), 3)


def test_no_trainer_outlives_its_run(learner):
    """A year of rounds must not pile up Trainers, data and networks."""
    data = small.datamodule()
    learner(datamodule=data).run()
    gc.collect()
    trainers = [o for o in gc.get_objects() if type(o).__name__ == "Trainer" and o.__module__]
    mine = [t for t in trainers if getattr(t, "datamodule", None) is data]
    assert len(mine) <= 1  # the datamodule knows its last one
