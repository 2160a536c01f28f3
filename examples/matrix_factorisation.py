"""
Matrix factorisation on sparse tables
=====================================

A recommender of 30,000 ratings by people and of films whose numbers are spread over a billion. The store keeps a row of
numbers for each of those that occur, and draws it when it is first asked for: nobody has to count them or to know them
before. Two tasks on two worker processes have half of the ratings each. In every step a task pulls the rows of 500
ratings, computes their gradients, and pushes them back. A person with several ratings among them comes several times;
the store adds their gradients up.

The ratings are made up of four hidden numbers per person and film, and noise of standard deviation 0.1, so that is the
error which no model can go below.
"""

import numpy as np
from distributed import Client, LocalCluster

from dparallel import ParameterStore, SparseTable

RANK, N_EPOCHS, BATCH = 6, 25, 500


def train(handle, people, films, ratings, partition):
    """Run all steps of one partition; returns the error of each epoch, measured before its steps."""
    rng, errors, clock = np.random.default_rng(partition), [], 0
    for _ in range(N_EPOCHS):
        squares = 0.0
        for rows in np.array_split(rng.permutation(len(ratings)), len(ratings) // BATCH):
            keys = {"people": people[rows], "films": films[rows]}
            pulled = handle.pull(keys=keys)
            p, f = pulled["people"], pulled["films"]
            error = (p * f).sum(axis=1) - ratings[rows]
            squares += (error**2).sum()
            gradients = {"people": error[:, None] * f + 0.01 * p, "films": error[:, None] * p + 0.01 * f}
            handle.push({name: (keys[name], gradients[name]) for name in keys}, step=(partition, clock))
            clock += 1
        errors.append(np.sqrt(squares / len(ratings)))
    return errors


def make_ratings(n_people=600, n_films=300, n_ratings=30_000):
    rng = np.random.default_rng(0)
    person, film = rng.integers(0, n_people, n_ratings), rng.integers(0, n_films, n_ratings)
    hidden_p, hidden_f = rng.normal(size=(n_people, 4)), rng.normal(size=(n_films, 4))
    ratings = (hidden_p[person] * hidden_f[film]).sum(axis=1) + 0.1 * rng.normal(size=n_ratings)
    people, films = rng.integers(0, 10**9, n_people), rng.integers(0, 10**9, n_films)
    return people[person], films[film], ratings


def main():
    people, films, ratings = make_ratings()
    first, last = slice(0, 27_000), slice(27_000, None)
    tables = {name: SparseTable(RANK, "normal", scale=0.3, seed=s) for s, name in enumerate(("people", "films"))}
    with (
        LocalCluster(2, threads_per_worker=1, dashboard_address="127.0.0.1:0") as cluster,
        Client(cluster) as client,
        ParameterStore(tables, optimizer="adagrad", learning_rate=0.15) as store,
    ):
        parts = [(people[first][i::2], films[first][i::2], ratings[first][i::2], i) for i in range(2)]
        errors = client.gather([client.submit(train, store.handle(), *part) for part in parts])
        rows = store.pull(keys={"people": people[last], "films": films[last]})
        n_rows = {name: len(keys) for name, (keys, _) in store.pull().items()}
        stats = store.stats()
    for epoch in range(0, N_EPOCHS, 6):
        print(f"epoch {epoch + 1:2}: error " + ", ".join(f"{error[epoch]:.3f}" for error in errors))
    error = (rows["people"] * rows["films"]).sum(axis=1) - ratings[last]
    print(f"error on ratings that were left out: {np.sqrt((error**2).mean()):.3f}")
    print(f"rows kept: {n_rows}; {stats.bytes_in / 1e6:.1f} MB to the store and {stats.bytes_out / 1e6:.1f} MB back")


if __name__ == "__main__":
    main()
