"""MapReduce on Dask: pairs with equal keys meet in one call, wherever the records lie."""

from dparallel.mapreduce.folding import Fold
from dparallel.mapreduce.job import map_reduce
from dparallel.mapreduce.output import ReducedBag
from dparallel.mapreduce.partitioning import partition_of
from dparallel.mapreduce.tasks import Counters

__all__ = ["Counters", "Fold", "ReducedBag", "map_reduce", "partition_of"]
