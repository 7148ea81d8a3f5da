"""Hyper-parameters drawn from their posterior by Hamiltonian Monte Carlo, a few numbers each.

Duane, Kennedy, Pendleton, Roweth (1987), "Hybrid Monte Carlo"; the step is adapted to an
acceptance of 0.8 during the warm-up.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch

from .evidence import Array
from .hyperpriors import AnyPrior, bounds_of, log_density

__all__ = ["hamiltonian", "sample_posterior"]

Target = Callable[[Array], "tuple[float, Array] | None"]
ACCEPTANCE = 0.8
LEAPS = (3, 7)  # steps of a trajectory, drawn evenly
LEAST_CURVATURE = 0.05  # of the log density at the start: no direction is taken to be flatter
DIFFERENCE = 1e-3  # of the central differences that measure the curvature


def sample_posterior(
    objective: Target,
    priors: Sequence[AnyPrior],
    start: Array,
    count: int,
    generator: torch.Generator,
    *,
    warm_up: int = 60,
    thin: int = 3,
) -> Array:
    """Logarithms [count, p] drawn from evidence times priors, as a density of the logarithms.

    One chain: modes that it does not reach in ``warm_up + count * thin`` trajectories are missed.

    Args:
        objective: logarithms [p] -> log evidence and its gradient [p], None where not defined.
        priors: p of them; those with equal bounds stay fixed. Proper ones, or bounded tightly.
        start: logarithms [p] inside the bounds; best the mode.
        count: S.
        generator: of all draws.
        warm_up: trajectories that are thrown away.
        thin: trajectories a sample.

    Raises:
        ValueError: no density at the start.
    """
    low, high = bounds_of(priors)
    free = low < high
    density = log_density(priors, of_logarithms=True)
    whole = np.array(start, dtype=np.float64)

    def target(part: Array) -> tuple[float, Array] | None:
        if (part < low[free]).any() or (part > high[free]).any():
            return None
        theta = whole.copy()
        theta[free] = part
        found = objective(theta)
        if found is None or density is None:
            return None if found is None else (found[0], found[1][free])
        value, gradient = density(theta)
        return found[0] + value, (found[1] + gradient)[free]

    drawn = np.tile(whole, (count, 1))
    drawn[:, free] = hamiltonian(target, whole[free], count, generator, warm_up=warm_up, thin=thin)
    return drawn


def hamiltonian(
    target: Target,
    start: Array,
    count: int,
    generator: torch.Generator,
    *,
    warm_up: int = 60,
    thin: int = 3,
) -> Array:
    """Samples [count, p] of the density exp(target); its curvature at ``start`` sets the metric.

    Args:
        target: point [p] -> log density and gradient [p]; None where the density is 0.
        start: [p].
        count: how many are kept.
        generator: of all draws.
        warm_up: trajectories before the first that is kept, which adapt the step.
        thin: trajectories from one that is kept to the next.

    Raises:
        ValueError: the density is 0, or not finite, at the start.
    """
    now = target(start)
    if now is None or not math.isfinite(now[0]):
        raise ValueError("the posterior is not defined where the sampler starts; raise the noise")
    spread = _spread(target, start)
    p, turns = len(start), warm_up + count * thin
    momenta = torch.randn(turns, p, generator=generator, dtype=torch.float64).numpy()
    chances = torch.rand(turns, generator=generator, dtype=torch.float64).log().tolist()
    lengths = torch.randint(LEAPS[0], LEAPS[1] + 1, (turns,), generator=generator).tolist()
    point = np.array(start, dtype=np.float64)
    log_step, kept = math.log(0.5), np.empty((count, p))
    for turn in range(turns):
        step = math.exp(log_step)
        ended = _trajectory(target, point, now, momenta[turn], spread, step, lengths[turn])
        chance = 0.0
        if ended is not None:
            position, found, gain = ended
            chance = math.exp(min(gain, 0.0))
            if chances[turn] < gain:
                point, now = position, found
        if turn < warm_up:
            log_step += (chance - ACCEPTANCE) / math.sqrt(turn + 2.0)
        elif (turn - warm_up + 1) % thin == 0:
            kept[(turn - warm_up) // thin] = point
    return kept


def _trajectory(
    target: Target,
    point: Array,
    now: tuple[float, Array],
    momentum: Array,
    spread: Array,
    step: float,
    length: int,
) -> tuple[Array, tuple[float, Array], float] | None:
    """Leapfrog: where it ends, the density there, and what it gained of the joint log density.

    None where it meets a place of density 0.
    """
    before = now[0] - 0.5 * float(momentum @ momentum)
    for _ in range(length):
        momentum = momentum + 0.5 * step * (now[1] @ spread)
        point = point + step * (spread @ momentum)
        reached = target(point)
        if reached is None or not math.isfinite(reached[0]):
            return None
        now = reached
        momentum = momentum + 0.5 * step * (now[1] @ spread)
    return point, now, now[0] - 0.5 * float(momentum @ momentum) - before


def _spread(target: Target, start: Array) -> Array:
    """A square root [p, p] of the covariance that the curvature at ``start`` suggests."""
    p = len(start)
    curvature = np.zeros((p, p))
    for i, step in enumerate(DIFFERENCE * np.eye(p)):
        ahead, behind = target(start + step), target(start - step)
        if ahead is None or behind is None:  # at a border
            curvature[i, i] = 1.0
        else:
            curvature[i] = (behind[1] - ahead[1]) / (2.0 * DIFFERENCE)
    values, vectors = np.linalg.eigh(0.5 * (curvature + curvature.T))
    spread: Array = vectors / np.sqrt(np.maximum(values, LEAST_CURVATURE))
    return spread
