"""What a training remembers of itself, and keeps in its checkpoints: losses, time, machine."""

from __future__ import annotations

import json
import os
import platform
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .priors import KernelPrior, SafetyPrior
from .simulators import Batch, Simulator

__all__ = ["KEPT", "Progress", "machine_of", "plain", "simulator_of", "versions"]

KEPT = 50
"""Losses whose mean is called the final one."""
METRICS = ("rmse", "safe", "loss")  # of a validation


def plain(simulator: Simulator) -> dict[str, Any]:
    """A simulator as values that JSON and a checkpoint without code can hold."""
    settings: dict[str, Any] = json.loads(json.dumps(asdict(simulator)))
    return settings


def simulator_of(settings: Mapping[str, Any]) -> Simulator:
    """The simulator of :func:`plain` values.

    Raises:
        ValueError: settings that no simulator has.

    >>> simulator_of(plain(Simulator(2, 40, safety=SafetyPrior()))) == Simulator(
    ...     2, 40, safety=SafetyPrior(low=[5.0], high=[40.0]), prior=KernelPrior(base=[0.2]))
    True
    """
    made = dict(settings)
    try:
        if isinstance(made.get("batch"), Mapping):
            made["batch"] = Batch(**made["batch"])
        if isinstance(made.get("prior"), Mapping):
            made["prior"] = KernelPrior(**made["prior"])
        if isinstance(made.get("safety"), Mapping):
            safety = dict(made["safety"])
            if isinstance(safety.get("kernel"), Mapping):
                safety["kernel"] = KernelPrior(**safety["kernel"])
            made["safety"] = SafetyPrior(**safety)
        return Simulator(**made)
    except TypeError as error:
        raise ValueError(f"these are no settings of a simulator: {error}") from None


def machine_of(device: torch.device | None = None, processes: int = 1) -> dict[str, Any]:
    """What this process computes on."""
    cuda = device is not None and device.type == "cuda"
    return {
        "cpu": _cpu(),
        "gpu": torch.cuda.get_device_name(device) if cuda else None,
        "threads": torch.get_num_threads(),
        "processes": processes,
    }


def versions() -> dict[str, str]:
    """Of what a training depends on."""
    # torch's is a class of its own, which a checkpoint of plain values must not hold
    return {"torch": str(torch.__version__), "lightning": version("pytorch-lightning")}


class Progress:
    """The history of one training, over all of its resumptions.

    Times are those of the first process while it fits: wall clock, and CPU seconds of all its
    threads. Where a part of the training was not timed, there are none.
    """

    def __init__(self) -> None:
        self.losses: deque[Tensor] = deque(maxlen=KEPT)  # of this process
        self.validation: dict[str, float] = {}
        self.planned: int | None = None
        self.seed: int | None = None  # of the weights
        self.spent: dict[str, float] | None = {"wall": 0.0, "cpu": 0.0}
        self._began: dict[str, float] | None = None
        self._steps = 0  # that are known of

    def begin(self, trainer: Any) -> None:
        """A fit begins, or goes on."""
        steps = trainer.estimated_stepping_batches
        self.planned = int(steps) if steps not in (-1, float("inf")) else None
        known = os.environ.get("PL_GLOBAL_SEED")
        if self.seed is None and known is not None:
            self.seed = int(known)
        if trainer.global_step > self._steps:  # a checkpoint of before this was kept
            self.spent = None
        self._began = _clocks()

    def end(self) -> None:
        """The fit is over."""
        self.spent, self._began = self._times(), None

    def validated(self, trainer: Any) -> None:
        """A validation is over."""
        if trainer.sanity_checking:
            return
        found = trainer.callback_metrics
        self.validation = {k: float(found[f"val/{k}"]) for k in METRICS if f"val/{k}" in found}
        self.validation["step"] = trainer.global_step

    def state(self, trainer: Any, device: torch.device) -> dict[str, Any]:
        """Plain values; all processes call this together."""
        losses: list[float] = []
        if self.losses:
            local = torch.stack([loss.to(device, torch.float64) for loss in self.losses])
            losses = trainer.strategy.reduce(local, reduce_op="mean").tolist()
        times = self._times() or {}
        return {
            "steps": trainer.global_step,
            "planned_steps": self.planned,
            "losses": losses,
            "validation": dict(self.validation),
            "weights_seed": self.seed,
            "wall_seconds": times.get("wall"),
            "cpu_seconds": times.get("cpu"),
            "machine": machine_of(device, trainer.world_size),
            "versions": versions(),
            "date": datetime.now(UTC).date().isoformat(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """What :meth:`state` gave."""
        self.losses = deque(
            (torch.tensor(v, dtype=torch.float64) for v in state["losses"]), maxlen=KEPT
        )
        self.validation = dict(state["validation"])
        self.planned, self.seed = state["planned_steps"], state["weights_seed"]
        self._steps = state["steps"]
        times = {"wall": state["wall_seconds"], "cpu": state["cpu_seconds"]}
        self.spent = None if None in times.values() else times

    def _times(self) -> dict[str, float] | None:
        if self._began is None or self.spent is None:
            return self.spent
        now = _clocks()
        return {k: v + now[k] - self._began[k] for k, v in self.spent.items()}


def _clocks() -> dict[str, float]:
    return {"wall": time.perf_counter(), "cpu": time.process_time()}


def _cpu() -> str:
    """The processor's name; on Linux ``platform`` does not know it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor() or platform.machine()
