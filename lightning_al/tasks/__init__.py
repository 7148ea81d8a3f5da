"""Tasks: what a network is trained for, and how outputs are read from any LightningModule."""

from .adapter import Adapter
from .classification import Classification
from .gaussian_process import GPRegression
from .gp_classification import GPClassification
from .gpytorch_regression import GPyTorchRegression
from .heads import find_head
from .loss_head import LossHead
from .marginal_gp import MarginalGPRegression
from .multilabel import MultiLabelClassification
from .places import PlaceClassification
from .regression import Regression
from .sklearn import SklearnClassification, SklearnRegression
from .sparse_gp import SparseGPRegression
from .task import Task

__all__ = [
    "Adapter",
    "Classification",
    "GPClassification",
    "GPRegression",
    "GPyTorchRegression",
    "LossHead",
    "MarginalGPRegression",
    "MultiLabelClassification",
    "PlaceClassification",
    "Regression",
    "SklearnClassification",
    "SklearnRegression",
    "SparseGPRegression",
    "Task",
    "find_head",
]
