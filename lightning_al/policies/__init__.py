"""Policies: networks that choose queries at once, trained beforehand on simulated functions."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .candidates import CandidateModule, CandidatePolicy
    from .export import Exported
    from .likelihood import Conditionals, Given, Terms
    from .module import PolicyModule
    from .networks import FlexiblePolicy, PolicyNetwork, SetPolicy
    from .objectives import OBJECTIVES, Curriculum, Objective, Stage
    from .policy import Card, Policy, Session
    from .priors import KernelPrior, SafetyPrior
    from .rollouts import Trajectory, roll_out
    from .simulators import Batch, Episode, Simulator
    from .streams import Streams
    from .training import SimulatorDataModule

__all__ = [
    "OBJECTIVES",
    "Batch",
    "CandidateModule",
    "CandidatePolicy",
    "Card",
    "Conditionals",
    "Curriculum",
    "Episode",
    "Exported",
    "FlexiblePolicy",
    "Given",
    "KernelPrior",
    "Objective",
    "Policy",
    "PolicyModule",
    "PolicyNetwork",
    "SafetyPrior",
    "Session",
    "SetPolicy",
    "Simulator",
    "SimulatorDataModule",
    "Stage",
    "Streams",
    "Terms",
    "Trajectory",
    "roll_out",
]

HOMES = {
    "candidates": ("CandidateModule", "CandidatePolicy"),
    "export": ("Exported",),
    "likelihood": ("Conditionals", "Given", "Terms"),
    "module": ("PolicyModule",),
    "networks": ("FlexiblePolicy", "PolicyNetwork", "SetPolicy"),
    "objectives": ("OBJECTIVES", "Curriculum", "Objective", "Stage"),
    "policy": ("Card", "Policy", "Session"),
    "priors": ("KernelPrior", "SafetyPrior"),
    "rollouts": ("Trajectory", "roll_out"),
    "simulators": ("Batch", "Episode", "Simulator"),
    "streams": ("Streams",),
    "training": ("SimulatorDataModule",),
}


def __getattr__(name: str) -> Any:
    """Import a part when it is first asked for: a card can be read without Lightning."""
    for home, names in HOMES.items():
        if name in names:
            return getattr(importlib.import_module(f".{home}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
