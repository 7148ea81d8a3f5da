"""Items that a small change of their input takes across a decision boundary."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from lightning_al.records import Pool

from ..selection import relative_resolution, top_k
from ..sets import SetStrategy
from ..strategy_registry import STRATEGIES

__all__ = ["AdversarialBim", "AdversarialDeepFool", "bim_steps", "deepfool_steps"]

Logs = Callable[[Tensor], Tensor]


@dataclass(frozen=True, repr=False, eq=False)
class _Adversarial(SetStrategy):
    """Smallest squared change of the input that changes the predicted class."""

    needs: ClassVar[tuple[str, ...]] = ()
    keeps: ClassVar[tuple[str, ...]] = ()
    kind: ClassVar[str] = "classification"

    def pick(self, pool: Pool, k: int, generator: torch.Generator) -> Tensor:
        """The k smallest changes; items that no change moved come last."""
        scores = self.late_scores(pool)
        return top_k(scores, k, generator, resolution=relative_resolution(scores))

    def late_scores(self, pool: Pool) -> Tensor:
        """Minus the squared length of the change [N]; minus infinity where none was found.

        Raises:
            ValueError: inputs that are no floating-point tensors, or several labels an item.
        """
        from lightning_al.tasks import Adapter  # inside: Lightning loads slowly

        task = copy.deepcopy(pool.bench.task).eval().requires_grad_(False)
        adapter = Adapter.for_task(task)
        device = next((p.device for p in task.parameters()), torch.device("cpu"))

        def logs(inputs: Tensor) -> Tensor:
            raw = adapter.sampled(adapter.outputs(task, inputs))
            probs = adapter.reading.fields(raw, ["probs"])["probs"]
            if probs.ndim != 3:
                raise ValueError(
                    f"adversarial margins need one class an item, probs [n, S, C], got "
                    f"{list(probs.shape)}"
                )
            return probs.mean(1).double().clamp_min(1e-300).log()

        found = []
        with torch.inference_mode(False), torch.enable_grad():
            for inputs in pool.bench.inputs(pool.index):
                if not (isinstance(inputs, Tensor) and inputs.is_floating_point()):
                    raise ValueError(
                        "adversarial margins change inputs by their gradient, and these are "
                        f"{type(inputs).__name__}s without one; they need a tensor of floats"
                    )
                found.append(self._squared(logs, inputs.to(device)).cpu())
        return -torch.cat(found)

    def _squared(self, logs: Logs, inputs: Tensor) -> Tensor:
        """Squared change [n] of some inputs; infinity where there is none."""
        raise NotImplementedError


@STRATEGIES.register("adversarial-bim", kind="classification")
@dataclass(frozen=True, repr=False, eq=False)
class AdversarialBim(_Adversarial):
    """Smallest change by signed gradient steps that flips the class (Kurakin et al. 2017).

    The basic iterative method: each step moves every number of the input by ``step`` in the
    direction that raises the loss of the predicted class, until that class changes. All items of a
    batch together, for ``steps`` steps at most: the released original has no end to them.

    Source: Kurakin, Goodfellow and Bengio, Adversarial Examples in the Physical World (2017); to
    choose queries Zhan et al., A Comparative Survey of Deep Active Learning (2022).

    Args:
        step: in units of the input.
        steps: at most.
    """

    step: float = 0.05
    steps: int = 50

    def __post_init__(self) -> None:
        _check(self.steps, step=self.step)

    def _squared(self, logs: Logs, inputs: Tensor) -> Tensor:
        return bim_steps(logs, inputs, self.step, self.steps)


@STRATEGIES.register("adversarial-deepfool", kind="classification")
@dataclass(frozen=True, repr=False, eq=False)
class AdversarialDeepFool(_Adversarial):
    """Smallest change across the nearest linearised boundary (Ducoffe and Precioso 2018).

    DeepFool: each step goes to the nearest of the boundaries to the ``classes`` likeliest classes,
    as the gradient shows them, and a little beyond, until the class changes. All items of a batch
    together.

    Source: Ducoffe and Precioso, Adversarial Active Learning for Deep Networks: a Margin Based
    Approach (2018); Moosavi-Dezfooli, Fawzi and Frossard, DeepFool (2016).

    Args:
        steps: at most.
        overshoot: share of a step that is gone beyond the boundary.
        classes: the likeliest ones that are looked at, the predicted one not counted.
    """

    steps: int = 50
    overshoot: float = 0.02
    classes: int = 10

    def __post_init__(self) -> None:
        _check(self.steps, overshoot=self.overshoot, classes=self.classes)

    def _squared(self, logs: Logs, inputs: Tensor) -> Tensor:
        return deepfool_steps(logs, inputs, self.steps, self.overshoot, self.classes)


def bim_steps(logs: Logs, inputs: Tensor, step: float, steps: int) -> Tensor:
    """Squared length of the change [n] that signed steps need to flip each input [n, ...].

    Args:
        logs: log probabilities [n, C] of inputs, differentiable.
        inputs: floats.
        step: of each number.
        steps: at most; an input that is the same class after them has infinity.
    """
    at, found = inputs.detach().clone(), torch.full((len(inputs),), torch.inf).double()
    found = found.to(inputs.device)
    with torch.no_grad():
        first = logs(at).argmax(1)
    left = torch.arange(len(inputs), device=inputs.device)
    for _ in range(steps):
        if not len(left):
            break
        here = at[left].requires_grad_()
        own = logs(here).gather(1, first[left][:, None]).sum()
        (slope,) = torch.autograd.grad(own, here)
        at[left] = here.detach() - step * slope.sign()
        left = _settled(logs, at, inputs, first, left, found)
    return found


def deepfool_steps(
    logs: Logs, inputs: Tensor, steps: int, overshoot: float, classes: int
) -> Tensor:
    """Squared length of the change [n] that DeepFool needs to flip each input [n, ...].

    Args:
        logs: log probabilities [n, C] of inputs, differentiable.
        inputs: floats.
        steps: at most; an input that is the same class after them has infinity.
        overshoot: share of a step that is gone beyond the boundary.
        classes: the likeliest ones that are looked at, the predicted one not counted.
    """
    change = torch.zeros_like(inputs)
    found = torch.full((len(inputs),), torch.inf, device=inputs.device).double()
    with torch.no_grad():
        ranked = logs(inputs).topk(min(classes + 1, logs(inputs[:1]).shape[1]), dim=1).indices
    first, others = ranked[:, 0], ranked[:, 1:]
    left = torch.arange(len(inputs), device=inputs.device)
    for _ in range(steps):
        if not len(left):
            break
        here = (inputs[left] + (1 + overshoot) * change[left]).detach().requires_grad_()
        said = logs(here)
        own = said.gather(1, first[left][:, None]).squeeze(1)
        best = torch.full((len(left),), torch.inf, device=inputs.device).double()
        move = torch.zeros_like(here)
        for column in others[left].unbind(1):
            lead = own - said.gather(1, column[:, None]).squeeze(1)
            (slope,) = torch.autograd.grad(lead.sum(), here, retain_graph=True)
            squared = slope.flatten(1).double().square().sum(1)
            far = lead.detach().double().abs() / squared.sqrt().clamp_min(1e-12)
            nearer = (far < best) & (squared > 0)
            best = torch.where(nearer, far, best)
            length = (lead.detach().double().abs() + 1e-6) / squared.clamp_min(1e-24)
            shape = (-1, *[1] * (slope.ndim - 1))
            step = -(length.reshape(shape) * slope.double()).to(move.dtype)
            move = torch.where(nearer.reshape(shape), step, move)
        change[left] += move.detach()
        moved = inputs + (1 + overshoot) * change
        left = _settled(logs, moved, inputs, first, left, found)
    return found


def _settled(
    logs: Logs, at: Tensor, inputs: Tensor, first: Tensor, left: Tensor, found: Tensor
) -> Tensor:
    """Note the change of those whose class is another one now; the others."""
    with torch.no_grad():
        flipped = logs(at[left]).argmax(1) != first[left]
    done = left[flipped]
    found[done] = (at[done] - inputs[done]).flatten(1).double().square().sum(1)
    return left[~flipped]


def _check(steps: int, **positive: Any) -> None:
    wrong = {name: value for name, value in positive.items() if not value > 0}
    if steps < 1 or wrong:
        name, value = next(iter(wrong.items())) if wrong else ("steps", steps)
        raise ValueError(f"{name} is above 0, got {value}")
