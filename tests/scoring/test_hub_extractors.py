"""Extractors of other libraries, by networks with drawn weights in local folders."""

import sys
import warnings

import pytest
import torch

from lightning_al.features import Sentences, Timm, Transformer

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "cat", "sat", "on", "mat", "dog"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A small text model with drawn weights, as ``save_pretrained`` leaves it."""
    transformers = pytest.importorskip("transformers")
    folder = tmp_path_factory.mktemp("model")
    (folder / "vocab.txt").write_text("\n".join(WORDS))
    tokenizer = transformers.BertTokenizerFast(str(folder / "vocab.txt"), model_max_length=8)
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=len(WORDS),
        hidden_size=8,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=8,
    )
    transformers.BertModel(config).save_pretrained(folder)
    return str(folder)


TEXTS = ["the cat sat", "dog", "on the mat the cat sat"]


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_a_text_has_one_vector_whatever_stands_beside_it(folder, pooling):
    model = Transformer(folder, pooling)
    found = model(TEXTS)
    assert found.shape == (3, model.width) == (3, 8)
    for i, text in enumerate(TEXTS):
        torch.testing.assert_close(model([text])[0], found[i], rtol=1e-4, atol=1e-5)
    assert not torch.allclose(found[0], found[1])
    unit = Transformer(folder, pooling, unit=True)(TEXTS)
    torch.testing.assert_close(unit, found / found.norm(dim=1, keepdim=True))


def test_mean_is_the_mean_of_the_tokens_that_are_there(folder):
    model = Transformer(folder)
    ids = torch.tensor([[2, 6, 3]])  # [CLS] cat [SEP]
    tokens = model.network(input_ids=ids).last_hidden_state[0]
    torch.testing.assert_close(model(["cat", TEXTS[2]])[0], tokens.mean(0), rtol=1e-4, atol=1e-5)


def test_long_texts_are_cut_and_said_once(folder):
    model = Transformer(folder)
    long = "the cat sat on the mat " * 3
    with pytest.warns(UserWarning, match="20 tokens are cut at 8"):
        found = model([long])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        torch.testing.assert_close(model([long]), found)
    assert Transformer(folder, max_length=4).max_length == 4


def test_a_model_of_sentence_transformers_is_mean_pooling_here(folder, tmp_path):
    library = pytest.importorskip("sentence_transformers")
    model = library.SentenceTransformer(folder, device="cpu")  # a mean over tokens is put on top
    model.max_seq_length = 8
    model.save(str(tmp_path / "s"))
    model = Sentences(str(tmp_path / "s"))
    torch.testing.assert_close(
        model(TEXTS), Transformer(folder, unit=True)(TEXTS), rtol=1e-4, atol=1e-5
    )
    assert model.width == 8
    with pytest.warns(UserWarning, match="20 tokens are cut at 8"):
        model(["the cat sat on the mat " * 3])


@pytest.mark.parametrize("inputs", ["the cat", torch.zeros(2), ["a", 3]])
def test_what_is_no_list_of_texts_is_refused(folder, inputs):
    with pytest.raises(ValueError, match="takes a list of texts"):
        Transformer(folder)(inputs)


@pytest.mark.parametrize("kind", [Transformer, Sentences])
def test_a_folder_without_weights_says_what_to_do(kind, tmp_path):
    pytest.importorskip("sentence_transformers")
    with pytest.raises(FileNotFoundError, match="cannot be had"):
        kind(str(tmp_path))


@pytest.mark.parametrize(
    ("make", "library", "extra"),
    [
        (lambda: Timm("resnet10t"), "timm", "timm"),
        (lambda: Transformer("x"), "transformers", "text"),
        (lambda: Sentences("x"), "sentence_transformers", "text"),
    ],
)
def test_a_library_that_is_not_there_is_named(monkeypatch, make, library, extra):
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(ImportError, match=rf"lightning-al\[{extra}\]"):
        make()


def test_a_network_of_timm_has_one_vector_an_image(tmp_path):
    pytest.importorskip("timm")
    model = Timm("resnet10t", weights=None, image_size=32)
    images = torch.randint(0, 256, (3, 3, 20, 20), dtype=torch.uint8)
    found = model(images)
    assert found.shape == (3, model.width)
    torch.testing.assert_close(model(images[1:2]), found[1:2], rtol=1e-4, atol=1e-5)
    torch.save(model.network.state_dict(), tmp_path / "w.pt")
    again = Timm("resnet10t", weights=str(tmp_path / "w.pt"), image_size=32, seed=7)
    torch.testing.assert_close(again(images), found)
    torch.save({"a": torch.zeros(1)}, tmp_path / "bad.pt")
    with pytest.raises(ValueError, match="holds no weights of resnet10t: it lacks"):
        Timm("resnet10t", weights=str(tmp_path / "bad.pt"))
    with pytest.raises(LookupError, match="no model 'resnet9'"):
        Timm("resnet9", weights=None)
