"""
A model of one's own on the parameter store
===========================================

Softmax regression on scikit-learn's handwritten digits, trained by two tasks on two worker processes. The weights lie
in a ``ParameterStore``. Each task has its own rows; in every step it computes a gradient on 32 of them, pushes it and
pulls the weights for the next step. ``staleness=2`` lets a task be two steps ahead of the other one, and no more. Every
push names its step, (partition, clock), so a step that is sent twice counts once.
"""

import numpy as np
from distributed import Client, LocalCluster
from scipy.special import softmax
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from dparallel import ParameterStore

N_EPOCHS, BATCH = 20, 32


def train(handle, X, y, partition):
    """Run all steps of one partition; returns the mean loss of each epoch."""
    rng = np.random.default_rng(partition)
    losses, clock = [], 0
    parameters = handle.pull(clock=0)
    for _ in range(N_EPOCHS):
        batches = np.split(rng.permutation(len(X))[: len(X) // BATCH * BATCH], len(X) // BATCH)
        total = 0.0
        for rows in batches:
            chances = softmax(X[rows] @ parameters["W"] + parameters["b"], axis=1)
            total -= np.log(chances[np.arange(BATCH), y[rows]]).mean()
            error = (chances - np.eye(10)[y[rows]]) / BATCH
            gradient = {"W": X[rows].T @ error, "b": error.sum(axis=0)}
            parameters = handle.pushpull(gradient, step=(partition, clock), clock=clock + 1)
            clock += 1
        losses.append(total / len(batches))
    handle.finish(partition)  # nobody waits for this partition any more
    return losses


def main():
    X, y = load_digits(return_X_y=True)
    X_train, X_test, y_train, y_test = train_test_split(X / 16, y, random_state=0)
    with LocalCluster(2, threads_per_worker=1, dashboard_address="127.0.0.1:0") as cluster, Client(cluster) as client:
        shapes = {"W": (64, 10), "b": 10}
        with ParameterStore(shapes, optimizer="momentum", learning_rate=0.05, staleness=2, n_partitions=2) as store:
            parts = [(store.handle(), X_train[p::2], y_train[p::2], p) for p in range(2)]
            losses = client.gather([client.submit(train, *part) for part in parts])
            parameters, stats = store.pull(), store.stats()
    for epoch in range(0, N_EPOCHS, 5):
        print(f"epoch {epoch + 1:2}: mean loss " + ", ".join(f"{loss[epoch]:.3f}" for loss in losses))
    right = (X_test @ parameters["W"] + parameters["b"]).argmax(axis=1) == y_test
    print(f"accuracy on rows that were left out: {right.mean():.3f}")
    missed = dict(sorted(stats.staleness.items()))
    print(f"{stats.pushes} pushes; updates of others between a pull and its push: {missed}")


if __name__ == "__main__":
    main()
