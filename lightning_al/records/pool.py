"""The candidates of a round as a strategy sees them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from torch import Tensor

from .domain import Domain, Finite
from .predictions import Predictions

if TYPE_CHECKING:
    from torch.distributions import MultivariateNormal


__all__ = ["Context", "Learner", "Pool"]


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
class Pool:
    """A finite set of candidates, as a strategy's ``choose`` sees it: no labels anywhere.

    ``scores`` is what the strategy's ``score`` returned ([N], or [N, m] for compositions);
    ``kept`` holds the fields named in its ``keeps``. Where the domain is a ``Box``, the candidates
    are a draw from it, made anew each round; a strategy may choose among them, or name any
    places of the box instead (``Acquisition(x=...)``).
    """

    index: Tensor  # [N] int64, positions in the data set
    scores: Tensor | None = None  # [N] or [N, m]
    kept: Predictions | None = None
    context: Context = field(default_factory=Context)
    domain: Domain = Finite()
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
