"""``python ddp_amend.py FOLDER``: two processes, a run that goes on with more items and budget."""

import json
import os
import sys
from dataclasses import replace
from pathlib import Path

from helpers import ddp_parts as parts
from lightning_al import ActiveLearner
from lightning_al.datamodules import ActiveDataModule
from lightning_al.datamodules.tensors import TensorItems

folder = Path(sys.argv[1])


def data(n):
    x, y = parts.points(120)
    return ActiveDataModule(TensorItems(x[:n], y[:n]), test=0.25, initial=10, batch_size=8)


first = ActiveLearner(
    task=parts.plain_classifier,
    datamodule=data(80),
    strategy="margin",
    query_size=8,
    budget=8,
    trainer=parts.arguments(),
    run_dir=folder / "run",
)
first.run()
said = ""
try:
    replace(first, datamodule=data(120)).run()
except ValueError as error:
    said = str(error)
more = replace(first, datamodule=data(120), extend=True)
more.run()
history = replace(more, budget=24, strategy="entropy", change=True).run()
again = replace(more, datamodule=data(120), extend=False, budget=24, strategy="entropy").run()
if os.environ.get("LOCAL_RANK", "0") == "0":
    found = {
        "said": said,
        "bought": history.acquired,
        "amended": [list(done.amended) for done in history.rounds],
        "same": again.rounds == history.rounds,
        "labelled": len(more.datamodule.labelled),
    }
    (folder / "found.json").write_text(json.dumps(found))
