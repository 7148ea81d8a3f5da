"""A run under a safety limit says whose word for safety it takes, once and before the first fit."""

import pytest
from helpers import small

from lightning_al import ActiveLearner
from lightning_al.tasks import GPRegression, MarginalGPRegression, SparseGPRegression


def run(folder, task, strategy):
    ActiveLearner(
        task=lambda: task(2, safety=True),
        datamodule=small.safe_datamodule(),
        strategy=strategy,
        query_size=2,
        budget=4,
        trainer=small.TRAINER | {"max_epochs": 1},
        run_dir=folder,
    ).run()


def marginal(outputs, **more):
    return MarginalGPRegression(outputs, samples=4, warm_up=5, **more)


@pytest.mark.parametrize(
    ("task", "strategy", "said"),
    [
        (GPRegression, "safe-variance", 1),
        (SparseGPRegression, "safe-random", 1),
        (GPRegression, "min-unsafe-entropy", 1),
        (GPRegression, "variance", 0),
        (marginal, "safe-variance", 0),
    ],
)
def test_one_estimate_of_the_process_of_z_is_spoken_of_once(task, strategy, said, tmp_path, caplog):
    run(tmp_path, task, strategy)
    told = [r for r in caplog.records if r.name == "lightning_al.rehearsal.safety"]
    assert len(told) == said
    assert all("MarginalGPRegression integrates them out" in r.getMessage() for r in told)
