"""How dense the inputs lie: maximum likelihood of the items themselves, without answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torchmetrics import Metric

from lightning_al.readings import Numbers

from .adapter import Adapter
from .metric_classes import MeanOf
from .metric_feeding import Fed, MetricFamily, as_they_are
from .metric_specs import MetricSpec
from .task import OptimizerName, Task, network_adapter

__all__ = ["DensityEstimation"]


def _offers(sizes: Mapping[str, int]) -> dict[str, Any]:
    return {}


def _fed(metric: Metric, sizes: Mapping[str, int]) -> Metric:
    return Fed(metric, as_they_are)


def _example(sizes: Mapping[str, int]) -> tuple[Tensor, ...]:
    return (-torch.linspace(0.5, 3.0, 8),)


LIKELIHOOD = MetricFamily(
    "likelihood metric",
    feeds="log-densities [n]",
    offers=_offers,
    fed=_fed,
    example=_example,
)


class ItemNLL(MeanOf):
    """Mean of -log p(item), in nats: log-densities [n]."""

    def values(self, *batch: Tensor) -> Tensor:
        """One number an item [n]."""
        return -batch[0]


@LIKELIHOOD.register("nll")
def _nll() -> Metric:
    return ItemNLL()


class DensityEstimation(Task):
    """Maximum likelihood of p(x): which items to look at so that the density of all is learnt.

    The network gives the log-density of an item, [n] or [n, 1]; the answers that items have are not
    looked at. What strategies for numbers see as its prediction is the log-density: ``greedy`` with
    ``maximize: false`` asks for the items that are least likely so far. The density learning of
    Werner, Schmidt-Thieme (2025).

    Logged: ``train/loss``, and ``val/nll`` and ``test/nll``.

    Args:
        network: module, or spec, such as :class:`~lightning_al.networks.InputFlow`.
        lr: learning rate.
        weight_decay: of the optimiser.
        optimizer: "adam", "adamw", "nadam" or "sgd" (with momentum 0.9).
        metrics: those to log, by name or as torchmetrics classes; None for all with a name.

    Raises:
        ValueError: settings that make no sense, or outputs that are no log-densities.
        LookupError: an unknown metric or optimiser.
    """

    def __init__(
        self,
        network: nn.Module,
        lr: float = 1e-3,
        weight_decay: float = 0.0,
        optimizer: OptimizerName = "adam",
        metrics: Sequence[MetricSpec] | None = None,
    ) -> None:
        super().__init__(
            network,
            optimizer=optimizer,
            lr=lr,
            weight_decay=weight_decay,
            metrics=metrics,
            known=LIKELIHOOD,
            settings={},
            metric_arguments={},
        )
        self.reading = Numbers(1)

    @property
    def adapter(self) -> Adapter:
        """Log-densities, from the network's outputs."""
        return network_adapter(self, self.reading)

    def item_losses(self, raw: Tensor, targets: Tensor) -> Tensor:
        """Negative log-density of each item [n].

        Raises:
            ValueError: outputs of another shape, or log-densities that are NaN.
        """
        one = raw.squeeze(1) if raw.ndim == 2 else raw
        if one.ndim != 1:
            raise ValueError(
                f"a density estimation needs the log-density of each item, [n] or [n, 1], got "
                f"{list(raw.shape)}; InputFlow gives it"
            )
        bad = one.detach().isnan()
        if bool(bad.any()):
            raise ValueError(
                f"the log-density of {int(bad.sum())} of {len(bad)} items of a batch is NaN, the "
                f"first is row {int(bad.nonzero()[0])}: look for NaN among the inputs, or lower "
                "the learning rate"
            )
        return -one

    def loss(self, raw: Tensor, targets: Tensor) -> Tensor:
        """Mean over items."""
        return self.item_losses(raw, targets).mean()

    def measure(self, metrics: Sequence[Metric], raw: Tensor, targets: Tensor) -> None:
        """Feed one batch of log-densities."""
        log_density = -self.item_losses(raw, targets)
        for metric in metrics:
            metric.update(log_density)

    def forward(self, *inputs: Any) -> Tensor:
        """Log-densities [n, 1]."""
        return self.raw(inputs if len(inputs) > 1 else inputs[0])
