"""What linear models by SGD share: fit, partial_fit, and what is published of them."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
from scipy.sparse import csr_matrix, issparse
from sklearn.exceptions import ConvergenceWarning, DataConversionWarning
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from dparallel.errors import DataError, warn
from dparallel.estimator import ParallelEstimator
from dparallel.estimators.sgd.algorithm import LinearSGD
from dparallel.estimators.sgd.parameters import check_parameters
from dparallel.estimators.sgd.polish import polish
from dparallel.estimators.sgd.predictions import Line
from dparallel.estimators.sgd.settling import Before, Dense, fingerprint, longest_epoch, seed_of, settle
from dparallel.estimators.sgd.sparse.coefficients import SparseLine
from dparallel.estimators.sgd.survey import Survey
from dparallel.observe.callbacks import CallbackSupport
from dparallel.observe.fits import FitObservers
from dparallel.rounds import Rounds, open_rounds, reduce_once
from dparallel.workers import Outcome


class SGDLinear(CallbackSupport, ParallelEstimator):
    """Base of all linear models by SGD: what happens around the training, which a subclass brings."""

    coef_: Any
    _reads_sparse = True
    _losses: tuple[str, ...] = ()

    def _summarise(self) -> Any:
        """The function that looks at one block of y in the survey."""
        raise NotImplementedError

    def _targets(self, found: Survey, classes: Any) -> Any:
        """What is learnt; the classifier sets classes_."""
        raise NotImplementedError

    def _model(self) -> Any:
        """What `score` sends to the data."""
        raise NotImplementedError

    def _minibatches_of_a_step(self) -> int | str:
        """How many minibatches a partition runs alone, as far as the user said; else "auto"."""
        raise NotImplementedError

    def _cutting(self, *, partial: bool = False) -> dict[str, Any]:
        """How to cut the rows: arguments of open_rounds; partial : whether partial_fit asks."""
        raise NotImplementedError

    def _train(
        self,
        rounds: Rounds,
        algorithm: LinearSGD,
        max_epochs: int,
        plain: dict[str, Any] | None = None,
        listeners: Sequence[Any] = (),
    ) -> Outcome:
        """Train; plain : what tells this fit from others, None in partial_fit."""
        raise NotImplementedError

    def _way(self, blocks: Any) -> Any:
        """How the coefficients are kept: Dense, or what has the same methods."""
        return Dense()

    def _ahead(self, rounds: Rounds, way: Any) -> AbstractContextManager[None]:
        """Begin what the training will need while the rows are surveyed."""
        return nullcontext()

    def _check_parameters(self, *, partial: bool = False) -> None:
        check_parameters(self, losses=self._losses, partial=partial)

    def _fit(self, X, y, coef_init, intercept_init, sample_weight):
        self._check_parameters()
        blocks = self._gather(X, one_column(y), sample_weight)
        observers = FitObservers(self, X, y, sample_weight, n_starts=1, max_rounds=self.max_iter)
        listeners = observers.listeners(lambda parameters: self._attributes(way.published(parameters), blocks.dtype))
        before, way = Before(), self._way(blocks)
        with open_rounds(blocks, **self._cutting()) as rounds, self._ahead(rounds, way):
            found = way.survey(rounds, self._summarise())
            targets = self._targets(found, None)
            if self.warm_start and hasattr(self, "coef_"):
                coef_init = self.coef_ if coef_init is None else coef_init
                intercept_init = self.intercept_ if intercept_init is None else intercept_init
            start = way.begin(targets.n_outputs, blocks.n_features, coef_init, intercept_init)
            plain = fingerprint(self, found, targets)
            algorithm = settle(self, rounds, found, targets, self._seed(plain), start, before, way=way)
            outcome = self._train(rounds, algorithm, int(self.max_iter), plain, listeners)
            after = before.follow(outcome, algorithm, found, longest_epoch(rounds, algorithm.pace))
            learnt = way.learnt(after, outcome.parameters)
            if algorithm.objective.l1 and algorithm.sure_rate:
                learnt = polish(rounds, algorithm, learnt)
        self._publish(outcome, after, learnt, blocks.dtype)
        self._warn(outcome)
        observers.end()
        return self

    def _partial_fit(self, X, y, sample_weight, classes=None):
        first = not hasattr(self, "coef_")
        blocks = self._gather(X, one_column(y), sample_weight, reset=first)
        before = getattr(self, "_before", Before())
        way = self._way(blocks)
        with open_rounds(blocks, **self._cutting(partial=True)) as rounds, self._ahead(rounds, way):
            found = way.survey(rounds, self._summarise())
            targets = self._targets(found, classes)
            known = (None, None) if first else (self.coef_, self.intercept_)
            start = way.begin(targets.n_outputs, blocks.n_features, *(known if before.coef is None else before.last))
            algorithm = settle(self, rounds, found, targets, self._seed({}), start, before, partial=True, way=way)
            outcome = self._train(rounds, algorithm, 1)
            after = before.follow(outcome, algorithm, found, longest_epoch(rounds, algorithm.pace))
        dtype = blocks.dtype if first else self.coef_.dtype
        self._publish(outcome, after, way.learnt(after, outcome.parameters), dtype)
        return self

    def _seed(self, plain: dict[str, Any]) -> int:
        if self.random_state is None and self.checkpoint is not None:
            return seed_of(plain)  # a fit that is resumed must hold out the rows that it held out before
        return int(check_random_state(self.random_state).randint(0, 2**62, dtype=np.int64))

    def _attributes(self, found: tuple[np.ndarray, np.ndarray], dtype: Any) -> dict[str, np.ndarray]:
        """Coefficients as they are published."""
        return {"coef_": found[0].astype(dtype), "intercept_": found[1].astype(dtype)}

    def _publish(self, outcome: Outcome, after: Before, learnt: tuple[np.ndarray, np.ndarray], dtype: Any) -> None:
        for name, value in self._attributes(learnt, dtype).items():
            setattr(self, name, value)
        self._before = after
        self.n_iter_ = outcome.n_epochs
        self.t_ = 1.0 + after.batches
        self.history_ = outcome.history
        self.stop_reason_ = outcome.stop_reason

    def _warn(self, outcome: Outcome) -> None:
        if outcome.converged or self.tol is None:
            return
        change = outcome.history[-1].change if outcome.history else None
        moved = "" if change is None else f" In the last one the objective improved by {change:.3g}."
        warn(
            "Maximum number of iteration reached before convergence. Consider increasing max_iter to improve the fit. "
            f"{type(self).__name__} stopped after {outcome.n_epochs} epochs.{moved}",
            ConvergenceWarning,
        )

    def _line(self) -> Line | SparseLine:
        check_is_fitted(self)
        intercept = np.atleast_1d(self.intercept_)
        if issparse(self.coef_):
            return SparseLine(self.coef_, intercept)
        return Line(np.atleast_2d(self.coef_), intercept)

    def sparsify(self):
        """Make coef_ a CSR matrix, as scikit-learn does; predictions then cost in proportion to stored values.

        Returns
        -------
        self
        """
        check_is_fitted(self)
        self.coef_ = csr_matrix(self.coef_)
        return self

    def densify(self):
        """Make coef_ an ndarray again, as scikit-learn does; it has the length of all features.

        Returns
        -------
        self
        """
        check_is_fitted(self)
        if issparse(self.coef_):
            self.coef_ = self.coef_.toarray()
        return self

    def __sklearn_is_fitted__(self):
        return hasattr(self, "coef_")


def one_column(y: Any) -> Any:
    """Return y as it is, but a column in this process as a vector, with scikit-learn's warning.

    A column of a Dask collection is made a vector block by block.
    """
    shape = y.shape if hasattr(y, "shape") else np.asarray(y).shape
    if len(shape) != 2 or shape[1] != 1:
        return y
    warn(
        "A column-vector y was passed when a 1d array was expected. Please change the shape of y to (n_samples, ), for "
        "example using ravel().",
        DataConversionWarning,
    )
    return y if hasattr(y, "dask") else np.asarray(y)[:, 0]


def score_blocks(model: Any, X: Any, y: Any, sample_weight: Any, partial: Any, combine: Any) -> Any:
    """Run one round of a scoring partial over new data.

    Raises
    ------
    DataError
        If there is no y.
    """
    check_is_fitted(model)
    if y is None:
        raise DataError(f"{type(model).__name__}.score requires y to be passed, but the target y is None.")
    blocks = model._gather(X, y, sample_weight, reset=False)
    return reduce_once(blocks, partial, combine, model._model())


def shared_parameters(model: Any, kind: type) -> dict[str, Any]:
    """The parameters that a scikit-learn class has, too; its own defaults in place of "auto"."""
    known = inspect.signature(kind).parameters
    return {name: value for name, value in model.get_params().items() if name in known and value_is_known(name, value)}


def value_is_known(name: str, value: Any) -> bool:
    """Whether scikit-learn knows the value of a parameter, too."""
    return not (name in ("learning_rate", "eta0") and value == "auto")


def copy_fit(model: Any, target: Any, **attributes: Any) -> Any:
    """Give a scikit-learn model what this one has learnt."""
    names = ("coef_", "intercept_", "classes_", "n_iter_", "n_features_in_", "feature_names_in_")
    found = {name: getattr(model, name) for name in names if hasattr(model, name)}
    for name, value in {**found, **attributes}.items():
        setattr(target, name, value.copy() if isinstance(value, np.ndarray) or issparse(value) else value)
    return target
