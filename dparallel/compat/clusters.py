"""Dask's graphs, clients and workers."""

import os
import sys


def execute_graph(graph, key):
    """Compute one key of a small graph of Dask's own task objects in the calling thread."""
    from dask._task_spec import execute_graph

    return execute_graph(graph, keys=(key,))[key]


def task_graph(graph):
    """Split a Dask graph into Dask's own task objects by key, and the futures in it by key."""
    from dask._task_spec import convert_legacy_graph

    futures = {key: value for key, value in graph.items() if hasattr(value, "client") and hasattr(value, "key")}
    return convert_legacy_graph(dict(graph)), futures


def future_status(client, key):
    """Return the status of the client's future of that key; None where the client holds none any more."""
    state = client.futures.get(key)
    return None if state is None else state.status


def is_plain_data(node):
    """Whether a task object only holds data, or another name for a task, so that computing it twice costs nothing."""
    from dask._task_spec import Alias, DataNode

    return isinstance(node, (Alias, DataNode))


def fuse(tasks):
    """Make one of Dask's task objects out of several, of which all but one are only needed by the others."""
    from dask._task_spec import Task

    return Task.fuse(*tasks)


def worker_threads(client, timeout_s):
    """Ask the scheduler for the threads of each worker, by address.

    Raises
    ------
    OSError
        If the scheduler does not answer in time; TimeoutError is one.
    """
    return client.sync(client.scheduler.ncores, workers=None, callback_timeout=timeout_s)


def holders(client, keys):
    """Ask where keys are: a dict of key to addresses and bytes, of those that a worker holds."""

    async def ask():
        found = {key: at for key, at in (await client.scheduler.who_has(keys=list(keys))).items() if at}
        sizes = await client.scheduler.nbytes(keys=list(found), summary=False)
        return {key: (at, sizes[key]) for key, at in found.items()}

    return client.sync(ask)


def ask_workers(client, function, timeout_s):
    """Call a function on every worker; return answer or exception by address.

    Raises
    ------
    OSError
        If one of them does not answer in time; TimeoutError is one. The public run waits for ever.
    """
    return client.sync(client._run, function, on_error="return", callback_timeout=timeout_s)


def ask_scheduler(client, function, timeout_s):
    """Call a function on the scheduler and return its answer; raises what it raises, and OSError as ask_workers."""
    return client.sync(client._run_on_scheduler, function, callback_timeout=timeout_s)


def gather_within(client, futures, timeout_s):
    """Fetch the results of finished futures.

    Raises
    ------
    TimeoutError
        If they are not here in time. The public gather waits for ever where a result was lost and cannot be computed.
    """
    return client.sync(client._gather, futures, callback_timeout=timeout_s)


def scheduler_lost(error):
    """Whether a future was cancelled because its client lost the scheduler, rather than its data."""
    return "scheduler-connection-lost" in str(error)


def is_given_up():
    """Whether the Dask task that calls this is not wanted any more; False outside of a task."""
    worker = worker_of_this_task()
    if worker is None:
        return False
    task = worker.state.tasks.get(worker.get_current_task())
    return task is None or task.state == "cancelled"


def worker_memory(worker):
    """Return the memory limit (None if unlimited) and the bytes in use of a Dask worker."""
    return worker.memory_manager.memory_limit, worker.monitor.get_process_memory()


def thread_limits():
    """Return the limits on threads that the environment sets for numerical libraries, as joblib does for its processes.

    A Dask nanny writes OMP_NUM_THREADS=1, meant for its worker, into the environment of the process that starts it,
    where it stays: that one is left out.
    """
    import dask

    names = ["NUMBA_NUM_THREADS", "OMP_NUM_THREADS"]
    leaked = dask.config.get("distributed.nanny.pre-spawn-environ", None) or {}
    if leaked and all(os.environ.get(name) == str(value) for name, value in leaked.items()):
        names = [name for name in names if name not in leaked]
    values = [os.environ.get(name, "").split(",")[0].strip() for name in names]
    return [int(value) for value in values if value.isdigit()]


def joblib_nesting_level():
    """Return how many joblib parallel loops this code runs inside of."""
    import joblib

    return joblib.parallel.get_active_backend()[0].nesting_level or 0


def worker_of_this_task():
    """Return the Dask worker that runs the calling task, or None outside of one."""
    worker = sys.modules.get("distributed.worker")
    if worker is None:
        return None
    try:
        return worker.get_worker()
    except ValueError:
        return None


def empty_like(collection):
    """The empty array or dataframe by which a Dask collection tells the type of its blocks."""
    return collection._meta


def block_numbers(array):
    """An argument for dask.array.blockwise, of index "i", that gives each task the tuple (number of its row block,)."""
    from dask.layers import ArrayBlockIdDep

    return ArrayBlockIdDep(array.chunks[:1])


def dataframe_argument(delayed, value):
    """What to give to map_partitions of a Dask dataframe, so that its tasks receive `value`.

    That is the Delayed that holds it, one key in the graph; before Dask 2025.5 dataframes passed a Delayed on without
    computing it, so there each task refers to the value itself.
    """
    import dask

    release = tuple(int(part) for part in dask.__version__.split(".")[:2])
    return delayed if release >= (2025, 5) else value
