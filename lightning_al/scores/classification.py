"""Scores of class probabilities, item by item; higher = acquire first.

Scores of one distribution take ``probs [..., C]`` and reduce the last axis; scores of a posterior
take ``probs [N, S, C]`` and give ``[N]``. Half-precision inputs are computed in float32.
``0 log 0 = 0``; NaN stays NaN.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .numerics import check_members, full, p_log_p

__all__ = [
    "bald",
    "consensus_kl",
    "entropy",
    "least_confidence",
    "margin",
    "mean_std",
    "ratio",
    "variation_ratio",
    "vote_entropy",
]


# Elements of a block: 256 KiB of float32, so that input, logarithm and product stay in a core's
# L2 cache. A GPU wants few large launches; there the block only bounds the memory.
_CPU_BLOCK, _GPU_BLOCK = 2**16, 2**26


def _two_best(probs: Tensor, name: str) -> tuple[Tensor, Tensor]:
    if probs.ndim == 0 or probs.shape[-1] < 2:
        raise ValueError(
            f"{name} needs probs [..., C] with C >= 2, got {list(probs.shape)}; "
            "for one sigmoid output stack (1 - p, p)"
        )
    best = full(probs).topk(2, dim=-1).values
    return best[..., 0], best[..., 1]


def entropy(probs: Tensor) -> Tensor:
    """Shannon entropy in nats: probs [..., C] -> [...] in [0, log C].

    Source: Shannon (1948), section 6; to choose queries: Settles (2009), section 3.1.

    >>> entropy(torch.tensor([[0.5, 0.5], [1.0, 0.0]]))
    tensor([0.6931, 0.0000])
    """
    return (0 - p_log_p(full(probs)).sum(-1)).clamp_min(0)  # 0 - x, so that 0 has no sign


def least_confidence(probs: Tensor) -> Tensor:
    """One minus the largest probability: probs [..., C] -> [...] in [0, 1 - 1/C].

    Source: Lewis and Gale (1994); for many classes Culotta and McCallum (2005).

    >>> least_confidence(torch.tensor([[0.75, 0.25], [1.0, 0.0]]))
    tensor([0.2500, 0.0000])
    """
    return 1 - full(probs).amax(-1)


def margin(probs: Tensor) -> Tensor:
    """One minus the lead of the best class, 1 - (p1 - p2): probs [..., C] -> [...] in [0, 1].

    Source: Scheffer, Decomain and Wrobel (2001).

    Raises:
        ValueError: fewer than two classes.

    >>> margin(torch.tensor([[0.5, 0.5, 0.0], [0.75, 0.25, 0.0]]))
    tensor([1.0000, 0.5000])
    """
    first, second = _two_best(probs, "margin")
    return 1 - (first - second)


def ratio(probs: Tensor) -> Tensor:
    """Second-best over best probability, p2 / p1: probs [..., C] -> [...] in [0, 1].

    Source: Munro, Human-in-the-Loop Machine Learning (2021), chapter 3.

    Raises:
        ValueError: fewer than two classes.

    >>> ratio(torch.tensor([[0.5, 0.5], [0.8, 0.2]]))
    tensor([1.0000, 0.2500])
    """
    first, second = _two_best(probs, "ratio")
    return second / first


def bald(probs: Tensor) -> Tensor:
    """Mutual information of label and model: probs [N, S, C] -> [N] in [0, log min(S, C)].

    Exact for the S given members: entropy of the mean minus mean of the entropies. Works in
    blocks that fit the cache, so it needs a few hundred KiB beyond its input.

    Source: Houlsby et al. (2011), equation 2; over dropout masks Gal, Islam, Ghahramani (2017).

    Raises:
        ValueError: probs of another number of axes.

    >>> bald(torch.tensor([[[1.0, 0.0], [0.0, 1.0]], [[0.5, 0.5], [0.5, 0.5]]]))
    tensor([0.6931, 0.0000])
    """
    check_members("bald", probs)
    block = _CPU_BLOCK if probs.device.type == "cpu" else _GPU_BLOCK
    rows = max(1, block // max(1, probs[:1].numel()))
    return torch.cat([_bald_of(part) for part in torch.split(probs, rows)])


def _bald_of(probs: Tensor) -> Tensor:
    probs = full(probs).contiguous()
    within = p_log_p(probs).flatten(1).sum(1).div_(probs.shape[1])  # -mean of the entropies
    return within.sub_(p_log_p(probs.mean(1)).sum(1)).clamp_min_(0)


def variation_ratio(probs: Tensor) -> Tensor:
    """Share of members that do not vote as most do: probs [N, S, C] -> [N] in [0, 1 - 1/C].

    One minus the frequency of the mode of the members' best classes; a member whose best classes
    tie splits its vote among them. One member that is sure of a class gives 0.

    Source: Freeman (1965); over dropout masks Gal (2016).

    Raises:
        ValueError: probs of another number of axes.

    >>> variation_ratio(torch.tensor([[[0.9, 0.1], [0.4, 0.6]], [[0.9, 0.1], [0.8, 0.2]]]))
    tensor([0.5000, 0.0000])
    """
    check_members("variation_ratio", probs)
    return 1 - _votes(probs).amax(-1)


def vote_entropy(probs: Tensor) -> Tensor:
    """Entropy of the members' votes in nats: probs [N, S, C] -> [N] in [0, log C].

    Each member votes for its best class (one whose best classes tie splits its vote among them),
    so that how sure a member is does not count: the entropy of the members' *mean*, which it
    does count in, is ``of_mean(entropy, probs)``. Without ties the highest value is
    log min(S, C), by which the source divides; that changes no ranking. One member that is sure
    of a class gives 0.

    Source: Dagan and Engelson, Committee-Based Sampling for Training Probabilistic Classifiers
    (1995).

    Raises:
        ValueError: probs of another number of axes.

    >>> vote_entropy(torch.tensor([[[0.9, 0.1], [0.4, 0.6]], [[0.9, 0.1], [0.8, 0.2]]]))
    tensor([0.6931, 0.0000])
    """
    check_members("vote_entropy", probs)
    return entropy(_votes(probs))


def _votes(probs: Tensor) -> Tensor:
    """Share of the members' votes for each class: probs [N, S, C] -> [N, C]."""
    best = full((probs == probs.amax(-1, keepdim=True)).to(probs.dtype))
    return (best / best.sum(-1, keepdim=True)).mean(1)


def consensus_kl(probs: Tensor) -> Tensor:
    """Mean divergence of a member from the consensus: probs [N, S, C] -> [N] in [0, log min(S, C)].

    The mean over members of KL(p_s || p), p the members' mean, in nats. That is the entropy of
    the mean minus the mean of the entropies, so it *is* :func:`bald` and computed as such: two
    papers, one number.

    Source: McCallum and Nigam, Employing EM and Pool-Based Active Learning for Text
    Classification (1998).

    Raises:
        ValueError: probs of another number of axes.

    >>> consensus_kl(torch.tensor([[[1.0, 0.0], [0.0, 1.0]], [[0.5, 0.5], [0.5, 0.5]]]))
    tensor([0.6931, 0.0000])
    """
    check_members("consensus_kl", probs)
    return bald(probs)


def mean_std(probs: Tensor) -> Tensor:
    """Spread of the members, mean over classes: probs [N, S, C] -> [N] in [0, 1/2].

    The (population) standard deviation of each class's probability over the members.

    Source: Kampffmeyer, Salberg and Jenssen (2016); Kendall, Badrinarayanan and Cipolla (2017).

    Raises:
        ValueError: probs of another number of axes.

    >>> mean_std(torch.tensor([[[1.0, 0.0], [0.0, 1.0]], [[0.5, 0.5], [0.5, 0.5]]]))
    tensor([0.5000, 0.0000])
    """
    check_members("mean_std", probs)
    return full(probs).std(1, correction=0).mean(-1)
