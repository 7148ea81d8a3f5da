"""What a fitted model of GPyTorch says of new points, in standardised units."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from lightning_al.gp import ExactGP, SparseGP
from lightning_al.gp.foreign import Foreign

from .gaussian_process import Process
from .gpytorch_models import FittedModel, quietly
from .gpytorch_specs import library

__all__ = ["posterior_of"]

BLOCK = 4096  # points at a time; a user's model may lay out their covariance


def posterior_of(process: FittedModel, x: Tensor, y: Tensor, *, own: bool) -> Process:
    """The function given y [n] at x [n, d], float64.

    Kernels of GPyTorch are conditioned by :class:`~lightning_al.gp.ExactGP` and ``SparseGP``: the
    joint covariance of GPyTorch (1.15) with inducing points lacks what these do not explain of the
    prior. Models of a user's own speak for themselves.

    Args:
        process: fitted.
        x: features of the labelled set.
        y: targets.
        own: whether the model is a user's own.
    """
    model: Any = process.model
    if own:
        if isinstance(model, library().models.ExactGP):
            model.set_train_data(x, y, strict=False)
        process.train()
        process.eval()  # drops what GPyTorch remembers of other data
        return _Own(model)
    noise = process.likelihood.noise.detach().squeeze()
    z = x if model.network is None else model.network.eval()(x)
    if isinstance(model.kernel, library().kernels.InducingPointKernel):
        points = model.kernel.inducing_points.detach()
        given: Process = SparseGP.given(Foreign(model.kernel.base_kernel), noise, points, z, y)
    else:
        given = ExactGP.given(Foreign(model.kernel), noise, z, y)
    return given if model.network is None else _Behind(model.network, given)


@dataclass(frozen=True)
class _Behind:
    """A process of what a network makes of features."""

    network: nn.Module
    process: Process

    def moments(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and variance [m] at points [m, d]."""
        return self.process.moments(self.network.eval()(points))

    def joint(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Mean [m] and covariance [m, m] at points [m, d]."""
        return self.process.joint(self.network.eval()(points))


@dataclass(frozen=True)
class _Own:
    """What a user's model says."""

    model: Any

    def moments(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and variance [m] at points [m, d]."""
        with quietly():
            said = [self._at(part) for part in points.split(BLOCK)]
            mean = torch.cat([part.mean for part in said])
            variance = torch.cat([part.variance for part in said])
        return mean, variance.clamp_min(0.0)

    def joint(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Mean [m] and covariance [m, m] at points [m, d]."""
        with quietly():
            said = self._at(points)
            return said.mean, said.covariance_matrix.clone()

    def _at(self, points: Tensor) -> Any:
        self.model.eval()
        said = self.model(points)
        if said.mean.shape != points.shape[:1]:
            raise ValueError(
                f"{type(self.model).__name__} must predict [{len(points)}] for features "
                f"{list(points.shape)}, got {list(said.mean.shape)}; let forward return a "
                "MultivariateNormal over the items, one process an output"
            )
        return said
