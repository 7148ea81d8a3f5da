"""Runs that kill themselves: a process that imports everything once and forks for each run.

Started by ``test_crash.py``; reads a JSON request a line, answers one a line. A run counts *ticks*
(moments around its writes) and dies by SIGKILL at the one it is told.
"""

import io
import json
import os
import signal
import sys
import time
import traceback
from pathlib import Path

import optuna  # noqa: F401 - once, and not in each forked run
import torch
from pytorch_lightning.callbacks import EarlyStopping, ModelCheckpoint

from helpers import small, tuned
from lightning_al.datamodules.tensors import TensorItems
from lightning_al.history.round_log import RoundLog
from lightning_al.journal import journal
from lightning_al.journal.fixes import fix_answers
from lightning_al.journal.journal import read_journal
from lightning_al.oracles import DelayedOracle, NoisyOracle
from lightning_al.posteriors import MCDropout
from lightning_al.testing import Bandit

BEST = {
    "callbacks": [
        EarlyStopping("val/accuracy", mode="max", patience=1),
        ModelCheckpoint(monitor="val/accuracy", mode="max"),
    ]
}
SETTINGS = {
    "reset": {},
    "warm": {"weights": "warm", "keep_checkpoints": "last"},
    "shrink": {"weights": "shrink_perturb", "keep_checkpoints": "last"},
    "bald": {
        "task": small.dropout_task,
        "strategy": "bald",
        "posterior": MCDropout(3),
        "weights": "warm",
    },
    "best": {"restore": "best", "trainer": small.TRAINER | BEST},
    "bandit": {"strategy": Bandit()},
    "workers": {"budget": 5},
    "lean": {"fits": "lean", "task": small.dropout_task, "weights": "warm"},
    "lean best": {"fits": "lean", "restore": "best", "trainer": small.TRAINER | BEST},
    "late": {"oracle": NoisyOracle(0.3, oracle=DelayedOracle(1))},
}
MANY_TRIALS = {
    "budget": 5,
    "rehearse": False,
    "tuning": {"trials": 18, "when": "first", "judge": {"split": 0.4}, "pruner": "none"},
}
DATA = {"best": {"val": 0.2}, "lean best": {"val": 0.2}, "workers": {"num_workers": 2}}


def run(folder, setting):
    """The whole run, or what is left of it."""
    if setting in AMENDED:
        return AMENDED[setting](folder)
    if setting == "tuned":
        return tuned.learner(folder, **MANY_TRIALS).with_(observers=[RoundLog()]).run()
    data = small.datamodule(**DATA.get(setting, {}))
    learner = small.learner(folder, datamodule=data, **SETTINGS[setting])
    return learner.with_(observers=[RoundLog()]).run()


def changed(folder):
    """A run that is over, and goes on by another strategy with a larger budget."""
    if not stands_in(folder, '"event":"changed"'):
        small.learner(folder, budget=5).run()
    new = {"strategy": "margin", "query_size": 3, "budget": 11, "change": True}
    return small.learner(folder, **new).run()


def stands_in(folder, text):
    """Whether a line of the journal of a folder has this text already."""
    path = Path(folder, "journal.jsonl")
    return path.exists() and text in path.read_text()


def extended(folder):
    """A run that is over, and goes on with twice as many items, and then some more."""
    sizes = [30, 45, 60]
    for number, n in enumerate(sizes):
        if not stands_in(folder, f'"option":"budget","old":{4 * (number + 1)}'):
            whole = small.blobs()
            train = TensorItems(whole.inputs[0][:n], whole.targets[:n])
            data = small.datamodule(train, val=0.1)
            more = {"budget": 4 * (number + 1), "query_size": 4, "strategy": "random"}
            done = small.learner(folder, datamodule=data, extend=True, **more).run()
    return done


def fixed(folder):
    """A run of which an answer is corrected, another withdrawn, and which goes on then."""
    whole, first = small.blobs(), {"budget": 5, "strategy": "random", "query_size": 5}
    if not stands_in(folder, '"event":"fixed"'):
        small.learner(folder, **first).run()
    if not stands_in(folder, '"event":"changed"'):
        records = read_journal(Path(folder, "journal.jsonl"))[0]
        one, other, *_ = next(r["index"] for r in records if r["event"] == "chosen")
        done = {r["item"] for r in records if r["event"] == "fixed"}
        fixes = {one: (int(whole.targets[one]) + 1) % 3, other: None}
        fixes = {item: label for item, label in fixes.items() if item not in done}
        fix_answers(folder, small.datamodule(), fixes)
    return small.learner(folder, **first | {"budget": 10}).run()


AMENDED = {"fixed": fixed, "changed": changed, "extended": extended}


class Ticks:
    """Counts moments, and kills the process at one of them."""

    def __init__(self, kill=None):
        self.kill, self.names = kill, []

    def __call__(self, *name):
        if len(self.names) == self.kill:
            os.kill(os.getpid(), signal.SIGKILL)
        self.names.append(" ".join(map(str, name)))


def tick_at_journal_events(ticks):
    """Before and after every write of the journal and every sync of it."""
    journal.fault_hook = ticks


def tick_at_every_write(ticks):
    """Also around every sync, rename and removal of any file, and in the middle of lines."""
    tick_at_journal_events(ticks)
    for name in ("fsync", "replace", "unlink"):
        real = getattr(os, name)

        def around(*args, real=real, name=name, **kwargs):
            opened = f"/proc/self/fd/{args[0]}"
            where = Path(os.readlink(opened) if os.path.exists(opened) else args[0]).name
            ticks("before", name, where)
            result = real(*args, **kwargs)
            ticks("after", name, where)
            return result

        setattr(os, name, around)

    class Halves(io.FileIO):
        def write(self, data):
            part = data[: len(data) // 2] if len(data) > 64 else data
            written = super().write(part)
            ticks("part of a line")
            return written

    journal.open = lambda path, mode, buffering: Halves(path, mode)


def child(request):
    """In the forked process: one run, its ticks written beside the folder."""
    ticks = Ticks(request.get("kill"))
    log = Path(request["folder"] + ".log")
    try:
        with log.open("a") as out:
            os.dup2(out.fileno(), 1)
            os.dup2(out.fileno(), 2)
            if request.get("watch") == "journal":
                tick_at_journal_events(ticks)
            elif request.get("watch") == "all":
                tick_at_every_write(ticks)
            run(request["folder"], request["setting"])
        Path(request["folder"] + ".ticks").write_text(json.dumps(ticks.names))
        status = 0
    except BaseException:
        with log.open("a") as out:
            traceback.print_exc(file=out)
        status = 1
    os._exit(status)


def serve(request):
    """Fork one run, kill it after ``seconds`` if so asked, and say how it ended."""
    start = time.perf_counter()
    pid = os.fork()
    if pid == 0:
        child(request)
    if (seconds := request.get("seconds")) is not None:
        time.sleep(seconds)
        os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    return {"code": os.waitstatus_to_exitcode(status), "seconds": time.perf_counter() - start}


if __name__ == "__main__":
    torch.set_num_threads(1)
    for line in sys.stdin:
        print(json.dumps(serve(json.loads(line))), flush=True)
