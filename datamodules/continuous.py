"""A continuous domain: places of a box are measured one after another, and become the data set."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from lightning_al.labels import LabelState
from lightning_al.randomness import generator
from lightning_al.records import Box, Outcomes, Status
from lightning_al.values import narrowed

from .items import Items
from .pool_data import PoolDataModule, Splits
from .portraits import dataset_digest
from .splits import is_dataset
from .tensors import TensorItems

__all__ = ["ContinuousDataModule"]

TRIES = 200  # draws a test set of safe places may take


class ContinuousDataModule(PoolDataModule):
    """Places of a box ``low <= x <= high`` instead of a pool.

    The data set begins with the initial places; what is measured later is appended, and takes the
    next position. Behind the measured items lie the candidates of the round, a uniform draw that is
    made anew each round: strategies that score candidates work as on any pool, others name any
    place of the box (see :class:`lightning_al.records.Pool`). Inputs are float32 [N, D].

    Args:
        low: lower bounds, D numbers.
        high: upper bounds.
        function: what is measured, for simulations: places [K, D] float64 -> [K], or a mapping of a
            tensor [K] for each of `outcomes`. Without it an oracle answers, and `initial` and
            `test` are data.
        noise: standard deviation of the normal noise on each measurement.
        outcomes: names of what is measured.
        safety: the one of several outcomes that says how safe a place is, safe where it is 0 or
            more.
        initial: how many places are measured before the first round, drawn uniformly (by the run's
            seed) from `initial_box`; or ``(x [n, D], targets [n] or [n, m])`` as measured already.
        initial_box: bounds ``(low, high)`` of the initial places; the whole box by default.
        test: how many noisy measurements at uniform places make the test set, or a data set. With
            safety, only safe ones, and the initial places are safe too.
        candidates: how many are drawn each round.
        batch_size: training batch of one process.
        eval_batch_size: batch for scoring, validation and test; None for 512, and for more than
            that to score data in memory by a small network.
        num_workers: worker processes of the loaders.
        seed: of the draws; ``ActiveLearner`` sets it.

    Raises:
        ValueError: bounds that make no box, or nothing to measure with.
    """

    _targets: Tensor  # of the start

    def __init__(
        self,
        low: Sequence[float],
        high: Sequence[float],
        function: Callable[[Tensor], Tensor | Mapping[str, Tensor]] | None = None,
        *,
        noise: float = 0.0,
        outcomes: Sequence[str] = ("y",),
        safety: str | None = None,
        initial: int | tuple[Any, Any] = 5,
        initial_box: tuple[Sequence[float], Sequence[float]] | None = None,
        test: int | Dataset = 200,
        candidates: int = 5000,
        batch_size: int = 32,
        eval_batch_size: int | None = None,
        num_workers: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__(
            initial=0,
            batch_size=batch_size,
            eval_batch_size=eval_batch_size,
            num_workers=num_workers,
            seed=seed,
        )
        if isinstance(initial, bool) or isinstance(test, bool):
            raise TypeError(f"initial and test are counts or data, got {initial} and {test}")
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
        self.outcomes = Outcomes(tuple(outcomes), safety)
        self.begin, self.tested = initial, test
        self._begun: int | None = None  # the seed whose start was measured
        self.in_features, self.outputs = len(self.box.low), len(self.outcomes)

    @property
    def domain(self) -> Box:
        """The box."""
        return self.box

    # --- what is measured --------------------------------------------------------------------

    def measure(self, x: Tensor, drawn: torch.Generator) -> Tensor:
        """Noisy measurements [K], or [K, m] of several outcomes, of places [K, D].

        Raises:
            ValueError: the function gives other than a finite number a place and outcome.
        """
        if self.function is None:
            raise ValueError("this data module has no function: an oracle must answer")
        names = self.outcomes.names
        found = self.function(x.double())
        if not isinstance(found, Mapping):
            found = {names[0]: found}
        if missing := [name for name in names if name not in found]:
            raise ValueError(f"the function gives {sorted(found)}, {missing} is missing")
        parts = [torch.as_tensor(found[name], dtype=torch.float64) for name in names]
        for name, part in zip(names, parts, strict=True):
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
            return x.float(), narrowed(targets, "the initial targets")
        return self._draw(self.begin, self.start_box, drawn, "the initial places")

    def draw_test(self, drawn: torch.Generator) -> Any:
        """The test set."""
        if not isinstance(self.tested, int):
            return self.tested
        return TensorItems(*self._draw(self.tested, self.box, drawn, "the test set"))

    @property
    def _width(self) -> tuple[int, ...]:
        """Shape of one target."""
        return () if len(self.outcomes) == 1 else (len(self.outcomes),)

    def _draw(self, n: int, box: Box, drawn: torch.Generator, what: str) -> tuple[Tensor, Tensor]:
        """Places and noisy measurements; safe ones where safety is measured."""
        column = self.outcomes.safety_column
        x, targets = torch.empty(0, len(box.low)), torch.empty(0, *self._width)
        for _ in range(TRIES):
            if len(x) >= n:
                break
            more = box.draw(n - len(x), drawn).float()
            found = narrowed(self.measure(more, drawn), "what the function gives")
            if column is not None:
                safe = found[:, column] >= 0
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
        self._measure_start(self.seed)
        return Splits(self._laid(self._start_places), self._test)

    def _measure_start(self, seed: int) -> None:
        """The initial places and the test set of a seed, measured once: a function may be dear."""
        if seed == self._begun:
            return
        places, self._targets = self.draw_initial(generator(seed, 0, "initial-places"))
        d = len(self.box.low)
        if places.shape[1:] != (d,) or self._targets.shape != (len(places), *self._width):
            raise ValueError(
                f"initial places are [n, {d}] with targets {['n', *self._width]}, got "
                f"{list(places.shape)} and {list(self._targets.shape)}"
            )
        if not self.box.holds(places.double()):
            raise ValueError("initial places lie outside the box; widen it, or leave them out")
        self._start_places = places
        self._test = self.draw_test(generator(seed, 0, "test-places"))
        self._begun = seed

    def _laid(self, places: Tensor) -> TensorItems:
        """Measured places, then the candidates of the round; NaN where nothing was given."""
        drawn = generator(self.seed, self._round, "candidates")
        candidates = self.box.draw(self.candidates, drawn).float()
        n = len(places) + len(candidates)
        targets = torch.full((n, *self._targets.shape[1:]), float("nan"))
        targets[: len(self._targets)] = self._targets
        return TensorItems(torch.cat([places, candidates]), targets)

    def _lay(self) -> None:
        """Items anew: measured places, and the candidates of the round behind them."""
        assert self.state.places is not None
        self.items = self.pool_items = Items(self._laid(self.state.places))

    def start(self, seed: int) -> None:
        """Back to round 0 of the run with this seed."""
        if self._loaded:
            self._measure_start(seed)
            self.seed, self._round = seed, 0
            self.splits = Splits(self._laid(self._start_places), self._test)
            self.items = self.pool_items = Items(self.splits.train)
        super().start(seed)
        if self._loaded:
            self.state.put(torch.arange(len(self._targets)), Status.LABELLED)

    def fresh_state(self) -> LabelState:
        """The state of the initial places."""
        return LabelState(len(self._start_places), self._start_places.clone())

    @property
    def round(self) -> int:
        """Of the run; each has candidates of its own."""
        return self._round

    @round.setter
    def round(self, value: int) -> None:
        changed = value != getattr(self, "_round", None)
        self._round = value
        if changed and self._loaded:
            self._lay()

    @property
    def measured(self) -> int:
        """How many places are in the data set; the next one takes this position."""
        return len(self.state)

    def coordinates(self, index: Tensor | None) -> Tensor:
        """Places [K, D] of some items, float64."""
        if index is None:
            raise ValueError("no positions were given")
        inputs: Tensor = self.items.inputs(index)
        return inputs.double()

    def place(self, x: Tensor, first: int) -> None:
        """Let places [K, D] be the items from position `first` on; later ones are dropped."""
        self.state.place(x, first)
        self._lay()

    def apply(self, record: Mapping[str, Any]) -> None:
        """Take one line of a run's journal."""
        before = self.measured
        super().apply(record)
        if record["event"] == "chosen" or self.measured != before:
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
        laid = self.answered(index)
        found = self.items.labels(index)
        told = torch.zeros(len(index), dtype=torch.bool) if laid is None else laid[1]
        if laid is not None:
            found[told] = laid[0][told].to(found.dtype)
        for row in (~told & (index >= len(self._targets))).nonzero().flatten().tolist():
            drawn = generator(self.seed, 0, "measure", int(index[row]))
            found[row] = self.measure(self.items.inputs(index[row : row + 1]), drawn)[0].float()
        return found

    def _example_label(self) -> Tensor:
        return self._targets.new_zeros(1, *self._targets.shape[1:])

    def portrait(self) -> dict[str, Any]:
        """What this domain is; the candidates of a round are no part of it."""
        told: Any = self.function
        if getattr(told, "__self__", None) is self:  # of a class that says the rest itself
            told = told.__name__
        return {
            "class": type(self).__qualname__,
            "low": self.box.low.tolist(),
            "high": self.box.high.tolist(),
            "function": told,
            "noise": self.noise,
            "test": dataset_digest(self.tested) if is_dataset(self.tested) else self.tested,
            "candidates": self.candidates,
            "outcomes": list(self.outcomes.names),
            "safety": self.outcomes.safety,
            "batch_size": self.batch_size,
            "state": self.fingerprint(),
        }

    def _restore(self, state: Mapping[str, Any]) -> None:
        super()._restore(state)
        self._lay()


def _numbers(values: Sequence[float]) -> Tensor:
    return torch.as_tensor(values, dtype=torch.float64)
