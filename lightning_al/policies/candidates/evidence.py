"""What a policy that scores candidates is seen to do on simulated functions: figures for its card.

A policy can have a low loss and yet ignore its data, or stay at the border. So it is watched on
functions that neither its training nor its choice among seeds has seen.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace

import torch
from torch import Tensor

from ..simulators import Batch, Simulator
from ..streams import Streams
from .asking import asking, choosing, error
from .network import CandidatePolicy
from .places import shifted
from .worlds import Asked, World

__all__ = ["Evidence", "observe"]

SEED = 977  # of the functions; trainings and validations have others
BORDER = 0.01  # of a side: nearer than this a coordinate is at the border
ROWS = 400  # of a pool
CHANGED = 1e-3  # of a side: a query that moves this far has changed


@dataclass(frozen=True)
class Evidence:
    """Figures over `functions` simulated functions."""

    functions: int
    spread: float  # sd over functions of the queries of one and the same start, mean over queries
    heeded: float  # share of histories in which other outcomes change the query
    rmse: float  # expected, after all queries
    rmse_sobol: float  # of a shifted Sobol sequence, on the same functions
    border: float  # share of the queries' coordinates at a border
    safe: float | None  # share of queries with z >= 0
    rmse_rows: float  # on pools of uniform rows
    rmse_random: float  # of as many random ones of these rows
    safe_rows: float | None  # share of queries with z >= 0 on pools

    def table(self) -> dict[str, float | None]:
        """As plain values."""
        return asdict(self)


@torch.no_grad()
def observe(network: CandidatePolicy, law: Simulator, functions: int = 100) -> Evidence:
    """Watch a network on functions of a law; it takes their full number of queries.

    Args:
        network: as it is served.
        law: its training's.
        functions: how many.
    """
    world = World.of(replace(law, batch=Batch(functions, 1, 1)), Streams.of(SEED, 0, "evidence"))
    active = world.active if network.flexible else None
    ask, first = asking(network, active), law.starts[1]
    asked = world.play(ask)
    queries, counts = asked.x[:, first:], world.active.sum(-1, keepdim=True).unsqueeze(1)
    edge = ((queries - 0.5).abs() > 0.5 - BORDER) * world.active[:, None]
    alike = replace(world, active=torch.ones_like(world.active))
    same = alike.play(ask, start=asked.x[:1, :first]) if active is None else asked
    spread = same.x[:, first:].std(0)
    sobol = shifted(world.uniform("sobol", law.dimension), law.horizon) * world.active[:, None]

    rows = world.places("rows", max(ROWS, law.horizon))
    pooled = world.play(choosing(network, rows, active))
    random = world.play(lambda x, y, z: rows[:, x.shape[1] - first])

    def spread_out(x: Tensor, y: Tensor, z: Tensor | None) -> Tensor:
        return sobol[:, x.shape[1] - first]

    return Evidence(
        functions,
        float(spread.mean()),
        heeds(network, law, world, asked.x, asked.y, asked.z),
        float(error(world, asked).mean()),
        float(error(world, world.play(spread_out)).mean()),
        float((edge.sum(-1, keepdim=True) / counts).mean()),
        _safe(asked, first),
        float(error(world, pooled).mean()),
        float(error(world, random).mean()),
        _safe(pooled, first),
    )


def _safe(asked: Asked, first: int) -> float | None:
    return None if asked.z is None else float((asked.z[:, first:] >= 0).double().mean())


def heeds(
    network: CandidatePolicy,
    law: Simulator,
    world: World,
    x: Tensor,
    y: Tensor,
    z: Tensor | None,
) -> float:
    """Share of histories in which turning the order of the outcomes round changes the query.

    After a third, two thirds, and all of the queries but one; the places stay where they are.
    """
    ask = asking(network, world.active if network.flexible else None)
    found = []
    for third in (1, 2, 3):
        n = min(law.starts[1] + law.horizon * third // 3, x.shape[1] - 1)
        if n < 2:
            continue
        past = x[:, :n], y[:, :n], None if z is None else z[:, :n]
        turned = past[0], past[1].flip(1), None if z is None else z[:, :n].flip(1)
        away = (ask(*past) - ask(*turned)).abs().max(-1).values
        found.append((away > CHANGED).double().mean())
    return float(torch.stack(found).mean()) if found else 0.0
