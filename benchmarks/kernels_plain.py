"""Set kernels as one writes them by hand: what ours are timed beside."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["plain_bait", "plain_batch_bald", "plain_herding", "plain_typiclust"]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def plain_batch_bald(log_probs: Tensor, k: int, samples: int) -> list[int]:
    """What one writes by hand: the joint of every item with every configuration."""
    probs = log_probs.exp()
    own = -(probs * log_probs).sum(-1).mean(1)
    joint, chosen = torch.ones(1, probs.shape[1]), []  # [M, S]
    weight = torch.ones(1)
    for _ in range(k):
        total = []
        for part in probs.split(max(1, 2**20 // (len(joint) * probs.shape[2]))):
            both = (joint / joint.sum(1, keepdim=True)) @ part  # [n, M, C]
            total.append(-(both * both.log()).sum(-1) @ weight)
        gains = torch.cat(total) - own
        gains[chosen] = -torch.inf
        chosen.append(int(gains.argmax()))
        joint = (joint[:, None] * probs[chosen[-1]].T).flatten(0, 1)
        weight = joint.mean(1) / joint.mean(1).sum()
        if len(joint) > samples:
            drawn = torch.multinomial(weight, samples, True, generator=seeded())
            joint, weight = joint[drawn], torch.full((samples,), 1 / samples)
    return chosen


def plain_typiclust(pool: Tensor, labelled: Tensor, k: int) -> list[int]:
    """Ten Lloyd iterations on everything, then cluster by cluster."""
    every = torch.cat([pool, labelled])
    count = min(500, k + len(labelled))
    centres = every[torch.randperm(len(every), generator=seeded())[:count]]
    for _ in range(10):
        own = torch.cat(
            [((centres**2).sum(1) - 2 * p @ centres.T).argmin(1) for p in every.split(8192)]
        )
        sums = torch.zeros_like(centres).index_add_(0, own, every)
        centres = sums / own.bincount(minlength=count).clamp_min(1)[:, None]
    own, covered = own[: len(pool)], own[len(pool) :].bincount(minlength=count)
    sizes, taken = own.bincount(minlength=count), torch.zeros(len(pool), dtype=torch.bool)
    ranked, chosen = {}, []
    for _ in range(k):
        left = sizes - own[taken].bincount(minlength=count)
        one = int((covered * 10**6 - sizes).masked_fill(left == 0, 10**12).argmin())
        if one not in ranked:
            rows = (own == one).nonzero().squeeze(1)
            apart = torch.cdist(pool[rows], pool[rows])
            near = apart.topk(min(21, len(rows)), largest=False).values
            ranked[one] = rows[near.sum(1).argsort()].tolist()
        chosen.append(ranked[one].pop(0))
        taken[chosen[-1]] = True
        covered[one] += 1
    return chosen


def plain_herding(pool: Tensor, k: int, width: float) -> list[int]:
    """The whole matrix of similarities, every gain at every pick."""
    similar = torch.exp(-(torch.cdist(pool, pool) ** 2) / width**2)
    covered, chosen = torch.zeros(len(pool)), []
    for _ in range(k):
        gains = (similar - covered).clamp_min(0).sum(1)
        gains[chosen] = -1
        chosen.append(int(gains.argmax()))
        covered = torch.maximum(covered, similar[chosen[-1]])
    return chosen


def plain_bait(embedding: Tensor, probs: Tensor, k: int) -> Tensor:
    """Greedy search with Woodbury updates of the inverse, every candidate anew at every pick."""
    (n, e), c = embedding.shape, probs.shape[1]
    root = (torch.eye(c) - probs[:, :, None]) * probs[:, None].sqrt()  # [n, C, C]
    parts = list(torch.arange(n).split(512))

    def vectors(rows: Tensor) -> Tensor:
        return torch.einsum("nce,nf->ncfe", root[rows], embedding[rows]).reshape(-1, c * e, c)

    pool = torch.zeros(c * e, c * e)
    for part in parts:
        flat = vectors(part).transpose(0, 1).flatten(1)
        pool += flat @ flat.T
    inverse, chosen = torch.eye(c * e), []
    for sign in [1] * 2 * k + [-1] * k:
        gains, through = [], inverse @ pool @ inverse
        for part in parts if sign > 0 else [torch.tensor(chosen)]:
            v = vectors(part)
            flat = v.transpose(0, 1).flatten(1)
            seen = torch.einsum("dnc,ndb->ncb", (inverse @ flat).view(c * e, -1, c), v)
            passed = torch.einsum("dnc,ndb->ncb", (through @ flat).view(c * e, -1, c), v)
            solved = torch.linalg.solve(torch.eye(c) + sign * seen, passed)
            gains.append(solved.diagonal(dim1=1, dim2=2).sum(1))
        gain = torch.cat(gains)
        if sign > 0:
            gain[chosen] = -torch.inf
        row = int(gain.argmax()) if sign > 0 else chosen[int(gain.argmin())]
        chosen.append(row) if sign > 0 else chosen.remove(row)
        v = vectors(torch.tensor([row]))[0]
        one = inverse @ v
        inverse -= sign * one @ torch.linalg.inv(torch.eye(c) + sign * v.T @ one) @ one.T
    return torch.tensor(chosen)
