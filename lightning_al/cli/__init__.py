"""The command ``lightning-al``."""

from __future__ import annotations

import importlib
import os
import sys
from argparse import ArgumentError
from collections.abc import Sequence
from typing import Any

__all__ = ["main"]

HELP = """\
usage: lightning-al COMMAND [--config NAME] [--key value ...]

  run       active learning: fit, evaluate, score, choose, ask, and again
  suggest   which items to label next, from a checkpoint; --policy auto: which experiments
  tune      settings that suit the labels at hand, to be pasted
  value     what each label is worth; mislabelled ones come last
  bench     compare strategies on a grid of data sets, models and seeds
  report    one page of what a benchmark, or some runs, found
  answers   the answers of a run; --fix corrects or withdraws some
  policy    a trained policy from a checkpoint of fit; alone, those that are shipped
  configs   the shipped configurations; `configs NAME` prints one
  fit, validate, test, predict   plain Lightning, on the same configurations

start with
  lightning-al run --config quickstart --baseline random

`lightning-al COMMAND --help` lists all settings; `lightning-al run --config NAME --print_config`
shows their values. Any of them can be given on the command line. `lightning-al run --strategy.help`
lists the strategies, `--strategy.help NAME` what one takes; so for posterior, oracle, first,
baseline, features and stopping.
"""
LIGHTNING = ("run", "fit", "validate", "test", "predict")
OWN = ("suggest", "tune", "value", "bench", "report", "answers", "policy", "configs")
"""Commands with a module of their own here, each with a function ``<command>_command``."""


def main(args: Sequence[str] | None = None) -> Any:
    """Run one command; returns what it made (histories, an acquisition), for callers in Python.

    Our own errors are shown as one line and end with status 1, those of the command line with 2;
    ``LIGHTNING_AL_DEBUG=1`` shows where they came from. From Python (``args`` given) they are
    raised.
    """
    if args is not None:
        return _dispatch(list(args))
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())  # for classes of the user's own, given by class path
    try:
        _dispatch(sys.argv[1:])
    except (KeyboardInterrupt, SystemExit) as stop:
        # within a fit Lightning turns the interrupt into an exit
        if isinstance(stop, SystemExit) and not isinstance(stop.__context__, KeyboardInterrupt):
            raise
        _end("interrupted; a run goes on with the same command", 130)
    except Exception as error:
        if os.environ.get("LIGHTNING_AL_DEBUG"):
            raise
        _tell(error)


def _dispatch(words: list[str]) -> Any:
    command = words[0] if words else "--help"
    if command in ("-h", "--help"):
        return print(HELP, end="")
    if command == "--version":
        from lightning_al import __version__

        return print(f"lightning-al {__version__}")
    if command in OWN:
        module = importlib.import_module(f".{command}_command", __package__)
        return getattr(module, f"{command}_command")(words[1:])
    if command == "run" and any(".help" in word for word in words):
        from .member_help import member_help

        if (text := member_help(words[1:])) is not None:
            return print(text)
    if command not in LIGHTNING:
        names = ", ".join((*LIGHTNING, *OWN))
        raise ArgumentError(None, f"no command {command!r}; choose one of {names}")
    from lightning_al.assembly.command_line import CommandLine
    from lightning_al.assembly.parser import ActiveCLI

    from .run_command import run_command

    return ActiveCLI(CommandLine(words), run_command).result


def _tell(error: Exception) -> None:
    """Show an error that a user can mend as one line; raise any other."""
    from lightning_fabric.utilities.exceptions import MisconfigurationException

    from .errors import ours

    if isinstance(error, ArgumentError):
        _end(str(error), 2)
    expected = (ValueError, LookupError, TypeError, RuntimeError, ImportError)
    if isinstance(error, (OSError, MisconfigurationException)) or (
        isinstance(error, expected) and ours(error)
    ):
        text = error.args[0] if isinstance(error, KeyError) and error.args else error
        _end(str(text), 1)
    raise error


def _end(message: str, status: int) -> None:
    print(f"lightning-al: {message}", file=sys.stderr)
    sys.exit(status)
