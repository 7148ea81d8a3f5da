"""Safety of queries: closed forms, batches, and several processes' states."""

import pytest
import torch

from lightning_al.policies.safety_metrics import SafeArea, SafeShare, UnsafeDistance


def measured(metric, *batches):
    for batch in batches:
        metric.update(batch)
    return float(metric.compute())


def test_the_share_counts_zero_as_safe():
    assert measured(SafeShare(), torch.tensor([0.0, -1e-9, 2.0, -3.0])) == 0.5


def test_all_of_several_constraints_must_hold():
    z = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, -1.0], [0.0, 0.0]])
    assert measured(SafeShare(), z) == 0.5


def test_the_distance_is_that_below_the_threshold():
    z = torch.tensor([0.5, -0.5, -1.5, 0.0])
    assert measured(UnsafeDistance(), z) == pytest.approx(0.5)
    assert measured(UnsafeDistance(), z.abs()) == 0
    assert measured(UnsafeDistance(), z[:, None].expand(-1, 3)) == pytest.approx(0.5)


@pytest.mark.parametrize("metric", [SafeShare, UnsafeDistance])
def test_batches_and_order_do_not_matter(metric):
    z = torch.randn(100, generator=torch.Generator().manual_seed(0)).double()
    whole = measured(metric(), z)
    assert measured(metric(), *z.flip(0).split(7)) == pytest.approx(whole, abs=1e-12)


@pytest.mark.parametrize("metric", [SafeShare, UnsafeDistance])
def test_nothing_measured_is_no_number_and_nan_is_refused(metric):
    assert torch.isnan(metric().compute())
    with pytest.raises(ValueError, match="hold NaN"):
        metric().update(torch.tensor([1.0, float("nan")]))


def test_the_area_is_counted_over_the_whole_grid():
    declared = torch.tensor([True, True, False, False, True])
    z = torch.tensor([0.1, -0.1, 0.1, -0.1, 0.0])
    area = SafeArea()
    area.update(declared[:2], z[:2])
    area.update(declared[2:], z[2:])
    found = {name: float(value) for name, value in area.compute().items()}
    assert found == pytest.approx({"true_positive": 0.4, "false_positive": 0.2, "safe": 0.6})


def test_declarations_are_one_a_point():
    with pytest.raises(ValueError, match=r"declared is bool \[n\]"):
        SafeArea().update(torch.ones(3), torch.ones(3))
    with pytest.raises(ValueError, match=r"\[3\] and \[2\]"):
        SafeArea().update(torch.ones(3) > 0, torch.ones(2))
