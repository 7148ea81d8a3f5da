"""Who may import whom, and how; read from the source with ast."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SIBLINGS = ("callbacks", "configs", "datamodules", "strategies")
# each layer may import those before it, never those after; one line is one level
CORE = (
    (
        "records",
        "registry",
        "protocols",
        "randomness",
        "files",
        "spec",
        "identity",
        "compat",
        "compat_cli",
        "safe_load",
        "values",
        "threads",
    ),
    ("scores", "measures", "gp", "ranks", "labels"),
    ("networks", "densities"),
    ("readings",),
    ("posteriors",),
    ("policies",),
    ("surrogates", "designs"),
    ("tasks",),
    ("oracles", "history"),
    ("journal", "scoring", "features"),
    ("fits", "tuning"),
    ("valuing",),
    ("rehearsal",),
    ("rounds",),
)
LEVEL = {part: level for level, parts in enumerate(CORE) for part in parts}
ROOTS = ("assembly", "benchmark", "studies", "cli", "testing", "__main__")  # may import siblings
DEFERRED = {"rounds": ("strategies", "assembly"), "fits": ("callbacks",)}  # inside functions only

if not (ROOT / "lightning_al").is_dir():
    pytest.skip("runs in a checkout of the repository", allow_module_level=True)


def name_of(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    parts = parts if parts[0] == "lightning_al" else ("lightning_al", *parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {
    name_of(path): path
    for top in ("lightning_al", *SIBLINGS)
    for path in sorted((ROOT / top).rglob("*.py"))
}


def part_of(module):
    """The second word: "rounds" of lightning_al.rounds.driver; "" for the package itself."""
    return (*module.split("."), "")[1]


def for_types_only(node):
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def imports(module):
    """(imported module, inside a function, relative) of all that run; absolute names."""
    path = FILES[module]
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    found = []

    def visit(node, inside):
        if for_types_only(node):
            for other in node.orelse:
                visit(other, inside)
            return
        if isinstance(node, ast.Import):
            found.extend((alias.name, inside, False) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, base] if base else above)
            for alias in node.names:  # `from package import module` imports the module
                whole = f"{base}.{alias.name}"
                found.append((whole if whole in FILES else base, inside, bool(node.level)))
        inside = inside or isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
        for child in ast.iter_child_nodes(node):
            visit(child, inside)

    visit(ast.parse(path.read_text()), False)
    return [f for f in found if f[0].split(".")[0] in ("lightning_al", *SIBLINGS)]


@pytest.mark.parametrize("module", FILES)
def test_imports_follow_the_layers(module):
    mine = part_of(module)
    if mine == "" or mine in ROOTS:
        return
    for imported, inside, _ in imports(module):
        other = part_of(imported)
        where = f"{module} imports {imported}"
        if other in (mine, ""):
            continue
        if mine in SIBLINGS:
            assert other not in SIBLINGS, f"{where}: siblings never import each other"
            assert other in LEVEL, f"{where}: siblings import from the core only"
        elif other in DEFERRED.get(mine, ()):
            assert inside, f"{where} at module level; do it inside the function that needs it"
        else:
            assert other in LEVEL, f"{where}: the core imports no sibling and no command"
            assert LEVEL[other] <= LEVEL[mine], f"{where}: against the order of the layers"


@pytest.mark.parametrize("module", FILES)
def test_every_part_of_the_core_has_its_layer(module):
    assert part_of(module) in {"", *LEVEL, *ROOTS, *SIBLINGS}


@pytest.mark.parametrize("module", FILES)
def test_imports_are_relative_inside_a_folder_and_absolute_across(module):
    package = module if FILES[module].name == "__init__.py" else module.rpartition(".")[0]
    for imported, _, relative in imports(module):
        within = (
            imported.startswith(f"{package}.") and imported.count(".") == package.count(".") + 1
        )
        if part_of(module) == part_of(imported) == "":
            continue
        if relative:
            own = part_of(imported) == part_of(module) != ""
            assert within or own, f"{module}: relative import of {imported} leaves the folder"
        elif imported != package and "." in package:
            assert not within, f"{module}: import {imported} relatively, they share a folder"
        assert imported.split(".")[0] == "lightning_al", f"{module}: lightning_al.{imported}"


@pytest.mark.parametrize("module", FILES)
def test_every_module_says_what_it_is_and_what_it_offers(module):
    tree = ast.parse(FILES[module].read_text())
    assert ast.get_docstring(tree), f"{module} has no docstring"
    if module in ("lightning_al.__main__", "lightning_al.configs"):
        return
    names = [
        ast.unparse(node.target if isinstance(node, ast.AnnAssign) else node.targets[0])
        for node in tree.body
        if isinstance(node, (ast.Assign, ast.AnnAssign))
    ]
    assert "__all__" in names, f"{module} has no __all__"
