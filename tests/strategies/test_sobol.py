"""The Sobol baseline: even places that look at no outcome."""

import copy

import pytest
import torch
from helpers.places import pool_of

from lightning_al.records import Box
from lightning_al.strategies import build


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def box(low=(0.0, 0.0), high=(1.0, 1.0)):
    return Box(torch.tensor(low), torch.tensor(high))


def asked(strategy, counts, known=None, targets=None, where=None):
    """Places of a box, some at a time."""
    known = torch.rand(2, 2, generator=seeded(8)) if known is None else known
    targets = torch.zeros(len(known)) if targets is None else targets
    pool = pool_of(torch.rand(20, 2, generator=seeded(3)), known, targets, box=where or box())
    return torch.cat([strategy.choose(pool, k, seeded(i)).x for i, k in enumerate(counts)])


def test_it_is_one_sequence_whatever_is_asked_at_a_time_and_whatever_was_measured():
    whole = asked(build("sobol"), [16])
    assert torch.equal(whole, asked(build("sobol"), [1, 5, 10]))
    other = asked(build("sobol"), [16], torch.full((2, 2), 0.1), torch.tensor([5.0, -5.0]))
    assert torch.equal(whole, other)
    cells = (torch.frac(whole - whole[:1] + 1 + 1e-9) * 4).long()  # back to where it was not moved
    assert len({tuple(c) for c in cells.tolist()}) == 16


def test_places_of_a_box_with_sides_of_its_own():
    wide = asked(build("sobol"), [8], torch.full((2, 2), 5.0), where=box((4.0, -1.0), (8.0, 9.0)))
    unit = asked(build("sobol"), [8])
    torch.testing.assert_close(
        wide, unit * torch.tensor([4.0, 10.0]).double() + torch.tensor([4.0, -1.0]).double()
    )


def test_on_a_pool_it_takes_the_nearest_that_was_not_taken():
    inputs = torch.rand(30, 2, generator=seeded(5))
    known = torch.rand(2, 2, generator=seeded(6))
    places = asked(build("sobol"), [6])
    got = build("sobol").choose(pool_of(inputs, known, torch.zeros(2)), 6, seeded()).index - 100
    taken: list[int] = []
    for place in places:  # brute force
        away = [
            (sum((a - b) ** 2 for a, b in zip(row, place.tolist(), strict=True)), i)
            for i, row in enumerate(inputs.tolist())
            if i not in taken
        ]
        taken.append(min(away)[1])
    assert got.tolist() == taken
    every = build("sobol").choose(pool_of(inputs, known, torch.zeros(2)), 30, seeded()).index
    assert sorted(every.tolist()) == list(range(100, 130))


def test_who_goes_on_from_its_memory_asks_as_if_it_had_not_stopped():
    one = build("sobol")
    whole = asked(copy.deepcopy(one), [9])
    first = asked(one, [4])
    again = build("sobol")
    again.load_state_dict(one.state_dict())
    assert torch.equal(torch.cat([first, asked(again, [5])]), whole)
    assert build("sobol").state_dict() == {}


def test_inputs_without_bounds_and_other_data_are_refused():
    pool = pool_of(torch.rand(5, 2) * 9 + 2, torch.rand(2, 2), torch.zeros(2))
    with pytest.raises(ValueError, match="the bounds of the inputs"):
        build("sobol").choose(pool, 1, seeded())
    begun = build("sobol")
    asked(begun, [1])
    pool = pool_of(torch.rand(5, 3), torch.rand(2, 3), torch.zeros(2))
    with pytest.raises(ValueError, match="has 2 inputs, the candidates have 3"):
        begun.choose(pool, 1, seeded())
