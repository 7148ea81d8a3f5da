"""What all tasks share: a network, an optimiser, metrics, and the shape of a batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, cast

import torch
from pytorch_lightning import LightningModule
from torch import Tensor, nn
from torchmetrics import Metric

from lightning_al.networks import build, embedding_layer, spec_of
from lightning_al.readings import Reading
from lightning_al.records import (
    LABEL_KEYS,
    label_place,
    labelled_attribute,
    named_label,
    with_attribute,
    without_label,
)
from lightning_al.registry import Registry
from lightning_al.values import number

from .adapter import Adapter, call, listening
from .loss_head import LossHead, LossPredictor, ranking_loss
from .metric_feeding import MetricFamily
from .metric_specs import ChosenMetrics, MetricSpec

__all__ = ["OPTIMIZERS", "OptimizerName", "Task", "network_adapter"]

OptimizerName = Literal["adam", "adamw", "nadam", "sgd"]
OPTIMIZERS: Registry[torch.optim.Optimizer] = Registry("optimizer")
OPTIMIZERS.register("adam")(torch.optim.Adam)
OPTIMIZERS.register("adamw")(torch.optim.AdamW)


@OPTIMIZERS.register("nadam")
def _nadam(params: Any, fused: bool = False, **kwargs: Any) -> torch.optim.NAdam:
    return torch.optim.NAdam(params, **kwargs)  # which has no fused kernel


@OPTIMIZERS.register("sgd")
def _sgd(params: Any, **kwargs: Any) -> torch.optim.SGD:
    return torch.optim.SGD(params, momentum=0.9, **kwargs)


def network_adapter(task: Any, reading: Reading, output: str = "network", **more: Any) -> Adapter:
    """How a task is read whose outputs are those of its ``network``.

    Args:
        task: with a ``network``.
        reading: what the outputs are.
        output: where they are.
        more: passed to the adapter.
    """
    place = embedding_layer(task.network)
    names = (place,) if isinstance(place, str) else place
    embedding = None if names is None else tuple(f"network.{name}" for name in names)
    return Adapter(output=output, embedding=embedding, reading=reading, **more)


class Task(LightningModule):
    """A network to be fitted to the labelled set.

    A batch is ``(inputs, targets)``, ``(a, b, ..., targets)`` (the network is called with several
    arguments), or a mapping with the targets under "label", "labels", "target", "targets" or "y"
    or the datamodule's ``label`` (the network is called with the rest of the mapping).

    Hyper-parameters are plain values: the network is kept as its ``spec``, so that
    ``load_from_checkpoint(path)`` rebuilds it. A network without a spec is left out and given
    again: ``load_from_checkpoint(path, network=...)``.

    Args:
        network: module, or spec ``{"class_path": ..., "init_args": {...}}``.
        optimizer: "adam", "adamw", "nadam" or "sgd" (with momentum 0.9).
        lr: learning rate.
        weight_decay: of the optimiser.
        metrics: those to log on validation and test data, see
            :meth:`~lightning_al.tasks.metric_specs.ChosenMetrics.of`; None for all with a name.
        known: the family of metrics of the task's predictions.
        settings: further hyper-parameters, plain values.
        metric_arguments: sizes of the predictions, for the metrics.
        loss_head: a head that learns to rank items by their loss, trained beside the task.
    """

    full_batch = False
    uses_unlabelled = False
    done_apart: Sequence[str] = ("measure",)  # of many fits done as one, for each after the step

    def __init__(
        self,
        network: nn.Module | dict[str, Any],
        *,
        optimizer: str,
        lr: float,
        weight_decay: float,
        metrics: Sequence[MetricSpec] | None,
        known: MetricFamily,
        settings: Mapping[str, Any],
        metric_arguments: Mapping[str, int],
        loss_head: LossHead | Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.network = build(network)
        OPTIMIZERS.factory(optimizer)
        lr, weight_decay = number(0)("lr", lr), number(0)("weight_decay", weight_decay)
        self.optimizer, self.lr, self.weight_decay = optimizer, lr, weight_decay
        self._build_metrics = ChosenMetrics.of(known, metrics, metric_arguments)
        self.metrics = nn.ModuleDict()  # by stage, each built when it is first wanted
        spec = spec_of(self.network)
        plain = {
            **({} if spec is None else {"network": spec}),
            "optimizer": optimizer,
            "lr": lr,
            "weight_decay": weight_decay,
            "metrics": self._build_metrics.plain,
            **settings,
        }
        self.loss_head: LossPredictor | None = None
        if loss_head is not None:
            self.loss_head = LossPredictor(LossHead.of(loss_head), self.network)
            plain["loss_head"] = self.loss_head.settings.plain()
        self.save_hyperparameters(plain)
        self._losses: list[Any] = [torch.zeros(()), 0]  # sum over items, items

    @property
    def adapter(self) -> Adapter:
        """How a posterior reads this task."""
        raise NotImplementedError

    def loss(self, raw: Tensor, targets: Tensor) -> Tensor:
        """Training loss of raw outputs [n, ...], a scalar."""
        raise NotImplementedError

    def item_losses(self, raw: Tensor, targets: Tensor) -> Tensor:
        """Loss of each item [n], of raw outputs [n, ...]; what a loss head learns to rank."""
        raise NotImplementedError

    def measure(self, metrics: Sequence[Metric], raw: Tensor, targets: Tensor) -> None:
        """Feed one batch to the metrics."""
        raise NotImplementedError

    def labelled_targets(self) -> Tensor | None:
        """Targets of the labelled set [L, ...] from the datamodule; None where it offers none."""
        datamodule = getattr(self._trainer, "datamodule", None)
        offer = getattr(datamodule, "labelled_targets", None)
        return None if offer is None else cast(Tensor, offer())

    def split(self, batch: Any) -> tuple[Any, Tensor]:
        """Inputs and targets of a batch.

        Raises:
            ValueError: a batch without targets.
        """
        label = getattr(getattr(self._trainer, "datamodule", None), "label", None)
        if isinstance(batch, Mapping):
            key = named_label(batch, label)
            if key is None:
                raise ValueError(f"none of {', '.join(LABEL_KEYS)} in a batch with {sorted(batch)}")
            return {name: value for name, value in batch.items() if name != key}, batch[key]
        if isinstance(batch, (tuple, list)) and len(batch) > 1:
            place = label_place(len(batch), label if isinstance(label, int) else -1, "a batch")
            return without_label(batch, place), batch[place]
        if (name := labelled_attribute(batch, label)) is not None:
            return with_attribute(batch, name, None), getattr(batch, name)
        raise ValueError(
            f"a batch must be (inputs, targets), got {type(batch).__name__}; "
            "items without labels cannot be trained or tested on"
        )

    def raw(self, inputs: Any) -> Tensor:
        """The network's outputs [n, ...]."""
        return cast(Tensor, call(self.network, inputs))

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Loss of one batch."""
        inputs, targets = self.split(batch)
        if self.loss_head is None:
            loss = self.loss(self.raw(inputs), targets)
        else:
            raw, features = self._with_features(inputs, self.loss_head)
            loss = self.loss(raw, targets) + self._rank(raw, features, targets, self.loss_head)
        # self.log() in each step would cost half as much as the step
        self._losses[0].add_(loss.detach(), alpha=len(targets))
        self._losses[1] += len(targets)
        return loss

    def predicted_losses(self, *inputs: Any) -> Tensor:
        """Losses [n] that the loss head predicts for a batch of inputs; their order counts.

        Raises:
            LookupError: the task has no loss head.
        """
        if self.loss_head is None:
            name = type(self).__name__
            raise LookupError(f"this {name} has no loss head; build it with loss_head=LossHead()")
        given = inputs[0] if len(inputs) == 1 else inputs
        return self.loss_head(self._with_features(given, self.loss_head)[1])  # type: ignore[no-any-return]

    def _with_features(self, inputs: Any, head: LossPredictor) -> tuple[Tensor, list[Tensor]]:
        """Raw outputs [n, ...] and what the head reads, from one pass."""
        layers = [
            (name, self.network.get_submodule(name.removesuffix(":input"))) for name in head.names
        ]
        with listening(layers) as heard:
            raw = self.raw(inputs)
        return raw, [heard[name] for name in head.names]

    def _rank(
        self, raw: Tensor, features: list[Tensor], targets: Tensor, head: LossPredictor
    ) -> Tensor:
        """The weighted ranking loss of one batch."""
        settings = head.settings
        if settings.stopped(self.current_epoch, self._share()):
            features = [f.detach() for f in features]
        losses = self.item_losses(raw.detach(), targets)
        return settings.weight * ranking_loss(head(features), losses, settings.margin)

    def _share(self) -> float:
        """The share of the fit that is over, by its steps; 0 where nobody knows its end."""
        trainer: Any = self._trainer
        if trainer is None:
            return 0.0
        done, shares = trainer.global_step, [0.0]
        if trainer.max_steps > 0:
            shares.append(done / trainer.max_steps)
        if (trainer.max_epochs or 0) > 0:
            epoch = trainer.num_training_batches / trainer.accumulate_grad_batches
            shares.append(done / (trainer.max_epochs * max(epoch, 1)))
        return max(shares)

    def on_train_epoch_start(self) -> None:
        """Forget the losses of the epoch before."""
        self._losses = [torch.zeros((), device=self.device), 0]

    def on_train_epoch_end(self) -> None:
        """Log the mean loss over the epoch's items, all ranks together."""
        total, count = self._losses
        if count and self._heard():
            self.log("train/loss", total / count, batch_size=count, sync_dist=True)

    def _heard(self) -> bool:
        """Whether anybody looks at this epoch's loss; `log` costs as much as a small epoch."""
        trainer: Any = self.trainer
        last = (
            trainer.should_stop
            or trainer.current_epoch + 1 == trainer.max_epochs
            or trainer.global_step == trainer.max_steps
        )
        silent = all(getattr(c, "counts_batches", False) for c in trainer.callbacks)
        return bool(last or not silent or trainer.loggers or trainer.lr_scheduler_configs)

    def _evaluate(self, stage: str, batch: Any) -> None:
        inputs, targets = self.split(batch)
        self.measure(list(self._metrics(stage).values()), self.raw(inputs), targets)

    def _metrics(self, stage: str) -> dict[str, Metric]:
        if stage not in self.metrics:  # a fit that validates nothing is spared ten modules
            with torch.inference_mode(False):
                self.metrics[stage] = self._build_metrics().to(self.device)
        return cast("dict[str, Metric]", dict(cast(nn.ModuleDict, self.metrics[stage]).items()))

    @property
    def val_metrics(self) -> dict[str, Metric]:
        """The metrics of validation, by name."""
        return self._metrics("val")

    @property
    def test_metrics(self) -> dict[str, Metric]:
        """The metrics of the test, by name."""
        return self._metrics("test")

    def _report(self, stage: str) -> None:
        # at the end of the epoch, on every rank: a rank without batches must not miss the sync
        for name, metric in self._metrics(stage).items():
            place = f"metrics.{stage}.{name}"
            self.log(
                f"{stage}/{name}", metric, on_step=False, on_epoch=True, metric_attribute=place
            )

    def on_validation_epoch_start(self) -> None:
        """Have the metrics at hand before the first batch."""
        self._metrics("val")

    def on_test_epoch_start(self) -> None:
        """Have the metrics at hand before the first batch."""
        self._metrics("test")

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Feed the validation metrics."""
        self._evaluate("val", batch)

    def test_step(self, batch: Any, batch_idx: int) -> None:
        """Feed the test metrics."""
        self._evaluate("test", batch)

    def on_validation_epoch_end(self) -> None:
        """Log the validation metrics."""
        self._report("val")

    def on_test_epoch_end(self) -> None:
        """Log the test metrics."""
        self._report("test")

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """The optimiser named, over all parameters; one fused kernel where they lie on the CPU."""
        on_cpu = all(p.device.type == "cpu" for p in self.parameters())
        return OPTIMIZERS.build(
            self.optimizer,
            params=self.parameters(),
            lr=self.lr,
            weight_decay=self.weight_decay,
            **({"fused": True} if on_cpu else {}),
        )
