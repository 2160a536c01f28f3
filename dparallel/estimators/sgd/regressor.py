"""AsyncSGDRegressor: scikit-learn's SGDRegressor on a parameter store."""

from __future__ import annotations

from dparallel.estimators.sgd.asynchronous import AsyncLinear
from dparallel.estimators.sgd.linear_regressor import LinearRegressor


class AsyncSGDRegressor(LinearRegressor, AsyncLinear):
    """Linear regression by asynchronous SGD, on arrays in this process and on Dask collections where they are.

    Per step the parameters travel to the worker and their displacement back; rows stay where they are.

    Parameters
    ----------
    loss : {"squared_error", "huber", "epsilon_insensitive", "squared_epsilon_insensitive"}, default="squared_error"
        What is made small, as in scikit-learn.
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
    random_state : int, RandomState or None, default=None
        Seeds the orders of the rows and the choice of those held out, which belong to epochs, blocks and row numbers.
    learning_rate : {"auto", "constant", "optimal", "invscaling", "adaptive", "pa1", "pa2", "ftrl"}, default="auto"
        scikit-learn's schedules, in which t counts a partition's minibatches; and "auto", which needs no tuning and no
        scaled data. There steps are as long in every column as if it had been standardised (for CSR, only divided by
        the size of what is stored in it), while penalties and coefficients stay in X's units. The rate is
        eta0 / (1 + (t - 1) / knee), and is divided by 4 after every second epoch without improvement. "ftrl" is
        FTRL-Proximal, for hashed CSR rows: each row a step, each coefficient its own rate, sparse_coef.
    eta0 : float or "auto", default="auto"
        Rate at the start; for "pa1" and "pa2" their constant C, for "ftrl" its alpha. "auto": the longest that is safe,
        from eigenvalues of some rows, which give the knee, too; any schedule may have it. For "ftrl" 0.1, divided by
        the size of the stored values.
    power_t : float, default=0.25
        Of "invscaling".
    early_stopping : bool, default=False
        Hold rows out and stop by their score. They are drawn by row number.
    validation_fraction : float, default=0.1
        Share of the rows to hold out.
    n_iter_no_change : int, default=5
        See tol.
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
    sparse_coef : {"auto", True, False}, default="auto"
        Keep the coefficients in a sparse table of the store, where nothing is as long as a row; for CSR rows. "auto":
        for more than 2**20 columns, if the other parameters allow it, and for "ftrl". `coef_` is then CSR. What
        would not be exact is refused: an L1 penalty with other rates than "ftrl", average, an L2 penalty with another
        optimizer than "sgd". Steps are then taken in X's own coordinates.
    compression : None, "fp16" or ("top_k", share), default=None
        How the displacement of the coefficients travels: in half precision, or the share of it that is largest, while
        the rest waits for later steps.

    Attributes
    ----------
    coef_ : ndarray of shape (n_features,), of the data's dtype
    intercept_ : ndarray of shape (1,), of the data's dtype
    n_iter_ : int, epochs run
    t_ : float, minibatches of the longest partition, plus 1; for one partition and batch_size=1 the rows seen, plus 1
    history_ : list of RoundRecord, one per epoch; objective is the mean loss plus the penalty
    stop_reason_ : str, why the last epoch was the last
    staleness_ : dict of int to int, how many updates were based on parameters so many updates old
    store_stats_ : StoreStats, what the parameter store did
    moved_partitions_ : list of dparallel.workers.PartitionMove, partitions that slow workers gave to others
    n_features_in_ : int
    feature_names_in_ : ndarray of shape (n_features,), for dataframes with string column names

    See Also
    --------
    sklearn.linear_model.SGDRegressor : the same in one thread.

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
    >>> import dask.array as da
    >>> from dparallel import AsyncSGDRegressor
    >>> X = da.from_array([[0.0], [1.0], [2.0], [3.0]] * 50, chunks=(100, 1))
    >>> model = AsyncSGDRegressor(random_state=0).fit(X, 2.0 * X[:, 0] + 1.0)
    >>> model.predict(X)
    dask.array<dparallel-apply, shape=(200,), dtype=float64, chunksize=(100,), chunktype=numpy.ndarray>
    >>> model.score(X, 2.0 * X[:, 0] + 1.0) > 0.99
    True
    """

    def __init__(
        self,
        loss="squared_error",
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
        random_state=None,
        learning_rate="auto",
        eta0="auto",
        power_t=0.25,
        early_stopping=False,
        validation_fraction=0.1,
        n_iter_no_change=5,
        warm_start=False,
        average=False,
        optimizer="sgd",
        batch_size="auto",
        push_every="auto",
        staleness=None,
        checkpoint=None,
        sparse_coef="auto",
        compression=None,
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
        self.random_state = random_state
        self.learning_rate = learning_rate
        self.eta0 = eta0
        self.power_t = power_t
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.warm_start = warm_start
        self.average = average
        self.optimizer = optimizer
        self.batch_size = batch_size
        self.push_every = push_every
        self.staleness = staleness
        self.checkpoint = checkpoint
        self.sparse_coef = sparse_coef
        self.compression = compression
