"""A run that a person answers by a file: questions, answers, and what is wrong with them."""

import json

import pytest
import torch
from helpers import small
from helpers.questions import answer, read, write
from PIL import Image

from lightning_al.cli import main
from lightning_al.datamodules import ActiveDataModule, ImageFolderDataModule
from lightning_al.datamodules.tensors import TensorItems
from lightning_al.journal.journal import read_journal
from lightning_al.oracles import FileOracle, NoisyOracle
from lightning_al.records import Later, Status

QUERY = 4


class Bare(ActiveDataModule):
    """No item of the pool carries a label."""

    classes = 3
    class_names = ("ash", "beech", "cedar")
    in_features = 4


@pytest.fixture
def bare():
    train = small.blobs()
    data = Bare(TensorItems(train.inputs[0]), small.blobs(30, 1), initial=0, batch_size=4)
    data.setup()
    data.truth = train.targets
    return data


def learner(tmp_path, data, **changes):
    plain = {"strategy": "random", "query_size": QUERY, "budget": 2 * QUERY}
    return small.learner(tmp_path / "run", datamodule=data, **{**plain, **changes})


def asked(folder, data, items=(3, 8, 5), round=0):
    oracle = FileOracle(folder)
    wait = oracle.ask(torch.tensor(items), data, round)
    assert isinstance(wait, Later)
    return oracle, folder / f"round-{round:03d}.csv", wait.what


# --- a run ---------------------------------------------------------------------------------------


def test_a_run_whose_pool_carries_no_label_at_all(tmp_path, bare):
    for r in range(2):
        history = learner(tmp_path, bare, oracle=FileOracle()).run()
        assert history.waiting
        assert len(history) == r
        question = tmp_path / "run" / "queries" / f"round-{r:03d}.csv"
        assert f"4 item(s) of round {r} wait for an answer: fill in answer in {question}" in (
            history.stopped
        )
        assert "one of ash, beech, cedar, or skip" in history.stopped
        before = question.read_bytes()
        assert learner(tmp_path, bare, oracle=FileOracle()).run().stopped == history.stopped
        assert question.read_bytes() == before
        answer(question, lambda row: bare.class_names[bare.truth[int(row["index"])]])
    history = learner(tmp_path, bare, oracle=FileOracle()).run()
    assert (history.waiting, history.stopped) == (False, "the budget is spent")
    assert [r.n_labelled for r in history.rounds] == [0, 4, 8]
    assert torch.equal(bare.labelled_targets(), bare.truth[bare.labelled])
    # the same as one who knew all answers at once
    known = small.datamodule(initial=0)
    plain = small.learner(
        tmp_path / "plain", datamodule=known, strategy="random", query_size=QUERY, budget=8
    ).run()
    assert [r.acquired for r in plain.rounds] == [r.acquired for r in history.rounds]
    assert [dict(r.metrics) for r in plain.rounds] == [dict(r.metrics) for r in history.rounds]


def test_killed_between_the_question_and_the_answer(tmp_path, bare):
    whole = learner(tmp_path, bare, oracle=FileOracle()).run()
    question = whole.run_dir / "queries" / "round-000.csv"
    text, journal = question.read_bytes(), whole.run_dir / "journal.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    assert [json.loads(line)["event"] for line in lines][-2:] == ["chosen", "asked"]
    for kept, there in ((len(lines) - 1, False), (len(lines), False), (len(lines), True)):
        journal.write_bytes(b"".join(lines[:kept]))
        if not there:
            question.unlink()
        learner(tmp_path, bare, oracle=FileOracle()).run()
        assert question.read_bytes() == text
    assert [p.name for p in question.parent.iterdir()] == [question.name]


def test_partial_and_wrong_answers_cost_nothing(tmp_path, bare):
    run = learner(tmp_path, bare, oracle=FileOracle())
    question = run.run().run_dir / "queries" / "round-000.csv"
    answer(question, lambda row: "ash" if row == read(question)[0] else "")
    journal = (tmp_path / "run" / "journal.jsonl").read_bytes()
    text = question.read_bytes()
    with pytest.raises(ValueError, match=r"3 fault\(s\), nothing of it was taken") as error:
        run.run()
    items = [row["index"] for row in read(question)]
    for line, item in zip((3, 4, 5), items[1:], strict=True):
        assert f"line {line} (item {item}): answer: expected one of ash" in str(error.value)
    assert "got nothing" in str(error.value)
    assert ((tmp_path / "run" / "journal.jsonl").read_bytes(), question.read_bytes()) == (
        journal,
        text,
    )
    answer(question, lambda row: "cedar")
    assert len(run.run()) == 1


def test_skipped_items_leave_the_pool_and_the_one_who_answered_is_known(tmp_path, bare):
    run = learner(tmp_path, bare, oracle=NoisyOracle(0.0, oracle=FileOracle(cost=2.0)))
    question = run.run().run_dir / "queries" / "round-000.csv"
    rows = read(question)
    for row, said in zip(rows, ["skip", "1", "Refuse", "ash"], strict=True):
        row |= {"answer": said, "annotator": "eve"}
    write(question.with_name("round-000.answers.csv"), rows)
    (done,) = run.run().rounds
    items = [int(row["index"]) for row in rows]
    assert list(done.refused) == [items[0], items[2]]
    assert list(done.acquired) == [items[1], items[3]]
    assert bare.labels(torch.tensor(done.acquired)).tolist() == [1, 0]
    assert bare.status[items].tolist() == [Status.REFUSED, Status.LABELLED] * 2
    assert done.cost == 8.0
    assert [p.annotators for p in done.ledger] == ["eve"] * 4
    assert read(question)[0]["answer"] == ""  # the question itself stayed as it was


# --- tables --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (["3,oak", "8,ash", "5,ash"], r"line 2 \(item 3\): answer: expected one of .* got 'oak'"),
        (["3,3", "8,1.5", "5,-1"], r"3 fault\(s\).*got '3'.*got '1.5'.*got '-1'"),
        (["3,nan", "8,0", "5,0"], "line 2 .* got 'nan'"),
        (["3,ash", "8,ash"], r"no line for 1 of 3 items: 5"),
        (["3,ash", "8,ash", "5,ash", "3,ash"], "line 5: item 3 stands in line 2 already"),
        (["3,ash", "8,ash", "5,ash", "4,ash"], "line 5: item 4 was not asked for in this round"),
        (["3,ash", "8,ash", "five,ash"], "line 4: expected the index of an item, got 'five'"),
        (["3,ash", "", "8", "5,ash"], r"line 4 \(item 8\): answer: .* got nothing"),
    ],
)
def test_each_wrong_line_is_named(tmp_path, bare, lines, said):
    oracle, question, _ = asked(tmp_path, bare)
    question.with_suffix(".answers.csv").write_text("\n".join(["index,answer", *lines]))
    with pytest.raises(ValueError, match=f"(?s){said}"):
        oracle.ask(torch.tensor([3, 8, 5]), bare, 0)


@pytest.mark.parametrize(
    "text",
    [
        "index,answer\n5,cedar\n3,ash\n8,beech\n",
        "\ufeffindex;x;answer\r\n5;1,5;2\r\n3;2,5;0\r\n8;3,5;1.0\r\n",
        'answer\tindex\n"cedar"\t5\n ash \t 3\n1\t8\n\n\t\n',
    ],
)
def test_tables_as_spreadsheets_leave_them(tmp_path, bare, text):
    oracle, question, _ = asked(tmp_path, bare)
    question.with_suffix(".answers.csv").write_text(text)
    answers = oracle.ask(torch.tensor([3, 8, 5]), bare, 0)
    assert answers.values["y"].tolist() == [0, 1, 2]
    assert answers.values["y"].dtype == torch.int64
    assert not bool(answers.refused.any())


def test_a_table_of_another_form_is_refused(tmp_path, bare):
    oracle, question, _ = asked(tmp_path, bare)
    for text, said in [
        ("index,label\n3,0\n", "the header must name index, answer; answer missing"),
        ("", "it is empty"),
    ]:
        question.with_suffix(".answers.csv").write_text(text)
        with pytest.raises(ValueError, match=said):
            oracle.ask(torch.tensor([3, 8, 5]), bare, 0)
    question.with_suffix(".answers.csv").write_bytes(b"index,answer\n3,\xff\xfe\n")
    with pytest.raises(ValueError, match="save it as UTF-8"):
        oracle.ask(torch.tensor([3, 8, 5]), bare, 0)


def test_answers_to_another_question_are_never_overwritten(tmp_path, bare):
    oracle, question, _ = asked(tmp_path, bare)
    asked(tmp_path, bare, items=(1, 2))  # nobody had answered: the file is written anew
    assert [row["index"] for row in read(question)] == ["1", "2"]
    answer(question, lambda row: "ash")
    text = question.read_bytes()
    with pytest.raises(ValueError, match="item 1 was not asked for in this round"):
        oracle.ask(torch.tensor([3, 8, 5]), bare, 0)
    assert question.read_bytes() == text


def test_small_tables_show_their_features_and_images_their_files(tmp_path, bare):
    _, question, _ = asked(tmp_path, bare)
    for row, x in zip(read(question), bare.pool_items.inputs(torch.tensor([3, 8, 5])), strict=True):
        shown = [float(row[f"x{e}"]) for e in range(4)]
        assert shown == pytest.approx(x.tolist(), rel=1e-4)
    root = tmp_path / "images"
    for i in range(8):
        place = root / ("cat", "dog")[i % 2] if i < 6 else root
        place.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4), (i * 30, 0, 0)).save(place / f"{i}.png")
    data = ImageFolderDataModule(str(root), image_size=4, test=2, initial=2)
    data.setup()
    oracle, question, said = asked(tmp_path / "q", data, [0, 1], round=7)
    assert [row["path"] for row in read(question)] == [data.item_path(0), data.item_path(1)]
    assert "one of cat, dog, or skip" in said

    class Tiny(Bare):
        """Pictures in a tensor."""

    pixels = TensorItems(torch.rand(9, 1, 6, 6, generator=torch.Generator().manual_seed(0)))
    tiny = Tiny(pixels, TensorItems(torch.rand(2, 1, 6, 6), torch.zeros(2).long()), initial=0)
    tiny.setup()
    _, drawn, _ = asked(tmp_path / "t", tiny)
    for row in read(drawn):
        with Image.open(row["path"]) as picture:
            assert picture.tobytes() == tiny.thumbnail(int(row["index"])).tobytes()
    answer(question, lambda row: "dog")
    assert oracle.ask(torch.tensor([0, 1]), data, 7).values["y"].tolist() == [1, 1]


@pytest.mark.parametrize("outputs", [None, 1, 2])
def test_numbers_have_the_form_of_the_labels(tmp_path, outputs):
    shape = () if outputs is None else (outputs,)
    test = TensorItems(torch.randn(5, 2), torch.randn(5, *shape))
    data = ActiveDataModule(TensorItems(torch.randn(9, 2)), test, initial=0)
    data.setup()
    oracle, question, said = asked(tmp_path, data)
    assert "a number, or skip" in said
    columns = [name for name in read(question)[0] if name.startswith("answer")]
    assert columns == (["answer_1", "answer_2"] if outputs == 2 else ["answer"])
    rows = read(question)
    for row in rows:
        row |= dict.fromkeys(columns, "-1.5e0")
    rows[1] |= dict.fromkeys(columns, "") | {columns[0]: "skip"}
    write(question, rows)
    answers = oracle.ask(torch.tensor([3, 8, 5]), data, 0)
    assert answers.refused.tolist() == [False, True, False]
    assert answers.values["y"].shape == (3, *shape)
    assert answers.values["y"].dtype == torch.float32
    data.acquire(torch.tensor([3, 8, 5]), answers)
    rows[0][columns[0]] = "1,5"
    write(question, rows)
    with pytest.raises(ValueError, match=r"line 2 \(item 3\): .*expected a number, .* got '1,5'"):
        oracle.ask(torch.tensor([3, 8, 5]), data, 0)


def test_class_names_that_are_numbers_count_before_numbers(tmp_path, bare):
    bare.class_names = ("1", "2", "0")
    oracle, question, _ = asked(tmp_path, bare)
    answer(question, lambda row: {"3": "1", "8": "2", "5": "0"}[row["index"]])
    assert oracle.ask(torch.tensor([3, 8, 5]), bare, 0).values["y"].tolist() == [0, 1, 2]


def test_maps_of_labels_do_not_fit_into_a_table(tmp_path):
    items = TensorItems(torch.randn(9, 1, 3, 3), torch.zeros(9, 3, 3).long())
    test = TensorItems(torch.randn(2, 1, 3, 3), torch.zeros(2, 3, 3).long())
    data = ActiveDataModule(items, test, initial=1)
    data.setup()
    with pytest.raises(ValueError, match="write an oracle of your own"):
        FileOracle(tmp_path).ask(torch.tensor([3]), data, 0)
    with pytest.raises(ValueError, match="give a folder, or use it in a run"):
        FileOracle().ask(torch.tensor([3]), data, 0)


# --- the command ---------------------------------------------------------------------------------


def test_the_same_command_goes_on_once_the_answers_are_there(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    drawn = torch.Generator().manual_seed(0)
    x = torch.randn(40, 2, generator=drawn)
    kind = ["yes" if a > 0 else "no" for a, _ in x.tolist()]
    lines = [
        f"{a:.4f},{b:.4f},{k if i < 16 else ''}"
        for i, ((a, b), k) in enumerate(zip(x.tolist(), kind, strict=True))
    ]
    (tmp_path / "table.csv").write_text("\n".join(["a,b,kind", *lines]) + "\n")
    command = [
        *("run", "--config", "csv", "--data.path", "table.csv", "--data.target", "kind"),
        *("--data.test", "0.4", "--trainer.max_epochs", "2", "--run_dir", "out"),
        *("--oracle", "File"),
        *("--query_size", "3", "--budget", "6", "--progress", "false", "--strategy", "margin"),
    ]
    for r in range(2):
        (history,) = main(command)
        question = tmp_path / "out" / "queries" / f"round-{r:03d}.csv"
        said = capsys.readouterr().out
        assert f"fill in answer in out/queries/round-{r:03d}.csv" in said
        assert "one of no, yes, or skip, then give the same command again" in said
        assert set(read(question)[0]) == {"index", "a", "b", "answer"}
        if r == 1:
            answer(question, lambda row: "maybe")
            monkeypatch.setattr("sys.argv", ["lightning-al", *command])
            with pytest.raises(SystemExit) as stop:
                main()
            assert stop.value.code == 1
            error = capsys.readouterr().err
            assert "lightning-al: out/queries/round-001.csv: 3 fault(s)" in error
            assert error.count("expected one of no, yes, or skip; got 'maybe'") == 3
            assert "Traceback" not in error
        answer(question, lambda row: kind[int(row["index"])])
    (history,) = main(command)
    assert history.stopped == "the budget is spent"
    assert "what to try next" in capsys.readouterr().out
    rows = read(tmp_path / "out" / "acquired.csv")
    assert [row["label"] for row in rows] == [kind[int(row["index"])] for row in rows]
    assert all(int(row["index"]) >= 16 for row in rows)
    events = [r["event"] for r in read_journal(tmp_path / "out" / "journal.jsonl")[0]]
    assert events.count("labelled") == 2
