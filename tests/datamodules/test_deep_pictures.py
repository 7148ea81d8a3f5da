"""Pictures of more than 8 bits keep their grey values, or are refused."""

import numpy as np
import pytest
import torch
from PIL import Image

from lightning_al.datamodules import ImageFolderDataModule
from lightning_al.datamodules.readers.image_items import read_image

SIZE = 24
RAMP = np.linspace(0, 1, SIZE * SIZE, dtype=np.float32).reshape(SIZE, SIZE)


def folder(tmp_path, array, ext, **saving):
    for name in "ab":
        (tmp_path / name).mkdir()
        for i in range(6):
            Image.fromarray(array).save(tmp_path / name / f"{i}.{ext}", **saving)
    settings = {"mean": (0, 0, 0), "std": (1, 1, 1), "image_size": SIZE}
    return ImageFolderDataModule(str(tmp_path), initial=3, test=3, **settings)


DEEP = {
    "16 bits, all of them": ((RAMP * 65535).astype(np.uint16), "png", 1.0),
    "16 bits, a part": ((RAMP * 4095).astype(np.uint16), "tif", 4095 / 65535),
    "32 bits that hold 16": ((RAMP * 60000).astype(np.int32), "tif", 60000 / 65535),
    "floats": (RAMP, "tif", 1.0),
    "dark floats": (RAMP / 50, "tiff", 0.02),
}


@pytest.mark.parametrize("kind", DEEP)
def test_grey_values_survive(tmp_path, kind):
    array, ext, most = DEEP[kind]
    dm = folder(tmp_path, array, ext)
    with pytest.warns(UserWarning, match="are scaled to grey values from 0 to 1"):
        dm.setup()
    picture = dm.pool_items.inputs(torch.tensor([0]))[0]
    assert picture.shape == (3, SIZE, SIZE)
    torch.testing.assert_close(picture[0], torch.tensor(RAMP * most), atol=2e-5, rtol=0)
    assert torch.equal(picture[0], picture[2])
    assert len(picture[0].unique()) > 500  # more than 8 bits would tell
    assert dm.thumbnail(0).mode == "RGB"


@pytest.mark.parametrize(
    ("array", "said"),
    [
        (RAMP * 255, "between 0 and 1 .* got 0 to 255"),
        (RAMP - 0.5, "between 0 and 1 .* got -0.5 to 0.5"),
        (np.where(RAMP > 0.9, np.nan, RAMP).astype(np.float32), "between 0 and 1"),
        ((RAMP * 1e6).astype(np.int32), "between 0 and 65535 .* got 0 to 1e"),
        ((RAMP * -9).astype(np.int32), "between 0 and 65535 .* got -9 to 0"),
    ],
)
def test_an_unknown_range_is_refused_with_the_mend(tmp_path, array, said):
    with pytest.raises(ValueError, match=rf"0\.tif: grey values must lie {said}.*scale them"):
        folder(tmp_path, array, "tif").setup()


@pytest.mark.parametrize("mode", ["L", "1", "P", "RGB", "RGBA", "LA", "CMYK"])
def test_ordinary_pictures_are_rgb_as_before(tmp_path, mode, recwarn):
    path = tmp_path / "p.tif"
    source = Image.fromarray((RAMP * 255).astype(np.uint8)).convert(mode)
    source.save(path)
    assert read_image(path).mode == "RGB"
    assert np.array_equal(np.array(read_image(path)), np.array(source.convert("RGB")))
    assert not [w for w in recwarn if "grey" in str(w.message)]
