"""A made-up data set under a made-up model, as a strategy's ``choose`` meets it in a run."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from pytorch_lightning import LightningModule
from torch import Tensor, nn

from lightning_al.fits.workbench import adapter_for
from lightning_al.randomness import seeded
from lightning_al.records import Context, Learner, Pool, Predictions
from lightning_al.tasks import Adapter, find_head

__all__ = ["CANDIDATES", "GIVEN", "World"]

ITEMS, CANDIDATES, LABELLED = 60, 17, 6
UNEVEN = (1, 7, 5, 4)
CLASSES, FEATURES = 3, 5
STEPS = 20  # of a fit, at most
GIVEN = {
    "classification": ("probs", "logits", "embedding"),
    "either": ("probs", "logits", "embedding"),
    "regression": ("mean", "variance", "embedding"),
    "safe": ("mean", "variance", "embedding"),
}
"""Kinds of worlds, and the fields that their models give.

"safe" is a regression of y and z; what is for either kind of task is tried on classes.
"""


@dataclass(frozen=True)
class World:
    """A made-up data set under a made-up model: the predictions of all its items.

    In the worlds of :meth:`make`, each member's logits (mean, log-variance) are linear in the
    embedding, so that the :meth:`learner` is a model that predicts just this. The inputs of the
    items are their embeddings.

    >>> len(World.make("regression", samples=4).pool(None))
    17
    """

    predictions: Predictions  # [ITEMS], index = arange
    index: Tensor  # [N] the candidates, in no order
    labelled: Tensor  # [L]
    context: Context

    @classmethod
    def make(cls, kind: str, samples: int, seed: int = 0) -> World:
        """A world of one kind, seen by some members.

        Kinds are "classification" (or "either"), "regression", and "safe": a regression with two
        outputs, the second of which is a safety measurement, safe where it is >= 0.
        """
        generator = torch.Generator().manual_seed(seed)

        embedding = torch.randn(ITEMS, FEATURES, generator=generator)

        def draw(outputs: int) -> Tensor:
            weight = torch.randn(samples, outputs, FEATURES, generator=generator) / FEATURES**0.5
            bias = 0.3 * torch.randn(samples, outputs, generator=generator)
            return torch.einsum("ne,soe->nso", embedding, weight) + bias

        logits = 2 * draw(CLASSES)
        targets = torch.arange(LABELLED) % CLASSES
        outputs = 2 if kind == "safe" else 1
        every: dict[str, Any] = {
            "probs": logits.softmax(-1),
            "logits": logits,
            "mean": draw(outputs),
            "variance": draw(outputs).exp(),
            "embedding": embedding,
        }
        order = (
            torch.randperm(ITEMS - 20, generator=generator) + 20
        )  # no row of the pool is a member
        regression = kind in ("regression", "safe")
        if regression:
            targets = torch.stack([targets.float() + d for d in range(outputs)], 1)
        return cls(
            predictions=Predictions(torch.arange(ITEMS), **{n: every[n] for n in GIVEN[kind]}),
            index=order[:CANDIDATES],
            labelled=torch.randperm(20, generator=generator)[:LABELLED],
            context=Context(
                round=2,
                n_labelled=LABELLED,
                n_pool=CANDIDATES,
                classes=None if regression else CLASSES,
                targets=targets,
                remaining=CANDIDATES,
            ),
        )

    def changed(self, change: Callable[[Tensor], Tensor]) -> World:
        """The same items under changed predictions (each field [ITEMS, ...])."""
        values: dict[str, Any] = {
            name: change(value.clone())
            for name, value in self.predictions.tensors().items()
            if name != "index"
        }
        return replace(self, predictions=Predictions(self.predictions.index, **values))

    def see(self, index: Tensor, names: Collection[str]) -> Predictions:
        """What the model says of some items [n]."""
        return self.predictions.rows(index).keep(names)

    def pool(
        self, strategy: Any, index: Tensor | None = None, sizes: Sequence[int] = UNEVEN
    ) -> Pool:
        """The candidates [N] as a run would hand them to ``choose``, scored in batches."""
        index = self.index if index is None else index
        needs, keeps = getattr(strategy, "needs", ()), getattr(strategy, "keeps", ())
        scores = None
        if needs and hasattr(strategy, "score"):
            parts = [self.see(part, needs) for part in _batches(index, sizes)]
            scores = torch.cat([strategy.score(part, self.context) for part in parts])

        def joint(rows: Tensor) -> torch.distributions.MultivariateNormal:
            features = self.see(index[rows], ["embedding"]).tensors()["embedding"].double()
            covariance = features @ features.T + torch.eye(len(rows), dtype=torch.float64)
            return torch.distributions.MultivariateNormal(features[:, 0], covariance)

        def labelled() -> Pool:
            kept = self.see(self.labelled, keeps) if keeps else None
            return Pool(
                index=self.labelled.clone(),
                kept=kept,
                context=self.context,
                make_learner=lambda: self.learner(self.labelled),
            )

        return Pool(
            index=index.clone(),
            scores=scores,
            kept=self.see(index, keeps) if keeps else None,
            context=self.context,
            predict_rows=lambda rows, names: self.see(index[rows], names),
            joint_rows=joint,
            labelled_pool=labelled,
            make_learner=lambda: self.learner(index),
        )

    def learner(self, index: Tensor | None = None) -> Learner:
        """A model that predicts this world, for the candidates ``index`` [N].

        Where the predictions are not linear in the embedding, it is the linear model that comes
        nearest. ``fit`` is a plain loop over ``training_step`` with the one optimiser of
        ``configure_optimizers``, for ``max_epochs`` but no more than 20 steps; other arguments of
        a Trainer are ignored.
        """
        index = self.index if index is None else index
        inputs = self.predictions.tensors()["embedding"].float()
        task = _Model.of(self)
        count = itertools.count()

        def fit(module: Any, loader: Any, max_epochs: int = 1, **_: Any) -> Any:
            with seeded(0, self.context.round, f"learner-{next(count)}"), torch.enable_grad():
                return _loop(module, itertools.chain.from_iterable([loader] * max_epochs))

        def predict(module: Any, items: Tensor, needs: Collection[str]) -> Predictions:
            adapter = adapter_for(module, task, task.adapter)
            modes = {part: part.training for part in module.modules()}
            module.eval()
            with torch.no_grad():
                raw, embedding = adapter.run(module, inputs[items], "embedding" in needs)
            for part, training in modes.items():
                part.training = training
            fields: dict[str, Any] = dict(adapter.fields(raw, needs))
            return Predictions(items, embedding=embedding, **fields)

        def of(rows: Tensor | None) -> Tensor:
            return index if rows is None else index[rows]

        targets = self.context.targets
        known = inputs[self.labelled]
        return Learner(
            task=task,
            fit=fit,
            labelled_loader=lambda: (
                [] if targets is None else list(zip(known.split(4), targets.split(4), strict=True))
            ),
            unlabelled_loader=lambda rows=None: list(inputs[of(rows)].split(7)),
            predict=lambda module, needs, rows=None: predict(module, of(rows), needs),
            predict_labelled=lambda module, needs: predict(module, self.labelled, needs),
            make_head=lambda: find_head(task, task.adapter, inputs),
        )


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
            axes="members",
            head="readout",
        )

    @classmethod
    def of(cls, world: World) -> _Model:
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

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Loss of a batch, the members' mean."""
        inputs, targets = batch
        raw = self(inputs)
        if self.regression:
            mean, log_variance = raw.chunk(2, dim=-1)
            squared = (mean - targets.reshape(len(raw), 1, -1)).square()
            return (log_variance + squared * (-log_variance).exp()).mean()
        return nn.functional.cross_entropy(
            raw.flatten(0, 1), targets.repeat_interleave(self.members, 0)
        )

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


def _batches(index: Tensor, sizes: Sequence[int]) -> Iterator[Tensor]:
    start = 0
    while start < len(index):
        for size in sizes:
            if start < len(index):
                yield index[start : start + size]
            start += size
