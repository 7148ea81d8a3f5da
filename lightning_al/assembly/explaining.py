"""What a parser says over many lines, as one line with the mend."""

from __future__ import annotations

import difflib
import importlib
import inspect
import re
from collections.abc import Iterable

from lightning_al import datamodules, networks, tasks

__all__ = ["explain"]

KNOWN = {"model": tasks, "data": datamodules, "network": networks}
COMMAND = re.compile(r"^(run|fit|validate|test|predict)\.")
KINDS = {"int": "a whole number (int)", "float": "a number", "bool": "true or false", "str": "text"}
"""Types of plain values, in words."""
NOISE = re.compile(
    r"Subtypes:|Given value|Errors:|Does not validate|Expected a <class 'NoneType'>"
    r"|Expected a path but|Parser key|Problem with given class_path|Expected a <class 'dict'>"
)


def explain(message: str, options: Iterable[str] = ()) -> str:
    """What a parser says over many lines, as one line with the mend.

    Args:
        message: of the parser's error.
        options: all there are, for the nearest to a misspelt one.
    """
    if unknown := re.search(r"unrecognized arguments: (\S+)", message):
        word = unknown[1].partition("=")[0]
        return f"no option {word}{_near(word, options)}; --help lists all"
    key = ".".join(re.findall(r'Parser key "(.*?)":', message))
    classes = re.findall(r"Problem with given class_path '(.*?)'", message)
    lines = [line.strip().removeprefix("- ") for line in message.splitlines()]
    said = list(dict.fromkeys(line for line in lines if line and not NOISE.match(line)))
    if absent := re.search(r"arguments are required: (.+)", message):
        names = [COMMAND.sub("", name) for name in absent[1].split(", ")]
        needed = " and ".join(f"--{key}.{name}" if key else f"--{name}" for name in names)
        start = "" if key else ", or start from a shipped configuration: --config NAME"
        return f"{needed} must be given{start}"
    if missing := re.search(r"Expected a dot import path string: (\S+)", message):
        return f"--{key}: no class named {missing[1]!r}{_choices(key)}"
    if refused := re.search(r"Option '(\S+)' is not accepted", message):
        near = _near(refused[1], _parameters(classes[-1])) if classes else ""
        return f"--{key}: {classes[-1] if classes else key} takes no {refused[1]!r}{near}"
    told = _wanted(said, message) or "; ".join(said) or " ".join(lines)
    return (f"--{key}: " if key else "") + told


def _wanted(said: Iterable[str], message: str) -> str:
    """Which kinds of value were expected, and what came, in words; empty where more was said."""
    kinds: list[str] = []
    for line in said:
        if kind := re.match(r"Expected an? <class '(\w+)'>", line):
            kinds.append(KINDS.get(kind[1], kind[1]))
        elif words := re.match(r"Expected an? typing\.Literal\[(.*?)\]", line):
            kinds += [word.strip(" '\"") for word in words[1].split(",")]
        else:
            return ""
    got = re.search(r"(?:Given|Got) value: (.*)$", message, re.M)
    return f"expected {' or '.join(dict.fromkeys(kinds))}, got {got[1]}" if kinds and got else ""


def _near(word: str, options: Iterable[str]) -> str:
    near = difflib.get_close_matches(word, list(options), n=1)
    return f" (did you mean {near[0]}?)" if near else ""


def _choices(key: str) -> str:
    module = KNOWN.get(key.rpartition(".")[2])
    if module is None:
        return "; give an importable class path"
    names = [n for n in module.__all__ if isinstance(getattr(module, n), type)]
    base = datamodules.PoolDataModule if module is datamodules else tasks.Task
    fit = [n for n in names if module is networks or issubclass(getattr(module, n), base)]
    fit = [n for n in fit if n != "Task"]  # the tasks' base
    return f"; choose one of {', '.join(fit)}, or give the class path of your own"


def _parameters(path: str) -> list[str]:
    """What a class takes; what its bases take too, as far as it hands things on."""
    module, _, name = path.rpartition(".")
    cls = getattr(importlib.import_module(module), name, None)
    found: list[str] = []
    for base in cls.__mro__[:-1] if isinstance(cls, type) else ():
        parameters = inspect.signature(base).parameters.values()
        found += [p.name for p in parameters]
        if not any(p.kind is p.VAR_KEYWORD for p in parameters):
            break
    return found
