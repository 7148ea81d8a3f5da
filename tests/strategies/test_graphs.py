"""GALAXY against paths in explicit graphs and plain bisection; TCM and its switch."""

import doctest
import itertools
import math
from collections import deque
from dataclasses import replace
from importlib import import_module

import pytest
import torch
from helpers.set_worlds import FIXTURES, C, L, chosen, seeded, unlabelled, world

from lightning_al.records import Context, Pool, Predictions
from lightning_al.strategies import TCM, Galaxy, build
from lightning_al.strategies.hybrid.galaxy import galaxy
from lightning_al.testing import World, check_strategy

module = import_module("lightning_al.strategies.hybrid.galaxy")
N = 25


def soft(n, c, seed, scale=2.0):
    return (scale * torch.randn(n, c, generator=seeded(seed))).softmax(-1)


def plain(c, seed):
    """Labels drawn from the predictions."""
    known = soft(6, c, seed + 50)
    labels = torch.multinomial(known, 1, generator=seeded(seed)).squeeze(1)
    return soft(N, c, seed), known, labels


def wrong(c, seed):
    """Labels that have nothing to do with the predictions: many cuts on a line."""
    return soft(N, c, seed), soft(8, c, seed + 50), torch.randint(c, (8,), generator=seeded(seed))


def rare(c, seed):
    """One labelled item is of another class."""
    return soft(N, c, seed), soft(6, c, seed + 50), torch.tensor([0, 0, 0, 0, 0, c - 1])


def pure(c, seed):
    """One class is labelled."""
    return soft(N, c, seed), soft(3, c, seed + 50), torch.zeros(3, dtype=torch.int64)


def cold(c, seed):
    return soft(N, c, seed), soft(0, c, 0), torch.zeros(0, dtype=torch.int64)


EVERY = pytest.mark.parametrize("fixture", [plain, wrong, rare, pure, cold])
CLASSES = pytest.mark.parametrize("c", [2, 3, 5])


def lines(probs):
    """The items of each class's line, lowest margin first; plain Python."""
    rows = probs.double().tolist()

    def lead(i, c):
        return rows[i][c] - max(p for j, p in enumerate(rows[i]) if j != c)

    return [sorted(range(len(rows)), key=lambda i: lead(i, c)) for c in range(len(rows[0]))]


def hops(line, label, start, order):
    """Steps from a labelled item to every other in the line's graph, through unlabelled ones.

    Items up to ``order`` places apart are connected.
    """
    steps, queue = {start: 0}, deque([start])
    while queue:
        here = queue.popleft()
        if here != start and line[here] in label:
            continue
        for there in range(max(0, here - order), min(len(line), here + order + 1)):
            direct = here == start and line[there] in label  # a cut, or of one kind
            if there not in steps and not direct:
                steps[there] = steps[here] + 1
                queue.append(there)
    return steps


def allowed(orders, label):
    """The items that the rule may choose next: middles of the shortest paths of all lines."""
    for order in range(1, len(orders[0])):
        best, middles = math.inf, set()
        for own, line in enumerate(orders):
            seen = [place for place, item in enumerate(line) if item in label]
            from_there = {place: hops(line, label, place, order) for place in seen}
            for a, b in itertools.combinations(seen, 2):
                length = from_there[a].get(b, math.inf)
                if (label[line[a]] == own) == (label[line[b]] == own) or length > best:
                    continue
                middles = middles if length == best < math.inf else set()
                best = length
                middles |= {
                    line[place]
                    for place, steps in from_there[a].items()
                    if steps + from_there[b].get(place, math.inf) == length < math.inf
                    and steps in (length // 2, (length + 1) // 2)
                    and line[place] not in label
                }
        if middles:
            return middles
    return None


def offers(line, kinds):
    """Items of a line with (tier, steps), from scratch; ``kinds``: place -> of the class."""
    found = []
    for low, high in itertools.pairwise(sorted(kinds)):
        if kinds[low] == kinds[high]:
            continue
        if high - low > 1:
            found += [((0, high - low), line[(low + high + odd) // 2]) for odd in (0, 1)]
            continue
        for start, near, way in ((low, high, 1), (high, low, -1)):
            here = near
            while kinds.get(here) == kinds[near]:
                here += way
            if 0 <= here < len(line) and here not in kinds:
                found.append(((1, abs(here - start)), line[here]))
    return found


def side(place, kinds, predicted):
    """What both sides agree on, else what is predicted."""
    below = [kinds[p] for p in sorted(kinds) if p < place][-1:]
    above = [kinds[p] for p in sorted(kinds) if p > place][:1]
    both = set(below + above)
    return both.pop() if len(both) == 1 else predicted


@EVERY
@CLASSES
@pytest.mark.parametrize("seed", [0, 1])
def test_a_batch_follows_the_rule(fixture, c, seed):
    probs, known, labels = fixture(c, seed)
    picks = galaxy(probs, known, labels, 18, seeded(seed)).tolist()
    everything = torch.cat([probs, known])
    orders, best = lines(everything), everything.argmax(1).tolist()
    label = {N + i: y for i, y in enumerate(labels.tolist())}
    kinds = [{line.index(i): y == own for i, y in label.items()} for own, line in enumerate(orders)]
    lead = {i: p[0] - p[1] for i, p in enumerate(probs.topk(2).values.tolist())}
    for at, pick in enumerate(picks):
        every = [o for line, seen in zip(orders, kinds, strict=True) for o in offers(line, seen)]
        if every:
            assert pick in {item for key, item in every if key == min(every)[0]}
        else:  # nothing to bisect: the most uncertain
            assert lead[pick] <= min(lead[i] for i in lead if i not in picks[:at]) + 2e-6
        for own, (line, seen) in enumerate(zip(orders, kinds, strict=True)):
            place = line.index(pick)
            seen[place] = side(place, seen, best[pick] == own)


@pytest.mark.parametrize("cut", [3, 16, 30])
@pytest.mark.parametrize("k", [5, 12])
def test_a_batch_bisects_to_where_the_model_changes_its_mind(cut, k):
    """Both ends are labelled: five picks halve the line, the others are the nearest to the cut."""
    score = torch.linspace(-1, 1, 33) - (2 * cut - 33) / 32
    probs = torch.stack([-score, score], 1).mul(4).softmax(1)  # of class 1 from place `cut` on
    free = torch.arange(1, 32)
    picks = galaxy(probs[free], probs[[0, 32]], torch.tensor([0, 1]), k, seeded())
    low, high = 0, 32
    for pick in free[picks].tolist():
        if high - low > 1:
            assert pick in {(low + high) // 2, (low + high + 1) // 2}
            low, high = (low, pick) if pick >= cut else (pick, high)
    assert (low, high) == (cut - 1, cut)
    left = {*free.tolist()} - {*free[picks[:5]].tolist()}
    for at, pick in enumerate(free[picks[5:]].tolist()):
        far = {i: max(i - cut + 1, cut - i) for i in left - {*free[picks[5 : 5 + at]].tolist()}}
        assert far[pick] == min(far.values())


@EVERY
@CLASSES
@pytest.mark.parametrize("seed", [0, 1])
def test_with_answers_each_pick_is_in_the_middle_of_a_shortest_path(fixture, c, seed):
    probs, known, labels = fixture(c, seed)
    everything = torch.cat([probs, known])
    orders = lines(everything)
    label = {N + i: y for i, y in enumerate(labels.tolist())}
    truth = torch.randint(c, (N,), generator=seeded(seed))
    for step in range(12):
        seen = torch.tensor(list(label), dtype=torch.int64)
        free = torch.tensor([i for i in range(N) if i not in label])
        answers = torch.tensor(list(label.values()), dtype=torch.int64)
        pick = int(free[galaxy(probs[free], everything[seen], answers, 1, seeded(step))])
        may = allowed(orders, label)
        assert may is None or pick in may
        label[pick] = int(truth[pick])


def test_doctest():
    assert doctest.testmod(module).failed == 0


@pytest.mark.parametrize("cut", [1, 7, 20, 31])
def test_one_by_one_with_answers_it_is_bisection(cut):
    """Both ends of a line are labelled: each answer halves what is left, then the cut is known."""
    score = torch.linspace(0.01, 0.99, 33)
    probs = torch.stack([1 - score, score], 1)
    asked, low, high = [], 0, 32
    while high - low > 1:
        known = torch.tensor([0, 32, *asked])
        free = torch.tensor([i for i in range(33) if i not in known.tolist()])
        pick = galaxy(probs[free], probs[known], (known >= cut).long(), 1, seeded())
        asked.append(int(free[pick]))
        assert asked[-1] in {(low + high) // 2, (low + high + 1) // 2}
        low, high = (asked[-1], high) if asked[-1] < cut else (low, asked[-1])
    assert high == cut
    assert len(asked) == 5
    for step in range(4):  # then either side of the cut by turns, until it meets what is known
        known = torch.tensor([0, 32, *asked])
        free = torch.tensor([i for i in range(33) if i not in known.tolist()])
        pick = int(free[galaxy(probs[free], probs[known], (known >= cut).long(), 1, seeded(step))])
        far = [max(i - cut + 1, cut - i) for i in free.tolist()]
        assert max(pick - cut + 1, cut - pick) == min(far)
        asked.append(pick)


def test_a_batch_takes_both_sides_of_a_rare_class():
    """Uncertainty alone takes the majority; around the true cut the two kinds balance."""
    n, true = 2001, 1900
    score = torch.linspace(0.001, 0.999, n)
    probs = torch.stack([1 - score, score], 1)
    known = [*range(0, n, 400), 1890, 1899, 1900]
    labels = torch.tensor([int(i >= true) for i in known])
    free = torch.tensor([i for i in range(n) if i not in known])
    rows = galaxy(probs[free], probs[torch.tensor(known)], labels, 40, seeded())
    near = free[rows]
    positive = int((near >= true).sum())
    assert 15 <= positive <= 25
    assert int((near - true).abs().max()) < 60
    uncertain = (score - 0.5).abs().argsort()[:40]
    assert int((uncertain >= true).sum()) == 0


@EVERY
def test_names_of_classes_and_order_of_items_decide_nothing(fixture):
    probs, known, labels = fixture(4, 3)
    renamed = torch.tensor([2, 0, 3, 1])
    back = renamed.argsort()
    for k in (1, 9):
        want = galaxy(probs, known, labels, k, seeded()).tolist()
        got = galaxy(probs[:, renamed], known[:, renamed], back[labels], k, seeded())
        assert got.tolist() == want


def test_the_first_picks_of_a_larger_batch_are_those_of_a_smaller_one():
    probs, known, labels = plain(3, 0)
    whole = galaxy(probs, known, labels, N, seeded()).tolist()
    assert sorted(whole) == list(range(N))
    for k in (0, 1, 5):
        assert galaxy(probs, known, labels, k, seeded()).tolist() == whole[:k]


@pytest.mark.parametrize("fixture", FIXTURES)
@pytest.mark.parametrize("labels", [True, False])
def test_the_strategy_hands_over_what_is_labelled(fixture, labels):
    seen = world(fixture) if labels else unlabelled(world(fixture))
    order, probs = seen.index.sort().values, seen.predictions.probs.mean(1)
    at, known = seen.labelled.argsort(), seen.labelled.sort().values
    answers = torch.empty(0).long() if not labels else seen.context.targets[at]
    want = galaxy(probs[order], probs[known], answers, 6, seeded())
    strategy = Galaxy()
    moved = seen.index[torch.randperm(30, generator=seeded(3))]
    for index in (seen.index, moved):
        got = strategy.choose(seen.pool(strategy, index), 6, seeded()).index.tolist()
        assert got == order[want].tolist()


def test_a_labelled_item_that_is_not_finite_keeps_its_label_to_itself():
    seen, strategy = world("clumped"), Galaxy()

    def spoil(value):
        value[seen.labelled[1]] = torch.nan
        return value

    keep = [0, *range(2, L)]
    less = replace(
        seen,
        labelled=seen.labelled[keep],
        context=replace(seen.context, targets=seen.context.targets[keep]),
    )
    assert chosen(strategy, seen.changed(spoil), 6) == chosen(strategy, less, 6)


def test_items_that_are_alike_are_drawn():
    seen = world("clumped").changed(lambda v: v[:1].expand_as(v).clone())
    for start in (seen, unlabelled(seen)):
        assert len({chosen(Galaxy(), start, 1, seed)[0] for seed in range(40)}) > 10
        assert sorted(chosen(Galaxy(), start, 30)) == list(range(30))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"probs": torch.ones(3)}, "2 axes"),
        ({"probs": torch.ones(4, 1)}, "C >= 2"),
        ({"known": torch.ones(2, 5)}, r"known \[L, C\]"),
        ({"labels": torch.tensor([0, 3])}, r"classes 0 to 2, got \[3\]"),
        ({"labels": torch.tensor([0])}, r"labels \[L\]"),
        ({"k": 5}, "cannot acquire 5 of 4"),
    ],
)
def test_errors_say_the_mend(changes, says):
    given = {"probs": soft(4, 3, 0), "known": soft(2, 3, 1), "labels": torch.tensor([0, 1]), "k": 2}
    with pytest.raises(ValueError, match=says):
        galaxy(**given | changes, generator=seeded())


def test_several_labels_an_item_are_refused():
    seen = world("clumped")
    context = replace(seen.context, targets=torch.zeros(L, 2).long())
    with pytest.raises(ValueError, match="several labels"):
        chosen(Galaxy(), replace(seen, context=context), 2)


# TCM.


def at(seen, labels, round=1, classes=C):
    context = Context(round, labels, 30, classes, seen.context.targets)
    return replace(seen, context=context)


@pytest.mark.parametrize("fixture", FIXTURES)
def test_tcm_is_typiclust_before_the_switch_and_margin_from_it_on(fixture):
    seen = world(fixture)
    for labels, name in ((0, "typiclust"), (29, "typiclust"), (30, "margin"), (999, "margin")):
        now = at(seen, labels)
        for k, seed in itertools.product((1, 6), (0, 1)):
            assert chosen(build("tcm"), now, k, seed) == chosen(build(name), now, k, seed)


@pytest.mark.parametrize(
    ("strategy", "labels", "round", "classes", "switched"),
    [
        (TCM(), 99, 5, 10, False),
        (TCM(), 100, 0, 10, True),
        (TCM(per_class=2.5), 7, 9, 3, False),
        (TCM(per_class=2.5), 8, 0, 3, True),
        (TCM(per_class=0), 0, 0, 3, True),
        (TCM(rounds=3), 999, 2, 3, False),
        (TCM(rounds=3), 0, 3, 3, True),
        (TCM(rounds=0), 0, 0, None, True),
    ],
)
def test_the_switch_looks_at_the_context_alone(strategy, labels, round, classes, switched):
    context = Context(round=round, n_labelled=labels, classes=classes)
    assert strategy.switched(context) == switched


def test_tcm_of_other_parts_conforms_before_and_after():
    for rounds in (0, 99):
        check_strategy(TCM(rounds=rounds))
        check_strategy({"name": "tcm", "rounds": rounds, "first": "k-center", "then": "bald"})
    assert TCM(then="bald").members == "many"


def test_tcm_needs_classes_or_rounds():
    seen = World.make("classification", samples=1)
    pool = replace(seen.pool(TCM()), context=Context(n_labelled=3))
    with pytest.raises(ValueError, match="give rounds="):
        TCM().choose(pool, 2, seeded())
    with pytest.raises(ValueError, match="per_class is at least 0"):
        TCM(per_class=-1)
    with pytest.raises(ValueError, match="rounds is at least 0"):
        TCM(rounds=-1)
    nothing = Pool(torch.empty(0).long(), kept=Predictions(torch.empty(0).long()))
    with pytest.raises(ValueError, match="score them with this strategy"):
        TCM().choose(nothing, 0, seeded())
