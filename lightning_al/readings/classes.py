"""Outputs that are class scores of an item: several classes, one logit, or independent labels."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from .reading import READINGS, check_fields, expected

__all__ = ["FORMS", "Binary", "Classes", "Labels", "check_classes", "check_form", "class_fields"]

FORMS = ("logits", "probs", "log_probs")
"""How class scores may be given."""

SUM = 1e-3  # probabilities of an item may miss 1 by so much


def check_form(given: str, allowed: Collection[str] = FORMS) -> None:
    """Refuse an unknown form.

    Raises:
        ValueError: it is none of ``allowed``.
    """
    if given not in allowed:
        raise ValueError(f"given is one of {', '.join(allowed)}, got {given!r}")


def class_fields(raw: Tensor, given: str, needs: Collection[str], axis: int) -> dict[str, Tensor]:
    """``probs`` and ``logits`` of class scores, float32, as far as they are asked for.

    Args:
        raw: scores with the classes on ``axis``.
        given: their form.
        needs: of "probs" and "logits".
        axis: of the classes.

    Raises:
        ValueError: probabilities that do not sum to 1.
    """
    raw = raw.float()
    found: dict[str, Tensor] = {}
    if given == "probs":
        _check_distribution(raw, axis)
        if "probs" in needs:
            found["probs"] = raw
        if "logits" in needs:
            found["logits"] = raw.log()
        return found
    if given == "log_probs":
        _check_distribution(raw.exp(), axis)
    if "logits" in needs:
        found["logits"] = raw
    if "probs" in needs:
        found["probs"] = raw.softmax(axis)
    return found


def _check_distribution(probs: Tensor, axis: int) -> None:
    """Refuse what is no distribution; NaN is another matter."""
    total = probs.sum(axis)
    off = ((total - 1).abs() > SUM) | (probs < -SUM).any(axis)
    if bool(off.any()):
        raise ValueError(
            f"outputs declared as probabilities do not sum to 1 over the classes: the first that "
            f"misses sums to {float(total[off].flatten()[0]):.4g}; declare given='logits' for "
            "unnormalised scores, or Labels() for independent sigmoids"
        )


def check_classes(targets: Tensor, classes: int, ignore: int | None = None) -> None:
    """Refuse targets that are no classes 0 to C - 1.

    Raises:
        ValueError: numbers that are not whole, or a class that is none.
    """
    if targets.is_floating_point() or targets.is_complex():
        raise ValueError(
            f"targets of classes are whole numbers 0 to {classes - 1}, got {targets.dtype}; for "
            "numbers declare Adapter(kind='regression')"
        )
    told = targets if ignore is None else targets[targets != ignore]
    if told.numel() and not 0 <= int(told.min()) <= int(told.max()) < classes:
        wrong = int(told.min()) if int(told.min()) < 0 else int(told.max())
        raise ValueError(
            f"label {wrong} is none of the {classes} classes 0 to {classes - 1} of the output; "
            "mend the labels, or give the model as many outputs as there are classes"
        )


@READINGS.register("classes")
@dataclass(frozen=True)
class Classes:
    """One class an item: outputs [n, C], or [n, S, C] with members.

    Args:
        classes: C; None takes it from the output.
        given: "logits", "probs" or "log_probs".
        members: the output has the posterior samples on its second axis.
    """

    classes: int | None = None
    given: str = "logits"
    members: bool = False

    kind: ClassVar[str] = "classification"
    gives: ClassVar[frozenset[str]] = frozenset({"probs", "logits"})

    def __post_init__(self) -> None:
        check_form(self.given)

    def fields(self, raw: Tensor, needs: Collection[str]) -> dict[str, Tensor]:
        """probs, logits [n, S, C]."""
        wanted = check_fields(self, needs)
        self._refuse(raw)
        return class_fields(raw, self.given, wanted, axis=2)

    def check(self, raw: Tensor, targets: Tensor | None) -> None:
        """Targets are one whole number an item."""
        self._refuse(raw)
        if targets is None:
            return
        if targets.shape != raw.shape[:1]:
            mend = "independent labels are Labels(), a class a place is Places()"
            raise ValueError(
                f"one class an item was declared, and the targets are {list(targets.shape)} for "
                f"{len(raw)} items; {mend}"
            )
        check_classes(targets, raw.shape[2])

    def _refuse(self, raw: Tensor) -> None:
        what = "class scores [n, C]" if not self.members else "members' class scores [n, S, C]"
        if raw.ndim != 3:
            raise expected(
                what,
                raw,
                "declare what it is: Classes(members=True) for an ensemble, Places() for a class a "
                "place, Binary() for one logit",
            )
        if raw.shape[2] == 1 or (self.classes is not None and raw.shape[2] != self.classes):
            wanted = "2 or more" if self.classes is None else f"{self.classes}"
            raise expected(
                f"{what} of {wanted} classes",
                raw,
                "one logit is declared as Binary(); else give the model an output a class",
            )


@READINGS.register("binary")
@dataclass(frozen=True)
class Binary:
    """Two classes by one number: outputs [n] or [n, 1], with members [n, S] or [n, S, 1].

    Read as two classes, the second of which the number speaks for.

    Args:
        given: "logits", or "probs" of the second class.
        members: the output has the posterior samples on its second axis.
    """

    given: str = "logits"
    members: bool = False

    kind: ClassVar[str] = "classification"
    gives: ClassVar[frozenset[str]] = frozenset({"probs", "logits"})

    def __post_init__(self) -> None:
        check_form(self.given, ("logits", "probs"))

    def fields(self, raw: Tensor, needs: Collection[str]) -> dict[str, Tensor]:
        """probs, logits [n, S, 2]."""
        wanted = check_fields(self, needs)
        return _of_two(self._one(raw), self.given, wanted)

    def check(self, raw: Tensor, targets: Tensor | None) -> None:
        """Targets are 0 or 1, one an item."""
        self._one(raw)
        if targets is not None:
            _zero_or_one(targets, [torch.Size([len(raw)]), torch.Size([len(raw), 1])])

    def _one(self, raw: Tensor) -> Tensor:
        if raw.ndim == 3 and raw.shape[2] == 1:
            raw = raw[..., 0]
        if raw.ndim != 2:
            raise expected(
                "one number an item, [n] or [n, 1]",
                raw,
                "several independent labels are Labels(), an output a class is Classes()",
            )
        return raw


@READINGS.register("labels")
@dataclass(frozen=True)
class Labels:
    """Independent labels of an item, each there or not: outputs [n, L], with members [n, S, L].

    Each label is a place of the item, and has two classes there.

    Args:
        labels: L; None takes it from the output.
        given: "logits", or "probs" of each label.
        members: the output has the posterior samples on its second axis.
    """

    labels: int | None = None
    given: str = "logits"
    members: bool = False

    kind: ClassVar[str] = "classification"
    gives: ClassVar[frozenset[str]] = frozenset({"probs", "logits"})

    def __post_init__(self) -> None:
        check_form(self.given, ("logits", "probs"))

    def fields(self, raw: Tensor, needs: Collection[str]) -> dict[str, Tensor]:
        """probs, logits [n, S, 2, L]."""
        wanted = check_fields(self, needs)
        self._refuse(raw)
        return _of_two(raw, self.given, wanted)

    def check(self, raw: Tensor, targets: Tensor | None) -> None:
        """Targets are 0 or 1, one a label."""
        self._refuse(raw)
        if targets is not None:
            _zero_or_one(targets, [torch.Size([len(raw), raw.shape[2]])])

    def _refuse(self, raw: Tensor) -> None:
        if raw.ndim != 3 or (self.labels is not None and raw.shape[2] != self.labels):
            what = "L" if self.labels is None else f"{self.labels}"
            raise expected(
                f"independent labels [n, {what}]",
                raw,
                "one class an item is Classes(), a class a place is Places()",
            )


def _of_two(raw: Tensor, given: str, needs: Collection[str]) -> dict[str, Tensor]:
    """Scores of there or not, [n, S, ...] -> two classes on axis 2: [n, S, 2, ...]."""
    raw = raw.float()
    found: dict[str, Tensor] = {}
    if given == "probs":
        inside = (raw > -SUM) & (raw < 1 + SUM) | raw.isnan()
        if not bool(inside.all()):
            raise ValueError(
                "outputs declared as probabilities lie outside [0, 1]: "
                f"{float(raw[~inside][0]):.4g}; declare given='logits'"
            )
        if "probs" in needs:
            found["probs"] = torch.stack([1 - raw, raw], 2)
        if "logits" in needs:
            found["logits"] = torch.stack([(1 - raw).log(), raw.log()], 2)
        return found
    if "probs" in needs:
        found["probs"] = torch.stack([(-raw).sigmoid(), raw.sigmoid()], 2)
    if "logits" in needs:
        found["logits"] = torch.stack([logsigmoid(-raw), logsigmoid(raw)], 2)
    return found


def _zero_or_one(targets: Tensor, shapes: Collection[torch.Size]) -> None:
    if targets.shape not in shapes:
        raise ValueError(
            f"targets must be {' or '.join(str(list(s)) for s in shapes)} of 0 and 1 to go with "
            f"the output, got {list(targets.shape)}"
        )
    off = (targets != 0) & (targets != 1)
    if bool(off.any()):
        raise ValueError(
            f"targets must be 0 or 1, got {targets[off].flatten()[0].item()}; one class an item is "
            "Classes()"
        )
