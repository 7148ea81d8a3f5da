"""A continuous domain: places of a box are measured one after another, and become the data set."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from lightning_al.randomness import generator
from lightning_al.records import Box, Status

from .pool_data import ActiveDataModule, Splits
from .tensors import TensorItems
from .views import Items

__all__ = ["ContinuousDataModule"]

TRIES = 200  # draws a test set of safe places may take


class ContinuousDataModule(ActiveDataModule):
    """Places of a box ``low <= x <= high`` instead of a pool.

    The data set begins with the initial places; what is measured later is appended, and takes the
    next position. Behind the measured items lie the candidates of the round, a uniform draw that is
    made anew each round: strategies that score candidates work as on any pool, others name any
    place of the box (see :class:`lightning_al.records.Pool`). Inputs are float32 [N, D].

    Args:
        low: lower bounds, D numbers.
        high: upper bounds.
        function: what is measured, for simulations: places [K, D] float64 -> [K], or a mapping of a
            tensor [K] for each of `measures`. Without it an oracle answers, and `initial` and
            `test` are data.
        noise: standard deviation of the normal noise on each measurement.
        measures: names of what is measured; ``("y", "z")`` where z says how safe a place is (safe
            where z >= 0).
        initial: how many places are measured before the first round, drawn uniformly (by the run's
            seed) from `initial_box`; or ``(x [n, D], targets [n] or [n, m])`` as measured already.
        initial_box: bounds ``(low, high)`` of the initial places; the whole box by default.
        test: how many noisy measurements at uniform places make the test set, or a data set. With
            safety, only safe ones, and the initial places are safe too.
        candidates: how many are drawn each round.
        kwargs: see :class:`ActiveDataModule`.

    Raises:
        ValueError: bounds that make no box, or nothing to measure with.
    """

    _points: Tensor  # [n, D] measured places, those of the start first
    _targets: Tensor  # of the start

    def __init__(
        self,
        low: Sequence[float],
        high: Sequence[float],
        function: Callable[[Tensor], Tensor | Mapping[str, Tensor]] | None = None,
        *,
        noise: float = 0.0,
        measures: Sequence[str] = ("y",),
        initial: int | tuple[Any, Any] = 5,
        initial_box: tuple[Sequence[float], Sequence[float]] | None = None,
        test: int | Dataset = 200,
        candidates: int = 5000,
        **kwargs: Any,
    ) -> None:
        super().__init__(initial=0, **kwargs)
        self.box = Box(_numbers(low), _numbers(high))
        self.start_box = self.box
        if initial_box is not None:
            self.start_box = Box(_numbers(initial_box[0]), _numbers(initial_box[1]))
        if noise < 0 or candidates < 1:
            raise ValueError(
                f"noise is 0 or more and candidates 1 or more, got {noise} and {candidates}"
            )
        drawn = (isinstance(initial, int) and initial > 0) or isinstance(test, int)
        if function is None and drawn:
            raise ValueError(
                "without a function nothing can be drawn: give initial=0 or (x, targets), and a "
                "test set (a data set of measured places)"
            )
        self.function, self.noise, self.candidates = function, noise, candidates
        self.measures = tuple(measures)
        self.begin, self.tested = initial, test
        self._begun: int | None = None  # the seed whose start was measured
        self.in_features, self.outputs = len(self.box.low), len(self.measures)

    # --- what is measured --------------------------------------------------------------------

    def measure(self, x: Tensor, drawn: torch.Generator) -> Tensor:
        """Noisy measurements [K], or [K, m] of several, of places [K, D].

        Raises:
            ValueError: the function gives other than a finite number a place and measure.
        """
        if self.function is None:
            raise ValueError("this data module has no function: an oracle must answer")
        found = self.function(x.double())
        if not isinstance(found, Mapping):
            found = {self.measures[0]: found}
        if missing := [name for name in self.measures if name not in found]:
            raise ValueError(f"the function gives {sorted(found)}, {missing} is missing")
        parts = [torch.as_tensor(found[name], dtype=torch.float64) for name in self.measures]
        for name, part in zip(self.measures, parts, strict=True):
            if part.shape != (len(x),) or not bool(part.isfinite().all()):
                raise ValueError(
                    f"the function must give {name} as {len(x)} finite numbers [{len(x)}], got "
                    f"{list(part.shape)}: {part.flatten()[:3].tolist()}"
                )
        values = torch.stack(parts, 1)
        values = values + self.noise * torch.randn(
            values.shape, generator=drawn, dtype=torch.float64
        )
        return values[:, 0] if len(parts) == 1 else values

    def draw_initial(self, drawn: torch.Generator) -> tuple[Tensor, Tensor]:
        """Places [n, D] and targets of round 0."""
        if not isinstance(self.begin, int):
            x, targets = (torch.as_tensor(v) for v in self.begin)
            return x.float(), targets.float()
        return self._draw(self.begin, self.start_box, drawn, "the initial places")

    def draw_test(self, drawn: torch.Generator) -> Any:
        """The test set."""
        if not isinstance(self.tested, int):
            return self.tested
        return TensorItems(*self._draw(self.tested, self.box, drawn, "the test set"))

    def _draw(self, n: int, box: Box, drawn: torch.Generator, what: str) -> tuple[Tensor, Tensor]:
        """Places and noisy measurements; safe ones where safety is measured."""
        shape = () if len(self.measures) == 1 else (len(self.measures),)
        x, targets = torch.empty(0, len(box.low)), torch.empty(0, *shape)
        for _ in range(TRIES):
            if len(x) >= n:
                break
            more = box.draw(n - len(x), drawn).float()
            found = self.measure(more, drawn).float()
            if "z" in self.measures:
                safe = found[:, self.measures.index("z")] >= 0
                more, found = more[safe], found[safe]
            x, targets = torch.cat([x, more]), torch.cat([targets, found])
        if len(x) < n:
            raise ValueError(
                f"{what}: only {len(x)} of {n} places of {box.low.tolist()} to "
                f"{box.high.tolist()} were safe; give an initial_box that is"
            )
        return x, targets

    # --- the data set that grows -------------------------------------------------------------

    def load(self) -> Splits:
        """The data of the seed."""
        self._begin(self.seed)
        return Splits(self._items(), self._test)

    def _begin(self, seed: int) -> None:
        """The places and the test set of a seed, measured once: a function may be dear."""
        if seed == self._begun:
            self._points = self._points[: len(self._targets)]
            return
        self._points, self._targets = self.draw_initial(generator(seed, 0, "initial-places"))
        shape = () if len(self.measures) == 1 else (len(self.measures),)
        d = len(self.box.low)
        if self._points.shape[1:] != (d,) or self._targets.shape != (len(self._points), *shape):
            raise ValueError(
                f"initial places are [n, {d}] with targets {['n', *shape]}, got "
                f"{list(self._points.shape)} and {list(self._targets.shape)}"
            )
        if not self.box.holds(self._points.double()):
            raise ValueError("initial places lie outside the box; widen it, or leave them out")
        self._test = self.draw_test(generator(seed, 0, "test-places"))
        self._begun = seed

    def _items(self) -> TensorItems:
        """Measured places, then the candidates of the round; NaN where nothing was given."""
        drawn = generator(self.seed, self._round, "candidates")
        candidates = self.box.draw(self.candidates, drawn).float()
        n = len(self._points) + len(candidates)
        targets = torch.full((n, *self._targets.shape[1:]), float("nan"))
        targets[: len(self._targets)] = self._targets
        return TensorItems(torch.cat([self._points, candidates]), targets)

    def start(self, seed: int) -> None:
        """Back to round 0 of the run with this seed."""
        if self._loaded:
            self._begin(seed)
            self.seed, self._round = seed, 0
            self.splits = Splits(self._items(), self._test)
            self.items = self.pool_items = Items(self.splits.train)
        super().start(seed)
        if self._loaded:
            self._set(torch.arange(len(self._targets)), Status.LABELLED)

    @property
    def round(self) -> int:
        """Of the run; each has candidates of its own."""
        return self._round

    @round.setter
    def round(self, value: int) -> None:
        changed = value != getattr(self, "_round", None)
        self._round = value
        if changed and getattr(self, "_loaded", False):
            self._lay()

    def _lay(self) -> None:
        """Items and statuses anew: those of the measured places stay."""
        kept = self._status[: len(self._points)]
        self.items = self.pool_items = Items(self._items())
        self._status = torch.zeros(len(self.items), dtype=torch.int8)
        self._status[: len(kept)] = kept
        self.overlay.resize(len(self.items))
        self._labelled_cache = self._pool_cache = None

    @property
    def measured(self) -> int:
        """How many places are in the data set; the next one takes this position."""
        return len(self._points)

    def coordinates(self, index: Tensor | None) -> Tensor:
        """Places [K, D] of some items, float64."""
        if index is None:
            raise ValueError("no positions were given")
        inputs: Tensor = self.items.inputs(index)
        return inputs.double()

    def place(self, x: Tensor, first: int) -> None:
        """Let places [K, D] be the items from position `first` on; later ones are dropped.

        Nothing changes where they lie there already.

        Raises:
            ValueError: a gap, or a place that is answered already.
        """
        x = x.float()
        if torch.equal(self._points[first : first + len(x)], x) and (
            self.measured == first + len(x)
        ):
            return
        gone = self._status[first : self.measured]
        if first > self.measured or bool((gone != int(Status.POOL)).any()):
            raise ValueError(
                f"the next place takes position {self.measured}, got {first}: the journal and the "
                "data do not go together"
            )
        self._points = torch.cat([self._points[:first], x])
        self._status = torch.cat([self._status[:first], self._status.new_zeros(len(x))])
        self._lay()

    @property
    def pool(self) -> Tensor:
        """Positions of this round's candidates."""
        return torch.arange(self.measured, len(self.items))

    def has_label(self, index: Tensor) -> Tensor:
        """Which of some items [K] can be measured without an oracle, bool [K]."""
        return (index < len(self._targets)) | (self.function is not None)

    def labels(self, index: Tensor) -> Tensor:
        """Labels of some items: the answer, the initial target, or a measurement.

        The noise of a measurement depends on the run's seed and the position alone.
        """
        laid = self._answered(index)
        found = self.items.labels(index)
        answered = torch.zeros(len(index), dtype=torch.bool) if laid is None else laid[1]
        if laid is not None:
            found[answered] = laid[0][answered].to(found.dtype)
        for row in (~answered & (index >= len(self._targets))).nonzero().flatten().tolist():
            drawn = generator(self.seed, 0, "measure", int(index[row]))
            found[row] = self.measure(self.items.inputs(index[row : row + 1]), drawn)[0].float()
        return found

    def _example_label(self) -> Tensor:
        return self._targets.new_zeros(1, *self._targets.shape[1:])

    # --- state -------------------------------------------------------------------------------

    def fingerprint(self) -> str:
        """Hash of what was measured; candidates are no part of it."""
        digest = hashlib.sha256(self._status[: self.measured].numpy().tobytes())
        digest.update(self._points.contiguous().numpy().tobytes())
        self.overlay.update_hash(digest)
        return digest.hexdigest()[:16]

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain values only."""
        if not self._loaded:
            return {}
        status = self._status[: self.measured].clone()
        return {**super().state_dict(), "status": status, "places": self._points.clone()}

    def _restore(self, state: Mapping[str, Any]) -> None:
        if state["seed"] != self.seed:
            self.start(state["seed"])
        self._points = state["places"].clone()
        self._status = state["status"].clone()
        self._round = state["round"]
        self._lay()
        status = torch.cat([state["status"], self._status[self.measured :]])
        super()._restore({**state, "status": status})


def _numbers(values: Sequence[float]) -> Tensor:
    return torch.as_tensor(values, dtype=torch.float64)
