"""Overlays, written from what strategies declare: the settings of a run that name a strategy."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from lightning_al.spec import notes, signature, summary
from lightning_al.strategies import STRATEGIES

__all__ = ["BASES", "HEADS", "by_kind", "headline", "overlay", "overlay_text"]

BASES = {
    "classification": "digits",
    "regression": "diabetes",
    "density": "diabetes_density",
    "safe": "townsend",
    "either": "digits",
}
"""Kind of strategy -> a shipped configuration whose data serve it."""

HEADS = {
    "classification": "strategies for classes",
    "regression": "strategies for numbers",
    "density": "strategies for whole predictive densities of numbers",
    "safe": "strategies for numbers y beside a safety measurement z, safe where z >= 0",
    "either": "strategies for both",
}
"""Kind of strategy -> how a list of them begins."""

PLAIN = (bool, int, float, str, list, tuple, dict)
WIDTH = 100


def headline(strategy: str) -> str:
    """What a registered strategy is, and whose it is: the first line of its docstring."""
    return summary(STRATEGIES.factory(strategy)) or f"{strategy} (without a docstring)"


def by_kind() -> dict[str, list[str]]:
    """The names of all strategies by what they are for, in the order of :data:`HEADS`."""
    kinds = {name: STRATEGIES.declared(name).kind for name in STRATEGIES.names()}
    return {kind: [name for name, own in kinds.items() if own == kind] for kind in HEADS}


def _shown(strategy: str) -> dict[str, Any]:
    """The arguments that an overlay shows, with their values.

    Raises:
        ValueError: an ``example`` that names an argument which the strategy does not take.
    """
    known = signature(STRATEGIES.factory(strategy)).parameters
    example = STRATEGIES.declared(strategy).example
    if example is None:
        return {n: p.default for n, p in known.items() if isinstance(p.default, PLAIN)}
    if isinstance(example, Mapping):
        return dict(example)
    if wrong := [n for n in example if n not in known or known[n].required]:
        raise ValueError(
            f"the example of {strategy!r} shows {wrong[0]!r}, which it does not take, or which has "
            "no default; give a dict of arguments and values"
        )
    return {n: known[n].default for n in example}


def overlay(strategy: str) -> dict[str, Any]:
    """The settings of a run that name a strategy, with the posterior that it wants.

    Raises:
        LookupError: no such strategy.
    """
    declared = STRATEGIES.declared(strategy)
    arguments = _shown(strategy)
    config: dict[str, Any] = {
        **declared.settings,
        "strategy": {"name": strategy, **arguments} if arguments else strategy,
    }
    if declared.members is not None:
        config["posterior"] = {
            "class_path": "lightning_al.posteriors.MCDropout",
            "init_args": {"members": declared.members},
        }
    return config


def overlay_text(strategy: str) -> str:
    """The same as YAML: what it is and whose in the first line, what each argument does beside it.

    Raises:
        LookupError: no such strategy.
    """
    config = overlay(strategy)
    spec = config.pop("strategy")
    said = notes(STRATEGIES.factory(strategy))
    lines = ["strategy:"] if isinstance(spec, dict) else [f"strategy: {spec}"]
    for name, value in spec.items() if isinstance(spec, dict) else ():
        lines += _line(name, value, said.get(name, ""))
    rest = yaml.safe_dump(config, sort_keys=False) if config else ""
    return "\n".join([f"# {headline(strategy)}", *lines, rest])


def _line(name: str, value: Any, note: str) -> Sequence[str]:
    """``name: value`` with its note behind it, or before it where that is too long."""
    value = list(value) if isinstance(value, tuple) else value
    text = yaml.safe_dump(value, default_flow_style=True, width=10**6).splitlines()[0]
    line = f"  {name}: {text}"
    if not note or len(line) + len(note) + 4 <= WIDTH:
        return [f"{line}  # {note}" if note else line]
    return [*textwrap.wrap(note, WIDTH, initial_indent="  # ", subsequent_indent="  # "), line]
