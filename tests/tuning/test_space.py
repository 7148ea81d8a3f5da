"""The search space, schedules, judges and trials: pure functions and what they refuse."""

import itertools
import math

import pytest
import torch
from helpers import small

from lightning_al.history.records import Round
from lightning_al.tuning import Tuning
from lightning_al.tuning.judges import Judge, folds_of
from lightning_al.tuning.schedule import Schedule
from lightning_al.tuning.space import Range, Space
from lightning_al.tuning.study import propose
from lightning_al.tuning.trials import Trial, settle

LR = {"float": [1e-4, 0.1], "log": True}
SPACE = {"model.lr": LR, "model.width": {"int": [4, 64]}, "model.kind": {"choice": ["a", [1, 2]]}}


def tuning(**changes):
    return Tuning.of({"space": SPACE, "objective": "val/nll"} | changes)


# --- what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"int": [4, 4]}, r"the range \[4, 4\] is empty; give LOW below HIGH"),
        ({"float": [1.0, 0.1]}, r"the range \[1.0, 0.1\] is empty"),
        ({"float": [0.0, 1.0], "log": True}, "a log range begins above 0"),
        ({"int": [1, 2, 3]}, "two bounds"),
        ({"int": [1.5, 3]}, "whole number"),
        ({"float": ["a", 3]}, "finite number"),
        ({"float": [0, math.inf]}, "finite number"),
        ({"choice": [1]}, "two different values"),
        ({"choice": [[1], [1]]}, "two different values"),
        ({"choice": [object(), 1]}, "plain values"),
        ({"int": [1, 2], "step": 3}, "takes no 'step'"),
        ({"choice": [1, 2], "log": True}, "takes no 'log'"),
        ({"int": [1, 2], "float": [1, 2]}, "must be {int"),
        ([1, 2], "must be {int"),
        ({"int": [1, 9], "log": 1}, "True or False"),
    ],
)
def test_ranges_that_make_no_sense_are_refused(spec, words):
    with pytest.raises((ValueError, TypeError), match=words):
        Space.of({"model.lr": spec})


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"space": {}}, "at least one setting"),
        ({"space": {"modle.lr": LR}}, "did you mean model.lr"),
        ({"space": {"lr": LR}}, "a setting begins with one of model"),
        ({"space": None}, "must give space"),
        ({"objective": None}, "must give objective"),
        ({"objective": "val/own"}, "say tuning.mode: max or min"),
        ({"mode": "down"}, "'max' or 'min'"),
        ({"when": "always"}, "tuning.when must be never, first"),
        ({"when": {"labels": 0}}, "from 1"),
        ({"when": {"falls": "val/own"}}, "say tuning.when: mode"),
        ({"judge": "test"}, "tuning.judge must be validation"),
        ({"judge": {"split": 1.0}}, "between 0 and 1"),
        ({"judge": {"folds": 1}}, "from 2"),
        ({"trials": 0}, "from 1"),
        ({"seconds": 0}, "above 0"),
        ({"sampler": "cmaes"}, "one of tpe, random, grid"),
        ({"pruner": {"name": "median", "warm": 1}}, "did you mean 'warmup'"),
        ({"trails": 3}, "did you mean 'trials'"),
    ],
)
def test_tunings_that_make_no_sense_are_refused(changes, words):
    with pytest.raises((ValueError, TypeError), match=words):
        tuning(**changes)


# --- the space -----------------------------------------------------------------------------------


def test_a_space_holds_what_it_describes_and_nothing_else():
    space = Space.of(SPACE)
    inside = {"model.lr": 0.01, "model.width": 4, "model.kind": [1, 2]}
    assert space.holds(inside)
    for name, value in (
        *(("model.lr", 0.2), ("model.lr", True), ("model.width", 4.5), ("model.width", 65)),
        *(("model.kind", "b"), ("model.kind", [2, 1]), ("model.lr", None)),
    ):
        assert not space.holds(inside | {name: value})
    assert not space.holds({"model.lr": 0.01})


def test_a_grid_is_the_product_of_equal_steps():
    space = Space.of(
        {
            "model.a": {"float": [1e-4, 1.0], "log": True, "points": 3},
            "model.b": {"int": [0, 10], "points": 6},
            "model.c": {"choice": ["x", "y"]},
        }
    )
    a, b = [1e-4, 1e-2, 1.0], [0, 2, 4, 6, 8, 10]
    found = [tuple(point.values()) for point in space.grid()]
    assert len(found) == 36
    for point, wanted in zip(found, itertools.product(a, b, ["x", "y"]), strict=True):
        assert point[0] == pytest.approx(wanted[0])
        assert point[1:] == wanted[1:]
    assert Range(1, 3, whole=True, points=9).grid() == [1, 2, 3]
    for point in space.grid():
        assert space.holds(point)


# --- proposals -----------------------------------------------------------------------------------


def walk(given, n, first=None):
    """Trials of a bowl with its lowest point at lr = 0.01, width 32."""
    tried = []
    for number in range(n):
        proposal = propose(given, tried, first, 100 + number, 1)
        if proposal is None:
            break
        s = proposal.settings
        value = (math.log10(s["model.lr"]) + 2) ** 2 + ((s["model.width"] - 32) / 32) ** 2
        tried.append(Trial(number, s, "complete", value + (s["model.kind"] == "a")))
    return tried


@pytest.mark.parametrize("sampler", ["tpe", "random", "grid"])
def test_proposals_lie_in_the_space_and_depend_on_what_was_tried_alone(sampler):
    given = tuning(sampler=sampler)
    tried = walk(given, 14)
    assert all(given.space.holds(trial.settings) for trial in tried)
    read_back = [Trial.from_json(trial.to_json()) for trial in tried]
    for number in (0, 5, 13):
        again = propose(given, read_back[:number], None, 100 + number, 1)
        assert again.settings == tried[number].settings
    assert walk(given, 14) == tried


def test_tpe_comes_nearer_than_its_first_draws():
    tried = walk(tuning(sampler={"name": "tpe", "startup": 8}), 40)
    best = [min(t.value for t in part) for part in (tried[:8], tried[8:])]
    assert best[1] < best[0]
    late = sum(t.value for t in tried[-10:]) / 10
    assert late < sum(t.value for t in tried[:8]) / 8


def test_trial_0_is_the_best_of_the_round_before_where_the_space_holds_it():
    first = {"model.lr": 0.05, "model.width": 7, "model.kind": "a"}
    assert propose(tuning(), [], first, 0, 1).settings == first
    other = propose(tuning(), [], first | {"model.lr": 3.0}, 0, 1).settings
    assert other == propose(tuning(), [], None, 0, 1).settings != first


def test_a_grid_has_an_end_and_looks_at_no_point_twice():
    space = {"model.lr": {"float": [1e-4, 0.1], "points": 3}, "model.width": {"int": [1, 2]}}
    given = tuning(space=space | {"model.kind": {"choice": [0, 1]}}, sampler="grid", trials=99)
    first = {"model.lr": 1e-4, "model.width": 2, "model.kind": 1}
    tried = walk(given, 99, first)
    assert len(tried) == 3 * 2 * 2
    assert tried[0].settings == first
    assert len({str(t.settings) for t in tried}) == len(tried)


def test_the_median_pruner_gives_up_what_is_worse_than_half_of_the_others():
    given = tuning(pruner={"name": "median", "startup": 3, "warmup": 0.5})
    space = [{"model.lr": 0.01, "model.width": w, "model.kind": "a"} for w in range(4, 9)]
    steps = [[[1, v], [2, v], [3, v], [4, v]] for v in (1.0, 2.0, 3.0)]
    tried = [Trial(i, space[i], "complete", s[-1][1], s) for i, s in enumerate(steps)]
    for value, worse in ((1.9, False), (2.1, True)):
        proposal = propose(given, tried, None, 0, 4)
        assert [proposal.report(1, value), proposal.report(2, value)] == [False, worse]
        assert proposal.steps == [[1, value], [2, value]]
    few = propose(given, tried[:2], None, 0, 4)
    assert not any(few.report(step, 99.0) for step in (1, 2, 3, 4))
    never = propose(tuning(pruner="none"), tried, None, 0, 4)
    assert not any(never.report(step, 99.0) for step in (1, 2, 3, 4))


# --- trials --------------------------------------------------------------------------------------


def test_the_best_complete_trial_is_taken_the_first_of_equal_ones():
    values = [("complete", 3.0), ("pruned", 0.1), ("complete", 2.0), ("failed", None)]
    values.append(("complete", 2.0))
    tried = [Trial(i, {"a": i}, state, v, seconds=1.0) for i, (state, v) in enumerate(values)]
    low, high = (settle(tried, mode, "trials", 7) for mode in ("min", "max"))
    assert (low.trial, low.value, low.settings) == (2, 2.0, {"a": 2})
    assert (high.trial, high.trials, high.seconds, high.n_labelled) == (0, 5, 5.0, 7)


def test_that_all_trials_failed_is_said_with_the_first_reason():
    tried = [Trial(0, {}, "pruned", 1.0), Trial(1, {}, "failed", None, why="it diverged")]
    with pytest.raises(ValueError, match="all 2 trials failed; the first one: it diverged"):
        settle(tried, "min", "trials", 7)


# --- schedules -----------------------------------------------------------------------------------


def rounds(*values):
    return [Round(r, 10 * (r + 1), 5, {"val/acc": v}, 3, None) for r, v in enumerate(values)]


def due(when, *values, tuned=(), labelled=None):
    """Whether the round after some rounds tunes."""
    done = rounds(*values)
    n = 10 * (len(values) + 1) if labelled is None else labelled
    return Schedule.of(when).due(n, done, {r: 10 * (r + 1) for r in tuned})


def test_schedules_by_words():
    assert [due(w) for w in ("never", "first", "every_round")] == [False, True, True]
    after = [due(w, 0.5, tuned=[0]) for w in ("never", "first", "every_round")]
    assert after == [False, False, True]
    assert not due("every_round", labelled=0)
    assert due("first", 0.5, 0.5)  # nothing was labelled in rounds 0 and 1


def test_every_so_many_labels():
    when = {"labels": 20}
    assert due(when)
    assert not due(when, 0.5, tuned=[0])
    assert due(when, 0.5, 0.5, tuned=[0])
    assert not due(when, 0.5, 0.5, 0.5, tuned=[0, 2])


def test_when_the_metric_falls():
    when = {"falls": "val/acc", "by": 0.05}
    assert due(when)
    assert not due(when, 0.80, 0.76, tuned=[0])
    assert due(when, 0.80, 0.74, tuned=[0])
    assert not due(when, 0.80, 0.74, 0.74, tuned=[0, 2])  # not below its best since
    low = {"falls": "val/acc", "by": 0.05, "mode": "min"}
    assert not due(low, 0.80, 0.74, tuned=[0])
    assert due(low, 0.74, 0.80, tuned=[0])
    with pytest.raises(LookupError, match=r"no metric named 'val/auroc' in round 0; choose one of"):
        due({"falls": "val/auroc"}, 0.5, tuned=[0])


# --- judges --------------------------------------------------------------------------------------

NOBODY = torch.empty(0, dtype=torch.int64)


def started(**changes):
    data = small.datamodule(**changes)
    data.prepare_data()
    data.start(3)
    return data


@pytest.mark.parametrize("n", [5, 6, 9, 12])
@pytest.mark.parametrize("folds", [2, 3, 5])
@pytest.mark.parametrize("classes", [None, 3])
def test_folds_are_a_partition_of_equal_parts_each_with_its_share_of_every_class(n, folds, classes):
    strata = None if classes is None else torch.arange(n) % classes
    fold = folds_of(n, strata, folds, torch.Generator().manual_seed(0))
    assert set(fold.tolist()) == set(range(min(folds, n)))
    sizes = fold.bincount(minlength=folds)
    assert sizes.max() - sizes.min() <= 1
    for c in range(classes or 0):
        each = fold[strata == c].bincount(minlength=folds)
        assert each.max() - each.min() <= 1


@pytest.mark.parametrize("judge", [{"split": 0.3}, {"folds": 3}, {"folds": 2, "repeats": 3}])
def test_what_was_bought_trains_and_never_judges(judge):
    data = started(initial=9)
    start = set(data.labelled.tolist())
    before = Judge.of(judge).parts(data, NOBODY, 3)
    bought = data.pool[::7]
    data.acquire(bought)
    parts = Judge.of(judge).parts(data, bought, 3)
    assert len(parts) == Judge.of(judge).fits
    everyone = set(data.labelled.tolist())
    for part, earlier in zip(parts, before, strict=True):
        train, held = set(part.train.tolist()), set(part.held.tolist())
        assert held <= start
        assert set(bought.tolist()) <= train
        assert not train & held
        assert train | held == everyone
        assert held == set(earlier.held.tolist())  # the same items judge in each round
    if "folds" in judge:
        turns = torch.cat([part.held for part in parts]).bincount()[sorted(start)]
        assert (turns == Judge.of(judge).repeats).all()


def test_a_part_judges_by_its_items_and_is_fitted_without_them():
    data = started(initial=9)
    (part, *_) = Judge.of({"folds": 3}).parts(data, NOBODY, 3)
    view = data.restricted(part.train, held=part.held)
    seen = torch.cat([x for x, _ in view.train_dataloader()])
    judged = [batch for batch in view.val_dataloader()]
    held = torch.cat([x for x, _ in judged])
    assert torch.equal(held, data.items.inputs(part.held))
    assert torch.equal(torch.cat([y for _, y in judged]), data.labels(part.held))
    assert not (seen[:, None] == held[None]).all(-1).any()
    assert len(seen) == 6
    assert data.val_dataloader() == []  # the data themselves are as they were


def test_the_whole_holds_out_a_share_of_all_labels():
    data = started(initial=9)
    (part,) = Judge.of({"whole": 0.25}).parts(data, NOBODY, 3)
    train, held = {*part.train.tolist(), *part.answers.tolist()}, set(part.held.tolist())
    assert len(held) == 15
    assert not train & held
    assert train | held == set(range(60))
    assert set(part.train.tolist()) <= set(data.labelled.tolist())


@pytest.mark.parametrize(
    ("judge", "words"),
    [
        ({"folds": 5}, "3 item.s. were labelled at the start .* they make no 5 parts"),
        ({"split": 0.25}, "a share of 0.25 of them is 1"),
        ("validation", "these data have none; give the data val=0.2"),
    ],
)
def test_three_labels_judge_nothing(judge, words):
    with pytest.raises(ValueError, match=words):
        Judge.of(judge).parts(started(initial=3), NOBODY, 3)
