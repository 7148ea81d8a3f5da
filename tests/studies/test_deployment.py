"""The deployment table: its figures by hand, what it says of them, and the shipped grid."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from lightning_al.assembly.shipped import config_path
from lightning_al.benchmark.execute import execute
from lightning_al.benchmark.grid import read_bench
from lightning_al.benchmark.run_spec import RunSpec
from lightning_al.benchmark.shown_numbers import spread
from lightning_al.benchmark.statistics import Interval, bootstrap_mean
from lightning_al.benchmark.study import study_of
from lightning_al.datamodules import problems
from lightning_al.studies import Asal
from lightning_al.studies.asal.deployment import Plan, deployment, paired_t, per_query
from lightning_al.studies.asal.deployment_table import columns, markdown, sentences

T = 3
RANDOM = (1.0, 1.2, 1.4, 1.6, 1.8)
GAPS = (0.1, 0.2, 0.3, 0.4, 0.5)


def runs(name, finals, *, share=1.0, fit=0.1, query=0.002, model=True, data="townsend", **more):
    """Runs of T queries, one a value: errors fall by 0.5 a round down to it, times grow by round.

    Round r takes fit * (r + 1) to fit and query * (r + 1) to choose, half of it for the scores.
    """
    rows = []
    for seed, final in enumerate(finals):
        for r in range(T + 1):
            error, asked = final + 0.5 * (T - r), r < T
            rows.append(
                {
                    **{"run_id": f"{data}-{name}-{seed}", "data": data, "model": "gp"},
                    **{"strategy": name, "start": "", "query_size": 1, "fold": -1, "seed": seed},
                    **{"role": "strategy", "takes_all": False},
                    **{"status": "done", "error": "", "metric": "test/rmse", "value": error},
                    **{"higher_is_better": False, "host": "", "round": r, "n_labelled": 5 + r},
                    **{"test/rmse": error, "test/nll": 2 * error, "n_acquired": int(asked)},
                    **{"seconds_fit": fit * (r + 1), "asks_model": model},
                    "seconds_score": 0.5 * query * (r + 1) if asked else 0.0,
                    "seconds_choose": 0.5 * query * (r + 1) if asked else 0.0,
                    "safe_share": share if r else math.nan,
                    "unsafe_distance": 1 - share if r else math.nan,
                    **more,
                }
            )
    return rows


def table(*parts):
    return pd.DataFrame([row for part in parts for row in part])


def policy(gaps=GAPS, **more):
    finals = [r - g for r, g in zip(RANDOM, gaps, strict=True)]
    return runs("policy", finals, **{"model": False, **more})


def planned(**more):
    return Plan("random", "policy", ("safe-gp-al", "gp-al"), **more)


def found(frame, **how):
    return {row.strategy: row for row in deployment(frame, how.pop("plan", planned()), **how)}


# --- figures -------------------------------------------------------------------------------------


def test_the_figures_by_hand():
    rows = found(table(policy(share=0.9), runs("random", RANDOM), runs("gp-al", RANDOM)))
    assert list(rows) == ["policy", "gp-al", "random"]
    row = rows["policy"]
    finals = [0.9, 1.0, 1.1, 1.2, 1.3]
    assert (row.name, row.runs, row.place) == ("townsend", 5, ("townsend", "gp", "", 1))
    assert row.rmse.mean == pytest.approx(1.1)
    interval = bootstrap_mean(finals)
    assert (row.rmse.low, row.rmse.high) == pytest.approx((interval.low, interval.high))
    assert row.nll.mean == pytest.approx(2.2)
    assert row.safe_share == Interval(0.9, 0.9, 0.9, 5)
    assert row.unsafe_distance.mean == pytest.approx(0.1)
    # rounds 1 and 2 of 0, 1, 2 count, the last one asks nothing
    assert row.ms_fit.mean == pytest.approx(1000 * 0.1 * (2 + 3) / 2)
    assert row.ms_query.mean == pytest.approx(1000 * 0.002 * (2 + 3) / 2)
    assert row.ms_first.mean == pytest.approx(2.0)
    assert row.difference == pytest.approx(-0.3)
    assert row.pairs == 5


def test_published_errors_lag_one_query_behind():
    frame = table(policy(), runs("random", RANDOM))
    now, then = found(frame)["policy"], found(frame, variant="published")["policy"]
    assert then.rmse.mean == pytest.approx(now.rmse.mean + 0.5)
    assert then.nll.mean == pytest.approx(now.nll.mean + 1.0)
    assert (then.safe_share, then.ms_query) == (now.safe_share, now.ms_query)
    alone = frame[frame["round"] == 0]
    assert math.isnan(found(alone, variant="published")["policy"].rmse.mean)
    assert found(alone)["policy"].rmse.n == 5


def test_only_what_chooses_with_the_model_pays_for_its_fit():
    frame = table(policy(), runs("random", RANDOM, model=False), runs("gp-al", RANDOM, query=0.02))
    rows = found(frame)
    assert rows["policy"].ms_needed == pytest.approx(5.0)
    assert rows["random"].ms_needed == pytest.approx(5.0)
    assert rows["gp-al"].ms_needed == pytest.approx(250 + 50)
    assert rows["policy"].speedup == pytest.approx(60)
    assert rows["gp-al"].speedup == 1
    assert rows["policy"].verdict.endswith("a query 60 times as fast as gp-al's")
    unknown = frame.drop(columns="asks_model")  # then a query is never made cheaper than it was
    assert found(unknown)["policy"].ms_needed == pytest.approx(255.0)
    safe = table(policy(), runs("gp-al", RANDOM), runs("safe-gp-al", RANDOM, fit=0.2))
    assert found(safe)["policy"].speedup == pytest.approx(505 / 5)
    slow = table(policy(query=1.0), runs("gp-al", RANDOM))
    assert "times as slow as gp-al's" in found(slow)["policy"].verdict


def test_a_single_query_is_its_own_figure():
    frame = table(policy())
    run = frame[(frame["seed"] == 0) & (frame["round"].isin([0, 3]))]
    assert per_query(run)["ms_query"] == pytest.approx(2.0)
    nothing = per_query(frame[(frame["seed"] == 0) & (frame["round"] == 3)])
    assert math.isnan(nothing["ms_query"])
    assert math.isnan(nothing["ms_first"])


def test_what_the_results_do_not_hold_is_not_a_number():
    frame = table(runs("a", RANDOM), runs("random", RANDOM))
    bare = frame.drop(columns=["safe_share", "unsafe_distance", "test/nll", "test/rmse"])
    rows = deployment(bare, planned())
    assert [row.words for row in rows] == [(), ()]
    assert all(math.isnan(r.safe_share.mean) and not r.unsafe and r.rmse.n == 0 for r in rows)
    assert [c.field for c in columns(rows)] == ["ms_fit", "ms_query", "ms_first"]
    assert columns(rows, times=False) == []
    every = [c.field for c in columns(deployment(frame), times=False)]
    assert every == ["rmse", "nll", "safe_share", "unsafe_distance"]
    assert deployment(pd.DataFrame()) == []


# --- verdicts ------------------------------------------------------------------------------------


def test_the_paired_t_test_in_closed_form():
    # mean 0.3, deviation 0.1 sqrt(2.5): t = 3 sqrt(2); with 4 degrees of freedom
    t = 3 * math.sqrt(2)
    sine, cosine2 = t / math.sqrt(t * t + 4), 4 / (t * t + 4)
    assert paired_t(GAPS) == pytest.approx(1 - sine * (1 + cosine2 / 2))
    draws = np.random.default_rng(0).normal(0.3, 1, (20, 6))
    for x in draws:
        assert paired_t(x) == pytest.approx(stats.ttest_1samp(x, 0).pvalue)
    assert (paired_t([0.0, 0.0]), paired_t([2.0, 2.0])) == (1.0, 0.0)
    assert math.isnan(paired_t([1.0]))


@pytest.mark.parametrize(
    ("gaps", "said"),
    [
        (GAPS, "better than random at n = 5"),
        (tuple(-g for g in GAPS), "worse than random at n = 5"),
        ((-0.1, 0.2, -0.3, 0.4, 0.1), "not told apart from random at n = 5"),
    ],
)
def test_the_policy_is_compared_with_random(gaps, said):
    rows = found(table(policy(gaps), runs("random", RANDOM)))
    assert rows["policy"].words[0] == said
    assert rows["policy"].p == pytest.approx(paired_t(gaps))
    assert rows["random"].words == ()


def test_one_seed_tells_nothing():
    row = found(table(runs("policy", RANDOM[:1]), runs("random", RANDOM[1:2])))["policy"]
    assert row.words == ("not told apart from random at n = 1",)
    assert spread(row.rmse) == "1"


def test_the_other_strategies_are_corrected_among_themselves():
    others = {f"s{i}": [r - g for r, g in zip(RANDOM, GAPS, strict=True)] for i in range(4)}
    frame = table(policy(), runs("random", RANDOM), *(runs(n, v) for n, v in others.items()))
    rows = found(frame)
    p = paired_t(GAPS)
    assert p < 0.05 < 4 * p
    assert rows["policy"].p == pytest.approx(p)
    assert rows["policy"].better == "better"
    assert {rows[n].better for n in others} == {"not told apart"}
    assert rows["s0"].p == pytest.approx(4 * p)


@pytest.mark.parametrize(
    ("share", "gamma", "flagged"),
    [(0.95, 0.05, False), (0.9499, 0.05, True), (0.9499, 0.1, False), (0.0, 1.0, False)],
)
def test_too_few_safe_queries_are_flagged(share, gamma, flagged):
    rows = found(table(policy(share=share), runs("random", RANDOM)), plan=planned(gamma=gamma))
    assert rows["policy"].unsafe == flagged
    assert not rows["random"].unsafe
    text = f"under {100 - 100 * gamma:g} % safe queries at gamma = {gamma:g}"
    assert (text in rows["policy"].verdict) == flagged


def test_what_failed_is_not_run():
    broken = runs("dad", RANDOM, status="failed", error="LookupError: no policy\nand more")
    broken = [row for row in broken if row["round"] == 0]  # failed runs have one row
    frame = table(policy(), runs("random", RANDOM), broken)
    frame.loc[frame["run_id"] == "townsend-policy-4", ["status", "error"]] = "failed", "it broke"
    rows = found(frame)
    assert rows["dad"].verdict == "not run: LookupError: no policy (5 of 5 runs)"
    assert (rows["dad"].runs, rows["dad"].rmse.n) == (0, 0)
    assert (rows["policy"].runs, rows["policy"].pairs) == (4, 4)
    assert rows["policy"].missing == "some runs failed: it broke (1 of 5 runs)"
    assert rows["policy"].verdict.endswith("; some runs failed: it broke (1 of 5 runs)")
    other = table(runs("policy", RANDOM, data="lgbb", status="failed", error="FileNotFoundError"))
    both = deployment(pd.concat([frame, other]), planned())
    assert [row.name for row in both] == ["lgbb", "townsend", "townsend", "townsend"]
    assert both[0].verdict == "not run: FileNotFoundError (5 of 5 runs)"


def test_unknown_settings_are_refused():
    with pytest.raises(ValueError, match="'corrected' or 'published', got 'lagged'"):
        deployment(table(policy()), variant="lagged")
    with pytest.raises(ValueError, match="gamma is a probability"):
        Asal(gamma=2)
    named = {"name": "asal", "subject": "polcy", "baselines": ["gp-al", "random", "sparse"]}
    with pytest.raises(ValueError, match=r"grid, which has policy, .*; got polcy, sparse"):
        study_of(named).check(SHIPPED.runs)


def test_the_subject_is_the_one_that_is_named():
    named = Plan("random", "dad", ("gp-al",))
    frame = table(
        policy(), runs("dad", RANDOM, query=0.02), runs("gp-al", RANDOM), runs("random", RANDOM)
    )
    rows = found(frame, plan=named)
    assert {n for n, row in rows.items() if row.subject} == {"dad"}
    assert next(iter(rows)) == "dad"
    assert [n for n, row in rows.items() if "times as" in row.verdict] == ["dad"]
    assert rows["policy"].p == pytest.approx(2 * paired_t(GAPS))  # one of two now, corrected
    assert rows["dad"].p == 1
    assert not any(row.subject for row in found(frame, plan=Plan("random")).values())


def test_without_names_two_are_compared_with_each_other():
    two = table(policy(), runs("gp-al", RANDOM))
    rows = found(two, plan=Plan("gp-al"))
    assert rows["policy"].subject
    assert rows["policy"].words[0] == "better than gp-al at n = 5"
    assert rows["policy"].words[-1] == "a query 51 times as fast as gp-al's"
    free = table(policy(), runs("random", RANDOM, model=False))  # a price without a model's is none
    assert "times as" not in found(free, plan=Plan("random"))["policy"].verdict


def test_ceilings_are_no_rows_whatever_they_are_called():
    ceiling = runs("policy-at-best", RANDOM, role="ceiling")
    assert set(found(table(policy(), runs("random", RANDOM), ceiling))) == {"policy", "random"}
    named = runs("full data", RANDOM)
    assert "full data" in found(table(policy(), named))


def test_the_table_as_text():
    broken = runs("dad", RANDOM[:1], status="failed", error="no | policy")[:1]
    frame = table(policy(share=0.5), runs("random", RANDOM, share=0.9), broken)
    rows = deployment(frame, planned())
    lines = markdown(rows).splitlines()
    assert len(lines) == 2 + 3
    cells = [line.replace("\\|", "").count("|") for line in lines]
    assert len(set(cells)) == 1
    assert lines[2].startswith("| townsend | policy | 5 | 1.1 ± ")
    assert "not run: no \\| policy" in lines[3]
    said = list(sentences(rows))
    assert said[0].startswith("policy: better than random at n = 5 (final RMSE 0.3 lower")
    assert said[1:] == [
        "under 95 % safe queries at gamma = 0.05: random.",
        "dad: not run: no | policy (1 of 1 runs).",
    ]
    assert list(sentences(rows, missing=False)) == said[:-1]


# --- the shipped grid ----------------------------------------------------------------------------

SHIPPED = read_bench(config_path("benchmarks/deployment"))


def test_the_grid_has_every_problem_with_its_own_horizon():
    names = {spec.place["data"] for spec in SHIPPED.runs}
    assert names == set(problems.names())
    for spec in SHIPPED.runs:
        problem = problems.problem(spec.place["data"])
        config, strategy = spec.config, spec.place["strategy"]
        assert config["data"]["init_args"]["name"] == problem.name
        assert (config["budget"], config["query_size"]) == (problem.horizon, 1)
        model = config["model"]["init_args"]
        assert model["hyperparameters"] == "gamma"
        assert (model.get("outputs"), model.get("safety", False)) == (
            (2, True) if problem.safe else (None, False)
        )
        box = config["data"]["class_path"].endswith(".ProblemDataModule")
        assert box == (problem.name in ("sin", "branin"))
        small = config["data"]["init_args"].get("pool_size")
        assert small == (5000 if problem.name == "fluid-system" and strategy != "policy" else None)
    assert {spec.place["seed"] for spec in SHIPPED.runs} == set(range(20))


def test_the_grid_has_the_strategies_of_each_problem():
    for name in problems.names():
        mine = {s.place["strategy"] for s in SHIPPED.runs if s.place["data"] == name}
        problem = problems.problem(name)
        wanted = {"policy", "random", "sparse-gp", "marginal-gp"}
        if problem.safe:
            wanted |= {"policy-filtered", "safe-gp-al", "min-unsafe-entropy", "safe-random"}
        else:
            wanted |= {"gp-al", "sobol"} | ({"dad"} if problem.dimension <= 2 else set())
        assert mine == wanted


CHEAP = {
    (s.place["data"], s.place["strategy"]): s
    for s in SHIPPED.runs
    if s.place["data"] in ("branin", "townsend") and s.place["strategy"] not in ("policy", "dad")
}


@pytest.mark.parametrize("key", CHEAP, ids=" ".join)
def test_each_baseline_of_it_runs(key, tmp_path):
    spec = CHEAP[key]
    size = {"pool_size": 40} if key[0] == "townsend" else {"candidates": 40}
    data = {**spec.config["data"], "init_args": {"name": key[0], "n_test": 20, **size}}
    model = {**spec.config["model"]["init_args"], "starts": 1}
    model |= {"samples": 2, "warm_up": 2} if key[1] == "marginal-gp" else {}
    config = {**spec.config, "data": data, "budget": 2}
    config["model"] = {**spec.config["model"], "init_args": model}
    outcome = execute(RunSpec(spec.place, config, spec.metric, spec.higher_is_better), tmp_path)
    assert outcome["status"] == "done", outcome["error"]
    rows = outcome["rows"]
    assert len(rows) == 3
    assert {"test/rmse", "test/nll"} <= set(rows[-1])
    assert ("safe_share" in rows[-1]) == (key[0] == "townsend")
    free = key[1] in ("random", "sobol", "policy-filtered")  # its filter has a model of its own
    assert {row["asks_model"] for row in rows} == {not free}
