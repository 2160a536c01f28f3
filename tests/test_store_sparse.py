"""Sparse tables on a cluster: memory of touched rows only, bytes on the wire, moves under load, files."""

import os
import threading
import time

import numpy as np
import psutil
import pytest
from distributed import Client, LocalCluster

from dparallel import ParameterStore, SparseTable
from dparallel.place import Local
from dparallel.store import FTRL
from tests import toy_store

client = pytest.fixture(scope="module")(toy_store.two_workers)

N_SPACE = 10**9


def test_rows_have_the_same_first_values_wherever_their_shard_lies(client):
    table, keys = SparseTable(3, "normal", seed=2), np.arange(50) * 10**15
    with ParameterStore({"emb": table}, optimizer="add", n_shards=2, replicas=1) as store:
        first = store.pull("emb", keys=keys)
        store.push({"emb": (keys[::2], np.ones((25, 3)))}, step=(0, 0))
        leaving = store.stats().primaries[0]
        store.drain(leaving)
        assert leaving not in (*store.stats().primaries, *store.stats().backups)
        expected = first + (np.arange(50) % 2 == 0)[:, None]
        np.testing.assert_array_equal(store.pull("emb", keys=keys), expected)
    np.testing.assert_array_equal(first, table.first_rows(keys))


def test_a_file_holds_the_tables_and_goes_on_bit_for_bit(client, tmp_path):
    rng, keys = np.random.default_rng(0), np.arange(40) * 10**15
    given = {"emb": SparseTable(2, "uniform", seed=1), "b": 3}
    with ParameterStore(given, optimizer={"emb": "adam", "b": "adam"}, n_shards=2) as store:
        steps = [
            {"emb": (rng.permutation(keys)[:9], rng.normal(size=(9, 2))), "b": rng.normal(size=3)} for _ in range(8)
        ]
        for clock, update in enumerate(steps[:4]):
            store.push(update, step=(0, clock))
        store.snapshot(tmp_path / "store")
        with ParameterStore.restore(tmp_path / "store") as again:
            for one in (store, again):
                for clock, update in enumerate(steps):
                    one.push(update, step=(0, clock))
            for name, found in again.pull(keys={"emb": keys}).items():
                np.testing.assert_array_equal(found, store.pull(keys={"emb": keys})[name])
            assert again.pull("emb")[0].tolist() == store.pull("emb")[0].tolist()


# under load


class Pushes:
    """A thread that pushes random keys without pause, and times each push."""

    def __init__(self, handle, n_keys):
        self.handle, self.n_keys, self.longest, self.n = handle, n_keys, 0.0, 0
        self.end = threading.Event()
        self.thread = threading.Thread(target=self.run)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *error):
        self.end.set()
        self.thread.join()

    def run(self):
        rng = np.random.default_rng(5)
        while not self.end.is_set():
            keys = rng.integers(0, N_SPACE, self.n_keys)
            start = time.monotonic()
            self.handle.push({"emb": (keys, np.ones(self.n_keys))}, step=(0, self.n))
            self.longest = max(self.longest, time.monotonic() - start)
            self.n += 1


@pytest.mark.parametrize("n_rows", [2000, pytest.param(1_000_000, marks=pytest.mark.slow)])
def test_a_drain_under_load_loses_nothing_and_holds_no_push_up(client, n_rows):
    n_keys, batch = 1000, 50_000
    with ParameterStore({"emb": SparseTable()}, optimizer="add", n_shards=2, replicas=1) as store:
        for clock, keys in enumerate(np.array_split(np.arange(n_rows) + N_SPACE, max(1, n_rows // batch))):
            store.push({"emb": (keys, np.ones(len(keys)))}, step=(1, clock))
        with Pushes(store.handle(), n_keys) as pushes:
            while pushes.n < 5:
                threading.Event().wait(0.01)
            store.drain(store.stats().primaries[0])
            n_then = pushes.n
            while pushes.n < n_then + 5:
                threading.Event().wait(0.01)
        keys, rows = store.pull("emb")
        assert rows.sum() == n_rows + pushes.n * n_keys
        assert (rows[keys >= N_SPACE] == 1).all()
        assert store.stats().restores == 0
        print(f"{n_rows} rows, {pushes.n} pushes while draining, the longest took {pushes.longest:.3f} s")
        if n_rows > 2000:
            assert pushes.longest < 1.0


# memory and messages


def resident():
    return psutil.Process(os.getpid()).memory_info().rss


@pytest.mark.slow
def test_a_million_keys_of_a_billion_take_less_than_150_megabytes():
    """The whole process of a worker that holds the only shard, with the two slots of ftrl."""
    rng, n_keys, batch = np.random.default_rng(0), 1_000_000, 20_000
    with (
        LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=":0") as cluster,
        Client(cluster) as client,
        ParameterStore({"w": SparseTable()}, optimizer=FTRL(0.1, l1=0.1), n_shards=1, replicas=0) as store,
    ):
        keys = np.unique(rng.integers(0, N_SPACE, n_keys + 2000))[:n_keys]
        handle = store.handle()
        handle.push({"w": ([N_SPACE], [1.0])}, step=(0, 0))
        before = next(iter(client.run(resident).values()))
        for clock, part in enumerate(np.array_split(rng.permutation(keys), n_keys // batch), 1):
            handle.push({"w": (part, rng.normal(size=len(part)))}, step=(0, clock))
            handle.pull("w", keys=rng.integers(0, N_SPACE, batch))
        grown = next(iter(client.run(resident).values())) - before
        held = sum(array.nbytes for array in store.state()[0].values())
        assert len(handle.pull("w")[0]) == n_keys + 1
        print(f"process memory grew by {grown / 1e6:.1f} MB for {n_keys} rows; keys, values and slots {held / 1e6:.1f}")
    assert grown < 150e6


@pytest.mark.parametrize("n_shards", [1, 3])
def test_a_table_begins_with_the_rows_that_it_is_given(n_shards):
    keys, rows = np.array([10**15, 3, -7, 4]), np.array([1.0, -2.0, 0.5, 3.0])
    given = {"optimizer": FTRL(learning_rate=0.3, l1=0.1), "n_shards": n_shards, "place": Local(1)}
    with (
        ParameterStore({"w": SparseTable()}, rows={"w": (keys, rows)}, **given) as store,
        ParameterStore({"w": rows}, **{**given, "n_shards": 1}) as dense,
    ):
        assert store.pull("w", keys=[*keys, 8]).tolist() == [*rows, 0.0]
        store.push({"w": (keys, [1.0, 2.0, 3.0, 4.0])}, step=(0, 0))
        dense.push({"w": [1.0, 2.0, 3.0, 4.0]}, step=(0, 0))
        assert store.pull("w", keys=keys).tolist() == dense.pull("w").tolist()
        assert store.pull("w")[0].tolist() == sorted(keys)
