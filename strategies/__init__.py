"""What to label next: query strategies, and the kernels that they are made of.

``build("bald")`` or ``resolve(spec)`` make a strategy; ``names()`` lists them.
"""

from . import selection
from .bait import Bait
from .base import ScoreStrategy
from .batch_epig import BatchEPIG, RegressionBatchEPIG
from .clue import Clue
from .clustered import KMeans, Representative
from .combined import EpsilonGreedy, FilterThenChoose, WeightedSum
from .committee import consensus_kl, vote_entropy
from .core_gcn import CoreGCN
from .density import DensityWeighted, density_weighted
from .diversity import (
    FacilityLocation,
    KCenter,
    KMeansPlusPlus,
    MaxHerding,
    ProbCover,
    RelativeDistance,
    TypiClust,
)
from .epig import EPIG, RegressionEPIG
from .galaxy import Galaxy
from .herding import UHerding
from .hybrid import Badge, BatchBald, ClusterMargin
from .lcmd import Lcmd, MaxDet
from .learning_loss import LearningLoss
from .mixing import AlfaMix, DropQuery
from .noise import NoiseStability
from .policy import PolicyQuery
from .posterior_samples import Thompson, thompson, thompson_per_item
from .registry import EQUIVALENT, STRATEGIES, build, names, resolve
from .regression import (
    AgainstIncumbent,
    expected_improvement,
    greedy,
    probability_of_improvement,
    regression_bald,
    ucb,
    variance,
)
from .safe import SafeRandom, SafeScore, SafeVariance, min_unsafe_entropy
from .stochastic import (
    Random,
    Reselected,
    power,
    power_bald,
    random,
    soft_rank,
    softmax,
    softmax_bald,
)
from .tcm import TCM
from .uncertainty import (
    bald,
    entropy,
    least_confidence,
    margin,
    mean_std,
    posterior_entropy,
    posterior_least_confidence,
    posterior_margin,
    posterior_ratio,
    ratio,
    variation_ratio,
)
from .wrappers import PerClassQuota, Subsample

__all__ = [
    "EPIG",
    "EQUIVALENT",
    "STRATEGIES",
    "TCM",
    "AgainstIncumbent",
    "AlfaMix",
    "Badge",
    "Bait",
    "BatchBald",
    "BatchEPIG",
    "Clue",
    "ClusterMargin",
    "CoreGCN",
    "DensityWeighted",
    "DropQuery",
    "EpsilonGreedy",
    "FacilityLocation",
    "FilterThenChoose",
    "Galaxy",
    "KCenter",
    "KMeans",
    "KMeansPlusPlus",
    "Lcmd",
    "LearningLoss",
    "MaxDet",
    "MaxHerding",
    "NoiseStability",
    "PerClassQuota",
    "PolicyQuery",
    "ProbCover",
    "Random",
    "RegressionBatchEPIG",
    "RegressionEPIG",
    "RelativeDistance",
    "Representative",
    "Reselected",
    "SafeRandom",
    "SafeScore",
    "SafeVariance",
    "ScoreStrategy",
    "Subsample",
    "Thompson",
    "TypiClust",
    "UHerding",
    "WeightedSum",
    "bald",
    "build",
    "consensus_kl",
    "density_weighted",
    "entropy",
    "expected_improvement",
    "greedy",
    "least_confidence",
    "margin",
    "mean_std",
    "min_unsafe_entropy",
    "names",
    "posterior_entropy",
    "posterior_least_confidence",
    "posterior_margin",
    "posterior_ratio",
    "power",
    "power_bald",
    "probability_of_improvement",
    "random",
    "ratio",
    "regression_bald",
    "resolve",
    "selection",
    "soft_rank",
    "softmax",
    "softmax_bald",
    "thompson",
    "thompson_per_item",
    "ucb",
    "variance",
    "variation_ratio",
    "vote_entropy",
]
