"""Several processes over gloo: they choose what one would, fail together, and survive a kill."""

import csv
import json
import os
import random
import signal
import time

import pytest
import pytorch_lightning as pl
import torch
from helpers import ddp_parts as parts
from helpers.processes import end, gone, start
from helpers.small import untimed
from pytorch_lightning.strategies import DDPStrategy, FSDPStrategy

from lightning_al.fits.lightning import test_round as evaluate
from lightning_al.journal.journal import read_journal
from lightning_al.ranks.ranks import ALONE, check_strategy, join
from lightning_al.strategies import names

pytestmark = pytest.mark.skipif(
    not torch.distributed.is_available(), reason="this PyTorch has no torch.distributed"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("ddp")


@pytest.fixture(scope="module")
def found(folder):
    """What ddp_checks.py found; a script, started again by Lightning for the second rank."""
    status, output = end(start("ddp_checks.py", folder), within=240)
    assert status == 0, output[-5000:]
    return json.loads((folder / "found.json").read_text())


# --- the same items ----------------------------------------------------------------------------


def test_every_strategy_chooses_in_each_round_what_one_process_would(found):
    """Rank 0's weights in a one-process scorer; batch normalisation, dropout, odd pools."""
    rows = found["rounds"]["found"]
    assert not found["rounds"]["left out"]
    assert {row["name"] for row in rows} >= set(names())
    assert {row["round"] for row in rows} == {0, 1, 2}
    for row in rows:
        densities = row["name"].startswith(("balsa-", "density-", "input-density"))
        assert row["apart"] < (1e-5 if densities else 1e-6), row  # integrals in float32
        assert row["two"] == row["one"], row
    assert sum(row["name"].startswith("the run") for row in rows) == 8


def test_after_a_fit_all_ranks_hold_the_batch_statistics_of_rank_zero(found):
    facts = found["buffers"]
    assert facts["before"][0] != facts["before"][1]
    assert facts["after equal"]
    assert facts["rank 0's"]


def test_weights_of_any_dtype_and_layout_are_broadcast(found):
    assert all(found["dtypes"])


def test_equal_global_batches_give_equal_runs(found, folder):
    """One process with batches of 32, two with 16: five rounds, nothing padded, no dropout."""
    one = parts.without_padding(1, folder / "even-alone").run()
    acquired = [sorted(r.acquired) for r in one.rounds]
    assert [len(a) for a in acquired] == [32] * 5 + [0]
    assert found["without_padding"] == acquired


def test_members_are_one_function_on_all_ranks(found):
    for what, facts in found["shapes"].items():
        assert facts["two"] == facts["one"], what
        assert facts["apart"] == 0, what
        assert facts["predict"], what


def test_what_a_strategy_learnt_is_there_again_on_all_ranks(found):
    facts = found["memory"]
    assert facts["straight"] == facts["again"]
    first, second = facts["memories"]
    assert first == second
    assert len(set(first)) == 4  # it learns each round


# --- sizes -------------------------------------------------------------------------------------


def test_a_pool_smaller_than_the_world(found):
    assert {int(name.split()[0]) for name in found["small_pools"]} == {0, 1, 2, 3}
    for name, facts in found["small_pools"].items():
        assert facts["two"] == facts["one"], name
        assert len(facts["two"]) == int(name.split()[0])


@pytest.mark.parametrize("test", [41, 1])
def test_every_test_item_counts_once(found, folder, test):
    """Metrics of two processes are those of one on the same weights."""
    facts = found["odd_sizes"][str(test)]
    assert facts["pool"] == [5, 3, 1, 0]
    assert facts["stopped"] == "the pool is empty"
    learner = parts.odd_run(1, None, test)
    learner.datamodule.start(0)
    trainer = learner.recipe().build_trainer()
    for r, metrics in enumerate(facts["metrics"]):
        path = folder / f"odd-{test}" / "checkpoints" / f"round-{r:03d}.ckpt"
        task = parts.plain_classifier()
        task.load_state_dict(torch.load(path, weights_only=False)["state_dict"])
        alone = evaluate(task, learner.datamodule, trainer)
        assert {k for k in metrics if k.startswith("test/")} == set(alone)
        for name, value in alone.items():
            assert metrics[name] == pytest.approx(value, abs=1e-6, nan_ok=True), name


def test_ranks_take_the_same_number_of_test_steps(found):
    assert found["steps"] == 2


def test_kept_embeddings_of_all_ranks(found):
    memory, file = found["kept"][str(2**30)], found["kept"]["0"]
    assert memory == {"equal": True, "mapped": False, "files": []}
    assert file == {"equal": True, "mapped": True, "files": []}
    assert found["blocks"] is True


def test_a_full_batch_task_is_fitted_on_rank_zero_and_known_to_all(found, folder):
    one = parts.neighbour_run(1, folder / "neighbour-alone").run()
    assert found["full_batch"] == [
        [sorted(r.acquired), pytest.approx(r.metrics["test/accuracy"])] for r in one.rounds
    ]


def test_places_of_a_box_are_those_that_one_process_chooses(found, folder):
    one = parts.box_run(1, folder / "box-alone").run()
    records, _ = read_journal(one.run_dir / "journal.jsonl")
    places = [r["x"] for r in records if r["event"] == "chosen"]
    assert found["box"] == [places, pytest.approx(one.rounds[-1].metrics["test/rmse"])]


# --- errors ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("case", "said"),
    {
        "choose": "ValueError: cannot choose today",
        "odd error": "Local: 1 and 2",
        "score on rank 1": "ValueError: rank 1 cannot score",
        "nan": "ValueError: 1 of 80 scores are NaN, first: item(s) [30]",
        "ragged": "ValueError: the score has shape [2] an item in one batch and [1] in another",
        "unpicklable": "pickle",
        "oracle": "ValueError: nobody is at home",
        "full batch": "ValueError: cannot be fitted",
        "best without a checkpoint": "ValueError: restore='best' needs a ModelCheckpoint",
        "disagree": "RuntimeError: the ranks disagree about who is labelled",
        "initial on rank 1": "ValueError: no initial set here",
    }.items(),
)
def test_an_error_of_one_rank_is_raised_on_all(found, case, said):
    assert len(found["errors"][case]) == 2
    for message in found["errors"][case]:
        assert said in message


def test_answers_of_a_file_and_late_ones_are_the_same_on_all_ranks(found):
    one, other = found["file_oracle"]
    assert one == other
    assert [said[:2] for said in one[:3]] == [[True, 0], [True, 1], [False, 3]]
    stopped, acquired, _ = one[3]
    assert "the cost budget is spent: 7 of 7" in stopped
    assert len(set(acquired)) == 7


@pytest.mark.parametrize("trouble", ["choose", "score"])
def test_a_failed_run_ends_on_all_ranks(tmp_path, trouble):
    process = start("ddp_run.py", tmp_path, TROUBLE=trouble)
    status, output = end(process, within=90)
    assert status != 0
    said = "cannot choose" if trouble == "choose" else "no score here"
    assert f"ValueError: {said}" in output
    assert gone(int((tmp_path / "run-1.pid").read_text()), within=20)


@pytest.mark.parametrize("strategy", ["ddp_spawn", "ddp_fork", "ddp_notebook"])
def test_strategies_that_start_processes_in_each_fit_are_refused(strategy, tmp_path):
    learner = parts.long_run(tmp_path / "run")
    learner = learner.with_(trainer=parts.arguments() | {"strategy": strategy})
    with pytest.raises(ValueError, match=r"start method.*choose one of: auto, ddp, ddp_find"):
        learner.run()
    assert not (tmp_path / "run").exists()


class DeepSpeedStrategy(DDPStrategy):
    """Lightning's own needs a package that is not installed; it derives from DDPStrategy too."""


@pytest.mark.parametrize("kind", [FSDPStrategy, DeepSpeedStrategy])
def test_strategies_that_split_the_model_are_refused(kind):
    trainer = pl.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    trainer.strategy.__class__ = kind
    trainer.strategy._launcher = None
    with pytest.raises(ValueError, match=rf"{kind.__name__} is not supported.*choose one of: auto"):
        check_strategy(trainer)


def test_one_process_needs_no_group():
    assert join(pl.Trainer(accelerator="cpu", devices=1, logger=False)) is ALONE
    assert ALONE.together(lambda: 1) == ALONE.on_zero(lambda: 1) == ALONE.broadcast(1) == 1
    assert ALONE.all_gather(2) == [2]


# --- kills -------------------------------------------------------------------------------------


def lines(folder):
    path = folder / "run" / "journal.jsonl"
    return len(path.read_bytes().splitlines()) if path.exists() else 0


def kill_at_random(folder, rank, drawn):
    """Start or go on with the run, and kill a rank some time later."""
    before = lines(folder)
    process = start("ddp_run.py", folder)
    goal, until = before + drawn.randint(1, 12), time.monotonic() + 90
    while lines(folder) < goal and process.poll() is None and time.monotonic() < until:
        time.sleep(0.01)
    time.sleep(drawn.random() * 0.3)
    os.kill(int((folder / f"run-{rank}.pid").read_text()), signal.SIGKILL)
    return process


def journal(path):
    """All records without what is measured by the clock."""
    records, _ = read_journal(path / "journal.jsonl")
    return [untimed(record) for record in records]


@pytest.mark.slow
def test_a_run_goes_on_after_either_rank_was_killed_at_any_moment(tmp_path, found, folder):
    """The survivor ends by itself in bounded time; the same command ends like one undisturbed."""
    drawn = random.Random(7)
    for rank, trouble in (
        (1, None),
        (0, None),
        (1, "kill 1 after-sync fitted 1"),
        (0, "kill 0 after-write chosen 2"),
        (0, "orphan"),  # rank 0 dies while rank 1 is in the middle of a long pass
    ):
        before = lines(tmp_path)
        if trouble is None:
            process = kill_at_random(tmp_path, rank, drawn)
        else:
            process = start("ddp_run.py", tmp_path, TROUBLE=trouble)
        if rank == 0:  # the other one holds the pipe of the output open
            assert process.wait(timeout=90) == -signal.SIGKILL
        status, output = end(process, within=60)
        assert status != 0, output[-3000:]
        other = int((tmp_path / f"run-{1 - rank}.pid").read_text())
        assert gone(other, within=30), f"rank {1 - rank} outlives rank {rank}"
        assert lines(tmp_path) >= before
    assert "committed" not in (tmp_path / "run" / "journal.jsonl").read_text().splitlines()[0]
    status, output = end(start("ddp_run.py", tmp_path), within=120)
    assert status == 0, output[-3000:]
    assert journal(tmp_path / "run") == journal(folder / "long")
    for path in (folder / "long" / "checkpoints").iterdir():
        mine, theirs = (
            torch.load(place, weights_only=False)["state_dict"]
            for place in (path, tmp_path / "run" / "checkpoints" / path.name)
        )
        assert all(torch.equal(mine[name], theirs[name]) for name in mine)


# --- the command line --------------------------------------------------------------------------


def test_seeds_and_baseline_from_the_command_line(tmp_path):
    process = start(
        *("-m", "lightning_al", "run", "--config", "quickstart", "--trainer.devices", 2),
        *("--trainer.strategy", "ddp", "--trainer.max_epochs", 2, "--budget", 40),
        *("--seed", "[0,1]", "--baseline", "random", "--loggers", "[csv]"),
        *("--run_dir", tmp_path / "run"),
    )
    status, output = end(process, within=180)
    assert status == 0, output[-3000:]
    assert output.count("what to try next") == 1
    for seed in (0, 1):
        for place in (
            tmp_path / "run" / f"seed-{seed}",
            tmp_path / "run" / f"seed-{seed}/baseline",
        ):
            records = journal(place)
            assert records[0]["world"] == 2
            assert [r["round"] for r in records if r["event"] == "committed"] == [0, 1, 2]
            logs = list((place / "logs" / "csv").iterdir())
            assert [log.name for log in logs] == ["version_0"]
            rows = list(csv.DictReader((logs[0] / "metrics.csv").read_text().splitlines()))
            steps = [int(row["step"]) for row in rows if row.get("train/loss")]
            assert len(steps) == len(set(steps)) == 6  # an epoch each, of three fits
            rows = list(csv.DictReader((place / "metrics.csv").read_text().splitlines()))
            assert [row["round"] for row in rows] == ["0", "1", "2"]
    assert (tmp_path / "run" / "curve.png").exists()
