"""A study of one's own reaches bench and report by its name alone; the referee knows none."""

import ast
from pathlib import Path

import pytest
from helpers.bench_parts import FACTS, SETTINGS, made, parts, write
from helpers.own_study import Mine
from matplotlib.figure import Figure

import lightning_al.benchmark
from lightning_al.benchmark import study as contract
from lightning_al.benchmark.grid import bench_of
from lightning_al.benchmark.report import report_of
from lightning_al.benchmark.study import STUDIES, Additions, Picture, Study, study_of
from lightning_al.cli import main
from lightning_al.registry import Registry


@pytest.fixture
def known(monkeypatch):
    """The registry with one study more, for a test."""
    mine: Registry[Study] = Registry("study", "studies", contract=Study)
    for name in STUDIES:
        mine.register(name)(STUDIES.factory(name))
    mine.register("mine")(Mine)
    monkeypatch.setattr(contract, "STUDIES", mine)
    return mine


def test_what_it_adds_stands_on_the_page_escaped(known, tmp_path):
    report = report_of(made(), {**FACTS, "study": "mine"}, tmp_path)
    text = report.page.read_text()
    sections = parts(text)
    for name in ("one", "two"):
        section = sections[name]
        assert "<h3>Mine &lt;b&gt;first&lt;/b&gt;</h3>" in section
        heads = section.split("Mine &lt;b&gt;", 1)[1]
        assert heads.index("how &lt;many&gt;</th>") < heads.index("ms fit</th>")
        assert '<td class="better">just 8</td>' in section
        assert section.count("<td>–</td>") >= 3  # of the strategies that it says nothing about
        assert "counted &lt;twice&gt;. Milliseconds" in section
        assert "10 a query: random ran 8 times, folders: no." in section
        assert "A &lt;small&gt; one." in section
        assert section.index("A &lt;small&gt; one.") < section.index("Where the time of a round")
        assert section.index("A large one.") > section.index("Where the time of a round")
        assert "<h3>Table &lt;mine&gt;</h3>" in section
        assert '<td>c &lt;d&gt;</td><td class="worse">e</td>' in section
        assert '<p class="soft">end</p>' in section
    assert "a study of &lt;mine&gt;” adds" in sections["How"]
    stems = {p.stem for p in report.pictures}
    assert {f"{w}-{d}-net-10-a-query" for w in ("beside", "below") for d in ("one", "two")} <= stems


def test_bench_and_report_ask_it_by_name(known, tmp_path, capsys):
    root = tmp_path / "out"
    changes = {"seeds": 1, "strategies": ["random"], "study": {"name": "mine", "least": 1}}
    config = write(tmp_path / "b.yaml", **changes)
    words = ["bench", "--config", config, "--out", str(root), "--workers", "0", "--quiet"]
    main(words)
    assert "mine: 1 of 1, asked 1" in capsys.readouterr().out
    report = main(["report", str(root)])
    assert "random ran 1 times, folders: yes." in report.page.read_text()
    assert "below-digits-mlp-10-a-query.png" in {p.name for p in report.pictures}
    other = write(tmp_path / "c.yaml", **{**changes, "study": {"name": "mine", "least": 0}})
    main(["bench", "--config", other, *words[3:]])  # told anew what it is held against
    assert "asked 0" in capsys.readouterr().out


def test_bench_ends_with_status_one_where_the_verdict_does_not_hold(known, tmp_path, capsys):
    config = write(tmp_path / "b.yaml", seeds=2, study={"name": "mine", "least": 3})
    words = ["bench", "--config", config, "--out", str(tmp_path / "out"), "--workers", "0"]
    with pytest.raises(SystemExit) as end:
        main([*words, "--quiet", "--shard", "0/2"])
    assert end.value.code == 1
    assert "mine: 2 of 4, asked 3" in capsys.readouterr().out


def test_a_grid_that_it_cannot_speak_of_is_refused_before_anything_runs(known):
    with pytest.raises(ValueError, match="least is at most 4"):
        bench_of({**SETTINGS, "study": {"name": "mine", "least": 5}})


@pytest.mark.parametrize(
    ("study", "said"),
    [
        ("mne", "no study named 'mne'.*did you mean 'mine'"),
        ({"name": "mine", "most": 3}, "study 'mine'.*most.*least=1"),
        ({"class_path": "helpers.bench_parts.nothing"}, "no study at"),
        ({"class_path": "pathlib.Path"}, "pathlib.Path is no study"),
        (
            {"class_path": "helpers.own_study.Nameless"},
            "it lacks name .see lightning_al.benchmark.study.Study",
        ),
    ],
)
def test_what_is_no_study_is_said_with_those_there_are(known, study, said):
    with pytest.raises((LookupError, ValueError), match=said):
        bench_of({**SETTINGS, "study": study})


def test_a_class_path_serves_without_registration(tmp_path, capsys):
    spec = {"class_path": "helpers.own_study.Mine", "init_args": {"least": 2}}
    assert study_of(spec) == Mine(2)
    config = write(tmp_path / "b.yaml", seeds=1, study=spec)
    root = tmp_path / "out"
    main(["bench", "--config", config, "--out", str(root), "--workers", "0", "--quiet"])
    assert "mine: 2 of 2, asked 2" in capsys.readouterr().out
    assert "random ran 1 times, folders: yes." in main(["report", str(root)]).page.read_text()


def test_where_no_study_is_known_the_mend_is_said(monkeypatch):
    monkeypatch.setattr(contract, "STUDIES", Registry("study", "studies"))
    with pytest.raises(LookupError, match=r"`import lightning_al.studies` first"):
        bench_of({**SETTINGS, "study": "mine"})
    assert bench_of(SETTINGS).study is None


def test_the_minimum_adds_nothing_and_judges_nothing(tmp_path):
    class Bare(Study):
        name = "bare"

    bare = Bare()
    assert bare.additions(None, None) == Additions()
    assert bare.verdict((), None) is None
    assert not bare.serves({})


def test_pictures_of_one_name_are_refused(known, tmp_path):
    @known.register("twice")
    class Twice(Mine):
        def additions(self, setting, evidence):
            return Additions(pictures=[Picture("curve", Figure(), "the referee's own name")])

    with pytest.raises(ValueError, match="two pictures of one page are named 'curve-one"):
        report_of(made(), {**FACTS, "study": "twice"}, tmp_path)


# --- the referee knows no paper ------------------------------------------------------------------


REFEREE = Path(lightning_al.benchmark.__file__).parent


@pytest.mark.parametrize("path", sorted(REFEREE.iterdir()), ids=lambda p: p.name)
def test_the_referee_imports_no_study_and_names_none(path):
    if path.suffix not in (".py", ".jinja"):
        return
    text = path.read_text()
    papers = [p.name for p in (REFEREE.parent / "studies").iterdir() if p.is_dir()]
    papers = [name for name in papers if name.isalpha()]
    assert {"asal", "pyrelational"} <= set(papers)
    assert not [name for name in papers if name in text.lower()]
    if path.suffix != ".py":
        return
    for node in ast.walk(ast.parse(text)):  # inside functions and for types too
        if isinstance(node, ast.Import):
            assert not [a.name for a in node.names if "studies" in a.name]
        if isinstance(node, ast.ImportFrom):
            assert "studies" not in (node.module or "")
            assert "studies" not in [a.name for a in node.names]
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            assert "studies" not in ast.unparse(node)
