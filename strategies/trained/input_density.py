"""Inputs that are least likely under a flow over the labelled ones."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from lightning_al.randomness import derive, seeded
from lightning_al.records import Acquisition, Pool

from ..score_strategy import Described, acquired
from ..selection import check_k, top_k
from ..strategy_registry import STRATEGIES

__all__ = ["InputDensity"]

FEWEST = 10  # labelled items of which some may be set aside
MOST = 1024  # numbers of an item that a flow is asked to be a density of


@STRATEGIES.register("input-density")
@dataclass(frozen=True, repr=False, eq=False)
class InputDensity(Described):
    """Least likely inputs first, under a flow over the labelled ones (Werner, Schmidt-Thieme 2025).

    The proxy of BALSA's code: a neural spline flow is fitted to the labelled inputs each round, and
    the score of a candidate is minus its log-density there. The task's model is not looked at. The
    best of the epochs on a fifth of the labelled inputs is kept; with fewer than ten of them all
    are fitted, for all epochs. With fewer than two labelled items the k candidates are drawn.

    Compositions take it as a strategy that scores late
    (:class:`lightning_al.protocols.ScoresLate`).

    Source: Werner and Schmidt-Thieme, BALSA (2025), the proxy of the code; Durkan et al., Neural
    Spline Flows (2019).

    Args:
        transforms: splines in series.
        width: of the three hidden layers of the network behind each spline.
        lr: learning rate of AdamW.
        batch_size: labelled items a step.
        epochs: at the most.
        patience: epochs without a better likelihood of those set aside, after which it ends.
    """

    transforms: int = 3
    width: int = 128
    lr: float = 1e-3
    batch_size: int = 32
    epochs: int = 40
    patience: int = 5

    needs: ClassVar[tuple[str, ...]] = ()
    keeps: ClassVar[tuple[str, ...]] = ()
    members: ClassVar[str] = "one"
    privileged: ClassVar[bool] = False
    asks_model: ClassVar[bool] = False

    def __post_init__(self) -> None:
        counts = (self.transforms, self.width, self.batch_size, self.epochs, self.patience)
        if min(counts) < 1 or not self.lr > 0:
            raise ValueError(
                "input-density needs transforms, width, batch_size, epochs and patience of at "
                f"least 1, and lr above 0, got {self!r}"
            )

    def choose(self, candidates: Pool, k: int, generator: torch.Generator) -> Acquisition:
        """The k least likely.

        Raises:
            ValueError: more asked than there are, or inputs that are no numbers, or too many.
        """
        check_k(candidates.index, k)
        scores = self.late_scores(candidates)
        return acquired(candidates, top_k(scores, k, generator), scores)

    def late_scores(self, pool: Pool) -> Tensor:
        """Minus the log-density [N] of the candidates, in nats of the standardised inputs.

        The same whenever they are asked for: the flow draws by round and labelled items.

        Raises:
            ValueError: inputs that are no numbers, or too many.
        """
        labelled = pool.bench.labelled.sort().values
        if not len(pool) or len(labelled) < 2:
            return torch.zeros(len(pool))
        known = torch.cat(list(_numbers(pool, labelled)))
        middle, scale = known.mean(0), known.std(0)
        scale = torch.where(scale > 0, scale, 1.0)
        key = derive(pool.context.round, len(labelled), "input-density", *labelled.tolist())
        with seeded(key, 0, "input-density"), torch.enable_grad():
            flow = self._fitted(((known - middle) / scale).float())
        flow = flow.double()  # so that equal items score alike wherever they stand in a batch
        scores = []
        with torch.no_grad():
            for part in _numbers(pool, pool.index):
                scores.append(-flow().log_prob((part - middle) / scale))
        return torch.cat(scores)

    def _fitted(self, known: Tensor) -> Any:
        """A flow over standardised inputs [L, F]."""
        from lightning_al.networks.input_flow import zuko_flow

        more = {"transforms": self.transforms, "hidden_features": [self.width] * 3}
        flow = zuko_flow("NSF", known.shape[1], 0, more)
        aside = len(known) // 5 if len(known) >= FEWEST else 0
        order = torch.randperm(len(known))
        checked, taught = known[order[:aside]], known[order[aside:]]
        adam = torch.optim.AdamW(flow.parameters(), lr=self.lr)
        best, weights, since = torch.inf, copy.deepcopy(flow.state_dict()), 0
        for _ in range(self.epochs):
            for rows in torch.randperm(len(taught)).split(self.batch_size):
                adam.zero_grad()
                (-flow().log_prob(taught[rows]).mean()).backward()
                adam.step()
            if not aside:
                continue
            with torch.no_grad():
                loss = float(-flow().log_prob(checked).mean())
            since = 0 if loss < best else since + 1
            if loss < best:
                best, weights = loss, copy.deepcopy(flow.state_dict())
            if since > self.patience:
                break
        if aside:
            flow.load_state_dict(weights)
        return flow.eval()


def _numbers(pool: Pool, index: Tensor) -> Iterator[Tensor]:
    """Inputs of some items as numbers [n, F], float64, batch by batch on the CPU."""
    for batch in pool.bench.inputs(index):
        if not isinstance(batch, Tensor) or batch.ndim < 2 or batch.is_complex():
            raise ValueError(
                "input-density needs inputs that are numbers, one tensor [n, ...] a batch, got "
                f"{type(batch).__name__}; use a strategy over the embedding, such as k-center"
            )
        part = batch.detach().flatten(1).double().cpu()
        if part.shape[1] > MOST:
            raise ValueError(
                f"input-density needs inputs of at most {MOST} numbers an item, got "
                f"{part.shape[1]}: a flow learns no density of so many from labelled items; use a "
                "strategy over the embedding, such as k-center"
            )
        yield part
