"""BALSA's published figures beside ours, pictures of density regression, the code's own parts."""

import math

import numpy as np
import pandas as pd
import pytest
import torch

from lightning_al.assembly.shipped import config_path, list_benches
from lightning_al.benchmark.execute import execute
from lightning_al.benchmark.grid import read_bench
from lightning_al.benchmark.overall import overall
from lightning_al.benchmark.study import Evidence, study_of
from lightning_al.benchmark.summary import per_run, settings
from lightning_al.datamodules.sources import data_root
from lightning_al.records import Predictions
from lightning_al.strategies import build, names
from lightning_al.studies import Balsa
from lightning_al.studies.balsa.figures_read import COLUMNS, beside, published
from lightning_al.studies.balsa.panels import pictures
from lightning_al.studies.balsa.published_parts import FarthestAtOnce, OneRefitAPoint
from lightning_al.testing import World, check_strategy

BENCHES = [name for name in list_benches() if name.startswith("balsa/")]
AREAS = {"k-center": 0.0080, "random": 0.0117, "balsa-kl-pairs": 0.0118, "balsa-nflows-out": 0.0220}


def table(areas, seeds=3, data=("parkinsons",), start=200, rounds=5, spread=0.02):
    """A tidy table of runs whose mode's MAE is on average what ``areas`` says."""
    draw = np.random.default_rng(0)
    rows = []
    for place in data:
        for strategy, area in areas.items():
            for seed in range(seeds):
                noise = 1 + spread * draw.standard_normal()
                for r in range(rounds):
                    mae = area * noise * (1 + 0.2 * (rounds // 2 - r))
                    rows.append(
                        {
                            "run_id": f"{place}-{strategy}-{seed}",
                            "data": place,
                            "model": "flow",
                            "start": "",
                            "query_size": 1,
                            "strategy": strategy,
                            "fold": -1,
                            "seed": seed,
                            "role": "strategy",
                            "takes_all": False,
                            "status": "done",
                            "round": r,
                            "n_labelled": start + r,
                            "metric": "test/mae_mode",
                            "higher_is_better": False,
                            "value": mae,
                            "test/mae_mode": mae,
                            "test/nll": -4 + 10 * mae,
                            "test/crps": mae / 2,
                            "test/coverage_50": 0.4,
                            "test/coverage_90": 0.8,
                            "seconds_fit": 0.1,
                            "seconds_score": 0.1,
                            "seconds_choose": 0.1,
                            "error": "",
                        }
                    )
    return pd.DataFrame(rows)


FACTS = {"area": "unit-steps", "reference": "random", "metric": "test/mae_mode"}


# --- the figures -------------------------------------------------------------------------------


def test_the_figures_are_whole_and_of_names_that_there_are():
    figures = list(published())
    keys = {(f.data, f.head, f.query_size, f.strategy, f.measure, f.at) for f in figures}
    assert len(keys) == len(figures)
    assert {f.strategy for f in figures} <= {*names(), "full-data"}
    assert {f.measure for f in figures} == set(COLUMNS)
    areas = {f.strategy: f.value for f in figures if f.at == "area"}
    assert len(areas) == 15
    assert {s: areas[s] for s in AREAS} == AREAS
    assert min(f.value for f in figures if f.measure == "mae") > 0


def test_each_figure_finds_its_runs():
    frame = table({"random": 0.0117}, spread=0.0)
    wanted = [
        f for f in published() if (f.data, f.head, f.strategy) == ("parkinsons", "flow", "random")
    ]
    rows = beside(wanted, frame)
    found = {(r.figure.at, r.figure.query_size): r for r in rows if r.figure.measure == "mae"}
    assert found["area", 1].mean == pytest.approx(0.0117)
    assert found["end", 1].values == pytest.approx([0.0117 * 0.6] * 3)
    assert found["400", 1].values == []  # no run came so far
    assert found["400", 50].values == []
    nll = next(
        r for r in beside(wanted, frame) if (r.figure.measure, r.figure.at) == ("nll", "end")
    )
    assert nll.mean == pytest.approx(-4 + 10 * 0.0117 * 0.6)
    failed = frame.assign(status="failed")
    assert all(r.values == [] for r in beside(wanted, failed))


def test_near_is_within_a_quarter():
    frame = table({"random": 0.0117 * 1.24}, spread=0.0)
    (row,) = [r for r in beside(published(), frame) if r.figure.at == "area" and r.values]
    assert row.near
    (row,) = [
        r
        for r in beside(published(), table({"random": 0.0117 * 1.26}, spread=0.0))
        if r.figure.at == "area" and r.values
    ]
    assert not row.near
    assert row.spread.count("to") == 1


# --- the study ---------------------------------------------------------------------------------


def verdict(areas, track="published", **more):
    return Balsa(track=track).verdict((), Evidence(table(areas, **more), FACTS))


def test_the_published_areas_hold():
    said = verdict(AREAS)
    assert said.holds
    assert "in the published order: yes" in said.lines
    assert sum("within 25%" in line and "not within" not in line for line in said.lines) == 4


def test_random_and_pairs_may_change_places_and_no_others():
    assert verdict({**AREAS, "random": 0.0118, "balsa-kl-pairs": 0.0112}, spread=0.0).holds
    swapped = verdict({**AREAS, "k-center": 0.0099, "random": 0.0095}, spread=0.0)
    assert not swapped.holds
    assert "in the published order: no" in swapped.lines


def test_an_area_too_far_off_fails():
    said = verdict({**AREAS, "balsa-nflows-out": 0.0117 * 1.1})
    assert not said.holds
    assert any("balsa-nflows-out" in line and "not within 25%" in line for line in said.lines)


def test_without_the_required_runs_nothing_fails():
    assert verdict({"typiclust": 0.3}).holds
    empty = Balsa(track="published").verdict((), Evidence(pd.DataFrame(), FACTS))
    assert empty.holds
    assert verdict({**AREAS, "random": 1.0}, track="corrected").holds


def test_data_sets_are_the_blocks():
    areas = {"random": 0.02, "k-center": 0.01, "balsa-emd": 0.02}
    lines = verdict(areas, track="corrected", data=("parkinsons", "diamonds", "pol")).lines
    (line,) = [line for line in lines if line.startswith("k-center against random")]
    assert "3 data sets" in line
    assert "[+" in line  # better on every one of them
    assert verdict(areas, track="corrected").lines == []  # of one data set nothing follows


def test_ranks_over_data_sets_have_a_picture_of_their_own():
    class Taken:
        def __init__(self):
            self.names = []

        def add(self, name, figure):
            self.names.append(name)
            return name

    areas = {"random": 0.02, "k-center": 0.01, "balsa-emd": 0.015}
    several, one = Taken(), Taken()
    frame = table(areas, data=("parkinsons", "diamonds"))
    assert (
        overall(per_run(frame, FACTS), frame, several)["critical_settings"] == "critical-settings"
    )
    frame = table(areas)
    assert overall(per_run(frame, FACTS), frame, one)["critical_settings"] is None
    assert "critical-settings" in several.names
    assert "critical-settings" not in one.names


def test_a_setting_has_other_metrics_calibration_and_ranks():
    frame = table({"random": 0.02, "k-center": 0.01, "balsa-emd": 0.015})
    (setting,) = settings(per_run(frame, FACTS))
    found = {p.name for p in pictures(setting, frame)}
    assert found == {"ranks", "curve-nll", "curve-crps", "calibration"}
    few = table({"random": 0.02, "k-center": 0.01}).drop(columns=["test/crps", "test/coverage_50"])
    (setting,) = settings(per_run(few, FACTS))
    assert {p.name for p in pictures(setting, few)} == {"curve-nll", "calibration"}


def test_the_published_track_shows_its_figures_and_the_other_none():
    frame = table(AREAS)
    (setting,) = settings(per_run(frame, FACTS))
    (shown,) = Balsa(track="published").additions(setting, Evidence(frame, FACTS)).tables
    assert all(len(row) == len(shown.heads) for row in shown.rows)
    assert {row[0].text for row in shown.rows} == set(AREAS)
    assert Balsa().additions(setting, Evidence(frame, FACTS)).tables == []


def test_what_it_serves_and_refuses():
    assert Balsa().serves({"model": {"class_path": "lightning_al.tasks.DensityRegression"}})
    assert not Balsa().serves({"model": {"class_path": "lightning_al.tasks.Regression"}})
    assert study_of({"name": "balsa", "track": "published"}) == Balsa(track="published")
    with pytest.raises(ValueError, match="track"):
        Balsa(track="exact")


# --- what the code's own parts choose -----------------------------------------------------------


def test_parts_conform():
    check_strategy(FarthestAtOnce())
    check_strategy(OneRefitAPoint("entropy", batch=3))


def test_farthest_at_once_takes_near_copies_and_k_center_does_not():
    world = World.make("regression", samples=1)
    embedding = torch.zeros(60, 2)
    embedding[world.labelled] = torch.tensor([0.0, 0.0])
    far = world.index[:3]
    embedding[far] = torch.tensor([[10.0, 0.0], [10.0, 0.1], [0.0, 8.0]])
    seen = world.predictions.tensors() | {"embedding": embedding}
    made = type(world)(Predictions(**seen), world.index, world.labelled, world.context)
    generator = torch.Generator().manual_seed(0)

    def chosen(strategy):
        return set(strategy.choose(made.pool(strategy), 2, generator).index.tolist())

    assert chosen(FarthestAtOnce()) == set(far[:2].tolist())
    assert far[2].item() in chosen(build("k-center"))


def test_one_refit_a_point_asks_for_a_batch_one_by_one():
    world, generator = World.make("classification", samples=1), torch.Generator().manual_seed(0)
    strategy = OneRefitAPoint("entropy", batch=4)
    whole = build("entropy")
    batch = whole.choose(world.pool(whole), 4, generator).index.tolist()
    asked, index = [], world.index
    for _ in range(4):
        pool = world.pool(strategy, index)
        (item,) = strategy.choose(pool, 1, generator).index.tolist()
        asked.append(item)
        index = index[index != item]
    assert sorted(asked) == sorted(batch)
    assert strategy.waiting == []
    state = OneRefitAPoint("entropy", batch=4)
    state.choose(world.pool(state), 3, generator)
    assert len(state.waiting) == 1
    assert state.state_dict()["waiting"] == state.waiting


# --- the shipped benches ------------------------------------------------------------------------


def test_there_is_a_bench_for_each_data_set_and_head():
    wanted = {
        f"balsa/{data}-{head}{track}"
        for data in ("parkinsons", "superconductors", "sarcos", "diamonds")
        for head in ("flow", "gaussian")
        for track in ("", "-published")
    }
    assert set(BENCHES) == wanted | {"balsa/elevators-flow", "balsa/pol-flow"}


@pytest.mark.parametrize("name", BENCHES)
def test_a_bench_says_what_it_compares(name):
    bench = read_bench(config_path(name))
    told = name.endswith("-published")
    assert study_of(bench.study) == Balsa(track="published" if told else "corrected")
    data, head = name.removeprefix("balsa/").removesuffix("-published").rsplit("-", 1)
    assert {(s.place["data"], s.place["model"]) for s in bench.runs} == {(data, head)}
    sizes = {s.place["query_size"] for s in bench.runs}
    assert sizes == ({1} if told else {1, 50, 200})
    required = {"random", "k-center", "balsa-kl-pairs", "balsa-nflows-out"}
    assert required <= {s.place["strategy"] for s in bench.runs}
    stops = {s.config["trainer"]["callbacks"][0]["init_args"]["mode"] for s in bench.runs}
    assert stops == {"max" if told else "min"}  # inverted as published


RUN = [("balsa/elevators-flow", "balsa-kl-grid"), ("balsa/parkinsons-flow-published", "bald-naive")]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "strategy"), RUN)
def test_a_run_of_it_runs(name, strategy, tmp_path):
    if (
        not (data_root() / "standin_elevators").exists()
        or not (data_root() / "parkinsons_telemonitoring").exists()
    ):
        pytest.skip(f"the tables are not below {data_root()}; LIGHTNING_AL_DATA names their folder")
    bench = read_bench(config_path(name))
    spec = next(s for s in bench.runs if s.place["strategy"] == strategy)
    config = {**spec.config, "query_size": 1, "budget": 2}
    config["trainer"] = {**config["trainer"], "max_epochs": 1}
    outcome = execute(type(spec)(spec.place, config, spec.metric, spec.higher_is_better), tmp_path)
    assert outcome["status"] == "done", outcome["error"]
    assert [math.isfinite(row[spec.metric]) for row in outcome["rows"]] == [True] * 3
