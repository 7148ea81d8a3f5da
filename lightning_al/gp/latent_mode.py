"""Gaussian process classification of two classes by Laplace's approximation, logistic link.

Rasmussen, Williams (2006), "Gaussian Processes for Machine Learning", algorithms 3.1 (the mode),
3.2 (predictions) and 5.1 (the gradient of the evidence).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lightning_al.threads import working_alone

from .evidence import Array, lengthscale_gradient, numbers
from .fit import Fit, climb
from .hyperpriors import Prior
from .kernels import Covariance, Stationary, shape_of

__all__ = ["BinaryLaplace", "fit_laplace", "laplace_evidence", "sigmoid_mean"]

STEPS, TOLERANCE = 100, 1e-10  # of Newton's method, in nats
NODES, WIDE = 32, 1.5

# Williams, Barber (1998), "Bayesian classification with Gaussian processes", appendix A: the
# logistic function as a sum of five error functions, with the numbers that scikit-learn uses
ERF_SCALES = (0.41, 0.4, 0.37, 0.44, 0.39)
ERF_WEIGHTS = (-1854.8214151, 3516.89893646, 221.29346712, 128.12323805, -2010.49422654)


@dataclass(frozen=True)
class _Mode:
    """The mode of the latent values given labels, with what Newton's last step left."""

    f: Array  # [n]
    a: Array  # [n], K^-1 f
    probs: Array  # [n], of label 1
    root: Array  # [n], square root of the likelihood's curvature
    factor: Array  # [n, n], lower, of I + root K root
    value: float  # log of the approximate evidence, nats


def _sigmoid(f: Array) -> Array:
    decay = np.exp(-np.abs(f))
    p: Array = np.where(f >= 0, 1.0, decay) / (1.0 + decay)
    return p


def _mode(covariance: Array, labels: Array) -> _Mode | None:
    """Newton's method from f = 0; None where the numbers give out."""
    from scipy.linalg.lapack import dpotrf, dpotrs  # inside: SciPy loads slowly

    n = len(labels)
    f, last = np.zeros(n), -math.inf
    found = None
    signs = 2.0 * labels - 1.0
    for _ in range(STEPS):
        probs = _sigmoid(f)
        curvature = probs * (1.0 - probs)
        root = np.sqrt(curvature)
        system = root[:, None] * covariance * root
        system.flat[:: n + 1] += 1.0
        factor, info = dpotrf(system.T, lower=1, clean=1, overwrite_a=1)
        if info:
            return None
        b = curvature * f + labels - probs
        a = b - root * dpotrs(factor, root * (covariance @ b), lower=1)[0]
        f = covariance @ a
        likelihood = -float(np.logaddexp(0.0, -signs * f).sum())
        value = -0.5 * float(a @ f) + likelihood - float(np.log(factor.diagonal()).sum())
        if not math.isfinite(value):
            return None
        found = _Mode(f, a, probs, root, factor, value)
        if value - last < TOLERANCE:
            break
        last = value
    return found


@working_alone(lambda shape, x, *_, **__: len(x) ** 3)
def laplace_evidence(
    shape: str, x: Array, labels: Array, theta: Array, ard: bool = True
) -> tuple[float, Array] | None:
    """Approximate log evidence of labels [n] in {0, 1} at x [n, d], and its gradient.

    ``theta`` is ``[log lengthscale (d or 1), log outputscale]``. None where it is not defined.
    """
    from scipy.linalg import solve_triangular
    from scipy.linalg.lapack import dpotrf
    from scipy.spatial.distance import cdist

    scale, outputscale = np.exp(theta[:-1]), math.exp(theta[-1])
    z = x / scale
    z = z - z.mean(0)
    r2 = cdist(z, z, "sqeuclidean")
    g, h = shape_of(shape)(r2, np)
    covariance = outputscale * g
    mode = _mode(covariance, labels)
    if mode is None:
        return None
    # at the converged mode; the last step's factor belongs to the point before it
    probs = _sigmoid(mode.f)
    root = np.sqrt(probs * (1.0 - probs))
    system = root[:, None] * covariance * root
    system.flat[:: len(x) + 1] += 1.0
    factor = dpotrf(system.T, lower=1, clean=1)[0]
    inverse_root = solve_triangular(factor, np.diag(root), lower=True)
    r = inverse_root.T @ inverse_root
    c = inverse_root @ covariance
    third = probs * (1.0 - probs) * (2.0 * probs - 1.0)
    s2 = 0.5 * (covariance.diagonal() - (c * c).sum(0)) * third  # W = -d²: its slope is -third
    slope = labels - probs
    v = s2 - r @ (covariance @ s2)
    # d evidence = sum_ij M_ij dK_ij: equation 5.22 in one matrix
    m = 0.5 * (np.outer(mode.a, mode.a) - r) + np.outer(v, slope)
    gradient = np.empty_like(theta)
    gradient[:-1] = outputscale * lengthscale_gradient(z, m * h, ard)
    gradient[-1] = float((m * covariance).sum())
    return mode.value, gradient


@working_alone(lambda x, *_, **__: len(x) ** 3)
def fit_laplace(
    x: Tensor,
    labels: Tensor,
    shape: str,
    lengthscale: Prior,
    outputscale: Prior,
    *,
    ard: bool = True,
    start: Array | None = None,
) -> tuple[Stationary, Fit]:
    """Kernel that maximises evidence times prior: x [n, d], labels [n] in {0, 1}.

    Raises:
        ValueError: no evidence at the start of the search.
    """
    shape_of(shape)
    inputs, targets = numbers(x), numbers(labels)
    priors = [lengthscale] * (x.shape[1] if ard else 1) + [outputscale]
    found = climb(lambda theta: laplace_evidence(shape, inputs, targets, theta, ard), priors, start)
    values = torch.from_numpy(np.exp(found.theta)).to(x.device)
    return Stationary(shape, values[:-1], values[-1]), found


@dataclass(frozen=True)
class BinaryLaplace:
    """Latent Gaussian process given labels; made by :meth:`given`."""

    kernel: Covariance
    x: Tensor  # [n, d]
    slope: Tensor  # [n], label minus probability, equal to K^-1 f at the mode
    root: Tensor  # [n]
    factor: Tensor  # [n, n], lower, of I + root K root
    value: float  # log evidence, nats

    @classmethod
    @working_alone(lambda cls, kernel, x, labels: len(x) ** 3)
    def given(cls, kernel: Covariance, x: Tensor, labels: Tensor) -> BinaryLaplace:
        """Find the mode given labels [n] in {0, 1} at x [n, d], float64; one class is enough.

        Raises:
            ValueError: labels of another kind, or a covariance that is none.
        """
        if labels.shape != x.shape[:1] or not bool(((labels == 0) | (labels == 1)).all()):
            raise ValueError(f"labels must be 0 or 1, [{len(x)}], got {list(labels.shape)}")
        mode = _mode(numbers(kernel(x, x)), numbers(labels))
        if mode is None:
            raise ValueError(
                "Newton's method found no mode: the covariance holds NaN or is indefinite; look "
                "for such features, or features that are huge against the length scales"
            )

        def tensor(part: Array) -> Tensor:
            return torch.from_numpy(np.ascontiguousarray(part)).to(x.device)

        slope = tensor(numbers(labels) - mode.probs)
        return cls(kernel, x, slope, tensor(mode.root), tensor(mode.factor), mode.value)

    @working_alone(lambda self, points: len(self.x) ** 2 * len(points), blas=False)
    def moments(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and variance [m] of the latent function at points [m, d]."""
        cross = self.kernel(points, self.x)
        mean = cross @ self.slope
        weighed = (cross * self.root).mT
        half = torch.linalg.solve_triangular(self.factor, weighed, upper=False)
        explained = torch.linalg.vector_norm(half, dim=-2).square_()
        return mean, (self.kernel.diagonal(points) - explained).clamp_min_(0.0)


@working_alone(lambda mean, *_, **__: 1000 * mean.numel(), blas=False)
def sigmoid_mean(mean: Tensor, variance: Tensor, published: bool = False) -> Tensor:
    """Mean of the logistic function under Gaussians: mean, variance [...] -> probabilities [...].

    Good to 1e-7: by Gauss-Hermite quadrature up to a deviation of 1.5, and above by the trapezoidal
    rule over the logistic density, ``integral of Phi((mean + t) / std) dlogistic(t)``.
    ``published`` takes the sum of five error functions of Williams and Barber (1998) instead, as
    scikit-learn does (good to 5e-4).
    """
    if not published:
        centre, std = mean.unsqueeze(-1), variance.sqrt().unsqueeze(-1)
        nodes, weights = np.polynomial.hermite_e.hermegauss(NODES)
        steps = torch.from_numpy(nodes).to(mean)
        odds = torch.from_numpy(weights / weights.sum()).to(mean)
        narrow = (centre + std * steps).sigmoid() @ odds
        t = torch.arange(-40.0, 40.5, 0.5).to(mean)
        density = t.sigmoid() * (-t).sigmoid()
        wide = torch.special.ndtr((centre + t) / std.clamp_min(1.0)) @ (density / density.sum())
        return torch.where(std.squeeze(-1) < WIDE, narrow, wide)
    total = torch.full_like(mean, 0.5 * sum(ERF_WEIGHTS))
    for scale, weight in zip(ERF_SCALES, ERF_WEIGHTS, strict=True):
        total += 0.5 * weight * torch.erf(scale * mean / (1 + 2 * scale**2 * variance).sqrt())
    return total
