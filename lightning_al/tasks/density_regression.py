"""Regression by whole predictive densities, in the units of the target."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn
from torchmetrics import Metric

from lightning_al.densities import PredictiveDensity, Units, pooled
from lightning_al.networks.network_specs import gives_members, member_count
from lightning_al.readings import Density
from lightning_al.scores.numerics import wide
from lightning_al.spec import read

from .adapter import Adapter, call
from .density_heads import HEADS, DensityHead
from .density_metrics import DENSITY
from .loss_head import LossHead
from .metric_specs import MetricSpec
from .standardisation import standardised
from .task import OptimizerName, Task, network_adapter

__all__ = ["DensityRegression"]

if TYPE_CHECKING:
    HeadSpec = str | Mapping[str, Any] | DensityHead
else:  # what a configuration can say
    HeadSpec = str | dict[str, Any]

Scale = Literal["standard", "range", "none"]


class DensityRegression(Task):
    """Maximum likelihood of a density p(y | x) on targets [n] or [n, D].

    A network (the conditioner) turns an item into some numbers, and the head makes a density of
    them: ``gaussian``, ``mixture`` (of Gaussians) or ``flow`` (of zuko). Targets stay in their own
    units: inside they are brought to mean 0 and deviation 1 of the labelled set at the start of
    each fit, as in :class:`~lightning_al.tasks.Regression`; predictions, densities and metrics are
    in target units. With an :class:`~lightning_al.networks.Ensemble` the loss is the sum of the
    members' mean losses, each flow member has a flow of its own, and the prediction is the mixture
    of the members.

    Monte-Carlo dropout samples the conditioner alone: heads have no dropout. Werner, Schmidt-Thieme
    (2025), "Bayesian Active Learning By Distribution Disagreement".

    Logged: ``train/loss`` (in standardised units), and ``val/`` and ``test/`` of ``nll``, ``crps``,
    ``mae`` and ``rmse`` (of the median), ``mae_mode`` and ``rmse_mode`` (of the likeliest of 64
    draws, as published), ``coverage_50``, ``coverage_90`` and ``pit``
    (:mod:`~lightning_al.tasks.density_metrics`).

    Args:
        network: module, or spec; it gives as many numbers as the head reads (``outputs: null`` in a
            configuration is filled in): 2 D, K (2 D + 1), or the context of a flow.
        outputs: D.
        head: "gaussian", "mixture", "flow", ``{name: …, **arguments}``, or a
            :class:`~lightning_al.tasks.density_heads.DensityHead`.
        lr: learning rate.
        weight_decay: of the optimiser.
        optimizer: "adam", "adamw", "nadam" or "sgd" (with momentum 0.9).
        scale: "standard"; "range" brings the labelled targets to [0, 1], as published; "none"
            leaves them alone.
        nodes: at which a strategy looks at each item's densities.
        window: ends of evenly spaced nodes, in the scaled units, the same for all items; None lets
            the nodes follow the densities. BALSA's authors look at (0.1, 0.9) under "range".
        quantiles: of each density, for strategies by sorted quantiles.
        samples: of each density, for strategies by samples.
        metrics: those to log, by name or as torchmetrics classes; None for all with a name.
        loss_head: a head that learns, beside the task, to rank items by their loss.

    Raises:
        ValueError: settings that make no sense, or outputs and targets that do not fit.
        LookupError: an unknown head, flow, metric or optimiser.
    """

    done_apart = ("measure", "_refuse_nan")

    target_shift: Tensor
    target_rest: Tensor  # what float32 leaves of the shift
    target_scale: Tensor

    def __init__(
        self,
        network: nn.Module,
        outputs: int | None = 1,
        head: HeadSpec = "flow",
        lr: float = 1e-3,
        weight_decay: float = 0.0,
        optimizer: OptimizerName = "adam",
        scale: Scale = "standard",
        nodes: int = 200,
        window: tuple[float, float] | None = None,
        quantiles: int = 64,
        samples: int = 64,
        metrics: Sequence[MetricSpec] | None = None,
        loss_head: LossHead | None = None,
    ) -> None:
        if outputs is None or outputs < 1:
            raise ValueError(f"a regression needs 1 output or more, got {outputs}")
        if scale not in ("standard", "range", "none"):
            raise ValueError(f"scale is 'standard', 'range' or 'none', got {scale!r}")
        settings = read(head, HEADS)
        span = None if window is None else (float(window[0]), float(window[1]))
        looks = {"nodes": nodes, "window": span, "quantiles": quantiles, "samples": samples}
        super().__init__(
            network,
            optimizer=optimizer,
            lr=lr,
            weight_decay=weight_decay,
            metrics=metrics,
            known=DENSITY,
            settings={"outputs": outputs, "head": settings.plain(), "scale": scale, **looks},
            metric_arguments={"outputs": outputs},
            loss_head=loss_head,
        )
        self.outputs, self.settings, self.scale = outputs, settings, scale
        self.head = settings.build(outputs, member_count(self.network))
        self.reading = Density(
            outputs,
            given=self.density_of,
            members=gives_members(self.network),
            nodes=nodes,
            quantiles=quantiles,
            samples=samples,
            window=span,
            noise=self._noise if settings.name == "gaussian" else None,
        )
        self.register_buffer("target_shift", torch.zeros(outputs))
        self.register_buffer("target_rest", torch.zeros(outputs))
        self.register_buffer("target_scale", torch.ones(outputs))

    @property
    def adapter(self) -> Adapter:
        """Densities in target units, from the network's outputs."""
        return network_adapter(self, self.reading)

    @staticmethod
    def network_outputs(targets: int, arguments: Mapping[str, Any]) -> int:
        """How many outputs the network needs for so many targets, under some arguments."""
        head = arguments.get("head")
        return read("flow" if head is None else head, HEADS).inputs(targets)

    # --- densities ---------------------------------------------------------------------------

    @property
    def units(self) -> Units:
        """Where targets lie."""
        return Units(wide(self.target_shift) + wide(self.target_rest), wide(self.target_scale))

    def density_of(self, raw: Tensor) -> PredictiveDensity:
        """The densities [n] or [n, S], in target units, of raw outputs [n, R] or [n, S, R].

        Raises:
            ValueError: another number of outputs than the head reads.
        """
        needed = self.settings.inputs(self.outputs)
        if raw.shape[-1] != needed:
            raise ValueError(
                f"{self.outputs} target(s) with the head {self.settings.name!r} need a network "
                f"with {needed} outputs, got {list(raw.shape)}"
            )
        made: PredictiveDensity = self.head(raw.to(self.target_scale.dtype), self.units)
        return made

    def density(self, *inputs: Any) -> PredictiveDensity:
        """The predictive densities [n] of a batch of inputs, members mixed; torch distributions.

        ``log_prob``, ``sample``, ``cdf``, ``icdf`` (quantiles), ``median``, ``mean``, ``crps``, in
        target units.
        """
        return self._mixed(call(self.network, inputs[0] if len(inputs) == 1 else inputs))

    def _mixed(self, raw: Tensor) -> PredictiveDensity:
        made = self.density_of(raw)
        return pooled(made) if self.reading.members else made

    def _noise(self, raw: Tensor) -> Tensor:
        found = self.settings.noise(raw, self.outputs)
        assert found is not None  # of a Gaussian head, which this is given for
        return found

    def forward(self, *inputs: Any) -> Tensor:
        """Predictive mean [n, D] in target units."""
        return self.density(*inputs).mean.to(self.target_scale.dtype)

    # --- fitting -----------------------------------------------------------------------------

    def _targets(self, targets: Tensor) -> Tensor:
        """Targets as [n, D]."""
        shaped = targets.unsqueeze(1) if targets.ndim == 1 else targets
        if shaped.ndim != 2 or shaped.shape[1] != self.outputs:
            raise ValueError(f"targets must be [n, {self.outputs}], got {list(targets.shape)}")
        return shaped

    def _lost(self, raw: Tensor, targets: Tensor) -> Tensor:
        """Negative log-density [n] or [n, S], per unit of the scaled target.

        Raises:
            ValueError: one that is NaN.
        """
        density, goal = self.density_of(raw), self._targets(targets)
        several = self.reading.members
        if raw.ndim != (3 if several else 2):
            raise ValueError(
                f"outputs must be {'[n, S, R]' if several else '[n, R]'}, got {list(raw.shape)}; a "
                "network of several members says so by `gives_members = True`"
            )
        z = density.standard(goal)
        lost = -density.log_density(z.unsqueeze(1) if several else z)
        self._refuse_nan(lost, raw, goal)
        return lost

    def _refuse_nan(self, lost: Tensor, raw: Tensor, goal: Tensor) -> None:
        if not bool(lost.detach().sum().isnan()):
            return
        bad = lost.flatten(1).isnan().any(1) if lost.ndim > 1 else lost.isnan()
        row = int(bad.nonzero()[0])
        why = "the network's outputs are NaN: look for NaN among the inputs, or lower the learning "
        why += "rate (clip gradients with --trainer.gradient_clip_val 1)"
        if bool(goal[row].isnan().any()):
            why = "its target is NaN: give it a number, or leave the item out"
        elif bool(raw[row].isfinite().all()):
            why = (
                "the outputs are finite, so the head itself has diverged: lower the learning rate, "
            )
            why += "or take another flow (NSF), which is bounded"
        raise ValueError(
            f"the log-density of {int(bad.sum())} of {len(bad)} items of a batch is NaN, the first "
            f"is row {row} with target {goal[row].tolist()}: {why}"
        )

    def item_losses(self, raw: Tensor, targets: Tensor) -> Tensor:
        """Loss of each item [n], averaged over members."""
        lost = self._lost(raw, targets)
        return lost.mean(1) if lost.ndim > 1 else lost

    def loss(self, raw: Tensor, targets: Tensor) -> Tensor:
        """Mean over items, sum over members."""
        lost = self._lost(raw, targets)
        return lost.mean(0).sum()

    def on_fit_start(self) -> None:
        """Take the units of the labelled targets.

        Raises:
            ValueError: fewer than two labelled items, targets that are not finite, or constant
                ones: nothing then says how wide a density is.
        """
        targets = self.labelled_targets()
        if targets is None:
            return
        values = self._targets(targets).cpu()
        _check_targets(values, self.scale)
        if self.scale == "none":
            return
        if self.scale == "standard":
            shift, scale, _ = standardised(values)
        else:
            shift = values.double().amin(0)
            scale = values.double().amax(0) - shift
        self.target_shift.copy_(shift)
        self.target_rest.copy_(shift - self.target_shift.cpu().double())
        self.target_scale.copy_(scale)

    # --- metrics -----------------------------------------------------------------------------

    def measure(self, metrics: Sequence[Metric], raw: Tensor, targets: Tensor) -> None:
        """Feed one batch, in target units."""
        density, goal = self._mixed(raw), wide(self._targets(targets))
        for metric in metrics:
            metric.update(density, goal)

    def predict_step(self, batch: Any, batch_idx: int) -> dict[str, Tensor]:
        """``mean``, ``variance`` and ``median`` [n, D] of a batch as in testing, or of inputs."""
        inputs = batch if isinstance(batch, Tensor) else self.split(batch)[0]
        density = self._mixed(self.raw(inputs))
        found = {"mean": density.mean, "variance": density.variance, "median": density.median}
        return {name: value.to(self.target_scale.dtype) for name, value in found.items()}


def _check_targets(values: Tensor, scale: str) -> None:
    """Refuse labelled targets [L, D] that no density can be fitted to."""
    if len(values) < 2:
        raise ValueError(
            f"a density needs 2 labelled items or more to know how wide it is, got {len(values)}; "
            "start with more of them (initial=2 at the least, some tens are sensible)"
        )
    odd = (~values.isfinite()).any(1).nonzero().flatten()
    if len(odd):
        raise ValueError(
            f"{len(odd)} of {len(values)} labelled targets are not finite, the first is "
            f"{values[odd[0]].tolist()}; correct these answers, or leave the items out"
        )
    if scale == "none":
        return
    same = standardised(values)[2].abs().amax(0) == 0
    if bool(same.any()):
        which = int(same.nonzero()[0])
        raise ValueError(
            f"all {len(values)} labelled targets of output {which} are {float(values[0, which]):g}:"
            " nothing says how wide a density is; label items with other answers first, or take "
            "scale='none'"
        )
