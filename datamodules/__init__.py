"""Labelled and unlabelled splits of any data set, and ready modules for the common ones."""

from .base import ActiveDataModule, Splits
from .folder import ImageFolderDataModule
from .images import CIFAR10DataModule, FashionMNISTDataModule, MNISTDataModule
from .tabular import TabularDataModule
from .tensors import TensorItems
from .toy import BreastCancerDataModule, DiabetesDataModule, DigitsDataModule

__all__ = [
    "ActiveDataModule",
    "BreastCancerDataModule",
    "CIFAR10DataModule",
    "DiabetesDataModule",
    "DigitsDataModule",
    "FashionMNISTDataModule",
    "ImageFolderDataModule",
    "MNISTDataModule",
    "Splits",
    "TabularDataModule",
    "TensorItems",
]
