"""The command ``configs``: what is shipped, and the overlays of all strategies."""

from __future__ import annotations

from collections.abc import Sequence

from lightning_al.assembly.derived import BASES, HEADS, by_kind, headline
from lightning_al.assembly.shipped import (
    OVERLAYS,
    find_config,
    list_benches,
    list_configs,
    list_policies,
    list_trainings,
)

from .typed import Words

__all__ = ["configs_command"]


def configs_command(arguments: Sequence[str]) -> list[str]:
    """List the configurations with their first line, or print one."""
    parser = Words(
        prog="lightning-al configs", description="Shipped configurations for --config NAME."
    )
    parser.add_argument("name", nargs="?", help="print this one (save it, change it, --config it)")
    known = parser.parse_args(list(arguments))
    if known.name:
        print(find_config(known.name).text(), end="")
        return [known.name]
    names, strategies = list_configs(), by_kind()
    width = max(map(len, names))
    overlays = {f"{OVERLAYS}/{name}" for group in strategies.values() for name in group}
    _show([(name, _first(name)) for name in names if name not in overlays], width)
    print("\nbenchmarks: lightning-al bench --config NAME")
    _show([(name, _first(name)) for name in list_benches()], width)
    print("\npolicies to pretrain: lightning-al fit --config NAME")
    _show([(name, _first(name)) for name in list_policies()], width)
    print("\nsurrogates and designers to pretrain: lightning-al fit --config NAME")
    _show([(name, _first(name)) for name in list_trainings()], width)
    for kind, group in strategies.items():
        print(f"\n{HEADS[kind]}: --config {BASES[kind]} --config {OVERLAYS}/NAME")
        _show([(f"{OVERLAYS}/{name}", headline(name)) for name in group], width)
    return names


def _first(name: str) -> str:
    return find_config(name).text().splitlines()[0].removeprefix("# ")


def _show(entries: Sequence[tuple[str, str]], width: int) -> None:
    for name, line in entries:
        print(f"{name:{width}}  {line}")
