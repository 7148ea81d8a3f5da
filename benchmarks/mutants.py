"""Random mutants: of so many lines changed at random, which do the tests notice?

    python benchmarks/mutants.py --count 200 --seed 1 --out benchmarks/mutants.md

Each mutant is one module of scores, journal, ranks or statistics with one place changed (a
comparison, an operator, a number, a condition, a call left out, …), in a copy of the package that
stands before the installed one. The tests of that room run until the first one fails; the quick
ones first. A mutant that no test fails on survives, and is listed. What it changes may be
equivalent: that is for a reader to say. ``--resume`` goes on from the JSON lines beside the table.
"""

from __future__ import annotations

import argparse
import ast
import copy
import importlib
import json
import os
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SIBLINGS = ("callbacks", "configs", "datamodules", "strategies")
# room -> modules, and test files in the order in which they are tried
ROOMS = {
    "scores": (
        "lightning_al/scores/*.py",
        (
            "tests/scores",
            "tests/strategies/test_strategies.py",
            "tests/strategies/test_epig.py",
            "tests/strategies/test_safe_strategies.py",
            "tests/readings",
        ),
    ),
    "journal": (
        "lightning_al/journal/*.py",
        (
            "tests/journal/test_journal.py",
            "tests/journal/test_resume.py",
            "tests/rounds/test_oracle_runs.py",
            "tests/rounds/test_rounds.py",
            "tests/rounds/test_replay.py",
            "tests/oracles/test_file_oracle.py",
        ),
    ),
    "ranks": ("lightning_al/ranks/*.py", ("tests/ranks/test_agreeing.py",)),
    "statistics": ("lightning_al/benchmark/statistics.py", ("tests/benchmark/test_statistics.py",)),
}
# faults that tests of version 0.1 let pass: name -> file, the line as it is, as it would be, tests
NAMED = {
    "MAP: noise prior dropped": (
        "lightning_al/tasks/gaussian_process.py",
        'sigma = 2.0 if self.hyperparameters == "map" else None',
        "sigma = None",
        ("tests/tasks/test_gp_priors.py", "tests/gp"),
    ),
    "MAP: median of length scales 2 sqrt(d) -> 2": (
        "lightning_al/tasks/gp_base.py",
        "typical = math.sqrt(max(self.x.shape[1], 1)) * 2.0",
        "typical = 2.0",
        ("tests/tasks/test_gp_priors.py", "tests/gp"),
    ),
    "dropout: tail trusted whatever it gives": (
        "lightning_al/posteriors/dropout.py",
        "return tail if torch.allclose(again, raw, rtol=1e-3, atol=1e-4, equal_nan=True) else None",
        "return tail",
        ("tests/posteriors",),
    ),
    "store: each has the whole budget": (
        "lightning_al/scoring/store.py",
        "self.left -= size if fits else 0",
        "pass",
        ("tests/scoring",),
    ),
    "bank and pool: each has the whole budget": (
        "lightning_al/scoring/scorer.py",
        "return Room(self.memory_budget // (1 if self.bank is None else 2))",
        "return Room(self.memory_budget)",
        ("tests/scoring",),
    ),
    "identity without cost_budget": (
        "lightning_al/records/plan.py",
        "        check=optional(number(0)),\n    )\n    hit_ratio_at",
        "        check=optional(number(0)),\n        identity=False,\n    )\n    hit_ratio_at",
        ("tests/rounds/test_plan.py",),
    ),
    "idle rounds: arrived answers ignored": (
        "lightning_al/journal/standing.py",
        "if done.ledger or done.arrived:",
        "if done.ledger:",
        ("tests/rounds/test_oracle_runs.py",),
    ),
    "Wilcoxon: zeros dropped": (
        "lightning_al/benchmark/statistics.py",
        'zero_method="pratt"',
        'zero_method="wilcox"',
        ("tests/benchmark/test_statistics.py",),
    ),
    "Wilcoxon: zeros split": (
        "lightning_al/benchmark/statistics.py",
        'zero_method="pratt"',
        'zero_method="zsplit"',
        ("tests/benchmark/test_statistics.py",),
    ),
    "bootstrap: BCa -> percentile": (
        "lightning_al/benchmark/statistics.py",
        'method="BCa"',
        'method="percentile"',
        ("tests/benchmark/test_statistics.py",),
    ),
}
COMPARE = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
}
ARITHMETIC = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult,
    ast.Pow: ast.Mult,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
}
CALLS = {"min": "max", "any": "all", "amin": "amax", "argmin": "argmax", "sum": "mean"}
CALLS |= {"sorted": "list", "clamp_min": "clamp_max", "sqrt": "square", "log": "log1p"}
CALLS |= {other: name for name, other in CALLS.items() if other not in ("list", "square")}


def changes(node: ast.AST) -> Iterator[tuple[str, ast.AST]]:
    """Every other node that may stand here, with what it changes."""
    new = copy.deepcopy(node)
    if isinstance(new, ast.Compare) and len(new.ops) == 1 and type(new.ops[0]) in COMPARE:
        new.ops = [COMPARE[type(new.ops[0])]()]
        yield "comparison", new
    elif isinstance(new, (ast.BinOp, ast.AugAssign)) and type(new.op) in ARITHMETIC:
        new.op = ARITHMETIC[type(new.op)]()
        yield "operator", new
    elif isinstance(new, ast.BoolOp):
        new.op = ast.Or() if isinstance(new.op, ast.And) else ast.And()
        yield "and/or", new
    elif isinstance(new, ast.UnaryOp) and isinstance(new.op, (ast.Not, ast.USub)):
        yield "sign", new.operand
    elif isinstance(new, ast.Constant) and isinstance(new.value, bool):
        new.value = not new.value
        yield "constant", new
    elif isinstance(new, ast.Constant) and isinstance(new.value, (int, float)):
        new.value = new.value + 1 if isinstance(new.value, int) else new.value * 2 + 0.5
        yield "constant", new
    elif isinstance(new, (ast.If, ast.While, ast.IfExp)):
        new.test = ast.UnaryOp(ast.Not(), new.test)
        yield "condition", new
    elif isinstance(new, ast.Return) and new.value is not None:
        new.value = ast.Constant(None)
        yield "no result", new
    elif isinstance(new, ast.Expr) and isinstance(new.value, (ast.Call, ast.Await)):
        yield "no call", ast.Pass()
    elif isinstance(new, ast.Raise):
        yield "no error", ast.Pass()
    elif isinstance(new, ast.Call):
        called = new.func
        if isinstance(called, ast.Attribute) and called.attr in CALLS:
            called.attr = CALLS[called.attr]
            yield "other call", new
        elif isinstance(called, ast.Name) and called.id in CALLS:
            called.id = CALLS[called.id]
            yield "other call", new


def places(tree: ast.Module) -> Iterator[tuple[ast.AST, str, int | None]]:
    """Where code that runs may be changed: (parent, field, position); no annotations, no texts."""
    left_out = ("annotation", "returns", "decorator_list", "slice_", "type_params", "bases")

    def walk(node: ast.AST) -> Iterator[tuple[ast.AST, str, int | None]]:
        for name, value in ast.iter_fields(node):
            if name in left_out or (isinstance(node, ast.JoinedStr) and name == "values"):
                continue
            if isinstance(value, ast.AST):
                yield node, name, None
                yield from walk(value)
            elif isinstance(value, list):
                for i, each in enumerate(value):
                    if not isinstance(each, ast.AST) or for_types(each) or names_only(each):
                        continue
                    yield node, name, i
                    yield from walk(each)

    yield from walk(tree)


def for_types(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def names_only(node: ast.AST) -> bool:
    return isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"


def mutants(path: Path) -> list[tuple[int, str, str, str]]:
    """All mutants of a file: line, what was changed, the new line's text, the whole source."""
    tree = ast.parse(path.read_text())
    found = []
    for parent, name, i in list(places(tree)):
        held = getattr(parent, name)
        old = held if i is None else held[i]
        for what, new in changes(old):
            ast.copy_location(new, old)
            if i is None:
                setattr(parent, name, new)
            else:
                held[i] = new
            shown = f"{short(old)} -> {short(new)}"
            found.append((old.lineno, what, shown, ast.unparse(ast.fix_missing_locations(tree))))
            if i is None:
                setattr(parent, name, old)
            else:
                held[i] = old
    return found


def short(node: ast.AST) -> str:
    text = " ".join(ast.unparse(node).split("\n")[0].split())
    return text if len(text) < 60 else f"{text[:57]}..."


def named() -> list[dict]:
    """The mutants of :data:`NAMED`."""
    found = []
    for name, (file, old, new, tests) in NAMED.items():
        text = (ROOT / file).read_text()
        if text.count(old) != 1:
            raise SystemExit(f"{file} has {text.count(old)} times the line of {name!r}: {old!r}")
        row = {"id": name, "room": "named", "file": file, "what": "named", "tests": tests}
        found.append({**row, "shown": f"{old} -> {new}", "source": text.replace(old, new)})
    return found


def drawn(count: int, seed: int) -> list[dict]:
    """``count`` mutants, drawn from all of all rooms."""
    every = []
    for room, (pattern, _) in ROOMS.items():
        for path in sorted(ROOT.glob(pattern)):
            for place, (line, what, shown, source) in enumerate(mutants(path)):
                file = str(path.relative_to(ROOT))
                every.append(
                    {
                        "id": f"{file}:{line}#{place}",
                        "room": room,
                        "tests": ROOMS[room][1],
                        "file": file,
                        "what": what,
                        "shown": shown,
                        "source": source,
                    }
                )
    print(f"{len(every)} mutants are possible, {min(count, len(every))} are drawn")
    return random.Random(seed).sample(every, min(count, len(every)))


def copied(folder: Path) -> Path:
    """The package as a wheel has it, and the tests beside it."""
    home = folder / "tree"
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "lightning_al", home / "lightning_al", ignore=ignore)
    for sibling in SIBLINGS:
        shutil.copytree(ROOT / sibling, home / "lightning_al" / sibling, ignore=ignore)
    shutil.copytree(ROOT / "tests", home / "tests", ignore=ignore)
    shutil.copy(ROOT / "pyproject.toml", home)
    return home


def noticed(home: Path, tests: tuple[str, ...], limit: int) -> tuple[bool, str, float]:
    """Whether a test fails, which, and the seconds until then.

    The tests run in a fork of this process, which has imported what is large and not ours.
    """
    start, said = time.monotonic(), home / "said.txt"
    child = os.fork()
    if child == 0:
        os.setsid()
        out = os.open(said, os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
        os.dup2(out, 1)
        os.dup2(out, 2)
        os.chdir(home)
        sys.path.insert(0, str(home))
        command = ["-x", "-q", "-p", "no:cacheprovider", "--no-header", "--tb=no", "--timeout=180"]
        status = 3
        try:
            status = int(pytest.main([*command, *tests]))
        finally:
            sys.stdout.flush()
            os._exit(status)
    while (ended := os.waitpid(child, os.WNOHANG))[0] == 0:
        if time.monotonic() - start > limit:
            os.killpg(child, 9)
            os.waitpid(child, 0)
            return True, f"ran past {limit} s", time.monotonic() - start
        time.sleep(0.05)
    lines = said.read_text(errors="replace").splitlines()
    if os.waitstatus_to_exitcode(ended[1]) == pytest.ExitCode.NO_TESTS_COLLECTED:
        raise SystemExit(f"no test was run of {tests}: {lines[-1:]}")
    failed = [line for line in lines if line.startswith(("FAILED", "ERROR"))]
    by = failed[0].split(" - ")[0] if failed else (lines or ["nothing said"])[-1]
    return ended[1] != 0, by, time.monotonic() - start


def prepare(home: Path) -> None:
    """Import what is large, so that forks need not; subprocesses of tests take the copy too."""
    os.environ |= {"PYTHONPATH": str(home), "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    for name in ("torch", "pytorch_lightning", "torchmetrics", "sklearn.ensemble", "pandas"):
        importlib.import_module(name)
    for name in ("matplotlib.pyplot", "jsonargparse", "scipy.stats", "torchvision", "pyarrow"):
        importlib.import_module(name)
    assert not any(name.startswith("lightning_al") for name in sys.modules)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--limit", type=int, default=900, help="seconds a mutant")
    parser.add_argument("--out", type=Path, default=Path("mutants.md"))
    parser.add_argument("--rooms", nargs="*", default=list(ROOMS))
    parser.add_argument("--named", action="store_true", help="those that 0.1 let pass")
    parser.add_argument("--resume", action="store_true")
    given = parser.parse_args()
    lines = given.out.with_suffix(".jsonl")
    done = {}
    if given.resume and lines.exists():
        done = {row["id"]: row for row in map(json.loads, lines.read_text().splitlines())}
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        home = copied(Path(folder))
        prepare(home)
        for mutant in named() if given.named else drawn(given.count, given.seed):
            if not given.named and mutant["room"] not in given.rooms:
                continue
            row = done.get(mutant["id"])
            if row is None:
                parts = Path(mutant["file"]).parts
                file = home.joinpath(*parts)
                kept = file.read_text()
                file.write_text(mutant["source"])
                try:
                    found, by, seconds = noticed(home, mutant["tests"], given.limit)
                finally:
                    file.write_text(kept)
                row = {k: mutant[k] for k in ("id", "room", "file", "what", "shown")}
                row |= {"noticed": found, "by": by, "seconds": round(seconds, 1)}
                with lines.open("a") as out:
                    out.write(json.dumps(row) + "\n")
            rows.append(row)
            print(
                f"{len(rows):4} {'      ' if row['noticed'] else 'ALIVE '} {row['id']}  "
                f"{row['shown']}  [{row['by'][:70]}] {row['seconds']} s",
                flush=True,
            )
    given.out.write_text(table(rows, given.seed))


def table(rows: list[dict], seed: int) -> str:
    """What was found, as Markdown."""
    text = [f"Random mutants, seed {seed}.", "", "| room | mutants | noticed | share |"]
    text.append("|---|---|---|---|")
    for room in (*ROOMS, "named", "all"):
        mine = [row for row in rows if room in (row["room"], "all")]
        if mine:
            seen = sum(row["noticed"] for row in mine)
            text.append(f"| {room} | {len(mine)} | {seen} | {seen / len(mine):.0%} |")
    text += ["", "Survivors:", ""]
    for row in rows:
        if not row["noticed"]:
            text.append(f"- `{row['id']}` ({row['what']}): `{row['shown']}`")
    return "\n".join(text) + "\n"


if __name__ == "__main__":
    main()
