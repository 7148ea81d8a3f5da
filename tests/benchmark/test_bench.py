"""A benchmark from end to end: engines agree, kills lose nothing, failures are recorded."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import psutil
import pytest
from helpers.bench_parts import SETTINGS, command, settled, write

from lightning_al.benchmark.bench import run_bench
from lightning_al.benchmark.ceilings import FULL_DATA
from lightning_al.benchmark.execute import execute
from lightning_al.benchmark.grid import bench_of
from lightning_al.benchmark.results import Results
from lightning_al.cli import main

QUIET = {"progress": False}


@pytest.fixture(scope="module")
def one_worker(tmp_path_factory):
    """The small benchmark on one worker, with the ceiling."""
    root = tmp_path_factory.mktemp("one")
    bench = bench_of({**SETTINGS, "ceilings": ["full-data"]})
    return bench, run_bench(bench, root, workers=1, **QUIET), root


def test_the_table_is_tidy(one_worker):
    bench, frame, root = one_worker
    assert set(frame["run_id"]) == {s.run_id for s in bench.runs}
    assert (frame["status"] == "done").all()
    for spec in bench.runs:
        run = frame[frame["run_id"] == spec.run_id].sort_values("round")
        rounds = 2 if spec.place["strategy"] == FULL_DATA else 3
        assert run["round"].tolist() == list(range(rounds))
        for axis, value in spec.place.items():
            assert (run[axis] == value).all()
        full = spec.place["strategy"] == FULL_DATA
        assert (run["role"] == ("ceiling" if full else "strategy")).all()
        assert (run["takes_all"] == full).all()
    full = frame[frame["strategy"] == FULL_DATA]
    assert (full.groupby("run_id")["n_pool"].min() == 0).all()
    pd.testing.assert_frame_equal(pd.read_parquet(root / "results.parquet"), frame)
    assert not list(root.glob("runs/*/checkpoints"))


def test_strategies_of_a_seed_share_start_and_first_fit(one_worker):
    _, frame, _ = one_worker
    first = frame[(frame["round"] == 0)]
    for _, runs in first.groupby("seed"):
        assert len(runs) == 3
        assert runs["test/accuracy"].nunique() == 1
    assert first["test/accuracy"].nunique() == 2


@pytest.mark.slow
def test_two_workers_give_the_same_table(one_worker, tmp_path):
    bench, frame, _ = one_worker
    pd.testing.assert_frame_equal(
        settled(run_bench(bench, tmp_path, workers=2, **QUIET)), settled(frame)
    )


@pytest.mark.slow
def test_ray_gives_the_same_table(one_worker, tmp_path):
    pytest.importorskip("ray", reason="Ray is an optional extra: pip install 'lightning-al[ray]'")
    bench, frame, _ = one_worker
    pd.testing.assert_frame_equal(
        settled(run_bench(bench, tmp_path, engine="ray", **QUIET)), settled(frame)
    )


@pytest.mark.slow
def test_array_tasks_give_the_same_table(one_worker, tmp_path):
    _, frame, _ = one_worker
    config = write(tmp_path / "b.yaml", ceilings=["full-data"])
    root = tmp_path / "out"
    words = ["--engine", "slurm", "--tasks", "2", "--workers", "0"]
    script = main(["bench", "--config", config, *words, "--out", str(root)])
    for task in ("1", "0"):  # what sbatch would do, in any order
        done = subprocess.run(
            ["bash", str(script)],
            env={**os.environ, "SLURM_ARRAY_TASK_ID": task, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
    collected = main(["bench", "--config", config, "--out", str(root), "--collect", "--quiet"])
    pd.testing.assert_frame_equal(settled(collected), settled(frame))


def test_a_run_of_the_grid_is_that_of_the_command_line(one_worker, tmp_path):
    bench, frame, _ = one_worker
    spec = bench.runs[3]
    path = tmp_path / "run.yaml"
    path.write_text(json.dumps(spec.config))
    (history,) = main(
        ["run", "--config", str(path), "--run_dir", str(tmp_path / "run"), "--progress", "false"]
    )
    run = frame[frame["run_id"] == spec.run_id].sort_values("round")
    assert [r.metrics["test/accuracy"] for r in history.rounds] == run["test/accuracy"].tolist()
    assert [list(r.acquired) for r in history.rounds] == [list(a) for a in run["acquired"]]


def test_started_again_it_does_nothing_and_says_the_same(one_worker, monkeypatch):
    bench, frame, root = one_worker
    monkeypatch.setattr("lightning_al.benchmark.bench.run_on_workers", None)  # not to be called
    pd.testing.assert_frame_equal(run_bench(bench, root, **QUIET), frame)


def test_a_failed_run_is_recorded_and_stops_no_other(tmp_path):
    settings = {**SETTINGS, "strategies": {"random": None, "bald": "bald"}, "seeds": 1}
    frame = run_bench(bench_of(settings), tmp_path, workers=0, **QUIET)
    failed = frame[frame["status"] == "failed"]
    assert failed["strategy"].tolist() == ["bald"]
    assert "members of a posterior" in failed["error"].item()
    assert (frame.loc[frame["strategy"] == "random", "status"] == "done").all()
    (told,) = tmp_path.glob("errors/*.txt")
    assert "Traceback" in told.read_text()
    before = Results(tmp_path).outcomes()
    run_bench(bench_of(settings), tmp_path, workers=0, **QUIET)
    assert Results(tmp_path).outcomes() == before
    run_bench(bench_of(settings), tmp_path, workers=0, retry_failed=True, **QUIET)
    again = Results(tmp_path).outcomes()
    assert {k: v["seconds"] != before[k]["seconds"] for k, v in again.items()} == {
        k: v["status"] == "failed" for k, v in before.items()
    }


@pytest.mark.slow
def test_a_run_that_kills_its_workers_counts_as_failed(tmp_path):
    deadly = {"class_path": "helpers.bench_deadly.Deadly"}
    settings = {**SETTINGS, "strategies": {"deadly": deadly, "random": None}, "seeds": 1}
    frame = run_bench(bench_of(settings), tmp_path, workers=1, **QUIET)
    assert dict(zip(frame["strategy"], frame["status"], strict=True)) == {
        "deadly": "failed", "random": "done"
    }  # fmt: skip
    assert "died 3 times" in frame.loc[frame["strategy"] == "deadly", "error"].item()


def test_another_metric_in_the_same_folder_is_refused(one_worker):
    _, _, root = one_worker
    with pytest.raises(ValueError, match="another --out"):
        run_bench(bench_of({**SETTINGS, "metric": "test/nll"}), root, **QUIET)


def test_results_of_an_earlier_version_are_said_with_the_mend(one_worker, tmp_path):
    bench, frame, root = one_worker
    old = tmp_path / "old"
    (old / "outcomes").mkdir(parents=True)
    shutil.copytree(root / "runs", old / "runs")
    (old / "benchmark.json").write_text((root / "benchmark.json").read_text())
    frame.drop(columns=["role", "takes_all"]).to_parquet(old / "results.parquet")
    with pytest.raises(LookupError, match="no column role and takes_all: it is of an earlier"):
        main(["report", str(old)])
    for path in (root / "outcomes").glob("*.json"):
        outcome = json.loads(path.read_text())
        del outcome["role"]
        (old / "outcomes" / path.name).write_text(json.dumps(outcome))
    with pytest.raises(ValueError, match=r"does not say role of its run.*Remove the folder"):
        run_bench(bench, old, workers=0, **QUIET)
    shutil.rmtree(old / "outcomes")  # as told
    pd.testing.assert_frame_equal(
        settled(run_bench(bench, old, workers=0, **QUIET)), settled(frame)
    )


def test_a_run_that_another_process_holds_is_left_to_it(tmp_path):
    (spec, *_) = bench_of(SETTINGS).runs
    folder = tmp_path / "runs" / spec.run_id
    folder.mkdir(parents=True)
    program = "import sys, time\nfrom filelock import FileLock\nlock = FileLock(sys.argv[1])\n"
    program += "lock.acquire()\nprint(1, flush=True)\ntime.sleep(60)"
    command = [sys.executable, "-c", program, str(folder / ".lock")]
    holder = subprocess.Popen(command, stdout=subprocess.PIPE)
    try:
        holder.stdout.readline()
        assert execute(spec, tmp_path, patience=0)["status"] == "busy"
    finally:
        holder.kill()
        holder.wait()
    assert execute(spec, tmp_path, patience=20)["status"] == "done"


def test_an_error_that_speaks_of_another_process_is_a_failure_of_the_run(tmp_path, monkeypatch):
    (spec, *_) = bench_of(SETTINGS).runs

    def broken(*_):
        raise RuntimeError("another process is running on the GPU")

    monkeypatch.setattr("lightning_al.rounds.run.Run.rounds", broken)
    outcome = execute(spec, tmp_path, patience=60)
    assert outcome["status"] == "failed"
    assert outcome["seconds"] < 55  # it was not waited for


def test_only_and_list(tmp_path, capsys):
    config = write(tmp_path / "b.yaml")
    specs = main(["bench", "--config", config, "--list", "--only", "strategy=margin"])
    assert [s.place["strategy"] for s in specs] == ["margin", "margin"]
    assert capsys.readouterr().out.count("strategy=margin") == 2
    for wrong in ("strategie=margin", "strategy=bald"):
        with pytest.raises(ValueError, match="--only"):
            main(["bench", "--config", config, "--list", "--only", wrong])


# --- kills ---------------------------------------------------------------------------------------


def works(child, parent):
    """Whether a process below a benchmark is a worker: spawned by it, or forked from its server."""
    command = str(child.cmdline())
    return "spawn_main" in command or ("forkserver" in command and child.ppid() != parent)


def kill(process, victim):
    """``kill -9`` of the parent, of a worker, or of both."""
    try:
        parent = psutil.Process(process.pid)
        workers = [p for p in parent.children(recursive=True) if works(p, process.pid)]
    except psutil.NoSuchProcess:
        return
    if victim in ("worker", "both") and workers:
        random.Random(0).choice(workers).send_signal(signal.SIGKILL)
    if victim in ("parent", "both"):
        process.kill()


@pytest.mark.slow
def test_killed_five_times_it_loses_no_run_and_does_none_twice(tmp_path):
    config = write(tmp_path / "b.yaml", seeds=4)
    root = tmp_path / "out"
    words = ["--config", config, "--out", str(root), "--workers", "2", "--quiet"]
    draw = random.Random(int(os.environ.get("BENCH_KILL_SEED", "1")))
    ended: dict[str, bytes] = {}
    for victim in ("worker", "parent", "both", "worker", "parent"):
        process = command(*words)
        aim = len(ended) + draw.randint(0, 2)
        while process.poll() is None and len(list(root.glob("outcomes/[!.]*.json"))) < aim:
            time.sleep(0.05)
        time.sleep(draw.random())
        kill(process, victim)
        if victim != "worker":
            process.wait()
        else:
            time.sleep(1)
            process.kill()
            process.wait()
        for name, content in ended.items():  # what had ended was not done again
            assert Path(name).read_bytes() == content
        ended = {str(p): p.read_bytes() for p in root.glob("outcomes/[!.]*.json")}
    process = command(*words)
    out, _ = process.communicate(timeout=240)
    assert process.returncode == 0, out
    assert "8 of 8 runs ended, 0 failed" in out
    for name, content in ended.items():
        assert Path(name).read_bytes() == content
    whole = run_bench(bench_of({**SETTINGS, "seeds": 4}), tmp_path / "calm", workers=0, **QUIET)
    pd.testing.assert_frame_equal(settled(Results(root).read_table()), settled(whole))
