"""Where densities of one number are looked at: nodes and weights of a quadrature, item by item."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from lightning_al.scores.numerics import wide

from .density import PredictiveDensity

__all__ = ["Grid", "adaptive_grid", "window_grid"]

REACH = 4.5  # standard normal scores of each member's outermost nodes: all but 7e-6 of its mass


@dataclass(frozen=True)
class Grid:
    """Densities of n items and S members at G nodes, everything per unit of the target."""

    log_density: Tensor  # [n, S, G]
    nodes: Tensor  # [n, G], increasing, float64
    weights: Tensor  # [n, G], >= 0: the integral of f is the sum of weights f(nodes)


def adaptive_grid(density: PredictiveDensity, count: int) -> Grid:
    """Nodes that follow the members' quantiles, and weights that integrate under their mean.

    Member s has count / S nodes at scores spread evenly over [-4.5, 4.5], shifted a little from
    member to member: whatever one of them says of an item is looked at, however narrow it is and
    wherever it lies, and equal members share an even grid. Weights are those of the mean density
    m, whose distribution function M is known: w_g = (M(y_g+1) - M(y_g-1)) / (2 m(y_g)), so that
    gaps between members cost no nodes. ``sum w m`` is 1 up to the tails.

    Args:
        density: [n, S] of one output.
        count: G, at least 2.
    """
    items, members = density.batch_shape
    scores = _scores(count, members, density.like)  # [J, S]
    each = density.at_scores(scores[:, None, :, None].expand(-1, items, -1, 1))
    nodes = each[..., 0].permute(1, 0, 2).flatten(1).sort(1).values  # [n, J S]
    if nodes.shape[1] != count:  # as evenly as order allows, both ends kept
        places = torch.linspace(0, nodes.shape[1] - 1, count, device=nodes.device).round().long()
        nodes = nodes[:, places]
    log_density, level = _on(density, nodes)
    log_mean = log_density.logsumexp(1) - math.log(members)  # [n, G]
    mean_level = wide(level).mean(1)
    mass = _cells(mean_level).clamp_min(0)
    weights = mass / wide(log_mean).exp()
    unit = density.units.scale[0]
    return Grid(
        log_density=log_density - density.log_scale,
        nodes=density.units.target(nodes.unsqueeze(-1))[..., 0],
        weights=(weights * unit).to(log_density),
    )


def _scores(count: int, members: int, like: Tensor) -> Tensor:
    """Scores [J, S] of each member's nodes: together an even grid of J S >= count places."""
    each = max(-(-count // members), 2)
    places = torch.arange(each * members, dtype=torch.float64).reshape(each, members)
    return (REACH * (2 * places / (each * members - 1) - 1)).to(like)


def _cells(values: Tensor) -> Tensor:
    """Half the step from the value before to the one after, at the ends from the value itself."""
    steps = values.diff(dim=-1) / 2
    return torch.nn.functional.pad(steps, (1, 0)) + torch.nn.functional.pad(steps, (0, 1))


def window_grid(density: PredictiveDensity, count: int, window: tuple[float, float]) -> Grid:
    """Evenly spaced nodes in a window, the same for all items, with the trapezoid rule.

    Args:
        density: [n, S] of one output.
        count: G, at least 2.
        window: its ends, in the units that the density was made in (z).
    """
    items = density.batch_shape[0]
    nodes = torch.linspace(*window, count, dtype=torch.float64, device=density.like.device)
    log_density, _ = _on(density, nodes.to(density.like).expand(items, -1))
    weights = _cells(wide(nodes)) * density.units.scale[0]
    return Grid(
        log_density=log_density - density.log_scale,
        nodes=density.units.target(nodes.unsqueeze(-1))[..., 0].expand(items, -1),
        weights=weights.to(log_density).expand(items, -1),
    )


def _on(density: PredictiveDensity, nodes: Tensor) -> tuple[Tensor, Tensor]:
    """Log-density and distribution function [n, S, G] of z at nodes [n, G]."""
    places = nodes.t()[..., None, None]  # [G, n, 1, 1]
    shape = (len(places), *density.batch_shape, 1)
    log_density, level = density.both(places.expand(shape))
    return log_density.permute(1, 2, 0), level.permute(1, 2, 0)
