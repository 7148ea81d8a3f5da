"""Monte-Carlo dropout with members that are functions."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from .chain import Tail, Watch
from .masks import Masks, dropout_layers
from .protocol import Drawn, Reader

__all__ = ["DropoutSession", "MCDropout"]

log = logging.getLogger(__name__)

MEND = (
    "use nn.Dropout layers with p > 0 (F.dropout inside forward, attention's and recurrent layers' "
    "own dropout, and compiled networks cannot be switched on), or score with an ensemble"
)


@dataclass(frozen=True)
class MCDropout:
    """Members that are the network under fixed dropout masks.

    Gal, Ghahramani (2016), "Dropout as a Bayesian Approximation", with each member's masks drawn
    once per (seed, round, member, layer) as in Kirsch, van Amersfoort, Gal (2019), "BatchBALD":
    member ``s`` is one function for every item, batch and rank. Only dropout layers are switched
    on (``nn.Dropout``, ``Dropout1d/2d/3d``, ``AlphaDropout``, ``FeatureAlphaDropout``); batch
    normalisation stays in eval mode. A layer called twice in a pass has a mask for each call.
    Embeddings are those of the network without dropout.

    On a network that has members itself (an ensemble) each of them is sampled: S is
    ``members`` times theirs.

    Args:
        members: S.
        per_channel: masks with one entry a channel, for items of varying shapes.
        least: layers with a smaller probability drop with this one while members are drawn (BALSA's
            "dual" mode, where a network is trained with less dropout than it is asked with).
    """

    members: int = 20
    per_channel: bool = False
    least: float = 0.0

    def __post_init__(self) -> None:
        if self.members < 1:
            raise ValueError(f"MCDropout needs at least 1 member, got {self.members}")
        if not 0 <= self.least < 1:
            raise ValueError(f"least is a probability from 0, below 1, got {self.least}")

    def start(self, seed: int, round: int) -> DropoutSession:
        """Begin a scoring pass."""
        return DropoutSession(Masks(seed, round, self.members, self.per_channel, self.least))


class DropoutSession:
    """One scoring pass of :class:`MCDropout`."""

    def __init__(self, masks: Masks) -> None:
        self.masks = masks
        self.whole_network = False  # each member runs all layers
        self._seen = False

    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Shape of the masks by layer."""
        return dict(self.masks.shapes)

    def shapes_vary(self, *others: Mapping[str, tuple[int, ...]]) -> bool:
        """Whether a layer met items of two shapes, here or (``others``) on another rank."""
        mine = self.masks.shapes
        return self.masks.vary or any(
            name in mine and tuple(shape) != mine[name]
            for other in others
            for name, shape in other.items()
        )

    def per_channel(self) -> DropoutSession:
        """A new session of the same seed and round, with one mask entry a channel."""
        old = self.masks
        masks = Masks(old.seed, old.round, old.members, per_channel=True, least=old.least)
        return DropoutSession(masks)

    def members(
        self,
        task: nn.Module,
        adapter: Reader,
        inputs: Any,
        n: int,
        *,
        outputs: bool = True,
        embedding: bool = False,
    ) -> Drawn:
        """Outputs [n, S, ...] for one batch, and embeddings without dropout.

        Raises:
            ValueError: no dropout layer, or members that agree bit for bit on the first batch.
        """
        task.eval()
        with torch.no_grad():
            if not outputs:
                return Drawn(None, adapter.run(task, inputs, embedding=embedding)[1])
            raws, hidden = self._raws(task, adapter, inputs, n, embedding)
            own = adapter.sampled(raws.flatten(0, 1))  # [S n, members of the network itself, ...]
            by_item = own.unflatten(0, raws.shape[:2]).transpose(0, 1).flatten(1, 2)
        return Drawn(by_item, hidden)

    def _raws(
        self, task: nn.Module, adapter: Reader, inputs: Any, n: int, embed: bool
    ) -> tuple[Tensor, Tensor | None]:
        """Raw outputs of all members [S, n, ...], and embeddings without dropout."""
        layers = dropout_layers(task)
        active = {name: layer for name, layer in layers.items() if self.masks.p(layer) > 0}
        if not active:
            off = f"its dropout layers {list(layers)} have p = 0" if layers else "none is there"
            raise ValueError(
                f"{type(task).__name__} has no dropout layer to sample from: {off}; {MEND}"
            )
        with Watch(task, active, self.masks, n) as watch:
            watch.members(None if embed else range(1))
            raw, embedding = adapter.run(task, inputs, embedding=embed)
            if raw.shape[0] != n:
                raise ValueError(
                    f"the network returned {list(raw.shape)} for a batch of {n} items; "
                    "the first axis of an output must be the items"
                )
            tail = None if self.whole_network else watch.tail(raw)
            if not self._seen:
                tail = self._trusted(watch, tail, raw)
                self._announce(task, tail)
            raws = [] if embed else [raw.unsqueeze(0)]
            done, step = len(raws), 1 if tail is None else tail.together
            for start in range(done, self.masks.members, step):
                chunk = range(start, min(start + step, self.masks.members))
                watch.members(chunk)
                out = adapter.run(task, inputs)[0] if tail is None else tail.run()
                raws.append(out.reshape(len(chunk), n, *out.shape[1:]))
        together = torch.cat(raws)
        if not self._seen and n > 0:
            self._differ(task, together, active)
            self._seen = True
        return together, embedding

    def _trusted(self, watch: Watch, tail: Tail | None, raw: Tensor) -> Tail | None:
        """The tail, if on the first batch it gives what the whole network gave."""
        if tail is None:
            return None
        watch.members(watch.current)
        again = tail.run()
        return tail if torch.allclose(again, raw, rtol=1e-3, atol=1e-4, equal_nan=True) else None

    def _announce(self, task: nn.Module, tail: Tail | None) -> None:
        self.whole_network = tail is None
        if tail is None:
            log.info(
                "MC dropout runs the whole %s once per member: its output is not that of an "
                "nn.Sequential with all the dropout inside",
                type(task).__name__,
            )

    def _differ(self, task: nn.Module, raws: Tensor, active: Collection[str]) -> None:
        if self.masks.members > 1 and bool((raws == raws[:1]).all()):
            raise ValueError(
                f"all {self.masks.members} members of {type(task).__name__} agree bit for bit, so "
                f"its dropout layers {list(active)} do not reach the output; {MEND}"
            )
