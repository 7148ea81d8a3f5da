"""Gaussian processes in closed form: kernels, evidence, fits, posteriors; float64 throughout."""

from .evidence import log_marginal_likelihood
from .exact import ExactGP, cholesky
from .fit import Fit, fit_exact
from .hyperpriors import AnyPrior, GammaPrior, Prior
from .kernels import SHAPES, Covariance, Stationary
from .latent_mode import BinaryLaplace, fit_laplace, sigmoid_mean
from .marginal import MixtureGP
from .sampling import sample_posterior
from .sparse import SparseGP, fit_sparse

__all__ = [
    "SHAPES",
    "AnyPrior",
    "BinaryLaplace",
    "Covariance",
    "ExactGP",
    "Fit",
    "GammaPrior",
    "MixtureGP",
    "Prior",
    "SparseGP",
    "Stationary",
    "cholesky",
    "fit_exact",
    "fit_laplace",
    "fit_sparse",
    "log_marginal_likelihood",
    "sample_posterior",
    "sigmoid_mean",
]
