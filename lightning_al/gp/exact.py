"""The exact Gaussian process regressor: one Cholesky, then means, variances, conditioning.

Rasmussen, Williams (2006), "Gaussian Processes for Machine Learning", algorithm 2.1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from lightning_al.threads import working_alone

from .kernels import Covariance

__all__ = ["ExactGP", "cholesky"]

JITTER = (0.0, 1e-10, 1e-9, 1e-8, 1e-7, 1e-6)
"""Tried in turn, in units of the mean of the diagonal."""


def cholesky(matrix: Tensor, what: str = "the covariance") -> Tensor:
    """Lower factor [..., n, n] of a symmetric positive-definite matrix, float64.

    Where rounding has made it indefinite, as little as is needed is added to its diagonal: 1e-10
    of the mean of the diagonal, then ten times more, up to 1e-6.

    Raises:
        ValueError: numbers that are not finite, or a matrix that stays indefinite.
    """
    unit = matrix.diagonal(dim1=-2, dim2=-1).mean(-1)[..., None, None]
    for jitter in JITTER:
        tried = matrix
        if jitter:
            tried = matrix + jitter * unit * torch.eye(matrix.shape[-1]).to(matrix)
        factor, info = torch.linalg.cholesky_ex(tried)
        if not bool(info.any()) and bool(factor.isfinite().all()):
            return factor
        if jitter == 0.0 and not bool(matrix.isfinite().all()):
            raise ValueError(
                f"{what} holds NaN or infinities; look for such features or targets, or features "
                "that are huge against the length scales"
            )
    raise ValueError(
        f"{what} of {matrix.shape[-1]} points is not positive definite, even with {JITTER[-1]:g} "
        "of its diagonal added; raise the noise, or look for a kernel that is no covariance"
    )


@dataclass(frozen=True)
class ExactGP:
    """A Gaussian process with zero mean given n noisy values; leading axes are a batch.

    Made by :meth:`given`.
    """

    kernel: Covariance
    noise: Tensor  # [...], variance
    x: Tensor  # [..., n, d]
    factor: Tensor  # [..., n, n], lower Cholesky factor of K + noise I
    white: Tensor  # [..., n], factor^-1 y

    @classmethod
    @working_alone(lambda cls, kernel, noise, x, y: _cost(x), blas=False)
    def given(cls, kernel: Covariance, noise: Tensor, x: Tensor, y: Tensor) -> ExactGP:
        """Condition on values y [..., n] at x [..., n, d], float64.

        Raises:
            ValueError: shapes that do not go together, or no positive-definite covariance.
        """
        if x.ndim < 2 or y.shape != x.shape[:-1]:
            raise ValueError(
                f"a Gaussian process needs x [n, d] and y [n], got {list(x.shape)} and "
                f"{list(y.shape)}"
            )
        covariance = kernel(x, x)
        covariance.diagonal(dim1=-2, dim2=-1).add_(noise.unsqueeze(-1))
        factor = cholesky(covariance)
        return cls(kernel, noise, x, factor, _solve(factor, y.unsqueeze(-1)).squeeze(-1))

    def log_evidence(self) -> Tensor:
        """Log marginal likelihood [...] of the values, in nats."""
        n = self.x.shape[-2]
        log_det = self.factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        constant = 0.5 * n * torch.log(torch.tensor(2 * torch.pi, dtype=self.x.dtype))
        return -0.5 * self.white.square().sum(-1) - log_det - constant.to(log_det.device)

    @working_alone(lambda self, points: _cost(self.x, points.shape[-2]), blas=False)
    def moments(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and variance [..., m] of the function (without noise) at points [..., m, d]."""
        half = self._half(points)
        explained = torch.linalg.vector_norm(half, dim=-2).square_()
        return self._mean(half), (self.kernel.diagonal(points) - explained).clamp_min_(0.0)

    @working_alone(lambda self, points: _cost(points, self.x.shape[-2]), blas=False)
    def joint(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Mean [..., m] and covariance [..., m, m] of the function at points [..., m, d]."""
        half = self._half(points)
        return self._mean(half), self.kernel(points, points) - half.mT @ half

    @working_alone(lambda self, x, y: _cost(self.x, x.shape[-2]), blas=False)
    def condition(self, x: Tensor, y: Tensor) -> ExactGP:
        """Condition on further values y [..., m] at x [..., m, d] in O(n² m).

        The factor grows by m rows; what is there already stays as it is. The values y need not
        be right where only variances are wanted.

        Raises:
            ValueError: see :meth:`given`.
        """
        side = self._half(x)
        corner = self.kernel(x, x) - side.mT @ side
        corner.diagonal(dim1=-2, dim2=-1).add_(self.noise.unsqueeze(-1))
        corner = cholesky(corner)
        rest = (y - self._mean(side)).unsqueeze(-1)
        top = torch.cat([self.factor, torch.zeros_like(side)], -1)
        return replace(
            self,
            x=torch.cat([self.x, x], -2),
            factor=torch.cat([top, torch.cat([side.mT, corner], -1)], -2),
            white=torch.cat([self.white, _solve(corner, rest).squeeze(-1)], -1),
        )

    def _half(self, points: Tensor) -> Tensor:
        """factor^-1 K(x, points) [..., n, m], laid out point by point as LAPACK wants it."""
        return _solve(self.factor, self.kernel(points, self.x).mT)

    def _mean(self, half: Tensor) -> Tensor:
        return (self.white.unsqueeze(-2) @ half).squeeze(-2)


def _cost(x: Tensor, more: int | None = None) -> int:
    """Multiplications of triangular systems: x [..., n, d] -> batch n² more (by default n)."""
    n = x.shape[-2] if x.ndim > 1 else 1
    return math.prod(x.shape[:-1]) * n * (n if more is None else more)


def _solve(factor: Tensor, right: Tensor) -> Tensor:
    return torch.linalg.solve_triangular(factor, right, upper=False)
