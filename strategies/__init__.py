"""What to label next: query strategies, and the kernels that they are made of.

``build("bald")`` or ``resolve(spec)`` make a strategy; ``names()`` lists them.
"""

from . import selection
from .base import ScoreStrategy
from .combined import EpsilonGreedy, FilterThenChoose, WeightedSum
from .registry import STRATEGIES, build, names, resolve
from .regression import greedy, variance
from .stochastic import Random, Reselected, power, power_bald, random, softmax, softmax_bald
from .uncertainty import (
    bald,
    entropy,
    least_confidence,
    margin,
    posterior_entropy,
    posterior_least_confidence,
    posterior_margin,
    posterior_ratio,
    ratio,
)

__all__ = [
    "STRATEGIES",
    "EpsilonGreedy",
    "FilterThenChoose",
    "Random",
    "Reselected",
    "ScoreStrategy",
    "WeightedSum",
    "bald",
    "build",
    "entropy",
    "greedy",
    "least_confidence",
    "margin",
    "names",
    "posterior_entropy",
    "posterior_least_confidence",
    "posterior_margin",
    "posterior_ratio",
    "power",
    "power_bald",
    "random",
    "ratio",
    "resolve",
    "selection",
    "softmax",
    "softmax_bald",
    "variance",
]
