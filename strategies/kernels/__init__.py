"""Set kernels that look at pairs of items: tensors in, positions [K] into the first argument out.

Each kernel is a pure function: float32 in (other floats are taken too), any device, memory under
a stated budget, deterministic given the generator.
"""

from .batch_bald import batch_bald, joint_entropy
from .cover import facility_location, max_herding, prob_cover, purity_radius
from .greedy_fisher import bait
from .joint_epig import batch_epig, joint_epig, regression_batch_epig
from .k_center import k_center_greedy
from .plus_plus import badge, kmeans_plus_plus
from .top_classes import bait_of_top_classes
from .typiclust import typiclust

__all__ = [
    "badge",
    "bait",
    "bait_of_top_classes",
    "batch_bald",
    "batch_epig",
    "facility_location",
    "joint_entropy",
    "joint_epig",
    "k_center_greedy",
    "kmeans_plus_plus",
    "max_herding",
    "prob_cover",
    "purity_radius",
    "regression_batch_epig",
    "typiclust",
]
