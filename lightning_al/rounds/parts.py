"""The live objects of a run, beside its plan."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from lightning_al.fits.recipe import Recipe
from lightning_al.identity import Portrayal, module_portrait, named
from lightning_al.records import RunPlan
from lightning_al.records.plan import options_of

__all__ = ["Parts", "describe", "strategy_name"]


@dataclass(frozen=True)
class Parts:
    """What a plan's specifications became, and what no specification names.

    Args:
        task: builds a fresh module, or one to copy each round.
        datamodule: the data.
        strategy: the query strategy.
        name: its name, for legends.
        first: that of rounds in which nothing is labelled.
        first_name: its name.
        oracle: who answers.
        trainer: Trainer arguments, or a function that builds a Trainer.
        posterior: for strategies that need several functions; None for none.
        adapter: how the module is read; None for its own.
        features: the extractor of embeddings; None for the task's own.
        stopping: rules.
        tuning: how settings are looked for; None for not at all.
        loggers: shared by all rounds.
        observers: watchers of the run; rank 0 calls them.
        config: plain values that identify the run; None derives them.
    """

    task: Any
    datamodule: Any
    strategy: Any
    name: str
    first: Any
    first_name: str
    oracle: Any
    trainer: Any = None
    posterior: Any = None
    adapter: Any = None
    features: Any = None
    stopping: Sequence[Any] = ()
    tuning: Any = None
    loggers: Sequence[Any] = ()
    observers: Sequence[Any] = ()
    config: Mapping[str, Any] | None = None

    def recipe(self, plan: RunPlan) -> Recipe:
        """How the fits of the run are made."""
        trainer = {} if self.trainer is None else self.trainer
        return Recipe(self.task, trainer, plan.weights, plan.restore, tuple(self.loggers))


def strategy_name(spec: Any, strategy: Any) -> str:
    """A short name for folders and legends."""
    if isinstance(spec, str):
        return spec
    if isinstance(spec, Mapping):
        return str(spec.get("name") or str(spec.get("class_path", "")).rpartition(".")[2])
    return str(getattr(strategy, "name", "") or type(strategy).__name__)


def describe(
    plan: RunPlan, parts: Parts, module: Any
) -> tuple[dict[str, Any], dict[str, Any], str]:
    """What makes a run this run.

    Args:
        plan: its options.
        parts: its live objects; the datamodule stands at the start of the run.
        module: one that the task has built.

    Returns:
        The configuration (as it was given, or all settings that decide what the run does), the
        identity of module and data, and what could not be described, in words.
    """
    portrayal = Portrayal()
    given = not callable(getattr(parts.task, "forward", None)) or isinstance(parts.task, type)
    identity = {
        "model": module_portrait(module, portrayal, "model", weights=not given),
        "data": portrayal.of(parts.datamodule.portrait(), "data"),
    }
    if parts.config is not None:
        return dict(portrayal.of(parts.config, "config")), identity, named(portrayal.unknown)
    live = {f.name: getattr(parts, f.name) for f in fields(parts)}
    options = {
        each.name: live.get(each.name, getattr(plan, each.name))
        for each, facts in options_of(plan)
        if facts.identity
    }
    if plan.first is None:
        options["first"] = None
    config = {"task": parts.task, **options, "trainer": parts.trainer}
    shown = {name: portrayal.of(value, name) for name, value in config.items()}
    return {**shown, **identity}, identity, named(portrayal.unknown)
