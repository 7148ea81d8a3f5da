"""What the networks of ``auto-al`` look at: embeddings, or inputs by the task's own backbone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from pytorch_lightning import LightningModule
from torch import Tensor, nn

from lightning_al.records import Pool
from lightning_al.tasks import Adapter

from .labelled_halves import Halves
from .search_networks import (
    FitNetwork,
    Searcher,
    Standardised,
    Weigher,
    item_losses,
    rows_of,
)
from .search_settings import SearchSettings

__all__ = ["Side", "backbone_side", "embedding_side"]

BLOCK = 2**15  # items that are asked about together
STATISTICS = 2**14  # items by which embeddings are standardised
ANCHORS = 64  # items by which two embeddings are compared
ALIKE = 0.3  # their distance, over their spread, below which networks are carried over


@dataclass(frozen=True)
class Side:
    """Networks over one kind of inputs, to be trained and asked.

    Args:
        pool: of the round, N usable items by ascending index.
        halves: of the labelled items.
        searcher: the networks.
        inputs: of the labelled items.
        targets: as the fit networks' losses take them.
        ask: weights [N, K], and what each item is taken for [N].
        kept: what the next round begins with.
    """

    pool: Pool
    halves: Halves
    searcher: Searcher
    inputs: Any
    targets: Tensor
    ask: Callable[[Searcher], tuple[Tensor, Tensor | None]]
    kept: Callable[[Searcher], dict[str, Any]]

    def searched(self, seed: int) -> tuple[Tensor, Tensor | None]:
        """Train, then weights [N, K] of the pool, and classes [N] where there are such."""
        batches = self.searcher.batches(self.inputs, self.halves, self.targets, seed % 2**62)
        self.pool.bench.fit(self.searcher, batches, max_epochs=1)
        self.searcher.eval()
        with torch.inference_mode(False), torch.no_grad():
            return self.ask(self.searcher)

    def memory(self) -> dict[str, Any]:
        """What the next round begins with."""
        return self.kept(self.searcher)


def embedding_side(
    pool: Pool,
    halves: Halves,
    settings: SearchSettings,
    memory: Mapping[str, Any],
    make: type[Searcher],
) -> Side:
    """Networks of one hidden layer on embeddings, which they standardise by the pool's.

    They begin with the last round's where the embeddings of the same items are still about the
    same (frozen features, fits that go on); where they are not, with its mean weights alone.

    Raises:
        ValueError: several labels an item.
    """
    points, known = pool.embedding, halves.points
    assert known is not None  # the strategy keeps embeddings
    targets, outputs = _targets(pool, halves)
    step = max(1, len(points) // STATISTICS)
    below = Standardised(points[::step].float().cpu())
    features = points.shape[1]
    weigher = Weigher(below, features, halves.silent, settings.width, settings.per_item)
    fits = [FitNetwork(below, features, outputs, settings.width) for _ in range(make.fit_networks)]
    searcher = make(weigher, nn.ModuleList(fits), item_losses, settings)
    if settings.warm_start and "state" in memory:
        _carry_over(searcher, memory, halves.index, known)
    numbers = targets.is_floating_point()

    def ask(trained: Searcher) -> tuple[Tensor, Tensor | None]:
        device = next(trained.parameters()).device
        weights, classes = [], []
        for part in points.split(BLOCK):
            part = part.to(device)
            weights.append(trained(part).cpu())
            if not numbers:
                said = [network(part).softmax(1) for network in trained.fits]
                classes.append(torch.stack(said).mean(0).argmax(1).cpu())
        return torch.cat(weights), None if numbers else torch.cat(classes)

    def kept(trained: Searcher) -> dict[str, Any]:
        some = {"anchors": halves.index[:ANCHORS].clone(), "points": known[:ANCHORS].clone()}
        return {**some, "state": _state(trained)}

    return Side(pool, halves, searcher, known, targets, ask, kept)


def backbone_side(
    pool: Pool,
    halves: Halves,
    settings: SearchSettings,
    memory: Mapping[str, Any],
    make: type[Searcher],
) -> Side:
    """Networks that are modules as the run builds them, on the items' inputs.

    The fit networks are such modules, the search network is the part of one up to its embedding,
    and a hidden layer. They begin with those of the last round.

    Raises:
        LookupError: a task that knows no loss of each item, or names no embedding.
        ValueError: several labels an item, or inputs that cannot be put into one batch.
    """
    bench = pool.bench
    if not hasattr(bench.task, "item_losses"):
        raise LookupError(
            f"networks='backbone' needs the loss of each item, and {type(bench.task).__name__} has "
            "no item_losses(raw, targets) -> [n]; take a task of lightning_al.tasks, or "
            "networks='embedding'"
        )
    targets, _ = _targets(pool, halves)
    inputs = _together(list(bench.inputs(halves.index)))
    trunk = bench.fresh()
    adapter = Adapter.for_task(trunk)
    trunk.eval()
    with torch.no_grad():
        _, seen = adapter.run(trunk, rows_of(inputs, torch.arange(1)), True)
    assert seen is not None  # asked for in the line above
    trunk.train()
    many = halves.utility.shape[1]
    weigher = Weigher(
        _Embedding(trunk, adapter),
        seen.shape[1],
        halves.silent,
        settings.width,
        settings.per_item,
    )
    fits = [_Outputs(bench.fresh(), adapter) for _ in range(make.fit_networks)]
    searcher = make(weigher, nn.ModuleList(fits), trunk.item_losses, settings)
    if settings.warm_start and "state" in memory:
        _load(searcher, memory["state"])

    def ask(trained: Searcher) -> tuple[Tensor, Tensor | None]:
        said = bench.predict(pool.index, ["mean"], module=_Asked(trained, adapter)).mean
        assert said is not None  # asked for in the line above
        said = said.flatten(1).cpu()
        numbers = targets.is_floating_point()
        return said[:, :many], None if numbers else said[:, many:].argmax(1)

    def kept(trained: Searcher) -> dict[str, Any]:
        return {"state": _state(trained)}

    return Side(pool, halves, searcher, inputs, targets, ask, kept)


class _Embedding(nn.Module):
    """A module up to its embedding."""

    def __init__(self, task: nn.Module, adapter: Adapter) -> None:
        super().__init__()
        self.task, self.adapter = task, adapter

    def forward(self, inputs: Any) -> Tensor:
        """Embeddings [n, E]."""
        _, seen = self.adapter.run(self.task, inputs, True)
        assert seen is not None  # asked for
        return seen


class _Outputs(nn.Module):
    """A module's raw outputs."""

    def __init__(self, task: nn.Module, adapter: Adapter) -> None:
        super().__init__()
        self.task, self.adapter = task, adapter

    def seen(self, inputs: Any) -> tuple[Tensor, Tensor]:
        """Raw outputs [n, ...] and embeddings [n, E]."""
        raw, hidden = self.adapter.run(self.task, inputs, True)
        assert hidden is not None  # asked for
        return raw, hidden

    def forward(self, inputs: Any) -> Tensor:
        """Raw outputs [n, ...]."""
        return self.adapter.outputs(self.task, inputs)


class _Asked(LightningModule):
    """Weights [n, K], and behind them the class probabilities of the fit networks."""

    def __init__(self, searcher: Searcher, read: Adapter) -> None:
        super().__init__()
        self.searcher, self.read = searcher, read
        self.adapter = Adapter(kind="regression")

    def forward(self, *inputs: Any) -> Tensor:
        """[n, K + C], or [n, K] where there are no classes."""
        given: Any = inputs[0] if len(inputs) == 1 else inputs
        weights = self.searcher(given).float()
        if self.read.reading.kind == "regression":
            return weights
        said = []
        for network in self.searcher.fits:
            raw = self.read.sampled(network(given))
            said.append(self.read.reading.fields(raw, ["probs"])["probs"].mean(1).float())
        return torch.cat([weights, torch.stack(said).mean(0)], 1)


def _targets(pool: Pool, halves: Halves) -> tuple[Tensor, int]:
    """Targets of the labelled items as losses take them, and how many outputs they ask for.

    Classes [L], or numbers [L, D] in deviations from their mean.
    """
    targets = halves.targets
    if pool.bench.reading.kind == "regression":
        numbers = targets.reshape(len(targets), -1).double()
        numbers = numbers - numbers[:1]  # far from zero no digits are lost
        deviation = numbers.std(0, unbiased=False)
        deviation = torch.where(deviation > 0, deviation, 1.0)
        return ((numbers - numbers.mean(0)) / deviation).float(), numbers.shape[1]
    if targets.ndim != 1:
        raise ValueError(
            f"auto-al learns from one class an item, and the targets are {list(targets.shape)}; "
            "items with places or several labels need another strategy"
        )
    classes = targets.long()
    return classes, max(pool.context.classes or 0, int(classes.max()) + 1)


def _carry_over(
    searcher: Searcher, memory: Mapping[str, Any], index: Tensor, points: Tensor
) -> None:
    """Load the last round's networks where embeddings are alike, else the mean weights."""
    state = memory["state"]
    if "points" in memory and _alike(memory["anchors"], memory["points"], index, points):
        _load(searcher, state)
        return
    bias = searcher.weigher.out.bias
    if (old := state.get("weigher.out.bias")) is not None and old.shape == bias.shape:
        with torch.no_grad():
            bias.copy_(old)


def _alike(anchors: Tensor, before: Tensor, index: Tensor, points: Tensor) -> bool:
    """Whether items [A] that were seen before lie about where they did."""
    at = torch.searchsorted(index, anchors).clamp_max(len(index) - 1)
    same = index[at] == anchors
    if before.shape[1] != points.shape[1] or int(same.sum()) < 2:
        return False
    now, then = points[at[same]].double(), before[same].double()
    spread = torch.linalg.vector_norm(now - now.mean(0))
    return bool(torch.linalg.vector_norm(now - then) <= ALIKE * spread)


def _state(searcher: Searcher) -> dict[str, Tensor]:
    return {n: v.detach().cpu().clone() for n, v in searcher.state_dict().items()}


def _load(searcher: Searcher, state: Mapping[str, Tensor]) -> None:
    """Take over what has the same shape."""
    mine = searcher.state_dict()
    fits = {n: v for n, v in state.items() if n in mine and mine[n].shape == v.shape}
    searcher.load_state_dict(fits, strict=False)


def _together(batches: list[Any]) -> Any:
    """Batches of inputs as one."""
    first = batches[0]
    if isinstance(first, Tensor):
        if len({part.shape[1:] for part in batches}) > 1:
            raise ValueError(
                "networks='backbone' puts the labelled items into one batch, and they differ in "
                "shape; bring them to one shape, or take networks='embedding'"
            )
        return torch.cat(batches)
    if isinstance(first, Mapping):
        return {name: _together([part[name] for part in batches]) for name in first}
    return tuple(_together([part[i] for part in batches]) for i in range(len(first)))
