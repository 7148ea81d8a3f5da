"""Sparse Gaussian process regression through M inducing points, O(n M²) time.

Titsias (2009), "Variational Learning of Inducing Variables in Sparse Gaussian Processes": the
collapsed bound, equation 9, and its predictions. Inducing points start among the data, at those of
greatest conditional variance, as Burt, Rasmussen, van der Wilk (2020) recommend.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lightning_al.threads import working_alone

from .evidence import LOG_2_PI, Array, numbers
from .exact import cholesky
from .fit import Fit, climb
from .hyperpriors import AnyPrior, starts_of
from .kernels import Covariance, Stationary, shape_of

__all__ = ["SparseGP", "collapsed_bound", "fit_sparse", "greedy_points"]

JITTER = 1e-10  # of the output scale, on the inducing points: they are seen with that much noise


@working_alone(lambda kernel, x, count: len(x) * count**2, blas=False)
def greedy_points(kernel: Covariance, x: Tensor, count: int) -> Tensor:
    """Positions [min(count, n)] in x [n, d], each the one of greatest variance given those before.

    The first of equals; the same, in the same order, as a pivoted Cholesky takes.
    """
    n = len(x)
    left = kernel.diagonal(x).clone()
    rows = x.new_zeros(min(count, n), n)
    taken = torch.zeros(n, dtype=torch.bool, device=x.device)
    chosen = torch.empty(len(rows), dtype=torch.long, device=x.device)
    for i in range(len(rows)):
        pivot = left.masked_fill(taken, -math.inf).argmax()
        chosen[i], taken[pivot] = pivot, True
        row = kernel(x[pivot : pivot + 1], x)[0] - rows[:i, pivot] @ rows[:i]
        depth = left[pivot]
        if float(depth) > 0:  # else it lies on others: it tells nothing
            rows[i] = row / depth.sqrt()
            left = (left - rows[i].square()).clamp_min(0.0)
    return chosen


@working_alone(lambda shape, z, x, *_, **__: len(x) * len(z) ** 2)
def collapsed_bound(
    shape: str, z: Array, x: Array, y: Array, theta: Array, ard: bool = True
) -> tuple[float, Array, Array] | None:
    """Lower bound of the log evidence of y [n] at x [n, d]; its gradients in ``theta`` and ``z``.

    Args:
        shape: name of the kernel.
        z: inducing points [M, d].
        x: inputs, which should lie around 0.
        y: of mean 0.
        theta: ``[log lengthscale (d or 1), log outputscale, log noise]``.
        ard: one length scale a feature.

    Returns:
        None where the numbers give out.
    """
    from scipy.linalg import solve_triangular  # inside: SciPy loads slowly
    from scipy.linalg.lapack import dpotrf, dtrtri
    from scipy.spatial.distance import cdist

    n, m = len(x), len(z)
    scale, outputscale, noise = np.exp(theta[:-2]), math.exp(theta[-2]), math.exp(theta[-1])
    zs, xs = z / scale, x / scale
    function = shape_of(shape)
    g_uu, h_uu = function(cdist(zs, zs, "sqeuclidean"), np)
    g_uf, h_uf = function(cdist(zs, xs, "sqeuclidean"), np)
    k_uu, k_uf = outputscale * g_uu, outputscale * g_uf
    k_uu.flat[:: m + 1] += JITTER * outputscale
    lower, info = dpotrf(k_uu.T, lower=1, clean=1)
    if info or not math.isfinite(lower[-1, -1]):
        return None
    std = math.sqrt(noise)
    a = solve_triangular(lower, k_uf, lower=True, check_finite=False) / std
    b = a @ a.T
    explained = float(b.trace())
    b.flat[:: m + 1] += 1.0
    b_lower, info = dpotrf(b.T, lower=1, clean=1)
    if info or not math.isfinite(b_lower[-1, -1]):
        return None
    b_root = dtrtri(b_lower, lower=1)[0]  # of the inverse
    c = b_root @ (a @ y) / std
    square = float(y @ y)
    value = (
        -0.5 * n * (LOG_2_PI + theta[-1])
        - float(np.log(b_lower.diagonal()).sum())
        - 0.5 * (square / noise - float(c @ c))
        - 0.5 * (n * outputscale / noise - explained)
    )
    # slopes of the bound in the entries of k_uf and k_uu, with alpha = (Q + noise)^-1 y
    b_inverse = b_root.T @ b_root
    alpha = (y - std * (a.T @ (b_root.T @ c))) / noise
    l_inverse = dtrtri(lower, lower=1)[0]
    w_alpha = l_inverse.T @ (std * (a @ alpha))
    eye = np.eye(m)
    slope_uf = np.outer(w_alpha, alpha) + l_inverse.T @ ((eye - b_inverse) @ a) / std
    inner = l_inverse.T @ (b - 2.0 * eye + b_inverse) @ l_inverse
    slope_uu = -0.5 * (np.outer(w_alpha, w_alpha) + inner)
    pull_uf, pull_uu = outputscale * slope_uf * h_uf, outputscale * slope_uu * h_uu
    each = _pulls(pull_uf, zs, xs) + _pulls(pull_uu, zs, zs)
    gradient = np.empty_like(theta)
    gradient[:-2] = each if ard else each.sum()
    scaled = float((slope_uf * k_uf).sum() + (slope_uu * k_uu).sum())
    gradient[-2] = scaled - 0.5 * n * outputscale / noise
    trace = (n - m + float(b_inverse.trace())) / noise  # of (Q + noise)^-1
    fit = 0.5 * (float(alpha @ alpha) - trace) * noise
    gradient[-1] = fit + 0.5 * (n * outputscale / noise - explained)
    towards = pull_uf @ xs + 2.0 * (pull_uu @ zs)
    weights = pull_uf.sum(1) + 2.0 * pull_uu.sum(1)
    moves = (towards - weights[:, None] * zs) / scale
    return (value, gradient, moves) if math.isfinite(value) else None


def _pulls(weights: Array, a: Array, b: Array) -> Array:
    """Sums [d] over i, j of weights_ij (a_ik - b_jk)²."""
    sums: Array = (
        weights.sum(1) @ (a * a) + weights.sum(0) @ (b * b) - 2.0 * (a * (weights @ b)).sum(0)
    )
    return sums


@dataclass(frozen=True)
class SparseGP:
    """The variational posterior with zero mean; made by :meth:`given`."""

    kernel: Covariance
    noise: Tensor  # [], variance
    z: Tensor  # [M, d]
    lower: Tensor  # [M, M], factor of the inducing points' covariance
    inner: Tensor  # [M, M], factor of I + A Aᵀ, A = lower^-1 K(z, x) / noise deviation
    white: Tensor  # [M], inner^-1 A y / noise deviation

    @classmethod
    @working_alone(lambda cls, kernel, noise, z, x, y: len(x) * len(z) ** 2, blas=False)
    def given(cls, kernel: Covariance, noise: Tensor, z: Tensor, x: Tensor, y: Tensor) -> SparseGP:
        """The best posterior over inducing points z [M, d] given y [n] at x [n, d], float64.

        Raises:
            ValueError: no positive-definite covariance.
        """
        covariance = kernel(z, z)
        covariance.diagonal().add_(JITTER * kernel.diagonal(z))
        lower, std = cholesky(covariance, "the inducing points' covariance"), noise.sqrt()
        a = torch.linalg.solve_triangular(lower, kernel(z, x), upper=False) / std
        inner = cholesky(torch.eye(len(z)).to(a) + a @ a.mT)
        right = ((a @ y) / std).unsqueeze(-1)
        white = torch.linalg.solve_triangular(inner, right, upper=False).squeeze(-1)
        return cls(kernel, noise, z, lower, inner, white)

    @working_alone(lambda self, points: len(self.z) ** 2 * len(points), blas=False)
    def moments(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and variance [m] of the function (without noise) at points [m, d]."""
        prior, posterior = self._halves(points)
        variance = self.kernel.diagonal(points) - prior.square().sum(0) + posterior.square().sum(0)
        return self.white @ posterior, variance.clamp_min_(0.0)

    @working_alone(lambda self, points: len(self.z) * len(points) ** 2, blas=False)
    def joint(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Mean [m] and covariance [m, m] of the function at points [m, d]."""
        prior, posterior = self._halves(points)
        covariance = self.kernel(points, points) - prior.mT @ prior + posterior.mT @ posterior
        return self.white @ posterior, covariance

    def _halves(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """What the inducing points explain of the prior, and what stays open of it: [M, m]."""
        cross = self.kernel(points, self.z).mT
        prior = torch.linalg.solve_triangular(self.lower, cross, upper=False)
        return prior, torch.linalg.solve_triangular(self.inner, prior, upper=False)


@working_alone(lambda x, *_, points, **__: len(x) * points**2)
def fit_sparse(
    x: Tensor,
    y: Tensor,
    shape: str,
    lengthscale: AnyPrior,
    outputscale: AnyPrior,
    noise: AnyPrior,
    *,
    points: int,
    ard: bool = True,
    start: Array | None = None,
    starts: int = 1,
    generator: torch.Generator | None = None,
) -> tuple[Stationary, Tensor, Tensor, Fit]:
    """Kernel, noise [], inducing points [M, d], record of the search; x [n, d], y [n] (mean 0).

    ``points`` inducing points start at the data, chosen under the kernel that the search starts
    with, and are searched for together with the hyper-parameters; then once more from points chosen
    under the kernel found. The better of the two bounds (plus log prior) counts. With ``points`` of
    n or more they are the data, and stay. ``start``, ``starts`` and ``generator`` are those of
    :func:`~lightning_al.gp.fit.climb`, for the first search.

    Raises:
        ValueError: no positive-definite covariance at the start.
    """
    shape_of(shape)
    count = x.shape[1] if ard else 1
    centre = x.mean(0)
    inputs, targets = numbers(x - centre), numbers(y)
    priors = [lengthscale] * count + [outputscale, noise]
    p = len(priors)

    def kernel(theta: Array) -> Stationary:
        values = torch.from_numpy(np.exp(theta[:p])).to(x.device)
        return Stationary(shape, values[:-2], values[-2])

    def held(theta: Array) -> tuple[float, Array] | None:
        found = collapsed_bound(shape, inputs, inputs, targets, theta, ard)
        return None if found is None else found[:2]

    def moved(theta: Array) -> tuple[float, Array] | None:
        z = theta[p:].reshape(-1, x.shape[1])
        found = collapsed_bound(shape, z, inputs, targets, theta[:p], ard)
        return None if found is None else (found[0], np.append(found[1], found[2]))

    def search(theta: Array, turns: int) -> Fit:
        begin = theta[:p]
        if points < len(x):
            begin = np.append(begin, inputs[greedy_points(kernel(theta), x, points).cpu().numpy()])
        objective = moved if points < len(x) else held
        return climb(objective, priors, begin, starts=turns, generator=generator)

    found = search(starts_of(priors) if start is None else start, starts)
    z = x
    if points < len(x):
        second = search(found.theta, 1)
        found = second if second.value > found.value else found
        z = torch.from_numpy(found.theta[p:]).to(x).view(-1, x.shape[1]) + centre
    level = torch.tensor(math.exp(found.theta[p - 1]), dtype=torch.float64, device=x.device)
    return kernel(found.theta), level, z, found
