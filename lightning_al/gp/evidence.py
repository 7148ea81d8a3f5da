"""Log marginal likelihoods with analytic gradients, one Cholesky each; NumPy and LAPACK inside.

Rasmussen, Williams (2006), "Gaussian Processes for Machine Learning", equations 2.30 and 5.9.
The parameters are the logarithms ``[log lengthscale (d or 1), log outputscale, log noise]``.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from lightning_al.threads import working_alone

from .kernels import Stationary, shape_of

__all__ = ["Array", "evidence", "lengthscale_gradient", "log_marginal_likelihood"]

Array = NDArray[np.float64]
LOG_2_PI = math.log(2 * math.pi)


@functools.cache
def _routines() -> tuple[Any, ...]:
    """Of LAPACK and SciPy, which loads slowly: not with this module, and once."""
    from scipy.linalg.lapack import dpotrf, dpotri, dpotrs
    from scipy.spatial.distance import cdist

    return dpotrf, dpotri, dpotrs, cdist


def _weighed(z: Array, weights: Array) -> Array:
    """Sums [d] over i, j of weights_ij (z_ik - z_jk)², for weights [n, n] of any kind."""
    margins = weights.sum(0) + weights.sum(1)
    sums: Array = margins @ (z * z) - 2.0 * np.einsum("ik,ik->k", z, weights @ z)
    return sums


def lengthscale_gradient(z: Array, weights: Array, ard: bool) -> Array:
    """Gradient [d or 1] of sum_ij M_ij K_ij in the log length scales.

    Args:
        z: inputs over length scales [n, d].
        weights: M times outputscale times the kernel's slope [n, n].
        ard: one length scale a feature.
    """
    each = _weighed(z, weights)
    return each if ard else each.sum(keepdims=True)


@working_alone(lambda shape, x, *_, **__: len(x) ** 3)
def evidence(
    shape: str, x: Array, y: Array, theta: Array, ard: bool = True
) -> tuple[float, Array] | None:
    """Log marginal likelihood of y [n] at x [n, d], and its gradient in ``theta``.

    About n³ multiplications and a few passes over n² numbers. The inputs should lie around 0, or
    digits are lost. None where the covariance is not positive definite in float64.
    """
    dpotrf, dpotri, dpotrs, cdist = _routines()
    n = len(x)
    scale, outputscale, noise = np.exp(theta[:-2]), math.exp(theta[-2]), math.exp(theta[-1])
    z = x / scale
    g, h = shape_of(shape)(cdist(z, z, "sqeuclidean"), np)
    covariance = outputscale * g
    covariance.flat[:: n + 1] += noise
    # LAPACK reads columns: the transposed view of a symmetric matrix costs no copy
    factor, info = dpotrf(covariance.T, lower=1, clean=1, overwrite_a=1)
    if info or not math.isfinite(factor[-1, -1]):
        return None
    log_det = float(np.log(factor.diagonal()).sum())
    alpha = dpotrs(factor, y, lower=1)[0]
    fit = float(y @ alpha)
    value = -0.5 * fit - log_det - 0.5 * n * LOG_2_PI
    inverse = dpotri(factor, lower=1, overwrite_c=1)[0]  # its lower half; zeros above
    trace = float(inverse.trace() - alpha @ alpha)  # of K^-1 - alpha alpha^T
    gradient = np.empty_like(theta)
    # sums of (alpha alpha^T - K^-1)_ij h_ij (z_ik - z_jk)², over 2; half of the symmetric K^-1 does
    half = np.multiply(inverse.T, h)
    pulled = alpha[:, None] * z
    margins = alpha * (h @ alpha) - half.sum(0) - half.sum(1)
    cross = 2.0 * (half @ z) - alpha[:, None] * (h @ pulled)
    each = outputscale * (margins @ (z * z) + (z * cross).sum(0))
    gradient[:-2] = each if ard else each.sum()
    gradient[-2] = 0.5 * (fit - n + noise * trace)
    gradient[-1] = -0.5 * noise * trace
    return value, gradient


@working_alone(lambda kernel, noise, x, y: len(x) ** 3)
def log_marginal_likelihood(
    kernel: Stationary, noise: Tensor, x: Tensor, y: Tensor
) -> tuple[float, dict[str, Any]]:
    """Value in nats and gradients in the logarithms of the hyper-parameters.

    Args:
        kernel: without batch axes.
        noise: [], variance.
        x: [n, d].
        y: [n].

    Returns:
        The value, and ``{"lengthscale": [d or 1], "outputscale": float, "noise": float}``.

    Raises:
        ValueError: a covariance that is not positive definite in float64.
    """
    logs = [*kernel.lengthscale.log().tolist(), float(kernel.outputscale.log()), float(noise.log())]
    ard = len(kernel.lengthscale) == x.shape[1]
    found = evidence(kernel.shape, numbers(x - x.mean(0)), numbers(y), np.array(logs), ard)
    if found is None:
        raise ValueError(
            f"the covariance of {len(x)} points is not positive definite with noise "
            f"{float(noise):g}; raise the noise"
        )
    value, gradient = found
    named = {"lengthscale": gradient[:-2], "outputscale": gradient[-2], "noise": gradient[-1]}
    return value, named


def numbers(values: Tensor) -> Array:
    """The same numbers as a float64 array on the CPU."""
    array: Array = values.detach().double().cpu().contiguous().numpy()
    return array
