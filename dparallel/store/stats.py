"""What a store has done, as plain numbers."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class StoreStats:
    """What a store has done so far.

    Parameters
    ----------
    pushes : int, updates applied
    pulls : int, times that values were read
    duplicates : int, updates that came again and were left out; the last second of a host that died is not in these two
    failovers : int, times that a second copy took over a shard
    restores : int, times that shards went back to a snapshot
    bytes_in, bytes_out : int, arrays received and sent by the shards
    staleness : dict of int to int; how many updates were based on parameters so many updates old
    primaries, backups : tuple of str or None, address of the worker that holds each shard, and its second copy
    pids : dict of address to process number of the workers that hold shards, or are ready to
    """

    pushes: int
    pulls: int
    duplicates: int
    failovers: int = 0
    restores: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    staleness: dict[int, int] = field(default_factory=dict)
    primaries: tuple[str | None, ...] = (None,)
    backups: tuple[str | None, ...] = (None,)
    pids: dict[str, int] = field(default_factory=dict)


async def collect(supervisor: Any) -> StoreStats:
    """Ask all hosts of a store, and add up."""
    fleet, routes = supervisor.fleet, supervisor.routes
    await fleet.refresh()
    counts: dict[int, Counter[str]] = {number: Counter() for number in range(len(routes))}
    for found in [*fleet.past_counts, *(report.counts for report in fleet.hosts.values())]:
        for number, count in found.items():
            counts[number].update(count)
    host = fleet.hosts.get(routes[0].primary)
    first = None if host is None else host.replicas.get(0)
    return StoreStats(
        pushes=0 if first is None else first.version,
        pulls=counts[0]["pulls"],
        duplicates=counts[0]["duplicates"],
        failovers=supervisor.failovers,
        restores=supervisor.restores,
        bytes_in=sum(count["bytes_in"] for count in counts.values()),
        bytes_out=sum(count["bytes_out"] for count in counts.values()),
        staleness={} if first is None else dict(first.staleness),
        primaries=tuple(route.primary and route.primary.address for route in routes),
        backups=tuple(route.backup and route.backup.address for route in routes),
        pids={seat.address: report.pid for seat, report in fleet.hosts.items()},
    )
