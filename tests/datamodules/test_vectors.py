"""Vectors in files: every form gives the same, and what cannot be right is refused."""

import json

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch

from lightning_al.datamodules import EmbeddingsDataModule
from lightning_al.identity import portray

N, E = 40, 6


@pytest.fixture(scope="module")
def vectors():
    return np.random.default_rng(0).normal(3.0, 2.0, (N, E)).astype(np.float32)


NAMES = [("cat", "dog")[i % 2] for i in range(N)]


def saved(folder, form, vectors, names=NAMES):
    """The arguments that read vectors and labels in a form."""
    table = pd.DataFrame({"embedding": list(vectors), "label": names})
    if form == "parquet":
        table.to_parquet(folder / "v.parquet")
        return {"path": str(folder / "v.parquet")}
    if form == "arrow":  # as `save_to_disk` of a Hugging Face dataset writes it, in two files
        (folder / "set").mkdir()
        files = []
        for k, part in enumerate((table[:25], table[25:])):
            arrow = pa.Table.from_pandas(part, preserve_index=False)
            files.append({"filename": f"data-{k:05d}-of-00002.arrow"})
            place = str(folder / "set" / files[-1]["filename"])
            with pa.OSFile(place, "wb") as file, pa.ipc.new_stream(file, arrow.schema) as out:
                out.write_table(arrow)
        (folder / "set" / "state.json").write_text(json.dumps({"_data_files": files}))
        return {"path": str(folder / "set")}
    pd.DataFrame({"label": names}).to_csv(folder / "labels.csv", index=False)
    if form == "npy":
        np.save(folder / "v.npy", vectors)
        return {"path": str(folder / "v.npy"), "labels": str(folder / "labels.csv")}
    np.savez(folder / "v.npz", embedding=vectors)
    return {"path": str(folder / "v.npz"), "labels": str(folder / "labels.csv")}


def built(**arguments):
    data = EmbeddingsDataModule(**arguments)
    data.setup()
    return data


@pytest.mark.parametrize("form", ["npy", "npz", "parquet", "arrow"])
@pytest.mark.parametrize("scale", ["none", "unit", "standard"])
def test_every_form_gives_the_same_items(tmp_path, vectors, form, scale):
    data = built(**saved(tmp_path, form, vectors), scale=scale, test=0.25)
    x, y = data.items.dataset[torch.arange(N)]
    held = data.held["test"]
    free = np.setdiff1d(np.arange(N), held.numpy())
    wanted = {
        "none": vectors,
        "unit": vectors / np.linalg.norm(vectors, axis=1, keepdims=True),
        "standard": (vectors - vectors[free].mean(0)) / vectors[free].std(0),
    }[scale]
    assert x.dtype == torch.float32
    np.testing.assert_allclose(x.numpy(), wanted, rtol=1e-5, atol=1e-5)
    assert y.tolist() == [i % 2 for i in range(N)]
    assert data.class_names == ("cat", "dog")
    assert (data.classes, data.in_features, len(held)) == (2, E, 10)


def test_columns_far_from_zero_keep_their_digits_and_constant_ones_become_zero(tmp_path):
    rows = np.random.default_rng(1).normal(size=(N, 3))
    np.save(tmp_path / "v.npy", np.column_stack([1e6 + rows[:, 0], rows[:, 1], np.full(N, 7.0)]))
    np.save(tmp_path / "y.npy", np.arange(N) % 2)
    data = built(
        path=str(tmp_path / "v.npy"), labels=str(tmp_path / "y.npy"), scale="standard", test=4
    )
    x, _ = data.items.dataset[torch.arange(N)]
    kept = torch.ones(N, dtype=torch.bool)
    kept[data.held["test"]] = False
    assert x[kept].std(0, correction=0).tolist() == pytest.approx([1, 1, 0], abs=0.05)
    assert x[kept].mean(0).abs().max() < 0.05
    assert bool((x[:, 2] == 0).all())


def test_an_npy_stays_on_the_disk(tmp_path, vectors):
    data = built(**saved(tmp_path, "npy", vectors))
    storage = data.items.dataset.inputs[0]
    mapped = np.load(tmp_path / "v.npy", mmap_mode="r+")
    mapped[:] = 0
    mapped.flush()  # a page that was not copied shows what the file holds now
    assert bool((storage == 0).all())


def test_rows_without_a_label_are_pool_items(tmp_path, vectors):
    names = [name if i < 12 else "" for i, name in enumerate(NAMES)]
    data = built(**saved(tmp_path, "npy", vectors, names), test=4)
    assert sorted([*data.labelled.tolist(), *data.held["test"].tolist()]) == list(range(12))
    assert len(data.pool) == N - 12


def test_numbers_are_targets_of_a_regression(tmp_path, vectors):
    np.save(tmp_path / "v.npy", vectors)
    np.save(tmp_path / "y.npy", np.arange(N) / 3)
    data = built(path=str(tmp_path / "v.npy"), labels=str(tmp_path / "y.npy"), task="regression")
    assert data.outputs == 1
    assert data.labels(torch.tensor([6])).tolist() == [2.0]


def test_a_second_file_is_the_test_set(tmp_path, vectors):
    (tmp_path / "other").mkdir()
    other = saved(tmp_path / "other", "npy", vectors[:8], NAMES[:8])
    first = saved(tmp_path, "npy", vectors)
    data = built(**first, test=other["path"], test_labels=other["labels"], scale="standard")
    assert len(data.splits.test) == 8
    x, _ = data.splits.test[torch.arange(8)]
    assert torch.equal(x, data.items.dataset[torch.arange(8)][0])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"path": "nowhere.npy"}, "no vectors at"),
        ({"path": "v.txt"}, "no file of vectors that is known"),
        ({"scale": "both"}, "scale must be one of none, unit, standard"),
        ({"task": "ranking"}, "task must be one of"),
        ({"labels": None}, "no column beside them; say with labels=FILE"),
        ({"labels": "short.npy"}, "39 labels for the 40 vectors"),
        ({"labels": "wide.npy"}, r"must hold labels \[N\]"),
        ({"labels": "bad.npy"}, "no .npy file of labels"),
        ({"target": "kind", "labels": "labels.csv"}, "no target column 'kind'"),
        ({"test": "narrow.npy", "test_labels": "labels.csv"}, "have length 5, those of"),
        ({"test_labels": "labels.csv"}, "test_labels needs test"),
        ({"path": "nan.npy"}, r"NaN or infinite values, first in the item\(s\) 3"),
        ({"path": "cube.npy"}, r"must hold vectors \[N, E\]"),
        ({"path": "objects.npy"}, "no .npy file of numbers"),
        ({"path": "one.npz"}, "holds no array 'embedding'"),
    ],
)
def test_what_cannot_be_right_is_refused(tmp_path, vectors, change, said):
    arguments = saved(tmp_path, "npy", vectors)
    (tmp_path / "v.txt").write_text("1 2")
    np.save(tmp_path / "short.npy", np.zeros(39, int))
    np.save(tmp_path / "wide.npy", np.zeros((N, 2)))
    (tmp_path / "bad.npy").write_text("no")
    np.save(tmp_path / "narrow.npy", vectors[:, :5])
    np.save(tmp_path / "nan.npy", np.where(np.arange(N)[:, None] == 3, np.nan, vectors))
    np.save(tmp_path / "cube.npy", vectors[None])
    np.save(tmp_path / "objects.npy", np.array([None, 1], dtype=object))
    np.savez(tmp_path / "one.npz", x=vectors)
    files = {"path", "labels", "test_labels"}
    change = {
        k: str(tmp_path / v) if (k in files or str(v).endswith(".npy")) and v else v
        for k, v in change.items()
    }
    with pytest.raises((ValueError, FileNotFoundError), match=said):
        built(**{**arguments, **change})


def test_vectors_of_unequal_length_and_missing_ones_name_their_rows(tmp_path):
    for name, rows, said in (
        ("odd", [[1.0, 2.0], [1.0, 2.0], [1.0]], "row 0 has 2 and 1 others do not, first: row 2 "),
        ("none", [[1.0, 2.0], None, [1.0, 3.0]], r"1 rows of 'embedding' hold no vector.*\[1\]"),
        ("flat", [1.0, 2.0, 3.0], "must hold vectors, it holds double"),
    ):
        path = tmp_path / f"{name}.parquet"
        pd.DataFrame({"embedding": rows, "label": ["a", "b", "a"]}).to_parquet(path)
        with pytest.raises(ValueError, match=said):
            built(path=str(path), initial=1)


def test_a_folder_that_is_no_dataset_says_how_to_write_one(tmp_path):
    with pytest.raises(ValueError, match="save_to_disk"):
        built(path=str(tmp_path))


def test_the_identity_follows_vectors_labels_and_scale(tmp_path, vectors):
    first = saved(tmp_path, "npy", vectors)

    def shown(**arguments):
        return portray(built(**arguments).portrait())

    same = shown(**first)
    assert shown(**first) == same
    assert shown(**first, scale="unit") != same
    (tmp_path / "b").mkdir()
    moved = vectors.copy()
    moved[17, 2] += 1
    other = saved(tmp_path / "b", "npy", moved)
    assert shown(**other) != same
    (tmp_path / "c").mkdir()
    names = [*NAMES[:-1], NAMES[0]]
    assert shown(**saved(tmp_path / "c", "npy", vectors, names)) != same
