"""Set kernels that look at pairs of items: tensors in, positions [K] into the first argument out.

Each kernel is a pure function: float32 in (other floats are taken too), any device, memory under
a stated budget, deterministic given the generator.
"""

from .batch_bald import batch_bald, joint_entropy
from .cover import facility_location, max_herding, prob_cover, purity_radius
from .k_center import k_center_greedy
from .plus_plus import badge, kmeans_plus_plus
from .typiclust import typiclust

__all__ = [
    "badge",
    "batch_bald",
    "facility_location",
    "joint_entropy",
    "k_center_greedy",
    "kmeans_plus_plus",
    "max_herding",
    "prob_cover",
    "purity_radius",
    "typiclust",
]
