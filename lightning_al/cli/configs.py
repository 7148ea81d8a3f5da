"""The command ``configs``: what is shipped."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from .names import config_path, list_configs

__all__ = ["configs_command"]


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
    names = list_configs()
    width = max(map(len, names))
    for name in names:
        first = config_path(name).read_text().splitlines()[0]
        print(f"{name:{width}}  {first.removeprefix('# ')}")
    return names
