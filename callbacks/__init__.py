"""Lightning callbacks: what triggers a query, collects weights for SWAG, and ends a trial."""

from __future__ import annotations

from .active_learning import ActiveLearning
from .collect_swag import CollectSWAG
from .pruning import Pruning

__all__ = ["ActiveLearning", "CollectSWAG", "Pruning"]
