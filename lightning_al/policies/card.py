"""The card of a policy: what network its weights belong to, and how far it was trained."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

__all__ = ["FORMAT", "Card"]

FORMAT = 1


@dataclass(frozen=True)
class Card:
    """What a policy's weights are.

    Args:
        kind: "SetPolicy" or "FlexiblePolicy".
        settings: arguments of its constructor.
        history: the most points that it was trained on.
        budget: the most queries that it was trained for.
        training: steps, seed, loss, machine, date, ...; for people.
        sha256: of the file of weights.
        format: of these files.
    """

    kind: str
    settings: Mapping[str, Any]
    history: int
    budget: int
    training: Mapping[str, Any] = field(default_factory=dict)
    sha256: str | None = None
    format: int = FORMAT

    def text(self, **changed: Any) -> str:
        """As JSON, with other values for some fields."""
        return json.dumps({**asdict(self), **changed}, indent=2) + "\n"

    @classmethod
    def read(cls, text: str | bytes, where: str) -> Card:
        """The card that :meth:`text` wrote.

        Args:
            text: JSON.
            where: the file, for the error.

        Raises:
            ValueError: damaged, or of another format.
        """
        try:
            read = json.loads(text)
            if not isinstance(read, dict) or "format" not in read:
                raise ValueError("no card of a policy")
            if read["format"] == FORMAT:
                card = cls(**{f.name: read[f.name] for f in fields(cls)})
                card._check()
                return card
        except (ValueError, KeyError, TypeError) as error:
            missing = "no field " if isinstance(error, KeyError) else ""
            raise ValueError(f"{where} is damaged: {missing}{error}; fetch it again") from None
        raise ValueError(
            f"{where} is of format {read['format']}, this version reads {FORMAT}; take the version "
            "of lightning-al that wrote it"
        )

    def _check(self) -> None:
        for name in ("history", "budget"):
            value = getattr(self, name)
            if type(value) is not int or value < 1:
                raise ValueError(f"{name} is a whole number, 1 or more, got {value!r}")
        for name in ("settings", "training"):
            if not isinstance(getattr(self, name), Mapping):
                raise ValueError(f"{name} is a table, got {getattr(self, name)!r}")
        if not isinstance(self.kind, str):
            raise ValueError(f"kind is a name, got {self.kind!r}")
