"""What a run is asked to do: one field an option; signatures, help, grid keys come from the fields.

A new option is a field here, and the line that uses it. Its metadata is an :class:`Option`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, field, fields
from pathlib import Path
from typing import Any

from lightning_al.values import (
    MOST_SEED,
    Check,
    either,
    flag,
    folder,
    number,
    optional,
    whole,
    word,
)

__all__ = ["MISSING", "Option", "RunPlan", "option", "option_of", "options_of"]


@dataclass(frozen=True)
class Option:
    """What is to be known of one option of a run.

    Args:
        help: one sentence or two, for every place that shows the option.
        identity: another value makes another run; else a run goes on under any value.
        change: a run may go on under another value, where the option ``change`` says so: it decides
            what is asked for next, and no fit that was.
        more: a larger value needs no such word (None is the largest).
        part: family of the object that a specification here names ("strategy", "posterior", …);
            empty for plain values.
        several: the value is a list of such specifications.
        command: whether the command line takes it.
        grid: whether a benchmark may set it.
        usual: the command line's default, where Python has none or another.
        type: dotted path of the command line's type, where the annotation does not say it.
        check: refuses values that make no sense; gives the value as it is kept.
    """

    help: str
    identity: bool = True
    change: bool = False
    more: bool = False
    part: str = ""
    several: bool = False
    command: bool = True
    grid: bool = True
    usual: Any = None
    type: str = ""
    check: Check | None = None


def option(help: str, default: Any = MISSING, **facts: Any) -> Any:
    """A field of a plan; one with a default is given by name.

    Args:
        help: see :class:`Option`.
        default: of the field; none for one that must be given.
        facts: the other fields of :class:`Option`.
    """
    metadata = {"option": Option(help, **facts)}
    if default is MISSING:
        return field(metadata=metadata)
    return field(default=default, kw_only=True, metadata=metadata)


def option_of(field: Field[Any]) -> Option:
    """The option that a field of a plan is."""
    found: Option = field.metadata["option"]
    return found


def options_of(plan: RunPlan | type[RunPlan]) -> Iterator[tuple[Field[Any], Option]]:
    """The options of a plan or a class of plans, in order; other fields are left out."""
    for each in fields(plan):
        if "option" in each.metadata:
            yield each, option_of(each)


@dataclass(frozen=True)
class RunPlan:
    """The options of one run; parts are named by specifications, live objects travel beside it."""

    strategy: Any = option(
        "the query strategy: a name, {name: …, arguments}, or {class_path: …, init_args: …} for "
        "one of your own",
        part="strategy",
        change=True,
        usual="margin",
    )
    query_size: int = option(
        "items a query asks for; the last one may be smaller",
        change=True,
        usual=20,
        check=whole(1),
    )
    budget: int = option(
        "items that may be bought in all, the initial ones not counted",
        change=True,
        more=True,
        usual=180,
        check=whole(1),
    )
    oracle: Any = option(
        "who answers; by default the labels that the data set carries. Noisy, Committee, "
        "Abstaining, Costly and Delayed oracles go around another (oracle.oracle NAME); File "
        "writes queries/round-003.csv for a person to fill in",
        None,
        part="oracle",
    )
    weights: str = option("each round starts reset, warm or shrink_perturb", "reset")
    restore: str = option(
        "keep the last weights of a fit, or the best of its ModelCheckpoint",
        "last",
        check=word("last", "best"),
    )
    posterior: Any = option(
        "draws several functions from a trained model, for strategies that compare them, such as "
        "MCDropout",
        None,
        part="posterior",
        change=True,
    )
    adapter: Any = option(
        "where outputs and embeddings are in a module of your own, and what the outputs mean",
        None,
        type="lightning_al.tasks.Adapter",
    )
    features: Any = option(
        "gives the embeddings of every round instead of the task: Raw (the inputs), a frozen "
        "Backbone, or any frozen inputs [n, ...] -> [n, E]. Without it, and with nothing labelled, "
        "embeddings are the raw inputs",
        None,
        part="features",
    )
    first: Any = option(
        "the query strategy of rounds in which nothing is labelled yet; by default the run's own "
        "where it needs embeddings at most, else random: probabilities of a network that was never "
        "fitted say nothing",
        None,
        part="strategy",
        change=True,
    )
    tuning: Any = option(
        "look for settings of the model, its optimiser and the Trainer while the run goes: "
        "{space: {model.lr: {float: [0.0001, 0.1], log: true}}, objective: val/nll, when: "
        "every_round}; see lightning_al.tuning.Tuning",
        None,
    )
    stopping: Sequence[Any] = option(
        "rules that end the run early, such as {name: MetricTarget, metric: test/accuracy, target: "
        "0.9}",
        (),
        part="stopping",
        several=True,
        change=True,
    )
    seed: int = option("of everything random in the run", 0, grid=False, check=whole(0, MOST_SEED))
    run_dir: str | Path | None = option(
        "the run folder; a name under runs/ with a hash of the settings by default",
        None,
        identity=False,
        grid=False,
        check=optional(folder),
    )
    overwrite: bool = option(
        "start anew where the folder holds a run already",
        False,
        identity=False,
        grid=False,
        check=flag,
    )
    change: bool = option(
        "go on with the run of the folder under other settings of what is asked for (strategy, "
        "query_size, budget, stopping and the like), from here on; a larger budget needs no such "
        "word",
        False,
        identity=False,
        grid=False,
        check=flag,
    )
    extend: bool = option(
        "let items that the data set has more than when the run began join it at the next "
        "positions: rows at the end of a table, files of a folder, a longer data set",
        False,
        identity=False,
        grid=False,
        check=flag,
    )
    trust: bool = option(
        "read objects of any kind in the checkpoints of the run folder, which runs their code; "
        "else tensors and plain values alone are read, and other objects left out",
        False,
        identity=False,
        grid=False,
        check=flag,
    )
    files: bool = option(
        "write metrics.csv, acquired.csv and curve.png into the run folder, and tell the loggers "
        "of each round",
        True,
        identity=False,
        grid=False,
        check=flag,
    )
    keep_checkpoints: str = option(
        "all rounds' checkpoints, or only the last",
        "all",
        identity=False,
        grid=False,
        check=word("all", "last"),
    )
    memory_budget: int = option(
        "bytes of kept embeddings in memory; above it they lie in a file",
        2**30,
        identity=False,
        check=whole(0, mend="0 keeps all of them in a file"),
    )
    cost_budget: float | None = option(
        "what all answers may cost together, in the oracle's unit. The chosen items are taken in "
        "the order of choice; one that can no longer be paid is left out. The run ends where none "
        "can be paid",
        None,
        change=True,
        more=True,
        check=optional(number(0)),
    )
    hit_ratio_at: float | None = option(
        "report hit_ratio with the metrics: the share found so far of the largest targets of the "
        "first pool; 0.05 for the largest 5 %",
        None,
        check=optional(number(0, 1, open=True)),
    )
    rehearse: bool = option(
        "whether everything meets two batches of the untrained module before the first fit, so "
        "that what cannot work is refused at once",
        True,
        identity=False,
        check=flag,
    )
    fits: str = option(
        "who fits: lightning; lean, a bare loop that gives the same weights to the last bit, for "
        "plain modules on one CPU (others are fitted by Lightning, and the journal says why); "
        "stacked, which does many fits as one where there are many (lock-step seeds of bench, "
        "refits of a strategy), equal to lean up to rounding, and lean elsewhere; or auto, lean "
        "where it can",
        "lightning",
        identity=False,
        check=word("lightning", "lean", "stacked", "auto"),
    )
    threads: int | str = option(
        "threads of torch in fits and scoring passes: a number, or auto, for those that you gave "
        "torch yourself (OMP_NUM_THREADS, torch.set_num_threads); where you gave none, the "
        "rehearsal times a step with one and with all and takes what is faster",
        "auto",
        identity=False,
        check=either(word("auto", mend="or give a whole number"), whole(1)),
    )
    tuning_shared: str | Path | None = option(
        "a folder in which runs share the trials of equal labelled sets (benchmarks only)",
        None,
        identity=False,
        command=False,
        grid=False,
        check=optional(folder),
    )
    privileged: bool = option(
        "allow strategies that read labels of the pool (benchmarks only)",
        False,
        identity=False,
        command=False,
        grid=False,
        check=flag,
    )

    def __post_init__(self) -> None:
        """Refuse values that make no sense.

        Raises:
            TypeError: a value of another type.
            ValueError: one outside its range, or a budget smaller than one query.
        """
        for each, facts in options_of(self):
            if facts.check is not None:
                kept = facts.check(each.name, getattr(self, each.name))
                object.__setattr__(self, each.name, kept)
        if self.budget < self.query_size:
            raise ValueError(
                f"the budget of {self.budget} is smaller than one query of {self.query_size}; "
                "raise the budget or lower query_size"
            )

    def identity(self) -> Mapping[str, Any]:
        """The options that make this run another one, by name, as they were given.

        Those that most runs leave alone are there only where they differ from their default.
        """
        found = {}
        for each, facts in options_of(self):
            value = getattr(self, each.name)
            if facts.identity and (each.default is MISSING or value != each.default):
                found[each.name] = value
        return found
