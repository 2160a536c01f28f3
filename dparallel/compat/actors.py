"""Dask actors, and a board on the scheduler, without the stock proxy.

In a task the stock proxy hangs for ever once the actor's worker has died, and it makes the task depend on the actor.
`node` is a Worker in the process of a task, a Client elsewhere; coroutines run on the node's event loop.
"""

import asyncio
import contextlib
import sys
import weakref

from dparallel.compat.clusters import worker_of_this_task


class ActorGone(Exception):
    """The worker is there, and holds no actor of that key (any more)."""


class BoardGone(Exception):
    """There is no such board (any more)."""


def running_worker():
    """Return a Dask worker that runs in this process, for threads that are no tasks of it; None where there is none."""
    worker = sys.modules.get("distributed.worker")
    if worker is None:
        return None
    return next((node for node in list(worker.Worker._instances) if node.status.name == "running"), None)


def event_loop(node):
    """The asyncio event loop of a worker or a client."""
    return node.loop.asyncio_loop


def is_on_loop(node):
    """Whether the calling thread is that of the node's event loop."""
    try:
        return asyncio.get_running_loop() is event_loop(node)
    except RuntimeError:
        return False


def is_worker(node):
    """Whether the node is a worker rather than a client."""
    return hasattr(node, "state")


async def call_actor(node, address, key, method, arguments, connect_s):
    """Call a method of an actor and return its result.

    Parameters
    ----------
    address, key : str, of the actor's worker and of the actor
    method : str, name of an `async def` method
    arguments : sequence of what pickle can carry, best int, str or bytes; arrays in others travel without a copy
        between processes, and are passed on as they are within a worker
    connect_s : float, how long to try to connect, in seconds

    Raises
    ------
    OSError
        If the worker is not reached, or its connection broke; the call may have happened all the same.
    ActorGone
    Exception
        What the method raised.

    Notes
    -----
    May be cancelled at any time: the method goes on, and the connection is not used again, or the next call would
    receive this one's answer.
    """
    if is_worker(node) and node.address == address:
        actor = node.state.actors.get(key)
        if actor is None:
            raise ActorGone(key)
        return await asyncio.shield(getattr(actor, method)(*arguments))
    from distributed.protocol import to_serialize

    message = {
        "op": "actor_execute",
        "actor": key,
        "function": method,
        "args": [x if isinstance(x, (int, str, bytes, type(None))) else to_serialize(x) for x in arguments],
        "reply": True,
    }
    try:
        if is_worker(node) or _reaches_workers.get(node, node.direct_to_workers):
            answer = await _converse(node.rpc, address, message, connect_s)
        else:
            del message["reply"]
            message = {"op": "proxy", "worker": address, "msg": message, "reply": True}
            answer = await _converse(node.rpc, _scheduler_of(node), message, connect_s)
    except Exception as error:
        # the worker found no such actor in its table; the scheduler passes that on as text
        if isinstance(error, KeyError) or (type(error) is Exception and str(error).startswith("KeyError(")):
            raise ActorGone(key) from error
        raise
    if answer["status"] == "OK":
        return answer["result"]
    raise answer["exception"]


_reaches_workers: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()


async def look_for_workers(client, address, connect_s):
    """Find out whether a client reaches workers itself, by one of them; else its calls go through the scheduler.

    That takes twice as long and makes work for the scheduler, which tries for 30 s to reach a worker that has died.
    """
    try:
        await asyncio.wait_for(_converse(client.rpc, address, {"op": "identity", "reply": True}, connect_s), connect_s)
        _reaches_workers[client] = True
    except OSError:
        _reaches_workers[client] = bool(client.direct_to_workers)


def _scheduler_of(node):
    """The address of a worker's or client's scheduler."""
    if node.scheduler is None:
        raise ConnectionError("the client is closed")
    return node.scheduler.address


async def _converse(pool, address, message, connect_s):
    """Send a message over a pooled connection and return the answer."""
    try:
        comm = await pool.connect(address, timeout=connect_s)
    except RuntimeError as error:  # the worker or client shuts down
        raise ConnectionError(f"no more connections from here: {error}") from error
    try:
        await comm.write(message, on_error="raise")
        answer = await comm.read()
    except BaseException:
        comm.abort()  # not close: that would wait until a stopped process has read what was sent
        raise
    finally:
        pool.reuse(address, comm)
    if isinstance(answer, dict) and answer.get("status") == "uncaught-error":
        from distributed.core import clean_exception

        raise clean_exception(**answer)[1]
    return answer


def step_aside():
    """Let the worker start another task although the calling one has not ended; nothing outside of a task.

    What the calling task waits for may be that other task. It keeps its own thread until it ends.
    """
    worker = worker_of_this_task()
    # a worker that shuts down holds the lock that secede needs while it waits for this very thread
    if worker is not None and worker.status.name == "running":
        from distributed import secede

        with contextlib.suppress(KeyError, AttributeError):  # it has done so before, or is no task in a thread
            secede()


def holds_actor(worker, key, actor):
    """Whether the worker holds this actor under this key."""
    return worker.state.actors.get(key) is actor


def submit_actor(client, factory, arguments, key, worker):
    """Let a worker make an actor before whatever else waits there; return its future, which must be kept."""
    return client.submit(
        factory, *arguments, actor=True, key=key, workers=[worker], allow_other_workers=False, priority=10_000
    )


async def actor_is_made(future):
    """Wait until the actor of a future is there.

    Raises
    ------
    Exception
        Why it could not be made; CancelledError is none of them, see asyncio.wait_for.
    """
    from distributed import wait

    await wait([future])
    if future.status != "finished":
        raise await future.exception() or ActorGone(future.key)


async def when_worker_closes(worker, name, reference):
    """Let a worker wait for a coroutine function while it shuts down in order; its connections still work then.

    reference : returns the function, or None where that is no more, such as a weakref.WeakMethod
    """
    from distributed import WorkerPlugin

    class Farewell(WorkerPlugin):
        async def teardown(self, worker):
            function = reference()
            if function is not None and worker.status.name == "closing":
                await function()

    await worker.plugin_add(Farewell(), name=name)


def do_not_wait_when_worker_closes(worker, name):
    """Take when_worker_closes back; again is the same as once."""
    worker.plugins.pop(name, None)


async def list_workers(node):
    """Ask the scheduler for the addresses of its workers."""
    return list(await _converse(node.rpc, _scheduler_of(node), {"op": "ncores", "workers": None, "reply": True}, 2.0))


async def write_board(client, name, value, is_new=True):
    """Put a value of tuples, dicts, strings and numbers on the scheduler, where every worker and client may read it.

    is_new : bool, False where it has been written before
    """
    message = {"op": "variable_set", "name": name, "data": value, "timeout": 5, "reply": True}
    await _converse(client.rpc, _scheduler_of(client), message, 2.0)
    if not is_new:
        return
    # who asks for a variable that is gone leaves a traceback in the scheduler's log; an event says whether it is there
    await _converse(client.rpc, _scheduler_of(client), {"op": "event_set", "name": name, "reply": True}, 2.0)


async def read_board(node, name, connect_s):
    """Return what was put there.

    Raises
    ------
    OSError
        If the scheduler is not reached.
    BoardGone
    """
    is_there = {"op": "event_is_set", "name": name, "reply": True}
    message = {"op": "variable_get", "name": name, "timeout": 0.1, "reply": True}
    if not await _converse(node.rpc, _scheduler_of(node), is_there, connect_s):
        raise BoardGone(name)
    try:
        return (await _converse(node.rpc, _scheduler_of(node), message, connect_s))["value"]
    except TimeoutError as error:  # the scheduler's; connections that are not made are a plain OSError
        raise BoardGone(name) from error


async def delete_board(client, name):
    """Take a board off the scheduler.

    Raises
    ------
    OSError
        If the scheduler is not reached.
    """
    from distributed import Variable

    await _converse(client.rpc, _scheduler_of(client), {"op": "event_clear", "name": name, "reply": True}, 2.0)
    Variable(name, client=client).delete()
