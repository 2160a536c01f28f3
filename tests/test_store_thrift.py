"""What the messages of a store leave out: keys that were sent before, values that have not moved, small numbers."""

import pickle

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dparallel import ParameterStore, SparseTable
from dparallel.errors import ConsistencyError, NotYet, StoreError
from dparallel.place import Local
from dparallel.store import signatures
from dparallel.store.compression import Residuals, make_compression
from dparallel.store.layout import FullUpdate, Layout
from dparallel.store.messages import Answer, Request, bytes_of, decode, encode
from dparallel.store.packed import Half, Picked, unpacked
from dparallel.store.rows import Rows
from dparallel.store.signatures import KeyLists, KnownLists
from dparallel.store.updates import Snapshot, Update
from tests import toy_store
from tests.clusters import kill, until
from tests.toy_store import remote

client = pytest.fixture(scope="module")(toy_store.two_workers)
where = pytest.fixture(params=toy_store.PLACES)(toy_store.placed)


# bytes


@pytest.mark.parametrize("width", [1, 8])
def test_a_message_is_little_more_than_its_keys_and_rows(width):
    keys, rows = np.arange(2000), np.ones((2000, width))
    payload = keys.nbytes + rows.nbytes
    push = Request(1, (Update((0, 0), {"emb": Rows(keys, rows)}),), ())
    pull, answer = (
        Request(1, (), ("emb",), keys={"emb": keys}),
        Answer("ok", 1, {}, 1, Snapshot(1, None, {"emb": rows})),
    )
    pushed = len(pickle.dumps(KnownLists().packed(push), protocol=5))
    pulled = len(pickle.dumps(KnownLists().packed(pull), protocol=5)) + len(pickle.dumps(answer, protocol=5))
    assert pushed <= 1.05 * payload
    assert pulled <= 1.05 * payload


def traffic(store, before=(0, 0)):
    stats = store.stats()
    return stats.bytes_in - before[0], stats.bytes_out - before[1]


def push_and_pull(handle, lists, start):
    for clock, keys in enumerate(lists, start):
        handle.push({"w": (keys, np.ones(len(keys)))}, step=(0, clock))
        handle.pull("w", keys=keys)


def test_a_repeated_list_of_keys_is_sent_once(client):
    rng, n_keys, n_steps = np.random.default_rng(0), 2000, 10
    with ParameterStore({"w": SparseTable()}, optimizer="add", n_shards=2, replicas=0) as store:
        handle = store.handle()
        push_and_pull(handle, [rng.integers(0, 10**9, n_keys) for _ in range(n_steps)], 0)
        fresh = traffic(store)
        push_and_pull(handle, [np.arange(n_keys)] * n_steps, n_steps)
        repeated = traffic(store, fresh)
        np.testing.assert_array_equal(handle.pull("w", keys=np.arange(n_keys)), np.full(n_keys, float(n_steps)))
    payload = n_steps * n_keys * 32  # keys and rows, there and back, less those that the push had sent already
    assert sum(fresh) <= payload
    assert sum(fresh) >= 1.4 * sum(repeated)
    assert 10 * n_keys * 16 <= sum(repeated) <= 1.1 * 10 * n_keys * 16
    print(f"{sum(fresh)} bytes with new lists, {sum(repeated)} with a repeated one; {payload} without signatures")
    assert payload >= 1.8 * sum(repeated)


@pytest.mark.parametrize("forgets", ["a dead host", "a full cache"])
def test_a_list_that_the_host_lacks_is_sent_again(client, forgets, monkeypatch):
    keys = np.arange(1000)
    with ParameterStore({"w": SparseTable()}, optimizer="add", n_shards=1, replicas=1) as store:
        handle = store.handle()
        push_and_pull(handle, [keys], 0)
        if forgets == "a dead host":
            stats = store.stats()
            kill(stats.pids[stats.primaries[0]])
        else:
            client.run(set_cache_bytes, 1)
            push_and_pull(handle, [keys + 5000], 1)
        push_and_pull(handle, [keys] * 2, 2)
        client.run(set_cache_bytes, signatures.CACHE_BYTES)
        np.testing.assert_array_equal(handle.pull("w", keys=keys), np.full(1000, 3.0))
        until(lambda: len(client.nthreads()) == 2)


def set_cache_bytes(number):
    from dparallel.store import signatures

    signatures.CACHE_BYTES = number


@given(st.lists(st.tuples(st.integers(0, 3), st.booleans()), max_size=12))
def test_requests_arrive_as_they_were_sent_or_not_at_all(plan):
    """Whatever was lost on the way or forgotten: a list that is not there is asked for."""
    sender, host = KnownLists(), KeyLists()
    for number, is_lost in plan:
        keys = np.arange(20) * (number + 1)
        request = Request(1, (Update((0, 0), {"T": Rows(keys, np.ones((20, 1)))}),), ("T",), keys={"T": keys})
        packed = decode(encode(sender.packed(request), 0))
        if is_lost:
            continue
        found = host.unpacked(packed)
        if found is None:
            sender.forget()
            found = host.unpacked(sender.packed(request))
        assert found is not None
        np.testing.assert_array_equal(found.keys["T"], keys)
        np.testing.assert_array_equal(found.entries[0].values["T"].keys, keys)
        assert bytes_of(found) == bytes_of(packed._replace(saved_bytes=0)) or found.saved_bytes != packed.saved_bytes


# not modified


def test_what_has_not_moved_is_not_sent_again(client):
    keys = [3, 1, 3, 10**12]
    with ParameterStore({"w": SparseTable(2), "b": 10}, optimizer="add", n_shards=2, replicas=0) as store:
        handle = store.handle()
        handle.push({"b": np.ones(10), "w": (keys, np.ones((4, 2)))}, step=(0, 0))
        first = handle.exchange(keys={"w": keys})
        before = traffic(store)
        again = handle.exchange(keys={"w": keys}, known=first)
        assert traffic(store, before)[1] == 0
        assert all(again.parameters[name] is first.parameters[name] for name in ("w", "b"))
        assert again.versions == first.versions
        other = handle.exchange(keys={"w": keys[::-1]}, known=first)
        np.testing.assert_array_equal(other.parameters["w"], first.parameters["w"][::-1])
        handle.push({"b": np.ones(10)}, step=(0, 1))
        moved = handle.exchange(keys={"w": keys}, known=again)
        np.testing.assert_array_equal(moved.parameters["b"], np.full(10, 2.0))
        np.testing.assert_array_equal(moved.parameters["w"], first.parameters["w"])


def test_shards_that_have_moved_are_joined_with_those_that_have_not():
    layout = Layout.even({"w": (-1, 2), "b": (2, 5), "u": (-1,)}, 3)
    keys = np.random.default_rng(0).integers(0, 30, 40)
    wanted, asked = layout.reading(None, {"w": keys})
    values = {"w": (np.arange(30), np.arange(60.0).reshape(30, 2)), "b": np.arange(10.0).reshape(2, 5)}
    parts = layout.split({**values, "u": ([5, 7], [1.0, 2.0])})
    found = []
    for part, mine in zip(parts, asked.parts):
        rows = dict(zip(part["w"].keys.tolist(), part["w"].values))
        u = part.get("u", Rows(np.empty(0, np.int64), np.empty((0, 1))))
        found.append({"w": np.reshape([rows[key] for key in mine["w"].tolist()], (-1, 2)), "b": part["b"], "u": u})
    joined = layout.join(found, asked)
    assert wanted == ("w", "b")
    np.testing.assert_array_equal(joined["w"], values["w"][1][keys])
    for number, part in enumerate(found):
        kept = layout.part_of(joined, number, asked)
        for name in ("w", "b"):
            np.testing.assert_array_equal(kept[name], part[name])
        np.testing.assert_array_equal(kept["u"].keys, part["u"].keys)


def test_values_of_a_host_that_took_over_are_sent_again(client):
    with ParameterStore({"w": 30}, optimizer="add", n_shards=1, replicas=1) as store:
        handle = store.handle()
        first = handle.exchange()
        until(lambda: None not in store.stats().backups)
        store.drain(store.stats().primaries[0])
        again = handle.exchange(known=first)
        assert again.parameters["w"] is not first.parameters["w"]
        np.testing.assert_array_equal(again.parameters["w"], np.zeros(30))


# compression


@given(st.lists(st.floats(-1e30, 1e30), min_size=1, max_size=30))
@example([5e-324])
@example([1e-310, -3e-320])
def test_half_precision_is_near_relative_to_the_largest(numbers):
    values = np.array(numbers)
    found = Half.of(values).full()
    largest = np.abs(values).max()
    np.testing.assert_allclose(found, values, rtol=2.0**-11, atol=largest * 2.0**-39 + 1e-300)


def test_half_precision_keeps_small_whole_numbers_exactly():
    values = np.array([0.0, 1.0, -2.0, 1000.0, -2047.0])
    np.testing.assert_array_equal(Half.of(values).full(), values)
    np.testing.assert_array_equal(Half.of(np.zeros(3)).full(), np.zeros(3))
    assert Half.of(np.empty(0)).full().size == 0


@given(st.integers(1, 50), st.integers(0, 50), st.integers(0, 50))
def test_picked_numbers_are_cut_as_arrays_are(size, first, last):
    rng = np.random.default_rng(size)
    values, low, high = rng.normal(size=size), min(first, last, size), min(max(first, last), size)
    places = np.flatnonzero(values > 0).astype(np.uint32)
    whole = Picked(places, values[places], size)
    np.testing.assert_array_equal(whole.full(), np.where(values > 0, values, 0))
    np.testing.assert_array_equal(whole.cut(low, high).full(), whole.full()[low:high])


LAYOUT = Layout.even({"w": (4, 5), "T": (-1, 2)}, 1)


def some_update(rng, clock):
    keys = rng.permutation(12)[:6]
    return FullUpdate((0, clock), {"w": rng.normal(size=(4, 5)), "T": (keys, rng.normal(size=(6, 2)))})


def total(values):
    """Sums of updates as they arrive, of both arrays."""
    w, T = np.zeros(20), np.zeros((12, 2))
    for part in map(unpacked, values):
        w += part["w"]
        np.add.at(T, part["T"].keys, part["T"].values)
    return w, T


def test_what_top_k_leaves_out_comes_later():
    rng, residuals, how = np.random.default_rng(0), Residuals(), make_compression(("top_k", 0.1), LAYOUT.names)
    given, sent = [], []
    for clock in range(50):
        update = some_update(rng, clock)
        (packed,), _ = residuals.compress([update], LAYOUT, how)
        assert (len(packed.values["w"].places), len(packed.values["T"].keys)) == (2, 1)
        given.append(LAYOUT.checked(update.values))
        sent.append(packed.values)
    rest = residuals._rests[0]
    for expected, found, left in zip(total(given), total(sent), total([rest])):
        np.testing.assert_allclose(found + left, expected, atol=1e-12)
        assert np.abs(left).max() < 8  # as much as few updates bring, not fifty


def test_a_push_that_failed_is_compressed_again_to_the_same_bits():
    rng, residuals, how = np.random.default_rng(1), Residuals(), make_compression(("top_k", 0.2), LAYOUT.names)
    residuals.compress([some_update(rng, 0)], LAYOUT, how)
    update = some_update(rng, 1)
    first, steps = residuals.compress([update], LAYOUT, how)
    residuals.take_back(steps)
    again, _ = residuals.compress([update], LAYOUT, how)
    assert pickle.dumps(first[0].values["w"]) == pickle.dumps(again[0].values["w"])
    np.testing.assert_array_equal(first[0].values["T"].values, again[0].values["T"].values)


def test_a_push_that_failed_while_others_went_on_is_not_lost():
    rng, residuals, how = np.random.default_rng(2), Residuals(), make_compression(("top_k", 0.2), LAYOUT.names)
    updates = [some_update(rng, clock) for clock in range(3)]
    packed, steps = zip(*(residuals.compress([update], LAYOUT, how) for update in updates))
    residuals.take_back(steps[1])
    packed = [packed[0][0], packed[2][0], residuals.compress([updates[1]], LAYOUT, how)[0][0]]
    expected = total(LAYOUT.checked(update.values) for update in updates)
    sent, left = total(update.values for update in packed), total([residuals._rests[0]])
    for whole, found, rest in zip(expected, sent, left):
        np.testing.assert_allclose(found + rest, whole, atol=1e-12)


@pytest.mark.parametrize("compression, least", [("fp16", 3.9), (("top_k", 0.01), 50), ({"w": "fp16"}, 3.9)])
def test_compressed_pushes_take_fewer_bytes(client, compression, least):
    n = 20_000
    update = {"w": np.random.default_rng(0).normal(size=n)}
    with ParameterStore({"w": n}, optimizer="add", n_shards=2, replicas=1) as store:
        store.push(update, step=(0, 0))
        whole = traffic(store)
        store.handle(compression).push(update, step=(0, 1))
        assert whole[0] >= least * traffic(store, whole)[0]


def train(compression, table):
    """Logistic regression on clicks of a few common and many rare features, by two partitions; return its loss."""
    rng, n, d = np.random.default_rng(0), 4000, 2000
    popularity = 1 / np.arange(1, d + 1)
    features = rng.choice(d, (n, 20), p=popularity / popularity.sum())
    is_click = rng.random(n) < 1 / (1 + np.exp(-rng.normal(size=d)[features].sum(axis=1)))
    with ParameterStore({"w": table or d}, optimizer="sgd", learning_rate=0.5, place=Local(1)) as store:
        handle = store.handle(compression)
        for clock in range(1000):
            rows = rng.integers(0, n, 200)
            active = features[rows].ravel()
            w = handle.pull("w", keys=active) if table else handle.pull("w")[active]
            errors = 1 / (1 + np.exp(-w.reshape(200, 20).sum(axis=1))) - is_click[rows]
            gradient = np.repeat(errors / 200, 20)
            update = (active, gradient) if table else np.bincount(active, gradient, d)
            handle.push({"w": update}, step=(clock % 2, clock // 2))
        w = handle.pull("w", keys=np.arange(d) if table else None)
    return np.logaddexp(0, np.where(is_click, -1, 1) * w[features].sum(axis=1)).mean()


@pytest.mark.parametrize("table", [None, SparseTable()], ids=["dense", "sparse"])
def test_compressed_training_loses_little(table):
    plain, half, few = (train(how, table) for how in (None, "fp16", ("top_k", 0.01)))
    print(f"loss {plain:.5f}, fp16 {half / plain:.5f}, 1 % top k {few / plain:.4f}")
    assert half <= 1.01 * plain
    assert few <= 1.05 * plain


@pytest.mark.parametrize("compression", ["fp16", ("top_k", 0.3)])
def test_a_compressed_step_counts_once(where, compression):
    with ParameterStore({"w": 10, "T": SparseTable()}, optimizer="add", n_shards=2, **where) as store:
        handle = store.handle(compression)
        update = {"w": np.arange(10.0), "T": (np.arange(10), np.arange(10.0))}
        for _ in range(3):
            handle.push(update, step=(0, 0))
        once = handle.pull(keys={"T": np.arange(10)})
        for found in once.values():
            assert set(found.tolist()) <= {*range(10)}
            assert found[9] == 9


def test_a_handle_with_compression_travels(client):
    def run(handle):
        handle.push({"w": np.arange(10.0)}, step=(0, 0))
        return handle.pull("w")

    with ParameterStore({"w": 10}, optimizer="add") as store:
        found = remote(client, run, store.handle(("top_k", 0.1)))
    np.testing.assert_array_equal(found, np.where(np.arange(10) == 9, 9.0, 0.0))


def test_a_closed_gate_keeps_what_it_was_pushed_and_a_refusal_does_not(where):
    with ParameterStore({"w": 4}, optimizer="add", staleness=0, n_partitions=2, **where) as store:
        handle = store.handle(("top_k", 0.25))
        with pytest.raises(NotYet):
            handle.exchange([FullUpdate((0, 0), {"w": [1.0, 2.0, 3.0, 4.0]})], clock=1, wait_s=0.05)
        with pytest.raises(ConsistencyError):
            handle.push({"w": [9.0, 9.0, 9.0, 9.0]}, step=(0, 5))
        handle.push({"w": [0.0, 0.0, 0.0, 0.0]}, step=(1, 0))
        np.testing.assert_array_equal(handle.pull("w", clock=1), [0, 0, 0, 4])
        handle.push({"w": [0.0, 0.0, 0.0, 0.0]}, step=(0, 1))
        handle.push({"w": [0.0, 0.0, 0.0, 0.0]}, step=(1, 1))
        np.testing.assert_array_equal(handle.pull("w", clock=2), [0, 0, 3, 4])


@pytest.mark.parametrize("spec", ["fp8", ("top_k", 0), ("top_k", 2), ("top_k", "many"), 3, {"w": "zip"}, {"v": "fp16"}])
def test_compression_that_is_not_known_is_named(spec):
    with ParameterStore({"w": 4}, place=Local(1)) as store, pytest.raises(StoreError, match="compression"):
        store.handle(spec)
