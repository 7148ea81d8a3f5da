"""One pass over the pool: score each batch, keep only what must survive."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.utilities import move_data_to_device
from torch import Tensor

from lightning_al.posteriors import Deterministic
from lightning_al.records import Context, Learner, Pool, Predictions
from lightning_al.tasks import Adapter

from .store import Store
from .world import ALONE, World

if TYPE_CHECKING:
    from lightning_al.protocols import QueryStrategy

__all__ = ["Scorer"]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Scorer:
    """A trained task and everything needed to run it over items, the same on every rank."""

    task: LightningModule
    datamodule: Any
    adapter: Adapter
    posterior: Any = None
    seed: int = 0
    round: int = 0
    world: World = ALONE
    trainer: Trainer | None = None  # for its device and precision
    memory_budget: int = 2**30  # bytes of kept fields in memory
    folder: Path | None = None

    def pool(self, strategy: QueryStrategy) -> Pool | None:
        """Score all candidates over all ranks; the pool on rank 0, None elsewhere.

        Raises:
            ValueError: scores that are NaN, or a posterior that the strategy cannot use.
        """
        index = self.datamodule.pool
        mine = index[self.world.rank :: self.world.size]
        scores, kept = self.world.together(lambda: self._pass(strategy, mine, self.world))
        every_score, every_kept = self.world.gather(scores), self.world.gather(kept)
        if every_score is None or every_kept is None:
            return None
        scores = _interleave(every_score, len(index))
        kept = _interleave_kept(every_kept, index)
        if scores is not None:
            _refuse_nan(scores, index)
        return self._as_pool(strategy, index, scores, kept)

    def _as_pool(
        self, strategy: QueryStrategy, index: Tensor, scores: Tensor | None, kept: Any
    ) -> Pool:
        return Pool(
            index=index,
            scores=scores,
            kept=kept,
            context=self.context(),
            predict_rows=lambda rows, needs: self.predict(index[rows], needs, strategy.members),
            joint_rows=lambda rows: self._joint(index[rows]),
            labelled_pool=lambda: self._labelled(strategy),
            make_learner=self._learner,
        )

    def _labelled(self, strategy: QueryStrategy) -> Pool:
        index = self.datamodule.labelled
        scores, kept = self._pass(strategy, index, ALONE)
        return self._as_pool(strategy, index, scores, kept)

    def context(self) -> Context:
        """What scores may know of the round."""
        labelled = self.datamodule.labelled
        return Context(
            round=self.round,
            n_labelled=len(labelled),
            n_pool=len(self.datamodule.pool),
            classes=getattr(self.task, "classes", None) or self.datamodule.classes,
            targets=self.datamodule.labelled_targets() if len(labelled) else None,
        )

    def predict(
        self, index: Tensor, needs: Collection[str], members: str = "many"
    ) -> Predictions:
        """Predictions for the items ``index`` [K], on this rank alone."""
        if not len(index):
            raise ValueError("no items to predict: the list of positions is empty")
        with self._ready():
            session = self._posterior(members).start(self.seed, self.round)
            return Predictions.cat(p.cpu() for p in self._batches(session, index, needs))

    def _posterior(self, members: str) -> Any:
        if self.posterior is None or members == "one":
            return Deterministic()
        return self.posterior

    def _pass(
        self, strategy: QueryStrategy, index: Tensor, world: World
    ) -> tuple[Tensor | None, Predictions | None]:
        """Scores and kept fields of some items, in their order."""
        needs, keeps = frozenset(strategy.needs), frozenset(strategy.keeps)
        if not needs:
            return None, None
        posterior = self._posterior(strategy.members)
        session = posterior.start(self.seed, self.round)
        with self._ready():
            result = self._score(strategy, session, index, needs, keeps)
            if session.shapes_vary(*world.all_gather(session.shapes())):
                log.info("items differ in shape: dropout masks are drawn per channel")
                session = session.per_channel()
                result = self._score(strategy, session, index, needs, keeps)
        return result

    def _score(
        self,
        strategy: Any,
        session: Any,
        index: Tensor,
        needs: Collection[str],
        keeps: Collection[str],
    ) -> tuple[Tensor | None, Predictions | None]:
        scored = hasattr(strategy, "score")
        context = self.context()
        scores: Tensor | None = None
        store = Store(len(index), self.memory_budget, self.folder)
        at = 0
        for batch in self._batches(session, index, needs):
            if scored:
                part = strategy.score(batch, context)
                if part.shape[:1] != (len(batch),):
                    raise ValueError(
                        f"{type(strategy).__name__}.score must give one score per item, "
                        f"[{len(batch)}] or [{len(batch)}, m], got {list(part.shape)}"
                    )
                if scores is None:
                    scores = torch.empty((len(index), *part.shape[1:]), dtype=torch.float32)
                scores[at : at + len(batch)] = part
            if keeps:
                store.add(batch.keep(keeps))
            at += len(batch)
        return scores, store.result(index) if keeps and len(index) else None

    def _batches(
        self, session: Any, index: Tensor, needs: Collection[str]
    ) -> Iterator[Predictions]:
        device = self._device()
        for rows, inputs in self.datamodule.bare_batches(index):
            inputs = move_data_to_device(inputs, device)
            yield session.predict(self.task, self.adapter, rows, inputs, needs)

    def _device(self) -> torch.device:
        return self.task.device if self.trainer is None else self.trainer.strategy.root_device

    @contextmanager
    def _ready(self) -> Iterator[None]:
        """The task on its device, in eval mode, without gradients; put back after."""
        was_training, home = self.task.training, self.task.device
        precision = nullcontext() if self.trainer is None else _forward(self.trainer)
        self.task.to(self._device()).eval()
        try:
            with torch.no_grad(), precision:
                yield
        finally:
            self.task.train(was_training).to(home)

    def _joint(self, index: Tensor) -> Any:
        joint = getattr(self.task, "joint", None)
        if joint is None:
            raise LookupError(
                f"{type(self.task).__name__} has no joint(inputs) -> MultivariateNormal; "
                "a task with a joint posterior (a Gaussian process) is needed here"
            )
        parts = [move_data_to_device(x, self._device()) for _, x in
                 self.datamodule.bare_batches(index, len(index))]
        with self._ready():
            return joint(parts[0])

    def _learner(self) -> Learner:
        module = self.datamodule

        def fit(task: LightningModule, loader: Iterable[Any], **arguments: Any) -> LightningModule:
            quiet: dict[str, Any] = {
                "logger": False,
                "enable_checkpointing": False,
                "enable_progress_bar": False,
                "enable_model_summary": False,
                "devices": 1,
                "accelerator": self._device().type,
            }
            Trainer(**(quiet | arguments)).fit(task, loader)
            return task

        return Learner(
            task=self.task,
            fit=fit,
            labelled_loader=module.labelled_loader,
            unlabelled_loader=module.predict_dataloader,
        )


def _forward(trainer: Trainer) -> Any:
    return trainer.precision_plugin.forward_context()


def _interleave(shards: list[Any], n: int) -> Tensor | None:
    """Put rank r's scores back at positions r, r + world, …"""
    if len(shards) == 1 or all(s is None for s in shards):
        return shards[0]  # type: ignore[no-any-return]
    some = next(s for s in shards if s is not None)
    whole = torch.empty((n, *some.shape[1:]), dtype=some.dtype)
    for rank, shard in enumerate(shards):
        if shard is not None:
            whole[rank :: len(shards)] = shard
    return whole


def _interleave_kept(shards: list[Predictions | None], index: Tensor) -> Predictions | None:
    if len(shards) == 1:
        return shards[0]
    some = next((s for s in shards if s is not None), None)
    if some is None:
        return None
    fields: dict[str, Any] = {}
    for name in some.tensors():
        parts = [None if s is None else s.tensors()[name] for s in shards]
        fields[name] = _interleave(parts, len(index))
    extras = {name: fields.pop(name) for name in some.extras}
    return Predictions(**{**fields, "index": index}, extras=extras)


def _refuse_nan(scores: Tensor, index: Tensor) -> None:
    bad = scores.isnan()
    if bool(bad.any()):
        rows = bad.reshape(len(scores), -1).any(1).nonzero().flatten()
        raise ValueError(
            f"{len(rows)} of {len(scores)} scores are NaN, first: item(s) "
            f"{index[rows[:5]].tolist()}; the inputs or the network's outputs are not finite "
            "(look for NaN features, or a fit that diverged: lower the learning rate)"
        )
