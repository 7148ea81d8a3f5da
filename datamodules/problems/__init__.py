"""Problems of sequential experimental design, some with a safety measurement beside the target.

>>> import torch
>>> from lightning_al.datamodules import problems
>>> townsend = problems.problem("townsend")
>>> start = townsend.initial(5, torch.Generator().manual_seed(0))
>>> tuple(start.x.shape), bool(start.safe.all())
((5, 2), True)
"""

from .analytic import Analytic
from .base import Drawn, Measured, Problem
from .fluid import FluidSystem
from .registry import PROBLEMS, names, problem
from .tables import TableProblem

__all__ = [
    "PROBLEMS",
    "Analytic",
    "Drawn",
    "FluidSystem",
    "Measured",
    "Problem",
    "TableProblem",
    "names",
    "problem",
]
