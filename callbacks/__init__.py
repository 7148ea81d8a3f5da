"""Lightning callbacks: what triggers a query, and what collects weights for SWAG."""

from __future__ import annotations

from .active_learning import ActiveLearning
from .collect_swag import CollectSWAG

__all__ = ["ActiveLearning", "CollectSWAG"]
