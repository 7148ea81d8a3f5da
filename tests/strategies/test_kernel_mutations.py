"""Each set kernel with one line changed must fail a check against a slow, independent reference.

A mutant is the source of one module with one line replaced, run under another name; the kernel's
own module is then run again with the mutant's names. The unchanged kernels pass the same checks.
"""

import itertools
import math
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest
import torch

HOME = "lightning_al.strategies.kernels"


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def copied(name, old="", new=""):
    """A module of the kernels' folder run again, with a line of its source replaced."""
    file = import_module(f"{HOME}.{name}").__file__
    source = Path(file).read_text(encoding="utf-8")
    if old:
        assert source.count(old) == 1, (
            f"the line to mutate stands {source.count(old)} times in {file}: {old!r}; it was "
            "probably rewritten: name the line that does its work now"
        )
        source = source.replace(old, new)
    module = ModuleType(f"{HOME}.changed_{name}")
    module.__package__, module.__file__ = HOME, file
    sys.modules[module.__name__] = module  # dataclasses look there
    try:
        exec(compile(source, file, "exec"), module.__dict__)
    finally:
        del sys.modules[module.__name__]
    return module


def kernel(module, name, place="", old="", new=""):
    """The function ``name`` of a module, with a line replaced there or in the module ``place``."""
    if place in ("", module):
        return getattr(copied(module, old, new), name)
    entry, mutant = copied(module), copied(place, old, new)
    for public in mutant.__all__:
        if hasattr(entry, public):
            setattr(entry, public, getattr(mutant, public))
    return getattr(entry, name)


# slow references: each raises AssertionError where a kernel is wrong


def is_greedy(rows, value, tolerance=1e-5):
    """Distinct picks, each the largest ``value(rows before)`` of those that are left."""
    rows = rows.tolist()
    assert len(set(rows)) == len(rows)
    for step, row in enumerate(rows):
        values = value(rows[:step]).double().clone()
        values[rows[:step]] = -torch.inf
        assert values[row] >= values.max() - tolerance * values.max().abs() - 1e-9


def blobs(n=60, e=4, seed=0):
    draw = seeded(seed)
    centres = 4 * torch.randn(5, e, generator=draw)
    return centres[torch.arange(n) % 5] + torch.randn(n, e, generator=draw)


def check_k_center(call):
    points = blobs(70)
    pool, labelled = points[:60], points[60:]
    apart = torch.cdist(pool.double(), points.double())
    is_greedy(
        call(pool, labelled, 12, seeded()),
        lambda rows: apart[:, [*range(60, 70), *rows]].amin(1),
    )
    twins = pool[:6].repeat(2, 1)
    assert sorted(call(twins, None, 12, seeded()).tolist()) == list(range(12))


def follows(draws, odds, count):
    """Draws of rows are as frequent as odds [N] say: five standard deviations."""
    share = torch.stack(draws).float().mean(0)
    spread = (odds * (1 - odds) / count).sqrt()
    assert bool(((share - odds).abs() <= 5 * spread + 1e-6).all())


def check_seeding(call, points, squared):
    """Odds of the second pick, one of each of far groups, and all rows where k = N."""
    count, n = 100, len(points)
    draws, odds = [], torch.zeros(n)
    for seed in range(count):
        first, second = call(2, seeded(seed)).tolist()
        draws.append(torch.nn.functional.one_hot(torch.tensor(second), n))
        odds += squared[first] / squared[first].sum() / count
    follows(draws, odds, count)
    assert sorted(call(n, seeded()).tolist()) == list(range(n))


def check_plus_plus(call):
    points = blobs(12, 3)
    squared = torch.cdist(points.double(), points.double()).square().float()
    check_seeding(lambda k, g: call(points, k, g), points, squared)
    far = 1000 * torch.eye(6).repeat(10, 1) + 0.01 * torch.randn(60, 6, generator=seeded(3))
    for seed in range(6):
        rows = call(far, 6, seeded(seed)) % 6
        assert len(set(rows.tolist())) == 6
    twins = torch.eye(3).repeat(4, 1)
    assert sorted(call(twins, 12, seeded()).tolist()) == list(range(12))


def check_badge(call):
    points, logits = blobs(12, 3), torch.randn(12, 3, generator=seeded(5))
    probs = logits.softmax(1)
    gradient = torch.einsum("nc,ne->nce", probs - torch.eye(3)[probs.argmax(1)], points).flatten(1)
    squared = torch.cdist(gradient.double(), gradient.double()).square().float()
    assert call(points, probs, 1, seeded()).item() == gradient.norm(dim=1).argmax()
    check_seeding(lambda k, g: call(points, probs, k, g, first="uniform"), points, squared)
    far = 1000 * torch.eye(6).repeat(10, 1) + 0.01 * torch.randn(60, 6, generator=seeded(3))
    for seed in range(6):
        rows = call(far, probs[:1].expand(60, 3), 6, seeded(seed)) % 6
        assert len(set(rows.tolist())) == 6


def check_batch_bald(call):
    log_probs = (2 * torch.randn(12, 4, 3, generator=seeded())).log_softmax(-1)
    probs = log_probs.double().exp()

    def information(rows):
        own = torch.special.entr(probs[rows]).sum(2).mean(1).sum()
        total = 0.0
        for labels in itertools.product(range(3), repeat=len(rows)):
            mean = math.fsum(
                math.prod(float(probs[r, s, y]) for r, y in zip(rows, labels, strict=True))
                for s in range(4)
            )
            total -= mean / 4 * math.log(mean / 4)
        return total - float(own)

    is_greedy(
        call(log_probs, 4, seeded()),
        lambda rows: torch.tensor([information([*rows, row]) for row in range(12)]),
    )
    certain = torch.eye(3)[:, None].expand(3, 4, 3).log()
    assert sorted(call(certain, 3, seeded()).tolist()) == [0, 1, 2]


def check_batch_epig(call):
    for seed in (8, 9, 10):
        log_probs = (2 * torch.randn(45, 4, 3, generator=seeded(seed))).log_softmax(-1)
        probs, others = log_probs.double().exp().split([40, 5])

        def gains(rows, probs=probs, others=others):
            """Of each item given the rows, up to a constant, from all labels together."""
            joint = torch.full((1, 4), 0.25, dtype=torch.float64)
            for row in rows:
                joint = (joint[:, None] * probs[row].T).flatten(0, 1)
            batch = torch.einsum("ms,nsc->nmcs", joint, probs)
            both = torch.einsum("nmcs,tsd->tnmcd", batch, others)
            own = torch.special.entr(batch.sum(3)).flatten(1).sum(1)
            return own - torch.special.entr(both).flatten(2).sum(2).mean(0)

        pool, targets = log_probs.split([40, 5])
        for shortlist in (40, 15):  # with all 27 configurations of three picks
            rows = call(pool, targets, 4, seeded(), samples=27, shortlist=shortlist)
            free = gains([]).amin() - 1  # below any
            is_greedy(rows, lambda rows, gains=gains, free=free: gains(rows) - free, 1e-5)
    certain = torch.eye(3)[:, None].expand(3, 4, 3).log()
    assert sorted(call(certain, targets, 3, seeded()).tolist()) == [0, 1, 2]


def check_typiclust(call):
    draw = seeded(7)
    centres = 100 * torch.eye(5)
    owner = torch.tensor([0] * 20 + [1] * 16 + [2] * 12 + [3] * 9 + [4] * 8)
    points = centres[owner] + torch.rand(65, 1, generator=draw) * torch.randn(65, 5, generator=draw)
    rows = call(points, centres[:1] + 1, 4, seeded(), neighbours=5).tolist()
    assert [int(owner[row]) for row in rows] == [1, 2, 3, 4]
    for row in rows:
        same = (owner == owner[row]).nonzero().flatten()
        apart = torch.cdist(points[same], points[same]).double()
        typical = apart.topk(6, largest=False).values.sum(1)
        assert float(typical[(same == row).nonzero()]) <= float(typical.min()) + 1e-4
    assert sorted(call(points, None, 65, seeded(), max_clusters=5).tolist()) == list(range(65))


def check_herding(call):
    points = blobs(70)
    pool, labelled = points[:60], points[60:]
    similar = (-torch.cdist(pool.double(), points.double()).square() / 4).exp()

    def value(rows):
        covered = similar[:, [*range(60, 70), *rows]].amax(1)
        return (similar[:, :60] - covered[:, None]).clamp_min(0).sum(0)

    is_greedy(call(pool, labelled, 8, seeded(), width=2.0), value, 1e-4)
    twins = pool[:6].repeat(2, 1)
    assert sorted(call(twins, None, 12, seeded()).tolist()) == list(range(12))


def check_bait(call):
    points, probs = blobs(40, 3), torch.randn(40, 3, generator=seeded(6)).softmax(1)
    middle = torch.diag_embed(probs) - probs[:, :, None] * probs[:, None]
    items = torch.einsum("ncd,ne,nf->ncedf", middle, points, points).flatten(1, 2).flatten(2)
    items = items.double()
    eye, pool = torch.eye(9).double(), items.sum(0)

    def objective(rows):
        return float((torch.linalg.inv(eye + items[rows].sum(0)) * pool).sum())

    def value(rows):
        each = torch.linalg.inv(eye + items[rows].sum(0) + items)
        return objective(rows) - (each * pool).sum((1, 2))

    none = points[:0], probs[:0]
    forward = call(points, probs, *none, 8, seeded(), oversample=1.0)
    is_greedy(forward, value)
    rows = forward.tolist()
    while len(rows) > 4:
        rows.remove(min(rows, key=lambda row: objective([r for r in rows if r != row])))
    assert objective(call(points, probs, *none, 4, seeded()).tolist()) <= objective(rows) * 1.000001
    assert sorted(call(points, probs, *none, 40, seeded()).tolist()) == list(range(40))


CHECKS = {
    "k_center_greedy": ("k_center", check_k_center),
    "kmeans_plus_plus": ("plus_plus", check_plus_plus),
    "badge": ("plus_plus", check_badge),
    "batch_bald": ("batch_bald", check_batch_bald),
    "batch_epig": ("joint_epig", check_batch_epig),
    "typiclust": ("typiclust", check_typiclust),
    "max_herding": ("cover", check_herding),
    "bait": ("greedy_fisher", check_bait),
}

SEEDING = {
    "sign": ("plus_plus", "hurdle[place] < left[place]", "hurdle[place] > -left[place]"),
    "stale": ("plus_plus", "left = np.minimum(left, among[place])", "pass"),
    "duplicate": ("plus_plus", "free = order[~torch.isin(order, known)]", "free = order"),
}
MUTATIONS = {
    "k_center_greedy": {
        "sign": ("frontier", "best, at = torch.max(self._near, 0)", "best, at = self._near.min(0)"),
        "stale": (
            "frontier",
            "            torch.minimum(self._near, fresh, out=self._near)",
            "            pass",
        ),
        "duplicate": ("frontier", "self._near[self._at] = -torch.inf", "pass"),
    },
    "kmeans_plus_plus": SEEDING,
    "badge": {
        **SEEDING,
        "residual": ("plus_plus", "residual.scatter_(1, predicted, -rest)", "residual"),
        "duplicate": ("plus_plus", "and position not in known", "or position in known"),
    },
    "batch_bald": {
        "sign": ("batch_bald", "rounded == rounded.max()", "rounded == rounded.min()"),
        "stale": ("batch_bald", "        if len(chosen) < k:\n", "        if False:\n"),
        "duplicate": ("batch_bald", "        bound[row] = -torch.inf\n", ""),
    },
    "batch_epig": {
        "sign": ("joint_epig", "rows[rounded == rounded.max()]", "rows[rounded == rounded.min()]"),
        "stale": (
            "joint_epig",
            "        if len(chosen) < k:\n            state",
            "        if False:\n            state",
        ),
        "duplicate": ("joint_epig", "        free[row] = False\n        if len", "        if len"),
        "shortlist": (
            "joint_epig",
            "argsort(descending=True, stable=True)",
            "argsort(stable=True)",
        ),
        "bound": ("label_cells", "probs - probs.mean(2, keepdim=True)", "probs * 0"),
        "cells": ("label_cells", "exact - cells[row, cell]", "0 * exact"),
        "expected": ("label_cells", "total = -(given", "total = (given"),
    },
    "typiclust": {
        "sign": ("typiclust", "top_k(-distance, many", "top_k(distance, many"),
        "stale": ("typiclust", "(small, has + 1, minus,", "(small, has - 1, minus,"),
        "labels": ("typiclust", "(size < min_size, has, -size,", "(size < min_size, 0, -size,"),
        "duplicate": ("typiclust", "best[one].pop() for", "best[one][-1] for"),
    },
    "max_herding": {
        "sign": ("lazy_cover", "row = keys.argmax()", "row = keys.argmin()"),
        "stale": ("lazy_cover", "torch.maximum(self._covered, own, out=self._covered)", "pass"),
        "gains": ("lazy_cover", "                self._look_again(rows)\n", ""),
        "duplicate": ("lazy_cover", "        near[chosen[:done]] = -torch.inf\n", ""),
    },
    "bait": {
        "sign": (
            "greedy_fisher",
            "(self.sign * self.items.change())",
            "(-self.sign * self.items.change())",
        ),
        "stale": ("greedy_fisher", "        self.items.update(one, two)\n", ""),
        "cross": (
            "greedy_fisher",
            "two = one @ p - 2 * self.sign * two",
            "two = one @ p + 2 * two",
        ),
        "duplicate": ("greedy_fisher", "        self.free[row] = False\n", ""),
        "root": ("fisher", "p[:-1] / (1 + p[-1].sqrt())", "p[:-1] / (1 + p[-1])"),
    },
}
FAULTS = [(name, fault) for name, faults in MUTATIONS.items() for fault in faults]


@pytest.mark.parametrize("name", CHECKS)
def test_the_kernel_as_it_is_passes(name):
    module, check = CHECKS[name]
    check(kernel(module, name))


@pytest.mark.parametrize(("name", "fault"), FAULTS, ids=["-".join(pair) for pair in FAULTS])
def test_a_changed_line_is_noticed(name, fault):
    module, check = CHECKS[name]
    changed = kernel(module, name, *MUTATIONS[name][fault])
    with pytest.raises((AssertionError, IndexError, ValueError, RuntimeError)):
        check(changed)


def test_every_kernel_has_its_three_faults():
    for name in CHECKS:
        assert {"sign", "stale", "duplicate"} <= set(MUTATIONS[name])


def test_a_line_that_is_gone_says_so():
    with pytest.raises(AssertionError, match="stands 0 times"):
        copied("k_center", "no such line", "")
