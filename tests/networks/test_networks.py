"""Networks: how they are rebuilt, where their embedding is, and what an ensemble is."""

import copy

import pytest
import torch
from helpers.reading import embeddings
from torch import nn

from lightning_al import networks
from lightning_al.networks import MLP, Ensemble, ResNet18, SmallCNN
from lightning_al.tasks import Adapter

CASES = {
    "mlp": (lambda: MLP(6, (5, 4), 3, dropout=0.3, activation="tanh"), (6,), 4),
    "linear": (lambda: MLP(6, (), 3), (6,), 6),
    "cnn": (lambda: SmallCNN(2, 3, image_size=9, width=4, hidden=7), (2, 9, 9), 7),
    "resnet": (lambda: ResNet18(2, 3, dropout=0.1), (2, 8, 8), 512),
    "ensemble": (lambda: Ensemble(MLP(6, (5,), 3), 4), (6,), 20),
}


@pytest.fixture(params=CASES)
def case(request):
    torch.manual_seed(0)
    make, shape, features = CASES[request.param]
    return make().eval(), torch.randn(5, *shape), features


def test_spec_rebuilds_the_same_network(case):
    network, x, _ = case
    again = networks.build(copy.deepcopy(network.spec)).eval()
    assert type(again) is type(network)
    assert again.spec == network.spec
    again.load_state_dict(network.state_dict())
    torch.testing.assert_close(again(x), network(x))


def test_spec_holds_plain_values_only(case, tmp_path):
    torch.save(case[0].spec, tmp_path / "spec.pt")
    assert torch.load(tmp_path / "spec.pt", weights_only=True) == case[0].spec


def test_outputs_and_embedding_have_the_shapes_told(case):
    network, x, features = case
    out = network(x)
    assert out.shape == ((5, 4, 3) if isinstance(network, Ensemble) else (5, 3))
    names = networks.embedding_layer(network)
    kind = Adapter(embedding=names if isinstance(names, tuple) else (names,))
    raw, embedding = kind.run(network, x, embedding=True)
    assert embedding.shape == (5, features)
    torch.testing.assert_close(raw, out)


def test_last_layer_of_the_embedding_is_the_output(case):
    network, x, _ = case
    if isinstance(network, Ensemble):
        network = network.members[0]
    embedding = embeddings(network, x, Adapter(embedding=networks.embedding_layer(network)))
    last = [m for m in network.modules() if isinstance(m, nn.Linear)][-1]
    torch.testing.assert_close(last(embedding), network(x))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: MLP(), "in_features and outputs"),
        (lambda: SmallCNN(outputs=3), "in_channels"),
        (lambda: SmallCNN(1, 3, image_size=None), "image_size"),
        (lambda: SmallCNN(1, 3, image_size=7), "8 x 8"),
        (lambda: ResNet18(3), "outputs"),
        (lambda: MLP(2, (3,), 2, activation="relux"), "relux"),
        (
            lambda: Ensemble(MLP(2, (3,), 2), members=0),
            "members must be a whole number from 1, got 0",
        ),
        (
            lambda: networks.build({"class_path": "json.dumps"}),
            r"json.dumps is no network: .*-> Module",
        ),
        (lambda: networks.build({"class_path": "json.JSONDecoder"}), "network: it is no Module"),
        (
            lambda: networks.build(
                {"class_path": "lightning_al.networks.MLP", "init_args": {"depth": 1}}
            ),
            "no argument 'depth'",
        ),
        (
            lambda: networks.build(
                {"class_path": "lightning_al.networks.MLP", "init_args": {"hidden": "wide"}}
            ),
            "hidden must be a list of int, got 'wide'",
        ),
        (lambda: networks.build("MLP"), "class_path"),
    ],
)
def test_mistakes_are_named(make, words):
    with pytest.raises(ValueError, match=words):
        make()


def test_a_class_that_is_not_there_is_named_with_its_neighbour():
    with pytest.raises(LookupError, match=r"no network at 'torch\.nn\.Linea' .*mean 'Linear'"):
        networks.build({"class_path": "torch.nn.Linea"})


def test_resnet_keeps_small_images_large():
    network = ResNet18(3, 2)
    assert network.conv1.stride == (1, 1)
    assert network.layer1(network.bn1(network.conv1(torch.zeros(1, 3, 32, 32)))).shape[-1] == 32


def test_members_are_drawn_independently_of_each_other_and_the_prototype():
    torch.manual_seed(0)
    prototype = MLP(4, (8,), 2)
    ensemble = Ensemble(prototype, 3)
    weights = [m[1].weight for m in (*ensemble.members, prototype)]
    for i, a in enumerate(weights):
        for b in weights[:i]:
            assert (a != b).float().mean() > 0.99


def test_members_of_a_foreign_network_are_drawn_anew():
    class Foreign(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm, self.out = nn.BatchNorm1d(3), nn.Linear(3, 2)

        def forward(self, x):
            return self.out(self.norm(x))

    ensemble = Ensemble(Foreign(), 2)
    assert not torch.equal(ensemble.members[0].out.weight, ensemble.members[1].out.weight)
    assert not hasattr(ensemble, "spec")
    x = torch.randn(4, 3)
    torch.testing.assert_close(ensemble(x)[:, 1], ensemble.members[1](x))


def test_a_parameter_that_nothing_resets_is_refused():
    class Scale(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.ones(1))

        def forward(self, x):
            return self.scale * x

    with pytest.raises(ValueError, match=r"Scale.*reset_parameters"):
        Ensemble(Scale())


def test_a_subclass_does_not_inherit_a_wrong_spec():
    class Mine(MLP):
        def __init__(self):
            super().__init__(2, (3,), 2)

    assert networks.spec_of(Mine()) is None
