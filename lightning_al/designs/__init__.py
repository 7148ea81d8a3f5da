"""Designs of experiments with a known likelihood: networks that choose them, and what they tell."""

from .bounds import Bounds, Histories, evaluate, gain_on_grid, perform
from .experiments import DeathProcess, Discounting, Experiment, LocationFinding
from .networks import Adaptive, Designer, RandomDesigns, StaticDesigns
from .training import DesignDataModule, DesignModule

__all__ = [
    "Adaptive",
    "Bounds",
    "DeathProcess",
    "DesignDataModule",
    "DesignModule",
    "Designer",
    "Discounting",
    "Experiment",
    "Histories",
    "LocationFinding",
    "RandomDesigns",
    "StaticDesigns",
    "evaluate",
    "gain_on_grid",
    "perform",
]
