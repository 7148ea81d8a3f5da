"""Processes of GPyTorch from specifications: kernels by path, deep kernels, a user's own models.

GPyTorch is imported inside functions: it loads slowly.
"""

from __future__ import annotations

import copy
import functools
import inspect
import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from lightning_al.gp import Stationary
from lightning_al.gp.foreign import Foreign
from lightning_al.gp.hyperpriors import Prior
from lightning_al.gp.kernels import SHAPES
from lightning_al.gp.sparse import greedy_points

from .gpytorch_specs import PartSpec, called, class_of, from_spec, library, parsed
from .plain_values import is_plain

__all__ = ["FittedModel", "ModelRecipe", "quietly"]

SMOOTHNESS = {"matern12": 0.5, "matern32": 1.5, "matern52": 2.5}


def quietly() -> Any:
    """A context in which GPyTorch factorises exactly and does not check what it is given."""
    from contextlib import ExitStack

    settings = library().settings
    stack = ExitStack()
    stack.enter_context(settings.max_cholesky_size(100_000))  # else conjugate gradients, to 1e-2
    stack.enter_context(settings.debug(False))
    return stack


@dataclass(frozen=True)
class ModelRecipe:
    """How the process of one output is built; live modules in it are copied.

    Args:
        kernel: one of our names, a module, or what :func:`~.gpytorch_specs.parsed` reads.
        ard: give kernels one length scale a feature, where they take that and are not told.
        network: before the kernel.
        points: inducing points; None for all items.
        gp: a user's own model instead: a class (path) or a module.
        noise: prior of the noise variance; the search starts at its median.
        priors: whether kernels with short names have the priors of ``GPRegression``.
    """

    kernel: Any
    ard: bool
    network: nn.Module | None
    points: int | None
    gp: Any
    noise: Prior
    priors: bool

    def __post_init__(self) -> None:
        if self.gp is not None:
            _check_model(self.gp, self.points)
        elif not self._is_ours:
            self._theirs(1)  # refuses what cannot be built

    @property
    def approximate(self) -> bool:
        """Whether a variational distribution is fitted."""
        if self.gp is None:
            return False
        kind = type(self.gp) if isinstance(self.gp, nn.Module) else class_of(self.gp)
        return issubclass(kind, library().models.ApproximateGP)

    def inducing(self, n: int) -> int | None:
        """How many inducing points there are with n labelled items; None where it is exact."""
        if self.points is None or (self.points >= n and self.gp is None):
            return None
        return min(self.points, n)

    def build(self, x: Tensor, y: Tensor, *, choose: bool) -> FittedModel:
        """The process of one output, to be fitted: x [n, d], y [n], float64, standardised.

        Args:
            x: features.
            y: targets.
            choose: choose the inducing points among the items, rather than the first ones, which
                a checkpoint overwrites.

        Returns:
            A module with a ``model`` of GPyTorch, and the ``likelihood`` with its noise.

        Raises:
            ValueError: parts that do not fit together.
        """
        likelihood = _likelihood(self.noise)
        if self.gp is not None:
            model = self._own(x, y, likelihood, choose)
            return FittedModel(model, getattr(model, "likelihood", likelihood)).to(x)
        network = copy.deepcopy(self.network)
        if network is not None:
            network = network.to(x)
        z = _through(network, x)
        kernel = self._kernel(z.shape[1]).to(x)
        if (m := self.inducing(len(x))) is not None:
            with torch.no_grad():
                rows = greedy_points(Foreign(kernel), z, m) if choose else torch.arange(m)
            kernel = library().kernels.InducingPointKernel(kernel, z[rows].clone(), likelihood)
        model = _zero_mean_model()(x, y, likelihood, kernel, network)
        return FittedModel(model, likelihood).to(x)

    @property
    def _is_ours(self) -> bool:
        return isinstance(self.kernel, str) and self.kernel in SHAPES

    def _kernel(self, width: int) -> Any:
        return self._named(width) if self._is_ours else self._theirs(width)

    def _theirs(self, width: int) -> Any:
        """A fresh kernel that is not one of our names, for ``width`` features."""
        if isinstance(self.kernel, nn.Module):
            built = copy.deepcopy(self.kernel)
        else:
            kind, arguments = parsed(self.kernel)
            if not is_plain(arguments):
                raise ValueError(
                    "the inner parts of a kernel are plain values, got objects (a configuration "
                    "builds inner class_paths too early); write them {name: …, **arguments}, or "
                    "give the whole kernel as a module"
                )
            built = from_spec(PartSpec(kind, arguments), width if self.ard else None)
        if not isinstance(built, library().kernels.Kernel):
            raise ValueError(
                f"kernel must be a gpytorch.kernels.Kernel, got {type(built).__name__}; name one, "
                "such as RQKernel, or give the path of your own"
            )
        return built

    def _named(self, width: int) -> Any:
        kernels, ard = library().kernels, width if self.ard else None
        shape = (
            kernels.RBFKernel(ard_num_dims=ard)
            if self.kernel == "rbf"
            else kernels.MaternKernel(SMOOTHNESS[self.kernel], ard_num_dims=ard)
        )
        kernel = kernels.ScaleKernel(shape).double()
        median = 1.0
        if self.priors:
            # as in GPRegression; features of a network have no scale of their own
            median = 2.0 * math.sqrt(width) if self.network is None else 1.0
            _log_normal(shape, "lengthscale", Prior(median, 1.0))
            _log_normal(kernel, "outputscale", Prior(1.0, 1.0))
        shape.lengthscale, kernel.outputscale = median, 1.0
        return kernel

    def _own(self, x: Tensor, y: Tensor, likelihood: Any, choose: bool) -> Any:
        """A fresh copy of a user's model."""
        models = library().models
        if isinstance(self.gp, nn.Module):
            model: Any = copy.deepcopy(self.gp).to(x)
            if isinstance(model, models.ExactGP):
                model.set_train_data(x, y, strict=False)
            return model
        kind, arguments = parsed(self.gp)
        arguments = {k: from_spec(v, x.shape[1]) for k, v in arguments.items()}
        if issubclass(kind, models.ExactGP):
            return called(kind, (x, y, likelihood), arguments)
        if (m := self.inducing(len(x))) is not None:
            scale = torch.full((1,), 2.0 * math.sqrt(x.shape[1])).to(x)
            unit = Stationary("rbf", scale, torch.ones(()).to(x))
            rows = greedy_points(unit, x, m) if choose else torch.arange(m)
            arguments["inducing_points"] = x[rows].clone()
        return called(kind, (), arguments)


class FittedModel(nn.Module):
    """A model and its likelihood, each known by one name where the model holds it itself."""

    def __init__(self, model: nn.Module, likelihood: nn.Module) -> None:
        super().__init__()
        self.model = model
        if getattr(model, "likelihood", None) is not likelihood:
            self.separate = likelihood
        if getattr(self.likelihood, "noise", torch.zeros(2)).numel() != 1:
            raise ValueError(
                f"the likelihood must have one noise, as GaussianLikelihood has, got "
                f"{type(self.likelihood).__name__}"
            )

    @property
    def likelihood(self) -> Any:
        """With the noise."""
        return getattr(self.model, "likelihood", None) or self.separate


@functools.cache
def _zero_mean_model() -> Any:
    gpytorch = library()

    class ZeroMeanGP(gpytorch.models.ExactGP):  # type: ignore[name-defined,misc]
        """A kernel on the features, or on what a network makes of them; mean 0."""

        def __init__(self, x: Any, y: Any, likelihood: Any, kernel: Any, network: Any) -> None:
            super().__init__(x, y, likelihood)
            self.network, self.kernel = network, kernel

        def forward(self, x: Tensor) -> Any:
            z = x if self.network is None else self.network(x)
            return gpytorch.distributions.MultivariateNormal(z.new_zeros(len(z)), self.kernel(z))

    return ZeroMeanGP


def _through(network: nn.Module | None, x: Tensor) -> Tensor:
    """Features [n, E] that the kernel sees."""
    if network is None:
        return x
    training = network.training
    with torch.no_grad():
        z = network.eval()(x)
    network.train(training)
    if not isinstance(z, Tensor) or z.ndim != 2 or len(z) != len(x):
        got = list(z.shape) if isinstance(z, Tensor) else type(z).__name__
        raise ValueError(
            f"the network before a kernel must turn {list(x.shape)} into [{len(x)}, E], got {got}"
        )
    return z


def _likelihood(noise: Prior) -> Any:
    gpytorch = library()
    least = gpytorch.constraints.GreaterThan(noise.low)
    likelihood = gpytorch.likelihoods.GaussianLikelihood(noise_constraint=least).double()
    likelihood.noise = max(noise.median, 1.001 * noise.low)
    if noise.sigma is not None:
        _log_normal(likelihood.noise_covar, "noise", noise)
    return likelihood


def _log_normal(owner: Any, name: str, prior: Prior) -> None:
    """Register the density of the logarithm, as :class:`Prior` means it."""
    normal = library().priors.NormalPrior(math.log(prior.median), prior.sigma)
    owner.register_prior(f"{name}_prior", normal, functools.partial(_log_of, name))


def _log_of(name: str, owner: Any) -> Tensor:
    value: Tensor = getattr(owner, name)
    return value.log()


def _check_model(gp: Any, points: int | None) -> None:
    """Refuse what is no model of GPyTorch.

    Raises:
        LookupError: no such class.
        ValueError: another class, or inducing points that nobody said the number of.
    """
    models = library().models
    kind = type(gp) if isinstance(gp, nn.Module) else class_of(gp)
    if not issubclass(kind, (models.ExactGP, models.ApproximateGP)):
        raise ValueError(
            f"gp must be a gpytorch.models.ExactGP or ApproximateGP, got {kind.__name__}; a kernel "
            "goes into kernel=…, a network into network=…"
        )
    built = isinstance(gp, nn.Module) or issubclass(kind, models.ExactGP)
    wanted = None if built else inspect.signature(kind).parameters.get("inducing_points")
    if points is not None and wanted is None:
        raise ValueError(
            f"{kind.__name__} takes no inducing_points from here; leave out points={points}"
        )
    if wanted is not None and wanted.default is wanted.empty and points is None:
        raise ValueError(f"{kind.__name__} needs inducing points; say how many: points=…")
