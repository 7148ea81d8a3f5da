"""Who answers: simulated, noisy, several, abstaining, costly and late oracles, and a file."""

from .annotators import CommitteeOracle
from .base import Awaited, Wrapper, placed, price
from .file import FileOracle
from .function import FunctionOracle
from .noisy import NoisyOracle
from .simulated import SimulatedOracle
from .wrappers import AbstainingOracle, CostlyOracle, DelayedOracle

__all__ = [
    "AbstainingOracle",
    "Awaited",
    "CommitteeOracle",
    "CostlyOracle",
    "DelayedOracle",
    "FileOracle",
    "FunctionOracle",
    "NoisyOracle",
    "SimulatedOracle",
    "Wrapper",
    "placed",
    "price",
]
