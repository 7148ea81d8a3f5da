"""Clouds of points, and what each of two processes finds in its part of them."""

import numpy as np
import pytest
import torch
import torch.distributed as dist

from lightning_al.strategies.kernels import k_center_greedy, kmeans_plus_plus

N, L, E = 150, 14, 6


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def clumped(n=N, e=E, seed=0):
    """Clumps with Student tails."""
    draw = np.random.default_rng(seed)
    owner = draw.integers(0, 9, n)
    tails = draw.normal(size=(n, e)) / np.sqrt(draw.chisquare(3, size=(n, 1)) / 3)
    return torch.tensor(draw.normal(size=(9, e))[owner] + 0.3 * tails, dtype=torch.float32)


def tight(n=N, e=E, seed=0):
    """Narrow clumps far from the origin and from one another."""
    draw = np.random.default_rng(seed)
    centres = 30 + 10 * draw.normal(size=(5, e))
    points = centres[draw.integers(0, 5, n)] + 0.02 * draw.normal(size=(n, e))
    return torch.tensor(points, dtype=torch.float32)


def ties(n=N, e=E, seed=0):
    """Corners of a cube, each many times: ties and duplicates everywhere."""
    draw = np.random.default_rng(seed)
    return torch.tensor(draw.integers(0, 2, size=(n, min(e, 4))), dtype=torch.float32)


FIXTURES = {"clumped": clumped, "tight": tight, "ties": ties}


def on_rank(rank, world, folder):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"file://{folder}/meet", rank=rank, world_size=world)
    group = dist.group.WORLD
    found = {}
    for name, make in FIXTURES.items():
        points = make(N + L)
        whole, labelled = points[:N], points[N:]
        for cut in (0, 5, 70):
            mine = whole[:cut] if rank == 0 else whole[cut:]
            for tag, covered in (("warm", labelled), ("cold", None)):
                rows = k_center_greedy(mine, covered, 40, seeded(1), group=group)
                found["k_center", name, cut, tag] = rows
                rows = kmeans_plus_plus(mine, 40, seeded(1), start=covered, group=group)
                found["plus_plus", name, cut, tag] = rows
    broken = clumped(10)
    broken[3] = torch.nan if rank else broken[3]
    for kernel in (
        lambda: k_center_greedy(broken, None, 2, seeded(), group=group),
        lambda: kmeans_plus_plus(broken, 2, seeded(), group=group),
    ):
        with pytest.raises(ValueError, match="must be finite"):
            kernel()
    with pytest.raises(ValueError, match="cannot acquire 21 of 20"):
        k_center_greedy(clumped(10), None, 21, group=group)
    torch.save(found, f"{folder}/{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()
