"""From what a user writes down to the object: one reader for every option that names a part.

``name``, ``{"name": …, **arguments}``, ``"package.module.Thing"``, ``{"class_path": …, "init_args":
{…}}`` and the object itself all mean the same; arguments are held against the signature by name and
by type before anything is built.
"""

from __future__ import annotations

from .reader import call, factory_of, find, read
from .signatures import Parameter, Signature, converted, said, signature
from .texts import details, notes, summary

__all__ = [
    "Parameter",
    "Signature",
    "call",
    "converted",
    "details",
    "factory_of",
    "find",
    "notes",
    "read",
    "said",
    "signature",
    "summary",
]
