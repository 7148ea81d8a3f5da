"""Labelled and unlabelled splits of any data set, and ready modules for the common ones."""

from . import datasets, problems
from .base import ActiveDataModule, Splits
from .benchmark import BenchmarkDataModule
from .continuous import ContinuousDataModule
from .folder import ImageFolderDataModule
from .images import CIFAR10DataModule, FashionMNISTDataModule, MNISTDataModule
from .problem import ProblemDataModule, ProblemPoolDataModule
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
