"""Threads of a run's fits: the user's own, else the faster; recorded, continued and replayed."""

import pytest
import pytorch_lightning as pl
import torch
from helpers import small
from torch import nn

from lightning_al import replay
from lightning_al.fits import thread_count
from lightning_al.fits.thread_count import at, chosen, continued, faster, is_set
from lightning_al.journal.journal import read_journal
from lightning_al.rehearsal import run as rehearsal
from lightning_al.rehearsal.step import step_of
from lightning_al.tasks import Adapter


@pytest.fixture
def two(monkeypatch):
    """A machine of two cores on which nobody chose anything."""
    monkeypatch.setattr(thread_count, "_usual", lambda: {2})
    for name in thread_count.VARIABLES:
        monkeypatch.delenv(name, raising=False)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


class Clock:
    """Time that only steps take; those with n threads take ``cost[n]`` milliseconds."""

    def __init__(self, cost):
        self.now, self.cost, self.steps = 0.0, cost, []

    def step(self):
        threads = torch.get_num_threads()
        self.steps.append(threads)
        cost = self.cost[threads]
        self.now += 1e-3 * (cost(len(self.steps)) if callable(cost) else cost)


@pytest.mark.parametrize(
    ("one", "all_", "best"),
    [
        (1.0, 1.0, 1),  # they only wait
        (1.0, 0.80, 1),
        (1.0, 0.74, 2),  # a third faster
        (1.0, 0.5, 2),
        (1.0, 40.0, 1),  # beside another process
        (1e-6, 1e-6, 1),
        (lambda n: 100.0 if n == 2 else 1.0, 1.5, 1),  # the first step warms up
        (1.0, lambda n: 50.0 if n == 5 else 0.5, 2),  # a slow moment
    ],
)
def test_the_faster_is_taken(two, monkeypatch, one, all_, best):
    clock = Clock({1: one, 2: all_})
    monkeypatch.setattr(thread_count.time, "perf_counter", lambda: clock.now)
    monkeypatch.setattr(thread_count, "ROOM", 1e9)
    assert faster(clock.step, 2) == best
    assert clock.steps == [2, *[1, 2] * (thread_count.TURNS + 1)]
    assert torch.get_num_threads() == 2


@pytest.mark.parametrize("cost", [10, 200, 499, 600, 90_000])
def test_long_steps_are_taken_few_times(two, monkeypatch, cost):
    clock = Clock({1: cost, 2: cost / 2})
    monkeypatch.setattr(thread_count.time, "perf_counter", lambda: clock.now)
    assert faster(clock.step, 2) == 2
    if cost / 2 > 1e3 * thread_count.LONG:
        assert clock.steps == [2]
    else:
        assert len(clock.steps) >= 5
        assert clock.now <= thread_count.ROOM + 4e-3 * cost


@pytest.mark.parametrize("name", thread_count.VARIABLES)
def test_a_variable_is_the_users_choice(two, monkeypatch, name):
    assert not is_set()
    assert chosen("auto") is None
    monkeypatch.setenv(name, "2")
    assert is_set()
    assert chosen("auto") == 2


@pytest.mark.parametrize(("count", "found"), [(1, 1), (2, None), (3, 3)])
def test_another_number_is_the_users_choice(two, count, found):
    torch.set_num_threads(count)
    assert chosen("auto") == found
    assert chosen(5) == 5  # and the option of the run wins over all


def test_torch_by_itself_takes_a_usual_number():
    assert torch.get_num_threads() == 1  # of these tests
    assert all(count >= 1 for count in thread_count._usual())


@pytest.mark.parametrize(
    ("settled", "recorded", "found"), [(None, 1, 1), (None, 2, 2), (None, 7, 2), (1, 2, 1)]
)
def test_a_run_goes_on_as_it_began(two, caplog, settled, recorded, found):
    assert continued(settled, recorded) == found
    assert ("the run began with 7 threads, here are 2" in caplog.text) == (recorded == 7)


@pytest.mark.parametrize("count", [None, 1, 3])
def test_afterwards_there_are_as_many_as_before(two, count):
    with at(count):
        assert torch.get_num_threads() == (2 if count is None else count)
    assert torch.get_num_threads() == 2


# --- a run ---------------------------------------------------------------------------------------


class Watched(pl.Callback):
    threads: tuple = ()

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        Watched.threads = (*Watched.threads, torch.get_num_threads())

    def on_test_batch_start(self, trainer, pl_module, batch, batch_idx, dataloader_idx=0):
        Watched.threads = (*Watched.threads, torch.get_num_threads())


def watched(learner, **changes):
    Watched.threads = ()
    trainer = small.TRAINER | {"callbacks": [Watched()]}
    return learner(trainer=trainer, **changes)


def recorded(history):
    return read_journal(history.run_dir / "journal.jsonl")[0][0]["threads"]


@pytest.mark.parametrize("best", [1, 2])
def test_the_rehearsal_decides_and_a_replay_is_the_same(two, learner, monkeypatch, best):
    asked = []
    monkeypatch.setattr(rehearsal, "faster", lambda step, many: asked.append(many) or best)
    history = watched(learner, budget=4, query_size=4).run()
    assert asked == [2]
    assert set(Watched.threads) == {best}
    assert recorded(history) == best
    assert torch.get_num_threads() == 2
    history = watched(learner, budget=8, query_size=4, run_dir=history.run_dir).run()
    assert asked == [2]  # it goes on as it began
    assert set(Watched.threads) == {best}
    again = replay(history.run_dir, 1, watched(learner, budget=4, query_size=4))
    assert set(Watched.threads) == {best}
    saved = small.weights(history.run_dir / "checkpoints" / "round-001.ckpt")
    assert small.same_weights(dict(again.state_dict()), dict(saved))


def never(step, many):
    raise AssertionError("nothing is to be timed")


@pytest.mark.parametrize(
    ("changes", "threads", "variable", "found"),
    [
        ({"threads": 3}, 2, None, 3),
        ({"threads": 1}, 2, "2", 1),
        ({}, 3, None, 3),
        ({}, 1, None, 1),
        ({}, 2, "2", 2),
        ({"rehearse": False}, 2, None, 2),
    ],
)
def test_what_the_user_set_wins(two, learner, monkeypatch, changes, threads, variable, found):
    monkeypatch.setattr(rehearsal, "faster", never)
    if variable:
        monkeypatch.setenv("OMP_NUM_THREADS", variable)
    torch.set_num_threads(threads)
    history = watched(learner, budget=4, query_size=4, **changes).run()
    assert set(Watched.threads) == {found}
    assert recorded(history) == found


def test_tasks_without_steps_are_not_timed(two, learner, monkeypatch):
    from lightning_al.tasks import GPRegression

    monkeypatch.setattr(rehearsal, "faster", never)
    data = small.datamodule(small.line(), small.line(30, 1))
    history = learner(task=GPRegression, datamodule=data, strategy="variance").run()
    assert recorded(history) == 2


@pytest.mark.parametrize("value", [0, -1, "all", 1.5, True])
def test_what_is_no_number_of_threads_is_refused(learner, value):
    with pytest.raises((TypeError, ValueError), match="threads must be"):
        learner(threads=value)


# --- the step that is timed ----------------------------------------------------------------------


@pytest.mark.parametrize("labelled", [0, 6])
def test_a_step_goes_forwards_and_backwards(labelled):
    data = small.datamodule(initial=labelled)
    data.start(0)
    task = small.task()
    step = step_of(task, Adapter.for_task(task), data)
    with torch.no_grad():
        step()
    assert all(bool(p.grad.any()) for p in list(task.parameters())[-2:])


@pytest.mark.parametrize("broken", ["needs more", "learns nothing"])
def test_a_module_that_cannot_is_not_timed(broken):
    class Plain(pl.LightningModule):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(small.FEATURES, small.CLASSES)

        def forward(self, inputs, *more):
            if broken == "needs more":
                raise TypeError("two inputs")
            with torch.no_grad():
                return self.layer(inputs)

    data = small.datamodule()
    data.start(0)
    assert step_of(Plain(), Adapter(), data) is None
