"""Private or version-dependent touches of scikit-learn, dask, distributed and numba, and nothing else."""

import asyncio
import contextlib
import functools
import hashlib
import os
import pathlib
import stat
import sys
import tempfile
import threading
import weakref

# The full fastmath flag would let LLVM delete checks for NaN, so nnan and ninf stay out.
FASTMATH = {"reassoc", "contract", "arcp", "nsz"}

_numba_config = threading.Lock()


def kernel(function=None, *, inner=False, inlined=False, fastmath=FASTMATH):
    """Compile a function with numba when first called, without the GIL and cached on disk.

    inner : bool; the function is only called from other kernels, which spares a third of its compile time
    inlined : bool; it becomes part of each of them: for small functions with many arguments in innermost loops

    The cache folder carries a digest of all kernel sources: numba itself looks only at the file of
    the compiled function, so a change in a file that it inlines would go unnoticed. Where the package
    folder is read-only the user's cache folder is taken, then a private folder among the temporary
    files; where none can be written the function is compiled in memory.
    """
    if function is None:
        return functools.partial(kernel, inner=inner, inlined=inlined, fastmath=fastmath)
    import numba

    folder = _cache_folder()
    with _numba_config:
        before, numba.config.CACHE_DIR = numba.config.CACHE_DIR, folder or ""
        try:
            return numba.njit(
                nogil=True,
                cache=folder is not None,
                fastmath=fastmath,
                error_model="numpy",
                no_cpython_wrapper=inner or inlined,
                forceinline=inlined,
                no_cfunc_wrapper=True,
            )(function)
        finally:
            numba.config.CACHE_DIR = before


@functools.cache
def _cache_folder():
    """Find a writable folder for compiled kernels, or return None."""
    kernels = pathlib.Path(__file__).with_name("kernels")
    digest = hashlib.sha256()
    for path in [pathlib.Path(__file__), *sorted(kernels.glob("*.py"))]:
        digest.update(path.read_bytes())
    name = f"dparallel-{digest.hexdigest()[:16]}"
    for candidate in _cache_candidates(kernels):
        with contextlib.suppress(OSError, RuntimeError):
            folder = candidate() / name
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                return str(folder)
    return None


def _cache_candidates(kernels):
    if os.environ.get("NUMBA_CACHE_DIR"):
        yield lambda: pathlib.Path(os.environ["NUMBA_CACHE_DIR"])
    yield lambda: kernels / "__pycache__"
    yield lambda: pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "dparallel"
    yield _private_temporary_folder


def _private_temporary_folder():
    """A folder that only this user can write: compiled code is loaded from it."""
    owner = os.getuid() if hasattr(os, "getuid") else 0
    folder = pathlib.Path(tempfile.gettempdir()) / f"dparallel-{owner}"
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or (hasattr(os, "getuid") and (found.st_uid != owner or found.st_mode & 0o077)):
        raise OSError(f"{folder} is not a folder of this user's alone")
    return folder


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


def worker_threads(client, timeout_s):
    """Ask the scheduler for the threads of each worker, by address.

    Raises
    ------
    OSError
        If the scheduler does not answer in time; TimeoutError is one.
    """
    return client.sync(client.scheduler.ncores, workers=None, callback_timeout=timeout_s)


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


def feature_names(frame):
    """The column names of a dataframe as scikit-learn reads them: ndarray of str, dtype object, or None."""
    from sklearn.utils.validation import _get_feature_names

    return _get_feature_names(frame)


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


def fitted_kmeans(model):
    """Build a fitted sklearn.cluster.KMeans from a fitted ParallelKMeans."""
    from sklearn.cluster import KMeans
    from sklearn.utils._openmp_helpers import _openmp_effective_n_threads

    result = KMeans(
        n_clusters=model.n_clusters, max_iter=model.max_iter, tol=model.tol, n_init=1, random_state=model.random_state
    )
    result.cluster_centers_ = model.cluster_centers_.copy()
    for name in ("inertia_", "n_iter_", "n_features_in_", "feature_names_in_"):
        if hasattr(model, name):
            setattr(result, name, getattr(model, name))
    result._n_features_out = model.cluster_centers_.shape[0]
    result._n_threads = _openmp_effective_n_threads()
    return result


def callback_support():
    """Return scikit-learn's callback mixin and its decorator of fit, or idle stand-ins before its version 1.9."""
    try:
        from sklearn.callback import CallbackSupportMixin, with_callbacks
    except ImportError:
        return type("CallbackSupportMixin", (), {}), lambda method: method
    return CallbackSupportMixin, with_callbacks


def start_callbacks(estimator, n_subtasks):
    """Open the context of an estimator's callbacks when fit begins; None when it has none or scikit-learn is older."""
    if not hasattr(estimator, "_init_callback_context"):
        return None
    if not getattr(estimator, "_skl_callbacks", None) and not hasattr(estimator, "_parent_callback_ctx"):
        return None
    return estimator._init_callback_context(max_subtasks=n_subtasks)


# --- Dask actors, without the stock proxy: in a task that hangs for ever once the actor's worker has died, and it makes
# the task depend on the actor. `node` is a Worker in the process of a task, a Client elsewhere; coroutines run on the
# node's event loop.


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


async def write_board(client, name, value):
    """Put a value of tuples, dicts, strings and numbers on the scheduler, where every worker and client may read it."""
    message = {"op": "variable_set", "name": name, "data": value, "timeout": 5, "reply": True}
    await _converse(client.rpc, _scheduler_of(client), message, 2.0)
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


# --- scikit-learn's trees


def tree_from_arrays(n_features, n_classes, max_depth, nodes, values):
    """Build a real sklearn.tree._tree.Tree.

    Parameters
    ----------
    n_features : int; n_classes : int, 1 for regression; max_depth : int, depth of the deepest leaf
    nodes : dict of arrays of shape (n_nodes,): left_child, right_child (negative for leaves), feature, threshold,
        impurity, n_node_samples, weighted_n_node_samples, missing_go_to_left
    values : ndarray of shape (n_nodes, 1, n_classes), float64

    Notes
    -----
    The layout of a node is read from scikit-learn and filled by name: it differs between releases.
    """
    import numpy as np
    from sklearn.tree._tree import NODE_DTYPE, TREE_LEAF, TREE_UNDEFINED, Tree

    table = np.zeros(len(values), NODE_DTYPE)
    leaf = nodes["left_child"] < 0
    outside = dict.fromkeys(("left_child", "right_child"), TREE_LEAF)
    outside |= dict.fromkeys(("feature", "threshold"), TREE_UNDEFINED) | {"missing_go_to_left": 0}
    for name, column in nodes.items():
        _field(table, name)[:] = np.where(leaf, outside[name], column) if name in outside else column
    tree = Tree(n_features, np.array([n_classes], np.intp), 1)
    values = np.ascontiguousarray(values, np.float64)
    tree.__setstate__({"max_depth": max_depth, "node_count": len(values), "nodes": table, "values": values})
    return tree


def _field(table, name):
    """A field of a structured array by its name, wherever it is nested."""
    if name in table.dtype.names:
        return table[name]
    inner = [part for part in table.dtype.names if table.dtype[part].names]
    for part in inner:
        with contextlib.suppress(KeyError):
            return _field(table[part], name)
    raise KeyError(name)


def pruned_tree(tree, n_features, n_classes, ccp_alpha):
    """Prune a Tree by minimal cost-complexity with scikit-learn's own function; n_classes : 1 for regression."""
    import numpy as np
    from sklearn.tree._tree import Tree, _build_pruned_tree_ccp

    result = Tree(n_features, np.array([n_classes], np.intp), 1)
    _build_pruned_tree_ccp(result, tree, ccp_alpha)
    return result


def tree_constraints(base, criteria):
    """What BaseEstimator checks the parameters of a parallel tree by: those of scikit-learn's class and three more."""
    from numbers import Integral

    from sklearn.utils._param_validation import Interval, StrOptions

    constraints = {name: value for name, value in base._parameter_constraints.items() if name != "splitter"}
    constraints["criterion"] = [StrOptions(set(criteria))]
    constraints["max_bins"] = [Interval(Integral, 2, 255, closed="both")]
    constraints["categorical_features"] = ["array-like", StrOptions({"from_dtype"}), None]
    constraints["exact_rows"] = [Interval(Integral, 0, None, closed="left")]
    if "class_weight" in constraints:
        constraints["class_weight"] = [dict, StrOptions({"balanced"}), None]
    return constraints
