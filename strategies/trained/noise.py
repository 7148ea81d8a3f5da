"""Items on which a network changes most when its weights are jittered."""

from __future__ import annotations

import copy
import math
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from lightning_al.records import Pool

from ..kernels.k_center import k_center_greedy
from ..selection import shuffled
from ..sets import BLOCK, SetStrategy
from ..strategy_registry import STRATEGIES

__all__ = ["NoiseStability", "deviations", "jitter"]

FIELDS = ("probs", "mean", "embedding")
FLOOR = 1e-3  # of the largest norm: outputs shorter than this are not blown up further


@STRATEGIES.register("noise-stability", example=["perturbations", "ratio", "of"])
@dataclass(frozen=True, repr=False, eq=False)
class NoiseStability(SetStrategy):
    """Largest changes, each in its own way, under noise on the weights (Li et al. 2024).

    Each perturbation adds Gaussian noise to every parameter tensor, scaled to ``ratio`` times its
    norm. An item's relative changes over all perturbations are its coordinates; greedy k-center
    from the origin takes the one that changes most, then those farthest from all taken. The
    authors perturb weights only, here biases move too. Labels are not looked at, and the network
    is run ``perturbations + 1`` times, on one process.

    Source: Li et al., Deep Active Learning with Noise Stability (2024).

    Args:
        perturbations: how many noisy networks.
        ratio: norm of the noise over that of the parameters.
        of: whose change: "probs", "mean" or "embedding"; "auto" is the probabilities of a
            classification and the embedding of a regression, as the authors do.
        limit: coordinates of an item at most, 4 bytes each; above it, each perturbation's changes
            are projected at random, which keeps distances roughly.
    """

    perturbations: int = 30
    ratio: float = 1e-3
    of: Literal["auto", "probs", "mean", "embedding"] = "auto"
    limit: int = 4096

    needs: ClassVar[tuple[str, ...]] = ()
    keeps: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        if self.perturbations < 1 or not 0 < self.ratio < math.inf:
            raise ValueError(
                "noise-stability needs perturbations >= 1 and ratio > 0, got "
                f"{self.perturbations} and {self.ratio}; 30 and 1e-3 are customary"
            )
        if self.of not in ("auto", *FIELDS):
            raise ValueError(f"of is one of auto, {', '.join(FIELDS)}, got {self.of!r}")
        if self.limit < self.perturbations:
            raise ValueError(
                f"limit is at least one coordinate a perturbation, {self.perturbations}, got "
                f"{self.limit}"
            )

    def pick(self, pool: Pool, k: int, generator: torch.Generator) -> Tensor:
        """Greedy k-center from the origin; items whose changes are not finite come last."""
        fields = ("probs", "embedding") if self.of == "auto" else (self.of,)
        points = deviations(pool, fields, self.perturbations, self.ratio, generator, self.limit)
        rows = max(1, BLOCK // max(1, points.shape[1]))
        fine = torch.cat([part.isfinite().all(1) for part in points.split(rows)])
        good, bad = fine.nonzero().squeeze(1), (~fine).nonzero().squeeze(1)
        points = points if len(bad) == 0 else points[good]
        some = min(k, len(good))
        origin = points.new_zeros(1, points.shape[1])
        chosen = good[k_center_greedy(points, origin, some, generator)] if some else good[:0]
        rest = bad[shuffled(len(bad), generator, bad.device)]
        return torch.cat([chosen, rest[: k - some]])


def deviations(
    pool: Pool,
    fields: Collection[str],
    perturbations: int,
    ratio: float,
    generator: torch.Generator,
    limit: int = 4096,
) -> Tensor:
    """Relative changes of what the task says of each candidate: float32 [N, D], D at most limit.

    The change of an item under one perturbation is divided by the norm of what the task says of it
    (by 1e-3 of the largest norm, where that is more).

    Args:
        pool: of the candidates.
        fields: the first of these that the task gives.
        perturbations: how many noisy copies of the task.
        ratio: see :func:`jitter`.
        generator: for the noise, and for the projection.
        limit: see :class:`NoiseStability`.
    """
    task = pool.bench.task
    field, plain = _first(pool, fields)
    norms = torch.linalg.vector_norm(plain, dim=1, keepdim=True)
    largest = float(norms[norms.isfinite()].max()) if bool(norms.isfinite().any()) else 0.0
    norms = norms.clamp_min(FLOOR * largest if largest > 0 else 1.0)

    width = plain.shape[1]
    share = min(width, limit // perturbations)
    out = plain.new_empty(len(plain), share * perturbations)
    noisy = copy.deepcopy(task)
    for i in range(perturbations):
        jitter(noisy, task, ratio, generator)
        change = (_flat(pool, noisy, field) - plain) / norms
        if share < width:  # anew each time, so that no direction is lost in all of them
            matrix = torch.randn(width, share, generator=generator, device=generator.device)
            change = change @ (matrix / math.sqrt(share)).to(change.device)
        out[:, i * share : (i + 1) * share] = change
    return out


def jitter(noisy: nn.Module, task: nn.Module, ratio: float, generator: torch.Generator) -> None:
    """Set the parameters of a copy to those of ``task`` plus noise of ``ratio`` times their norm.

    The direction of the noise in each parameter tensor is that of a Gaussian draw.
    """
    with torch.no_grad():
        for mine, given in zip(noisy.parameters(), task.parameters(), strict=True):
            if not given.is_floating_point():
                continue
            noise = torch.randn(given.shape, generator=generator, device=generator.device)
            noise = noise.to(mine.device, mine.dtype)
            length = torch.linalg.vector_norm(noise).clamp_min(1e-30)
            mine.copy_(given)
            mine.add_(noise * (ratio * torch.linalg.vector_norm(mine) / length))


def _first(pool: Pool, fields: Collection[str]) -> tuple[str, Tensor]:
    """The first field that the task gives, and what it says of all candidates [N, O]."""
    problem: LookupError | None = None
    for field in fields:
        try:
            return field, _flat(pool, pool.bench.task, field)
        except LookupError as error:
            problem = problem or error
    raise LookupError(f"the task gives none of {', '.join(fields)}: {problem}") from problem


def _flat(pool: Pool, module: Any, field: str) -> Tensor:
    values = pool.bench.predict(pool.index, [field], module=module).tensors()[field]
    return values.reshape(len(values), -1).float()
