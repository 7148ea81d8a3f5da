"""Problems given by formulas and the fluid system: their laws against slow references."""

import math
import random

import numpy as np
import pytest
import torch

from lightning_al.datamodules import problems
from lightning_al.datamodules.problems import Measured, analytic, fluid
from lightning_al.datamodules.problems.problem import accept
from lightning_al.datamodules.sources import data_root

FORMULAS = ("sin", "branin", "simionescu", "townsend")
SAFE_FORMULAS = ("simionescu", "townsend")
LENGTHS = {  # N0, horizon of a policy, of the others, test points, D, safe
    "sin": (1, 20, 30, 50, 1, False),
    "branin": (1, 30, 40, 200, 2, False),
    "airline": (1, 20, 30, 50, 1, False),
    "lgbb": (1, 30, 40, 200, 2, False),
    "airfoil": (20, 40, 60, 500, 5, False),
    "simionescu": (5, 30, 40, 200, 2, True),
    "townsend": (5, 30, 40, 200, 2, True),
    "lgbb-safe": (5, 30, 40, 200, 2, True),
    "engine": (5, 60, 100, 200, 3, True),
    "fluid-system": (10, 100, 100, 10_000, 7, True),
}


def drawn(seed=0):
    return torch.Generator().manual_seed(seed)


def test_all_problems_are_there_with_their_run_lengths():
    assert problems.names() == sorted(LENGTHS)
    for name, facts in LENGTHS.items():
        p = problems.problem(name)
        assert (
            *(p.n_initial, p.horizon, p.baseline_horizon),
            *(p.n_test, p.dimension, p.safe),
        ) == facts
    with pytest.raises(LookupError, match=r"no problem named 'brannin'.*did you mean 'branin'"):
        problems.problem("brannin")


# --- formulas ------------------------------------------------------------------------------------


def raw(name, x):
    """Objective and constraint of one place, by the formulas, with Python's math."""
    if name == "sin":
        return math.sin(20 * x[0]), None
    if name == "branin":
        u, v = 15 * x[0] - 5, 15 * x[1]
        well = (v - 5.1 / (4 * math.pi**2) * u**2 + 5 / math.pi * u - 6) ** 2
        return well + 10 * (1 - 1 / (8 * math.pi)) * math.cos(u) + 10, None
    if name == "simionescu":
        a, b = 2.5 * x[0] - 1.25, 2.5 * x[1] - 1.25
        return 0.1 * a * b, (1 + 0.2 * math.cos(8 * math.atan(a / b))) ** 2 - a**2 - b**2
    a, b = 4.5 * x[0] - 2.25, 4.25 * x[1] - 2.5
    t = math.atan2(a, b)
    heart = 2 * math.cos(t) - 0.5 * math.cos(2 * t) - 0.25 * math.cos(3 * t)
    heart -= 0.125 * math.cos(4 * t)
    limit = heart**2 + (2 * math.sin(t)) ** 2 - a**2 - b**2
    return -(math.cos((a - 0.1) * b) ** 2) - a * math.sin(3 * a + b), limit


PUBLISHED = {  # mean and deviation of f; mean, deviation and safe share of the constraint
    "sin": (0.029596, 0.699864, None, None, None),
    "branin": (54.33, 51.27, None, None, None),
    "simionescu": (0, 0.0520833, -0.0015, 0.673, 0.5125),
    "townsend": (-0.4784, 1.0268, 1.043, 2.256, 0.684),
}


@pytest.mark.parametrize("name", FORMULAS)
def test_the_truth_is_the_formula_in_standard_units(name):
    p = problems.problem(name)
    x = torch.rand(40, p.dimension, generator=drawn(3), dtype=torch.float64)
    f, g = p.truth(x)
    target = 1.0 if p.safe else math.sqrt(1 - 0.1**2)
    for i, place in enumerate(x.tolist()):
        one, limit = raw(name, place)
        assert float(f[i]) == pytest.approx((one - p.mean) / p.std * target, rel=1e-12, abs=1e-12)
        if p.safe:
            assert float(g[i]) == pytest.approx(limit / p.limit_std, rel=1e-12, abs=1e-12)
    assert (g is None) is (not p.safe)


@pytest.mark.parametrize("name", FORMULAS)
def test_the_constants_are_the_moments_over_the_unit_cube(name):
    p = problems.problem(name)
    n = 200_000 if p.dimension == 1 else 1500
    line = (torch.arange(n, dtype=torch.float64) + 0.5) / n  # the midpoint rule
    x = torch.cartesian_prod(*[line] * p.dimension).reshape(-1, p.dimension)
    f, g = p.truth(x)
    assert float(f.mean()) == pytest.approx(0, abs=1e-5)
    assert float(f.std(correction=0)) == pytest.approx(1 if p.safe else 0.99**0.5, abs=1e-5)
    mean, std, limit_mean, limit_std, share = PUBLISHED[name]
    assert p.mean == pytest.approx(mean, abs=1e-3 * p.std)
    assert p.std == pytest.approx(std, rel=1e-3)
    if p.safe:
        assert float(g.std(correction=0)) == pytest.approx(1, abs=1e-5)
        assert float(g.mean()) * p.limit_std == pytest.approx(limit_mean, abs=2e-3)
        assert p.limit_std == pytest.approx(limit_std, abs=5e-4)
        assert float((g >= 0).double().mean()) == pytest.approx(share, abs=1e-3)


def test_the_centre_of_simionescu_is_no_division_by_zero():
    f, g = problems.problem("simionescu").truth(torch.full((1, 2), 0.5))
    assert float(f) == 0
    assert 0.8**2 <= float(g) * 0.672976 <= 1.2**2


@pytest.mark.parametrize("name", FORMULAS)
def test_noise_is_normal_and_independent(name):
    p = problems.problem(name)
    x = torch.rand(50_000, p.dimension, generator=drawn(), dtype=torch.float64)
    got, (f, g) = p.measure(x, drawn(1)), p.truth(x)
    noise = [got.y - f] + ([got.z - g] if p.safe else [])
    table = torch.stack(noise) / 0.1
    moments = torch.cov(torch.atleast_2d(table)).reshape(len(noise), -1)
    torch.testing.assert_close(moments, torch.eye(len(noise)).double(), atol=0.03, rtol=0)
    assert float(table.mean(1).abs().max()) < 0.02
    torch.testing.assert_close(got.x, x, rtol=0, atol=0)


@pytest.mark.parametrize("name", FORMULAS)
def test_places_are_judged_one_by_one(name):
    p = problems.problem(name)
    x = torch.rand(300, p.dimension, generator=drawn(), dtype=torch.float64)
    order = torch.randperm(300, generator=drawn())
    for part, moved in zip(p.truth(x), p.truth(x[order]), strict=True):
        if part is not None:
            torch.testing.assert_close(part[order], moved, rtol=1e-13, atol=1e-13)
    torch.testing.assert_close(p.truth(x[7:8])[0], p.truth(x)[0][7:8], rtol=1e-13, atol=1e-13)
    with pytest.raises(
        ValueError, match=rf"{name} takes places \[n, {p.dimension}\], got \[3, 9\]"
    ):
        p.truth(torch.zeros(3, 9))


@pytest.mark.parametrize("name", FORMULAS)
def test_draws_come_from_the_generator_alone(name):
    p = problems.problem(name)
    state = torch.get_rng_state()
    for part in (p.initial, p.test, p.pool):
        first, second, other = (part(20, drawn(seed)) for seed in (5, 5, 6))
        assert torch.equal(first.x, second.x)
        assert torch.equal(first.targets, second.targets)
        assert not torch.equal(first.x, other.x)
        assert first.x.dtype == first.y.dtype == torch.float64
        assert first.x.shape == (20, p.dimension)
    assert torch.equal(state, torch.get_rng_state())
    assert len(p.pool(None, drawn())) == 5000


@pytest.mark.parametrize("name", FORMULAS)
def test_initial_and_test_points_lie_where_they_should(name):
    p = problems.problem(name)
    start, test, pool = p.initial(400, drawn()), p.test(400, drawn()), p.pool(400, drawn())
    assert bool(start.safe.all())
    assert bool(test.safe.all())
    low, high = (0.4, 0.6) if p.safe else (0, 1)
    assert bool(((start.x >= low) & (start.x <= high)).all())
    margin = 0.02 * (high - low)
    assert float(start.x.min()) < low + margin
    assert float(start.x.max()) > high - margin
    assert float(pool.x.min()) < 0.02
    if p.safe:
        assert bool((~pool.safe).any())
        assert bool((p.truth(test.x)[1] < 0).any())  # safe by the measurement, not the truth


@pytest.mark.parametrize("name", FORMULAS)
def test_published_constants_are_estimates(name):
    p = problems.problem(name)
    close = p.published(drawn())
    assert 0 < abs(close.mean - p.mean) < 0.06 * p.std
    assert 0 < abs(close.std / p.std - 1) < 0.05
    assert abs(close.limit_std / p.limit_std - 1) < 0.05
    assert close.published(drawn()) == close
    assert problems.problem("airline").published(drawn()) == problems.problem("airline")


# --- rejection -----------------------------------------------------------------------------------


def test_rejection_keeps_the_safe_draws_in_their_order():
    stream = random.Random(0)
    seen = []

    def draw(count):
        z = [stream.gauss(-0.5, 1) for _ in range(count)]
        seen.extend(z)
        return Measured(torch.zeros(count, 1), torch.tensor(z), torch.tensor(z))

    got = accept(draw, 50, "toy")
    torch.testing.assert_close(got.z, torch.tensor([z for z in seen if z >= 0][:50]))
    assert len(accept(draw, 0, "toy")) == 0


def test_a_region_without_safe_points_is_named():
    def draw(count):
        return Measured(torch.zeros(count, 1), torch.zeros(count), torch.full((count,), -1.0))

    with pytest.raises(ValueError, match=r"toy: 3 safe points .* gave 0"):
        accept(draw, 3, "toy")


def test_parts_are_joined_and_not_mixed():
    a = Measured(torch.zeros(2, 1), torch.tensor([1.0, 2.0]), torch.tensor([0.0, -1.0]))
    both = Measured.cat([a, a])
    assert both.safe.tolist() == [True, False] * 2
    assert both.targets.tolist() == [[1, 0], [2, -1]] * 2
    assert both.rows(torch.tensor([3, 0])).y.tolist() == [2, 1]
    with pytest.raises(ValueError, match="parts"):
        Measured.cat([a, Measured(a.x, a.y)])
    assert Measured(a.x, a.y).targets.tolist() == [1, 2]


# --- the fluid system ----------------------------------------------------------------------------


def slow_pressure(x, terms):
    """One place, harmonic by harmonic."""
    u = [1000 + 3000 * v for v in x[:4]] + [60 * v for v in x[4:]] + [0.7] * 3
    u = [(v - m) / s for v, m, s in zip(u, fluid._SHIFT, fluid._SCALE, strict=True)]
    total = 0.0
    for *waves, a, b in terms:
        angle = sum(w * v for w, v in zip(waves, u, strict=True))
        total += a * math.cos(angle) + b * math.sin(angle)
    return 14.886169231027 + 5.1489801806121 * total


def test_the_pressure_is_the_sum_of_harmonics():
    terms = torch.randn(100, 12, generator=drawn(), dtype=torch.float64)
    x = torch.rand(fluid.BLOCK + 3, 7, generator=drawn(1), dtype=torch.float64)
    got = fluid.pressure(x, terms)
    for i in (0, 1, 500, fluid.BLOCK - 1, fluid.BLOCK, fluid.BLOCK + 2):
        wanted = slow_pressure(x[i].tolist(), terms.tolist())
        assert float(got[i]) == pytest.approx(wanted, rel=1e-10, abs=1e-9)
    order = torch.randperm(len(x), generator=drawn())
    torch.testing.assert_close(fluid.pressure(x[order], terms), got[order], rtol=1e-11, atol=1e-10)
    assert fluid.pressure(x[:0], terms).shape == (0,)


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (0.4, 0.6), (0.2, 0.9)])
def test_a_trajectory_is_a_chain_of_uniform_steps(low, high):
    x = fluid.trajectories(40_000, drawn(), low, high)
    assert bool(((x >= low) & (x <= high)).all())
    chain = [(3, None, 0), (2, 3, 0.3), (1, 2, 0.3), (0, 1, 0.3)]
    for column, before, step in [*chain, (6, None, 0), (5, 6, 0.6), (4, 5, 0.3)]:
        least, most = torch.tensor(low), torch.tensor(high)
        if before is not None:
            least = (x[:, before] - step).clamp_min(low)
            most = (x[:, before] + step).clamp_max(high)
        share = (x[:, column] - least) / (most - least)  # uniform in [0, 1], whatever came before
        assert float(share.min()) >= -1e-12
        assert float(share.max()) <= 1 + 1e-12
        counts = torch.histc(share.clamp(0, 1).float(), 20, 0, 1)
        chi2 = float(((counts - 2000).square() / 2000).sum())
        assert chi2 < 50  # 19 degrees of freedom: above 50 once in 7,000
        if before is not None:
            assert abs(float(torch.corrcoef(torch.stack((share, x[:, before])))[0, 1])) < 0.02


@pytest.fixture(scope="module")
def plant():
    found = problems.problem("fluid-system")
    try:
        found.prepare()
    except FileNotFoundError as error:
        pytest.skip(str(error).splitlines()[0])
    return found


CHECKS = {
    (0.0,) * 7: 18.4117006281,
    (0.5,) * 7: 12.0875988949,
    (1.0,) * 7: 19.9751848545,
    (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6): 16.2919586538,
    (0.9, 0.8, 0.7, 0.6, 0.2, 0.3, 0.4): 45.1397420404,
}


def test_the_real_pressure_has_its_known_values(plant):
    x = torch.tensor(list(CHECKS), dtype=torch.float64)
    wanted = torch.tensor(list(CHECKS.values()), dtype=torch.float64)
    torch.testing.assert_close(fluid.pressure(x, plant.terms), wanted, rtol=0, atol=1e-9)
    f, g = plant.truth(x)
    torch.testing.assert_close(f, (wanted - 18) / 15, rtol=0, atol=1e-10)
    torch.testing.assert_close(g, -f, rtol=0, atol=0)


def test_the_real_pressure_has_its_known_statistics(plant):
    n = 60_000
    places = {
        (15.66, 12.65, 0.615): fluid.trajectories(n, drawn()),
        (14.24, 3.55, 0.859): fluid.trajectories(n, drawn(), 0.4, 0.6),
        (17.57, 17.28, 0.541): torch.rand(n, 7, generator=drawn(), dtype=torch.float64),
    }
    for (mean, std, safe), x in places.items():
        p = fluid.pressure(x, plant.terms)
        assert float(p.mean()) == pytest.approx(mean, abs=4 * std / n**0.5 + 0.01)
        assert float(p.std()) == pytest.approx(std, rel=0.015)
        assert float((p <= 18).double().mean()) == pytest.approx(safe, abs=0.01)


def test_the_plant_gives_safe_starts_and_tests_and_any_pool(plant):
    start, pool, test = plant.draw(10, 2000, 500, drawn())
    assert (len(start), len(pool), len(test)) == (10, 2000, 500)
    assert bool(start.safe.all())
    assert bool(test.safe.all())
    assert 0.55 < float(pool.safe.double().mean()) < 0.68
    assert bool(((start.x >= 0.4) & (start.x <= 0.6)).all())
    f, g = plant.truth(pool.x)
    noise = torch.stack((pool.y - f, pool.z - g)) / 0.1
    torch.testing.assert_close(torch.cov(noise), torch.eye(2).double(), atol=0.12, rtol=0)
    again = plant.draw(10, 50, 500, drawn())
    assert torch.equal(again.initial.x, start.x)
    assert torch.equal(again.test.y, test.y)
    assert plant.pool_size == 1_000_000


def test_missing_coefficients_say_where_they_are_from(tmp_path):
    p = problems.problem("fluid-system", data_dir=tmp_path)
    for ask in (p.prepare, lambda: p.initial(2, drawn())):
        with pytest.raises(FileNotFoundError) as caught:
            ask()
        text = str(caught.value)
        assert f"put the file at {data_root(tmp_path) / 'fluid_system' / 'hpfs_terms.csv'}" in text
        assert "https://github.com/cenyou/active-learning-framework" in text
        assert "w9,a_cos,b_sin" in text


def test_other_coefficients_are_refused(tmp_path):
    folder = tmp_path / "fluid_system"
    folder.mkdir()
    names = ",".join([*(f"w{i}" for i in range(10)), "a_cos", "b_sin"])
    np.savetxt(
        folder / "hpfs_terms.csv", np.ones((100, 12)), delimiter=",", header=names, comments=""
    )
    with pytest.raises(ValueError, match=r"other coefficients: the pressure at 0 must be 18\.41"):
        problems.problem("fluid-system", data_dir=tmp_path).prepare()


def test_every_formula_is_offered():
    assert {p.name for p in analytic.ANALYTIC} == set(FORMULAS)
    assert {p.name for p in analytic.ANALYTIC if p.safe} == set(SAFE_FORMULAS)
    for p in analytic.ANALYTIC:
        assert p.box.low.tolist() == [0] * p.dimension
        assert p.box.high.tolist() == [1] * p.dimension
