"""Tasks: what a network is trained for, and how outputs are read from any LightningModule."""

from .adapter import Adapter
from .base import Task
from .classification import Classification
from .regression import Regression

__all__ = ["Adapter", "Classification", "Regression", "Task"]
