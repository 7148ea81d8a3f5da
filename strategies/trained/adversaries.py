"""Items that are easily told from labelled ones: VAAL and WAAL."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from lightning_al.randomness import seeded
from lightning_al.records import Context, Pool, Predictions

from ..selection import relative_resolution, top_k
from ..sets import BLOCK, SetStrategy, covered_embedding, mean_probs
from ..strategy_registry import STRATEGIES

__all__ = ["Vaal", "Waal"]

SAMPLE = 2048  # items by which inputs are standardised


@STRATEGIES.register("vaal")
@dataclass(frozen=True, repr=False, eq=False)
class Vaal(SetStrategy):
    """VAAL: items that a discriminator on an autoencoder takes for unlabelled (Sinha et al. 2019).

    An autoencoder learns codes of the inputs of all items, labelled or not, that a discriminator
    cannot tell apart; it tries to. The items that it is surest are unlabelled are chosen. The task
    is not looked at. The layers are fully connected, on all numbers of an input; the authors'
    autoencoder is convolutional. Without labelled items k are drawn.

    Source: Sinha, Ebrahimi and Darrell, Variational Adversarial Active Learning (2019).

    Args:
        steps: batches of the training, half of them the discriminator's.
        batch_size: items of each kind in a batch.
        latent: numbers of a code.
        width: of the hidden layers.
        beta: weight of the codes' divergence from a normal distribution.
        adversary: weight of the discriminator in the autoencoder's loss.
        lr: learning rate.
        turns: steps in a row of each of the two.
    """

    steps: int = 600
    batch_size: int = 64
    latent: int = 32
    width: int = 256
    beta: float = 1.0
    adversary: float = 1.0
    lr: float = 5e-4
    turns: int = 2

    needs: ClassVar[tuple[str, ...]] = ()
    keeps: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        counts = (self.steps, self.batch_size, self.latent, self.width, self.turns)
        if min(counts) < 1 or not self.lr > 0 or min(self.beta, self.adversary) < 0:
            raise ValueError(
                "vaal needs steps, batch_size, latent, width and turns of at least 1, lr above 0, "
                f"beta and adversary of at least 0, got {self!r}"
            )

    def pick(self, pool: Pool, k: int, generator: torch.Generator) -> Tensor:
        """The k that are surest to be unlabelled."""
        from .input_networks import Pairs, Vae  # inside: Lightning loads slowly

        bench = pool.bench
        labelled = bench.labelled
        if not len(labelled):
            return top_k(torch.zeros(len(pool)), k, generator)

        def read(index: Tensor) -> Tensor:
            return torch.cat([_flat(part) for part in bench.inputs(index)])

        first, second = torch.randint(
            2**31, (2,), generator=generator, device=generator.device
        ).tolist()
        with torch.inference_mode(False), torch.enable_grad():
            with seeded(first, 0, "vaal"):
                module = Vae(
                    read(pool.index[:: max(1, len(pool) // SAMPLE)]),
                    latent=self.latent,
                    width=self.width,
                    beta=self.beta,
                    adversary=self.adversary,
                    lr=self.lr,
                    turns=self.turns,
                )
            pairs = Pairs(
                lambda rows: read(labelled[rows]),
                lambda rows: read(pool.index[rows]),
                (len(labelled), len(pool)),
                self.batch_size,
                self.steps,
                second,
            )
            bench.fit(module, pairs, max_epochs=1)
        module.eval()
        device = module.origin.device
        with torch.no_grad():
            parts = [-module(_flat(part).to(device)).cpu() for part in bench.inputs(pool.index)]
        scores = torch.cat(parts)
        return top_k(scores, k, generator, resolution=relative_resolution(scores))


@STRATEGIES.register("waal", kind="classification")
@dataclass(frozen=True, repr=False, eq=False)
class Waal(SetStrategy):
    """WAAL: uncertain, and far from the labelled ones by a Wasserstein critic (Shui et al. 2020).

    ``critic_weight`` times the critic's verdict, less ``|log p| / 2`` (the root of its squares) and
    ``sum(-log p) / 2``, which are smallest where all classes are as likely. The critic is fitted on
    embeddings. In the paper it also moves the network's features while the task is trained; that is
    left out: tasks are trained as they are. Without labelled items the uncertain ones are chosen.

    Source: Shui, Zhou, Gagné and Wang, Deep Active Learning: Unified and Principled Method for
    Query and Training (2020), section 4.3.

    Args:
        steps: batches of the critic's training.
        batch_size: items of each kind in a batch.
        width: of its hidden layer.
        critic_weight: of its verdict.
        penalty: of its gradient.
        lr: learning rate.
    """

    steps: int = 300
    batch_size: int = 64
    width: int = 64
    critic_weight: float = 10.0
    penalty: float = 5.0
    lr: float = 1e-3

    needs: ClassVar[tuple[str, ...]] = ("probs", "embedding")

    def __post_init__(self) -> None:
        if min(self.steps, self.batch_size, self.width) < 1 or not self.lr > 0:
            raise ValueError(
                f"waal needs steps, batch_size and width of at least 1, lr above 0, got {self!r}"
            )
        if min(self.critic_weight, self.penalty) < 0:
            raise ValueError(
                "waal needs critic_weight and penalty of at least 0, got "
                f"{self.critic_weight} and {self.penalty}"
            )

    def score(self, batch: Predictions, context: Context) -> Tensor:
        """Minus half the two norms of log p [n], of the members' mean.

        Raises:
            ValueError: items with places.
        """
        probs = batch.keep(["probs"]).probs
        assert probs is not None  # kept in the line above
        logs = mean_probs(probs, "waal").float().clamp_min(1e-30).log()
        return -(logs.norm(dim=1) - logs.sum(1)) / 2

    def pick(self, pool: Pool, k: int, generator: torch.Generator) -> Tensor:
        """The k highest sums."""
        if pool.scores is None:
            raise ValueError(f"{self!r} chooses by score, but the candidates carry no scores")
        scores = pool.scores.cpu().double()
        labelled = covered_embedding(pool)
        if len(labelled) and self.critic_weight:
            scores = scores + self.critic_weight * self._verdict(pool, labelled, generator)
        return top_k(scores, k, generator, resolution=relative_resolution(scores))

    def _verdict(self, pool: Pool, labelled: Tensor, generator: torch.Generator) -> Tensor:
        from .input_networks import Critic, Pairs

        points, known = pool.embedding, labelled.float().cpu()
        first, second = torch.randint(
            2**31, (2,), generator=generator, device=generator.device
        ).tolist()
        with torch.inference_mode(False), torch.enable_grad():
            with seeded(first, 0, "waal"):
                sample = points[:: max(1, len(points) // SAMPLE)].float().cpu()
                critic = Critic(sample, self.width, self.penalty, self.lr)
            pairs = Pairs(
                lambda rows: known[rows],
                lambda rows: points[rows.to(points.device)].float().cpu(),
                (len(known), len(points)),
                self.batch_size,
                self.steps,
                second,
            )
            pool.bench.fit(critic, pairs, max_epochs=1)
        critic.eval()
        size = max(1, BLOCK // max(1, points.shape[1]))
        device = critic.origin.device
        with torch.no_grad():
            parts = [critic(part.to(device)).cpu().double() for part in points.split(size)]
        return torch.cat(parts)


def _flat(inputs: Any) -> Tensor:
    """Inputs [n, D].

    Raises:
        ValueError: no tensor of numbers.
    """
    if not isinstance(inputs, Tensor) or inputs.dtype == torch.bool:
        raise ValueError(
            f"vaal looks at inputs that are one tensor of numbers, got {type(inputs).__name__}; "
            "strategies on embeddings, such as waal, take any"
        )
    return inputs.flatten(1).float().cpu()
