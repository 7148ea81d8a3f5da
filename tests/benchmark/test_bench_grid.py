"""What a benchmark file means: which runs there are, and how they are paired."""

import copy
import doctest
import itertools

import pytest
from helpers.bench_parts import DIGITS, MLP, SETTINGS, write

from lightning_al.benchmark import run_spec
from lightning_al.benchmark.ceilings import FULL_DATA
from lightning_al.benchmark.engines import shard, slurm_script
from lightning_al.benchmark.grid import bench_of, read_bench
from lightning_al.benchmark.run_spec import AXES, override


def test_doctests():
    assert doctest.testmod(run_spec).failed == 0


def test_the_grid_is_the_product_of_its_axes():
    bench = bench_of(
        {
            **SETTINGS,
            "data": {"a": DIGITS, "b": DIGITS},
            "models": {"x": MLP, "y": MLP},
            "starts": {"few": {"data.initial": 10}, "many": {"data.initial": 40}},
            "query_sizes": [1, 5],
            "seeds": 3,
        }
    )
    places = [tuple(s.place[axis] for axis in AXES) for s in bench.runs]
    expected = itertools.product(
        "ab", "xy", ["random", "margin"], ["few", "many"], [1, 5], [-1], range(3)
    )
    assert places == list(expected)
    assert len({s.run_id for s in bench.runs}) == len(bench.runs) == 96
    for spec in bench.runs:
        assert (
            spec.config["data"]["init_args"]["initial"]
            == {"few": 10, "many": 40}[spec.place["start"]]
        )
        assert spec.config["query_size"] == spec.place["query_size"]


def test_runs_of_one_seed_differ_in_the_strategy_alone():
    bench = bench_of(SETTINGS)
    by_seed = {}
    for spec in bench.runs:
        config = dict(copy.deepcopy(spec.config))
        config.pop("strategy")
        by_seed.setdefault(spec.place["seed"], []).append(config)
    for configs in by_seed.values():
        assert configs[0] == configs[1]
    assert by_seed[0] != by_seed[1]


def test_the_split_goes_with_the_seed_unless_it_is_fixed():
    splits = [s.config["data"]["init_args"]["split_seed"] for s in bench_of(SETTINGS).runs]
    assert sorted(splits) == [0, 0, 1, 1]
    fixed = copy.deepcopy(SETTINGS)
    fixed["data"]["digits"]["init_args"]["split_seed"] = 7
    assert {s.config["data"]["init_args"]["split_seed"] for s in bench_of(fixed).runs} == {7}
    off = bench_of({**SETTINGS, "vary_split": False})
    assert all("split_seed" not in s.config["data"]["init_args"] for s in off.runs)


def test_several_grids_share_what_stands_above_them():
    bench = bench_of(
        {**SETTINGS, "grids": [{"strategies": ["random"]}, {"strategies": ["entropy"], "seeds": 1}]}
    )
    assert [(s.place["strategy"], s.place["seed"]) for s in bench.runs] == [
        ("random", 0), ("random", 1), ("entropy", 0)
    ]  # fmt: skip


def test_a_strategy_may_bring_settings_of_its_own():
    posterior = {"class_path": "MCDropout", "init_args": {"members": 3}}
    bench = bench_of(
        {
            **SETTINGS,
            "strategies": {
                "bald": {"strategy": "bald", "posterior": posterior},
                "sharp": {"name": "power", "beta": 4.0},
                "entropy": None,
            },
        }
    )
    found = {s.place["strategy"]: s.config for s in bench.runs}
    assert found["bald"]["posterior"] == posterior
    assert found["sharp"]["strategy"] == {"name": "power", "beta": 4.0}
    assert found["entropy"]["strategy"] == "entropy"
    assert "posterior" not in found["entropy"]


def test_the_ceiling_is_one_more_strategy_and_folds_reach_the_data():
    bench = bench_of({**SETTINGS, "ceilings": ["full-data"], "folds": 2, "seeds": 1})
    assert {s.place["strategy"] for s in bench.runs} == {"random", "margin", FULL_DATA}
    assert {s.config["data"]["init_args"]["fold"] for s in bench.runs} == {0, 1}
    parts = {(s.place["strategy"], s.role, s.takes_all) for s in bench.runs}
    assert parts == {
        ("random", "strategy", False), ("margin", "strategy", False), (FULL_DATA, "ceiling", True)
    }  # fmt: skip


def test_a_ceiling_is_one_by_its_role_not_by_its_name():
    named = {**SETTINGS, "strategies": {FULL_DATA: "random"}}
    assert {(s.role, s.takes_all) for s in bench_of(named).runs} == {("strategy", False)}
    with pytest.raises(ValueError, match="full data is what a ceiling is called"):
        bench_of({**named, "ceilings": ["full-data"]})


def test_the_default_is_fifty_seeds():
    settings = {k: v for k, v in SETTINGS.items() if k != "seeds"}
    assert len(bench_of(settings).runs) == 100


@pytest.mark.parametrize(
    ("metric", "up"), [("test/accuracy", True), ("test/mse", False), ("test/rmse", False)]
)
def test_the_direction_is_that_of_the_metric(metric, up):
    told = {**SETTINGS, "metric": metric}
    assert {s.higher_is_better for s in bench_of(told).runs} == {up}
    other = bench_of({**told, "higher_is_better": not up})
    assert {s.higher_is_better for s in other.runs} == {not up}


def test_grids_may_differ_in_the_metric():
    grids = [{"metric": "test/nll", "strategies": ["random"]}, {"strategies": ["margin"]}]
    bench = bench_of({**SETTINGS, "grids": grids})
    assert bench.metric == "test/nll, test/accuracy"
    assert {(s.metric, s.higher_is_better) for s in bench.runs} == {
        ("test/nll", False),
        ("test/accuracy", True),
    }
    with pytest.raises(ValueError, match=r"same run .* with the metrics"):
        bench_of({**SETTINGS, "grids": [{"metric": "test/nll"}, {"seeds": 1}]})


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"metric": None}, "metric"),
        ({"strategies": []}, "strategies"),
        ({"strategies": ["margn"]}, "did you mean 'margin'"),
        ({"data": {}}, "no data"),
        ({"seeds": 0}, "count >= 1"),
        ({"seeds": [1, 1]}, "different numbers"),
        ({"sead": 3}, "unknown .'sead'."),
        ({"common": {"query_size": 1, "budget": 2, "epochs": 3}}, "epochs"),
        ({"common": {"query_size": 1, "trainer": {}}}, "budget"),
        ({"area": "aera"}, "budget"),
    ],
)
def test_what_cannot_work_is_said_before_anything_runs(changes, said):
    with pytest.raises((ValueError, LookupError), match=said):
        bench_of({**SETTINGS, **changes})


def test_override_refuses_what_is_no_mapping():
    with pytest.raises(ValueError, match="cannot set"):
        override({"data": 3}, "data.start", "cold")


def test_a_file_is_titled_by_its_first_line(tmp_path):
    bench = read_bench(__import__("pathlib").Path(write(tmp_path / "b.yaml")), seeds=1)
    assert bench.title == "A small benchmark"
    assert len(bench.runs) == 2


def test_shards_are_a_partition():
    runs = bench_of({**SETTINGS, "seeds": 5}).runs
    parts = [shard(runs, f"{i}/3") for i in range(3)]
    assert sorted(s.run_id for part in parts for s in part) == sorted(s.run_id for s in runs)
    for wrong in ("3/3", "-1/3", "1", "a/b", "0/0"):
        with pytest.raises(ValueError, match="i/n"):
            shard(runs, wrong)


def test_the_job_script_names_its_shard_by_the_task(tmp_path):
    script = slurm_script(["--config", "my file.yaml"], 4, 2, tmp_path)
    assert "#SBATCH --array=0-3" in script
    assert "'my file.yaml'" in script
    assert '--workers 2 --shard "$SLURM_ARRAY_TASK_ID/4"' in script
