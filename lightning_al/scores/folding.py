"""From the scores of one distribution to those of members and of places."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from .numerics import full

__all__ = ["of_mean", "over_places"]


def of_mean(measure: Callable[[Tensor], Tensor], probs: Tensor) -> Tensor:
    """A measure of the posterior's mean distribution: probs [N, S, C] -> measure([N, C]) = [N].

    >>> of_mean(entropy, torch.tensor([[[1.0, 0.0], [0.0, 1.0]]]))
    tensor([0.6931])
    """
    return measure(full(probs).mean(1))


def over_places(
    score: Callable[..., Tensor], *values: Tensor, mask: Tensor | None = None
) -> Tensor:
    """Mean of a score over the places of an item: values [N, S, C, *P] -> [N].

    Each place (pixel, token, label of a multi-label item) is scored as an item of its own:
    ``score`` gets ``[N * P, S, C]`` and gives ``[N * P]`` (or ``[N * P, S]``, averaged over S).
    Values without places, [N, S, C], pass through.

    Args:
        score: of items without places.
        values: with the places last.
        mask: [N, *P], the places that count (others are padding); an item without any scores 0.

    Raises:
        ValueError: a mask of another shape.

    >>> over_places(bald, torch.tensor([[[[1.0, 1.0], [0.0, 0.0]], [[0.0, 1.0], [1.0, 0.0]]]]))
    tensor([0.3466])
    """
    items, places = values[0].shape[0], values[0].shape[3:]
    folded = [v.flatten(3).permute(0, 3, 1, 2).flatten(0, 1) if v.ndim > 3 else v for v in values]
    scores = score(*folded)
    if scores.ndim == 2:
        scores = scores.mean(1)
    if not places:
        return scores
    each = scores.reshape(items, -1)
    if mask is None:
        return each.mean(1)
    if mask.shape != (items, *places):
        raise ValueError(
            f"the mask of places must be {[items, *places]}, got {list(mask.shape)}; it says which "
            "places of each item count"
        )
    counts = mask.reshape(items, -1).to(each.device)
    total = each.masked_fill(~counts, 0.0).sum(1)
    return total / counts.sum(1).clamp_min(1)
