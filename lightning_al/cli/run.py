"""The command ``run``: one run a seed, a baseline beside each, a table and a picture at the end."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning_al.callbacks import RoundLog, RoundProgress, round_table
from lightning_al.rounds import ActiveLearner, History
from lightning_al.rounds.identity import digest
from lightning_al.rounds.loggers import build_loggers, close_loggers
from lightning_al.rounds.plots import learning_curve
from lightning_al.strategies import resolve

from .build import Parts

__all__ = ["run_command"]


def run_command(config: Mapping[str, Any], name: str) -> list[History]:
    """Everything that ``lightning-al run`` does.

    Args:
        config: the resolved configuration.
        name: of the configuration, for the run folder.

    Returns:
        One history a seed.
    """
    for spec in (config["strategy"], config.get("baseline")):
        if spec is not None:
            resolve(spec)  # an unknown name is said before any data are read
    parts = Parts(config)
    root = Path(config.get("run_dir") or f"runs/{name}-{digest(parts.identity())}")
    seeds = config["seed"] if isinstance(config["seed"], list) else [config["seed"]]
    if not seeds:
        raise ValueError("seed is an empty list; give at least one seed")
    histories, baselines = [], []
    for seed in seeds:
        folder = root if len(seeds) == 1 and not isinstance(config["seed"], list) else (
            root / f"seed-{seed}"
        )
        identity = {**parts.identity(), "seed": seed}
        learner = parts.learner(seed=seed, run_dir=folder, config=identity)
        histories.append(_one(learner, parts, config))
        if config.get("baseline") is not None:
            beside = learner.with_(
                strategy=config["baseline"],
                run_dir=folder / "baseline",
                config={**identity, "strategy": config["baseline"]},
            )
            baselines.append(_one(beside, parts, config))
    if int(os.environ.get("LOCAL_RANK", 0)) == 0 and int(os.environ.get("NODE_RANK", 0)) == 0:
        _show(root, histories, baselines, name)
    return histories


def _one(learner: ActiveLearner, parts: Parts, config: Mapping[str, Any]) -> History:
    named = build_loggers(
        config.get("loggers") or [], str(learner.run_dir), config=learner.config
    )
    loggers = [*parts.loggers(), *named]
    observers: list[Any] = [RoundLog(loggers)]
    if config.get("progress", True):
        observers.append(RoundProgress())
    try:
        history = learner.with_(loggers=loggers, observers=observers).run()
    except BaseException:
        close_loggers(loggers, failed=True)
        raise
    close_loggers(loggers)
    return history


def _show(
    root: Path, histories: Sequence[History], baselines: Sequence[History], name: str
) -> None:
    picture = root / "curve.png"
    learning_curve([*histories, *baselines], path=picture)
    last = baselines[-1] if baselines else None
    print()
    if len(histories) > 1:
        print(f"seed {len(histories)} of {len(histories)}; all of them are in the picture")
    print(round_table(histories[-1], last))
    print(f"\nrun folder   {root}\nlearning curve  {picture}")
    checkpoint = histories[-1].final_checkpoint
    command = Path(sys.argv[0]).name if sys.argv else "lightning-al"
    command = command if command.startswith("lightning") else "lightning-al"
    print("\nwhat to try next")
    for words, why in (
        (f"{command} run --config {name} --strategy bald --posterior MCDropout", "another strategy"),
        (f"{command} run --config {name} --seed [0,1,2,3,4] --baseline random", "more seeds: one run proves little"),
        (f"{command} suggest --ckpt {shlex.quote(str(checkpoint))} --k 20", "which items to label next"),
        (f"{command} configs", "the other shipped configurations"),
    ):
        print(f"  {words}\n      {why}")
