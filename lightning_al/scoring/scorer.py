"""One pass over the pool: score each batch, keep only what must survive."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lightning_al.posteriors import Deterministic
from lightning_al.posteriors.deterministic import DeterministicSession
from lightning_al.ranks.ranks import ALONE, Ranks
from lightning_al.records import FIELDS, Context, Pool, Predictions, items_of
from lightning_al.scores.numerics import full
from lightning_al.tasks import Adapter

from .bank import Bank
from .batch_sizes import growing
from .running import Running
from .store import Room, Store, collect

__all__ = ["Bound", "Scorer", "predictions_of"]

log = logging.getLogger(__name__)

SCORES = "the score"  # its name among the fields that are collected; no field has blanks
HIDDEN = frozenset({"embedding", "head_input"})  # what is no output
OF_MEMBERS = tuple(n for n in FIELDS if n not in {"nodes", "weights", *HIDDEN})  # [n, S, ...]
MENDS = "pass MCDropout(members=20), or make the network an Ensemble"


@dataclass(frozen=True)
class Scorer:
    """A trained task and everything needed to run it over items, the same on every rank."""

    task: Any
    datamodule: Any
    adapter: Adapter
    posterior: Any = None
    seed: int = 0
    round: int = 0
    ranks: Ranks = ALONE
    trainer: Any = None  # for its device and precision
    memory_budget: int = 2**30  # bytes of kept fields in memory
    folder: Path | None = None
    bank: Bank | None = None  # embeddings are its features, where there is one
    remaining: int | None = None  # queries that the budget leaves
    make_bench: Callable[[Bound], Any] | None = None  # of the pools

    @property
    def running(self) -> Running:
        """The task where it runs."""
        return Running(self.task, self.trainer)

    def pool(self, strategy: Any) -> Pool | None:
        """Score all candidates over all ranks; the pool on rank 0, None elsewhere.

        Raises:
            ValueError: scores that are NaN, or a model that cannot serve the strategy; on all
                ranks alike.
        """
        ranks, index = self.ranks, self.datamodule.pool
        bound = Bound(self, strategy, self.session(strategy))
        fields: dict[str, Tensor] | None = {}
        if strategy.needs:
            if ranks.rank == 0:
                self.running.warn_of_hooks(self.datamodule)
            if self.bank is not None and "embedding" in strategy.needs:
                everywhere = hasattr(strategy, "score")
                self.bank.fill(index, self.running.device, everywhere=everywhere)
            ranks.together(bound.teach)
            mine = index[ranks.rank :: ranks.size]
            room = self.room()
            scored = ranks.together(lambda: bound.score(mine, room))
            if self._shapes_vary(bound.session):
                log.info("items differ in shape: dropout masks are drawn per channel")
                bound = replace(bound, session=bound.session.per_channel())
                again = bound
                del scored
                room = self.room()
                scored = ranks.together(lambda: again.score(mine, room))
            fields = collect(scored, Store(len(index), room, self.folder), ranks)
            kept = fields
            ranks.together(lambda: None if kept is None else self.keep(strategy, index, kept, room))
            scores = None if fields is None else fields.get(SCORES)
            ranks.together(lambda: None if scores is None else _refuse_nan(scores, index))
        return None if fields is None else bound.as_pool(index, fields)

    def room(self) -> Room:
        """Memory for what one pass keeps; a bank has the other half."""
        return Room(self.memory_budget // (1 if self.bank is None else 2))

    def _shapes_vary(self, session: Any) -> bool:
        """Whether any rank met items of two shapes, or two ranks different ones."""
        shapes = self.ranks.all_gather(session.shapes())
        return any(self.ranks.all_gather(session.shapes_vary(*shapes)))

    def session(self, strategy: Any) -> Any:
        """A pass of the posterior that a strategy is for."""
        posterior: Any = Deterministic()
        if strategy.members != "one":
            own = getattr(self.task, "posterior", None)  # a Gaussian process knows it exactly
            posterior = self.posterior or (own if hasattr(own, "start") else posterior)
        return posterior.start(self.seed, self.round)

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

    def keep(self, strategy: Any, index: Tensor, fields: dict[str, Tensor], room: Room) -> None:
        """Add the features of some items, in their order, where the strategy keeps them."""
        if self.bank is None or "embedding" not in strategy.keeps or not len(index):
            return
        device = self.running.device
        self.bank.rows(index[:1], device)  # tells E
        store = Store(len(index), room, self.folder)
        width = torch.Size([self.bank.width()])
        rows = store.allocate("embedding", torch.float32, width)
        fields["embedding"] = self.bank.rows(index, device, out=rows)


@dataclass(frozen=True)
class Bound:
    """A scorer bound to one strategy and one pass of its posterior: what its pools look through.

    All of it works on this rank alone, for items by their positions in the data set.
    """

    scorer: Scorer
    strategy: Any
    session: Any

    @property
    def banked(self) -> frozenset[str]:
        """Fields that the task is not asked for."""
        return frozenset() if self.scorer.bank is None else frozenset({"embedding"})

    def teach(self) -> None:
        """Show a posterior the labelled set, where it asks; each rank reads all of it."""
        if not hasattr(self.session, "learn"):
            return
        it = self.scorer
        index, running = it.datamodule.labelled, it.running
        with running.ready(), running.forward() as bring:

            def batches() -> Iterator[Any]:
                for _, inputs in it.datamodule.bare_batches(index) if len(index) else ():
                    yield bring(inputs)

            self.session.learn(it.task, it.adapter, batches)

    def score(self, index: Tensor, room: Room | None = None) -> dict[str, Tensor]:
        """Scores, under the name SCORES, and kept fields of some items, in their order.

        Args:
            index: the items.
            room: memory for them; by default what one pass has.
        """
        strategy, it = self.strategy, self.scorer
        scored, needs = hasattr(strategy, "score"), frozenset(strategy.needs)
        keeps = frozenset(strategy.keeps) - self.banked
        if not scored:
            needs -= self.banked
        store = Store(len(index), it.room() if room is None else room, it.folder)
        if not needs:  # all that it keeps are features
            return store.fields
        context = it.context()
        with it.running.ready():
            for batch in self.batches(index, needs):
                fields = batch.keep(keeps).tensors()
                del fields["index"]
                if not keeps:
                    fields.pop("mask", None)
                if scored:
                    fields[SCORES] = _checked(strategy, strategy.score(batch, context), len(batch))
                store.add(fields, len(batch))
        return store.fields

    def predict(self, index: Tensor, needs: Collection[str]) -> Predictions:
        """Predictions for the items ``index`` [K], by the same members.

        Raises:
            ValueError: no items, or such of other shapes than before.
        """
        if not len(index):
            raise ValueError("no items to predict: the list of positions is empty")
        with self.scorer.running.ready():
            batches = self.batches(index, needs)
            predictions = Predictions.cat(batch.cpu() for batch in batches)
        _refuse_other_shapes(self.session, "the items to predict")
        return predictions

    def predict_inputs(self, batches: Iterable[Any], needs: Collection[str]) -> Predictions:
        """Predictions for inputs that are no items of the run, by the same members.

        Args:
            batches: of inputs, as the model takes them; the items are numbered through.
            needs: fields, of the task's own: features of the run are of its items only.

        Raises:
            ValueError: no inputs, embeddings where the run has features, or inputs of other shapes.
        """
        if self.banked & set(needs):
            raise ValueError(
                "this run's embeddings are features of its own items: other inputs have none"
            )
        parts, start = [], 0
        with self.scorer.running.ready():
            for inputs in batches:
                rows = torch.arange(start, start + items_of(inputs))
                with self.scorer.running.forward() as bring:
                    parts.append(self._read(rows, bring(inputs), frozenset(needs)).cpu())
                start += len(rows)
        if not start:
            raise ValueError("no inputs to predict: there are no batches, or empty ones")
        _refuse_other_shapes(self.session, "the inputs to predict")
        return Predictions.cat(parts)

    def batches(self, index: Tensor, needs: Collection[str]) -> Iterator[Predictions]:
        """Predictions of items, batch by batch, on the device; inside ``running.ready()``."""
        it, first = self.scorer, True
        device = it.running.device
        asked = frozenset(needs) - self.banked
        size = it.datamodule.eval_batch_size
        loaded = self._loaded(index) if asked else _without_inputs(index, size)
        for rows, inputs in loaded:
            batch = Predictions(rows)
            if asked:
                with it.running.forward() as bring:
                    batch = self._read(rows, bring(inputs), asked)
            if it.bank is not None and "embedding" in needs:
                batch = replace(batch, embedding=it.bank.rows(rows, device).to(device))
            if first:
                _refuse_one_member(self.strategy, batch, it.posterior)
                first = False
            yield batch

    def _loaded(self, index: Tensor) -> Iterable[tuple[Tensor, Any]]:
        """Items batch by batch; of many members each batch is large work as it is."""
        if isinstance(self.session, DeterministicSession):
            return growing(self.scorer.datamodule, index, self.scorer.task)
        batches: Iterable[tuple[Tensor, Any]] = self.scorer.datamodule.bare_batches(index)
        return batches

    def _read(self, rows: Tensor, inputs: Any, asked: Collection[str]) -> Predictions:
        """What the members say of one batch, read as the adapter declares."""
        task, adapter = self.scorer.task, self.scorer.adapter
        wanted = [name for name in asked if name not in HIDDEN]
        hidden = bool(HIDDEN & set(asked))
        drawn = self.session.members(
            task, adapter, inputs, len(rows), outputs=bool(wanted), embedding=hidden
        )
        fields: dict[str, Any] = {}
        if wanted:
            fields = dict(adapter.reading.fields(drawn.raw, wanted))
            fields["mask"] = adapter.places(task, inputs)
        for name in HIDDEN & set(asked):
            fields[name] = drawn.embedding
        return Predictions(rows, **fields)

    def as_pool(self, index: Tensor, fields: Mapping[str, Tensor]) -> Pool:
        """The pool of items whose fields these are."""
        it = self.scorer
        kept = {name: value for name, value in fields.items() if name != SCORES}
        scores = fields.get(SCORES)
        scoring = self.strategy.needs and hasattr(self.strategy, "score")
        if scores is None and len(index) == 0 and scoring:
            scores = torch.empty(0)
        return Pool(
            index=index,
            scores=scores,
            kept=predictions_of(index, kept) if kept else None,
            context=it.context(),
            domain=it.datamodule.domain,
            bench=self if it.make_bench is None else it.make_bench(self),
        )

    def pool_of(self, index: Tensor) -> Pool:
        """The items ``index`` [K] as a pool, scored by the strategy."""
        fields: dict[str, Tensor] = {}
        if self.strategy.needs:
            room = self.scorer.room()
            fields = self.score(index, room)
            self.scorer.keep(self.strategy, index, fields, room)
            _refuse_other_shapes(self.session, "the labelled items")
        return self.as_pool(index, fields)

    def labelled_pool(self) -> Pool:
        """The labelled set as a pool."""
        return self.pool_of(self.scorer.datamodule.labelled)

    def joint(self, index: Tensor) -> Any:
        """The joint predictive distribution over items.

        Raises:
            LookupError: a task that knows none.
            ValueError: no items.
        """
        it = self.scorer
        joint = getattr(it.task, "joint", None)
        if joint is None:
            raise LookupError(
                f"{type(it.task).__name__} has no joint(inputs) -> MultivariateNormal; "
                "a task with a joint posterior (a Gaussian process) is needed here"
            )
        if not len(index):
            raise ValueError("no items for a joint prediction: the list of positions is empty")
        ((_, inputs),) = it.datamodule.bare_batches(index, len(index))
        with it.running.ready(), it.running.forward() as bring:
            return joint(bring(inputs))


def _without_inputs(index: Tensor, size: int) -> Iterator[tuple[Tensor, Any]]:
    yield from ((rows, None) for rows in index.split(size) if len(rows))


def predictions_of(index: Tensor, fields: Mapping[str, Tensor]) -> Predictions:
    """Fields of items as predictions; those of a task's own are extras."""
    own = (*FIELDS, "mask")
    core: dict[str, Any] = {name: v for name, v in fields.items() if name in own}
    return Predictions(index, **core, extras={n: v for n, v in fields.items() if n not in own})


def _checked(strategy: Any, scores: Tensor, n: int) -> Tensor:
    if not isinstance(scores, Tensor) or scores.shape[:1] != (n,):
        got = list(scores.shape) if isinstance(scores, Tensor) else type(scores).__name__
        raise ValueError(
            f"{type(strategy).__name__}.score must give one score per item, "
            f"[{n}] or [{n}, m], got {got}"
        )
    return full(scores)


def _refuse_one_member(strategy: Any, batch: Predictions, posterior: Any) -> None:
    """A single member never disagrees with itself: such scores are constant, choices random."""
    if strategy.members == "one" or batch.variance is not None:
        return
    given = batch.tensors()
    seen = next((given[name] for name in OF_MEMBERS if name in given), None)
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
