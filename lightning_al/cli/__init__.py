"""The command ``lightning-al``."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

__all__ = ["main"]

HOME = [Path(__file__).resolve().parents[1]]


def main(args: Sequence[str] | None = None) -> Any:
    """Run one command; returns what it made (histories, an acquisition), for callers in Python.

    Our own errors are shown as one line and end with status 1; ``LIGHTNING_AL_DEBUG=1`` shows
    where they came from. From Python (``args`` given) they are raised.
    """
    if args is not None:
        return _dispatch(list(args))
    try:
        _dispatch(sys.argv[1:])
    except (ValueError, LookupError, OSError, TypeError, RuntimeError) as error:
        if os.environ.get("LIGHTNING_AL_DEBUG") or not _ours(error):
            raise
        message = error.args[0] if isinstance(error, KeyError) and error.args else error
        print(f"lightning-al: {message}", file=sys.stderr)
        sys.exit(1)


def _dispatch(arguments: list[str]) -> Any:
    command = arguments[0] if arguments else ""
    if command == "suggest":
        from .suggest import suggest_command

        return suggest_command(arguments[1:])
    if command == "configs":
        from .configs import configs_command

        return configs_command(arguments[1:])
    from .command import ActiveCLI
    from .names import resolve_configs

    if not arguments or command in ("-h", "--help"):
        print("further commands: suggest (which items next), configs (what is shipped)\n")
        arguments = ["--help"]
    resolved, name = resolve_configs(arguments, command)
    return ActiveCLI(resolved, name=name).result


def _ours(error: BaseException) -> bool:
    """Whether this package raised the error itself, as a check of what it was given."""
    last = traceback.extract_tb(error.__traceback__)[-1].filename
    import lightning_al.callbacks
    import lightning_al.datamodules
    import lightning_al.strategies

    siblings = (lightning_al.callbacks, lightning_al.datamodules, lightning_al.strategies)
    homes = [*HOME, *(Path(s.__file__).resolve().parent for s in siblings)]
    return any(home in Path(last).resolve().parents for home in homes)
