"""What to label next: query strategies, and the kernels that they are made of.

``build("bald")`` or ``resolve(spec)`` make a strategy; ``names()`` lists them.
"""

from . import selection
from .around.auto_al import AutoAL, RegressionAutoAL
from .around.bandits import Albl, Tailor
from .around.combined import EpsilonGreedy, FilterThenChoose, WeightedSum
from .around.mixture import RandomWeights, UniformMixture
from .around.restricted import PerClassQuota, Subsample
from .around.stochastic import (
    Random,
    Reselected,
    power,
    power_bald,
    random,
    soft_rank,
    softmax,
    softmax_bald,
)
from .diversity.clustered import KMeans, Representative
from .diversity.covering import (
    FacilityLocation,
    KCenter,
    KMeansPlusPlus,
    MaxHerding,
    ProbCover,
    RelativeDistance,
    TypiClust,
)
from .diversity.reduced import PcaKCenter
from .hybrid.bait import Bait
from .hybrid.batch_epig import BatchEPIG, RegressionBatchEPIG
from .hybrid.batches import Badge, BatchBald, ClusterMargin
from .hybrid.clue import Clue
from .hybrid.density_weighted import DensityWeighted, density_weighted
from .hybrid.galaxy import Galaxy
from .hybrid.herding import UHerding
from .hybrid.kernel_batches import Lcmd, MaxDet
from .hybrid.mixing import AlfaMix, DropQuery
from .hybrid.tcm import TCM
from .score_strategy import ScoreStrategy
from .sequential.policy_query import PolicyQuery
from .sequential.safe import SafeRandom, SafeScore, SafeVariance, min_unsafe_entropy
from .sequential.sobol import Sobol
from .strategy_registry import EQUIVALENT, STRATEGIES, build, kind_of, names, resolve
from .trained.adversaries import Vaal, Waal
from .trained.core_gcn import CoreGCN
from .trained.input_density import InputDensity
from .trained.learning_loss import LearningLoss
from .trained.noise import NoiseStability
from .uncertainty.adversarial import AdversarialBim, AdversarialDeepFool
from .uncertainty.classifiers import (
    bald,
    entropy,
    expected_entropy,
    expected_least_confidence,
    expected_margin,
    expected_ratio,
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
from .uncertainty.committee import consensus_kl, vote_entropy
from .uncertainty.densities import (
    DensityScore,
    bald_naive,
    balsa_bald_entropy,
    balsa_bald_lc,
    balsa_bald_std,
    balsa_emd,
    balsa_kl_all_pairs,
    balsa_kl_anomaly,
    balsa_kl_diff,
    balsa_kl_grid,
    balsa_kl_pairs,
    balsa_mi,
    balsa_nflows_out,
    density_entropy,
    density_least_confidence,
    density_spread,
    density_std,
)
from .uncertainty.epig import EPIG, RegressionEPIG
from .uncertainty.feature_density import Ddu
from .uncertainty.posterior_samples import Thompson, thompson, thompson_per_item
from .uncertainty.regressors import (
    AgainstIncumbent,
    expected_improvement,
    greedy,
    probability_of_improvement,
    regression_bald,
    ucb,
    variance,
)

__all__ = [
    "EPIG",
    "EQUIVALENT",
    "STRATEGIES",
    "TCM",
    "AdversarialBim",
    "AdversarialDeepFool",
    "AgainstIncumbent",
    "Albl",
    "AlfaMix",
    "AutoAL",
    "Badge",
    "Bait",
    "BatchBald",
    "BatchEPIG",
    "Clue",
    "ClusterMargin",
    "CoreGCN",
    "Ddu",
    "DensityScore",
    "DensityWeighted",
    "DropQuery",
    "EpsilonGreedy",
    "FacilityLocation",
    "FilterThenChoose",
    "Galaxy",
    "InputDensity",
    "KCenter",
    "KMeans",
    "KMeansPlusPlus",
    "Lcmd",
    "LearningLoss",
    "MaxDet",
    "MaxHerding",
    "NoiseStability",
    "PcaKCenter",
    "PerClassQuota",
    "PolicyQuery",
    "ProbCover",
    "Random",
    "RandomWeights",
    "RegressionAutoAL",
    "RegressionBatchEPIG",
    "RegressionEPIG",
    "RelativeDistance",
    "Representative",
    "Reselected",
    "SafeRandom",
    "SafeScore",
    "SafeVariance",
    "ScoreStrategy",
    "Sobol",
    "Subsample",
    "Tailor",
    "Thompson",
    "TypiClust",
    "UHerding",
    "UniformMixture",
    "Vaal",
    "Waal",
    "WeightedSum",
    "bald",
    "bald_naive",
    "balsa_bald_entropy",
    "balsa_bald_lc",
    "balsa_bald_std",
    "balsa_emd",
    "balsa_kl_all_pairs",
    "balsa_kl_anomaly",
    "balsa_kl_diff",
    "balsa_kl_grid",
    "balsa_kl_pairs",
    "balsa_mi",
    "balsa_nflows_out",
    "build",
    "consensus_kl",
    "density_entropy",
    "density_least_confidence",
    "density_spread",
    "density_std",
    "density_weighted",
    "entropy",
    "expected_entropy",
    "expected_improvement",
    "expected_least_confidence",
    "expected_margin",
    "expected_ratio",
    "greedy",
    "kind_of",
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
