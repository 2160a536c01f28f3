"""check: asks a cluster's processes about themselves, and tells what would hurt."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from dparallel import compat, place
from dparallel.checkup import cluster, data
from dparallel.checkup.probe import make_probe, make_worker_probe
from dparallel.checkup.report import Finding, Report
from dparallel.errors import PlaceError

TIMEOUT_S = 30.0  # for an answer of every process: importing numpy on a busy worker takes seconds


def check(client: Any = None, X: Any = None) -> Report:
    """Tell what would hurt a fit on a cluster, in plain words.

    Parameters
    ----------
    client : distributed.Client, default=None
        Of the cluster. None takes the active one; where there is none, this process is what is looked at.
    X : array or dataframe, default=None
        Data to be fitted. Nothing of it is computed: only the sizes and number of its blocks are looked at.

    Returns
    -------
    report : Report
        True where nothing but notes was found. It prints as text, shows as a table in a notebook, and holds each
        Finding with its severity ("error": a fit will fail; "warning": it will be slow or at risk; "note"), its topic,
        what was found, why that hurts and what to do.

    Raises
    ------
    PlaceError
        If the client is none. A finding never raises.

    Notes
    -----
    Looked at are: an asynchronous client; workers that are missing or do not answer; versions of Python, dparallel,
    Dask, NumPy, SciPy, scikit-learn, Numba, pandas and PyArrow that differ between this process, the scheduler and the
    workers; more threads, of tasks and of BLAS, than processors (with affinity and quota); memory limits and the marks
    at which Dask spills and pauses; workers without a nanny; too few workers for the second copies of a parameter
    store; and, of X, blocks that are too few, small or large, and memory that will not do for all of them. Every
    process is asked once, for at most 30 s, and sends a few hundred bytes.

    Examples
    --------
    >>> import dask.array as da
    >>> import dparallel
    >>> report = dparallel.check(X=da.zeros((1000, 4), chunks=(500, 4)))
    >>> [finding.topic for finding in report]
    ['client']
    >>> report.ok
    True
    """
    if client is None:
        client = place.current_client()
    elif not hasattr(client, "scheduler_info"):
        raise PlaceError(
            f"client was given a {type(client).__name__}. It must be a distributed.Client, or None for the active one; "
            "data to look at are given as check(X=...)."
        )
    if client is None:
        return Report("Looked at this process.", [_no_client()])
    if client.asynchronous:
        return Report("Looked at the client.", [_asynchronous()])
    if client.status not in ("running", "connecting"):
        return Report("Looked at the client.", [_closed(client.status)])
    return _check_cluster(client, X)


def _check_cluster(client: Any, X: Any) -> Report:
    findings: list[Finding] = []
    try:
        infos = client.scheduler_info(n_workers=-1)["workers"]
        answers = compat.ask_workers(client, make_worker_probe(), TIMEOUT_S)
        scheduler = _ask_scheduler(client, findings)
    except OSError as error:
        return Report(f"Looked at {client!r}.", [_no_answer(error)])
    findings += cluster.silent(answers)
    workers = {address: answer for address, answer in answers.items() if isinstance(answer, dict) and address in infos}
    n_threads = {address: infos[address]["nthreads"] for address in workers}
    summary = (
        f"Looked at {client.scheduler.address}: {_counted(len(infos), 'worker')} with "
        f"{_counted(sum(info['nthreads'] for info in infos.values()), 'thread')} on "
        f"{_counted(len(cluster.by_host(workers)), 'host')}."
    )
    if not infos:
        return Report(summary, [_no_workers()])
    if workers:
        findings += _look(workers, n_threads, infos, scheduler)
    if workers and X is not None:
        findings += data.chunks(X, workers, n_threads)
    return Report(summary, findings)


def _look(workers: Any, n_threads: Any, infos: Any, scheduler: Any) -> Iterator[Finding]:
    yield from cluster.versions(make_probe()(), scheduler, workers)
    yield from cluster.threads(workers, n_threads)
    yield from cluster.memory(workers)
    yield from cluster.nannies(infos)
    yield from cluster.replicas(workers)


def _ask_scheduler(client: Any, findings: list[Finding]) -> dict[str, Any] | None:
    try:
        answer: dict[str, Any] = compat.ask_scheduler(client, make_probe(), TIMEOUT_S)
    except OSError:
        raise
    except Exception as error:  # a gateway may forbid it; whatever its function raised comes back as it was
        findings.append(
            Finding(
                "note",
                "versions",
                f"The scheduler could not be asked for its versions: {error!r}.",
                "Whether its Dask is the same as that of the workers is not known.",
                "Compare them with client.get_versions().",
            )
        )
        return None
    return answer


def _counted(n: int, noun: str) -> str:
    return f"{n} {noun}{'' if n == 1 else 's'}"


def _no_client() -> Finding:
    return Finding(
        "note",
        "client",
        "There is no Dask client.",
        "Dask collections are computed by threads of this process, and their blocks have to fit into it one by one.",
        "Open one where a cluster is meant: dask.distributed.Client(address).",
    )


def _asynchronous() -> Finding:
    return Finding(
        "error",
        "client",
        "The client is asynchronous.",
        "fit waits for its results, which on the event loop of such a client nobody would bring.",
        "Use Client(..., asynchronous=False), or fit in a thread that has a synchronous client.",
    )


def _closed(status: str) -> Finding:
    return Finding(
        "error",
        "client",
        f"The client is {status}.",
        "Nothing reaches the cluster through it.",
        "Open a new one: dask.distributed.Client(address).",
    )


def _no_workers() -> Finding:
    return Finding(
        "error",
        "workers",
        "There is no worker.",
        "Fits wait for one, and end with an error where none comes.",
        "Start workers: dask worker ADDRESS, or cluster.scale(n). With adaptive scaling set a minimum of 1 or more.",
    )


def _no_answer(error: OSError) -> Finding:
    return Finding(
        "error",
        "workers",
        f"The scheduler, or one of its workers, did not answer within {TIMEOUT_S:g} s ({error!r}).",
        "A fit waits for its slowest worker, and ends with an error where one does not come back.",
        "Look at the dashboard for what hangs; restart it (client.restart).",
    )
