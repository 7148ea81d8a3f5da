"""What each label is worth: the model fitted anew on many multisets of the labelled items."""

from .estimate import Estimate, values_by_means, values_by_ridge
from .multisets import Multisets
from .valuation import LabelValues, label_values

__all__ = [
    "Estimate",
    "LabelValues",
    "Multisets",
    "label_values",
    "values_by_means",
    "values_by_ridge",
]
