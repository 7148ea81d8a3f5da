"""No circle of imports, no room that is too large; inside functions and for types counted too."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TOPS = ("lightning_al", "callbacks", "configs", "datamodules", "strategies")
LINES = 400  # of a module
ROUNDS = 1500  # of the heart
ALLOWED: dict[frozenset[str], str] = {}
"""Circles that stay, each with its reason."""

if not (ROOT / "lightning_al").is_dir():
    pytest.skip("runs in a checkout of the repository", allow_module_level=True)


def name_of(path, root):
    parts = path.relative_to(root).with_suffix("").parts
    parts = parts if parts[0] == "lightning_al" else ("lightning_al", *parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def modules(root):
    return {
        name_of(path, root): path for top in TOPS for path in sorted((root / top).rglob("*.py"))
    }


def imported(name, path, known):
    """Modules of ours that a module imports, wherever it does so."""
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, base] if base else above)
            for alias in node.names:
                whole = f"{base}.{alias.name}"
                found.add(whole if whole in known else base)
    return found & set(known) - {name}


def circles(graph):
    """Groups of modules each of which is reached from every other of its group (Tarjan 1972)."""
    number, low, stack, groups = {}, {}, [], []

    def visit(node):
        number[node] = low[node] = len(number)
        stack.append(node)
        for other in graph[node]:
            if other not in number:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], number[other])
        if low[node] == number[node]:
            at = stack.index(node)
            group = frozenset(stack[at:])
            del stack[at:]
            if len(group) > 1:
                groups.append(group)

    for node in graph:
        if node not in number:
            visit(node)
    return groups


def test_circles_are_found():
    graph = {"a": {"b"}, "b": {"c"}, "c": {"a", "d"}, "d": {"e"}, "e": {"d"}, "f": {"a"}}
    assert set(circles(graph)) == {frozenset("abc"), frozenset("de")}
    assert circles({"a": {"b"}, "b": {"c"}, "c": set()}) == []


def test_imports_inside_functions_and_for_types_are_seen(tmp_path):
    (tmp_path / "lightning_al").mkdir()
    for name, text in {
        "__init__": "",
        "one": "def f():\n    from . import two\n",
        "two": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from .one import f\n",
    }.items():
        (tmp_path / "lightning_al" / f"{name}.py").write_text(text)
    known = modules(tmp_path)
    graph = {name: imported(name, path, known) for name, path in known.items()}
    assert circles(graph) == [frozenset({"lightning_al.one", "lightning_al.two"})]


def test_there_are_no_circles():
    known = modules(ROOT)
    graph = {name: imported(name, path, known) for name, path in known.items()}
    found = circles(graph)
    new = [sorted(group) for group in found if group not in ALLOWED]
    assert not new, f"circles of imports: {new}; move what both need into a third module"
    gone = [sorted(group) for group in ALLOWED if group not in found]
    assert not gone, f"no longer circles, take them out of ALLOWED: {gone}"


def lines(path):
    return len(path.read_text(encoding="utf-8").splitlines())


def test_no_module_is_too_long():
    long = {name: lines(path) for name, path in modules(ROOT).items() if lines(path) > LINES}
    assert not long, f"modules above {LINES} lines: {long}; give a part a room of its own"


def test_the_heart_is_small():
    total = sum(lines(path) for path in (ROOT / "lightning_al" / "rounds").glob("*.py"))
    assert total <= ROUNDS
