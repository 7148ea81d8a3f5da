"""Labelled and unlabelled splits of any data set, and ready modules for the common ones."""

from . import named as datasets
from . import problems
from .active_data import ActiveDataModule
from .continuous import ContinuousDataModule
from .image_folder import ImageFolderDataModule
from .images import CIFAR10DataModule, FashionMNISTDataModule, MNISTDataModule
from .named_data import NamedDataModule
from .pool_data import PoolDataModule, Splits
from .problem_data import ProblemDataModule, ProblemPoolDataModule
from .tabular import TabularDataModule
from .tensors import TensorItems
from .toy import BreastCancerDataModule, DiabetesDataModule, DigitsDataModule

__all__ = [
    "ActiveDataModule",
    "BreastCancerDataModule",
    "CIFAR10DataModule",
    "ContinuousDataModule",
    "DiabetesDataModule",
    "DigitsDataModule",
    "FashionMNISTDataModule",
    "ImageFolderDataModule",
    "MNISTDataModule",
    "NamedDataModule",
    "PoolDataModule",
    "ProblemDataModule",
    "ProblemPoolDataModule",
    "Splits",
    "TabularDataModule",
    "TensorItems",
    "datasets",
    "problems",
]
