"""Tasks: what a network is trained for, and how outputs are read from any LightningModule."""

from .adapter import Adapter
from .classification import Classification
from .density_estimation import DensityEstimation
from .density_regression import DensityRegression
from .gaussian_process import GPRegression
from .gp_classification import GPClassification
from .gpytorch_regression import GPyTorchRegression
from .heads import find_head
from .linear_probe import LinearProbe
from .loss_head import LossHead
from .marginal_gp import MarginalGPRegression
from .multilabel import MultiLabelClassification
from .pfn import PFNRegression
from .places import PlaceClassification
from .regression import Regression
from .self_training import SelfTraining
from .sklearn import SklearnClassification, SklearnRegression
from .sparse_gp import SparseGPRegression
from .tabpfn import TabPFNClassification, TabPFNRegression
from .task import Task

__all__ = [
    "Adapter",
    "Classification",
    "DensityEstimation",
    "DensityRegression",
    "GPClassification",
    "GPRegression",
    "GPyTorchRegression",
    "LinearProbe",
    "LossHead",
    "MarginalGPRegression",
    "MultiLabelClassification",
    "PFNRegression",
    "PlaceClassification",
    "Regression",
    "SelfTraining",
    "SklearnClassification",
    "SklearnRegression",
    "SparseGPRegression",
    "TabPFNClassification",
    "TabPFNRegression",
    "Task",
    "find_head",
]
