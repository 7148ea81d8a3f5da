"""Two processes go on with a run that grows and changes."""

import json

import pytest
import torch
from helpers.processes import end, start

from lightning_al.journal.journal import read_journal

pytestmark = pytest.mark.skipif(
    not torch.distributed.is_available(), reason="this PyTorch has no torch.distributed"
)


def test_all_ranks_take_in_what_one_writes_down(tmp_path):
    status, output = end(start("ddp_amend.py", tmp_path), within=170)
    assert status == 0, output[-4000:]
    found = json.loads((tmp_path / "found.json").read_text())
    assert "say --extend" in found["said"]
    assert found["amended"] == [
        [],
        [],
        ["+40 items"],
        ["margin → entropy", "budget 8 → 24"],
        [],
        [],
    ]
    assert len(found["bought"]) == 24
    assert found["same"]
    assert found["labelled"] == 10 + 24
    records, _ = read_journal(tmp_path / "run" / "journal.jsonl")
    assert [r["event"] for r in records].count("extended") == 1
