"""Values from multiplicities and losses: brute force, limits, and what changes nothing."""

import pytest
import torch

from lightning_al.valuing import Multisets, values_by_means, values_by_ridge
from lightning_al.valuing.estimate import RANGE, STEPS
from lightning_al.valuing.refitted import valued


def drawn(fits=40, n=12, parts=3, noise=0.3, seed=0):
    """Counts [T, n], losses [T], parts [T] and the true values [n] of a linear world."""
    g = torch.Generator().manual_seed(seed)
    index = torch.arange(n)
    held = tuple(index[k::parts] for k in range(parts)) if parts > 1 else (None,)
    design = Multisets(index, held, seed)
    counts = torch.stack([design.counts(t) for t in range(fits)]).double()
    part = torch.tensor([design.part(t) for t in range(fits)])
    truth = torch.randn(n, generator=g, dtype=torch.float64)
    losses = -(design.centred(fits) @ truth) + part.double() * 5
    return counts, losses + noise * torch.randn(fits, generator=g, dtype=torch.float64), part, truth


def by_hand(counts, losses, part):
    """Ridge with an intercept a part, each fit foretold by a fit to the others."""
    parts = int(part.max()) + 1
    rows = torch.nn.functional.one_hot(part, parts).double()
    x = torch.cat([rows, counts], 1)
    within = counts - torch.stack([counts[part == k].mean(0) for k in range(parts)])[part]
    squares = torch.linalg.svdvals(within).square()
    squares = squares[squares > 1e-18 * squares.max()]
    best = None
    for power in torch.linspace(*RANGE, STEPS, dtype=torch.float64):
        alpha = float(10**power * squares.mean())
        ridge = torch.diag(torch.cat([torch.zeros(parts), torch.full((len(counts.T),), alpha)]))

        def solve(keep, ridge=ridge):
            normal = x[keep].T @ x[keep] + ridge.double()
            return torch.linalg.lstsq(normal, x[keep].T @ -losses[keep], driver="gelsd").solution

        gaps = []
        for t in range(len(x)):
            keep = torch.arange(len(x)) != t
            gaps.append(-losses[t] - x[t] @ solve(keep))
        error = float(torch.stack(gaps).square().sum())
        if best is None or error < best[0]:
            best = error, alpha, solve(slice(None))[parts:]
    null = 0.0
    for t in range(len(x)):
        keep = (part == part[t]) & (torch.arange(len(x)) != t)
        null += float((losses[t] - losses[keep].mean()).square())
    return best[2], best[1], 1 - best[0] / null


@pytest.mark.parametrize("parts", [1, 3])
@pytest.mark.parametrize("fits", [9, 30])
def test_the_closed_form_is_that_of_refitting(parts, fits):
    counts, losses, part, _ = drawn(fits, parts=parts)
    values, alpha, r2 = by_hand(counts, losses, part)
    found = values_by_ridge(counts, losses, part)
    assert found.alpha == pytest.approx(alpha, rel=1e-6)
    assert found.r2 == pytest.approx(r2, abs=1e-6)
    torch.testing.assert_close(found.values, values, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("parts", [1, 3])
def test_many_fits_without_noise_give_the_values_themselves(parts):
    counts, losses, part, truth = drawn(400, parts=parts, noise=0)
    found = values_by_ridge(counts, losses, part)
    assert found.r2 > 0.999
    # all draws of a part are of one size, so that what all values share cannot be told
    assert abs(float(found.values.sum())) < 1e-9
    assert float((found.values - truth + truth.mean()).abs().max()) < 0.05


def test_the_order_of_items_and_fits_and_the_unit_of_the_loss_change_nothing():
    counts, losses, part, _ = drawn()
    found = values_by_ridge(counts, losses, part)
    rows, columns = (
        torch.randperm(k, generator=torch.Generator().manual_seed(k)) for k in (40, 12)
    )
    moved = values_by_ridge(counts[rows][:, columns], 7 * losses[rows] + 3, part[rows])
    torch.testing.assert_close(moved.values, 7 * found.values[columns])
    assert moved.r2 == pytest.approx(found.r2)


def test_losses_that_have_nothing_to_do_with_the_items_are_not_foretold():
    foretold = []
    for seed in range(10):
        counts, _, part, _ = drawn(seed=seed)
        noise = torch.randn(40, generator=torch.Generator().manual_seed(seed + 100))
        foretold.append(values_by_ridge(counts, noise, part).r2)
    assert max(foretold) < 0.3
    assert sorted(foretold)[5] < 0.05
    assert all(torch.isfinite(torch.tensor(foretold)))


def test_equal_losses_and_equal_draws_give_no_value():
    counts, losses, part, _ = drawn()
    same = values_by_ridge(counts, torch.ones(40), part)
    assert same.values.tolist() == [0] * 12
    assert same.r2 == 0
    undrawn = values_by_ridge(torch.ones(40, 12), losses, part)
    assert undrawn.values.tolist() == [0] * 12
    assert values_by_means(torch.ones(40, 12), losses, part).values.tolist() == [0] * 12


def test_means_look_at_each_item_by_itself():
    counts, losses, _, _ = drawn(parts=1)
    found = values_by_means(counts, losses).values
    for i in range(12):
        c = counts[:, i] - counts[:, i].mean()
        assert float(found[i]) == pytest.approx(float((c * -losses).sum() / c.square().sum()))


def test_bad_numbers_are_refused():
    counts, losses, part, _ = drawn()
    with pytest.raises(ValueError, match=r"expected counts \[T, n\], losses \[T\]"):
        values_by_ridge(counts, losses[:5], part)
    losses[3] = torch.nan
    with pytest.raises(ValueError, match="1 of 40 losses are not; leave those fits out"):
        values_by_ridge(counts, losses, part)
    with pytest.raises(ValueError, match="two fits of a part at least, got 1 fits"):
        values_by_ridge(counts[:1], losses[:1])


# --- designs -------------------------------------------------------------------------------------


def test_draws_are_of_one_size_and_leave_out_who_judges():
    index = torch.tensor([3, 5, 8, 9, 20, 21])
    design = Multisets(index, (torch.tensor([5, 20]), torch.tensor([3])), seed=4)
    for t in range(20):
        counts = design.counts(t)
        held = torch.isin(index, design.held(t))
        assert int(counts.sum()) == 6 - int(held.sum())
        assert not counts[held].any()
        assert torch.equal(counts, design.counts(t))
    centred = design.centred(20)
    assert float(centred.sum(1).abs().max()) < 1e-12
    assert not torch.equal(design.counts(0), design.counts(2))
    keys = {design.key, Multisets(index).key, Multisets(index, seed=1).key}
    assert len(keys) == 3


def test_draws_are_those_of_a_bootstrap():
    design = Multisets(torch.arange(10))
    counts = torch.stack([design.counts(t) for t in range(2000)]).double()
    assert float((counts.mean(0) - 1).abs().max()) < 0.1
    assert float((counts.var(0) - 0.9).abs().max()) < 0.12  # n p (1 - p)
    assert float((counts == 0).double().mean()) == pytest.approx(0.9**10, abs=0.02)


def test_a_fit_that_came_to_nothing_is_left_out():
    counts, losses, _, _ = drawn(parts=1)
    design = Multisets(torch.arange(12), seed=0)
    some = losses.tolist()
    some[7] = float("nan")
    keep = torch.arange(40) != 7
    wanted = values_by_ridge(counts[keep], losses[keep])
    torch.testing.assert_close(valued(design, some).values, wanted.values)
