"""Which runs of a grid are fitted together: told from the whole grid, whatever is done of it."""

import copy
from dataclasses import replace

import pytest
from helpers import stack_parts as parts
from helpers.bench_parts import DIGITS, MLP, SETTINGS

from lightning_al.benchmark import groups
from lightning_al.benchmark.engines import shard
from lightning_al.benchmark.grid import bench_of
from lightning_al.benchmark.groups import MOST, groups_of, units_of


def grid(**changes):
    given = copy.deepcopy(SETTINGS)
    given["common"]["fits"] = "stacked"
    return bench_of({**given, **changes})


def alike(spec):
    """What no run of a group may differ in."""
    config = copy.deepcopy(dict(spec.config))
    for name in groups.ASIDE:
        config.pop(name, None)
    config["data"]["init_args"].pop("split_seed", None)
    return config, spec.place["data"], spec.place["model"], spec.place["start"], spec.place["fold"]


def test_groups_share_all_but_seed_and_strategy():
    bench = grid(
        data={"a": DIGITS, "b": DIGITS | {"init_args": {"initial": 30}}},
        models={"x": MLP, "y": {**MLP, "init_args": {**MLP["init_args"], "lr": 0.1}}},
        starts={"few": {"data.initial": 10}, "many": {"data.initial": 40}},
        query_sizes=[1, 5],
        seeds=3,
    )
    assert len(bench.groups) == 2 * 2 * 2 * 2
    told = [spec.run_id for group in bench.groups for spec in group]
    assert sorted(told) == sorted(spec.run_id for spec in bench.runs)
    for group in bench.groups:
        assert len(group) == 6
        assert all(alike(spec) == alike(group[0]) for spec in group)
        assert len({(s.place["strategy"], s.place["seed"]) for s in group}) == 6


def test_data_under_two_names_are_two_groups():
    assert {len(g) for g in grid(data={"a": DIGITS, "b": DIGITS}).groups} == {4}


@pytest.mark.parametrize("fits", ["lightning", "lean", "auto", None])
def test_without_stacked_fits_every_run_is_alone(fits):
    given = copy.deepcopy(SETTINGS)
    if fits is not None:
        given["common"]["fits"] = fits
    bench = bench_of(given)
    assert bench.groups == ()
    assert bench.units() == [(spec,) for spec in bench.runs]


def test_what_cannot_be_stacked_by_declaration_is_alone():
    bench = grid(ceilings=["full-data", "greedy-oracle"])
    (group,) = bench.groups
    assert {s.place["strategy"] for s in group} == {"random", "margin", "greedy oracle"}
    process = {"class_path": "lightning_al.tasks.GPClassification"}
    assert grid(models={"gp": process}).groups == ()
    common = {**SETTINGS["common"], "fits": "stacked", "tuning": {"space": {"model.lr": [0.1]}}}
    assert grid(common=common).groups == ()  # seeds are tuned to other settings
    unknown = {"class_path": "helpers.no_such.Task"}  # the run says so
    assert len(grid(models={"unknown": unknown}).groups) == 1


def test_settings_that_a_strategy_brings_divide_only_where_they_change_the_fit():
    posterior = {"class_path": "MCDropout", "init_args": {"members": 3}}
    strategies = {
        "random": None,
        "bald": {"strategy": "bald", "posterior": posterior},
        "long": {"strategy": "margin", "trainer.max_epochs": 9},
    }
    found = [{s.place["strategy"] for s in g} for g in grid(strategies=strategies).groups]
    assert found == [{"random", "bald"}, {"long"}]


@pytest.mark.parametrize(
    ("seeds", "strategies", "sizes"),
    [
        (50, 3, [50, 50, 50]),  # a strategy a group
        (10, 9, [60, 30]),
        (1, 2, [2]),
        (64, 1, [64]),
        (65, 1, [32, 33]),
        (130, 1, [43, 43, 44]),
        (40, 2, [40, 40]),
        (2, 1, [2]),
        (1, 1, []),
    ],
)
def test_a_group_holds_whole_strategies_where_it_can(seeds, strategies, sizes):
    names = ["random", "margin", "entropy", "least-confidence", "k-center", "badge", "typiclust",
             "core-gcn", "max-herding"]  # fmt: skip
    bench = grid(seeds=seeds, strategies=names[:strategies])
    assert [len(group) for group in bench.groups] == sizes
    assert max(sizes, default=0) <= MOST
    for name in names[:strategies]:
        holding = [g for g in bench.groups if any(s.place["strategy"] == name for s in g)]
        assert len(holding) == (-(-seeds // MOST) if seeds * strategies > 1 else 0)


def test_a_part_of_the_grid_has_the_groups_of_the_whole():
    bench = grid(seeds=40, strategies=["random", "margin", "entropy"])
    part = replace(bench, runs=[s for s in bench.runs if s.place["strategy"] == "margin"])
    assert part.units() == [bench.groups[1]]
    one = replace(bench, runs=bench.runs[-1:])
    assert one.units() == [bench.groups[-1]]
    assert groups_of(bench.runs) == bench.groups


def test_shards_hand_out_whole_groups_once():
    bench = grid(seeds=7, query_sizes=[1, 2, 5], ceilings=["full-data"])
    units = bench.units()
    assert [s for u in units for s in u] != list(bench.runs)  # a group is not one piece of the grid
    handed = [unit for i in range(3) for unit in shard(units, f"{i}/3")]
    assert sorted(s.run_id for u in handed for s in u) == sorted(s.run_id for s in bench.runs)
    assert {len(u) for u in units} == {1, 14}
    for i in range(3):
        runs = [spec for unit in shard(units, f"{i}/3") for spec in unit]
        assert units_of(runs, bench.groups) == list(shard(units, f"{i}/3"))


def test_groups_of_the_tests_are_what_they_are_for():
    (group,) = bench_of(parts.settings()).groups
    assert len(group) == 6
