"""The asynchronous engine: short tasks that pull, compute and push, refilled as they end."""

from dparallel.workers.base import AsyncAlgorithm, EpochReport, Judge, Outcome, StepInfo, Verdict
from dparallel.workers.saving import partitions_in
from dparallel.workers.stragglers import PartitionMove
from dparallel.workers.training import hosts_ahead, train

__all__ = [
    "AsyncAlgorithm",
    "EpochReport",
    "Judge",
    "Outcome",
    "PartitionMove",
    "StepInfo",
    "Verdict",
    "hosts_ahead",
    "partitions_in",
    "train",
]
