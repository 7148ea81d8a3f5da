"""What a data module is, in a few lines for people."""

from __future__ import annotations

from typing import Any

__all__ = ["described"]

SOME = 6
"""Names of classes or outcomes that are written out."""


def described(data: Any) -> str:
    """Five lines at most: the kind, who is labelled, an item, its answer, the loaders."""
    name = type(data).__name__
    loaders = (
        f"  batches of {data.batch_size} to train, {data.eval_batch_size} to score; "
        f"{data.num_workers} workers; seed {data.seed}"
    )
    if not data._loaded:
        start = data.initial if isinstance(data.initial, (int, float, str)) else "as given"
        return f"{name}, not read yet: setup() reads it\n  initial {start}\n{loaders}"
    counts: dict[str, int | None] = {"labelled": len(data.labelled), "pool": len(data.pool)}
    counts |= {part: _count(data, part) for part in ("val", "test")}
    return "\n".join(
        [
            f"{name} of {len(data.items)} items",
            "  " + ", ".join(f"{part} {n}" for part, n in counts.items() if n is not None),
            f"  inputs {_inputs(data)}; {_answers(data)}",
            loaders,
        ]
    )


def _count(data: Any, part: str) -> int | None:
    """Items that are held for a part; None where there is no such part, or it has no length."""
    held, given = data.held.get(part), getattr(data.splits, part)
    if held is not None:
        return len(held)
    return len(given) if hasattr(given, "__len__") else None


def _inputs(data: Any) -> str:
    if data.image_size is not None and data.in_channels is not None:
        return f"[{data.in_channels}, {data.image_size}, {data.image_size}]"
    if data.in_features is not None:
        return f"[{data.in_features}]"
    return "as the data set gives them"


def _answers(data: Any) -> str:
    if data.classes is not None:
        names = [str(name) for name in data.class_names or ()]
        shown = ", ".join(names[:SOME]) + (", …" if len(names) > SOME else "")
        return f"{data.classes} classes" + (f" ({shown})" if shown else "")
    if len(data.outcomes) > 1:
        return f"outcomes {', '.join(data.outcomes.names[:SOME])}"
    if data.outputs is not None:
        return f"{data.outputs} number(s) an item"
    return "labels as the data set gives them"
