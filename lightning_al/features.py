"""Feature extractors under their public name; see :mod:`lightning_al.scoring.extractors`."""

from __future__ import annotations

from lightning_al.scoring.extractors import Backbone, Raw
from lightning_al.scoring.hub_extractors import Sentences, Timm, Transformer

__all__ = ["Backbone", "Raw", "Sentences", "Timm", "Transformer"]
