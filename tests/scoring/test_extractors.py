"""Feature extractors, and the bank that asks them once an item."""

import copy
import doctest
import re
import urllib.error
from pathlib import Path

import pytest
import torch
from helpers import small
from torch import nn
from torchvision import models

from lightning_al.scoring import extractors as module
from lightning_al.scoring.bank import Bank, check_features
from lightning_al.scoring.extractors import IMAGENET_MEAN, IMAGENET_STD, Backbone, Raw

CPU = torch.device("cpu")


def images(n=3, channels=3, side=32, seed=0):
    return torch.rand(n, channels, side, side, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def resnet():
    return Backbone()


def by_hand(network, x):
    """ResNet-18 without its last layer, layer by layer."""
    x = network.maxpool(network.relu(network.bn1(network.conv1(x))))
    for layer in (network.layer1, network.layer2, network.layer3, network.layer4):
        x = layer(x)
    return x.mean((2, 3))


# --- raw ------------------------------------------------------------------------------------------


def test_doctests():
    assert doctest.testmod(module).failed == 0


@pytest.mark.parametrize("kind", [torch.float32, torch.float64, torch.uint8, torch.bool])
def test_raw_inputs_are_flattened(kind):
    x = (10 * images(4, 2, 3)).to(kind)
    assert Raw()(x).dtype == torch.float32
    assert Raw()(x).tolist() == [[float(v) for v in row.flatten()] for row in x]
    assert Raw()(torch.tensor([1.0, 2.0])).tolist() == [[1.0], [2.0]]


@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        ((torch.zeros(2, 3), torch.zeros(2, 1)), "a tuple of 2 parts; give features of your own"),
        ({"b": torch.zeros(2), "a": torch.zeros(2)}, r"a dict with the keys \['a', 'b'\]"),
        (["text"], "a list of 1 parts"),
        (torch.tensor(1.0), "a Tensor"),
    ],
)
def test_raw_inputs_must_be_single_tensors(inputs, said):
    with pytest.raises(ValueError, match=said):
        Raw()(inputs)


# --- a frozen network -----------------------------------------------------------------------------


def test_features_are_those_before_the_last_layer(resnet):
    x = images()
    with torch.no_grad():
        torch.testing.assert_close(resnet(x), by_hand(resnet.network, x))
        torch.testing.assert_close(Backbone(layer="fc")(x), resnet.network(x))
        stem = resnet.network.maxpool(resnet.network.bn1(resnet.network.conv1(x)).relu())
        maps = resnet.network.layer2(resnet.network.layer1(stem))  # [n, 128, 4, 4]
        torch.testing.assert_close(Backbone(layer="layer2")(x), maps.mean((2, 3)))
        torch.testing.assert_close(Backbone(layer="layer3:input")(x), maps.mean((2, 3)))


def test_it_is_frozen(resnet):
    before = copy.deepcopy(resnet.state_dict())
    resnet.train()
    assert not any(m.training for m in resnet.modules())
    assert not any(p.requires_grad for p in resnet.parameters())
    a, b = resnet(images(4)), resnet(images(4)[:2])
    torch.testing.assert_close(a[:2], b)  # no batch statistics
    assert all(torch.equal(v, resnet.state_dict()[name]) for name, v in before.items())


def test_drawn_weights_are_those_of_the_seed_and_leave_the_global_state_alone():
    state = torch.get_rng_state()
    x = images()
    one, same, other = Backbone()(x), Backbone()(x), Backbone(seed=1)(x)
    assert torch.equal(torch.get_rng_state(), state)
    torch.testing.assert_close(one, same)
    assert not torch.allclose(one, other)


def test_grey_images_are_repeated_and_whole_numbers_normalised(resnet):
    grey = images(channels=1)
    torch.testing.assert_close(resnet(grey), resnet(grey.repeat(1, 3, 1, 1)))
    whole = (255 * images()).to(torch.uint8)
    mean, std = (torch.tensor(v).reshape(3, 1, 1) for v in (IMAGENET_MEAN, IMAGENET_STD))
    torch.testing.assert_close(resnet(whole), resnet((whole / 255 - mean) / std))
    torch.testing.assert_close(Backbone(normalise=True)(whole / 255), resnet(whole))


def test_images_are_brought_to_one_size(resnet):
    small_images = images(side=20)
    large = nn.functional.interpolate(small_images, (32, 32), mode="bilinear", antialias=True)
    torch.testing.assert_close(Backbone(image_size=32)(small_images), resnet(large))
    torch.testing.assert_close(Backbone(image_size=(32, 32))(images()), resnet(images()))


def test_a_vision_transformer_gets_its_own_size():
    assert Backbone("vit_b_32")(images(1)).shape == (1, 768)


@pytest.mark.parametrize("wrong", [torch.zeros(2, 64), torch.zeros(2, 4, 8, 8), "text"])
def test_other_inputs_are_refused(resnet, wrong):
    with pytest.raises(ValueError, match=r"resnet18 takes images \[n, 3, H, W\].*Raw"):
        resnet(wrong)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"name": "resnet81"}, "has no 'resnet81'; close: resnet18"),
        ({"layer": "layer9"}, "has no layer 'layer9'; close: layer"),
        ({"name": "squeezenet1_1"}, "no linear layer; say with layer="),
    ],
)
def test_wrong_names(arguments, said):
    with pytest.raises(LookupError, match=said):
        Backbone(**arguments)


# --- weights --------------------------------------------------------------------------------------


def other_network(classes=1000, seed=3):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return models.resnet18(weights=None, num_classes=classes).eval()


@pytest.mark.parametrize("classes", [1000, 7])
@pytest.mark.parametrize("nested", [False, True])
def test_weights_of_a_file(tmp_path, classes, nested):
    network, x = other_network(classes), images()
    state = network.state_dict()
    torch.save({"state_dict": state, "epoch": 3} if nested else state, tmp_path / "w.pt")
    with torch.no_grad():
        torch.testing.assert_close(Backbone(weights=tmp_path / "w.pt")(x), by_hand(network, x))


def test_a_file_without_a_head_will_do_unless_the_head_is_asked_for(tmp_path):
    state = {k: v for k, v in other_network().state_dict().items() if not k.startswith("fc.")}
    torch.save(state, tmp_path / "w.pt")
    assert Backbone(weights=str(tmp_path / "w.pt"))(images()).shape == (3, 512)
    with pytest.raises(ValueError, match=r"no weights of resnet18: it lacks fc.bias, fc.weight"):
        Backbone(weights=tmp_path / "w.pt", layer="fc")


def test_files_that_hold_something_else(tmp_path):
    path = tmp_path / "w.pt"
    state = other_network().state_dict()
    for spoilt, said in (
        ({k: v for k, v in state.items() if k != "conv1.weight"}, "lacks conv1.weight"),
        (state | {"more": torch.zeros(1)}, "has unknown more"),
        (state | {"conv1.weight": torch.zeros(1)}, "has other sizes of conv1.weight"),
        ({}, r"lacks bn1.bias, bn1.running_mean, bn1.running_var and \d+ more"),
        ([1, 2], "holds a list"),
        (other_network(), "cannot be read as a state dict of plain tensors"),  # code, not data
    ):
        torch.save(spoilt, path)
        with pytest.raises(ValueError, match=said) as caught:
            Backbone(weights=path)
        assert str(path) in str(caught.value)
    path.write_bytes(b"no archive")
    with pytest.raises(ValueError, match="cannot be read as a state dict"):
        Backbone(weights=path)
    with pytest.raises(FileNotFoundError, match=r"no weights at .*absent\.pt; give the file"):
        Backbone(weights=tmp_path / "absent.pt")


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """Torch.hub's folder for files, empty; nothing can be downloaded."""

    def refuse(*_, **__):
        raise urllib.error.URLError("no network in tests")

    monkeypatch.setattr("torch.hub.urlopen", refuse)
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path / "hub"))
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    return tmp_path / "hub" / "checkpoints"


def test_missing_weights_say_which_file_from_where_and_where_to(hub):
    with pytest.raises(FileNotFoundError) as caught:
        Backbone(weights="default")
    said = str(caught.value)
    url = models.get_model_weights("resnet18").DEFAULT.url
    assert url in said
    assert f"put it at {hub / Path(url).name}" in said
    assert "no network in tests" in said
    assert re.search("weights=None", said)


def test_default_weights_are_taken_from_the_cache(hub):
    network = other_network()
    url = models.get_model_weights("resnet18").DEFAULT.url
    torch.save(network.state_dict(), hub / Path(url).name)
    with torch.no_grad():
        ours = Backbone(weights="default")(images())
        torch.testing.assert_close(ours, by_hand(network, images()))


# --- the bank -------------------------------------------------------------------------------------


class Counted(nn.Module):
    """A small network that notes what it was asked."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Tanh(), nn.Linear(8, 3))
        self.seen = []

    def forward(self, x):
        self.seen.append(x)
        assert not torch.is_grad_enabled()
        return self.layers(x)


def data(**changes):
    found = small.datamodule(**({"eval_batch_size": 7} | changes))
    found.setup()
    return found


@pytest.mark.parametrize("budget", [2**30, 0])
def test_the_bank_gives_what_the_extractor_gives_and_asks_once_an_item(budget, tmp_path):
    extract, source = Counted(), data()
    bank = Bank(extract, source, budget, tmp_path)
    with torch.no_grad():
        whole = copy.deepcopy(extract).eval()(source.pool_items.inputs(torch.arange(60)))
    bank.fill(source.pool[:20], CPU)
    bank.fill(source.pool, CPU)
    for index in (source.pool, source.labelled, source.pool[[5, 3, 3]], source.pool[:0]):
        torch.testing.assert_close(bank.rows(index, CPU), whole[index])
    assert sum(len(x) for x in extract.seen) == 60
    asked = torch.cat(extract.seen).unique(dim=0)
    assert len(asked) == 60
    assert extract.training  # put back
    mapped = f"{tmp_path}/" in Path("/proc/self/maps").read_text()
    assert mapped == (budget == 0)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("out", [torch.float64, torch.bfloat16])
def test_features_of_any_dtype_and_rank_become_float32_rows(out):
    source = data()
    bank = Bank(lambda x: x.reshape(-1, 2, 2, 1).to(out).requires_grad_(), source)
    found = bank.rows(source.pool, CPU)
    wanted = source.pool_items.inputs(source.pool).to(out).float()
    assert found.dtype == torch.float32
    assert not found.requires_grad
    assert torch.equal(found, wanted)


def spoil(value):
    def extract(x):
        return torch.where(x[:, :1] > 3, value, x)

    return extract


@pytest.mark.parametrize(
    ("extract", "error", "said"),
    [
        (spoil(torch.nan), ValueError, r"are NaN or infinite, first: item\(s\) \[.*mend"),
        (spoil(torch.inf), ValueError, "NaN or infinite"),
        (lambda x: x[:-1], ValueError, r"features of 7 items must be \[7, E\], got \[6, 4\]"),
        (lambda x: x.mean(), ValueError, r"must be \[7, E\], got \[\]"),
        (lambda x: x[:, :0], ValueError, r"with E >= 1"),
        (lambda x: x.numpy(), TypeError, "must be a tensor .*got ndarray; return one tensor"),
        (lambda x: (x, x), TypeError, "must be a tensor .*got tuple"),
        (lambda x: x[:, : len(x) // 2], ValueError, r"of one size, got E = \[2, 3\]"),
    ],
)
def test_extractors_that_break_the_contract(extract, error, said):
    source = data()
    for ask in (Bank(extract, source).rows, Bank(extract, source).fill):
        with pytest.raises(error, match=said):
            ask(source.pool, CPU)


def test_the_items_that_are_not_finite_are_named():
    source = data()
    inputs = source.pool_items.inputs(source.pool)
    bad = source.pool[inputs[:, 0] > 3].tolist()
    first = [
        i for i in bad if i in source.pool[: (source.pool.tolist().index(bad[0]) // 7 + 1) * 7]
    ]
    with pytest.raises(ValueError, match="NaN") as caught:
        Bank(spoil(torch.nan), source).rows(source.pool, CPU)
    assert f"item(s) {first[:5]}" in str(caught.value)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [(Raw, "the class Raw; give an instance"), ("Raw", "got str"), (torch.zeros(3), "got Tensor")],
)
def test_what_is_no_extractor(wrong, said):
    with pytest.raises(TypeError, match=said):
        check_features(wrong)
