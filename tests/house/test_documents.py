"""ARCHITECTURE.md and CONTRIBUTING.md say what is there: rooms, stages, contracts, files."""

import ast
import functools
import re
import subprocess
from pathlib import Path

import pytest

import lightning_al.protocols as protocols
from lightning_al.readings import READINGS
from lightning_al.records.stages import STAGES

ROOT = Path(__file__).resolve().parents[2]
TOPS = ("lightning_al", "callbacks", "datamodules", "strategies")
GIVEN = ("QueryStrategy", "Oracle", "RunObserver", "Workbench")  # no optional halves
# these files may name any member: they are about all, or about this one for a reason of its own
ABOUT_ALL = ("posteriors/quantiles.py", "posteriors/last_layer.py", "readings/undeclared.py")

if not (ROOT / "ARCHITECTURE.md").is_file():
    pytest.skip("runs in a checkout of the repository", allow_module_level=True)

HOUSE = (ROOT / "ARCHITECTURE.md").read_text()
GUIDE = (ROOT / "CONTRIBUTING.md").read_text()
RECIPES = dict(re.findall(r"^\*\*.+?\*\* \(as `(.+?)`\): (.+)$", GUIDE, re.MULTILINE))


def optional():
    found = [n for n in protocols.__all__ if isinstance(getattr(protocols, n), type)]
    return [name for name in found if name not in GIVEN]


@pytest.mark.parametrize("name", optional())
def test_every_optional_contract_has_its_paragraph(name):
    found = re.findall(rf"^- `{name}`: (.+)$", HOUSE, re.MULTILINE)
    assert len(found) == 1, f"ARCHITECTURE.md: one line `- `{name}`: …`, found {len(found)}"
    assert len(found[0]) > 40


def test_no_contract_is_explained_that_is_not_there():
    assert set(re.findall(r"^- `(\w+)`: ", HOUSE, re.MULTILINE)) == set(optional())


@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.name)
def test_every_stage_is_in_the_table(stage):
    lines = ", ".join(f"`{event}`" for event in stage.events)
    assert f"| {stage.name} | {lines} | {stage.what}" in HOUSE


def test_every_room_is_in_the_table():
    rooms = [f"lightning_al/{p.name}" for p in (ROOT / "lightning_al").iterdir() if p.is_dir()]
    rooms = [room for room in rooms if (ROOT / room / "__init__.py").is_file()]
    for room in (*rooms, "datamodules", "strategies", "callbacks", "configs"):
        assert f"`{room}/`" in HOUSE, room


@pytest.mark.parametrize("name", READINGS.names())
def test_every_reading_is_named(name):
    assert f"`{READINGS.factory(name).__name__}`" in HOUSE


@pytest.mark.parametrize("text", [HOUSE, GUIDE], ids=["ARCHITECTURE.md", "CONTRIBUTING.md"])
def test_files_that_are_named_are_there(text):
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.splitlines()
    if not listed:
        pytest.skip("runs in a checkout of the repository")
    for path in re.findall(r"`([\w/]+\.(?:py|toml|md|yaml))`", text):
        if "my_name" not in path:
            assert any(f"/{file}".endswith(f"/{path}") for file in listed), path


@functools.cache
def words():
    """What the code of each file speaks of, docstrings left out: strings, names, classes."""
    found = {}
    for path in sorted(path for top in TOPS for path in (ROOT / top).rglob("*.py")):
        strings, names, texts = set(), set(), set()
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Expr):
                texts.add(node.value)
            elif isinstance(node, ast.Constant) and node not in texts:
                strings.add(node.value)
            elif isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.alias)):
                names.add(node.name)
            elif isinstance(node, ast.Name):
                names.add(node.id)
        found[str(path.relative_to(ROOT))] = strings, names
    return found


@pytest.mark.parametrize("example", RECIPES)
def test_a_member_touches_the_files_that_the_guide_lists(example):
    listed = set(re.findall(r"`(.+?)`", RECIPES[example]))
    found = {
        file
        for file, (strings, names) in words().items()
        if example in strings or (example in names and not example.islower())  # a common word
    }
    table = ROOT / "datamodules" / "named" / "sets.toml"
    if re.search(rf"^\[{re.escape(example)}\]$", table.read_text(), re.MULTILINE):
        found.add(str(table.relative_to(ROOT)))
    found = {file for file in found if not file.endswith(ABOUT_ALL) or file in listed}
    assert found == listed


def test_the_guide_has_a_recipe_for_each_family():
    for family in (
        *("strategy", "named data set", "posterior", "task", "reading", "oracle", "stage", "study"),
    ):
        assert re.search(rf"^\*\*An? {family}\*\* \(as ", GUIDE, re.MULTILINE), family
