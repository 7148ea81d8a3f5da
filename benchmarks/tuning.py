"""What tuning costs beside its trials: CPU seconds of a tuned round, and of as many plain fits.

    python benchmarks/tuning.py [--trials 20] [--labels 100] [--epochs 60] [--repeat 3]

Digits, an MLP 64-64-10, batches of 32, a validation set that judges, no pruner. A trial is what the
run does for one: proposal, parsing of settings, fit, validation, a line of the journal on the disk.
The plain fits are those of the run at the same settings, one after another, without test and
checkpoint. In turn, medians; asked: at most 5 % above trials times one fit, by either backend.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

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
        """CPU seconds of all trials of a round, and of what goes on around them."""
        from lightning_al.rounds.requests import Try, Write

        executor = self._run().executor
        executor.answer(Try(), 0)  # what the first fit finds out once, it finds out here

        def go() -> None:
            for _ in range(self.trials):
                executor.answer(Write(*executor.answer(Try(), 0)), 0)

        return seconds(go)

    def plain(self) -> float:
        """CPU seconds of as many fits of the run's recipe; the module is built, fitted, dropped."""
        from lightning_al.compat import family_of
        from lightning_al.fits.lean import LEAN, LeanFits
        from lightning_al.fits.lightning import LIGHTNING

        executor = self._run().executor
        fits, data = executor.fits, executor.data
        engine = LEAN if isinstance(fits, LeanFits) else LIGHTNING
        total, trainer = 0.0, None
        for number in range(self.trials + 1):
            clock = time.process_time()
            module = fits.recipe.build_task(0, 0, None)
            if not (engine is LEAN and fits.recipe.renew(trainer, (), family_of(module))):
                trainer = fits.recipe.build_trainer((), None, family_of(module))
            engine.fit(module, fits.recipe, data, trainer, seed=0, round=0)
            total += (time.process_time() - clock) * (number > 0)
        return total


def main() -> int:
    """Print the figures; status 1 where a trial costs more than is asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--labels", type=int, default=100)
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--repeat", type=int, default=3)
    given = parser.parse_args()
    one_thread()
    failed = False
    for fits in ("lean", "lightning"):
        bench = Bench(config(given.labels, given.epochs, given.trials, fits))
        figures = interleaved({"trials": bench.tuned, "fits": bench.plain}, given.repeat)
        show(figures, f"CPU seconds of {given.trials}, {fits}")
        ratio = medians(figures)["trials"] / medians(figures)["fits"]
        print(f"trials / fits: {ratio:.3f} (asked: {ASK})\n")
        failed |= ratio > ASK
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
