"""Who may start which step of a parameter store, and what it reads then."""

import itertools

import numpy as np
import pytest

from dparallel import ParameterStore
from dparallel.errors import (
    ConsistencyError,
    NotYet,
)
from dparallel.store import Adagrad, Momentum
from dparallel.store.layout import FullUpdate
from dparallel.store.rows import N_RANGES, cut_keys
from tests import toy_store
from tests.clusters import until
from tests.toy_store import N, WholeTables, contribution, counting, handle_of, ones, parameter

client = pytest.fixture(scope="module")(toy_store.two_workers)
where = pytest.fixture(params=toy_store.PLACES)(toy_store.placed)


def descend(handle, partition, n_clocks):
    """Steps of a partition that read what they change."""
    for clock in range(n_clocks):
        w = handle.pull("w", clock=clock)
        handle.push({"w": w * 0.1 + contribution(partition, clock)}, step=(partition, clock))
    handle.finish(partition)


def serial(n_partitions, n_clocks, kind):
    """What staleness 0 must come to, bit for bit."""
    w, v = np.zeros(N), np.zeros(N)
    for clock in range(n_clocks):
        gradients = [w * 0.1 + contribution(partition, clock) for partition in range(n_partitions)]
        for gradient in gradients:
            v = v + gradient**2 if kind == "sparse" else 0.9 * v + gradient
            w = w - (0.05 * gradient / (np.sqrt(v) + 1e-10) if kind == "sparse" else 0.05 * v)
    return w


@pytest.mark.parametrize("kind", toy_store.KINDS)
@pytest.mark.parametrize("n_shards", [1, 3])
def test_in_step_the_result_is_that_of_the_serial_run_bit_for_bit(client, n_shards, kind):
    """Six partitions on four threads: those that wait make room for the others."""
    optimizer = Adagrad(learning_rate=0.05) if kind == "sparse" else Momentum(learning_rate=0.05, momentum=0.9)
    options = {"optimizer": optimizer, "staleness": 0, "n_partitions": 6, "n_shards": n_shards}
    with ParameterStore({"w": parameter(kind, N)}, **options) as store:
        client.gather(client.map(descend, [handle_of(store)] * 6, range(6), n_clocks=12, pure=False))
        np.testing.assert_array_equal(handle_of(store).pull("w"), serial(6, 12, kind))
        assert store.progress() == dict.fromkeys(range(6), 12)


def lead_by(handle, partition, n_clocks):
    """Take steps and return by how much the partition led the slowest at most, as the parameters themselves show."""
    lead = 0
    for clock in range(n_clocks):
        counts = handle.pull("n", clock=clock)
        lead = max(lead, clock - int(counts.min()))
        update = np.zeros(len(counts))
        update[partition] = 1
        handle.push({"n": update}, step=(partition, clock))
    handle.finish(partition)
    return lead


def greatest_lead(client, staleness, n_clocks, kind):
    options = {"optimizer": "add", "staleness": staleness, "n_partitions": 4, "n_shards": 2}
    with ParameterStore({"n": parameter(kind, 4)}, **options) as store:
        handle = handle_of(store, 4)
        leads = client.gather(client.map(lead_by, [handle] * 4, range(4), n_clocks=n_clocks, pure=False))
        np.testing.assert_array_equal(handle.pull("n"), np.full(4, float(n_clocks)))
    return max(leads)


@pytest.mark.parametrize("kind", toy_store.KINDS)
@pytest.mark.parametrize("staleness", [0, 3])
def test_nobody_leads_by_more_than_the_staleness(client, staleness, kind):
    assert greatest_lead(client, staleness, 40, kind) <= staleness


@pytest.mark.slow
@pytest.mark.parametrize("kind", toy_store.KINDS)
@pytest.mark.parametrize("staleness", [0, 1, 3, 8])
def test_nobody_leads_by_more_than_the_staleness_in_two_thousand_clocks(client, staleness, kind):
    lead = greatest_lead(client, staleness, 500, kind)
    assert lead <= staleness
    assert lead > 0 or staleness == 0


@pytest.mark.parametrize("kind", toy_store.KINDS)
def test_a_closed_gate_is_not_yet_and_the_push_is_applied(where, kind):
    with counting(kind, staleness=0, n_partitions=2, **where) as store:
        handle = handle_of(store)
        with pytest.raises(NotYet):
            handle.exchange([FullUpdate((0, 0), ones())], clock=1, wait_s=0.05)
        assert store.progress() == {0: 1, 1: 0}
        handle.push(ones(), step=(1, 0))
        np.testing.assert_array_equal(handle.pull("w", clock=1), np.full(N, 2.0))
        with pytest.raises(ConsistencyError):
            handle.push(ones(), step=(0, 5))


@pytest.mark.parametrize("kind", toy_store.KINDS)
def test_a_reply_tells_the_version_of_what_was_read(where, kind):
    with counting(kind, staleness=0, n_partitions=1, n_shards=2, **where) as store:
        handle = handle_of(store)
        for clock in range(3):
            handle.push(ones(), step=(0, clock))
        for clock in (2, 3):  # a step that is run again reads what it read before
            reply = handle.exchange(clock=clock)
            np.testing.assert_array_equal(reply.parameters["w"], np.full(N, float(clock)))
            assert reply.versions == (clock, clock)


@pytest.mark.parametrize("kind", toy_store.KINDS)
def test_a_wait_at_the_gate_ends_as_soon_as_it_opens(where, kind):
    with counting(kind, staleness=0, n_partitions=2, **where) as store:
        handle = handle_of(store)
        coming = handle.exchange_soon([FullUpdate((0, 0), ones())], clock=1, wait_s=30)
        handle.push(ones(), step=(1, 0))
        np.testing.assert_array_equal(coming.result(20).parameters["w"], np.full(N, 2.0))


def test_background_exchanges_of_a_partition_keep_their_order(client):
    with counting(staleness=100, n_partitions=1, n_shards=2) as store:
        handle = store.handle()
        coming = [handle.exchange_soon([FullUpdate((0, clock), ones())], ()) for clock in range(100)]
        assert [reply.result(20).progress[0] for reply in coming] == list(range(1, 101))


def test_updates_record_how_old_their_parameters_were(where):
    with counting(**where) as store:
        first, second = store.handle(), store.handle()
        for handle in (first, second):
            handle.pull()
        for clock in range(3):
            second.push(ones(), step=(1, clock))
        first.push(ones(), step=(0, 0))
        assert store.stats().staleness == {0: 1, 1: 1, 2: 1, 3: 1}


def write_until(handle, partition, name, size):
    from distributed import Event

    end = Event(name)
    for clock in itertools.count():
        handle.push({"w": np.ones(size)}, step=(partition, clock))
        if clock % 20 == 0 and end.is_set():
            return clock + 1


def shards_of(handle, values):
    """What each of two shards has of an array, or of the rows of a table."""
    if not isinstance(handle, WholeTables):
        return np.split(values, 2)
    return [values[part.places] for part in cut_keys(handle.keys, [0, N_RANGES // 2, N_RANGES])]


@pytest.mark.parametrize("kind", toy_store.KINDS)
@pytest.mark.parametrize("n_pulls", [100, pytest.param(1000, marks=pytest.mark.slow)])
def test_no_pull_is_torn(client, n_pulls, kind):
    from distributed import Event

    size, end = 2 * 20_000, Event("torn", client=client)  # two shards of 160 kB each, which a thread works on
    with ParameterStore({"w": parameter(kind, size)}, optimizer="add", n_shards=2) as store:
        handle = handle_of(store, size)
        writing = client.map(write_until, [handle] * 2, range(2), name="torn", size=size, pure=False)
        until(lambda: handle.version > 0)
        seen = set()
        for _ in range(n_pulls):
            parts = shards_of(handle, handle.pull("w"))
            assert all(part.min() == part.max() for part in parts)
            seen.add(parts[0][0])
        end.set()
        n = sum(client.gather(writing))
        np.testing.assert_array_equal(handle.pull("w"), np.full(size, float(n)))
    end.clear()
    assert len(seen) > 10  # it was written meanwhile
