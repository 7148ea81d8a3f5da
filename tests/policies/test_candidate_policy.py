"""A trained policy that scores candidates at work: queries, sessions, scores, files, refusals."""

import copy
from importlib.resources import files
from pathlib import Path

import pytest
import torch
from helpers.policy_worlds import told

from lightning_al.policies import CandidatePolicy, Policy, SetPolicy
from lightning_al.policies.candidates.network import moved
from lightning_al.policies.candidates.places import Places
from lightning_al.policies.gate import checks

PRETRAINED = Path(str(files("lightning_al.policies"))) / "pretrained"
SHIPPED = sorted(p.stem for p in PRETRAINED.glob("candidate-*.json"))
FORMS = {
    "1-D": {"dimension": 1},
    "2-D safe": {"dimension": 2, "safe": True},
    "4-D": {"dimension": 4},
    "flexible": {"dimension": 5, "flexible": True},
}


def policy(seed=0, history=12, budget=10, **form):
    torch.manual_seed(seed)
    network = CandidatePolicy(width=16, heads=2, candidates=16, **form)
    with torch.no_grad():
        for value in network.parameters():
            value.add_(torch.randn_like(value), alpha=0.2)
    return Policy.of(network, history, budget, steps=3)


def asked(made, n=5, users=None, dimension=None):
    x, y, z = told(n, users, dimension=dimension or made.network.dimension)
    return x, y, ((z,) if made.network.safe else ())


@pytest.mark.parametrize("form", FORMS)
def test_the_best_of_the_moved_candidates_is_asked(form):
    """By the network itself, candidate by candidate."""
    made = policy(**FORMS[form])
    net, inputs = made.network, 3 if form == "flexible" else FORMS[form]["dimension"]
    x, y, z = asked(made, dimension=inputs)
    query = made.query(x, y, 4, *z)
    wide = torch.nn.functional.pad(x, (0, net.dimension - inputs))[None]
    active = (torch.arange(net.dimension) < inputs)[None] if net.flexible else None
    grid = False if net.flexible else None
    looked = Places.of(net.dimension, net.candidates, grid)(wide, active).reshape(
        1, -1, net.dimension
    )
    more = {"z": z[0][None]} if z else {}
    best, place = -torch.inf, None
    for candidate in looked[0]:
        score, move = net(wide, y[None], candidate[None, None], active=active, **more)
        if float(score) > best + 1e-6:
            best, place = float(score), moved(candidate, move[0, 0])
    torch.testing.assert_close(query, place[:inputs], atol=1e-5, rtol=0)
    assert query.shape == (inputs,)


@pytest.mark.parametrize("form", FORMS)
def test_batches_sessions_and_repetitions_agree(form):
    made = policy(**FORMS[form])
    x, y, z = asked(made, users=3)
    batch = made.query(x, y, [3, 1, 10], *z)
    for u in range(3):
        alone = made.query(x[u], y[u], 7, *(t[u] for t in z))  # the budget does not matter
        torch.testing.assert_close(alone, batch[u], atol=1e-5, rtol=0)
        session = made.session(4)
        for i in range(5):
            session.tell(x[u, i], y[u, i], *(t[u, i] for t in z))
        torch.testing.assert_close(session.ask(), batch[u], atol=1e-5, rtol=0)
    torch.manual_seed(5)
    assert torch.equal(made.query(x, y, 2, *z), batch)


@pytest.mark.parametrize("form", FORMS)
def test_scores_are_of_each_row_alone(form):
    made = policy(**FORMS[form])
    x, y, z = asked(made)
    rows = torch.rand(9, made.network.dimension, generator=torch.Generator().manual_seed(1))
    found = made.score(x, y, rows, *z)
    assert found.shape == (9,)
    for i in range(9):
        one = made.score(x, y, rows[i : i + 1].tolist(), *z)
        torch.testing.assert_close(one, found[i : i + 1], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("n", [1, 2, 11])
@pytest.mark.parametrize("form", FORMS)
def test_scores_are_those_of_the_network(form, n):
    """Its weights are multiplied before; a flexible one is asked with fewer inputs than it has."""
    made = policy(seed=n, **FORMS[form])
    net, inputs = made.network, 3 if form == "flexible" else FORMS[form]["dimension"]
    x, y, z = asked(made, n=n, dimension=inputs)
    rows = torch.rand(40, inputs, generator=torch.Generator().manual_seed(1))
    wide = [torch.nn.functional.pad(t, (0, net.dimension - inputs)) for t in (x, rows)]
    active = (torch.arange(net.dimension) < inputs)[None] if net.flexible else None
    more = {"z": z[0][None].double()} if z else {}
    exact = copy.deepcopy(net).double()
    known = exact.encode(wide[0][None].double(), y[None].double(), **more, active=active)
    theirs = exact.rate(known, wide[1].double())
    torch.testing.assert_close(made.score(x, y, rows, *z).double(), theirs[0], atol=2e-5, rtol=2e-5)


def test_more_rows_than_fit_at_once_are_scored_in_parts():
    made = policy(dimension=2)
    x, y, _ = asked(made)
    rows = torch.rand(5000, 2, generator=torch.Generator().manual_seed(1))
    found = made.score(x, y, rows)
    torch.testing.assert_close(found[4990:], made.score(x, y, rows[4990:]), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("form", FORMS)
def test_written_and_read_again_it_is_the_same(form, tmp_path):
    made = policy(**FORMS[form])
    x, y, z = asked(made)
    again = Policy.load(made.save(tmp_path / "mine"))
    assert torch.equal(again.query(x, y, 3, *z), made.query(x, y, 3, *z))
    assert again.card.kind == "CandidatePolicy"
    assert again.card.settings["reach"] == made.network.reach


def test_what_it_cannot_do_it_says():
    made = policy(dimension=2)
    x, y, _ = asked(made)
    for rows, says in (
        (torch.rand(4, 3), r"candidates are \[A, 2\], A >= 1, .* got \[4, 3\]"),
        (torch.rand(0, 2), r"got \[0, 2\]"),
        (torch.rand(4, 2) + 1, r"in the box \[0, 1\], got 1"),
        (torch.full((4, 2), torch.nan), "got nan to nan"),
    ):
        with pytest.raises(ValueError, match=says):
            made.score(x, y, rows)
    with pytest.raises(ValueError, match=r"one user, x .* got 1 users"):
        made.score(x[None], y[None], torch.rand(4, 2))
    named = Policy.of(SetPolicy(2, width=8, heads=2, hidden=8), 9, 9)
    assert not named.scores_candidates
    with pytest.raises(NotImplementedError, match="a SetPolicy names a place and scores none"):
        named.score(x, y, torch.rand(4, 2))


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_policies_pass_their_gate_and_look_at_their_data(name):
    made = Policy.load(name)  # checked
    assert len(checks(made.card)) >= 4
    x, y, z = told(12, seed=3, dimension=made.network.dimension)
    safety = [z.abs()] if made.network.safe else []
    asked = made.query(x, y, 5, *safety)
    shifts = [
        float((asked - made.query(x, y.flip(0), 5, *(v.flip(0) for v in safety))).abs().max())
    ]
    few = [v[:5] for v in safety]
    early = made.query(x[:5], y[:5], 5, *few)
    shifts += [float((early - made.query(x[:5], -y[:5], 5, *few)).abs().max())]
    assert max(shifts) > 1e-4
    assert Policy.load(name).card.training["steps"] == made.card.training["planned_steps"]
