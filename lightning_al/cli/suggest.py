"""The command ``suggest``: which items to label next, from a checkpoint of a run."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import yaml

from lightning_al.records import Acquisition

__all__ = ["suggest_command"]


def suggest_command(arguments: Sequence[str]) -> Acquisition:
    """Write a CSV of the items to label next, best first."""
    parser = argparse.ArgumentParser(
        prog="lightning-al suggest",
        description="Which items to label next, from a trained model; writes a CSV.",
        epilog="Further arguments override the run's configuration, e.g. --data.init_args.path",
    )
    parser.add_argument("--ckpt", required=True, type=Path, help="a checkpoint of a run, or of fit")
    parser.add_argument("--k", type=int, default=100, help="how many items (default 100)")
    parser.add_argument("--strategy", help="query strategy; that of the run by default")
    parser.add_argument("--config", help="configuration; that of the checkpoint's run by default")
    parser.add_argument("--out", type=Path, default=Path("suggestions.csv"), help="the CSV")
    parser.add_argument("--seed", type=int, default=0, help="breaks ties")
    known, more = parser.parse_known_args(list(arguments))
    if not known.ckpt.exists():
        raise FileNotFoundError(f"no checkpoint at {known.ckpt}; give a .ckpt file of a run")
    config = known.config or _config_beside(known.ckpt)
    return _suggest(known, [*(["--config", str(config)]), *more])


def _config_beside(checkpoint: Path) -> Path:
    for folder in checkpoint.resolve().parents[:3]:
        if (folder / "config.yaml").exists():
            return folder / "config.yaml"
    raise FileNotFoundError(
        f"no config.yaml beside {checkpoint}; say with --config which model and data it is of"
    )


def _suggest(known: argparse.Namespace, more: list[str]) -> Acquisition:
    from lightning_al.rounds.suggest import suggest, write_suggestions

    from .build import Parts
    from .command import parse
    from .names import resolve_configs

    parts = Parts(parse(["run", *resolve_configs(more)[0]]))
    learner = parts.learner()
    # our own file, or one the user vouches for by naming it: hyper-parameters may be any objects
    state: dict[str, Any] = torch.load(known.ckpt, map_location="cpu", weights_only=False)
    task = parts.task()
    task.load_state_dict(state["state_dict"])
    datamodule: Any = parts.datamodule
    saved = state.get(type(datamodule).__qualname__)
    if saved:
        datamodule.load_state_dict(saved)
    strategy = learner.strategy
    if known.strategy is not None:
        strategy = yaml.safe_load(known.strategy)
    found = suggest(
        task,
        datamodule,
        strategy,
        known.k,
        posterior=learner.posterior,
        adapter=learner.adapter,
        seed=known.seed,
    )
    write_suggestions(found, datamodule, known.out)
    print(f"{len(found)} items of {len(datamodule.pool)} candidates, best first: {known.out}")
    return found
