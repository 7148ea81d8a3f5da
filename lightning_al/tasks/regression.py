"""Regression of one or several outputs, with targets in their own units."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from pytorch_lightning.trainer.states import TrainerFn
from torch import Tensor, nn
from torchmetrics import Metric

from lightning_al.networks.network_specs import gives_members
from lightning_al.readings import Numbers
from lightning_al.scores.numerics import wide

from .adapter import Adapter
from .loss_head import LossHead
from .metric_specs import MetricSpec
from .metrics import REGRESSION
from .standardisation import standardised
from .task import OptimizerName, Task, network_adapter

__all__ = ["Regression"]

LOG_VARIANCE = 12.0  # bound on |log variance| of a Gaussian likelihood, in standardised units


class Regression(Task):
    """Mean squared error or Gaussian likelihood on targets [n] or [n, D].

    Targets stay in their own units: the loss standardises them by the mean and standard deviation
    of the labelled set, taken at the start of each fit from the datamodule's
    ``labelled_targets()`` (left alone where there is none). Predictions and metrics are in target
    units. With an :class:`~lightning_al.networks.Ensemble` the loss is the sum of the members'
    mean losses, and the prediction has the moments of their mixture.

    The network gives [n, D], or [n, S, D] for members; with the likelihood "gaussian" 2 D numbers,
    means then log-variances. "mse" is the Gaussian likelihood with one unknown variance an output:
    its maximum-likelihood value, the mean squared residual of the last training epoch, is the
    aleatoric variance of predictions and of ``nll``. It is optimistic for a network that overfits.

    Logged: ``train/loss``, and ``val/`` and ``test/`` ``mae``, ``rmse``, ``nll``.

    Args:
        network: module, or spec.
        outputs: D.
        likelihood: "mse" or "gaussian".
        lr: learning rate.
        weight_decay: of the optimiser.
        optimizer: "adam", "adamw", "nadam" or "sgd" (with momentum 0.9).
        standardize_targets: see above.
        metrics: those to log, by name or as torchmetrics classes; None for all with a name.
        loss_head: a head that learns, beside the task, to rank items by their loss; what the
            strategy ``learning-loss`` scores by.

    Raises:
        ValueError: settings that make no sense, or outputs and targets that do not fit.
        LookupError: an unknown metric or optimiser.
    """

    target_mean: Tensor
    target_rest: Tensor  # what float32 leaves of the mean: far from zero it is much
    target_std: Tensor
    noise: Tensor

    def __init__(
        self,
        network: nn.Module,
        outputs: int | None = 1,
        likelihood: Literal["mse", "gaussian"] = "mse",
        lr: float = 1e-3,
        weight_decay: float = 0.0,
        optimizer: OptimizerName = "adam",
        standardize_targets: bool = True,
        metrics: Sequence[MetricSpec] | None = None,
        loss_head: LossHead | None = None,
    ) -> None:
        if likelihood not in ("mse", "gaussian"):
            raise ValueError(f"likelihood must be 'mse' or 'gaussian', got {likelihood!r}")
        if outputs is None or outputs < 1:
            raise ValueError(f"a regression needs 1 output or more, got {outputs}")
        super().__init__(
            network,
            optimizer=optimizer,
            lr=lr,
            weight_decay=weight_decay,
            metrics=metrics,
            known=REGRESSION,
            settings={
                "outputs": outputs,
                "likelihood": likelihood,
                "standardize_targets": standardize_targets,
            },
            metric_arguments={"outputs": outputs},
            loss_head=loss_head,
        )
        self.outputs, self.likelihood = outputs, likelihood
        members = gives_members(self.network)
        self.reading = Numbers(outputs, given=self.moments, members=members)
        self.standardize_targets = standardize_targets
        self.register_buffer("target_mean", torch.zeros(outputs))
        self.register_buffer("target_rest", torch.zeros(outputs))
        self.register_buffer("target_std", torch.ones(outputs))
        self.register_buffer("noise", torch.ones(outputs))  # standardised units
        self._residuals: list[Any] = [0.0, 0]  # sum of squares [D], items

    @property
    def adapter(self) -> Adapter:
        """Moments in target units, from the network's outputs."""
        return network_adapter(self, self.reading)

    @staticmethod
    def network_outputs(targets: int, arguments: Mapping[str, Any]) -> int:
        """How many outputs the network needs for so many targets, under some arguments."""
        return targets * (2 if arguments.get("likelihood") == "gaussian" else 1)

    def _standardised(self, raw: Tensor) -> tuple[Tensor, Tensor | None]:
        """Mean and log-variance [n, ..., D] in standardised units."""
        raw = raw.unsqueeze(1) if raw.ndim == 1 else raw
        width = self.outputs * (1 if self.likelihood == "mse" else 2)
        if raw.shape[-1] != width:
            raise ValueError(
                f"{self.outputs} outputs with likelihood {self.likelihood!r} need a network with "
                f"{width} outputs, got {list(raw.shape)}"
            )
        raw = raw.to(self.target_mean.dtype)  # half precision cannot hold the variances
        if self.likelihood == "mse":
            return raw, None
        mean, log_variance = raw.chunk(2, dim=-1)
        return mean, log_variance.clamp(-LOG_VARIANCE, LOG_VARIANCE)

    def moments(self, raw: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and aleatoric variance [n, ..., D] in target units, from raw outputs; float64.

        Float32 on devices that have no other.
        """
        mean, log_variance = self._standardised(raw)
        variance = self.noise.expand_as(mean) if log_variance is None else log_variance.exp()
        std = wide(self.target_std)
        centred = wide(mean) * std + wide(self.target_rest)
        return centred + wide(self.target_mean), wide(variance) * std.square()

    def mixture(self, raw: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and variance [n, D] of the predictive distribution, members mixed."""
        mean, variance = self.moments(raw.float())
        if not self.reading.members:
            return mean, variance
        return mean.mean(1), variance.mean(1) + mean.var(1, unbiased=False)

    def forward(self, *inputs: Any) -> Tensor:
        """Predictive mean [n, D] in target units."""
        return self.mixture(self.network(*inputs))[0].to(self.target_mean.dtype)

    def _targets(self, targets: Tensor) -> Tensor:
        """Targets as [n, D]."""
        shaped = targets.unsqueeze(1) if targets.ndim == 1 else targets
        if shaped.ndim != 2 or shaped.shape[1] != self.outputs:
            raise ValueError(f"targets must be [n, {self.outputs}], got {list(targets.shape)}")
        return shaped

    def _errors(self, raw: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Mean, squared error and log-variance [n, ..., D] in standardised units."""
        mean, log_variance = self._standardised(raw)
        off = self._targets(targets) - self.target_mean - self.target_rest
        goal = (off / self.target_std).to(mean.dtype)
        several = self.reading.members
        if mean.ndim != (3 if several else 2):
            raise ValueError(
                f"outputs must be {'[n, S, D]' if several else '[n, D]'}, got {list(raw.shape)}; a "
                "network of several members says so by `gives_members = True`"
            )
        squared = (mean - (goal.unsqueeze(1) if several else goal)).square()
        return mean, squared, log_variance

    def item_losses(self, raw: Tensor, targets: Tensor) -> Tensor:
        """Loss of each item [n], averaged over members and outputs."""
        _, squared, log_variance = self._errors(raw, targets)
        if log_variance is not None:
            squared = 0.5 * (log_variance + squared * (-log_variance).exp())
        return squared.flatten(1).mean(1)

    def loss(self, raw: Tensor, targets: Tensor) -> Tensor:
        """Mean over items and outputs, sum over members."""
        mean, squared, log_variance = self._errors(raw, targets)
        if log_variance is None:
            each = squared.detach().mean(1) if self.reading.members else squared.detach()
            self._residuals[0] = self._residuals[0] + each.sum(0)
            self._residuals[1] += len(each)
            return squared.mean() * self._count(mean)
        nll = 0.5 * (log_variance + squared * (-log_variance).exp())
        return nll.mean() * self._count(mean)

    def _count(self, mean: Tensor) -> int:
        """How many members there are."""
        return mean.shape[1] if self.reading.members else 1

    def measure(self, metrics: Sequence[Metric], raw: Tensor, targets: Tensor) -> None:
        """Feed one batch, in target units."""
        mean, variance = self.mixture(raw)
        goal = self._targets(targets).to(mean.dtype)
        for metric in metrics:
            metric.update(mean, variance, goal)

    def predict_step(self, batch: Any, batch_idx: int) -> dict[str, Tensor]:
        """``mean`` and ``variance`` [n, D] of a batch as in testing, or of a bare tensor."""
        inputs = batch if isinstance(batch, Tensor) else self.split(batch)[0]
        pair = self.mixture(self.raw(inputs))
        mean, variance = (part.to(self.target_mean.dtype) for part in pair)
        return {"mean": mean, "variance": variance}

    def on_fit_start(self) -> None:
        """Take mean and standard deviation of the labelled targets."""
        targets = self.labelled_targets()
        if targets is None or not self.standardize_targets or len(targets) == 0:
            return
        mean, std, _ = standardised(self._targets(targets).cpu())
        self.target_mean.copy_(mean)
        self.target_rest.copy_(mean - self.target_mean.cpu().double())
        self.target_std.copy_(std)

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *rest: Any) -> None:
        state_dict.setdefault(f"{prefix}target_rest", torch.zeros_like(self.target_rest))
        super()._load_from_state_dict(state_dict, prefix, *rest)

    def on_train_epoch_start(self) -> None:
        """Forget the residuals of the epoch before."""
        super().on_train_epoch_start()
        self._residuals = [0.0, 0]

    def _take_noise(self) -> None:
        if self.likelihood != "mse" or self.trainer.sanity_checking:
            return
        total, count = self._residuals
        sums = torch.zeros(self.outputs + 1, device=self.device)
        sums[:-1], sums[-1] = total, count
        sums = self.trainer.strategy.reduce(sums, reduce_op="sum")
        if sums[-1] > 0:
            self.noise.copy_((sums[:-1] / sums[-1]).clamp_min(1e-12))

    def on_validation_start(self) -> None:
        """Noise of the epoch so far: in a fit, validation comes before the end of the epoch."""
        if self.trainer.state.fn == TrainerFn.FITTING:
            self._take_noise()

    def on_train_epoch_end(self) -> None:
        """Noise of the epoch."""
        super().on_train_epoch_end()
        self._take_noise()
