"""What an item looks like before any label: raw inputs, or the output of a frozen network.

A feature extractor is any callable ``inputs [n, ...] -> [n, E]``: :class:`Raw`, :class:`Backbone`,
or a module of your own. It must give the same for an item each time it is asked: its result is
kept for the whole run.
"""

from __future__ import annotations

import difflib
import pickle
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from lightning_al.randomness import seeded

__all__ = ["Backbone", "Raw", "as_images", "local_weights"]

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
PATIENCE = 30  # seconds without an answer, for a download


@dataclass(frozen=True)
class Raw:
    """The inputs themselves, flattened: [n, ...] -> float32 [n, E].

    Raises:
        ValueError: inputs of several parts, or of more shapes than one.

    >>> Raw()(torch.zeros(5, 2, 3)).shape
    torch.Size([5, 6])
    """

    def __call__(self, inputs: Any) -> Tensor:
        """Features [n, E] of a batch."""
        if not isinstance(inputs, Tensor) or inputs.ndim == 0 or inputs.is_nested:
            what = f"{type(inputs).__name__}"
            if isinstance(inputs, (tuple, list)):
                what += f" of {len(inputs)} parts"
            elif isinstance(inputs, Mapping):
                what += f" with the keys {sorted(map(str, inputs))}"
            raise ValueError(
                f"raw features are single tensors of one shape an item, and the inputs are a {what}"
                "; give features of your own, any callable inputs -> [n, E]"
            )
        return inputs.reshape(len(inputs), -1).float()


class Backbone(nn.Module):
    """A frozen torchvision network: images [n, 3 or 1, H, W] -> float32 [n, E].

    It stays in eval mode and takes no gradients. Grey images are repeated to three channels; those
    of another size are resized (bilinear, antialiased). Images of whole numbers (uint8) are divided
    by 255 and brought to ImageNet's channel means and deviations; floats are taken as they come,
    normalised by the data set's own transform (as the ready datamodules do), unless
    ``normalise`` says that they lie in [0, 1].

    Args:
        name: of a classification network in ``torchvision.models``.
        weights: None draws them from ``seed`` (the same in every process); "default" takes
            torchvision's best, from the cache of torch.hub or by download; or a file with a state
            dict (or a checkpoint that holds one under ``state_dict``), of which only tensors are
            read. A head of another size in it is left out where it is not needed.
        image_size: side in pixels, or (height, width); None leaves images as they are, but for
            vision transformers, which take one size only.
        layer: whose output gives the features, or with the suffix ``":input"`` whose input; the
            input of the last linear layer by default. Maps [n, E, H, W] and tokens [n, T, E] are
            averaged over their places.
        normalise: float images lie in [0, 1] and are brought to ImageNet's means and deviations.
        seed: of drawn weights.

    Raises:
        LookupError: no such network or layer.
        FileNotFoundError: weights that are not there and cannot be downloaded.
        ValueError: a file that holds no weights of this network; inputs that are no images.
    """

    def __init__(
        self,
        name: str = "resnet18",
        weights: str | Path | None = None,
        image_size: int | Sequence[int] | None = None,
        layer: str | None = None,
        normalise: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.name, self.weights, self.layer = name, weights, layer
        self.image_size, self.normalise, self.seed = image_size, normalise, seed
        with seeded(seed, 0, "backbone"):
            network = _network(name)
        linear = [n for n, m in network.named_modules() if isinstance(m, nn.Linear)]
        if layer is None and not linear:
            raise LookupError(f"{name} has no linear layer; say with layer=… what gives features")
        self._place = layer or f"{linear[-1]}:input"
        self._listened(network)  # a wrong layer is said before anything is read
        if weights is not None:
            state, source = _default(name) if weights == "default" else _local(Path(weights))
            unused = f"{linear[-1]}." if linear and self._place != linear[-1] else None
            _load(network, state, unused, name, source)
        self.network = network.eval().requires_grad_(False)

    def __repr__(self) -> str:
        names = ("name", "weights", "image_size", "layer", "normalise", "seed")
        return f"Backbone({', '.join(f'{n}={getattr(self, n)!r}' for n in names)})"

    @property
    def width(self) -> int | None:
        """E, where the layer that gives the features tells it."""
        layer: Any = self._listened(self.network)
        side = "in" if self._place.endswith(":input") else "out"
        names = (f"{side}_features", f"{side}_channels")
        return next((int(getattr(layer, n)) for n in names if hasattr(layer, n)), None)

    def train(self, mode: bool = True) -> Backbone:
        """Stays in eval mode: batch statistics must not move."""
        return super().train(False)

    def forward(self, inputs: Any) -> Tensor:
        """Features [n, E] of a batch of images."""
        images = self._images(inputs)
        heard: list[Any] = []

        def hear(_: nn.Module, given: tuple[Any, ...], out: Any) -> None:
            heard[:] = [given[0] if self._place.endswith(":input") else out]

        handle = self._listened(self.network).register_forward_hook(hear)
        try:
            self.network(images)
        finally:
            handle.remove()
        if not heard or not isinstance(heard[0], Tensor) or len(heard[0]) != len(images):
            got = type(heard[0]).__name__ if heard else "nothing"
            raise ValueError(
                f"layer {self._place!r} of {self.name} gives {got}, wanted a tensor with a row an "
                "image; name another layer"
            )
        found = heard[0]
        if found.ndim == 3:
            return found.mean(1).float()
        return (found.flatten(2).mean(2) if found.ndim > 3 else found.flatten(1)).float()

    def _listened(self, network: nn.Module) -> nn.Module:
        layers = dict(network.named_modules())
        name = self._place.removesuffix(":input")
        if not name or name not in layers:
            near = difflib.get_close_matches(name, layers, n=5) or list(network._modules)
            raise LookupError(f"{self.name} has no layer {name!r}; close: {', '.join(near)}")
        return layers[name]

    def _images(self, inputs: Any) -> Tensor:
        size = self.image_size or getattr(self.network, "image_size", None)
        wanted = (size, size) if isinstance(size, int) else None if size is None else tuple(size)
        return as_images(
            inputs, self.name, IMAGENET_MEAN, IMAGENET_STD, wanted, normalise=self.normalise
        )


def as_images(
    inputs: Any,
    name: str,
    mean: Sequence[float],
    std: Sequence[float],
    size: Sequence[int] | None,
    *,
    normalise: bool = False,
) -> Tensor:
    """Images [n, 3 or 1, H, W] as a network wants them: float32 [n, 3, *size].

    Args:
        inputs: whole numbers in 0..255, or floats.
        name: of the network, for messages.
        mean: of its channels, for pixels in [0, 1].
        std: of the same.
        size: (height, width) to resize to; None leaves them as they are.
        normalise: float images lie in [0, 1] and are brought to mean and deviation too.

    Raises:
        ValueError: inputs that are no images.
    """
    if not isinstance(inputs, Tensor) or inputs.ndim != 4 or inputs.shape[1] not in (1, 3):
        got = list(inputs.shape) if isinstance(inputs, Tensor) else type(inputs).__name__
        raise ValueError(
            f"{name} takes images [n, 3, H, W] or [n, 1, H, W], got {got}; for other "
            "inputs take Raw, or features of your own"
        )
    whole = not inputs.is_floating_point()
    images = inputs.float() / 255 if whole else inputs.float()
    images = images.expand(-1, 3, -1, -1)
    if whole or normalise:
        centre, spread = (images.new_tensor(v)[:, None, None] for v in (mean, std))
        images = (images - centre) / spread
    if size is not None and tuple(images.shape[2:]) != tuple(size):
        images = interpolate(images, tuple(size), mode="bilinear", antialias=True)
    return images


def _network(name: str) -> nn.Module:
    from torchvision import models

    known = models.list_models(module=models)
    if name not in known:
        near = difflib.get_close_matches(str(name), known, n=3) or known
        raise LookupError(f"torchvision.models has no {name!r}; close: {', '.join(near)}")
    extra = {"init_weights": True} if name in ("googlenet", "inception_v3") else {}
    network: nn.Module = models.get_model(name, weights=None, **extra)
    return network


def _default(name: str) -> tuple[Any, str]:
    """Torchvision's best weights, from torch.hub's cache or by download."""
    from torch.hub import get_dir, load_state_dict_from_url
    from torchvision.models import get_model_weights

    url = str(get_model_weights(name).DEFAULT.url)
    path = Path(get_dir()) / "checkpoints" / url.rpartition("/")[2]
    if path.is_file():
        return _local(path)
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(PATIENCE)
    try:
        state = load_state_dict_from_url(url, progress=False, check_hash=True, weights_only=True)
    except (OSError, RuntimeError) as error:  # RuntimeError: the hash is another
        raise FileNotFoundError(
            f"the weights of {name} are missing: {path.name} is not in {path.parent}, and {url} "
            f"could not be downloaded ({error}). Download it elsewhere and put it at {path}, or "
            "name a file of your own as weights, or take weights=None for a random network"
        ) from None
    finally:
        socket.setdefaulttimeout(before)
    return state, str(path)


def _local(path: Path) -> tuple[Any, str]:
    return local_weights(path), str(path)


def local_weights(path: Path) -> Any:
    """A state dict from a file; nothing but tensors and plain values is unpickled.

    Raises:
        FileNotFoundError: no file.
        ValueError: no state dict of plain tensors.
    """
    if not path.is_file():
        raise FileNotFoundError(
            f"no weights at {path}; give the file of a state dict, or 'default'"
        )
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, EOFError, RuntimeError) as error:
        first = str(error).partition("\n")[0]
        raise ValueError(
            f"{path} cannot be read as a state dict of plain tensors: {first}. Save one with "
            "torch.save(network.state_dict(), path)"
        ) from None
    if isinstance(state, Mapping) and isinstance(state.get("state_dict"), Mapping):
        return state["state_dict"]
    return state


def _load(network: nn.Module, state: Any, head: str | None, name: str, source: str) -> None:
    """Load a state dict; the head's part of it may be missing or of another size."""
    own = network.state_dict()
    if not isinstance(state, Mapping):
        raise ValueError(f"{source} holds a {type(state).__name__}, wanted a state dict of {name}")
    needed = {n: v for n, v in own.items() if head is None or not n.startswith(head)}
    given = {n: v for n, v in state.items() if n in needed or n not in own}
    optional = {n for n in needed if n.endswith("num_batches_tracked")}
    missing = sorted(set(needed) - set(given) - optional)
    unknown = sorted(set(map(str, given)) - set(needed))
    other = sorted(n for n in set(needed) & set(given) if given[n].shape != needed[n].shape)
    for what, names in (
        ("lacks", missing),
        ("has unknown", unknown),
        ("has other sizes of", other),
    ):
        if names:
            raise ValueError(
                f"{source} holds no weights of {name}: it {what} {', '.join(names[:3])}"
                f"{f' and {len(names) - 3} more' if len(names) > 3 else ''}"
            )
    network.load_state_dict(given, strict=False)
