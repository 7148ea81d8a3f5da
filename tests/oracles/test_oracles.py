"""Oracles: what they answer, what it costs, and that asking again gives the same."""

import math
from collections import Counter

import pytest
import torch
from helpers import small

from lightning_al.assembly.families import ORACLES, make
from lightning_al.datamodules import ActiveDataModule
from lightning_al.oracles import (
    AbstainingOracle,
    CommitteeOracle,
    CostlyOracle,
    DelayedOracle,
    FileOracle,
    NoisyOracle,
    SimulatedOracle,
)
from lightning_al.oracles.annotators import likelihood_vote, majority_vote
from lightning_al.oracles.noisy import confuse
from lightning_al.oracles.wrapper import price

CONFUSION = [[0.7, 0.3, 0.0], [0.0, 0.5, 0.5], [0.1, 0.0, 0.9]]
MANY = 3000


@pytest.fixture(scope="module")
def crowd():
    data = small.datamodule(small.blobs(MANY), initial=0)
    data.setup()
    return data


@pytest.fixture(scope="module")
def numbers():
    data = ActiveDataModule(small.line(MANY), small.line(9), initial=0)
    data.setup()
    return data


def truth(data):
    return data.labels(torch.arange(MANY))


def ask(oracle, data, index=None, round=0):
    return oracle.ask(torch.arange(MANY) if index is None else torch.tensor(index), data, round)


def share(mask):
    return mask.double().mean().item()


def near(measured, expected, n=MANY):
    """Within 4.5 standard deviations of a share of n draws."""
    return abs(measured - expected) <= 4.5 * math.sqrt(max(expected * (1 - expected), 1e-9) / n)


# --- repeatable ----------------------------------------------------------------------------------

EVERY = {
    "simulated": SimulatedOracle(2.0),
    "rate": NoisyOracle(0.4),
    "confusion": NoisyOracle(confusion=CONFUSION),
    "committee": CommitteeOracle([0.9, 0.5, 0.4], votes=2, costs=[3, 1, 1]),
    "likelihood": CommitteeOracle(confusion=[CONFUSION] * 2, combine="likelihood"),
    "abstaining": AbstainingOracle(0.3),
    "abstaining by class": AbstainingOracle([0.0, 0.3, 1.0], paid=False),
    "costly": CostlyOracle(lambda index, data: index.double() / 7),
    "around": CostlyOracle(0.5, oracle=AbstainingOracle(0.2, oracle=NoisyOracle(0.3))),
}


@pytest.mark.parametrize("oracle", EVERY.values(), ids=EVERY)
def test_an_item_is_answered_alike_whenever_and_beside_whatever_it_is_asked(oracle, crowd):
    items = [5, 900, 17, 3, 2999, 44, 45, 46]
    whole = ask(oracle, crowd, items)
    torch.manual_seed(1)
    for k, item in enumerate(items):
        one = ask(oracle, crowd, [item], round=4)
        assert torch.equal(one.mask("refused", 1)[0], whole.mask("refused", 8)[k])
        assert one.cost[0] == whole.cost[k]
        if not one.mask("refused", 1)[0]:
            assert one.values["y"][0] == whole.values["y"][k]
    assert torch.equal(crowd.labels(torch.tensor(items)), small.blobs(MANY).targets[items])


@pytest.mark.parametrize("oracle", EVERY.values(), ids=EVERY)
def test_the_price_named_before_is_what_is_paid(oracle, crowd):
    answers = ask(oracle, crowd, range(200))
    expected = price(oracle, torch.arange(200), crowd)
    paid = ~answers.mask("refused", 200) if not getattr(oracle, "paid", True) else slice(None)
    torch.testing.assert_close(answers.cost[paid], expected[paid])


def test_other_seeds_and_other_runs_give_other_noise(crowd):
    first = ask(NoisyOracle(0.5), crowd).values["y"]
    other = ask(NoisyOracle(0.5, seed=1), crowd).values["y"]
    assert 0.3 < share(first != other) < 0.9
    crowd.seed = 5
    assert 0.3 < share(first != ask(NoisyOracle(0.5), crowd).values["y"]) < 0.9
    crowd.seed = 0


def test_an_oracle_without_a_price_costs_one(crowd):
    assert price(object(), torch.arange(3), crowd).tolist() == [1, 1, 1]
    bad = type("Bad", (), {"price": lambda self, index, data: [1.0, -1.0]})
    with pytest.raises(ValueError, match=r"Bad\.price must give a finite number from 0"):
        price(bad(), torch.arange(2), crowd)


# --- noise ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [0.0, 0.25, 1.0])
def test_the_flip_rate_is_kept_and_all_wrong_classes_are_alike(crowd, rate):
    y = ask(NoisyOracle(rate), crowd).values["y"]
    wrong = y != truth(crowd)
    assert near(share(wrong), rate)
    if rate:
        shift = (y - truth(crowd))[wrong] % 3
        assert near(share(shift == 1), 0.5, int(wrong.sum()))


def test_a_confusion_matrix_is_kept_row_by_row(crowd):
    y = ask(NoisyOracle(confusion=CONFUSION), crowd).values["y"]
    for true, row in enumerate(CONFUSION):
        of = y[truth(crowd) == true]
        for said, chance in enumerate(row):
            assert near(share(of == said), chance, len(of))


def test_confusion_takes_each_answer_by_its_share_of_the_unit_interval():
    draws = torch.tensor([0.0, 0.69, 0.71, 0.999, 0.0, 0.49, 0.51, 0.05, 0.11])
    labels = torch.tensor([0, 0, 0, 0, 1, 1, 1, 2, 2])
    said = confuse(labels, torch.tensor(CONFUSION).double(), draws.double())
    assert said.tolist() == [0, 0, 1, 1, 1, 1, 2, 0, 2]


def test_places_without_a_label_stay_without():
    labels = torch.tensor([[0, -100], [-100, 2]])
    said = confuse(labels, torch.eye(3).double().roll(1, 1), torch.full((2, 2), 0.5).double())
    assert said.tolist() == [[1, -100], [-100, 0]]


def test_gaussian_noise_has_its_deviation_in_units_of_the_target(numbers):
    answers = ask(NoisyOracle(sd=2.0), numbers)
    error = (answers.values["y"] - truth(numbers)).double()
    assert answers.values["y"].dtype == truth(numbers).dtype
    assert abs(error.mean()) < 4.5 * 2 / math.sqrt(MANY)
    assert abs(error.std() / 2 - 1) < 4.5 / math.sqrt(2 * MANY)
    assert abs(torch.corrcoef(torch.stack([error, truth(numbers).double()]))[0, 1]) < 0.09


@pytest.mark.parametrize(
    ("build", "said"),
    [
        (lambda: NoisyOracle(), "one of rate, confusion and sd, got none"),
        (lambda: NoisyOracle(0.1, sd=1.0), r"got \['rate', 'sd'\]"),
        (lambda: NoisyOracle(1.5), "rate must be finite numbers from 0 to 1, got 1.5"),
        (lambda: NoisyOracle(math.nan), "rate must be"),
        (lambda: NoisyOracle(sd=-1.0), "sd must be finite numbers from 0 on, got -1.0"),
        (lambda: NoisyOracle(confusion=[[1, 0]]), r"matrix \[C, C\], got the shape \[1, 2\]"),
        (lambda: NoisyOracle(confusion=[[1, 0], [0.5, 0.4]]), "add up to 1"),
        (lambda: CommitteeOracle(), "one of accuracy, confusion and sd"),
        (lambda: CommitteeOracle([]), "at least one annotator"),
        (lambda: CommitteeOracle([0.9], votes=2), "votes must be from 1 to 1"),
        (lambda: CommitteeOracle([0.9], costs=[1, 2]), "1 annotators, but 2 costs"),
        (lambda: CommitteeOracle([0.9], combine="mean"), "majority or likelihood"),
        (lambda: AbstainingOracle(-0.1), "rate must be"),
        (lambda: DelayedOracle(-1), "delay must be 0 or more"),
        (lambda: SimulatedOracle(-1.0), "cost must be a finite number"),
    ],
)
def test_settings_that_make_no_sense_are_refused(build, said):
    with pytest.raises(ValueError, match=said):
        build()


def test_noise_of_the_wrong_kind_says_which_is_right(crowd, numbers):
    for data, oracle, said in [
        (numbers, NoisyOracle(0.1), "these answers are numbers .*; give sd"),
        (crowd, NoisyOracle(sd=1.0), "these answers are classes .*; give rate or"),
        (crowd, NoisyOracle(confusion=[[1, 0], [0, 1]]), "of 2 classes, the data have 3"),
        (numbers, CommitteeOracle([0.9]), "give sd"),
        (numbers, AbstainingOracle([0.1, 0.1]), "one chance for each of 2 classes"),
    ]:
        with pytest.raises(ValueError, match=said):
            ask(oracle, data, [1, 2])


# --- several annotators --------------------------------------------------------------------------


def test_a_majority_is_counted_and_ties_go_to_the_larger_draw():
    drawn = torch.Generator().manual_seed(0)
    votes = torch.randint(-1, 4, (200, 5), generator=drawn)
    ties = torch.rand(200, 4, generator=drawn).double()
    won = majority_vote(votes, 4, ties)
    for row, tie, winner in zip(votes.tolist(), ties.tolist(), won.tolist(), strict=True):
        count = Counter(v for v in row if v >= 0)
        most = [c for c in range(4) if count[c] == max(count.values(), default=0)]
        assert winner == max(most, key=lambda c: tie[c])


def test_the_likeliest_class_is_that_of_bayes_rule():
    drawn = torch.Generator().manual_seed(0)
    confusion = torch.rand(4, 3, 3, generator=drawn).double()
    confusion /= confusion.sum(-1, keepdim=True)
    votes = torch.randint(-1, 3, (100, 4), generator=drawn)
    won = likelihood_vote(votes, confusion, torch.rand(100, 3, generator=drawn).double())
    for row, winner in zip(votes.tolist(), won.tolist(), strict=True):
        said = [(a, v) for a, v in enumerate(row) if v >= 0]
        chances = [math.prod(confusion[a, c, v].item() for a, v in said) for c in range(3)]
        assert chances[winner] >= max(chances) * (1 - 1e-9)


def test_three_annotators_err_as_often_as_the_binomial_says(crowd):
    oracle = CommitteeOracle([0.8, 0.8, 0.8])
    said = oracle.answers(truth(crowd), torch.arange(MANY), crowd)
    for votes in said:
        assert near(share(votes == truth(crowd)), 0.8)
    # right: all three, two of three, or one beside two that differ (0.1 each way) and a lucky tie
    right = 0.8**3 + 3 * 0.8**2 * 0.2 + 3 * 0.8 * (2 * 0.1 * 0.1) / 3
    assert near(share(ask(oracle, crowd).values["y"] == truth(crowd)), right)


def test_some_of_the_annotators_answer_are_named_and_paid(crowd):
    oracle = CommitteeOracle([1.0, 1.0, 1.0, 0.0], votes=2, costs=[1, 2, 4, 8])
    answers = ask(oracle, crowd)
    for by, cost in zip(answers.by[:300], answers.cost[:300].tolist(), strict=True):
        who = [int(a) for a in by.split()]
        assert len(who) == 2
        assert sum([1, 2, 4, 8][a] for a in who) == cost
    for a in range(4):
        assert near(share(torch.tensor([str(a) in by.split() for by in answers.by])), 0.5)
    honest = torch.tensor(["3" not in by.split() for by in answers.by])
    assert bool((answers.values["y"] == truth(crowd))[honest].all())
    each = CommitteeOracle([0.9] * 3, oracle=SimulatedOracle(2.5))
    assert ask(each, crowd, [1]).cost.tolist() == [7.5]


def test_numbers_are_averaged(numbers):
    oracle = CommitteeOracle(sd=[1.0, 2.0])
    said = oracle.answers(truth(numbers), torch.arange(MANY), numbers).double()
    torch.testing.assert_close(ask(oracle, numbers).values["y"].double(), said.mean(0))
    one = CommitteeOracle(sd=[0.0, 3.0], votes=1)
    answers = ask(one, numbers)
    exact = torch.tensor([by == "0" for by in answers.by])
    torch.testing.assert_close(answers.values["y"][exact], truth(numbers)[exact])
    assert near(share(exact), 0.5)


# --- refusing, prices ----------------------------------------------------------------------------


def test_refusals_have_their_rate_class_by_class(crowd):
    assert near(share(ask(AbstainingOracle(0.3), crowd).refused), 0.3)
    answers = ask(AbstainingOracle([0.0, 0.5, 1.0], paid=False), crowd)
    for c, rate in enumerate([0.0, 0.5, 1.0]):
        assert near(share(answers.refused[truth(crowd) == c]), rate, MANY // 3)
    assert torch.equal(answers.cost == 0, answers.refused)


def test_prices_from_a_list_a_file_and_a_function(crowd, tmp_path):
    index, every = torch.tensor([7, 0, 2999]), torch.rand(MANY).double()
    table = tmp_path / "costs.csv"
    table.write_text("index,cost\n" + "".join(f"{i},{c!r}\n" for i, c in enumerate(every.tolist())))
    for cost in (every, every.tolist(), str(table), lambda i, data: every[i]):
        oracle = CostlyOracle(cost)
        assert oracle.price(index, crowd).tolist() == every[index].tolist()
        assert oracle.ask(index, crowd, 0).cost.tolist() == every[index].tolist()
    for bad, said in [
        ("index,cost\n0,1\n0,2\n", "line 3: item 0 stands there twice"),
        ("index,cost\n0,much\n", "line 2: expected an index and a cost, got '0' and 'much'"),
        ("index\n0\n", r"\['cost'\] missing"),
        ("index,cost\n0,1\n", r"no cost for 2 item\(s\), first: \[7, 2999\]"),
        ("index,cost\n7,1\n0,-1\n2999,1\n", "cost of item 0 is -1.0"),
    ]:
        table.write_text(bad)
        with pytest.raises(ValueError, match=said):
            CostlyOracle(str(table)).price(index, crowd)
    with pytest.raises(ValueError, match=r"one number for each of 3000 items, got \[2\]"):
        CostlyOracle([1.0, 2.0]).price(index, crowd)


# --- on the command line -------------------------------------------------------------------------


def test_oracles_by_short_names_one_around_another():
    inner = {"name": "Costly", "cost": 2.0}
    made = make(ORACLES, {"name": "Noisy", "rate": 0.1, "oracle": inner})
    assert made == NoisyOracle(0.1, oracle=CostlyOracle(2.0))
    path = {"class_path": "lightning_al.oracles.DelayedOracle", "init_args": {"oracle": "Noisy"}}
    with pytest.raises(ValueError, match="one of rate, confusion and sd"):
        make(ORACLES, path)
    assert {*ORACLES.names()} == {
        *("AbstainingOracle", "CommitteeOracle", "CostlyOracle", "DelayedOracle", "FileOracle"),
        *("FunctionOracle", "NoisyOracle", "SimulatedOracle"),
    }
    assert isinstance(make(ORACLES, "File"), FileOracle)
