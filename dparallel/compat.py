"""Private or version-dependent touches of scikit-learn, dask, distributed and numba, and nothing else."""

import contextlib
import functools
import hashlib
import os
import pathlib
import stat
import sys
import tempfile
import threading

# The full fastmath flag would let LLVM delete checks for NaN, so nnan and ninf stay out.
FASTMATH = {"reassoc", "contract", "arcp", "nsz"}

_numba_config = threading.Lock()


def kernel(function=None, *, inner=False, fastmath=FASTMATH):
    """Compile a function with numba when first called, without the GIL and cached on disk.

    inner : bool; the function is only called from other kernels, which spares a third of its compile time

    The cache folder carries a digest of all kernel sources: numba itself looks only at the file of
    the compiled function, so a change in a file that it inlines would go unnoticed. Where the package
    folder is read-only the user's cache folder is taken, then a private folder among the temporary
    files; where none can be written the function is compiled in memory.
    """
    if function is None:
        return functools.partial(kernel, inner=inner, fastmath=fastmath)
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
                no_cpython_wrapper=inner,
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
