"""The command ``configs``: what is shipped."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import PurePosixPath

from lightning_al.assembly.shipped import (
    config_path,
    list_benches,
    list_configs,
    list_overlays,
    list_policies,
)
from lightning_al.strategies import build

__all__ = ["configs_command", "kind_of"]

HEADS = {
    "classification": "strategies for classes, behind a configuration: "
    "--config digits --config strategies/NAME",
    "regression": "strategies for numbers: --config diabetes --config strategies/NAME",
    "safe": "strategies for numbers y beside a safety measurement z, safe where z >= 0: "
    "--config townsend --config strategies/NAME",
    "either": "strategies for both",
}


def configs_command(arguments: Sequence[str]) -> list[str]:
    """List the shipped configurations with their first line, or print one."""
    parser = argparse.ArgumentParser(
        prog="lightning-al configs", description="Shipped configurations for --config NAME."
    )
    parser.add_argument("name", nargs="?", help="print this one (save it, change it, --config it)")
    known = parser.parse_args(list(arguments))
    if known.name:
        print(config_path(known.name).read_text(), end="")
        return [known.name]
    names, overlays = list_configs(), list_overlays()
    width = max(map(len, names))
    _show([name for name in names if name not in overlays], width)
    print("\nbenchmarks: lightning-al bench --config NAME")
    _show(list_benches(), width)
    print("\npolicies to pretrain: lightning-al fit --config NAME")
    _show(list_policies(), width)
    for kind, head in HEADS.items():
        print(f"\n{head}")
        _show([n for n in overlays if kind_of(PurePosixPath(n).name) == kind], width)
    return names


def kind_of(strategy: str) -> str:
    """What a registered strategy is for: "classification", "regression", "safe", or "either".

    "safe" are those for a task with two outputs, the last of which is a safety measurement.
    """
    built = build(strategy)
    needs = set(built.needs)
    if hasattr(built, "kind"):
        return str(built.kind)
    if needs & {"probs", "logits"}:
        return "classification"
    return "regression" if needs & {"mean", "variance"} else "either"


def _show(names: Sequence[str], width: int) -> None:
    for name in names:
        first = config_path(name).read_text().splitlines()[0]
        print(f"{name:{width}}  {first.removeprefix('# ')}")
