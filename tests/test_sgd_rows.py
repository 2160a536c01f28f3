"""Which rows a step visits, and which are held out: draws that belong to (seed, epoch, block) and to row numbers."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dparallel.blocks.block import Block
from dparallel.blocks.gate import gather
from dparallel.blocks.shards import Shard
from dparallel.blocks.streaming import LazyBlock
from dparallel.compat import task_graph
from dparallel.errors import DataError
from dparallel.estimators.sgd.algorithm import LinearSGD
from dparallel.estimators.sgd.classes import Labels, LabelSummary, summarise_labels
from dparallel.estimators.sgd.holdout import HeldOut, hold_out
from dparallel.estimators.sgd.numbers import Numbers, NumberSummary, summarise_numbers
from dparallel.estimators.sgd.pace import choose_pace
from dparallel.estimators.sgd.rows import PartitionRows, Reading, Segment, Source, count_batches
from dparallel.kernels import draws
from dparallel.rounds import open_rounds


def source(heights, *, shuffle=True, seed=0, held_out=None):
    """Blocks whose only column and y are the rows' global numbers."""
    starts = np.concatenate([[0], np.cumsum(heights)])
    blocks = [
        Block(np.arange(low, high, dtype=float)[:, None], np.arange(low, high, dtype=float), index=i)
        for i, (low, high) in enumerate(zip(starts, starts[1:]))
    ]
    reading = Reading(Numbers(), seed, shuffle, held_out)
    return Source(blocks, range(len(blocks)), starts[:-1].tolist(), reading)


def visited(partition, epoch, batch_size, push_every):
    """Global numbers of the rows of each step of an epoch, each a list of stretches."""
    n_steps = -(-partition.count_batches(batch_size) // push_every)
    return [
        [
            s.block.y[s.rows].astype(int)
            for s in partition.between(epoch, i * push_every, (i + 1) * push_every, batch_size)
        ]
        for i in range(n_steps)
    ]


@given(
    heights=st.lists(st.integers(0, 40), min_size=1, max_size=6),
    batch_size=st.sampled_from([1, 3, 8, 100]),
    push_every=st.sampled_from([1, 2, 5, 1000]),
    shuffle=st.booleans(),
)
def test_an_epoch_visits_every_row_once_in_steps_of_so_many_minibatches(heights, batch_size, push_every, shuffle):
    partition = PartitionRows(source(heights, shuffle=shuffle), [Segment(i, 0, n) for i, n in enumerate(heights)])
    assert partition.count_batches(batch_size) == count_batches(heights, batch_size)
    for epoch in range(2):
        steps = visited(partition, epoch, batch_size, push_every)
        rows = np.concatenate([part for step in steps for part in step] or [np.empty(0, int)])
        assert sorted(rows.tolist()) == list(range(sum(heights)))
        for step in steps[:-1]:
            assert sum(count_batches([len(part)], batch_size) for part in step) == push_every
        stretches = [
            s
            for i in range(len(steps))
            for s in partition.between(epoch, i * push_every, (i + 1) * push_every, batch_size)
        ]
        before = [(s.batches_before, s.rows_before) for s in stretches]
        lengths = [(count_batches([len(s.rows)], batch_size), len(s.rows)) for s in stretches]
        assert before == [tuple(x) for x in np.cumsum([(0, 0), *lengths], axis=0)[:-1].tolist()]
        assert shuffle or rows.tolist() == list(range(sum(heights)))
    assert list(partition.between(0, 10**6, 10**6 + push_every, batch_size)) == []


def test_orders_belong_to_seed_epoch_and_block_and_to_nothing_else():
    partition = PartitionRows(source([50, 50, 50]), [Segment(i, 0, 50) for i in range(3)])
    first, again, second = (np.concatenate(visited(partition, e, 8, 100)[0]) for e in (0, 0, 1))
    assert (first == again).all() and (first != second).any()
    other = PartitionRows(source([50, 50, 50], seed=1), [Segment(i, 0, 50) for i in range(3)])
    assert (np.concatenate(visited(other, 0, 8, 100)[0]) != first).any()
    # a block's order is its own, whichever partition it lies in
    alone = PartitionRows(source([50, 50, 50]), [Segment(1, 0, 50)])
    in_both = first[(first >= 50) & (first < 100)]
    assert (np.concatenate(visited(alone, 0, 8, 100)[0]) == in_both).all()


def test_partitions_of_one_block_share_every_epoch_out_anew():
    whole = source([1000])
    halves = [PartitionRows(whole, [Segment(0, low, low + 500)]) for low in (0, 500)]
    shares = []
    for epoch in range(2):
        rows = [np.concatenate([part for step in visited(half, epoch, 7, 3) for part in step]) for half in halves]
        assert sorted(np.concatenate(rows).tolist()) == list(range(1000))
        shares.append(set(rows[0].tolist()))
    assert 150 < len(shares[0] & shares[1]) < 350  # a quarter of all in both, by chance


def block_of(number):
    return Block(np.full((5, 1), float(number)), np.full(5, float(number)), index=number)


def test_only_the_last_streamed_block_is_kept():
    graph, _ = task_graph({f"block-{i}": (block_of, i) for i in range(3)})
    lazy = [LazyBlock({key: task}, key, 5, 80) for key, task in graph.items()]
    reading = Reading(Numbers(), 0)
    blocks = Source(lazy, range(3), [0, 5, 10], reading)
    first = blocks.block(0)
    assert blocks.block(0) is first and (first.y == 0).all()
    assert (blocks.block(2).y == 2).all() and blocks.block(0) is not first


@pytest.mark.parametrize("chunks", [[600], [100] * 6, [1, 299, 300]])
def test_what_is_held_out_does_not_depend_on_blocks(chunks):
    held = HeldOut(draws.key(0, "held out"), np.array([0.25]))
    cut = source(chunks, held_out=held)
    mask = np.concatenate([cut.block(i).held for i in range(len(chunks))])
    assert (mask == held.mask(0, np.zeros(600, int))).all() and 100 < mask.sum() < 200
    for i in range(len(chunks)):
        block = cut.block(i)
        assert (block.weights == ~block.held).all() and (block.held_weights == block.held).all()


@pytest.mark.parametrize("fraction", [1e-6, 0.1, 0.999999])
def test_every_class_of_two_rows_is_held_out_and_learnt(fraction):
    y = np.array([0] * 500 + [1] * 2 + [2] * 1 + [3] * 40)
    labels = Labels(np.arange(4))
    with open_rounds(gather(np.zeros((543, 2)), y)) as rounds:
        held = hold_out(rounds, labels, 5, fraction, 543)
    mask = held.mask(0, y)
    counts = np.bincount(y[mask], minlength=4)
    assert (counts[[0, 1, 3]] >= 1).all() and counts[2] == 0
    assert (np.bincount(y[~mask], minlength=4) >= 1).all()


def test_rows_of_weight_zero_are_not_what_a_class_is_held_out_by():
    y = np.array([0, 0, 0, 1, 1, 1] * 3)
    weights = np.array([1.0, 1.0, 0.0, 1.0, 1.0, 0.0] * 3)
    with open_rounds(gather(np.zeros((18, 1)), y, weights)) as rounds:
        for seed in range(20):
            mask = hold_out(rounds, Labels(np.arange(2)), seed, 0.01, 18).mask(0, y)
            assert all((weights[mask & (y == k)] > 0).any() and (weights[~mask & (y == k)] > 0).any() for k in (0, 1))


@pytest.mark.parametrize(
    "blocks",
    [
        [["b", "a"], [], ["c", "a", "a"]], [[1, 5], [2], [5]], [[1.0, 2.0], [3.0]], [[True], [False, True]],
        [["long name"], ["x"]], [[], [3, 3]],
    ],
)  # fmt: skip
def test_classes_are_found_over_all_blocks(blocks):
    parts = [np.array(block) if block else np.empty(0) for block in blocks]
    total = LabelSummary(np.empty(0), np.empty(0), np.empty(0))
    for part in parts:
        total = total.merge(summarise_labels(part, np.full(len(part), 2.0)))
    everything = [label for block in blocks for label in block]
    assert total.classes.tolist() == sorted(set(everything))
    assert total.weights.tolist() == [2.0 * everything.count(label) for label in total.classes.tolist()]


def test_labels_become_numbers_and_back_and_unknown_ones_are_named():
    labels = Labels(np.array(["a", "b", "c"]), np.array([1.0, 2.0, 4.0]))
    targets = labels.targets(np.array(["c", "a", "b"]))
    assert targets.tolist() == [2.0, 0.0, 1.0] and targets.dtype == np.float64
    assert labels.weigh(targets, None).tolist() == [4.0, 1.0, 2.0]
    assert labels.weigh(targets, np.array([1.0, 0.0, 3.0])).tolist() == [4.0, 0.0, 6.0]
    assert Labels(np.array([3, 7])).targets(np.array([7, 3, 7])).tolist() == [1.0, -1.0, 1.0]
    for unknown in (np.array(["a", "z"]), np.array([1, 2]), np.array([None, "a"], dtype=object)):
        with pytest.raises(DataError, match="not among the classes"):
            labels.encode(unknown)


@given(st.lists(st.lists(st.floats(-1e6, 1e6), max_size=20), max_size=5))
def test_the_spread_of_targets_is_that_of_all_blocks(blocks):
    total = NumberSummary(0.0, 0.0, 0.0)
    for block in blocks:
        total = total.merge(summarise_numbers(np.array(block), None))
    y = np.array([value for block in blocks for value in block])
    assert total.weight == len(y)
    if len(y):
        np.testing.assert_allclose(
            [total.mean, total.spread], [y.mean(), y.std()], rtol=1e-9, atol=1e-9 * np.abs(y).max()
        )


@pytest.mark.parametrize("is_local", [False, True])
@pytest.mark.parametrize("n_rows, n_features", [(20, 4), (5000, 50), (900_000, 100), (10**8, 1000)])
def test_pace_comes_from_shapes_and_stays_within_reason(n_rows, n_features, is_local):
    for n_partitions in (1, 2, 64):
        shape = {"n_rows": n_rows, "n_partitions": n_partitions, "entries": n_rows * n_features, "n_outputs": 1}
        pace = choose_pace("auto", "auto", **shape, is_local=is_local)
        assert 1 <= pace.batch_size <= 32 and pace.push_every >= 1
        seconds = pace.batch_size * pace.push_every * pace.row_seconds
        assert seconds < (0.011 if is_local else 0.11)
        assert choose_pace(7, 3, **shape, is_local=is_local).batch_size == 7
    if n_rows == 900_000:
        two = choose_pace(
            "auto", "auto", n_rows=n_rows, n_partitions=2, entries=n_rows * 100, n_outputs=1, is_local=True
        )
        assert n_rows / 2 / (two.batch_size * two.push_every) >= 8


def test_a_shard_knows_its_blocks_numbers_and_first_rows():
    blocks = [Block(np.zeros((n, 1)), np.zeros(n), index=i) for i, n in enumerate([3, 4, 5])]
    algorithm = object.__new__(LinearSGD)
    algorithm.__dict__.update(whole=None, row_counts=np.array([7, 3, 4, 5]), reading=Reading(Numbers(), 0))
    partition = algorithm.prepare(Shard(1, blocks, first_block=1))
    assert list(partition.source.numbers) == [1, 2, 3] and list(partition.source.first_rows) == [7, 10, 14]
    assert [segment.n_rows for segment in partition.segments] == [3, 4, 5]
