"""Small networks that record how they were built, and ensembles of any network."""

from .chains import MLP, SmallCNN
from .density_encoder import DensityEncoder
from .ensemble import Ensemble
from .fully_convolutional import FullyConvolutional
from .input_flow import InputFlow
from .network_specs import build, embedding_layer, spec_of
from .probe import Probe
from .resnet import ResNet18

__all__ = [
    "MLP",
    "DensityEncoder",
    "Ensemble",
    "FullyConvolutional",
    "InputFlow",
    "Probe",
    "ResNet18",
    "SmallCNN",
    "build",
    "embedding_layer",
    "spec_of",
]
