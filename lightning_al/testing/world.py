"""A made-up data set under a made-up model, as a strategy's ``choose`` meets it in a run."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from lightning_al.densities import MixtureDensity
from lightning_al.readings import Density
from lightning_al.records import DENSITY, Context, Pool, Predictions

from .world_bench import WorldBench

__all__ = ["CANDIDATES", "GIVEN", "World", "density_fields"]

ITEMS, CANDIDATES, LABELLED = 60, 17, 6
UNEVEN = (1, 7, 5, 4)
CLASSES, FEATURES = 3, 5
GIVEN = {
    "classification": ("probs", "logits", "embedding", "head_input"),
    "either": ("probs", "logits", "embedding", "head_input"),
    "regression": ("mean", "variance", "embedding", "head_input"),
    "density": ("mean", "variance", *DENSITY, "embedding", "head_input"),
    "safe": ("mean", "variance", "embedding", "head_input"),
}
"""Kinds of worlds, and the fields that their models give.

"density" is a regression by mixtures of two Gaussians, "safe" is a regression of y and z; what is
for either kind of task is tried on classes.
"""


def density_fields(raw: Tensor) -> dict[str, Tensor]:
    """All fields of mixtures of two Gaussians, small ones: raw [n, S, 6] -> each [n, S, ...].

    The numbers are two logits, two means, and two logarithms of deviations.
    """
    known = _fields(tuple(raw.flatten().tolist()), tuple(raw.shape))
    return {name: values.clone() for name, values in known.items()}


@lru_cache(maxsize=32)
def _fields(numbers: tuple[float, ...], shape: tuple[int, ...]) -> dict[str, Tensor]:
    raw = torch.tensor(numbers).reshape(shape)
    reading = Density(given=_mixture, nodes=40, quantiles=8, samples=6)
    return reading.fields(raw, reading.gives)


def _mixture(raw: Tensor) -> MixtureDensity:
    logits, means, log_deviations = raw.chunk(3, -1)
    return MixtureDensity(logits, means.unsqueeze(-1), log_deviations.unsqueeze(-1).exp())


@dataclass(frozen=True)
class World:
    """A made-up data set under a made-up model: the predictions of all its items.

    In the worlds of :meth:`make`, each member's logits (mean, log-variance) are linear in the
    embedding, so that the pool's ``bench`` has a model that predicts just this. The inputs of the
    items are their embeddings.

    >>> len(World.make("regression", samples=4).pool(None))
    17
    """

    predictions: Predictions  # [ITEMS], index = arange
    index: Tensor  # [N] the candidates, in no order
    labelled: Tensor  # [L]
    context: Context

    @classmethod
    def make(cls, kind: str, samples: int, seed: int = 0) -> World:
        """A world of one kind, seen by some members.

        Kinds are "classification" (or "either"), "regression", "density", and "safe": a regression
        with two outputs, the second of which is a safety measurement, safe where it is >= 0.
        """
        generator = torch.Generator().manual_seed(seed)

        embedding = torch.randn(ITEMS, FEATURES, generator=generator)

        def draw(outputs: int) -> Tensor:
            weight = torch.randn(samples, outputs, FEATURES, generator=generator) / FEATURES**0.5
            bias = 0.3 * torch.randn(samples, outputs, generator=generator)
            return torch.einsum("ne,soe->nso", embedding, weight) + bias

        logits = 2 * draw(CLASSES)
        targets = torch.arange(LABELLED) % CLASSES
        outputs = 2 if kind == "safe" else 1
        every: dict[str, Any] = {
            "probs": logits.softmax(-1),
            "logits": logits,
            "mean": draw(outputs),
            "variance": draw(outputs).exp(),
            "embedding": embedding,
            "head_input": embedding,
        }
        order = (
            torch.randperm(ITEMS - 20, generator=generator) + 20
        )  # no row of the pool is a member
        regression = kind in ("regression", "density", "safe")
        if kind == "density":
            every |= density_fields(draw(6))
        if regression:
            targets = torch.stack([targets.float() + d for d in range(outputs)], 1)
        return cls(
            predictions=Predictions(torch.arange(ITEMS), **{n: every[n] for n in GIVEN[kind]}),
            index=order[:CANDIDATES],
            labelled=torch.randperm(20, generator=generator)[:LABELLED],
            context=Context(
                round=2,
                n_labelled=LABELLED,
                n_pool=CANDIDATES,
                classes=None if regression else CLASSES,
                targets=targets,
                remaining=CANDIDATES,
            ),
        )

    def changed(self, change: Callable[[Tensor], Tensor]) -> World:
        """The same items under changed predictions (each field [ITEMS, ...])."""
        values: dict[str, Any] = {
            name: change(value.clone())
            for name, value in self.predictions.tensors().items()
            if name != "index"
        }
        return replace(self, predictions=Predictions(self.predictions.index, **values))

    def see(self, index: Tensor, names: Collection[str]) -> Predictions:
        """What the model says of some items [n]."""
        return self.predictions.rows(index).keep(names)

    def pool(
        self, strategy: Any, index: Tensor | None = None, sizes: Sequence[int] = UNEVEN
    ) -> Pool:
        """The candidates [N] as a run would hand them to ``choose``, scored in batches."""
        index = self.index if index is None else index
        needs, keeps = getattr(strategy, "needs", ()), getattr(strategy, "keeps", ())
        scores = None
        if needs and hasattr(strategy, "score") and len(index):
            parts = [self.see(part, needs) for part in _batches(index, sizes)]
            scores = torch.cat([strategy.score(part, self.context) for part in parts])
        return Pool(
            index=index.clone(),
            scores=scores,
            kept=self.see(index, keeps) if keeps else None,
            context=self.context,
            bench=WorldBench(self, strategy),
        )

    @property
    def inputs(self) -> Tensor:
        """Inputs of all items [ITEMS, E], which are their embeddings."""
        return self.predictions.tensors()["embedding"].float()


def _batches(index: Tensor, sizes: Sequence[int]) -> Iterator[Tensor]:
    start = 0
    while start < len(index):
        for size in sizes:
            if start < len(index):
                yield index[start : start + size]
            start += size
