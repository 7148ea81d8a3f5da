"""``run --strategy.help``: what an option may name, and what one of these takes."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from lightning_al.assembly.settings_files import plain_yaml
from lightning_al.assembly.words import pairs
from lightning_al.registry import Registry
from lightning_al.spec import details, factory_of, notes, said, signature, summary

__all__ = ["member_help"]

STRATEGIES = ("strategy", "first", "baseline")
OPTIONS = (*STRATEGIES, "posterior", "features", "oracle", "stopping")
WIDTH = 100


def member_help(words: Sequence[str]) -> str | None:
    """The help that the options of ``run`` ask for; None where they ask for none of these.

    ``--strategy.help`` lists the strategies, ``--strategy.help power`` and ``--strategy power
    --strategy.help`` say what one takes.

    Raises:
        LookupError: no member of that name, or at that path.
        ValueError: what lies at the path makes no such member.
    """
    given = dict(pairs(words))
    asked = [option for option in OPTIONS if f"--{option}.help" in given]
    if not asked:
        return None
    option = asked[0]
    name = given[f"--{option}.help"] or _named(given.get(f"--{option}"))
    family = _family(option)
    return _list(option, family) if name is None else _member(option, name, family)


def _family(option: str) -> Registry[Any]:
    if option in STRATEGIES:
        from lightning_al.strategies import STRATEGIES as FAMILY  # inside: it loads the strategies

        return FAMILY
    from lightning_al.assembly.families import FAMILIES  # inside: it loads Lightning

    return FAMILIES[option]


def _named(value: str | None) -> str | None:
    """The name or path in what was typed as a specification."""
    spec = None if value is None else plain_yaml(value, value)
    found = spec.get("name", spec.get("class_path")) if isinstance(spec, Mapping) else spec
    return found if isinstance(found, str) else None


def _list(option: str, family: Registry[Any]) -> str:
    groups = {f"{family.plural}, for --{option} NAME": family.names()}
    if option in STRATEGIES:
        from lightning_al.assembly.derived import HEADS, by_kind

        groups = {HEADS[kind]: names for kind, names in by_kind().items()}
    width = max(map(len, family.names()))
    parts = [
        "\n".join([f"{head}:", *(_entry(name, family, width) for name in names)])
        for head, names in groups.items()
    ]
    return "\n\n".join([*parts, f"--{option}.help NAME says what one takes"])


def _entry(name: str, family: Registry[Any], width: int) -> str:
    return f"  {name:{width}}  {summary(family.factory(name))}".rstrip()


def _member(option: str, name: str, family: Registry[Any]) -> str:
    factory = factory_of(name, family)
    says = notes(factory)
    lines = [f"{family.kind} {name!r}", "", f"{summary(factory)}.", ""]
    if text := details(factory):
        lines += [text, ""]
    prefix = f"--{option}."
    if option == "stopping":  # a list
        prefix, lines = "", [*lines, f"--stopping '[{{name: {name}, …}}]' with", ""]
    parameters = signature(factory).parameters.values()
    if not parameters:
        lines.append("It takes no arguments.")
    for parameter in parameters:
        kind = said(parameter.hint)
        about = [] if kind == "anything" else [kind]
        note = says.get(parameter.name, "")
        usual = "must be given" if parameter.required else f"default {_default(parameter)}"
        head = f"{prefix}{parameter.name}  ({', '.join([*about, usual])})"
        if len(head) > WIDTH:
            head, note = f"{prefix}{parameter.name}  ({about[0]})", f"{note} ({usual})"
        lines.append(head)
        lines += textwrap.wrap(note, WIDTH, initial_indent="    ", subsequent_indent="    ")
    return "\n".join(lines)


def _default(parameter: Any) -> str:
    return str(parameter).partition("=")[2]
