"""ParallelKMeans: scikit-learn's KMeans for data in blocks."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import ClassNamePrefixFeaturesOutMixin, ClusterMixin, TransformerMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from dparallel import compat
from dparallel.errors import warn
from dparallel.estimator import ParallelEstimator
from dparallel.estimators.kmeans.fitting import SCRATCH_BYTES_PER_ROW, Fitting, Plan, Run
from dparallel.estimators.kmeans.measure import Centres, Label, Predict, Transform, inertia_shard
from dparallel.estimators.kmeans.parameters import check_centres, check_parameters
from dparallel.estimators.kmeans.streaming import update_centres
from dparallel.observe.callbacks import CallbackSupport
from dparallel.observe.fits import FitObservers, observed
from dparallel.rounds import open_rounds, reduce_once

_MANY_STARTS = 10


class ParallelKMeans(
    CallbackSupport, ClassNamePrefixFeaturesOutMixin, TransformerMixin, ClusterMixin, ParallelEstimator
):
    """K-means clustering, exact, on arrays in this process and on Dask collections where they are.

    Per round the centres and their movement travel to each worker, and two sums per centre and column come back from
    each shard; rows stay where they are, but for those drawn as candidates for first centres.

    Parameters
    ----------
    n_clusters : int, default=8
        Number of clusters and centres.
    init : {"k-means||", "k-means++", "random"}, array-like or callable, default="k-means||"
        How the first centres are found. "k-means||" draws about oversampling_factor * n_clusters rows in each of
        init_rounds rounds and clusters them; "k-means++" takes two rounds over the data per centre; "random" draws
        rows. An array has shape (n_clusters, n_features). A callable is called as
        ``init(X, n_clusters, random_state=...)`` and returns such an array.
    n_init : int or "auto", default="auto"
        Number of starts, of which the one with the lowest inertia is kept. "auto": 10 for init="random" or a callable,
        else 1.
    max_iter : int, default=300
        Most rounds of one start.
    tol : float, default=1e-4
        Stop when the squared movements of all centres sum to at most tol times the mean variance of the columns (for
        metric="cosine", tol / n_features).
    algorithm : {"auto", "bounded", "lloyd", "elkan"}, default="auto"
        "bounded" leaves out the distances that bounds make needless, and keeps 12 bytes a row for them; "lloyd"
        measures every row in every round and keeps 4. Both give the same labels. "auto" and "elkan" mean "bounded".
    metric : {"euclidean", "cosine"}, default="euclidean"
        "cosine" is spherical k-means: rows are compared by direction, centres have norm 1, and distances are
        1 - cosine. A row of zeros is at distance 1 from every centre.
    oversampling_factor : float, default=2.0
        For "k-means||", see init.
    init_rounds : int, default=5
        For "k-means||", see init.
    copy_x : bool, default=True
        Accepted because scikit-learn's KMeans has it; X is never changed.
    random_state : int, RandomState or None, default=None
        Seeds the draws of first centres. They belong to row numbers, so the same seed draws the same rows however the
        data are chunked.
    verbose : int, default=0
        Print a line per round.

    Attributes
    ----------
    cluster_centers_ : ndarray of shape (n_clusters, n_features), of the data's dtype
    labels_ : ndarray of shape (n_rows,), int32; for Dask input a lazy Dask array or series, which pickles leave out
    inertia_ : float, weighted sum of squared distances of the rows to their centres; for metric="cosine" of 1 - cosine
    n_iter_ : int, rounds run
    history_ : list of RoundRecord, one per round
    stop_reason_ : str, why the last round was the last
    counts_ : ndarray of shape (n_clusters,), float64, weight of each centre's rows
    n_features_in_ : int
    feature_names_in_ : ndarray of shape (n_features,), for dataframes with string column names

    See Also
    --------
    sklearn.cluster.KMeans : the same in one process.

    Notes
    -----
    Seeding: Bahmani et al., "Scalable k-means++" (VLDB 2012). Rounds: Lloyd, "Least squares quantization in PCM"
    (1982), with the bounds of Hamerly, "Making k-means even faster" (SDM 2010). Sums are exact, so chunking, workers
    and their deaths do not change the centres.

    Examples
    --------
    >>> import numpy as np
    >>> from dparallel import ParallelKMeans
    >>> X = np.array([[1.0, 2], [1, 4], [1, 0], [10, 2], [10, 4], [10, 0]])
    >>> model = ParallelKMeans(n_clusters=2, random_state=0).fit(X)
    >>> sorted(model.cluster_centers_.tolist())
    [[1.0, 2.0], [10.0, 2.0]]
    >>> bool(model.predict([[0, 0]])[0] == model.labels_[0])
    True
    """

    _reads_sparse = True

    def __init__(
        self,
        n_clusters=8,
        *,
        init="k-means||",
        n_init="auto",
        max_iter=300,
        tol=1e-4,
        algorithm="auto",
        metric="euclidean",
        oversampling_factor=2.0,
        init_rounds=5,
        copy_x=True,
        random_state=None,
        verbose=0,
    ):
        self.n_clusters = n_clusters
        self.init = init
        self.n_init = n_init
        self.max_iter = max_iter
        self.tol = tol
        self.algorithm = algorithm
        self.metric = metric
        self.oversampling_factor = oversampling_factor
        self.init_rounds = init_rounds
        self.copy_x = copy_x
        self.random_state = random_state
        self.verbose = verbose

    @observed
    def fit(self, X, y=None, sample_weight=None):
        """Find the centres.

        Parameters
        ----------
        X : array-like, CSR matrix, dataframe, Dask array or Dask dataframe of shape (n_rows, n_features)
        y : ignored
        sample_weight : array-like, Dask array or Dask series of shape (n_rows,), or None
            A row of weight 2 counts as two rows, one of weight 0 not at all.

        Returns
        -------
        self

        Raises
        ------
        DataError
            If X holds NaN or infinity, fewer rows than clusters, or no weight.
        AlignmentError
            If X and sample_weight cannot be paired.
        ClusterLostError, DataLostError
            If the cluster dies, or data that cannot be rebuilt are lost with a worker.
        """
        check_parameters(self)
        blocks = self._gather(X, sample_weight=sample_weight)
        random = check_random_state(self.random_state)
        n_starts = self._n_starts()
        observers = FitObservers(self, X, y, sample_weight, n_starts=n_starts, max_rounds=self.max_iter)
        with open_rounds(blocks, scratch_bytes_per_row=SCRATCH_BYTES_PER_ROW) as rounds:
            fitting = Fitting(rounds, self._plan(), with_labels=not blocks.is_dask)

            def start():
                init = self._first_centres(X, blocks.n_features, random)
                listeners = observers.listeners(lambda state: {"cluster_centers_": _leave(state, blocks.dtype)})
                return fitting.run(init, _draw_seed(random), listeners)

            best = start()
            for _ in range(n_starts - 1):
                best = min(best, start(), key=lambda run: run.inertia)
        self._publish(best, blocks.dtype)
        if blocks.is_dask:
            self.labels_ = self._apply(X, Label(best.frame, best.centres), dtype=np.int32)
        else:
            self.labels_ = best.labels
        self._warn(best)
        observers.end()
        return self

    def partial_fit(self, X, y=None, sample_weight=None):
        """Move the centres towards the rows of one more batch, each by the share of weight that the batch adds to it.

        The first call finds first centres among the batch's rows as fit does. The order of batches matters.

        Parameters
        ----------
        X, y, sample_weight : as for fit; a block of rows or a whole Dask array

        Returns
        -------
        self

        Notes
        -----
        Sculley, "Web-scale k-means clustering" (WWW 2010).
        """
        check_parameters(self)
        started = hasattr(self, "cluster_centers_")
        blocks = self._gather(X, sample_weight=sample_weight, reset=not started)
        random = check_random_state(self.random_state)
        with open_rounds(blocks, scratch_bytes_per_row=SCRATCH_BYTES_PER_ROW) as rounds:
            if not started:
                fitting = Fitting(rounds, self._plan(), with_labels=False)
                init = self._first_centres(X, blocks.n_features, random)
                centres = fitting.frame.leave(fitting.seed(init, _draw_seed(random)))
                self.cluster_centers_ = centres.astype(blocks.dtype)
                self.counts_ = np.zeros(self.n_clusters)
                self.n_iter_ = 0
            step = update_centres(rounds, self._centres(), self.counts_)
        self.cluster_centers_ = step.centres.astype(self.cluster_centers_.dtype)
        self.counts_ = step.counts
        self.inertia_ = step.inertia
        self.n_iter_ += 1
        self.labels_ = self.predict(X)
        return self

    def predict(self, X):
        """Number of each row's nearest centre.

        Parameters
        ----------
        X : array-like, CSR matrix, dataframe, Dask array or Dask dataframe of shape (n_rows, n_features)

        Returns
        -------
        labels : ndarray of shape (n_rows,), int32; a lazy Dask array or series for Dask input
        """
        check_is_fitted(self)
        return self._apply(X, Predict(self._centres()), dtype=np.int32)

    def transform(self, X):
        """Distance of each row to each centre; 1 - cosine for metric="cosine".

        Returns
        -------
        distances : ndarray of shape (n_rows, n_clusters), of X's dtype; a lazy Dask array or dataframe for Dask input
        """
        check_is_fitted(self)
        return self._apply(X, self._measure(), dtype=None, columns=self.get_feature_names_out())

    def score(self, X, y=None, sample_weight=None):
        """Minus the inertia of X: higher is better.

        Returns
        -------
        score : float, computed at once, where the data are
        """
        check_is_fitted(self)
        blocks = self._gather(X, sample_weight=sample_weight, reset=False)
        return -float(reduce_once(blocks, inertia_shard, float.__add__, self._centres()))

    def to_sklearn(self):
        """Return a fitted sklearn.cluster.KMeans with these centres; it predicts the same labels.

        For metric="cosine" its predict gives the same labels, while its transform gives Euclidean distances.

        Returns
        -------
        model : sklearn.cluster.KMeans
        """
        check_is_fitted(self)
        return compat.fitted_kmeans(self)

    def __sklearn_is_fitted__(self):
        return hasattr(self, "cluster_centers_")

    @property
    def _n_features_out(self):
        return self.cluster_centers_.shape[0]

    def _measure(self):
        """The function of a block that transform applies."""
        return Transform(self._centres())

    def _centres(self):
        return Centres(self.cluster_centers_, self.metric == "cosine")

    def _plan(self):
        return Plan(
            n_clusters=self.n_clusters,
            max_iter=self.max_iter,
            tol=self.tol,
            bounded=self.algorithm != "lloyd",
            unit=self.metric == "cosine",
            factor=self.oversampling_factor,
            init_rounds=self.init_rounds,
        )

    def _n_starts(self):
        if not (isinstance(self.init, str) or callable(self.init)):
            return 1  # given centres: every start would be the same
        if self.n_init != "auto":
            return self.n_init
        return _MANY_STARTS if callable(self.init) or (isinstance(self.init, str) and self.init == "random") else 1

    def _first_centres(self, X, n_features, random):
        """The method's name, or centres that the user gave or whose function gives them."""
        if isinstance(self.init, str):
            return self.init
        given = self.init(X, self.n_clusters, random_state=random) if callable(self.init) else self.init
        return check_centres(given, self.n_clusters, n_features)

    def _publish(self, run: Run, dtype: Any) -> None:
        self.cluster_centers_ = _leave(run, dtype)
        self.inertia_ = run.inertia
        self.n_iter_ = run.n_iter
        self.history_ = run.history
        self.stop_reason_ = run.stop_reason
        self.counts_ = run.counts

    def _warn(self, run: Run) -> None:
        if run.n_distinct < self.n_clusters:
            warn(
                f"Number of distinct clusters ({run.n_distinct}) found smaller than n_clusters ({self.n_clusters}). "
                "Possibly due to duplicate points in X.",
                ConvergenceWarning,
            )
        elif not run.converged:
            warn(
                f"ParallelKMeans stopped after {run.n_iter} rounds without converging: in the last one the centres "
                f"moved by {run.last_change:.3g}. Raise max_iter or tol.",
                ConvergenceWarning,
            )


def _draw_seed(random):
    return int(random.randint(0, 2**62, dtype=np.int64))


def _leave(found, dtype):
    """Centres of a state or a run in the data's coordinates."""
    return found.frame.leave(found.centres).astype(dtype)
