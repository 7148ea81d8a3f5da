"""The scores of BALSA's released code as they are, for comparison with its published figures.

Each is the namesake of a corrected score and takes the same tensors but where it says otherwise.
Densities are exponentiated first, so that narrow ones underflow; they are summed over the nodes as
they are, whatever share of a density the nodes cover. A NaN that comes of it is given as infinity,
for the released code chooses by a ``topk`` that puts NaN first. Nothing else asks for them.

Source: the code of Werner and Schmidt-Thieme, BALSA (2025).
"""

from __future__ import annotations

import torch
from torch import Tensor

from .numerics import full

__all__ = [
    "bald_entropy",
    "bald_least_confidence",
    "bald_std",
    "entropy",
    "geometric_entropy",
    "kl_anomaly",
    "kl_diff",
    "kl_grid",
    "kl_grid_normalised",
    "kl_pairs",
    "mode_spread",
    "nflows_out",
    "pairs_distance",
    "sample_std",
]


def _first(scores: Tensor, given: Tensor) -> Tensor:
    """Scores [N] with what underflow made NaN as infinity; items given as NaN [N, ...] stay so."""
    broken = given.flatten(1).isnan().any(1)
    return scores.nan_to_num(torch.inf, torch.inf, -torch.inf).masked_fill(broken, torch.nan)


def kl_pairs(log_density: Tensor, weights: Tensor) -> Tensor:
    """Sum over nodes and j < S of P_j log(P_j / P_(j + 1)): log_density [N, S, G] -> [N].

    P is not normalised on the nodes, so that the sum may be negative.
    """
    p = full(log_density).exp()
    return _first((p[:, :-1] * (p[:, :-1].log() - p[:, 1:].log())).sum((1, 2)), log_density)


def kl_grid(log_density: Tensor, weights: Tensor) -> Tensor:
    """Sum over nodes and j of P_j log(P_j / mean of P): log_density [N, S, G] -> [N]."""
    p = full(log_density).exp()
    return _first((p * (p / p.mean(1, keepdim=True)).log()).sum((1, 2)), log_density)


def kl_grid_normalised(log_density: Tensor, weights: Tensor) -> Tensor:
    """As :func:`kl_grid`, the mean of P alone divided by its integral over the nodes."""
    p = full(log_density).exp()
    mean = p.mean(1)
    mean = mean / (mean * weights).sum(-1, keepdim=True)
    return _first((p * (p / mean[:, None]).log()).sum((1, 2)), log_density)


def kl_diff(log_density: Tensor, weights: Tensor) -> Tensor:
    """Sum over j < S of KL(P_j | P_(j + 1)) - KL(P_j | mean of P): log_density [N, S, G] -> [N].

    Sums over nodes; here 0 log 0 is 0, and where the next member alone is 0 a term is infinite.
    """
    p = full(log_density).exp()
    now, mean = p[:, :-1], p.mean(1, keepdim=True)
    apart = _rel_entr(now, p[:, 1:]).sum(-1) - _rel_entr(now, mean.expand_as(now)).sum(-1)
    return _first(apart.sum(1), log_density)


def _rel_entr(p: Tensor, q: Tensor) -> Tensor:
    return torch.xlogy(p, p) - torch.xlogy(p, q)


def pairs_distance(density_samples: Tensor) -> Tensor:
    """Sum over j < S of the distance of what was drawn: density_samples [N, S, M, 1] -> [N].

    The 1-Wasserstein distance of two sets of M values, with the noise of their draw.
    """
    ranked = full(density_samples).squeeze(-1).sort(-1).values
    return ranked.diff(dim=1).abs().mean(-1).sum(1)


def kl_anomaly(cross_log_density: Tensor) -> Tensor:
    """A Jensen gap of densities of different values: cross_log_density [N, S, S, M] -> [N] >= 0.

    Values drawn from member j are looked at under member j + 1 (the last under the first); of
    their densities q_jm the score is S times the sum over m of log mean_j q - mean_j log q.
    """
    cross = full(cross_log_density)
    members = cross.shape[1]
    drawn = torch.arange(members, device=cross.device)
    seen = cross[:, drawn.roll(-1), drawn]  # [N, S, M]
    mean = seen.exp().mean(1).log()
    return _first((mean - seen.mean(1)).sum(-1) * members, cross_log_density)


def bald_entropy(log_density: Tensor, weights: Tensor) -> Tensor:
    """Sum over j of H(mean of P) - H(P_j): log_density [N, S, G] -> [N].

    The mean of P is divided by its integral over the nodes, the P_j are not.
    """
    p = full(log_density).exp()
    mean = p.mean(1)
    mean = mean / (mean * weights).sum(-1, keepdim=True)
    whole = -(mean * mean.log() * weights).sum(-1)
    own = -(p * p.log() * weights[:, None]).sum(-1)
    return _first((whole[:, None] - own).sum(1), log_density)


def geometric_entropy(log_density: Tensor, weights: Tensor) -> Tensor:
    """Sum over j < S of H(P_j) - H(geometric mean of P): log_density [N, S, G] -> [N].

    The sign is the opposite of BALD's, and the last member is left out.
    """
    log_density = full(log_density)
    mean = log_density.mean(1)
    p = log_density.exp()
    whole = -(mean.exp() * mean * weights).sum(-1)
    own = -(p * p.log() * weights[:, None]).sum(-1)
    return _first((own[:, :-1] - whole[:, None]).sum(1), log_density)


def bald_std(density_samples: Tensor) -> Tensor:
    """Deviation drawn from the last member less that from the first: [N, S, M, 1] -> [N].

    Which is what the sum over j of sigma_j - sigma_(j - 1) comes to.
    """
    deviation = full(density_samples).squeeze(-1).std(-1)
    return deviation.diff(dim=1).sum(1)


def bald_least_confidence(cross_log_density: Tensor) -> Tensor:
    """Least confidence of the first member less that of the last: [N, S, S, M] -> [N].

    Which is what the sum of the paper's equation 8 comes to; the released code has none.
    """
    own = full(cross_log_density).diagonal(0, 1, 2)  # [N, M, S]
    return (-own.amax(1)).diff(dim=1).neg().sum(1)


def nflows_out(log_density: Tensor, weights: Tensor) -> Tensor:
    """Zero but for rounding: log_density [N, S, G] -> [N].

    The mean over the members of (mean of H_j) - H_j, H_j the mean of -log p_j over the nodes: the
    choice is that of the last bits of a float.
    """
    own = -full(log_density).mean(-1)
    return (own.mean(1, keepdim=True) - own).mean(1)


def entropy(log_density: Tensor, weights: Tensor) -> Tensor:
    """Integral of -p log p over the nodes, p not normalised: log_density [N, 1, G] -> [N]."""
    p = full(log_density).exp().mean(1)
    return _first(-(p * p.log() * weights).sum(-1), log_density)


def sample_std(density_samples: Tensor) -> Tensor:
    """Standard deviation of the values drawn: density_samples [N, S, M, D] -> [N]."""
    return full(density_samples).flatten(1, 2).std(1).square().sum(-1).sqrt()


def mode_spread(density_samples: Tensor, cross_log_density: Tensor) -> Tensor:
    """Standard deviation over the members of the likeliest value drawn from each -> [N].

    density_samples [N, S, M, D], cross_log_density [N, S, S, M]; unbiased, and summed over outputs.
    """
    own = cross_log_density.diagonal(0, 1, 2).mT  # [N, S, M]
    best = own.argmax(-1)[..., None, None].expand(-1, -1, 1, density_samples.shape[-1])
    points = full(density_samples).gather(2, best).squeeze(2)  # [N, S, D]
    return points.std(1).square().sum(-1).sqrt()
