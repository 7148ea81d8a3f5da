"""Labelled and unlabelled splits of any data set, and ready modules for the common ones."""

from . import named as datasets
from . import problems
from .active_data import ActiveDataModule
from .continuous import ContinuousDataModule
from .embedded import EmbeddedDataModule
from .experiments import ExperimentDataModule
from .image_folder import ImageFolderDataModule
from .images import CIFAR10DataModule, FashionMNISTDataModule, MNISTDataModule
from .more_images import (
    CIFAR10VariantDataModule,
    CIFAR100DataModule,
    MedMNISTDataModule,
    SVHNDataModule,
)
from .named_data import NamedDataModule
from .pool_data import PoolDataModule, Splits
from .problem_data import ProblemDataModule, ProblemPoolDataModule
from .scenes import ScenesDataModule
from .tabular import TabularDataModule
from .tensors import TensorItems
from .text import TextDataModule
from .toy import BreastCancerDataModule, DiabetesDataModule, DigitsDataModule
from .vectors import EmbeddingsDataModule

__all__ = [
    "ActiveDataModule",
    "BreastCancerDataModule",
    "CIFAR10DataModule",
    "CIFAR10VariantDataModule",
    "CIFAR100DataModule",
    "ContinuousDataModule",
    "DiabetesDataModule",
    "DigitsDataModule",
    "EmbeddedDataModule",
    "EmbeddingsDataModule",
    "ExperimentDataModule",
    "FashionMNISTDataModule",
    "ImageFolderDataModule",
    "MNISTDataModule",
    "MedMNISTDataModule",
    "NamedDataModule",
    "PoolDataModule",
    "ProblemDataModule",
    "ProblemPoolDataModule",
    "SVHNDataModule",
    "ScenesDataModule",
    "Splits",
    "TabularDataModule",
    "TensorItems",
    "TextDataModule",
    "datasets",
    "problems",
]
