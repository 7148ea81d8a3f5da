"""The search for the parameters of a GPyTorch model, on all labelled items at once."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from lightning_al.threads import working_alone

from .gpytorch_models import quietly
from .gpytorch_specs import library

__all__ = ["ModelSearch", "fit_model"]

LOST = 1e30  # the loss where there is none: the line search turns back


@dataclass(frozen=True)
class ModelSearch:
    """How parameters are searched for.

    Args:
        optimizer: "lbfgs" (few parameters, no dropout) or "adam".
        steps: evaluations of the loss at most, or steps.
        lr: of Adam.
        weight_decay: half of it times the squared weights of a network is added to the loss, which
            is in nats an item.
    """

    optimizer: Literal["lbfgs", "adam"]
    steps: int
    lr: float
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        if self.optimizer not in ("lbfgs", "adam"):
            raise ValueError(f"optimizer is 'lbfgs' or 'adam', got {self.optimizer!r}")
        if self.steps < 1 or not self.lr > 0 or self.weight_decay < 0:
            raise ValueError(
                "steps must be at least 1, lr above 0, weight_decay at least 0, got "
                f"{self.steps}, {self.lr}, {self.weight_decay}"
            )


@working_alone(lambda process, x, *_, **__: len(x) ** 3)
def fit_model(
    process: Any, x: Tensor, y: Tensor, search: ModelSearch, *, hyperparameters: bool = True
) -> float:
    """Fit a model in place to x [n, d], y [n]; the objective reached, in nats an item.

    The objective of an ``ExactGP`` is the marginal likelihood (the collapsed bound where its kernel
    has inducing points), that of an ``ApproximateGP`` the evidence lower bound; both with the
    priors that are registered.

    Args:
        process: with ``model`` and ``likelihood``.
        x: float64.
        y: of mean 0.
        search: how.
        hyperparameters: search for them too, not for a variational distribution alone.

    Raises:
        ValueError: no covariance at the start, or numbers that are not finite at the end.
    """
    gpytorch, model, likelihood = library(), process.model, process.likelihood
    exact = isinstance(model, gpytorch.models.ExactGP)
    goal: Any = (
        gpytorch.mlls.ExactMarginalLogLikelihood(likelihood, model)
        if exact
        else gpytorch.mlls.VariationalELBO(likelihood, model, num_data=len(x))
    )
    named = [(name, p) for name, p in process.named_parameters() if p.requires_grad]
    if not hyperparameters:
        named = [(name, p) for name, p in named if "_variational_distribution." in name]
    free = [p for _, p in named]
    weights = [p for name, p in named if name.startswith("model.network.")]
    if not free:
        return math.nan
    if exact:
        model.set_train_data(x, y, strict=False)
    for part in model.modules():
        if isinstance(part, gpytorch.kernels.InducingPointKernel):
            part.likelihood = likelihood  # a deep copy of the kernel points to the old one's
    process.train()
    with torch.enable_grad(), quietly():

        def loss() -> Tensor:
            found: Tensor = -goal(model(x), y)
            if search.weight_decay and weights:
                squares = torch.stack([w.square().sum() for w in weights])
                found = found + 0.5 * search.weight_decay * squares.sum()
            return found

        value = _climb(loss, free, search)
    process.eval()
    if not math.isfinite(value) or not all(bool(p.isfinite().all()) for p in free):
        raise ValueError(
            f"the search for the parameters of {type(model).__name__} ended in numbers that are "
            "not finite; lower lr, or scale the features"
        )
    return value


def _climb(loss: Any, free: list[nn.Parameter], search: ModelSearch) -> float:
    if search.optimizer == "adam":
        adam, value = torch.optim.Adam(free, lr=search.lr), math.nan
        for _ in range(search.steps):
            adam.zero_grad()
            now = loss()
            now.backward()
            adam.step()
            value = -float(now.detach())
        adam.zero_grad()
        return value
    from scipy.optimize import minimize  # inside: SciPy loads slowly

    sizes = [p.numel() for p in free]

    def put(theta: Any) -> None:
        with torch.no_grad():
            parts = torch.from_numpy(np.array(theta)).split(sizes)
            for p, part in zip(free, parts, strict=True):
                p.copy_(part.view_as(p))

    def downhill(theta: Any) -> tuple[float, Any]:
        put(theta)
        try:
            now = loss()
            slopes = torch.autograd.grad(now, free, allow_unused=True)
        except (RuntimeError, ValueError):  # no positive-definite covariance here
            return LOST, np.zeros_like(theta)
        parts = [torch.zeros_like(p) if s is None else s for p, s in zip(free, slopes, strict=True)]
        slope = torch.cat([part.detach().double().cpu().flatten() for part in parts]).numpy()
        value = float(now.detach())
        good = math.isfinite(value) and np.isfinite(slope).all()
        return (value, slope) if good else (LOST, np.zeros_like(theta))

    start = torch.cat([p.detach().double().cpu().flatten() for p in free]).numpy()
    found = minimize(downhill, start, jac=True, method="L-BFGS-B", options={"maxfun": search.steps})
    if found.fun >= LOST:
        put(start)
        loss()  # says what is wrong, where it can
        raise ValueError(
            "the marginal likelihood is not defined at the start of the search; raise the noise, "
            "scale the features"
        )
    put(found.x)
    return -float(found.fun)
