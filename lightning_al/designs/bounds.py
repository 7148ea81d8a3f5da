"""How much a sequence of designs tells of the latent: bounds of its expected information gain."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from lightning_al.policies.streams import Streams

from .experiments import DeathProcess, Experiment
from .networks import Designer

__all__ = ["Bounds", "Histories", "contrast", "evaluate", "gain_on_grid", "perform"]

BLOCK = 2**18  # likelihoods made at once
MOST_THETA, NODES = 20.0, 1000  # the grid of the death process


@dataclass(frozen=True)
class Histories:
    """R sequences of T designs and outcomes."""

    latent: Tensor  # [R, P], the true ones
    design: Tensor  # [R, T, d]
    y: Tensor  # [R, T]


@dataclass(frozen=True)
class Bounds:
    """Of the expected information gain, in nats."""

    lower: float  # sPCE
    lower_error: float  # standard error of the mean
    upper: float  # sNMC
    upper_error: float


def perform(experiment: Experiment, designer: Designer, latent: Tensor, u: Tensor) -> Histories:
    """Choose and observe T times: latents [R, P], uniform numbers u [R, T]; float of the latents.

    Outcomes that are continuous carry gradients to later designs.
    """
    weights = next(designer.parameters(), next(designer.buffers(), latent))
    kind = weights.dtype
    total = torch.zeros(len(latent), designer.code, dtype=kind, device=latent.device)
    designs, outcomes = [], []
    for step in range(experiment.horizon):
        raw = designer.propose(total, step).to(latent)
        design = experiment.design(raw)
        y = experiment.outcome(latent, design, u[:, step])
        designs.append(design)
        outcomes.append(y)
        if step + 1 < experiment.horizon:
            told = experiment.remembered(raw, design)
            total = total + designer.encode(told.to(kind), y.to(kind))
    return Histories(latent, torch.stack(designs, 1), torch.stack(outcomes, 1))


def contrast(experiment: Experiment, histories: Histories, others: Tensor) -> tuple[Tensor, Tensor]:
    """Log likelihoods of the true latents [R], and of others [L, P]: [R, L].

    The same others may serve all histories: they are independent of each one's own latent.
    """
    design, y = histories.design, histories.y
    own = experiment.log_likelihood(histories.latent.unsqueeze(1), design, y).sum(1)
    apart = y.new_zeros(len(y), len(others))
    for step in range(y.shape[1]):
        apart = apart + experiment.log_likelihood(
            others.unsqueeze(0), design[:, step].unsqueeze(1), y[:, step].unsqueeze(1)
        )
    return own, apart


@torch.no_grad()
def evaluate(
    experiment: Experiment,
    designer: Designer,
    rollouts: int = 1000,
    others: int = 50_000,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
) -> Bounds:
    """Bounds of the information that a designer's T outcomes give, from simulated histories.

    With L others: sPCE, ``log p(h | own) - log (p(h | own) + sum_l p(h | l)) + log (L + 1)``, is
    at most the information in expectation, and at most log (L + 1); sNMC, the same without the own
    one in the sum and log L, is at least the information. Foster et al. (2021), equations 11, 14.

    Args:
        experiment: what is found out.
        designer: what chooses.
        rollouts: R, histories.
        others: L, shared by all histories.
        seed: of the histories.
        dtype: of the likelihoods.
    """
    streams = Streams.of(seed, 0, "evaluate designs")
    index = torch.arange(rollouts)
    latent = experiment.latent(streams, "latent", index)
    u = streams.uniform("outcomes", index, experiment.horizon)
    done = perform(experiment, designer, latent, u)
    histories = Histories(*(part.to(dtype) for part in vars(done).values()))
    whole = torch.full((rollouts,), -math.inf, dtype=torch.float64)
    own = histories.y.new_zeros(rollouts)
    step = max(1, BLOCK // rollouts)
    for start in range(0, others, step):
        which = torch.arange(start, min(others, start + step))
        drawn = experiment.latent(streams, "others", which).to(dtype)
        own, apart = contrast(experiment, histories, drawn)
        whole = torch.logaddexp(whole, apart.double().logsumexp(1))
    own = own.double()
    lower = own - torch.logaddexp(whole, own) + math.log(others + 1)
    upper = own - whole + math.log(others)
    each = [f(v) for v in (lower, upper) for f in (_mean, _error)]
    return Bounds(*each)


@torch.no_grad()
def gain_on_grid(
    experiment: DeathProcess, designer: Designer, rollouts: int = 10_000, seed: int = 0
) -> tuple[float, float]:
    """Information gain of the death process and its standard error, in nats, by quadrature.

    The posterior on 1,000 nodes over (0, 20], whose divergence from the prior is averaged over
    histories; no bound, and nothing drawn but the histories.
    """
    streams = Streams.of(seed, 0, "evaluate designs")
    index = torch.arange(rollouts)
    latent = experiment.latent(streams, "latent", index)
    u = streams.uniform("outcomes", index, experiment.horizon)
    done = perform(experiment, designer, latent, u)
    nodes = (torch.arange(NODES, dtype=torch.float64) + 0.5) * (MOST_THETA / NODES)
    prior = experiment.log_prior(nodes).log_softmax(0)
    gains = []
    for rows in index.split(BLOCK // NODES):
        part = Histories(done.latent[rows], done.design[rows], done.y[rows])
        likelihood = contrast(experiment, part, nodes.unsqueeze(-1))[1]
        posterior = (prior + likelihood).log_softmax(1)
        gains.append((posterior.exp() * (posterior - prior)).sum(1))
    gain = torch.cat(gains)
    return _mean(gain), _error(gain)


def _mean(values: Tensor) -> float:
    return float(values.mean())


def _error(values: Tensor) -> float:
    return float(values.std() / math.sqrt(len(values)))
