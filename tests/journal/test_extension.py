"""Data that grow while a run goes on: old items keep their positions, new ones get the next."""

import json

import pytest
import torch
from helpers import small
from helpers.growing import MORE, MOST, OLD, WORLDS, held_inputs
from helpers.questions import fill_in

from lightning_al import replay, suggest
from lightning_al.cli import main
from lightning_al.datamodules import ActiveDataModule, ContinuousDataModule, DigitsDataModule
from lightning_al.datamodules.tensors import TensorItems
from lightning_al.journal.journal import JournalError, read_journal
from lightning_al.oracles import FileOracle
from lightning_al.records import Status


@pytest.fixture(params=WORLDS)
def world(request, tmp_path):
    return WORLDS[request.param](tmp_path / "data")


def learner(tmp_path, world, *, data=None, **changes):
    data = world.data() if data is None else data
    given = {"task": world.task, "strategy": "random", "query_size": 3, "budget": 6}
    return small.learner(tmp_path / "run", datamodule=data, **{**given, **changes})


def lines(run_dir):
    return [r for r in read_journal(run_dir / "journal.jsonl")[0] if r["event"] == "extended"]


def started(data, seed=0):
    data.setup()
    data.start(seed)
    return data


# --- positions ------------------------------------------------------------------------------------


def test_new_items_get_the_next_positions_and_nothing_else_moves(tmp_path, world):
    first = started(world.data())
    before = held_inputs(first), first.labelled.tolist(), first.contents(torch.arange(OLD))
    free = set(first.pool.tolist())
    old = learner(tmp_path, world).run()
    written = (old.run_dir / "journal.jsonl").read_bytes()
    data = world.grow(MORE).data()
    history = learner(tmp_path, world, data=data, budget=12, extend=True).run()
    assert history.rounds[:3] == old.rounds
    assert (history.run_dir / "journal.jsonl").read_bytes().startswith(written)
    (line,) = lines(history.run_dir)
    assert {k: line[k] for k in ("round", "old", "new", "n")} == {
        **{"round": 3, "old": OLD, "new": MORE, "n": MORE - OLD}
    }
    assert len(line["content"]) == 12
    assert history.rounds[3].n_pool == len(free) - 6 + MORE - OLD
    assert held_inputs(data) == before[0]
    assert data.contents(torch.arange(OLD)) == before[2]
    again = started(data)
    assert again.labelled.tolist() == before[1]
    bought = set(history.acquired)
    assert len(bought) == 12
    assert bought <= free | set(range(OLD, MORE))
    assert history.rounds[3].amended == ("budget 6 → 12", f"+{MORE - OLD} items")


def test_all_new_items_are_bought_in_the_end(tmp_path, world):
    learner(tmp_path, world).run()
    data = world.grow(MORE).data()
    history = learner(tmp_path, world, data=data, budget=99, query_size=9, change=True, extend=True)
    history = history.run()
    assert history.stopped == "the pool is empty"
    assert set(range(OLD, MORE)) <= set(history.acquired)
    status = data.status
    assert set(status.tolist()) == {int(Status.LABELLED), int(Status.HELD)}
    truth = data.items.labels(torch.arange(MORE))
    assert torch.equal(data.labels(data.labelled), truth[data.labelled])


def test_grown_twice_resumed_and_replayed(tmp_path, world):
    learner(tmp_path, world).run()
    learner(tmp_path, world.grow(MORE), budget=9, extend=True).run()
    history = learner(tmp_path, world.grow(MOST), budget=12, extend=True).run()
    assert [(r["old"], r["new"]) for r in lines(history.run_dir)] == [(OLD, MORE), (MORE, MOST)]
    # the same command without the word goes on, and so do those that look at single rounds
    assert learner(tmp_path, world, budget=12).run().rounds == history.rounds
    for r, budget in ((0, 6), (2, 6), (4, 9), (6, 12)):
        done = history.rounds[r]
        data = world.data()
        module = replay(history.run_dir, r, learner(tmp_path, world, data=data, budget=budget))
        kept = small.weights(history.run_dir / done.checkpoint)
        assert small.same_weights(module.state_dict(), kept)
        assert (len(data.labelled), len(data.pool)) == (done.n_labelled, done.n_pool)
    assert len(lines(history.run_dir)) == 2


def test_suggest_from_a_checkpoint_of_a_run_that_grew(tmp_path, world):
    learner(tmp_path, world).run()
    data = world.grow(MORE).data()
    history = learner(tmp_path, world, data=data, budget=9, extend=True).run()
    state = torch.load(history.final_checkpoint, weights_only=False)
    fresh = world.data()
    fresh.setup()
    fresh.growth.begin_with(OLD, data.order)
    fresh.setup()
    fresh.load_state_dict(state[type(data).__qualname__])
    assert torch.equal(fresh.status, data.status)
    module = world.task()
    module.load_state_dict(state["state_dict"])
    found = suggest(module, fresh, "random", len(fresh.pool)).index
    assert sorted(found.tolist()) == data.pool.tolist()


# --- what is refused ------------------------------------------------------------------------------


def test_without_the_word_more_items_are_refused_with_the_way(tmp_path, world):
    run_dir = learner(tmp_path, world).run().run_dir
    before = (run_dir / "journal.jsonl").read_bytes()
    with pytest.raises(JournalError, match=rf"knows {OLD} items, .* {MORE} now: say --extend"):
        learner(tmp_path, world.grow(MORE)).run()
    assert (run_dir / "journal.jsonl").read_bytes() == before
    assert learner(tmp_path, world.grow(OLD)).run().stopped == "the budget is spent"


@pytest.mark.parametrize("n", [OLD, MORE])
def test_a_changed_item_is_named(tmp_path, world, n):
    run_dir = learner(tmp_path, world).run().run_dir
    before = (run_dir / "journal.jsonl").read_bytes()
    world.grow(n).spoil()
    with pytest.raises(JournalError, match="is changed since the run knew them") as caught:
        learner(tmp_path, world, extend=True).run()
    assert f"{world.changed} is changed" in str(caught.value)
    assert (run_dir / "journal.jsonl").read_bytes() == before


def test_an_item_that_is_gone_is_named(tmp_path, world):
    learner(tmp_path, world).run()
    world.grow(OLD).rows.remove(OLD - 1)
    with pytest.raises(JournalError, match=r"(item|row) 39\)? is gone"):
        learner(tmp_path, world, extend=True).run()


def test_items_that_joined_may_not_change_either(tmp_path, world):
    learner(tmp_path, world).run()
    learner(tmp_path, world.grow(MORE), budget=9, extend=True).run()
    world.rows[-1] = MOST - 1  # another one at the last position
    with pytest.raises(JournalError, match=r"changed since|is gone"):
        learner(tmp_path, world, budget=9).run()
    world.grow(OLD)
    with pytest.raises(JournalError, match=r"are gone since"):
        learner(tmp_path, world, budget=9).run()


@pytest.mark.parametrize("name", ["tensors", "table"])
def test_without_the_list_of_items_the_journal_still_knows_them(tmp_path, name):
    world = WORLDS[name](tmp_path / "data")
    run_dir = learner(tmp_path, world).run().run_dir
    (run_dir / "items.npz").unlink()
    learner(tmp_path, world.grow(MORE), budget=9, extend=True).run()
    (run_dir / "items.npz").write_bytes(b"damaged")
    world.rows[-1] = MOST - 1
    with pytest.raises(JournalError, match=rf"items {OLD} to {MORE - 1}, which joined the run"):
        learner(tmp_path, world, budget=9).run()
    world.grow(MORE).spoil()
    with pytest.raises(JournalError, match=r"another configuration \(data"):
        learner(tmp_path, world, budget=9).run()


def test_of_files_the_list_is_needed(tmp_path):
    world = WORLDS["folder"](tmp_path / "data")
    run_dir = learner(tmp_path, world).run().run_dir
    (run_dir / "items.npz").unlink()
    with pytest.raises(JournalError, match=r"no items\.npz.*old files alone"):
        learner(tmp_path, world.grow(MORE), extend=True).run()
    learner(tmp_path, world.grow(OLD)).run()  # writes it
    learner(tmp_path, world.grow(MORE), extend=True).run()
    assert len(lines(run_dir)) == 1


@pytest.mark.parametrize(
    "data",
    [
        lambda: DigitsDataModule(),
        lambda: ContinuousDataModule([0.0], [1.0], lambda x: x[:, 0], initial=3),
    ],
)
def test_data_that_are_all_there_cannot_grow(tmp_path, data):
    with pytest.raises(ValueError, match="nothing can join"):
        small.learner(tmp_path / "run", datamodule=data(), extend=True).run()


def test_a_run_that_begins_takes_all_items(tmp_path, world):
    history = learner(tmp_path, world.grow(MORE), extend=True).run()
    assert lines(history.run_dir) == []
    again = learner(tmp_path, world.grow(MOST), extend=True, overwrite=True).run()
    assert again.rounds[0].n_pool > history.rounds[0].n_pool


@pytest.mark.parametrize("name", ["tensors", "table", "folder"])
def test_a_new_class_is_refused(tmp_path, name):
    world = WORLDS[name](tmp_path / "data")
    learner(tmp_path, world).run()
    world.grow(MORE)
    if name == "tensors":
        whole = world.whole
        whole.targets[OLD + 2] = 3
        data = small.Blobs(whole, test=0.25, val=0.1, initial=6, batch_size=4)
    elif name == "table":
        world.lines[OLD + 2] = "1.0,2.0,perhaps,3.0"
        data = world.data()
    else:
        data = world.data()
        place = world.root / "now" / "grey"
        place.mkdir()
        (world.root / "now" / world.files[OLD]).rename(place / "1.png")
    with pytest.raises(ValueError, match=r"joins with the class .* needs a new run"):
        learner(tmp_path, world, data=data, extend=True).run()


# --- labels, groups, people -----------------------------------------------------------------------


def half_labelled(n):
    """Every second item of the first n carries a label."""
    whole = small.blobs(MOST)
    targets = whole.targets.double()
    targets[1::2] = torch.nan
    return TensorItems(whole.inputs[0][:n], targets[:n])


@pytest.mark.parametrize(("initial", "joined"), [("given", [40, 42, 44]), (4, [])])
def test_labels_that_new_items_bring_count_as_the_first_ones_did(tmp_path, initial, joined):
    def build(n):
        held = list(range(0, 12, 2))
        return small.Blobs(half_labelled(n), held, initial=initial, batch_size=4)

    class Truth:
        def ask(self, index, datamodule, round):
            from lightning_al.records import Answers

            return Answers({"y": small.blobs(MOST).targets[index].double()})

    plain = {"task": Count, "oracle": Truth(), "strategy": "random"}
    small.learner(tmp_path / "run", datamodule=build(OLD), **plain).run()
    data = build(46)
    history = small.learner(tmp_path / "run", datamodule=data, **plain, extend=True).run()
    (line,) = lines(history.run_dir)
    assert line.get("labelled", []) == joined
    assert [i for i in data.labelled.tolist() if i >= OLD] == joined


def Count():
    """A regression of the class, for labels that are numbers."""
    from lightning_al.tasks import Regression

    return Regression(small.MLP(small.FEATURES, (8,), 1), lr=0.02)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_new_items_of_a_held_out_group_are_held_out(tmp_path, seed):
    groups = [i // 5 for i in range(OLD)] + [i % 8 for i in range(MORE - OLD)]

    def build(n):
        whole = small.blobs(MORE)
        train = TensorItems(whole.inputs[0][:n], whole.targets[:n])
        return small.Blobs(train, 0.25, groups=groups[:n], initial=6, batch_size=4)

    plain = {"seed": seed, "strategy": "random"}
    small.learner(tmp_path / "run", datamodule=build(OLD), **plain).run()
    data = build(MORE)
    small.learner(tmp_path / "run", datamodule=data, **plain, extend=True).run()
    apart = {groups[i] for i in data.held["test"].tolist()}
    held = set(data.state.where(Status.HELD).tolist())
    assert held == {i for i in range(MORE) if groups[i] in apart}
    assert held & set(range(OLD, MORE))


def test_items_join_while_a_person_answers(tmp_path, world):
    plain = {"oracle": FileOracle()}
    history = learner(tmp_path, world, **plain).run()
    assert history.waiting
    data = world.grow(MORE).data()
    history = learner(tmp_path, world, data=data, **plain, extend=True).run()
    assert history.waiting
    (line,) = lines(history.run_dir)
    assert line["round"] == 0
    truth = data.items.labels(torch.arange(MORE))
    fill_in(history.run_dir, 0, truth)
    data = world.data()
    history = learner(tmp_path, world, data=data, **plain).run()
    assert history.waiting
    assert history.rounds[0].n_pool == len(data.pool) - (MORE - OLD) + 3
    fill_in(history.run_dir, 1, truth)
    history = learner(tmp_path, world, **plain).run()
    assert history.rounds[1].amended == (f"+{MORE - OLD} items",)
    assert history.stopped == "the budget is spent"


# --- the command line -----------------------------------------------------------------------------


def test_on_the_command_line(tmp_path):
    world = WORLDS["table"](tmp_path / "data")
    world.lines[OLD] = "1.0,2.0,,3.0"  # a new row without a label
    world.data()
    run_dir = tmp_path / "run"
    words = ["--config=csv", f"--data.path={world.root / 't.csv'}", "--data.target=kind"]
    words += ["--data.drop=[size]", "--data.initial=6", "--strategy=random", "--query_size=3"]
    words += ["--trainer.max_epochs=1", "--progress=false", f"--run_dir={run_dir}"]
    main(["run", *words, "--budget=3"])
    world.grow(MORE).data()
    with pytest.raises(JournalError, match="say --extend"):
        main(["run", *words, "--budget=6"])
    (history,) = main(["run", *words, "--budget=6", "--extend"])
    assert history.rounds[2].amended == ("budget 3 → 6", f"+{MORE - OLD} items")
    for r in (0, 1, 2, 3):
        kept = small.weights(run_dir / "checkpoints" / f"round-{r:03d}.ckpt")
        assert small.same_weights(replay(run_dir, r).state_dict(), kept)
    last = run_dir / "checkpoints" / "round-003.ckpt"
    k = history.rounds[3].n_pool
    found = main(["suggest", f"--ckpt={last}", f"--k={k}", f"--out={tmp_path / 's.csv'}"])
    assert len(found) == k
    assert {i for i in found.index.tolist() if i >= OLD} | set(history.acquired) >= {
        *range(OLD, MORE)
    }
    assert f"+{MORE - OLD} items" in main(["report", str(run_dir)]).page.read_text()


def test_another_run_with_the_same_data_module_has_all_items(tmp_path):
    world = WORLDS["tensors"](tmp_path / "data")
    learner(tmp_path, world).run()
    data = world.grow(MORE).data()
    learner(tmp_path, world, data=data, extend=True).run()
    other = learner(tmp_path / "other", world, data=data).run()
    assert other.rounds[0].n_pool + other.rounds[0].n_labelled == MORE - sum(
        len(part) for part in data.held.values()
    )


def test_words_that_are_labels_keep_their_numbers(tmp_path):
    names = ["cat", "dog", "eel"]

    def build(n, last=None):
        whole = small.blobs(MORE)
        items = [(x, names[int(y)]) for x, y in (whole[i] for i in range(n))]
        items[-1] = (items[-1][0], last or items[-1][1])
        return ActiveDataModule(items_of(items), 0.25, initial=6, batch_size=4)

    plain = {"strategy": "random", "query_size": 20, "budget": 80}
    one = {**plain, "query_size": 5, "budget": 5}
    small.learner(tmp_path / "run", datamodule=build(OLD), **one).run()
    more = {"extend": True, "change": True}
    small.learner(tmp_path / "run", datamodule=(data := build(MORE)), **plain, **more).run()
    assert tuple(data.class_names) == ("cat", "dog", "eel")
    with pytest.raises(ValueError, match=r"'ant' is none of the 3 classes|changed since"):
        small.learner(tmp_path / "run", datamodule=build(MORE, "ant"), **plain).run()


def items_of(items):
    from helpers.growing import Listed

    return Listed(items)


def test_cut_off_between_the_list_of_items_and_the_line(tmp_path, world):
    """The list has the new items already, the journal does not: the old ones alone are known."""
    learner(tmp_path, world).run()
    history = learner(tmp_path, world.grow(MORE), budget=9, extend=True).run()
    path = history.run_dir / "journal.jsonl"
    kept = path.read_bytes().splitlines(keepends=True)
    at = next(i for i, line in enumerate(kept) if b'"event":"extended"' in line)
    path.write_bytes(b"".join(kept[:at]))
    with pytest.raises(JournalError, match="say --extend"):
        learner(tmp_path, world.grow(MORE), budget=9).run()
    again = learner(tmp_path, world, budget=9, extend=True).run()
    assert again.acquired == history.acquired
    assert [r["content"] for r in lines(again.run_dir)] == [
        json.loads(kept[at])["content"],
    ]
