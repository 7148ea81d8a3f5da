"""What a run shows of itself: five lines, a page of a notebook, files beside its journal."""

import base64
import html
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from helpers import small

from lightning_al.datamodules import ActiveDataModule, ContinuousDataModule
from lightning_al.history.curves import LearningCurve
from lightning_al.history.history import History
from lightning_al.history.records import Round
from lightning_al.history.round_log import RoundLog
from lightning_al.policies import Policy, SetPolicy

PNG = b"\x89PNG\r\n\x1a\n"
FILES = {"metrics.csv", "acquired.csv", "curve.png"}


def rounds(metrics):
    return tuple(
        Round(r, 10 + 5 * r, 80 - 5 * r, values, 4, None, acquired=list(range(5 * r, 5 * r + 5)))
        for r, values in enumerate(metrics)
    )


HISTORIES = {
    "accuracy": (
        History(Path("runs/a"), rounds([{"test/accuracy": v} for v in (0.5, 0.9, 0.8)]), "spent"),
        ["3 round(s), ended: spent", "labelled 10 to 20, 15 bought", "best 0.9 at 15 labels"],
    ),
    "an error that shrinks": (
        History(Path("b"), rounds([{"test/rmse": v} for v in (3.0, 1.0)]), name="random"),
        ["History of random: 2 round(s), not at its end", "RMSE 3 to 1, best 1 at 15 labels"],
    ),
    "nobody's test": (History(Path("c"), rounds([{"train/loss": 1.0}])), ["1 round(s)"]),
    "nothing yet": (History(Path("d"), (), "please answer", waiting=True), ["waiting for answers"]),
    "an error": (
        History(Path("e"), (), "error: <no disk>", failed=True),
        ["ended by error: <no disk>"],
    ),
}


@pytest.mark.parametrize("case", HISTORIES)
def test_a_history_in_five_lines_and_as_a_page(case):
    history, wanted = HISTORIES[case]
    text, page = repr(history), history._repr_html_()
    assert len(text.splitlines()) <= 5
    for part in wanted:
        assert part in text
    assert str(history.run_dir) in text
    assert "<no disk>" not in page
    assert ("<table" in page) is bool(history.rounds)
    pictures = re.findall(r"base64,([^\"]+)", page)
    assert len(pictures) == ("test" in str(history.rounds and history.rounds[0].metrics))
    assert all(base64.b64decode(code).startswith(PNG) for code in pictures)


def test_a_long_history_is_a_short_page():
    long = History(Path("x"), rounds([{"test/accuracy": 0.5}] * 300))
    assert long._repr_html_().count("<tr") < 30


def test_a_plot_shows_itself():
    history, _ = HISTORIES["accuracy"]
    assert history.plot()._repr_png_().startswith(PNG)


DATA = {
    "not read": (lambda: small.datamodule(), ["Blobs, not read yet", "initial 6"]),
    "read": (lambda: ready(small.datamodule()), ["Blobs of 60 items", "labelled 6, pool 54"]),
    "held out": (
        lambda: ready(ActiveDataModule(small.blobs(), 0.25, val=0.25, initial=5)),
        ["pool 29", "val 11", "test 15", "batches of 32"],
    ),
    "a box": (
        lambda: ready(ContinuousDataModule([0.0] * 2, [1.0] * 2, lambda x: x.sum(1), test=20)),
        ["ContinuousDataModule", "inputs [2]", "1 number(s)", "test 20"],
    ),
    "outcomes": (lambda: ready(small.safe_datamodule()), ["outcomes y, z"]),
}


def ready(data):
    data.setup()
    return data


@pytest.mark.parametrize("case", DATA)
def test_data_in_five_lines(case):
    build, wanted = DATA[case]
    data = build()
    assert len(repr(data).splitlines()) <= 5
    assert str(data) == repr(data)
    for part in wanted:
        assert part in repr(data)


@pytest.mark.parametrize("case", DATA)
def test_data_as_a_page(case):
    data = DATA[case][0]()
    page = data._repr_html_()
    assert page.startswith("<pre>")
    assert html.unescape(re.search(r"<pre>(.*?)</pre>", page, re.S)[1]) == repr(data)
    assert ("<table>" in page) is (case == "read")  # nobody else has classes


HOSTILE = [
    ("<script>alert(1)</script>", "b", "c"),
    ('"><img src=x onerror=alert(1)>', "</pre></td></table>", "&lt;"),
    ("a&b", "'; --", "\u202e<b>"),
    tuple(f"<i>{n}" for n in range(40)),
]


@pytest.mark.parametrize("names", HOSTILE)
def test_names_of_classes_are_text_on_the_page(names):
    data = small.datamodule()
    data.classes, data.class_names = len(names), names
    data.setup()
    page = data._repr_html_()
    assert set(re.findall(r"</?(\w+)", page)) == {"pre", "table", "tr", "th", "td"}
    cells = [html.unescape(cell) for cell in re.findall(r"<td>(.*?)</td>", page)]
    assert cells[0:6:2] == list(names[:3])
    assert sum(int(cell) for cell in cells[1:6:2]) == 6  # three of them occur
    assert len(cells) <= 42


@pytest.mark.parametrize("training", [{}, {"summary": "trained 10 of 20 steps"}])
def test_a_policy_in_five_lines(training):
    policy = Policy.of(SetPolicy(dimension=2), history=5, budget=7, **training)
    said = repr(policy)
    assert len(said.splitlines()) <= 5
    assert "dimension 2" in said
    assert "5 points of history and 7 queries" in said
    assert training.get("summary", "is not known") in said


# --- files of a run from Python --------------------------------------------------------------


class Watch:
    def run_started(self, plan, done): ...
    def stage_started(self, round, stage): ...
    def round_ended(self, round, datamodule): ...
    def run_ended(self, history): ...


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({}, FILES),
        ({"observers": [Watch()]}, FILES),
        ({"observers": [RoundLog(), LearningCurve(file="mine.svg")]}, {*FILES, "mine.svg"}),
        ({"files": False}, set()),
        ({"files": False, "observers": [RoundLog()]}, {"metrics.csv", "acquired.csv"}),
    ],
)
def test_a_run_writes_its_tables_and_its_picture(learner, changes, wanted):
    history = learner(**({"files": True} | changes)).run()
    found = {path.name for path in history.run_dir.iterdir()}
    mine = wanted - ({"curve.png"} if "mine.svg" in wanted else set())
    assert found & {*FILES, "mine.svg"} == mine


def test_files_belong_to_no_identity(learner):
    first = learner(files=False).run()
    again = learner(files=True).run()
    assert again.rounds == first.rounds
    assert (first.run_dir / "metrics.csv").exists()


def test_a_history_can_be_changed_as_before():
    history, _ = HISTORIES["accuracy"]
    assert replace(history, name="other").name == "other"
    assert torch.tensor(len(history)) == 3
