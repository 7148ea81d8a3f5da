"""Small policies and histories for the tests of policies at work."""

import torch

from lightning_al.policies import Policy, SetPolicy

TINY = {"width": 8, "heads": 2, "hidden": 8}
HISTORY, BUDGET = 12, 10
FORMS = {
    "al": {},
    "dad": {"budget_aware": False},
    "safe": {"safe": True},
    "safe-dad": {"safe": True, "budget_aware": False},
    "sigmoid": {"squash": "sigmoid"},
}


def network(cls=SetPolicy, dimension=2, seed=0, **settings):
    """As if trained: no weight or bias is left where it starts, such as at 0 or 1."""
    torch.manual_seed(seed)
    net = cls(dimension, **(TINY | settings))
    with torch.no_grad():
        for value in net.parameters():
            value.add_(torch.randn_like(value), alpha=0.2)
    return net


def made(cls=SetPolicy, history=HISTORY, budget=BUDGET, **settings):
    return Policy.of(network(cls, **settings), history, budget, steps=3, loss=-0.5)


def told(n=4, users=None, seed=0, dimension=2):
    """Points, outcomes and safety measurements."""
    g = torch.Generator().manual_seed(seed)
    shape = (n,) if users is None else (users, n)
    return torch.rand(*shape, dimension, generator=g), *torch.randn(2, *shape, generator=g)
