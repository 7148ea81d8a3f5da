"""The networks of ``auto-al``, and how they are trained against each other."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from pytorch_lightning import LightningModule
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_al.tasks.loss_head import ranking_loss

from .labelled_halves import Halves
from .search_settings import SearchSettings
from .soft_top import soft_top

__all__ = [
    "Batches",
    "FitNetwork",
    "KnownWorth",
    "Searcher",
    "Standardised",
    "Weigher",
    "item_losses",
]

CLIP = 3.0  # deviations beyond which a loss says no more
Losses = Callable[[Tensor, Tensor], Tensor]


class Standardised(nn.Module):
    """Embeddings [n, E] by the mean and deviation of the pool, at most 5 deviations away."""

    origin: Tensor
    scale: Tensor

    def __init__(self, points: Tensor) -> None:
        super().__init__()
        std = points.std(0, unbiased=False)
        tiny = 1e-6 * points.abs().amax(0)
        self.register_buffer("origin", points.mean(0).float())
        self.register_buffer("scale", torch.where(std > tiny, std, 1.0).float())

    def forward(self, points: Tensor) -> Tensor:
        """[n, E] -> [n, E]."""
        return ((points.float() - self.origin) / self.scale).clamp(-5, 5)


class Weigher(nn.Module):
    """The search network: items to logits of their weights [n, K], and predicted losses [n].

    The last layer begins at zero, so that at first each candidate counts alike, and an order of the
    candidates means nothing.

    Args:
        below: the inputs' features [n, E].
        features: E.
        silent: bool [K], which candidates have the same to say of all items: they have no weight.
        width: of the hidden layer.
        per_item: False: all items have the same weights, the last layer's biases.
    """

    silent: Tensor

    def __init__(
        self,
        below: nn.Module,
        features: int,
        silent: Tensor,
        width: int,
        per_item: bool = True,
    ) -> None:
        super().__init__()
        self.per_item = per_item
        self.register_buffer("silent", silent.clone(), persistent=False)
        candidates = len(silent)
        self.below = below
        self.hidden = nn.Linear(features, width)
        self.out = nn.Linear(width, candidates)
        self.told = nn.Linear(width, 1)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, inputs: Any) -> tuple[Tensor, Tensor]:
        """Logits [n, K] and predicted losses [n]."""
        hidden = self.hidden(self.below(inputs)).relu()
        found = self.out(hidden) if self.per_item else self.out.bias.expand(len(hidden), -1)
        logits = found.masked_fill(self.silent, -torch.inf)
        return logits, self.told(hidden).squeeze(1)


class FitNetwork(nn.Module):
    """Features [n, E] to outputs [n, O]: class logits, or numbers; zero at first.

    Args:
        below: the inputs' features [n, E].
        features: E.
        outputs: O.
        width: of the hidden layer.
    """

    def __init__(self, below: nn.Module, features: int, outputs: int, width: int) -> None:
        super().__init__()
        self.below, self.hidden = below, nn.Linear(features, width)
        self.out = nn.Linear(width, outputs)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def seen(self, inputs: Any) -> tuple[Tensor, Tensor]:
        """Outputs [n, O], and what the last layer reads [n, width]."""
        hidden = self.hidden(self.below(inputs)).relu()
        return self.out(hidden), hidden

    def forward(self, inputs: Any) -> Tensor:
        """Outputs [n, O]."""
        return self.seen(inputs)[0]


def item_losses(raw: Tensor, targets: Tensor) -> Tensor:
    """Loss of each item [n]: cross-entropy of logits [n, C], or squared error of numbers [n, D].

    Targets are classes [n], or numbers [n, D], over which the mean is taken.
    """
    if targets.is_floating_point():
        return (raw - targets).square().mean(1)
    return F.cross_entropy(raw, targets, reduction="none")


@dataclass(frozen=True)
class Batches:
    """So many random batches of labelled items; the same in each pass.

    A batch is (inputs, utilities [n, K], targets [n, ...], halves [n]), rows in one order.
    """

    inputs: Any  # [L, ...]
    utility: Tensor  # [L, K]
    targets: Tensor  # [L, ...]
    half: Tensor  # [L] 0 or 1
    size: int
    steps: int
    seed: int

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[tuple[Any, Tensor, Tensor, Tensor]]:
        draw = torch.Generator().manual_seed(self.seed)
        for _ in range(self.steps):
            rows = torch.randperm(len(self.half), generator=draw)[: self.size]
            inputs = rows_of(self.inputs, rows)
            yield inputs, self.utility[rows], self.targets[rows], self.half[rows]


class Searcher(LightningModule):
    """Search network against two fit networks, one for each half of the labelled items.

    After a warm-up of the fit networks they take turns: a fit network lowers the loss of the chosen
    items of its half (and, with weight ``rest``, of all); the search network has those items chosen
    whose loss is high under the network of the *other* half. Chosen are the items of the highest
    mixed utility, softly and so that their number is exact (:func:`.soft_top.soft_top`).

    Source: Wang, Zhan and Huang, AutoAL (2025), equations 7 and 8, first order; their Gaussian
    mixture, threshold and count penalty, through which no gradient comes, are the soft choice here.

    Args:
        weigher: the search network.
        fits: a fit network for each half.
        losses: of each item, of outputs and targets.
        settings: of the search.
    """

    fit_networks: ClassVar[int] = 2

    def __init__(
        self, weigher: Weigher, fits: nn.ModuleList, losses: Losses, settings: SearchSettings
    ) -> None:
        super().__init__()
        self.weigher, self.fits, self.losses, self.settings = weigher, fits, losses, settings
        self.step_of = 0  # steps that were taken

    def forward(self, inputs: Any) -> Tensor:
        """Weights of the candidates [n, K]; they add up to 1."""
        logits, _ = self.weigher(inputs)
        return logits.softmax(1)  # type: ignore[no-any-return]

    def mixed(self, inputs: Any, utility: Tensor) -> Tensor:
        """The mixed utility [n] of items whose utilities are [n, K]."""
        return (self(inputs) * utility).sum(1)

    @property
    def warmness(self) -> float:
        """Temperature of the soft choice, in deviations of the mixed scores."""
        first, last = self.settings.temperature
        after = max(0, self.step_of - self.settings.warm_up) / self.settings.steps
        return float(first * (last / first) ** min(1.0, after))

    def chosen(self, mixed: Tensor) -> Tensor:
        """How far each item is chosen, by its mixed utility: [n] -> [n], of an exact sum."""
        count = min(max(1.0, self.settings.share * len(mixed)), len(mixed) / 2)
        deviation = float(mixed.detach().std(unbiased=False))
        return soft_top(mixed, count, self.warmness * max(deviation, 1e-4))

    def fit_loss(self, batch: Any, *, chosen: Tensor | None) -> Tensor:
        """What the fit networks lower; each looks at its own half of the batch.

        Args:
            batch: of :class:`Batches`.
            chosen: how far each item is [n]; None where all count alike.
        """
        inputs, _, targets, half = batch
        loss = torch.zeros((), device=half.device)
        for i, network in enumerate(self.fits):
            own = half == i
            if not bool(own.any()):
                continue
            losses = self.losses(network(rows_of(inputs, own)), targets[own])
            if chosen is None:
                loss = loss + losses.mean()
                continue
            weight = chosen[own].detach().to(losses.dtype)
            loss = loss + (weight * losses).sum() / weight.sum().clamp_min(1e-6)
            loss = loss + self.settings.rest * losses.mean()
        return loss

    def worth(self, batch: Any) -> Tensor:
        """What labelling each item would have been worth [n], by the network that has not seen it.

        (Or, without ``cross_fit``, by the one that has.) With ``signal="loss"`` it is the item's
        loss. With "gain" it is by how much a step on the item lowers the loss of the others of its
        half: the product of its gradient in the last layer with their mean gradient,
        ``mean_j (r_i . r_j) (1 + h_i . h_j)`` of residuals r and inputs h of that layer.
        """
        inputs, _, targets, half = batch
        found = [self._worth(network, inputs, targets, half) for network in self.fits]
        seen = half if not self.settings.cross_fit else 1 - half
        return torch.where(seen.bool(), found[1], found[0])

    def _worth(self, network: Any, inputs: Any, targets: Tensor, half: Tensor) -> Tensor:
        training = network.training
        network.eval()
        with torch.no_grad():
            raw, hidden = network.seen(inputs)
        network.train(training)
        if self.settings.signal == "loss":
            return self.losses(raw, targets).detach()
        with torch.enable_grad():
            raw = raw.requires_grad_()
            (residual,) = torch.autograd.grad(self.losses(raw, targets).sum(), raw)
        residual, hidden = residual.flatten(1).double(), hidden.double()
        alike = (residual @ residual.T) * (1 + hidden @ hidden.T)
        others = (half[:, None] == half[None]).double().fill_diagonal_(0)
        return (alike * others).sum(1) / others.sum(1).clamp_min(1)

    def search_loss(self, batch: Any) -> Tensor:
        """What the search network lowers.

        Minus the mean standardised worth of the chosen, minus the entropy of the mean weights,
        plus the ranking loss of the predicted losses. The order of the batch changes nothing but
        the pairs of the last.
        """
        inputs, utility, _, _ = batch
        worth = self.worth(batch)
        logits, told = self.weigher(inputs)
        weights = logits.softmax(1)
        chosen = self.chosen((weights * utility).sum(1))
        loss = -(chosen * standard(worth)).sum() / chosen.sum()
        loss = loss.to(weights.dtype)
        heard = int((~self.weigher.silent).sum())
        if self.settings.spread and heard > 1:
            entropy = torch.special.entr(weights.mean(0)[~self.weigher.silent]).sum()
            loss = loss - self.settings.spread * entropy / math.log(heard)
        if self.settings.loss_head:
            loss = loss + self.settings.loss_head * ranking_loss(told, worth.to(told.dtype))
        return loss

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """A turn of the fit networks, or of the search network; the other's gradients are None."""
        turn = self.step_of - self.settings.warm_up
        if turn < 0:
            loss = self.fit_loss(batch, chosen=None)
        elif turn % 2 == 0:
            with torch.no_grad():
                chosen = self.chosen(self.mixed(batch[0], batch[1]))
            loss = self.fit_loss(batch, chosen=chosen)
        else:
            loss = self.search_loss(batch)
        self.step_of += 1
        return loss

    def batches(self, inputs: Any, halves: Halves, targets: Tensor, seed: int) -> Any:
        """What a training goes over.

        Args:
            inputs: of the labelled items [L, ...].
            halves: of them.
            targets: [L, ...].
            seed: of their order.
        """
        steps = self.settings.warm_up + self.settings.steps
        size = self.settings.batch_size
        return Batches(inputs, halves.utility, targets, halves.half, size, steps, seed)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam over all; a parameter without a gradient is left alone."""
        flat = [p for p in self.parameters() if p.ndim < 2]
        matrices = [p for p in self.parameters() if p.ndim >= 2]
        groups = [
            {"params": matrices, "weight_decay": self.settings.weight_decay},
            {"params": flat, "weight_decay": 0.0},
        ]
        return torch.optim.AdamW(groups, lr=self.settings.lr)


class KnownWorth(Searcher):
    """A search network alone, where what each item is worth is known: the targets of a batch.

    Args:
        weigher: the search network.
        settings: of the search.
    """

    def __init__(self, weigher: Weigher, settings: SearchSettings) -> None:
        super().__init__(weigher, nn.ModuleList(), item_losses, settings)

    def worth(self, batch: Any) -> Tensor:
        """As it is known [n]."""
        targets: Tensor = batch[2]
        return targets

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """All turns are the search network's."""
        self.step_of += 1
        return self.search_loss(batch)


def standard(losses: Tensor) -> Tensor:
    """Losses [n] in deviations from their mean, clipped at 3; zeros where they are equal."""
    losses = losses.double()
    deviation = losses.std(unbiased=False)
    if not bool(deviation > 1e-12):
        return torch.zeros_like(losses)
    return ((losses - losses.mean()) / deviation).clamp(-CLIP, CLIP)


def rows_of(inputs: Any, rows: Tensor) -> Any:
    """Some rows of a batch of inputs: a tensor, or a tuple, list or mapping of tensors."""
    if isinstance(inputs, dict):
        return {name: rows_of(part, rows) for name, part in inputs.items()}
    if isinstance(inputs, list | tuple):
        return type(inputs)(rows_of(part, rows) for part in inputs)
    return inputs[rows]
