"""Maps of queries: what is read from run folders, what is drawn, and the page they are on."""

import json
import re
import shutil

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from lightning_al.benchmark.bench import run_bench
from lightning_al.benchmark.grid import read_bench
from lightning_al.benchmark.report import write_report
from lightning_al.benchmark.results import Results
from lightning_al.cli import main
from lightning_al.datamodules import problems
from lightning_al.policies import Policy, SetPolicy
from lightning_al.records import Outcomes
from lightning_al.studies.asal.deployment import Plan, deployment
from lightning_al.studies.asal.maps import draw
from lightning_al.studies.asal.safe_area import area_of
from lightning_al.studies.asal.traces import Trace, read_trace

T = 3
GP = {"hyperparameters": "fixed", "standardize": False, "metrics": ["rmse", "nll"]}
GP |= {"lengthscale": 0.2, "outputscale": 1.0, "noise": 0.01}
SMALL = {"branin": ("DataModule", {"candidates": 40}), "sin": ("DataModule", {"candidates": 40})}
SMALL |= {"townsend": ("PoolDataModule", {"pool_size": 40})}


def block(name, model, strategies, **more):
    kind, size = SMALL.get(name, ("PoolDataModule", {}))
    data = {
        "class_path": f"lightning_al.datamodules.Problem{kind}",
        "init_args": {"name": name, "n_test": 20, **size, **more},
    }
    task = {"class_path": "lightning_al.tasks.GPRegression", "init_args": {**GP, **model}}
    return {"data": {name: data}, "models": {"gp": task}, "strategies": strategies}


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    """A small deployment benchmark with random policies: its folder, its table and its page."""
    folder = tmp_path_factory.mktemp("deployment")
    asked = {}
    for dimension, safe in ((1, False), (2, False), (2, True)):
        torch.manual_seed(0)
        network = SetPolicy(dimension, safe=safe, width=8, heads=2, hidden=8)
        path = Policy.of(network, history=20, budget=10).save(folder / f"p{dimension}{safe}")
        asked[dimension, safe] = {"name": "policy", "policy": str(path)}
    lost = {"name": "policy", "policy": str(folder / "none")}
    safe = {"outputs": 2, "safety": True}
    given = {
        "metric": "test/rmse",
        "study": {"name": "asal", "subject": "policy", "baselines": ["safe-gp-al"]},
        "seeds": 1,
        "common": {
            **{"query_size": 1, "budget": T},
            "trainer": {"max_epochs": 1, "accelerator": "cpu", "devices": 1},
        },
        "grids": [
            {**block("sin", {}, {"policy": asked[1, False], "random": "random"})},
            {
                **block("branin", {}, {"policy": asked[2, False], "random": "random", "dad": lost}),
                "seeds": 2,
            },
            block("townsend", safe, {"policy": asked[2, True], "safe-gp-al": "safe-variance"}),
            block("fluid-system", safe, {"random": "random"}, data_dir=str(folder / "nothing")),
        ],
    }
    file = folder / "small.yaml"
    file.write_text("# Small deployment\n" + yaml.safe_dump(json.loads(json.dumps(given))))
    root = folder / "out"
    frame = run_bench(read_bench(file), root, workers=0, progress=False)
    return root, frame, write_report(root)


def trace_of(bench, data, strategy, seed=0):
    root, frame, _ = bench
    mine = frame[(frame["data"] == data) & (frame["strategy"] == strategy)]
    run_id = mine.loc[mine["seed"] == seed, "run_id"].iloc[0]
    return read_trace(root / "runs" / run_id, strategy), run_id


# --- what is read --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "strategy"),
    [("branin", "policy"), ("branin", "random"), ("townsend", "policy"), ("sin", "policy")],
)
def test_a_run_folder_says_where_it_asked(bench, data, strategy):
    trace, run_id = trace_of(bench, data, strategy)
    problem = problems.problem(data)
    assert (trace.strategy, trace.problem.name) == (strategy, data)
    assert trace.initial.shape == (problem.n_initial, problem.dimension)
    assert trace.queries.shape == (T, problem.dimension)
    lines = (bench[0] / "runs" / run_id / "journal.jsonl").read_text().splitlines()
    chosen = [r for r in map(json.loads, lines) if r["event"] == "chosen"]
    if SMALL[data][0] == "DataModule":
        written = np.array([r["x"][0] for r in chosen])
        np.testing.assert_allclose(trace.queries, written, atol=1e-6)
    # what was measured there lies by the truth: places and answers belong together
    f, g = problem.truth(torch.from_numpy(trace.queries))
    assert np.abs(trace.y - f.numpy()).max() < 0.5
    start, _ = problem.truth(torch.from_numpy(trace.initial))
    assert np.abs(trace.initial_y - start.numpy()).max() < 0.5
    if problem.safe:
        assert np.abs(trace.z - g.numpy()).max() < 0.5
        frame = bench[1]
        last = frame[(frame["run_id"] == run_id) & (frame["round"] == T)].iloc[0]
        assert 1 - trace.unsafe.mean() == pytest.approx(last["safe_share"])
    else:
        assert trace.z is None
        assert not trace.unsafe.any()


def test_outcomes_are_what_the_data_module_calls_them(tmp_path, monkeypatch):
    named = Outcomes(("y", "gap"), safety="gap")
    monkeypatch.setattr("lightning_al.datamodules.problem_data.SAFE", named)
    file = tmp_path / "run.yaml"
    safe = block("townsend", {"outputs": 2, "safety": True}, {})
    run = {"model": safe["models"]["gp"], "data": safe["data"]["townsend"], "budget": 2}
    run |= {"query_size": 1, "strategy": "safe-variance", "trainer": {"max_epochs": 1}}
    file.write_text(yaml.safe_dump(run))
    folder = tmp_path / "run"
    (history,) = main(
        ["run", "--config", str(file), "--run_dir", str(folder), "--progress", "false"]
    )
    labelled = [json.loads(line) for line in (folder / "journal.jsonl").read_text().splitlines()]
    answers = [r for r in labelled if r["event"] == "labelled"]
    assert all("gap" in json.dumps(r) for r in answers)
    trace = read_trace(folder)
    _, g = problems.problem("townsend").truth(torch.from_numpy(trace.queries))
    assert np.abs(trace.z - g.numpy()).max() < 0.5
    share = history.rounds[-1].metrics["safe_share"]
    assert 1 - trace.unsafe.mean() == pytest.approx(share)
    _, start = problems.problem("townsend").truth(torch.from_numpy(trace.initial))
    assert np.abs(trace.initial_z - start.numpy()).max() < 0.5
    with pytest.raises(ValueError, match="'gape' of y, gap"):
        Outcomes(("y", "gap"), safety="gape")


def test_strategies_of_a_seed_begin_alike(bench):
    first, _ = trace_of(bench, "branin", "policy")
    second, _ = trace_of(bench, "branin", "random")
    other, _ = trace_of(bench, "branin", "random", seed=1)
    np.testing.assert_array_equal(first.initial, second.initial)
    assert not np.array_equal(first.initial, other.initial)


def test_what_cannot_be_drawn_is_left_out(bench, tmp_path, monkeypatch):
    root, frame, _ = bench
    folders = Results(root).folders(frame)
    done = set(frame.loc[frame["status"] == "done", "run_id"])
    assert done <= set(folders)
    ended = (frame["data"] == "branin") & (frame["status"] == "done")
    run_id = frame.loc[ended, "run_id"].iloc[0]
    assert read_trace(tmp_path) is None  # no journal
    assert read_trace(folders[run_id]) is not None
    with monkeypatch.context() as elsewhere:  # another machine has not the data module
        elsewhere.setattr("lightning_al.datamodules.ProblemDataModule", None)
        assert read_trace(folders[run_id]) is None
    monkeypatch.delattr(problems.Analytic, "truth")
    assert read_trace(folders[run_id]) is None


# --- what is drawn -------------------------------------------------------------------------------


def points(axes):
    return {str(c.get_label()): c for c in axes.collections if len(c.get_offsets())}


def made(strategy="a", data="townsend", n=6, z=True):
    problem = problems.problem(data)
    g = np.random.default_rng(len(strategy))
    queries = g.random((n, problem.dimension))
    safety = np.array([1.0, -0.2] * n)[:n] if z else None
    start = g.random((problem.n_initial, problem.dimension))
    return Trace(strategy, problem, start, np.zeros(len(start)), queries, g.random(n), safety)


def test_every_query_is_drawn_once_in_its_order():
    traces = [made("a"), made("bb", n=5), made("ccc")]
    figure = draw(traces)
    panels = [axes for axes in figure.axes if axes.get_title()]
    assert [axes.get_title() for axes in panels] == ["a", "bb", "ccc"]
    for axes, trace in zip(panels, traces, strict=True):
        found = points(axes)
        np.testing.assert_allclose(found["initial points"].get_offsets(), trace.initial)
        number = np.arange(1, len(trace.queries) + 1)
        for label, rows in (
            ("queries", ~trace.unsafe),
            ("queries that were not safe", trace.unsafe),
        ):
            np.testing.assert_allclose(found[label].get_offsets(), trace.queries[rows])
            np.testing.assert_array_equal(found[label].get_array(), number[rows])
            assert (found[label].norm.vmin, found[label].norm.vmax) == (1, 6)
        assert trace.unsafe.any()


def test_the_safe_boundary_is_where_g_is_zero():
    (axes, *_) = draw([made()]).axes
    lines = next(c for c in axes.collections if c.get_label() == "safe boundary")
    path = np.concatenate([p.vertices for p in lines.get_paths()])
    _, g = problems.problem("townsend").truth(torch.from_numpy(path))
    assert len(path) > 50
    assert float(g.abs().max()) < 0.05
    (free, *_) = draw([made(data="branin", z=False)]).axes
    labels = {c.get_label() for c in free.collections}
    assert "safe boundary" not in labels
    assert "queries that were not safe" not in labels


def test_the_safe_area_of_a_run_that_measured_everywhere_is_the_whole_one():
    problem = problems.problem("townsend")
    x = torch.cartesian_prod(*[torch.linspace(0, 1, 15, dtype=torch.float64)] * 2)
    _, g = problem.truth(x)
    x, z = x.numpy(), g.numpy()
    trace = Trace("all", problem, x[:5], z[:5], x[5:], z[5:], z[5:], z[:5])
    found = area_of(trace)
    assert found["safe"] == pytest.approx(0.684, abs=0.02)  # published share of the domain
    assert 0.8 * found["safe"] < found["true_positive"] <= found["safe"]
    assert found["false_positive"] < 0.02
    unsafe = Trace("no", problem, x[:5], z[:5], x[5:], z[5:], -np.abs(z[5:]), -np.abs(z[:5]))
    assert area_of(unsafe)["true_positive"] < 0.1
    assert area_of(Trace("free", problem, x[:5], z[:5], x[5:], z[5:])) is None


def test_the_greys_are_the_true_function_the_right_way_round():
    axes = draw([made(data="branin", z=False)]).axes[0]
    filled = next(c for c in axes.collections if c.get_label() == "_f")
    x = torch.rand(50, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    f, _ = problems.problem("branin").truth(x)
    levels = filled.levels
    for at, value in zip(x.numpy(), f.numpy(), strict=True):
        inside = [i for i, path in enumerate(filled.get_paths()) if path.contains_point(at)]
        band = np.searchsorted(levels, value) - 1
        assert any(abs(i - band) <= 1 for i in inside)


def test_of_one_input_the_line_and_what_was_measured():
    trace = made(data="sin", z=False)
    axes = draw([trace]).axes[0]
    (line,) = axes.lines
    x, y = line.get_data()
    np.testing.assert_allclose(y, problems.problem("sin").truth(torch.tensor(x)[:, None])[0])
    at = points(axes)["queries"].get_offsets()
    np.testing.assert_allclose(at, np.stack([trace.queries[:, 0], trace.y], 1))


@pytest.mark.parametrize("n", [1, 2, 5, 9])
def test_each_run_has_a_panel_and_a_run_without_a_query_too(n):
    figure = draw([made("a" * (i + 1), n=i) for i in range(n)])
    assert sum(bool(axes.get_title()) for axes in figure.axes) == n


def test_problems_are_not_mixed():
    with pytest.raises(ValueError, match=r"runs of one problem, got \['townsend', 'branin'\]"):
        draw([made(), made(data="branin")])


# --- the page ------------------------------------------------------------------------------------


def test_the_page_shows_maps_safety_and_time(bench):
    root, _, report = bench
    stems = {p.stem for p in report.pictures}
    for name in ("sin", "branin", "townsend"):
        assert f"map-{name}-gp-1-a-query" in stems
        assert Image.open(root / "figures" / f"map-{name}-gp-1-a-query.png").width > 500
    assert {s for s in stems if s.startswith("safety")} == {"safety-townsend-gp-1-a-query"}
    sections = re.split(r"<h2", report.page.read_text())
    by_name = {re.match(r"[^>]*>(\S+?),? ", s).group(1): s for s in sections[1:]}
    for name in ("sin", "branin"):
        assert "<th>final RMSE</th><th>final NLL</th>" in re.sub(r"\n", "", by_name[name])
        assert "<th>safe share</th>" not in by_name[name]
    text = by_name["townsend"]
    for column in ("safe share", "unsafe distance", "ms fit", "ms query"):
        assert f"<th>{column}</th>" in text
    assert "Share of safe queries" in text
    assert "What may be declared safe at the end" in text
    assert "What may be declared safe at the end" not in by_name["branin"]
    assert "times as " in text
    assert "not run: LookupError: no policy named" in by_name["branin"]
    assert "hpfs_terms.csv" in by_name["Failed"]


def test_the_table_follows_from_the_runs(bench):
    _, frame, _ = bench
    plan = Plan("random", "policy", ("safe-gp-al",))
    rows = {(row.name, row.strategy): row for row in deployment(frame, plan)}
    assert len(rows) == 8
    assert rows["fluid-system", "random"].verdict.startswith("not run: FileNotFoundError")
    row = rows["townsend", "policy"]
    mine = frame[(frame["data"] == "townsend") & (frame["strategy"] == "policy")]
    last, before = (mine[mine["round"] == r]["test/rmse"].mean() for r in (T, T - 1))
    assert row.rmse.mean == pytest.approx(last)
    lagged = {(r.name, r.strategy): r for r in deployment(frame, plan, variant="published")}
    assert lagged["townsend", "policy"].rmse.mean == pytest.approx(before)
    assert row.ms_needed == pytest.approx(row.ms_query.mean)
    other = rows["townsend", "safe-gp-al"]
    assert other.ms_needed == pytest.approx(other.ms_query.mean + other.ms_fit.mean)


def test_a_single_run_has_its_map(bench, tmp_path):
    root = bench[0]
    _, run_id = trace_of(bench, "townsend", "policy")
    run = tmp_path / "run"
    shutil.copytree(root / "runs" / run_id, run)
    report = main(["report", str(run)])
    names = {p.name for p in report.pictures}
    assert "map-problempooldatamodule-gpregression-1-a-query.png" in names
    assert "safety-problempooldatamodule-gpregression-1-a-query.svg" in names
