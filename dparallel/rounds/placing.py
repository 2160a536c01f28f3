"""Which worker holds which shard."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from dparallel.blocks.loading import group_blocks


@dataclass
class Partitioning:
    """Shards whose rows stay the same for a whole fit, whatever workers come and go.

    Parameters
    ----------
    per_thread : int, shards per thread of the workers that are there first; more than one leave something to give to
        workers that join
    n_shards : int or None, how many shards instead, as in the fit that is resumed

    Attributes
    ----------
    ranges : list of (first block, block after the last), empty until the shards are cut first
    """

    per_thread: int = 1
    n_shards: int | None = None
    ranges: list[tuple[int, int]] = field(default_factory=list, init=False)

    def count(self, n_threads: int) -> int:
        """Return how many shards to cut."""
        return self.n_shards or self.per_thread * n_threads

    def group(self, rows: Sequence[int | None], n_threads: int) -> list[tuple[int, int]]:
        """Return the blocks of each shard, those of the first call whatever the threads are now."""
        if not self.ranges:
            self.ranges = group_blocks(rows, self.count(n_threads))
        return self.ranges


def assign_workers(holders: Sequence[str | None], threads: Mapping[str, int]) -> list[str]:
    """Give each shard a worker, in proportion to threads, moving as few shards as that allows.

    Parameters
    ----------
    holders : the worker that holds each shard now, None where none does
    threads : threads of each worker, by address; at least one worker

    Returns
    -------
    workers : list of str, one per shard
    """
    quota = _quotas(len(holders), threads, Counter(h for h in holders if h is not None))
    workers: list[str | None] = []
    for holder in holders:
        if holder is not None and quota.get(holder, 0) > 0:
            workers.append(holder)
            quota[holder] -= 1
        else:
            workers.append(None)
    # the others in order of address, so that neighbouring shards tend to share a worker
    free = (worker for worker in sorted(quota) for _ in range(quota[worker]))
    return [worker if worker is not None else next(free) for worker in workers]


def _quotas(n_shards: int, threads: Mapping[str, int], held: Mapping[str, int]) -> dict[str, int]:
    """Divide n_shards among workers in proportion to threads by largest remainders, at a tie to whoever holds more."""
    total = sum(threads.values())
    quota = {worker: n_shards * count // total for worker, count in threads.items()}
    left = n_shards - sum(quota.values())
    order = sorted(threads, key=lambda w: (-(n_shards * threads[w] % total), -(held.get(w, 0) - quota[w]), w))
    for worker in order[:left]:
        quota[worker] += 1
    return quota
