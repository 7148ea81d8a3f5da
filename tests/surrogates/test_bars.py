"""Bar distributions against quadrature, and limits that are known."""

import math

import pytest
import torch

from lightning_al.surrogates.bars import HALF, Bars, borders

GRID = torch.linspace(-14, 14, 140_001, dtype=torch.float64)


def some(count=12, rows=4, seed=0):
    it = torch.Generator().manual_seed(seed)
    return Bars(borders(count), 2 * torch.randn(rows, count, generator=it, dtype=torch.float64))


def one(bars, row):
    return Bars(bars.edges, bars.logits[row].expand(len(GRID), -1))


@pytest.mark.parametrize("row", range(4))
def test_moments_entropy_and_mass_are_those_of_the_density(row):
    bars = some()
    log_density = one(bars, row).log_density(GRID)
    density = log_density.exp()

    def integral(values):
        return float(torch.trapezoid(density * values, GRID))

    mean = float(bars.mean()[row])
    assert integral(torch.ones_like(GRID)) == pytest.approx(1.0, abs=1e-3)
    assert integral(GRID) == pytest.approx(mean, abs=1e-3)
    assert integral((GRID - mean) ** 2) == pytest.approx(float(bars.variance()[row]), abs=1e-3)
    assert integral(-log_density) == pytest.approx(float(bars.entropy()[row]), abs=1e-3)


def test_cumulative_is_the_integral_of_the_density_and_quantile_its_inverse():
    bars = some()
    for row in range(4):
        it = one(bars, row)
        steps = it.log_density(GRID).exp()
        summed = torch.cumulative_trapezoid(steps, GRID)
        torch.testing.assert_close(it.cumulative(GRID)[1:], summed, atol=1e-3, rtol=0)
    for share in (1e-4, 0.02, 0.5, 0.77, 0.9999):
        shares = torch.full((4,), share, dtype=torch.float64)
        torch.testing.assert_close(bars.cumulative(bars.quantile(shares)), shares)


def test_tails_have_full_support_and_half_of_their_mass_within_the_last_bucket():
    bars = Bars(borders(5), torch.tensor([[30.0, 0, 0, 0, 0]], dtype=torch.float64))
    at = bars.edges[:1]
    assert float(bars.cumulative(at)) == pytest.approx(0.5, abs=1e-6)
    assert float(bars.log_density(torch.tensor([-100.0], dtype=torch.float64))) > -math.inf
    scale = float(bars.widths[0]) / HALF
    assert float(bars.variance()) == pytest.approx((1 - 2 / math.pi) * scale**2, rel=1e-6)


def test_a_normal_in_fine_bars_has_the_entropy_and_moments_of_the_normal():
    edges = borders(400)
    mean, deviation = 0.3, 0.2
    below = torch.special.ndtr((edges - mean) / deviation)
    below[0], below[-1] = 0, 1
    bars = Bars(edges, below.diff().clamp_min(1e-300).log()[None])
    assert float(bars.mean()) == pytest.approx(mean, abs=1e-3)
    assert float(bars.variance()) == pytest.approx(deviation**2, rel=0.01)
    exact = 0.5 * math.log(2 * math.pi * math.e * deviation**2)
    assert float(bars.entropy()) == pytest.approx(exact, abs=0.01)


def test_borders_rise_and_are_symmetric():
    edges = borders(50)
    assert bool((edges.diff() > 0).all())
    torch.testing.assert_close(edges, -edges.flip(0))
    assert float(edges.diff().max()) < 1.0
    with pytest.raises(ValueError, match="3 bars or more, got 2"):
        borders(2)


def test_values_on_a_border_count_once():
    bars = some()
    for edge in bars.edges[1:-1]:
        near = bars.log_density((edge - 1e-9).expand(4))
        torch.testing.assert_close(bars.log_density(edge.expand(4)), near, atol=1e-6, rtol=0)


def test_gradients_reach_all_logits():
    bars = some()
    bars.logits.requires_grad_(True)
    bars.log_density(torch.zeros(4, dtype=torch.float64)).sum().backward()
    assert bool((bars.logits.grad != 0).all())
