"""The engine, in this process and on a cluster, against sums that are known."""

import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from uuid import uuid4

import dask
import dask.array as da
import numpy as np
import pytest
from distributed import Client, LocalCluster, wait

from dparallel.errors import DataError, MemoryBudgetError, StreamingWarning
from dparallel.rounds import Partitioning, iterate, open_rounds
from tests.toys import Means, TwoMeans, blocks_of, concatenate, locate_shard, plain_two_means, sum_shard


@pytest.fixture(scope="module")
def client():
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster, Client(cluster) as client:
        yield client


def numbers(n_rows=1000, n_blocks=7, **options):
    X = da.random.default_rng(3).random((n_rows, 3), chunks=(-(-n_rows // n_blocks), 3), **options)
    return X, X.compute(scheduler="sync")


def ours(client):
    return [key for keys in client.has_what().values() for key in keys if "dparallel" in str(key)]


def until(condition, timeout_s=10):
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        threading.Event().wait(0.01)


def fail_on_one(shard, path):
    """Fail on the first shard; leave a file after a while on the second."""
    if shard.index == 0:
        raise DataError("Block 0 holds NaN.")
    threading.Event().wait(3)
    path.touch()


@pytest.mark.usefixtures("place")
@pytest.mark.parametrize("n_blocks", [1, 2, 7, 50])
@pytest.mark.parametrize("unknown", [False, True])
def test_a_sum_does_not_depend_on_chunking(n_blocks, unknown):
    X, expected = numbers(n_blocks=n_blocks)
    with open_rounds(blocks_of(X, unknown)) as rounds:
        np.testing.assert_allclose(rounds.reduce(sum_shard, np.add), [*expected.sum(axis=0), 1000], rtol=1e-12)
        assert rounds.n_rows == 1000


def test_numpy_is_summed_in_this_process_though_a_client_is_open(client):
    X = np.random.default_rng(0).random((50_000, 3))
    with open_rounds(blocks_of(X)) as rounds:
        assert rounds.is_local and rounds.n_rows == 50_000 and rounds.bytes_moved == 0
        np.testing.assert_allclose(rounds.reduce(sum_shard, np.add), [*X.sum(axis=0), 50_000])


@pytest.mark.usefixtures("place")
@pytest.mark.parametrize("unknown", [False, True])
def test_shards_cover_the_rows_in_order(unknown):
    X, _ = numbers(n_blocks=9)
    with open_rounds(blocks_of(X, unknown)) as rounds:
        found = rounds.reduce(locate_shard, concatenate)
        assert [offset for offset, *_ in found] == [0, *np.cumsum([n_rows for _, n_rows, *_ in found])[:-1]]
        assert found == rounds.collect(lambda shard, state: locate_shard(shard, state)[0])


def test_a_round_is_one_task_per_thread_whatever_the_number_of_blocks(client):
    X, _ = numbers(n_blocks=100)
    with open_rounds(blocks_of(X)) as rounds:
        assert rounds.n_shards == 2
        pids = {pid for *_, pid in rounds.reduce(locate_shard, concatenate)}
        assert pids == set(client.run(os.getpid).values())


@pytest.mark.usefixtures("client")
def test_many_parts_are_combined_on_the_workers():
    with (
        LocalCluster(n_workers=1, threads_per_worker=40, processes=False, dashboard_address=":0") as cluster,
        Client(cluster),
    ):
        X, expected = numbers(n_blocks=100)
        with open_rounds(blocks_of(X)) as rounds:
            assert rounds.n_shards == 40
            np.testing.assert_allclose(rounds.reduce(sum_shard, np.add)[:3], expected.sum(axis=0))
            many = rounds.bytes_moved
            found = rounds.reduce(locate_shard, concatenate)
            assert [offset for offset, *_ in found] == sorted(offset for offset, *_ in found)
            rounds.collect(sum_shard)
            assert many < rounds.bytes_moved


@pytest.mark.usefixtures("client")
def test_large_parts_are_combined_on_each_worker_before_they_travel():
    with (
        LocalCluster(n_workers=2, threads_per_worker=2, dashboard_address=":0") as cluster,
        Client(cluster),
    ):
        with open_rounds(blocks_of(numbers(n_blocks=10)[0])) as rounds:
            assert rounds.n_shards == 4
            gathered = []
            fetch = rounds.watch.gather
            rounds.watch.gather = lambda futures: gathered.append(len(futures)) or fetch(futures)
            found = rounds.reduce(locate_shard, concatenate, per_worker=True)
            apart = rounds.reduce(locate_shard, concatenate)
        assert found == apart and len(found) == 4
        assert gathered == [2, 4]


@pytest.mark.usefixtures("place")
def test_a_large_state_arrives_whole():
    X, _ = numbers()
    state = np.random.default_rng(0).random(200_000)
    with open_rounds(blocks_of(X)) as rounds:
        assert rounds.collect(lambda shard, state: state.sum(), state) == [state.sum()] * rounds.n_shards
        assert rounds.is_local or state.nbytes * 2 < rounds.bytes_moved < state.nbytes * 2 + 10_000


@pytest.mark.usefixtures("place")
def test_iterate_gives_what_plain_numpy_gives():
    X, values = numbers(20_000, 13)
    with open_rounds(blocks_of(X)) as rounds:
        outcome = iterate(rounds, TwoMeans(), Means(), max_rounds=200)
    assert outcome.converged and "moved by" in outcome.stop_reason
    expected = plain_two_means(values.mean(axis=1), outcome.n_rounds)
    np.testing.assert_allclose(outcome.state.centres, expected, rtol=1e-12)


@pytest.mark.usefixtures("place")
def test_a_partial_that_runs_twice_changes_no_number():
    X, values = numbers(20_000, 13)

    class Twice(TwoMeans):
        def partial(self, shard, state):
            TwoMeans.partial(self, shard, state)
            return TwoMeans.partial(self, shard, state)

    with open_rounds(blocks_of(X)) as rounds:
        outcome = iterate(rounds, Twice(tolerance=-1), Means(), max_rounds=10)
    np.testing.assert_allclose(outcome.state.centres, plain_two_means(values.mean(axis=1), 10), rtol=1e-12)


@pytest.mark.usefixtures("place")
def test_streaming_gives_the_same_sum_and_reads_each_block_once_per_round(tmp_path):
    def log_read(x, block_info=None):
        with open(tmp_path / "reads", "a") as file:
            file.write(f"{block_info[0]['chunk-location'][0]}\n")
        return x

    def reads():
        return sorted(map(int, (tmp_path / "reads").read_text().split()))

    X, expected = numbers(n_blocks=8)
    logged = X.map_blocks(log_read, dtype=X.dtype, meta=X._meta)
    with open_rounds(blocks_of(logged)) as rounds:
        for _ in range(3):
            rounds.collect(locate_shard)
    assert reads() == list(range(8))  # kept in memory
    (tmp_path / "reads").unlink()
    with dask.config.set({"dparallel.persist": False}), ExitStack() as stack:
        with pytest.warns(StreamingWarning, match="8 of 8 blocks"):
            rounds = stack.enter_context(open_rounds(blocks_of(logged, unknown=True)))
        for _ in range(3):
            total = rounds.reduce(total_of_columns, np.add)
    np.testing.assert_allclose(total, expected.sum(axis=0))
    assert reads() == sorted([*range(8)] * 3)


def total_of_columns(shard, state):
    return sum(block.X.sum(axis=0) for block in shard.blocks)


@pytest.mark.usefixtures("place")
def test_blocks_with_a_common_task_are_computed_once_and_refused_if_they_do_not_fit():
    X, _ = numbers()
    centred = blocks_of(X - X.mean(axis=0))
    with open_rounds(centred) as rounds:
        for _ in range(2):
            total = rounds.reduce(sum_shard, np.add)
        np.testing.assert_allclose(total, [0, 0, 0, 1000], atol=1e-10)
    with (
        dask.config.set({"dparallel.memory-share": 1e-9}),
        pytest.raises(MemoryBudgetError, match="to_parquet"),
        open_rounds(centred),
    ):
        pass


def test_persisted_blocks_are_used_where_they_are(client):
    X, expected = numbers(n_blocks=8)
    persisted = X.persist()
    with open_rounds(blocks_of(persisted)) as rounds:
        np.testing.assert_allclose(rounds.reduce(sum_shard, np.add)[:3], expected.sum(axis=0))


def locate_blocks(shard, state):
    return [[block.index for block in shard.blocks], os.getpid(), shard.offset]


@pytest.mark.parametrize("unknown", [False, True])
def test_blocks_whose_order_means_nothing_stay_where_they_are(client, unknown):
    """Blocks of different lengths lie on two workers in turn, as many rows on each."""
    addresses = sorted(client.scheduler_info()["workers"])
    lengths = [30, 10, 50, 50, 40, 60, 25, 25]
    pieces = [
        client.persist(da.full((n, 3), float(i), chunks=(n, 3)), workers=[addresses[i % 2]])
        for i, n in enumerate(lengths)
    ]
    wait(pieces)
    X = da.concatenate(pieces)
    pids = client.run(os.getpid)
    homes = [{pids[worker] for worker in next(iter(client.who_has(piece).values()))} for piece in pieces]
    with open_rounds(blocks_of(X, unknown), partitioning=Partitioning(2), in_any_order=True) as rounds:
        placed = rounds.collect(locate_blocks)
        assert sorted(i for indices, _, _ in placed for i in indices) == list(range(8))
        assert all(pid in homes[i] for indices, pid, _ in placed for i in indices)
        rounds.reduce(sum_shard, np.add)
        assert rounds.rows == [[lengths[i] for i in indices] for indices, _, _ in placed]
        offsets = [offset for _, _, offset in rounds.collect(locate_blocks)]
        assert offsets == [0, *np.cumsum([sum(rows) for rows in rounds.rows])[:-1]]
    with open_rounds(blocks_of(X, unknown), partitioning=Partitioning(per_thread=2)) as rounds:
        assert [i for indices, _, _ in rounds.collect(locate_blocks) for i in indices] == list(range(8))


@pytest.mark.usefixtures("client")
def test_an_error_in_a_partial_reaches_the_user_as_it_is_without_waiting_for_the_others(tmp_path):
    X, _ = numbers()
    with pytest.raises(DataError, match="Block 0 holds NaN"), open_rounds(blocks_of(X)) as rounds:
        rounds.reduce(fail_on_one, np.add, tmp_path / "finished")
    assert not (tmp_path / "finished").exists()


def fail_at_first_block(shard, state):
    for _ in shard.blocks:
        if shard.index == 0:
            raise DataError("Block 0 holds NaN.")


def test_a_streamed_pass_that_nobody_waits_for_ends_early(client, tmp_path):
    def log_read(x):
        (tmp_path / uuid4().hex).touch()
        threading.Event().wait(0.2)
        return x

    X, _ = numbers(n_blocks=60)
    slow = blocks_of(X.map_blocks(log_read, dtype=X.dtype, meta=X._meta))
    with dask.config.set({"dparallel.persist": False}), ExitStack() as stack:
        with pytest.warns(StreamingWarning):
            rounds = stack.enter_context(open_rounds(slow))
        with pytest.raises(DataError):
            rounds.reduce(fail_at_first_block, concatenate)
    for worker in client.nthreads():
        client.submit(os.getpid, workers=[worker], pure=False).result()  # starts when the pass has left the thread
    assert len(list(tmp_path.iterdir())) < 25


@pytest.mark.usefixtures("place")
def test_ctrl_c_ends_a_round_and_leaves_nothing(client, tmp_path):
    X, _ = numbers()
    interrupt = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT))
    with ExitStack() as stack:
        rounds = stack.enter_context(open_rounds(blocks_of(X)))
        interrupt.start()
        with pytest.raises(KeyboardInterrupt):
            rounds.reduce(wait_a_second, np.add)
    interrupt.join()
    until(lambda: not ours(client))


def wait_a_second(shard, state):
    threading.Event().wait(1)


def test_an_error_on_a_thread_reaches_the_user_when_no_thread_works_any_more(tmp_path):
    X = np.ones((100_000, 3))
    with open_rounds(blocks_of(X)) as rounds:
        with pytest.raises(DataError, match="Block 0 holds NaN"):
            rounds.reduce(fail_on_one, np.add, tmp_path / "finished")
        assert rounds.n_shards == 1 or (tmp_path / "finished").exists()


def test_an_error_in_a_block_reaches_the_user_as_it_is(client):
    X = da.ones((10, 3), chunks=(5, 3)).map_blocks(lambda x: 1 / 0, dtype=float, meta=np.ones((0, 0)))
    with pytest.raises(ZeroDivisionError), open_rounds(blocks_of(X)):
        pass
    until(lambda: not ours(client))


def test_nothing_of_ours_stays_on_the_workers(client):
    X, _ = numbers()
    with open_rounds(blocks_of(X)) as rounds:
        rounds.reduce(sum_shard, np.add)
        assert ours(client)
    until(lambda: not ours(client))


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_nothing_of_ours_stays_after_an_interruption(client, error):
    class Interrupt:
        def on_start(self, state):
            pass

        def on_round_start(self, number, state):
            pass

        def on_round(self, record, state):
            raise error

        def on_stop(self, reason, state):
            pass

    X, _ = numbers()
    with pytest.raises(error), open_rounds(blocks_of(X)) as rounds:
        iterate(rounds, TwoMeans(), Means(), max_rounds=10, listeners=[Interrupt()])
    until(lambda: not ours(client))


def test_two_fits_at_once_give_what_each_gives_alone(client):
    def fit(seed):
        X = da.random.default_rng(seed).random((20_000, 3), chunks=(3000, 3))
        with open_rounds(blocks_of(X)) as rounds:
            return iterate(rounds, TwoMeans(tolerance=-1), Means(), max_rounds=15).state.centres

    with ThreadPoolExecutor(2) as pool:
        together = list(pool.map(fit, [1, 2]))
    np.testing.assert_array_equal(together, [fit(1), fit(2)])


def fit_in_task(seed):
    """A fit of Dask data, and one of numpy data, inside a task."""
    X = da.random.default_rng(seed).random((2000, 3), chunks=(300, 3))
    with open_rounds(blocks_of(X)) as rounds:
        centres = iterate(rounds, TwoMeans(tolerance=-1), Means(), max_rounds=5).state.centres
        places = [rounds.is_local]
    with open_rounds(blocks_of(np.ones((100_000, 3)))) as rounds:
        places += [rounds.is_local, rounds.n_shards]
    return centres, places


def test_more_fits_inside_tasks_than_threads_give_what_each_gives_alone(client):
    futures = client.map(fit_in_task, range(5), pure=False)
    for seed, (centres, places) in enumerate(client.gather(futures)):
        X = da.random.default_rng(seed).random((2000, 3), chunks=(300, 3)).compute(scheduler="sync")
        np.testing.assert_allclose(centres, plain_two_means(X.mean(axis=1), 5), rtol=1e-12)
        assert places == [False, True, 1]


def test_a_worker_that_joins_computes_from_the_next_rounds_on():
    with (
        LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=":0") as cluster,
        Client(cluster) as client,
    ):
        X, expected = numbers(n_blocks=8)
        with open_rounds(blocks_of(X)) as rounds:
            assert rounds.n_shards == 1
            rounds.reduce(sum_shard, np.add)
            cluster.scale(2)
            client.wait_for_workers(2, timeout=30)
            until(lambda: len({pid for *_, pid in rounds.reduce(locate_shard, concatenate)}) == 2)
            assert rounds.n_shards == 2
            assert [n_blocks for _, _, n_blocks, _ in rounds.reduce(locate_shard, concatenate)] == [4, 4]
            np.testing.assert_allclose(rounds.reduce(sum_shard, np.add)[:3], expected.sum(axis=0))
            cluster.scale(1)
            until(lambda: len(client.nthreads()) == 1)
            np.testing.assert_allclose(rounds.reduce(sum_shard, np.add)[:3], expected.sum(axis=0))
