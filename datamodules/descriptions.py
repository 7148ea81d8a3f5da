"""What a data module is, in a few lines for people, and as a page of a notebook."""

from __future__ import annotations

from html import escape
from typing import Any

__all__ = ["as_html", "described"]

SOME = 6
"""Names of classes or outcomes that are written out."""
ROWS = 20
"""Classes that a page shows."""


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


def as_html(data: Any) -> str:
    """What a notebook shows: the same lines, and how many of each class are labelled.

    Labels that lie in files are not read for it.
    """
    page = f"<pre>{escape(described(data))}</pre>"
    if not data._loaded or data.classes is None or data.items.tensors is None:
        return page
    labels = data.labelled_targets() if len(data.labelled) else None
    if labels is None or labels.ndim != 1 or labels.is_floating_point() or bool((labels < 0).any()):
        return page
    counts = labels.bincount(minlength=data.classes).tolist()
    names = [str(n) for n in data.class_names or range(data.classes)]
    rows = [
        f"<tr><td>{escape(name)}</td><td>{count}</td></tr>"
        for name, count in zip(names[:ROWS], counts, strict=False)
    ]
    if (more := len(names) - ROWS) > 0:
        rows.append(f"<tr><td>… {more} more</td><td></td></tr>")
    head = "<tr><th>class</th><th>labelled</th></tr>"
    return f"{page}\n<table>{head}{''.join(rows)}</table>"


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
