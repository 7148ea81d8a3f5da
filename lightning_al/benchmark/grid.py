"""A grid of runs: data sets x models x strategies x starts x query sizes x folds x seeds.

Runs that differ in the strategy only are paired: they share the split, the start set, the initial
weights and the fold, because all of these are drawn from the seed and never from the strategy.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from lightning_al.history.metric_names import larger_is_better
from lightning_al.identity import digest
from lightning_al.spec import find, signature
from lightning_al.strategies import resolve

from .areas import AREAS
from .ceilings import GREEDY

__all__ = ["AXES", "BenchConfig", "RunSpec", "override", "read_bench"]

AXES = ("data", "model", "strategy", "start", "query_size", "fold", "seed")
"""What the runs of a grid differ in; each is a column of the results."""

BLOCK = {"common", "data", "models", "strategies", "starts", "query_sizes", "folds", "seeds"}
WHOLE = {
    *("metric", "higher_is_better", "area", "reference", "ceilings", "grids", "title"),
    *("vary_split", "published"),
}
RUN = {
    *("model", "data", "trainer", "strategy", "posterior", "oracle", "adapter", "stopping"),
    *("query_size", "budget", "weights", "restore", "optimizer", "lr_scheduler"),
    *("memory_budget", "features", "first", "cost_budget", "hit_ratio_at"),
}
FULL_DATA = "full data"
"""The strategy column of the runs that label everything at once, the ceiling of a data set."""


@dataclass(frozen=True)
class RunSpec:
    """One run of a grid: where it stands on each axis, and its settings for ``run``."""

    place: Mapping[str, Any]  # a value for each of AXES
    config: Mapping[str, Any]  # as in a YAML file of ``lightning-al run``
    metric: str = "test/accuracy"  # the column that counts
    higher_is_better: bool = True
    run_id: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "run_id", digest({"place": self.place, "config": self.config}))

    def __str__(self) -> str:
        return " ".join(f"{name}={value}" for name, value in self.place.items() if value != "")


@dataclass(frozen=True)
class BenchConfig:
    """What a benchmark configuration says.

    Args:
        runs: all runs of all its grids, in order, none twice.
        metric: column that counts, such as ``test/accuracy``; several, where grids differ in it.
        area: rule that makes one number of a curve (:data:`.areas.AREAS`).
        reference: strategy that the others are compared with.
        title: for the report.
        published: how to put PyRelationAL's tables beside the results: "tables" as they are,
            "honest" for a sound model on the same data; empty for not at all.
    """

    runs: Sequence[RunSpec]
    metric: str
    area: str = "budget"
    reference: str = "random"
    title: str = ""
    published: str = ""

    def facts(self) -> dict[str, Any]:
        """What a report needs to know beside the results."""
        names = ("metric", "area", "reference", "title", "published")
        return {name: getattr(self, name) for name in names}


def read_bench(path: Path, **changes: Any) -> BenchConfig:
    """Read a benchmark configuration.

    Args:
        path: a YAML file.
        changes: settings that replace those of the file (``seeds=3``).

    Raises:
        ValueError: an unknown key, a missing one, or an empty axis; the message names it.
        LookupError: an unknown strategy or area rule.
    """
    given = yaml.safe_load(path.read_text())
    if not isinstance(given, dict):
        raise ValueError(f"{path} must hold settings `key: value`, got {type(given).__name__}")
    if {"model", "strategy"} & set(given):
        raise ValueError(
            f"{path.name} is a configuration of one run; a benchmark names data, models and "
            "strategies, several of each (`lightning-al configs` lists those shipped)"
        )
    first = path.read_text().splitlines()[0]
    given.setdefault("title", first.removeprefix("# ") if first.startswith("# ") else path.stem)
    return bench_of(given, name=path.name, **changes)


def bench_of(given: Mapping[str, Any], *, name: str = "benchmark", **changes: Any) -> BenchConfig:
    """The benchmark that some settings describe; see :func:`read_bench`."""
    given = dict(given)
    blocks = [{**given, **block} for block in given.pop("grids", None) or [{}]]
    allowed = BLOCK | WHOLE
    for block in blocks:
        block.update({k: v for k, v in changes.items() if v is not None})
        if unknown := sorted(set(block) - allowed):
            raise ValueError(f"{name}: unknown {unknown}; it takes {', '.join(sorted(allowed))}")
    AREAS.factory(given.get("area", "budget"))
    runs: dict[str, RunSpec] = {}
    for spec in (spec for block in blocks for spec in _product(block, name)):
        same = runs.setdefault(spec.run_id, spec)
        if same.metric != spec.metric:
            raise ValueError(
                f"{name}: two grids hold the same run ({spec}) with the metrics {same.metric} and "
                f"{spec.metric}; give it once, the report takes --metric"
            )
    return BenchConfig(
        runs=tuple(runs.values()),
        metric=", ".join(dict.fromkeys(spec.metric for spec in runs.values())),
        area=given.get("area", "budget"),
        reference=given.get("reference", "random"),
        title=given.get("title", name),
        published=given.get("published", ""),
    )


def _product(block: Mapping[str, Any], name: str) -> Iterator[RunSpec]:
    for axis in ("data", "models", "strategies"):
        if not block.get(axis):
            raise ValueError(f"{name} names no {axis}: give `{axis}:` with at least one entry")
    metric = block.get("metric")
    if not isinstance(metric, str):
        raise ValueError(f"{name} must name its metric, such as `metric: test/accuracy`")
    higher = bool(block.get("higher_is_better", larger_is_better(metric) is not False))
    common = dict(block.get("common") or {})
    if unknown := sorted(set(common) - RUN):
        raise ValueError(f"{name}: common holds {unknown}; it takes {', '.join(sorted(RUN))}")
    strategies = {n: _strategy(n, s) for n, s in _named(block["strategies"]).items()}
    strategies |= _ceilings(block.get("ceilings") or (), metric, higher)
    seeds = block.get("seeds", 50)
    folds = block.get("folds")
    for data, model, strategy, start, size, fold, seed in itertools.product(
        _named(block["data"]).items(),
        _named(block["models"]).items(),
        strategies.items(),
        _named(block.get("starts") or {"": {}}).items(),
        block.get("query_sizes") or [common.get("query_size")],
        _numbers(folds) if folds is not None else [None],
        _numbers(seeds),
    ):
        config = copy.deepcopy(common)
        config |= {"data": copy.deepcopy(data[1]), "model": copy.deepcopy(model[1])}
        for changes in (strategy[1], start[1]):
            for key, value in (changes or {}).items():
                override(config, key, copy.deepcopy(value))
        if fold is not None:
            override(config, "data.fold", fold)
        elif block.get("vary_split", True) and _splits(config["data"]):
            override(config, "data.split_seed", seed)
        config |= {"query_size": size, "seed": seed}
        if missing := [k for k in ("query_size", "budget", "trainer") if config.get(k) is None]:
            raise ValueError(f"{name}: `common` must give {', '.join(missing)}")
        names = (data[0], model[0], strategy[0], start[0], size, -1 if fold is None else fold, seed)
        yield RunSpec(dict(zip(AXES, names, strict=True)), config, metric, higher)


def _ceilings(names: Sequence[str], metric: str, higher: bool) -> dict[str, Any]:
    """Runs that show what is possible, as entries beside the strategies."""
    arguments = {"metric": metric, "higher_is_better": higher}
    oracle = {
        "class_path": "lightning_al.benchmark.ceilings.GreedyOracle",
        "init_args": arguments,
    }
    known = {
        "full-data": (FULL_DATA, {"strategy": "random"}),
        "greedy-oracle": (GREEDY, {"strategy": oracle}),
    }
    if unknown := sorted(set(names) - set(known)):
        raise ValueError(f"ceilings are {', '.join(known)}, got {', '.join(unknown)}")
    return dict(known[name] for name in names)


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


def override(config: dict[str, Any], key: str, value: Any) -> None:
    """Put a value under a dotted key; ``data.start`` reaches into ``init_args`` by itself.

    >>> config = {"data": {"class_path": "a.B"}}
    >>> override(config, "data.start", "cold")
    >>> config
    {'data': {'class_path': 'a.B', 'init_args': {'start': 'cold'}}}
    """
    head, _, rest = key.partition(".")
    if not rest:
        config[head] = value
        return
    inner = config.setdefault(head, {})
    if not isinstance(inner, dict):
        raise ValueError(f"cannot set {key}: {head} is {inner!r}, not a mapping")
    if "class_path" in inner and not rest.startswith("init_args"):
        inner = inner.setdefault("init_args", {})
    override(inner, rest, value)
