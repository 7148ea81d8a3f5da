"""What a posterior is, as the rounds see it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol, Self, runtime_checkable

from torch import Tensor, nn

from lightning_al.readings import Reading

__all__ = ["Drawn", "Posterior", "Reader", "Session", "ShapeFree"]


class Reader(Protocol):
    """How a module is run (:class:`lightning_al.tasks.Adapter` is one)."""

    @property
    def reading(self) -> Reading:
        """What its outputs are."""
        ...

    @property
    def embedding(self) -> Any:
        """Where its embedding is: names of layers or methods."""
        ...

    def run(
        self, module: nn.Module, inputs: Any, embedding: bool = False
    ) -> tuple[Tensor, Tensor | None]:
        """Raw outputs [n, ...] and, if asked for, embeddings [n, E]."""
        ...

    def sampled(self, raw: Tensor) -> Tensor:
        """Raw outputs [n, ...] as those of the module's own members [n, S, ...]."""
        ...


class Drawn(NamedTuple):
    """What the members of a posterior say of one batch."""

    raw: Tensor | None  # [n, S, ...], as the module gives it; None where it was not asked for
    embedding: Tensor | None = None  # [n, E], of the module without what makes members differ


@runtime_checkable
class Session(Protocol):
    """One scoring pass: the members stay the same functions until it ends."""

    def members(
        self,
        task: nn.Module,
        adapter: Reader,
        inputs: Any,
        n: int,
        *,
        outputs: bool = True,
        embedding: bool = False,
    ) -> Drawn:
        """Raw outputs [n, S, ...] of all members for one batch; what they mean is not its matter.

        The task is put in eval mode and left there; no gradients. Device and autocast are the
        caller's matter.

        Args:
            task: the fitted module.
            adapter: how it is run.
            inputs: of the batch.
            n: items in it.
            outputs: whether outputs are wanted.
            embedding: whether embeddings are.
        """
        ...

    # A session that needs the labelled set also has
    # learn(task, adapter, batches: Callable[[], Iterable[inputs]]) -> None, called before the first
    # batch on every rank, with the inputs of all labelled items on the task's device.

    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Shapes that the members' functions depend on, by name; to be compared across ranks."""
        ...

    def shapes_vary(self, *others: Mapping[str, tuple[int, ...]]) -> bool:
        """Whether items of different shapes met, here or (``others``) on another rank.

        What was said is then to be thrown away and the pass redone with :meth:`per_channel`.
        """
        ...

    def per_channel(self) -> Session:
        """A new session of the same seed and round whose members do not depend on shapes."""
        ...


class ShapeFree:
    """The half of a :class:`Session` whose members do not depend on the shapes of items."""

    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """None that matter."""
        return {}

    def shapes_vary(self, *others: Mapping[str, tuple[int, ...]]) -> bool:
        """Never."""
        return False

    def per_channel(self) -> Self:
        """The same."""
        return self


@runtime_checkable
class Posterior(Protocol):
    """A way to draw functions from a trained model."""

    members: int | None  # drawn functions; None: those the network itself has

    def start(self, seed: int, round: int) -> Session:
        """Begin a scoring pass; the same seed and round give the same members on every rank."""
        ...
