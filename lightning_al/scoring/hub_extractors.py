"""Frozen extractors of other libraries: timm for images, transformers for texts.

Each takes a name of its library's hub or a local folder; a folder is never looked up elsewhere.
"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from lightning_al.randomness import seeded

from .extractors import as_images

__all__ = ["Sentences", "Timm", "Transformer"]

SPECIAL = 8  # tokens that a tokenizer puts around a text, at most


def _library(name: str, extra: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ImportError(
            f"this extractor needs {name}: pip install 'lightning-al[{extra}]' ({error})"
        ) from error


def _weights_missing(name: str, error: Exception) -> FileNotFoundError:
    first = (str(error).strip() or type(error).__name__).splitlines()[0]
    return FileNotFoundError(
        f"the weights of {name} cannot be had ({first}); download them elsewhere and name their "
        "folder, or mend the name"
    )


class _Frozen(nn.Module):
    """Stays in eval mode and takes no gradients."""

    def train(self, mode: bool = True) -> Any:
        """Stays in eval mode: batch statistics must not move."""
        return super().train(False)


class Timm(_Frozen):
    """A frozen network of timm: images [n, 3 or 1, H, W] -> float32 [n, E].

    Images are resized to what the network was trained on; whole numbers (uint8) are divided by 255
    and brought to its channel means and deviations, floats are taken as they come.

    Args:
        model: its name in timm, such as ``vit_small_patch14_dinov2.lvd142m``.
        weights: "pretrained" takes timm's, from its cache or by download; None draws them from
            ``seed``; or a file with a state dict.
        image_size: side in pixels; None for that of the network.
        seed: of drawn weights.

    Raises:
        ImportError: timm is not installed.
        LookupError: no such model.
        FileNotFoundError: weights that are not there and cannot be downloaded.
        ValueError: a file that holds no weights of this network.
    """

    def __init__(
        self,
        model: str,
        weights: str | Path | None = "pretrained",
        image_size: int | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        timm = _library("timm", "timm")
        self.name, self.weights, self.image_size, self.seed = model, weights, image_size, seed
        name = model
        if not timm.is_model(name.partition(".")[0]):
            near = timm.list_models(f"*{name.partition('.')[0][:6]}*")[:3]
            hint = f"; close: {', '.join(near)}" if near else ""
            raise LookupError(f"timm has no model {name!r}{hint}; timm.list_models() names all")
        try:
            with seeded(seed, 0, "backbone"):
                network = timm.create_model(name, pretrained=weights == "pretrained", num_classes=0)
        except (OSError, RuntimeError) as error:
            raise _weights_missing(name, error) from error
        if weights not in (None, "pretrained"):
            _load_file(network, Path(str(weights)), name)
        said = timm.data.resolve_model_data_config(network)
        self._side = int(said["input_size"][-1]) if image_size is None else image_size
        self._mean, self._std = said["mean"], said["std"]
        self.width = int(network.num_features)
        self.network = network.eval().requires_grad_(False)

    def forward(self, inputs: Any) -> Tensor:
        """Features [n, E] of a batch of images."""
        images = as_images(inputs, self.name, self._mean, self._std, (self._side, self._side))
        found: Tensor = self.network(images)
        return found.float()


def _load_file(network: nn.Module, path: Path, name: str) -> None:
    from .extractors import local_weights

    state = local_weights(path)
    own = network.state_dict()
    kept = {k: v for k, v in state.items() if k in own}
    missing = sorted(set(own) - set(kept))
    other = sorted(k for k, v in kept.items() if v.shape != own[k].shape)
    if missing or other:
        what = f"lacks {missing[0]}" if missing else f"has another size of {other[0]}"
        raise ValueError(f"{path} holds no weights of {name}: it {what}")
    network.load_state_dict(kept)


class Transformer(_Frozen):
    """A frozen text model of transformers: texts [n] -> float32 [n, E].

    Args:
        model: its name on the hub, or a folder that ``save_pretrained`` of model and tokenizer
            wrote.
        pooling: "mean" of the last layer's tokens (padding left out), or "cls", its first token.
        max_length: tokens of a text at most; longer ones are cut, which is said once. None for what
            the model takes.
        unit: whether vectors are brought to length 1.

    Raises:
        ImportError: transformers is not installed.
        FileNotFoundError: weights that are not there and cannot be downloaded.
    """

    def __init__(
        self,
        model: str,
        pooling: Literal["mean", "cls"] = "mean",
        max_length: int | None = None,
        unit: bool = False,
    ) -> None:
        super().__init__()
        if pooling not in ("mean", "cls"):
            raise ValueError(f"pooling must be mean or cls, got {pooling!r}")
        library = _library("transformers", "text")
        self.name, self.pooling, self.unit = str(model), pooling, unit
        local = Path(model).expanduser()
        where = {"local_files_only": True} if local.is_dir() else {}
        try:
            self._tokenizer = library.AutoTokenizer.from_pretrained(self.name, **where)
            network = library.AutoModel.from_pretrained(self.name, **where)
        except (OSError, ValueError, KeyError) as error:
            raise _weights_missing(self.name, error) from error
        self.network = network.eval().requires_grad_(False)
        self.width = int(network.config.hidden_size)
        places = getattr(network.config, "max_position_embeddings", None)
        bounds = (max_length, places, self._tokenizer.model_max_length)
        self.max_length = min(int(b) for b in bounds if b is not None)
        self._told = False

    def portrait(self) -> Any:
        """Settings; the weights are in the module."""
        names = ("pooling", "max_length", "unit")
        return {name: getattr(self, name) for name in names}

    def forward(self, inputs: Any) -> Tensor:
        """Features [n, E] of a batch of texts."""
        texts = _texts(inputs, self.name)
        batch = self._tokenizer(
            texts, padding=True, truncation=True, max_length=self.max_length, return_tensors="pt"
        )
        if not self._told and batch["input_ids"].shape[1] >= self.max_length:
            self._told = _tell_cut(texts, self._tokenizer, self.max_length, self.name)
        device = next(self.network.parameters()).device
        batch = {k: v.to(device) for k, v in batch.items()}
        tokens: Tensor = self.network(**batch).last_hidden_state.float()
        if self.pooling == "cls":
            found = tokens[:, 0]
        else:
            mask = batch["attention_mask"][..., None].float()
            found = (tokens * mask).sum(1) / mask.sum(1).clamp_min(1)
        return torch.nn.functional.normalize(found, dim=1) if self.unit else found


class Sentences(_Frozen):
    """A frozen model of sentence-transformers: texts [n] -> float32 [n, E].

    Args:
        model: its name on the hub, or a folder that its ``save`` wrote.
        unit: whether vectors are brought to length 1.

    Raises:
        ImportError: sentence-transformers is not installed.
        FileNotFoundError: weights that are not there and cannot be downloaded.

    Source: Reimers and Gurevych, Sentence-BERT (2019).
    """

    def __init__(self, model: str, unit: bool = True) -> None:
        super().__init__()
        library = _library("sentence_transformers", "text")
        self.name, self.unit = str(model), unit
        where = {"local_files_only": True} if Path(model).expanduser().is_dir() else {}
        try:
            self.network = library.SentenceTransformer(self.name, device="cpu", **where)
        except (OSError, ValueError, KeyError) as error:
            raise _weights_missing(self.name, error) from error
        self.network.eval().requires_grad_(False)
        self.width = int(self.network.get_embedding_dimension())
        self._told = False

    def portrait(self) -> Any:
        """Settings; the weights are in the module."""
        return {"unit": self.unit}

    def forward(self, inputs: Any) -> Tensor:
        """Features [n, E] of a batch of texts."""
        texts = _texts(inputs, self.name)
        most = self.network.max_seq_length
        if not self._told and most is not None:
            long = [
                text for text in texts if len(text) + SPECIAL > most
            ]  # a letter a token or more
            self._told = _tell_cut(long, self.network.tokenizer, most, self.name)
        found: Tensor = self.network.encode(
            texts,
            convert_to_tensor=True,
            normalize_embeddings=self.unit,
            show_progress_bar=False,
        )
        return found.float().clone()


def _tell_cut(texts: Sequence[str], tokenizer: Any, most: int, name: str) -> bool:
    """Warn where a text has more tokens than a model takes; whether one has."""
    longest = max(map(len, tokenizer(list(texts))["input_ids"])) if texts else 0
    if longest <= most:
        return False
    warnings.warn(
        f"texts of up to {longest} tokens are cut at {most}, which {name} takes at most; what "
        "follows has no part in their vectors",
        stacklevel=3,
    )
    return True


def _texts(inputs: Any, name: str) -> list[str]:
    """A batch as a list of texts."""
    if isinstance(inputs, str) or not isinstance(inputs, Sequence):
        raise ValueError(f"{name} takes a list of texts, got {type(inputs).__name__}")
    if odd := [type(text).__name__ for text in inputs if not isinstance(text, str)]:
        raise ValueError(f"{name} takes a list of texts, got one with {odd[0]} in it")
    return list(inputs)
