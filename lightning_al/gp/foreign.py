"""Kernels of GPyTorch: their covariances, and their fit by autograd through our likelihood."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lightning_al.threads import working_alone

from .evidence import LOG_2_PI, Array
from .fit import LOST, Fit
from .hyperpriors import Prior

__all__ = ["Foreign", "fit_foreign"]


@dataclass(frozen=True)
class Foreign:
    """The covariance of a ``gpytorch.kernels.Kernel`` (float64 parameters)."""

    module: nn.Module

    def __call__(self, a: Tensor, b: Tensor) -> Tensor:
        """Covariances [n, m] of points a [n, d] and b [m, d]."""
        dense: Tensor = self.module(a, b).to_dense()
        return dense

    def diagonal(self, a: Tensor) -> Tensor:
        """Prior variances [n] of points a [n, d]."""
        variances: Tensor = self.module(a, diag=True)
        return variances

    def log_prior(self) -> Tensor:
        """Log density of the priors that were registered with the kernel, a scalar."""
        total = torch.zeros((), dtype=torch.float64)
        named: Any = getattr(self.module, "named_priors", tuple)
        for _, owner, prior, closure, _ in named():
            total = total + prior.log_prob(closure(owner)).sum().to(total)
        return total


@working_alone(lambda kernel, x, *_, **__: len(x) ** 3)
def fit_foreign(
    kernel: Foreign, x: Tensor, y: Tensor, noise: Prior, *, priors: bool = True
) -> tuple[Tensor, Fit]:
    """Fit the kernel's parameters, in place, and the noise: x [n, d], y [n, D] share both.

    Args:
        kernel: its trainable parameters are where the search starts.
        x: float64.
        y: of mean 0.
        noise: the prior of the noise variance.
        priors: take the kernel's own priors, and that of the noise, into account.

    Returns:
        The noise variance [], and the record of the search.

    Raises:
        ValueError: no positive-definite covariance at the start.
    """
    from scipy.optimize import minimize  # inside: SciPy loads slowly

    free = [p for p in kernel.module.parameters() if p.requires_grad]
    log_noise = torch.tensor(math.log(noise.median), dtype=torch.float64, requires_grad=True)
    sizes = [p.numel() for p in free]

    def put(theta: Array) -> None:
        with torch.no_grad():
            *parts, last = torch.from_numpy(theta.copy()).split([*sizes, 1])
            for p, part in zip(free, parts, strict=True):
                p.copy_(part.view_as(p))
            log_noise.copy_(last[0])

    def objective() -> Tensor | None:
        covariance = kernel(x, x) + log_noise.to(x.device).exp() * torch.eye(len(x)).to(x)
        factor, info = torch.linalg.cholesky_ex(covariance)
        if int(info):
            return None
        white = torch.linalg.solve_triangular(factor, y, upper=False)
        log_det = factor.diagonal().log().sum()
        total = 0.5 * white.square().sum() + y.shape[1] * (log_det + 0.5 * len(x) * LOG_2_PI)
        if priors:
            total = total.cpu() - kernel.log_prior()
            if noise.sigma is not None:
                off = (log_noise - math.log(noise.median)) / noise.sigma
                total = total + 0.5 * off.square()
        return total

    def downhill(theta: Array) -> tuple[float, Array]:
        put(theta)
        found = _value_and_gradient(objective, [*free, log_noise])
        return (LOST, np.zeros_like(theta)) if found is None else found

    start = torch.cat([p.detach().cpu().double().flatten() for p in [*free, log_noise]]).numpy()
    bounds = [(None, None)] * sum(sizes) + [(math.log(noise.low), math.log(noise.high))]
    result = minimize(downhill, start, jac=True, method="L-BFGS-B", bounds=bounds)
    if result.fun >= LOST:
        raise ValueError(
            f"the covariance of {type(kernel.module).__name__} is not positive definite at the "
            "start of the search, or holds NaN; raise the noise, scale the features"
        )
    put(result.x)
    fit = Fit(result.x, -float(result.fun), int(result.nfev), bool(result.success))
    return log_noise.detach().exp(), fit


def _value_and_gradient(
    objective: Callable[[], Tensor | None], parameters: list[Any]
) -> tuple[float, Array] | None:
    """Value and gradient [p] of a scalar; None where it is not defined."""
    with torch.enable_grad():
        total = objective()
        if total is None:
            return None
        slopes = torch.autograd.grad(total, parameters, allow_unused=True)
    flat = [
        torch.zeros(p.numel(), dtype=torch.float64)
        if slope is None
        else slope.detach().cpu().double().flatten()
        for p, slope in zip(parameters, slopes, strict=True)
    ]
    gradient: Array = torch.cat(flat).numpy()
    value = float(total)
    return (value, gradient) if math.isfinite(value) and np.isfinite(gradient).all() else None
