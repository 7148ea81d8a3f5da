"""The registry of tables that are no files; ``synthetic.py`` and ``honeypots.py`` fill it."""

from __future__ import annotations

from lightning_al.registry import Registry

from ..readers.table_files import Array

__all__ = ["DRAWINGS"]

DRAWINGS: Registry[Array] = Registry("drawn table")
