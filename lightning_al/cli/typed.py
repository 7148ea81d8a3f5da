"""What is typed behind our own commands: what it lacks is said in one line."""

from __future__ import annotations

import argparse
import difflib
import re
from collections.abc import Callable
from typing import NoReturn

from lightning_al.compat_cli import option_strings

__all__ = ["Words", "at_least"]


def at_least(least: int) -> Callable[[str], int]:
    """A type of an argument: whole numbers from ``least``."""

    def read(text: str) -> int:
        try:
            found = int(text)
        except ValueError:
            found = least - 1
        if found < least:
            raise argparse.ArgumentTypeError(f"must be a whole number from {least}, got {text!r}")
        return found

    return read


class Words(argparse.ArgumentParser):
    """A parser that says in one line what it cannot read, as the other commands do."""

    def error(self, message: str) -> NoReturn:
        """Raise what is wrong, with the mend.

        Raises:
            argparse.ArgumentError: always; from a shell it is shown, and ends with status 2.
        """
        if absent := re.search(r"arguments are required: (.+)", message):
            names = [name.partition("/")[0] for name in absent[1].split(", ")]
            said = f"{' and '.join(names)} must be given; --help shows how"
        elif unknown := re.search(r"unrecognized arguments: (\S+)", message):
            word = unknown[1].partition("=")[0]
            near = difflib.get_close_matches(word, option_strings(self), n=1)
            hint = f" (did you mean {near[0]}?)" if near else ""
            said = f"no option {word}{hint}; --help lists all"
        else:
            said = message.removeprefix("argument ")
        raise argparse.ArgumentError(None, said)
