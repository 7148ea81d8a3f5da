"""Outputs that are predicted numbers, with or without a variance of their own."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from lightning_al.scores.numerics import full

from .reading import READINGS, check_fields, expected

__all__ = ["Numbers", "Split"]

Split = Callable[[Tensor], tuple[Tensor, Tensor | None]]


@READINGS.register("numbers")
@dataclass(frozen=True)
class Numbers:
    """D numbers an item: outputs [n, D], or [n] of one; with members [n, S, D] or [n, S].

    Args:
        outputs: D; None takes it from the output.
        given: "mean"; "gaussian", [..., 2 D] of means, then log-variances; or a function that
            splits outputs [n, S, *] into means [n, S, D] and variances [n, S, D] (or None), in
            units of the target.
        members: the output has the posterior samples on its second axis.
    """

    outputs: int | None = None
    given: str | Split = "mean"
    members: bool = False

    kind: ClassVar[str] = "regression"
    gives: ClassVar[frozenset[str]] = frozenset({"mean", "variance"})

    def __post_init__(self) -> None:
        if not callable(self.given) and self.given not in ("mean", "gaussian"):
            raise ValueError(
                f"given is 'mean', 'gaussian' or a function that splits outputs, got {self.given!r}"
            )

    def fields(self, raw: Tensor, needs: Collection[str]) -> dict[str, Tensor]:
        """mean, and where the output has one, variance: [n, S, D]; float64 where the output is.

        So that numbers far from zero keep what they differ by.
        """
        wanted = check_fields(self, needs)
        mean, variance = self.split(full(raw))
        have = {"mean": mean} if variance is None else {"mean": mean, "variance": variance}
        if "variance" in wanted and variance is None:
            raise LookupError(
                "the strategy needs ['variance'], and this regression model gives ['mean']; a "
                "variance comes from Numbers(given='gaussian') or a function that splits"
            )
        return {name: have[name] for name in wanted}

    def check(self, raw: Tensor, targets: Tensor | None) -> None:
        """Targets are D numbers an item."""
        mean, _ = self.split(full(raw))
        if targets is None:
            return
        n, d = mean.shape[0], mean.shape[2]
        if targets.shape != (n, d) and not (d == 1 and targets.shape == (n,)):
            raise ValueError(
                f"{d} number(s) an item were declared, and the targets are {list(targets.shape)} "
                f"for {n} items; declare Numbers(outputs=…) as many as there are targets"
            )

    def means(self, width: int) -> int:
        """How many of an output's numbers are means; they come first."""
        if self.outputs is not None:
            return self.outputs
        return width // 2 if self.given == "gaussian" else width

    def split(self, raw: Tensor) -> tuple[Tensor, Tensor | None]:
        """Means and variances [n, S, D] of raw outputs.

        Raises:
            ValueError: outputs that are no such numbers.
        """
        raw = raw.unsqueeze(2) if raw.ndim == 2 else raw
        what = "numbers [n, D]" if self.outputs is None else f"{self.outputs} number(s) an item"
        if raw.ndim != 3:
            raise expected(what, raw, "members are declared by Numbers(members=True)")
        if callable(self.given):
            return self.given(raw)
        if self.given == "gaussian":
            if raw.shape[2] % 2 or (self.outputs and raw.shape[2] != 2 * self.outputs):
                raise expected(
                    f"{what}, each a mean and then a log-variance ([n, 2 D])",
                    raw,
                    "give the model twice as many outputs as there are targets",
                )
            mean, log_variance = raw.chunk(2, dim=2)
            return mean, log_variance.exp()
        if self.outputs is not None and raw.shape[2] != self.outputs:
            raise expected(what, raw, "give the model an output a target")
        return raw, None
