"""What the members of a posterior say of a batch, read as the adapter declares."""

import torch

from lightning_al.posteriors import Deterministic
from lightning_al.records import Predictions
from lightning_al.tasks import Adapter

HIDDEN = ("embedding", "head_input")


def read(session, task, inputs, needs, adapter=None, index=None):
    """The fields of ``needs`` for a batch of inputs, by the members of one pass."""
    adapter = Adapter.for_task(task) if adapter is None else adapter
    first = inputs
    while not isinstance(first, torch.Tensor):
        first = next(iter(first.values())) if isinstance(first, dict) else first[0]
    index = torch.arange(len(first)) if index is None else index
    wanted = [name for name in needs if name not in HIDDEN]
    hidden = [name for name in needs if name in HIDDEN]
    drawn = session.members(
        task, adapter, inputs, len(index), outputs=bool(wanted), embedding=bool(hidden)
    )
    fields = adapter.reading.fields(drawn.raw, wanted) if wanted else {}
    return Predictions(index, **fields, **dict.fromkeys(hidden, drawn.embedding))


def plain(task, inputs, needs, adapter=None):
    """The fields of ``needs`` for a batch of inputs, by the task as it is."""
    return read(Deterministic().start(0, 0), task, inputs, needs, adapter)


def embeddings(module, inputs, adapter=None):
    """Embeddings [n, E] of a batch of inputs, by the module as it is."""
    adapter = Adapter.for_task(module) if adapter is None else adapter
    return adapter.run(module, inputs, embedding=True)[1]
