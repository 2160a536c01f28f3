"""When a training ends: scikit-learn's rules, asked after every epoch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Any

import numpy as np

from dparallel.checkpoint import as_finite, as_whole
from dparallel.workers.base import EpochReport, Verdict

_LEAST_RATE = 1e-6  # scikit-learn's limit for "adaptive", and its factor
_ADAPTIVE_FALL = 5.0
_PATIENCE, _AUTO_FALL = 2, 4.0  # "auto" shortens its steps after so many epochs without improvement


@dataclass
class EpochJudge:
    """Ends a training when its objective, or the score of the rows held out, has not improved for some epochs.

    Parameters
    ----------
    tol : float or None, what counts as an improvement; None never ends
    patience : int, epochs without improvement in a row that end the training
    l1, l2 : float, penalties
    eta0 : float, the rate at the start
    learning_rate : str; "adaptive" is divided by 5 in place of an end, as long as it is above 1e-6, and "auto" by 4
        after every second epoch without improvement, since it is the noise of long steps that hides it
    score : function of the scores' sums, or None where the objective decides
    penalised : function of the parameters, the coefficients that the penalties are of

    Notes
    -----
    scikit-learn's rule: an epoch has improved if its objective is at most the best so far minus tol (its score at least
    the best plus tol). The objective is the mean loss of the rows, each measured just before it is learnt from, and
    the penalty at the end of the epoch.
    """

    tol: float | None
    patience: int
    l1: float = 0.0
    l2: float = 0.0
    eta0: float = 1.0
    learning_rate: str = "constant"
    score: Callable[[np.ndarray], float] | None = None
    penalised: Callable[[Mapping[str, Any]], np.ndarray] = itemgetter("coef")
    best: float = field(default=np.inf, init=False)
    n_idle: int = field(default=0, init=False)
    factor: float = field(default=1.0, init=False)

    def judge(self, report: EpochReport) -> Verdict:
        """Look at an epoch."""
        objective = self._objective(report)
        value = objective if self.score is None or report.scores is None else -self.score(report.scores)
        change = self.best - value if np.isfinite(self.best) else None
        improved = self.tol is None or not value > self.best - self.tol
        self.n_idle = 0 if improved else self.n_idle + 1
        self.best = min(self.best, value)
        reason = self._end() if self.n_idle >= self.patience else None
        if self.learning_rate == "auto" and self.n_idle and self.n_idle % _PATIENCE == 0:
            self.factor /= _AUTO_FALL
        return Verdict(reason, True, self.factor, objective, change)

    def _objective(self, report: EpochReport) -> float:
        loss, weight = report.sums
        coef = self.penalised(report.parameters)
        penalty = 0.5 * self.l2 * float((coef**2).sum()) + self.l1 * float(np.abs(coef).sum())
        return float(loss / weight) + penalty if weight > 0 else penalty

    def _end(self) -> str | None:
        if self.learning_rate == "adaptive" and self.eta0 * self.factor > _LEAST_RATE:
            self.factor /= _ADAPTIVE_FALL
            self.n_idle = 0
            return None
        what = "objective" if self.score is None else "score of the held-out rows"
        return f"The {what} did not improve by more than tol={self.tol:g} in {self.patience} epochs."

    def state(self) -> dict[str, Any]:
        """Return what it remembers, as plain numbers."""
        best = self.best if np.isfinite(self.best) else None
        return {"best": best, "n_idle": self.n_idle, "factor": self.factor}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Remember what state returned; a ValueError if it cannot have been that."""
        best, n_idle, factor = state["best"], as_whole(state["n_idle"]), as_finite(state["factor"])
        if not 0 < factor <= 1:
            raise ValueError(f"steps cannot be {factor} times as long as at the start")
        self.best = np.inf if best is None else as_finite(best)
        self.n_idle, self.factor = n_idle, factor
