"""What a run leaves in files and loggers, read back from there."""

import csv
import io
import json
import os
import time

import pytest
import pytorch_lightning as pl
import torch
from helpers.wandb_file import read_finished
from PIL import Image
from torch.utils.data import DataLoader, TensorDataset

from lightning_al.compat import start_step_at
from lightning_al.files import replacing
from lightning_al.history import loggers as loggers_module
from lightning_al.history.curves import LearningCurve
from lightning_al.history.history import History
from lightning_al.history.loggers import LOGGERS, build_loggers, close_loggers
from lightning_al.history.progress import RoundProgress, round_table
from lightning_al.history.records import Round
from lightning_al.history.round_log import RoundLog
from lightning_al.history.round_tables import AcquiredItem, acquired_items, write_metrics_csv
from lightning_al.history.thumbnails import as_grid, contained

BATCHES = 4


class From(pl.Callback):
    """Goes on from a step, as the callback of a round does."""

    def __init__(self, step):
        self.step = step

    def on_train_start(self, trainer, module):
        start_step_at(trainer, self.step)


class Toy(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(2, 1)
        self.rates = []

    def training_step(self, batch):
        loss = self.layer(batch[0]).square().mean()
        self.log("train/loss", loss)
        self.rates.append(self.lr_schedulers().get_last_lr()[0])
        return loss

    def test_step(self, batch):
        self.log("test/loss", self.layer(batch[0]).square().mean())

    def configure_optimizers(self):
        optimizer = torch.optim.SGD(self.parameters(), lr=0.1)
        schedule = torch.optim.lr_scheduler.StepLR(optimizer, 2)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }


class Pictures:
    """Stands for a datamodule of images in files."""

    def item_path(self, index):
        return f"images/{index}.png"

    def answer(self, index):
        return index % 10

    def thumbnail(self, index):
        return Image.new("L", (28, 28), index) if index != 7 else None


def loader():
    data = TensorDataset(torch.randn(4 * BATCHES, 2, generator=torch.Generator().manual_seed(0)))
    return DataLoader(data, batch_size=4)


def trainer(loggers=(), offset=None, folder=None, **more):
    return pl.Trainer(
        **{"max_epochs": 2} | more,
        accelerator="cpu",
        logger=list(loggers),
        log_every_n_steps=1,
        callbacks=[] if offset is None else [From(offset)],
        default_root_dir=folder,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )


def a_round(r, acquired=(3, 7), **more):
    return Round(
        round=r,
        n_labelled=10 + 2 * r,
        n_pool=90 - 2 * r,
        metrics={"test/accuracy": 0.5 + 0.1 * r, "val/loss": 1.0 / (1 + r)},
        batches=2 * BATCHES,
        checkpoint=None,
        seconds_fit=1.5,
        acquired=[10 * r + i for i in acquired],
        scores=[0.9, 0.25][: len(acquired)],
        cost=float(len(acquired)),
        **more,
    )


ROUNDS = [a_round(0), a_round(1), a_round(2, acquired=())]


def plan(folder, **more):
    return {"run_dir": folder, "strategy": "bald", "n_labelled": 10, "rounds": 3} | more


def play(observer, folder, new=ROUNDS, done=(), loggers=(), **more):
    """What the driver does, with a fit in every round where there are loggers."""
    observer.run_started(plan(folder, **more), list(done))
    offset = sum(r.batches for r in done)
    for round in new:
        observer.stage_started(round.round, "fit")
        if loggers:
            with_tests = trainer(loggers, offset, folder)
            module = Toy()
            with_tests.fit(module, loader())
            observer.stage_started(round.round, "test")
            with_tests.test(module, loader(), verbose=False)
            offset += round.batches
        observer.round_ended(round, Pictures())
    observer.run_ended(History(folder, [*done, *new], name="bald", stopped="budget spent"))


def table(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def alone(monkeypatch, tmp_path):
    """No W&B account and no W&B settings from outside."""
    for name in [n for n in os.environ if n.startswith("WANDB_") or n == "NETRC"]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    yield
    os.environ.pop("WANDB_DATA_DIR", None)


# -- the step -------------------------------------------------------------------------------------


class Steps(pl.loggers.logger.DummyLogger):
    def __init__(self):
        super().__init__()
        self.seen = []

    def log_metrics(self, metrics, step=None):
        self.seen.append((step, next(iter(metrics))))


def test_the_logger_step_only_grows_and_starts_at_the_offset():
    log, offset = Steps(), 0
    for _ in range(3):
        one = trainer([log], offset)
        module = Toy()
        one.fit(module, loader())
        one.test(module, loader(), verbose=False)
        assert one.global_step == 2 * BATCHES
        offset += 2 * BATCHES
    steps = [step for step, _ in log.seen]
    assert steps == sorted(steps)
    train = [step for step, name in log.seen if name == "train/loss"]
    assert train == list(range(3 * 2 * BATCHES))
    assert [s for s, name in log.seen if name == "test/loss"] == [8, 16, 24]


@pytest.mark.parametrize("limit", [{"max_epochs": 2}, {"max_epochs": -1, "max_steps": 5}])
def test_the_offset_does_not_touch_training(limit):
    ended = []
    for offset in (None, 1000):
        torch.manual_seed(0)
        module = Toy()
        one = trainer([Steps()], offset, **limit)
        one.fit(module, loader())
        ended.append((module.layer.weight.detach(), module.rates, one.global_step))
    (weight, rates, steps), (weight_, rates_, steps_) = ended
    assert torch.equal(weight, weight_)
    assert (rates, steps) == (rates_, steps_)


def test_a_fit_resumed_from_its_own_checkpoint_is_not_shifted_twice(tmp_path):
    first = trainer([], 100)
    first.fit(module := Toy(), loader())
    first.save_checkpoint(tmp_path / "mid.ckpt")
    log = Steps()
    trainer([log], 100, max_epochs=3).fit(module, loader(), ckpt_path=tmp_path / "mid.ckpt")
    assert [step for step, _ in log.seen] == list(range(108, 112))


def test_a_step_never_goes_back():
    fresh = trainer()
    start_step_at(fresh, 7)
    start_step_at(fresh, 3)
    assert fresh.fit_loop.epoch_loop._batches_that_stepped == 7


# -- the files ------------------------------------------------------------------------------------


def test_files_are_written_without_any_logger(tmp_path):
    play(RoundLog(), tmp_path)
    metrics = table(tmp_path / "metrics.csv")
    assert [float(row["test/accuracy"]) for row in metrics] == [0.5, 0.6, 0.7]
    assert [int(row["n_labelled"]) for row in metrics] == [10, 12, 14]
    assert table(tmp_path / "acquired.csv")[1] == {
        "round": "0",
        "index": "7",
        "path": "images/7.png",
        "score": "0.25",
        "label": "7",
        "strategy": "",
        "cost": "1.0",
        "annotators": "",
        "answered": "0",
        "time": "",
    }
    assert sorted(p.name for p in tmp_path.iterdir()) == ["acquired.csv", "metrics.csv"]


@pytest.mark.parametrize("with_plan", [True, False])
def test_files_after_a_resume_equal_those_of_one_run(tmp_path, with_plan):
    play(RoundLog(), tmp_path / "whole")
    play(RoundLog(), tmp_path / "killed", new=ROUNDS[:2])
    for name in ("metrics.csv", "acquired.csv"):  # killed between the commit and the writing
        (tmp_path / "killed" / name).write_text("half a ro")
    more = {"datamodule": Pictures()} if with_plan else {}
    play(RoundLog(), tmp_path / "killed", new=ROUNDS[2:], done=ROUNDS[:2], **more)
    for name in ("metrics.csv", "acquired.csv"):
        whole, killed = (tmp_path / run / name for run in ("whole", "killed"))
        assert killed.read_bytes() == whole.read_bytes()


def test_files_are_right_when_nothing_is_left_to_do(tmp_path):
    play(RoundLog(), tmp_path, new=[], done=ROUNDS, datamodule=Pictures())
    assert len(table(tmp_path / "metrics.csv")) == 3
    assert [int(row["index"]) for row in table(tmp_path / "acquired.csv")] == [3, 7, 13, 17]


def test_metrics_that_appear_later_get_a_column(tmp_path):
    late = Round(1, 12, 88, {"test/accuracy": 0.6, "test/ece": 0.1}, 8, None)
    rows = table(write_metrics_csv(tmp_path, [a_round(0), late]))
    assert [row["test/ece"] for row in rows] == ["", "0.1"]
    assert rows[1]["val/loss"] == ""
    assert table(write_metrics_csv(tmp_path, [])) == []


def test_refused_items_have_no_label_and_plain_data_no_path():
    items = acquired_items(a_round(0, refused=[7]), Pictures())
    assert [item.label for item in items] == [3, None]
    assert [item.path for item in acquired_items(a_round(0), object())] == [None, None]
    unscored = Round(0, 1, 9, {}, 1, None, acquired=[4])
    assert [item.score for item in acquired_items(unscored)] == [None]


def test_a_failed_write_leaves_the_old_file_alone(tmp_path):
    file = tmp_path / "deep" / "table.csv"
    with replacing(file) as temporary:
        temporary.write_text("old")

    def fail():
        with replacing(file) as temporary:
            temporary.write_text("new, but")
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        fail()
    assert [(p.name, p.read_text()) for p in file.parent.iterdir()] == [("table.csv", "old")]


def test_curve_is_drawn_at_the_end_and_in_between_when_old(tmp_path):
    observer = LearningCurve(every=0.0)
    observer.run_started(plan(tmp_path), [])
    observer.round_ended(ROUNDS[0], None)
    first = (tmp_path / "curve.png").read_bytes()
    observer.run_ended(History(tmp_path, ROUNDS))
    assert (tmp_path / "curve.png").read_bytes() != first
    play(LearningCurve(), tmp_path / "empty", new=[])  # nothing to draw is no error
    assert not (tmp_path / "empty" / "curve.png").exists()


# -- the loggers ----------------------------------------------------------------------------------


def test_unknown_logger_is_named_before_anything_is_built(tmp_path):
    with pytest.raises(LookupError, match=r"no logger named 'wanbd'.*csv, tensorboard, wandb"):
        build_loggers(["csv", "wanbd"], tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert LOGGERS.names() == ["csv", "tensorboard", "wandb"]


def test_tensorboard_missing_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setattr(loggers_module, "find_spec", lambda _: None)
    with pytest.raises(ModuleNotFoundError, match=r"lightning-al\[tensorboard\]"):
        build_loggers(["tensorboard"], tmp_path)


def test_csv_curves_survive_a_resume(tmp_path):
    done = []
    for new in (ROUNDS[:2], ROUNDS[2:]):
        loggers = build_loggers(["csv"], tmp_path)
        play(RoundLog(loggers), tmp_path, new, done=done, loggers=loggers)
        close_loggers(loggers)
        done = [*done, *new]
    files = sorted((tmp_path / "logs" / "csv").glob("version_*/metrics.csv"))
    steps = [int(r["step"]) for file in files for r in table(file) if r["train/loss"]]
    assert steps == list(range(3 * 2 * BATCHES))
    assert not any(name.startswith("al/") for name in table(files[0])[0])


def test_tensorboard_events(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    loggers = build_loggers(["tensorboard"], tmp_path)
    play(RoundLog(loggers), tmp_path, loggers=loggers)
    close_loggers(loggers)
    # files of one second are read in the order of a bare counter: "10" comes before "9"
    assert len(list((tmp_path / "logs" / "tensorboard").glob("events.*"))) == 1
    events = EventAccumulator(str(tmp_path / "logs" / "tensorboard"), {"images": 0, "tensors": 0})
    events.Reload()
    accuracy = [(e.step, round(e.value, 6)) for e in events.Scalars("al/test/accuracy")]
    assert accuracy == [(10, 0.5), (12, 0.6), (14, 0.7)]
    assert [e.step for e in events.Scalars("train/loss")] == list(range(3 * 2 * BATCHES))
    text = events.Tensors("al/acquired/text_summary")
    assert [e.step for e in text] == [10, 12]
    assert "| 0 | 7 | images/7.png | 0.25 | 7 |" in text[0].tensor_proto.string_val[0].decode()
    pictures = events.Images("al/acquired")
    assert [e.step for e in pictures] == [10, 12]
    sheet = Image.open(io.BytesIO(pictures[1].encoded_image_string))
    assert sheet.size == (2 + 2 * 66, 2 + 66)
    assert sheet.getpixel((30, 30)) == (13, 13, 13)


def test_tensorboard_resume_gives_every_round(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for done, new in (([], ROUNDS[:1]), (ROUNDS[:2], ROUNDS[2:])):  # round 1 was never logged
        loggers = build_loggers(["tensorboard"], tmp_path)
        play(RoundLog(loggers), tmp_path, new, done=done)
        close_loggers(loggers)
    events = EventAccumulator(str(tmp_path / "logs" / "tensorboard"))
    events.Reload()
    assert [e.step for e in events.Scalars("al/test/accuracy")] == [10, 12, 14]


def test_other_loggers_get_the_values():
    class Other(Steps):
        def log_metrics(self, metrics, step=None):
            self.seen.append((step, metrics["al/test/accuracy"], metrics["al/n_acquired"]))

    other = Other()
    sink_only = RoundLog([other])
    sink_only._sinks[0].start([])
    for r in ROUNDS:
        sink_only._sinks[0].write(r, [], {})
    assert other.seen == [(10, 0.5, 2), (12, 0.6, 2), (14, pytest.approx(0.7), 0)]


@pytest.fixture
def wandb_run(tmp_path, alone):
    """Three rounds with a fit each, in one offline run."""
    loggers = build_loggers(["wandb"], tmp_path / "run", name="toy", config={"seed": 3})
    play(RoundLog(loggers, thumbnails=1), tmp_path / "run", loggers=loggers)
    close_loggers(loggers)
    return tmp_path / "run"


def test_wandb_offline_run(wandb_run):
    (folder,) = (wandb_run / "wandb").glob("offline-run-*")
    run = read_finished(folder)
    assert run.exit_code == 0
    assert run.config["seed"] == 3
    assert run.id == (wandb_run / "logs" / "wandb_id").read_text()
    # al/* over the number of labels, training over Lightning's step
    assert run.steps_of["al/*"] == "al/n_labelled"
    assert run.steps_of["al/test/accuracy"] == "al/n_labelled"
    assert run.steps_of["*"] == "trainer/global_step"
    rows = [row for row in run.history if "al/round" in row]
    assert [row["al/n_labelled"] for row in rows] == [10, 12, 14]
    assert [row["al/test/accuracy"] for row in rows] == pytest.approx([0.5, 0.6, 0.7])
    assert [row["al/seconds_fit"] for row in rows] == [1.5] * 3
    # every step only grows
    own = [row["_step"] for row in run.history]
    assert own == list(range(len(own)))
    curve = [row["trainer/global_step"] for row in run.history if "train/loss" in row]
    assert curve == list(range(3 * 2 * BATCHES))
    tested = [row["trainer/global_step"] for row in run.history if "test/loss" in row]
    assert tested == [8, 16, 24]


def test_wandb_table_of_acquired_items(wandb_run):
    (folder,) = (wandb_run / "wandb").glob("offline-run-*")
    tables = sorted((folder / "files" / "media" / "table" / "al").glob("*.table.json"))
    assert len(tables) == 2  # the last round bought nothing
    found = [json.loads(file.read_text()) for file in tables]
    assert all(t["columns"] == [*AcquiredItem.columns(), "image"] for t in found)
    assert AcquiredItem.columns()[:5] == ["round", "index", "path", "score", "label"]
    by_round = sorted([row[:5] for row in t["data"]] for t in found)
    assert by_round[1] == [[1, 13, "images/13.png", 0.9, 3], [1, 17, "images/17.png", 0.25, 7]]
    staged = list((wandb_run / "wandb" / "data").rglob("*"))
    assert any(file.is_file() for file in staged)  # the pictures stay inside the run folder
    assert "WANDB_DATA_DIR" not in os.environ


def test_wandb_resume_shares_the_id_and_goes_on_above(wandb_run, alone):
    (before,) = (wandb_run / "wandb").glob("offline-run-*")
    first = read_finished(before)
    time.sleep(1.1)  # W&B names an offline folder by the second and the id
    loggers = build_loggers(["wandb"], wandb_run, config={"seed": 3})
    more = a_round(3)
    play(RoundLog(loggers), wandb_run, [more], done=ROUNDS, loggers=loggers)
    close_loggers(loggers)
    (after,) = set((wandb_run / "wandb").glob("offline-run-*")) - {before}
    second = read_finished(after)
    assert second.id == first.id
    assert second.history[0]["_step"] > first.history[-1]["_step"]
    own = [row["_step"] for row in second.history]
    assert own == sorted(set(own))
    # rows of before may be lost with a killed process: an offline start holds them all
    rows = [row["al/round"] for row in second.history if "al/round" in row]
    assert rows == [0, 1, 2, 3]
    curve = [row["trainer/global_step"] for row in second.history if "train/loss" in row]
    assert curve == list(range(24, 32))


def test_a_run_opened_by_the_user_is_not_closed(tmp_path, alone):
    import wandb

    outer = wandb.init(mode="offline", dir=tmp_path, settings=wandb.Settings(silent=True))
    try:
        loggers = build_loggers(["wandb"], tmp_path)
        with pytest.warns(UserWarning, match="already in progress"):
            play(RoundLog(loggers), tmp_path)
        close_loggers(loggers)
        assert wandb.run is outer
    finally:
        outer.finish()


def test_wandb_id_belongs_to_the_folder_as_it_is_at_the_first_use(tmp_path, alone):
    def identity(run_dir):
        (logger,) = build_loggers(["wandb"], run_dir)
        (run_dir / "logs").mkdir(parents=True, exist_ok=True)
        if run_dir.name == "emptied":
            (run_dir / "logs" / "wandb_id").unlink(missing_ok=True)
        found = logger.experiment.id
        close_loggers([logger])
        assert found == (run_dir / "logs" / "wandb_id").read_text()
        return found

    assert identity(tmp_path / "a") == identity(tmp_path / "a")
    assert identity(tmp_path / "a") != identity(tmp_path / "b")
    assert identity(tmp_path / "emptied") != identity(tmp_path / "emptied")


def test_wandb_disabled_is_no_error(tmp_path, alone, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "disabled")
    loggers = build_loggers(["wandb"], tmp_path)
    play(RoundLog(loggers), tmp_path, loggers=loggers)
    close_loggers(loggers)
    assert not (tmp_path / "wandb").exists() or not list((tmp_path / "wandb").glob("*run-*"))


@pytest.mark.parametrize(
    ("environment", "login", "mode"),
    [
        ({}, None, "offline"),
        ({"WANDB_API_KEY": "x"}, None, "online"),
        ({"WANDB_API_KEY": "x", "WANDB_MODE": "offline"}, None, "offline"),
        ({"WANDB_MODE": "disabled"}, None, "disabled"),
        ({}, "machine api.wandb.ai login user password x", "online"),
        ({}, "machine example.org login user password x", "offline"),
        (
            {"WANDB_BASE_URL": "https://example.org"},
            "machine example.org login u password x",
            "online",
        ),
    ],
)
def test_wandb_needs_an_account_to_be_online(
    tmp_path, alone, monkeypatch, environment, login, mode
):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    if login:
        (tmp_path / "home").mkdir()
        (tmp_path / "home" / ".netrc").write_text(login + "\n")
        (tmp_path / "home" / ".netrc").chmod(0o600)
    (logger,) = build_loggers(["wandb"], tmp_path)
    assert logger._wandb_init["mode"] == mode
    assert os.environ["WANDB_DATA_DIR"].startswith(str(tmp_path))


# -- thumbnails -----------------------------------------------------------------------------------


def test_thumbnails_are_asked_for_first_choices_only():
    asked = []

    class Counting(Pictures):
        def thumbnail(self, index):
            asked.append(index)
            return super().thumbnail(index)

    log = RoundLog([Steps()], thumbnails=1)
    images = log._images(acquired_items(a_round(0), Counting()), Counting())
    assert (asked, list(images)) == ([3], [3])
    images = RoundLog()._images(acquired_items(a_round(0)), Counting())
    assert list(images) == [3]  # item 7 has no picture
    assert RoundLog()._images(acquired_items(a_round(0)), object()) == {}
    with pytest.raises(ValueError, match="0 or more"):
        RoundLog(thumbnails=-1)


@pytest.mark.parametrize(("n", "wide", "high"), [(1, 1, 1), (2, 2, 1), (5, 3, 2), (16, 4, 4)])
def test_grid_of_thumbnails(n, wide, high):
    images = [Image.new("RGB", (20 + i, 30), (i, 0, 0)) for i in range(n)]
    grid = as_grid(images, side=40, gap=2)
    assert grid.shape == (3, 42 * high + 2, 42 * wide + 2)
    for i in range(n):
        row, column = divmod(i, wide)
        assert grid[:, 22 + 42 * row, 22 + 42 * column].tolist() == [i, 0, 0]


def test_large_pictures_are_scaled_down_and_small_ones_kept():
    assert contained(Image.new("L", (400, 200)), 128).size == (128, 64)
    assert contained(Image.new("L", (28, 28)), 128).size == (28, 28)


# -- progress -------------------------------------------------------------------------------------


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_progress_without_a_terminal_is_a_line_a_round(tmp_path):
    stream = io.StringIO()
    play(RoundProgress(stream=stream), tmp_path, ROUNDS[1:], done=ROUNDS[:1])
    assert stream.getvalue().splitlines() == [
        "going on after 1 round",
        "round 2/3: 12 labelled, test accuracy 0.6000, 1.5 s",
        "round 3/3: 14 labelled, test accuracy 0.7000, 1.5 s",
        "ended after 3 rounds: budget spent",
    ]


def test_progress_bar_starts_at_the_done_rounds_and_shows_the_stage(tmp_path):
    stream = Terminal()
    observer = RoundProgress(stream=stream, metric="val/loss")
    observer.run_started(plan(tmp_path), ROUNDS[:1])
    assert observer._bar.n == 1
    assert observer._bar.total == 3
    observer.stage_started(1, "score")
    assert "round 2/3 · 12 labelled · score" in stream.getvalue()
    assert "val loss=1.0000" in stream.getvalue()
    observer.round_ended(ROUNDS[1], None)
    assert observer._bar.n == 2
    observer.run_ended(History(tmp_path, ROUNDS[:2]))
    assert stream.getvalue().endswith("ended after 2 rounds\n")


def test_progress_leaves_an_error_to_whoever_raises_it(tmp_path):
    stream = io.StringIO()
    observer = RoundProgress(stream=stream)
    observer.run_ended(History(tmp_path, ROUNDS[:2], "the disk is full", failed=True))
    observer.run_ended(History(tmp_path, ROUNDS[:2], "error: is the name of a rule"))
    assert stream.getvalue().splitlines() == [
        "ended after 2 rounds",
        "ended after 2 rounds: error: is the name of a rule",
    ]


def test_an_error_that_ends_a_run_is_marked_in_what_observers_are_told(learner):
    seen = []

    class Watch(RoundProgress):
        def run_ended(self, history):
            seen.append((history.failed, history.stopped))

    class Broken:
        def ask(self, index, datamodule, round):
            raise OSError("no paper")

    with pytest.raises(OSError, match="no paper"):
        learner(oracle=Broken(), observers=[Watch(stream=io.StringIO())]).run()
    assert seen == [(True, "error: no paper")]
    history = learner(overwrite=True, observers=[Watch(stream=io.StringIO())]).run()
    assert not history.failed
    assert [failed for failed, _ in seen] == [True, False]


def test_progress_without_a_known_number_of_rounds(tmp_path):
    stream = io.StringIO()
    play(RoundProgress(stream=stream), tmp_path, ROUNDS[:1], rounds=None)
    assert stream.getvalue().startswith("round 1: 10 labelled")


def history(name, values, metric="test/accuracy", first=10):
    rounds = [
        Round(i, first + 5 * i, 0, {metric: v}, 1, None, seconds_fit=1.0, seconds_score=0.5)
        for i, v in enumerate(values)
    ]
    return History(".", rounds, name=name)


def test_round_table():
    assert round_table(history("bald", [0.5, 0.75])) == (
        "round  labelled  test accuracy  seconds\n"
        "    0        10         0.5000      1.5\n"
        "    1        15         0.7500      1.5"
    )


@pytest.mark.parametrize(
    ("metric", "best"),
    [("test/accuracy", "0.7500*"), ("test/rmse", "0.6000*"), ("test/x", None)],
)
def test_round_table_beside_marks_the_better_one(metric, best):
    text = round_table(history("bald", [0.5, 0.75], metric), history("random", [0.5, 0.6], metric))
    lines = text.splitlines()
    assert lines[1].split() == ["round", "labelled", "bald", "random", "seconds"]
    assert lines[2].split() == ["0", "10", "0.5000", "0.5000", "1.5"]
    assert [cell for cell in lines[3].split() if "*" in cell] == ([best] if best else [])


def test_round_table_of_runs_that_differ_in_length_or_labels():
    lines = round_table(history("a", [0.5]), history("a", [0.4, 0.6], first=15)).splitlines()
    assert lines[1].split() == ["round", "labelled", "a", "(1)", "a", "(2)", "seconds"]
    assert [line.split() for line in lines[2:]] == [
        ["0", "10", "0.5000", "-", "1.5"],
        ["0", "15", "-", "0.4000", "-"],
        ["1", "20", "-", "0.6000", "-"],
    ]
    with pytest.raises(LookupError, match="test/accuracy"):
        round_table(history("a", [0.5]), metric="test/f1")
