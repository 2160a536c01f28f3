"""Every exception and warning of dparallel, one sentence each."""

import sys
import warnings

_INNER = ("dparallel.", "sklearn.", "contextlib")


class DparallelError(Exception):
    """Base of every error that dparallel raises itself."""


class DataError(DparallelError, ValueError):
    """The data hold something that the algorithm cannot use, such as NaN or a block of another width."""


class AlignmentError(DataError):
    """X, y and sample_weight cannot be paired row by row."""


class DataKindError(DparallelError, TypeError):
    """The data are of a kind or dtype that dparallel does not read."""


class PlaceError(DparallelError, RuntimeError):
    """There is no usable place to compute, for instance an asynchronous client."""


class WorkerVersionError(PlaceError):
    """Some workers lack dparallel or hold another version of it."""


class MemoryBudgetError(DparallelError, MemoryError):
    """The data neither fit into the workers' memory nor can be streamed."""


class DataLostError(DparallelError, RuntimeError):
    """Blocks that nothing can rebuild were lost with the worker that held them."""


class ClusterLostError(DparallelError, RuntimeError):
    """The scheduler, the client or too many workers in a row died, so the fit cannot go on."""


class StoreUnavailable(ClusterLostError):
    """A shard of the parameter store died and nothing can take its place, or nothing answered before the deadline."""


class StoreError(DparallelError, ValueError):
    """A parameter, an update or an option does not fit the store, such as an unknown name or another shape."""


class ConsistencyError(DparallelError, RuntimeError):
    """A step asks for what the store's consistency does not allow, such as a clock out of order."""


class RolledBack(ConsistencyError):
    """The store went back to a snapshot: go on from the clocks in `progress`.

    Parameters
    ----------
    message : str
    progress : dict of partition to the clock of its next step
    """

    def __init__(self, message: str, progress: dict[int, int]):
        super().__init__(message, progress)
        self.progress = progress

    def __str__(self) -> str:
        return str(self.args[0])


class NotYet(ConsistencyError):
    """Slower partitions still hold this step up; what was pushed is applied."""


class CheckpointError(DparallelError, ValueError):
    """A file is no checkpoint of dparallel, is damaged, or belongs to something else."""


class MapReduceError(DparallelError, RuntimeError):
    """The mapper, combiner, partitioner or reducer of a job failed; the message names the record or key.

    Parameters
    ----------
    message : str
    partition : int, of the source, or of the result if the reducer failed
    cause : what the function raised
    """

    def __init__(self, message: str, partition: int, cause: Exception):
        super().__init__(message, partition, cause)
        self.partition = partition
        self.__cause__ = cause  # which pickle leaves out

    def __str__(self) -> str:
        return str(self.args[0])


class OutputExistsError(DparallelError, FileExistsError):
    """The folder for a job's output holds something already."""


class StoreWarning(UserWarning):
    """The store runs with less protection than asked for, for instance without a second copy."""


class MissingExtraError(DparallelError, ImportError):
    """An optional package is needed for this and not installed; the message says how to install it."""


class ShowWarning(UserWarning):
    """A fit cannot be shown as asked for, as where the scheduler serves no dashboard; it runs all the same."""


class StreamingWarning(UserWarning):
    """The data do not fit into the memory share and are read again in every round."""


def warn(message: str, category: type[Warning]) -> None:
    """Warn at the line of the caller's code that led here, whatever frames of ours and of scikit-learn lie between."""
    level = 2
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith(_INNER):
        frame = frame.f_back
        level += 1
    warnings.warn(message, category, stacklevel=level)
