"""The search of AutoAL as its authors released it, which cannot learn: for comparison."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from lightning_al.tasks.loss_head import ranking_loss

from .labelled_halves import Halves
from .search_networks import Losses, Searcher, Weigher, rows_of
from .search_settings import SearchSettings

__all__ = ["Passes", "PublishedSearcher", "Several", "mixture_threshold"]

COMPONENTS, DRAWS, STEEP = 5, 10_000, 1e11
FIT, SEARCH, LOSS = (5e-2, 5e-4), (5e-2, 5e-4), (1e-1, 5e-4)  # learning rate, weight decay
DECAY, FROM = 5e-4, 50  # of the search, compounding, from this step on
DROPS = (0.6, 0.9)  # shares of the warm-up at which its learning rate falls to a tenth
HEAD_DROP = 120  # own steps of the loss prediction, after which it does


def mixture_threshold(values: Tensor, share: float, seed: int) -> float:
    """The value that a share of 10,000 draws from a mixture of 5 Gaussians on values [n] exceeds.

    The mixture is scikit-learn's by its defaults: no component is narrower than 1e-3.
    """
    from sklearn.mixture import GaussianMixture

    points = values.detach().cpu().double().numpy()[:, None]
    mixture = GaussianMixture(min(COMPONENTS, len(points)), random_state=seed).fit(points)
    drawn, _ = mixture.sample(DRAWS)
    return float(np.percentile(drawn, 100 - 100 * share))


class Several(torch.optim.Optimizer):
    """Optimisers of different parameters, stepped together; one without gradients does nothing."""

    def __init__(self, *parts: torch.optim.Optimizer) -> None:
        super().__init__([group for part in parts for group in part.param_groups], {})
        self.parts = parts

    def step(self, closure: Any = None) -> Any:
        """One step of each."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for part in self.parts:
            part.step()
        return loss


class PublishedSearcher(Searcher):
    """What the released code computes, row by row; see ``auto-al`` for one that learns.

    Nominations A are 0 or 1, and the score of an item is ``p = softmax over the items of
    sum_k A_k O_k``, O being the search network's outputs as they are. A threshold comes from a
    Gaussian mixture on p (:func:`mixture_threshold`), the choice is ``sigmoid(1e11 (p -
    threshold))``, and the count penalty tanh(|n - m| / 4) is a constant. So no gradient reaches the
    search network. Its outputs, the nominations and the losses of a step come from three passes
    over a shuffled loader, so that rows are not those of the same items. The first half trains the
    fit network in the warm-up, the second is searched.

    Source: Wang, Zhan and Huang, AutoAL (2025), their code.
    """

    fit_networks: ClassVar[int] = 1

    def __init__(
        self, weigher: Weigher, fits: nn.ModuleList, losses: Losses, settings: SearchSettings
    ) -> None:
        super().__init__(weigher, fits, losses, settings)
        weigher.out.reset_parameters()
        weigher.silent.fill_(False)
        self.groups: list[dict[str, Any]] = []

    def chosen(self, mixed: Tensor) -> Tensor:
        """The choice [n] of items with the score p [n]."""
        found = mixture_threshold(mixed, self.settings.share, self.step_of)
        return torch.sigmoid(STEEP * (mixed - found))

    def mixed(self, inputs: Any, utility: Tensor) -> Tensor:
        """P [n] of items whose nominations are [n, K]."""
        outputs, _ = self.weigher(inputs)
        return (outputs.double() * utility.double()).sum(1).softmax(0)

    def forward(self, inputs: Any) -> Tensor:
        """The search network's outputs [n, K]: linear, of any sign."""
        outputs: Tensor = self.weigher(inputs)[0]
        return outputs

    def penalty(self, chosen: Tensor) -> float:
        """How far the count is from what it should be: in [0, 1), a constant."""
        wanted = int(len(chosen) * self.settings.share)
        return float(np.tanh(abs(int((chosen > 0.5).sum()) - wanted) / 4))

    def search_loss(self, batch: Any) -> Tensor:
        """Minus the mean loss of the chosen; the losses' rows are those of another pass."""
        inputs, nominations, _, _ = batch
        chosen = self.chosen(self.mixed(inputs, nominations))
        with torch.no_grad():
            losses = self._losses_of_another_pass(batch)
        return -(chosen * losses).mean() - 2 * self.penalty(chosen)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Warm-up on the first half; then fit, search and loss prediction take turns."""
        inputs, nominations, targets, _ = batch
        turn = self.step_of - self.settings.warm_up
        self._set_rates(turn)
        self.step_of += 1
        if turn < 0:
            return self.losses(self.fits[0](inputs), targets).mean()
        if turn % 3 == 1:
            return self.search_loss(batch)
        if turn % 3 == 2:
            with torch.no_grad():
                losses = self._losses_of_another_pass(batch)
                hidden = self.weigher.hidden(self.weigher.below(inputs)).relu()
            told = self.weigher.told(hidden).squeeze(1)
            return ranking_loss(told, losses).clamp(0, 10)
        with torch.no_grad():
            chosen = self.chosen(self.mixed(inputs, nominations))
        losses = self._losses_of_another_pass(batch)
        return (chosen * losses).mean() + 0.5 * self.penalty(chosen)

    def _losses_of_another_pass(self, batch: Any) -> Tensor:
        inputs, _, targets, other = batch
        return self.losses(self.fits[0](rows_of(inputs, other)), targets[other])

    def batches(self, inputs: Any, halves: Halves, targets: Tensor, seed: int) -> Passes:
        """First the whole first half, over and over; then the second, shuffled anew each time."""
        first, second = ((halves.half == i).nonzero().squeeze(1) for i in (0, 1))
        steps = (self.settings.warm_up, self.settings.steps)
        size, named = self.settings.batch_size, halves.nominated.float()
        return Passes(inputs, named, targets, (first, second), steps, size, seed)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam for the fit network, descent with momentum for the two others."""
        head = list(self.weigher.told.parameters())
        mine = [p for p in self.weigher.parameters() if all(p is not q for q in head)]
        adam = torch.optim.Adam(self.fits.parameters(), lr=FIT[0], weight_decay=FIT[1])
        search = torch.optim.SGD(mine, lr=SEARCH[0], momentum=0.9, weight_decay=SEARCH[1])
        told = torch.optim.SGD(head, lr=LOSS[0], momentum=0.9, weight_decay=LOSS[1])
        self.groups = [part.param_groups[0] for part in (adam, search, told)]
        return Several(adam, search, told)

    def _set_rates(self, turn: int) -> None:
        """The learning rates of this step; ``turn`` counts from the end of the warm-up."""
        fit, search, told = self.groups
        fit["lr"] = FIT[0]
        if turn < 0:
            fit["lr"] *= 0.1 ** sum(self.step_of >= d * self.settings.warm_up for d in DROPS)
        elif turn % 3 == 1 and turn >= FROM:
            search["lr"] *= 1 - DECAY * turn
        elif turn % 3 == 2:
            told["lr"] = LOSS[0] * (0.1 if turn // 3 >= HEAD_DROP else 1.0)


@dataclass(frozen=True)
class Passes:
    """Batches (inputs, nominations, targets, other): only inputs and targets are aligned."""

    inputs: Any
    nominated: Tensor  # [L, K]
    targets: Tensor  # [L]
    halves: tuple[Tensor, Tensor]  # rows
    steps: tuple[int, int]  # of each
    size: int
    seed: int

    def __len__(self) -> int:
        return sum(self.steps)

    def __iter__(self) -> Iterator[tuple[Any, Tensor, Tensor, Tensor]]:
        draw = torch.Generator().manual_seed(self.seed)
        for half, steps in zip(self.halves, self.steps, strict=True):
            for _ in range(steps):
                mine = half[torch.randperm(len(half), generator=draw)[: self.size]]
                other = torch.randperm(len(mine), generator=draw)
                in_order = mine.sort().values
                yield (
                    *(rows_of(self.inputs, mine), self.nominated[in_order]),
                    *(self.targets[mine], other),
                )
