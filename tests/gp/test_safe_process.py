"""The process of a safety measurement: its mixture, what it says far away, and leaving one out."""

import math
from statistics import NormalDist

import pytest
import torch

from lightning_al.gp import ExactGP, MixtureGP, Stationary
from lightning_al.gp.safety import (
    FAR,
    SHAPE,
    SafeProcess,
    probability_deviations,
    safe_values,
    unit_of,
)

NORMAL = NormalDist()


def data(n=12, d=2, seed=0):
    it = torch.Generator().manual_seed(seed)
    x = torch.rand(n, d, generator=it, dtype=torch.float64)
    z = torch.sin(5 * x[:, 0]) + 0.3 + 0.1 * torch.randn(n, generator=it, dtype=x.dtype)
    return x, z


def one_by_one(process):
    """Each process of the mixture alone."""
    gp = process.mixture.members
    white = (gp.factor @ gp.white.unsqueeze(-1)).squeeze(-1)
    for s in range(len(gp.x)):
        kernel = Stationary(SHAPE, gp.kernel.lengthscale[s], gp.kernel.outputscale[s])
        yield ExactGP.given(kernel, gp.noise[s], gp.x[s], white[s])


# --- the probability -----------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 2, 9])
def test_deviations_are_those_of_the_mean_probability(count):
    it = torch.Generator().manual_seed(count)
    mean = 3 * torch.randn(count, 40, generator=it, dtype=torch.float64)
    deviation = torch.rand(count, 40, generator=it, dtype=torch.float64) + 0.1
    weights = torch.rand(count, 40, generator=it, dtype=torch.float64).softmax(0)
    for given in (None, weights):
        found = probability_deviations(mean, deviation, given)
        for j in range(40):
            share = [1 / count] * count if given is None else weights[:, j].tolist()
            p = sum(
                w * NORMAL.cdf(float(m) / float(s))
                for w, m, s in zip(share, mean[:, j], deviation[:, j], strict=True)
            )
            assert float(torch.special.ndtr(found[j])) == pytest.approx(p, abs=1e-12)


@pytest.mark.parametrize("ratio", [-30.0, -9.0, 0.0, 9.0, 30.0])
def test_tails_keep_their_digits(ratio):
    mean = torch.tensor([[ratio], [ratio]]).double()
    found = probability_deviations(mean, torch.ones_like(mean))
    assert float(found) == pytest.approx(ratio, rel=1e-9, abs=1e-9)


def test_one_process_alone_is_never_the_mixture_of_two():
    mean = torch.tensor([[3.0], [-1.0]]).double()
    found = float(probability_deviations(mean, torch.ones_like(mean)))
    p = 0.5 * (NORMAL.cdf(3) + NORMAL.cdf(-1))
    assert found == pytest.approx(NORMAL.inv_cdf(p), abs=1e-12)
    assert -1 < found < 1  # the mean of the ratios


@pytest.mark.parametrize("n", [1, 4, 20])
@pytest.mark.parametrize("unit", [1.0, 1e-4, 300.0])
def test_answers_are_those_of_each_process(n, unit):
    x, z = data(n)
    process = SafeProcess.given(x, unit * z, count=5)
    points = data(30, seed=3)[0]
    mean, deviation = process.answers(points)
    scale = unit * float(z.square().mean().sqrt())
    for s, gp in enumerate(one_by_one(process)):
        m, v = gp.moments(points)
        torch.testing.assert_close(mean[s], scale * (m + FAR))
        torch.testing.assert_close(deviation[s], scale * (v + gp.noise).sqrt())
    one = SafeProcess.given(x, z, count=5).deviations(points)
    torch.testing.assert_close(process.deviations(points), one, rtol=1e-6, atol=1e-6)


# --- limits --------------------------------------------------------------------------------------


def test_far_away_it_is_rather_unsafe():
    for z in (2.0, -2.0):
        process = SafeProcess.given(torch.full((1, 2), 0.5), torch.tensor([z]))
        mean, _ = process.answers(torch.full((1, 2), 90.0))
        assert mean.flatten().tolist() == pytest.approx([-2.0] * len(mean))
        far = float(process.deviations(torch.full((1, 2), 90.0)))
        assert -1.5 < far < 0
        assert float(process.deviations(torch.full((1, 2), 0.5))) * z > 0


def test_all_at_the_limit_is_no_unit():
    assert unit_of(torch.zeros(3)) == unit_of(torch.zeros(0)) == 1.0
    x = data(3)[0]
    assert bool(SafeProcess.given(x, torch.zeros(3)).deviations(x).isfinite().all())


@pytest.mark.parametrize("d", [1, 2, 5])
def test_what_was_measured_safe_is_safe_where_it_was_measured(d):
    it = torch.Generator().manual_seed(d)
    x = torch.rand(15, d, generator=it, dtype=torch.float64)
    process = SafeProcess.given(x, torch.full((15,), 1.0))
    other = torch.full((1, d), 9.0).double()
    assert bool((process.deviations(x) > process.deviations(other)).all())
    assert float(process.deviations(x).median()) > 1.645


# --- leaving one out -----------------------------------------------------------------------------


def mixture_of(count, n=10, d=2, noise=0.02):
    x, z = data(n, d)
    it = torch.Generator().manual_seed(7)
    values = torch.rand(count, d + 2, generator=it, dtype=torch.float64) * 0.5 + 0.2
    values[:, -1] = noise * (1 + torch.arange(count))
    return SafeProcess(MixtureGP.given(SHAPE, values, x, z - FAR), 1.0, FAR), x, z


@pytest.mark.parametrize("count", [1, 2, 6])
def test_left_out_measurements_are_predicted_as_without_them(count):
    """Bayes from the others alone: each process weighed by its evidence without the one."""
    process, x, z = mixture_of(count)
    found = process.left_out()
    whole = torch.stack([gp.log_evidence() for gp in one_by_one(process)])
    for i in range(len(x)):
        rest = torch.arange(len(x)) != i
        logs, chances = [], []
        for s, gp in enumerate(one_by_one(process)):
            alone = ExactGP.given(gp.kernel, gp.noise, x[rest], z[rest] - FAR)
            m, v = alone.moments(x[i : i + 1])
            law = NormalDist(float(m) + FAR, math.sqrt(float(v + gp.noise)))
            logs.append(float(alone.log_evidence() - whole[s]))  # equal weights had all of them
            chances.append(1 - law.cdf(float(z[i])))
        weights = torch.tensor(logs).double().softmax(0)
        p = float(weights @ torch.tensor(chances).double())
        assert float(torch.special.ndtr(found[i])) == pytest.approx(p, abs=1e-7)


@pytest.mark.parametrize("ard", [True, False])
@pytest.mark.parametrize("count", [1, 7, 64])
def test_values_are_so_many(ard, count):
    x, z = data(9, 3)
    values = safe_values(x, z - FAR, count, ard=ard)
    assert values.shape == (count, 5 if ard else 3)
    assert bool((values > 0).all())
    wide = safe_values(100 * x, z - FAR, count, length=25.0, ard=ard)
    torch.testing.assert_close(wide[:, :-2], 100 * values[:, :-2])  # a unit of x is a unit
