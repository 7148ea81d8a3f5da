"""Hyper-parameters of a Gaussian process by one forward pass over its data."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from lightning_al.networks.network_specs import record
from lightning_al.policies.priors import Hyper
from lightning_al.values import whole, word

from .attention import SetLayer, Waves, perceptron
from .functions import Problems
from .kinds import KINDS
from .residuals import LEFT, left_over

__all__ = ["AmortisedGP", "hyperparameters_of", "in_units", "log_terms"]

FREQUENCIES = tuple(0.35 * 1.7**k for k in range(8))
"""Radians a deviation of the inputs: from a tenth of a period over the box to some eight."""
MOST = 7.0  # bound of the logarithms
LEAST_NOISE = 1e-6  # in squared deviations of the targets
MOST_POINTS = 256
TYPICAL = (0.0, 0.0, -3.0)  # logarithms of length scale, output scale, noise at the start


@KINDS.register("AmortisedGP")
class AmortisedGP(nn.Module):
    """Data set -> length scales, output scale and noise of an ARD-RBF process, without a search.

    Attention over points within each input, over points with the inputs averaged, over points
    within each input again, then, the points averaged, over inputs: the result does not depend on
    the order of points, and follows that of inputs. Any number of both.

    After Bitzer, Meister, Zimmer (2023), "Amortized Inference for Gaussian Process Hyperparameters
    of Structured Kernels", for one kernel; beside inputs and values it is given sines and cosines
    of the inputs, and what simple smoothers miss the values by (:mod:`.residuals`).

    Data have mean 0 and deviation 1 in each input and in the values, and so have the
    hyper-parameters.

    Args:
        width: E.
        heads: of the attention.
        goal: what the loss is of. "evidence": -log p(context) a point, as published. "predictive":
            -log p(new values | context) a point, less that of the true process, what is above 1
            nat by its logarithm (a few hard problems would drown the others); and 0.3 of the Huber
            distance of the logarithms from the true ones.

    Raises:
        ValueError: sizes that make no sense, or no such goal.
    """

    def __init__(self, width: int = 128, heads: int = 4, goal: str = "predictive") -> None:
        super().__init__()
        for name, value in (("width", width), ("heads", heads)):
            whole(1)(name, value)
        self.goal = word("predictive", "evidence")("goal", goal)
        self.waves = Waves(FREQUENCIES)
        self.embed = nn.Linear(2 * self.waves.width + 1 + LEFT, width)
        self.within = SetLayer(width, heads)
        self.across = SetLayer(width, heads)
        self.join = nn.Linear(2 * width, width)
        self.again = SetLayer(width, heads)
        self.inputs = nn.ModuleList([SetLayer(width, heads) for _ in range(2)])
        self.last = nn.LayerNorm(width)
        self.scale = perceptron(width, width, 1)
        self.others = perceptron(width + 1, width, 2)
        record(self, AmortisedGP, width=width, heads=heads, goal=goal)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Logarithms of length scales, output scale and noise [B, D + 2].

        Args:
            x: [B, n, D], mean 0 and deviation 1 over the n points.
            y: [B, n], the same.
        """
        n = x.shape[1]
        waves = self.waves(x.transpose(1, 2).unsqueeze(-1))  # [B, D, n, F]
        values = y[:, None, :, None].expand(*waves.shape[:-1], 1)
        tokens = self.embed(torch.cat([waves, values, waves * values, left_over(x, y)], -1))
        tokens = self._within(self.within, tokens)
        whole = self.across(tokens.mean(1)).unsqueeze(1).expand_as(tokens)
        tokens = self._within(self.again, tokens + self.join(torch.cat([tokens, whole], -1)))
        each = tokens.mean(2)  # [B, D, E]
        for layer in self.inputs:
            each = layer(each)
        each = self.last(each)
        size = each.new_full((len(x), 1), math.log(n) / 3)
        rest = self.others(torch.cat([each.mean(1), size], -1))
        logs = torch.cat([self.scale(each).squeeze(-1), rest], -1)
        start = [TYPICAL[0]] * x.shape[2] + [*TYPICAL[1:]]
        return MOST * torch.tanh((logs + logs.new_tensor(start)) / MOST)

    @staticmethod
    def _within(layer: nn.Module, tokens: Tensor) -> Tensor:
        """A layer over the points of each input by itself: [B, D, n, E], the same shape."""
        mixed: Tensor = layer(tokens.flatten(0, 1))
        return mixed.unflatten(0, tokens.shape[:2])

    def loss(self, problems: Problems) -> Tensor:
        """Of the goal, a mean over problems, []."""
        n = problems.context
        x, y = in_units(problems)
        kind = self.embed.weight.dtype
        logs = self(x[:, :n].to(kind), y[:, :n].to(kind)).double()
        if self.goal == "evidence":
            return -log_terms(logs, x, y, slice(None, n)).mean()
        true = true_logs(problems)
        gap = (log_terms(true, x, y, slice(n, None)) - log_terms(logs, x, y, slice(n, None))).mean(
            1
        )
        gap = torch.where(gap > 1, 1 + gap.clamp_min(1).log(), gap)
        return gap.mean() + 0.3 * functional.smooth_l1_loss(logs, true.clamp(-MOST, MOST))


@torch.no_grad()
def hyperparameters_of(
    network: AmortisedGP, x: Tensor, y: Tensor, most: int = MOST_POINTS
) -> tuple[Tensor, Tensor, Tensor]:
    """Length scales [D], output scale [] and noise [] of data in any units, float64.

    Args:
        network: trained.
        x: [n, D], n of 1 or more.
        y: [n]; the process is one of y minus its mean.
        most: points that are looked at; of more, every so many in their order.
    """
    rows = torch.linspace(0, len(x) - 1, min(len(x), most), device="cpu").round().long()
    kind = network.embed.weight
    data = Problems(x[None], y[None], y[None], Hyper(x[:1], y[:1], y[:1]), len(x))
    (points,), (values,) = (part[:, rows].to(kind) for part in in_units(data))
    logs = network(points[None], values[None])[0].double().to(x.device)
    width, unit = _deviation(x, 0), _deviation(y, 0).square()
    return logs[:-2].exp() * width, logs[-2].exp() * unit, (logs[-1].exp() + LEAST_NOISE) * unit


def _deviation(values: Tensor, axis: int, keepdim: bool = False) -> Tensor:
    """Of values along an axis; 1 where they are all the same."""
    deviation = values.std(axis, correction=0, keepdim=keepdim)
    return torch.where(deviation > 1e-9, deviation, torch.ones_like(deviation))


def in_units(problems: Problems) -> tuple[Tensor, Tensor]:
    """Points and values taken to mean 0 and deviation 1 by those of the context."""

    def taken(values: Tensor) -> Tensor:
        given = values[:, : problems.context]
        return (values - given.mean(1, keepdim=True)) / _deviation(given, 1, keepdim=True)

    return taken(problems.x), taken(problems.y)


def true_logs(problems: Problems) -> Tensor:
    """Logarithms of the true hyper-parameters [B, D + 2], in units of the context."""
    (x, y), hyper = problems.given, problems.hyper
    width, unit = _deviation(x, 1), _deviation(y, 1, keepdim=True).square()
    rest = torch.stack([hyper.outputscale, hyper.noise], 1) / unit
    return torch.cat([hyper.lengthscale / width, rest], 1).log()


def log_terms(logs: Tensor, x: Tensor, y: Tensor, rows: slice) -> Tensor:
    """Log densities [B, rows] of values y, each given those before it, by one Cholesky factor.

    Args:
        logs: of length scales, output scale, noise [B, D + 2], float64.
        x: [B, N, D].
        y: [B, N].
        rows: those whose densities are wanted.
    """
    scaled = x * torch.exp(-logs[:, None, :-2])
    square = scaled.square().sum(-1)
    distance = square.unsqueeze(-1) + square.unsqueeze(-2) - 2 * scaled @ scaled.mT
    covariance = torch.exp(logs[:, -2, None, None] - 0.5 * distance.clamp_min(0.0))
    noise = torch.exp(logs[:, -1]) + LEAST_NOISE
    eye = torch.eye(x.shape[1], dtype=x.dtype, device=x.device)
    factor = torch.linalg.cholesky(covariance + noise[:, None, None] * eye)
    white = torch.linalg.solve_triangular(factor, y.unsqueeze(-1), upper=False).squeeze(-1)
    deviation = factor.diagonal(dim1=-2, dim2=-1)
    terms = -0.5 * white.square() - deviation.log() - 0.5 * math.log(2 * math.pi)
    return terms[:, rows]
