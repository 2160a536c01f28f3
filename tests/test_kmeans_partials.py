"""What k-means computes on a shard is the same when it is run twice, anew without scratch, or after an abort."""

import functools
import pickle

import numpy as np
import pytest
import scipy.sparse

from dparallel import kernels
from dparallel.blocks.block import Block
from dparallel.blocks.shards import Shard
from dparallel.estimators.kmeans import seeding
from dparallel.estimators.kmeans.lloyd import Finish, Lloyd, Totals, assign_shard
from tests import datasets

X = datasets.gauss_mixture(10)[:1000]
WEIGHTS = np.random.default_rng(0).integers(0, 3, 1000).astype(float)
CUTS = [[(0, 300), (300, 301), (301, 301), (301, 640)], [(640, 1000)]]
FRAME = kernels.ruler.Frame(np.zeros(15), 0.125)
MAKE = [np.asarray, scipy.sparse.csr_matrix]


def make_shards(make):
    shards = []
    for number, cuts in enumerate(CUTS):
        blocks = [Block(make(X[low:high]), None, WEIGHTS[low:high], i) for i, (low, high) in enumerate(cuts)]
        shards.append(Shard(number, blocks, offset=cuts[0][0]))
    return shards


def calm(shards, partial, state):
    return [partial(shard, state) for shard in shards]


def run_twice(shards, partial, state):
    calm(shards, partial, state)
    return calm(shards, partial, state)


def lose_scratch(shards, partial, state):
    shards[:] = [pickle.loads(pickle.dumps(shard)) for shard in shards]
    return calm(shards, partial, state)


def lose_one(shards, partial, state):
    shards[0] = pickle.loads(pickle.dumps(shards[0]))
    return calm(shards, partial, state)


class Abort(Exception):
    pass


def abort_first(shards, partial, state):
    """Stop each shard's work at its last block, then run it again."""
    for shard in shards:
        whole = shard.blocks
        shard.blocks = _Broken(whole)
        with pytest.raises(Abort):
            partial(shard, state)
        shard.blocks = whole
    return calm(shards, partial, state)


class _Broken:
    def __init__(self, blocks):
        self.blocks = blocks

    def __iter__(self):
        yield from list(self.blocks)[:-1]
        raise Abort


DISTURBED = [run_twice, lose_scratch, lose_one, abort_first]


def lloyd_rounds(shards, disturb, *, bounded, n_rounds=8):
    """Each round's total, and after the last one the totals and labels under its centres."""
    algorithm = Lloyd(None, bounded, 0.0, 0.0)
    state = algorithm.start("run", FRAME, FRAME.enter(X[:9] + 0.1))
    for _ in range(n_rounds):
        total = functools.reduce(Totals.add, disturb(shards, assign_shard, state))
        yield total
        state = algorithm.update(state, total)
    yield functools.reduce(Totals.add, disturb(shards, Finish(True), state))


@pytest.mark.parametrize("bounded", [False, True])
@pytest.mark.parametrize("disturb", DISTURBED)
@pytest.mark.parametrize("make", MAKE)
def test_rounds_of_lloyd_total_the_same(make, disturb, bounded):
    expected = lloyd_rounds(make_shards(make), calm, bounded=bounded)
    for a, b in zip(expected, lloyd_rounds(make_shards(make), disturb, bounded=bounded), strict=True):
        assert (a.sums + a.rest == b.sums + b.rest).all()
        assert (a.members == b.members).all() and a.n_changed == b.n_changed and a.inertia == b.inertia
        assert all((x == y).all() for x, y in zip(a.labels, b.labels, strict=True))


@pytest.mark.parametrize("make", MAKE)
def test_bounds_and_every_row_measured_total_the_same(make):
    plain, bound = (lloyd_rounds(make_shards(make), calm, bounded=bounded) for bounded in (False, True))
    for a, b in zip(plain, bound, strict=True):
        assert (a.sums + a.rest == b.sums + b.rest).all() and a.n_changed == b.n_changed


def seeding_rounds(shards, disturb):
    """Every kind of draw of the seedings, one after the other on the same scratch."""
    rows, fresh = FRAME.enter(X[:1]), 1
    for number in range(3):
        key = kernels.draws.key(3, "scalable", number)
        state = seeding.SeedState("run", number, FRAME, rows, fresh, (key,), 30.0)
        draw = functools.reduce(seeding._Thin(state), disturb(shards, seeding.oversample_shard, state))
        yield draw.cost, draw.rows
        rows, fresh = np.concatenate([rows, FRAME.enter(draw.rows)]), len(draw.rows)
    keys = tuple(kernels.draws.key(3, "greedy", trial) for trial in range(4))
    state = seeding.SeedState("run", 3, FRAME, rows, fresh, keys, 1)
    draw = functools.reduce(seeding._First(1), disturb(shards, seeding.race_shard, state))
    yield draw.cost, draw.rows
    tried = np.concatenate([rows, FRAME.enter(draw.rows)])
    state = seeding.SeedState("run", 4, FRAME, tried, len(draw.rows), (), 0.0)
    yield (functools.reduce(np.add, disturb(shards, seeding.potential_shard, state)),)
    yield (functools.reduce(np.add, disturb(shards, seeding.count_shard, state)),)


@pytest.mark.parametrize("disturb", DISTURBED)
@pytest.mark.parametrize("make", MAKE)
def test_draws_of_first_centres_are_the_same(make, disturb):
    for a, b in zip(seeding_rounds(make_shards(make), calm), seeding_rounds(make_shards(make), disturb), strict=True):
        for x, y in zip(a, b, strict=True):
            np.testing.assert_allclose(x, y, rtol=1e-12)


def test_scratch_of_another_run_is_not_taken():
    shards = make_shards(np.asarray)
    list(lloyd_rounds(shards, calm, bounded=True, n_rounds=3))
    list(seeding_rounds(shards, calm))
    again = lloyd_rounds(shards, calm, bounded=True)
    for a, b in zip(lloyd_rounds(make_shards(np.asarray), calm, bounded=True), again, strict=True):
        assert (a.sums + a.rest == b.sums + b.rest).all() and a.n_changed == b.n_changed
