"""The command ``run``: one run a seed, a baseline beside each, a table and a picture at the end."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning_al.assembly.building import Assembly
from lightning_al.assembly.command_line import CommandLine
from lightning_al.assembly.settings_files import settings_of, text_of
from lightning_al.history.history import History
from lightning_al.history.loggers import build_loggers, close_loggers
from lightning_al.history.progress import RoundProgress
from lightning_al.identity import digest, plain
from lightning_al.journal.ownership import check_above
from lightning_al.rounds import ActiveLearner
from lightning_al.values import MOST_SEED, folder, whole

from .closing import Outcome, show
from .pictures import pictures

__all__ = ["run_command"]


def run_command(config: Mapping[str, Any], line: CommandLine) -> list[History]:
    """Everything that ``lightning-al run`` does.

    Args:
        config: the resolved configuration.
        line: the command as it was typed.

    Returns:
        One history a seed.
    """
    parts = Assembly(config)
    root = _root(parts, line)
    several = isinstance(config["seed"], list)
    seeds = config["seed"] if several else [config["seed"]]
    if not seeds or len(set(seeds)) < len(seeds):
        raise ValueError(f"seed is one number, or a list of different ones, got {seeds}")
    for seed in seeds:
        whole(0, MOST_SEED)("seed", seed)
    if several:
        check_above(root)  # the picture of all seeds goes there
    histories, baselines = [], []
    _say_if_idle(parts.learner())
    for seed in seeds:
        if several:
            _say(f"seed {seed}", config)
        folder = root / f"seed-{seed}" if several else root
        identity = {**parts.identity(), "seed": seed}
        learner = parts.learner(seed=seed, run_dir=folder, config=identity)
        histories.append(_one(learner, parts, config))
        if config.get("baseline") is not None:
            same = {k: v for k, v in identity.items() if k != "first"}
            beside = learner.with_(
                strategy=config["baseline"],
                first=None,  # a baseline begins by itself too
                run_dir=folder / "baseline",
                config={**same, "strategy": config["baseline"]},
            )
            _say("baseline", config)
            baselines.append(_one(beside, parts, config))
    if _first_process():
        show(Outcome(root, histories, baselines, line, parts))
    return histories


def _root(parts: Assembly, line: CommandLine) -> Path:
    """The run folder: the one asked for, the one the configuration lies in, or a new name."""
    if (given := parts.config.get("run_dir")) is not None:
        return Path(folder("--run_dir", given))
    identity = plain(parts.identity())
    home = line.home
    if parts.config.get("change"):
        if home is None:
            raise ValueError(
                "--change goes on with a run: say which, with --run_dir FOLDER or --config "
                "FOLDER/config.yaml"
            )
        return home
    if home is not None:
        kept = home / "config.yaml"
        if settings_of(text_of(kept), kept) == identity:
            return home
    return Path("runs") / f"{line.name}-{digest(identity)}"


def _one(learner: ActiveLearner, parts: Assembly, config: Mapping[str, Any]) -> History:
    named = build_loggers(config.get("loggers") or [], str(learner.run_dir), config=learner.config)
    loggers = [*parts.loggers(), *named]
    observers: list[Any] = [RoundProgress()] if config.get("progress", True) else []
    observers += pictures(learner.task, config.get("model"))
    try:
        history = learner.with_(loggers=loggers, observers=observers).run()
    except BaseException:
        close_loggers(loggers, failed=True)
        raise
    close_loggers(loggers)
    return history


def _say_if_idle(learner: ActiveLearner) -> None:
    """Tell of a posterior that no strategy of the run draws from."""
    live = learner.parts()
    reads = {getattr(each, "members", "one") for each in (live.strategy, live.first)}
    if live.posterior is not None and reads == {"one"} and _first_process():
        print(
            f"strategy {live.name!r} reads one function, so the posterior "
            f"{type(live.posterior).__name__} is left idle; leave it out, or give a strategy that "
            "compares several, such as bald",
            file=sys.stderr,
        )


def _first_process() -> bool:
    return all(int(os.environ.get(name, 0)) == 0 for name in ("LOCAL_RANK", "NODE_RANK"))


def _say(text: str, config: Mapping[str, Any]) -> None:
    if config.get("progress", True) and _first_process():
        print(text, file=sys.stderr)
