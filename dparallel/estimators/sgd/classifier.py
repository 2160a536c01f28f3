"""AsyncSGDClassifier: scikit-learn's SGDClassifier on a parameter store."""

from __future__ import annotations

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.linear_model import LogisticRegression, SGDClassifier
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from dparallel.errors import DataError
from dparallel.estimators.sgd.classes import Labels, refuse_strange, summarise_labels, weigh_classes
from dparallel.estimators.sgd.linear import AsyncLinear, copy_fit, score_blocks, shared_parameters
from dparallel.estimators.sgd.parameters import LOSSES, check_parameters
from dparallel.estimators.sgd.predictions import Predict, Probabilities, count_right
from dparallel.observe.callbacks import with_callbacks


def _knows_chances(model):
    if model.loss not in ("log_loss", "modified_huber"):
        raise AttributeError(f"probability estimates are not available for loss={model.loss!r}")
    return True


class AsyncSGDClassifier(ClassifierMixin, AsyncLinear):
    """Linear classifiers by asynchronous SGD, on arrays in this process and on Dask collections where they are.

    Per step the parameters travel to the worker and their displacement back; rows stay where they are.

    Parameters
    ----------
    loss : {"hinge", "log_loss", "modified_huber", "squared_hinge", "perceptron", "squared_error", "huber", \
            "epsilon_insensitive", "squared_epsilon_insensitive"}, default="hinge"
        What is made small, as in scikit-learn. For more than two classes "log_loss" couples them by softmax; the others
        learn each class against the rest.
    penalty : {"l2", "l1", "elasticnet"} or None, default="l2"
        An L1 part is applied as the proximal step after each minibatch, and over all rows at the end of fit, which
        makes zero what is near it; scikit-learn carries over what a coefficient at 0 was spared.
    alpha : float, default=0.0001
        Strength of the penalty; learning_rate="optimal" takes its rates from it, too.
    l1_ratio : float or None, default=0.15
        Share of L1 in "elasticnet".
    fit_intercept : bool, default=True
        The intercept bears no penalty. (scikit-learn divides its rate by 100 where rows are sparse.)
    max_iter : int, default=1000
        Most epochs of fit; partial_fit runs one.
    tol : float or None, default=0.001
        Stop when the objective (with early_stopping, the score) has not improved by tol for n_iter_no_change epochs in
        a row. None: run max_iter epochs.
    shuffle : bool, default=True
        Visit the blocks, and the rows of each, in a new order in every epoch.
    verbose : int, default=0
        Print a line per epoch.
    epsilon : float, default=0.1
        Of the losses "huber", "epsilon_insensitive" and "squared_epsilon_insensitive".
    n_jobs : int or None, default=None
        Accepted because scikit-learn's SGDClassifier has it, and not used: threads, or the workers of the cluster,
        share the rows and not the classes.
    random_state : int, RandomState or None, default=None
        Seeds the orders of the rows and the choice of those held out, which belong to epochs, blocks and row numbers.
    learning_rate : {"auto", "constant", "optimal", "invscaling", "adaptive", "pa1", "pa2"}, default="auto"
        scikit-learn's schedules, in which t counts a partition's minibatches; and "auto", which needs no tuning and no
        scaled data. There steps are as long in every column as if it had been standardised (for CSR, only divided by
        the size of what is stored in it), while penalties and coefficients stay in X's units. The rate is
        eta0 / (1 + (t - 1) / knee), and is divided by 4 after every second epoch without improvement.
    eta0 : float or "auto", default="auto"
        Rate at the start; for "pa1" and "pa2" their constant C. "auto": the longest that is safe, from eigenvalues of
        some rows, which give the knee, too; any schedule may have it.
    power_t : float, default=0.5
        Of "invscaling".
    early_stopping : bool, default=False
        Hold rows out and stop by their score. They are drawn by row number; of a class with two rows at least one is.
    validation_fraction : float, default=0.1
        Share of the rows to hold out.
    n_iter_no_change : int, default=5
        See tol.
    class_weight : dict, "balanced" or None, default=None
        Multiplied with the weights of a class's rows. With one class against the rest, scikit-learn leaves the weight
        of the rest at 1.
    warm_start : bool, default=False
        Start fit from the coefficients of the fit before.
    average : bool or int, default=False
        Publish the mean of the parameters after all minibatches, or after those from so many rows on.
    optimizer : str or instance of dparallel.store.optimizers.Optimizer, default="sgd"
        What the store does with the displacement of a step, which it takes for a gradient: "sgd" subtracts it.
    batch_size : int or "auto", default="auto"
        Rows of a minibatch; 1 for "pa1" and "pa2". "auto": up to 32, at least 128 minibatches an epoch.
    push_every : int or "auto", default="auto"
        Minibatches of a step, between two looks at the store. "auto": about an eighth of an epoch, but 1 to 10 ms of
        work in this process and 20 to 100 ms on a cluster, as shapes let expect.
    staleness : int or None, default=None
        By how many steps a partition may be ahead of the slowest; 0 is bulk-synchronous, None asynchronous.
    checkpoint : str, path or None, default=None
        File that fit writes its state to, and from which the next fit on the same data goes on if one was broken off.
        It is removed at the end.

    Attributes
    ----------
    coef_ : ndarray of shape (n_outputs, n_features), of the data's dtype; one output for two classes, else n_classes
    intercept_ : ndarray of shape (n_outputs,), of the data's dtype
    classes_ : ndarray of shape (n_classes,)
    n_iter_ : int, epochs run
    t_ : float, minibatches of the longest partition, plus 1; for one partition and batch_size=1 the rows seen, plus 1
    history_ : list of RoundRecord, one per epoch; objective is the mean loss plus the penalty
    stop_reason_ : str, why the last epoch was the last
    staleness_ : dict of int to int, how many updates were based on parameters so many updates old
    store_stats_ : StoreStats, what the parameter store did
    n_features_in_ : int
    feature_names_in_ : ndarray of shape (n_features,), for dataframes with string column names

    See Also
    --------
    sklearn.linear_model.SGDClassifier : the same in one thread.

    Notes
    -----
    A step runs push_every minibatches of SGD on the rows of one partition, from the parameters that it has pulled, and
    pushes the displacement, divided by the number of threads that compute at once, as in Dean et al., "Large scale
    distributed deep networks" (NIPS 2012). With staleness=0, or with one partition, random_state fixes the result to
    the last bit for the same chunks and threads; else it also depends on which thread is faster, and a step that runs
    again after a worker has died may read newer parameters. A row of weight 2 moves the parameters twice as far, as in
    scikit-learn, which is not the same as visiting it twice.

    Examples
    --------
    >>> import numpy as np
    >>> from dparallel import AsyncSGDClassifier
    >>> X = np.array([[-1.0, -1.0], [-2.0, -1.0], [1.0, 1.0], [2.0, 1.0]])
    >>> y = np.array(["left", "left", "right", "right"])
    >>> model = AsyncSGDClassifier(loss="log_loss", random_state=0).fit(X, y)
    >>> model.predict([[-0.8, -1.0]])
    array(['left'], dtype='<U5')
    >>> bool((model.predict_proba(X).argmax(axis=1) == [0, 0, 1, 1]).all())
    True
    """

    _losses = LOSSES

    def __init__(
        self,
        loss="hinge",
        *,
        penalty="l2",
        alpha=0.0001,
        l1_ratio=0.15,
        fit_intercept=True,
        max_iter=1000,
        tol=0.001,
        shuffle=True,
        verbose=0,
        epsilon=0.1,
        n_jobs=None,
        random_state=None,
        learning_rate="auto",
        eta0="auto",
        power_t=0.5,
        early_stopping=False,
        validation_fraction=0.1,
        n_iter_no_change=5,
        class_weight=None,
        warm_start=False,
        average=False,
        optimizer="sgd",
        batch_size="auto",
        push_every="auto",
        staleness=None,
        checkpoint=None,
    ):
        self.loss = loss
        self.penalty = penalty
        self.alpha = alpha
        self.l1_ratio = l1_ratio
        self.fit_intercept = fit_intercept
        self.max_iter = max_iter
        self.tol = tol
        self.shuffle = shuffle
        self.verbose = verbose
        self.epsilon = epsilon
        self.n_jobs = n_jobs
        self.random_state = random_state
        self.learning_rate = learning_rate
        self.eta0 = eta0
        self.power_t = power_t
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.class_weight = class_weight
        self.warm_start = warm_start
        self.average = average
        self.optimizer = optimizer
        self.batch_size = batch_size
        self.push_every = push_every
        self.staleness = staleness
        self.checkpoint = checkpoint

    @with_callbacks
    def fit(self, X, y, coef_init=None, intercept_init=None, sample_weight=None):
        """Learn from the rows until the stopping rule is met.

        Parameters
        ----------
        X : array-like, CSR matrix, dataframe, Dask array or Dask dataframe of shape (n_rows, n_features)
        y : array-like, Dask array or Dask series of shape (n_rows,)
            Labels of any dtype.
        coef_init : array-like of shape (n_outputs, n_features), or None
            To start from, in place of zeros; n_outputs is 1 for two classes, else the number of classes.
        intercept_init : array-like of shape (n_outputs,), or None
        sample_weight : array-like, Dask array or Dask series of shape (n_rows,), or None
            Multiplied with class_weight.

        Returns
        -------
        self

        Raises
        ------
        DataError
            If X holds NaN or infinity, y a single class, or no row a weight; if the parameters leave the range of
            numbers.
        AlignmentError
            If X, y and sample_weight cannot be paired.
        StoreUnavailable, ClusterLostError, DataLostError
            If the cluster dies, or data that cannot be rebuilt are lost with a worker.
        """
        return self._fit(X, y, coef_init, intercept_init, sample_weight)

    def partial_fit(self, X, y, classes=None, sample_weight=None):
        """Learn from one more batch of rows, in one epoch.

        Parameters
        ----------
        X, y, sample_weight : as for fit
        classes : array-like of shape (n_classes,), or None
            All classes that any batch will show; needed at the first call.

        Returns
        -------
        self
        """
        check_parameters(self, losses=self._losses, partial=True)
        return self._partial_fit(X, y, sample_weight, self._check_classes(classes))

    def predict(self, X):
        """Class of each row.

        Parameters
        ----------
        X : array-like, CSR matrix, dataframe, Dask array or Dask dataframe of shape (n_rows, n_features)

        Returns
        -------
        labels : ndarray of shape (n_rows,), of the dtype of ``classes_``; a lazy Dask array or series for Dask input
        """
        return self._apply(X, self._model(), dtype=self.classes_.dtype)

    def decision_function(self, X):
        """Decision values: signed, 0 on the border between two classes; the highest wins among more.

        Returns
        -------
        scores : ndarray of shape (n_rows,) for two classes, else (n_rows, n_classes), of X's dtype; lazy for Dask input
        """
        line = self._line()
        columns = None if len(line.coef) == 1 else self.classes_.tolist()
        return self._apply(X, line, dtype=None, columns=columns)

    @available_if(_knows_chances)
    def predict_proba(self, X):
        """Probability of each class, for loss="log_loss" and loss="modified_huber".

        Returns
        -------
        probabilities : ndarray of shape (n_rows, n_classes), of X's dtype, in the order of ``classes_``; lazy for Dask
            input
        """
        return self._chances(X, log=False)

    @available_if(_knows_chances)
    def predict_log_proba(self, X):
        """Logarithm of predict_proba; for loss="modified_huber" it may be -inf."""
        return self._chances(X, log=True)

    def _chances(self, X, *, log):
        chances = Probabilities(self._line(), self.loss, log)
        return self._apply(X, chances, dtype=None, columns=self.classes_.tolist())

    def score(self, X, y, sample_weight=None):
        """Accuracy, computed at once, where the data are.

        Parameters
        ----------
        X, y, sample_weight : as for fit

        Returns
        -------
        score : float
        """
        right, weight = score_blocks(self, X, y, sample_weight, count_right, np.add)
        return float(right / weight)

    def to_sklearn(self):
        """Return a fitted scikit-learn model with these coefficients, and the same probabilities to 1e-12.

        Returns
        -------
        model : sklearn.linear_model.SGDClassifier; LogisticRegression for loss="log_loss" and more than two classes,
            since there the probabilities are coupled
        """
        check_is_fitted(self)
        if self.loss == "log_loss" and len(self.classes_) > 2:
            model = LogisticRegression(max_iter=self.max_iter, fit_intercept=self.fit_intercept)
            return copy_fit(self, model, n_iter_=np.array([self.n_iter_], np.int32))
        return copy_fit(self, SGDClassifier(**shared_parameters(self, SGDClassifier)), t_=self.t_)

    def _summarise(self):
        return summarise_labels

    def _model(self):
        return Predict(self._line(), self.classes_)

    def _targets(self, found, classes):
        summary = found.target
        refuse_strange(summary)
        if classes is None:
            classes = summary.classes
        if len(classes) < 2:
            raise DataError(
                f"The number of classes has to be greater than one; got {len(classes)} class. Give rows of two classes."
            )
        labels = Labels(classes, weigh_classes(self.class_weight, summary.over(classes)))
        self.classes_ = classes
        return labels

    def _check_classes(self, classes):
        known = getattr(self, "classes_", None)
        if classes is None:
            if known is None:
                raise ValueError("classes must be passed on the first call to partial_fit.")
            return known
        classes = np.unique(classes)
        if known is not None and not np.array_equal(known, classes):
            raise ValueError(
                f"`classes={classes!r}` is not the same as on last call to partial_fit, was: {known!r}. "
                "Name all classes at the first call."
            )
        return classes

    def _attributes(self, found, dtype):
        return {**super()._attributes(found, dtype), "classes_": self.classes_}
