"""What runs in tasks: mapping and combining one partition, and reducing one. Nothing here knows Dask."""

from __future__ import annotations

import operator
import sys
import traceback
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from types import GeneratorType
from typing import Any

import cloudpickle

from dparallel.errors import DataKindError, DparallelError, MapReduceError
from dparallel.mapreduce.folding import Fold, own
from dparallel.mapreduce.garbage import seldom_searched
from dparallel.mapreduce.packing import pack
from dparallel.mapreduce.partitioning import partition_of

FIRST_RECORDS = 1024  # how many records are mapped before pairs are first combined
PAIRS_AT_ONCE = 100_000  # how many pairs, about, are mapped before they are added to those before
# values of a key that comes often are combined when they are 8, since what is let go of soon is still in the cache;
# then when they are 16, 32 and 64, since what a combiner returns may grow with what it is given
LOOK_EVERY, LONGEST = 8, 64


class Bucket(dict[Hashable, Any]):
    """What one partition of the source has for one reducer.

    Of a class of its own because distributed sends a plain dict or list item by item, each as a message part with a
    header: 90,000 counts take seconds. This one is one string of bytes, see `packing`.
    """

    def __reduce__(self) -> Any:
        return pack(Bucket, dict(self))


class Results(list[tuple[Hashable, Any]]):
    """A list of (key, result), of a class of its own for the reason that Bucket has."""

    def __reduce__(self) -> Any:
        return pack(Results, list(self))


@dataclass(frozen=True)
class Counters:
    """What a job counted; a task that ran twice counts once.

    Parameters
    ----------
    n_records : int, records that were read
    n_pairs : int, pairs that the mapper yielded
    n_combined : int, pairs that were sent to reducers; as many as n_pairs without a combiner
    n_keys : int, keys, which is also the number of results
    """

    n_records: int = 0
    n_pairs: int = 0
    n_combined: int = 0
    n_keys: int = 0

    def __add__(self, other: Counters) -> Counters:
        return Counters(
            self.n_records + other.n_records,
            self.n_pairs + other.n_pairs,
            self.n_combined + other.n_combined,
            self.n_keys + other.n_keys,
        )


class _CombinerFailed(Exception):
    """Carries the error of a combiner out of the mapper's loop."""

    def __init__(self, failure: MapReduceError):
        self.failure = failure


@dataclass(frozen=True)
class Job:
    """The functions of one map_reduce; its methods are the tasks.

    Parameters
    ----------
    mapper, reducer, combiner, partitioner, n_reducers, sort : as in map_reduce, with a partitioner and a number
    """

    mapper: Callable[[Any], Iterable[tuple[Hashable, Any]]]
    reducer: Callable[[Hashable, list[Any]], Any]
    combiner: Callable[[Hashable, list[Any]], Any] | None
    partitioner: Callable[[Hashable, int], int]
    n_reducers: int
    sort: bool

    @seldom_searched()
    def map(self, partition: int, records: Iterable[Any]) -> list[Any]:
        """Map the records of one partition, combine, and divide the keys among the reducers.

        Parameters
        ----------
        partition : int, its number, for messages
        records : iterable of records

        Returns
        -------
        parts : list of n_reducers dicts of key to value (to the list of values without a combiner), and Counters

        Raises
        ------
        MapReduceError
            If one of the user's functions fails.
        DataKindError, DataError
            If the partitioner cannot place a key.
        """
        iterator = iter(records)
        groups: dict[Hashable, Any] = {}
        n_records, n_pairs, n_wanted = 0, 0, FIRST_RECORDS
        while slab := list(islice(iterator, n_wanted)):
            n_fresh = self._map_slab(partition, slab, n_records, groups)
            n_records += len(slab)
            n_pairs += n_fresh
            n_wanted = max(1, min(4 * len(slab), PAIRS_AT_ONCE * len(slab) // max(n_fresh, 1)))
        counters = Counters(n_records, n_pairs, len(groups) if self.combiner else n_pairs)
        return [*self._divide(partition, groups), counters]

    def _map_slab(self, partition: int, slab: list[Any], first: int, groups: dict[Hashable, Any]) -> int:
        """Add what the mapper yields for some records to the groups; returns how many pairs these were."""
        waiting = iter(slab)
        try:
            if isinstance(self.combiner, Fold):
                return self._fold(partition, waiting, groups)
            fresh, n_pairs = self._collect(partition, waiting)
        except _CombinerFailed as error:
            failure = error.failure
        except Exception as error:
            frames = error.__traceback__
            is_deeper = frames is not None and frames.tb_next is not None and frames.tb_next.tb_next is not None
            what = "failed" if is_deeper else "failed, or yielded no pair of a hashable key and a value,"
            place = len(slab) - operator.length_hint(waiting) - 1
            where = f"at record {first + place} of partition {partition}, {shorten(slab[place])}"
            failure = blame(f"The mapper {what} {where}", partition, error)
        else:
            self._combine(partition, groups, fresh)
            return n_pairs
        raise failure

    def _fold(self, partition: int, records: Iterable[Any], groups: dict[Hashable, Any]) -> int:
        """Map records and fold each value into what its key has so far."""
        mapper, function = self.mapper, self.combiner.function  # type: ignore[union-attr]
        n_pairs = 0
        for record in records:
            for key, value in mapper(record):
                n_pairs += 1
                if key not in groups:
                    groups[key] = own(value)
                    continue
                try:
                    groups[key] = function(groups[key], value)
                except Exception as error:
                    raise _CombinerFailed(self._blame_combiner(partition, key, error)) from None
        return n_pairs

    def _collect(self, partition: int, records: Iterable[Any]) -> tuple[dict[Hashable, list[Any]], int]:
        """Map records and list the values of each key; long lists are combined."""
        mapper = self.mapper
        groups: dict[Hashable, list[Any]] = defaultdict(list)
        limits: dict[Hashable, int] = {}
        n_pairs, look_every = 0, LOOK_EVERY if self.combiner else sys.maxsize
        for record in records:
            for key, value in mapper(record):
                values = groups[key]
                values.append(value)
                n_pairs += 1
                if not len(values) % look_every:
                    self._combine_long(partition, key, values, limits)
        return groups, n_pairs

    def _combine_long(self, partition: int, key: Hashable, values: list[Any], limits: dict[Hashable, int]) -> None:
        """Combine the values of a key in place, if they have become as many as its limit."""
        limit = limits.get(key, LOOK_EVERY)
        if len(values) < limit:
            return
        limits[key] = min(2 * limit, LONGEST)
        try:
            values[:] = (self.combiner(key, values),)  # type: ignore[misc]
        except Exception as error:
            raise _CombinerFailed(self._blame_combiner(partition, key, error)) from None

    def _combine(self, partition: int, groups: dict[Hashable, Any], fresh: dict[Hashable, list[Any]]) -> None:
        """Add fresh values to groups, in the order in which they were yielded."""
        combiner = self.combiner
        key: Hashable = None
        if combiner is None:
            for key, values in fresh.items():
                if key in groups:
                    groups[key] += values
                else:
                    groups[key] = values
            return
        try:
            for key, values in fresh.items():
                if key in groups:
                    values.insert(0, groups[key])
                groups[key] = combiner(key, values) if len(values) > 1 else values[0]
        except Exception as error:
            failure = self._blame_combiner(partition, key, error)
        else:
            return
        raise failure

    def _blame_combiner(self, partition: int, key: Hashable, error: Exception) -> MapReduceError:
        return blame(f"The combiner failed at key {shorten(key)} in partition {partition}", partition, error)

    def _divide(self, partition: int, groups: dict[Hashable, Any]) -> list[Bucket]:
        """Return the groups of each reducer."""
        partitioner, n_reducers = self.partitioner, self.n_reducers
        buckets = [Bucket() for _ in range(n_reducers)]
        key: Hashable = None
        try:
            for key, values in groups.items():
                chosen = partitioner(key, n_reducers)
                if not 0 <= operator.index(chosen) < n_reducers:
                    raise ValueError(f"it returned {chosen!r} and must return a number from 0 to {n_reducers - 1}")
                buckets[chosen][key] = values
        except Exception as error:
            if partitioner is partition_of and isinstance(error, DparallelError):
                raise type(error)(f"In partition {partition} of the source: {error}") from error
            failure = blame(f"The partitioner failed at key {shorten(key)} of partition {partition}", partition, error)
        else:
            return buckets
        raise failure

    @seldom_searched()
    def reduce(self, partition: int, buckets: Sequence[Bucket]) -> tuple[Results, Counters]:
        """Bring together the values of each key and reduce them.

        Parameters
        ----------
        partition : int, the number of the reducer
        buckets : list of dicts, what each partition of the source has for this reducer, in order; not changed

        Returns
        -------
        results : list of (key, result)
        counters : Counters

        Raises
        ------
        MapReduceError
            If the reducer fails.
        DataKindError
            If keys are to be sorted and have no order.
        """
        groups: dict[Hashable, list[Any]] = defaultdict(list)
        for bucket in buckets:
            for key, values in bucket.items():
                if self.combiner is None:
                    groups[key] += values
                else:
                    groups[key].append(values)
        reducer = self.reducer
        results = Results()
        key = None
        keys = self._order(partition, groups)
        try:
            for key in keys:
                result = reducer(key, groups.pop(key))
                if type(result) is GeneratorType:
                    raise TypeError("it yields, and must return one result for each key")
                results.append((key, result))
        except Exception as error:
            failure = blame(
                f"The reducer failed at key {shorten(key)} in output partition {partition}", partition, error
            )
        else:
            return results, Counters(n_keys=len(results))
        raise failure

    def _order(self, partition: int, groups: dict[Hashable, Any]) -> list[Any]:
        if not self.sort:
            return list(groups)
        try:
            return sorted(groups)
        except TypeError as error:
            raise DataKindError(
                f"The keys of output partition {partition} cannot be sorted: {error}. Yield keys of one kind, or give "
                "map_reduce sort=False."
            ) from error


def blame(what: str, partition: int, error: Exception) -> MapReduceError:
    """Return the error that says where a function of the user failed and how.

    To be raised after the except clause: inside, Python would tie it to the first error, and both travel or none.
    """
    frame = traceback.extract_tb(error.__traceback__)[-1]
    how = traceback.format_exception_only(error)[-1].strip()
    return MapReduceError(f"{what}: {how} ({frame.filename}, line {frame.lineno}).", partition, portable(error, how))


def portable(error: Exception, how: str) -> Exception:
    """Return an error that reaches the client whole: another one if its own does not come back from pickling."""
    try:
        cloudpickle.loads(cloudpickle.dumps(error))
    except Exception:
        return RuntimeError(how)
    return error


def shorten(value: Any) -> str:
    """Return a repr of at most 200 characters, even of a value whose repr fails."""
    try:
        text = repr(value)
    except Exception:
        text = f"<{type(value).__name__}>"
    return text if len(text) <= 200 else f"{text[:197]}..."
