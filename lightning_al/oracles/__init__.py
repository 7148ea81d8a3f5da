"""Who answers: simulated, noisy, several, abstaining, costly and late oracles, and a file."""

from .annotators import CommitteeOracle
from .function import FunctionOracle
from .noisy import NoisyOracle
from .question_file import FileOracle
from .simulated import SimulatedOracle
from .wrapper import Wrapper, check, placed, price
from .wrappers import AbstainingOracle, CostlyOracle, DelayedOracle

__all__ = [
    "AbstainingOracle",
    "CommitteeOracle",
    "CostlyOracle",
    "DelayedOracle",
    "FileOracle",
    "FunctionOracle",
    "NoisyOracle",
    "SimulatedOracle",
    "Wrapper",
    "check",
    "placed",
    "price",
]
