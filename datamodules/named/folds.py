"""Who is trained on and who is tested: folds of a cross-validation, and the split of the set."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["own_split", "split"]


def split(
    targets: Tensor, fold: int, folds: int = 5, *, stratified: bool, seed: int | None
) -> tuple[Tensor, Tensor]:
    """Training and test positions of one fold.

    Args:
        targets: of all items [N].
        fold: 0..folds-1.
        folds: parts.
        stratified: each fold has each class's share.
        seed: of the shuffling; None for none, as in Scherer et al. (2022): folds are then blocks
            of rows in the order of the table (class by class where stratified).

    Returns:
        ascending positions of the training part and of the test part.

    Raises:
        ValueError: fewer than two folds, more than items, or no such fold.
    """
    if not 2 <= folds <= len(targets):
        raise ValueError(f"folds must lie in 2..{len(targets)}, got {folds}")
    if not 0 <= fold < folds:
        raise ValueError(f"fold must lie in 0..{folds - 1}, got {fold}")
    from sklearn.model_selection import KFold, StratifiedKFold

    kind = StratifiedKFold if stratified else KFold
    cut = kind(folds, shuffle=seed is not None, random_state=seed)
    labels = targets.numpy() if stratified else None
    parts = list(cut.split(torch.zeros(len(targets), 1).numpy(), labels))[fold]
    train, test = (torch.from_numpy(part) for part in parts)
    return train, test


def own_split(rows: int, train: int) -> tuple[Tensor, Tensor]:
    """The first ``train`` of ``rows`` items to train on, the others to test."""
    return torch.arange(train), torch.arange(train, rows)
