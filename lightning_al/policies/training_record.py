"""From a checkpoint of a training to a trained policy, with a record of how far it was trained.

What is read of a checkpoint are tensors and plain values, and the network is one of this package:
no code of the checkpoint runs, unless its owner vouches for it.
"""

from __future__ import annotations

import csv
import pickle
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from .candidates.evidence import observe
from .candidates.network import CandidatePolicy
from .networks import PolicyNetwork
from .policy import KINDS, Policy
from .simulators import Simulator
from .training_progress import KEPT, METRICS, machine_of, plain, simulator_of, versions

__all__ = ["Schedule", "TrainingRecord", "policy_of", "read_checkpoint", "read_metrics"]

DAMAGED = (EOFError, RuntimeError, LookupError, ValueError, TypeError, AttributeError)
"""What reading a file that is no checkpoint may end with."""
HOMES = (
    "lightning_al.policies",
    "lightning_al.policies.networks",
    "lightning_al.policies.candidates",
)


@dataclass(frozen=True)
class Schedule:
    """What a training was to be, where its checkpoint does not say so or was told otherwise.

    Args:
        simulator: the law of the problems.
        steps: of an epoch.
        seed: of the problems.
        weights_seed: of the weights.
        planned: steps of the whole training; None where it has no end.
    """

    simulator: Simulator
    steps: int
    seed: int
    weights_seed: int | None = None
    planned: int | None = None


@dataclass(frozen=True)
class TrainingRecord:
    """How a policy was trained, for its card; None is what is not known."""

    summary: str  # one plain sentence
    steps: int  # of the optimiser
    planned_steps: int | None
    final_loss: float | None  # mean of the last ones
    final_loss_of: int  # how many those were
    validation: Mapping[str, float]  # the last one, by name, and at which step
    config: Mapping[str, Any]
    seeds: Mapping[str, int | None]
    machine: Mapping[str, Any] | None
    versions: Mapping[str, str]
    date: str  # of the last step, UTC
    wall_seconds: float | None
    cpu_seconds: float | None
    note: str | None = None
    evidence: Mapping[str, float | None] | None = None  # of a policy that scores candidates


def read_checkpoint(path: str | Path, *, trust: bool = False) -> dict[str, Any]:
    """The content of a checkpoint.

    Args:
        path: a ``.ckpt`` file of Lightning.
        trust: read objects of any kind too; this can run code that the file brings along.

    Raises:
        FileNotFoundError: no such file.
        ValueError: no checkpoint of a PolicyModule, or one with other than plain values.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no checkpoint at {path}; give a .ckpt file of fit")
    try:
        state = torch.load(path, map_location="cpu", weights_only=not trust)
    except pickle.UnpicklingError as error:
        other = re.search(r"GLOBAL (\S+)", str(error))
        raise ValueError(
            f"{path} is no checkpoint, or holds more than tensors and plain values"
            + (f": {other[1]}" if other else "")
            + "; where you know who made it, --trust reads those too"
        ) from None
    except DAMAGED as error:
        said = f"{type(error).__name__}: {' '.join(str(error).split())}"[:200]
        raise ValueError(
            f"{path} cannot be read as a checkpoint ({said}); give the .ckpt file that fit wrote"
        ) from None
    needed = ("state_dict", "hyper_parameters", "global_step")
    if not isinstance(state, dict) or any(k not in state for k in needed):
        raise ValueError(f"{path} is no checkpoint of Lightning with its hyper-parameters")
    kept = set(state["hyper_parameters"])
    if not ({"network", "objective"} <= kept or {"network", "target"} <= kept):
        raise ValueError(
            f"{path} is no checkpoint of a PolicyModule with a network of this package"
        )
    return state


def read_metrics(paths: Iterable[str | Path]) -> dict[str, dict[int, float]]:
    """Columns by name, each by step counted from 0; for the same step the later file counts.

    Args:
        paths: ``metrics.csv`` files of one training; several where it was resumed.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a file without the columns of a training.
    """
    found: dict[str, dict[int, float]] = {}
    for path in map(Path, paths):
        if not path.is_file():
            raise FileNotFoundError(f"no file {path}; give the metrics.csv of a training")
        with path.open(newline="") as file:
            rows = csv.DictReader(file)
            if not {"step", "train/loss"} <= set(rows.fieldnames or ()):
                raise ValueError(f"{path} has no columns step and train/loss, as CSVLogger writes")
            for row in rows:
                for name, value in row.items():
                    # a line that is being written may be cut off
                    if name not in ("step", "epoch") and value and row["step"]:
                        found.setdefault(name, {})[int(row["step"])] = float(value)
    return found


def policy_of(
    state: Mapping[str, Any],
    schedule: Schedule | None = None,
    metrics: Mapping[str, Mapping[int, float]] | None = None,
    *,
    here: bool = False,
    date: str | None = None,
    note: str | None = None,
) -> Policy:
    """The policy of a checkpoint; its card says how it was trained.

    Its history is at most N0 + T - 1 points, those that a rollout of the training has before its
    last query, and its budget T.

    Args:
        state: from :func:`read_checkpoint`.
        schedule: where given, it counts for what was planned; it has to agree with the rest.
        metrics: from :func:`read_metrics`, for a checkpoint that keeps no losses itself, or few.
        here: the training ran on this machine, with what is installed here; for a checkpoint
            that does not say where.
        date: of the checkpoint, where it does not say so.
        note: a remark for the card.

    Raises:
        ValueError: the checkpoint does not say what it was trained on and no schedule is given,
            or the two contradict each other; weights that are not those of the network.
    """
    schedule = _schedule(state, schedule)
    simulator, network = schedule.simulator, _network(state)
    record = _record(state, schedule, metrics or {}, here, date, note)
    if isinstance(network, CandidatePolicy):
        record = replace(record, evidence=observe(network, simulator).table())
    return Policy.of(
        network,
        simulator.starts[1] + simulator.horizon - 1,
        simulator.horizon,
        **asdict(record),
    )


def _network(state: Mapping[str, Any]) -> PolicyNetwork | CandidatePolicy:
    """The network with its weights, in float32."""
    spec = state["hyper_parameters"]["network"]
    home, _, kind = str(spec["class_path"]).rpartition(".")
    if home not in HOMES or kind not in KINDS:
        raise ValueError(
            f"only {', '.join(KINDS)} of this package can be written to a file, got "
            f"{spec['class_path']}; keep the checkpoint of a class of your own"
        )
    try:
        network = KINDS[kind](**(spec.get("init_args") or {}))
        start = "network."
        weights = state["state_dict"].items()
        network.load_state_dict(
            {k.removeprefix(start): v for k, v in weights if k.startswith(start)}
        )
    except (TypeError, RuntimeError) as error:
        said = str(error).splitlines()[-1].strip()
        raise ValueError(f"the checkpoint's weights are not those of its network: {said}") from None
    if not all(bool(p.isfinite().all()) for p in network.parameters()):
        raise ValueError("the checkpoint's weights hold NaN or infinities; take an earlier one")
    return network.float()


def _schedule(state: Mapping[str, Any], told: Schedule | None) -> Schedule:
    """What the checkpoint says, and what the caller does."""
    kept = state.get("datamodule_hyper_parameters") or {}
    if "simulator" not in kept:
        if told is None:
            raise ValueError(
                "the checkpoint does not say what it was trained on; give with --config the "
                "configuration of its training"
            )
        return told
    simulator, seed = simulator_of(kept["simulator"]), kept["seed"]
    progress = state.get("progress") or {}
    own = Schedule(
        simulator,
        kept["steps"],
        seed,
        progress.get("weights_seed"),
        progress.get("planned_steps"),
    )
    if told is None:
        return own
    if plain(told.simulator) != plain(simulator) or told.seed != seed:
        raise ValueError(
            "the checkpoint was trained on other problems than the configuration says; leave "
            "--config out, or give the one it was trained with"
        )
    return Schedule(simulator, own.steps, seed, own.weights_seed, told.planned)


def _record(
    state: Mapping[str, Any],
    schedule: Schedule,
    metrics: Mapping[str, Mapping[int, float]],
    here: bool,
    date: str | None,
    note: str | None,
) -> TrainingRecord:
    steps = int(state["global_step"])
    kept = state.get("progress") or {}
    settings = {k: v for k, v in state["hyper_parameters"].items() if k != "network"}
    # one that was resumed from a checkpoint of before they were kept has but a few
    logged = _last(metrics.get("train/loss", {}), steps)
    losses = max(kept.get("losses", []), logged, key=len)
    validation = kept.get("validation") or _validation(metrics, steps)
    used = {"lightning": str(state.get("pytorch-lightning_version", "unknown"))}
    return TrainingRecord(
        _sentence(steps, schedule.planned),
        steps,
        schedule.planned,
        sum(losses) / len(losses) if losses else None,
        len(losses),
        validation,
        {
            **settings,
            **_optimiser(settings, schedule.steps),
            "steps_per_epoch": schedule.steps,
            "simulator": plain(schedule.simulator),
        },
        {"problems": schedule.seed, "weights": schedule.weights_seed},
        kept.get("machine") or (machine_of() if here else None),
        kept.get("versions") or (versions() if here else used),
        kept.get("date") or date or datetime.now(UTC).date().isoformat(),
        kept.get("wall_seconds"),
        kept.get("cpu_seconds"),
        note,
    )


def _optimiser(settings: Mapping[str, Any], steps: int) -> dict[str, str]:
    """How the weights were moved."""
    if "target" in settings:
        return {
            "optimizer": "AdamW",
            "lr_schedule": f"lr {settings['lr']:g} after {settings['warmup']} steps, then a cosine",
        }
    return {
        "optimizer": "RAdam",
        "lr_schedule": f"lr {settings['lr']:g}, times {settings['decay']:g} after each epoch "
        f"of {steps} steps",
    }


def _sentence(steps: int, planned: int | None) -> str:
    if planned is None:
        return f"Trained for {steps} steps; the training had no end set."
    if steps >= planned:
        return f"Trained to the end of its schedule, {steps} steps."
    return (
        f"The training was cut short: {steps} of the {planned} steps of its schedule were done, "
        "so the policy is likely to be weaker than that of a whole training."
    )


def _last(losses: Mapping[int, float], steps: int) -> list[float]:
    """Of the last 50 steps; a file may go on beyond the checkpoint."""
    return [losses[k] for k in sorted(losses) if steps - KEPT <= k < steps]


def _validation(metrics: Mapping[str, Mapping[int, float]], steps: int) -> dict[str, float]:
    """The last before the checkpoint."""
    found: dict[str, float] = {}
    for name in METRICS:
        column = metrics.get(f"val/{name}", {})
        if before := [k for k in column if k < steps]:
            found[name] = column[max(before)]
            found["step"] = max(before) + 1
    return found
