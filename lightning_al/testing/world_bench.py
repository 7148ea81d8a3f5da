"""The workbench of a made-up data set: its model, and fits of a plain loop."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch
from pytorch_lightning import LightningModule
from torch import Tensor, nn

from lightning_al.fits.workbench import adapter_for
from lightning_al.randomness import generator, seeded
from lightning_al.records import Pool, Predictions
from lightning_al.tasks import Adapter, find_head

__all__ = ["WorldBench"]

STEPS = 20  # of a fit, at most
BATCH = 4


@dataclass(frozen=True)
class WorldBench:
    """What a strategy may use of a :class:`.World`; see :class:`lightning_al.protocols.Workbench`.

    The task is a linear model that predicts the world; where its predictions are not linear in the
    embedding, the one that comes nearest. A fit is a plain loop over ``training_step`` with the one
    optimiser of ``configure_optimizers``, for ``max_epochs`` but no more than 20 steps; other
    arguments of a Trainer are ignored. All items that are neither labelled nor candidates are the
    validation set, and the model's word is their label.
    """

    world: Any  # a World
    strategy: Any
    count: Iterator[int] = field(default_factory=itertools.count, repr=False, compare=False)

    @cached_property
    def task(self) -> Any:
        """The linear model."""
        return _Model.of(self.world)

    @property
    def reading(self) -> Any:
        """What its outputs are."""
        return self.task.adapter.reading

    @property
    def labelled(self) -> Tensor:
        """Positions of the labelled items [L]."""
        return self.world.labelled.clone()

    @cached_property
    def head(self) -> Callable[[Tensor], Tensor]:
        """The model from its embedding on."""
        return find_head(self.task, self.task.adapter, self.world.inputs)

    # --- predictions and pools ---------------------------------------------------------------

    def predict(self, index: Tensor, needs: Collection[str], module: Any = None) -> Predictions:
        """Predictions of items [n]: the world's, or those of a module."""
        if module is None:
            return self.world.see(index, needs)
        adapter = adapter_for(module, self.task, self.task.adapter)
        modes = {part: part.training for part in module.modules()}
        module.eval()
        hidden = [name for name in needs if name in ("embedding", "head_input")]
        with torch.no_grad():
            raw, embedding = adapter.run(module, self.world.inputs[index], bool(hidden))
        for part, training in modes.items():
            part.training = training
        wanted = [name for name in needs if name not in hidden]
        fields: dict[str, Any] = dict.fromkeys(hidden, embedding)
        if wanted:
            fields |= adapter.reading.fields(adapter.sampled(raw), wanted)
        return Predictions(index, **fields)

    def predict_inputs(self, batches: Iterable[Any], needs: Collection[str]) -> Predictions:
        """Predictions of other inputs, embeddings in this world: those of the linear model."""
        inputs = torch.cat(list(batches)).float()
        with torch.no_grad():
            raw, embedding = self.task.adapter.run(self.task, inputs, True)
        wanted = [name for name in needs if name not in ("embedding", "head_input")]
        fields: dict[str, Any] = {name: embedding for name in needs if name not in wanted}
        if wanted:
            fields |= self.reading.fields(self.task.adapter.sampled(raw), wanted)
        return Predictions(torch.arange(len(inputs)), **fields)

    def joint(self, index: Tensor) -> torch.distributions.MultivariateNormal:
        """A joint distribution over items [K]: that of a linear kernel."""
        features = self.world.inputs[index].double()
        covariance = features @ features.T + torch.eye(len(index), dtype=torch.float64)
        return torch.distributions.MultivariateNormal(features[:, 0], covariance)

    def labelled_pool(self) -> Pool:
        """The labelled set as a pool."""
        return replace(self.world.pool(self.strategy, self.labelled), bench=self)

    def pool_of(
        self, index: Tensor, *, labelled: Tensor | None = None, strategy: Any = None
    ) -> Pool:
        """Some items as a pool; ``labelled`` are the labelled items of it."""
        if labelled is None:
            labelled = self.labelled[~torch.isin(self.labelled, index)]
        targets = self.world.context.targets
        context = replace(
            self.world.context,
            n_labelled=len(labelled),
            n_pool=len(index),
            targets=None if targets is None else self._targets(labelled),
        )
        world = replace(self.world, index=index, labelled=labelled, context=context)
        return world.pool(self.strategy if strategy is None else strategy)

    # --- data and fits -----------------------------------------------------------------------

    def inputs(self, index: Tensor) -> Iterable[Any]:
        """Batches of inputs."""
        return list(self.world.inputs[index].split(7))

    def loader(self, index: Tensor | None = None, weights: Tensor | None = None) -> Any:
        """Batches (inputs, targets) of labelled items."""
        index = self.labelled if index is None else index
        if self.world.context.targets is None:
            return []
        if weights is not None:
            drawn = generator(0, self.world.context.round, f"loader-{next(self.count)}")
            index = index[torch.multinomial(weights.double(), len(index), True, generator=drawn)]
        pairs = zip(
            self.world.inputs[index].split(BATCH), self._targets(index).split(BATCH), strict=True
        )
        return list(pairs)

    def _targets(self, index: Tensor) -> Tensor:
        """Labels of labelled items.

        Raises:
            ValueError: one that is not labelled.
        """
        targets = self.world.context.targets
        rows = (index[:, None] == self.world.labelled[None]).byte()
        if targets is None or not bool(rows.any(1).all()):
            raise ValueError("labels of items that are not labelled are out of reach")
        return targets[rows.argmax(1)]

    def fresh(self) -> Any:
        """The model before any fit."""
        with seeded(0, self.world.context.round, "fresh"):
            model = copy.deepcopy(self.task)
            for layer in (model.first, model.last):
                layer.reset_parameters()
        return model

    def fit(self, module: Any, loader: Any, max_epochs: int = 1, **_: Any) -> Any:
        """A few steps of the module's optimiser."""
        batches = itertools.chain.from_iterable([loader] * max_epochs)
        with (
            seeded(0, self.world.context.round, f"learner-{next(self.count)}"),
            torch.enable_grad(),
        ):
            return _loop(module, batches)

    def refit(
        self,
        index: Tensor | None = None,
        weights: Tensor | None = None,
        *,
        answers: Tensor | None = None,
        ahead: int = 0,
    ) -> Any:
        """The model fitted anew on some labelled items."""
        if answers is not None and not getattr(self.strategy, "privileged", False):
            raise ValueError("labels of the pool are open to privileged strategies alone")
        return self.fit(self.fresh(), self.loader(index, weights), max_epochs=STEPS)

    def refits(
        self, multisets: Sequence[tuple[Tensor | None, Tensor | None]], **more: Any
    ) -> list[Any]:
        """Several of them."""
        return [self.refit(index, weights, **more) for index, weights in multisets]

    @property
    def _rest(self) -> tuple[Tensor, Tensor]:
        """The validation set: positions, and the world's own word for them."""
        taken = torch.cat([self.world.labelled, self.world.index])
        index = torch.arange(len(self.world.predictions))
        index = index[~torch.isin(index, taken)]
        seen = self.world.see(index, self.reading.gives & set(self.world.predictions.tensors()))
        if seen.probs is not None:
            return index, seen.probs.mean(1).argmax(1)
        assert seen.mean is not None  # a regression
        return index, seen.mean.mean(1)

    def metrics(self, module: Any, on: str = "val") -> dict[str, float]:
        """The loss on the validation set."""
        return {f"{on}_loss": float(self.loss(module).mean())}

    def loss(self, module: Any = None, on: str | Tensor = "val") -> Tensor:
        """Loss of each item [n]."""
        module = self.task if module is None else module
        if isinstance(on, Tensor):
            index, targets = on, self._targets(on)
        else:
            index, targets = self._rest
        with torch.no_grad():
            losses: Tensor = module.item_losses(module(self.world.inputs[index]), targets)
        return losses


class _Model(LightningModule):
    """Two linear layers, the first of which leaves its inputs [n, E] alone; in float64.

    Equal items then get equal predictions, to the last bit of float32, wherever they stand.
    """

    def __init__(self, weight: Tensor, members: int, regression: bool) -> None:
        super().__init__()
        outputs, features = weight.shape[0], weight.shape[1] - 1
        self.first = nn.Linear(features, features, dtype=torch.float64)
        self.last = nn.Linear(features, outputs, dtype=torch.float64)
        with torch.no_grad():
            self.first.weight.copy_(torch.eye(features))
            self.first.bias.zero_()
            self.last.weight.copy_(weight[:, :-1])
            self.last.bias.copy_(weight[:, -1])
        self.members, self.regression = members, regression
        self.adapter = Adapter(
            embedding="first",
            kind="regression" if regression else "classification",
            output_is="gaussian" if regression else "logits",
            members=True,
            head="readout",
        )

    @classmethod
    def of(cls, world: Any) -> _Model:
        """The linear model nearest to what a world predicts."""
        seen = world.predictions.tensors()
        regression = world.context.classes is None
        goal = seen["mean" if regression else "logits"].double()
        if regression:
            spread = seen["variance"] if "variance" in seen else torch.ones_like(seen["mean"])
            goal = torch.cat([goal, spread.double().log()], dim=2)
        inputs = seen["embedding"].double()
        inputs = torch.cat([inputs, torch.ones_like(inputs[:, :1])], dim=1)
        fine = inputs.isfinite().all(1) & goal.flatten(1).isfinite().all(1)
        weight = torch.linalg.pinv(inputs[fine]) @ goal[fine].flatten(1)
        with seeded(0, 0, "model"):
            return cls(weight.T, goal.shape[1], regression)

    def readout(self, points: Tensor) -> Tensor:
        """Outputs [n, S, ...] of embeddings [n, E]."""
        return self.last(points).unflatten(1, (self.members, -1))  # type: ignore[no-any-return]

    def forward(self, inputs: Tensor) -> Tensor:
        """Outputs [n, S, ...] of inputs [n, E]."""
        return self.readout(self.first(inputs.double()))

    def item_losses(self, raw: Tensor, targets: Tensor) -> Tensor:
        """Loss of each item [n], the members' mean."""
        if self.regression:
            mean, log_variance = raw.chunk(2, dim=-1)
            squared = (mean - targets.reshape(len(raw), 1, -1)).square()
            return (log_variance + squared * (-log_variance).exp()).flatten(1).mean(1)
        own = targets.repeat_interleave(self.members, 0)
        losses = nn.functional.cross_entropy(raw.flatten(0, 1), own, reduction="none")
        return losses.reshape(len(raw), -1).mean(1)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Loss of a batch."""
        inputs, targets = batch
        return self.item_losses(self(inputs), targets).mean()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Plain descent."""
        return torch.optim.SGD(self.parameters(), lr=0.01)


def _loop(module: LightningModule, batches: Iterable[Any]) -> LightningModule:
    """What a Trainer does at the least: a few steps of one optimiser."""
    optimizer: Any = module.configure_optimizers()
    module.train()
    for i, batch in enumerate(itertools.islice(batches, STEPS)):
        optimizer.zero_grad()
        loss: Any = module.training_step(batch, i)
        loss.backward()
        optimizer.step()
    return module
