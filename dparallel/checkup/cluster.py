"""What would hurt on a cluster, from what its processes tell about themselves."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from dparallel.blocks.budget import MEMORY_SHARE
from dparallel.checkup.report import Finding, gigabytes, listed

Answers = Mapping[str, Mapping[str, Any]]

_HELD_TOGETHER = ("dask", "distributed")  # whose versions have to be the same


def versions(here: Mapping[str, Any], scheduler: Mapping[str, Any] | None, workers: Answers) -> Iterator[Finding]:
    """Find what differs between this process, the scheduler and the workers.

    Parameters
    ----------
    here, scheduler : dict as from a probe; None where it is not known
    workers : dict of such by address
    """
    yield from _own_version(here["versions"], workers)
    everywhere = {"this process": here, **({"the scheduler": scheduler} if scheduler else {}), **workers}
    for name, wanted in here["versions"].items():
        if name == "dparallel":
            continue
        # what only some of them have is only needed where it is used: the scheduler computes nothing
        asked = everywhere if name in ("python", *_HELD_TOGETHER) else {"this process": here, **workers}
        by_version = defaultdict(list)
        for place, answer in asked.items():
            found = answer["versions"].get(name)
            by_version[_compared(name, found)].append((place, found))
        if len(by_version) < 2 or wanted is None:
            continue
        groups = "; ".join(
            f"{places[0][1] or 'none'} in {listed(place for place, _ in places)}" for places in by_version.values()
        )
        yield Finding(
            "error" if name == "python" else "warning",
            "versions",
            f"{name} is not the same everywhere: {groups}.",
            _harm_of(name),
            f"Install {name} {wanted} everywhere, best by one image or one lock file, and restart what was changed.",
        )


def _compared(name: str, version: str | None) -> str | None:
    """Of Python, releases of the same minor version understand each other."""
    return ".".join(version.split(".")[:2]) if name == "python" and version else version


def _harm_of(name: str) -> str:
    if name == "python":
        return "Functions travel as bytecode, which another minor version of Python cannot run."
    if name in _HELD_TOGETHER:
        return "The messages of Dask's processes are only promised to be understood within one release."
    return "What one process pickles another may not read, and results may differ by where they were computed."


def _own_version(here: Mapping[str, str | None], workers: Answers) -> Iterator[Finding]:
    wanted = here["dparallel"]
    lacking = [place for place, answer in workers.items() if answer["versions"]["dparallel"] is None]
    other = {place: answer["versions"]["dparallel"] for place, answer in workers.items()}
    other = {place: found for place, found in other.items() if found not in (None, wanted)}
    if lacking:
        yield Finding(
            "error",
            "versions",
            f"{len(lacking)} of {len(workers)} workers lack dparallel: {listed(lacking)}.",
            "Every fit on this cluster is refused, since its steps run on the workers.",
            f"Install dparallel {wanted} on every worker and restart the workers.",
        )
    if other:
        named = listed(f"{found} on {place}" for place, found in other.items())
        yield Finding(
            "error",
            "versions",
            f"{len(other)} of {len(workers)} workers hold another dparallel than this process, {wanted}: {named}.",
            "Every fit on this cluster is refused, since its steps would not be the same everywhere.",
            f"Install dparallel {wanted} on every worker and restart the workers.",
        )


def by_host(workers: Answers) -> dict[str, list[str]]:
    """The addresses of the workers of each host."""
    hosts: dict[str, list[str]] = defaultdict(list)
    for address, answer in workers.items():
        hosts[answer["host"]].append(address)
    return hosts


def threads(workers: Answers, n_threads: Mapping[str, int]) -> Iterator[Finding]:
    """Find processors that more threads ask for than there are.

    Parameters
    ----------
    workers : dict by address, as from a probe of workers
    n_threads : dict of int by address, threads that run tasks
    """
    for host, addresses in by_host(workers).items():
        n_cores = max(workers[address]["n_cores"] for address in addresses)
        n_tasks = sum(n_threads[address] for address in addresses)
        if n_tasks > n_cores:
            yield Finding(
                "warning",
                "threads",
                f"On {host} {len(addresses)} workers run {n_tasks} tasks at once, and there are {n_cores} processors "
                "for them (affinity and CPU quota counted).",
                "Threads take turns on a processor: nothing is faster, caches are shared, and every round waits for "
                "the thread that had least of them.",
                f"Start workers with {max(1, n_cores // len(addresses))} threads each (--nthreads), or give the "
                "container more processors.",
            )
        blas = {address: workers[address]["blas_threads"] or 1 for address in addresses}
        n_blas = sum(n_threads[address] * blas[address] for address in addresses)
        if max(blas.values()) > 1 and n_blas > n_cores:
            yield Finding(
                "warning",
                "threads",
                f"On {host} BLAS starts up to {max(blas.values())} threads in each of {n_tasks} tasks: {n_blas} "
                f"threads for {n_cores} processors.",
                "BLAS threads of different tasks fight for the processors. dparallel holds its own products to one "
                "thread, but not what computes your blocks, nor other libraries on the workers.",
                "Set OMP_NUM_THREADS=1, MKL_NUM_THREADS=1 and OPENBLAS_NUM_THREADS=1 in the environment of the "
                "workers, or start them with a nanny, which does that.",
            )


def memory(workers: Answers) -> Iterator[Finding]:
    """Find limits on memory that will not do, and marks at which Dask spills or pauses too early."""
    unlimited = [address for address, answer in workers.items() if not answer["limit_bytes"]]
    if unlimited:
        yield Finding(
            "warning",
            "memory",
            f"{len(unlimited)} of {len(workers)} workers have no memory limit: {listed(unlimited)}.",
            "Dask neither spills nor pauses nor restarts them, so the system ends a worker that takes too much.",
            "Start the workers with --memory-limit, or leave it at 'auto'.",
        )
    for host, addresses in by_host(workers).items():
        limits = sum(workers[address]["limit_bytes"] or 0 for address in addresses)
        there = max(workers[address]["memory_bytes"] for address in addresses)
        if limits > 1.05 * there:
            yield Finding(
                "warning",
                "memory",
                f"On {host} {len(addresses)} workers may use {gigabytes(limits)} together, and there are "
                f"{gigabytes(there)}.",
                "Dask spills and pauses by these limits, so all of the memory is gone before it does, and the system "
                "ends a worker.",
                f"Start the workers with a limit of {gigabytes(there / len(addresses))} each (--memory-limit).",
            )
    yield from _marks(workers)
    full = [address for address, answer in workers.items() if _is_full(answer)]
    if full:
        yield Finding(
            "warning",
            "memory",
            f"{len(full)} of {len(workers)} workers hold so much already that Dask spills, or is about to: "
            f"{listed(full)}.",
            "Blocks of a fit find no room there, so they are read again in every round.",
            "Release what you persisted and need no more, restart the workers (client.restart), or give them more "
            "memory.",
        )


def _is_full(answer: Mapping[str, Any]) -> bool:
    mark = answer["target"] or answer["spill"] or 0.6
    return bool(answer["limit_bytes"]) and answer["used_bytes"] > 0.9 * mark * answer["limit_bytes"]


def _marks(workers: Answers) -> Iterator[Finding]:
    spilling = [answer["target"] or answer["spill"] for answer in workers.values()]
    early = [mark for mark in spilling if mark and mark < MEMORY_SHARE]
    if early:
        yield Finding(
            "warning",
            "memory",
            f"Dask spills to disk at {min(early):.0%} of a worker's memory limit (distributed.worker.memory.target).",
            "A fit keeps its blocks below that mark, so most of the memory is never used, and data that would fit are "
            "read again in every round.",
            "Leave distributed.worker.memory.target at 0.6, or set it higher, and restart the workers.",
        )
    pausing = [answer for answer in workers.values() if answer["pause"]]
    stuck = [answer for answer in pausing if answer["pause"] <= (answer["target"] or answer["spill"] or 0.0)]
    if stuck:
        yield Finding(
            "warning",
            "memory",
            f"Workers pause at {stuck[0]['pause']:.0%} of their memory limit (distributed.worker.memory.pause), before "
            "they begin to spill.",
            "A paused worker starts no task, and nothing makes room on it, so a fit may stand still.",
            "Set distributed.worker.memory.pause above target and spill (they are 0.8, 0.6 and 0.7 by themselves).",
        )
    idle = [answer for answer in workers.values() if not (answer["target"] or answer["spill"])]
    if idle:
        yield Finding(
            "note",
            "memory",
            f"{len(idle)} of {len(workers)} workers do not spill to disk.",
            "What does not fit pauses or ends the worker. A fit streams its blocks before that; other tasks do not.",
            "Set distributed.worker.memory.target and spill where there is a fast disk.",
        )


def nannies(infos: Mapping[str, Mapping[str, Any]]) -> Iterator[Finding]:
    """Find workers without a nanny; infos : what the scheduler knows of each worker."""
    alone = [address for address, info in infos.items() if not info.get("nanny")]
    if alone:
        yield Finding(
            "warning",
            "nannies",
            f"{len(alone)} of {len(infos)} workers have no nanny: {listed(alone)}.",
            "A worker that dies stays away, nothing ends one that takes too much memory, and nothing limits the "
            "threads of BLAS in it. Fits go on with the workers that are left.",
            "Start workers with a nanny (leave out --no-nanny, or processes=False), or let something else start dead "
            "ones again, as Kubernetes does.",
        )


def replicas(workers: Answers) -> Iterator[Finding]:
    """Find that nothing can take the place of a parameter store's shard."""
    harm = "The parameter store of AsyncSGDClassifier and AsyncSGDRegressor keeps a second copy on another worker"
    if len(workers) < 2:
        yield Finding(
            "warning",
            "replicas",
            "There is only one worker.",
            f"{harm}, and there is none: if it dies the fit goes back to the last snapshot.",
            "Start a second worker, or give such estimators checkpoint=.",
        )
    elif len(by_host(workers)) < 2:
        yield Finding(
            "note",
            "replicas",
            f"All {len(workers)} workers run on one host.",
            f"{harm}. It outlives a worker, but not the host.",
            "Use workers on several hosts, or give such estimators checkpoint=, where that matters.",
        )


def silent(workers: Mapping[str, Any]) -> Iterable[Finding]:
    """Find workers that answered with an exception; workers : answers by address."""
    failed = {address: answer for address, answer in workers.items() if not isinstance(answer, dict)}
    if failed:
        address, error = next(iter(sorted(failed.items())))
        yield Finding(
            "error",
            "workers",
            f"{len(failed)} of {len(workers)} workers could not be asked, among them {address}: {error!r}.",
            "What cannot run a small function will not run a step of a fit either.",
            "Look at the logs of these workers (client.get_worker_logs()), and restart them.",
        )
