"""Invariant 3: a run survives ``kill -9`` at any moment."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers import HERE, small, with_helpers

KILLED = -signal.SIGKILL
EVENTS_OF_THREE_ROUNDS = 1 + 2 * 6 + 2  # start, two full rounds, a last one without a query


class Runner:
    """The forking process of ``crash_runner.py``."""

    def __init__(self, root):
        self.root, self.count = root, 0
        self.process = subprocess.Popen(
            [sys.executable, str(HERE / "crash_runner.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=with_helpers(),
        )
        self._undisturbed = {}

    def folder(self):
        self.count += 1
        return str(self.root / f"run-{self.count}")

    def __call__(self, folder, setting, **request):
        line = json.dumps({"folder": folder, "setting": setting, **request})
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        answer = json.loads(self.process.stdout.readline())
        assert answer["code"] in (0, KILLED), Path(folder + ".log").read_text()
        return answer

    def undisturbed(self, setting):
        """What a run leaves that was never killed, and how long it took."""
        if setting not in self._undisturbed:
            folder = self.folder()
            seconds = self(folder, setting)["seconds"]
            self._undisturbed[setting] = small.outcome(folder), seconds
        return self._undisturbed[setting]

    def ticks(self, setting, watch):
        """The names of all moments at which a run can be killed."""
        folder = self.folder()
        self(folder, setting, watch=watch)
        return json.loads(Path(folder + ".ticks").read_text())

    def killed_and_gone_on(self, setting, **request):
        """Kill a run, give the same command again; whether it was killed, and what it left."""
        folder = self.folder()
        killed = self(folder, setting, **request)["code"] == KILLED
        assert self(folder, setting)["code"] == 0
        return killed, small.outcome(folder)

    def differences(self, setting, watch, kills):
        """Moments after which the same command ended otherwise than an undisturbed run."""
        expected, _ = self.undisturbed(setting)
        wrong = []
        for kill in kills:
            killed, left = self.killed_and_gone_on(setting, watch=watch, kill=kill)
            assert killed
            if left != expected:
                wrong.append((kill, [name for name in expected if left[name] != expected[name]]))
        return wrong


@pytest.fixture(scope="module")
def runner(tmp_path_factory):
    runner = Runner(tmp_path_factory.mktemp("crash"))
    yield runner
    runner.process.stdin.close()
    runner.process.wait(timeout=60)


def test_two_undisturbed_runs_are_equal(runner):
    folder = runner.folder()
    runner(folder, "reset")
    assert small.outcome(folder) == runner.undisturbed("reset")[0]


def test_a_finished_run_is_only_read_back(runner):
    folder = runner.folder()
    runner(folder, "reset")
    journal = Path(folder, "journal.jsonl")
    before = journal.read_bytes(), journal.stat().st_mtime_ns
    runner(folder, "reset")
    assert (journal.read_bytes(), journal.stat().st_mtime_ns) == before


def before_and_after(ticks, *events):
    """Before a line is written, and after it lies on the disk.

    The moments after the write and around the sync leave the same bytes in the file.
    """
    return [
        i
        for i, name in enumerate(ticks)
        if ("before-write" in name or "after-sync" in name)
        and (not events or any(event in name for event in events))
    ]


@pytest.mark.slow
def test_killed_before_and_after_every_line_of_the_journal(runner):
    """By a strategy that learns across rounds: its memory is there again."""
    ticks = runner.ticks("bandit", "journal")
    assert len(ticks) == 4 * EVENTS_OF_THREE_ROUNDS
    kills = before_and_after(ticks)
    assert len(kills) == 2 * EVENTS_OF_THREE_ROUNDS
    assert runner.differences("bandit", "journal", kills) == []


@pytest.mark.parametrize("setting", ["warm", "shrink", "bald", "best", "lean", "lean best"])
def test_killed_around_the_writes_of_other_policies(runner, setting):
    ticks = runner.ticks(setting, "journal")
    kills = before_and_after(ticks, "fitted", "committed")
    assert len(kills) == 12
    assert runner.differences(setting, "journal", kills) == []


def test_killed_while_late_answers_come_in(runner):
    ticks = runner.ticks("late", "journal")
    kills = before_and_after(ticks, "collected")
    assert len(kills) == 2 * 3
    assert runner.differences("late", "journal", kills) == []


def test_killed_in_the_middle_of_a_trial(runner):
    """A trial whose line is not written is done again, those before it are not."""
    ticks = runner.ticks("tuned", "journal")
    writes = before_and_after(ticks, "tried")[::2]
    assert len(writes) == 18
    expected, _ = runner.undisturbed("tuned")
    for kill, trials in ((writes[17], 17), (before_and_after(ticks, "tuned")[1], 18)):
        folder = runner.folder()
        assert runner(folder, "tuned", watch="journal", kill=kill)["code"] == KILLED
        half = Path(folder, "journal.jsonl").read_bytes()
        assert half.count(b'"event":"tried"') == trials
        runner(folder, "tuned")
        assert Path(folder, "journal.jsonl").read_bytes().startswith(half)
        assert small.outcome(folder) == expected


@pytest.mark.parametrize(("setting", "lines"), [("changed", 3), ("extended", 2), ("fixed", 2)])
def test_killed_around_the_lines_that_amend_a_run(runner, setting, lines):
    ticks = runner.ticks(setting, "journal")
    kills = before_and_after(ticks, setting)
    assert len(kills) == 2 * lines
    assert runner.differences(setting, "journal", kills) == []


@pytest.mark.slow
def test_killed_around_every_write_of_a_checkpoint(runner):
    # the moments between a checkpoint and the journal line that names it
    ticks = runner.ticks("warm", "all")
    kills = [i for i, name in enumerate(ticks) if "round-" in name]
    # three checkpoints synced and renamed, two of them removed; before and after each
    assert len([kill for kill in kills if "unlink ." not in ticks[kill]]) == 2 * (3 + 3 + 2)
    assert runner.differences("warm", "all", kills) == []


@pytest.mark.slow
def test_killed_at_any_write_of_any_file(runner):
    ticks = runner.ticks("bandit", "all")
    assert {"part of a line", "before replace .metrics.csv"} & set(ticks)
    memory = [i for i, name in enumerate(ticks) if ".memory" in name]
    assert len(memory) >= 2 * 2 * 2  # two rounds: synced and renamed, before and after each
    kills = sorted(random.Random(0).sample(range(len(ticks)), 20))
    torn = [i for i, name in enumerate(ticks) if name == "part of a line"]
    assert runner.differences("bandit", "all", {*kills, *torn[::4], *memory}) == []


def test_killed_twice(runner):
    expected, _ = runner.undisturbed("warm")
    folder = runner.folder()
    for kill in (30, 12):  # in the second round, then again at its end
        assert runner(folder, "warm", watch="journal", kill=kill)["code"] == KILLED
    runner(folder, "warm")
    assert small.outcome(folder) == expected


def test_killed_at_ten_random_times(runner):
    expected, seconds = runner.undisturbed("reset")
    drawn = random.Random(1)
    for _ in range(10):
        _, left = runner.killed_and_gone_on("reset", seconds=drawn.uniform(0, seconds))
        assert left == expected


def test_loader_workers_that_outlive_a_killed_run_do_not_hold_its_folder(runner):
    expected, seconds = runner.undisturbed("workers")
    for share in (0.3, 0.6):
        killed, left = runner.killed_and_gone_on("workers", seconds=share * seconds)
        assert killed
        assert left == expected


@pytest.mark.slow
def test_the_command_line_killed_in_the_middle(tmp_path):
    command = [sys.executable, "-m", "lightning_al", "run", "--config", "quickstart"]
    command += ["--budget=60", "--trainer.max_epochs=30", "--progress=false", "--run_dir"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}

    def start(folder):
        out = (tmp_path / "log").open("a")
        return subprocess.Popen(
            [*command, str(folder)], stdout=out, stderr=out, env=environment, cwd=tmp_path
        )

    whole = start(tmp_path / "whole")
    victim = start(tmp_path / "killed")
    journal = tmp_path / "killed" / "journal.jsonl"
    while victim.poll() is None and not (journal.exists() and b"labelled" in journal.read_bytes()):
        time.sleep(0.005)
    victim.kill()
    assert victim.wait() == KILLED
    lines = journal.read_bytes().count(b"\n")
    assert start(tmp_path / "killed").wait() == 0, (tmp_path / "log").read_text()
    assert whole.wait() == 0
    assert lines < journal.read_bytes().count(b"\n")
    assert small.outcome(tmp_path / "killed") == small.outcome(tmp_path / "whole")
