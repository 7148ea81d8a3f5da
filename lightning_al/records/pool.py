"""The candidates of a round as a strategy sees them."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, NoReturn

from torch import Tensor

from .domain import Domain, Finite
from .predictions import Predictions

if TYPE_CHECKING:
    from torch.distributions import MultivariateNormal

__all__ = ["Context", "NoBench", "Pool"]


@dataclass(frozen=True)
class Context:
    """What a score may know besides the batch it scores."""

    round: int = 0
    n_labelled: int = 0
    n_pool: int = 0
    classes: int | None = None  # C, where the task has classes
    targets: Tensor | None = None  # [L, ...] the answers bought so far
    remaining: int | None = None  # queries that the budget leaves, those of this round included


class NoBench:
    """The workbench of a pool that was put together by hand: it has none of one's tools."""

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("_"):
            raise AttributeError(name)
        raise LookupError(
            f"this pool has no workbench, of which {name!r} is wanted; pools that a run scores "
            "have one"
        )


@dataclass(frozen=True)
class Pool:
    """A set of candidates, as a strategy's ``choose`` sees it: no labels anywhere.

    ``scores`` is what the strategy's ``score`` returned ([N], or [N, m] for compositions);
    ``kept`` holds the fields named in its ``keeps``. Where the domain is a ``Box``, the candidates
    are a draw from it, made anew each round; a strategy may choose among them, or name any places
    of the box instead (``Acquisition(x=...)``). ``bench`` is for strategies that look inside the
    model or train something (:class:`lightning_al.protocols.Workbench`).
    """

    index: Tensor  # [N] int64, positions in the data set
    scores: Tensor | None = None  # [N] or [N, m]
    kept: Predictions | None = None
    context: Context = field(default_factory=Context)
    domain: Domain = Finite()
    bench: Any = field(default_factory=NoBench, repr=False, compare=False)

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
        """Embeddings [N, E], the run's features where it has any; only where they are kept."""
        return self._field("embedding")

    @property
    def head_input(self) -> Tensor:
        """What the task's last layer reads, [N, E]; only where the strategy keeps it."""
        return self._field("head_input")

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
        found: Pool = self.bench.labelled_pool()
        return found

    def predict(self, rows: Tensor, needs: Collection[str]) -> Predictions:
        """Predictions for some rows (positions [K] in this pool), by the members that scored it."""
        found: Predictions = self.bench.predict(self.index[rows], needs)
        return found

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
        found: MultivariateNormal = self.bench.joint(self.index[rows])
        return found

    def subset(self, rows: Tensor) -> Pool:
        """The pool of some rows (positions [K]), in that order."""
        return replace(
            self,
            index=self.index[rows],
            scores=None if self.scores is None else self.scores[rows],
            kept=None if self.kept is None else self.kept.rows(rows),
        )
