"""Expected predictive information gain: what an answer says about the answers at target inputs."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from .numerics import full, one_output, p_log_p

__all__ = ["epig", "regression_epig"]


# Elements of a block [n, t, ...] of pairs of a candidate and a target: 1 MiB of float32
_CPU_BLOCK, _GPU_BLOCK = 2**18, 2**26


def _blocks(n: int, targets: int, pair: int, device: torch.device) -> Iterator[tuple[slice, slice]]:
    """Slices of candidates and of targets whose pairs, of so many elements each, fit a block."""
    room = max(1, (_CPU_BLOCK if device.type == "cpu" else _GPU_BLOCK) // pair)
    wide = min(targets, room)
    high = max(1, room // wide)
    for i in range(0, n, high):
        for j in range(0, targets, wide):
            yield slice(i, i + high), slice(j, j + wide)


def _check_targets(name: str, values: Tensor, targets: Tensor, last: str) -> None:
    if values.ndim != 3 or targets.ndim != 3 or values.shape[1:] != targets.shape[1:]:
        raise ValueError(
            f"{name} needs candidates [N, S, {last}] and targets [T, S, {last}] of the same "
            f"members, got {list(values.shape)} and {list(targets.shape)}"
        )
    if len(targets) == 0:
        raise ValueError(f"{name} needs at least one target, got none")


def epig(probs: Tensor, targets: Tensor) -> Tensor:
    """Information on targets' labels: probs [N, S, C], targets [T, S, C] -> [N] in [0, log C].

    Expected predictive information gain: the mutual information of a candidate's label y and a
    target's label y*, mean over the targets. Given a member the two are independent, so the joint
    is the mean over the S members of p(y) p(y*); for these members the result is exact, H(y) +
    H(y*) - H(y, y*). At most :func:`bald`. Takes N T C² (S + 2) operations in blocks of a MiB.

    Source: Bickford Smith et al. (2023).

    Raises:
        ValueError: not three axes each, other members or classes, no targets.

    >>> one_hot = torch.eye(2)[None]
    >>> epig(torch.cat([one_hot, torch.full((1, 2, 2), 0.5)]), one_hot)
    tensor([0.6931, 0.0000])
    """
    _check_targets("epig", probs, targets, "C")
    probs, targets = full(probs), full(targets)
    n, members, classes = probs.shape
    joint = torch.zeros(n, dtype=probs.dtype, device=probs.device)  # -sum over targets of H(y, y*)
    for rows, some in _blocks(n, len(targets), classes**2, probs.device):
        left = probs[rows].transpose(1, 2).flatten(0, 1) / members  # [n C, S]
        right = targets[some].transpose(0, 1).flatten(1)  # [S, t C]
        joint[rows] += p_log_p(left @ right).reshape(-1, classes * right.shape[1]).sum(1)
    own = -p_log_p(probs.mean(1)).sum(1)
    theirs = -p_log_p(targets.mean(1)).sum(1).mean()
    return (own + theirs + joint / len(targets)).clamp_min(0)


def regression_epig(
    mean: Tensor,
    targets: Tensor,
    noise: Tensor | float,
    target_noise: Tensor | float,
    *,
    output: int | None = None,
) -> Tensor:
    """Information on targets' answers: mean [N, S, D], targets [T, S, D] -> [N] >= 0.

    Expected predictive information gain of a Gaussian: -½ log(1 - rho²), mean over the targets,
    rho the correlation of the two noisy answers. Their covariance is that of the means over the S
    members, an approximation unless the posterior is Gaussian and S large: by chance alone rho²
    is about 1 / S.

    Args:
        mean: members' means of the candidates.
        targets: members' means of the targets.
        noise: variance of the candidates' noise, [N] or one for all, in squared target units.
        target_noise: of the targets', [T] or one for all.
        output: which of several outputs.

    Source: Bickford Smith et al. (2023), in the closed form for a bivariate Gaussian.

    Raises:
        ValueError: not three axes each, other members, no targets, D > 1 without ``output``.

    >>> mean = torch.tensor([[[1.0], [-1.0]], [[1.0], [1.0]]])
    >>> regression_epig(mean, mean[:1], 1.0, 1.0)
    tensor([0.1438, 0.0000])
    """
    _check_targets("regression_epig", mean, targets, "D")
    left, right = (one_output("regression_epig", v, output).double() for v in (mean, targets))
    left, right = (v - v.mean(1, keepdim=True) for v in (left, right))
    members, tiny = left.shape[1], torch.finfo(left.dtype).tiny
    own = (left.square().mean(1) + noise).clamp_min(tiny)  # [N]
    theirs = (right.square().mean(1) + target_noise).clamp_min(tiny)  # [T]
    score = torch.zeros(len(left), dtype=left.dtype, device=left.device)
    for rows, some in _blocks(len(left), len(right), 1, left.device):
        shared = (left[rows] @ right[some].T / members).square()
        square = shared / own[rows, None] / theirs[some]
        score[rows] -= 0.5 * torch.log1p(-square.clamp_max(1)).sum(1)
    return (score / len(right)).to(full(mean).dtype)
