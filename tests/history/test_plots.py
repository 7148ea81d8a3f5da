"""The learning curve draws what the history holds."""

import math
import re
import sys
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from scipy import stats

from lightning_al.history.history import History
from lightning_al.history.metric_names import human_name, larger_is_better, main_metric
from lightning_al.history.plots import _spread, curves_of, learning_curve
from lightning_al.history.records import Round


def run(name, values, *, metric="test/accuracy", labels=None, **more):
    labels = labels or [10 + 5 * i for i in range(len(values))]
    rounds = [
        Round(i, n, 100 - n, {metric: v} | more, 1, None)
        for i, (n, v) in enumerate(zip(labels, values, strict=True))
    ]
    return History(".", rounds, name=name)


def lines(figure):
    return {line.get_label(): line.get_xydata().T.tolist() for line in figure.axes[0].lines}


def texts(figure):
    """What the legend says, in the axes or beside them."""
    within = figure.axes[0].get_legend()
    legends = [*figure.legends, *([] if within is None else [within])]
    return [t.get_text() for legend in legends for t in legend.get_texts()]


def test_lines_hold_the_history_and_axes_are_named():
    figure = learning_curve([run("bald", [0.5, 0.7, 0.9]), run("random", [0.5, 0.6, 0.7])])
    assert lines(figure) == {
        "bald": [[10, 15, 20], [0.5, 0.7, 0.9]],
        "random": [[10, 15, 20], [0.5, 0.6, 0.7]],
    }
    (axes,) = figure.axes
    assert axes.get_xlabel() == "labelled items"
    assert axes.get_ylabel() == "test accuracy"
    assert len({line.get_color() for line in axes.lines}) == 2
    assert all(line.get_marker() != "None" for line in axes.lines)
    assert [t.get_text() for t in axes.texts] == ["bald", "random"]
    assert texts(figure) == []


def test_a_run_alone_needs_no_name():
    figure = run("", [0.5, 0.7]).plot()
    assert texts(figure) == []
    assert list(figure.axes[0].texts) == []


def test_runs_that_end_elsewhere_are_named_in_a_legend():
    figure = learning_curve([run("a", [0.5, 0.7]), run("b", [0.5, 0.6, 0.8])])
    assert texts(figure) == ["a", "b"]
    figure = learning_curve([run(f"s{i}", [0.1 * i, 0.12 * i]) for i in range(8)])
    assert texts(figure) == [f"s{i}" for i in range(8)]
    (beside,) = figure.legends  # where so many would cover the curves
    figure.canvas.draw()
    box, axes = (x.get_window_extent() for x in (beside, figure.axes[0]))
    assert box.x0 >= axes.x1


@pytest.mark.parametrize("seeds", [3, 5])
def test_band_is_the_t_interval_of_the_mean(seeds):
    values = np.random.default_rng(0).normal(0.5, 0.1, (seeds, 4))
    (curve,) = curves_of([run("a", row.tolist()) for row in values], "test/accuracy")
    low, high = stats.t.interval(
        0.95, seeds - 1, loc=values.mean(0), scale=stats.sem(values, axis=0)
    )
    np.testing.assert_allclose(curve.y, values.mean(0))
    np.testing.assert_allclose(curve.low, low)
    np.testing.assert_allclose(curve.high, high)
    figure = learning_curve([run("a", row.tolist()) for row in values])
    assert texts(figure) == [f"95 % t-interval of the mean, {seeds} seeds"]
    assert [t.get_text() for t in figure.axes[0].texts] == ["a"]


def test_band_of_two_seeds_is_their_range():
    (curve,) = curves_of([run("a", [0.2, 0.5]), run("a", [0.4, 0.3])], "test/accuracy")
    np.testing.assert_allclose(
        [curve.low, curve.y, curve.high], [[0.2, 0.3], [0.3, 0.4], [0.4, 0.5]]
    )
    assert curve.band == "range"


def test_equal_seeds_have_a_band_of_no_width():
    (curve,) = curves_of([run("a", [0.2, 0.5])] * 4, "test/accuracy")
    np.testing.assert_allclose(curve.low, curve.high)


def test_seeds_are_averaged_where_all_of_them_have_been():
    long, coarse = run("a", [0.0, 0.5, 1.0, 1.5]), run("a", [0.0, 1.0], labels=[10, 20])
    (curve,) = curves_of([long, coarse], "test/accuracy")
    assert curve.x.tolist() == [10, 15, 20]
    np.testing.assert_allclose(curve.y, [0.0, 0.5, 1.0])  # 15 lies halfway for the coarse one
    apart = curves_of([run("a", [0.1, 0.2]), run("a", [0.3], labels=[99])], "test/accuracy")
    assert [(c.seeds, len(c.x)) for c in apart] == [(1, 2), (1, 1)]
    figure = learning_curve([run("a", [0.1, 0.2]), run("a", [0.3], labels=[99])])
    assert texts(figure) == ["a"]


def test_rounds_without_the_metric_are_left_out():
    holes = run("a", [0.5, math.nan, 0.7])
    (curve,) = curves_of([holes, run("b", [1.0], metric="test/rmse")], "test/accuracy")
    assert curve.x.tolist() == [10, 20]


def test_which_metric_is_the_main_one():
    accuracy = run("a", [0.5], metric="val/loss", **{"test/nll": 1.0, "test/accuracy": 0.5})
    assert main_metric([accuracy]) == "test/accuracy"
    assert main_metric([run("a", [1.0], metric="test/mae", **{"test/rmse": 1.0})]) == "test/rmse"
    assert main_metric([run("a", [1.0], metric="val/x", **{"test/nll": 1.0})]) == "test/nll"
    assert main_metric([run("a", [1.0], metric="val/x")]) == "val/x"
    assert main_metric([accuracy], "val/loss") == "val/loss"
    with pytest.raises(LookupError, match=r"no metric named 'test/f1'.*val/loss, test/nll"):
        learning_curve([accuracy], metric="test/f1")
    with pytest.raises(LookupError, match="no round was committed"):
        learning_curve([History(".", [])])


def test_metric_names_in_words():
    assert human_name("test/rmse") == "test RMSE"
    assert human_name("test/nll") == "test negative log-likelihood"
    assert human_name("val/top_5_accuracy") == "val top 5 accuracy"
    named = ["test/accuracy", "test/mean_auroc", "test/rmse", "val/loss", "test/width"]
    assert [larger_is_better(n) for n in named] == [True, True, False, False, None]


def test_png_and_svg_are_saved_whole(tmp_path):
    histories = [run("bald", [0.5, 0.9]), run("random", [0.4, 0.6])]
    learning_curve(histories, path=tmp_path / "deep" / "curve.png")
    with Image.open(tmp_path / "deep" / "curve.png") as picture:
        assert picture.size == (960, 600)  # 6.4 x 4 inches at 150 dpi
    for name in ("one.svg", "two.svg"):
        learning_curve(histories, path=tmp_path / name)
    svg = (tmp_path / "one.svg").read_text()
    assert svg == (tmp_path / "two.svg").read_text()  # the same run, the same file
    assert re.search(r">labelled items<", svg)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["deep", "one.svg", "two.svg"]
    with pytest.raises(ValueError, match=r"\.png or \.svg"):
        learning_curve(histories, path=tmp_path / "curve.jpg")


def test_no_pyplot_state():
    learning_curve([run("a", [0.5, 0.6])])
    pyplot = sys.modules.get("matplotlib.pyplot")
    assert pyplot is None or pyplot.get_fignums() == []


def test_labels_are_spread_in_order_with_least_movement():
    assert _spread([0.1, 0.9, 0.5], 0.06) == pytest.approx([0.1, 0.9, 0.5])
    assert _spread([0.5, 0.5], 0.06) == pytest.approx([0.47, 0.53])
    moved = _spread([0.5, 0.52, 0.55, 0.9], 0.1)
    assert moved == pytest.approx([0.42333333, 0.52333333, 0.62333333, 0.9])


@pytest.mark.parametrize(
    ("values", "place"),
    [([0.1, 0.9, 0.95], "bottom"), ([0.9, 0.2, 0.1], "top"), ([0.1, 0.2, 0.9], "top")],
)
def test_words_of_a_change_stand_where_the_curve_is_not(values, place):
    history = run("", values)
    changed = replace(history.rounds[1], amended=("budget 5 → 10",))
    history = History(".", [history.rounds[0], changed, history.rounds[2]], name="")
    (words,) = history.plot().axes[0].texts
    assert words.get_va() == place
    assert words.xy[0] == changed.n_labelled
