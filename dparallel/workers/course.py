"""How far a training is: its epochs, what was decided after each, and the way back to an earlier one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from dparallel.checkpoint import as_finite
from dparallel.errors import DataError
from dparallel.records import RoundRecord, read_record
from dparallel.workers.base import EpochRecord, EpochReport, Judge, Verdict, Work


@dataclass(frozen=True)
class EpochEnd:
    """What has to be known of a finished epoch to go on from it.

    Parameters
    ----------
    total : ndarray of shape (n_sums,), the row of the store's sums that this epoch added to, as it was at its end
    judge : dict, the judge's state after it
    control : None or a number, what the judge decided for the epochs that follow
    record : RoundRecord
    """

    total: np.ndarray
    judge: dict[str, Any]
    control: Any
    record: RoundRecord


class Course:
    """The epochs of one training.

    Parameters
    ----------
    judge : Judge
    n_steps : int, clocks of an epoch

    Attributes
    ----------
    ends : list of EpochEnd, one per finished epoch
    """

    def __init__(self, judge: Judge, n_steps: int):
        self.n_steps = n_steps
        self.ends: list[EpochEnd] = []
        self._judge = judge
        self._at_start = judge.state()

    @property
    def epoch(self) -> int:
        """The number of the epoch that runs, from 0."""
        return len(self.ends)

    @property
    def control(self) -> Any:
        """What was decided last."""
        return self.ends[-1].control if self.ends else None

    @property
    def history(self) -> list[RoundRecord]:
        """The records of the finished epochs."""
        return [end.record for end in self.ends]

    def finish(
        self,
        sums: np.ndarray,
        parameters: dict[str, Any],
        scores: np.ndarray | None,
        work: Work,
    ) -> Verdict:
        """Finish the epoch that runs and have it judged.

        Parameters
        ----------
        sums : ndarray of shape (2, n_sums), as on the store: epochs of even and of odd number have added to a row each
        parameters, scores : see EpochReport
        work : Work, for the record

        Raises
        ------
        DataError
            If the parameters have left the range of numbers.
        """
        epoch = self.epoch
        total = sums[epoch % 2]
        before = self.ends[epoch - 2].total if epoch >= 2 else np.zeros_like(total)
        for name, values in parameters.items():
            if not np.isfinite(values[1] if isinstance(values, tuple) else values).all():
                raise DataError(
                    f"Floating-point under-/overflow occurred at epoch #{epoch + 1}: {name} is not finite. "
                    "Scaling the input data with ParallelStandardScaler or a smaller learning rate might help."
                )
        verdict = self._judge.judge(EpochReport(epoch, total - before, parameters, scores))
        record = EpochRecord(epoch + 1, verdict.objective, verdict.change, **asdict(work))
        self.ends.append(EpochEnd(total.copy(), self._judge.state(), verdict.control, record))
        return verdict

    def go_back(self, clock: int) -> None:
        """Forget the epochs that had not ended at a clock, since the store has forgotten their steps."""
        del self.ends[clock // self.n_steps :]
        self._judge.restore(self.ends[-1].judge if self.ends else self._at_start)

    def document(self) -> dict[str, Any]:
        """Return the course as plain data for a checkpoint."""
        ends = [
            {"total": end.total.tolist(), "judge": end.judge, "control": end.control, "record": asdict(end.record)}
            for end in self.ends
        ]
        return {"n_steps": self.n_steps, "ends": ends}

    def restore(self, document: Mapping[str, Any], n_sums: int) -> None:
        """Go on where a document ended.

        Parameters
        ----------
        document : as from `document`
        n_sums : int, length of the row of sums

        Raises
        ------
        Exception
            If it is none; nothing has changed then but the judge.
        """
        ends = [_as_end(described, n_sums) for described in document["ends"]]
        for end in ends:  # each may be gone back to
            self._judge.restore(end.judge)
        self.ends = ends


def _as_end(described: Mapping[str, Any], n_sums: int) -> EpochEnd:
    total = np.array([as_finite(number) for number in described["total"]], np.float64)
    if total.shape != (n_sums,):
        raise ValueError(f"an epoch has sums of shape {total.shape}, not ({n_sums},)")
    control = described["control"]
    if control is not None:
        as_finite(control)
    return EpochEnd(total, dict(described["judge"]), control, read_record(EpochRecord, described["record"]))
