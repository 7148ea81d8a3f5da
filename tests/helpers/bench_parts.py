"""What tests of the referee share: a small benchmark, made results, a way to start and kill it."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from lightning_al.benchmark.ceilings import FULL_DATA
from lightning_al.benchmark.results import VOLATILE

MLP = {
    "class_path": "lightning_al.tasks.Classification",
    "init_args": {
        "lr": 0.01,
        "network": {"class_path": "lightning_al.networks.MLP", "init_args": {"hidden": [8]}},
    },
}
DIGITS = {"class_path": "lightning_al.datamodules.DigitsDataModule", "init_args": {"initial": 20}}
SETTINGS = {
    "metric": "test/accuracy",
    "data": {"digits": DIGITS},
    "models": {"mlp": MLP},
    "strategies": ["random", "margin"],
    "seeds": 2,
    "common": {
        "query_size": 10,
        "budget": 20,
        "trainer": {"max_epochs": 1, "accelerator": "cpu", "devices": 1},
    },
}


def settled(frame):
    """The table without what differs from one machine or moment to the next."""
    frame = frame.drop(columns=[name for name in VOLATILE if name in frame]).copy()
    frame["acquired"] = frame["acquired"].map(lambda v: None if v is None else [int(i) for i in v])
    return frame.sort_values(["run_id", "round"]).reset_index(drop=True)


def write(path, **changes):
    """A benchmark file."""
    Path(path).write_text("# A small benchmark\n" + yaml.safe_dump({**SETTINGS, **changes}))
    return str(path)


def command(*words):
    """A ``bench`` process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "lightning_al", "bench", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


FACTS = {"metric": "test/accuracy", "area": "budget", "reference": "random", "title": "A <title>"}
LEADS = {"random": 0.0, "good": 0.05, "same": 0.0, "bad": -0.05, FULL_DATA: 0.2}


def made(data=("one", "two"), seeds=8, metric="test/accuracy", up=True, leads=LEADS):
    """Results in which each strategy leads by a known amount."""
    draw, rows = np.random.default_rng(0), []
    for place in data:
        for seed in range(seeds):
            luck = draw.normal(0, 0.02)
            for name, lead in leads.items():
                for r, labels in enumerate([10, 500] if name == FULL_DATA else [10, 20, 40]):
                    noise = draw.normal(0, 0.01) if name == "same" and r else 0.0
                    value = 0.5 + 0.1 * r + (lead * r / 2) + luck + noise
                    rows.append(
                        {
                            **{"run_id": f"{place}-{name}-{seed}", "data": place, "model": "net"},
                            **{"strategy": name, "start": "", "query_size": 10, "fold": -1},
                            **{"seed": seed, "status": "done", "error": "", "host": "here"},
                            "role": "ceiling" if name == FULL_DATA else "strategy",
                            "takes_all": name == FULL_DATA,
                            **{"metric": metric, "higher_is_better": up, "round": r},
                            **{"value": value if up else -value, "n_labelled": labels},
                            **{"seconds_fit": 1.0, "seconds_score": 0.5, "seconds_choose": 0.25},
                        }
                    )
                    rows[-1][metric] = rows[-1]["value"]
    return pd.DataFrame(rows)


def parts(text):
    """Sections of a page by the first word of their heading."""
    found = re.split(r"<h2[^>]*>", text)[1:]
    return {re.match(r"\w+", part).group(0): part for part in found}
