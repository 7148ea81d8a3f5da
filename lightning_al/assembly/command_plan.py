"""The options of the command ``run``: those of a run, and what the command adds to them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from lightning_al.records import RunPlan
from lightning_al.records.plan import MISSING, Option, option, options_of

__all__ = ["CommandPlan", "grid_keys", "part_options", "run_options"]

SPEC = str | dict[str, Any]


@dataclass(frozen=True)
class CommandPlan(RunPlan):
    """What ``lightning-al run`` takes beyond the options of one run."""

    seed: Any = option(  # type: ignore[assignment]
        "of everything random; a list runs once for each", 0, grid=False
    )
    baseline: Any = option(
        "a strategy to run beside it, in the sub-folder baseline/",
        None,
        part="strategy",
        identity=False,
        grid=False,
    )
    loggers: Sequence[str] | None = option(
        "of csv, tensorboard, wandb; shared by all rounds", None, identity=False, grid=False
    )
    progress: bool = option("show how far the run is", True, identity=False, grid=False)


TYPES: dict[str, Any] = {
    "seed": int | list[int],
    "loggers": list[str] | None,
    "tuning": dict[str, Any] | None,
}
"""Types on the command line of what Python takes more freely."""


def run_options(
    plan: type[RunPlan] = CommandPlan,
) -> Iterator[tuple[str, Any, Any, str]]:
    """(name, type, default, help) of each option that the command line takes."""
    for each, facts in options_of(plan):
        if facts.command:
            default = each.default if facts.usual is None else facts.usual
            default = None if facts.several or default is MISSING else default
            help = facts.help + (f"; --{each.name}.KEY sets an argument" if _folds(facts) else "")
            yield each.name, _type(each.name, each.type, facts), default, help


def _folds(facts: Option) -> bool:
    return bool(facts.part) and not facts.several


def _type(name: str, annotation: Any, facts: Option) -> Any:
    if facts.part:
        return list[SPEC] | None if facts.several else SPEC | None
    if facts.type:
        module, _, attribute = facts.type.rpartition(".")
        return getattr(import_module(module), attribute) | None
    if name in TYPES:
        return TYPES[name]
    if not isinstance(annotation, str):
        return annotation
    plain = {"str": str, "int": int, "bool": bool, "float": float, "Path": str}
    words = [word.strip() for word in annotation.split("|")]
    found: Any = None
    for word in dict.fromkeys(plain.get(word) for word in words):
        found = word if found is None else found | word
    return found if "None" not in words else found | None


def part_options(plan: type[RunPlan] = CommandPlan) -> dict[str, str]:
    """Options whose value is a specification, by the family that it names a member of."""
    return {each.name: facts.part for each, facts in options_of(plan) if _folds(facts)}


def grid_keys(plan: type[RunPlan] = CommandPlan) -> set[str]:
    """Options that a benchmark may set."""
    return {each.name for each, facts in options_of(plan) if facts.grid}
