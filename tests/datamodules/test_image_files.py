"""Files of an image folder: how they are found, named in the identity, and decoded in part."""

import os
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from lightning_al.datamodules import portraits
from lightning_al.datamodules.image_folder import ImageFolderDataModule
from lightning_al.datamodules.portraits import dataset_digest
from lightning_al.datamodules.readers.image_items import (
    SUFFIXES,
    ImageItems,
    ImageView,
    find_images,
    read_image,
)


def photo(path, size, turned=False):
    """A smooth picture, as photos are."""
    path.parent.mkdir(parents=True, exist_ok=True)
    x, y = np.meshgrid(np.linspace(0, 6, size[0]), np.linspace(0, 4, size[1]))
    channels = [np.sin(x + 0.3 * y), np.cos(y), np.sin(x - y)]
    exif = Image.Exif()
    if turned:
        exif[0x0112] = 6
    array = (np.stack(channels, -1) * 100 + 128).astype(np.uint8)
    Image.fromarray(array).save(path, quality=95, exif=exif)
    return path


def built(root, **changes):
    data = ImageFolderDataModule(str(root), **{"image_size": 16, "initial": 4, "test": 2} | changes)
    data.setup()
    return data


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "photos"
    for i in range(6):
        photo(root / "ab"[i % 2] / f"{i}.jpg", (160 + 8 * i, 120))
    return root


# --- found ----------------------------------------------------------------------------------------


def by_globbing(root):
    return sorted(
        relative.as_posix()
        for path in root.rglob("*")
        if path.suffix.lower() in SUFFIXES and path.is_file()
        for relative in [path.relative_to(root)]
        if not any(part.startswith(".") for part in relative.parts)
    )


@pytest.mark.parametrize("start", [".", "a", "a/b.c", "linked"])
def test_images_are_those_that_a_search_of_everything_finds(tmp_path, monkeypatch, start):
    monkeypatch.chdir(tmp_path)
    names = ["a/1.PNG", "a/b.c/2.jpeg", "a/b.c/d/3.tif", "a/b-c/4.gif", "a/.hidden/5.png", "6.webp"]
    for name in [*names, "a/.7.png", "a/notes.txt", "a/png", "a/x.png.bak", "a/b.c/ü ö.jpg"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "a/folder.png").mkdir()
    (tmp_path / "a/folder.png/8.bmp").touch()
    os.symlink(tmp_path / "6.webp", tmp_path / "a/9.webp")
    os.symlink(tmp_path / "gone", tmp_path / "a/10.png")
    os.symlink(tmp_path / "a/b-c", tmp_path / "a/b.c/link")
    os.symlink(tmp_path / "a", tmp_path / "linked")
    root = tmp_path / start
    assert find_images(root) == by_globbing(root)
    assert len(find_images(root)) >= 3


# --- named ----------------------------------------------------------------------------------------


def test_no_picture_is_decoded_for_the_identity(folder, monkeypatch):
    data = built(folder)

    def refuse(*_):
        raise AssertionError("a picture was decoded")

    monkeypatch.setattr(ImageItems, "__getitem__", refuse)
    data.portrait()


def grown(root):
    with (root / "a" / "0.jpg").open("ab") as file:
        file.write(b"0")


def renamed(root):
    (root / "a" / "0.jpg").rename(root / "a" / "00.jpg")


def relabelled(root):
    (root / "a" / "4.jpg").rename(root / "b" / "4.jpg")


@pytest.mark.parametrize("change", [grown, renamed, relabelled])
def test_another_file_makes_other_data(folder, change):
    before = built(folder).portrait()
    change(folder)
    assert built(folder).portrait() != before


@pytest.mark.parametrize("setting", [{"image_size": 8}, {"draft": True}, {"std": (1.0, 1.0, 1.0)}])
def test_another_view_makes_other_data(folder, setting):
    assert str(built(folder, **setting).portrait()) != str(built(folder).portrait())


def test_the_same_files_elsewhere_are_the_same_data(folder, tmp_path):
    before = built(folder).portrait()
    shutil.copytree(folder, tmp_path / "moved" / "deeper")
    assert str(built(tmp_path / "moved" / "deeper").portrait()) == str(before)


# --- large tensors --------------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [1, 10, 16, 41, 64])
def test_large_tensors_are_hashed_alike_by_any_number_of_threads(monkeypatch, rows):
    monkeypatch.setattr(portraits, "AT_ONCE", 256)
    data = torch.randn(rows, 5, generator=torch.Generator().manual_seed(0))
    digests = set()
    for threads in (1, 2, 4):
        monkeypatch.setattr(portraits, "THREADS", threads)
        digests.add(dataset_digest(torch.utils.data.TensorDataset(data)))
        digests.add(dataset_digest(torch.utils.data.TensorDataset(data.T.contiguous().T)))
    assert len(digests) == 1
    for row in range(rows):  # each block counts
        changed = data.clone()
        changed[row, row % 5] += 1e-3
        digests.add(dataset_digest(torch.utils.data.TensorDataset(changed)))
    assert len(digests) == 1 + rows


def test_blocks_that_change_places_are_other_data(monkeypatch):
    monkeypatch.setattr(portraits, "AT_ONCE", 256)
    data = torch.randn(64, 4, generator=torch.Generator().manual_seed(0))
    moved = torch.cat([data[16:32], data[:16], data[32:]])
    one, two = (dataset_digest(torch.utils.data.TensorDataset(x)) for x in (data, moved))
    assert one != two


# --- decoded in part ------------------------------------------------------------------------------


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize(
    ("size", "least", "part"),
    [
        ((800, 600), None, 1),
        ((800, 600), 601, 1),
        ((800, 600), 301, 1),
        ((800, 600), 300, 2),
        ((800, 600), 150, 4),
        ((600, 800), 75, 8),
        ((800, 600), 1, 8),
        ((30, 20), 64, 1),
    ],
)
def test_a_photo_is_decoded_at_the_smallest_part_that_will_do(tmp_path, size, least, part, turned):
    image = read_image(photo(tmp_path / "x.jpg", size, turned), least)
    seen = image.size[::-1] if turned else image.size
    assert seen == (size[0] // part, size[1] // part)
    assert part == 1 or min(image.size) >= least


@pytest.mark.parametrize("augment", [False, True])
@pytest.mark.parametrize("size", [16, 50, 224])
def test_what_a_view_sees_has_twice_the_pixels_that_it_gives(size, augment):
    view = ImageView(size, (0.0,) * 3, (1.0,) * 3, augment=augment)
    assert view.least is None
    drafted = ImageView(size, (0.0,) * 3, (1.0,) * 3, augment=augment, draft=True)
    smallest = drafted.least * (0.6**0.5 if augment else 1)
    assert 2 * size <= smallest < 2 * size + 1


@pytest.mark.parametrize("size", [(640, 480), (1000, 1000), (333, 777)])
def test_a_draft_differs_by_a_little(tmp_path, size):
    path, views = photo(tmp_path / "x.jpg", size), []
    for draft in (False, True):
        view = ImageView(32, (0.0,) * 3, (1.0,) * 3, draft=draft)
        views.append(ImageItems([path], torch.tensor([0]), view)[0][0])
    assert not torch.equal(*views)
    torch.testing.assert_close(*views, atol=8 / 255, rtol=0)


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif"])
def test_files_of_other_kinds_are_decoded_whole(tmp_path, suffix):
    path = photo(tmp_path / f"x.{suffix}", (640, 480))
    assert read_image(path, 20).size == (640, 480)


def test_by_default_pictures_are_exact(folder):
    data = built(folder)
    for i, path in enumerate(data.splits.train.files()):
        with Image.open(path) as image:
            assert torch.equal(data.splits.train[i][0], data._view(image.convert("RGB")))
    assert data.thumbnail(0).size == (128, 96)
