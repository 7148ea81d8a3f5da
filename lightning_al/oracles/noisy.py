"""Answers that are wrong at times: confused classes, targets with Gaussian noise."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from lightning_al.records import Answers

from .wrapper import Wrapper, keyed, noise_rows

__all__ = [
    "NoisyOracle",
    "blur",
    "check_rates",
    "confuse",
    "confusion_matrix",
    "matrix_for",
    "refuse_numbers",
]

IGNORED = -100  # PyTorch's mark for places without a label


def confusion_matrix(rows: Any, what: str = "confusion") -> Tensor:
    """A confusion matrix as float64 [C, C]: row = true class, column = answer.

    Raises:
        ValueError: not square, negative, or rows that do not add up to 1.
    """
    matrix = torch.as_tensor(rows, dtype=torch.float64)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or len(matrix) < 2:
        raise ValueError(f"{what} must be a matrix [C, C], got the shape {list(matrix.shape)}")
    sums = matrix.sum(1)
    fine = bool(matrix.isfinite().all() and (matrix >= 0).all())
    if not fine or not torch.allclose(sums, torch.ones_like(sums), rtol=0, atol=1e-6):
        raise ValueError(
            f"{what}: each row holds the chances of the answers to one true class, numbers from 0 "
            f"that add up to 1; the rows add up to {sums.tolist()}"
        )
    return matrix


def uniform_confusion(rate: float, classes: int) -> Tensor:
    """Another class with chance ``rate``, all others alike; float64 [C, C]."""
    matrix = torch.full((classes, classes), rate / (classes - 1), dtype=torch.float64)
    return matrix.fill_diagonal_(1 - rate)


def check_rates(name: str, rates: Sequence[float], top: float = 1.0) -> None:
    """Refuse what is no chance (or, with an infinite ``top``, no deviation).

    Raises:
        ValueError: a number outside [0, top].
    """
    for rate in rates:
        if not 0 <= rate <= top or math.isinf(rate):
            span = "0 to 1" if top == 1 else "0 on"
            raise ValueError(f"{name} must be finite numbers from {span}, got {rate}")


def matrix_for(chance: Any, datamodule: Any) -> Tensor:
    """The confusion matrix [C, C] of a matrix, or of a chance of error over the data's classes.

    Raises:
        ValueError: the data's classes are unknown, or others than the matrix has.
    """
    classes = getattr(datamodule, "classes", None)
    if isinstance(chance, (int, float)):
        if classes is None:
            raise ValueError(
                "a chance of error needs the number of classes; set `classes` of the datamodule, "
                "or give a confusion matrix"
            )
        return uniform_confusion(float(chance), int(classes))
    matrix = confusion_matrix(chance)
    if classes is not None and len(matrix) != classes:
        raise ValueError(
            f"the confusion matrix is of {len(matrix)} classes, the data have {classes}"
        )
    return matrix


def refuse_numbers(labels: Tensor) -> None:
    """Refuse to confuse what are no classes.

    Raises:
        ValueError: numbers.
    """
    if labels.is_floating_point():
        raise ValueError(
            f"confusion is for classes, these answers are numbers ({labels.dtype}); give sd, a "
            "standard deviation in units of the target"
        )


def confuse(labels: Tensor, matrix: Tensor, draws: Tensor) -> Tensor:
    """Answers of an annotator with a confusion matrix, by the inverse of its distribution.

    Args:
        labels: true classes [K, *P], whole numbers; -100 stays.
        matrix: float64 [C, C], row = true class.
        draws: uniform [K, *P].
    """
    refuse_numbers(labels)
    known = labels != IGNORED
    if bool(((labels < 0) | (labels >= len(matrix)))[known].any()):
        raise ValueError(f"the confusion matrix is of {len(matrix)} classes, a label is outside")
    edges = matrix.cumsum(1)[labels.clamp_min(0)]  # [K, *P, C]
    answer = (draws[..., None] >= edges / edges[..., -1:]).sum(-1)
    return torch.where(known, answer.to(labels.dtype), labels)


def blur(targets: Tensor, sd: float, draws: Tensor) -> Tensor:
    """Targets [K, ...] with Gaussian noise of one standard deviation, in units of the target.

    Raises:
        ValueError: classes.
    """
    if not targets.is_floating_point():
        raise ValueError(
            f"sd is for numbers, these answers are classes ({targets.dtype}); give rate or "
            "confusion"
        )
    return (targets.double() + sd * draws).to(targets.dtype)


@dataclass(frozen=True)
class NoisyOracle(Wrapper):
    """Answers that are wrong at times; the same for an item whenever it is asked for.

    Give one of the three.

    Args:
        rate: chance that a class is replaced by another one, all others alike (homogeneous noise).
        confusion: chances [C, C] of each answer (column) to each true class (row).
        sd: standard deviation of Gaussian noise on numbers, in units of the target, the same for
            all items (homoscedastic).
        seed: for noise other than that of a second run with the same seed.
        oracle: the one whose answers are spoilt.
    """

    rate: float | None = None
    confusion: Sequence[Sequence[float]] | None = None
    sd: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        given = [n for n in ("rate", "confusion", "sd") if getattr(self, n) is not None]
        if len(given) != 1:
            raise ValueError(
                f"a noisy oracle takes one of rate, confusion and sd, got {given or 'none'}"
            )
        if self.rate is not None:
            check_rates("rate", [self.rate])
        if self.sd is not None:
            check_rates("sd", [self.sd], math.inf)
        if self.confusion is not None:
            confusion_matrix(self.confusion)

    def change(self, answers: Answers, index: Tensor, datamodule: Any) -> Answers:
        """Noise on what was answered.

        Raises:
            ValueError: class noise on numbers or the reverse, or another number of classes.
        """
        rows = noise_rows(answers, len(index))
        if not bool(rows.any()):
            return answers
        y = answers.values["y"].clone()
        shape = tuple(y.shape[1:])
        gaussian = self.sd is not None
        draws = keyed(index[rows], datamodule, "noise", self.seed, shape=shape, normal=gaussian)
        if self.sd is not None:
            y[rows] = blur(y[rows], self.sd, draws)
        else:
            chance = self.rate if self.confusion is None else self.confusion
            refuse_numbers(y)
            y[rows] = confuse(y[rows], matrix_for(chance, datamodule), draws)
        return replace(answers, values={**answers.values, "y": y})
