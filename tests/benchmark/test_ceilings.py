"""The greedy oracle picks what an exhaustive look at the test set picks."""

import pytest
import torch
from helpers import small
from helpers.bench_parts import SETTINGS

from lightning_al.benchmark.ceilings import GREEDY, GreedyOracle
from lightning_al.benchmark.execute import execute
from lightning_al.benchmark.grid import bench_of


def bench(**changes):
    settings = {**SETTINGS, "seeds": 1, "strategies": ["random"], "ceilings": ["greedy-oracle"]}
    return bench_of({**settings, **changes})


def test_its_first_round_is_the_best_of_the_candidates_it_tried(tmp_path, monkeypatch):
    common = {**SETTINGS["common"], "query_size": 1, "budget": 1}
    (spec,) = [s for s in bench(common=common).runs if s.place["strategy"] == GREEDY]
    tried = {}
    value = GreedyOracle._value

    def watched(self, candidates, items):
        tried[items[-1]] = value(self, candidates, items)
        return tried[items[-1]]

    monkeypatch.setattr(GreedyOracle, "_value", watched)
    spec.config["rehearse"] = False  # which tries some too
    outcome = execute(spec, tmp_path)
    assert outcome["status"] == "done", outcome["error"]
    (picked,) = outcome["rows"][0]["acquired"]
    assert len(tried) == 20
    assert tried[picked] == max(tried.values())
    # what it saw is what the next round then measures: same weights, same draws, same data
    assert outcome["rows"][1]["test/accuracy"] == tried[picked]


def test_the_labelled_set_is_left_as_it_was(tmp_path):
    common = {**SETTINGS["common"], "query_size": 3, "budget": 6}
    (spec,) = [s for s in bench(common=common).runs if s.place["strategy"] == GREEDY]
    outcome = execute(spec, tmp_path)
    assert [row["n_labelled"] for row in outcome["rows"]] == [20, 23, 26]
    bought = [i for row in outcome["rows"] for i in row["acquired"]]
    assert len(set(bought)) == 6


def test_alone_it_refuses():
    oracle = GreedyOracle("test/accuracy")
    pool = __import__("lightning_al").records.Pool(index=torch.arange(3))
    with pytest.raises(LookupError, match="no workbench"):
        oracle.choose(pool, 1, torch.Generator())
    with pytest.raises(ValueError, match="at least 1"):
        GreedyOracle("test/accuracy", candidates=0)
    with pytest.raises(ValueError, match="ceilings are"):
        bench(ceilings=["best"])


def test_a_run_outside_the_benchmark_refuses_it(tmp_path):
    learner = small.learner(tmp_path).with_(strategy=GreedyOracle("test/accuracy"))
    with pytest.raises(ValueError, match="only inside `bench`"):
        learner.run()
