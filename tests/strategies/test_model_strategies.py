"""Strategies that need more of the model than outputs, against slow references in float64."""

import copy
import itertools
import math
from dataclasses import replace

import pytest
import torch

from lightning_al.posteriors import Deterministic
from lightning_al.records import Pool, Predictions
from lightning_al.strategies import build
from lightning_al.strategies.diversity.clustered import KMeans
from lightning_al.strategies.hybrid.mixing import mixed, widths
from lightning_al.strategies.trained.noise import deviations, jitter
from lightning_al.testing import World, check_strategy

NAMES = ("alfa-mix", "drop-query", "learning-loss", "noise-stability")
FLIPS = ("alfa-mix", "drop-query")


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def chosen(strategy, pool, k, seed=0):
    return strategy.choose(pool, k, seeded(seed)).index.tolist()


def unlabelled(world):
    context = replace(world.context, n_labelled=0, targets=None)
    return replace(world, labelled=world.labelled[:0], context=context)


def ordered(world, strategy):
    """The pool as a strategy's ``pick`` sees it."""
    return world.pool(strategy, world.index.sort().values)


def linear(world):
    """Weights [S, C, E] and biases [S, C] of the world's logits, by normal equations."""
    x = world.predictions.embedding.double()
    x = torch.cat([x, torch.ones(len(x), 1, dtype=torch.float64)], 1)
    y = world.predictions.logits.double().flatten(1)
    solved = torch.linalg.solve(x.T @ x, x.T @ y).T
    solved = solved.unflatten(0, world.predictions.logits.shape[1:])
    return solved[..., :-1], solved[..., -1]


def mean_probs(world, z):
    """Mean class probabilities of one embedding, plain loops."""
    weight, bias = linear(world)
    members = []
    for w, b in zip(weight, bias, strict=True):
        logits = [float(row @ z + c) for row, c in zip(w, b, strict=True)]
        total = sum(math.exp(v) for v in logits)
        members.append([math.exp(v) / total for v in logits])
    return members, [sum(p) / len(members) for p in zip(*members, strict=True)]


def label(world, z):
    probs = mean_probs(world, z)[1]
    return probs.index(max(probs))


def margin(world, z):
    best = sorted(mean_probs(world, z)[1])
    return best[-1] - best[-2]


# --- alfa-mix --------------------------------------------------------------------------------


def slow_mix(world, z, anchor, eps):
    """The closed form feature by feature, as the paper writes it, with an analytic gradient."""
    weight, _ = linear(world)
    members, probs = mean_probs(world, z)
    y = probs.index(max(probs))
    gradient = torch.zeros_like(z)
    for w, p in zip(weight, members, strict=True):
        inner = sum(p[c] * w[c] for c in range(len(p)))
        gradient -= p[y] * (w[y] - inner) / (len(members) * probs[y])
    length = math.sqrt(sum(float(g) ** 2 for g in gradient))
    apart = math.sqrt(sum(float(a - b) ** 2 for a, b in zip(anchor, z, strict=True)))
    out = []
    for g, a, b in zip(gradient.tolist(), anchor.tolist(), z.tolist(), strict=True):
        alpha = eps * apart * g / length / (a - b)
        out.append(alpha * a + (1 - alpha) * b)
    return torch.tensor(out, dtype=torch.float64)


def slow_anchors(world):
    """Class means one by one; the mean of all once, where a class has no items."""
    x, rows = world.predictions.embedding.double(), {}
    for item, y in zip(world.labelled.tolist(), world.context.targets.tolist(), strict=True):
        rows.setdefault(y, []).append(x[item])
    anchors = [sum(rows[y]) / len(rows[y]) for y in sorted(rows)]
    if len(rows) < world.context.classes:
        every = [z for own in rows.values() for z in own]
        anchors.append(sum(every) / len(every))
    return anchors


def slow_flips(world, eps, k=1):
    """How many anchors flip each item at the first width at which one does; widened for k items."""
    x, anchors = world.predictions.embedding.double(), slow_anchors(world)
    found, width = dict.fromkeys(world.index.tolist(), 0), eps
    while sum(n > 0 for n in found.values()) < k:
        for item in [item for item, n in found.items() if n == 0]:
            own = label(world, x[item])
            scaled = width / math.sqrt(x.shape[1])
            ends = [label(world, slow_mix(world, x[item], a, scaled)) for a in anchors]
            found[item] = sum(end != own for end in ends)
        width = width + eps if width < 1 else 2 * width
    return found


def of_two_classes(world):
    """The same world where no item of the last class is labelled."""
    return replace(world, context=replace(world.context, targets=world.context.targets % 2))


@pytest.mark.parametrize("samples", [1, 3])
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("eps", "k"), [(0.05, 1), (0.2, 1), (0.6, 1), (0.2, 9), (0.3, 15)])
@pytest.mark.parametrize("change", [lambda world: world, of_two_classes], ids=["all", "two"])
def test_alfa_mix_flips_what_the_closed_form_flips(samples, seed, eps, k, change):
    world = change(World.make("classification", samples, seed))
    strategy = build("alfa-mix", eps=eps)
    pool = world.pool(strategy)
    changes, often, lead = strategy.flips(pool, k, seeded())
    slow = slow_flips(world, eps, k)
    assert often.tolist() == [slow[i] for i in pool.index.tolist()]
    assert changes.tolist() == [slow[i] > 0 for i in pool.index.tolist()]
    assert int(changes.sum()) >= k
    x = world.predictions.embedding.double()
    wanted = [margin(world, x[i]) for i in pool.index.tolist()]
    torch.testing.assert_close(lead.double(), torch.tensor(wanted).double(), atol=1e-5, rtol=0)


def test_widths_rise_in_steps_up_to_one_and_then_double():
    assert list(widths(0.25))[:7] == [0.25, 0.5, 0.75, 1.0, 2.0, 4.0, 8.0]
    for eps in (1e-3, 0.2, 1.0, 3.0):
        seen = list(widths(eps))
        assert seen[0] == eps
        assert all(a < b <= max(2 * a, a + eps) for a, b in itertools.pairwise(seen))
        assert seen[-1] >= 1024 > seen[-2]
    assert list(widths(1e6)) == [1e6]


def test_where_nothing_can_flip_the_smallest_margins_follow():
    """One class has all the probability wherever one goes: no width is enough."""
    world = World.make("classification", 1)
    fields = world.predictions.tensors()
    logits = torch.zeros_like(fields["logits"])
    logits[..., 0] = 5.0
    fields |= {"logits": logits, "probs": logits.softmax(-1)}
    world = replace(world, predictions=Predictions(**fields))
    strategy = build("alfa-mix")
    assert not strategy.flips(world.pool(strategy), 4, seeded())[0].any()
    assert len(set(chosen(strategy, world.pool(strategy), 4))) == 4


@pytest.mark.parametrize("seed", range(3))
def test_a_large_batch_is_not_that_of_margin(seed):
    """Where fewer flip at first than are asked for, what flips farther out is clustered."""
    world = World.make("classification", 1, seed)
    world = replace(world, index=torch.arange(20, 60))
    wide, margins = build("alfa-mix"), build("margin")
    few = int(wide.flips(world.pool(wide), 1, seeded())[0].sum())
    k = few + 4
    got = set(chosen(wide, world.pool(wide), k))
    changed = wide.flips(world.pool(wide), k, seeded())[0]
    assert got <= set(world.index[changed].tolist())
    assert got != set(chosen(margins, world.pool(margins), k))


@pytest.mark.parametrize("scale", [1e-3, 1.0, 50.0])
def test_what_flips_is_clustered_at_unit_length(scale):
    strategy = build("alfa-mix")
    points = scale * torch.randn(9, 4, generator=seeded())
    lengths = strategy.clustered(points).norm(dim=1)
    torch.testing.assert_close(lengths, torch.ones(9))
    assert torch.equal(build("drop-query").clustered(points), points)


def test_the_references_see_both_kinds():
    """The fixtures above hold items that flip and items that do not."""
    counts = [
        sum(n > 0 for n in slow_flips(World.make("classification", 1, s), 0.2).values())
        for s in range(3)
    ]
    assert all(0 < n < 17 for n in counts), counts


def test_a_mixture_is_a_step_along_the_gradient():
    drawn = seeded(4)
    z, anchor, g = (torch.randn(6, 5, generator=drawn).double() for _ in range(3))
    got = mixed(z, anchor[0], g, 0.3)
    alpha = 0.3 * (anchor[0] - z).norm(dim=1, keepdim=True) * g / g.norm(dim=1, keepdim=True)
    alpha = alpha / (anchor[0] - z)
    torch.testing.assert_close(got, alpha * anchor[0] + (1 - alpha) * z)
    assert torch.equal(mixed(z, anchor[0], g * 0, 0.3), z)  # nothing to climb
    assert torch.equal(mixed(z[:1], z[0], g[:1], 0.3), z[:1])  # the anchor itself


def test_items_at_an_edge_flip_and_those_far_from_it_do_not():
    """Two classes split at x = 0, anchors at -1 and 1: flips reach 0.2 times the distance."""
    x = torch.tensor([[-1.0], [1.0], [0.05], [-0.05], [0.16], [0.21], [0.9], [-0.5], [-3.0]])
    logits = torch.cat([-x, x], 1)[:, None]
    world = World.make("classification", 1)
    fields = {"embedding": x, "head_input": x}
    fields |= {"logits": 3 * logits, "probs": (3 * logits).softmax(-1)}
    context = replace(world.context, targets=torch.tensor([0, 1]), classes=2, n_labelled=2)
    index = torch.arange(2, len(x))
    world = World(Predictions(torch.arange(len(x)), **fields), index, torch.tensor([0, 1]), context)
    strategy = build("alfa-mix")
    changes = strategy.flips(world.pool(strategy), 1, seeded())[0]
    # the farther anchor is 1 + |x| away: an item flips where |x| < 0.2 (1 + |x|), so |x| < 0.25
    assert changes.tolist() == [True, True, True, True, False, False, False]


# --- drop-query ------------------------------------------------------------------------------


@pytest.mark.parametrize("samples", [1, 3])
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("p", "views", "threshold"), [(0.75, 3, 0.5), (0.3, 4, 0.5), (0.5, 5, 0.0)]
)
def test_drop_query_counts_views_that_disagree(samples, seed, p, views, threshold):
    world = World.make("classification", samples, seed)
    strategy = build("drop-query", p=p, views=views, threshold=threshold)
    pool = world.pool(strategy)
    changes, often, _ = strategy.flips(pool, 1, seeded(seed))
    draw, x = seeded(seed), world.predictions.embedding.double()
    slow = dict.fromkeys(pool.index.tolist(), 0)
    for _ in range(views):
        for item, uniform in zip(slow, torch.rand(len(slow), 5, generator=draw), strict=True):
            view = [v / (1 - p) if u >= p else 0.0 for v, u in zip(x[item], uniform, strict=True)]
            view = torch.tensor(view, dtype=torch.float64)
            slow[item] += label(world, view) != label(world, x[item])
    assert often.tolist() == list(slow.values())
    assert changes.tolist() == [n / views > threshold for n in slow.values()]
    assert sum(n > 0 for n in slow.values()) > 0


def test_next_to_nothing_dropped_flips_nothing():
    world, strategy = World.make("classification", 1), build("drop-query", p=1e-7)
    assert not strategy.flips(world.pool(strategy), 1, seeded())[0].any()


# --- both ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FLIPS)
@pytest.mark.parametrize("seed", range(4))
def test_the_hearts_of_what_flips_or_all_of_it(name, seed):
    world, strategy = World.make("classification", 1, seed), build(name)
    pool = ordered(world, strategy)
    draw = seeded(seed)
    for k in range(1, len(pool) + 1):
        draw.manual_seed(seed)
        changes, often, lead = strategy.flips(pool, k, draw)
        state, flips = draw.get_state(), set(pool.index[changes].tolist())
        assert flips
        got = chosen(strategy, world.pool(strategy), k, seed)
        if k < len(flips):
            part = pool.subset(changes.nonzero().squeeze(1))
            draw.set_state(state)
            points = strategy.clustered(part.head_input)
            assert got == part.index[KMeans().hearts(points, k, draw)].tolist()
        else:
            assert flips <= set(got)
            key = dict(zip(pool.index.tolist(), (often - lead).tolist(), strict=True))
            extra = got[len(flips) :]
            assert extra == sorted(extra, key=lambda i: -key[i])
            left = set(pool.index.tolist()) - set(got)
            assert not left or not extra or key[extra[-1]] >= max(key[i] for i in left)


@pytest.mark.parametrize("name", FLIPS)
def test_without_labels_the_pool_is_clustered(name):
    world, strategy = unlabelled(World.make("classification", 1)), build(name)
    pool = ordered(world, strategy)
    points = strategy.clustered(pool.head_input)
    want = pool.index[KMeans().hearts(points, 5, seeded(2))].tolist()
    assert chosen(strategy, world.pool(strategy), 5, 2) == want


@pytest.mark.parametrize("name", FLIPS)
def test_items_with_places_are_refused(name):
    world, strategy = World.make("classification", 1), build(name)
    places = lambda z: z[:, None, :3, None].expand(-1, 1, 3, 4)  # noqa: E731
    pool = world.pool(strategy)
    pool.bench.__dict__["head"] = places  # a cached property
    with pytest.raises(ValueError, match=r"logits \[n, S, C\].*places"):
        strategy.choose(pool, 3, seeded())


# --- noise-stability -------------------------------------------------------------------------


def slow_deviations(world, field, perturbations, ratio, seed):
    """The same noise, the layers written out."""
    draw, task = seeded(seed), world.pool(None).bench.task
    plain = [p.detach().clone() for p in task.parameters()]
    x = world.predictions.embedding.double()

    def outputs(w1, b1, w2, b2):
        z = x @ w1.T + b1
        logits = (z @ w2.T + b2).reshape(len(x), -1, 3)
        found = logits.float().softmax(2).double() if field == "probs" else z.float().double()
        return found.reshape(len(x), -1)[world.index]

    base, parts = outputs(*plain), []
    for _ in range(perturbations):
        noisy = []
        for p in plain:
            noise = torch.randn(p.shape, generator=draw).double()
            noisy.append(p + noise / noise.norm() * p.norm() * ratio)
        parts.append((outputs(*noisy) - base) / base.norm(dim=1, keepdim=True))
    return torch.cat(parts, 1)


@pytest.mark.parametrize("samples", [1, 3])
@pytest.mark.parametrize("field", ["probs", "embedding"])
@pytest.mark.parametrize("seed", range(2))
def test_deviations_are_relative_changes(samples, field, seed):
    world = World.make("classification", samples, seed)
    got = deviations(world.pool(None), [field], 4, 0.05, seeded(seed))
    slow = slow_deviations(world, field, 4, 0.05, seed)
    torch.testing.assert_close(got.double(), slow, atol=2e-6, rtol=1e-3)


@pytest.mark.parametrize("seed", range(3))
def test_noise_stability_is_farthest_first_from_the_origin(seed):
    world = World.make("classification", 1, seed)
    world = replace(world, index=world.index.sort().values)
    strategy = build("noise-stability", perturbations=5)
    slow = slow_deviations(world, "probs", 5, 1e-3, seed).tolist()
    centres, picks = [[0.0] * len(slow[0])], []
    for _ in range(6):
        far = [min(math.dist(row, c) for c in centres) for row in slow]
        picks.append(far.index(max(far)))
        centres.append(slow[picks[-1]])
    assert chosen(strategy, world.pool(strategy), 6, seed) == world.index[picks].tolist()


def test_noise_has_the_stated_norm_and_the_task_keeps_its_weights():
    task = World.make("classification", 2).pool(None).bench.task
    before, noisy, draw = copy.deepcopy(task.state_dict()), copy.deepcopy(task), seeded()
    for _ in range(2):  # never on top of the noise before
        jitter(noisy, task, 0.1, draw)
        for mine, given in zip(noisy.parameters(), task.parameters(), strict=True):
            assert (mine - given).norm().item() == pytest.approx(0.1 * given.norm().item())
    assert all(torch.equal(v, before[n]) for n, v in task.state_dict().items())


def test_small_noise_acts_linearly():
    """Deviations then grow in proportion to the ratio, and choices do not depend on it."""
    pool = World.make("classification", 1).pool(None)
    small, large = (deviations(pool, ["embedding"], 6, r, seeded()) for r in (1e-3, 1e-2))
    torch.testing.assert_close(10 * small, large, atol=1e-5, rtol=2e-3)


def test_a_projection_keeps_distances_roughly():
    pool = World.make("classification", 4).pool(None)
    whole = deviations(pool, ["probs"], 600, 1e-2, seeded(), limit=10_000)
    assert whole.shape == (17, 600 * 12)
    part = deviations(pool, ["probs"], 600, 1e-2, seeded(), limit=600 * 6)
    assert part.shape == (17, 600 * 6)
    # other noise, so only lengths compare: an average over 600 draws of 6 numbers each
    ratio = part.norm(dim=1) / whole.norm(dim=1)
    assert float(ratio.min()) > 0.87
    assert float(ratio.max()) < 1.15


def test_items_whose_changes_are_not_finite_come_last():
    world, strategy = World.make("classification", 1), build("noise-stability", perturbations=3)
    bad = world.index[[2, 9]]

    def spoil(values):
        values[bad] = torch.nan
        return values

    pool = world.changed(spoil).pool(strategy)
    assert set(chosen(strategy, pool, 17)[-2:]) == set(bad.tolist())


def test_a_regression_is_judged_by_its_embedding():
    world, strategy = World.make("regression", 2), build("noise-stability")
    own = build("noise-stability", of="embedding")
    assert chosen(strategy, world.pool(strategy), 5) == chosen(own, world.pool(own), 5)
    with pytest.raises(LookupError, match="none of probs"):
        chosen(build("noise-stability", of="probs"), world.pool(strategy), 5)


# --- all -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("change", ["no labels", "one class", "identical", "all of them"])
def test_odd_pools(name, change):
    world, strategy = World.make("classification", 1), build(name)
    if change == "no labels":
        world = unlabelled(world)
    elif change == "one class":
        one = torch.full_like(world.context.targets, 2)
        world = replace(world, context=replace(world.context, targets=one))
    elif change == "identical":
        world = world.changed(lambda v: v[:1].expand_as(v).clone())
    k = 17 if change == "all of them" else 6
    got = chosen(strategy, world.pool(strategy), k)
    assert len(set(got)) == k
    assert set(got) <= set(world.index.tolist())


@pytest.mark.parametrize(
    ("name", "short"), [("noise-stability", {"perturbations": 5}), ("learning-loss", {"steps": 15})]
)
def test_regressions_are_served(name, short):
    check_strategy(build(name, **short), kind="regression")


@pytest.mark.parametrize("name", NAMES)
def test_a_pool_without_a_model_says_so(name):
    points = torch.randn(5, 3)
    kept = Predictions(torch.arange(5), embedding=points, head_input=points)
    context = World.make("classification", 1).context
    pool = Pool(torch.arange(5), kept=kept, context=context)
    with pytest.raises(LookupError, match="this pool has no workbench"):
        chosen(build(name), pool, 2)


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("alfa-mix", {"eps": 0}),
        ("drop-query", {"p": 1.0}),
        ("drop-query", {"views": 0}),
        ("drop-query", {"threshold": 1.0}),
        ("noise-stability", {"ratio": 0}),
        ("noise-stability", {"of": "logit"}),
        ("noise-stability", {"limit": 5}),
        ("learning-loss", {"batch_size": 1}),
        ("learning-loss", {"subset": 0.5}),
    ],
)
def test_settings_that_make_no_sense(name, wrong):
    with pytest.raises(ValueError, match="|".join((name, "of is", "limit is"))):
        build(name, **wrong)


def test_no_posterior_takes_part():
    assert all(build(name).members == "one" for name in NAMES)
    assert Deterministic().members is None
