"""Active learning on PyTorch Lightning: which items to label next, and whether that helped."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lightning_al.assembly.replay import replay
    from lightning_al.history.history import History
    from lightning_al.journal.fixes import fix_answers
    from lightning_al.rounds import ActiveLearner
    from lightning_al.rounds.suggest import suggest
    from lightning_al.valuing import label_values

__version__ = "0.1.0"
__all__ = ["ActiveLearner", "History", "__version__", "fix_answers", "label_values", "replay"]
__all__ += ["suggest"]

_HOME = {
    "ActiveLearner": "lightning_al.rounds",
    "History": "lightning_al.rounds",
    "fix_answers": "lightning_al.journal.fixes",
    "label_values": "lightning_al.valuing",
    "replay": "lightning_al.assembly.replay",
    "suggest": "lightning_al.rounds.suggest",
}


def __getattr__(name: str) -> Any:
    """Import the public names at their first use: ``import lightning_al`` itself stays cheap."""
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'lightning_al' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
