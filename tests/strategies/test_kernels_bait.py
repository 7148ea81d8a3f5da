"""BAIT's kernel against the objective by dense inverses, in both precisions and at its limits."""

import doctest
from importlib import import_module

import pytest
import torch

from lightning_al.strategies.kernels import bait, fisher

module = import_module("lightning_al.strategies.kernels.greedy_fisher")


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def even(n=1000, e=5, c=3, seed=0):
    draw = seeded(seed)
    return torch.randn(n, e, generator=draw), torch.randn(n, c, generator=draw).softmax(1)


def sure(n=1000, e=5, c=3, seed=1):
    """A common direction, as behind a ReLU, and confident predictions with exact zeros."""
    draw = seeded(seed)
    embedding = 3 + torch.randn(n, e, generator=draw)
    probs = (8 * torch.randn(n, c, generator=draw)).softmax(1)
    return embedding, probs.where(probs > 1e-9, 0.0)


def heavy(n=1000, e=5, c=3, seed=2):
    """Lengths over three orders of magnitude."""
    embedding, probs = even(n, e, c, seed)
    return embedding * (2 * torch.randn(n, 1, generator=seeded(9))).exp(), probs


FIXTURES = [even, sure, heavy]
every_fixture = pytest.mark.parametrize("fixture", FIXTURES)


def information(embedding, probs):
    """Dense Fisher information [n, C E, C E], float64, with all classes."""
    p, h = probs.double(), embedding.double()
    p = p / p.sum(1, keepdim=True)
    middle = torch.diag_embed(p) - p[:, :, None] * p[:, None]
    full = torch.einsum("ncd,ne,nf->ncedf", middle, h, h)
    return full.flatten(1, 2).flatten(2)


class Dense:
    """The search by whole inverses."""

    def __init__(self, embedding, probs, labelled=0, ridge=1.0):
        every = information(embedding, probs)
        self.items, self.pool = every[labelled:], every.sum(0)
        eye = torch.eye(every.shape[1], dtype=torch.float64)
        self.start = ridge * eye + every[:labelled].sum(0)

    def __call__(self, rows):
        matrix = self.start + self.items[rows].sum(0)
        return float((torch.linalg.inv(matrix) * self.pool).sum())

    def after(self, rows, sign):
        """The objective with each item added or taken away, [N]."""
        matrices = self.start + self.items[rows].sum(0) + sign * self.items
        return (torch.linalg.inv(matrices) * self.pool).sum((1, 2))

    def check(self, picks, k):
        """Forward and backward picks are each the best that was left."""
        taken = []
        for row in picks:
            left = self.after(taken, 1)
            left[taken] = torch.inf
            assert left[row] <= left.min() * (1 + 1e-6)
            taken.append(row)
        while len(taken) > k:
            taken.remove(min(taken, key=lambda row: self([r for r in taken if r != row])))
        return taken


@every_fixture
@pytest.mark.parametrize("few", [0, 10**6], ids=["float32", "float64"])
def test_agrees_with_dense_inverses(fixture, few, monkeypatch):
    monkeypatch.setattr(module, "_FEW", few)
    embedding, probs = fixture()
    parts = embedding[20:], probs[20:], embedding[:20], probs[:20]
    dense = Dense(embedding, probs, 20)
    forward = bait(*parts, 10, seeded(), oversample=1.0).tolist()
    want = dense.check(forward, 5)
    assert dense(bait(*parts, 5, seeded()).tolist()) == pytest.approx(dense(want), rel=1e-6)


@pytest.mark.parametrize("c", [2, 7, 20])
def test_two_and_many_classes(c, monkeypatch):
    monkeypatch.setattr(module, "_FEW", 0)
    embedding, probs = even(150, 3, c)
    rows = bait(embedding, probs, embedding[:0], probs[:0], 4, seeded(), oversample=1.0)
    Dense(embedding, probs).check(rows.tolist(), 4)


def counted(monkeypatch):
    """The precisions in which the candidates are computed."""
    seen, real = [], module._Search._compute
    monkeypatch.setattr(
        module._Search, "_compute", lambda self, d: (seen.append(d), real(self, d))[1]
    )
    return seen


def test_ties_end_in_float64_and_are_drawn(monkeypatch):
    seen = counted(monkeypatch)
    embedding, probs = (part.repeat(250, 1) for part in even(4))
    drawn = set()
    for seed in range(12):
        rows = bait(embedding, probs, embedding[:0], probs[:0], 3, seeded(seed)).tolist()
        assert len(set(rows)) == 3
        drawn |= set(rows)
    assert len(drawn) > 25
    assert seen[:2] == [torch.float32, torch.float64]


def test_float32_that_went_wrong_is_noticed(monkeypatch):
    """Stale values in float32 are computed anew: the picks stay."""
    embedding, probs = even()
    parts = embedding, probs, embedding[:0], probs[:0]
    want = bait(*parts, 10, seeded())
    seen, update = counted(monkeypatch), fisher.Items.update

    def faulty(self, one, two):
        update(self, one, two if self.z.dtype == torch.float64 else 0.5 * two)

    monkeypatch.setattr(fisher.Items, "update", faulty)
    assert bait(*parts, 10, seeded()).tolist() == want.tolist()
    assert len(seen) > 5


@pytest.mark.parametrize("n", [6, 1000])
def test_limits(n):
    embedding, probs = even(n)
    none = embedding[:0], probs[:0]
    assert bait(embedding, probs, *none, 0, seeded()).tolist() == []
    if n < 10:
        assert sorted(bait(embedding, probs, *none, n, seeded()).tolist()) == list(range(n))
    alone = torch.ones(n, 1)
    assert len(set(bait(embedding, alone, none[0], alone[:0], 5, seeded()).tolist())) == 5
    zero = torch.zeros_like(embedding)
    assert len(set(bait(zero, probs, *none, 5, seeded()).tolist())) == 5
    certain = torch.eye(3)[torch.arange(n) % 3]
    assert len(set(bait(embedding, certain, *none, 5, seeded()).tolist())) == 5


def test_blocks_and_pending_changes_decide_nothing(monkeypatch):
    embedding, probs = heavy()
    parts = embedding[20:], probs[20:], embedding[:20], probs[:20], 12
    want = bait(*parts, seeded()).tolist()
    monkeypatch.setattr(fisher, "BLOCK", 256)
    monkeypatch.setattr(module, "_PENDING", 0)
    assert bait(*parts, seeded()).tolist() == want


def test_a_part_of_a_large_pool_is_looked_at():
    embedding, probs = even()
    parts = embedding, probs, embedding[:0], probs[:0], 4
    whole = bait(*parts, seeded()).tolist()
    assert bait(*parts, seeded(), candidates=1000).tolist() == whole
    some = [bait(*parts, seeded(s), candidates=50).tolist() for s in range(2)]
    assert set(some[0]) != set(some[1])
    assert len(bait(*parts, seeded(), candidates=1)) == 4


def test_bad_input():
    embedding, probs = even(9)
    none = embedding[:0], probs[:0]
    with pytest.raises(ValueError, match=r"probs \[N, C\].*\[\[8, 3\], \[0, 5\], \[0, 3\]\]"):
        bait(embedding, probs[:8], *none, 2, seeded())
    with pytest.raises(ValueError, match="cannot acquire 10 of 9"):
        bait(embedding, probs, *none, 10, seeded())
    with pytest.raises(ValueError, match="ridge > 0"):
        bait(embedding, probs, *none, 2, seeded(), ridge=0.0)


def test_doctest():
    assert doctest.testmod(module).failed == 0
