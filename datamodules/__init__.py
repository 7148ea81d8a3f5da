"""Labelled and unlabelled splits of any data set, and ready modules for the common ones."""

from . import named as datasets
from . import problems
from .active_data import ActiveDataModule
from .continuous import ContinuousDataModule
from .image_folder import ImageFolderDataModule
from .images import CIFAR10DataModule, FashionMNISTDataModule, MNISTDataModule
from .named_data import BenchmarkDataModule
from .pool_data import Splits
from .problem_data import ProblemDataModule, ProblemPoolDataModule
from .tabular import TabularDataModule
from .tensors import TensorItems
from .toy import BreastCancerDataModule, DiabetesDataModule, DigitsDataModule

__all__ = [
    "ActiveDataModule",
    "BenchmarkDataModule",
    "BreastCancerDataModule",
    "CIFAR10DataModule",
    "ContinuousDataModule",
    "DiabetesDataModule",
    "DigitsDataModule",
    "FashionMNISTDataModule",
    "ImageFolderDataModule",
    "MNISTDataModule",
    "ProblemDataModule",
    "ProblemPoolDataModule",
    "Splits",
    "TabularDataModule",
    "TensorItems",
    "datasets",
    "problems",
]
