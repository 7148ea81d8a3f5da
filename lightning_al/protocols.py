"""The narrow contracts: what the parts of a run are, as the rounds see them.

:class:`QueryStrategy`, :class:`Oracle` and :class:`RunObserver` are asked of every member. The
others are optional halves: a part that has the methods or attributes of one takes part in what
that one is for. ``ARCHITECTURE.md`` has a paragraph on each.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    import torch
    from torch import Tensor

__all__ = [
    *("Oracle", "QueryStrategy", "RunObserver", "Workbench"),
    *("Checks", "Collects", "Placed", "Priced"),
    *("FullBatch", "ItemLosses", "Joint", "KnowsItsPosterior", "NetworkOutputs"),
    *("DoesApart", "PredictsLosses", "UsesUnlabelled"),
    *("Limited", "ManyColumns", "ModelFree", "Rehearsed", "Remembers", "Scores", "ScoresLate"),
    *("Learns", "NamesFiles", "Portrayed", "Rehearses"),
    *("asks_model", "remembers"),
]

# --- strategies ----------------------------------------------------------------------------------


@runtime_checkable
class QueryStrategy(Protocol):
    """Scores candidates batch by batch and chooses from the whole.

    ``needs``: names from :data:`lightning_al.records.FIELDS` that the model must supply per batch
    (empty: the model is not run). ``keeps``: those that must survive for all candidates until
    ``choose``. ``members``: "one" scores the plain network, "many" needs a posterior.
    ``privileged``: reads labels of the pool; refused outside the benchmark.
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

    def choose(self, candidates: Any, k: int, generator: torch.Generator) -> Any:
        """Choose ``k`` distinct candidates of a :class:`lightning_al.records.Pool`.

        Returns:
            A :class:`lightning_al.records.Acquisition`.
        """
        ...


class Scores(Protocol):
    """A strategy that reduces a batch at once; only its result is kept then."""

    def score(self, batch: Any, context: Any) -> Tensor:
        """Scores [n] (or [n, columns]) of one batch; higher is acquired first.

        Args:
            batch: :class:`lightning_al.records.Predictions` of n items.
            context: :class:`lightning_al.records.Context`.
        """
        ...


class ManyColumns(Protocol):
    """A strategy whose ``score`` gives several columns, [n, columns]."""

    columns: int


class ScoresLate(Protocol):
    """A strategy whose scores need the whole pool and its workbench; compositions ask for them."""

    def late_scores(self, pool: Any) -> Tensor:
        """Scores [N] of a pool, the same whenever asked."""


class ModelFree(Protocol):
    """A strategy that says by ``asks_model = False`` that it chooses without the fitted model.

    Neither by ``needs`` nor through ``pool.bench``: fits are no part of what its queries cost.
    """

    asks_model: bool


class Remembers(Protocol):
    """A strategy that learns across rounds; a run keeps its memory and gives it back on a resume.

    Saved with each choice, before the journal names it, and loaded on every rank; tensors and plain
    values only. A strategy without the pair must choose as if it had never chosen before.
    """

    def state_dict(self) -> Mapping[str, Any]:
        """All that was learnt; empty for nothing."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The inverse."""
        ...


class Limited(Protocol):
    """A strategy that chooses so many candidates at a time at the most."""

    most: int


class Rehearsed(Protocol):
    """A strategy that is nothing without files of the user's: what stands in for them in tests."""

    rehearsal: Mapping[str, Any]


class Workbench(Protocol):
    """What ``pool.bench`` is: the fitted task, its data as far as a strategy may see them, fits.

    It works on one rank and one device. Fits are seeded by (run, round, place among the fits of the
    round): a resumed or replayed round makes the same ones. Labels of the pool, and the test set,
    are open to privileged strategies alone.
    """

    @property
    def task(self) -> Any:
        """The fitted module of the round."""
        ...

    @property
    def reading(self) -> Any:
        """What its outputs are (see :mod:`lightning_al.readings`)."""
        ...

    @property
    def labelled(self) -> Tensor:
        """Positions of the labelled items [L], in the order of ``Context.targets``."""
        ...

    @property
    def head(self) -> Callable[[Tensor], Tensor]:
        """The task from its embedding on, [n, E] -> logits [n, S, C, *P] or means [n, S, D]."""
        ...

    def predict(self, index: Tensor, needs: Collection[str], module: Any = None) -> Any:
        """Predictions for items [n], by the members that scored the pool, or by a module."""
        ...

    def predict_inputs(self, batches: Iterable[Any], needs: Collection[str]) -> Any:
        """Predictions for inputs that are no items of the run, by those members."""

    def joint(self, index: Tensor) -> Any:
        """The joint predictive distribution over items [K]."""
        ...

    def labelled_pool(self) -> Any:
        """The labelled set as a pool, scored."""
        ...

    def pool_of(
        self, index: Tensor, *, labelled: Tensor | None = None, strategy: Any = None
    ) -> Any:
        """Some items as a pool of their own, scored, with another labelled set."""
        ...

    def inputs(self, index: Tensor) -> Iterable[Any]:
        """Batches of inputs, in order, without labels."""
        ...

    def loader(self, index: Tensor | None = None, weights: Tensor | None = None) -> Any:
        """Batches (inputs, targets) of labelled items, shuffled, weighted."""
        ...

    def fresh(self) -> Any:
        """A module as the run builds them, never fitted."""
        ...

    def fit(self, module: Any, loader: Iterable[Any], **arguments: Any) -> Any:
        """Fit a module of the strategy's own on batches."""
        ...

    def refit(
        self,
        index: Tensor | None = None,
        weights: Tensor | None = None,
        *,
        answers: Tensor | None = None,
        ahead: int = 0,
    ) -> Any:
        """The task fitted anew on some labelled items, as the run fits it."""
        ...

    def refits(
        self, multisets: Sequence[tuple[Tensor | None, Tensor | None]], **more: Any
    ) -> list[Any]:
        """Several of them."""
        ...

    def metrics(self, module: Any, on: str = "val") -> Mapping[str, float]:
        """What a module logs on the validation (or test) set."""
        ...

    def loss(self, module: Any = None, on: Any = "val") -> Tensor:
        """Loss of each item [n]."""
        ...


def asks_model(strategy: Any) -> bool:
    """Whether a strategy chooses with the fitted model: it needs fields, or declares nothing."""
    return bool(strategy.needs) or bool(getattr(strategy, "asks_model", True))


def remembers(strategy: Any) -> bool:
    """Whether a strategy has a memory: the pair of :class:`Remembers`."""
    return hasattr(strategy, "state_dict") and hasattr(strategy, "load_state_dict")


# --- oracles -------------------------------------------------------------------------------------


@runtime_checkable
class Oracle(Protocol):
    """Answers for chosen items. ``datamodule`` is there for oracles that read or show items."""

    def ask(self, index: Tensor, datamodule: Any, round: int) -> Any:
        """Answers for the items ``index`` [K]; asked again after a crash, so repeatable.

        Returns:
            :class:`lightning_al.records.Answers`; or :class:`lightning_al.records.Later` with what
            somebody must do first: the run ends in good order, and the same command asks again.
        """
        ...


class Priced(Protocol):
    """An oracle with prices, for runs with a ``cost_budget``; 1 an item without them."""

    def price(self, index: Tensor, datamodule: Any) -> Tensor:
        """What asking for each item [K] will cost, finite numbers from 0."""
        ...


class Collects(Protocol):
    """An oracle that leaves items ``pending``, and is asked for them at the start of each round."""

    def collect(self, index: Tensor, asked: Tensor, datamodule: Any, round: int) -> Any:
        """Answers for items [W] that wait since the rounds ``asked`` [W]; or Later, as in ask."""
        ...


class Placed(Protocol):
    """An oracle that keeps files of its own beside a run."""

    def placed(self, run_dir: Any) -> Any:
        """The oracle for a run in this folder."""
        ...


class Checks(Protocol):
    """An oracle that knows, without being asked, whether data can be served."""

    def check(self, datamodule: Any) -> None:
        """Raise ValueError where they cannot; called before the first fit."""
        ...


# --- posteriors ----------------------------------------------------------------------------------


class Learns(Protocol):
    """A posterior's session that looks at the labelled set before it predicts."""

    def learn(self, task: Any, adapter: Any, batches: Callable[[], Iterable[Any]]) -> None:
        """Take in batches of inputs; each rank reads all of them."""
        ...


class Rehearses(Protocol):
    """A posterior that a fit prepares, by a callback: it lets an untrained task be scored."""

    def rehearse(self, task: Any, callbacks: Sequence[Any]) -> None:
        """Prepare an untrained task; raise LookupError where no callback will."""
        ...


# --- tasks and data ------------------------------------------------------------------------------


class FullBatch(Protocol):
    """A task that is fitted on all labelled items at once, on one device."""

    full_batch: bool


class UsesUnlabelled(Protocol):
    """A task whose training batches are ``{"labelled": …, "unlabelled": inputs of the pool}``."""

    uses_unlabelled: bool


class KnowsItsPosterior(Protocol):
    """A task that brings the posterior by which its members are drawn: a Gaussian process."""

    posterior: Any


class Joint(Protocol):
    """A task with a joint predictive distribution."""

    def joint(self, inputs: Any) -> Any:
        """``torch.distributions.MultivariateNormal`` over the items of a batch."""


class PredictsLosses(Protocol):
    """A task with a head that was trained to rank items by their loss."""

    def predicted_losses(self, *inputs: Any) -> Tensor:
        """One number an item [n]; their order counts."""


class ItemLosses(Protocol):
    """A task that tells the loss of each item; what ``bench.loss`` asks."""

    def split(self, batch: Any) -> tuple[Any, Tensor]:
        """Inputs and targets of a batch."""

    def raw(self, inputs: Any) -> Tensor:
        """Outputs [n, ...]."""

    def item_losses(self, raw: Tensor, targets: Tensor) -> Tensor:
        """Loss of each item [n]."""


@runtime_checkable
class DoesApart(Protocol):
    """A task whose steps call methods that look at numbers: a stack calls them for each replica."""

    done_apart: Sequence[str]


class NetworkOutputs(Protocol):
    """A class of tasks whose network has other than one output a target: two for a Gaussian."""

    @staticmethod
    def network_outputs(targets: int, arguments: Mapping[str, Any]) -> int:
        """How many outputs the network needs; what the command line fills in."""


class Portrayed(Protocol):
    """Anything that says itself what makes it what it is, for the identity of a run."""

    def portrait(self) -> Any:
        """Plain values that differ where it does."""
        ...


class NamesFiles(Protocol):
    """A data set whose items lie in files: their paths and sizes are its identity."""

    def files(self) -> Sequence[Any]:
        """Paths, in the order of the items."""
        ...


# --- watchers ------------------------------------------------------------------------------------


class RunObserver(Protocol):
    """Watches a run from outside the fits; rank 0 only. See ``lightning_al.callbacks``."""

    def run_started(self, plan: Mapping[str, Any], done: Sequence[Any]) -> None:
        """Before the first fit. ``done``: rounds committed before a resume.

        ``plan``: ``run_dir`` (Path), ``strategy`` (str), ``n_labelled``, ``n_pool``,
        ``query_size``, ``budget``, ``rounds`` (how many fits are expected), ``seed``, ``config``.
        """

    def stage_started(self, round: int, stage: str) -> None:
        """``stage`` is a name of :data:`lightning_al.records.stages.STAGES`."""

    def round_ended(self, round: Any, datamodule: Any) -> None:
        """After the commit of a round (the last one has nothing acquired)."""

    def run_ended(self, history: Any) -> None:
        """After the last round, or after an error (``history.stopped`` says why)."""
