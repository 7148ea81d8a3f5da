"""What the study of deployments adds to a page, where a benchmark names it."""

import re

import numpy as np
import pytest
from helpers.bench_parts import FACTS, made, parts

from lightning_al.benchmark.report import report_of
from lightning_al.benchmark.study import STUDIES, study_of_run
from lightning_al.benchmark.summary import per_run, settings
from lightning_al.studies.asal.safety_curve import safety_curve

STUDY = {"name": "asal", "subject": "policy"}
RMSE = {**FACTS, "metric": "test/rmse"}


def safe_runs(share=0.9):
    """The second data set measures safety, the first one does not."""
    frame = made(seeds=3, metric="test/rmse", up=False, leads={"random": 0.0, "policy": 0.05})
    frame["value"] += 2
    frame["test/rmse"] = frame["value"]
    measured = (frame["data"] == "two") & (frame["round"] > 0)
    frame.loc[measured, ["safe_share", "unsafe_distance"]] = share, 0.1
    frame["n_acquired"] = (frame["round"] < 2).astype(int)
    return frame


def test_columns_are_shown_where_the_results_have_them(tmp_path):
    report = report_of(safe_runs(), {**RMSE, "study": STUDY}, tmp_path)
    sections = parts(report.page.read_text())
    heads = {
        n: re.findall(r"<th>([a-z ]*(?:RMSE|safe|ms)[a-z ]*)</th>", s) for n, s in sections.items()
    }
    assert heads["one"] == ["final RMSE", "ms fit", "ms query"]
    assert heads["two"] == ["final RMSE", "safe share", "unsafe distance", "ms fit", "ms query"]
    assert "At deployment" in sections["one"]
    assert "Share of safe queries" not in sections["one"]
    assert "Share of safe queries" in sections["two"]
    assert {p.stem for p in report.pictures if "safety" in p.name} == {"safety-two-net-10-a-query"}
    assert "under 95 % safe queries at gamma = 0.05" in sections["two"]
    assert sections["two"].count('<td class="worse">0.9 ± 0</td>') == 2
    assert "fit</th>" not in sections["How"]
    fine = report_of(safe_runs(0.97), {**RMSE, "study": STUDY}, tmp_path / "fine")
    assert 'class="worse">0.97' not in fine.page.read_text()


def test_nothing_of_it_is_shown_where_the_benchmark_does_not_name_it(tmp_path):
    # the same strategies, the same columns
    plain = report_of(safe_runs(), RMSE, tmp_path)
    text = plain.page.read_text()
    assert "At deployment" not in text
    assert "safe share" not in text
    assert not [p for p in plain.pictures if "safety" in p.name]


def test_the_tolerance_is_that_of_the_study(tmp_path):
    report = report_of(safe_runs(), {**RMSE, "study": {**STUDY, "gamma": 0.2}}, tmp_path)
    two = parts(report.page.read_text())["two"]
    assert 'class="worse">0.9' not in two
    assert "dashed: 80\N{NO-BREAK SPACE}%" in two


def test_the_curve_of_safety_is_drawn_against_queries():
    frame = safe_runs()
    one, two = settings(per_run(frame, RMSE))
    assert safety_curve(one, frame) is None
    assert safety_curve(two, made()) is None
    (axes,) = safety_curve(two, frame).axes
    assert axes.get_xlabel() == "queries"
    *curves, limit = axes.lines
    for curve in curves:
        np.testing.assert_allclose(curve.get_data(), [[10, 30], [0.9, 0.9]])
    assert set(limit.get_ydata()) == {0.95}


@pytest.mark.parametrize(
    ("data", "served"),
    [
        ({"class_path": "lightning_al.datamodules.ProblemDataModule",
          "init_args": {"name": "branin"}}, True),
        ({"class_path": "helpers.small.MeasuredLine"}, True),
        ({"class_path": "lightning_al.datamodules.DigitsDataModule"}, False),
        ({"class": "Lost", "items": 3}, False),
    ],
)  # fmt: skip
def test_it_serves_single_runs_by_what_their_data_declare(data, served):
    assert "asal" in STUDIES
    assert study_of_run({"data": data, "strategy": "margin"}) == ("asal" if served else None)
