"""Tables for spreadsheets, names in figures, and the metric that speaks for a run."""

import csv
import errno
import io
from functools import partial

import pytest
from helpers import small

from lightning_al.files import bounded, cell, disk_errors, if_writable, replacing
from lightning_al.history.history import History
from lightning_al.history.metric_names import main_metric, preferred
from lightning_al.history.plots import learning_curve, plain_text
from lightning_al.history.records import Round
from lightning_al.history.round_tables import AcquiredItem, write_acquired_csv
from lightning_al.oracles.sheets import read_sheet

# --- the metric that speaks ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (["train_loss", "test_loss", "test_acc"], "test_acc"),
        (["train_loss", "test_f1"], "test_f1"),
        (["loss_epoch", "my/test-rmse", "val_acc"], "my/test-rmse"),
        (["train/accuracy", "valid_loss"], "valid_loss"),
        (["train/accuracy", "dev/bleu", "dev/acc"], "dev/acc"),
        (["loss", "hit_ratio"], "hit_ratio"),
        (["Test.Accuracy", "train/acc"], "Test.Accuracy"),
        (["testify", "val/x"], "val/x"),
        (["train_test_gap", "val/x"], "val/x"),
        (["val/x", "test/rmse", "test_acc"], "test/rmse"),
        (["train/loss"], ""),
        (["loss_step", "loss_epoch", "train_acc"], ""),
    ],
)
def test_test_and_validation_speak_and_training_never(names, found):
    assert preferred(names) == found
    history = History(".", [Round(0, 10, 20, dict.fromkeys(names, 0.5), 1, None)])
    if found:
        assert main_metric([history]) == found
        return
    with pytest.raises(LookupError, match=r"training alone .*name one .*log a metric in test_step"):
        main_metric([history])
    assert main_metric([history], names[0]) == names[0]


# --- tables --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("=HYPERLINK(1)", "'=HYPERLINK(1)"),
        ("+49 30", "'+49 30"),
        ("-cat", "'-cat"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("\t=1", "'\t=1"),
        ("--1", "'--1"),
        ("-1.5e3x", "'-1.5e3x"),
        *((same, same) for same in ("-1.5", "+2", "-1e-3", "-.5", "-inf", "1-2", "a@b", "", "'=1")),
        *((same, same) for same in (-1.5, -3, None, True)),
    ],
)
def test_texts_are_no_formulas_and_numbers_stay_numbers(value, shown):
    assert cell(value) == shown
    assert type(cell(value)) is type(shown)


@pytest.mark.parametrize("label", ["=1+1", "-no", "@home", "+plus"])
def test_tables_of_a_run_hold_no_formula(tmp_path, label):
    item = AcquiredItem(0, 3, f"{label}/a.png", -0.5, label, "random")
    (row,) = csv.DictReader(write_acquired_csv(tmp_path, [item]).open())
    assert (row["label"], row["path"]) == (f"'{label}", f"'{label}/a.png")
    assert row["score"] == "-0.5"


@pytest.mark.parametrize("answer", ["=a", "-no", "@home", "-1.5", "'quoted'", "plain"])
def test_an_answer_comes_back_as_it_was(tmp_path, answer):
    path = tmp_path / "a.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([["index", "y"], ["1", cell(answer)]])
    (row,) = read_sheet(path, ["y"]).rows
    assert list(row.cells) == [answer]


# --- figures -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["$x$", "a$b$c", "$\\frac{$ $", "costs 5$", "$$", r"\$5", "$\\a$"])
def test_dollars_in_names_are_dollars(name, tmp_path):
    rounds = [Round(r, 10 + r, 20, {"test/$m$": 0.5}, 1, None) for r in range(2)]
    runs = [History(".", rounds, name=name), History(".", rounds[:1], name="other")]
    figure = learning_curve(runs, path=tmp_path / "a.png")
    shown = [t.get_text() for t in figure.axes[0].get_legend().get_texts()]
    assert plain_text(name) in shown
    learning_curve([runs[0], History(".", rounds, name="other")], path=tmp_path / "b.svg")
    assert (tmp_path / "b.svg").stat().st_size


# --- disks ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
@pytest.mark.parametrize(("size", "said"), [(None, ""), (3_200_000, "3.2 MB to write, ")])
def test_a_full_disk_says_which_file_and_how_much(tmp_path, number, size, said):
    with pytest.raises(OSError, match="cannot write") as caught, replacing(tmp_path / "a", size):
        raise OSError(number, "full")
    text = str(caught.value)
    assert caught.value.errno == number
    assert f"cannot write {tmp_path / 'a'} ({said}" in text
    assert "free on that disk): full; nothing that was written before is lost: make room" in text
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES, errno.EIO])
def test_a_closed_or_broken_one_asks_for_no_room(tmp_path, number):
    with (
        pytest.raises(OSError, match="mend that and run the same command") as caught,
        replacing(tmp_path / "a"),
    ):
        raise OSError(number, "closed")
    assert "make room" not in str(caught.value)


def test_it_is_said_once_and_other_errors_are_left_alone(tmp_path):
    with (
        pytest.raises(OSError, match=r"^\[Errno 28\] cannot write .*a \(") as caught,
        disk_errors("cannot do all"),
        replacing(tmp_path / "a"),
    ):
        raise OSError(errno.ENOSPC, "full")
    assert "cannot do all" not in str(caught.value)
    for error in (FileNotFoundError(2, "x"), ConnectionError("gone"), ValueError("other")):
        with pytest.raises(type(error)) as left, replacing(tmp_path / "a"):
            raise error
        assert left.value is error


@pytest.mark.parametrize(("number", "passes"), [(errno.EROFS, True), (errno.ENOSPC, False)])
def test_what_need_not_be_written_is_left_on_a_closed_disk(tmp_path, caplog, number, passes):
    def write():
        with if_writable(tmp_path / "metrics.csv"):
            raise OSError(number, "no")

    if passes:
        write()
        assert "metrics.csv is not written anew" in caplog.text
    else:
        with pytest.raises(OSError, match="no"):
            write()


@pytest.mark.parametrize(("length", "most"), [(5, 4), (10**6, 10**5), (1, 0)])
def test_members_of_archives_have_a_bound(length, most):
    with pytest.raises(ValueError, match=r"data\.bin unpacks to more than"):
        bounded(io.BytesIO(b"x" * length), most, "data.bin")
    assert bounded(io.BytesIO(b"x" * most), most, "data.bin") == b"x" * most


# --- W&B -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("given", ["loggers", "trainer", "function"])
def test_wandb_loggers_of_several_runs_are_runs_of_their_own(learner, tmp_path, monkeypatch, given):
    wandb = pytest.importorskip("wandb")
    from pytorch_lightning import Trainer
    from pytorch_lightning.loggers import WandbLogger

    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    wandb.teardown()  # it reads its variables once a process, and an earlier test had others
    monkeypatch.chdir(tmp_path)
    seen = []
    try:
        quiet = {"enable_checkpointing": False, "enable_progress_bar": False}
        quiet = small.TRAINER | quiet | {"use_distributed_sampler": False}
        for name in ("a", "b", "c"):
            logger = WandbLogger(project="p", name=name, save_dir=tmp_path, offline=True)
            more = {
                "loggers": {"loggers": [logger]},
                "trainer": {"trainer": small.TRAINER | {"logger": logger}},
                "function": {"trainer": partial(Trainer, **quiet | {"logger": logger})},
            }[given]
            run_dir = tmp_path / name
            small.learner(run_dir, budget=5, rehearse=False, **more).run()
            seen.append((logger.experiment.id, logger.experiment.name))
        assert len({id for id, _ in seen}) == 3
        assert [name for _, name in seen] == ["a", "b", "c"]
    finally:
        if wandb.run is not None:
            wandb.run.finish()
