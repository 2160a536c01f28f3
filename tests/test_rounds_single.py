"""A single round, in this process and on a cluster, against sums that are known."""

import os
import signal
import threading
from collections import Counter
from operator import add

import dask
import dask.array as da
import numpy as np
import pytest
from distributed import Client, LocalCluster, wait

from dparallel.blocks.loading import fused
from dparallel.errors import ClusterLostError, DataError, DataLostError, PlaceError
from dparallel.rounds import reduce_once
from tests.clusters import until
from tests.toys import blocks_of, concatenate, sum_shard

N_BLOCKS = 40  # more than are combined at once


@pytest.fixture(scope="module")
def client():
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 3}),
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster,
        Client(cluster) as client,
    ):
        yield client


@pytest.fixture
def ours(client):
    """Our keys on the workers; both of them are there before and after a test."""
    client.wait_for_workers(2, timeout=30)
    yield lambda: [key for keys in client.has_what().values() for key in keys if "dparallel" in str(key)]
    client.wait_for_workers(2, timeout=30)


def numbers(n_blocks=N_BLOCKS):
    X = da.random.default_rng(3).random((1000, 3), chunks=(-(-1000 // n_blocks), 3))
    return X, X.compute(scheduler="sync")


def which_blocks(shard, state):
    return [(block.index, shard.first_block, state) for block in shard.blocks]


@pytest.mark.usefixtures("place")
@pytest.mark.parametrize("n_blocks", [1, 2, N_BLOCKS])
@pytest.mark.parametrize("unknown", [False, True])
def test_a_sum_does_not_depend_on_chunking(n_blocks, unknown):
    X, expected = numbers(n_blocks)
    found = reduce_once(blocks_of(X, unknown), sum_shard, np.add)
    np.testing.assert_allclose(found, [*expected.sum(axis=0), 1000], rtol=1e-12)


@pytest.mark.usefixtures("place")
def test_parts_are_combined_in_row_order_and_know_the_state():
    found = reduce_once(blocks_of(numbers()[0]), which_blocks, concatenate, "state")
    assert [index for index, _, _ in found] == list(range(N_BLOCKS))
    assert all(first <= index and state == "state" for index, first, state in found)


def test_numpy_is_summed_in_this_process_though_a_client_is_open(client):
    X = np.random.default_rng(0).random((50_000, 3))
    np.testing.assert_allclose(reduce_once(blocks_of(X), sum_shard, np.add), [*X.sum(axis=0), 50_000])
    assert reduce_once(blocks_of(X), lambda shard, state: {os.getpid()}, set.union) == {os.getpid()}


@pytest.mark.usefixtures("place")
def test_each_block_is_read_once(tmp_path):
    def log_read(x, block_info=None):
        with open(tmp_path / "reads", "a") as file:
            file.write(f"{block_info[0]['chunk-location'][0]}\n")
        return x

    X, expected = numbers()
    logged = X.map_blocks(log_read, dtype=X.dtype, meta=X._meta)
    with dask.config.set({"dparallel.memory-share": 1e-9}):  # nothing has to be held
        found = reduce_once(blocks_of(logged - expected.mean(axis=0)), sum_shard, np.add)
    np.testing.assert_allclose(found, [0, 0, 0, 1000], atol=1e-10)
    assert sorted(map(int, (tmp_path / "reads").read_text().split())) == list(range(N_BLOCKS))


def test_persisted_blocks_are_used_where_they_are(client):
    X, expected = numbers(8)
    persisted = X.persist()
    wait(persisted)
    homes = {key[1]: workers for key, workers in client.who_has(persisted).items()}
    np.testing.assert_allclose(reduce_once(blocks_of(persisted), sum_shard, np.add)[:3], expected.sum(axis=0))
    pids = client.run(os.getpid)
    placed = reduce_once(blocks_of(persisted), lambda shard, _: [(shard.first_block, os.getpid())], concatenate)
    at_home = [pid in {pids[worker] for worker in homes[i]} for i, pid in placed if i in homes]
    assert sum(at_home) >= 6  # an idle worker may take what waits at a busy one


@pytest.mark.usefixtures("place")
def test_errors_of_partials_and_of_blocks_reach_the_user_as_they_are():
    def fail(shard, state):
        raise DataError("Block 0 holds NaN.")

    with pytest.raises(DataError, match="Block 0 holds NaN"):
        reduce_once(blocks_of(numbers()[0]), fail, np.add)
    broken = da.ones((10, 3), chunks=(5, 3)).map_blocks(lambda x: 1 / 0, dtype=float, meta=np.ones((0, 0)))
    with pytest.raises(ZeroDivisionError):
        reduce_once(blocks_of(broken), sum_shard, np.add)


def test_nothing_stays_on_the_workers_after_a_sum_an_error_or_ctrl_c(ours):
    blocks = blocks_of(numbers()[0])
    reduce_once(blocks, sum_shard, np.add)
    until(lambda: not ours(), timeout_s=10)

    def wait_a_little(shard, state):
        threading.Event().wait(0.2)

    interrupt = threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT))
    interrupt.start()
    with pytest.raises(KeyboardInterrupt):
        reduce_once(blocks, wait_a_little, np.add)
    interrupt.join()
    until(lambda: not ours(), timeout_s=10)


def test_futures_without_their_client_are_refused(client):
    X = numbers()[0].persist()
    with dask.config.set(scheduler="threads"), pytest.raises(PlaceError, match="hold futures"):
        reduce_once(blocks_of(X), sum_shard, np.add)


def kill_worker_once(shard, path):
    """Kill the worker at block 20, but only the first."""
    if shard.first_block == 20 and not path.exists():
        path.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return sum_shard(shard, None)


def kill_worker(shard, state):
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.usefixtures("ours")
@pytest.mark.parametrize("persisted", [False, True])
def test_a_killed_worker_changes_no_bit(tmp_path, persisted):
    X = numbers()[0]
    X = X.persist() if persisted else X
    before = reduce_once(blocks_of(X), sum_shard, np.add)
    found = reduce_once(blocks_of(X), kill_worker_once, np.add, tmp_path / "killed")
    assert (tmp_path / "killed").exists()
    np.testing.assert_array_equal(found, before)


@pytest.mark.usefixtures("ours")
def test_a_partial_that_kills_its_workers_ends_with_a_name():
    with pytest.raises(ClusterLostError, match="4 workers died one after another"):
        reduce_once(blocks_of(numbers(1)[0]), kill_worker, np.add)


@pytest.mark.usefixtures("ours")
def test_scattered_data_that_die_are_named(client, tmp_path):
    worker = sorted(client.nthreads())[0]
    future = client.scatter(np.ones((10, 3)), workers=[worker])
    X = da.concatenate([da.from_delayed(dask.delayed(future), (10, 3), meta=np.ones((0, 0))), da.ones((10, 3))])
    os.kill(client.run(os.getpid)[worker], signal.SIGKILL)
    with pytest.raises(DataLostError, match="Block 0"):
        reduce_once(blocks_of(X), sum_shard, np.add)


def test_what_only_one_block_needs_is_one_task_and_what_several_need_stays_apart():
    counts = Counter()

    def counted(name, value):
        counts[name] += 1
        return value

    def together(own, common, data):
        return own + common + data.sum()

    graph = {"data": np.arange(3), "common": (counted, "once", 10)}
    for i in range(3):
        graph[f"read-{i}"] = (counted, "read", i)
        graph[f"alias-{i}"] = f"read-{i}"
        graph[f"twice-{i}"] = (add, f"alias-{i}", f"read-{i}")
        graph[f"block-{i}"] = (together, f"twice-{i}", "common", "data")
    keys = [f"block-{i}" for i in range(3)]
    found = fused(graph, keys)
    assert set(found) == {"data", "common", *keys}
    assert list(dask.get(found, keys)) == [13, 15, 17]
    assert counts == {"once": 1, "read": 3}
    assert fused(graph, keys[:1]) == graph  # the tasks of one block alone may run side by side
