"""Predictive densities as torch distributions, and where to look at them."""

from __future__ import annotations

from .density import PredictiveDensity, Units, midpoints, sobol
from .flow import FlowDensity
from .gaussian import GaussianDensity
from .grids import Grid, adaptive_grid, window_grid
from .mixture import MixtureDensity, PooledDensity, pooled
from .stacked import StackedDensity

__all__ = [
    "FlowDensity",
    "GaussianDensity",
    "Grid",
    "MixtureDensity",
    "PooledDensity",
    "PredictiveDensity",
    "StackedDensity",
    "Units",
    "adaptive_grid",
    "midpoints",
    "pooled",
    "sobol",
    "window_grid",
]
