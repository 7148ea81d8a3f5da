"""Stacked benchmarks: engines agree, real kills lose nothing, every backend chooses alike."""

import json
import os
import random
import subprocess
import sys

import pandas as pd
import pytest
import yaml
from helpers import small, with_helpers
from helpers import stack_parts as parts
from helpers.bench_parts import settled

from lightning_al.benchmark.bench import run_bench
from lightning_al.benchmark.execute import execute
from lightning_al.benchmark.grid import bench_of
from lightning_al.benchmark.lockstep import in_lockstep
from lightning_al.benchmark.results import Results
from lightning_al.journal.journal import read_journal

QUIET = {"progress": False}


@pytest.mark.slow
def test_all_ways_of_handing_out_give_one_table(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", with_helpers()["PYTHONPATH"])
    bench = bench_of({**parts.settings(seeds=2, budget=4), "ceilings": ["full-data"]})
    calm = settled(run_bench(bench, tmp_path / "calm", workers=0, **QUIET))
    shuffled = random.Random(0).sample(list(bench.runs), len(bench.runs))
    for name, given in {
        "two workers": {"workers": 2},
        "in another order": {"workers": 0, "specs": shuffled},
        "one asked for": {"workers": 0, "specs": [bench.runs[1]]},
    }.items():
        found = settled(run_bench(bench, tmp_path / name, **given, **QUIET))
        expected = calm
        if name == "one asked for":
            expected = calm[calm["role"] == "strategy"].reset_index(drop=True)
        pd.testing.assert_frame_equal(found, expected)


FORKED = """
import json, os, signal, sys
from pathlib import Path
import torch
import yaml
torch.set_num_threads(1)
from lightning_al.benchmark.bench import run_bench
from lightning_al.benchmark.grid import bench_of
from lightning_al.journal import journal

bench = bench_of(yaml.safe_load(Path(sys.argv[1]).read_text()))

def run(root, kill):
    count = iter(range(10**9))
    def hook(moment, event):
        if next(count) == kill:
            os.kill(os.getpid(), signal.SIGKILL)
    journal.fault_hook = hook
    run_bench(bench, root, workers=0, progress=False)
    print(json.dumps(next(count)), flush=True)

for line in sys.stdin:
    root, kill = json.loads(line)
    pid = os.fork()
    if pid == 0:
        try:
            run(root, kill)
        finally:
            os._exit(0)
    print(json.dumps(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])), flush=True)
"""


@pytest.mark.slow
def test_killed_around_the_lines_of_a_stack(tmp_path):
    """``kill -9`` before and after a line is written or synced; the same command goes on."""
    settings = parts.settings(seeds=2, budget=4, weights="warm")
    config = tmp_path / "b.yaml"
    config.write_text(yaml.safe_dump(settings))
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", FORKED, str(config)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**with_helpers(), "OMP_NUM_THREADS": "1"},
    )

    def ask(root, kill=-1):
        process.stdin.write(json.dumps([str(root), kill]) + "\n")
        process.stdin.flush()
        said = process.stdout.readline().strip()
        return int(said) if kill >= 0 else (int(said), int(process.stdout.readline()))

    def left(root):
        journals = {}
        for path in sorted(root.glob("runs/*/journal.jsonl")):
            journals[path.parent.name] = [small.untimed(r) for r in read_journal(path)[0]]
        return journals, settled(Results(root).read_table())

    ticks, code = ask(tmp_path / "calm")
    assert code == 0
    journals, table = left(tmp_path / "calm")
    runs = 4
    assert ticks == 4 * runs * (1 + 6 + 2)  # start, a round of six lines, a last one of two
    draw = random.Random(int(os.environ.get("STACK_KILL_SEED", "1")))
    first = 4 * runs  # moments of the lines `start`, and then those of the first `fitted`
    kills = [*range(first + 1, first + 15, 4), *draw.sample(range(ticks), 10)]
    for kill in kills:
        root = tmp_path / f"killed-{kill}"
        assert ask(root, kill) == -9
        ended = {p.name: p.read_bytes() for p in root.glob("outcomes/[!.]*.json")}
        again, code = ask(root)
        assert code == 0
        assert again < ticks  # lines that were written are not written again
        found, frame = left(root)
        assert found == journals, kill
        pd.testing.assert_frame_equal(frame, table)
        for name, content in ended.items():
            assert (root / "outcomes" / name).read_bytes() == content
    process.stdin.close()
    process.wait(timeout=60)


@pytest.mark.slow
def test_every_backend_chooses_the_same_items(tmp_path):
    """In float64, over ten rounds, by five strategies."""
    posterior = {"class_path": "MCDropout", "init_args": {"members": 5}}
    strategies = {
        **{"random": None, "margin": None, "k-center": None, "badge": None},
        "bald": {"strategy": "bald", "posterior": posterior},
    }
    given = {"strategies": strategies, "seeds": 1, "query_size": 2, "budget": 18}
    stacked = bench_of(parts.settings(**given)).groups[0]
    assert len(stacked) == 5
    together = {o["place"]["strategy"]: o for o in in_lockstep(stacked, tmp_path / "stacked")}
    for spec in stacked:
        journal = tmp_path / "stacked" / "runs" / spec.run_id / "journal.jsonl"
        fitted = [r for r in read_journal(journal)[0] if r["event"] == "fitted"]
        assert [r["backend"] for r in fitted] == ["stacked"] * 10
    for fits in ("lightning", "lean"):
        for spec in bench_of(parts.settings(**given, fits=fits)).runs:
            twin = execute(spec, tmp_path / fits)
            mine = together[spec.place["strategy"]]
            assert twin["status"] == mine["status"] == "done", twin["error"]
            assert len(twin["rows"]) == 10
            for one, other in zip(mine["rows"], twin["rows"], strict=True):
                assert one["acquired"] == other["acquired"]
