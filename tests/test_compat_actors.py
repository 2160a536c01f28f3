"""Calls of Dask actors without the stock proxy, and the board on the scheduler."""

import asyncio
import os
import signal
import threading
import time

import dask
import numpy as np
import pytest
from distributed import Actor, Client, Event, LocalCluster

from dparallel import compat
from dparallel.compat import actors

HANG_S = 3.0  # longer than any call of ours to a dead worker takes


class Desk:
    """An actor to call."""

    async def pid(self):
        return os.getpid()

    async def double(self, array):
        return array * 2

    async def fail(self):
        raise ZeroDivisionError("on purpose")

    async def wait_then_answer(self, seconds, answer):
        await asyncio.sleep(seconds)
        return answer


@pytest.fixture(scope="module")
def cluster():
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 30, "distributed.deploy.lost-worker-timeout": "1h"}),
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster,
    ):
        yield cluster


@pytest.fixture
def client(cluster):
    with Client(cluster) as client:
        client.wait_for_workers(2, timeout=30)
        yield client


@pytest.fixture
def desk(client):
    """(address, key) of an actor, and the address of the other worker."""
    here, other = sorted(client.nthreads())
    future = compat.submit_actor(client, Desk, (), "desk", here)
    future.result(timeout=30)
    yield here, "desk", other
    future.release()


def call(node, address, key, method, *arguments, limit_s=10.0):
    talk = compat.call_actor(node, address, key, method, arguments, 1.0)
    return asyncio.run_coroutine_threadsafe(talk, compat.event_loop(node)).result(limit_s)


def call_in_task(address, key, method, *arguments):
    return call(compat.worker_of_this_task(), address, key, method, *arguments)


@pytest.mark.parametrize("is_direct", [True, False])
def test_a_client_calls_an_actor_with_arrays(client, desk, is_direct, monkeypatch):
    monkeypatch.setitem(actors._reaches_workers, client, is_direct)
    np.testing.assert_array_equal(call(client, *desk[:2], "double", np.arange(3.0)), [0, 2, 4])


def test_a_local_client_finds_that_it_reaches_workers(client, desk):
    talk = compat.look_for_workers(client, desk[0], 1.0)
    asyncio.run_coroutine_threadsafe(talk, compat.event_loop(client)).result(10)
    assert actors._reaches_workers[client] is True


def test_tasks_on_both_workers_call_an_actor(client, desk):
    for worker in (desk[0], desk[2]):
        found = client.submit(call_in_task, *desk[:2], "double", np.arange(3.0), workers=[worker], pure=False)
        np.testing.assert_array_equal(found.result(timeout=30), [0, 2, 4])


def test_what_an_actor_raises_reaches_the_caller(client, desk):
    with pytest.raises(ZeroDivisionError, match="on purpose"):
        call(client, *desk[:2], "fail")


@pytest.mark.parametrize("is_direct", [True, False])
def test_an_unknown_actor_is_told_from_a_lost_worker(client, desk, is_direct, monkeypatch):
    monkeypatch.setitem(actors._reaches_workers, client, is_direct)
    with pytest.raises(compat.ActorGone):
        call(client, desk[0], "no such actor", "pid")
    monkeypatch.setitem(actors._reaches_workers, client, True)
    with pytest.raises(OSError):
        call(client, "tcp://127.0.0.1:9", "desk", "pid")


def test_an_answer_that_comes_too_late_is_not_taken_for_the_next(client, desk):
    async def talk():
        late = compat.call_actor(client, *desk[:2], "wait_then_answer", (0.3, "late"), 1.0)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(late, 0.05)
        calls = [compat.call_actor(client, *desk[:2], "wait_then_answer", (0.3, n), 1.0) for n in range(3)]
        return await asyncio.gather(*calls)

    assert asyncio.run_coroutine_threadsafe(talk(), compat.event_loop(client)).result(10) == [0, 1, 2]


def until(condition, timeout_s=30):
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        threading.Event().wait(0.01)


def call_twice_around_a_death(address, key, is_stock):
    """Call an actor, let its worker die, call again; return (kind of the error, seconds until it came)."""
    if is_stock:
        proxy = Actor(Desk, address, key)
        ask = lambda: proxy.pid().result(timeout=HANG_S)  # noqa: E731
    else:
        ask = lambda: call_in_task(address, key, "pid")  # noqa: E731
    pid = ask()
    os.kill(pid, signal.SIGKILL)
    Event("its worker is gone").wait(timeout=30)
    start = time.monotonic()
    try:
        return ask(), 0.0
    except Exception as error:
        return type(error), time.monotonic() - start


@pytest.mark.parametrize("is_stock", [True, False])
def test_the_stock_proxy_hangs_in_a_task_whose_actor_died_and_ours_does_not(client, desk, is_stock):
    address, key, other = desk
    future = client.submit(call_twice_around_a_death, address, key, is_stock, workers=[other], pure=False)
    until(lambda: address not in client.nthreads())
    gone = Event("its worker is gone", client=client)
    gone.set()
    error, seconds = future.result(timeout=30)
    gone.clear()
    if is_stock:
        assert issubclass(error, TimeoutError)
        assert seconds >= HANG_S
    else:
        assert issubclass(error, OSError)
        assert seconds < HANG_S


def wait_aside(started, gate):
    started.set()
    compat.step_aside()
    compat.step_aside()  # again is the same as once
    return gate.wait(timeout=20)


def test_a_task_that_steps_aside_lets_the_next_one_run(client):
    worker = sorted(client.nthreads())[0]
    started, gate = Event("started", client=client), Event("gate", client=client)
    waiting = client.submit(wait_aside, started, gate, workers=[worker], pure=False)
    assert started.wait(timeout=20)
    client.submit(gate.set, workers=[worker], pure=False).result(timeout=20)
    assert waiting.result(timeout=20)


def test_stepping_aside_outside_of_a_task_does_nothing():
    compat.step_aside()


def on_loop(client, talk):
    return asyncio.run_coroutine_threadsafe(talk, compat.event_loop(client)).result(10)


def read_in_task(name):
    node = compat.worker_of_this_task()
    return on_loop(node, compat.read_board(node, name, 1.0))


def is_there(client, name):
    try:
        return on_loop(client, compat.read_board(client, name, 1.0)) is not None
    except compat.BoardGone:
        return False


def is_there_in_task(name):
    return is_there(compat.worker_of_this_task(), name)


def test_a_board_is_read_by_workers_and_clients_until_it_is_deleted(client, caplog):
    value = {"routes": ((1, ("tcp://a:1", "key"), None),), "failure": None}
    on_loop(client, compat.write_board(client, "board", value))
    assert client.submit(read_in_task, "board", pure=False).result(timeout=20) == value
    assert on_loop(client, compat.read_board(client, "board", 1.0)) == value
    on_loop(client, compat.delete_board(client, "board"))
    until(lambda: not is_there(client, "board"))
    assert not client.submit(is_there_in_task, "board", pure=False).result(timeout=20)
    assert not [record for record in caplog.records if record.levelname == "ERROR"], "a look at no board is no error"


def test_a_scheduler_names_its_workers(client):
    assert sorted(on_loop(client, compat.list_workers(client))) == sorted(client.nthreads())
