"""Minibatch gradient descent once more, in plain numpy, with scikit-learn's own losses."""

import numpy as np
from sklearn.linear_model._sgd_fast import (
    EpsilonInsensitive,
    Hinge,
    ModifiedHuber,
    SquaredEpsilonInsensitive,
    SquaredHinge,
)

BINARY = ("hinge", "squared_hinge", "log_loss", "modified_huber", "perceptron")
REGRESSION = ("squared_error", "huber", "epsilon_insensitive", "squared_epsilon_insensitive")


def loss_and_slope(name, epsilon, y, p):
    """Loss of one row and its derivative by the score p."""
    if name == "log_loss":
        return np.logaddexp(0, -y * p), -y * np.exp(-np.logaddexp(0, y * p))
    if name == "squared_error":
        return 0.5 * (p - y) ** 2, p - y
    if name == "huber":
        size = abs(p - y)
        if size <= epsilon:
            return 0.5 * size**2, p - y
        return epsilon * (size - 0.5 * epsilon), epsilon * np.sign(p - y)
    theirs = {
        "hinge": Hinge(1.0),
        "perceptron": Hinge(0.0),
        "squared_hinge": SquaredHinge(1.0),
        "modified_huber": ModifiedHuber(),
        "epsilon_insensitive": EpsilonInsensitive(epsilon),
        "squared_epsilon_insensitive": SquaredEpsilonInsensitive(epsilon),
    }[name]
    return theirs.py_loss(p, y), theirs.py_dloss(p, y)


def measure(name, epsilon, y, p):
    """Loss and derivatives of rows: y of shape (n,), p of shape (n, K)."""
    if name == "softmax":
        powers = np.exp(p - p.max(axis=1, keepdims=True))
        shares = powers / powers.sum(axis=1, keepdims=True)
        picked = np.arange(len(y)), y.astype(int)
        logs = np.log(powers.sum(axis=1)) + p.max(axis=1) - p[picked]
        shares[picked] -= 1
        return logs, shares
    if p.shape[1] > 1:
        signs = np.where(y[:, None] == np.arange(p.shape[1]), 1.0, -1.0)
    else:
        signs = y[:, None]
    pairs = [[loss_and_slope(name, epsilon, *pair) for pair in zip(*row)] for row in zip(signs, p)]
    both = np.array(pairs, float).reshape(*p.shape, 2)
    return both[..., 0].sum(axis=1), np.clip(both[..., 1], -1e12, 1e12)


def train(X, rows, y, weights, coef, intercept, name, settings, rates, sums, averages=None):
    """The same as kernels.gradient.train, for dense X."""
    X = np.asarray(X, np.float64)
    weights = weights if weights.size else np.ones(len(X))
    for batch, rate in enumerate(rates):
        chosen = rows[batch * settings.batch_size : (batch + 1) * settings.batch_size]
        chosen = chosen[weights[chosen] != 0]
        if len(chosen):
            losses, slopes = measure(name, settings.epsilon, y[chosen], X[chosen] @ coef.T + intercept)
            slopes = slopes * weights[chosen, None]
            sums += [losses @ weights[chosen], weights[chosen].sum()]
            coef *= max(0.0, 1 - rate * settings.l2)
            coef -= rate * (slopes.T @ X[chosen]) / len(chosen)
            coef[...] = np.sign(coef) * np.maximum(np.abs(coef) - rate * settings.l1, 0)
            if settings.fit_intercept:
                intercept -= rate * settings.intercept_rate * slopes.sum(axis=0) / len(chosen)
        if averages is not None:
            averages[0][...] += coef
            averages[1][...] += intercept
