"""Where a fit runs: threads in this process or a cluster. The only file that looks for a client."""

from __future__ import annotations

import functools
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import Any
from weakref import WeakKeyDictionary

import dask
import joblib
from dask.utils import key_split

from dparallel.compat import joblib_nesting_level, thread_limits, worker_of_this_task
from dparallel.errors import PlaceError, WorkerVersionError

_checked: WeakKeyDictionary[Any, set[str]] = WeakKeyDictionary()  # workers of each client that hold this version


@dataclass(frozen=True)
class Local:
    """This process.

    Parameters
    ----------
    n_threads : int, how many threads may compute
    """

    n_threads: int


@dataclass(frozen=True)
class Cluster:
    """The workers of a Dask cluster.

    Parameters
    ----------
    client : distributed.Client, synchronous and connected
    in_task : bool, whether this fit is itself a task of that cluster
    """

    client: Any
    in_task: bool = False

    def count_fits(self) -> int:
        """Return how many fits may share the cluster's memory: inside a task, as many as there are tasks of its kind.

        A task that waits for its own tasks makes room for the next one, so all of them may be fitting at once.
        """
        if not self.in_task:
            return 1
        kind = key_split(worker_of_this_task().get_current_task())
        running = [key for keys in self.client.processing().values() for key in keys]
        return max(1, sum(key_split(key) == kind for key in running))


@contextmanager
def find(is_dask: bool) -> Iterator[Local | Cluster]:
    """Find where to compute.

    Parameters
    ----------
    is_dask : bool, whether the data are Dask collections; other data are always computed in this process

    Yields
    ------
    place : Local or Cluster, valid inside the with block

    Raises
    ------
    PlaceError
        If the active client is asynchronous.
    WorkerVersionError
        If workers lack dparallel or hold another version of it.
    """
    if not is_dask:
        yield Local(count_threads())
    elif worker_of_this_task() is not None:
        from distributed import worker_client

        with worker_client() as client:
            yield Cluster(client, in_task=True)
    else:
        client = active_client()
        if client is None:
            yield Local(count_threads())
        else:
            refuse_other_versions(client)
            yield Cluster(client)


def active_client() -> Any:
    """Return the client that Dask itself would use now, or None.

    Raises
    ------
    PlaceError
        If the client is asynchronous.
    """
    client = current_client()
    if client is not None and client.asynchronous:
        raise PlaceError(
            f"The active Dask client ({client!r}) is asynchronous, and fit waits for its results. "
            "Use Client(..., asynchronous=False), or call fit in a thread that has a synchronous client."
        )
    return client


def current_client() -> Any:
    """Return the client that Dask itself would use now, of whatever kind, or None."""
    distributed = sys.modules.get("distributed")
    scheduler = dask.config.get("scheduler", None)
    if distributed is None or scheduler not in (None, "dask.distributed", "distributed"):
        return None
    try:
        return distributed.Client.current()
    except ValueError:
        return None


def refuse_other_versions(client: Any) -> None:
    """Make sure that all workers of a client hold this version of dparallel; each worker is asked once.

    One that dies before it answers is not known, and is asked again if it comes back.

    Raises
    ------
    WorkerVersionError
    """
    workers = client.nthreads()
    known = _checked.setdefault(client, set())
    new = [worker for worker in workers if worker not in known]
    answers = client.run(version_checker(), workers=new, on_error="return") if new else {}
    answers = {worker: answer for worker, answer in answers.items() if not isinstance(answer, OSError)}
    wrong = {worker: answer for worker, answer in answers.items() if answer is not None}
    known.update(answers.keys() - wrong.keys())
    if wrong:
        found = "; ".join(f"worker {worker}: {error}" for worker, error in sorted(wrong.items()))
        raise WorkerVersionError(
            f"Not all workers have the version of dparallel that this process has, "
            f"{import_module('dparallel').__version__}: {found}. Install it on every worker, restart the workers and "
            "call fit again."
        )


def version_checker(modules: Sequence[str] = ()) -> Callable[[], None]:
    """Return a function without arguments that raises where dparallel is missing or of another version.

    A function made in a function travels by value, so that workers without dparallel can call it, too.

    Parameters
    ----------
    modules : names of modules to import where the version is right, which takes a new process some seconds
    """

    def require(expected: str, modules: Sequence[str]) -> None:
        found = import_module("dparallel").__version__
        if found != expected:
            raise ImportError(f"has dparallel {found}")
        for name in modules:
            import_module(name)

    return functools.partial(require, expected=import_module("dparallel").__version__, modules=tuple(modules))


def modules_in_use() -> list[str]:
    """Names of the kernels that this process has loaded: what takes a new worker longest to import."""
    return sorted(name for name in sys.modules if name.startswith("dparallel.kernels"))


def count_threads() -> int:
    """Return how many threads of this process may compute.

    That is one inside a Dask task, inside a thread of joblib, or under Dask's synchronous scheduler. Else it is the
    processors that the process may run on (affinity, CPU quota, LOKY_MAX_CPU_COUNT), or fewer where Dask's
    ``num_workers``, OMP_NUM_THREADS or NUMBA_NUM_THREADS says so; joblib sets the last two for its processes.
    """
    if dask.config.get("scheduler", None) in ("sync", "synchronous", "single-threaded"):
        return 1
    nested_in_thread = joblib_nesting_level() > 0 and threading.current_thread() is not threading.main_thread()
    if nested_in_thread or worker_of_this_task() is not None:
        return 1
    wanted = dask.config.get("num_workers", None)
    return max(1, min([joblib.cpu_count(), *thread_limits(), *([int(wanted)] if wanted else [])]))


def run_threads(calls: Sequence[Callable[[], Any]], pool: ThreadPoolExecutor | None = None) -> list[Any]:
    """Call functions on threads, the first in the calling one, and return their results in order.

    Parameters
    ----------
    calls : functions without arguments that release the GIL
    pool : executor for all but the first; where None, they run one after another in the calling thread

    Raises
    ------
    The first exception in the order of calls. No call is still running when this returns or raises.
    """
    if pool is None or len(calls) < 2:
        return [call() for call in calls]
    others = [pool.submit(call) for call in calls[1:]]
    try:
        return [calls[0](), *(other.result() for other in others)]
    finally:
        for other in others:
            other.cancel()
        wait(others)
