"""Two processes tune: all ranks do the same trial."""

import json

import pytest
import torch
from helpers.processes import end, start

from lightning_al.journal.journal import read_journal

pytestmark = pytest.mark.skipif(
    not torch.distributed.is_available(), reason="this PyTorch has no torch.distributed"
)


def test_all_ranks_do_the_same_trials(tmp_path):
    status, output = end(start("ddp_tune.py", tmp_path), within=300)
    assert status == 0, output[-4000:]
    one, other = (json.loads((tmp_path / f"seen-{r}.json").read_text()) for r in (0, 1))
    assert one == other
    assert len(one["seen"]) == 2 * 3 * 2  # rounds, trials, folds
    records, _ = read_journal(tmp_path / "run" / "journal.jsonl")
    tried = [r for r in records if r["event"] == "tried"]
    widths = [width for width, _, _ in one["seen"]]
    assert widths[::2] == widths[1::2] == [t["settings"]["model.width"] for t in tried]
    values = [logged["val/nll"] for _, _, logged in one["seen"]]
    for k, trial in enumerate(tried):
        assert trial["value"] == pytest.approx(sum(values[2 * k : 2 * k + 2]) / 2)
    assert (
        one["width"] == [r for r in records if r["event"] == "tuned"][-1]["settings"]["model.width"]
    )
