"""Made-up pools on which strategies that choose sets are compared with slow references."""

from dataclasses import replace

import torch

from lightning_al.records import Context, Predictions
from lightning_al.testing import World
from lightning_al.testing.world import density_fields

N, L, E, S, C = 30, 5, 4, 4, 3


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def clumped(draw):
    """Five clumps of unequal size with heavy tails."""
    centres = 2 * torch.randn(5, E, generator=draw)
    owner = torch.multinomial(1 / torch.arange(1.0, 6), N + L, True, generator=draw)
    noise = torch.randn(N + L, E, generator=draw)
    heavy = torch.randn(N + L, 3, generator=draw).square().mean(1, keepdim=True).sqrt()
    return centres[owner] + 0.4 * noise / heavy


def ties(draw):
    """Places of a small grid, most of them taken by several items."""
    return torch.randint(3, (N + L, E), generator=draw).float() * torch.tensor([1.0, 1, 0, 0])


def tight(draw):
    """Six clumps, each far narrower than their distances, far from the origin."""
    centres = 20 + 5 * torch.randn(6, E, generator=draw)
    return centres[torch.arange(N + L) % 6] + 0.02 * torch.randn(N + L, E, generator=draw)


FIXTURES = {"clumped": clumped, "ties": ties, "tight": tight}


def world(name, seed=0):
    """A pool of N and L labelled items with predictions of every kind."""
    draw = seeded(seed)
    embedding = FIXTURES[name](draw)
    logits = 1.5 * torch.randn(N + L, S, C, generator=draw)
    mean = torch.randn(N + L, S, 1, generator=draw)
    if name == "ties":  # equal items are predicted alike
        _, same = embedding.unique(dim=0, return_inverse=True)
        logits, mean = logits[same], mean[same]
    order = torch.randperm(N + L, generator=draw)
    fields = {"embedding": embedding, "logits": logits, "probs": logits.softmax(-1)}
    raw = 0.3 * torch.randn(N + L, S, 6, generator=draw)  # members all but agree
    raw = raw[same] if name == "ties" else raw
    fields |= density_fields(raw)
    fields |= {"mean": mean, "variance": mean.exp(), "head_input": embedding}
    targets = torch.arange(L) % C
    context = Context(round=1, n_labelled=L, n_pool=N, classes=C, targets=targets)
    return World(Predictions(torch.arange(N + L), **fields), order[:N], order[N:], context)


def unlabelled(seen):
    """The same pool before anything was labelled."""
    context = replace(seen.context, n_labelled=0, targets=None)
    return replace(seen, labelled=seen.labelled[:0], context=context)


def features(seen):
    """Embeddings of the pool and of the labelled items, float64."""
    embedding = seen.predictions.embedding.double()
    return embedding[seen.index], embedding[seen.labelled]


def chosen(strategy, seen, k, seed=0, index=None):
    """Rows of ``seen.index`` in the order of choice."""
    got = strategy.choose(seen.pool(strategy, index), k, seeded(seed)).index.tolist()
    place = {item: row for row, item in enumerate(seen.index.tolist())}
    return [place[item] for item in got]


def check_greedy(rows, value, tolerance=1e-5):
    """Each pick has the largest ``value(rows before) [N]`` of those that are left."""
    for step, row in enumerate(rows):
        values = value(rows[:step]).clone()
        values[rows[:step]] = -torch.inf
        slack = tolerance * float(values[values > -torch.inf].abs().max()) + 1e-12
        assert float(values[row]) >= float(values.max()) - slack, (step, row, rows)
