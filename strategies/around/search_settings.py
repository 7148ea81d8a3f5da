"""Settings of the search of ``auto-al`` for the candidate to trust."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

__all__ = ["SearchSettings"]

PUBLISHED = {"steps": 400, "warm_up": 200, "batch_size": 1000, "share": 0.02}
"""What the released code has by default."""


@dataclass(frozen=True)
class SearchSettings:
    """How the two networks of ``auto-al`` are trained in a round.

    Args:
        steps: of the search after the warm-up; fit and search networks take turns.
        warm_up: steps of the fit networks alone.
        batch_size: labelled items a step, of both halves.
        share: of a batch that counts as chosen.
        width: of the hidden layers.
        lr: learning rate of AdamW.
        weight_decay: of AdamW, on weight matrices; so much because few items are labelled.
        temperature: of the soft choice in deviations of the mixed scores, at first and at last.
        spread: weight of the entropy of the mean weights, over that of equal ones.
        loss_head: weight of the loss prediction as auxiliary target; 0 for none.
        rest: weight of all items in the loss of the fit networks, beside the chosen ones.
        signal: what an item is worth: its "loss", as published, or the "gain": how much a step on
            it lowers the loss of other items.
        per_item: each item has weights of its own; False: all have the same.
        cross_fit: losses are those of a network that has not seen the item; False: that has.
        warm_start: begin with what the last round learnt, as far as embeddings are still the same.
    """

    steps: int = 120
    warm_up: int = 60
    batch_size: int = 256
    share: float = 0.1
    width: int = 64
    lr: float = 5e-3
    weight_decay: float = 1.0
    temperature: tuple[float, float] = (1.0, 0.5)
    spread: float = 0.1
    loss_head: float = 0.1
    rest: float = 0.1
    signal: Literal["loss", "gain"] = "loss"
    per_item: bool = True
    cross_fit: bool = True
    warm_start: bool = True

    def __post_init__(self) -> None:
        counts = {"steps": 1, "warm_up": 0, "batch_size": 4, "width": 1}
        for name, least in counts.items():
            if not isinstance(value := getattr(self, name), int) or value < least:
                raise ValueError(f"{name} is a whole number of at least {least}, got {value!r}")
        if not 0 < self.share < 1:
            raise ValueError(f"share is above 0 and below 1, got {self.share}")
        ends = tuple(map(float, self.temperature))
        if len(ends) != 2 or not min(ends) > 0:
            raise ValueError(f"temperature is two numbers above 0, got {self.temperature}")
        object.__setattr__(self, "temperature", ends)
        if self.signal not in ("loss", "gain"):
            raise ValueError(f"signal is 'loss' or 'gain', got {self.signal!r}")
        if not self.lr > 0:
            raise ValueError(f"lr is above 0, got {self.lr}")
        for name in ("weight_decay", "spread", "loss_head", "rest"):
            if not (value := getattr(self, name)) >= 0:
                raise ValueError(f"{name} is at least 0, got {value}")

    @classmethod
    def of(
        cls, given: SearchSettings | Mapping[str, Any] | None, *, published: bool = False
    ) -> SearchSettings:
        """Settings from themselves, from plain values, or the usual ones.

        Args:
            given: those that differ from the usual ones.
            published: the usual ones are the authors'.

        Raises:
            ValueError: a setting that there is not.
        """
        if isinstance(given, SearchSettings):
            return given
        plain = dict(given or {})
        known = [f.name for f in fields(cls)]
        if unknown := sorted(set(plain) - set(known)):
            raise ValueError(f"a search has no setting {unknown[0]!r}; it has {', '.join(known)}")
        return cls(**{**(PUBLISHED if published else {}), **plain})

    def plain(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)
