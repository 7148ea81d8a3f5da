"""Many fits of one module as one: replicas whose weights are stacked along a first axis."""

from __future__ import annotations

from .engine import fit_stack, test_stack
from .fits import StackedFits
from .judging import Verdict
from .member import Member

__all__ = ["Member", "StackedFits", "Verdict", "fit_stack", "test_stack"]
