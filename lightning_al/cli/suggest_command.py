"""The command ``suggest``: which items to label next, from a checkpoint."""

from __future__ import annotations

import argparse
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import LightningModule

from lightning_al.assembly.building import Assembly
from lightning_al.assembly.parser import parse
from lightning_al.assembly.shipped import find_config, is_overlay
from lightning_al.records import Acquisition
from lightning_al.rounds.suggest import suggest, write_suggestions

__all__ = ["suggest_command"]


def suggest_command(arguments: Sequence[str]) -> Acquisition:
    """Write a CSV of the items to label next, best first."""
    parser = argparse.ArgumentParser(
        prog="lightning-al suggest",
        usage="lightning-al suggest --ckpt FILE [--k 20] [--out FILE] [--key value ...]",
        description="Which items to label next, from a trained model; writes a CSV with the "
        "columns rank, index, path, score, best first.",
        epilog="Further arguments change the configuration as in `run`: "
        "--strategy entropy, --posterior MCDropout, --data.init_args.path new.csv",
        allow_abbrev=False,
    )
    parser.add_argument("--ckpt", required=True, type=Path, help="a checkpoint of a run, or of fit")
    parser.add_argument("--k", type=int, default=20, help="how many items (default 20)")
    parser.add_argument(
        "--config", action="append", help="configuration; that of the checkpoint's run by default"
    )
    parser.add_argument(
        "--out", type=Path, default=Path("suggestions.csv"), help="default suggestions.csv"
    )
    parser.add_argument("--seed", type=int, default=0, help="breaks ties (default 0)")
    known, more = parser.parse_known_args(list(arguments))
    if not known.ckpt.is_file():
        raise FileNotFoundError(f"no checkpoint at {known.ckpt}; give a .ckpt file of a run")
    configs = known.config or []
    if all(is_overlay(find_config(name).name) for name in configs):
        configs = [str(_config_beside(known.ckpt)), *configs]
    words = [word for name in configs for word in ("--config", name)]
    parts = Assembly(parse(["run", *words, *more]))
    learner, datamodule = parts.learner(), parts.datamodule
    had = len(datamodule.labelled)  # type: ignore[attr-defined]
    task = _trained(known.ckpt, parts).to(learner.recipe().build_trainer().strategy.root_device)
    found = suggest(
        task,
        datamodule,
        learner.strategy,
        known.k,
        posterior=learner.posterior,
        adapter=learner.adapter,
        features=learner.features,
        seed=known.seed,
        remaining=learner.budget - (len(datamodule.labelled) - had),  # type: ignore[attr-defined]
    )
    write_suggestions(found, datamodule, known.out)
    n = len(datamodule.pool)  # type: ignore[attr-defined]
    print(f"{len(found)} items of {n} candidates, best first: {known.out}")
    return found


def _config_beside(checkpoint: Path) -> Path:
    for folder in checkpoint.resolve().parents[:3]:
        if (folder / "journal.jsonl").exists():
            return folder / "config.yaml"
    raise FileNotFoundError(
        f"{checkpoint} lies in no run folder; say with --config which model and data it is of"
    )


def _trained(path: Path, parts: Assembly) -> LightningModule:
    """The module of a checkpoint; who was labelled is put back too."""
    try:
        # our own file, or one the user vouches for: hyper-parameters may be any objects
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=False)
    except (pickle.UnpicklingError, EOFError, RuntimeError) as error:
        raise ValueError(f"{path} cannot be read as a checkpoint: {error}") from None
    task = parts.task()
    try:
        task.load_state_dict(state["state_dict"])
    except (RuntimeError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path} is not of the model in the configuration; give with --config the one it was "
            f"trained with ({str(error).splitlines()[-1].strip()})"
        ) from None
    if saved := state.get(type(parts.datamodule).__qualname__):
        parts.datamodule.load_state_dict(saved)
    return task
