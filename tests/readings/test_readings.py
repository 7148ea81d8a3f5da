"""What an output is, is declared; strategies score it rightly then, or refuse in a sentence."""

import copy
import math

import pytest
import pytorch_lightning as pl
import torch
from torch import nn

from lightning_al import suggest
from lightning_al.datamodules import ActiveDataModule
from lightning_al.datamodules.tensors import TensorItems
from lightning_al.fits.workbench import Workbench
from lightning_al.posteriors import MCDropout
from lightning_al.readings import (
    READINGS,
    Binary,
    Classes,
    Labels,
    Numbers,
    Places,
    Undeclared,
    reading_of,
)
from lightning_al.rehearsal import check_reading
from lightning_al.scoring.scorer import Scorer
from lightning_al.strategies import build, kind_of, names
from lightning_al.tasks import Adapter
from lightning_al.testing import rehearsed

N, E, L, C, H, W = 40, 5, 4, 3, 2, 2


def drawn(*shape, seed=0):
    return 2 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


class Told(pl.LightningModule):
    """Linear in its features, by several members, in the form of any output.

    An item is its features [E] and then its number, by which the mask is looked up.
    """

    def __init__(self, form, reading, width, members, mask=None):
        super().__init__()
        self.form, self.mask = form, mask
        self.features = nn.Identity()
        weight = torch.randn(members, E, width, generator=torch.Generator().manual_seed(9))
        self.weight = nn.Parameter(weight)
        self.adapter = Adapter(
            embedding="seen", reading=reading, head="decide", mask=mask and "counts"
        )

    def seen(self, x):
        return x[:, :E]

    def decide(self, z):
        return self.form(torch.einsum("ne,sek->nsk", z, self.weight))

    def forward(self, x):
        return self.decide(self.seen(x))

    def counts(self, x):
        return self.mask(x[:, E].long())


def pool_of(
    form, reading, strategy, targets, *, width, members=1, mask=None, posterior=None, classes=None
):
    """The pool as a strategy sees it, of a model whose output has a form."""
    task = Told(form, reading, width, members, mask)
    inputs = torch.cat([drawn(N, E), torch.arange(N)[:, None].float()], 1)
    data = ActiveDataModule(TensorItems(inputs, targets), test=[0, 1], initial=list(range(2, 12)))
    data.eval_batch_size, data.classes = 7, classes
    data.start(0)
    check_reading(task, task.adapter, data, strategy.needs)
    scorer = Scorer(task, data, task.adapter, posterior, make_bench=Workbench)
    return scorer.pool(strategy)


def chosen(form, reading, strategy, targets, **more):
    """(scores or None, choice), or the sentence of a refusal."""
    try:
        strategy = copy.deepcopy(strategy)  # some remember what they learnt
        pool = pool_of(form, reading, strategy, targets, **more)
        k = min(5, getattr(strategy, "most", 5))
        acquired = strategy.choose(pool, k, torch.Generator().manual_seed(3))
    except (ValueError, LookupError) as error:
        return str(error)
    return pool.scores, acquired.index.tolist()


def with_two(z):
    """A number as the lead of the second of two classes, classes last."""
    return torch.stack([torch.zeros_like(z), z], -1)


def of_classification():
    for name in names():
        strategy = build(name)
        if kind_of(name) == "classification" and not strategy.privileged:
            yield name


CLASS_STRATEGIES = sorted(of_classification())


def several(name):
    """A strategy, and how many members it is shown."""
    strategy = rehearsed(build(name))
    return strategy, 3 if strategy.members == "many" else 1


def same(a, b):
    """Two results agree: the same refusal, or scores and choices."""
    if isinstance(a, str) or isinstance(b, str):
        assert isinstance(a, str), f"{a} against the refusal {b!r}"
        assert isinstance(b, str), f"the refusal {a!r} against {b}"
        return
    if a[0] is not None:
        torch.testing.assert_close(a[0], b[0], rtol=1e-4, atol=1e-5)
    assert a[1] == b[1]


# --- the same thing said in several ways ---------------------------------------------------------


@pytest.mark.parametrize("name", CLASS_STRATEGIES)
def test_one_logit_is_two_classes(name):
    strategy, members = several(name)
    more = {"strategy": strategy, "targets": torch.arange(N) % 2, "width": 1, "members": members}
    more["classes"] = 2
    two = chosen(lambda z: with_two(z[..., 0]), Classes(members=True), **more)
    assert not isinstance(two, str), two
    same(two, chosen(lambda z: z[..., 0], Binary(members=True), **more))
    same(two, chosen(lambda z: z, Binary(members=True), **more))
    same(two, chosen(lambda z: z.sigmoid(), Binary(given="probs", members=True), **more))


@pytest.mark.parametrize("name", CLASS_STRATEGIES)
def test_independent_labels_are_places_of_two_classes(name):
    strategy, members = several(name)
    y = (drawn(N, L, seed=1) > 0).long()
    more = {"strategy": strategy, "targets": y, "width": L, "members": members}
    labels = chosen(lambda z: z, Labels(members=True), **more)
    same(labels, chosen(with_two, Places("last", members=True), **more))
    refused_in_a_sentence(labels)


@pytest.mark.parametrize("name", CLASS_STRATEGIES)
@pytest.mark.parametrize("places", [(L,), (C,), (H, W)], ids=["T", "T = C", "H, W"])
def test_classes_first_are_classes_last(name, places):
    strategy, members = several(name)
    y = drawn(N, *places, seed=1).abs().long() % C
    width = C * math.prod(places)
    more = {"strategy": strategy, "targets": y, "width": width, "members": members}

    def before(z):
        return z.unflatten(2, (C, *places))

    first = chosen(before, Places("first", members=True), **more)
    same(first, chosen(lambda z: before(z).movedim(2, -1), Places("last", members=True), **more))
    refused_in_a_sentence(first)


@pytest.mark.parametrize("name", CLASS_STRATEGIES)
def test_one_place_is_none(name):
    """An item with one place is scored as the item without places; or places are refused."""
    strategy, members = several(name)
    y = torch.arange(N) % C
    more = {"strategy": strategy, "width": C, "members": members, "classes": C}
    plain = chosen(lambda z: z, Classes(members=True), targets=y, **more)
    assert not isinstance(plain, str), plain
    placed = chosen(
        lambda z: z[..., None], Places("first", members=True), targets=y[:, None], **more
    )
    if isinstance(placed, str):
        refused_in_a_sentence(placed)
    else:
        same(plain, placed)


@pytest.mark.parametrize("name", CLASS_STRATEGIES)
def test_padding_changes_nothing(name):
    strategy, members = several(name)
    y = drawn(N, L, seed=1).abs().long() % C
    more = {"strategy": strategy, "width": C * L, "members": members}

    def tight(z):
        return z.unflatten(2, (C, L))

    def padded(z):
        return torch.cat([tight(z), 50 * torch.ones(*z.shape[:2], C, 3)], 3)

    def counts(rows):
        return torch.arange(L + 3).expand(len(rows), -1) < L

    short = chosen(tight, Places("first", members=True), targets=y, **more)
    marked = torch.cat([y, torch.full((N, 3), -100)], 1)
    same(short, chosen(padded, Places("first", members=True), targets=marked, mask=counts, **more))


def refused_in_a_sentence(result):
    if isinstance(result, str):
        assert len(result) < 300, result
        assert "\n" not in result


@pytest.mark.parametrize("name", ["entropy", "least-confidence", "margin"])
def test_the_undecided_item_comes_first(name):
    """All are sure of all labels, but one item of one label, which stands at 1/2."""
    inputs = torch.full((N, L), 9.0)
    inputs[:, 2:] = -9.0
    inputs[17, 1] = 0.0

    class Same(pl.LightningModule):
        adapter = Adapter(reading=Labels())

        def forward(self, x):
            return x

    items = TensorItems(inputs, (inputs > 0).long())
    data = ActiveDataModule(items, test=[0, 1], initial=[2, 3])
    assert suggest(Same(), data, name, 1).index.tolist() == [17]


# --- brute force ---------------------------------------------------------------------------------


def test_entropy_of_tokens_is_the_mean_over_those_that_count():
    counts = torch.rand(N, L, generator=torch.Generator().manual_seed(5)) < 0.6
    counts[:, 0] = True
    y = torch.where(counts, 0, -100)
    said = []

    def form(z):
        said.append(z.unflatten(2, (C, L))[:, 0])
        return said[-1]

    pool = pool_of(
        form,
        Places("first"),
        build("entropy"),
        y,
        width=C * L,
        mask=lambda rows: counts[rows],
    )
    probs = torch.cat(said[1:]).softmax(1)  # behind the first look at the reading
    wanted = []
    for p, m in zip(probs, counts[pool.index], strict=True):
        each = [-(p[:, t] * p[:, t].log()).sum() for t in range(L) if bool(m[t])]
        wanted.append(sum(each) / len(each))
    torch.testing.assert_close(pool.scores, torch.stack(wanted), rtol=1e-4, atol=1e-5)


# --- what is not known is refused ----------------------------------------------------------------


def told(reading, shape, strategy, targets, change=lambda z: z, **more):
    """The pool of a model with outputs [n, *shape]."""

    def form(z):
        return change(z[:, 0].reshape(len(z), *shape))

    return pool_of(form, reading, strategy, targets, width=math.prod(shape), **more)


@pytest.mark.parametrize(
    ("shape", "targets"),
    [
        ((), torch.arange(N) % 2),
        ((1,), torch.arange(N) % 2),
        ((L,), torch.zeros(N, L, dtype=torch.long)),
        ((C, C), torch.zeros(N, C, dtype=torch.long)),
        ((L, C), torch.zeros(N, L, dtype=torch.long)),
        ((C, H, W), torch.zeros(N, H, W, dtype=torch.long)),
        ((1, H, W), torch.zeros(N, H, W, dtype=torch.long)),
        ((C,), torch.zeros(N)),
    ],
    ids=["[n]", "[n, 1]", "[n, L]", "T = C", "[n, T, C]", "[n, C, H, W]", "a channel", "numbers"],
)
def test_undeclared_outputs_are_refused_with_the_mend(shape, targets):
    with pytest.raises(ValueError, match="say what the output is with Adapter\\(reading="):
        told(None, shape, build("entropy"), targets)


def test_undeclared_logits_of_classes_are_taken():
    pool = told(None, (C,), build("entropy"), torch.arange(N) % C)
    assert pool.scores is not None


WRONG = [
    (Classes(), (L, C), torch.arange(N) % C, "Places\\(\\)"),
    (Classes(), (C,), torch.zeros(N, C, dtype=torch.long), "Labels\\(\\)"),
    (Classes(), (C,), torch.zeros(N), "whole numbers"),
    (Classes(), (C,), torch.full((N,), C), f"label {C} is none of the {C} classes"),
    (Classes(5), (C,), torch.arange(N) % C, "of 5 classes"),
    (Classes(), (1,), torch.arange(N) % 2, "Binary\\(\\)"),
    (Binary(), (C,), torch.arange(N) % 2, "Labels\\(\\)"),
    (Binary(), (), torch.arange(N) % 3, "targets must be 0 or 1"),
    (Labels(), (L,), torch.arange(N) % 2, "targets must be"),
    (Labels(), (L,), torch.full((N, L), 2), "must be 0 or 1"),
    (Labels(7), (L,), torch.zeros(N, L), "independent labels \\[n, 7\\]"),
    (Places("first"), (C,), torch.arange(N) % C, "Classes\\(\\)"),
    (Places("first"), (L, C), torch.zeros(N, L).long(), "axis='last'"),
    (Places("last"), (C, L), torch.zeros(N, L).long(), "axis='first'"),
    (Places("first", classes=5), (C, L), torch.zeros(N, L).long(), "5 classes a place"),
    (Places("first"), (1, H, W), torch.zeros(N, H, W).long(), "2 or more"),
]


@pytest.mark.parametrize(("reading", "shape", "targets", "said"), WRONG)
def test_what_does_not_go_together_says_what_to_declare(reading, shape, targets, said):
    with pytest.raises(ValueError, match=said):
        told(reading, shape, build("entropy"), targets)


@pytest.mark.parametrize(
    ("reading", "shape", "targets", "change"),
    [
        (Classes(given="probs"), (C,), torch.arange(N) % C, lambda z: z),
        (Classes(given="probs"), (C,), torch.arange(N) % C, torch.sigmoid),
        (Classes(given="log_probs"), (C,), torch.arange(N) % C, lambda z: z),
        (Binary(given="probs"), (), torch.arange(N) % 2, lambda z: z),
        (Labels(given="probs"), (L,), torch.zeros(N, L), lambda z: z),
        (Places("first", given="probs"), (C, L), torch.zeros(N, L).long(), lambda z: z),
    ],
)
def test_numbers_that_are_no_probabilities_are_refused(reading, shape, targets, change):
    with pytest.raises(ValueError, match="declared as probabilities"):
        told(reading, shape, build("entropy"), targets, change)


def test_a_strategy_of_numbers_refuses_classes():
    with pytest.raises(LookupError, match="this classification model gives"):
        told(Classes(), (C,), build("greedy"), torch.arange(N) % C)


def test_a_strategy_of_classes_refuses_numbers():
    with pytest.raises(LookupError, match="this regression model gives"):
        told(Numbers(), (1,), build("entropy"), torch.zeros(N))


def test_one_number_with_and_without_an_axis():
    strategy = build("greedy")
    wide = told(Numbers(), (1,), strategy, torch.zeros(N, 1))
    flat = told(Numbers(), (), strategy, torch.zeros(N))
    torch.testing.assert_close(wide.scores, flat.scores)


@pytest.mark.parametrize("name", ["bald", "variation-ratio", "vote-entropy"])
def test_scores_that_compare_members_refuse_one(name):
    with pytest.raises(ValueError, match="MCDropout"):
        told(Binary(), (), build(name), torch.arange(N) % 2)


def test_a_network_without_dropout_is_refused_where_members_are_asked_for():
    with pytest.raises((ValueError, LookupError), match="ropout"):
        told(Binary(), (), build("bald"), torch.arange(N) % 2, posterior=MCDropout(4))


# --- how one is named ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", READINGS.names())
def test_a_reading_is_named_three_ways(name):
    assert reading_of(name) == reading_of({"name": name}) == reading_of(READINGS.build(name))


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("lables", "did you mean 'labels'"),
        ({"given": "probs"}, "`name`"),
        (Classes, "an object with `fields` and `check`"),
        (7, "an object with `fields` and `check`"),
        ({"name": "places", "axis": "middle"}, "first"),
        ({"name": "classes", "given": "odds"}, "given is one of"),
    ],
)
def test_a_wrong_name_says_so(spec, said):
    with pytest.raises((ValueError, LookupError), match=said):
        reading_of(spec)


def test_the_short_forms_of_an_adapter_are_readings():
    assert Adapter().reading == Undeclared()
    assert Adapter(kind="classification").reading == Classes()
    assert Adapter(kind="regression", output_is="gaussian").reading == Numbers(given="gaussian")
    assert Adapter(output_is="probs", members=True).reading == Classes(given="probs", members=True)
    with pytest.raises(ValueError, match="give either"):
        Adapter(reading="labels", kind="classification")
