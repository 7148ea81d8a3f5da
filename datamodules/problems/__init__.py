"""Problems of sequential experimental design, some with a safety measurement beside the target.

>>> import torch
>>> from lightning_al.datamodules import problems
>>> townsend = problems.problem("townsend")
>>> start = townsend.initial(5, torch.Generator().manual_seed(0))
>>> tuple(start.x.shape), bool(start.safe.all())
((5, 2), True)
"""

from .all_problems import PROBLEMS, names, problem
from .analytic import Analytic
from .fluid import FluidSystem
from .problem import Drawn, Measured, Problem
from .recorded import TableProblem

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
