"""What tuning costs beside its trials: CPU seconds of a tuned round, and of the fits inside it.

    python benchmarks/tuning.py [--trials 20] [--labels 100] [--epochs 60] [--repeat 5]

Digits, an MLP 64-64-10, batches of 32, a validation set that judges, no pruner. A trial is what the
run does for one: proposal, settings, module, fit, validation, a line of the journal on the disk. Of
it, module, Trainer and fit are what an ordinary fit of the run is (it validates each epoch too);
the rest is what tuning adds. Both are taken within the same trials, so that a busy machine strikes
them alike. Asked: at most 5 % above the fits, by either backend.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from unittest.mock import patch

from timing import interleaved, medians, one_thread, seconds, show

ASK = 1.05


def config(labels: int, epochs: int, trials: int, fits: str) -> dict:
    """As in a YAML file of ``run``."""
    network = {"class_path": "lightning_al.networks.MLP", "init_args": {"hidden": [64]}}
    task = {"class_path": "lightning_al.tasks.Classification", "init_args": {"network": network}}
    data = {"class_path": "lightning_al.datamodules.DigitsDataModule"}
    space = {"model.lr": {"float": [1e-4, 1e-2], "log": True}}
    return {
        "model": task,
        "data": {**data, "init_args": {"initial": labels, "batch_size": 32, "val": 100}},
        "trainer": {"max_epochs": epochs, "accelerator": "cpu", "devices": 1},
        "strategy": "random",
        "query_size": 10,
        "budget": 10,
        "fits": fits,
        "rehearse": False,
        "tuning": {
            "space": space,
            "objective": "val/nll",
            "judge": "validation",
            "trials": trials,
            "pruner": "none",
        },
    }


class Bench:
    """A run that stands before its first round, again and again.

    Args:
        settings: of the run.
    """

    def __init__(self, settings: dict) -> None:
        from lightning_al.assembly.building import Assembly
        from lightning_al.assembly.parsed import parsed

        self.assembly = Assembly(parsed(settings))
        self.trials = settings["tuning"]["trials"]

    def _run(self) -> object:
        from lightning_al.rounds.run import Run

        learner = self.assembly.learner(run_dir=Path(tempfile.mkdtemp()), files=False)
        run = Run(learner, learner.parts())
        run.parts.datamodule.round = 0
        return run

    def tuned(self) -> float:
        """CPU seconds of all trials of a round, over those of the fits inside them."""
        from lightning_al.fits import lean, lightning
        from lightning_al.fits.recipe import Recipe
        from lightning_al.rounds.requests import Try, Write

        executor, inside = self._run().executor, [0.0]
        executor.answer(Try(), 0)  # what the first fit finds out once, it finds out here

        def timed(work: Callable) -> Callable:
            def call(*args: object, **named: object) -> object:
                clock = time.process_time()
                try:
                    return work(*args, **named)
                finally:
                    inside[0] += time.process_time() - clock

            return call

        def go() -> None:
            for _ in range(self.trials):
                executor.answer(Write(*executor.answer(Try(), 0)), 0)

        with ExitStack() as patches:
            for engine in (lean.LEAN, lightning.LIGHTNING):
                # the engines are frozen records, which all modules hold
                patches.callback(object.__setattr__, engine, "fit", engine.fit)
                object.__setattr__(engine, "fit", timed(engine.fit))
            for name in ("build_task", "build_trainer", "renew"):
                patches.enter_context(patch.object(Recipe, name, timed(getattr(Recipe, name))))
            whole = seconds(go)
        return whole / inside[0]


def main() -> int:
    """Print the figures; status 1 where a trial costs more than is asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--labels", type=int, default=100)
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--repeat", type=int, default=5)
    given = parser.parse_args()
    one_thread()
    failed = False
    for fits in ("lean", "lightning"):
        bench = Bench(config(given.labels, given.epochs, given.trials, fits))
        figures = interleaved({fits: bench.tuned}, given.repeat)
        show(figures, f"CPU seconds of {given.trials} trials / of their fits (asked: {ASK})")
        failed |= medians(figures)[fits] > ASK
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
