"""The scores under one name: tensors in, scores out; higher = acquire first.

No model, no random numbers, no state; :mod:`lightning_al.scores` defines each, with its source.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType

from lightning_al.scores.classification import (
    bald,
    consensus_kl,
    entropy,
    least_confidence,
    margin,
    mean_std,
    ratio,
    variation_ratio,
    vote_entropy,
)
from lightning_al.scores.epig import epig, regression_epig
from lightning_al.scores.folding import of_mean, over_places
from lightning_al.scores.regression import (
    expected,
    expected_improvement,
    probability_of_improvement,
    regression_bald,
    upper_confidence_bound,
    variance,
)

__all__ = [
    "BOUNDS",
    "bald",
    "consensus_kl",
    "entropy",
    "epig",
    "expected",
    "expected_improvement",
    "least_confidence",
    "margin",
    "mean_std",
    "of_mean",
    "over_places",
    "probability_of_improvement",
    "ratio",
    "regression_bald",
    "regression_epig",
    "upper_confidence_bound",
    "variance",
    "variation_ratio",
    "vote_entropy",
]

BOUNDS: Mapping[str, Callable[[int, int], tuple[float, float]]] = MappingProxyType(
    {
        "entropy": lambda samples, classes: (0.0, math.log(classes)),
        "least_confidence": lambda samples, classes: (0.0, 1 - 1 / classes),
        "margin": lambda samples, classes: (0.0, 1.0),
        "ratio": lambda samples, classes: (0.0, 1.0),
        "bald": lambda samples, classes: (0.0, math.log(min(samples, classes))),
        "variation_ratio": lambda samples, classes: (0.0, 1 - 1 / classes),
        "vote_entropy": lambda samples, classes: (0.0, math.log(classes)),
        "consensus_kl": lambda samples, classes: (0.0, math.log(min(samples, classes))),
        "mean_std": lambda samples, classes: (0.0, (min(samples, classes) - 1) ** 0.5 / classes),
        "epig": lambda samples, classes: (0.0, math.log(min(samples, classes))),
        "variance": lambda samples, classes: (0.0, math.inf),
        "expected": lambda samples, classes: (-math.inf, math.inf),
        "upper_confidence_bound": lambda samples, classes: (-math.inf, math.inf),
        "expected_improvement": lambda samples, classes: (0.0, math.inf),
        "probability_of_improvement": lambda samples, classes: (0.0, 1.0),
        "regression_bald": lambda samples, classes: (0.0, math.inf),
        "regression_epig": lambda samples, classes: (0.0, math.inf),
    }
)
"""Name -> (S, C) -> the attainable (lowest, highest) score."""
