"""Digests of items, and the state of who is who when items join."""

import numpy as np
import pytest
import torch

from lightning_al.datamodules.growing import row_digests
from lightning_al.labels import LabelState
from lightning_al.records import Answers, Inventory, Status

KINDS = [
    lambda drawn: torch.randn(50, 7, generator=drawn),
    lambda drawn: torch.randint(0, 256, (50, 5), generator=drawn).to(torch.uint8),
    lambda drawn: torch.randn(50, 2, 3, generator=drawn).double(),
    lambda drawn: torch.randint(0, 9, (50,), generator=drawn),
    lambda drawn: torch.randn(50, 3, generator=drawn).half(),
]


@pytest.fixture(params=range(len(KINDS)))
def part(request):
    return KINDS[request.param](torch.Generator().manual_seed(request.param))


def test_a_digest_is_of_the_row_alone(part):
    order = torch.randperm(50, generator=torch.Generator().manual_seed(1))
    found = row_digests(part)
    assert found.dtype == np.uint64
    assert np.array_equal(row_digests(part[order]), found[order.numpy()])
    assert np.array_equal(row_digests(part[:13]), found[:13])
    assert np.array_equal(row_digests(torch.cat([part, part])), np.tile(found, 2))


def test_any_changed_byte_changes_the_digest_of_its_row(part):
    found = row_digests(part)
    width = part[0].numel() * part.element_size()
    for byte in range(width):
        raw = part.clone().contiguous().view(50, -1).view(torch.uint8)
        raw[3, byte] ^= 1
        changed = row_digests(raw.view(part.dtype).view(part.shape))
        assert np.flatnonzero(changed != found).tolist() == [3]


def test_swapped_numbers_of_a_row_are_another_row():
    rows = torch.tensor([[1.0, 2.0, 3.0], [2.0, 1.0, 3.0], [3.0, 2.0, 1.0], [0.0, 0.0, 0.0]])
    assert len(set(row_digests(rows).tolist())) == 4


def test_rows_without_numbers_have_a_digest():
    assert row_digests(torch.empty(3, 0)).tolist() == [0, 0, 0]
    assert row_digests(torch.empty(0, 4)).tolist() == []


@pytest.mark.parametrize("names", [(), ("a/1.png", "ä ö.png", "b,c.png", "d")])
def test_a_list_of_items_is_read_as_it_was_written(tmp_path, names):
    items = Inventory(np.array([5, 0, 2**64 - 1, 7], np.uint64), names, "file")
    items.save(tmp_path / "items.npz")
    again = Inventory.load(tmp_path / "items.npz")
    assert again.digest.tolist() == items.digest.tolist()
    assert (tuple(again.names), again.what) == (names, "file")
    assert again.content(1, 3) == items.content(1, 3) != items.content(0, 3)


@pytest.mark.parametrize("raw", [b"", b"PK\x03\x04", b"\x93NUMPY"])
def test_a_damaged_list_is_refused(tmp_path, raw):
    (tmp_path / "items.npz").write_bytes(raw)
    with pytest.raises(ValueError, match="holds no list of items"):
        Inventory.load(tmp_path / "items.npz")


@pytest.mark.parametrize(
    ("now", "said"),
    [
        ([1, 2, 3], ""),
        ([1, 2, 3, 9], ""),
        ([1, 0, 3], ""),  # not looked at now
        ([1, 2, 4], "row 2 is changed"),
        ([9, 8, 3, 3], "row 0, row 1 are changed"),
        ([1, 2], "row 2 is gone"),
        ([], "row 0, row 1, row 2 are gone"),
    ],
)
def test_what_is_gone_or_changed_is_named(now, said):
    known = Inventory(np.array([1, 2, 3], np.uint64), (), "row")
    assert known.trouble(Inventory(np.array(now, np.uint64), (), "row")) == said


def test_files_are_known_by_their_names():
    def items(*names):
        return Inventory(np.arange(1, len(names) + 1).astype(np.uint64), names, "file")

    known = items("b", "c", "d")
    assert known.trouble(items("b", "c", "d", "a")) == ""
    assert known.trouble(items("b", "d", "a", "e")) == "c (item 1) is gone"


# --- who is who -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("labelled", "held"), [([], []), ([6], [5]), ([4, 5, 6], [])])
def test_items_join_behind_the_others(labelled, held):
    state = LabelState(4, room=7)
    state.settle(torch.tensor([1]), Answers({"y": torch.tensor([2])}))
    state.apply({"event": "extended", "round": 0, "new": 7, "labelled": labelled, "held": held})
    assert len(state) == 7
    assert state.labelled.tolist() == [1, *labelled]
    assert state.where(Status.HELD).tolist() == held
    assert state.pool.tolist() == [i for i in range(7) if i not in (1, *labelled, *held)]
    values, told = state.answers.get(torch.arange(7))
    assert told.tolist() == [i == 1 for i in range(7)]
    assert int(values[1]) == 2
    state.settle(torch.tensor([4]) if 4 not in labelled else torch.tensor([0]))


@pytest.mark.parametrize("new", [3, 8])
def test_no_more_can_join_than_there_are(new):
    state = LabelState(4, room=7)
    with pytest.raises(ValueError, match=r"items joined the 4, the data set has 7"):
        state.apply({"event": "extended", "round": 0, "new": new})
    assert len(state) == 4


@pytest.mark.parametrize(("n", "room", "fits"), [(4, 4, False), (4, 7, True), (7, 7, True)])
def test_a_state_that_grew_is_put_back_where_the_items_are_there(n, room, fits):
    grown = LabelState(4, room=7)
    grown.apply({"event": "extended", "round": 0, "new": 7, "labelled": [5]})
    fresh = LabelState(n, room=room)
    if fits:
        fresh.load_state_dict(grown.state_dict())
        assert fresh.fingerprint() == grown.fingerprint()
    else:
        with pytest.raises(ValueError, match="the saved state is of 7 items"):
            fresh.load_state_dict(grown.state_dict())
