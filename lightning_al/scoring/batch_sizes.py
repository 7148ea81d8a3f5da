"""How many items are scored at once: more where the network is small and its data lie in memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from torch import Tensor, nn

from lightning_al.compat import is_compiled

__all__ = ["Footprint", "growing"]

MOST = 8192  # items a batch
BYTES = 2**24  # that inputs and the outputs of all layers may take in a batch


class Footprint:
    """Bytes an item that the layers of a task give out, watched while it runs.

    Only a task all of whose parameters lie in torch's own plain layers can be watched so: what
    another one holds on the way is not seen.

    Args:
        task: the module.
    """

    def __init__(self, task: nn.Module) -> None:
        self._given = 0
        leaves = [m for m in task.modules() if next(m.children(), None) is None]
        owned = {id(p) for m in leaves if _plain(m) for p in m.parameters()}
        parameters = [id(p) for p in task.parameters()]
        compiled = any(is_compiled(m) for m in task.modules())
        self.known = bool(parameters) and not compiled and owned >= {*parameters}
        self._hooks = [m.register_forward_hook(self._add) for m in leaves] if self.known else []

    def _add(self, module: nn.Module, inputs: Any, outputs: Any) -> None:
        if isinstance(outputs, Tensor):
            self._given += outputs.nbytes

    def close(self) -> None:
        """Watch no more."""
        for hook in self._hooks:
            hook.remove()
        self._hooks = []

    def size(self, n: int, inputs: int) -> int:
        """Items a batch, after one of n items whose inputs take so many bytes an item."""
        if not self.known or not self._given:
            return n
        return max(n, min(MOST, BYTES // max(self._given // n + inputs, 1)))


def _plain(layer: nn.Module) -> bool:
    return type(layer).__module__.startswith("torch.nn.modules.")


def growing(datamodule: Any, index: Tensor, task: nn.Module) -> Iterator[tuple[Tensor, Any]]:
    """(positions [n], inputs [n, ...]) of some items; after the first batch perhaps larger ones.

    The task must be run on the first before the next is asked for. A batch size that the user set
    is kept, and so is that of data which are read item by item.

    Args:
        datamodule: of the items.
        index: the items.
        task: that is run on them.
    """
    first, parts = datamodule.eval_batch_size, _parts(datamodule)
    if not parts or len(index) <= 2 * first:
        yield from datamodule.bare_batches(index)
        return
    watched = Footprint(task)
    try:
        yield from datamodule.bare_batches(index[:first])
    finally:
        watched.close()
    size = watched.size(first, sum(part[:1].nbytes for part in parts))
    yield from datamodule.bare_batches(index[first:], size)


def _parts(datamodule: Any) -> Sequence[Tensor]:
    """Inputs [N, ...] that may be read in batches of any size: in memory, and nobody set one."""
    tensors = getattr(getattr(datamodule, "pool_items", None), "tensors", None)
    unchanged = datamodule.eval_batch_size == getattr(datamodule, "free_eval_batch", None)
    if tensors is None or tensors.transform is not None or datamodule.num_workers or not unchanged:
        return ()
    found: Sequence[Tensor] = tensors.inputs
    return found
