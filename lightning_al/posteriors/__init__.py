"""Posteriors: what several functions drawn from a trained model say of some items."""

from .deterministic import Deterministic
from .dropout import MCDropout
from .protocol import Posterior, Reader, Session

__all__ = ["Deterministic", "MCDropout", "Posterior", "Reader", "Session"]
