"""What logistic and ridge regression share: the way from fit's arguments to what is published."""

from __future__ import annotations

from typing import Any

import dask.array as da
import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.validation import check_is_fitted

from dparallel.blocks.dask_arrays import computed_dtype
from dparallel.blocks.gate import gather, to_blocks
from dparallel.blocks.grid import to_grid
from dparallel.blocks.outputs import apply
from dparallel.errors import warn
from dparallel.estimator import ParallelEstimator
from dparallel.estimators.linear.fitting import Solution, fit_rows
from dparallel.estimators.linear.split import ScoresThemselves, SplitCoefficients
from dparallel.estimators.linear.tile_fitting import fit_tiles
from dparallel.estimators.sgd.linear import score_blocks
from dparallel.estimators.sgd.predictions import Line
from dparallel.observe.callbacks import CallbackSupport
from dparallel.observe.fits import FitObservers
from dparallel.place import Cluster, find
from dparallel.rounds import reduce_once


class ParallelLinear(CallbackSupport, ParallelEstimator):
    """Base of ParallelLogisticRegression and ParallelRidge."""

    _reads_sparse = True

    def _solve(self, X: Any, y: Any, sample_weight: Any, summarise: Any, settle: Any, max_rounds: int) -> Solution:
        """Fit by whichever engine the columns ask for, and publish what both estimators have."""
        given = self._admit(X, y, reset=True, accept_sparse=None)
        observers = FitObservers(self, X, y, sample_weight, n_starts=1, max_rounds=max_rounds)
        dtype = given.form.dtype

        def listen(leave: Any) -> list[Any]:
            return observers.listeners(lambda state: self._attributes(leave(state), dtype))

        solution = _fit(given, y, sample_weight, summarise, settle, listen)
        for name, value in self._attributes((solution.coef, solution.intercept), dtype).items():
            setattr(self, name, value)
        self.history_ = solution.outcome.history
        self.stop_reason_ = solution.outcome.stop_reason
        self._warn(solution)
        observers.end()
        return solution

    def _attributes(self, found: tuple[Any, np.ndarray], dtype: Any) -> dict[str, Any]:
        """Coefficients of shape (n_outputs, n_features), or split ones, and intercepts as they are published."""
        coef, intercept = found
        if not isinstance(coef, SplitCoefficients):
            coef = self._shaped(coef).astype(dtype)
        return {"coef_": coef, "intercept_": self._shaped(intercept).astype(dtype)}

    def _warn(self, solution: Solution) -> None:
        outcome = solution.outcome
        if outcome.converged:
            return
        change = f" The largest derivative was {outcome.history[-1].change:.3g}." if outcome.history else ""
        warn(
            f"{type(self).__name__} failed to converge after {outcome.n_iter} iteration(s): {outcome.stop_reason}"
            f"{change} Increase max_iter, or loosen tol.",
            ConvergenceWarning,
        )

    @property
    def coef_(self) -> np.ndarray:
        """Coefficients; where they were left on the workers, asking for them brings them into this process."""
        held = self.__dict__.get("coef_")
        if held is None:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute 'coef_': it is not fitted yet")
        if isinstance(held, SplitCoefficients):
            held = self.__dict__["coef_"] = self._shaped(held.gather()).astype(self.intercept_.dtype)
        return held

    @coef_.setter
    def coef_(self, value: Any) -> None:
        self.__dict__["coef_"] = value

    def _shaped(self, coef: np.ndarray) -> np.ndarray:
        """Coefficients or intercepts, by output, in the shape in which they are published."""
        return coef

    def __getstate__(self) -> dict[str, Any]:
        if "coef_" in self.__dict__:
            _ = self.coef_  # a pickle must not need the cluster
        return super().__getstate__()

    def _split_scores(self, X: Any) -> Any:
        """Decision values as a lazy Dask array of shape (n_rows, n_outputs), if coefficients and columns are split.

        None where they are not, or X is of another kind.
        """
        check_is_fitted(self)
        held = self.__dict__.get("coef_")
        if not (isinstance(held, SplitCoefficients) and isinstance(X, da.Array)):
            return None
        given = self._admit(X, reset=False, accept_sparse=None)
        return held.scores(X, given.form, np.atleast_1d(self.intercept_))

    def _evaluate(self, X: Any, make: Any, *, dtype: Any, columns: Any = None) -> Any:
        """Apply a function of decision values to every row; make : function of a Line that returns it."""
        scores = self._split_scores(X)
        if scores is None:
            return self._apply(X, make(self._line()), dtype=dtype, columns=columns)
        dtype = computed_dtype(X.dtype) if dtype is None else dtype
        return apply(scores, make(ScoresThemselves(scores.shape[1])), dtype=dtype, columns=columns)

    @property
    def _n_outputs(self) -> int:
        check_is_fitted(self)
        return int(np.size(self.intercept_))

    def _line(self) -> Line:
        check_is_fitted(self)
        return Line(np.atleast_2d(self.coef_), np.atleast_1d(self.intercept_))

    def _score(self, X: Any, y: Any, sample_weight: Any, partial: Any, combine: Any) -> Any:
        """Run one round of a scoring partial over new data, of which X may have been made scores."""
        scores = self._split_scores(X)
        if scores is None or y is None:
            return score_blocks(self, X, y, sample_weight, partial, combine)  # asks for _model()
        blocks = gather(scores, y, sample_weight, owner=type(self).__name__)
        return reduce_once(blocks, partial, combine, self._model(ScoresThemselves(scores.shape[1])))

    def _model(self, line: Any = None) -> Any:
        """What `score` sends to the data; line : what makes scores of them, by default the coefficients."""
        raise NotImplementedError

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "intercept_")


def _fit(given: Any, y: Any, sample_weight: Any, summarise: Any, settle: Any, listen: Any) -> Solution:
    """Take tiles where a Dask array's columns are split and there is a cluster, else rows."""
    if given.kind == "dask.array" and given.X.numblocks[1] > 1 and y is not None:
        with find(True) as place:
            if isinstance(place, Cluster):
                return fit_tiles(to_grid(given, y, sample_weight), place, summarise, settle, listen)
    return fit_rows(to_blocks(given, y, sample_weight), summarise, settle, listen)
