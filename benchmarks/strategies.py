"""Every classification strategy on Fashion-MNIST: what it learns, and what it costs.

    python benchmarks/strategies.py --pool 5000 --steps 100 --out results.jsonl

Each strategy runs through its shipped configuration (``--config fashion_mnist --config
strategies/NAME``) with a smaller network and short fits, in a process of its own on one thread: ten
queries, from the same initial labels and weights, over a part of the training images that is the
same for all. Seconds are CPU seconds of scoring and of selection, summed over the rounds;
memory is the highest resident memory while the pool is scored and chosen from, above that before
(Linux). The area is that under the curve of test accuracy, trapezoids over the labels, divided by
the span of labels.

Results are appended to a file; what stands there already, under the same settings, is not run
again. ``--table`` only prints it. Nothing is asked: the script prints a table.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np
from peers import quiet
from pool_memory import forget, memory

SETTINGS = ("rounds", "query_size", "initial", "pool", "test", "steps", "members", "width")
PRELOAD = [
    "lightning_al.assembly.building",
    "lightning_al.assembly.parser",
    "lightning_al.rounds.driver",
]
COLUMNS = ("accuracy", "area", "score", "choose", "memory")


class Costs:
    """Observer: CPU seconds of each stage, and the memory that scoring and choosing take."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self.memory = 0
        self._stage, self._start, self._before = "", 0.0, 0

    def run_started(self, *_: object) -> None:
        pass

    def stage_started(self, _round: int, stage: str) -> None:
        self._close()
        self._stage, self._start = stage, time.process_time()
        if stage == "score":
            forget()
            self._before = memory("VmRSS")

    def _close(self) -> None:
        self.seconds[self._stage] += time.process_time() - self._start
        if self._stage == "choose":
            self.memory = max(self.memory, memory("VmHWM") - self._before)
        self._stage = ""

    def round_ended(self, *_: object) -> None:
        self._close()

    run_ended = round_ended


def datamodule(settings: Mapping[str, Any]) -> Any:
    """A part of Fashion-MNIST: the same images for all seeds and strategies."""
    import torch

    from lightning_al.datamodules import ActiveDataModule, FashionMNISTDataModule, TensorItems

    whole = FashionMNISTDataModule()
    whole.prepare_data()
    splits = whole.load()
    draw = torch.Generator().manual_seed(0)

    def part(items: Any, n: int) -> TensorItems:
        rows = torch.randperm(len(items), generator=draw)[:n]
        return TensorItems(items.inputs[0][rows], items.targets[rows], items.transform)

    return ActiveDataModule(
        part(splits.train, settings["pool"] + settings["initial"]),
        part(splits.test, settings["test"]),
        initial=settings["initial"],
        stratified=True,
        batch_size=32,
    )


def once(name: str, seed: int, settings: Mapping[str, Any]) -> dict[str, Any]:
    """One run in this process."""
    import torch

    from lightning_al.assembly.building import Assembly
    from lightning_al.assembly.parser import parse

    quiet()
    torch.set_num_threads(1)
    k = settings["query_size"]
    words = ["run", "--config", "fashion_mnist", "--config", f"strategies/{name}"]
    words += ["--trainer.max_epochs", "-1", "--trainer.max_steps", str(settings["steps"])]
    words += ["--trainer.accelerator", "cpu", "--model.lr", "0.003"]
    words += ["--query_size", str(k), "--budget", str(settings["rounds"] * k)]
    words += ["--model.network.width", str(settings["width"])]
    parts = Assembly(parse(words))
    changes: dict[str, Any] = {"datamodule": datamodule(settings)}
    learner = parts.learner(seed=seed, **changes)
    if learner.posterior is not None:
        changes["posterior"] = type(learner.posterior)(settings["members"])
    costs = Costs()
    start = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        changes |= {"run_dir": folder, "keep_checkpoints": "last", "observers": [costs]}
        history = parts.learner(seed=seed, **changes).run()
    labels = np.array([r.n_labelled for r in history.rounds])
    accuracy = np.array([100 * r.metrics["test/accuracy"] for r in history.rounds])
    area = np.trapezoid(accuracy, labels) / (labels[-1] - labels[0])
    return {
        "accuracy": float(accuracy[-1]),
        "area": float(area),
        "score": costs.seconds["score"],
        "choose": costs.seconds["choose"],
        "memory": costs.memory / 2**20,
        "whole": time.process_time() - start,
        "labels": int(labels[-1]),
    }


def known(path: Path, settings: Mapping[str, Any]) -> dict[tuple[str, int], dict[str, Any]]:
    """(strategy, seed) -> result, of what a file holds under these settings."""
    lines = path.read_text().splitlines() if path.exists() else []
    rows = [json.loads(line) for line in lines]
    return {(r["strategy"], r["seed"]): r for r in rows if r["settings"] == dict(settings)}


def classification() -> list[str]:
    """The strategies that can serve a classification."""
    from lightning_al.strategies import kind_of, names

    return [name for name in names() if kind_of(name) in ("classification", "either")]


def table(rows: Iterable[Mapping[str, Any]]) -> str:
    """The results as Markdown, the largest area first; mean ± deviation over the seeds."""
    by_name: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for row in rows:
        by_name[row["strategy"]].append(row)

    def cell(name: str, column: str) -> str:
        values = [row[column] for row in by_name[name]]
        places = 0 if column == "memory" else 1 if column in ("accuracy", "area") else 2
        spread = f" ± {stdev(values):.{places}f}" if len(values) > 1 and places == 1 else ""
        return f"{mean(values):.{places}f}{spread}"

    head = "| strategy | final accuracy, % | area, % | scoring, s | selection, s | memory, MiB |"
    order = sorted(by_name, key=lambda name: -mean(row["area"] for row in by_name[name]))
    body = [f"| {name} | " + " | ".join(cell(name, c) for c in COLUMNS) + " |" for name in order]
    return "\n".join([head, "|---|---|---|---|---|---|", *body])


def main() -> None:
    """Run what is not there yet, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--strategies", type=lambda s: s.split(","), help="default: all")
    parser.add_argument("--skip", type=lambda s: s.split(","), default=[], help="not these")
    parser.add_argument("--rounds", type=int, default=10, help="queries")
    parser.add_argument("--query-size", type=int, default=20)
    parser.add_argument("--initial", type=int, default=20, help="labels of round 0")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--pool", type=int, default=5000, help="images, at most 59,980")
    parser.add_argument("--test", type=int, default=2000, help="test images")
    parser.add_argument("--steps", type=int, default=100, help="of a fit, batches of 32")
    parser.add_argument("--members", type=int, default=10, help="dropout masks, where many")
    parser.add_argument("--width", type=int, default=8, help="channels of the network")
    parser.add_argument("--table", action="store_true", help="only print what the file holds")
    parser.add_argument(
        "--out", type=Path, default=Path(tempfile.gettempdir()) / "lightning-al-strategies.jsonl"
    )
    parser.add_argument("--jobs", type=int, default=1, help="processes at a time")
    args = parser.parse_args()
    settings = {name: getattr(args, name) for name in SETTINGS}
    chosen, failed = args.strategies or classification(), []
    chosen = [name for name in chosen if name not in args.skip]
    todo = [(name, seed) for seed in range(args.seeds) for name in chosen]
    done = known(args.out, settings)
    context = multiprocessing.get_context("forkserver")  # each child fresh, what it imports loaded
    context.set_forkserver_preload(PRELOAD)
    with ProcessPoolExecutor(args.jobs, context, max_tasks_per_child=1) as pool:
        runs = {
            pool.submit(once, *pair, settings): pair
            for pair in todo
            if pair not in done and not args.table
        }
        for run in as_completed(runs):
            name, seed = runs[run]
            if run.exception() is not None:
                failed.append(name)
                print(f"{name:28} seed {seed}: {run.exception()!r}", flush=True)
                continue
            with args.out.open("a") as file:
                row = {"strategy": name, "seed": seed, "settings": settings, **run.result()}
                print(json.dumps(row), file=file)
            print(
                f"{name:28} seed {seed}: area {row['area']:.1f}, {row['whole']:.1f} CPU s",
                flush=True,
            )
    rows = [row for pair, row in known(args.out, settings).items() if pair in todo]
    print(f"\n{settings}\n{args.out}\n\n{table(rows)}")
    if failed:
        print(f"failed: {', '.join(failed)}")
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
