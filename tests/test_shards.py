"""Shards, their scratch, and the streaming of blocks that do not fit."""

import pickle
import sys
from contextlib import suppress

import dask.array as da
import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st

from dparallel.blocks.block import Block
from dparallel.blocks.loading import group_blocks, independent_blocks, keep_first
from dparallel.blocks.shards import Scratch, Shard, cut_block, report_shard, warn_if_streamed
from dparallel.blocks.streaming import BlockStream
from dparallel.errors import StreamingWarning
from tests.toys import blocks_of


def lazy_entries(n_blocks=6, unknown=False):
    X = da.random.default_rng(0).random((n_blocks * 10, 3), chunks=(10, 3))
    return independent_blocks(blocks_of(X, unknown)), X.compute(scheduler="sync")


def test_scratch_is_given_back_only_under_its_stamp():
    scratch = Scratch()
    scratch.commit(("run", 1), "bounds")
    with scratch.borrow(("run", 0)) as held:
        assert held is None
    with scratch.borrow(("run", 1)) as held:
        assert held is None  # a borrow under a wrong stamp threw it away
    scratch.commit(("run", 1), "bounds")
    with scratch.borrow(("run", 1)) as held:
        assert held == "bounds"


def test_an_aborted_partial_leaves_no_valid_scratch():
    scratch = Scratch()
    scratch.commit(1, [1])
    with suppress(KeyboardInterrupt), scratch.borrow(1) as held:
        held.append(2)
        raise KeyboardInterrupt
    with scratch.borrow(1) as held:
        assert held is None


def test_a_partial_that_runs_twice_finds_its_scratch_used_up():
    scratch = Scratch()
    scratch.commit(1, "of round 1")
    for expected in ("of round 1", None, None):
        with scratch.borrow(1) as held:
            assert held == expected
            scratch.commit(2, "of round 2")


def test_disabled_scratch_keeps_nothing():
    scratch = Scratch(enabled=False)
    scratch.commit(1, "large")
    with scratch.borrow(1) as held:
        assert held is None


def test_a_shard_travels_without_its_scratch():
    shard = Shard(3, [Block(np.arange(6.0).reshape(3, 2))], first_block=7, offset=5)
    shard.scratch.commit(1, "bounds")
    copy = pickle.loads(pickle.dumps(shard))
    assert (copy.index, copy.first_block, copy.offset, copy.n_rows) == (3, 7, 5, 3)
    with copy.scratch.borrow(1) as held:
        assert held is None
    with shard.scratch.borrow(1) as held:
        assert held == "bounds"


def test_dask_sees_the_size_of_a_shard():
    assert sys.getsizeof(Shard(0, [Block(np.zeros((1000, 10)))])) > 80_000


@pytest.mark.parametrize("n_pieces", [1, 2, 3, 7])
def test_pieces_of_a_block_share_its_memory_and_cover_its_rows(n_pieces):
    X, y, w = np.random.default_rng(0).random((20_000, 12)), np.arange(20_000), np.ones(20_000)
    shards = cut_block(Block(X, y, w), n_pieces)
    assert len(shards) == n_pieces
    pieces = [block for shard in shards for block in shard.blocks]
    assert all(np.shares_memory(piece.X, X) for piece in pieces)
    np.testing.assert_array_equal(np.concatenate([piece.X for piece in pieces]), X)
    np.testing.assert_array_equal(np.concatenate([piece.y for piece in pieces]), y)
    assert [shard.offset for shard in shards] == [0, *np.cumsum([piece.n_rows for piece in pieces])[:-1]]
    assert all(len(piece.sample_weight) == piece.n_rows for piece in pieces)


@pytest.mark.parametrize("kind", [sp.csr_matrix, sp.csr_array])
def test_pieces_of_a_csr_block_share_its_memory(kind):
    X = kind(sp.random(10_000, 30, 0.3, format="csr", random_state=0))
    shards = cut_block(Block(X), 4)
    assert len(shards) > 1
    pieces = [next(iter(shard.blocks)).X for shard in shards]
    assert all(np.shares_memory(piece.data, X.data) and np.shares_memory(piece.indices, X.indices) for piece in pieces)
    assert (sp.vstack(pieces) != X).nnz == 0


def test_small_data_are_one_shard():
    assert len(cut_block(Block(np.zeros((150, 4))), 64)) == 1


@given(rows=st.lists(st.one_of(st.none(), st.integers(0, 50)), min_size=1, max_size=40), n=st.integers(1, 12))
def test_groups_are_consecutive_and_none_is_empty(rows, n):
    ranges = group_blocks(rows, n)
    assert len(ranges) == min(n, len(rows))
    assert ranges[0][0] == 0 and ranges[-1][1] == len(rows)
    assert all(low < high for low, high in ranges)
    assert all(before[1] == after[0] for before, after in zip(ranges, ranges[1:]))


def test_groups_hold_about_the_same_rows():
    assert group_blocks([10, 10, 10, 10, 40, 40, 40], 2) == [(0, 5), (5, 7)]
    assert group_blocks([100, 1, 1, 1], 2) == [(0, 1), (1, 4)]


def test_streamed_blocks_come_in_order_in_every_pass():
    entries, X = lazy_entries()
    entries[2] = entries[2].compute()
    stream = BlockStream(entries)
    for _ in range(2):
        np.testing.assert_array_equal(np.concatenate([block.X for block in stream]), X)


def test_a_pass_counts_unknown_rows():
    entries, _ = lazy_entries(unknown=True)
    shard = Shard(0, entries)
    assert shard.n_rows is None
    for _ in shard.blocks:
        pass
    assert shard.rows == (10,) * 6 and shard.n_rows == 60


def test_an_error_in_a_streamed_block_ends_the_pass_with_that_error():
    X = da.from_array(np.ones((4, 2)), chunks=(2, 2)).map_blocks(lambda x: 1 / 0, dtype=float, meta=np.ones((0, 0)))
    with pytest.raises(ZeroDivisionError):
        list(BlockStream(independent_blocks(blocks_of(X))))


def test_the_first_blocks_are_kept_as_far_as_the_budget_goes_with_room_for_three_in_flight():
    for unknown in (False, True):
        for budget, n_kept in [(0, 0), (100, 0), (720, 0), (960, 1), (1200, 2), (1440, 6)]:
            entries, _ = lazy_entries(unknown=unknown)
            assert sum(isinstance(entry, Block) for entry in keep_first(entries, budget)) == n_kept
    entries, _ = lazy_entries(unknown=True)
    assert sum(isinstance(entry, Block) for entry in keep_first(entries, 2000, scratch_bytes_per_row=24)) == 1


def test_no_block_is_computed_that_is_known_not_to_fit():
    entries, _ = lazy_entries()
    entries[1].graph = {}  # computing it would fail
    assert not any(isinstance(entry, Block) for entry in keep_first(entries, 300))


def test_blocks_with_a_task_in_common_are_not_independent():
    X = da.random.default_rng(0).random((40, 3), chunks=(10, 3))
    assert independent_blocks(blocks_of(X)) is not None
    assert independent_blocks(blocks_of(X - X.mean(axis=0))) is None
    assert independent_blocks(blocks_of(X.rechunk((15, 3)))) is None


def test_streaming_is_said_with_sizes():
    entries, _ = lazy_entries()
    shard = Shard(0, keep_first(entries, 1300))
    with pytest.warns(
        StreamingWarning, match=r"4 of 6 blocks .* read again in every round: 0\.00 GB are kept, about 0"
    ):
        warn_if_streamed([report_shard(shard)])


def test_a_shard_that_was_moved_holds_its_rows_at_even_addresses():
    from distributed.protocol import deserialize, serialize

    X = np.random.default_rng(0).random((300, 3))
    weights = np.ones(300)
    header, frames = serialize(Shard(0, [Block(X, sample_weight=weights), Block(sp.csr_matrix(X))]))
    odd = [np.frombuffer(b"x" + bytes(frame), np.uint8)[1:].data for frame in frames]
    moved = list(deserialize(header, odd).blocks)
    np.testing.assert_array_equal(moved[0].X, X)
    np.testing.assert_array_equal(moved[1].X.toarray(), X)
    for part in (moved[0].X, moved[0].sample_weight, moved[1].X.data, moved[1].X.indices, moved[1].X.indptr):
        assert part.flags.aligned
