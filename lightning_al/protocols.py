"""The narrow contracts: what a strategy and an oracle are, as the rounds see them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from lightning_al.history.history import History
    from lightning_al.history.records import Round
    from lightning_al.records import Acquisition, Answers, Context, Pool, Predictions

__all__ = ["Oracle", "QueryStrategy", "RunObserver", "asks_model"]


@runtime_checkable
class QueryStrategy(Protocol):
    """Scores candidates batch by batch and chooses from the whole.

    ``needs``: names from :data:`lightning_al.records.FIELDS` that the model must supply per batch
    (empty: the model is not run). ``keeps``: those that must survive for all candidates until
    ``choose``. ``members``: "one" scores the plain network, "many" needs a posterior.
    ``privileged``: reads labels of the pool; refused outside the benchmark.

    A strategy that reduces a batch at once also has
    ``score(batch: Predictions, context: Context) -> Tensor [n] or [n, m]``; only its result is
    kept then. One that chooses without the fitted model, neither by what it ``needs`` nor through
    ``pool.learner.task``, may say so by ``asks_model = False``: fits are then no part of what its
    queries cost (see :func:`asks_model`).
    """

    @property
    def needs(self) -> Collection[str]:
        """Fields that the model must supply per batch."""
        ...

    @property
    def keeps(self) -> Collection[str]:
        """Fields kept for all candidates."""
        ...

    @property
    def members(self) -> str:
        """One or many."""
        ...

    @property
    def privileged(self) -> bool:
        """Whether it reads labels of the pool."""
        ...

    def choose(self, candidates: Pool, k: int, generator: torch.Generator) -> Acquisition:
        """Choose ``k`` distinct candidates."""
        ...


def asks_model(strategy: Any) -> bool:
    """Whether a strategy chooses with the fitted model: it needs fields, or declares nothing."""
    return bool(strategy.needs) or bool(getattr(strategy, "asks_model", True))


class Scores(Protocol):
    """The optional half of a strategy: scores of one batch."""

    def score(self, batch: Predictions, context: Context) -> Tensor:
        """Scores [n] (or [n, m]) of one batch; higher is acquired first."""
        ...


@runtime_checkable
class Oracle(Protocol):
    """Answers for chosen items. ``datamodule`` is there for oracles that read or show items.

    An oracle that cannot answer before somebody has done something raises
    :class:`lightning_al.oracles.Awaited`: the run ends in good order, and the same command asks
    again. Three methods are optional:

    - ``price(index, datamodule) -> Tensor [K]``: what asking for each item will cost, for runs
      with a ``cost_budget``; 1 an item without it.
    - ``collect(index, asked, datamodule, round) -> Answers``: called at the start of a round for
      the items [W] that earlier answers left ``pending``, with the rounds [W] in which they were
      asked for; those that are still to come are ``pending`` again.
    - ``placed(run_dir) -> Oracle``: the oracle for a run in this folder.
    """

    def ask(self, index: Tensor, datamodule: Any, round: int) -> Answers:
        """Answers for the items ``index`` [K] (asked again after a crash: must be repeatable)."""
        ...


class RunObserver(Protocol):
    """Watches a run from outside the fits; rank 0 only. See ``lightning_al.callbacks``."""

    def run_started(self, plan: Mapping[str, Any], done: Sequence[Round]) -> None:
        """Before the first fit. ``done``: rounds committed before a resume.

        ``plan``: ``run_dir`` (Path), ``strategy`` (str), ``n_labelled``, ``n_pool``,
        ``query_size``, ``budget``, ``rounds`` (how many fits are expected), ``seed``, ``config``.
        """

    def stage_started(self, round: int, stage: str) -> None:
        """``stage`` is a name of :data:`lightning_al.records.stages.STAGES`."""

    def round_ended(self, round: Round, datamodule: Any) -> None:
        """After the commit of a round (the last one has nothing acquired)."""

    def run_ended(self, history: History) -> None:
        """After the last round, or after an error (``history.stopped`` says why)."""
