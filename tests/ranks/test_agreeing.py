"""Two processes that only talk: each thing that they tell each other, on both sides."""

import json
import os
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist
from helpers.agreeing import DTYPES, SIZES
from helpers.processes import end, gone, start
from pytorch_lightning import Trainer
from pytorch_lightning.strategies import DDPStrategy, SingleDeviceStrategy
from torch import nn

from lightning_al.ranks import orphans, ranks
from lightning_al.ranks.orphans import LOST, children_watch_this_process, die_with_parent
from lightning_al.ranks.ranks import ALONE, Ranks, check_strategy, fitting, join

pytestmark = pytest.mark.skipif(not dist.is_available(), reason="no torch.distributed here")


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    folder = tmp_path_factory.mktemp("agreeing")
    started = [start("agreeing.py", folder, rank) for rank in (0, 1)]
    for process in started:
        status, output = end(process, within=100)
        assert status == 0, output[-4000:]
    return [json.loads((folder / f"found-{rank}.json").read_text()) for rank in (0, 1)]


VALUES = [0, None, "text", {"a": [1, 2]}, False]


def test_rank_zero_is_heard_by_all(found):
    assert [each["broadcast"] for each in found] == [VALUES, VALUES]


def test_all_are_heard_in_the_order_of_their_ranks(found):
    expected = [[[v, 0], [v, 1]] for v in VALUES]
    assert [each["all_gather"] for each in found] == [expected, expected]


def test_rows_come_together_in_their_order(found):
    assert found[0]["rows"] == [True] * (len(SIZES) * len(DTYPES))
    assert found[0]["rows one by one"] == [True] * len(SIZES)
    assert set(found[1]["rows"]) == {None}


def test_rank_zero_works_for_all(found):
    assert [each["on_zero"] for each in found] == [{"rank": 0}] * 2
    assert [each["called"] for each in found] == [[0], []]
    assert [each["alone inside"] for each in found] == [False] * 2
    assert [each["alone outside"] for each in found] == [True] * 2


def test_an_error_of_rank_zero_is_raised_on_all(found):
    for each in found:
        assert each["on_zero fails"] == {"kind": "KeyError", "said": "'k'", "notes": []}
    odd = [each["on_zero odd"] for each in found]
    assert (odd[0]["kind"], odd[0]["said"]) == ("Odd", "a and b")
    assert (odd[1]["kind"], odd[1]["said"]) == ("RuntimeError", "Odd: a and b")


def test_an_error_of_any_rank_is_raised_on_all(found):
    assert [each["together"] for each in found] == [0, 10]
    for bad in (0, 1):
        here, there = (found[rank][f"together {bad}"] for rank in (bad, 1 - bad))
        assert here == {"kind": "ValueError", "said": f"bad {bad}", "notes": []}
        assert there == here | {"notes": [f"raised on rank {bad} of 2"]}
    odd = [each["together odd"] for each in found]
    assert odd[1] == {"kind": "Odd", "said": "a and b", "notes": []}
    assert odd[0]["kind"] == "RuntimeError"
    assert odd[0]["said"] == "Odd: a and b"
    for each in found:
        assert each["together both"]["kind"] == "IndexError"
        assert each["together both"]["notes"] == []


def test_ranks_that_differ_are_refused(found):
    for each in found:
        assert each["agree"] == {"result": None}
        assert each["disagree"]["kind"] == "RuntimeError"
        assert "disagree about the labels: ['of 0', 'of 1']; every rank" in each["disagree"]["said"]


def test_all_have_the_weights_of_rank_zero(found):
    for each in found:
        weights = each["weights"]
        assert weights["plain"] == {
            "weight": [0.0] * 6,
            "flag": [False, True],
            "count": [0],
            "none": [],
            "small": [0.0] * 2,
            "turned": [0.0] * 6,
        }
        assert weights["kept"]
        assert weights["grown"] == [0.0, 0.0]
        assert weights["extra"] == "of rank 0"


def test_a_trainer_finds_the_group_that_there_is(found):
    for rank, each in enumerate(found):
        assert each["joined"] == {
            "place": [rank, 2],
            "backend": "gloo",
            "one group": True,
            "its own": True,
            "heard": [0, 1],
        }


def test_who_leaves_closes_its_groups(found):
    assert found[1]["left"] == [False, 0]


def test_a_line_that_breaks_is_said(found):
    for what in ("lost", "lost too"):
        assert found[0][what]["kind"] == "RuntimeError"
        assert found[0][what]["said"] == LOST


# --- one process ---------------------------------------------------------------------------------


def test_one_process_talks_to_nobody():
    assert (ALONE.rank, ALONE.size, ALONE.group) == (0, 1, None)
    value, network = object(), nn.Linear(2, 2)
    assert ALONE.broadcast(value) is value
    assert ALONE.all_gather(value) == [value]
    assert ALONE.on_zero(lambda: value) is value
    assert ALONE.together(lambda: value) is value
    ALONE.agree("a", "b")
    ALONE.sync_weights(network)
    with pytest.raises(KeyError):
        ALONE.on_zero(lambda: {}["k"])


@pytest.mark.parametrize("n", [0, 1, 5])
def test_rows_of_one_process(n):
    whole = torch.empty(n, 2)
    ALONE.gather_rows(torch.arange(2 * n).reshape(n, 2).float(), whole)
    assert torch.equal(whole, torch.arange(2 * n).reshape(n, 2).float())


@pytest.mark.parametrize(
    "text",
    [
        "Connection closed by peer [127.0.0.1]:4",
        "reset by  peer",
        "Connection refused",
        "broken\npipe",
        "[enforce fail at gloo/transport] x",
        "NCCL communicator was aborted",
    ],
)
def test_a_line_that_breaks_in_a_fit_is_said(text):
    two = Ranks(0, 2)
    with pytest.raises(RuntimeError, match="the same command goes on") as caught, fitting(two):
        raise RuntimeError(text)
    assert str(caught.value).startswith(LOST)
    assert " ".join(text.split()) in str(caught.value)
    with pytest.raises(RuntimeError) as alone, fitting(Ranks()):
        raise RuntimeError(text)
    assert str(alone.value) == text


@pytest.mark.parametrize("text", ["CUDA out of memory", "shapes differ", f"{LOST} (gloo)"])
def test_other_errors_of_a_fit_stay_as_they_are(text):
    with pytest.raises(RuntimeError) as caught, fitting(Ranks(1, 2)):
        raise RuntimeError(text)
    assert str(caught.value) == text
    with pytest.raises(ValueError, match="gloo"), fitting(Ranks(1, 2)):
        raise ValueError("gloo")


def test_a_long_message_of_a_library_is_cut():
    with pytest.raises(RuntimeError) as caught, fitting(Ranks(1, 2)):
        raise RuntimeError("gloo " + "x" * 500)
    assert len(str(caught.value)) == len(LOST) + 123


# --- which Trainers ------------------------------------------------------------------------------


def trainer(strategy):
    return SimpleNamespace(strategy=strategy, world_size=2)


def derived(name, base=SingleDeviceStrategy):
    made = type(name, (base,), {"launcher": None, "__init__": lambda self: None})
    return type("Mine", (made,), {})()


class Sharded:
    launcher = None


@pytest.mark.parametrize(
    "strategy",
    [
        Sharded(),
        derived("DeepSpeedStrategy", DDPStrategy),
        derived("XLAStrategy"),
        derived("SingleDeviceXLAStrategy"),
    ],
)
def test_strategies_that_hold_a_part_of_the_model_are_refused(strategy):
    said = f"{type(strategy).__name__} is not supported .*choose one of: auto, ddp, ddp_find"
    for refuse in (check_strategy, join):
        with pytest.raises(ValueError, match=said):
            refuse(trainer(strategy))


@pytest.mark.parametrize("name", ["ddp_spawn", "ddp_fork"])
def test_strategies_that_start_processes_in_each_fit_are_refused(name):
    made = Trainer(accelerator="cpu", devices=2, strategy=name, logger=False)
    with pytest.raises(ValueError, match=f"start method '{name[4:]}' starts new .*one of: auto"):
        join(made)


def test_whole_models_are_taken():
    check_strategy(Trainer(accelerator="cpu", devices=2, strategy="ddp", logger=False))
    alone = Trainer(accelerator="cpu", devices=1, logger=False)
    assert join(alone) is ALONE
    assert not dist.is_initialized()


class Launching(SingleDeviceStrategy):
    """Tells what is done with it, in order."""

    def __init__(self, told):
        self.told, self.procs = told, ("a child",)

    launcher = property(lambda self: self)

    def launch(self, nothing, trainer):
        nothing()
        self.told.append(("launched", os.environ.get(orphans.PARENT)))

    def setup_environment(self):
        self.told.append("environment")


def test_who_joins_starts_the_others_and_they_watch_it(monkeypatch):
    told, up = [], []
    fake = SimpleNamespace(
        is_available=lambda: True,
        is_initialized=lambda: bool(up),
        group=SimpleNamespace(WORLD="world"),
        new_group=lambda backend, timeout: up.append(1) or (backend, timeout.days),
        get_rank=lambda: 1,
        get_world_size=lambda: 2,
    )
    monkeypatch.setattr(ranks, "dist", fake)
    monkeypatch.setattr(ranks, "_control", [])
    monkeypatch.setattr(ranks, "die_with_parent", lambda: told.append("watching"))
    monkeypatch.setattr(ranks, "watch_children", told.append)
    monkeypatch.setattr(ranks.atexit, "register", told.append)
    first = ranks.join(trainer(Launching(told)))
    assert told == [
        "watching",
        ("launched", str(os.getpid())),
        ("a child",),
        "environment",
        ranks._leave,
    ]
    assert first == Ranks(1, 2, ("gloo", 7))
    assert ranks.join(trainer(Launching(told))) == first
    assert len(told) == 5
    assert len(up) == 1
    fake.group.WORLD = "another"  # as when a user makes a group of all anew
    ranks.join(trainer(Launching(told)))
    assert len(up) == 2


# --- processes that must not outlive another -------------------------------------------------


CHILD = (
    "import sys, time; from lightning_al.ranks import orphans; orphans.GRACE = 0.3; "
    "orphans.die_with_parent(); print('up', flush=True); time.sleep(60)"
)
PARENT = (
    "import subprocess, sys, time; from lightning_al.ranks.orphans import "
    "children_watch_this_process as watched\n"
    "with watched():\n"
    f"    child = subprocess.Popen([sys.executable, '-c', {CHILD!r}], stdout=subprocess.PIPE)\n"
    "child.stdout.readline(); print(child.pid, flush=True); time.sleep(float(sys.argv[1]))\n"
)


def test_a_process_ends_with_the_one_that_started_it():
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    out, err = parent.communicate(timeout=60)  # the child holds the line of errors until it ends
    assert f"{LOST}; this process ends too" in err
    assert gone(int(out), within=10)


def test_only_children_that_are_asked_to_watch(monkeypatch):
    seen = []
    monkeypatch.setattr(orphans, "_watch", seen.append)
    monkeypatch.delenv(orphans.PARENT, raising=False)
    die_with_parent()
    assert seen == []
    with children_watch_this_process():
        assert os.environ[orphans.PARENT] == str(os.getpid())
        die_with_parent()
        assert orphans.PARENT not in os.environ  # its own children watch nobody
    _until(lambda: seen)
    assert seen == [os.getpid()]
    with pytest.raises(KeyError), children_watch_this_process():
        raise KeyError
    assert orphans.PARENT not in os.environ


def _until(holds, within=5.0):
    end = time.monotonic() + within
    while not holds() and time.monotonic() < end:
        time.sleep(0.02)


@pytest.mark.parametrize(("ended", "said"), [(-9, True), (-15, True), (0, False), (1, False)])
def test_a_child_that_was_killed_is_said(ended, said, capsys):
    orphans._watch_child(SimpleNamespace(wait=lambda: ended))
    assert capsys.readouterr().err == (f"{LOST}\n" if said else "")


def test_lightning_finds_a_child_alive_until_its_death_was_said(capsys):
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    orphans.watch_children([child])
    _until(lambda: child._waitpid_lock.locked())
    child.kill()
    said = []
    _until(lambda: said.append(capsys.readouterr().err) or LOST in said[-1])
    assert LOST in said[-1]
    assert child.poll() == -9


@pytest.mark.parametrize("looks", [0, 1, 4])
def test_a_process_without_its_parent_has_some_time_to_end_by_itself(looks, monkeypatch, capsys):
    done, left = [], [7] * looks + [1]
    monkeypatch.setattr(orphans.os, "getppid", lambda: left.pop(0))
    monkeypatch.setattr(orphans.time, "sleep", done.append)
    monkeypatch.setattr(orphans.os, "_exit", lambda status: done.append(("exit", status)))
    orphans._watch(7)
    assert done == [1] * looks + [orphans.GRACE, ("exit", 1)]
    assert capsys.readouterr().err == f"{LOST}; this process ends too\n"


def test_children_are_watched_beside_the_work(monkeypatch):
    seen = []
    monkeypatch.setattr(orphans, "_watch_child", seen.append)
    orphans.watch_children(("a", "b"))
    _until(lambda: sorted(seen) == ["a", "b"])
