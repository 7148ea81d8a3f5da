"""The command ``policy``: a trained policy out of a checkpoint, or a list of those shipped."""

from __future__ import annotations

from argparse import ArgumentError
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lightning_al.history.aligned import aligned
from lightning_al.policies import Card, Policy
from lightning_al.policies.gate import SAFE, checks
from lightning_al.policies.shipped import shelf
from lightning_al.policies.training_progress import simulator_of
from lightning_al.policies.training_record import Schedule, policy_of, read_checkpoint, read_metrics

from .typed import Words

__all__ = ["policy_command", "policy_table"]

SUFFIXES = ("", ".json", ".safetensors")
CHECKED = (
    "objective",
    "target",
    "arguments",
    "gamma",
    "lr",
    "decay",
    "detach",
)  # configuration and checkpoint


def policy_command(words: Sequence[str]) -> Policy | list[str]:
    """Write the two files of a policy and say where they lie; or list what is shipped."""
    parser = Words(
        prog="lightning-al policy",
        usage="lightning-al policy [CHECKPOINT --out PATH] [--config NAME ...] [--key value ...]",
        description="Turn a checkpoint of `fit` into a policy of two files, PATH.safetensors with "
        "the weights and PATH.json, its card, that Policy.load takes. Without a checkpoint: the "
        "policies that are shipped.",
        epilog="Of the checkpoint only tensors and plain values are read, and the network is one "
        "of this package, so that no code of the file runs. Further arguments change the "
        "configuration as in `fit`, such as --data.seed 3.",
        allow_abbrev=False,
    )
    parser.add_argument("checkpoint", nargs="?", type=Path, help="a .ckpt file of fit")
    parser.add_argument("--out", type=Path, help="where to write, without suffix")
    parser.add_argument(
        "--config",
        action="append",
        help="of the training, for a checkpoint that does not say what it was trained on, or that "
        "was stopped early on purpose: it says how many steps there were to be",
    )
    parser.add_argument(
        "--metrics",
        action="append",
        type=Path,
        help="metrics.csv of the training; the one beside the checkpoint by default",
    )
    parser.add_argument("--note", help="a remark for the card")
    parser.add_argument(
        "--here",
        action="store_true",
        help="the training ran on this machine with what is installed here; for a checkpoint that "
        "does not say where",
    )
    parser.add_argument("--trust", action="store_true", help="read a checkpoint that holds more")
    parser.add_argument("--overwrite", action="store_true", help="replace files that are there")
    known, more = parser.parse_known_args(list(words))
    if known.checkpoint is None:
        if words:
            raise ArgumentError(None, "policy needs a checkpoint first, or no argument at all")
        shipped = _shipped()
        print(policy_table(shipped), end="")
        return list(shipped)
    if more and not known.config:
        raise ArgumentError(None, f"{more[0]} changes a configuration: name it with --config")
    if known.out is None:
        raise ArgumentError(None, "--out says where the policy goes; give a path without suffix")
    _free(known.out, known.overwrite)
    state = read_checkpoint(known.checkpoint, trust=known.trust)
    schedule = None
    if known.config:
        schedule = _schedule([w for n in known.config for w in ("--config", n)] + more, state)
    found = known.metrics or _beside(known.checkpoint)
    policy = policy_of(
        state,
        schedule,
        read_metrics(found),
        here=known.here,
        date=_day(known.checkpoint),
        note=known.note,
    )
    path = policy.save(known.out)
    policy = Policy.load(path, unchecked=True)  # as its users will
    training = policy.card.training
    print(training["summary"])
    if training["final_loss"] is None:
        print("its last losses are not known: give the metrics.csv of the training with --metrics")
    print(policy_table({path.stem: policy}), end="")
    for check in checks(policy.card):
        if not check.passed:
            print(f"{check}: it is loaded with unchecked=True alone")
    print(f"policy  {path}\ncard    {path.with_suffix('.json')}")
    return policy


def policy_table(policies: dict[str, Policy]) -> str:
    """Names and what their cards say, a line each."""
    if not policies:
        return "no policies are shipped; `lightning-al configs` lists what can be pretrained\n"
    rows = [("name", "D", "safe", "safe share", "history", "budget", "steps", "final loss")]
    for name, policy in policies.items():
        card, training = policy.card, policy.card.training
        steps, planned = training.get("steps"), training.get("planned_steps")
        loss = training.get("final_loss")
        rows.append(
            (
                name,
                str(card.settings["dimension"]),
                "yes" if card.settings.get("safe") else "no",
                _kept(card),
                str(card.history),
                str(card.budget),
                "?" if steps is None else f"{steps} of {planned or '?'}",
                "?" if loss is None else f"{loss:.3f}",
            )
        )
    return "\n".join([*aligned(rows, left=1), ""])


def _kept(card: Card) -> str:
    """The share of safe queries that was measured, and whether it keeps the promise."""
    if not card.settings.get("safe"):
        return ""
    found = [check for check in checks(card) if check.what == SAFE]
    if not found:
        return "?"
    (check,) = found
    said = f"{100 * check.found:.1f} %"
    return said if check.passed else f"{said} < {100 * check.least:g} %: unchecked"


def _shipped() -> dict[str, Policy]:
    return {path.stem: Policy.load(path, unchecked=True) for path in shelf()}


def _free(out: Path, overwrite: bool) -> None:
    """Refuse a path that is taken, or whose end would be lost.

    Raises:
        ValueError: a dot in the name.
        FileExistsError: a policy is there.
    """
    if out.suffix not in SUFFIXES:
        raise ValueError(f"--out {out}: a policy's name has no dot; write {out.stem} or the like")
    there = [p for p in map(out.with_suffix, SUFFIXES[1:]) if p.exists()]
    if there and not overwrite:
        raise FileExistsError(f"{there[0]} is there already; take another --out, or --overwrite")


def _schedule(words: Sequence[str], state: dict[str, Any]) -> Schedule:
    """What a configuration of ``fit`` says, once it is seen to be that of the checkpoint.

    Raises:
        ValueError: a configuration of something else.
    """
    from lightning_al.assembly.parser import parse  # inside: Lightning loads slowly

    config = parse(["fit", *words])
    data, model = (config[k]["init_args"] for k in ("data", "model"))
    if "simulator" not in data or not {"objective", "target"} & set(model):
        raise ValueError("--config is no training of a policy; `lightning-al configs` lists them")
    kept = state["hyper_parameters"]
    pairs = {k: (model.get(k), kept.get(k)) for k in CHECKED if k in model or k in kept}
    spec = kept["network"].get("init_args") or {}
    pairs |= {
        f"network.{k}": (v, spec[k])
        for k, v in model["network"].get("init_args", {}).items()
        if k in spec
    }
    for name, (told, trained) in pairs.items():
        if told != trained:
            raise ValueError(
                f"the checkpoint was trained with {name} {trained}, the configuration says {told}; "
                "give the one it was trained with"
            )
    epochs, most = config["trainer"]["max_epochs"], config["trainer"]["max_steps"]
    ends = [n for n in (None if epochs is None else epochs * data["steps"], most) if n and n > 0]
    seed = config["seed_everything"]
    return Schedule(
        simulator_of(data["simulator"]),
        data["steps"],
        data["seed"],
        None if isinstance(seed, bool) else seed,
        min(ends) if ends else None,
    )


def _beside(checkpoint: Path) -> list[Path]:
    """The log in the folder of the checkpoint, or in the one above."""
    folders = checkpoint.resolve().parents[:2]
    return [f / "metrics.csv" for f in folders if (f / "metrics.csv").is_file()][:1]


def _day(path: Path) -> str:
    """When a file was last written, UTC."""
    return datetime.fromtimestamp(path.stat().st_mtime, UTC).date().isoformat()
