"""What one process does alone never waits for the others."""

import json

import pytest
import torch
import torch.distributed as dist
from helpers.processes import end, gone, start

from lightning_al.compat import lonely

pytestmark = pytest.mark.skipif(not dist.is_available(), reason="no torch.distributed here")


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lonely")
    status, output = end(start("ddp_lonely.py", folder), within=170)
    assert status == 0, output[-4000:]
    return json.loads((folder / "found.json").read_text())


@pytest.mark.parametrize("what", ["full batch", "refit", "metrics", "loss", "fit", "synchronised"])
def test_the_run_ends(found, what):
    assert found[what] == 3


def test_a_process_takes_itself_for_the_only_one_inside(tmp_path):
    with lonely():
        assert not dist.is_initialized()
    dist.init_process_group(
        "gloo", init_method=f"file://{tmp_path / 'group'}", rank=0, world_size=1
    )
    try:
        with lonely():
            assert not torch.distributed.is_initialized()
        with pytest.raises(KeyError), lonely():
            raise KeyError
        assert dist.is_initialized()
    finally:
        dist.destroy_process_group()
    assert not dist.is_initialized()


@pytest.mark.parametrize("dies", ["1 fit", "0 fit", "1 test"])
def test_the_survivor_says_that_the_other_is_lost_and_the_same_command_goes_on(tmp_path, dies):
    status, output = end(start("ddp_dies.py", tmp_path, DIES=dies), within=90)
    assert status != 0
    assert "lost contact with another process of this run" in output, output[-3000:]
    assert "the same command goes on" in output
    other = int((tmp_path / f"run-{1 - int(dies[0])}.pid").read_text())
    assert gone(other, within=30)
    if dies == "1 fit":
        status, output = end(start("ddp_dies.py", tmp_path), within=90)
        assert status == 0, output[-3000:]
