"""Set kernels that look at pairs of items: tensors in, positions [K] into the first argument out.

Each kernel is a pure function: float32 in (other floats are taken too), any device, memory under
a stated budget, deterministic given the generator.
"""

from .k_center import k_center_greedy
from .plus_plus import badge, kmeans_plus_plus

__all__ = ["badge", "k_center_greedy", "kmeans_plus_plus"]
