"""Which part of an item, or of a batch, is its label."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = [
    *("LABEL_KEYS", "label_place", "named_label", "with_attribute", "with_label", "without_label"),
    "labelled_attribute",
]

LABEL_KEYS = ("label", "labels", "target", "targets", "y")
"""Keys that are taken for the label of a batch that is a mapping, where none is named."""


def label_place(parts: int, label: Any, what: str = "an item") -> int:
    """Position of the label among some parts.

    Without a number it is the second of two: what a third part is cannot be known.

    >>> label_place(2, "auto"), label_place(4, -1), label_place(3, 1)
    (1, 3, 1)

    Args:
        parts: how many there are.
        label: their position, counted from the end where it is negative; anything else names none.
        what: has the parts, for the message.

    Raises:
        ValueError: more than two parts and no position, or one that is not there.
    """
    if not isinstance(label, int) or isinstance(label, bool):
        if parts == 2:
            return 1
        raise ValueError(
            f"{what} has {parts} parts, and which is the label cannot be known; name its position, "
            "for example label=1 for (x, label, index) or label=-1 where it comes last"
        )
    if not -parts <= label < parts:
        raise ValueError(
            f"label={label} is no position in {what} of {parts} parts; name one of 0 to {parts - 1}"
        )
    return label % parts


def without_label(parts: Sequence[Any], place: int) -> Any:
    """The inputs: what comes before the label, or behind it where the label comes first.

    What follows a label in the middle (an index, a weight) is for training steps alone.

    >>> without_label(("a", "b", 7), 2), without_label(("a", 7, 99), 1), without_label((7, "a"), 0)
    (('a', 'b'), 'a', 'a')
    """
    inputs = tuple(parts[:place] or parts[place + 1 :])
    return inputs[0] if len(inputs) == 1 else inputs


def with_label(parts: Any, place: int, label: Any) -> Any:
    """The same tuple or list, of its own class, under another label."""
    changed = [*parts[:place], label, *parts[place + 1 :]]
    if type(parts) in (tuple, list):
        return type(parts)(changed)
    return type(parts)(*changed)  # a named tuple


def named_label(batch: Mapping[str, Any], label: Any) -> str | None:
    """The key of the label in a mapping: the one that is named, else a usual one, if there is one.

    >>> named_label({"x": 0, "labels": 1}, "auto"), named_label({"x": 0}, "c")
    ('labels', None)
    """
    names = (label, *LABEL_KEYS) if isinstance(label, str) else LABEL_KEYS
    return next((key for key in names if key in batch), None)


def labelled_attribute(thing: Any, label: Any) -> str | None:
    """The attribute that holds the label of an object (a graph, say), where ``label`` names it.

    Tuples, lists and mappings have parts and keys instead; "auto" names no attribute.

    >>> labelled_attribute(slice(0, 3), "stop"), labelled_attribute((0, 3), "count")
    ('stop', None)
    """
    if not isinstance(label, str) or label == "auto" or isinstance(thing, (tuple, list, Mapping)):
        return None
    return label if hasattr(thing, label) else None


def with_attribute(thing: Any, name: str, value: Any) -> Any:
    """A shallow copy of an object with another value of one attribute; None for no label.

    Raises:
        ValueError: it lets nothing be set.
    """
    changed = copy.copy(thing)
    try:
        setattr(changed, name, value)
    except AttributeError as error:
        if dataclasses.is_dataclass(thing) and not isinstance(thing, type):  # a frozen one
            return dataclasses.replace(thing, **{name: value})
        raise ValueError(
            f"the label {name!r} of a {type(thing).__name__} cannot be taken out ({error}); let "
            "the data set give (inputs, label)"
        ) from None
    return changed
