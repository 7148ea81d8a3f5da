"""Metrics that users wrote, named by class path."""

import torch
import torchmetrics


class Brier(torchmetrics.Metric):
    """Fed probabilities and labels."""

    def __init__(self, scale=1.0):
        super().__init__()
        self.scale = scale
        self.add_state("total", torch.tensor(0.0), dist_reduce_fx="sum")
        self.add_state("count", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, probs, labels):
        hot = torch.nn.functional.one_hot(labels, probs.shape[1])
        self.total += (probs - hot).square().sum()
        self.count += len(labels)

    def compute(self):
        return self.scale * self.total / self.count


class Spread(torchmetrics.MeanMetric):
    """Its update takes three: mean, variance, targets."""

    def update(self, mean, variance, targets):
        super().update((targets - mean).square() / variance)


class Picky(Brier):
    """Cannot be fed probabilities."""

    def update(self, probs, labels):
        raise RuntimeError("only integers, please.\nNothing else")


def no_metric():
    return 1.0
