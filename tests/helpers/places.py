"""A pool of places without a model, for strategies that look at inputs and answers alone."""

import torch

from lightning_al.records import Context, Finite, Pool


class Places:
    """Of a workbench only what a policy may use: inputs, those of the labelled items first."""

    def __init__(self, known, inputs, context):
        self.at = torch.cat([known, torch.zeros(100 - len(known), known.shape[1]), inputs])
        self.labelled, self.context = torch.arange(len(known)), context

    def inputs(self, index):
        return self.at[index].split(4)

    def labelled_pool(self):
        return Pool(self.labelled, context=self.context, bench=self)


def pool_of(inputs, known, targets, *, remaining=5, round=0, box=None):
    """A pool without a model: inputs [N, D] of candidates, [L, D] of what is labelled."""
    context = Context(
        round=round,
        n_labelled=len(known),
        n_pool=len(inputs),
        targets=targets,
        remaining=remaining,
    )
    return Pool(
        torch.arange(len(inputs)) + 100,
        context=context,
        domain=Finite() if box is None else box,
        bench=Places(known, inputs, context),
    )
