"""Label values of real fits: planted wrong labels, resuming, and bad input."""

import csv

import pytest
import torch
from helpers import small
from pytorch_lightning import LightningModule
from sklearn.metrics import average_precision_score
from torch import nn

import lightning_al
from lightning_al import label_values
from lightning_al.cli import main
from lightning_al.networks import MLP
from lightning_al.tasks import Classification, Regression
from lightning_al.valuing import refitted

TRAINER = small.TRAINER | {"max_epochs": 8}
WRONG = [3, 10, 17, 24]


def planted(**changes):
    """Forty labelled items of three clouds, four of which have the next class as their label."""
    items = small.blobs(60, noise=0.3)
    items.targets[WRONG] = (items.targets[WRONG] + 1) % 3
    return small.datamodule(items, **({"initial": list(range(40)), "batch_size": 10} | changes))


def task():
    return Classification(MLP(4, (16,), 3), 3, lr=0.03)


def bottom(found):
    wrong = torch.isin(found.index, torch.tensor(WRONG))
    return average_precision_score(wrong, -found.values)


def values(data, folder=None, **changes):
    settings = {"trainer": TRAINER, "refits": 192, "folder": folder, "progress": False}
    return label_values(task, data, **(settings | changes))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    return values(planted(val=small.blobs(30, seed=2, noise=0.3)), folder), folder


def test_planted_wrong_labels_come_last(whole):
    found, _ = whole
    assert found.index.tolist() == list(range(40))
    assert found.refits == 192
    assert found.r2 > 0.1
    assert bottom(found) > 0.8
    assert torch.equal(found.values[found.order], found.values.sort(descending=True).values)


def test_items_judge_in_turns_where_there_is_no_validation_set():
    found = values(planted(), parts=4)
    assert bottom(found) > 0.3  # one in ten is wrong


def test_it_goes_on_where_it_was_cut_off(whole, tmp_path, monkeypatch):
    wanted, folder = whole
    lines = (folder / "losses.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "losses.jsonl").write_text("".join(lines[:129]) + lines[129][:5])
    asked = []
    losses_of = refitted.losses_of

    def spy(bench, design, first, last, told):
        asked.append((first, last))
        return losses_of(bench, design, first, last, told)

    monkeypatch.setattr("lightning_al.valuing.valuation.losses_of", spy)
    data = planted(val=small.blobs(30, seed=2, noise=0.3))
    found = values(data, tmp_path)
    assert asked == [(128, 192)]
    torch.testing.assert_close(found.values, wanted.values, atol=1e-6, rtol=1e-4)
    assert (tmp_path / "losses.jsonl").read_text().count("\n") == 193
    again = values(data, tmp_path, refits=128)
    assert (asked, again.refits) == ([(128, 192)], 128)
    for other in ({"seed": 1}, {"fits": "lean", "objective": "val/accuracy"}):
        with pytest.raises(ValueError, match="holds losses of other labels"):
            values(data, tmp_path, **other)
    data.acquire([50])
    with pytest.raises(ValueError, match="holds losses of other labels"):
        values(data, tmp_path)


def test_seconds_end_it_after_a_lot(monkeypatch):
    monkeypatch.setattr(refitted, "AT_ONCE", 10)
    assert values(planted(), seconds=1e-9).refits == 10


def test_stacked_and_lean_refits_give_the_same_values():
    torch.set_default_dtype(torch.float64)
    try:
        both = [values(planted(), refits=20, fits=fits) for fits in ("stacked", "lean")]
    finally:
        torch.set_default_dtype(torch.float32)
    torch.testing.assert_close(both[0].values, both[1].values, atol=1e-6, rtol=1e-4)


class Bare(LightningModule):
    """Nobody's task: it tells the losses of no items, and logs what it likes."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 3)

    def training_step(self, batch, _):
        return nn.functional.cross_entropy(self.layer(batch[0]), batch[1])

    def validation_step(self, batch, _):
        self.log("val/right", (self.layer(batch[0]).argmax(1) == batch[1]).float().mean())

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), 0.05)


def test_a_module_of_ones_own_is_judged_by_what_it_logs():
    data = planted(val=small.blobs(30, seed=2))
    found = label_values(
        Bare, data, trainer=TRAINER, refits=24, objective="val/right", mode="max", progress=False
    )
    assert found.refits == 24
    assert bool(found.values.isfinite().all())
    with pytest.raises(LookupError, match=r"Bare has no item_losses.*objective='val/loss'"):
        label_values(Bare, data, trainer=TRAINER)
    with pytest.raises(ValueError, match="whether a larger 'val/right' is better cannot be told"):
        label_values(Bare, data, trainer=TRAINER, objective="val/right")
    with pytest.raises(LookupError, match="'val/loss' is never logged in a validation, which logs"):
        label_values(Bare, data, trainer=TRAINER, refits=4, objective="val/loss", progress=False)


def test_regressions_have_values_too():
    items = small.line(40)
    items.targets[5] += 15
    data = small.datamodule(
        items, small.line(20, seed=1), val=small.line(30, seed=2), initial=list(range(30))
    )
    data.classes, data.outputs = None, 1
    found = label_values(
        lambda: Regression(MLP(4, (16,), 1), lr=0.03),
        data,
        trainer=TRAINER,
        refits=64,
        progress=False,
    )
    assert int(found.order[-1]) == 5


@pytest.mark.parametrize(
    ("data", "changes", "said"),
    [
        ({"initial": 2}, {}, "three labels at least, got 2"),
        ({"initial": 4}, {"parts": 5}, r"4 labels make no 5 parts.*lower parts, or give the data"),
        ({}, {"refits": 1}, "refits must be a whole number from 2, got 1"),
        ({}, {"refits": 8, "parts": 5}, "5 parts need 10 refits at least, got 8"),
        ({}, {"seconds": 0}, "seconds"),
        ({}, {"objective": "val/nll"}, "these data have no validation set"),
    ],
)
def test_bad_input_is_refused_before_any_fit(data, changes, said, monkeypatch):
    monkeypatch.setattr("lightning_al.valuing.valuation.losses_of", None)
    with pytest.raises(ValueError, match=said):
        values(small.datamodule(**data), **changes)


def test_the_command_writes_the_mislabelled_ones_last(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    given = ["--config", "quickstart", "--data.initial", "12", "--trainer.max_epochs", "3"]
    found = main(["value", *given, "--refits", "10", "--folder", "kept", "--out", "mine.csv"])
    rows = list(csv.DictReader((tmp_path / "mine.csv").open()))
    assert list(rows[0]) == ["rank", "index", "path", "label", "value"]
    assert [int(row["index"]) for row in rows] == found.index[found.order].tolist()
    assert sorted({float(r["value"]) for r in rows}) == sorted(set(found.values.tolist()))
    assert "12 labels by 10 refits" in capsys.readouterr().out
    assert (tmp_path / "kept" / "losses.jsonl").is_file()
    assert lightning_al.label_values is label_values


def test_the_command_values_the_labels_that_a_run_has_bought(tmp_path):
    given = ["--config", "quickstart", "--trainer.max_epochs", "2", "--data.initial", "6"]
    sizes = ["--query_size", "4", "--budget", "4", "--progress", "false"]
    main(["run", *given, *sizes, "--run_dir", str(tmp_path / "run")])
    config = str(tmp_path / "run" / "config.yaml")
    found = main(
        ["value", "--config", config, "--refits", "6", "--parts", "2", "--out", f"{tmp_path}/v.csv"]
    )
    assert len(found.index) == 10
