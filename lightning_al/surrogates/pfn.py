"""A network that predicts a function's values from its data in one pass: a PFN."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lightning_al.networks.network_specs import record
from lightning_al.values import whole

from .attention import SetLayer, Waves, perceptron
from .bars import Bars, borders
from .functions import Problems
from .kinds import KINDS

__all__ = ["PFN"]

FREQUENCIES = tuple(0.8 * 1.6**k for k in range(10))
"""Radians over the box: from an eighth of a period to some nine."""
LEAST_LOG, MOST_LOG = -14.0, 3.0  # of the noise's variance


@KINDS.register("PFN")
class PFN(nn.Module):
    """Points and values -> the distribution of noisy values at other points.

    A transformer without positions: points that were measured look at each other, points to
    predict at those that were measured, and at nothing else; so the context is seen once, however
    many points are asked for, and what else is asked for changes no prediction.

    After Müller et al. (2022), "Transformers Can Do Bayesian Inference"; beside the inputs it is
    given their sines and cosines, and it is trained masked, as it is used. Beside the distribution
    it gives the expected variance of the noise, so that variance = (of the function) + (of the
    noise) can be told apart: the law of total variance.

    Args:
        dimension: D, inputs in [0, 1].
        width: E.
        heads: of the attention.
        layers: of the transformer.
        bars: buckets of the distribution.

    Raises:
        ValueError: sizes that make no sense.
    """

    edges: Tensor  # [bars + 1]

    def __init__(
        self, dimension: int, width: int = 128, heads: int = 4, layers: int = 4, bars: int = 200
    ) -> None:
        super().__init__()
        sizes = {"dimension": dimension, "width": width, "heads": heads, "layers": layers}
        for name, value in sizes.items():
            whole(1)(name, value)
        self.dimension = dimension
        self.waves = Waves(FREQUENCIES)
        self.place = perceptron(dimension * self.waves.width, width, width)
        self.value = nn.Linear(1, width)
        self.marker = nn.Parameter(torch.zeros(2, width))  # asked, measured
        self.layers = nn.ModuleList([SetLayer(width, heads) for _ in range(layers)])
        self.last = nn.LayerNorm(width)
        self.decode = perceptron(width, 2 * width, bars)
        self.noise = perceptron(width, width, 1)
        self.register_buffer("edges", borders(bars).float())
        record(self, PFN, **sizes, bars=bars)

    def forward(self, x: Tensor, y: Tensor, asked: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of the buckets [B, m, bars], and logarithms of the expected noise variance [B].

        Args:
            x: [B, n, D], measured, n of 1 or more.
            y: [B, n].
            asked: [B, m, D].
        """
        known = self.place(self.waves(x)) + self.value(y.unsqueeze(-1)) + self.marker[1]
        query = self.place(self.waves(asked)) + self.marker[0]
        for layer in self.layers:
            query = layer(query, known)
            known = layer(known)
        noise = self.noise(self.last(known).mean(1)).squeeze(-1)
        return self.decode(self.last(query)), (noise - 4.0).clamp(LEAST_LOG, MOST_LOG)

    def predict(self, x: Tensor, y: Tensor, asked: Tensor) -> tuple[Bars, Tensor]:
        """Distributions [B, m] and expected variance of the noise [B]; see :meth:`forward`."""
        logits, noise = self(x, y, asked)
        return Bars(self.edges.to(logits.dtype), logits), noise.exp()

    def loss(self, problems: Problems) -> Tensor:
        """Mean negative log density of the values asked for, and a tenth of the noise's loss.

        That one is ``log v + noise variance / v``, least where v is its expectation.
        """
        kind = self.edges.dtype
        (x, y), (asked, values) = problems.given, problems.asked
        bars, noise = self.predict(x.to(kind), y.to(kind), asked.to(kind))
        known = problems.hyper.noise.to(kind)
        return 0.1 * (noise.log() + known / noise).mean() - bars.log_density(values.to(kind)).mean()
