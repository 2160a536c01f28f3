"""
An algorithm of one's own
=========================

Principal components by orthogonal iteration, written with ``dparallel.rounds`` in about 40 lines. In each round a guess
of the components goes out, and every shard answers with the scatter matrix of its rows times that guess: one small
array, however many rows the shard has. The sum of the answers, made orthogonal, is the next guess.

The same code runs on a NumPy array in this process and on a Dask array, here on two worker processes. Both results are
compared with scikit-learn's.
"""

from dataclasses import dataclass

import dask.array as da
import numpy as np
from distributed import Client, LocalCluster
from sklearn.decomposition import PCA

from dparallel.blocks.gate import gather
from dparallel.rounds import Algorithm, iterate, open_rounds


@dataclass(frozen=True)
class Guess:
    """The state: components of shape (n_features, n_components), the sum of their variances, and how far they moved."""

    components: np.ndarray
    variances: np.ndarray
    moved: float = np.inf


def count_and_sum(shard, state):
    """A partial that needs no state: number and sum of a shard's rows."""
    return np.array([np.append(block.X.sum(axis=0), block.n_rows) for block in shard.blocks]).sum(axis=0)


@dataclass(frozen=True)
class OrthogonalIteration(Algorithm):
    mean: np.ndarray
    n_rows: float
    tolerance: float

    def partial(self, shard, guess):
        total = np.zeros_like(guess.components)
        for block in shard.blocks:
            centred = block.X - self.mean
            total += centred.T @ (centred @ guess.components)
        return total

    def combine(self, a, b):
        return a + b

    def update(self, guess, total):
        components, triangle = np.linalg.qr(total / (self.n_rows - 1))
        components *= np.sign(np.diag(triangle))  # or they would turn round from one guess to the next
        return Guess(components, np.abs(np.diag(triangle)), float(np.abs(components - guess.components).max()))

    def done(self, old, new):
        return "The components stand still." if new.moved <= self.tolerance else None

    def objective(self, guess):
        return -float(guess.variances.sum())

    def change(self, guess):
        return guess.moved


def principal_components(X, n_components, tolerance=1e-9):
    """Find the principal components of X, a NumPy or a Dask array; returns an Outcome whose state is a Guess."""
    blocks = gather(X)
    first = np.eye(blocks.n_features, n_components)
    with open_rounds(blocks) as rounds:
        *total, n_rows = rounds.reduce(count_and_sum, np.add)
        algorithm = OrthogonalIteration(np.array(total) / n_rows, n_rows, tolerance)
        return iterate(rounds, algorithm, Guess(first, np.zeros(n_components)), max_rounds=500)


def main():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200_000, 12)) * np.geomspace(5, 1, 12) @ np.linalg.qr(rng.normal(size=(12, 12)))[0] + 3.0
    here = principal_components(X, 3)
    print(f"in this process: {here.n_rounds} rounds. {here.stop_reason}")
    with LocalCluster(2, threads_per_worker=1, dashboard_address="127.0.0.1:0") as cluster, Client(cluster):
        there = principal_components(da.from_array(X, chunks=(25_000, 12)), 3)
    print(f"on two workers:  {there.n_rounds} rounds. {there.stop_reason}")
    print(f"bytes moved in the last round: {there.history[-1].bytes_moved}, bytes of X: {X.nbytes}")

    theirs = PCA(3).fit(X)
    print("variances:              ", here.state.variances)
    print("scikit-learn's variances:", theirs.explained_variance_)
    for name, outcome in (("in this process", here), ("on two workers", there)):
        cosines = np.abs(np.einsum("ij,ji->i", theirs.components_, outcome.state.components))
        print(f"{name}: 1 - |cosine| to scikit-learn's components: at most {np.abs(1 - cosines).max():.1e}")


if __name__ == "__main__":
    main()
