"""The losses of many refits, done some at a time, and written down as they come."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .estimate import Estimate, values_by_ridge
from .multisets import Multisets

__all__ = ["AT_ONCE", "Losses", "Told", "losses_of", "valued"]

AT_ONCE = 64  # refits that are asked for together: one stack


@dataclass(frozen=True)
class Told:
    """How the loss of a refit is read off the judges.

    Args:
        objective: a metric that a validation logs; None for the mean loss of the items.
        sign: -1 where a larger metric is better.
    """

    objective: str | None = None
    sign: float = 1.0

    def loss(self, bench: Any, module: Any, held: Tensor | None) -> float:
        """The loss of a module on the validation set, or on some labelled items.

        Raises:
            LookupError: an objective that is never logged.
        """
        if self.objective is None:
            losses: Tensor = bench.loss(module, on="val" if held is None else held)
            return float(losses.double().mean())
        logged = bench.metrics(module)
        if self.objective not in logged:
            have = ", ".join(sorted(logged)) or "nothing"
            raise LookupError(
                f"objective {self.objective!r} is never logged in a validation, which logs {have}"
            )
        return self.sign * float(logged[self.objective])


def losses_of(
    bench: Any, design: Multisets, first: int, last: int, told: Told = Told()
) -> list[float]:
    """Losses of the refits ``first`` up to ``last`` of a design, fitted together.

    Args:
        bench: of the round; fits and judges.
        design: what is fitted on.
        first: number of the first.
        last: behind the last one.
        told: how a loss is read.
    """
    draws = range(first, last)
    counts = [design.counts(t) for t in draws]
    drawn = [each > 0 for each in counts]  # whole numbers repeat items
    asked = [(design.index[d], each[d]) for d, each in zip(drawn, counts, strict=True)]
    modules = bench.refits(asked)
    return [told.loss(bench, m, design.held(t)) for t, m in zip(draws, modules, strict=True)]


def valued(design: Multisets, losses: Sequence[float]) -> Estimate:
    """Values of the items of a design from the losses of its first refits, by ridge.

    A fit whose loss is not finite is left out.
    """
    y = torch.tensor(losses, dtype=torch.float64)
    part = torch.tensor([design.part(t) for t in range(len(losses))])
    sound = y.isfinite()
    return values_by_ridge(design.centred(len(losses))[sound], y[sound], part[sound])


class Losses:
    """The losses of a design so far; where it has a file, each is there before the next is fitted.

    Args:
        path: of the file, one JSON object a line; None for no file.
        key: of the design, model and labels; a file of another one is refused.
    """

    def __init__(self, path: Path | None, key: str) -> None:
        self.path, self.values, self._at = path, list[float](), 0
        if path is None:
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        known = path.read_bytes() if path.exists() else b""
        whole = known[: known.rfind(b"\n") + 1]  # a torn last line is what a crash leaves
        lines = [json.loads(line) for line in whole.splitlines()]
        if lines and lines[0] != {"values": key}:
            raise ValueError(
                f"{path} holds losses of other labels, another model or another seed; give another "
                "folder, or delete the file"
            )
        self.values = [math.nan if v["loss"] is None else v["loss"] for v in lines[1:]]
        with path.open("r+b" if known else "wb") as file:
            file.truncate(len(whole))
        if not lines:
            self._write([{"values": key}])

    def add(self, some: Sequence[float]) -> None:
        """Keep the losses of the next refits."""
        self.values += some
        rows = enumerate(some, len(self.values) - len(some))
        if self.path is not None:
            self._write([{"refit": t, "loss": v if math.isfinite(v) else None} for t, v in rows])

    def _write(self, lines: Sequence[dict[str, Any]]) -> None:
        assert self.path is not None
        with self.path.open("a", encoding="utf-8") as file:
            file.write("".join(json.dumps(line) + "\n" for line in lines))
            file.flush()
            os.fsync(file.fileno())

    def up_to(
        self, refits: int, fit: Callable[[int, int], list[float]], seconds: float | None
    ) -> Iterator[int]:
        """Fit what is missing, and say how many there are after each lot.

        Args:
            refits: how many there should be.
            fit: (first, last) -> losses.
            seconds: after which no further lot is begun; the first one always is.
        """
        clock = time.monotonic()
        while len(self.values) < refits:
            late = seconds is not None and time.monotonic() - clock > seconds
            if late and self.values:
                break
            first = len(self.values)
            self.add(fit(first, min(first + AT_ONCE, refits)))
            yield len(self.values)
