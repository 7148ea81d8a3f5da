"""Policies that score candidates: network, worlds, targets, training, and how they are served."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .network import CandidatePolicy

if TYPE_CHECKING:
    from .module import CandidateModule

__all__ = ["CandidateModule", "CandidatePolicy"]


def __getattr__(name: str) -> Any:
    """Import the training when it is first asked for: a policy is served without Lightning."""
    if name == "CandidateModule":
        from .module import CandidateModule

        return CandidateModule
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
