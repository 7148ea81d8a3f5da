"""Surrogates: networks that model a function at once, trained beforehand on simulated ones."""

from .amortised_gp import AmortisedGP
from .files import load, save, shipped
from .functions import FunctionPrior, Problems
from .kinds import KINDS, Surrogate
from .pfn import PFN
from .training import FunctionDataModule, SurrogateModule

__all__ = [
    "KINDS",
    "PFN",
    "AmortisedGP",
    "FunctionDataModule",
    "FunctionPrior",
    "Problems",
    "Surrogate",
    "SurrogateModule",
    "load",
    "save",
    "shipped",
]
