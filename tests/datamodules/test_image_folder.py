"""A user's own folder of images, some without a label."""

import numpy as np
import pytest
import torch
from jsonargparse import ArgumentParser
from PIL import Image

from lightning_al.datamodules.image_folder import ImageFolderDataModule
from lightning_al.datamodules.readers.image_items import ImageItems, ImageView, read_image


def paint(path, value=0, size=(12, 8), mode="RGB"):
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(value)
    shape = size[::-1] if mode == "L" else (*size[::-1], 3)
    Image.fromarray(rng.integers(256, size=shape, dtype=np.uint8)).save(path)


@pytest.fixture
def folder(tmp_path):
    """Ten cats, ten dogs in sub-folders; one is grey, one lies deeper."""
    root = tmp_path / "images"
    for i in range(9):
        paint(root / "cat" / f"{i}.png", i)
    paint(root / "cat" / "deeper" / "9.png", 9)
    for i in range(9):
        paint(root / "dog" / f"{i}.png", 100 + i)
    paint(root / "dog" / "grey.PNG", 200, mode="L")
    (root / "dog" / "notes.txt").write_text("no image")
    paint(root / ".thumbnails" / "x.png")
    return root


@pytest.fixture
def flat(tmp_path):
    """Twelve images in one folder and a CSV that labels six of them."""
    root = tmp_path / "images"
    for i in range(12):
        paint(root / f"{i:02}.png", i)
    table = tmp_path / "labels.csv"
    rows = [f"{i:02}.png,{('b', 'a')[i % 2]}" for i in range(6)]
    table.write_text("\n".join(["file,label", *rows, "06.png,", ""]))
    return root, table


def built(root, labels=None, **kwargs):
    kwargs = {"image_size": 6, **kwargs}
    dm = ImageFolderDataModule(str(root), None if labels is None else str(labels), **kwargs)
    dm.setup()
    return dm


def test_sub_folders_are_the_classes(folder):
    dm = built(folder, initial=4, val=2)
    assert len(dm.splits.train) == 20
    assert list(dm.class_names) == ["cat", "dog"]
    assert (dm.classes, dm.in_channels, dm.image_size) == (2, 3, 6)
    assert dm.given is None
    assert dm.splits.train.targets[dm.splits.test].bincount().tolist() == [2, 2]
    assert dm.splits.train.targets[dm.splits.val].bincount().tolist() == [1, 1]
    assert (len(dm.labelled), len(dm.pool)) == (4, 10)
    for i in range(20):
        assert dm.item_path(i).startswith(str(folder / dm.class_names[dm.splits.train.targets[i]]))
    images, labels = next(iter(dm.train_dataloader()))
    assert images.shape == (4, 3, 6, 6)
    assert (images.dtype, labels.dtype) == (torch.float32, torch.int64)
    assert dm.thumbnail(0).size == (12, 8)


def test_pixels_are_resized_and_normalised(folder):
    mean, std = (0.1, 0.2, 0.3), (0.5, 0.6, 0.7)
    dm = built(folder, image_size=5, mean=mean, std=std)
    with Image.open(dm.item_path(3)) as image:
        small = image.convert("RGB").resize((5, 5), Image.Resampling.BILINEAR)
    expected = (np.asarray(small) / 255 - mean) / std
    np.testing.assert_allclose(dm.splits.train[3][0].permute(1, 2, 0), expected, atol=1e-6)


def test_images_beside_the_sub_folders_have_no_label(folder):
    for i in range(3):
        paint(folder / f"new{i}.png", i)
    dm = built(folder)
    pool = [dm.item_path(i).rsplit("/", 1)[1] for i in dm.pool.tolist()]
    assert pool == ["new0.png", "new1.png", "new2.png"]
    assert len(dm.labelled) == 16  # all that are given, but for the test part


def test_a_csv_may_leave_images_without_a_label(flat):
    root, table = flat
    dm = built(root, table, test=2)
    assert list(dm.class_names) == ["a", "b"]
    assert dm.given.tolist() == list(range(6))
    assert set(dm.splits.test.tolist()) | set(dm.labelled.tolist()) == set(range(6))
    assert dm.pool.tolist() == list(range(6, 12))
    assert dm.item_path(7) == str(root / "07.png")
    with pytest.raises(ValueError, match="carry no label"):
        dm.acquire(torch.tensor([7]))
    dm.acquire(torch.tensor([7]), torch.tensor([1]))
    assert dm.answer(7) == "b"
    inputs, labels = next(iter(dm.train_dataloader()))
    assert len(inputs) == 5
    assert set(labels.tolist()) == {0, 1}


def test_file_names_may_be_absolute_and_bare_csv_cells_stay_text(flat, tmp_path):
    root, table = flat
    rows = [f"{root / f'{i:02}.png'}, {('NA', '01')[i % 2]}" for i in range(6)]
    table.write_text("\n".join(["label_note,file,label", *[f"x,{row}" for row in rows]]))
    dm = built(root, table, initial=2)
    assert list(dm.class_names) == ["01", "NA"]
    assert len(dm.labelled) == 2


def test_classes_without_an_example_can_be_named(flat):
    dm = built(*flat, class_names=["b", "c", "a"], test=2)
    assert dm.classes == 3
    assert dm.splits.train.targets[:2].tolist() == [0, 2]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("file,class\n00.png,a\n", r"no required column 'label'.*its columns are file, class"),
        ("name,label\n00.png,a\n", r"no required column 'file'"),
        (
            "file,label\n00.png,a\nzz.png,b\n",
            r"names 1 file\(s\) that are no images below .*zz\.png",
        ),
        ("file,label\n00.png,a\n./00.png,b\n", r"names 1 file\(s\) twice: 00\.png"),
        ("", "is empty"),
    ],
)
def test_faults_of_the_csv_are_named(flat, text, why):
    root, table = flat
    table.write_text(text)
    with pytest.raises(ValueError, match=rf"labels\.csv.*{why}"):
        built(root, table)


def test_other_faults_say_what_is_expected(flat, folder, tmp_path):
    root, table = flat
    with pytest.raises(FileNotFoundError, match=r"absent\.csv"):
        built(root, tmp_path / "absent.csv")
    with pytest.raises(FileNotFoundError, match="no image folder at"):
        built(tmp_path / "absent")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=r"no image below .*\.jpeg"):
        built(tmp_path / "empty")
    with pytest.raises(ValueError, match=r"labels a, b of .* are not among class_names: c, d"):
        built(root, table, class_names=["c", "d"])
    table.write_text("file,label\n00.png,a\n01.png,a\n")
    with pytest.raises(ValueError, match="at least two different classes, got a"):
        built(root, table)
    table.write_text("file,label\n00.png,\n")
    with pytest.raises(ValueError, match="has a label"):
        built(root, table, class_names=["a", "b"])
    with pytest.raises(ValueError, match="test_labels needs test_root"):
        ImageFolderDataModule(str(root), test_labels="x.csv")


def test_a_test_folder(folder, tmp_path):
    other = tmp_path / "test"
    paint(other / "dog" / "1.png")
    paint(other / "cat" / "1.png")
    dm = built(folder, test_root=str(other))
    assert dm.splits.test.targets.tolist() == [0, 1]
    assert len(dm.labelled) + len(dm.pool) == 20
    table = tmp_path / "test.csv"
    table.write_text("file,label\ndog/1.png,cat\ncat/1.png,cat\n")
    dm = built(folder, test_root=str(other), test_labels=str(table))
    assert dm.splits.test.targets.tolist() == [0, 0]
    paint(other / "bird" / "1.png")
    with pytest.raises(ValueError, match=r"test labels bird of .* are no classes of"):
        built(folder, test_root=str(other))
    paint(other / "1.png")
    with pytest.raises(ValueError, match=r"1 test images have no label: .*1\.png"):
        built(folder, test_root=str(other))


def test_an_unreadable_image_is_named_when_it_is_read(folder):
    broken = folder / "cat" / "3.png"
    broken.write_bytes(broken.read_bytes()[:60])
    with pytest.raises(ValueError, match=r"cat/3\.png cannot be read as an image"):
        read_image(broken)
    items = ImageItems([broken], torch.tensor([0]), ImageView(6, (0.0,) * 3, (1.0,) * 3))
    with pytest.raises(ValueError, match=r"cat/3\.png cannot be read as an image"):
        items[0]


def test_verify_names_all_files_that_are_no_images(folder):
    for i in range(12):
        (folder / "cat" / f"bad{i:02}.jpg").write_bytes(b"<html>")
    with pytest.raises(ValueError, match=r"12 of 32 files.*bad09\.jpg and 2 more") as caught:
        built(folder, verify=True)
    assert "bad10" not in str(caught.value)


def test_augmentation_reaches_training_and_not_the_pool(folder):
    dm = built(folder, augment=True, image_size=8)
    train, pool = dm.splits.train, dm.splits.pool
    reads = []
    for _ in range(2):
        torch.manual_seed(1)
        reads.append(train[0][0])
    assert torch.equal(*reads)
    assert not torch.equal(train[0][0], train[0][0])
    assert torch.equal(pool[0][0], pool[0][0])
    assert torch.equal(pool[0][0], built(folder, image_size=8).splits.train[0][0])


def test_an_augmented_view_of_a_plain_image_is_plain():
    view = ImageView(5, (0.0,) * 3, (1.0,) * 3, augment=True)
    image = Image.new("RGB", (31, 17), (51, 102, 204))
    for _ in range(20):
        torch.testing.assert_close(
            view(image), torch.tensor([0.2, 0.4, 0.8]).view(3, 1, 1).expand(3, 5, 5)
        )


def test_pictures_are_turned_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees
    Image.new("RGB", (12, 8)).save(tmp_path / "x.jpg", exif=exif)
    assert read_image(tmp_path / "x.jpg").size == (8, 12)


def test_workers_read_the_same_items(folder):
    one, two = built(folder), built(folder, num_workers=1)
    index = torch.arange(6)
    for (a, x), (b, y) in zip(one.bare_batches(index, 4), two.bare_batches(index, 4), strict=True):
        assert torch.equal(a, b)
        assert torch.equal(x, y)


def test_the_command_line_can_set_the_arguments(folder):
    parser = ArgumentParser()
    parser.add_class_arguments(ImageFolderDataModule, "data")
    args = [f"--data.root={folder}", "--data.mean=[0.5,0.5,0.5]", "--data.initial=one_per_class"]
    dm = ImageFolderDataModule(**parser.parse_args(args).data.as_dict())
    dm.setup()
    assert len(dm.labelled) == 2
