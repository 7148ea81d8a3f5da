"""The modules that ``vaal`` and ``waal`` fit: an autoencoder and its discriminator; a critic."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from pytorch_lightning import LightningModule
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["Critic", "Pairs", "Vae"]


@dataclass(frozen=True)
class Pairs:
    """So many batches (labelled [n, ...], pool [n, ...]) of random items; the same in each pass."""

    labelled: Callable[[Tensor], Tensor]  # rows [n] -> what is read of them
    pool: Callable[[Tensor], Tensor]
    counts: tuple[int, int]  # of both
    size: int
    steps: int
    seed: int

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        draw = torch.Generator().manual_seed(self.seed)
        for _ in range(self.steps):
            first, second = (torch.randint(n, (self.size,), generator=draw) for n in self.counts)
            yield self.labelled(first), self.pool(second)


class Vae(LightningModule):
    """Inputs [n, D] to a latent space in which labelled and unlabelled items look alike.

    Autoencoder and discriminator take turns, ``turns`` steps each: the first lowers reconstruction
    error, beta times the divergence from N(0, I), and the discriminator's cross-entropy with all
    items taken for labelled; the second the cross-entropy with the truth.

    Args:
        sample: inputs [m, D], by which they are standardised.
        latent: numbers of the latent space.
        width: of the hidden layers.
        beta: weight of the divergence.
        adversary: weight of the discriminator's verdict.
        lr: learning rate of Adam.
        turns: steps in a row.
    """

    origin: Tensor
    scale: Tensor

    def __init__(
        self,
        sample: Tensor,
        *,
        latent: int,
        width: int,
        beta: float,
        adversary: float,
        lr: float,
        turns: int,
    ) -> None:
        super().__init__()
        std = sample.std(0, unbiased=False)
        self.register_buffer("origin", sample.mean(0))
        self.register_buffer("scale", torch.where(std > 1e-6 * sample.abs().max(), std, 1.0))
        self.beta, self.adversary, self.lr, self.turns = beta, adversary, lr, turns
        inputs = sample.shape[1]
        self.encoder = nn.Sequential(
            nn.Linear(inputs, width), nn.ReLU(), nn.Linear(width, 2 * latent)
        )
        self.decoder = nn.Sequential(nn.Linear(latent, width), nn.ReLU(), nn.Linear(width, inputs))
        self.judge = nn.Sequential(nn.Linear(latent, width), nn.ReLU(), nn.Linear(width, 1))

    def encoded(self, inputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Standardised inputs [n, D], means and log variances [n, latent]."""
        given = (inputs.flatten(1).float() - self.origin) / self.scale
        mean, log_variance = self.encoder(given).chunk(2, dim=1)
        return given, mean, log_variance.clamp(-10, 10)

    def forward(self, inputs: Tensor) -> Tensor:
        """The logit that an item is labelled [n], at the mean of its code."""
        return self.judge(self.encoded(inputs)[1]).squeeze(1)  # type: ignore[no-any-return]

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """A turn of the autoencoder, or of the discriminator."""
        labelled, pool = batch
        if (batch_idx // self.turns) % 2:
            with torch.no_grad():
                codes = [self.encoded(part)[1] for part in batch]
            said = [self.judge(code).squeeze(1) for code in codes]
            right = F.binary_cross_entropy_with_logits(said[0], torch.ones_like(said[0]))
            wrong = F.binary_cross_entropy_with_logits(said[1], torch.zeros_like(said[1]))
            return right + wrong
        given, mean, log_variance = self.encoded(torch.cat([labelled, pool]))
        code = mean + torch.randn_like(mean) * (log_variance / 2).exp()
        error = (self.decoder(code) - given).square().sum(1).mean()
        divergence = (mean.square() + log_variance.exp() - log_variance - 1).sum(1).mean() / 2
        judge = [p.requires_grad_(False) for p in self.judge.parameters()]
        said = self.judge(mean).squeeze(1)
        for p in judge:
            p.requires_grad_(True)
        fooled = F.binary_cross_entropy_with_logits(said, torch.ones_like(said))
        return error + self.beta * divergence + self.adversary * fooled

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam over all; a parameter without a gradient is left alone."""
        return torch.optim.Adam(self.parameters(), lr=self.lr)


class Critic(LightningModule):
    """A function of embeddings [n, E] that is larger on the pool than on labelled items.

    Its mean difference, less ``penalty`` times the mean of (|gradient| - 1)^2 between the two, is
    raised: then the difference is the Wasserstein-1 distance.

    Args:
        points: embeddings [m, E], by which they are standardised.
        width: of the hidden layer.
        penalty: of the gradient.
        lr: learning rate of Adam.
    """

    origin: Tensor
    scale: Tensor

    def __init__(self, points: Tensor, width: int, penalty: float, lr: float) -> None:
        super().__init__()
        std = points.std(0, unbiased=False)
        self.register_buffer("origin", points.mean(0))
        self.register_buffer("scale", torch.where(std > 1e-6 * points.abs().max(), std, 1.0))
        self.penalty, self.lr = penalty, lr
        self.layers = nn.Sequential(
            nn.Linear(points.shape[1], width), nn.ReLU(), nn.Linear(width, 1)
        )

    def standard(self, points: Any) -> Tensor:
        """Embeddings in deviations, [n, E]."""
        return (points.float() - self.origin) / self.scale

    def forward(self, points: Tensor) -> Tensor:
        """The critic's verdict [n]."""
        return self.layers(self.standard(points)).squeeze(1)  # type: ignore[no-any-return]

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Minus the penalised difference of means."""
        labelled, pool = (self.standard(part) for part in batch)
        share = torch.rand(len(pool), 1, device=pool.device)
        between = (share * labelled + (1 - share) * pool).requires_grad_()
        (slope,) = torch.autograd.grad(self.layers(between).sum(), between, create_graph=True)
        steep = (slope.norm(dim=1) - 1).square().mean()
        lead = self.layers(pool).mean() - self.layers(labelled).mean()
        return self.penalty * steep - lead

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam."""
        return torch.optim.Adam(self.parameters(), lr=self.lr)
