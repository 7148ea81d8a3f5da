"""The best candidate of a round is what a look at the test set says; true losses are the task's."""

import pytest
import torch
from helpers import small
from helpers.bench_parts import SETTINGS

from lightning_al.benchmark.ceilings import BEST, LOSSES
from lightning_al.benchmark.execute import execute
from lightning_al.benchmark.grid import bench_of
from lightning_al.strategies.around.hindsight import BestCandidate, OracleLosses
from lightning_al.studies.autoal.trusted import read_trusted


def spec_of(name, ceiling, candidates, **more):
    common = {**SETTINGS["common"], "query_size": 3, "budget": 3}
    settings = {**SETTINGS, "seeds": 1, "strategies": ["random"], "common": common}
    (spec,) = [
        s
        for s in bench_of({**settings, "ceilings": [ceiling]}).runs
        if s.place["strategy"] == name and s.role == "ceiling"
    ]
    spec.config["strategy"]["init_args"] = {
        **spec.config["strategy"].get("init_args", {}),
        "candidates": candidates,
        **more,
    }
    spec.config["rehearse"] = False
    return spec


def test_the_best_candidate_tests_as_the_next_round_does(tmp_path):
    names = ["margin", "random", "entropy"]
    outcome = execute(spec_of(BEST, "best-candidate", names), tmp_path)
    assert outcome["status"] == "done", outcome["error"]
    (journal,) = tmp_path.rglob("journal.jsonl")
    (notes,) = read_trusted(journal.parent)
    assert list(notes["tested"]) == names
    best = max(notes["tested"].values())
    (followed,) = [name for name, weight in notes["trusted"].items() if weight]
    assert notes["tested"][followed] == best
    assert outcome["rows"][1]["test/accuracy"] == best


def test_true_losses_are_those_of_the_task_on_the_pool(tmp_path):
    asked = {}
    own = OracleLosses.weigh

    class Watched(OracleLosses):
        def weigh(self, pool, found, k, generator):
            losses = pool.bench.loss(on=pool.index)
            probs = pool.bench.predict(pool.index, ["probs"], module=pool.bench.task).probs[:, 0]
            labels = pool.bench._data.labels(pool.index)
            asked["same"] = torch.allclose(
                losses, -probs[torch.arange(len(labels)), labels].log(), atol=1e-4
            )
            return own(self, pool, found, k, generator)

    arguments = {"candidates": ["margin", "k-means"], "search": {"steps": 4}}
    data = small.datamodule(initial=8)
    run = small.learner(tmp_path / "run", datamodule=data, strategy=Watched(**arguments))
    with pytest.raises(ValueError, match="only inside `bench`"):
        run.run()
    allowed = run.with_(privileged=True, run_dir=tmp_path / "allowed", rehearse=False)
    assert set(allowed.run().rounds[0].notes["trusted"]) == {"margin", "k-means"}
    assert asked == {"same": True}


def test_the_ceiling_runs_in_a_benchmark(tmp_path):
    spec = spec_of(LOSSES, "oracle-auto-al", ["margin", "k-means"], search={"steps": 4})
    outcome = execute(spec, tmp_path)
    assert outcome["status"] == "done", outcome["error"]


def test_both_read_labels_of_the_pool():
    assert BestCandidate(candidates=["margin"]).privileged
    assert OracleLosses(candidates=["margin"]).privileged
