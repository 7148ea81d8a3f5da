"""AutoAL: the soft choice, the search, halves, memory, what the released code does."""

import itertools
import math
from dataclasses import dataclass, replace

import pytest
import torch
from helpers.small import datamodule, learner
from torch import nn

from lightning_al.records import Acquisition, Predictions
from lightning_al.strategies import ScoreStrategy, build, names, resolve, selection
from lightning_al.strategies.around.candidates import Candidates
from lightning_al.strategies.around.labelled_halves import halves_of, split
from lightning_al.strategies.around.published_search import PublishedSearcher, mixture_threshold
from lightning_al.strategies.around.search_networks import (
    FitNetwork,
    Searcher,
    Standardised,
    Weigher,
    item_losses,
)
from lightning_al.strategies.around.search_settings import SearchSettings
from lightning_al.strategies.around.search_sides import embedding_side
from lightning_al.strategies.around.soft_top import (
    picks_as_utility,
    ranks_as_utility,
    soft_top,
    threshold,
)
from lightning_al.testing import World, check_strategy

SHORT = {"steps": 6, "warm_up": 3}
THREE = ("margin", "k-means", "bald")


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=seeded(seed), dtype=torch.float64)


# --- the soft choice -----------------------------------------------------------------------------


@pytest.mark.parametrize("n", [2, 17, 300])
@pytest.mark.parametrize("temperature", [1e-3, 0.1, 10.0])
@pytest.mark.parametrize("share", [0.02, 0.5, 0.97])
def test_the_count_is_exact(n, temperature, share):
    values, count = drawn(n, seed=n), share * n
    chosen = soft_top(values, count, temperature)
    assert float(chosen.sum()) == pytest.approx(count, abs=1e-6)
    assert bool(((chosen >= 0) & (chosen <= 1)).all())
    assert chosen[values.argsort()].diff().min() >= 0


def test_cold_it_is_the_hard_top_and_hot_it_is_even():
    values = drawn(40)
    cold = soft_top(values, 7, 1e-6)
    assert set((cold > 0.5).nonzero().flatten().tolist()) == set(values.topk(7).indices.tolist())
    assert cold.sort().values.tolist() == pytest.approx([0.0] * 33 + [1.0] * 7, abs=1e-6)
    assert soft_top(values, 7, 1e6).tolist() == pytest.approx([7 / 40] * 40, abs=1e-5)


def test_equal_values_share_the_count_and_a_shift_changes_nothing():
    assert soft_top(torch.full((8,), 3.0), 2, 0.01).tolist() == pytest.approx([0.25] * 8)
    values = drawn(30)
    shifted = soft_top(values + 5, 4, 0.2)
    torch.testing.assert_close(shifted, soft_top(values, 4, 0.2), atol=1e-9, rtol=0)


@pytest.mark.parametrize("temperature", [0.2, 1.0])
def test_the_gradient_is_that_of_finite_differences_through_the_threshold(temperature):
    values, weight = drawn(9), drawn(9, seed=1)
    leaf = values.clone().requires_grad_()
    (soft_top(leaf, 3, temperature) * weight).sum().backward()
    step = 1e-5
    for i in range(9):
        up, down = values.clone(), values.clone()
        up[i] += step
        down[i] -= step
        change = soft_top(up, 3, temperature) - soft_top(down, 3, temperature)
        assert float(leaf.grad[i]) == pytest.approx(
            float((change * weight).sum()) / (2 * step), abs=1e-6
        )
    # the count is exact, so it has no gradient
    total = values.clone().requires_grad_()
    soft_top(total, 3, temperature).sum().backward()
    assert float(total.grad.abs().max()) < 1e-12


@pytest.mark.parametrize(
    ("count", "temperature"), [(0, 1.0), (5, 1.0), (6, 1.0), (2, 0.0), (math.nan, 1.0)]
)
def test_counts_and_temperatures_that_make_no_choice(count, temperature):
    with pytest.raises(ValueError, match=r"count between 0 and n|temperature is above 0"):
        threshold(torch.arange(5.0), count, temperature)


def test_ranks_against_all_pairs():
    scores = torch.tensor([3.0, -1.0, 3.0, torch.nan, torch.inf, -torch.inf, 0.5])
    fine = [v for v in scores.tolist() if not math.isnan(v)]
    want = [
        0.0 if math.isnan(v) else (sum(w < v for w in fine) + (fine.count(v) - 1) / 2) / 5
        for v in scores.tolist()
    ]
    assert ranks_as_utility(scores).tolist() == pytest.approx(want)
    assert ranks_as_utility(torch.zeros(4)).tolist() == [0.5] * 4
    assert ranks_as_utility(torch.zeros(1)).tolist() == [0.5]
    assert ranks_as_utility(torch.full((2,), torch.nan)).tolist() == [0.0, 0.0]


def test_picks_by_their_order():
    rows = torch.tensor([4, 0, 3])
    assert picks_as_utility(rows, 5).tolist() == pytest.approx([2 / 3, 0, 0, 1 / 3, 1])


# --- the networks --------------------------------------------------------------------------------


def searcher(candidates=3, classes=2, features=4, kind=Searcher, **settings):
    given = SearchSettings.of({"steps": 60, "warm_up": 30, "width": 8, "lr": 0.02} | settings)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        below = Standardised(drawn(50, features).float())
        silent = torch.zeros(candidates, dtype=torch.bool)
        weigher = Weigher(below, features, silent, given.width)
        fits = [FitNetwork(below, features, classes, given.width) for _ in range(kind.fit_networks)]
        return kind(weigher, nn.ModuleList(fits), item_losses, given)


def trained(module, batch):
    """All its steps on one batch, by its own optimiser."""
    optimizer = module.configure_optimizers()
    for i in range(module.settings.warm_up + module.settings.steps):
        optimizer.zero_grad()
        module.training_step(batch, i).backward()
        optimizer.step()
    return module


def labelled(n=120, features=4, noisy=0.3, seed=0):
    """Two clouds [n, E] with their classes; those of a share, on the far left, are tossed up."""
    points = drawn(n, features, seed=seed).float()
    hard = points[:, 0].argsort().argsort() < noisy * n
    tossed = torch.rand(n, generator=seeded(seed + 1)) < 0.5
    classes = torch.where(hard, tossed, points[:, 1] > 0).long()
    return points, classes, hard, torch.arange(n) % 2


def test_a_gradient_reaches_every_part_of_the_search_network():
    points, classes, _, half = labelled()
    utility = torch.rand(len(points), 3, generator=seeded(5))
    module = trained(searcher(steps=8, warm_up=20), (points, utility, classes, half))
    module.zero_grad()
    module.search_loss((points, utility, classes, half)).backward()
    norms = {n: float(p.grad.norm()) for n, p in module.weigher.named_parameters()}
    assert norms.pop("told.bias") < 1e-6  # predicted losses are compared in pairs
    assert min(norms.values()) > 1e-6, norms
    assert all(p.grad is None for p in module.fits.parameters())


def test_turns_move_one_side_each():
    points, classes, _, half = labelled()
    batch = (points, torch.rand(len(points), 3, generator=seeded(5)), classes, half)
    module = searcher(warm_up=1, steps=4)
    optimizer, moved = module.configure_optimizers(), []
    for i in range(5):
        before = {n: p.detach().clone() for n, p in module.named_parameters()}
        optimizer.zero_grad()
        module.training_step(batch, i).backward()
        optimizer.step()
        changed = {n.split(".")[0] for n, p in module.named_parameters() if (p != before[n]).any()}
        moved.append(changed)
    assert moved == [{"fits"}, {"fits"}, {"weigher"}, {"fits"}, {"weigher"}]


def opinions_of(hard, seed):
    """Utilities [n, 3]: noise; the hard items with errors; the easy items with errors."""
    drawn = torch.randn(3, len(hard), generator=seeded(seed), dtype=torch.float64)
    noise, planted, against = drawn[0], hard + 0.7 * drawn[1], 0.7 * drawn[2] - hard.double()
    return torch.stack([ranks_as_utility(part) for part in (noise, planted, against)], 1)


@pytest.mark.parametrize("seed", range(3))
def test_a_candidate_that_nominates_the_hard_items_gains_weight(seed):
    points, classes, hard, half = labelled(seed=seed)
    module = trained(searcher(), (points, opinions_of(hard, seed), classes, half))
    noise, planted, against = module(points).mean(0).tolist()
    assert planted > 1 / 3 > against
    assert planted > noise
    # and on items that it has never seen, more of the hard ones come first than by equal weights
    others, _, hard, _ = labelled(1000, seed=seed + 50)
    utility = opinions_of(hard, seed + 50)
    learnt = hard[module.mixed(others, utility).topk(100).indices].double().mean()
    equal = hard[utility.mean(1).topk(100).indices].double().mean()
    assert float(learnt) > float(equal) + 0.1


def same_for_all(probs):
    return torch.full((len(probs),), 0.3)


def test_a_candidate_that_returns_constants_loses_its_weight():
    world = World.make("classification", 4)
    strategy = build("auto-al", candidates=["margin", ScoreStrategy(same_for_all), "bald"])
    found = strategy.choose(world.pool(strategy), 6, seeded())
    assert found.notes["trusted"]["ScoreStrategy"] == 0
    assert sum(found.notes["trusted"].values()) == pytest.approx(1, abs=1e-5)


def test_weights_may_be_the_same_for_all_items():
    world = World.make("classification", 4)
    arguments = {"candidates": THREE, "search": {"warm_up": 4, "steps": 16, "per_item": False}}
    strategy = build("auto-al", **arguments)
    notes = strategy.choose(world.pool(strategy), 6, seeded()).notes
    assert len(set(notes["trusted"].values())) > 1  # something was learnt
    for weights in notes["trusted by class"].values():
        assert weights == pytest.approx(notes["trusted"], abs=1e-5)


def test_the_order_of_a_batch_means_nothing():
    points, classes, _, half = labelled()
    utility = torch.rand(len(points), 3, generator=seeded(5))
    module = trained(searcher(steps=8, loss_head=0.0), (points, utility, classes, half)).double()
    batch = (points, utility, classes, half)
    moved = torch.randperm(len(points), generator=seeded(3))
    other = tuple(part[moved] for part in batch)
    torch.testing.assert_close(module.search_loss(other), module.search_loss(batch))
    chosen = module.chosen(module.mixed(points, utility))
    one, two = module.fit_loss(batch, chosen=chosen), module.fit_loss(other, chosen=chosen[moved])
    torch.testing.assert_close(two, one)
    # and rows that are no longer aligned do change it
    torn = (points, utility[moved], classes, half)
    assert module.search_loss(torn).item() != pytest.approx(module.search_loss(batch).item())


def test_the_order_of_candidates_permutes_their_weights():
    points, classes, hard, half = labelled()
    utility, order = opinions_of(hard, 0), [2, 0, 1]
    one = trained(searcher(), (points, utility, classes, half))(points)
    two = trained(searcher(), (points, utility[:, order], classes, half))(points)
    torch.testing.assert_close(two, one[:, order], atol=0.02, rtol=0)


def test_losses_come_from_the_network_that_has_not_seen_the_item():
    points, _, _, half = labelled()
    classes = torch.randint(2, (len(points),), generator=seeded(9))  # nothing to learn but by heart
    utility = torch.rand(len(points), 3, generator=seeded(5))
    batch = (points, utility, classes, half)
    module = trained(searcher(warm_up=150, steps=1, width=64, weight_decay=0.0, lr=0.05), batch)
    apart = module.worth(batch).mean()
    module.settings = replace(module.settings, cross_fit=False)
    seen = module.worth(batch).mean()
    assert float(seen) < math.log(2) < float(apart)


def test_the_gain_is_what_a_small_step_on_the_item_brings_the_others():
    points, classes, _, half = labelled(n=20)
    batch = (points, torch.rand(20, 3, generator=seeded(5)), classes, half)
    module = trained(searcher(signal="gain", warm_up=15, steps=2), batch).double()
    worth, step = module.worth(batch), 1e-5
    for i in (0, 1, 7, 12):
        network = module.fits[1 - int(half[i])]
        others = (half == half[i]) & (torch.arange(20) != i)
        before = {n: p.detach().clone() for n, p in network.out.named_parameters()}

        def loss(rows, network=network):
            return item_losses(network(points[rows]), classes[rows]).mean()

        old = float(loss(others))
        gradients = torch.autograd.grad(loss(torch.tensor([i])), list(network.out.parameters()))
        with torch.no_grad():
            for p, g in zip(network.out.parameters(), gradients, strict=True):
                p -= step * g
        assert (old - float(loss(others))) / step == pytest.approx(float(worth[i]), rel=1e-3)
        network.out.load_state_dict(before)


def test_numbers_have_squared_errors():
    raw, targets = drawn(5, 2), drawn(5, 2, seed=1)
    want = [
        sum((a - b) ** 2 for a, b in zip(r, t, strict=True)) / 2
        for r, t in zip(raw.tolist(), targets.tolist(), strict=True)
    ]
    assert item_losses(raw, targets).tolist() == pytest.approx(want)


# --- what was released ---------------------------------------------------------------------------


@pytest.mark.parametrize("n", [60, 1000])
def test_no_gradient_reaches_the_published_search_network(n):
    points, classes, _, _ = labelled(n)
    nominated = (torch.rand(n, 3, generator=seeded(5)) < 0.1).float()
    module = searcher(kind=PublishedSearcher, share=0.02)
    p = module.mixed(points, nominated)
    assert float(p.max()) > float(p.min())  # the network does prefer items
    batch = (points, nominated, classes, torch.randperm(n, generator=seeded(1)))
    module.search_loss(batch).backward()
    assert all(float(q.grad.abs().max()) == 0 for q in module.weigher.out.parameters())
    assert all(float(q.grad.abs().max()) == 0 for q in module.weigher.hidden.parameters())


def test_the_published_threshold_is_that_of_the_widened_mixture():
    """Its components are no narrower than 1e-3, so equal values have a threshold above them."""
    narrow = 0.01 + 1e-6 * drawn(100)
    found = mixture_threshold(narrow, 0.02, 0)
    assert found == pytest.approx(0.01 + 2.054e-3, abs=3e-4)  # the 98 % quantile of N(0.01, 1e-3)


def test_the_published_learning_rate_decays_at_each_own_step():
    module = searcher(kind=PublishedSearcher, warm_up=2, steps=400)
    module.configure_optimizers()
    rates = []
    for turn in range(400):
        module._set_rates(turn)
        rates.append(module.groups[1]["lr"])
    want = 5e-2 * math.prod(1 - 5e-4 * i for i in range(52, 101, 3))
    assert rates[49] == 5e-2
    assert rates[100] == pytest.approx(want)
    assert rates[399] < 1e-7


def test_the_published_variant_runs_and_its_weights_are_linear():
    world = World.make("classification", 4)
    strategy = build("auto-al", variant="published", search=SHORT)
    found = strategy.choose(world.pool(strategy), 6, seeded())
    assert len(set(found.index.tolist())) == 6
    assert sum(found.notes["trusted"].values()) != pytest.approx(1)


# --- halves and candidates -----------------------------------------------------------------------


def test_halves_are_even_and_stay():
    memory = {}
    for size in (4, 7, 12, 13, 40):
        index = torch.randperm(100, generator=seeded(0))[:size].sort().values
        half = split(index, memory, size)
        sides = half.bincount(minlength=2)
        assert abs(int(sides[0] - sides[1])) <= 1
        if memory:
            before = dict(zip(memory["index"].tolist(), memory["half"].tolist(), strict=True))
            now = dict(zip(index.tolist(), half.tolist(), strict=True))
            assert all(now[i] == h for i, h in before.items())
        memory = {"index": index, "half": half}
    alone = torch.arange(9)
    assert not torch.equal(split(alone, {}, 0), split(alone, {}, 1))


def test_utilities_are_those_of_each_half_asked_anew():
    world = World.make("classification", 4)
    strategy = build("auto-al", candidates=THREE, search=SHORT)
    pool = world.pool(strategy)
    found = halves_of(strategy, pool, {}, 3, 0.5)
    again = halves_of(strategy, pool, {}, 3, 0.5)
    assert torch.equal(found.utility, again.utility)
    assert found.index.tolist() == sorted(world.labelled.tolist())
    order = world.labelled.argsort()
    assert found.targets.tolist() == world.context.targets[order].tolist()
    for side in (0, 1):
        own = found.index[found.half == side]
        for column, name in ((0, "margin"), (2, "bald")):
            alone = build(name)
            scores = alone.score(world.see(own, ["probs"]), world.context)
            want = ranks_as_utility(selection.quantise(scores))
            torch.testing.assert_close(found.utility[found.half == side][:, column], want)


@pytest.mark.parametrize("name", ["entropy", "k-means", "random", "badge", "power-bald"])
@pytest.mark.parametrize("around", ["auto-al", "uniform-mixture", "random-weights"])
def test_a_single_candidate_chooses_as_it_would(name, around):
    world = World.make("classification", 4)
    alone, strategy = build(name), build(around, candidates=[name])
    want = alone.choose(world.pool(alone), 6, seeded()).index.tolist()
    found = strategy.choose(world.pool(strategy), 6, seeded())
    assert found.index.tolist() == want
    assert found.notes["trusted"] == {name: 1.0}


@pytest.mark.parametrize("around", ["auto-al", "uniform-mixture"])
def test_the_order_of_candidates_changes_no_batch(around):
    world = World.make("classification", 4)
    batches, trusted = set(), []
    for order in itertools.permutations(THREE):
        arguments = {"search": {"warm_up": 2, "steps": 6}} if around == "auto-al" else {}
        strategy = build(around, candidates=order, **arguments)
        found = strategy.choose(world.pool(strategy), 6, seeded(2))
        batches.add(tuple(found.index.tolist()))
        trusted.append(found.notes["trusted"])
    assert len(batches) == 1
    for one in trusted[1:]:
        assert one == pytest.approx(trusted[0], abs=1e-3)


def test_a_uniform_mixture_is_the_highest_mean_rank():
    world = World.make("classification", 4)
    strategy = build("uniform-mixture", candidates=["margin", "bald", "k-means"])
    pool = world.pool(strategy)
    found = strategy.choose(pool, 6, seeded())
    ordered = pool.subset(pool.index.argsort())
    mean = strategy.opinions(ordered, 6, 0).utility[:, :2].sum(1)
    alone = build("uniform-mixture", candidates=["margin", "bald"])
    two = alone.choose(world.pool(alone), 6, seeded())
    got = torch.isin(ordered.index, two.index)
    assert int(got.sum()) == 6
    assert float(mean[got].min()) >= float(mean[~got].max()) - 1e-6
    assert found.notes["trusted"] == pytest.approx(
        dict.fromkeys(("margin", "bald", "k-means"), 1 / 3)
    )


def test_the_notes_say_what_was_trusted_and_what_the_batch_shares():
    world = World.make("classification", 4)
    strategy = build("auto-al", candidates=THREE)
    found = strategy.choose(world.pool(strategy), 6, seeded())
    assert set(found.notes) == {"trusted", "trusted by class", "overlap"}
    assert sum(found.notes["trusted"].values()) == pytest.approx(1, abs=1e-5)
    by_class = found.notes["trusted by class"]
    assert set(by_class) <= {"0", "1", "2"}
    assert all(sum(w.values()) == pytest.approx(1, abs=1e-5) for w in by_class.values())
    alone = build("margin")
    own = set(alone.choose(world.pool(alone), 6, seeded()).index.tolist())
    shared = len(own & set(found.index.tolist())) / 6
    assert found.notes["overlap"]["margin"] == pytest.approx(shared, abs=1e-5)


# --- memory --------------------------------------------------------------------------------------


def side_of(world, memory, seed=0):
    strategy = build("auto-al", candidates=THREE, search=SHORT)
    pool = world.pool(strategy)
    halves = halves_of(strategy, pool, memory, seed, 0.5)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return embedding_side(pool, halves, SearchSettings(), memory, Searcher), halves


@pytest.mark.parametrize("same", [True, False])
def test_networks_are_carried_over_where_embeddings_are_the_same(same):
    world = World.make("classification", 4)
    side, halves = side_of(world, {})
    with torch.no_grad():
        for p in side.searcher.parameters():
            p += 0.1
    memory = {**halves.plain(), **side.memory()}
    if not same:
        world = world.changed(lambda v: v[:, [1, 2, 3, 4, 0]] if v.ndim == 2 else v)
    other, _ = side_of(world, memory, seed=1)
    mine, old = other.searcher.state_dict(), memory["state"]
    assert torch.equal(mine["weigher.out.bias"], old["weigher.out.bias"])
    assert torch.equal(mine["weigher.hidden.weight"], old["weigher.hidden.weight"]) is same
    assert torch.equal(mine["fits.0.out.weight"], old["fits.0.out.weight"]) is same


# --- runs ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("networks", ["embedding", "backbone"])
def test_a_run_notes_it_and_a_replayed_round_chooses_the_same(tmp_path, networks):
    candidates = ["margin", "k-means", "random"]
    spec = {"name": "auto-al", "candidates": candidates, "networks": networks, "search": SHORT}
    run = learner(
        tmp_path / "run", datamodule=datamodule(initial=8), strategy=spec, query_size=3, budget=6
    )
    history = run.run()
    first = history.rounds[0]
    assert set(first.notes["trusted"]) == set(candidates)
    other = learner(
        tmp_path / "other", datamodule=datamodule(initial=8), strategy=spec, query_size=3, budget=6
    )
    assert [r.acquired for r in other.run().rounds] == [r.acquired for r in history.rounds]


# --- conformance and bad input -------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    "more",
    [
        {"networks": "backbone"},
        {"variant": "published"},
        {"search": {"warm_up": 4, "steps": 10, "signal": "gain"}},
        {"candidates": ["badge", {"name": "power", "score": "entropy"}, "random"]},
        {"candidates": ["margin", {"name": "uniform-mixture", "candidates": ["bald", "k-means"]}]},
    ],
    ids=str,
)
def test_variants_conform(more):
    check_strategy({"name": "auto-al", "search": {"warm_up": 3, "steps": 4}} | more)


@dataclass(frozen=True)
class Privileged:
    needs: tuple = ()
    keeps: tuple = ()
    members: str = "one"
    privileged: bool = True

    def choose(self, candidates, k, generator):
        return Acquisition(candidates.index[:k])


def test_a_privileged_candidate_makes_it_privileged():
    assert build("auto-al", candidates=["margin", Privileged()]).privileged
    assert not build("auto-al").privileged


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        ({"candidates": ["margin", "marign"]}, LookupError, "did you mean 'margin'"),
        ({"candidates": ["margin", "bald", "margin"]}, ValueError, "'margin' is there twice"),
        ({"candidates": []}, ValueError, "at least one"),
        ({"candidates": "margin"}, ValueError, "a list"),
        ({"candidates": ["margin", "variance"]}, ValueError, "'margin' is for classification and"),
        ({"variant": "better"}, ValueError, "'search' or 'published'"),
        ({"networks": "trunk"}, ValueError, "'embedding' or 'backbone'"),
        ({"search": {"step": 5}}, ValueError, "no setting 'step'.* steps"),
        ({"search": {"share": 1.0}}, ValueError, "share is above 0"),
        ({"search": {"steps": 0}}, ValueError, "steps is a whole number"),
        ({"search": {"temperature": [1.0, 0.0]}}, ValueError, "two numbers above 0"),
        ({"search": {"signal": "noise"}}, ValueError, "'loss' or 'gain'"),
    ],
)
def test_bad_settings_are_refused(arguments, error, says):
    with pytest.raises(error, match=says):
        build("auto-al", **arguments)


def test_names_with_other_arguments_are_other_candidates():
    powers = [{"name": "power", "score": "bald", "beta": b} for b in (1.0, 2.0)]
    strategy = build("uniform-mixture", candidates=[*powers, resolve("margin")])
    assert strategy.names == ("power", "power 2", "margin")


def test_too_few_labelled_items_are_refused():
    world = World.make("classification", 4)
    few = replace(world.context, targets=world.context.targets[:3])
    world = replace(world, labelled=world.labelled[:3], context=few)
    strategy = build("auto-al")
    with pytest.raises(ValueError, match="at least 4 of them, got 3"):
        strategy.choose(world.pool(strategy), 3, seeded())


def test_several_labels_an_item_are_refused():
    world = World.make("classification", 4)
    many = replace(world.context, targets=world.context.targets[:, None].expand(-1, 2))
    world = replace(world, context=many)
    strategy = build("auto-al", candidates=["k-means", "k-center"])
    with pytest.raises(ValueError, match="one class an item"):
        strategy.choose(world.pool(strategy), 3, seeded())


def test_what_the_task_lacks_is_named(tmp_path):
    spec = {"name": "regression-auto-al", "candidates": ["variance", "k-means"]}
    run = learner(tmp_path, datamodule=datamodule(initial=8), strategy=spec, query_size=3)
    with pytest.raises(LookupError, match=r"\['mean'\].*classification"):
        run.run()


def test_scores_of_a_users_own_are_ranked():
    strategy = build("uniform-mixture", candidates=[ScoreStrategy(first_class), "margin"])
    assert isinstance(strategy, Candidates)
    world = World.make("classification", 1)
    pool = world.pool(strategy)
    found = strategy.opinions(pool.subset(pool.index.argsort()), 3, 0)
    probs = world.predictions.probs[world.index.sort().values][:, 0, 0]
    assert found.utility[:, 0].argsort().tolist() == probs.argsort().tolist()


def first_class(probs):
    return probs[:, :, 0].mean(1)


def test_predictions_of_nothing_but_numbers_are_needed_in_both_halves():
    world = World.make("classification", 4)

    def spoil(values):
        values[world.labelled[:4]] = torch.nan
        return values

    strategy = build("auto-al", candidates=THREE, search=SHORT)
    pool = world.changed(spoil).pool(strategy)
    with pytest.raises(ValueError, match="two labelled items of finite predictions"):
        strategy.choose(pool, 3, seeded())
    assert "auto-al" in names()
    assert isinstance(world.predictions, Predictions)
