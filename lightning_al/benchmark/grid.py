"""A grid of runs: data sets x models x strategies x starts x query sizes x folds x seeds.

Runs that differ in the strategy only are paired: they share the split, the start set, the initial
weights and the fold, because all of these are drawn from the seed and never from the strategy.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightning_al.assembly.command_plan import CommandPlan, grid_keys
from lightning_al.assembly.settings_files import settings_of, text_of
from lightning_al.history.metric_names import larger_is_better
from lightning_al.records import RunPlan
from lightning_al.spec import find, signature
from lightning_al.strategies import resolve
from lightning_al.values import number, optional

from .areas import AREAS
from .ceilings import Entry, ceilings
from .groups import Unit, groups_of, units_of
from .run_spec import AXES, RunSpec, override
from .study import study_of

__all__ = ["BenchConfig", "bench_of", "read_bench"]

BLOCK = {"common", "data", "models", "strategies", "starts", "query_sizes", "folds", "seeds"}
WHOLE = {
    *("metric", "higher_is_better", "area", "reference", "ceilings", "grids", "title"),
    *("vary_split", "study", "collapse"),
}
COMPONENTS = {"model", "data", "trainer", "optimizer", "lr_scheduler"}
"""What a run is made of beside its options."""


@dataclass(frozen=True)
class BenchConfig:
    """What a benchmark configuration says.

    Args:
        runs: all runs of all its grids, in order, none twice.
        metric: column that counts, such as ``test/accuracy``; several, where grids differ in it.
        area: rule that makes one number of a curve (:data:`.areas.AREAS`).
        reference: strategy that the others are compared with.
        title: for the report.
        study: what a paper adds to the report and says of the results: a name of
            :data:`.study.STUDIES`, or such with arguments; None for nothing.
        groups: those of its whole grid, whichever of its runs these are.
        collapse: by how much, in the metric's unit, a fit must fall short of the best one before
            it to count as a collapse; None for 0.05 of an accuracy, and no count of others.
    """

    runs: Sequence[RunSpec]
    metric: str
    area: str = "budget"
    reference: str = "random"
    title: str = ""
    study: str | Mapping[str, Any] | None = None
    collapse: float | None = None
    groups: Sequence[Unit] = ()

    def units(self) -> list[Unit]:
        """What is handed out to do the runs: groups that they are of, and runs alone."""
        return units_of(self.runs, self.groups)

    def facts(self) -> dict[str, Any]:
        """What a report needs to know beside the results."""
        names = ("metric", "area", "reference", "title", "study", "collapse")
        return {name: getattr(self, name) for name in names}


def read_bench(path: Path, **changes: Any) -> BenchConfig:
    """Read a benchmark configuration.

    Args:
        path: a YAML file.
        changes: settings that replace those of the file (``seeds=3``).

    Raises:
        ValueError: an unknown key, a missing one, or an empty axis; the message names it.
        LookupError: an unknown strategy, area rule or study.
    """
    text = text_of(path)
    given = settings_of(text, path)
    if {"model", "strategy"} & set(given):
        raise ValueError(
            f"{path.name} is a configuration of one run; a benchmark names data, models and "
            "strategies, several of each (`lightning-al configs` lists those shipped)"
        )
    first = next(iter(text.splitlines()), "")
    given.setdefault("title", first.removeprefix("# ") if first.startswith("# ") else path.stem)
    return bench_of(given, name=path.name, **changes)


def bench_of(
    given: Mapping[str, Any],
    *,
    name: str = "benchmark",
    plan: type[RunPlan] = CommandPlan,
    **changes: Any,
) -> BenchConfig:
    """The benchmark that some settings describe; see :func:`read_bench`.

    Args:
        given: the settings.
        name: of the file, for messages.
        plan: whose options the runs have.
        changes: settings that replace those given.
    """
    given = dict(given)
    blocks = [{**given, **block} for block in given.pop("grids", None) or [{}]]
    allowed = BLOCK | WHOLE
    for block in blocks:
        block.update({k: v for k, v in changes.items() if v is not None})
        if unknown := sorted(set(block) - allowed):
            raise ValueError(f"{name}: unknown {unknown}; it takes {', '.join(sorted(allowed))}")
    AREAS.factory(given.get("area", "budget"))
    study = study_of(given.get("study"))
    runs: dict[str, RunSpec] = {}
    for spec in (spec for block in blocks for spec in _product(block, name, plan)):
        same = runs.setdefault(spec.run_id, spec)
        if same.metric != spec.metric:
            raise ValueError(
                f"{name}: two grids hold the same run ({spec}) with the metrics {same.metric} and "
                f"{spec.metric}; give it once, the report takes --metric"
            )
    bench = BenchConfig(
        runs=tuple(runs.values()),
        metric=", ".join(dict.fromkeys(spec.metric for spec in runs.values())),
        area=given.get("area", "budget"),
        reference=given.get("reference", "random"),
        title=given.get("title", name),
        study=given.get("study"),
        groups=groups_of(tuple(runs.values())),
        collapse=optional(number(0))("collapse", given.get("collapse")),
    )
    if study is not None:
        study.check(bench.runs)
    return bench


def _product(
    block: Mapping[str, Any], name: str, plan: type[RunPlan] = CommandPlan
) -> Iterator[RunSpec]:
    for axis in ("data", "models", "strategies"):
        if not block.get(axis):
            raise ValueError(f"{name} names no {axis}: give `{axis}:` with at least one entry")
    metric = block.get("metric")
    if not isinstance(metric, str):
        raise ValueError(f"{name} must name its metric, such as `metric: test/accuracy`")
    higher = bool(block.get("higher_is_better", larger_is_better(metric) is not False))
    common = dict(block.get("common") or {})
    takes = COMPONENTS | grid_keys(plan)
    if unknown := sorted(set(common) - takes):
        raise ValueError(f"{name}: common holds {unknown}; it takes {', '.join(sorted(takes))}")
    strategies = [Entry(n, _strategy(n, s)) for n, s in _named(block["strategies"]).items()]
    strategies += ceilings(block.get("ceilings") or (), metric, higher)
    _told_apart(strategies, name)
    seeds = block.get("seeds", 50)
    folds = block.get("folds")
    for data, model, strategy, start, size, fold, seed in itertools.product(
        _named(block["data"]).items(),
        _named(block["models"]).items(),
        strategies,
        _named(block.get("starts") or {"": {}}).items(),
        block.get("query_sizes") or [common.get("query_size")],
        _numbers(folds) if folds is not None else [None],
        _numbers(seeds),
    ):
        config = copy.deepcopy(common)
        config |= {"data": copy.deepcopy(data[1]), "model": copy.deepcopy(model[1])}
        for changes in (strategy.settings, start[1]):
            for key, value in (changes or {}).items():
                override(config, key, copy.deepcopy(value))
        if fold is not None:
            override(config, "data.fold", fold)
        elif block.get("vary_split", True) and _splits(config["data"]):
            override(config, "data.split_seed", seed)
        config |= {"query_size": size, "seed": seed}
        if missing := [k for k in ("query_size", "budget", "trainer") if config.get(k) is None]:
            raise ValueError(f"{name}: `common` must give {', '.join(missing)}")
        names = (data[0], model[0], strategy.name, start[0], size)
        place = dict(zip(AXES, (*names, -1 if fold is None else fold, seed), strict=True))
        yield RunSpec(place, config, metric, higher, strategy.role, strategy.takes_all)


def _told_apart(strategies: Sequence[Entry], name: str) -> None:
    names = [entry.name for entry in strategies]
    if twice := sorted({n for n in names if names.count(n) > 1}):
        raise ValueError(
            f"{name}: {', '.join(twice)} is what a ceiling is called; give the strategy another "
            "name"
        )


def _splits(data: Mapping[str, Any]) -> bool:
    """Whether a data set draws its own split, by a seed that nobody has fixed."""
    path = str(data.get("class_path", ""))
    if "." not in path or "split_seed" in (data.get("init_args") or {}):
        return False
    try:
        found = find(path, "data module", "give an importable class path")
    except LookupError:
        return False  # the run itself says so better
    return "split_seed" in signature(found).parameters


def _named(entries: Any) -> dict[str, Any]:
    if isinstance(entries, Mapping):
        return {str(k): v for k, v in entries.items()}
    return {str(entry): entry for entry in entries}


def _numbers(given: int | Sequence[int]) -> list[int]:
    found = list(range(given)) if isinstance(given, int) else list(given)
    if not found or len(set(found)) < len(found):
        raise ValueError(f"seeds and folds are a count >= 1 or different numbers, got {given}")
    return found


def _strategy(name: str, spec: Any) -> dict[str, Any]:
    """A strategy's entry as settings: it is a name, a specification, or settings of its own."""
    settings = dict(spec) if isinstance(spec, Mapping) and "strategy" in spec else {}
    settings.setdefault("strategy", name if spec is None else spec)
    resolve(settings["strategy"])  # a wrong name is said before anything runs
    return settings
