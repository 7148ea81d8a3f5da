"""Regression by a network that was trained on simulated functions, as a task."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from lightning_al.threads import torch_alone

from .in_context import InContextRegression, Predictive, Spread
from .metric_specs import MetricSpec

__all__ = ["PFNRegression"]

OUTSIDE = 1e-6  # of a range, that features may lie beyond it


class PFNRegression(InContextRegression):
    """Predictions of targets [n] or [n, D] by a PFN: nothing is fitted, the labelled set is read.

    The network (:class:`~lightning_al.surrogates.PFN`) was trained on simulated functions on the
    box [0, 1]^d; features are taken there by ``low`` and ``high``. It gives a distribution of
    answers and the expected variance of their noise; what is left of the variance is that of the
    function (the law of total variance). Give the Trainer ``max_epochs=1``.

    Logged: ``val/`` and ``test/`` ``mse``, ``rmse``, ``mae``, ``nll`` (of the normal with the
    distribution's moments).

    Args:
        outputs: D.
        surrogate: name or path of a trained network; None for the shipped one of as many inputs as
            there are features ("pfn-1d", ...).
        low: least value of the features; one number, or one a feature.
        high: largest value.
        standardize: take targets to mean 0 and deviation 1 by the labelled set; without, bring
            targets of about deviation 1 over the box, which is what the network knows.
        variance: "latent", "predictive" or "entropy", see
            :class:`~lightning_al.tasks.in_context.InContextRegression`.
        metrics: those to log, by name or as torchmetrics classes; None for all with a name.

    Raises:
        ValueError: settings that make no sense; in a fit, features outside [low, high].
        LookupError: no such network, or none of as many inputs.
    """

    def __init__(
        self,
        outputs: int | None = 1,
        surrogate: str | None = None,
        low: float | list[float] = 0.0,
        high: float | list[float] = 1.0,
        standardize: bool = True,
        variance: Spread = "latent",
        metrics: Sequence[MetricSpec] | None = None,
    ) -> None:
        settings: dict[str, Any] = {"surrogate": surrogate, "low": low, "high": high}
        settings["standardize"] = standardize
        super().__init__(outputs, standardize, variance, metrics, settings)
        ends = [torch.as_tensor(end, dtype=torch.float64).reshape(-1) for end in (low, high)]
        if not bool((ends[0] < ends[1]).all()):
            raise ValueError(f"low must be below high in every feature, got {low} and {high}")
        self._ends = (ends[0], ends[1])
        self.surrogate = surrogate
        if surrogate is not None:
            self._network(None)

    def learn(self, inputs: Any, targets: Tensor) -> None:
        """Keep the labelled set."""
        super().learn(inputs, targets)
        self._network(self.x.shape[1])
        unit = self._unit(self.x)
        if len(unit) and (unit.min() < -OUTSIDE or unit.max() > 1 + OUTSIDE):
            least, most = (end.tolist() for end in (self.x.amin(0), self.x.amax(0)))
            low, high = (end.tolist() for end in self._ends)
            raise ValueError(
                f"features of the labelled set lie outside [{low}, {high}]: their least are "
                f"{least}, their largest {most}; give low and high of all items"
            )

    def _unit(self, points: Tensor) -> Tensor:
        low, high = (end.to(points) for end in self._ends)
        if any(len(end) not in (1, points.shape[1]) for end in (low, high)):
            raise ValueError(
                f"low and high are one number or {points.shape[1]}, one a feature, got "
                f"{len(low)} and {len(high)}"
            )
        return (points - low) / (high - low)

    def _network(self, features: int | None) -> Any:
        """The network, seen to take as many features."""
        from lightning_al.surrogates import load  # inside: seldom used

        network = load(self.surrogate or f"pfn-{features}d", "PFN").network
        if features is not None and network.dimension != features:
            raise ValueError(
                f"the network {self.surrogate} takes {network.dimension} features, the data have "
                f"{features}; train one with `lightning-al fit --config surrogate/pfn-1d "
                f"--model.network.init_args.dimension={features} --data.prior.dimension={features}`"
            )
        return network

    def ask(self, output: int, points: Tensor) -> tuple[Predictive, Tensor]:
        """One pass of the network; on the CPU, on one thread, so that all ranks say the same."""
        network = self._network(points.shape[1])
        x, asked = (self._unit(part).float().cpu()[None] for part in (self.x, points))
        y = self.y[:, output].float().cpu()[None]
        with torch_alone():
            bars, noise = network.predict(x, y, asked)
        return _Moved(bars, points.device), noise[0].to(points.device)


class _Moved:
    """A batch of one problem's distributions, their moments on another device."""

    def __init__(self, bars: Any, device: torch.device) -> None:
        self.bars, self.device = bars, device

    def mean(self) -> Tensor:
        """[M]."""
        return self.bars.mean()[0].to(self.device)

    def variance(self) -> Tensor:
        """[M]."""
        return self.bars.variance()[0].to(self.device)

    def entropy(self) -> Tensor:
        """[M]."""
        return self.bars.entropy()[0].to(self.device)
