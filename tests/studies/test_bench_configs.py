"""Every shipped benchmark is read, has its fifty seeds or its folds, and its runs run."""

import re

import pandas as pd
import pytest

from lightning_al.assembly.shipped import config_path, list_benches, list_configs
from lightning_al.benchmark.execute import execute
from lightning_al.benchmark.grid import read_bench
from lightning_al.benchmark.study import Evidence, study_of
from lightning_al.cli import main
from lightning_al.studies import PyRelational
from lightning_al.studies.pyrelational.cells import Cell, compare, published
from lightning_al.studies.pyrelational.honest_track import Honest, constant_reference, honest
from lightning_al.studies.pyrelational.published_rules import PublishedStrategy

BENCHES = list_benches()


def test_benchmarks_are_no_configurations_of_runs():
    assert {"benchmarks/classification", "pyrelational/exact", "pyrelational/tables"} <= set(
        BENCHES
    )
    assert not set(BENCHES) & set(list_configs())


def test_each_command_says_what_the_other_takes():
    with pytest.raises(ValueError, match="lightning-al bench --config benchmarks/regression"):
        main(["run", "--config", "benchmarks/regression"])
    with pytest.raises(ValueError, match="is a configuration of one run"):
        main(["bench", "--config", "digits"])


@pytest.mark.parametrize("name", BENCHES)
def test_it_says_what_it_is_and_how_often_it_repeats(name):
    path = config_path(name)
    assert re.match(r"# [A-Z].{20,110}\n", path.read_text())
    bench = read_bench(path)
    seeds = {s.place["seed"] for s in bench.runs}
    folds = {s.place["fold"] for s in bench.runs}
    few = {
        "benchmarks/deployment": 20,
        "autoal/small": 10,
    }  # as many as was published, or asked for
    usual = {"autoal": 3, "balsa": 30}.get(name.partition("/")[0], 50)
    wanted = few.get(name, usual)
    assert len(seeds) == wanted or folds == set(range(5))


CHEAP = [
    (name, spec)
    for name in BENCHES
    for spec in {
        (s.place["model"], s.place["strategy"], s.metric): s
        for s in reversed(read_bench(config_path(name)).runs)
        if s.place["data"] in ("digits", "diabetes", "breast", "synthreg1") and not s.takes_all
    }.values()
]


@pytest.mark.parametrize(
    ("name", "spec"), CHEAP, ids=[f"{n} {s.place['strategy']} {s.place['model']}" for n, s in CHEAP]
)
def test_each_strategy_of_it_runs(name, spec, tmp_path):
    config = {**spec.config, "query_size": 2, "budget": 4}
    config["trainer"] = {**config["trainer"], "max_epochs": 1}
    if "tuning" in config:
        config["tuning"] = {**config["tuning"], "trials": 2}
    outcome = execute(type(spec)(spec.place, config, spec.metric, spec.higher_is_better), tmp_path)
    assert outcome["status"] == "done", outcome["error"]
    assert [spec.metric in row for row in outcome["rows"]] == [True] * 3


# --- the tables of the paper ---------------------------------------------------------------------


def test_the_published_tables_are_whole():
    cells = list(published())
    assert len(cells) == 190
    assert {c.table for c in cells} == {5, 6, 7, 8}
    assert sum(c.required != "" for c in cells) == 13
    keys = {(c.data, c.start, c.strategy) for c in cells}
    assert len(keys) == 190
    grid = read_bench(config_path("pyrelational/tables"))
    assert {(s.place["data"], s.place["start"], s.place["strategy"]) for s in grid.runs} == keys
    exact = read_bench(config_path("pyrelational/exact"))
    assert {(s.place["data"], s.place["start"], s.place["strategy"]) for s in exact.runs} == {
        (c.data, c.start, c.strategy) for c in cells if c.required
    }
    # the same run in both grids, so that one's results serve the other
    assert {s.run_id for s in exact.runs} <= {s.run_id for s in grid.runs}


def cell(mean, deviation, folds=5, required=""):
    return Cell(7, "d", "cold", "s", "10.0000", "1.0000", required, mean, deviation, folds)


@pytest.mark.parametrize(
    ("ours", "verdict"),
    [
        (cell(10.00004, 1.00004), "exact"),
        (cell(10.0, 1.1), "within 0.1 %"),
        (cell(9.991, 1.0), "within 0.1 %"),
        (cell(10.9, 5.0), "within one deviation"),
        (cell(11.1, 1.0), "differs"),
        (cell(10.0, 1.0, folds=4), "not run: 4 of 5 folds"),
    ],
)
def test_verdicts(ours, verdict):
    assert ours.verdict == verdict


def test_what_is_required_and_missed_fails():
    assert cell(10.0, 1.1, required="exact").fails
    assert not cell(10.0, 1.1, required="within 0.1 %").fails
    assert not cell(10.0, 1.0, required="exact").fails
    assert cell(10.0, 1.0, folds=0, required="exact").fails
    assert not cell(99.0, 1.0).fails


def test_the_honest_track_is_held_against_cell_row_and_constant():
    ours = cell(5.0, 1.0)  # printed: 10
    assert Honest(ours, best=6.0, constant=7.0, full_data=1.0).tops_the_row
    assert Honest(ours, best=4.0, constant=7.0, full_data=1.0).holds
    assert not Honest(ours, best=4.0, constant=7.0, full_data=1.0).tops_the_row
    assert not Honest(ours, best=6.0, constant=4.0, full_data=1.0).holds
    assert not Honest(cell(12.0, 1.0), best=9.0, constant=20.0, full_data=1.0).holds
    assert not Honest(cell(5.0, 1.0, folds=3), best=6.0, constant=7.0, full_data=1.0).holds


def test_a_constant_has_the_area_of_its_error():
    from lightning_al.datamodules import named as datasets

    table = datasets.load("diabetes", "published")
    errors = []
    for fold in range(5):
        train, test = datasets.split(table.targets, fold, 5, stratified=False, seed=None)
        mean = sum(table.targets[train].tolist()) / len(train)
        errors.append(sum((y - mean) ** 2 for y in table.targets[test].tolist()) / len(test))
    found = constant_reference("diabetes", dict.fromkeys(range(5), 251))
    assert found == pytest.approx(sum(errors) / 5 * 250 / 251, rel=1e-6)
    assert 5500 < found < 6500  # the mean of the targets has about 5,930


def test_nothing_run_is_said_of_every_cell():
    nothing = pd.DataFrame()
    cells = compare(nothing, {("glass", "cold", "random"): "FileNotFoundError: no glass.data"})
    assert all(c.verdict.startswith("not run") for c in cells)
    assert any("no glass.data" in c.verdict for c in cells)
    assert not any(row.holds for row in honest(nothing, {}))


# --- the verdict behind bench --------------------------------------------------------------------


def results(bench, shift=0.0):
    """Runs of a grid whose areas are the printed means, spread as printed; then moved."""
    cells = {(c.data, c.start, c.strategy): c for c in published()}
    rows = []
    for spec in bench.runs:
        found = cells.get(tuple(spec.place[k] for k in ("data", "start", "strategy")))
        mean, deviation = (float(found.mean), float(found.deviation)) if found else (0.0, 0.0)
        # five values with just this mean and population deviation
        value = mean * (1 + shift) + deviation * (spec.place["fold"] - 2) / 2**0.5
        part = {"role": spec.role, "takes_all": spec.takes_all, "metric": spec.metric}
        for r, n in enumerate((10, 11)):  # by unit steps: half the sum over two points
            rows.append(
                {
                    **{"run_id": spec.run_id, **spec.place, **part, "round": r, "n_labelled": n},
                    **{"higher_is_better": spec.higher_is_better, "value": 2 * value},
                    **{"status": "done", "error": "", "seconds_fit": 0.0},
                    **{"seconds_score": 0.0, "seconds_choose": 0.0},
                }
            )
    return pd.DataFrame(rows)


def judged(name, frame):
    bench = read_bench(config_path(name))
    return study_of(bench.study).verdict(bench.runs, Evidence(frame, bench.facts()))


def test_the_exact_cells_hold_where_the_printed_numbers_come_out():
    bench = read_bench(config_path("pyrelational/exact"))
    verdict = judged("pyrelational/exact", results(bench))
    assert verdict.holds
    assert verdict.lines[-1] == "13 exact"
    assert len(verdict.lines) == 15  # a head, the cells, the count
    assert all(line.endswith("exact") for line in verdict.lines[1:-1])


def test_one_cell_that_is_off_fails_them_and_is_named():
    bench = read_bench(config_path("pyrelational/exact"))
    verdict = judged("pyrelational/exact", results(bench, shift=0.01))
    assert not verdict.holds
    assert sum("<- must be" in line for line in verdict.lines) == 13
    frame = results(bench)
    one = (frame["data"] == "diabetes") & (frame["start"] == "cold") & (frame["strategy"] == "bald")
    frame.loc[one, ["status", "error"]] = "failed", "OSError: gone"
    verdict = judged("pyrelational/exact", frame)
    assert not verdict.holds
    (line,) = [line for line in verdict.lines if "must be" in line]
    assert "diabetes, cold, bald" in line
    assert "not run: OSError: gone" in line
    assert verdict.lines[-1] == "12 exact, 1 not run"


def test_the_tables_hold_without_the_cells_that_nobody_requires():
    bench = read_bench(config_path("pyrelational/tables"))
    frame = results(bench)
    assert judged("pyrelational/tables", frame).lines[-1] == "190 exact"
    required = {(c.data, c.start, c.strategy) for c in published() if c.required}
    key = list(zip(frame["data"], frame["start"], frame["strategy"], strict=True))
    free = pd.Series([k not in required for k in key])
    frame.loc[free, "value"] *= 3
    verdict = judged("pyrelational/tables", frame)
    assert verdict.holds
    assert "differs" in verdict.lines[-1]


def test_the_honest_track_wants_a_strategy_on_top_of_each_row(monkeypatch):
    monkeypatch.setattr(
        "lightning_al.studies.pyrelational.honest_track.constant_reference", lambda *_: 1e9
    )
    bench = read_bench(config_path("pyrelational/honest"))
    verdict = judged("pyrelational/honest", results(bench, shift=-0.9))
    assert verdict.holds
    assert verdict.lines[-1].startswith("90 of 90 cells")
    assert "in 18 of 18 rows" in verdict.lines[-1]
    verdict = judged("pyrelational/honest", results(bench, shift=0.01))
    assert not verdict.holds
    assert verdict.lines[-1].startswith("0 of 90 cells")


def test_an_unknown_track_is_refused():
    with pytest.raises(ValueError, match="track is one of tables, honest, got 'honst'"):
        PyRelational("honst")


def test_an_unknown_rule_is_refused():
    with pytest.raises(ValueError, match="representative"):
        PublishedStrategy("greedy")
