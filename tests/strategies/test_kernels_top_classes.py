"""BAIT by the likeliest classes: against dense inverses, its limits, projections and ties."""

import doctest
from importlib import import_module

import pytest
import torch

from lightning_al.strategies.kernels import bait, bait_of_top_classes

module = import_module("lightning_al.strategies.kernels.top_classes")
search = import_module("lightning_al.strategies.kernels.greedy_fisher")


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def drawn(n=60, e=3, c=6, seed=0, scale=2.0):
    draw = seeded(seed)
    return torch.randn(n, e, generator=draw), (scale * torch.randn(n, c, generator=draw)).softmax(1)


def information(embedding, probs, top):
    """Items' information [n, C E, C E] class by class, float64: the sum of p_y g_y g_y^T."""
    out = []
    for h, p in zip(embedding.double(), probs.double(), strict=True):
        if top == len(p):  # all classes, in closed form
            out.append(torch.kron(p.diag() - torch.outer(p, p), torch.outer(h, h)))
            continue
        total = torch.zeros(len(p) * len(h), len(p) * len(h), dtype=torch.float64)
        for y in p.argsort(descending=True)[:top].tolist():
            away = -p.clone()
            away[y] += 1
            gradient = torch.outer(away, h).flatten()
            total += p[y] * torch.outer(gradient, gradient)
        out.append(total)
    return torch.stack(out) if out else torch.zeros(0, 1, 1)


@pytest.mark.parametrize("few", [0, 10**6], ids=["float32", "float64"])
@pytest.mark.parametrize("top", [1, 2, 4, 6])
@pytest.mark.parametrize("labels", [0, 8])
def test_agrees_with_dense_inverses(few, top, labels, monkeypatch):
    monkeypatch.setattr(search, "_FEW", few)
    embedding, probs = drawn()
    every = information(embedding, probs, top)
    items, known = every[labels:], every[:labels].sum(0)
    start = 0.7 * torch.eye(every.shape[1]).double() + 0.25 * known
    parts = embedding[labels:], probs[labels:], embedding[:labels], probs[:labels]
    settings = {"top": top, "ridge": 0.7, "weight": 0.25, "oversample": 1.0}
    rows = bait_of_top_classes(*parts, 6, seeded(), **settings).tolist()
    for step, row in enumerate(rows):
        matrices = start + items[rows[:step]].sum(0) + items
        after = (torch.linalg.inv(matrices) * every.sum(0)).sum((1, 2))
        after[rows[:step]] = torch.inf
        assert after[row] <= after.min() * (1 + 1e-5)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("oversample", [1.0, 2.0])
def test_all_classes_are_bait(seed, oversample):
    embedding, probs = drawn(seed=seed)
    parts = embedding[9:], probs[9:], embedding[:9], probs[:9], 7
    got = bait_of_top_classes(*parts, seeded(), top=6, oversample=oversample)
    want = bait(*parts, seeded(), oversample=oversample)
    assert set(got.tolist()) == set(want.tolist())


@pytest.mark.parametrize("top", [1, 3, 50])
def test_a_projection_keeps_the_trace_on_average(top):
    """Roots of items keep their squared length within some standard errors of chance."""
    embedding, probs = drawn(n=40, e=20, c=50, scale=1.0)
    whole = module._Roots.drawn(50, 20, top, 10**4, seeded())(embedding, probs)
    short = module._Roots.drawn(50, 20, top, 400, seeded())(embedding, probs)
    assert whole.shape == (40, top, 1000)
    assert short.shape == (40, top, 400)
    ratio = short.square().sum((1, 2)) / whole.square().sum((1, 2))
    assert float(ratio.mean()) == pytest.approx(1, abs=0.1)
    trace = torch.stack([m.trace() for m in information(embedding, probs, top)])
    torch.testing.assert_close(whole.square().sum((1, 2)).double(), trace, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("top", [1, 5, 20])
def test_blocks_decide_nothing(top, monkeypatch):
    embedding, probs = drawn(n=900, e=8, c=20)
    parts = embedding, probs, embedding[:0], probs[:0], 6
    want = bait_of_top_classes(*parts, seeded(), top=top, width=64).tolist()
    monkeypatch.setattr(module, "BLOCK", 1000)
    monkeypatch.setattr(import_module("lightning_al.strategies.kernels.fisher"), "BLOCK", 1000)
    monkeypatch.setattr(search, "_PENDING", 0)
    assert bait_of_top_classes(*parts, seeded(), top=top, width=64).tolist() == want


def test_ties_are_drawn():
    embedding, probs = (part.repeat(10, 1) for part in drawn(n=4))
    picks = {
        row
        for seed in range(12)
        for row in bait_of_top_classes(
            *(embedding, probs, embedding[:0], probs[:0], 3, seeded(seed))
        ).tolist()
    }
    assert len(picks) > 15


@pytest.mark.parametrize("n", [1, 5, 30])
def test_limits(n):
    embedding, probs = drawn(n)
    none = embedding[:0], probs[:0]
    assert bait_of_top_classes(embedding, probs, *none, 0, seeded()).tolist() == []
    whole = bait_of_top_classes(embedding, probs, *none, n, seeded())
    assert sorted(whole.tolist()) == list(range(n))
    alone = torch.ones(n, 1)
    assert len(bait_of_top_classes(embedding, alone, none[0], alone[:0], n, seeded())) == n
    zero = bait_of_top_classes(0 * embedding, probs, *none, n, seeded())
    assert sorted(zero.tolist()) == list(range(n))
    sure = torch.eye(6)[torch.arange(n) % 6]
    assert len(set(bait_of_top_classes(embedding, sure, *none, n, seeded()).tolist())) == n
    assert len(bait_of_top_classes(embedding, probs, *none, 1, seeded(), candidates=1)) == 1
    with pytest.raises(ValueError, match="cannot acquire"):
        bait_of_top_classes(embedding, probs, *none, n + 1, seeded())
    with pytest.raises(ValueError, match="ridge > 0"):
        bait_of_top_classes(embedding, probs, *none, 1, seeded(), ridge=0.0)


@pytest.mark.parametrize("kind", [torch.float64, torch.float16])
def test_other_precisions(kind):
    embedding, probs = drawn()
    parts = [v.to(kind) for v in (embedding, probs, embedding[:0], probs[:0])]
    got = bait_of_top_classes(*parts, 5, seeded()).tolist()
    assert len(set(got)) == 5
    if kind == torch.float64:
        assert got == bait_of_top_classes(*(v.float() for v in parts), 5, seeded()).tolist()


@pytest.mark.parametrize(("classes", "features"), [(60, 6), (200, 4), (1000, 1)])
@pytest.mark.parametrize("width", [256, 10**4], ids=["projected", "whole"])
def test_less_is_left_unexplained_than_by_random_batches(classes, features, width):
    """Of the information over all classes, by dense inverses, at any number of classes."""
    embedding, probs = drawn(40, features, classes, scale=3.0)
    embedding = embedding * (1 + torch.arange(40.0) % 7)[:, None]
    every = [
        information(h[None], p[None], classes)[0] for h, p in zip(embedding, probs, strict=True)
    ]
    pool, eye = sum(every), torch.eye(classes * features, dtype=torch.float64)

    def left(rows):
        return float((torch.linalg.inv(eye + sum(every[row] for row in rows)) * pool).sum())

    none = embedding[:0], probs[:0]
    got = bait_of_top_classes(embedding, probs, *none, 4, seeded(), width=width)
    others = [torch.randperm(40, generator=seeded(s))[:4].tolist() for s in range(10)]
    assert left(got.tolist()) < min(map(left, others))


def test_doctest():
    assert doctest.testmod(module).failed == 0
