"""Policies: networks that choose queries at once, trained beforehand on simulated functions."""

from .export import Exported
from .likelihood import Conditionals, Given, Terms
from .module import PolicyModule, SimulatorDataModule
from .networks import FlexiblePolicy, PolicyNetwork, SetPolicy
from .objectives import OBJECTIVES, Curriculum, Objective, Stage
from .policy import Card, Policy, Session
from .priors import KernelPrior, SafetyPrior
from .rollouts import Trajectory, roll_out
from .simulators import Batch, Episode, Simulator
from .streams import Streams

__all__ = [
    "OBJECTIVES",
    "Batch",
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
