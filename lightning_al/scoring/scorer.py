"""One pass over the pool: score each batch, keep only what must survive."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.plugins.precision import DoublePrecision, HalfPrecision
from pytorch_lightning.utilities import move_data_to_device
from pytorch_lightning.utilities.model_helpers import is_overridden
from torch import Tensor, nn

from lightning_al.fits.workbench import Plain, adapter_for, build_learner
from lightning_al.posteriors import Deterministic
from lightning_al.ranks.ranks import ALONE, Ranks
from lightning_al.records import FIELDS, Context, Pool, Predictions
from lightning_al.tasks import Adapter, find_head

from .bank import Bank
from .store import Store, collect

if TYPE_CHECKING:
    from lightning_al.protocols import QueryStrategy

__all__ = ["Scorer"]

log = logging.getLogger(__name__)

SCORES = "the score"  # its name among the fields that are collected; no field has blanks
HEAD_ITEMS = 8  # in the batch on which a head is checked
MENDS = "pass MCDropout(members=20), or make the network an Ensemble"


@dataclass(frozen=True)
class Scorer:
    """A trained task and everything needed to run it over items, the same on every rank."""

    task: LightningModule
    datamodule: Any
    adapter: Adapter
    posterior: Any = None
    seed: int = 0
    round: int = 0
    ranks: Ranks = ALONE
    trainer: Trainer | None = None  # for its device and precision
    memory_budget: int = 2**30  # bytes of kept fields in memory
    folder: Path | None = None
    bank: Bank | None = None  # embeddings are its features, where there is one
    remaining: int | None = None  # queries that the budget leaves

    def pool(self, strategy: QueryStrategy) -> Pool | None:
        """Score all candidates over all ranks; the pool on rank 0, None elsewhere.

        Raises:
            ValueError: scores that are NaN, or a model that cannot serve the strategy; on all
                ranks alike.
        """
        ranks, index, context = self.ranks, self.datamodule.pool, self.context()
        session = self._posterior(strategy).start(self.seed, self.round)
        fields: dict[str, Tensor] | None = {}
        if strategy.needs:
            self._warn_of_hooks()
            if self.bank is not None and "embedding" in strategy.needs:
                everywhere = hasattr(strategy, "score")
                self.bank.fill(index, self._device(), everywhere=everywhere)
            if hasattr(session, "learn"):
                ranks.together(lambda: self._teach(session))
            mine = index[ranks.rank :: ranks.size]
            scored = ranks.together(lambda: self._score(strategy, session, mine, context))
            if self._shapes_vary(session):
                log.info("items differ in shape: dropout masks are drawn per channel")
                session = session.per_channel()
                scored = ranks.together(lambda: self._score(strategy, session, mine, context))
            store = Store(len(index), self._budget, self.folder)
            fields = collect(scored, store, ranks)
            ranks.together(lambda: None if fields is None else self._keep(strategy, index, fields))
            scores = None if fields is None else fields.get(SCORES)
            ranks.together(lambda: None if scores is None else _refuse_nan(scores, index))
        return None if fields is None else self._as_pool(strategy, session, index, fields, context)

    @property
    def _budget(self) -> int:
        """Bytes for one store: rank 0 of several holds its share beside the whole."""
        shares = (1 if self.ranks.size == 1 else 2) * (1 if self.bank is None else 2)
        return self.memory_budget // shares

    def _shapes_vary(self, session: Any) -> bool:
        """Whether any rank met items of two shapes, or two ranks different ones."""
        shapes = self.ranks.all_gather(session.shapes())
        return any(self.ranks.all_gather(session.shapes_vary(*shapes)))

    def _as_pool(
        self,
        strategy: QueryStrategy,
        session: Any,
        index: Tensor,
        fields: Mapping[str, Tensor],
        context: Context,
    ) -> Pool:
        kept = {name: value for name, value in fields.items() if name != SCORES}
        scores = fields.get(SCORES)
        if scores is None and len(index) == 0 and strategy.needs and hasattr(strategy, "score"):
            scores = torch.empty(0)
        return Pool(
            index=index,
            scores=scores,
            kept=_predictions(index, kept) if kept else None,
            context=context,
            domain=self.datamodule.domain,
            predict_rows=lambda rows, needs: self._predict(strategy, session, index[rows], needs),
            joint_rows=lambda rows: self._joint(index[rows]),
            labelled_pool=lambda: self._labelled(strategy, session, context),
            make_learner=lambda: build_learner(
                self.task,
                self.datamodule,
                self._device(),
                self.seed,
                self.round,
                index=index,
                predict=self._by,
                make_head=self._head,
            ),
        )

    def _by(self, module: Any, index: Tensor, needs: Collection[str]) -> Predictions:
        """What another module says of the items ``index`` [n], on this rank alone, no posterior."""
        other = replace(self, bank=None)  # what a module says is its own, embeddings too
        if module is not self.task:
            adapter = adapter_for(module, self.task, self.adapter)
            other = replace(other, task=module, adapter=adapter)
        fields = other._score(Plain(tuple(needs)), Deterministic(), index, self.context())
        return _predictions(index, fields)

    def _head(self) -> Callable[[Tensor], Tensor]:
        """The task's layers after its embedding, checked on the first few items there are."""
        if self.bank is not None:
            raise LookupError(
                "the embeddings of this run are the features it was given, which are no part of "
                "the task; leave `features` out, or choose by a strategy that needs no head"
            )
        device, index = self._device(), self.datamodule.pool
        index = (index if len(index) else self.datamodule.labelled)[:HEAD_ITEMS]
        if not len(index):
            raise LookupError("the head of a model is checked on items, and there are none")
        ((_, inputs),) = self.datamodule.bare_batches(index, len(index))
        with self._ready(), self._forward() as convert:
            inputs = move_data_to_device(convert(inputs), device)
            return find_head(self.task, self.adapter, inputs, device)

    def _labelled(self, strategy: QueryStrategy, session: Any, context: Context) -> Pool:
        index = self.datamodule.labelled
        fields: dict[str, Tensor] = {}
        if strategy.needs:
            fields = self._score(strategy, session, index, context)
            self._keep(strategy, index, fields)
            _refuse_other_shapes(session, "the labelled items")
        return self._as_pool(strategy, session, index, fields, context)

    def context(self) -> Context:
        """What scores may know of the round."""
        labelled = self.datamodule.labelled
        return Context(
            round=self.round,
            n_labelled=len(labelled),
            n_pool=len(self.datamodule.pool),
            classes=getattr(self.task, "classes", None) or self.datamodule.classes,
            targets=self.datamodule.labelled_targets() if len(labelled) else None,
            remaining=self.remaining,
        )

    def _predict(
        self, strategy: QueryStrategy, session: Any, index: Tensor, needs: Collection[str]
    ) -> Predictions:
        """Predictions for the items ``index`` [K], on this rank alone, by the same members."""
        if not len(index):
            raise ValueError("no items to predict: the list of positions is empty")
        with self._ready():
            batches = self._batches(strategy, session, index, needs)
            predictions = Predictions.cat(batch.cpu() for batch in batches)
        _refuse_other_shapes(session, "the items to predict")
        return predictions

    def _posterior(self, strategy: QueryStrategy) -> Any:
        if strategy.members == "one":
            return Deterministic()
        own = getattr(self.task, "posterior", None)  # what a Gaussian process knows in closed form
        return self.posterior or (own if hasattr(own, "start") else Deterministic())

    def _score(
        self, strategy: Any, session: Any, index: Tensor, context: Context
    ) -> dict[str, Tensor]:
        """Scores, under the name SCORES, and kept fields of some items, in their order."""
        scored, needs = hasattr(strategy, "score"), frozenset(strategy.needs)
        keeps = frozenset(strategy.keeps) - self._banked
        if not scored:
            needs -= self._banked
        store = Store(len(index), self._budget, self.folder)
        if not needs:  # all that it keeps are features
            return store.fields
        with self._ready():
            for batch in self._batches(strategy, session, index, needs):
                fields = batch.keep(keeps).tensors()
                del fields["index"]
                if scored:
                    fields[SCORES] = _checked(strategy, strategy.score(batch, context), len(batch))
                store.add(fields, len(batch))
        return store.fields

    @property
    def _banked(self) -> frozenset[str]:
        """Fields that the task is not asked for."""
        return frozenset() if self.bank is None else frozenset({"embedding"})

    def _keep(self, strategy: Any, index: Tensor, fields: dict[str, Tensor]) -> None:
        """Add the features of some items, in their order, where the strategy keeps them."""
        if self.bank is None or "embedding" not in strategy.keeps or not len(index):
            return
        device = self._device()
        self.bank.rows(index[:1], device)  # tells E
        store = Store(len(index), self._budget, self.folder)
        room = store.allocate("embedding", torch.float32, torch.Size([self.bank.width()]))
        fields["embedding"] = self.bank.rows(index, device, out=room)

    def _batches(
        self, strategy: Any, session: Any, index: Tensor, needs: Collection[str]
    ) -> Iterator[Predictions]:
        device, first = self._device(), True
        asked = frozenset(needs) - self._banked
        size = self.datamodule.eval_batch_size
        loaded = self.datamodule.bare_batches(index) if asked else _without_inputs(index, size)
        for rows, inputs in loaded:
            if asked:
                with self._forward() as convert:
                    inputs = move_data_to_device(convert(inputs), device)
                    batch = session.predict(self.task, self.adapter, rows, inputs, asked)
            else:
                batch = Predictions(rows)
            if self.bank is not None and "embedding" in needs:
                batch = replace(batch, embedding=self.bank.rows(rows, device).to(device))
            if first:
                _refuse_one_member(strategy, batch, self.posterior)
                first = False
            yield batch

    def _teach(self, session: Any) -> None:
        """Show a posterior the labelled set; each rank reads all of it, to know the same."""
        index, device = self.datamodule.labelled, self._device()
        with self._ready(), self._forward() as convert:

            def batches() -> Iterator[Any]:
                for _, inputs in self.datamodule.bare_batches(index) if len(index) else ():
                    yield move_data_to_device(convert(inputs), device)

            session.learn(self.task, self.adapter, batches)

    def _device(self) -> torch.device:
        return _home(self.task) if self.trainer is None else self.trainer.strategy.root_device

    @contextmanager
    def _forward(self) -> Iterator[Any]:
        """The Trainer's precision; gives what it does to inputs."""
        plugin = None if self.trainer is None else self.trainer.precision_plugin
        with torch.no_grad(), nullcontext() if plugin is None else plugin.forward_context():
            yield (lambda inputs: inputs) if plugin is None else plugin.convert_input

    @contextmanager
    def _ready(self) -> Iterator[None]:
        """The task on its device, in eval mode; both put back after."""
        modes = {module: module.training for module in self.task.modules()}
        home, device = _home(self.task), self._device()
        plugin = None if self.trainer is None else self.trainer.precision_plugin
        if isinstance(plugin, (DoublePrecision, HalfPrecision)):
            plugin.convert_module(self.task)
        if home != device:
            self.task.to(device)
        self.task.eval()
        try:
            with torch.no_grad():
                yield
        finally:
            for module, training in modes.items():
                module.training = training
            if home != device:
                self.task.to(home)

    def _warn_of_hooks(self) -> None:
        """Say what the pool does not pass through: a bare batch has no label to hand to a hook."""
        for owner in (self.datamodule, self.task):
            for hook in ("on_before_batch_transfer", "on_after_batch_transfer"):
                if is_overridden(hook, owner) and self.ranks.rank == 0:
                    warnings.warn(
                        f"{type(owner).__name__}.{hook} is not called for the pool; what it does "
                        "to inputs belongs into the data set's test transform, or into forward",
                        stacklevel=3,
                    )

    def _joint(self, index: Tensor) -> Any:
        joint = getattr(self.task, "joint", None)
        if joint is None:
            raise LookupError(
                f"{type(self.task).__name__} has no joint(inputs) -> MultivariateNormal; "
                "a task with a joint posterior (a Gaussian process) is needed here"
            )
        if not len(index):
            raise ValueError("no items for a joint prediction: the list of positions is empty")
        ((_, inputs),) = self.datamodule.bare_batches(index, len(index))
        with self._ready(), self._forward() as convert:
            return joint(move_data_to_device(convert(inputs), self._device()))


def _without_inputs(index: Tensor, size: int) -> Iterator[tuple[Tensor, Any]]:
    yield from ((rows, None) for rows in index.split(size) if len(rows))


def _home(module: nn.Module) -> torch.device:
    """Where a module lies; one without parameters says so itself, or lies on the CPU."""
    first = next(module.parameters(), None)
    place = getattr(module, "device", "cpu") if first is None else first.device
    return torch.device(place)


def _predictions(index: Tensor, fields: Mapping[str, Tensor]) -> Predictions:
    core: dict[str, Any] = {name: v for name, v in fields.items() if name in FIELDS}
    return Predictions(index, **core, extras={n: v for n, v in fields.items() if n not in FIELDS})


def _checked(strategy: Any, scores: Tensor, n: int) -> Tensor:
    if not isinstance(scores, Tensor) or scores.shape[:1] != (n,):
        got = list(scores.shape) if isinstance(scores, Tensor) else type(scores).__name__
        raise ValueError(
            f"{type(strategy).__name__}.score must give one score per item, "
            f"[{n}] or [{n}, m], got {got}"
        )
    return scores.float()


def _refuse_one_member(strategy: Any, batch: Predictions, posterior: Any) -> None:
    """A single member never disagrees with itself: such scores are constant, choices random."""
    if strategy.members == "one" or batch.variance is not None:
        return
    seen = next((v for v in (batch.probs, batch.logits, batch.mean) if v is not None), None)
    if seen is not None and seen.shape[1] == 1:
        what = "none was given" if posterior is None else f"{posterior} gives one member"
        raise ValueError(f"the strategy compares the members of a posterior, and {what}: {MENDS}")


def _refuse_other_shapes(session: Any, what: str) -> None:
    if session.shapes_vary():
        raise ValueError(
            f"{what} differ in shape from those scored before, where dropout masks were drawn "
            "element by element; pass MCDropout(per_channel=True), or bring items to one shape"
        )


def _refuse_nan(scores: Tensor, index: Tensor) -> None:
    bad = scores.isnan()
    if bool(bad.any()):
        rows = bad.reshape(len(scores), -1).any(1).nonzero().flatten()
        raise ValueError(
            f"{len(rows)} of {len(scores)} scores are NaN, first: item(s) "
            f"{index[rows[:5]].tolist()}; the inputs or the network's outputs are not finite "
            "(look for NaN features, or a fit that diverged: lower the learning rate)"
        )
