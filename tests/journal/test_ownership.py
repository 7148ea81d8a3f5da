"""Folders of somebody else, and links that lead out of a run folder."""

import pytest

from lightning_al.journal.journal import JournalError, read_journal
from lightning_al.journal.ownership import check_above


def everything(folder):
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("rehearse", [False, True])
@pytest.mark.parametrize(
    "names",
    [
        ["thesis.tex"],
        ["acquired.csv", "metrics.csv"],
        ["baseline/results.txt"],
        ["logs/system.log", "config.yaml"],
        ["checkpoints/round-000.ckpt"],
        ["queries/round-003.csv"],
        ["journal.jsonl"],
        [".metrics.1.csv", "tmp1.scores", "data.csv"],
    ],
)
def test_a_folder_without_our_journal_is_left_alone(learner, names, overwrite, rehearse):
    folder = learner().run_dir
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text('{"mine": true}\n')
    before = everything(folder)
    with pytest.raises(JournalError, match="nothing in it is touched; give a new or an empty"):
        learner(overwrite=overwrite, rehearse=rehearse).run()
    assert everything(folder) == before


@pytest.mark.parametrize("left", [[], [".DS_Store"], [".lock", ".gitkeep"]])
def test_an_empty_folder_and_hidden_files_are_no_hindrance(learner, left):
    folder = learner().run_dir
    folder.mkdir()
    for name in left:
        (folder / name).write_text("")
    assert len(learner().run()) == 3


@pytest.mark.parametrize("torn", [b"", b"{", b'{"event":"sta', b'{"event":"start","format":2'])
def test_a_journal_cut_off_in_its_first_line_is_ours(learner, torn):
    folder = learner().run_dir
    folder.mkdir()
    (folder / "journal.jsonl").write_bytes(torn)
    assert len(learner().run()) == 3


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("name", [".lock", "checkpoints", "logs", "metrics.csv", "config.yaml"])
def test_links_inside_are_not_followed(learner, tmp_path, name, overwrite):
    learner().run()
    folder = learner().run_dir
    if (folder / name).exists():
        (folder / name).rename(tmp_path / "aside")
    is_folder = name in ("checkpoints", "logs")
    target = tmp_path / "elsewhere"
    if is_folder:
        target.mkdir()
        (target / "round-000.ckpt").write_text("mine")
    else:
        target.write_text("mine")
    (folder / name).symlink_to(target)
    with pytest.raises(JournalError, match=rf"{name} is a symbolic link.*put a file or folder"):
        learner(overwrite=overwrite, keep_checkpoints="last").run()
    file = target / "round-000.ckpt" if is_folder else target
    assert file.read_text() == "mine"


def test_a_run_folder_may_be_a_link_itself(learner, tmp_path):
    (tmp_path / "large-disk").mkdir()
    learner().run_dir.symlink_to(tmp_path / "large-disk")
    assert len(learner().run()) == 3
    assert (tmp_path / "large-disk" / "journal.jsonl").is_file()


def test_a_file_in_the_place_of_the_folder(learner):
    learner().run_dir.write_text("mine")
    with pytest.raises(NotADirectoryError, match="is a file; give another run_dir"):
        learner().run()
    assert learner().run_dir.read_text() == "mine"


def test_a_run_that_is_started_anew_keeps_its_lines_till_the_first_new_one(learner, monkeypatch):
    from lightning_al.journal import journal

    learner().run()
    path = learner().run_dir / "journal.jsonl"
    before = path.read_bytes()

    def stop(moment, event):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(journal, "fault_hook", stop)
        with pytest.raises(KeyboardInterrupt):
            learner(seed=1, overwrite=True).run()
    assert path.read_bytes() == before
    learner(seed=1, overwrite=True).run()
    assert read_journal(path)[0][0]["seed"] == 1


@pytest.mark.parametrize("names", [["curve.png"], ["seed-0/notes.txt"], ["data.csv", "a/b"]])
def test_the_folder_above_several_seeds_is_left_alone_too(tmp_path, names):
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("mine")
    before = everything(tmp_path)
    with pytest.raises(JournalError, match="no journal of a run"):
        check_above(tmp_path)
    assert everything(tmp_path) == before
    (tmp_path / "seed-1").mkdir()
    (tmp_path / "seed-1" / "journal.jsonl").write_text('{"event":"start"')
    check_above(tmp_path)
