"""What may change in a run that goes on: settings of what is asked for next, and what they were.

A line ``changed`` names the option, its old and its new value. It holds for all that comes after
it; what came before keeps its own settings.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from lightning_al.identity import differences
from lightning_al.records import RunPlan
from lightning_al.records.plan import Option, options_of

__all__ = ["changes", "in_force", "may_change", "shown", "until"]

SHOWN = 40  # letters of a value, in a picture


def until(records: Sequence[Mapping[str, Any]], round: int | None = None) -> Iterator[Any]:
    """The lines ahead of a round's fit, in their order; all of them where none is named."""
    for record in records:
        r = record.get("round", -1)
        if round is not None and (r > round or (r == round and record["event"] == "fitted")):
            return
        yield record


def in_force(records: Sequence[Mapping[str, Any]], round: int | None = None) -> dict[str, Any]:
    """The configuration of a run as it stood at the fit of a round; at the last line by default.

    Args:
        records: of the journal, the first line included.
        round: which.
    """
    config = dict(records[0]["config"])
    for record in until(records, round):
        if record["event"] == "changed":
            config[record["option"]] = record["new"]
    return config


def may_change(plan: RunPlan | type[RunPlan]) -> dict[str, Option]:
    """The options that a run may go on with otherwise, by name."""
    return {each.name: facts for each, facts in options_of(plan) if facts.change}


def changes(
    old: Mapping[str, Any], new: Mapping[str, Any], plan: RunPlan
) -> tuple[list[dict[str, Any]], list[str]]:
    """What changed between two configurations, of that which may.

    Args:
        old: in force now.
        new: of the run that wants to go on.
        plan: its options; they say whether it may.

    Returns:
        The fields of the lines to write, and the names of options that may change, and did so
        without a word.
    """
    usual = {each.name: each.default for each, _ in options_of(plan)}
    lines, unsaid = [], []
    for name, facts in may_change(plan).items():
        before, after = ({name: c[name]} if name in c else {} for c in (old, new))
        if not differences(before, after, usual=usual):
            continue
        if not (plan.change or (facts.more and _is_more(before.get(name), after.get(name)))):
            unsaid.append(name)
        lines.append({"option": name, "old": before.get(name), "new": after.get(name)})
    return lines, unsaid


def _is_more(old: Any, new: Any) -> bool:
    """Whether a bound was raised; None is no bound."""
    return old is not None and (new is None or new > old)


def shown(record: Mapping[str, Any]) -> str:
    """A line that amends a run, in a few words for people.

    >>> shown({"event": "changed", "option": "query_size", "old": 20, "new": 5})
    'query_size 20 → 5'
    >>> shown({"event": "changed", "option": "strategy", "old": "margin", "new": {"name": "power"}})
    'margin → power'
    """
    if record["event"] == "fixed":
        said = " → ".join(record["shown"])
        return f"{said} ({record['why']})" if record["why"] else said
    if record["event"] == "extended":
        return f"+{record['n']} items"
    names = record.get("names") or (_short(record["old"]), _short(record["new"]))
    what = "" if record["option"] == "strategy" else f"{record['option']} "
    return f"{what}{names[0]} → {names[1]}"


def _short(value: Any) -> str:
    if isinstance(value, Mapping):
        named = value.get("name") or value.get("class_path") or value.get("class")
        text = str(named or "…").rpartition(".")[2]
    elif isinstance(value, (list, tuple)):
        text = ", ".join(map(_short, value)) or "none"
    else:
        text = "none" if value is None else str(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"
