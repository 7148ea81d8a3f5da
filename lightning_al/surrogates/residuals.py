"""What simple smoothers leave over of data: features by which a kernel's scales can be told."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["LEFT", "left_over"]

NEAR = (0.1, 0.2, 0.4, 0.8, 1.6)  # widths of local means, in deviations of the inputs
FITTED = (0.25, 0.7, 2.0, 5.0)  # length scales of processes, with NUGGET for their noise
NUGGET = 1e-3
SELF = 1e4  # a distance at which a point does not count
LEFT = 6 * len(NEAR) + 3 * len(FITTED)
"""Features of each point and input."""


@torch.no_grad()
def left_over(x: Tensor, y: Tensor) -> Tensor:
    """Features [B, D, n, F] of points x [B, n, D] with values y [B, n], all of about deviation 1.

    Of each point: what the local mean of the others (near in one input, and near in all) misses it
    by, and how many others were near, for several widths; and what Gaussian processes with one
    length scale for all inputs miss it by when it is left out, and how surely: Sundararajan,
    Keerthi (2001), "Predictive approaches for choosing hyperparameters in Gaussian processes".
    """
    gap = (x.unsqueeze(2) - x.unsqueeze(1)).square().permute(0, 3, 1, 2)  # [B, D, n, n]
    whole = gap.sum(1, keepdim=True)
    apart = torch.cat([gap, whole], 1) + SELF * torch.eye(x.shape[1]).to(x)
    parts = []
    for width in NEAR:
        weight = torch.exp(-0.5 / width**2 * apart)
        total = weight.sum(-1)
        mean = (weight @ y[:, None, :, None]).squeeze(-1) / (total + 0.01)
        missed = y.unsqueeze(1) - mean
        parts += [missed, missed.square(), (total + 1e-3).log() / 3]
    local = torch.stack(parts, -1)  # [B, D + 1, n, 3 widths]
    joint = torch.cat([local[:, -1], _left_out(whole[:, 0].double(), y.double()).to(x)], -1)
    return torch.cat([local[:, :-1], joint.unsqueeze(1).expand(-1, x.shape[2], -1, -1)], -1)


def _left_out(square: Tensor, y: Tensor) -> Tensor:
    """Residuals and variances of leaving each point out: [B, n, 3 scales]."""
    parts = []
    eye = NUGGET * torch.eye(square.shape[-1]).to(square)
    for scale in FITTED:
        factor = torch.linalg.cholesky(torch.exp(-0.5 / scale**2 * square) + eye)
        inverse = torch.cholesky_inverse(factor)
        pull = (inverse @ y.unsqueeze(-1)).squeeze(-1)
        precision = inverse.diagonal(dim1=-2, dim2=-1)
        loss = torch.asinh(pull.square() / precision) / 2
        parts += [torch.asinh(pull / precision), -precision.log() / 3, loss]
    return torch.stack(parts, -1)
