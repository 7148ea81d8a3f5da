"""Runs in lock-step: each ends as it does alone, whatever happens to the others."""

import json
import shutil
from contextlib import suppress

import pandas as pd
import pytest
import torch
from helpers import small
from helpers import stack_parts as parts
from helpers.bench_parts import settled

from lightning_al import replay
from lightning_al.benchmark import lockstep
from lightning_al.benchmark.bench import run_bench
from lightning_al.benchmark.execute import execute
from lightning_al.benchmark.grid import bench_of
from lightning_al.benchmark.lockstep import in_lockstep
from lightning_al.fits import together as fitting
from lightning_al.fits.recorder import NotPlain
from lightning_al.fits.stacked.facts import LEAST
from lightning_al.journal import journal
from lightning_al.journal.journal import read_journal
from lightning_al.journal.lock import FolderLock

QUIET = {"progress": False, "workers": 0}
EARLY = [
    {
        "class_path": "pytorch_lightning.callbacks.EarlyStopping",
        "init_args": {"monitor": "val/nll", "patience": 1},
    },
]


def lines(root, spec):
    return read_journal(root / "runs" / spec.run_id / "journal.jsonl")[0]


def fits(root, spec):
    return [line for line in lines(root, spec) if line["event"] == "fitted"]


def told(outcome):
    """What an outcome says that does not depend on who fitted, and when."""
    rows = [
        {k: v for k, v in row.items() if not k.startswith("seconds")} for row in outcome["rows"]
    ]
    return {"status": outcome["status"], "error": outcome["error"], "rows": rows}


def alone(specs, root):
    """What comes of runs that are done one after another."""
    return {spec.run_id: execute(spec, root, keep=True) for spec in specs}


def together(specs, root, **more):
    return {outcome["run_id"]: outcome for outcome in in_lockstep(specs, root, keep=True, **more)}


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"weights": "warm", "strategies": ["badge", "k-center"]},
        {
            "restore": "last",
            "data": {"val": 0.2},
            "trainer": {"max_epochs": 6, "accelerator": "cpu", "devices": 1, "callbacks": EARLY},
        },
    ],
    ids=["plain", "warm", "stopped early"],
)
def test_runs_in_lockstep_end_as_they_do_alone(given, tmp_path):
    (group,) = bench_of(parts.settings(**given)).groups
    left = together(group, tmp_path / "stack")
    twins = alone(group, tmp_path / "alone")
    assert list(left) == [spec.run_id for spec in group]
    for spec in group:
        assert left[spec.run_id]["status"] == "done", left[spec.run_id]["error"]
        assert parts.same_numbers(told(left[spec.run_id]), told(twins[spec.run_id]))
        assert [line["backend"] for line in fits(tmp_path / "stack", spec)] == ["stacked"] * 3
        names = [other.run_id for other in group]
        assert all(line["stack"] == names for line in fits(tmp_path / "stack", spec))
        mine, twin = (
            torch.load(tmp_path / k / "runs" / spec.run_id / "checkpoints/round-002.ckpt")
            for k in ("stack", "alone")
        )
        for name, value in mine["state_dict"].items():
            torch.testing.assert_close(value, twin["state_dict"][name], rtol=1e-9, atol=1e-9)


def test_a_run_whose_fit_diverges_leaves_the_others(tmp_path):
    """Random choices take such items sooner or later, or never."""
    specs = bench_of(parts.settings(seeds=6, strategies=["random"], data={"spoilt": 1})).runs
    left, twins = together(specs, tmp_path / "stack"), alone(specs, tmp_path / "alone")
    failed = [s.run_id for s in specs if left[s.run_id]["status"] == "failed"]
    assert 0 < len(failed) < len(specs)
    for spec in specs:
        assert parts.same_numbers(told(left[spec.run_id]), told(twins[spec.run_id]))
    for run_id in failed:
        assert "diverged" in left[run_id]["error"]
        assert (tmp_path / "stack" / "errors" / f"{run_id}.txt").exists()
    found = [line for spec in specs for line in fits(tmp_path / "stack", spec)]
    assert {line["backend"] for line in found} == {"stacked"}
    stacks = {tuple(line["stack"]) for line in found}
    assert tuple(s.run_id for s in specs) in stacks
    assert any(not set(failed) & set(stack) for stack in stacks)  # the others, afterwards


def test_a_strategy_that_fails_is_its_own_runs(tmp_path):
    (group,) = bench_of(parts.settings(seeds=2, strategies=["random", "bald"])).groups
    left = together(group, tmp_path)
    for spec in group:
        bald = spec.place["strategy"] == "bald"
        assert left[spec.run_id]["status"] == ("failed" if bald else "done")


@pytest.mark.slow
def test_runs_with_other_numbers_of_labels_are_other_stacks(tmp_path):
    oracle = {"class_path": "AbstainingOracle", "init_args": {"rate": 0.3}}
    given = {"seeds": 12, "strategies": ["random"], "oracle": oracle, "query_size": 2, "budget": 4}
    (group,) = bench_of(parts.settings(**given)).groups
    left, twins = together(group, tmp_path / "stack"), alone(group, tmp_path / "alone")
    stacks = {}
    for spec in group:
        assert parts.same_numbers(told(left[spec.run_id]), told(twins[spec.run_id]))
        for line in fits(tmp_path / "stack", spec):
            of_size = stacks.setdefault((line["round"], line["n_labelled"]), [])
            of_size.append((spec.run_id, line.get("stack")))
    for found in stacks.values():  # as many labels are one stack, where they are enough
        names = [name for name, _ in found]
        assert all(stack == (names if len(names) >= LEAST else None) for _, stack in found)
    large = [where for where, found in stacks.items() if len(found) >= LEAST]
    assert len(large) > len({round for round, _ in large})


def test_what_is_no_stack_is_fitted_one_by_one_and_the_journal_says_why(tmp_path, monkeypatch):
    def no_stack(*_):
        raise NotPlain("a layer that remembers")

    monkeypatch.setattr(fitting, "fit_stack", no_stack)
    (group,) = bench_of(parts.settings(seeds=2, strategies=["margin"])).groups
    left, twins = together(group, tmp_path / "stack"), alone(group, tmp_path / "alone")
    for spec in group:
        assert told(left[spec.run_id]) == told(twins[spec.run_id])
        found = fits(tmp_path / "stack", spec)
        assert [line["backend"] for line in found] == ["lean"] * 3
        assert [line.get("reason") for line in found] == ["a layer that remembers", None, None]
        assert not any("stack" in line for line in found)


def test_a_group_of_which_another_process_holds_a_run_is_left_to_it(tmp_path):
    (group,) = bench_of(parts.settings(seeds=2, strategies=["margin"], budget=4)).groups
    held = tmp_path / "runs" / group[1].run_id
    held.mkdir(parents=True)
    lock = FolderLock(held)
    found = together(group, tmp_path, patience=0)
    assert [each["status"] for each in found.values()] == ["busy"] * len(group)
    lock.release()
    found = together(group, tmp_path, patience=0)
    assert [each["status"] for each in found.values()] == ["done"] * len(group)


# --- cut off -------------------------------------------------------------------------------------


class Cut(BaseException):
    """The process ends here."""


def cut_at(place, event, moment):
    """A hook of the journal that ends the process at the so-manieth line of a kind."""
    count = iter(range(10**6))

    def hook(when, what):
        if (when, what) == (moment, event) and next(count) == place:
            raise Cut

    return hook


def whole(group, root):
    """What all runs of a group leave."""
    return {spec.run_id: small.outcome(root / "runs" / spec.run_id) for spec in group}


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    root = tmp_path_factory.mktemp("unbroken")
    (group,) = bench_of(parts.settings(seeds=2, budget=4, weights="warm")).groups
    return group, together(group, root), whole(group, root)


@pytest.mark.parametrize("moment", ["before-write", "after-sync"])
@pytest.mark.parametrize(
    ("event", "places"),
    [("start", (2,)), ("fitted", (1, 5)), ("labelled", (1,)), ("committed", (2,))],
)
def test_cut_off_at_a_line_a_group_goes_on_as_if_nothing_had_been(
    event, places, moment, unbroken, tmp_path, monkeypatch
):
    group, outcomes, expected = unbroken
    for place in places:
        root = tmp_path / str(place)
        ended = {}
        monkeypatch.setattr(journal, "fault_hook", cut_at(place, event, moment))
        with suppress(Cut):
            for outcome in in_lockstep(group, root, keep=True):
                ended[outcome["run_id"]] = outcome
        assert len(ended) < len(group)
        monkeypatch.setattr(journal, "fault_hook", journal._no_hook)
        done_before = {name: whole([s], root) for s in group if (name := s.run_id) in ended}
        left = [spec for spec in group if spec.run_id not in ended]
        ended |= together(left, root)
        assert whole(group, root) == expected
        for name, before in done_before.items():
            assert before[name] == expected[name]
        assert {k: told(v) for k, v in ended.items()} == {k: told(v) for k, v in outcomes.items()}


def test_a_stack_is_made_again_of_all_its_members(unbroken, tmp_path, monkeypatch):
    """Where some have the line and others not, those who have it take part, and keep theirs."""
    group, _, expected = unbroken
    seen = []
    real = lockstep.fit_asked

    def watched(asked, verdict):
        seen.append([(each.run, each.known) for each in asked])
        return real(asked, verdict)

    monkeypatch.setattr(lockstep, "fit_asked", watched)
    monkeypatch.setattr(journal, "fault_hook", cut_at(5, "fitted", "after-sync"))
    with pytest.raises(Cut):
        together(group, tmp_path)
    monkeypatch.setattr(journal, "fault_hook", journal._no_hook)
    names = [spec.run_id for spec in group]
    assert seen == [[(name, False) for name in names]] * 2
    together(group, tmp_path)
    assert seen[2] == [(name, place < 2) for place, name in enumerate(names)]
    assert len(seen) == 3
    assert whole(group, tmp_path) == expected


# --- the benchmark -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    root = tmp_path_factory.mktemp("table")
    bench = bench_of(parts.settings(seeds=2, budget=4))
    return bench, run_bench(bench, root, **QUIET), root


def test_a_run_asked_for_brings_its_group(table, tmp_path):
    bench, frame, _ = table
    part = [spec for spec in bench.runs if spec.place["seed"] == 1]
    found = run_bench(bench, tmp_path, specs=part, **QUIET)
    pd.testing.assert_frame_equal(settled(found), settled(frame))
    ended = {path.stem for path in (tmp_path / "outcomes").glob("*.json")}
    assert ended == {spec.run_id for spec in bench.runs}


@pytest.mark.slow
def test_ray_gives_the_same_table_of_stacks(tmp_path):
    pytest.importorskip("ray", reason="Ray is an optional extra: pip install 'lightning-al[ray]'")
    network = {"class_path": "lightning_al.networks.MLP", "init_args": {"hidden": [8]}}
    task = {"class_path": "lightning_al.tasks.Classification", "init_args": {"network": network}}
    trainer = {"max_epochs": 2, "accelerator": "cpu", "devices": 1}
    bench = bench_of(
        {
            "seeds": 2,
            "common": {"query_size": 4, "budget": 4, "trainer": trainer, "fits": "stacked"},
            "models": {"mlp": task},
            "data": {"digits": {"class_path": "lightning_al.datamodules.DigitsDataModule"}},
            "strategies": ["margin", "random"],
            "metric": "test/accuracy",
        }
    )
    frame = run_bench(bench, tmp_path / "here", **QUIET)
    found = run_bench(bench, tmp_path / "ray", engine="ray", progress=False)
    pd.testing.assert_frame_equal(settled(found), settled(frame))
    assert all("stack" in line for spec in bench.runs for line in fits(tmp_path / "ray", spec))


def test_a_failed_run_is_done_again_alone(table, tmp_path):
    bench, frame, root = table
    shutil.copytree(root, tmp_path / "it")
    failed = bench.runs[1].run_id
    path = tmp_path / "it" / "outcomes" / f"{failed}.json"
    before = {p.name: p.read_bytes() for p in path.parent.glob("*.json")}
    path.write_text(json.dumps({**json.loads(path.read_text()), "status": "failed", "rows": []}))
    shutil.rmtree(tmp_path / "it" / "runs" / failed)
    again = run_bench(bench, tmp_path / "it", retry_failed=True, **QUIET)
    assert parts.same_numbers(
        json.loads(settled(again).to_json()), json.loads(settled(frame).to_json())
    )
    (first, *_) = fits(tmp_path / "it", bench.runs[1])
    assert "stack" not in first
    for p in path.parent.glob("*.json"):
        assert p.name == path.name or p.read_bytes() == before[p.name]


# --- replay --------------------------------------------------------------------------------------


def the_same(module, kept, within=0.0):
    mine = module.state_dict()
    assert list(mine) == list(kept)
    for name, value in kept.items():
        torch.testing.assert_close(mine[name], value, rtol=within, atol=within)


def test_a_round_of_a_stack_is_replayed_in_its_stack(tmp_path):
    """In float32 too, where a fit alone is the same to rounding only."""
    single = {"class_path": "helpers.stack_parts.Single"}
    (group,) = bench_of(parts.settings(seeds=2, model=single, budget=4)).groups
    outcomes = together(group, tmp_path)
    assert {each["status"] for each in outcomes.values()} == {"done"}
    folder = tmp_path / "runs" / group[1].run_id
    (folder.parent / "apart").mkdir()
    shutil.copytree(folder, folder.parent / "apart" / folder.name)
    kept = small.weights(folder / "checkpoints" / "round-001.ckpt")
    the_same(replay(folder, 1), kept)
    the_same(replay(folder.parent / "apart" / folder.name, 1), kept, 1e-4)


def test_in_float64_a_replay_alone_is_the_same(table, tmp_path, caplog):
    bench, _, _ = table
    together(bench.groups[0], tmp_path)
    folder = tmp_path / "runs" / bench.groups[0][0].run_id
    kept = small.weights(folder / "checkpoints" / "round-001.ckpt")
    the_same(replay(folder, 1), kept)
    for other in bench.groups[0][1:]:
        shutil.rmtree(tmp_path / "runs" / other.run_id)
    the_same(replay(folder, 1), kept, 1e-9)
    assert "fitted alone now" in caplog.text
