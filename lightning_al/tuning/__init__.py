"""Hyper-parameters inside a round: the space, when to look, what to judge by, and the trials."""

from __future__ import annotations

from .options import Tuning

__all__ = ["Tuning"]
