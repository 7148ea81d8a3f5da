"""Posteriors: what several functions drawn from a trained model say of some items."""

from .deterministic import Deterministic
from .dropout import MCDropout
from .last_layer import LastLayerLaplace
from .protocol import Posterior, Reader, Session
from .quantiles import LatentQuantiles
from .swag import SWAG
from .swag import SWAGNetwork as SWAGNetwork  # a network: __all__ names posteriors

__all__ = [
    "SWAG",
    "Deterministic",
    "LastLayerLaplace",
    "LatentQuantiles",
    "MCDropout",
    "Posterior",
    "Reader",
    "Session",
]
