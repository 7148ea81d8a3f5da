"""Figures of what a policy does: they tell one that looks at its data from one that does not."""

import pytest
import torch

from lightning_al.policies import Batch, CandidatePolicy, SafetyPrior, Simulator
from lightning_al.policies.candidates.asking import choosing
from lightning_al.policies.candidates.evidence import observe
from lightning_al.policies.candidates.network import Judged
from lightning_al.policies.candidates.places import shifted


class Blind(CandidatePolicy):
    """Knows how often it was asked, and nothing else."""

    def look(self, known, candidates):
        candidates = candidates.expand(len(known.count), *candidates.shape[-2:])
        turn = (candidates * known.count[:, :1, None].tanh() * 50).sum(-1).sin()
        return Judged(turn, torch.zeros_like(candidates), turn)


def network(cls=CandidatePolicy, **form):
    torch.manual_seed(1)
    made = cls(2, width=8, heads=2, candidates=16, **form)
    with torch.no_grad():
        for value in made.parameters():
            value.add_(torch.randn_like(value), alpha=0.5)
    return made


def law(**more):
    return Simulator(2, 6, 2, Batch(4, 1, 1), draws="exact", **more)


def test_who_ignores_the_data_is_found_out():
    blind, sees = (observe(network(cls), law(), 20) for cls in (Blind, CandidatePolicy))
    assert blind.spread == pytest.approx(0.0, abs=1e-6)
    assert blind.heeded == 0.0
    assert sees.spread > 0.02
    assert sees.heeded > 0.3
    assert blind.rmse_sobol == sees.rmse_sobol
    assert blind.safe is None


@pytest.mark.parametrize("flexible", [False, True])
def test_figures_of_safe_and_flexible_ones_too(flexible):
    found = observe(
        network(safe=True, flexible=flexible), law(safety=SafetyPrior(), flexible=flexible), 6
    )
    assert 0 <= found.safe <= 1
    assert 0 <= found.border <= 1
    assert 0 <= found.safe_rows <= 1
    assert set(found.table()) >= {"spread", "heeded", "rmse", "rmse_sobol", "border", "safe"}


def test_on_pools_the_rows_are_asked_one_after_another_by_what_they_are_worth_where_they_are():
    """Brute force: the best row by `rate`, of those that are left."""
    made, g = network(), torch.Generator().manual_seed(3)
    rows = torch.rand(2, 7, 2, generator=g)
    x, y = torch.rand(2, 3, 2, generator=g), torch.randn(2, 3, generator=g)
    ask = choosing(made, rows)
    got = torch.stack([ask(x, y, None) for _ in range(7)], 1)
    for r in range(2):
        worth = [
            float(made.rate(made.encode(x[r : r + 1], y[r : r + 1]), row))
            for row in rows[r][:, None]
        ]
        order = sorted(range(7), key=lambda i: -worth[i])
        torch.testing.assert_close(got[r], rows[r][order])


def test_a_shifted_sequence_is_spread_evenly():
    """A Sobol sequence of 2^m points has one in each of 2^m equal cells; shifts keep the volume."""
    plain = shifted(torch.zeros(1, 2, dtype=torch.float64), 16)[0]
    cells = (plain * 4).long()
    assert len({tuple(c) for c in cells.tolist()}) == 16
    moved = shifted(torch.tensor([[0.3, 0.9]], dtype=torch.float64), 16)[0]
    torch.testing.assert_close(moved, torch.frac(plain + torch.tensor([0.3, 0.9]).double()))
