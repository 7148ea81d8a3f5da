"""What a model says of some items."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

import torch
from torch import Tensor

__all__ = ["DENSITY", "FIELDS", "Predictions"]

DENSITY = ("log_density", "nodes", "weights", "quantiles", "density_samples", "cross_log_density")
"""Those that only a predictive density has (``readings.Density``)."""

FIELDS = ("probs", "logits", "mean", "variance", *DENSITY, "embedding", "head_input")
"""What a strategy may name in ``needs``."""


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
    log_density: Tensor | None = None  # [N, S, G] at the nodes, per unit of the target
    nodes: Tensor | None = None  # [N, G] increasing, in target units
    weights: Tensor | None = None  # [N, G]: the integral of f is the sum of weights f(nodes)
    quantiles: Tensor | None = None  # [N, S, Q] at the levels (q + ½) / Q
    density_samples: Tensor | None = None  # [N, S, M, D]
    cross_log_density: Tensor | None = None  # [N, S, S, M]: log p_i of sample m of member j
    embedding: Tensor | None = None  # [N, E], features of the run where it has any
    head_input: Tensor | None = None  # [N, E], what the task's last layer reads
    mask: Tensor | None = None  # [N, *P] bool, the places that count; None: all
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
        """Only the index, the mask of places, and the named fields.

        Raises:
            LookupError: a field that is not set.
        """
        have = self.tensors()
        if missing := sorted(set(names) - set(have)):
            raise LookupError(f"predictions have no {missing}, only {sorted(have)}")
        core = {n: have[n] for n in names if n in FIELDS}
        extras = {n: have[n] for n in names if n not in FIELDS}
        return Predictions(index=self.index, **core, mask=self.mask, extras=extras)

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
