"""What a process of a cluster tells about itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

PACKAGES = ("dask", "distributed", "numpy", "scipy", "scikit-learn", "numba", "pandas", "pyarrow")


def make_probe() -> Callable[[], dict[str, Any]]:
    """Return a function without arguments that returns plain data about the process that calls it.

    A function made in a function travels by value, so that workers without dparallel can call it, too. Nothing that it
    needs is there for certain but Dask.

    Returns
    -------
    probe : function; it returns a dict of
        versions : dict of str to str or None, of python, dparallel (imported) and PACKAGES (as installed)
        host, pid
        n_cores : int, processors that the process may use (affinity and quota)
        blas_threads : int or None, of the largest pool that numpy and scipy have; None where nobody can tell
        memory_bytes : int, memory of the host, or of its container
    """

    def probe(packages: tuple[str, ...] = PACKAGES) -> dict[str, Any]:
        import os
        import platform
        import socket
        from importlib import import_module, metadata

        from dask.system import cpu_count
        from distributed.system import memory_limit

        versions: dict[str, str | None] = {"python": platform.python_version()}
        for name in packages:
            try:
                versions[name] = metadata.version(name)
            except metadata.PackageNotFoundError:
                versions[name] = None
        try:
            versions["dparallel"] = import_module("dparallel").__version__
        except ImportError:
            versions["dparallel"] = None
        try:
            import_module("numpy")  # pools are there once it is
            pools = import_module("threadpoolctl").threadpool_info()
            sizes = [pool["num_threads"] for pool in pools if pool["user_api"] == "blas"]
        except ImportError:
            sizes = []
        return {
            "versions": versions,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "n_cores": cpu_count(),
            "blas_threads": max(sizes) if sizes else None,
            "memory_bytes": memory_limit(),
        }

    return probe


def make_worker_probe() -> Callable[..., dict[str, Any]]:
    """Return a probe for workers, which adds to make_probe's dict.

    Returns
    -------
    probe : function of dask_worker; it adds
        limit_bytes : int or None, memory that the worker may use
        used_bytes : int, memory that its process uses
        target, spill, pause : float or False, the shares of it at which Dask writes to disk, and stops computing
    """
    process = make_probe()

    def probe(dask_worker: Any) -> dict[str, Any]:
        manager = dask_worker.memory_manager
        return {
            **process(),
            "limit_bytes": manager.memory_limit or None,
            "used_bytes": dask_worker.monitor.get_process_memory(),
            "target": manager.memory_target_fraction,
            "spill": manager.memory_spill_fraction,
            "pause": manager.memory_pause_fraction,
        }

    return probe
