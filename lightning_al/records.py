"""The records that cross the borders between the parts.

Letters mean one thing everywhere: ``N`` candidates, ``L`` labelled, ``S`` posterior samples,
``C`` classes, ``D`` outputs, ``E`` features of an embedding, ``K`` acquired, ``P`` places in an
item. The candidate axis comes first; indices are positions in the data set, never in the pool.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from enum import IntEnum
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from torch.distributions import MultivariateNormal

__all__ = [
    "FIELDS",
    "Acquisition",
    "Answers",
    "Box",
    "Context",
    "Learner",
    "Pool",
    "Predictions",
    "Status",
]

FIELDS = ("probs", "logits", "mean", "variance", "embedding")
"""What a strategy may name in ``needs``."""


class Status(IntEnum):
    """State of one item of the training data; stored as int8."""

    POOL = 0  # may be chosen
    ASKED = 1  # chosen, answer pending
    LABELLED = 2
    REFUSED = 3  # the oracle would not answer; never asked again
    HELD = 4  # belongs to validation or test


@dataclass(frozen=True)
class Predictions:
    """What a model says of some items: one batch, or several concatenated.

    Only what was asked for is set.
    """

    index: Tensor  # [N] int64, positions in the data set
    probs: Tensor | None = None  # [N, S, C, *P]
    logits: Tensor | None = None  # [N, S, C, *P]
    mean: Tensor | None = None  # [N, S, D]
    variance: Tensor | None = None  # [N, S, D], aleatoric, in squared target units
    embedding: Tensor | None = None  # [N, E]
    extras: Mapping[str, Any] = field(default_factory=dict)  # task's own, [N, ...] tensors

    def __len__(self) -> int:
        return self.index.shape[0]

    def tensors(self) -> dict[str, Tensor]:
        """All tensors that are set, by name, extras included."""
        named = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "extras"}
        named |= dict(self.extras)
        return {name: value for name, value in named.items() if value is not None}

    def _with(self, change: Callable[[Tensor], Tensor]) -> Predictions:
        new = {name: change(value) for name, value in self.tensors().items()}
        extras = {name: new.pop(name) for name in self.extras}
        return replace(self, **new, extras=extras)

    def rows(self, rows: Tensor) -> Predictions:
        """The same fields for some rows (positions [K] in these predictions)."""
        return self._with(lambda value: value[rows])

    def cpu(self) -> Predictions:
        """The same on the CPU."""
        return self._with(lambda value: value.cpu())

    def keep(self, names: Collection[str]) -> Predictions:
        """Only the index and the named fields.

        Raises:
            LookupError: a field that is not set.
        """
        have = self.tensors()
        if missing := sorted(set(names) - set(have)):
            raise LookupError(f"predictions have no {missing}, only {sorted(have)}")
        core = {n: have[n] for n in names if n in FIELDS}
        extras = {n: have[n] for n in names if n not in FIELDS}
        return Predictions(index=self.index, **core, extras=extras)

    @classmethod
    def cat(cls, parts: Iterable[Predictions]) -> Predictions:
        """Concatenate along the candidate axis.

        Raises:
            TypeError: an extra that is no tensor (a distribution lives inside one batch only).
            ValueError: nothing to concatenate, or parts with different fields.
        """
        parts = list(parts)
        if not parts:
            raise ValueError("Predictions.cat needs at least one part, got none")
        names = [list(p.tensors()) for p in parts]
        if any(n != names[0] for n in names):
            raise ValueError(f"Predictions.cat needs the same fields in every part, got {names}")
        for part in parts:
            for name, value in part.tensors().items():
                if not isinstance(value, Tensor):
                    raise TypeError(
                        f"{name!r} is a {type(value).__name__}, which lives inside one batch only; "
                        "reduce it to a tensor in score()"
                    )
        new = {n: torch.cat([p.tensors()[n] for p in parts]) for n in names[0]}
        extras = {n: new.pop(n) for n in parts[0].extras}
        return cls(**new, extras=extras)


@dataclass(frozen=True)
class Context:
    """What a score may know besides the batch it scores."""

    round: int = 0
    n_labelled: int = 0
    n_pool: int = 0
    classes: int | None = None  # C, where the task has classes
    targets: Tensor | None = None  # [L, ...] the answers bought so far
    remaining: int | None = None  # queries that the budget leaves, those of this round included


def _absent(what: str) -> Callable[..., Any]:
    """A default that refuses to be called."""

    def refuse(*_: Any, **__: Any) -> Any:
        raise LookupError(f"this pool offers no {what}: it was built by hand, without a model")

    return refuse


@dataclass(frozen=True)
class Learner:
    """For strategies that need more of a model than its outputs; plain ones never touch it.

    ``fit(module, loader, **trainer_arguments) -> module``, seeded. ``labelled_loader()`` gives
    batches (inputs, targets), shuffled. ``unlabelled_loader(rows=None)`` gives batches of inputs of
    the candidates, or of some rows [K] of them, in that order, without labels.

    ``predict(module, needs, rows=None) -> Predictions`` runs a module over the candidates in the
    order of the pool (or over some rows [K] of them): the plain network in eval mode, dropout off.
    ``predict_labelled(module, needs)`` does so over the labelled items, in the order of
    ``Context.targets``; without any, only the index is set. A module of the task's class is read
    by the run's adapter; a module of another class by its own ``adapter``, where it has one.
    """

    task: Any  # the fitted LightningModule of the round
    fit: Callable[..., Any]
    labelled_loader: Callable[..., Iterable[Any]]
    unlabelled_loader: Callable[..., Iterable[Any]]
    predict: Callable[..., Predictions] = field(default=_absent("model to predict with"))
    predict_labelled: Callable[..., Predictions] = field(default=_absent("model to predict with"))
    make_head: Callable[[], Callable[[Tensor], Tensor]] = field(default=_absent("head"))

    @cached_property
    def head(self) -> Callable[[Tensor], Tensor]:
        """The fitted task from its embedding on: [n, E] -> logits [n, S, C, *P].

        Means [n, S, D] of a regression; S is 1 for a network without members. Differentiable; a
        copy in eval mode whose own parameters ask for no gradient. Any device in, the same out.

        Raises:
            LookupError: the head cannot be told from the adapter.
        """
        return self.make_head()

    def subset(self, rows: Tensor) -> Learner:
        """The same for some candidates (rows [K] of the pool), in that order."""

        def of(more: Tensor | None) -> Tensor:
            return rows if more is None else rows[more]

        return replace(
            self,
            unlabelled_loader=lambda rows=None: self.unlabelled_loader(of(rows)),
            predict=lambda module, needs, rows=None: self.predict(module, needs, of(rows)),
            make_head=lambda: self.head,
        )


@dataclass(frozen=True)
class Box:
    """A continuous domain: the box ``low <= x <= high``."""

    low: Tensor  # [D]
    high: Tensor  # [D]

    def __post_init__(self) -> None:
        if self.low.shape != self.high.shape or self.low.ndim != 1:
            raise ValueError(
                f"a Box needs low and high of one shape [D], got {list(self.low.shape)} "
                f"and {list(self.high.shape)}"
            )
        if not bool((self.low < self.high).all()):
            raise ValueError(
                f"a Box needs low < high, got {self.low.tolist()} and {self.high.tolist()}"
            )

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        """Uniform places [n, D], float64."""
        unit = torch.rand(n, len(self.low), generator=generator, dtype=torch.float64)
        return self.low.double() + unit * (self.high - self.low).double()

    def holds(self, x: Tensor) -> bool:
        """Whether all places [K, D] lie in the box, up to the rounding of single precision."""
        slack = 1e-6 * (self.high - self.low).double()
        inside = (x >= self.low.double() - slack) & (x <= self.high.double() + slack)
        return bool(inside.all())


@dataclass(frozen=True)
class Pool:
    """A finite set of candidates, as a strategy's ``choose`` sees it: no labels anywhere.

    ``scores`` is what the strategy's ``score`` returned ([N], or [N, m] for compositions);
    ``kept`` holds the fields named in its ``keeps``. Where the domain is continuous, the candidates
    are a draw from ``box``, made anew each round; a strategy may choose among them, or name any
    places of the box instead (``Acquisition(x=...)``).
    """

    index: Tensor  # [N] int64, positions in the data set
    scores: Tensor | None = None  # [N] or [N, m]
    kept: Predictions | None = None
    context: Context = field(default_factory=Context)
    box: Box | None = None
    predict_rows: Callable[[Tensor, Collection[str]], Predictions] = field(
        default=_absent("predictions")
    )
    joint_rows: Callable[[Tensor], MultivariateNormal] = field(default=_absent("joint predictions"))
    labelled_pool: Callable[[], Pool] = field(default=_absent("labelled set"))
    make_learner: Callable[[], Learner] = field(default=_absent("learner"))

    def __len__(self) -> int:
        return self.index.shape[0]

    def _field(self, name: str) -> Tensor:
        value = None if self.kept is None else self.kept.tensors().get(name)
        if value is None:
            raise LookupError(
                f"the pool holds no {name}; name it in the strategy's `needs` and `keeps`"
            )
        return value

    @property
    def embedding(self) -> Tensor:
        """Embeddings [N, E]; only where the strategy asked for them."""
        return self._field("embedding")

    @property
    def probs(self) -> Tensor:
        """Class probabilities [N, S, C]; only where the strategy keeps them."""
        return self._field("probs")

    @property
    def mean(self) -> Tensor:
        """Predictive means [N, S, D]; only where the strategy keeps them."""
        return self._field("mean")

    @cached_property
    def labelled(self) -> Pool:
        """The labelled set with the same kept fields [L, ...], computed at the first use."""
        return self.labelled_pool()

    @cached_property
    def learner(self) -> Learner:
        """The fitted task and ways to run it, for strategies that look inside or train."""
        return self.make_learner()

    def predict(self, rows: Tensor, needs: Collection[str]) -> Predictions:
        """Predictions for some rows (positions [K] in this pool)."""
        return self.predict_rows(rows, needs)

    def joint(self, rows: Tensor, limit: int = 2000) -> MultivariateNormal:
        """Joint predictive distribution over some rows, at most ``limit`` of them.

        Raises:
            ValueError: more rows than ``limit``.
        """
        if len(rows) > limit:
            raise ValueError(
                f"joint over {len(rows)} rows needs a {len(rows)} x {len(rows)} covariance, "
                f"the limit is {limit}; shorten the list first"
            )
        return self.joint_rows(rows)

    def subset(self, rows: Tensor) -> Pool:
        """The pool of some rows (positions [K]), in that order."""
        return replace(
            self,
            index=self.index[rows],
            scores=None if self.scores is None else self.scores[rows],
            kept=None if self.kept is None else self.kept.rows(rows),
            predict_rows=lambda r, needs: self.predict_rows(rows[r], needs),
            joint_rows=lambda r: self.joint_rows(rows[r]),
            make_learner=lambda: self.learner.subset(rows),
        )

    def with_scores(self, scores: Tensor) -> Pool:
        """The same pool under other scores."""
        return replace(self, scores=scores)


@dataclass(frozen=True)
class Acquisition:
    """What a strategy chose: ``index`` in a data set, or places ``x`` in a Box.

    In the journal of a continuous domain it is both: the places, and the positions that their
    measurements take in the data set.
    """

    index: Tensor | None = None  # [K] int64, first choice first
    x: Tensor | None = None  # [K, D]
    scores: Tensor | None = None  # [K]
    seconds: float = 0.0
    notes: Mapping[str, Any] = field(default_factory=dict)  # plain values only

    def __len__(self) -> int:
        chosen = self.index if self.index is not None else self.x
        return 0 if chosen is None else chosen.shape[0]

    def to_json(self) -> dict[str, Any]:
        """Plain values, for the journal."""
        return {
            "index": None if self.index is None else self.index.tolist(),
            "x": None if self.x is None else self.x.tolist(),
            "scores": None if self.scores is None else self.scores.tolist(),
            "seconds": self.seconds,
            "notes": dict(self.notes),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Acquisition:
        """The inverse of :meth:`to_json`."""

        def tensor(name: str, dtype: torch.dtype) -> Tensor | None:
            return None if data[name] is None else torch.tensor(data[name], dtype=dtype)

        return cls(
            index=tensor("index", torch.int64),
            x=tensor("x", torch.float64),
            scores=tensor("scores", torch.float64),
            seconds=data["seconds"],
            notes=data["notes"],
        )


@dataclass(frozen=True)
class Answers:
    """What an oracle said of K items: named outputs, what they cost, and which it refused.

    Rows of ``values`` that belong to refused and pending items are ignored. An item's cost is
    paid when it is asked for, also where its answer comes in a later round.
    """

    values: Mapping[str, Tensor]  # name ("y", "z") -> [K, ...]
    cost: Tensor | None = None  # [K], in the oracle's own unit; default 1 an item
    refused: Tensor | None = None  # [K] bool
    pending: Tensor | None = None  # [K] bool: no answer yet, it comes in a later round
    by: Sequence[str] | None = None  # [K], who answered

    def mask(self, name: str, n: int) -> Tensor:
        """``refused`` or ``pending`` of the ``n`` items, bool [n]; False where it is not set."""
        given: Tensor | None = getattr(self, name)
        return torch.zeros(n, dtype=torch.bool) if given is None else given.bool()

    def rows(self, rows: Tensor) -> Answers:
        """The answers of some items (positions, or a mask over the items), in that order."""

        def of(value: Tensor | None) -> Tensor | None:
            return None if value is None else value[rows]

        by = self.by
        if by is not None:
            by = [by[i] for i in torch.arange(len(by))[rows].tolist()]
        return Answers(
            values={name: value[rows] for name, value in self.values.items()},
            cost=of(self.cost),
            refused=of(self.refused),
            pending=of(self.pending),
            by=by,
        )

    def to_json(self) -> dict[str, Any]:
        """Plain values with the dtypes, for the journal."""
        late = {} if self.pending is None else {"pending": self.pending.tolist()}
        return {
            "values": {
                name: {"dtype": str(v.dtype).removeprefix("torch."), "data": v.tolist()}
                for name, v in self.values.items()
            },
            "cost": None if self.cost is None else self.cost.tolist(),
            "refused": None if self.refused is None else self.refused.tolist(),
            **late,
            **({} if self.by is None else {"by": list(self.by)}),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Answers:
        """The inverse of :meth:`to_json`."""
        values = {
            name: torch.tensor(v["data"], dtype=getattr(torch, v["dtype"]))
            for name, v in data["values"].items()
        }

        def tensor(name: str, dtype: torch.dtype) -> Tensor | None:
            given = data.get(name)
            return None if given is None else torch.tensor(given, dtype=dtype)

        return cls(
            values=values,
            cost=tensor("cost", torch.float64),
            refused=tensor("refused", torch.bool),
            pending=tensor("pending", torch.bool),
            by=data.get("by"),
        )


def positions(index: Sequence[int] | Tensor) -> Tensor:
    """Any list of integer positions as an int64 tensor [K].

    Raises:
        ValueError: not one-dimensional, or not whole numbers.
    """
    tensor = torch.as_tensor(index)
    if tensor.numel() == 0:
        return tensor.reshape(-1).to(torch.int64)
    if tensor.ndim != 1 or tensor.is_floating_point() or tensor.dtype == torch.bool:
        raise ValueError(
            f"positions must be whole numbers of shape [K], got {tensor.dtype} {list(tensor.shape)}"
        )
    return tensor.to(torch.int64)
