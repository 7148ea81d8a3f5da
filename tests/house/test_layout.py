"""The list of packages in pyproject.toml is written by hand; here it meets the folders."""

import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SIBLINGS = ("callbacks", "configs", "datamodules", "strategies")
if not (ROOT / "pyproject.toml").exists():
    pytest.skip("runs in a checkout of the repository", allow_module_level=True)
SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]


def packages_below(folder, name):
    return {
        ".".join((name, *init.parent.relative_to(ROOT / folder).parts))
        for init in (ROOT / folder).rglob("__init__.py")
    }


def test_every_folder_with_an_init_is_listed_and_no_other():
    found = packages_below("lightning_al", "lightning_al")
    for sibling in SIBLINGS:
        found |= packages_below(sibling, f"lightning_al.{sibling}")
    assert sorted(SETTINGS["packages"]) == sorted(found)


def test_every_folder_with_modules_has_an_init():
    for top in ("lightning_al", *SIBLINGS):
        for module in (ROOT / top).rglob("*.py"):
            assert (module.parent / "__init__.py").exists(), module


def test_the_siblings_are_mapped_into_the_package():
    mapped = {f"lightning_al.{sibling}": sibling for sibling in SIBLINGS}
    assert SETTINGS["package-dir"] == mapped


def test_no_folder_shadows_a_sibling_inside_the_package():
    assert not [s for s in SIBLINGS if (ROOT / "lightning_al" / s).exists()]


def test_data_files_travel_with_the_wheel():
    data = SETTINGS["package-data"]
    assert (ROOT / "lightning_al" / "py.typed").exists()
    assert "py.typed" in data["lightning_al"]
    shipped = {
        f for pattern in data["lightning_al.configs"] for f in (ROOT / "configs").glob(pattern)
    }
    assert shipped
    assert shipped == set((ROOT / "configs").rglob("*.yaml"))
    named = ROOT / "datamodules" / "named"
    tables = {f for p in data["lightning_al.datamodules.named"] for f in named.glob(p)}
    assert tables
    assert tables == set((ROOT / "datamodules").rglob("*.toml"))
