"""Last-layer Laplace: the Gaussian that the last linear layer has around its trained weights."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from lightning_al.randomness import generator
from lightning_al.readings import Binary, Classes, Density, Labels, Numbers, Undeclared

from .curvature import Full, Kronecker, best_precision
from .protocol import Drawn, Reader, ShapeFree
from .quantiles import normal_quantiles

__all__ = ["LaplaceSession", "LastLayerLaplace"]

LARGEST_FULL = 1024  # weights of the last layer, above which "auto" takes Kronecker factors


@dataclass(frozen=True)
class LastLayerLaplace:
    """Draws from Laplace's approximation of the last linear layer's posterior.

    The covariance is the inverse of the Gauss-Newton Hessian of the labelled set's log likelihood
    at the trained weights (bias included) plus the prior precision. Members share everything
    before the last layer, so a pass costs one forward; member ``s`` is one function for every
    item, batch and rank. The likelihood is that of the reading: softmax of logits, a Bernoulli of
    each of independent logits (``Binary``, ``Labels``), or a Gaussian with the task's ``noise`` (or
    its second half of outputs, under ``likelihood="gaussian"``).

    MacKay (1992), "A Practical Bayesian Framework for Backpropagation Networks"; Daxberger et al.
    (2021), "Laplace Redux"; Kronecker factors: Ritter, Botev, Barber (2018), "A Scalable Laplace
    Approximation for Neural Networks".

    Args:
        members: S.
        structure: "full", "kronecker" (of features and outputs), or "auto": full up to 1,024
            weights.
        prior_precision: of each weight, above 0; "evidence" takes the one that maximises the
            Laplace evidence with the trained weights fixed.
        closed_form: regression only: instead of draws, members at evenly spaced quantiles of each
            output, which have exactly its mean and variance; item by item, see
            :class:`~lightning_al.posteriors.LatentQuantiles`.
        noise: variance of a regression's noise in the units of the raw outputs; None takes the
            task's.
    """

    members: int = 20
    structure: str = "auto"
    prior_precision: float | str = "evidence"
    closed_form: bool = False
    noise: float | None = None

    def __post_init__(self) -> None:
        if self.members < 2:
            raise ValueError(f"LastLayerLaplace needs 2 members or more, got {self.members}")
        if self.structure not in ("auto", "full", "kronecker"):
            raise ValueError(f"structure is auto, full or kronecker, got {self.structure!r}")
        given = self.prior_precision
        if given != "evidence" and (isinstance(given, str) or not given > 0):
            raise ValueError(f"prior_precision is above 0 or 'evidence', got {given!r}")
        if self.noise is not None and not self.noise > 0:
            raise ValueError(f"noise is a variance above 0, got {self.noise}")

    def start(self, seed: int, round: int) -> LaplaceSession:
        """Begin a scoring pass; its session wants the labelled set before it predicts."""
        return LaplaceSession(self, seed, round)


class LaplaceSession(ShapeFree):
    """One scoring pass of :class:`LastLayerLaplace`."""

    def __init__(self, settings: LastLayerLaplace, seed: int, round: int) -> None:
        self.it, self.seed, self.round = settings, seed, round
        self.precision: float | None = None  # of the prior, once learnt
        self.posterior: Full | Kronecker | None = None
        self._weights: Tensor | None = None  # [S, R, E + 1], the members' rows
        self._rows = 0  # outputs that are linear in the weights and uncertain

    # --- the labelled set --------------------------------------------------------------------

    def learn(self, task: nn.Module, adapter: Reader, batches: Callable[[], Iterable[Any]]) -> None:
        """Take the Hessian over the labelled set.

        Args:
            task: the trained module.
            adapter: how it is read.
            batches: gives batches of the labelled items' inputs, on the task's device.

        Raises:
            LookupError: no last linear layer whose input is the embedding.
            ValueError: a layer that does not give the outputs.
        """
        task.eval()
        layer = _last_layer(task, adapter)
        reading = adapter.reading
        mean = _weights(layer)
        self._rows = len(mean)
        if isinstance(reading, Numbers | Density):
            self._rows = reading.means(len(mean))
        elif self.it.closed_form:
            raise ValueError("closed_form is for regression; classes need draws")
        mean = mean[: self._rows]
        size = mean.numel()
        full = self.it.structure == "full" or (self.it.structure == "auto" and size <= LARGEST_FULL)
        hessian = (Full if full else Kronecker).zeros(*mean.shape)
        with torch.no_grad():
            for inputs in batches():
                raw, features = adapter.run(task, inputs, embedding=True)
                assert features is not None  # asked for
                _check_layer(layer, features, raw, task)
                curvature = self._curvature(task, reading, raw.double())
                hessian = hessian.plus(_with_one(features.double()), curvature)
        spectrum = hessian.spectrum()
        squared = float(mean.square().sum())
        given = self.it.prior_precision
        precision = best_precision(spectrum.values, squared) if given == "evidence" else given
        self.precision, self.posterior = float(precision), spectrum
        self._mean = mean
        draws = []
        for s in range(self.it.members if not self.it.closed_form else 0):
            noise = torch.randn(
                mean.shape, generator=generator(self.seed, self.round, "laplace", s)
            )
            draws.append(mean + spectrum.draw(noise.double(), self.precision))
        self._weights = torch.stack(draws) if draws else None

    def _curvature(self, task: nn.Module, reading: Any, raw: Tensor) -> Tensor:
        """Roots [n, R, R] of the likelihood's curvature in the outputs: curvature = root root^T.

        Raises:
            LookupError: outputs of which no likelihood is known here.
        """
        if isinstance(reading, Density) and self.it.noise is None:
            return torch.diag_embed(reading.variance(raw).rsqrt())
        if isinstance(reading, Numbers | Density):
            return torch.diag_embed(self._noise(task, raw).rsqrt())
        given = "logits" if isinstance(reading, Undeclared) else getattr(reading, "given", "")
        if given == "logits" and isinstance(reading, Classes | Undeclared):
            probs = raw.softmax(-1)
            root = probs.sqrt()
            return torch.diag_embed(root) - probs.unsqueeze(-1) * root.unsqueeze(-2)
        if given == "logits" and isinstance(reading, Binary | Labels):
            return torch.diag_embed((raw.sigmoid() * (-raw).sigmoid()).sqrt())
        raise LookupError(
            f"LastLayerLaplace knows the likelihoods of logits and of numbers, and the outputs are "
            f"{reading}; let the module give logits, or take MCDropout or an Ensemble"
        )

    def _noise(self, task: nn.Module, raw: Tensor) -> Tensor:
        """Noise variance [n, R] in the units of the raw outputs."""
        if self.it.noise is not None:
            return raw.new_full((len(raw), self._rows), self.it.noise)
        if raw.shape[-1] == 2 * self._rows:
            return raw[:, self._rows :].clamp(-12, 12).exp()
        own = getattr(task, "noise", None)
        if not isinstance(own, Tensor) or own.numel() != self._rows:
            raise LookupError(
                f"{type(task).__name__} says no noise variance; give LastLayerLaplace(noise=…) in "
                "the units of its raw outputs"
            )
        return own.to(raw).expand(len(raw), -1)

    # --- predictions -------------------------------------------------------------------------

    def members(
        self,
        task: nn.Module,
        adapter: Reader,
        inputs: Any,
        n: int,
        *,
        outputs: bool = True,
        embedding: bool = False,
    ) -> Drawn:
        """Outputs [n, S, ...] for one batch.

        Raises:
            RuntimeError: before :meth:`learn`.
        """
        if self.posterior is None or self.precision is None:
            raise RuntimeError("LastLayerLaplace needs the labelled set: call session.learn first")
        task.eval()
        with torch.no_grad():
            raw, features = adapter.run(task, inputs, embedding=True)
            assert features is not None  # asked for
            drawn = None
            if outputs:
                drawn = self._members(raw.double(), _with_one(features.double()))
        return Drawn(drawn, features if embedding else None)

    def _members(self, raw: Tensor, features: Tensor) -> Tensor:
        """Raw outputs [n, S, ...] of the members."""
        assert self.posterior is not None
        assert self.precision is not None
        if self._weights is None:
            variance = self.posterior.variance(features.cpu(), self.precision).to(raw)
            z = normal_quantiles(self.it.members, self._rows, self.seed, self.round).to(raw)
            mean = raw[:, : self._rows]
            outputs = mean.unsqueeze(1) + z * variance.sqrt().unsqueeze(1)
        else:
            weights = self._weights.to(features)
            outputs = torch.einsum("ne,sre->nsr", features[:, : weights.shape[2]], weights)
        rest = raw[:, None, self._rows :].expand(-1, outputs.shape[1], -1)
        return torch.cat([outputs, rest], dim=-1)


def _last_layer(task: nn.Module, adapter: Reader) -> nn.Linear:
    place = adapter.embedding
    names = (place,) if isinstance(place, str) else tuple(place or ())
    if len(names) == 1 and names[0].endswith(":input"):
        layer = dict(task.named_modules()).get(names[0].removesuffix(":input"))
        if isinstance(layer, nn.Linear):
            return layer
    raise LookupError(
        f"LastLayerLaplace needs one nn.Linear whose input is the embedding, and the adapter of "
        f"{type(task).__name__} names {place!r}; give Adapter(embedding='model.fc:input'). "
        "An ensemble has members of its own"
    )


def _weights(layer: nn.Linear) -> Tensor:
    """Weights and bias [R, E + 1], float64 on the CPU; a missing bias is left out: [R, E]."""
    weight = layer.weight.detach()
    parts = [weight] if layer.bias is None else [weight, layer.bias.detach().unsqueeze(1)]
    return torch.cat(parts, dim=1).double().cpu()


def _with_one(features: Tensor) -> Tensor:
    return torch.cat([features, features.new_ones(len(features), 1)], dim=1)


def _check_layer(layer: nn.Linear, features: Tensor, raw: Tensor, task: nn.Module) -> None:
    same = raw.ndim == 2 and raw.shape[1] == layer.out_features
    if not same or not torch.allclose(layer(features), raw, rtol=1e-2, atol=1e-3):
        raise ValueError(
            f"the outputs of {type(task).__name__} are not those of its last linear layer "
            f"({layer.in_features} -> {layer.out_features}); something follows it, or another "
            "layer gives them: name the layer in Adapter(embedding='…:input')"
        )
